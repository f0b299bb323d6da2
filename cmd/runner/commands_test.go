// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// execute runs the program and returns its exit code, and all that it has said anywhere.
func execute(t *testing.T, getenv func(string) string, args ...string) (int, string) {
	t.Helper()
	message := filepath.Join(t.TempDir(), "message")
	var out bytes.Buffer
	code := run(t.Context(), append(args, "--termination-log="+message), getenv, &out, &out)
	result, err := os.ReadFile(message)
	if err != nil && code != exitUsage {
		t.Errorf("no result: %v\n%s", err, &out)
	}
	return code, out.String() + string(result)
}

func TestLintCommand(t *testing.T) {
	clean := migrations.Dir(t, map[string]string{"1.sql": "CREATE TABLE a (i int);"})
	drops := migrations.Dir(t, map[string]string{"1.sql": "DROP TABLE a;", "2.sql": "CREATE TABLE b (i int);"})
	broken := migrations.Dir(t, map[string]string{"1.sql": "SELECT 1;"})
	if err := os.WriteFile(filepath.Join(broken, "1.sql"), []byte("SELECT 2;"), 0o600); err != nil {
		t.Fatal(err)
	}
	goose := t.TempDir()
	if err := os.WriteFile(filepath.Join(goose, "1_a.sql"), []byte("-- +goose Up\nDROP TABLE a;\n-- +goose Down\nCREATE TABLE a (i int);\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args  []string
		code  int
		words string
	}{
		"clean":               {[]string{"--dir=" + clean}, 0, `"findings":0`},
		"an error":            {[]string{"--dir=" + drops}, 17, "DS102"},
		"not among the last":  {[]string{"--dir=" + drops, "--latest=1"}, 0, `"files":1`},
		"not intact":          {[]string{"--dir=" + broken}, 11, "edited"},
		"another format":      {[]string{"--dir=" + goose, "--format=goose"}, 17, `"line":2`},
		"another dialect":     {[]string{"--dir=" + drops, "--dialect=mysql"}, 17, "DS102"},
		"no such dialect":     {[]string{"--dir=" + drops, "--dialect=oracle"}, 2, "must be one of postgres, mysql"},
		"no directory":        {[]string{"--dir=" + filepath.Join(clean, "missing")}, 11, "missing"},
		"a flag of migrate":   {[]string{"--baseline=1"}, 2, "not defined"},
		"no such format":      {[]string{"--dir=" + drops, "--format=rails"}, 2, "golang-migrate"},
		"transactions differ": {[]string{"--dir=" + migrations.Dir(t, map[string]string{"1.sql": "CREATE INDEX CONCURRENTLY i ON a (i);"}), "--tx-mode=none"}, 0, `"findings":0`},
	} {
		t.Run(name, func(t *testing.T) {
			code, said := execute(t, noEnv, append([]string{"lint"}, c.args...)...)
			if code != c.code || !strings.Contains(said, c.words) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, c.code, c.words, said)
			}
		})
	}
}

func TestPlanCommand(t *testing.T) {
	db := server.NewDatabase(t)
	dir := migrations.Dir(t, map[string]string{"1.sql": "CREATE TABLE a (i int);"})
	elsewhere := func(name string) string {
		if name == "ELSEWHERE" {
			return db
		}
		return ""
	}
	code, said := execute(t, elsewhere, "plan", "--dir="+dir, "--url-env=ELSEWHERE")
	if code != 0 || !strings.Contains(said, `"planned":[{"version":"1"`) {
		t.Errorf("exit code %d:\n%s", code, said)
	}
	if code, said := execute(t, noEnv, "plan", "--dir="+dir); code != 31 || !strings.Contains(said, "is empty") {
		t.Errorf("exit code %d:\n%s", code, said)
	}
}

func TestOptionsReachTheRun(t *testing.T) {
	dir := migrations.Dir(t, map[string]string{"1.sql": "CREATE TABLE a (i int);", "2.sql": "CREATE TABLE b (i int);"})
	for flag, c := range map[string]struct {
		code  int
		words string
	}{
		"--baseline=1":                 {0, `"applied":[{"version":"2"`},
		"--to-version=1":               {0, `"targetVersion":"1"`},
		"--baseline=7":                 {11, "no such version"},
		"--exec-order=backwards":       {2, "linear-skip"},
		"--tx-mode=some":               {2, "file, all, none"},
		"--lint=Loud":                  {2, "Enforce"},
		"--resolve=maybe":              {2, "redo:ID"},
		"--tls-mode=Maybe":             {2, "VerifyFull"},
		"--tls-ca=/nowhere":            {31, "caConfigMapRef"},
		"--statement-timeout=soon":     {2, "soon"},
		"--statement-lock-timeout=-1s": {2, "positive"},
	} {
		t.Run(flag, func(t *testing.T) {
			code, said := execute(t, env(server.NewDatabase(t)), "migrate", "--dir="+dir, flag)
			if code != c.code || !strings.Contains(said, c.words) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, c.code, c.words, said)
			}
		})
	}
}

// TestNoPasswordIsTold greps everything that the program says, wherever it says it, for the password of a database.
func TestNoPasswordIsTold(t *testing.T) {
	const marker = "pAssW0rd/Marker@%"
	maria := mariadb.Start(t)
	server.CreateUser(t, "marked", marker)
	maria.CreateUser(t, "marked", marker)
	name := func(db string) string {
		u, err := url.Parse(db)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(u.Path, "/")
	}
	urls := map[string]string{
		"PostgreSQL":                   server.URLAs("marked", marker, name(server.NewDatabase(t))),
		"MariaDB":                      maria.URLAs("marked", marker, name(maria.NewDatabase(t))),
		"PostgreSQL, another password": server.URLAs("postgres", marker, "postgres"),
		"MariaDB, another password":    maria.URLAs("root", marker, "mysql"),
		"PostgreSQL, nobody there":     "postgres://u:" + url.QueryEscape(marker) + "@127.0.0.1:1/db",
		"MariaDB, nobody there":        "mysql://u:" + url.QueryEscape(marker) + "@127.0.0.1:1/db",
		"PostgreSQL, not escaped":      "postgres://u:" + marker + "@127.0.0.1/db",
		"MariaDB, not escaped":         "mysql://u:" + marker + "@127.0.0.1/db",
		"MariaDB, bad parameter":       "mysql://u:" + url.QueryEscape(marker) + "@127.0.0.1:1/db?tls=" + url.QueryEscape(marker),
		"PostgreSQL, bad parameter":    "postgres://u:" + url.QueryEscape(marker) + "@127.0.0.1:1/db?sslmode=" + url.QueryEscape(marker),
		"another database":             "oracle://u:" + url.QueryEscape(marker) + "@127.0.0.1:1/db",
	}
	dirs := map[string]string{
		"applied": migrations.Dir(t, map[string]string{"1.sql": "CREATE TABLE a (i int);"}),
		"fails":   migrations.Dir(t, map[string]string{"1.sql": "SELECT nothing;"}),
	}
	for at, address := range urls {
		for what, dir := range dirs {
			for _, command := range []string{"migrate", "plan"} {
				t.Run(command+" "+at+" "+what, func(t *testing.T) {
					_, said := execute(t, env(address), command, "--dir="+dir)
					for _, form := range []string{"pAssW0rd", "Marker"} {
						if strings.Contains(said, form) {
							t.Errorf("%q is in:\n%s", form, said)
						}
					}
				})
			}
		}
	}
}

func TestProgressForPeople(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(&progress{w: &out, mu: &sync.Mutex{}}).With("file", "1.sql")
	log.Info("statement executed", "waitedSeconds", 0.5, "verb", "CREATE TABLE", "empty", "")
	log.Error("statement failed", "error", "two\nlines \x1b[31m")
	log.Debug("not told")
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	want := []string{"  statement executed  file 1.sql  waited seconds 0.5  verb CREATE TABLE", "  ERROR: statement failed  file 1.sql  error two lines  [31m"}
	if len(lines) != len(want) {
		t.Fatalf("lines are %q", lines)
	}
	for i, line := range lines {
		if line[len("15:04:05"):] != want[i] {
			t.Errorf("line is %q, want %q", line, want[i])
		}
	}
}
