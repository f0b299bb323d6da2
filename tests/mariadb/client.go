// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package mariadb

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// Connect connects to a database until the test ends, by one connection: locks
// and variables of the session stay.
func Connect(tb testing.TB, address string) *sql.DB {
	tb.Helper()
	ctx, cancel := limit(tb)
	defer cancel()
	conn, err := connect(ctx, address)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Exec executes SQL, of one statement or several, over a connection of its own.
func Exec(tb testing.TB, address, sql string) {
	tb.Helper()
	conn := Connect(tb, address)
	defer func() { _ = conn.Close() }()
	ctx, cancel := limit(tb)
	defer cancel()
	if _, err := conn.ExecContext(ctx, sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// Query returns a query's rows, each as a JSON array in a line of its own. Values
// are text, as the server presents them.
func Query(tb testing.TB, address, query string) string {
	tb.Helper()
	conn := Connect(tb, address)
	defer func() { _ = conn.Close() }()
	ctx, cancel := limit(tb)
	defer cancel()
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	values, into := make([]*string, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var lines []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
		line, err := json.Marshal(values)
		if err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
		lines = append(lines, string(line))
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return strings.Join(lines, "\n")
}

// Await asks a query of one boolean again and again until it is true, for at
// most 30 seconds.
func Await(tb testing.TB, address, query string) {
	tb.Helper()
	conn := Connect(tb, address)
	defer func() { _ = conn.Close() }()
	ctx, cancel := limit(tb)
	defer cancel()
	for yes := false; !yes; {
		if err := conn.QueryRowContext(ctx, query).Scan(&yes); err != nil {
			tb.Fatalf("await %s: %v", query, err)
		}
	}
}

// AwaitStatement waits until another session of the database is inside a
// statement that begins as given.
func AwaitStatement(tb testing.TB, address, beginning string) {
	tb.Helper()
	Await(tb, address, "SELECT COUNT(*) > 0 FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE "+quote(beginning+"%"))
}

// Dump is what mariadb-dump makes of a database, without the times and versions
// that differ between two dumps of the same. Arguments follow the database's
// name, as tables do.
func Dump(tb testing.TB, address string, args ...string) string {
	tb.Helper()
	config, err := parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	host, port, _ := strings.Cut(config.Addr, ":")
	cmd := exec.CommandContext(tb.Context(), "mariadb-dump", append([]string{"--no-defaults", "--host=" + host, "--port=" + port,
		"--user=" + config.User, "--skip-comments", "--skip-dump-date", "--routines", "--triggers", "--events", "--order-by-primary", config.DBName}, args...)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+config.Passwd)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("mariadb-dump: %v: %s", err, stderr.Bytes())
	}
	return string(out)
}

// limit bounds what is asked of a server, in what a test cleans up too.
func limit(tb testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(tb.Context()), sqlTimeout)
}

// parse reads a URL as NewDatabase returns it.
func parse(address string) (*mysql.Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", u.Host
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.DBName = strings.TrimPrefix(u.Path, "/")
	config.MultiStatements = true
	config.Logger = &mysql.NopLogger{} // errors are returned as well
	return config, nil
}

// connect opens one connection and no second one.
func connect(ctx context.Context, address string) (*sql.DB, error) {
	config, err := parse(address)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
