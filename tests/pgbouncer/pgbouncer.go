// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package pgbouncer runs a throw-away PgBouncer between a test and its
// PostgreSQL server, which ends with the test, and also when the test's process
// is killed. Where PgBouncer is missing, Start fails the test if CI is true, and
// skips it with a message that names the package if it is not.
package pgbouncer

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/subganapathy/automatic-db-upgrades/tests/loopback"
	"github.com/subganapathy/automatic-db-upgrades/tests/process"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// Mode is how long a client keeps a server's connection.
type Mode string

// The modes that poolers are run in.
const (
	Session     Mode = "session"
	Transaction Mode = "transaction"
	Statement   Mode = "statement"
)

// Option changes how PgBouncer is run.
type Option func(settings map[string]string)

// WithSetting sets a parameter, as in pgbouncer.ini.
func WithSetting(name, value string) Option {
	return func(settings map[string]string) { settings[name] = value }
}

// Start runs PgBouncer in front of the database of a URL until the test ends, and
// returns the URL of the same database through it. User and password stay.
func Start(tb testing.TB, database string, mode Mode, opts ...Option) string {
	tb.Helper()
	bin := find(tb)
	target, err := url.Parse(database)
	if err != nil {
		tb.Fatal(err)
	}
	owner, err := process.Unprivileged("nobody") // PgBouncer refuses to be run by root
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := loopback.Listen()
	if err != nil {
		tb.Fatal(err)
	}
	pooled := *target
	pooled.Host = listener.Addr().String()
	if err := listener.Close(); err != nil {
		tb.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "pgbouncer-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	config, users := filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "users.txt")
	settings := map[string]string{
		"listen_addr": "127.0.0.1", "listen_port": pooled.Port(), "unix_socket_dir": "",
		"auth_type": "scram-sha-256", "auth_file": users, "pool_mode": string(mode),
	}
	for _, opt := range opts {
		opt(settings)
	}
	password, _ := target.User.Password()
	for path, text := range map[string]string{
		config: ini(target, settings),
		users:  fmt.Sprintf("%s %s\n", quote(target.User.Username()), quote(password)),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if err := process.Own(owner, dir, config, users); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(bin, config)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	log := filepath.Join(dir, "log")
	proc, err := process.Start(cmd, log, syscall.SIGKILL)
	if err != nil {
		tb.Fatalf("start PgBouncer: %v", err)
	}
	tb.Cleanup(func() {
		if err := proc.Stop(syscall.SIGTERM, stopTimeout); err != nil {
			tb.Error(err)
		}
	})
	if err := awaitReady(tb.Context(), proc, pooled.String()); err != nil {
		text, _ := os.ReadFile(log)
		tb.Fatalf("%v: %s", err, text)
	}
	return pooled.String()
}

// ini is the configuration file.
func ini(target *url.URL, settings map[string]string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "[databases]\n* = host=%s port=%s\n[pgbouncer]\n", target.Hostname(), target.Port())
	for name, value := range settings {
		fmt.Fprintf(&text, "%s = %s\n", name, value)
	}
	return text.String()
}

// awaitReady returns once a client can reach the database through PgBouncer.
func awaitReady(ctx context.Context, proc *process.Process, pooled string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, pooled)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("PgBouncer ended: %w", proc.Err())
		case <-ctx.Done():
			return fmt.Errorf("the database cannot be reached through PgBouncer: %w", err)
		case <-tick.C:
		}
	}
}

// find returns the path of the program, which Debian puts where only root looks.
func find(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "PgBouncer is not installed (no pgbouncer in /usr/sbin or PATH): install the package pgbouncer"
	if os.Getenv("CI") == "true" {
		tb.Fatal(missing)
	}
	tb.Skip("SKIPPED, NOT TESTED: " + missing)
	return ""
}

// quote makes a string of PgBouncer's file of users.
func quote(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
