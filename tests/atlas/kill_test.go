// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

const (
	// kills is how many runs are killed for each engine and mode.
	kills = 100
	// maxRuns is how many runs may be needed after a kill: each can at most stop at a doubt that is resolved then.
	maxRuns = 5
)

// step is a statement, and SQL that tells whether it took effect, empty where it has none.
type step struct{ sql, effect string }

// sweep is a series of kills in one way to migrate.
type sweep struct {
	engine *engine
	mode   string
	// doubtful matches the statements that may be left in doubt, nil if none may.
	doubtful *regexp.Regexp
}

var sweeps = []sweep{
	{postgresql, "file", nil},
	{postgresql, "all", nil},
	{postgresql, "none", regexp.MustCompile("")},
	{mysql, "file", regexp.MustCompile("^(CREATE|ALTER) ")},
	{mysql, "none", regexp.MustCompile("")},
}

// steps are files that count how often each of their statements took effect. Every other one only changes data.
func (s sweep) steps() map[string][]step {
	audit := func(n, i int) step {
		name := fmt.Sprintf("%d.%d", n, i)
		return step{"INSERT INTO audit VALUES ('" + name + "')", "SELECT COUNT(*) > 0 FROM audit WHERE statement = '" + name + "'"}
	}
	pause := step{fmt.Sprintf(s.engine.sleep, 0.01), ""}
	all := map[string][]step{"0.sql": {{"CREATE TABLE audit (statement text)", s.engine.columns("audit", 1)}}}
	for n := 1; n <= 4; n++ {
		steps := []step{audit(n, 1), pause, audit(n, 3)}
		if table := fmt.Sprintf("t%d", n); n%2 == 1 {
			steps = []step{
				{"CREATE TABLE " + table + " (i int)", s.engine.columns(table, 1)}, audit(n, 2), pause,
				{"ALTER TABLE " + table + " ADD COLUMN j int", s.engine.columns(table, 2)}, audit(n, 5),
			}
		}
		all[fmt.Sprintf("%d.sql", n)] = steps
	}
	return all
}

// columns is SQL that tells whether a table has at least n columns.
func (e *engine) columns(table string, n int) string {
	return fmt.Sprintf("SELECT COUNT(*) >= %d FROM information_schema.columns WHERE table_schema = %s AND table_name = '%s'", n, e.current, table)
}

// TestKilledAtAnyMoment kills the runner without warning, again and again, and lets the next one go on at once. However that falls, the
// database must end up as after one undisturbed run: by itself, or with the help of somebody who looks whether a statement took effect.
func TestKilledAtAnyMoment(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range sweeps {
				if s.engine == e {
					t.Run(s.mode, s.run)
				}
			}
		})
	}
}

func (s sweep) run(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	k := &killer{sweep: s, random: rand.New(rand.NewPCG(seed, seed)), files: s.steps(), resolved: map[string]int{}}
	content := files{}
	for name, steps := range k.files {
		for _, step := range steps {
			content[name] += step.sql + ";\n"
		}
	}
	k.dir, k.db = migrations.Dir(t, content), s.engine.database(t)
	s.engine.empty(t, k.db)
	start := time.Now()
	runnerSucceeds(t, k.dir, k.db, "--tx-mode="+s.mode)
	k.whole = time.Since(start)
	k.undisturbed = k.show(t)
	for k.killed < kills && k.ended <= kills && !t.Failed() {
		k.round(t)
	}
	t.Logf("seed %d: %d runs of %s killed, %d had ended before; doubts resolved: %v", seed, k.killed, k.whole.Round(time.Millisecond), k.ended, k.resolved)
	if k.ended > kills {
		t.Errorf("%d runs had ended before they were killed: the sweep misses its point", k.ended)
	}
}

type killer struct {
	sweep
	random        *rand.Rand
	files         map[string][]step
	dir, db       string
	whole         time.Duration // of an undisturbed run
	undisturbed   map[string]string
	killed, ended int // runs
	resolved      map[string]int
}

// show is what there is in the database.
func (k *killer) show(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"dump": k.engine.dump(t, k.db), "history": k.engine.history(t, k.db, k.engine.schema(k.db))}
}

// round kills some runs on an empty database, lets another one end, and looks what has become of it.
func (k *killer) round(t *testing.T) {
	t.Helper()
	k.engine.empty(t, k.db)
	for again := true; again; again = again && k.random.IntN(2) == 0 {
		cmd, _ := runnerCommand(t, k.dir, k.db, "--tx-mode="+k.mode)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(k.random.Int64N(int64(k.whole)))) // the moment is what is tested
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if cmd.ProcessState.Exited() {
			k.ended++
			k.whole -= k.whole / 10 // the machine has become faster, or less busy
			again = false
		} else {
			k.killed++
			k.whole += k.whole / 40
		}
		if k.random.IntN(2) == 0 {
			k.engine.cut(t, k.db) // as where the machine of the runner is lost, else the database goes on with the statement
		}
	}
	got := k.settle(t)
	if got.CurrentVersion != "4" || got.Pending != 0 {
		t.Fatalf("result is %+v", got)
	}
	if diff := cmp.Diff(k.undisturbed, k.show(t)); diff != "" {
		t.Errorf("database (-undisturbed +killed):\n%s", diff)
	}
	k.engine.await(t, k.db, k.engine.free)
}

// settle runs the runner until it succeeds, and resolves the doubts that it finds.
func (k *killer) settle(t *testing.T) *v1alpha1.MigrationStatus {
	t.Helper()
	flags := []string{"--tx-mode=" + k.mode}
	for range maxRuns {
		got := runnerMigrates(t, k.dir, k.db, flags...)
		if got.Failure == nil {
			return got
		}
		way := k.resolve(t, got.Failure)
		k.resolved[way]++
		flags = []string{"--tx-mode=" + k.mode, "--resolve=" + way + ":" + doubtID(t, got.Failure)}
	}
	t.Fatalf("%d runs were not enough", maxRuns)
	return nil
}

// resolve looks whether a statement in doubt took effect, and returns what is to be done with it: skip or redo.
func (k *killer) resolve(t *testing.T, f *v1alpha1.Failure) string {
	t.Helper()
	if f.Class != v1alpha1.InDoubt || f.File == "" || f.Statement < 1 || int(f.Statement) > len(k.files[f.File]) {
		t.Fatalf("the failure is %+v", *f)
	}
	doubtful := k.files[f.File][f.Statement-1]
	if k.doubtful == nil || !k.doubtful.MatchString(doubtful.sql) || !strings.Contains(f.Error, doubtful.sql) {
		t.Fatalf("%s is in doubt: %+v", doubtful.sql, *f)
	}
	// Nobody can say of a statement without effect whether it was executed, and it does not matter.
	if doubtful.effect == "" {
		return []string{"skip", "redo"}[k.random.IntN(2)]
	}
	if k.engine.is(t, k.db, doubtful.effect) {
		return "skip"
	}
	return "redo"
}

var offered = regexp.MustCompile(`redo:([A-Z2-7]{8})\b`)

// doubtID is the ID that a failure names, with both ways out.
func doubtID(t *testing.T, f *v1alpha1.Failure) string {
	t.Helper()
	found := offered.FindStringSubmatch(f.Error)
	if f.Class != v1alpha1.InDoubt || found == nil || !strings.Contains(f.Error, "skip:"+found[1]) {
		t.Fatalf("the failure names no ways out: %+v", *f)
	}
	return found[1]
}

// A kill while a statement runs outside of a transaction leaves a doubt, never a second execution, and both ways out lead on.
func TestKilledOutsideTransaction(t *testing.T) {
	for _, e := range engines {
		for _, way := range []string{"skip", "redo"} {
			t.Run(e.name+"/"+way, func(t *testing.T) {
				db, dir := e.database(t), migrations.Dir(t, files{
					"1.sql": none + "CREATE TABLE audit (statement text);\nCREATE TABLE slow AS " + fmt.Sprintf(e.sleep, 3.0) + ";\nINSERT INTO audit VALUES ('1.3');",
				})
				cmd, _ := runnerCommand(t, dir, db)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				e.awaitSlow(t, db)
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if way == "redo" {
					e.cut(t, db)
				}
				// Else the database goes on with the statement and keeps the lock: the next run waits for that, and then finds the doubt.
				got := runnerMigrates(t, dir, db)
				if got.Failure == nil || got.Failure.Statement != 2 || got.Failure.File != "1.sql" {
					t.Fatalf("result is %+v", got.Failure)
				}
				id := doubtID(t, got.Failure)
				if effect := e.is(t, db, e.columns("slow", 1)); effect != (way == "skip") {
					t.Fatalf("the statement took effect: %t", effect)
				}
				before := e.history(t, db, e.schema(db))
				for _, stale := range []string{"skip:AAAAAAAA", "redo:AAAAAAAA"} {
					if got := runnerMigrates(t, dir, db, "--resolve="+stale); got.Failure == nil || doubtID(t, got.Failure) != id {
						t.Errorf("with %s: %+v", stale, got)
					}
				}
				if diff := cmp.Diff(before, e.history(t, db, e.schema(db))); diff != "" {
					t.Errorf("what resolves another doubt changed the history:\n%s", diff)
				}
				if s := cliStatus(t, dir, db); s.Status != "PENDING" || s.Count != 1 || s.Error == "" {
					t.Errorf("the CLI's status is %+v", s)
				}
				runnerSucceeds(t, dir, db, "--resolve="+way+":"+id)
				if !e.is(t, db, "SELECT COUNT(*) = 1 FROM audit") || !e.is(t, db, "SELECT COUNT(*) = 1 FROM slow") {
					t.Error("a statement was not executed once")
				}
				if s := cliStatus(t, dir, db); s.Status != "OK" || s.Error != "" {
					t.Errorf("the CLI's status is %+v", s)
				}
				if got := runnerSucceeds(t, dir, db, "--resolve="+way+":"+id); len(got.Applied) != 0 {
					t.Errorf("the runner found something to do: %+v", got)
				}
			})
		}
	}
}
