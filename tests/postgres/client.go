// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
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

// pg_dump fences its output with a key that is new each time.
var fence = regexp.MustCompile(`(?m)^\\(?:un)?restrict .*\n`)

// Dump is what pg_dump makes of a database, given further arguments.
func Dump(tb testing.TB, url string, args ...string) string {
	tb.Helper()
	bin, err := findBinaries()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), filepath.Join(bin, "pg_dump"), append([]string{"--dbname=" + url}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("pg_dump: %v: %s", err, stderr.Bytes())
	}
	return fence.ReplaceAllString(string(out), "")
}
