// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/pgbouncer"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// rows are the versions in the history with their types, as far as it exists.
func rows(t *testing.T, db string) string {
	t.Helper()
	if query(t, db, "SELECT count(*) FROM pg_tables WHERE tablename = 'atlas_schema_revisions'") == "0" {
		return "no history"
	}
	return query(t, db, "SELECT string_agg(version || '/' || type, ' ' ORDER BY version) FROM atlas_schema_revisions.atlas_schema_revisions")
}

func TestExistingDatabase(t *testing.T) {
	three := files{"1.sql": "CREATE TABLE a (i int);", "2.sql": "CREATE TABLE b (i int);", "3.sql": "CREATE TABLE c (i int);"}
	cases := map[string]struct {
		options Options
		class   v1alpha1.FailureClass
		words   string
		rows    string
		applied int
	}{
		"neither":                  {Options{}, v1alpha1.HistoryConflict, "apply.baseline", "no history", 0},
		"baseline":                 {Options{Baseline: "1"}, "", "", "1/1 2/2 3/2", 2},
		"baseline at the last":     {Options{Baseline: "3"}, "", "", "3/1", 0},
		"baseline unknown":         {Options{Baseline: "7"}, v1alpha1.IntegrityFailed, `apply.baseline (--baseline) is "7"`, "no history", 0},
		"baseline and toVersion":   {Options{Baseline: "1", ToVersion: "2"}, "", "", "1/1 2/2", 1},
		"baseline, refused later":  {Options{Baseline: "1", Lint: v1alpha1.LintEnforce}, v1alpha1.LintFailed, "DS102", "no history", 0},
		"allowDirty":               {Options{AllowDirty: true}, v1alpha1.StatementFailed, `"a" already exists`, "", 0},
		"both":                     {Options{Baseline: "1", AllowDirty: true}, v1alpha1.IntegrityFailed, "exclude each other", "no history", 0},
		"baseline at a checkpoint": {Options{Baseline: "4"}, v1alpha1.IntegrityFailed, "checkpoint", "no history", 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			db := server.NewDatabase(t)
			postgres.Exec(t, db, "CREATE TABLE a (i int)")
			dir := migrations.Dir(t, three)
			if c.options.Baseline == "4" {
				migrations.Write(t, dir, files{"4.sql": "-- atlas:checkpoint\n\nCREATE TABLE a (i int);"})
			}
			if c.class == v1alpha1.LintFailed {
				migrations.Write(t, dir, files{"3.sql": "DROP TABLE a;"})
			}
			c.options.Dir, c.options.URL = dir, db
			for range 2 { // the second run finds nothing to do, or fails in the same way
				got := migrateWith(t.Context(), t, c.options)
				if c.class != "" {
					mustContain(t, mustFail(t, got, c.class).Error, c.words)
				} else {
					mustSucceed(t, got)
				}
				if len(got.Applied) != c.applied {
					t.Errorf("applied %v, want %d", got.Applied, c.applied)
				}
				if r := rows(t, db); r != c.rows {
					t.Errorf("history is %q, want %q", r, c.rows)
				}
				c.applied = 0
			}
		})
	}
}

// An empty history, as an earlier tool may have made it, is none.
func TestBaselineOfAnEmptyHistory(t *testing.T) {
	db := server.NewDatabase(t)
	mustSucceed(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"}), db))
	postgres.Exec(t, db, "TRUNCATE atlas_schema_revisions.atlas_schema_revisions")
	got := migrateWith(t.Context(), t, Options{Dir: migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": "CREATE TABLE b (i int);"}), URL: db, Baseline: "1"})
	mustSucceed(t, got)
	if r := rows(t, db); r != "1/1 2/2" || got.CurrentVersion != "2" {
		t.Errorf("history is %q, result %+v", r, got)
	}
}

func TestExecOrder(t *testing.T) {
	for order, want := range map[v1alpha1.ExecOrder]string{v1alpha1.ExecOrderLinear: "1/2 3/2", v1alpha1.ExecOrderLinearSkip: "1/2 3/2 4/2", v1alpha1.ExecOrderNonLinear: "1/2 2/2 3/2 4/2"} {
		t.Run(string(order), func(t *testing.T) {
			db := server.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "3.sql": "SELECT 3;"})
			mustSucceed(t, migrateTo(t, dir, db))
			migrations.Write(t, dir, files{"2.sql": "SELECT 2;", "4.sql": "SELECT 4;"})
			got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, ExecOrder: order})
			if failed := got.Failure != nil; failed != (order == v1alpha1.ExecOrderLinear) {
				t.Errorf("result is %+v", got)
			}
			if r := rows(t, db); r != want {
				t.Errorf("history is %q, want %q", r, want)
			}
		})
	}
}

// A late file that fails is behind files that are done, and is not taken for one of them.
func TestLateFileInPart(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "3.sql": "SELECT 3;"})
	mustSucceed(t, migrateTo(t, dir, db))
	migrations.Write(t, dir, files{"2.sql": none + "CREATE TABLE a (i int);\nSELECT 1/0;"})
	late := Options{Dir: dir, URL: db, ExecOrder: v1alpha1.ExecOrderNonLinear}
	for range 2 {
		got := migrateWith(t.Context(), t, late)
		if f := mustFail(t, got, v1alpha1.StatementFailed); f.File != "2.sql" || f.Statement != 2 || got.Pending != 1 {
			t.Errorf("result is %+v, failure %+v", got, f)
		}
	}
	migrations.Write(t, dir, files{"2.sql": none + "CREATE TABLE a (i int);\nCREATE TABLE b (i int);"})
	got := migrateWith(t.Context(), t, late)
	mustSucceed(t, got)
	if len(got.Applied) != 1 || got.Applied[0].Statements != 1 {
		t.Errorf("result is %+v", got)
	}
	if again := migrateWith(t.Context(), t, late); len(again.Applied) != 0 || again.Failure != nil {
		t.Errorf("result is %+v", again)
	}
}

func TestToVersion(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "2.sql": "SELECT 2;", "3.sql": "SELECT 3;"})
	for _, c := range []struct {
		to, current string
		applied     int
		pending     int32
	}{{"2", "2", 2, 1}, {"2", "2", 0, 1}, {"1", "2", 0, 1}, {"", "3", 1, 0}} {
		got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, ToVersion: c.to})
		mustSucceed(t, got)
		if got.CurrentVersion != c.current || len(got.Applied) != c.applied || got.Pending != c.pending {
			t.Errorf("to %q: %+v", c.to, got)
		}
	}
	f := mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, ToVersion: "9"}), v1alpha1.IntegrityFailed)
	mustContain(t, f.Error, "toVersion", `"9"`, `"3"`)
}

func TestRevisionsSchema(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, RevisionsSchema: "Our History"}))
	if n := query(t, db, `SELECT count(*) FROM "Our History".atlas_schema_revisions`); n != "1" {
		t.Errorf("%s rows", n)
	}
	again := migrateWith(t.Context(), t, Options{Dir: dir, URL: db + "&search_path=public", RevisionsSchema: "Our History"})
	mustSucceed(t, again)
	if len(again.Applied) != 0 {
		t.Errorf("result is %+v", again)
	}
}

func TestAllInOneTransaction(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": "CREATE TABLE b (i int);\nSELECT 1/0;"})
	got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, TxMode: v1alpha1.TxModeAll})
	f := mustFail(t, got, v1alpha1.StatementFailed)
	if f.File != "2.sql" || f.Statement != 2 || len(got.Applied) != 0 || got.Pending != 2 || got.CurrentVersion != "" {
		t.Errorf("result is %+v, failure %+v", got, f)
	}
	if n := query(t, db, "SELECT count(*) FROM pg_tables WHERE tablename IN ('a', 'b')"); n != "0" {
		t.Errorf("%s tables are left", n)
	}
	migrations.Write(t, dir, files{"2.sql": "CREATE TABLE b (i int);"})
	mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, TxMode: v1alpha1.TxModeAll}))
	if r := rows(t, db); r != "1/2 2/2" {
		t.Errorf("history is %q", r)
	}
	migrations.Write(t, dir, files{"3.sql": none + "SELECT 1;"})
	f = mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, TxMode: v1alpha1.TxModeAll}), v1alpha1.IntegrityFailed)
	mustContain(t, f.Error, "3.sql asks for no transaction")
}

// A global none with a file that asks for a transaction leaves none open, as the Atlas CLI does.
func TestTransactionByDirective(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "-- atlas:txmode file\nCREATE TABLE a (i int);\nSELECT 1/0;", "0.sql": "CREATE TABLE b (i int);"})
	mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, TxMode: v1alpha1.TxModeNone}), v1alpha1.StatementFailed)
	if n := query(t, db, "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE tablename IN ('a', 'b')"); n != "b" {
		t.Errorf("tables are %q", n)
	}
}

// TestLockRetries holds a table until the migration has tried twice; its unit is the transaction, or without one the statement.
func TestLockRetries(t *testing.T) {
	for mode, counted := range map[v1alpha1.TxMode]string{v1alpha1.TxModeFile: "1", v1alpha1.TxModeAll: "1", v1alpha1.TxModeNone: "1"} {
		t.Run(string(mode), func(t *testing.T) {
			db := server.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE tries (i int);"})
			mustSucceed(t, migrateTo(t, dir, db))
			holder := postgres.Connect(t, db)
			if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE a"); err != nil {
				t.Fatal(err)
			}
			migrations.Write(t, dir, files{"2.sql": "INSERT INTO tries VALUES (1);\nALTER TABLE a ADD COLUMN j int;"})
			out := newOutput()
			done := make(chan *v1alpha1.MigrationStatus, 1)
			go func() {
				done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db, TxMode: mode, StatementLockTimeout: 20 * time.Millisecond, Log: slog.New(slog.NewJSONHandler(out, nil)), retryPause: 50 * time.Millisecond})
			}()
			out.await(t, `"retry":2`)
			if _, err := holder.Exec(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			got := <-done
			mustSucceed(t, got)
			if got.LockRetries < 2 {
				t.Errorf("%d retries are told", got.LockRetries)
			}
			if n := query(t, db, "SELECT count(*) FROM tries"); n != counted {
				t.Errorf("%s rows, want %s", n, counted)
			}
		})
	}
}

func TestLockRetriesEnd(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, db))
	holder := postgres.Connect(t, db)
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE a"); err != nil {
		t.Fatal(err)
	}
	migrations.Write(t, dir, files{"2.sql": "ALTER TABLE a ADD COLUMN j int;"})
	got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, StatementLockTimeout: time.Millisecond})
	f := mustFail(t, got, v1alpha1.LockTimeout)
	if got.LockRetries != maxLockRetries || f.SQLState != "55P03" || f.File != "2.sql" {
		t.Errorf("result is %+v, failure %+v", got, f)
	}
}

func TestConcurrentlyIsNotRetried(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nINSERT INTO a VALUES (1), (1);"})
	mustSucceed(t, migrateTo(t, dir, db))
	holder := postgres.Connect(t, db)
	if _, err := holder.Exec(t.Context(), "BEGIN; INSERT INTO a VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	migrations.Write(t, dir, files{"2.sql": none + "CREATE INDEX CONCURRENTLY a_i ON a (i);"})
	got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, StatementLockTimeout: 20 * time.Millisecond})
	f := mustFail(t, got, v1alpha1.StatementFailed)
	mustContain(t, f.Error, "lock timeout", "public.a_i", "DROP INDEX CONCURRENTLY")
	if got.LockRetries != 0 || f.SQLState != "55P03" {
		t.Errorf("result is %+v, failure %+v", got, f)
	}
	if _, err := holder.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	// The obvious correction would pass over the invalid index.
	migrations.Write(t, dir, files{"2.sql": none + "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_i ON a (i);"})
	f = mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
	mustContain(t, f.Error, "did not do its work", "public.a_i")
	postgres.Exec(t, db, "DROP INDEX a_i")
	mustSucceed(t, migrateTo(t, dir, db))
}

func TestStatementTimeout(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "SELECT pg_sleep(60);"})
	f := mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, StatementTimeout: 500 * time.Millisecond}), v1alpha1.StatementFailed)
	if f.SQLState != "57014" || f.Statement != 1 {
		t.Errorf("failure is %+v", f)
	}
}

func TestPlan(t *testing.T) {
	dbs := map[string]func(t *testing.T) string{
		"PostgreSQL": func(t *testing.T) string { return server.NewDatabase(t) },
		"MariaDB":    func(t *testing.T) string { return maria.NewDatabase(t) },
	}
	for name, newDatabase := range dbs {
		t.Run(name, func(t *testing.T) {
			db := newDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": "DROP TABLE a;\nCREATE TABLE b (i int);"})
			plan := func(o Options) *v1alpha1.MigrationStatus {
				o.Dir, o.URL, o.Plan = dir, db, true
				return migrateWith(t.Context(), t, o)
			}
			tables := "SELECT count(*) FROM information_schema.tables WHERE table_name IN ('a', 'b', 'atlas_schema_revisions')"
			count := func() string {
				if name == "MariaDB" {
					return mysqlQuery(t, db, strings.Replace(tables, "WHERE", "WHERE table_schema = DATABASE() AND", 1))
				}
				return query(t, db, tables)
			}
			got := plan(Options{Baseline: "1"})
			mustSucceed(t, got)
			if len(got.Planned) != 1 || got.Planned[0].Version != "2" || got.Planned[0].Statements != 2 || got.Pending != 1 || len(got.Applied) != 0 {
				t.Errorf("plan is %+v", got)
			}
			got = plan(Options{Lint: v1alpha1.LintWarn})
			mustSucceed(t, got)
			if len(got.Planned) != 2 {
				t.Errorf("plan is %+v", got)
			}
			if n := count(); n != "0" {
				t.Fatalf("planning made %s tables", n)
			}
			mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, ToVersion: "1"}))
			got = plan(Options{Lint: v1alpha1.LintEnforce})
			mustContain(t, mustFail(t, got, v1alpha1.LintFailed).Error, "DS102")
			if len(got.Planned) != 1 || len(got.Findings) == 0 || got.CurrentVersion != "1" {
				t.Errorf("plan is %+v", got)
			}
		})
	}
}

func TestLint(t *testing.T) {
	for mode, failed := range map[v1alpha1.LintMode]bool{v1alpha1.LintOff: false, v1alpha1.LintWarn: false, v1alpha1.LintEnforce: true} {
		t.Run(string(mode), func(t *testing.T) {
			db := server.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
			mustSucceed(t, migrateTo(t, dir, db))
			migrations.Write(t, dir, files{"2.sql": "DROP TABLE a;"})
			got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Lint: mode})
			if (got.Failure != nil) != failed || (len(got.Findings) > 0) != (mode != v1alpha1.LintOff) {
				t.Errorf("result is %+v", got)
			}
			if left := query(t, db, "SELECT count(*) FROM pg_tables WHERE tablename = 'a'") == "1"; left != failed {
				t.Errorf("the table is there: %v", left)
			}
		})
	}
}

func TestPooler(t *testing.T) {
	for mode, refused := range map[pgbouncer.Mode]bool{pgbouncer.Session: false, pgbouncer.Transaction: true, pgbouncer.Statement: true} {
		t.Run(string(mode), func(t *testing.T) {
			db := server.NewDatabase(t)
			pooled := pgbouncer.Start(t, db, mode)
			got := migrateTo(t, migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"}), pooled)
			if !refused {
				mustSucceed(t, got)
				unlocked(t, db)
				return
			}
			mustContain(t, mustFail(t, got, v1alpha1.DatabaseUnreachable).Error, "PgBouncer", "pool_mode session")
			if r := rows(t, db); r != "no history" {
				t.Errorf("history is %q", r)
			}
		})
	}
}

// TestManyFiles is about what a second run of a long directory finds, not about how fast it is.
func TestManyFiles(t *testing.T) {
	db := server.NewDatabase(t)
	many := files{}
	for i := range 300 {
		many[fmt.Sprintf("%04d.sql", i)] = fmt.Sprintf("CREATE TABLE t%d (i int);", i)
	}
	dir := migrations.Dir(t, many)
	mustSucceed(t, migrateTo(t, dir, db))
	again := migrateTo(t, dir, db)
	mustSucceed(t, again)
	if again.CurrentVersion != "0299" || len(again.Applied) != 0 {
		t.Errorf("result is %+v", again)
	}
}

// A run that is told to end while it waits for another try says that, and leaves the database's words in the history.
func TestInterruptedBetweenTries(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, db))
	holder := postgres.Connect(t, db)
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE a"); err != nil {
		t.Fatal(err)
	}
	migrations.Write(t, dir, files{"2.sql": none + "ALTER TABLE a ADD COLUMN j int;"})
	for class, o := range map[v1alpha1.FailureClass]Options{v1alpha1.Interrupted: {}, v1alpha1.DeadlineExceeded: {Deadline: 5 * time.Second}} {
		t.Run(string(class), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := newOutput()
			o.Dir, o.URL, o.StatementLockTimeout, o.retryPause, o.Log = dir, db, 20*time.Millisecond, time.Hour, slog.New(slog.NewJSONHandler(out, nil))
			done := make(chan *v1alpha1.MigrationStatus, 1)
			go func() { done <- migrateWith(ctx, t, o) }()
			out.await(t, `"retry":1`)
			if class == v1alpha1.Interrupted {
				cancel()
			}
			mustFail(t, <-done, class)
			mustContain(t, query(t, db, lastRow), "lock timeout")
		})
	}
}
