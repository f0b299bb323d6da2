// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

const (
	none = "-- atlas:txmode none\n\n"
	file = "-- atlas:txmode file\n\n"
)

var history = files{
	"20260101000000_init.sql":  "-- the beginning\nCREATE TABLE a (i int PRIMARY KEY, t text DEFAULT 'x;y');\nINSERT INTO a VALUES (1);\n",
	"20260102000000_func.sql":  "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$;\nINSERT INTO a VALUES (one() + 1);\n",
	"20260103000000_index.sql": none + "CREATE INDEX CONCURRENTLY a_t ON a (t);\nINSERT INTO a VALUES (3);\n",
	"20260104000000.sql":       "ALTER TABLE a ADD COLUMN u text;\n",
}

// revisionRows leaves out what two runs can never agree in: when they ran, how long they took, and who they were. The hashes of the
// statements of a complete file are left out too: this release of the CLI keeps them, newer ones and the runner clear them.
const revisionRows = `SELECT version, description, type, applied, total, error, error_stmt, hash,
	CASE WHEN applied < total THEN partial_hashes END AS partial_hashes
	FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version`

func TestStatusAfterRunner(t *testing.T) {
	db, dir := server.NewDatabase(t), migrations.Dir(t, history)
	runnerSucceeds(t, dir, db)
	if s := cliStatus(t, dir, db); s.Status != "OK" || s.Current != "20260104000000" {
		t.Errorf("status is %+v", s)
	}
	before := rows(t, db, "SELECT * FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version")
	cliApplies(t, dir, db)
	if diff := cmp.Diff(before, rows(t, db, "SELECT * FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version")); diff != "" {
		t.Errorf("the CLI found something to do:\n%s", diff)
	}
}

func TestRunnerAfterCLI(t *testing.T) {
	for _, n := range []string{"1", "3"} {
		db, dir := server.NewDatabase(t), migrations.Dir(t, history)
		cliApplies(t, dir, db, n)
		got := runnerSucceeds(t, dir, db)
		if want := 4 - int(n[0]-'0'); len(got.Applied) != want || got.Pending != 0 || got.CurrentVersion != "20260104000000" {
			t.Errorf("after %s files of the CLI: %+v", n, got)
		}
		if s := cliStatus(t, dir, db); s.Status != "OK" {
			t.Errorf("status is %+v", s)
		}
	}
}

func TestCLIAfterRunner(t *testing.T) {
	for n := 1; n < len(history); n++ {
		db := server.NewDatabase(t)
		runnerSucceeds(t, migrations.Dir(t, history.first(n)), db)
		dir := migrations.Dir(t, history)
		if s := cliStatus(t, dir, db); s.Status != "PENDING" {
			t.Errorf("status is %+v", s)
		}
		cliApplies(t, dir, db)
		if got := rows(t, db, "SELECT count(*) FROM a"); got != `{"count": 3}` {
			t.Errorf("rows: %s", got)
		}
		if got := runnerSucceeds(t, dir, db); len(got.Applied) != 0 {
			t.Errorf("the runner found something to do: %+v", got)
		}
	}
}

func TestRowsAgree(t *testing.T) {
	cases := map[string]struct {
		content files
		fails   bool
	}{
		"success":                {history, false},
		"fails in a transaction": {files{"1.sql": "CREATE TABLE a (i int);", "2.sql": "SELECT 1;\nSELECT 1/0;"}, true},
		"fails without one":      {files{"1.sql": "CREATE TABLE a (i int);", "2.sql": none + "SELECT 1;\nSELECT 1/0;\nSELECT 2;"}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := migrations.Dir(t, c.content)
			byRunner, byCLI := server.NewDatabase(t), server.NewDatabase(t)
			if got := runnerMigrates(t, dir, byRunner); (got.Failure != nil) != c.fails {
				t.Fatalf("runner: %+v", got.Failure)
			}
			if out, err := cli(t, "migrate", "apply", "--dir=file://"+dir, "--url="+byCLI); (err != nil) != c.fails {
				t.Fatalf("CLI: %v\n%s", err, out)
			}
			// Each driver has its own way to present the database's words.
			words := strings.NewReplacer("pq: division by zero", "division by zero", "ERROR: division by zero (SQLSTATE 22012)", "division by zero")
			if diff := cmp.Diff(words.Replace(rows(t, byCLI, revisionRows)), words.Replace(rows(t, byRunner, revisionRows))); diff != "" {
				t.Errorf("rows (-CLI +runner):\n%s", diff)
			}
		})
	}
}

func TestTablesAgree(t *testing.T) {
	for schema, query := range map[string]string{"atlas_schema_revisions": "", "public": "&search_path=public", "app": "&search_path=app"} {
		t.Run(schema, func(t *testing.T) {
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
			byRunner, byCLI := server.NewDatabase(t), server.NewDatabase(t)
			runnerSucceeds(t, dir, byRunner+query)
			cliApplies(t, dir, byCLI+query)
			for what, sql := range map[string]string{
				"columns": `SELECT table_schema, table_name, column_name, ordinal_position, column_default, is_nullable, data_type, udt_name,
					character_maximum_length, numeric_precision, datetime_precision, collation_name, is_identity
					FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, 4`,
				"indexes":     "SELECT * FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog') ORDER BY schemaname, tablename, indexname",
				"constraints": "SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = '" + schema + "'::regnamespace ORDER BY 1",
				"schemas":     "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
			} {
				if diff := cmp.Diff(rows(t, byCLI, sql), rows(t, byRunner, sql)); diff != "" {
					t.Errorf("%s (-CLI +runner):\n%s", what, diff)
				}
			}
		})
	}
}

// A file that failed without a transaction is gone on with by either, whoever began it.
func TestResumedByTheOther(t *testing.T) {
	content := files{"1.sql": none + "CREATE TABLE a (i int);\nINSERT INTO a VALUES (1);\nINSERT INTO b VALUES (1);\nINSERT INTO a VALUES (2);"}
	create := "CREATE SCHEMA later; CREATE TABLE public.b (i int)"
	for name, runnerBegins := range map[string]bool{"runner, then CLI": true, "CLI, then runner": false} {
		t.Run(name, func(t *testing.T) {
			dir, db := migrations.Dir(t, content), server.NewDatabase(t)
			if runnerBegins {
				if got := runnerMigrates(t, dir, db); got.Failure == nil || got.Failure.Class != v1alpha1.StatementFailed || got.Failure.Statement != 3 {
					t.Fatalf("runner: %+v", got)
				}
				s := cliStatus(t, dir, db)
				if s.Count != 2 || s.Total != 4 || !strings.Contains(s.Error, "does not exist") || s.SQL != "INSERT INTO b VALUES (1);" {
					t.Errorf("status is %+v", s)
				}
			} else if out, err := cli(t, "migrate", "apply", "--dir=file://"+dir, "--url="+db); err == nil {
				t.Fatalf("CLI: %s", out)
			}
			postgres.Exec(t, db, create)
			if runnerBegins {
				cliApplies(t, dir, db)
			} else if got := runnerSucceeds(t, dir, db); got.Applied[0].Statements != 2 {
				t.Errorf("runner: %+v", got)
			}
			if got := rows(t, db, "SELECT i FROM a ORDER BY i"); got != "{\"i\": 1}\n{\"i\": 2}" {
				t.Errorf("rows: %s", got)
			}
			if s := cliStatus(t, dir, db); s.Status != "OK" {
				t.Errorf("status is %+v", s)
			}
			if got := runnerSucceeds(t, dir, db); len(got.Applied) != 0 {
				t.Errorf("runner: %+v", got)
			}
		})
	}
}

// Each keeps out the other.
func TestLock(t *testing.T) {
	db, dir := server.NewDatabase(t), migrations.Dir(t, files{"1.sql": "SELECT pg_sleep(60);"})
	cmd, _ := runnerCommand(t, dir, db)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	postgres.AwaitSleep(t, db)
	out, err := cli(t, "migrate", "apply", "--dir=file://"+dir, "--url="+db, "--lock-timeout=0s")
	if err == nil || !strings.Contains(out, "acquiring database lock") {
		t.Errorf("the CLI was not kept out: %v\n%s", err, out)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}
