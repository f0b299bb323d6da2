// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

const kills = 100

// swept is a directory that counts how often each of its statements took effect.
func swept() files {
	content := files{"0.sql": "CREATE TABLE audit (statement text);"}
	for n := 1; n <= 6; n++ {
		content[fmt.Sprintf("%d_step.sql", n)] = fmt.Sprintf(`
			CREATE TABLE t%[1]d (i int);
			INSERT INTO audit VALUES ('%[1]d.2');
			SELECT pg_sleep(0.01);
			ALTER TABLE t%[1]d ADD COLUMN j int;
			INSERT INTO audit VALUES ('%[1]d.5');`, n)
	}
	return content
}

const (
	sweptSchema = "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY table_schema, table_name, ordinal_position"
	sweptAudit  = "SELECT statement, count(*) FROM audit GROUP BY statement ORDER BY statement"
)

// TestKilledAtAnyMoment kills the runner without warning, again and again, and lets the next one go on at once. However that falls, the
// database must end up as after one undisturbed run.
func TestKilledAtAnyMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, seed))
	t.Logf("seed %d", seed)
	dir, undisturbed := migrations.Dir(t, swept()), server.NewDatabase(t)
	start := time.Now()
	runnerSucceeds(t, dir, undisturbed)
	whole := time.Since(start)
	ended := 0 // runs that were over before the kill
	db := server.NewDatabase(t)
	check := func() {
		t.Helper()
		got := runnerSucceeds(t, dir, db)
		if got.CurrentVersion != "6" || got.Pending != 0 {
			t.Fatalf("result is %+v", got)
		}
		for _, sql := range []string{sweptSchema, sweptAudit, revisionRows} {
			if diff := cmp.Diff(rows(t, undisturbed, sql), rows(t, db, sql)); diff != "" {
				t.Fatalf("database (-undisturbed +killed):\n%s", diff)
			}
		}
		unlocked(t, db)
	}
	for range kills {
		cmd, _ := runnerCommand(t, dir, db)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(whole)))) // the moment is what is tested
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if cmd.ProcessState.Success() {
			ended++
			whole -= whole / 10 // the machine has become faster, or less busy
		} else {
			whole += whole / 40
		}
		if random.IntN(3) == 0 || cmd.ProcessState.Success() { // else the next one is killed on top
			check()
			db = server.NewDatabase(t)
		}
	}
	check()
	t.Logf("%d runs of %s killed, %d had ended before", kills, whole.Round(time.Millisecond), ended)
	if ended > kills/2 {
		t.Errorf("%d of %d runs had ended before they were killed: the sweep misses its point", ended, kills)
	}
}

// A kill while a statement runs outside of a transaction leaves a doubt, never a second execution.
func TestKilledOutsideTransaction(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": none + "CREATE TABLE audit (statement text);\nINSERT INTO audit SELECT '1.2' FROM pg_sleep(1);\nINSERT INTO audit VALUES ('1.3');"})
	cmd, _ := runnerCommand(t, dir, db)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	postgres.AwaitSleep(t, db)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	// The database goes on with the statement and keeps the lock: the next run waits for that, and then finds the doubt.
	got := runnerMigrates(t, dir, db)
	if got.Failure == nil || got.Failure.Class != v1alpha1.InDoubt || got.Failure.Statement != 2 || got.Failure.File != "1.sql" {
		t.Errorf("result is %+v", got)
	}
	if audit := rows(t, db, sweptAudit); audit != `{"count": 1, "statement": "1.2"}` {
		t.Errorf("audit: %s", audit)
	}
	if s := cliStatus(t, dir, db); s.Status != "PENDING" || s.Count != 1 || s.Error == "" {
		t.Errorf("the CLI's status is %+v", s)
	}
}

// unlocked waits until nobody holds an advisory lock: a backend notices the end of its client a moment later.
func unlocked(t *testing.T, db string) {
	t.Helper()
	postgres.Await(t, db, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
}
