// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Connect connects to a database until the test ends.
func Connect(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec executes SQL over a connection of its own.
func Exec(tb testing.TB, url, sql string) {
	tb.Helper()
	conn := Connect(tb, url)
	defer func() { _ = conn.Close(tb.Context()) }()
	if _, err := conn.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// Await asks a query of one boolean again and again until it is true, for at
// most 30 seconds.
func Await(tb testing.TB, url, sql string) {
	tb.Helper()
	conn := Connect(tb, url)
	defer func() { _ = conn.Close(context.Background()) }()
	ctx, cancel := context.WithTimeout(tb.Context(), sqlTimeout)
	defer cancel()
	for yes := false; !yes; {
		if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil {
			tb.Fatalf("await %s: %v", sql, err)
		}
	}
}

// AwaitSleep waits until a connection of the runner is inside pg_sleep.
func AwaitSleep(tb testing.TB, url string) {
	tb.Helper()
	Await(tb, url, "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'dbupgrade-runner' AND datname = current_database() AND wait_event = 'PgSleep'")
}
