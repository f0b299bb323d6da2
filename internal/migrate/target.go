// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

const connectTimeout = 10 * time.Second

// target is a database, as its URL names it.
type target struct {
	config *pgx.ConnConfig
	schema string // the URL's search_path: where the history is, and what has to be empty before the first migration; "" for the whole database
}

// parseTarget reads a database URL. No error repeats any of it: where a URL cannot be parsed, nobody knows which part of it is the password.
func parseTarget(raw string) (target, error) {
	if raw == "" {
		return target{}, failf(v1alpha1.DatabaseUnreachable, "DATABASE_URL is empty")
	}
	if !strings.HasPrefix(raw, "postgres://") && !strings.HasPrefix(raw, "postgresql://") {
		return target{}, failf(v1alpha1.DatabaseUnreachable, "DATABASE_URL does not begin with postgres:// or postgresql://: only PostgreSQL is supported")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, failf(v1alpha1.DatabaseUnreachable,
			"DATABASE_URL cannot be parsed: in a user name or password, characters such as @ : / ? # %% must be percent-encoded")
	}
	config, err := pgx.ParseConfig(raw)
	if err != nil {
		return target{}, failf(v1alpha1.DatabaseUnreachable, "DATABASE_URL has a parameter that cannot be used: %s", parameterWords(err))
	}
	query := u.Query()
	schema := query.Get("search_path")
	if strings.Contains(schema, ",") {
		return target{}, failf(v1alpha1.DatabaseUnreachable, "search_path in DATABASE_URL must be one schema: it says where the history of migrations is")
	}
	if !query.Has("connect_timeout") {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "dbupgrade-runner"
	}
	// Migrations change types and tables while the connection lives, which prepared statements would not survive.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	// A statement may run for hours in silence; probes tell that from a server that is gone.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4}}
	config.DialFunc = dialer.DialContext
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &canceller{conn: conn}
	}
	return target{config: config, schema: schema}, nil
}

// parameterWords is the reason in an error of pgx's parser, which puts the URL before it and, in brackets, often a part of the URL behind it.
func parameterWords(err error) string {
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return "it is not known which"
	}
	_, reason, ok := strings.Cut(parse.Error(), "`: ")
	if !ok {
		return "it is not known which"
	}
	what, detail, _ := strings.Cut(reason, " (")
	if detail == "sslmode is invalid)" {
		return "sslmode is invalid"
	}
	return what
}
