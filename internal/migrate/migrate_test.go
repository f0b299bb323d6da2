// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

const none = "-- atlas:txmode none\n\n"

func TestApply(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{
		"1_init.sql":  "CREATE TABLE a (i int);\nINSERT INTO a VALUES (1);\nSELECT * FROM a;",
		"2.sql":       "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$;",
		"3_index.sql": none + "CREATE INDEX CONCURRENTLY a_i ON a (i);",
	})
	got := migrateTo(t, dir, db)
	want := &v1alpha1.MigrationStatus{
		CurrentVersion: "3", TargetVersion: "3", Total: 3,
		Applied: []v1alpha1.AppliedFile{
			{Version: "1", Description: "init", Statements: 3},
			{Version: "2", Statements: 1},
			{Version: "3", Description: "index", Statements: 1},
		},
	}
	ignore := cmpopts.IgnoreFields(v1alpha1.AppliedFile{}, "Duration")
	if diff := cmp.Diff(want, got, ignore, cmpopts.IgnoreFields(v1alpha1.MigrationStatus{}, "DirectoryHash")); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	sum, err := os.ReadFile(filepath.Join(dir, "atlas.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(sum), "\n"); first != got.DirectoryHash {
		t.Errorf("directory hash is %q, want %q", got.DirectoryHash, first)
	}
	if got.Applied[0].Duration.Duration <= 0 {
		t.Error("no duration")
	}
	if row := query(t, db, lastRow); row != "3 1 1 2 [] [] null DBUpgrade test" {
		t.Errorf("row is %q", row)
	}
	unlocked(t, db)

	again := migrateTo(t, dir, db)
	mustSucceed(t, again)
	if again.CurrentVersion != "3" || len(again.Applied) != 0 || again.Pending != 0 {
		t.Errorf("second run: %+v", again)
	}
}

func TestNothingToDoWritesNothing(t *testing.T) {
	db := server.NewDatabase(t)
	got := migrateTo(t, t.TempDir(), db)
	mustSucceed(t, got)
	if n := query(t, db, "SELECT count(*) FROM pg_namespace WHERE nspname = 'atlas_schema_revisions'"); n != "0" {
		t.Error("the history was created for nothing")
	}
}

func TestSchemaOfTheURL(t *testing.T) {
	db := server.NewDatabase(t)
	postgres.Exec(t, db, "CREATE TABLE public.other (i int)") // not empty, but not in that schema
	bound := db + "&search_path=app"
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, bound))
	if n := query(t, db, "SELECT count(*) FROM app.atlas_schema_revisions, app.a"); n != "0" {
		t.Errorf("app.a has %s rows", n)
	}
	if n := query(t, db, "SELECT count(*) FROM app.atlas_schema_revisions"); n != "1" {
		t.Errorf("history has %s rows", n)
	}
	mustSucceed(t, migrateTo(t, dir, bound))
}

func TestAmbiguousHistory(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, db))
	f := mustFail(t, migrateTo(t, dir, db+"&search_path=public"), v1alpha1.HistoryConflict)
	mustContain(t, f.Error, "public", "atlas_schema_revisions", "revisionsSchema")
}

func TestStatementFailsAndIsResumed(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{
		"1.sql": "CREATE TABLE a (i int PRIMARY KEY);",
		"2.sql": "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (1);",
		"3.sql": "INSERT INTO a VALUES (3);",
	})
	got := migrateTo(t, dir, db)
	f := mustFail(t, got, v1alpha1.StatementFailed)
	if f.File != "2.sql" || f.Version != "2" || f.Statement != 2 || f.SQLState != "23505" {
		t.Errorf("failure is %+v", f)
	}
	mustContain(t, f.Error, "duplicate key", "detail: Key (i)=(1) already exists.")
	if got.CurrentVersion != "1" || got.TargetVersion != "3" || got.Pending != 2 || got.Total != 3 || len(got.Applied) != 1 {
		t.Errorf("result is %+v", got)
	}
	if n := query(t, db, "SELECT count(*) FROM a"); n != "0" {
		t.Errorf("%s rows are left of a file that was rolled back", n)
	}
	if row := query(t, db, lastRow); !strings.HasPrefix(row, "1 ") {
		t.Errorf("last row is %q", row)
	}
	unlocked(t, db)

	migrations.Write(t, dir, files{"2.sql": "INSERT INTO a VALUES (1);"})
	got = migrateTo(t, dir, db)
	mustSucceed(t, got)
	if got.CurrentVersion != "3" || len(got.Applied) != 2 || got.Pending != 0 {
		t.Errorf("result is %+v", got)
	}
}

func TestCommitFails(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int PRIMARY KEY);\nCREATE TABLE b (i int REFERENCES a DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO b VALUES (1);"})
	f := mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
	if f.File != "1.sql" || f.Statement != 0 || f.SQLState != "23503" {
		t.Errorf("failure is %+v", f)
	}
	mustContain(t, f.Error, "commit: ", "foreign key")
	if n := query(t, db, "SELECT count(*) FROM atlas_schema_revisions.atlas_schema_revisions"); n != "0" {
		t.Errorf("%s rows in the history", n)
	}
	unlocked(t, db)
}

func TestFilesDoNotShareSessionState(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{
		"1.sql": "CREATE SCHEMA s;\nSET search_path = s;\nSET statement_timeout = '1ms';",
		"2.sql": "CREATE TABLE a (i int);\nSELECT pg_sleep(0.1);",
	})
	mustSucceed(t, migrateTo(t, dir, db))
	if where := query(t, db, "SELECT 'public.a'::regclass"); where != "a" {
		t.Errorf("table is %s", where)
	}
}

// TestDatabaseProbesTheRunner sees what the database would do about a runner that is gone without a word, in every file.
func TestDatabaseProbesTheRunner(t *testing.T) {
	db := server.NewDatabase(t)
	probes := "INSERT INTO probes SELECT name || '=' || setting FROM pg_settings WHERE name ~ '^tcp_';\n"
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE probes (what text);\n" + probes + "RESET ALL;\n", "2.sql": probes})
	mustSucceed(t, migrateTo(t, dir, db))
	want := "tcp_keepalives_count=4 tcp_keepalives_idle=15 tcp_keepalives_interval=15 tcp_user_timeout=75000"
	if got := query(t, db, "SELECT string_agg(DISTINCT what, ' ' ORDER BY what) FROM probes"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWithoutTransaction(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": none + "CREATE TABLE a (i int);\nINSERT INTO a VALUES (1);\nINSERT INTO nowhere VALUES (1);"})
	f := mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
	if f.Statement != 3 || f.SQLState != "42P01" {
		t.Errorf("failure is %+v", f)
	}
	mustContain(t, query(t, db, lastRow), "1 2 3 2 [ERROR: relation \"nowhere\" does not exist", "[INSERT INTO nowhere VALUES (1);]")

	cases := map[string]struct {
		content string
		class   v1alpha1.FailureClass // "" for success
		word    string
		rows    string
	}{
		"an applied statement was removed": {none + "CREATE TABLE a (i int);", v1alpha1.HistoryConflict, "has only 1", "1"},
		"an applied statement has changed": {none + "CREATE TABLE a (i int);\nINSERT INTO a VALUES (2);\nSELECT 1;", v1alpha1.HistoryConflict, "statement 2", "1"},
		"corrected and longer":             {none + "CREATE TABLE a (i int);\nINSERT INTO a VALUES (1);\nINSERT INTO a VALUES (3);\nINSERT INTO a VALUES (4);", "", "", "3"},
	}
	for _, name := range []string{"an applied statement was removed", "an applied statement has changed", "corrected and longer"} {
		c := cases[name]
		migrations.Write(t, dir, files{"1.sql": c.content})
		got := migrateTo(t, dir, db)
		if c.class != "" {
			mustContain(t, mustFail(t, got, c.class).Error, c.word)
		} else {
			mustSucceed(t, got)
			if got.Applied[0].Statements != 2 {
				t.Errorf("%s: %d statements were executed, want 2", name, got.Applied[0].Statements)
			}
		}
		if n := query(t, db, "SELECT count(*) FROM a"); n != c.rows {
			t.Errorf("%s: %s rows, want %s", name, n, c.rows)
		}
	}
	if row := query(t, db, lastRow); row != "1 4 4 2 [] [] null DBUpgrade test" {
		t.Errorf("row is %q", row)
	}
	mustSucceed(t, migrateTo(t, dir, db))
}

func TestFailingStatementRemoved(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": none + "CREATE TABLE a (i int);\nSELECT nothing;"})
	mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
	migrations.Write(t, dir, files{"1.sql": none + "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, db))
	if row := query(t, db, lastRow); row != "1 1 1 2 [] [] null DBUpgrade test" {
		t.Errorf("row is %q", row)
	}
}

func TestCannotRunInTransaction(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "VACUUM;"})
	f := mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
	mustContain(t, f.Error, "VACUUM cannot run inside a transaction block", "-- atlas:txmode none")
}

// In-doubt rows are made as a killed run leaves them: the statement was started, and its row never written again.
func TestInDoubt(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": none + "CREATE TABLE a (i int);\nINSERT INTO a SELECT 1 FROM pg_sleep(60);\nINSERT INTO a VALUES (2);"})
	done := make(chan *v1alpha1.MigrationStatus, 1)
	go func() {
		done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db})
	}()
	postgres.AwaitSleep(t, db)
	terminate(t, db)
	for _, run := range []string{"cut off", "next", "one after"} {
		var got *v1alpha1.MigrationStatus
		if run == "cut off" {
			got = <-done
		} else {
			got = migrateTo(t, dir, db)
		}
		f := mustFail(t, got, v1alpha1.InDoubt)
		if f.File != "1.sql" || f.Version != "1" || f.Statement != 2 || got.Pending != 1 {
			t.Errorf("%s: result is %+v, failure %+v", run, got, f)
		}
		mustContain(t, f.Error, "INSERT INTO a SELECT 1")
	}
	if n := query(t, db, "SELECT count(*) FROM a"); n != "0" {
		t.Fatalf("%s rows: something was executed in doubt", n)
	}

	id := doubtID(t, mustFail(t, migrateTo(t, dir, db), v1alpha1.InDoubt).Error)
	answer := func(skip bool) *v1alpha1.MigrationStatus {
		return migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: id, Skip: skip}})
	}
	postgres.Exec(t, db, "CREATE TABLE saved AS SELECT * FROM atlas_schema_revisions.atlas_schema_revisions")
	migrations.Write(t, dir, files{"1.sql": none + "CREATE TABLE a (i int);\nINSERT INTO a SELECT 1 FROM pg_sleep(0);\nINSERT INTO a VALUES (2);"})
	mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: "AAAAAAAA", Skip: true}}), v1alpha1.InDoubt) // of another doubt
	t.Run("redo", func(t *testing.T) {
		mustSucceed(t, answer(false))
		if n := query(t, db, "SELECT string_agg(i::text, ',' ORDER BY i) FROM a"); n != "1,2" {
			t.Errorf("rows are %s", n)
		}
	})
	t.Run("skip", func(t *testing.T) {
		postgres.Exec(t, db, "TRUNCATE a; TRUNCATE atlas_schema_revisions.atlas_schema_revisions; INSERT INTO atlas_schema_revisions.atlas_schema_revisions SELECT * FROM saved")
		got := answer(true)
		mustSucceed(t, got)
		if n := query(t, db, "SELECT string_agg(i::text, ',' ORDER BY i) FROM a"); n != "2" || got.Applied[0].Statements != 1 {
			t.Errorf("rows are %s, result is %+v", n, got)
		}
		if row := query(t, db, lastRow); row != "1 3 3 2 [] [] null DBUpgrade test" {
			t.Errorf("row is %q", row)
		}
	})
}

// terminate ends the run's connection, as a failover or an administrator does.
func terminate(t *testing.T, db string) {
	t.Helper()
	n := query(t, db, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'dbupgrade-runner' AND datname = current_database()")
	if n != "1" {
		t.Fatalf("%s connections were ended, want the run's one", n)
	}
}

func TestConnectionLost(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nSELECT pg_sleep(60);"})
	done := make(chan *v1alpha1.MigrationStatus, 1)
	go func() {
		done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db})
	}()
	postgres.AwaitSleep(t, db)
	terminate(t, db)
	f := mustFail(t, <-done, v1alpha1.DatabaseUnreachable)
	if f.File != "1.sql" || f.Statement != 2 || f.SQLState != "57P01" {
		t.Errorf("failure is %+v", f)
	}
	unlocked(t, db)
	if n := query(t, db, "SELECT count(*) FROM pg_tables WHERE tablename = 'a'"); n != "0" {
		t.Error("the file was not rolled back")
	}
}

func TestInterrupted(t *testing.T) {
	cases := map[string]struct {
		deadline time.Duration
		class    v1alpha1.FailureClass
		words    string
	}{
		"signal":   {0, v1alpha1.Interrupted, "told to end; statement 2 was cancelled"},
		"deadline": {time.Second, v1alpha1.DeadlineExceeded, "the deadline passed; statement 2 was cancelled"},
	}
	for name, c := range cases {
		for mode, head := range map[string]string{"transaction": "", "none": none} {
			t.Run(name+" "+mode, func(t *testing.T) {
				db := server.NewDatabase(t)
				dir := migrations.Dir(t, files{"1.sql": head + "CREATE TABLE a (i int);\nSELECT pg_sleep(60);"})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan *v1alpha1.MigrationStatus, 1)
				go func() {
					done <- migrateWith(ctx, t, Options{Dir: dir, URL: db, Deadline: c.deadline})
				}()
				postgres.AwaitSleep(t, db)
				if c.deadline == 0 {
					cancel()
				}
				f := mustFail(t, <-done, c.class)
				if f.File != "1.sql" || f.Statement != 2 {
					t.Errorf("failure is %+v", f)
				}
				mustContain(t, f.Error, c.words)
				unlocked(t, db)
				tables := query(t, db, "SELECT count(*) FROM pg_tables WHERE tablename = 'a'")
				if mode == "transaction" {
					if n := query(t, db, "SELECT count(*) FROM atlas_schema_revisions.atlas_schema_revisions"); n != "0" || tables != "0" {
						t.Errorf("not rolled back: %s rows, %s tables", n, tables)
					}
					return
				}
				// The database said that it had cancelled the statement: that is a failure, and no doubt.
				mustContain(t, query(t, db, lastRow), "1 1 2 2 [ERROR: canceling statement due to user request")
				migrations.Write(t, dir, files{"1.sql": head + "CREATE TABLE a (i int);\nSELECT pg_sleep(0);"})
				mustSucceed(t, migrateTo(t, dir, db))
			})
		}
	}
}

// Wherever a signal falls, nothing is in doubt afterwards, nothing is executed twice, and nothing waits for a timeout.
func TestInterruptedAtAnyMoment(t *testing.T) {
	const body = "INSERT INTO audit VALUES ('%[1]d.1');\nSELECT pg_sleep(0.002);\nINSERT INTO audit VALUES ('%[1]d.3');"
	content := files{"0.sql": "CREATE TABLE audit (statement text);"}
	for n := 1; n <= 6; n++ {
		content[fmt.Sprintf("%d.sql", n)] = []string{"", none}[n%2] + fmt.Sprintf(body, n)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, seed))
	t.Logf("seed %d", seed)
	dir := migrations.Dir(t, content)
	for range 6 {
		db := server.NewDatabase(t)
		for interrupted := true; interrupted; {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.Int64N(int64(60*time.Millisecond))))
			start := time.Now()
			got := migrateWith(ctx, t, Options{Dir: dir, URL: db})
			if took := time.Since(start); took > cancelTimeout/2 {
				t.Fatalf("it ended after %s", took)
			}
			cancel()
			if interrupted = got.Failure != nil; interrupted {
				mustFail(t, got, v1alpha1.Interrupted)
			}
		}
		if got := query(t, db, "SELECT string_agg(statement, ' ' ORDER BY statement) FROM audit"); got != "1.1 1.3 2.1 2.3 3.1 3.3 4.1 4.3 5.1 5.3 6.1 6.3" {
			t.Errorf("audit is %s", got)
		}
		unlocked(t, db)
	}
}

func TestCheckpoint(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{
		"1.sql": "CREATE TABLE a (i int);",
		"2.sql": "-- atlas:checkpoint\n\nCREATE TABLE a (i int, j int);",
		"3.sql": "ALTER TABLE a ADD COLUMN k int;",
	})
	got := migrateTo(t, dir, db)
	mustSucceed(t, got)
	if len(got.Applied) != 2 || got.CurrentVersion != "3" {
		t.Errorf("an empty database does not begin at the checkpoint: %+v", got)
	}
	got = migrateTo(t, dir, db)
	mustSucceed(t, got)
	if len(got.Applied) != 0 {
		t.Errorf("second run: %+v", got)
	}
}

func TestLockHeld(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	holder := postgres.Connect(t, db)
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock($1)", lockID()); err != nil {
		t.Fatal(err)
	}
	f := mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, LockTimeout: 300 * time.Millisecond}), v1alpha1.LockTimeout)
	mustContain(t, f.Error, "atlas_migrate_execute", "300ms")

	out := newOutput()
	logger := slog.New(slog.NewJSONHandler(out, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan *v1alpha1.MigrationStatus, 1)
	go func() { done <- migrateWith(ctx, t, Options{Dir: dir, URL: db, Log: logger}) }()
	out.await(t, "waiting for the lock")
	cancel()
	mustFail(t, <-done, v1alpha1.Interrupted)

	out = newOutput()
	logger = slog.New(slog.NewJSONHandler(out, nil))
	go func() { done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Log: logger}) }()
	out.await(t, "waiting for the lock")
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", lockID()); err != nil {
		t.Fatal(err)
	}
	mustSucceed(t, <-done)
}

func TestDatabaseLocks(t *testing.T) {
	db := server.NewDatabase(t)
	postgres.Exec(t, db, "CREATE SCHEMA app; CREATE TABLE app.a (i int)")
	dir := migrations.Dir(t, files{"1.sql": "SET lock_timeout = '50ms';\nALTER TABLE app.a ADD COLUMN j int;"})
	holder := postgres.Connect(t, db)
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE app.a"); err != nil {
		t.Fatal(err)
	}
	f := mustFail(t, migrateTo(t, dir, db+"&search_path=hist"), v1alpha1.LockTimeout)
	if f.SQLState != "55P03" || f.Statement != 2 {
		t.Errorf("failure is %+v", f)
	}
}

func TestDirectoryIsCheckedBeforeConnecting(t *testing.T) {
	cases := map[string]struct {
		change func(dir string) error
		file   string
		words  []string
	}{
		"edited":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "2.sql"), []byte("SELECT 3;"), 0o600) }, "2.sql", []string{"atlas.sum line 3", "2.sql was edited"}},
		"added":   {func(dir string) error { return os.WriteFile(filepath.Join(dir, "3.sql"), []byte("SELECT 3;"), 0o600) }, "3.sql", []string{"3.sql was added"}},
		"removed": {func(dir string) error { return os.Remove(filepath.Join(dir, "1.sql")) }, "1.sql", []string{"atlas.sum line 2", "1.sql was removed"}},
		"no sum":  {func(dir string) error { return os.Remove(filepath.Join(dir, "atlas.sum")) }, "atlas.sum", []string{"no atlas.sum"}},
		"bad sum": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "atlas.sum"), []byte("h1:x\ny\n"), 0o600)
		}, "atlas.sum", []string{"format"}},
		"no dir":     {os.RemoveAll, "", []string{"no such file"}},
		"not a file": {func(dir string) error { return os.Mkdir(filepath.Join(dir, "x.sql"), 0o700) }, "", []string{"x.sql is not a regular file"}},
		"leads out":  {func(dir string) error { return os.Symlink("/proc/self/environ", filepath.Join(dir, "x.sql")) }, "", []string{"x.sql", "escapes"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "2.sql": "SELECT 2;"})
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			failsUnconnected(t, dir, c.file, c.words...)
		})
	}
	for name, c := range map[string]struct {
		content files
		file    string
		words   string
	}{
		"not SQL":      {files{"1.sql": "SELECT 1;", "2.sql": "SELECT 1;\nSELECT (1;"}, "2.sql", "2.sql:2:"},
		"txmode":       {files{"1.sql": "-- atlas:txmode all\n\nSELECT 1;"}, "1.sql", "txmode"},
		"not hashed":   {files{"1.sql": "-- atlas:sum ignore\n\nSELECT 1;"}, "1.sql", "atlas:sum ignore"},
		"same version": {files{"1_a.sql": "SELECT 1;", "1_b.sql": "SELECT 1;"}, "1_b.sql", "same version"},
	} {
		t.Run(name, func(t *testing.T) { failsUnconnected(t, migrations.Dir(t, c.content), c.file, c.words) })
	}
}

// failsUnconnected runs against a listener that nobody may dial.
func failsUnconnected(t *testing.T, dir, file string, words ...string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	f := mustFail(t, migrateTo(t, dir, "postgres://u:p@"+listener.Addr().String()+"/db"), v1alpha1.IntegrityFailed)
	if f.File != file {
		t.Errorf("file is %q, want %q", f.File, file)
	}
	mustContain(t, f.Error, words...)
	if err := listener.(*net.TCPListener).SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if conn, err := listener.Accept(); err == nil {
		conn.Close()
		t.Error("it connected")
	}
}

func TestNotExecutable(t *testing.T) {
	for _, stmt := range []string{"BEGIN", "commit;", "-- why\nROLLBACK;", "END;", "START  TRANSACTION;", "ROLLBACK AND CHAIN;", "COPY a FROM STDIN;", "copy a (i)\nfrom stdin with (format csv);",
		"DISCARD ALL;", "SELECT pg_advisory_unlock_all();"} {
		for _, head := range []string{"", none} {
			t.Run(head+stmt, func(t *testing.T) {
				db := server.NewDatabase(t)
				dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": head + "INSERT INTO a VALUES (1);\n" + stmt})
				got := migrateTo(t, dir, db)
				f := mustFail(t, got, v1alpha1.IntegrityFailed)
				if f.File != "2.sql" || f.Statement != 2 || len(got.Applied) != 0 || got.Pending != 2 {
					t.Errorf("result is %+v, failure %+v", got, f)
				}
				if n := query(t, db, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != "0" {
					t.Error("something was executed")
				}
			})
		}
	}
}

func TestSavepointsAreExecutable(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nSAVEPOINT s;\nINSERT INTO a VALUES (1);\nROLLBACK TO s;\nRELEASE s;"})
	mustSucceed(t, migrateTo(t, dir, db))
	if n := query(t, db, "SELECT count(*) FROM a"); n != "0" {
		t.Errorf("%s rows", n)
	}
}

// A statement may end the transaction in ways that cannot be seen in its text.
// Statements that a delimiter holds together are looked at one by one.
func TestTransactionEndedByStatement(t *testing.T) {
	const delimiter = "-- atlas:delimiter \\n\\n\n"
	for name, c := range map[string]struct {
		content string
		class   v1alpha1.FailureClass
		words   string
	}{
		"at the end":       {"CREATE TABLE a (i int); COMMIT;\n\nCREATE TABLE b (i int);", v1alpha1.IntegrityFailed, "COMMIT cannot be executed"},
		"in the middle":    {"CREATE TABLE a (i int);\n/* now */ COMMIT; BEGIN; SELECT 1/0;", v1alpha1.IntegrityFailed, "COMMIT cannot be executed"},
		"in a text":        {"SELECT 'a; COMMIT;';", "", ""},
		"within procedure": {"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO x VALUES (1); COMMIT; END $$; SELECT 1;", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			db := server.NewDatabase(t)
			got := migrateTo(t, migrations.Dir(t, files{"1.sql": delimiter + c.content}), db)
			if c.class == "" {
				mustSucceed(t, got)
				return
			}
			f := mustFail(t, got, c.class)
			mustContain(t, f.Error, c.words)
			if f.Statement != 1 {
				t.Errorf("failure is %+v", f)
			}
			if n := query(t, db, "SELECT count(*) FROM pg_tables WHERE tablename IN ('a', 'b')"); n != "0" {
				t.Errorf("%s tables are there", n)
			}
		})
	}
}

// endsTransaction is a session whose statements do what no text tells of.
type endsTransaction struct {
	session
	status byte
}

func (s *endsTransaction) txStatus() byte { return s.status }

func (s *endsTransaction) statement(context.Context, string) error {
	s.status = txIdle
	return nil
}

func TestTransactionEndedUnseen(t *testing.T) {
	dir, err := directory.Read(directory.Options{Dir: migrations.Dir(t, files{"1.sql": "SELECT 1;"})})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := dir.File("1")
	e := &executor{session: &endsTransaction{status: txOpen}, file: f, log: slog.New(slog.DiscardHandler)}
	if err := e.perform(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "ended a transaction") {
		t.Errorf("got %v", err)
	}
}

func TestHistoryConflicts(t *testing.T) {
	t.Run("out of order", func(t *testing.T) {
		db := server.NewDatabase(t)
		dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "3.sql": "SELECT 3;"})
		mustSucceed(t, migrateTo(t, dir, db))
		migrations.Write(t, dir, files{"2.sql": "SELECT 2;"})
		got := migrateTo(t, dir, db)
		f := mustFail(t, got, v1alpha1.HistoryConflict)
		mustContain(t, f.Error, "2.sql", "newer version", "non-linear")
		if got.CurrentVersion != "3" {
			t.Errorf("result is %+v", got)
		}
	})
	t.Run("not clean", func(t *testing.T) {
		db := server.NewDatabase(t)
		postgres.Exec(t, db, "CREATE TABLE somebodys (i int)")
		f := mustFail(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;"}), db), v1alpha1.HistoryConflict)
		mustContain(t, f.Error, `table "somebodys"`, "apply.baseline", "apply.allowDirty")
		if n := query(t, db, "SELECT count(*) FROM pg_namespace WHERE nspname = 'atlas_schema_revisions'"); n != "0" {
			t.Error("the history was created in a database that is not ours")
		}
	})
	t.Run("empty schema of the history", func(t *testing.T) {
		db := server.NewDatabase(t)
		postgres.Exec(t, db, "CREATE SCHEMA atlas_schema_revisions")
		mustSucceed(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;"}), db))
	})
	t.Run("partly applied file is missing", func(t *testing.T) {
		db := server.NewDatabase(t)
		mustFail(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;", "2.sql": none + "SELECT 1;\nSELECT x;"}), db), v1alpha1.StatementFailed)
		f := mustFail(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;"}), db), v1alpha1.HistoryConflict)
		mustContain(t, f.Error, "version 2")
	})
}

func TestDatabaseAhead(t *testing.T) {
	db := server.NewDatabase(t)
	mustSucceed(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;", "2.sql": "SELECT 2;"}), db))
	got := migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;"}), db)
	mustSucceed(t, got)
	if !got.DatabaseAhead || got.CurrentVersion != "2" || got.TargetVersion != "1" || got.Pending != 0 {
		t.Errorf("result is %+v", got)
	}
}

// The Atlas CLI keeps an identifier in a row of the history.
func TestCloudRowIsNoRevision(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "SELECT 1;"})
	mustSucceed(t, migrateTo(t, dir, db))
	postgres.Exec(t, db, "INSERT INTO atlas_schema_revisions.atlas_schema_revisions (version, description, executed_at, execution_time, hash, operator_version) VALUES ('.atlas_cloud_identifier', 'x', now(), 0, '', '')")
	got := migrateTo(t, dir, db)
	mustSucceed(t, got)
	if got.CurrentVersion != "1" || got.DatabaseAhead {
		t.Errorf("result is %+v", got)
	}
}

func TestRestrictedUser(t *testing.T) {
	db := server.NewDatabase(t)
	server.CreateUser(t, "restricted", "restricted-password")
	name := strings.TrimPrefix(mustParse(t, db).Path, "/")
	limited := server.URLAs("restricted", "restricted-password", name)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	f := mustFail(t, migrateTo(t, dir, limited), v1alpha1.StatementFailed)
	mustContain(t, f.Error, "create the history", "permission denied for database")
	if f.SQLState != "42501" || f.File != "" {
		t.Errorf("failure is %+v", f)
	}
	postgres.Exec(t, db, "CREATE SCHEMA own AUTHORIZATION restricted")
	mustSucceed(t, migrateTo(t, dir, limited+"&search_path=own"))
}

// A file may work as another role, which need not know of the history.
func TestRoleOfAFile(t *testing.T) {
	for name, head := range map[string]string{"in a transaction": "", "without": none} {
		t.Run(name, func(t *testing.T) {
			db := server.NewDatabase(t)
			role := "owner_" + fmt.Sprint(rand.Uint32())
			postgres.Exec(t, db, "CREATE ROLE "+role)
			postgres.Exec(t, db, "CREATE SCHEMA own AUTHORIZATION "+role)
			dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "2.sql": head + "SET ROLE " + role + ";\nCREATE TABLE own.a (i int);\nCREATE TABLE own.b (i int);"})
			mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, AllowDirty: true}))
			if owner := query(t, db, "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE schemaname = 'own'"); owner != role {
				t.Errorf("the owner is %q", owner)
			}
		})
	}
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUnreachable(t *testing.T) {
	const marker = "s3cr3t:p@ss/w#rd%"
	dir := migrations.Dir(t, files{"1.sql": "SELECT 1;"})
	db := mustParse(t, server.NewDatabase(t))
	with := func(change func(u *url.URL)) string {
		u := *db
		u.User = url.UserPassword("postgres", marker)
		change(&u)
		return u.String()
	}
	right := *db
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cases := map[string]struct {
		url   string
		state string
		words string
	}{
		"empty":             {"", "", "empty"},
		"not a URL":         {"postgres://postgres:" + marker + "@127.0.0.1/x", "", "percent-encoded"},
		"bad port":          {"postgres://postgres:1:" + marker + "@127.0.0.1/x", "", "percent-encoded"},
		"keywords":          {"host=127.0.0.1 password=" + marker, "", "postgres://"},
		"another database":  {"sqlserver://root:" + marker + "@127.0.0.1/x", "", "only PostgreSQL, MySQL and MariaDB"},
		"bad parameter":     {with(func(u *url.URL) { u.RawQuery = "sslmode=maybe" }), "", "sslmode"},
		"two schemas":       {with(func(u *url.URL) { u.RawQuery += "&search_path=a,b" }), "", "more than one schema"},
		"wrong password":    {with(func(*url.URL) {}), "28P01", "password authentication failed"},
		"no such user":      {with(func(u *url.URL) { u.User = url.UserPassword("nobody-here", marker) }), "28P01", "nobody-here"},
		"no such database":  {(&url.URL{Scheme: right.Scheme, User: right.User, Host: right.Host, Path: "/missing", RawQuery: "sslmode=disable"}).String(), "3D000", `database "missing" does not exist`},
		"nobody listens":    {with(func(u *url.URL) { u.Host = closed.Addr().String() }), "", "refused"},
		"nobody answers":    {with(func(u *url.URL) { u.Host = silent.Addr().String(); u.RawQuery += "&connect_timeout=1" }), "", "timeout"},
		"a silent MySQL":    {"mysql://u:" + url.QueryEscape(marker) + "@" + silent.Addr().String() + "/x?timeout=1s", "", "did not answer"},
		"no such host":      {with(func(u *url.URL) { u.Host = "db.invalid" }), "", "db.invalid"},
		"password as query": {"postgres://postgres@" + db.Host + "/x?sslmode=disable&password=" + url.QueryEscape(marker), "28P01", "password authentication failed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out := newOutput()
			got := migrateWith(t.Context(), t, Options{Dir: dir, URL: c.url, Log: slog.New(slog.NewJSONHandler(out, nil))})
			f := mustFail(t, got, v1alpha1.DatabaseUnreachable)
			if f.SQLState != c.state {
				t.Errorf("SQLSTATE is %q, want %q", f.SQLState, c.state)
			}
			mustContain(t, f.Error, c.words)
			noSecret(t, fmt.Sprint(f, out), marker)
		})
	}
}

// noSecret looks for a password in all its forms, and for the part of it that a careless parser would show.
func noSecret(t *testing.T, text, secret string) {
	t.Helper()
	for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("", secret).String()[1:], "s3cr3t", "w#rd", "w%23rd"} {
		if strings.Contains(text, form) {
			t.Errorf("%q is in %q", form, text)
		}
	}
}

// The database may repeat a secret that a migration or a library shows it.
func TestSecretsAreScrubbed(t *testing.T) {
	db := server.NewDatabase(t)
	password, _ := mustParse(t, db).User.Password()
	dir := migrations.Dir(t, files{"1.sql": "SELECT '" + password + "'::int;"})
	out := newOutput()
	got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Log: slog.New(slog.NewJSONHandler(out, nil))})
	f := mustFail(t, got, v1alpha1.StatementFailed)
	mustContain(t, f.Error, "***")
	noSecret(t, fmt.Sprint(f, out), password)
	noSecret(t, fmt.Sprint(f, out), db)
}

func TestStatementsAreNotLogged(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (t text);\nINSERT INTO a VALUES ('private data');"})
	out := newOutput()
	mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Log: slog.New(slog.NewJSONHandler(out, nil))}))
	mustContain(t, out.String(), `"statement":2,"verb":"INSERT INTO"`)
	if strings.Contains(out.String(), "private data") {
		t.Error(out)
	}
}

func TestServerOutage(t *testing.T) {
	own := postgres.Start(t)
	db := own.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nSELECT pg_sleep(60);"})
	done := make(chan *v1alpha1.MigrationStatus, 1)
	go func() {
		done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db})
	}()
	postgres.AwaitSleep(t, db)
	if err := own.Stop(); err != nil {
		t.Fatal(err)
	}
	if f := mustFail(t, <-done, v1alpha1.DatabaseUnreachable); strings.Contains(f.Error, "pg_sleep(60)") {
		t.Errorf("the statement, which may hold data, is in %q", f.Error)
	}
	mustFail(t, migrateTo(t, dir, db), v1alpha1.DatabaseUnreachable)
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	migrations.Write(t, dir, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, db))
}

// A server that is starting up answers with 57P03.
func TestServerStarting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		backend := pgproto3.NewBackend(conn, conn)
		if _, err := backend.ReceiveStartupMessage(); err != nil {
			return
		}
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
		_ = backend.Flush()
	}()
	dir := migrations.Dir(t, files{"1.sql": "SELECT 1;"})
	f := mustFail(t, migrateTo(t, dir, "postgres://u:p@"+listener.Addr().String()+"/db?sslmode=disable"), v1alpha1.DatabaseUnreachable)
	if f.SQLState != "57P03" {
		t.Errorf("failure is %+v", f)
	}
	mustContain(t, f.Error, "starting up")
}

// A fault of the runner ends as a result too.
func TestPanic(t *testing.T) {
	log := slog.New(panicsAt{slog.DiscardHandler, "directory read"})
	f := mustFail(t, migrateWith(t.Context(), t, Options{Dir: migrations.Dir(t, files{"1.sql": "SELECT 1;"}), URL: "postgres://127.0.0.1/db", Log: log}), v1alpha1.Internal)
	mustContain(t, f.Error, "panic: no log")
}

type panicsAt struct {
	slog.Handler
	message string
}

func (h panicsAt) Enabled(context.Context, slog.Level) bool { return true }

func (h panicsAt) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		panic("no log")
	}
	return nil
}

func TestClassOfState(t *testing.T) {
	for code, want := range map[string]v1alpha1.FailureClass{
		"55P03": v1alpha1.LockTimeout, "40P01": v1alpha1.LockTimeout, "40001": v1alpha1.LockTimeout,
		"57P01": v1alpha1.DatabaseUnreachable, "57P03": v1alpha1.DatabaseUnreachable, "08006": v1alpha1.DatabaseUnreachable, "53300": v1alpha1.DatabaseUnreachable,
		"42601": v1alpha1.StatementFailed, "57014": v1alpha1.StatementFailed, "53100": v1alpha1.StatementFailed,
	} {
		if got := classOfState(code); got != want {
			t.Errorf("%s is %s, want %s", code, got, want)
		}
	}
}

// onLine does something when a line with a text is logged for the first time.
type onLine struct {
	*output
	text string
	once sync.Once
	do   func()
}

func (o *onLine) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(o.text)) {
		o.once.Do(o.do)
	}
	return o.output.Write(p)
}

// A statement that was executed is counted, though the run is told to end before the database was asked what it has left.
func TestCancelledBehindConcurrently(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": none + "CREATE INDEX CONCURRENTLY a_i ON a (i);\nSELECT 1;"})
	mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, ToVersion: "1"}))
	ctx, cancel := context.WithCancel(t.Context())
	out := &onLine{output: newOutput(), text: "statement executed", do: cancel}
	mustFail(t, migrateWith(ctx, t, Options{Dir: dir, URL: db, Log: slog.New(slog.NewJSONHandler(out, nil))}), v1alpha1.Interrupted)
	got := migrateTo(t, dir, db)
	mustSucceed(t, got)
	if got.Applied[0].Statements != 1 {
		t.Errorf("result is %+v", got)
	}
}

// A procedure that commits may have done a part of its work: a run that was told to end is tried again, and must not call it again by itself.
func TestInterruptedProcedure(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE log (i int);\n" +
		"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (1); COMMIT; PERFORM pg_sleep(60); END $$;"})
	mustSucceed(t, migrateTo(t, dir, db))
	migrations.Write(t, dir, files{"2.sql": none + "CALL p();"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *v1alpha1.MigrationStatus, 1)
	go func() { done <- migrateWith(ctx, t, Options{Dir: dir, URL: db}) }()
	postgres.Await(t, db, "SELECT count(*) > 0 FROM log")
	cancel()
	f := mustFail(t, <-done, v1alpha1.InDoubt)
	mustContain(t, f.Error, "told to end", "CALL p()")
	id := doubtID(t, f.Error)
	if again := mustFail(t, migrateTo(t, dir, db), v1alpha1.InDoubt); doubtID(t, again.Error) != id {
		t.Errorf("the doubt is another one: %+v", again)
	}
	mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: id, Skip: true}}))
	if n := query(t, db, "SELECT count(*) FROM log"); n != "1" {
		t.Errorf("%s rows", n)
	}
}
