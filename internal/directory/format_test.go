// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqltool"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// readers are Atlas's own.
var readers = map[v1alpha1.Format]func(string) (migrate.Dir, error){
	v1alpha1.FormatGolangMigrate: func(dir string) (migrate.Dir, error) { return sqltool.NewGolangMigrateDir(dir) },
	v1alpha1.FormatGoose:         func(dir string) (migrate.Dir, error) { return sqltool.NewGooseDir(dir) },
	v1alpha1.FormatFlyway:        func(dir string) (migrate.Dir, error) { return sqltool.NewFlywayDir(dir) },
	v1alpha1.FormatLiquibase:     func(dir string) (migrate.Dir, error) { return sqltool.NewLiquibaseDir(dir) },
	v1alpha1.FormatDBMate:        func(dir string) (migrate.Dir, error) { return sqltool.NewDBMateDir(dir) },
}

// better are the files whose statements are not those of Atlas's readers. docs/formats.md says why.
var better = map[string]string{
	"000001_accounts.up.sql":       "the transaction around all of it is left out",
	"20260103120000_index.sql":     "with an option, migrate:up is not seen by Atlas, which would execute nothing",
	"00003_downloads.sql":          "lines with the word Down are left out by Atlas",
	"20260104120000_downloads.sql": "lines with the word down are left out by Atlas",
}

// TestAsAtlas compares what is read of directories as other tools have them with what Atlas reads of them.
func TestAsAtlas(t *testing.T) {
	for format, open := range readers {
		t.Run(string(format), func(t *testing.T) {
			dir := filepath.Join("testdata", string(format))
			d := mustRead(t, Options{Dir: dir, Format: format})
			if err := migrate.Validate(d); err != nil {
				t.Errorf("Atlas's executor would refuse it: %v", err)
			}
			theirs, err := open(dir)
			if err != nil {
				t.Fatal(err)
			}
			want, err := theirs.Files()
			if err != nil {
				t.Fatal(err)
			}
			sum, err := theirs.Checksum()
			if err != nil {
				t.Fatal(err)
			}
			if d.Hash() != "h1:"+sum.Sum() {
				t.Errorf("hash is %s, want %s", d.Hash(), sum.Sum())
			}
			if diff := cmp.Diff(describe(want), describe(mustFiles(t, d))); diff != "" {
				t.Errorf("files (-Atlas +here):\n%s", diff)
			}
			for i, f := range mustFiles(t, d) {
				got, err := f.Stmts()
				if err != nil {
					t.Fatal(err)
				}
				atlas, _ := want[i].Stmts()
				why, differs := better[f.Name()]
				if diff := cmp.Diff(atlas, got); (diff != "") != differs {
					t.Errorf("statements of %s (%s) (-Atlas +here):\n%s", f.Name(), why, diff)
				}
			}
		})
	}
}

func mustFiles(t *testing.T, d *Directory) []migrate.File {
	t.Helper()
	all, err := d.Files()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func describe(all []migrate.File) []string {
	var lines []string
	for _, f := range all {
		lines = append(lines, fmt.Sprintf("%s version %s: %s", f.Name(), f.Version(), f.Desc()))
	}
	return lines
}

// TestAsCLI hashes the directories with the Atlas CLI. Its atlas.sum is then checked.
func TestAsCLI(t *testing.T) {
	cli, err := exec.LookPath(filepath.Join("..", "..", "bin", "atlas"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the Atlas CLI is missing, 'make bin/atlas' builds it: %v", err)
		}
		t.Skipf("SKIPPED, NOT TESTED: the Atlas CLI is missing, 'make bin/atlas' builds it: %v", err)
	}
	for format := range readers {
		t.Run(string(format), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", string(format)))); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "v3")); err != nil { // which this old CLI leaves out
				t.Fatal(err)
			}
			before := mustRead(t, Options{Dir: dir, Format: format})
			if out, err := exec.CommandContext(t.Context(), cli, "migrate", "hash", "--dir", "file://"+dir+"?format="+string(format)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			d := mustRead(t, Options{Dir: dir, Format: format})
			sum, err := os.ReadFile(filepath.Join(dir, migrate.HashFileName))
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(sum), "\n")
			whole := format == v1alpha1.FormatGolangMigrate || format == v1alpha1.FormatFlyway // hashed with what is not executed
			if d.Hash() != first || (before.Hash() != first) != whole {
				t.Errorf("hash is %s, and was %s without a sum; want %s", d.Hash(), before.Hash(), first)
			}
			if f, _ := d.File(d.Last()); !strings.Contains(string(sum), f.Name()+" h1:"+f.Sum+"\n") {
				t.Errorf("sum of %s is %s, which is not in\n%s", f.Name(), f.Sum, sum)
			}
			name := mustFiles(t, d)[0].Name()
			if err := os.WriteFile(filepath.Join(dir, name), []byte("-- +goose Up\n-- migrate:up\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Read(Options{Dir: dir, Format: format})
			mustRefuse(t, err, v1alpha1.IntegrityFailed, name, "edited", "?format="+string(format))
		})
	}
}

// TestSumOfOthers: what the sum is about is executed, and nothing else is.
func TestSumOfOthers(t *testing.T) {
	all := files{"V1__a.sql": "SELECT 1;", "U1__a.sql": "SELECT 2;"}
	sum := migrations.WithSum(t, all)[migrate.HashFileName]
	for name, c := range map[string]struct {
		change      files
		file, words string
	}{
		"as it was":            {},
		"undo edited":          {files{"U1__a.sql": "SELECT 3;"}, "U1__a.sql", "U1__a.sql was edited"},
		"edited":               {files{"V1__a.sql": "SELECT 3;"}, "V1__a.sql", "V1__a.sql was edited"},
		"added":                {files{"V2__b.sql": "SELECT 3;"}, "V2__b.sql", "V2__b.sql was added"},
		"added in a directory": {files{"b/V2__b.sql": "SELECT 3;"}, "b/V2__b.sql", "not in atlas.sum"},
	} {
		t.Run(name, func(t *testing.T) {
			content := maps.Clone(all)
			maps.Copy(content, c.change)
			content[migrate.HashFileName] = sum
			_, err := Read(Options{Dir: plain(t, content), Format: v1alpha1.FormatFlyway})
			if c.words != "" {
				mustRefuse(t, err, v1alpha1.IntegrityFailed, c.file, c.words)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNames reads directories of files that hold what is right for their tool.
func TestNames(t *testing.T) {
	content := map[v1alpha1.Format]string{v1alpha1.FormatGoose: "-- +goose Up\n", v1alpha1.FormatDBMate: "-- migrate:up\n"}
	cases := map[string]struct {
		format   v1alpha1.Format
		names    []string
		versions string // of what is read; or else
		refused  string // the file that is refused
		words    string
	}{
		"up and down":              {"golang-migrate", []string{"1_a.up.sql", "1_a.down.sql", "2_b.down.sql", "x.sql", "README.md", "old/3_c.up.sql"}, "1", "", ""},
		"gaps":                     {"golang-migrate", []string{"01_a.up.sql", "07_b.up.sql", "11_c.up.sql"}, "01 07 11", "", ""},
		"description with dots":    {"golang-migrate", []string{"1_a.b_c.up.sql"}, "1", "", ""},
		"without description":      {"golang-migrate", []string{"1_.up.sql"}, "1", "", ""},
		"no number":                {"golang-migrate", []string{"1_a.up.sql", "init.up.sql"}, "", "init.up.sql", "0001_init.up.sql"},
		"other extension":          {"golang-migrate", []string{"1_a.up.cql"}, "", "1_a.up.cql", "only .sql"},
		"no migrations":            {"golang-migrate", []string{"1_a.sql", "2_b.sql"}, "", "", "none of the directory's 2 .sql files has the name of a migration of golang-migrate"},
		"10 after 9":               {"golang-migrate", []string{"9_a.up.sql", "10_b.up.sql"}, "", "9_a.up.sql", "same number of digits"},
		"9 before 010":             {"golang-migrate", []string{"9_a.up.sql", "010_b.up.sql"}, "", "9_a.up.sql", "same number of digits"},
		"same number":              {"golang-migrate", []string{"1_a.up.sql", "01_b.up.sql"}, "", "1_a.up.sql", "same version"},
		"same version":             {"golang-migrate", []string{"1_a.up.sql", "1_b.up.sql"}, "", "1_b.up.sql", "1_a.up.sql and 1_b.up.sql have the same version"},
		"goose, sequence and time": {"goose", []string{"00001_a.sql", "00002_b.sql", "20260101000000_c.sql"}, "00001 00002 20260101000000", "", ""},
		"goose, Go":                {"goose", []string{"00001_a.sql", "00002_b.go"}, "", "00002_b.go", "in Go"},
		"goose, other Go":          {"goose", []string{"00001_a.sql", "embed.go", "00001_a_test.go"}, "00001", "", ""},
		"goose, no number":         {"goose", []string{"00001_a.sql", "seed.sql"}, "", "seed.sql", "00001_init.sql"},
		"goose, no description":    {"goose", []string{"00001.sql"}, "", "00001.sql", "00001_init.sql"},
		"goose, 10 after 9":        {"goose", []string{"9_a.sql", "10_a.sql"}, "", "9_a.sql", "same number of digits"},
		"dbmate":                   {"dbmate", []string{"20260101000000_a.sql", "20260102000000.sql"}, "20260101000000 20260102000000", "", ""},
		"dbmate, dash":             {"dbmate", []string{"20260101000000-a.sql"}, "", "20260101000000-a.sql", "before the first _"},
		"dbmate, no number":        {"dbmate", []string{"schema.sql"}, "", "schema.sql", "20260102150405_init.sql"},
		"flyway":                   {"flyway", []string{"V1__a.sql", "V1_1__b.sql", "V1.2__c.sql", "V2__d__e.sql", "U2__d.sql", "x.sql"}, "", "V1.2__c.sql", "sort differently"},
		"flyway, dots":             {"flyway", []string{"V1__a.sql", "V1.1__b.sql", "V1.2__c.sql", "V2__d__e.sql", "U2__d.sql", "x.sql"}, "1 1.1 1.2 2", "", ""},
		"flyway, directories":      {"flyway", []string{"b/V1__a.sql", "a/x/V2__b.sql", "V3__c.sql", ".git/V4__d.sql"}, "1 2 3", "", ""},
		"flyway, baseline":         {"flyway", []string{"V0__0.sql", "V1__a.sql", "V2__b.sql", "B2__c.sql", "B1__d.sql", "V3__e.sql"}, "2 3", "", ""},
		"flyway, only a baseline":  {"flyway", []string{"B2__c.sql"}, "2", "", ""},
		"flyway, version 0":        {"flyway", []string{"V0__a.sql", "V1__a.sql"}, "0 1", "", ""},
		"flyway, two baselines":    {"flyway", []string{"B2__c.sql", "a/B2__c.sql"}, "", "a/B2__c.sql", "same version"},
		"flyway, same version":     {"flyway", []string{"V1__a.sql", "a/V1_0__b.sql"}, "", "a/V1_0__b.sql", "same version"},
		"flyway, 10 after 9":       {"flyway", []string{"V9__a.sql", "V10__b.sql"}, "", "V10__b.sql", "same number of digits"},
		"flyway, repeatable":       {"flyway", []string{"V1__a.sql", "R__views.sql"}, "", "R__views.sql", "repeatable"},
		"flyway, callback":         {"flyway", []string{"V1__a.sql", "afterMigrate__grant.sql"}, "", "afterMigrate__grant.sql", "callbacks"},
		"flyway, one underscore":   {"flyway", []string{"V1_a.sql"}, "", "V1_a.sql", "V01__init.sql"},
		"flyway, a word":           {"flyway", []string{"Views.sql"}, "", "Views.sql", "V01__init.sql"},
		"flyway, configuration":    {"flyway", []string{"V1__a.sql", "V1__a.sql.conf"}, "", "V1__a.sql.conf", "executeInTransaction"},
		"flyway, Java":             {"flyway", []string{"V1__a.sql", "V2__b.java"}, "", "V2__b.java", "only .sql"},
		"flyway, small letters":    {"flyway", []string{"v1__a.sql"}, "", "", "V01__init.sql"},
		"liquibase":                {"liquibase", []string{"a.sql", "b_1.sql", "changelog.yaml"}, "a b", "", ""},
		"liquibase, same version":  {"liquibase", []string{"add_a.sql", "add_b.sql"}, "", "add_b.sql", "same version"},
		"liquibase, other order":   {"liquibase", []string{"a-b_x.sql", "a_x.sql"}, "", "a_x.sql", "before the first _"},
		"liquibase, directory":     {"liquibase", []string{"a.sql", "more/b.sql"}, "", "more/", "into one"},
		"liquibase, .git":          {"liquibase", []string{"a.sql", ".git/b.sql"}, "a", "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			all := files{}
			for _, name := range c.names {
				all[name] = content[c.format]
			}
			d, err := Read(Options{Dir: plain(t, all), Format: c.format})
			if c.words != "" {
				mustRefuse(t, err, v1alpha1.IntegrityFailed, c.refused, c.words)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var versions []string
			for _, f := range mustFiles(t, d) {
				versions = append(versions, f.Version())
			}
			if got := strings.Join(versions, " "); got != c.versions {
				t.Errorf("versions are %q, want %q", got, c.versions)
			}
		})
	}
}

func TestCompareNumbers(t *testing.T) {
	ascending := []string{"0", "1", "1.1", "1_2", "1.2.3", "2", "10", "010.1", "18446744073709551615", "99999999999999999999"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := compareNumbers(a, b), max(-1, min(1, i-j)); got != want {
				t.Errorf("%s and %s: %d, want %d", a, b, got, want)
			}
		}
	}
	if !slices.Equal(numbers("01.0_0"), []string{"1"}) {
		t.Error(numbers("01.0_0"))
	}
}
