// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// What an .atlas.hcl changes about the findings of one file: each with its severity.
func TestConfig(t *testing.T) {
	const sql = "ALTER TABLE users DROP COLUMN c;\nCREATE UNIQUE INDEX users_name ON users (name);\nCREATE TABLE Bad_Table (Id int, CONSTRAINT Chk CHECK (id > 0), CONSTRAINT Fk FOREIGN KEY (id) REFERENCES o);\n" +
		"ALTER TABLE users RENAME a TO \"B\";\nDROP INDEX i;\nCREATE SCHEMA \"S\";\nVACUUM t;"
	const without = "1 DS103 Error, 2 MF101 Warning, 2 PG101 Error, 4 BC102 Error, 5 PG102 Warning, 7 DU403 Error"
	for hcl, want := range map[string]string{
		"":        without,
		"lint {}": without,
		"lint {\n  destructive {\n    error = false\n  }\n}":                                                    strings.Replace(without, "DS103 Error", "DS103 Warning", 1),
		"lint {\n  destructive {\n    error = false\n  }\n  modify_check {\n    error = true\n  }\n}":           without,
		"lint {\n  data_depend {\n    error = true\n  }\n}":                                                     strings.Replace(without, "MF101 Warning", "MF101 Error", 1),
		"lint {\n  incompatible {\n    error = false\n  }\n}":                                                   strings.Replace(without, "BC102 Error", "BC102 Warning", 1),
		"lint {\n  concurrent_index {\n    error = true\n  }\n}":                                                strings.Replace(without, "PG102 Warning", "PG102 Error", 1),
		"lint {\n  concurrent_index {\n    check_create = false\n    check_drop = false\n  }\n}":                "1 DS103 Error, 2 MF101 Warning, 4 BC102 Error, 7 DU403 Error",
		"lint {\n  naming {\n    index {\n      match = \"^idx_\"\n    }\n  }\n}":                               "1 DS103 Error, 2 MF101 Warning, 2 NM104 Warning, 2 PG101 Error, 4 BC102 Error, 5 PG102 Warning, 7 DU403 Error",
		"lint {\n  naming {\n    error = true\n    match = \"^[a-z_]+$\"\n    message = \"lower case\"\n  }\n}": "1 DS103 Error, 2 MF101 Warning, 2 PG101 Error, 4 BC102 Error, 4 NM103 Error, 5 PG102 Warning, 6 NM101 Error, 7 DU403 Error",
		"lint {\n  naming {\n    match = \"^x\"\n    column {\n      match = \".\"\n    }\n    schema {\n      match = \".\"\n    }\n  }\n}": "1 DS103 Error, 2 MF101 Warning, 2 NM104 Warning, 2 PG101 Error, " +
			"3 NM102 Warning, 3 NM105 Warning, 3 NM106 Warning, 4 BC102 Error, 5 PG102 Warning, 7 DU403 Error",
		// What Atlas's own command is told is no policy.
		"lint {\n  latest = 1\n  log = \"x\"\n  git {\n    base = \"main\"\n  }\n}": without,
		// What cannot be used is said.
		"lint {\n  destructive {\n    eror = true\n  }\n}":                               ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  destuctive {\n    error = true\n  }\n}":                               ".atlas.hcl:2 DU111 Error, " + without,
		"lint {\n  destructive {\n    error = 3\n  }\n}":                                 ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  destructive {\n    error = null\n  }\n}":                              ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  destructive {\n    error = var.strict\n  }\n}":                        ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  destructive \"x\" {}\n}":                                              ".atlas.hcl:2 DU111 Error, " + without,
		"lint {\n  destructive {}\n  destructive {\n    error = false\n  }\n}":           ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  destructive {\n    table {}\n  }\n}":                                  ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  naming {\n    match = \"(\"\n  }\n}":                                  ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  naming {\n    message = \"x\"\n  }\n}":                                ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  naming {\n    view {\n      match = \"x\"\n    }\n  }\n}":             ".atlas.hcl:3 DU111 Error, " + without,
		"lint {\n  naming {\n    table {\n      mach = \"x\"\n      y {}\n    }\n  }\n}": ".atlas.hcl:4 DU111 Error, .atlas.hcl:5 DU111 Error, " + without,
		"lint {}\nlint {}": ".atlas.hcl:2 DU111 Error, " + without,
		"lint {\n  review = ERROR\n  non_linear {\n    error = true\n  }\n}": ".atlas.hcl:2 DU112 Warning, .atlas.hcl:3 DU112 Warning, " + without,
		"env \"x\" {\n  lint {}\n}\nvariable \"y\" {}\nwhat {}\nx = 1":       ".atlas.hcl:1 DU112 Warning, .atlas.hcl:4 DU112 Warning, .atlas.hcl:5 DU111 Error, .atlas.hcl:6 DU111 Error, " + without,
		"lint {\n  destructive {\n":                                          ".atlas.hcl:2 DU111 Error, " + without,
		strings.Repeat("#", 1<<16) + "\n":                                    ".atlas.hcl:1 DU111 Error, " + without,
	} {
		t.Run(clip(hcl, 60), func(t *testing.T) {
			findings := Run(Options{Dialect: directory.Postgres, Config: []byte(hcl)}, readFiles(t, directory.Postgres, map[string]string{"1.sql": sql}))
			var got []string
			for i, s := range found(findings) {
				got = append(got, fmt.Sprintf("%s %s", s, findings[i].Severity))
			}
			if diff := cmp.Diff(strings.Split(want, ", "), got); diff != "" {
				t.Error(diff)
				for _, f := range findings {
					t.Log(f.Message)
				}
			}
		})
	}
}

// A naming policy sees names as the database will have them.
func TestNaming(t *testing.T) {
	const hcl = `lint { 
  naming {
    match = "^[a-z0-9_]+$"
  }
}`
	for sql, want := range map[string]string{
		"CREATE TABLE Users (Id int);":         "",
		"CREATE TABLE \"Users\" (\"Id\" int);": "1 NM102, 1 NM103",
		"CREATE INDEX \"I\" ON t (a);":         "1 NM104, 1 PG101",
		"CREATE INDEX ON \"T\" (a);":           "1 PG101",
		"ALTER TABLE t ADD \"A\" int, ADD CONSTRAINT \"C\" CHECK (a > 0) NOT VALID;\nALTER TABLE s.t RENAME TO \"U\";":    "1 NM103, 1 NM106, 2 BC101, 2 NM102",
		"ALTER INDEX i RENAME TO \"J\";\nALTER SCHEMA s RENAME TO \"S\";":                                                 "1 NM104, 2 BC101, 2 NM101",
		"#\nCREATE TABLE Users (`Id` int, KEY `K` (id), UNIQUE (id), CONSTRAINT F FOREIGN KEY G (id) REFERENCES o (id));": "2 NM102, 2 NM103, 2 NM104, 2 NM105",
		"#\nALTER TABLE t ADD INDEX I (a), RENAME INDEX a TO B, CHANGE c D int, ALGORITHM=INPLACE;":                       "2 BC102, 2 NM103, 2 NM104, 2 NM104",
		"#\nRENAME TABLE a TO B;": "2 BC101, 2 NM102",
	} {
		d := directory.Postgres
		if strings.HasPrefix(sql, "#") {
			d = directory.MySQL
		}
		got := strings.Join(found(Run(Options{Dialect: d, Config: []byte(hcl)}, readFiles(t, d, map[string]string{"1.sql": sql}))), ", ")
		if got != want {
			t.Errorf("%s\nfound %q, want %q", sql, got, want)
		}
	}
}

// FuzzConfig reads any configuration: it is used, or there are findings; and its severities are known ones.
func FuzzConfig(f *testing.F) {
	for _, source := range []string{"", "lint {\n  naming {\n    match = \"^[a-z]+$\"\n    index {\n      match = \"x\"\n    }\n  }\n}", "lint { destructive { error = true } }", "lint {", "env \"x\" {}", "a = b\n", "lint \"${x}\" {}", "\xff"} {
		f.Add([]byte(source))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		c, findings := parseConfig(source)
		for _, found := range findings {
			if found.File != configName || found.Line < 1 || found.Message == "" || !slices.Contains([]string{"DU111", "DU112"}, found.Code) {
				t.Errorf("%+v", found)
			}
		}
		for _, r := range rules {
			if s := c.severity(r.code); s != v1alpha1.SeverityError && s != v1alpha1.SeverityWarning {
				t.Errorf("%s has the severity %q", r.code, s)
			}
		}
	})
}
