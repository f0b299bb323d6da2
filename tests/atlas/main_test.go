// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
	"github.com/subganapathy/automatic-db-upgrades/tests/runner"
)

var (
	server *postgres.Server
	maria  *mariadb.Server
	binary string // the runner
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	sql.Register("postgres", stdlib.GetDefaultDriver()) // the name by which Atlas's library opens it
	dir, err := os.MkdirTemp("", "runner")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = runner.Build(dir); err != nil {
		log.Print(err)
		return 1
	}
	if maria, err = mariadb.Run(); err != nil && !errors.Is(err, mariadb.ErrNotInstalled) {
		log.Print(err)
		return 1
	}
	defer maria.Close()
	return postgres.Main(m, &server)
}

// files are the contents of migration files by name.
type files map[string]string

// first has the n first files.
func (f files) first(n int) files {
	some := files{}
	for _, name := range slices.Sorted(maps.Keys(f))[:n] {
		some[name] = f[name]
	}
	return some
}

// and has one file more, 2.sql.
func (f files) and(content string) files {
	more := maps.Clone(f)
	more["2.sql"] = content
	return more
}

// runnerCommand is the runner as a Job runs it. The file gets its result.
func runnerCommand(t *testing.T, dir, url string, flags ...string) (*exec.Cmd, string) {
	t.Helper()
	message := filepath.Join(t.TempDir(), "termination-log")
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"migrate", "--dir=" + dir, "--termination-log=" + message}, flags...)...)
	cmd.Env = []string{"DATABASE_URL=" + url}
	return cmd, message
}

// runnerMigrates runs the runner to its end, and checks that exit code and result agree.
func runnerMigrates(t *testing.T, dir, url string, flags ...string) *v1alpha1.MigrationStatus {
	t.Helper()
	cmd, message := runnerCommand(t, dir, url, flags...)
	return runnerEnds(t, cmd, message, io.Discard)
}

// runnerEnds is runnerMigrates for a command, whose output somebody else wants to see too, line by line.
func runnerEnds(t *testing.T, cmd *exec.Cmd, message string, lines io.Writer) *v1alpha1.MigrationStatus {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout = io.MultiWriter(&out, lines)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	data, readErr := os.ReadFile(message)
	if readErr != nil {
		t.Fatalf("no result: %v, %v\n%s", readErr, err, out.String())
	}
	res, parseErr := result.Parse(string(data))
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	want := 0
	if f := res.Failure(); f != nil {
		want = int(result.ClassOf(f.Class).ExitCode)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("exit code is %d, want %d of %s\n%s", got, want, data, out.String())
	}
	return res.Migration
}

func runnerSucceeds(t *testing.T, dir, url string, flags ...string) *v1alpha1.MigrationStatus {
	t.Helper()
	got := runnerMigrates(t, dir, url, flags...)
	if got.Failure != nil {
		t.Fatalf("the runner failed: %+v", *got.Failure)
	}
	return got
}

// cli runs the Atlas CLI.
func cli(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(filepath.Join("..", "..", "bin", "atlas"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the Atlas CLI is missing, 'make bin/atlas' builds it: %v", err)
		}
		t.Skipf("SKIPPED, NOT TESTED: the Atlas CLI is missing, 'make bin/atlas' builds it: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "ATLAS_NO_UPDATE_NOTIFIER=true", "ATLAS_NO_UPGRADE_SUGGESTIONS=true")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// cliApplies applies n files, or all for no n.
func cliApplies(t *testing.T, dir, url string, n ...string) {
	t.Helper()
	out, err := cli(t, append([]string{"migrate", "apply", "--dir=file://" + dir, "--url=" + url}, n...)...)
	if err != nil {
		t.Fatalf("atlas migrate apply: %v\n%s", err, out)
	}
}

// status is what the CLI says about a database.
type status struct {
	Status, Current, Next, Error, SQL string
	Count, Total                      int
}

func cliStatus(t *testing.T, dir, url string) status {
	t.Helper()
	out, err := cli(t, "migrate", "status", "--dir=file://"+dir, "--url="+url, "--format={{ json . }}")
	if err != nil {
		t.Fatalf("atlas migrate status: %v\n%s", err, out)
	}
	var s status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return s
}

// rows returns a query's rows as JSON, one a line.
func rows(t *testing.T, url, sql string) string {
	t.Helper()
	conn := postgres.Connect(t, url)
	defer func() { _ = conn.Close(t.Context()) }()
	var text string
	err := conn.QueryRow(t.Context(), "SELECT coalesce(string_agg(to_jsonb(q)::text, E'\\n'), '') FROM ("+sql+") q").Scan(&text)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}
