// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"context"
	"errors"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ariga.io/atlas/sql/migrate"
	"github.com/jackc/pgx/v5"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

var server *postgres.Server

func TestMain(m *testing.M) {
	var err error
	server, err = postgres.Run()
	if err != nil && !errors.Is(err, postgres.ErrNotInstalled) {
		log.Fatal(err)
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		log.Print(err)
	}
	os.Exit(code)
}

// files are the contents of migration files by name.
type files map[string]string

// writeDir makes a directory of migrations with its atlas.sum, over the files that it has.
func writeDir(t *testing.T, dir string, content files) string {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	local, err := migrate.NewLocalDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := local.Checksum()
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate.WriteSumFile(local, sum); err != nil {
		t.Fatal(err)
	}
	return dir
}

// output collects log lines, from several goroutines, and lets a test wait for one.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	lines chan struct{}
}

func newOutput() *output { return &output{lines: make(chan struct{}, 1000)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.lines <- struct{}{}:
	default:
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until a text was logged.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !strings.Contains(o.String(), text) {
		select {
		case <-o.lines:
		case <-limit:
			t.Fatalf("%q was not logged:\n%s", text, o)
		}
	}
}

// migrateTo runs with the defaults of the tests.
func migrateTo(t *testing.T, dir, url string) *v1alpha1.MigrationStatus {
	t.Helper()
	return migrateWith(t.Context(), t, Options{Dir: dir, URL: url})
}

func migrateWith(ctx context.Context, t *testing.T, o Options) *v1alpha1.MigrationStatus {
	t.Helper()
	if o.Log == nil {
		out := newOutput()
		o.Log = slog.New(slog.NewJSONHandler(out, nil))
		defer func() {
			if t.Failed() {
				t.Log(out)
			}
		}()
	}
	o.Version = "test"
	return Run(ctx, o).Migration
}

func connectTo(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	if _, err := connectTo(t, url).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// query returns the one value of a query, as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn := connectTo(t, url)
	defer func() { _ = conn.Close(t.Context()) }()
	var value string
	if err := conn.QueryRow(t.Context(), "SELECT coalesce(("+sql+")::text, '')").Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func mustSucceed(t *testing.T, got *v1alpha1.MigrationStatus) {
	t.Helper()
	if got.Failure != nil {
		t.Fatalf("failed: %+v", *got.Failure)
	}
}

func mustFail(t *testing.T, got *v1alpha1.MigrationStatus, class v1alpha1.FailureClass) v1alpha1.Failure {
	t.Helper()
	if got.Failure == nil {
		t.Fatalf("succeeded: %+v", *got)
	}
	if got.Failure.Class != class {
		t.Fatalf("failed with %+v, want class %s", *got.Failure, class)
	}
	return *got.Failure
}

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not contain %q", text, part)
		}
	}
}

// unlocked asserts that nobody holds an advisory lock in the database.
func unlocked(t *testing.T, url string) {
	t.Helper()
	if n := query(t, url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); n != "0" {
		t.Errorf("%s advisory locks are held", n)
	}
}

// asleep waits until the run's connection is inside pg_sleep.
func asleep(t *testing.T, db string) {
	t.Helper()
	conn := connectTo(t, db)
	defer func() { _ = conn.Close(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for n := 0; n == 0; {
		const sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbupgrade-runner' AND datname = current_database() AND wait_event = 'PgSleep'"
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
}

const lastRow = "SELECT concat_ws(' ', version, applied, total, type, '[' || error || ']', '[' || error_stmt || ']', partial_hashes::text, operator_version) FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version DESC LIMIT 1"

// resolution is what docs/runner.md says to execute for version 1 after a doubt.
func resolution(t *testing.T, answer string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "runner.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(doc), "```sql\n-- "+answer+"\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatalf("docs/runner.md has no SQL for %q", answer)
	}
	return strings.ReplaceAll(block, "<version>", "1")
}
