// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// trial is one input, given to the runner and to the oracle, each with an empty database.
type trial struct {
	name   string
	engine *engine // nil for all
	// files, of which the first ones were applied earlier, by the CLI.
	files   files
	earlier files
	// setup is executed before, in another session.
	setup string
	// hold is executed before in a session that lasts until the run has ended, as one that has a lock.
	hold string
	// refused is called when the runner has been refused a lock and is about to ask again; nil where it does not come to that.
	refused func(runner *exec.Cmd, release func())
	// flags are of both, those of runner only its own.
	flags, runner []string
	// query is added to the URL for both.
	query string
	// variables of the session are given to the CLI in the URL, where the runner has options for them.
	variables string
	// oracle stands in for the CLI where it cannot do it.
	oracle func(t *testing.T, dir, url, schema string) error
	// repair is executed afterwards, and all is run once more.
	repair string
	// class of the runner's failure, empty where it succeeds.
	class v1alpha1.FailureClass
	// resolved is its class after the repair.
	resolved v1alpha1.FailureClass
	// differs lists in what the runner wants to be different.
	differs []difference
}

// difference names a wanted difference, which docs/cli-differences.md explains, and what of the outcome differs by it.
type difference struct {
	name    string
	engine  *engine // nil for all
	aspects []string
}

// on is the difference where it occurs with one engine only.
func (d difference) on(e *engine) difference {
	d.engine = e
	return d
}

// repaired begins the aspects of the second run.
const repaired = "after the repair: "

// outcome is what is compared, by aspect.
type outcome map[string]string

func TestAgreement(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			url := e.database(t)
			for _, c := range trials {
				if c.engine == nil || c.engine == e {
					t.Run(c.name, func(t *testing.T) { c.run(t, e, url) })
				}
			}
		})
	}
}

func (c trial) run(t *testing.T, e *engine, url string) {
	t.Helper()
	byRunner := c.play(t, e, url, func(p place, want v1alpha1.FailureClass) bool {
		return c.byRunner(t, p, want)
	})
	oracle := c.oracle
	if oracle == nil {
		oracle = c.byCLI
	}
	byCLI := c.play(t, e, url, func(p place, _ v1alpha1.FailureClass) bool {
		return oracle(t, p.dir, withQuery(p.url, c.query), p.schema) != nil
	})
	c.compare(t, e, byCLI, byRunner)
}

// byRunner says whether the runner failed, as it should.
func (c trial) byRunner(t *testing.T, p place, want v1alpha1.FailureClass) bool {
	t.Helper()
	cmd, message := runnerCommand(t, p.dir, withQuery(p.url, c.query), fill(slices.Concat(c.flags, c.runner), p.schema)...)
	got := runnerEnds(t, cmd, message, writer(func(line []byte) {
		if c.refused != nil && bytes.Contains(line, []byte("a lock could not be had in time")) {
			c.refused(cmd, p.release)
		}
	})).Failure
	switch {
	case got == nil && want != "":
		t.Errorf("the runner succeeded, and should fail as %s", want)
	case got != nil && c.refused != nil && got.Class == v1alpha1.Interrupted: // it was asking already
	case got != nil && got.Class != want:
		t.Errorf("the runner failed, and should as %q: %+v", want, *got)
	}
	return got != nil
}

// letGo ends the session that has the lock.
func letGo(_ *exec.Cmd, release func()) { release() }

// giveUp ends the runner.
func giveUp(runner *exec.Cmd, _ func()) { _ = runner.Process.Signal(syscall.SIGTERM) }

// writer is a function that is called with each line.
type writer func([]byte)

func (w writer) Write(line []byte) (int, error) {
	w(line)
	return len(line), nil
}

// byCLI is the usual oracle.
func (c trial) byCLI(t *testing.T, dir, url, schema string) error {
	t.Helper()
	flags := fill(c.flags, schema)
	out, err := cli(t, append([]string{"migrate", "apply", "--dir=file://" + dir, "--url=" + withQuery(url, c.variables)}, flags...)...)
	t.Logf("atlas migrate apply %s\n%s", strings.Join(flags, " "), out)
	return err
}

func (c trial) compare(t *testing.T, e *engine, byCLI, byRunner outcome) {
	t.Helper()
	want := map[string]string{}
	for _, d := range c.differs {
		for _, aspect := range d.aspects {
			if d.engine == nil || d.engine == e {
				want[aspect] = d.name
			}
		}
	}
	for _, aspect := range slices.Sorted(maps.Keys(mergeKeys(byRunner, byCLI, want))) {
		diff := cmp.Diff(byCLI[aspect], byRunner[aspect])
		switch name, listed := want[aspect]; {
		case diff != "" && !listed:
			t.Errorf("%s (-oracle +runner):\n%s", aspect, diff)
		case diff == "" && listed:
			t.Errorf("%s should differ, because of %q, and is the same", aspect, name)
		}
	}
}

// place is where a trial is played: with these files, on this database, which has its history in the schema. release ends the session that
// holds something there.
type place struct {
	dir, url, schema string
	release          func()
}

// play runs the trial on an emptied database, and returns all that one can see afterwards.
func (c trial) play(t *testing.T, e *engine, url string, migrate func(p place, class v1alpha1.FailureClass) (failed bool)) outcome {
	t.Helper()
	e.empty(t, url)
	schema := e.schema(url)
	if slices.ContainsFunc(c.flags, func(flag string) bool { return strings.Contains(flag, elsewhere) }) {
		schema = e.elsewhere(url)
	}
	dir := t.TempDir()
	if c.earlier != nil {
		migrations.Write(t, dir, c.earlier)
		cliApplies(t, dir, url)
	}
	migrations.Write(t, dir, c.files)
	if c.setup != "" {
		e.exec(t, url, fill([]string{c.setup}, schema)[0])
	}
	release := func() {}
	if c.hold != "" {
		release = sync.OnceFunc(e.hold(t, url, c.hold))
	}
	got := outcome{}
	at := place{dir, url, schema, release}
	failed := migrate(at, c.class)
	release()
	got.add("", e, t, at, failed)
	if c.repair != "" {
		e.exec(t, url, c.repair)
		got.add(repaired, e, t, at, migrate(at, c.resolved))
	}
	return got
}

// elsewhere in a flag stands for the other place of the history.
const elsewhere = "ELSEWHERE"

func fill(texts []string, schema string) []string {
	var filled []string
	for _, text := range texts {
		filled = append(filled, strings.ReplaceAll(text, elsewhere, schema))
	}
	return filled
}

func withQuery(url, query string) string {
	switch {
	case query == "":
		return url
	case strings.Contains(url, "?"):
		return url + "&" + query
	default:
		return url + "?" + query
	}
}

// driversWords are those in which each driver wraps PostgreSQL's own.
var driversWords = regexp.MustCompile(`^(?:pq: |ERROR: )?(.*?)(?: \(SQLSTATE \w{5}\))?$`)

func (o outcome) add(prefix string, e *engine, t *testing.T, at place, failed bool) {
	t.Helper()
	o[prefix+"outcome"] = map[bool]string{false: "success", true: "failure"}[failed]
	o[prefix+"dump"] = e.dump(t, at.url)
	for line := range strings.Lines(e.history(t, at.url, at.schema)) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		version := fmt.Sprint(row["version"])
		if row["applied"] == row["total"] {
			delete(row, "partial_hashes") // TestStandingDifferences is about them, and about the words
		}
		if words, ok := row["error"].(string); ok {
			row["error"] = driversWords.ReplaceAllString(words, "$1")
		}
		for column, value := range row {
			o[prefix+column] += fmt.Sprintf("%s: %v\n", version, value)
		}
	}
}

func mergeKeys(all ...map[string]string) map[string]bool {
	keys := map[string]bool{}
	for _, some := range all {
		for key := range some {
			keys[key] = true
		}
	}
	return keys
}

// These differ wherever they can, so trials leave them out.
const (
	completeHashes = "complete-hashes"
	driverWords    = "driver-words"
)

func TestStandingDifferences(t *testing.T) {
	for _, e := range engines {
		dir := migrations.Dir(t, files{"1.sql": createA, "2.sql": none + "CREATE TABLE b (i int);\n" + missing})
		byRunner, byCLI := e.database(t), e.database(t)
		runnerMigrates(t, dir, byRunner)
		_, _ = cli(t, "migrate", "apply", "--dir=file://"+dir, "--url="+byCLI)
		of := func(url string) map[string]any {
			var complete, failed map[string]any
			first, second, _ := strings.Cut(e.history(t, url, e.schema(url)), "\n")
			if err := errors.Join(json.Unmarshal([]byte(first), &complete), json.Unmarshal([]byte(second), &failed)); err != nil {
				t.Fatal(err)
			}
			return map[string]any{completeHashes: complete["partial_hashes"], driverWords: failed["error"]}
		}
		runner, cli := of(byRunner), of(byCLI)
		if runner[completeHashes] != nil || cli[completeHashes] == nil {
			t.Errorf("%s: %s: %v by the runner, %v by the CLI", e.name, completeHashes, runner, cli)
		}
		if e == postgresql && runner[driverWords] == cli[driverWords] {
			t.Errorf("%s: %s: %v by the runner, %v by the CLI", e.name, driverWords, runner, cli)
		}
	}
}

// Each difference is explained, and nothing is explained that does not occur.
func TestDifferencesAreExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli-differences.md"))
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		explained[found[1]] = true
	}
	occurs := map[string]bool{completeHashes: true, driverWords: true}
	for _, c := range trials {
		for _, d := range c.differs {
			occurs[d.name] = true
		}
	}
	if diff := cmp.Diff(explained, occurs); diff != "" {
		t.Errorf("differences (-explained +listed):\n%s", diff)
	}
}
