// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/mysql"
	_ "ariga.io/atlas/sql/mysql/mysqlcheck" // its analyzers
	"ariga.io/atlas/sql/postgres"
	_ "ariga.io/atlas/sql/postgres/postgrescheck" // its analyzers
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlcheck"
	"ariga.io/atlas/sql/sqlclient"
	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	mariadbtest "github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	postgrestest "github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// open are the codes that Atlas's open analyzers can report.
var open = []string{"DS101", "DS102", "DS103", "MF101", "MF103", "MF104", "CD101", "BC101", "BC102", "MY101"}

// likeAtlas is a file that is executed on a database, after something that was there before.
type likeAtlas struct {
	before, file string
	// differ are findings that only one of both has: the other one's, with a reason.
	differ string
}

// Atlas executes a file and compares schemas, statement by statement; what its analyzers find is what lint finds by reading.
func TestLikeAtlasOnPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	const before = "CREATE TABLE o (id int PRIMARY KEY); CREATE SCHEMA s; CREATE TABLE s.x (id int); CREATE TABLE t (id int, c int, d int, CONSTRAINT f FOREIGN KEY (d) REFERENCES o (id))"
	for name, test := range map[string]likeAtlas{
		"drops":              {before, "DROP TABLE s.x;\nALTER TABLE t DROP COLUMN c;\nDROP SCHEMA s;", "lint: 1 DS102"}, // it passes over the tables of a schema that goes too
		"several":            {before, "ALTER TABLE t DROP c, ADD e int NOT NULL, ALTER id SET NOT NULL;", ""},
		"dropped again":      {before, "CREATE TABLE n (id int);\nALTER TABLE t ADD n int;\nALTER TABLE t DROP n;\nDROP TABLE n;", ""},
		"unique":             {before, "CREATE UNIQUE INDEX i ON t (c);\nALTER TABLE t ADD CONSTRAINT u UNIQUE (id);", ""},
		"unique and new":     {before, "ALTER TABLE t ADD n int;\nCREATE UNIQUE INDEX i ON t (n);\nCREATE TABLE n (a int);\nCREATE UNIQUE INDEX j ON n (a);", ""},
		"not null":           {before, "ALTER TABLE t ALTER c SET NOT NULL;\nALTER TABLE t ADD e text NOT NULL DEFAULT '';\nALTER TABLE t ADD g text NOT NULL;", ""},
		"of a new table":     {before, "CREATE TABLE n (a int, b int);\nALTER TABLE n ADD c int NOT NULL;\nALTER TABLE n ALTER a SET NOT NULL;", ""},
		"foreign key":        {before, "ALTER TABLE t DROP CONSTRAINT f;", ""},
		"foreign key of new": {before, "ALTER TABLE t ADD CONSTRAINT g FOREIGN KEY (c) REFERENCES o (id);\nALTER TABLE t DROP CONSTRAINT g;", ""},
		"harmless":           {before, "CREATE INDEX i ON t (c);\nALTER TABLE t ALTER c DROP DEFAULT, ALTER c TYPE bigint;\nINSERT INTO t VALUES (1);\nDROP INDEX i;", ""},
		"rename":             {before, "ALTER TABLE t RENAME TO u;", "Atlas: 1 DS102, lint: 1 BC101"}, // it sees that one table has gone, and another come
		"rename of a column": {before, "ALTER TABLE t RENAME c TO e;", "Atlas: 1 DS103, lint: 1 BC102"},
		"filled before":      {before, "UPDATE t SET c = 0 WHERE c IS NULL;\nALTER TABLE t ALTER c SET NOT NULL;", "Atlas: 2 MF104"}, // its parser of PostgreSQL is not open
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sql.Open("pgx", server.NewDatabase(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			driver, err := postgres.Open(db)
			if err != nil {
				t.Fatal(err)
			}
			test.compare(t, directory.Postgres, &sqlclient.Client{Name: postgres.DriverName, DB: db, Driver: driver})
		})
	}
}

func TestLikeAtlasOnMariaDB(t *testing.T) {
	server := mariadbtest.Start(t)
	const before = "CREATE TABLE o (id int PRIMARY KEY); CREATE TABLE t (id int, c int, d int, CONSTRAINT f FOREIGN KEY (d) REFERENCES o (id))"
	for name, test := range map[string]likeAtlas{
		"drops":         {before, "ALTER TABLE t DROP COLUMN c;\nDROP TABLE t;", ""},
		"dropped again": {before, "CREATE TABLE n (id int);\nALTER TABLE t ADD n int;\nALTER TABLE t DROP n;\nDROP TABLE n;", ""},
		"unique":        {before, "CREATE UNIQUE INDEX i ON t (c);\nALTER TABLE t ADD UNIQUE KEY (id);", ""},
		"not null":      {before, "ALTER TABLE t MODIFY c int NOT NULL;\nALTER TABLE t ADD e int NOT NULL DEFAULT 1;\nALTER TABLE t ADD g int NOT NULL, ADD h varchar(9) NOT NULL;", ""},
		"foreign key":   {before, "ALTER TABLE t DROP FOREIGN KEY f;", ""},
		"rename":        {before, "ALTER TABLE t RENAME TO u;", "Atlas: 1 DS102, lint: 1 BC101"}, // it sees that one table has gone, and another come
		"harmless":      {before, "CREATE INDEX i ON t (c);\nALTER TABLE t MODIFY c bigint;\nINSERT INTO t (id) VALUES (1);\nDROP INDEX i ON t;", ""},
	} {
		t.Run(name, func(t *testing.T) {
			db := mariadbtest.Connect(t, server.NewDatabase(t))
			driver, err := mysql.Open(db)
			if err != nil {
				t.Fatal(err)
			}
			test.compare(t, directory.MySQL, &sqlclient.Client{Name: mysql.DriverName, DB: db, Driver: driver})
		})
	}
}

func (test likeAtlas) compare(t *testing.T, d directory.Dialect, dev *sqlclient.Client) {
	t.Helper()
	for s := range strings.SplitSeq(test.before, "; ") {
		if _, err := dev.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	file := readFiles(t, d, map[string]string{"1.sql": test.file})[0]
	atlas := analyze(t, dev, file)
	var ours []string
	for _, f := range Run(Options{Dialect: d}, []*directory.File{file}) {
		if s := fmt.Sprintf("%d %s", f.Line, f.Code); slices.Contains(open, f.Code) && !slices.Contains(ours, s) {
			ours = append(ours, s)
		}
	}
	var differ []string
	for _, s := range atlas {
		if !slices.Contains(ours, s) {
			differ = append(differ, "Atlas: "+s)
		}
	}
	for _, s := range ours {
		if !slices.Contains(atlas, s) {
			differ = append(differ, "lint: "+s)
		}
	}
	if diff := cmp.Diff(test.differ, strings.Join(differ, ", ")); diff != "" {
		t.Error(diff)
	}
}

// analyze executes a file and returns what Atlas's analyzers find, once for each line and code.
func analyze(t *testing.T, dev *sqlclient.Client, file *directory.File) []string {
	t.Helper()
	inspect := func() *schema.Realm {
		realm, err := dev.InspectRealm(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return realm
	}
	checked := &sqlcheck.File{File: file, From: inspect()}
	checked.To = checked.From
	for _, s := range file.Statements() {
		if _, err := dev.ExecContext(t.Context(), s.Text); err != nil {
			t.Fatal(err)
		}
		now := inspect()
		changes, err := dev.RealmDiff(checked.To, now)
		if err != nil {
			t.Fatal(err)
		}
		checked.Changes = append(checked.Changes, &sqlcheck.Change{Changes: changes, Stmt: &migrate.Stmt{Pos: s.Pos, Text: s.Text}})
		checked.To = now
	}
	analyzers, err := sqlcheck.AnalyzerFor(dev.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	report := sqlcheck.ReportWriterFunc(func(r sqlcheck.Report) {
		for _, d := range r.Diagnostics {
			if s := fmt.Sprintf("%d %s", 1+strings.Count(string(file.Bytes()[:d.Pos]), "\n"), d.Code); !slices.Contains(found, s) {
				found = append(found, s)
			}
		}
	})
	for _, a := range analyzers {
		_ = a.Analyze(t.Context(), &sqlcheck.Pass{File: checked, Dev: dev, Reporter: report}) // an error says that there are findings
	}
	return found
}
