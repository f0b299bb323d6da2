// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

var server *postgres.Server

// asRunner makes the test's binary behave as the runner itself, so that signals can be sent to it.
const asRunner = "TEST_AS_RUNNER"

func TestMain(m *testing.M) {
	if os.Getenv(asRunner) != "" {
		main()
		return
	}
	os.Exit(postgres.Main(m, &server))
}

func noEnv(string) string { return "" }

// env has the URL of a database where it is looked for by default.
func env(url string) func(string) string {
	return func(name string) string {
		if name == "DATABASE_URL" {
			return url
		}
		return ""
	}
}

// readResult parses what a run left for the kubelet.
func readResult(t *testing.T, path string) result.Result {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	res, err := result.Parse(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]int{
		"": 2, "apply": 2, "migrate --no-such-flag": 2, "migrate extra": 2, "migrate --deadline=soon": 2, "migrate --deadline=0": 2, "fetch --max-files=x": 2, "login extra": 2,
		"--help": 0, "migrate --help": 0, "fetch -h": 0, "login -h": 0, "version": 0,
	} {
		var out bytes.Buffer
		if got := run(t.Context(), strings.Fields(args), noEnv, &out, &out); got != want {
			t.Errorf("%q exits with %d, want %d", args, got, want)
		}
		if out.Len() == 0 {
			t.Errorf("%q says nothing", args)
		}
	}
}

func TestHelpNamesExitCodes(t *testing.T) {
	var out bytes.Buffer
	run(t.Context(), []string{"migrate", "--help"}, noEnv, &out, &out)
	for _, c := range result.Classes() {
		if want := fmt.Sprintf("%d  %s", c.ExitCode, c.Name); !strings.Contains(out.String(), want) {
			t.Errorf("help does not have %q", want)
		}
	}
}

func TestMigrate(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		code int
	}{
		"applied": {"CREATE TABLE a (i int);", 0},
		"refused": {"SELECT 1/0;", 10},
	} {
		t.Run(name, func(t *testing.T) {
			message := filepath.Join(t.TempDir(), "message")
			var out bytes.Buffer
			code := run(t.Context(), []string{"migrate", "--dir=" + migrations.Dir(t, map[string]string{"1.sql": c.sql}), "--deadline=60", "--termination-log=" + message}, env(server.NewDatabase(t)), &out, &out)
			if code != c.code {
				t.Errorf("exit code is %d, want %d\n%s", code, c.code, &out)
			}
			res := readResult(t, message)
			if (res.Failure() != nil) != (c.code != 0) || res.Migration.Total != 1 {
				t.Errorf("result is %+v", res.Migration)
			}
			for line := range strings.Lines(out.String()) {
				var fields map[string]any
				if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["msg"] == "" || fields["step"] != "migrate" {
					t.Errorf("not a log line: %s", line)
				}
			}
		})
	}
}

func TestFetchFailure(t *testing.T) {
	message := filepath.Join(t.TempDir(), "message")
	var out bytes.Buffer
	code := run(t.Context(), []string{"fetch", "--image=not an image", "--out=" + t.TempDir(), "--termination-log=" + message}, noEnv, &out, &out)
	f := readResult(t, message).Failure()
	if f == nil || f.Error == "" || code != int(result.ClassOf(f.Class).ExitCode) {
		t.Errorf("exit code is %d, failure is %+v", code, f)
	}
}

func TestResultCannotBeWritten(t *testing.T) {
	var out bytes.Buffer
	args := []string{"migrate", "--dir=" + migrations.Dir(t, map[string]string{"1.sql": "SELECT 1;"}), "--termination-log=" + filepath.Join(t.TempDir(), "missing", "message")}
	if code := run(t.Context(), args, env(server.NewDatabase(t)), &out, &out); code != 16 {
		t.Errorf("exit code is %d, want 16", code)
	}
}

func TestSignal(t *testing.T) {
	db := server.NewDatabase(t)
	message := filepath.Join(t.TempDir(), "message")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "migrate", "--dir="+migrations.Dir(t, map[string]string{"1.sql": "SELECT pg_sleep(60);"}), "--termination-log="+message)
	cmd.Env = []string{asRunner + "=1", "DATABASE_URL=" + db}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	postgres.AwaitSleep(t, db)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 33 {
		t.Errorf("exit code is %d, want 33", code)
	}
	if f := readResult(t, message).Failure(); f == nil || f.Class != v1alpha1.Interrupted || f.File != "1.sql" || f.Statement != 1 {
		t.Errorf("failure is %+v", f)
	}
}

func TestDocumentedExitCodes(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "runner.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \| (yes|no) \| (\w+) \|`).FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, strings.Join(row[1:], " "))
	}
	var classes []string
	for _, c := range result.Classes() {
		again := "no"
		if c.Retryable {
			again = "yes"
		}
		classes = append(classes, fmt.Sprintf("%d %s %s %s", c.ExitCode, c.Name, again, c.Reason))
	}
	if diff := cmp.Diff(classes, documented); diff != "" {
		t.Errorf("docs/runner.md (-code +docs):\n%s", diff)
	}
}
