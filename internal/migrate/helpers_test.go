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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

var (
	server *postgres.Server
	maria  *mariadb.Server
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if maria, err = mariadb.Run(); err != nil && !errors.Is(err, mariadb.ErrNotInstalled) {
			log.Print(err)
			return 1
		}
		defer maria.Close()
		return postgres.Main(m, &server)
	}())
}

// files are the contents of migration files by name.
type files map[string]string

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
	if o.retryPause == 0 {
		o.retryPause = time.Millisecond
	}
	return Run(ctx, o).Migration
}

// query returns the one value of a query, as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn := postgres.Connect(t, url)
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

const lastRow = "SELECT concat_ws(' ', version, applied, total, type, '[' || error || ']', '[' || error_stmt || ']', partial_hashes::text, operator_version) FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version DESC LIMIT 1"
