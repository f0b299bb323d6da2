// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// foreign is a directory as another tool has it.
func foreign(format v1alpha1.Format) string {
	return filepath.Join("..", "directory", "testdata", string(format))
}

func appliedVersions(got *v1alpha1.MigrationStatus) string {
	var versions []string
	for _, a := range got.Applied {
		versions = append(versions, a.Version)
	}
	return strings.Join(versions, " ")
}

// TestFormats applies the directories of other tools.
func TestFormats(t *testing.T) {
	cases := map[v1alpha1.Format]struct {
		versions string
		check    string // a query
		want     string
	}{
		v1alpha1.FormatGolangMigrate: {"000001 000002 000004",
			"SELECT string_agg(email || ' ' || download_count, ', ' ORDER BY id) || ' ' || (to_regclass('accounts_count') IS NOT NULL) FROM accounts",
			"it's;@example.com 1, Down@example.com 0 true"},
		v1alpha1.FormatGoose: {"00001 00002 00003 20260102150405",
			`SELECT (SELECT string_agg(email || ' ' || touched, ', ' ORDER BY id) FROM accounts) || ' ' || "DownBytes" || ' ' || (to_regclass('accounts_touched') IS NOT NULL) FROM downloads`,
			"c@example.com 1, b@example.com 0 1 true"},
		v1alpha1.FormatFlyway: {"2 3 3_1",
			"SELECT string_agg(column_name, ' ' ORDER BY table_name, ordinal_position) FROM information_schema.columns WHERE table_schema = 'public'",
			"id email max id account amount"},
		v1alpha1.FormatLiquibase: {"0001 0002", "SELECT touch() || ' ' || (to_regclass('accounts_email') IS NOT NULL)", "1 true"},
		v1alpha1.FormatDBMate: {"20260101120000 20260102120000 20260103120000 20260104120000",
			"SELECT touch() || ' ' || (to_regclass('accounts_email') IS NOT NULL) || ' ' || count(download_bytes) FROM downloads", "1 true 0"},
	}
	for format, c := range cases {
		t.Run(string(format), func(t *testing.T) {
			db := server.NewDatabase(t)
			o := Options{Dir: foreign(format), Format: format, URL: db}
			got := migrateWith(t.Context(), t, o)
			mustSucceed(t, got)
			if v := appliedVersions(got); v != c.versions || got.DirectoryHash == "" {
				t.Errorf("applied %q with hash %q, want %q", v, got.DirectoryHash, c.versions)
			}
			if is := query(t, db, c.check); is != c.want {
				t.Errorf("database has %q, want %q", is, c.want)
			}
			again := migrateWith(t.Context(), t, o)
			mustSucceed(t, again)
			if len(again.Applied) != 0 || again.CurrentVersion != got.CurrentVersion {
				t.Errorf("second run: %+v", again)
			}
		})
	}
}

// TestTakingOver goes on where another tool was: its database has its own history, which stays as it is.
func TestTakingOver(t *testing.T) {
	cases := map[v1alpha1.Format]struct {
		files   []string // that the tool has applied
		history string
		version string
		rest    string
	}{
		v1alpha1.FormatGolangMigrate: {[]string{"000001_accounts.up.sql", "000002_touch.up.sql"},
			"CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL); INSERT INTO schema_migrations VALUES (2, false)",
			"000002", "000004"},
		v1alpha1.FormatGoose: {[]string{"00001_accounts.sql", "00002_touch.sql"},
			"CREATE TABLE goose_db_version (id serial PRIMARY KEY, version_id bigint, is_applied boolean, tstamp timestamp DEFAULT now()); INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (1, true), (2, true)",
			"00002", "00003 20260102150405"},
	}
	for format, c := range cases {
		t.Run(string(format), func(t *testing.T) {
			db := server.NewDatabase(t)
			for _, name := range c.files {
				text, err := os.ReadFile(filepath.Join(foreign(format), name))
				if err != nil {
					t.Fatal(err)
				}
				up, _, _ := strings.Cut(string(text), "-- +goose Down")
				postgres.Exec(t, db, up)
			}
			postgres.Exec(t, db, c.history)
			table := strings.Fields(c.history)[2]
			before := query(t, db, "SELECT json_agg(h) FROM "+table+" h")

			o := Options{Dir: foreign(format), Format: format, URL: db}
			f := mustFail(t, migrateWith(t.Context(), t, o), v1alpha1.HistoryConflict)
			mustContain(t, f.Error, "baseline")
			o.Baseline = c.version
			got := migrateWith(t.Context(), t, o)
			mustSucceed(t, got)
			if v := appliedVersions(got); v != c.rest {
				t.Errorf("applied %q, want %q", v, c.rest)
			}
			if after := query(t, db, "SELECT json_agg(h) FROM "+table+" h"); after != before {
				t.Errorf("history of the tool is %s, was %s", after, before)
			}
		})
	}
}

// TestUnfitForeignFile: a file that cannot be executed here stops what would execute it, and nothing else.
func TestUnfitForeignFile(t *testing.T) {
	db := server.NewDatabase(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1_a.sql", "-- +goose Up\n-- +goose ENVSUB ON\nCREATE TABLE ${NAME} (i int);\n")
	write("2_b.sql", "-- +goose Up\nCREATE TABLE b (i int);\n")
	o := Options{Dir: dir, Format: v1alpha1.FormatGoose, URL: db}
	f := mustFail(t, migrateWith(t.Context(), t, o), v1alpha1.IntegrityFailed)
	if f.File != "1_a.sql" {
		t.Errorf("failure is %+v", f)
	}
	o.Baseline = "1"
	mustSucceed(t, migrateWith(t.Context(), t, o))

	write("3_c.sql", "-- +goose Up\nCREATE TABLE c (i int);\n")
	write("4_d.sql", "-- +goose Up\nSELECT 'without a semicolon'\n")
	f = mustFail(t, migrateWith(t.Context(), t, o), v1alpha1.IntegrityFailed)
	mustContain(t, f.Error, "4_d.sql:2:1")
	if is := query(t, db, "SELECT to_regclass('b') || ' ' || (to_regclass('c') IS NULL)"); is != "b true" {
		t.Errorf("tables: %s", is)
	}
}

// TestPadding changes the versions of a history as docs/formats.md says, for the tenth file after nine.
func TestPadding(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "formats.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, pad, _ := strings.Cut(string(doc), "```sql\n-- pad\n")
	pad, _, found := strings.Cut(pad, "```")
	if !found {
		t.Fatal("docs/formats.md has no SQL for it")
	}
	db := server.NewDatabase(t)
	dir := t.TempDir()
	o := Options{Dir: dir, Format: v1alpha1.FormatGolangMigrate, URL: db}
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("SELECT 1;"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("8_a.up.sql")
	write("9_b.up.sql")
	mustSucceed(t, migrateWith(t.Context(), t, o))
	write("10_c.up.sql")
	f := mustFail(t, migrateWith(t.Context(), t, o), v1alpha1.IntegrityFailed)
	mustContain(t, f.Error, "same number of digits", "docs/formats.md")

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"000008_a.up.sql", "000009_b.up.sql", "000010_c.up.sql"} {
		write(name)
	}
	postgres.Exec(t, db, pad)
	got := migrateWith(t.Context(), t, o)
	mustSucceed(t, got)
	if v := appliedVersions(got); v != "000010" {
		t.Errorf("applied %q, want 000010", v)
	}
}

// TestFormatsWithTheCLI applies the first file with the Atlas CLI, which then knows what the runner has applied.
func TestFormatsWithTheCLI(t *testing.T) {
	path, err := exec.LookPath(filepath.Join("..", "..", "bin", "atlas"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the Atlas CLI is missing, 'make bin/atlas' builds it: %v", err)
		}
		t.Skipf("SKIPPED, NOT TESTED: the Atlas CLI is missing, 'make bin/atlas' builds it: %v", err)
	}
	for format, rest := range map[v1alpha1.Format]string{
		v1alpha1.FormatGoose:     "00002 00003 20260102150405",
		v1alpha1.FormatLiquibase: "0002",
		v1alpha1.FormatDBMate:    "20260102120000 20260103120000 20260104120000",
		// The transaction that is all of the first file of golang-migrate ends that of the CLI.
	} {
		t.Run(string(format), func(t *testing.T) {
			db := server.NewDatabase(t)
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(foreign(format))); err != nil {
				t.Fatal(err)
			}
			cli := func(args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), path, append(args, "--dir=file://"+dir+"?format="+string(format))...)
				cmd.Env = append(os.Environ(), "ATLAS_NO_UPDATE_NOTIFIER=true", "ATLAS_NO_UPGRADE_SUGGESTIONS=true")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return string(out)
			}
			cli("migrate", "hash")
			cli("migrate", "apply", "1", "--url="+db)
			got := migrateWith(t.Context(), t, Options{Dir: dir, Format: format, URL: db})
			mustSucceed(t, got)
			if v := appliedVersions(got); v != rest {
				t.Errorf("applied %q, want %q", v, rest)
			}
			mustContain(t, cli("migrate", "status", "--url="+db), "Migration Status: OK")
		})
	}
}
