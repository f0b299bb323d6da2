// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// fuzzFile parses whatever a file holds. It is read as statements, each where it says that it is, or refused.
func fuzzFile(f *testing.F, format v1alpha1.Format, seeds ...string) {
	f.Helper()
	for _, text := range texts {
		f.Add(text, false)
		f.Add(text, true)
	}
	for _, text := range seeds {
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, isMySQL bool) {
		dialect := Postgres
		if isMySQL {
			dialect = MySQL
		}
		file := parse(t, format, dialect, text)
		var known *result.Error
		if err := file.Err(); err != nil && (!errors.As(err, &known) || known.Class != v1alpha1.IntegrityFailed || known.File != "1.sql" || len(file.Statements()) > 0) {
			t.Errorf("error is %#v", err)
		}
		from := 0
		for _, s := range file.Statements() {
			if s.Pos < from || s.Pos > len(text) || !strings.HasPrefix(text[s.Pos:], s.Text) {
				t.Fatalf("%q is not at %d", s.Text, s.Pos)
			}
			from = s.Pos
		}
		lines := 1 + strings.Count(text, "\n")
		for _, s := range file.Strays {
			if s.Line < 1 || s.Line > lines {
				t.Errorf("%d lines: %+v", lines, s)
			}
		}
	})
}

func FuzzParseFile(f *testing.F) {
	fuzzFile(f, v1alpha1.FormatAtlas, "-- atlas:sum ignore\n\nSELECT 1;", "(", "/*", "'", "$a$", "BEGIN ATOMIC")
}

func FuzzReadGolangMigrate(f *testing.F) {
	fuzzFile(f, v1alpha1.FormatGolangMigrate, "BEGIN;\nSELECT 1;\nCOMMIT;", "START TRANSACTION;END")
}

func FuzzReadGoose(f *testing.F) {
	fuzzFile(f, v1alpha1.FormatGoose, "-- +goose Up\nSELECT 1;\n-- +goose StatementBegin\n-- a\nSELECT 2;\n-- +goose StatementEnd\n-- +goose Down\n", "-- +goose NO TRANSACTION\n-- +goose Up\n", "--+goose up")
}

func FuzzReadFlyway(f *testing.F) {
	fuzzFile(f, v1alpha1.FormatFlyway, "SELECT '${a}';", "${")
}

func FuzzReadLiquibase(f *testing.F) {
	fuzzFile(f, v1alpha1.FormatLiquibase, "--liquibase formatted sql\n--changeset a:1 runInTransaction:false context:\"a b\"\nSELECT 1;\n--rollback SELECT 2;")
}

func FuzzReadDBMate(f *testing.F) {
	fuzzFile(f, v1alpha1.FormatDBMate, "-- migrate:up transaction:false\nSELECT 1;\n-- migrate:down\nSELECT 2;")
}

// FuzzDirectives: a transaction mode that Atlas obeys takes effect, and one that is written on a line of its own either does or is a stray.
func FuzzDirectives(f *testing.F) {
	for _, text := range []string{"-- atlas:txmode none\n\nSELECT 1;", "-- atlas:txmode none\nSELECT 1;", "# atlas:txmode file", "-- a\r\n-- atlas:checkpoint\r\n\r\n", "SELECT 1;\n-- atlas:txmode none", "-- atlas:atlas:txmode none\n", "--atlas:delimiter x\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := &File{LocalFile: migrate.NewLocalFile("1.sql", []byte(text))}
		err := file.readDirectives(text, atlas, "")
		obeyed := file.Directive("txmode")
		if err == nil && len(obeyed) > 0 && (len(obeyed) > 1 || v1alpha1.TxMode(obeyed[0]) != file.TxMode) {
			t.Errorf("txmode is %q, and %q for Atlas", file.TxMode, obeyed)
		}
		lines := strings.Split(text, "\n")
		for _, s := range file.Strays {
			if !strings.Contains(lines[s.Line-1], "atlas:"+s.Name) {
				t.Errorf("%+v is %q", s, lines[s.Line-1])
			}
		}
		for i, line := range lines {
			if line != "-- atlas:txmode none" {
				continue
			}
			stray := false
			for _, s := range file.Strays {
				stray = stray || s.Line == i+1
			}
			if !stray && err == nil && file.TxMode != v1alpha1.TxModeNone {
				t.Errorf("line %d has no effect", i+1)
			}
		}
	})
}

// FuzzNames: whatever a file is called, a format takes it, leaves it or refuses it, and orders it without doubt.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"1_a.up.sql", "00001_a.sql", "V1_1.2__a.sql", "B2__a.sql", "R__a.sql", "20260101000000.sql", ".sql", "_.sql", "a/b", "V99999999999999999999__a.sql"} {
		f.Add(name, "2"+name)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" || strings.ContainsAny(a+b, "/\x00") {
			return
		}
		for _, format := range formats {
			picked, err := format.pick([]string{a, b})
			var known *result.Error
			if err != nil && (!errors.As(err, &known) || known.Class != v1alpha1.IntegrityFailed) {
				t.Errorf("error is %#v", err)
			}
			for _, m := range picked {
				if m.version == "" || m.name != a && m.name != b {
					t.Errorf("%+v", m)
				}
			}
			if err == nil && format != atlas && len(picked) == 2 && picked[0].version >= picked[1].version {
				t.Errorf("%s: %+v", format.name, picked)
			}
		}
	})
}
