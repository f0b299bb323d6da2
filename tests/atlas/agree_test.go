// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// trial is one input, given to the runner and to the oracle, each with a database of its own.
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
	// patience is how long that session waits before it ends while the run is under way; zero for until that has ended.
	patience time.Duration
	// flags are of both, runner and cli of one.
	flags, runner, cli []string
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
			for _, c := range trials {
				if c.engine == nil || c.engine == e {
					t.Run(c.name, func(t *testing.T) { c.run(t, e) })
				}
			}
		})
	}
}

func (c trial) run(t *testing.T, e *engine) {
	t.Helper()
	byRunner := c.play(t, e, func(dir, url, schema string, want v1alpha1.FailureClass) bool {
		got := runnerMigrates(t, dir, url, fill(slices.Concat(c.flags, c.runner), schema)...).Failure
		switch {
		case got == nil && want != "":
			t.Errorf("the runner succeeded, and should fail as %s", want)
		case got != nil && want == v1alpha1.DeadlineExceeded && got.Class == v1alpha1.LockTimeout: // it passed between two tries
		case got != nil && got.Class != want:
			t.Errorf("the runner failed, and should as %q: %+v", want, *got)
		}
		return got != nil
	})
	oracle := c.oracle
	if oracle == nil {
		oracle = c.byCLI
	}
	byCLI := c.play(t, e, func(dir, url, schema string, _ v1alpha1.FailureClass) bool {
		return oracle(t, dir, url, schema) != nil
	})
	c.compare(t, e, byCLI, byRunner)
}

// byCLI is the usual oracle.
func (c trial) byCLI(t *testing.T, dir, url, schema string) error {
	t.Helper()
	flags := fill(slices.Concat(c.flags, c.cli), schema)
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

// play runs the trial on a database of its own, and returns all that one can see afterwards.
func (c trial) play(t *testing.T, e *engine, migrate func(dir, url, schema string, class v1alpha1.FailureClass) (failed bool)) outcome {
	t.Helper()
	url := e.database(t)
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
	if c.patience > 0 {
		defer time.AfterFunc(c.patience, release).Stop()
	}
	got := outcome{}
	failed := migrate(dir, url, schema, c.class)
	release()
	got.add("", e, t, url, schema, failed)
	if c.repair != "" {
		e.exec(t, url, c.repair)
		got.add(repaired, e, t, url, schema, migrate(dir, url, schema, c.resolved))
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

// Words in which each driver wraps those of the database, and the name of the database, which differs.
var (
	pgWords    = regexp.MustCompile(`^(?:pq: |ERROR: )?(.*?)(?: \(SQLSTATE \w{5}\))?$`)
	mysqlWords = regexp.MustCompile(`^Error (\d+)(?: \(\w{5}\))?: `)
)

func (o outcome) add(prefix string, e *engine, t *testing.T, url, schema string, failed bool) {
	t.Helper()
	o[prefix+"outcome"] = map[bool]string{false: "success", true: "failure"}[failed]
	o[prefix+"dump"] = e.dump(t, url)
	text := strings.ReplaceAll(e.history(t, url, schema), nameOf(url), "test")
	for line := range strings.Lines(text) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		version := fmt.Sprint(row["version"])
		if row["applied"] == row["total"] {
			delete(row, "partial_hashes") // TestHashesOfCompleteFiles is about them
		}
		if words, ok := row["error"].(string); ok {
			row["error"] = mysqlWords.ReplaceAllString(pgWords.ReplaceAllString(words, "$1"), "Error $1: ")
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
	occurs := map[string]bool{}
	for _, c := range trials {
		for _, d := range c.differs {
			occurs[d.name] = true
		}
	}
	if diff := cmp.Diff(explained, occurs); diff != "" {
		t.Errorf("differences (-explained +listed):\n%s", diff)
	}
}
