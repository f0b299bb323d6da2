// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"strings"
	"testing"
	"unicode/utf8"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

var dialects = []directory.Dialect{directory.Postgres, directory.MySQL}

var statements = []string{
	"", "ALTER TABLE \"a\".t ADD COLUMN c int NOT NULL DEFAULT (1), DROP d, ADD CONSTRAINT x CHECK (c IS NOT NULL) NOT VALID", "CREATE TABLE t (a int, KEY k (a), CONSTRAINT",
	"CREATE UNIQUE INDEX i ON t (lower(a), b", "DROP TABLE IF EXISTS a, `b`", "/*!50001 DROP TABLE t */", "E'\\''", "'\\", "$a$ $b$ $a$", "$1", "/* /* */", "-- x", "\"", "`", "#",
	"UPDATE t SET c = 1 WHERE t.c IS NULL", "RENAME TABLE a TO b,", "ALTER TABLE t ADD (a int, UNIQUE", "ALTER TABLE", "LOCK", "SET", "VACUUM (FULL", "\ufeffDROP TABLE t", "\xff\xfe",
}

// FuzzLexer checks that tokens cover the input in order, with nothing but space between them, and that the end comes.
func FuzzLexer(f *testing.F) {
	for _, s := range statements {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		for _, d := range dialects {
			l := newLexer(d, source)
			last := 0
			for tok := l.next(); tok.kind != end; tok = l.next() {
				if tok.at < last || tok.raw == "" || source[tok.at:tok.at+len(tok.raw)] != tok.raw {
					t.Fatalf("%s: token %q at %d after %d", d, tok.raw, tok.at, last)
				}
				last = tok.at + len(tok.raw)
			}
			if l.at != len(source) {
				t.Errorf("%s: ended at %d of %d", d, l.at, len(source))
			}
		}
	})
}

// FuzzStatement reads any statement: every finding is about a line of it, and can be shown.
func FuzzStatement(f *testing.F) {
	for _, s := range statements {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, d := range dialects {
			file := &directory.File{LocalFile: migrate.NewLocalFile("1.sql", nil)}
			l := &linter{Options: Options{Dialect: d}, created: created{}}
			l.start(file)
			l.statement, l.line = sql, 1
			l.look(sql)
			for _, f := range l.pass.findings {
				if f.Line < 1 || int(f.Line) > 1+strings.Count(sql, "\n") || !utf8.ValidString(f.Message) || strings.Contains(f.Message, "\n") {
					t.Errorf("%s: %+v", d, f)
				}
			}
		}
	})
}

// FuzzDirectives reads any file that Atlas can split.
func FuzzDirectives(f *testing.F) {
	for _, s := range []string{"-- atlas:nolint\n\nDROP TABLE t;", "SELECT 1; -- atlas:nolint DS102\nDROP TABLE t;", "-- atlas:txmode none\nSELECT 1", "/* atlas:nolint */ DROP\n--atlas:nolint x\nTABLE t", "-- atlas:delimiter \\n\n1\n2", "-- Atlas: tx_mode\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		for _, d := range dialects {
			files, err := tryFiles(t.TempDir(), d, map[string]string{"1.sql": content})
			if err != nil {
				continue // no SQL
			}
			for _, f := range Run(Options{Dialect: d}, files) {
				if f.Line < 1 || int(f.Line) > 1+strings.Count(content, "\n") || f.File != "1.sql" || f.Message == "" {
					t.Errorf("%s: %+v", d, f)
				}
			}
		}
	})
}
