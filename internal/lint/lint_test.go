// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

const none = "-- atlas:txmode none\n\n"

// What each rule says of PostgreSQL, and of what it is silent. A value is the findings, by line and code.
func TestPostgres(t *testing.T) {
	const table = "CREATE TABLE t (id int, c int);\n"
	for sql, want := range map[string]string{
		// Nothing is wrong with what is new, or only read.
		"CREATE TABLE t (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, o int REFERENCES o (id), CHECK (id > 0));": "",
		"SELECT 'DROP TABLE t';":                               "",
		"INSERT INTO t VALUES ('; DROP TABLE t; TRUNCATE t');": "",
		"-- DROP TABLE t;\nSELECT 1;":                          "",
		// A comment ends where the files are split, at its first end; what follows is executed.
		"/* DROP TABLE t; /* nested */ TRUNCATE t; */\nSELECT 1;":                                            "1 DU201",
		"CREATE FUNCTION f() RETURNS void AS $$ BEGIN DELETE FROM t; DROP TABLE t; END $$ LANGUAGE plpgsql;": "",
		"DO $x$ BEGIN TRUNCATE t; END $x$;":                                                                  "",
		"COMMENT ON TABLE t IS 'RENAME';":                                                                    "",
		table + "ALTER TABLE t DROP COLUMN c, ALTER id TYPE bigint, RENAME TO u;\nDROP TABLE u;":             "",
		table + "CREATE INDEX i ON t (c);\nDROP INDEX i;\nTRUNCATE t;\nDELETE FROM t;":                       "",

		// Destructive.
		"DROP SCHEMA s CASCADE;":                                                                             "1 DS101",
		"DROP SCHEMA IF EXISTS a, b;":                                                                        "1 DS101, 1 DS101",
		"CREATE SCHEMA s;\nDROP SCHEMA s;":                                                                   "",
		"drop table if exists \"T\", public.u cascade;":                                                      "1 DS102, 1 DS102",
		"DROP /* the */ TABLE -- old\n  t;":                                                                  "1 DS102",
		"CREATE TABLE IF NOT EXISTS t (id int);\nDROP TABLE t;":                                              "2 DS102",
		"CREATE TABLE t (id int);\nCREATE TABLE IF NOT EXISTS t (id int);\nDROP TABLE t;":                    "",
		"ALTER TABLE t ADD IF NOT EXISTS c int;\nALTER TABLE t DROP c;":                                      "2 DS103",
		"CREATE TABLE public.t (id int);\nDROP TABLE t;":                                                     "",
		"CREATE TABLE a.t (id int);\nDROP TABLE b.t;":                                                        "2 DS102",
		"CREATE TABLE t (id int);\nDROP TABLE \"T\";":                                                        "2 DS102",
		"DROP TABLE t;\nCREATE TABLE t (id int);\nDROP TABLE t;":                                             "1 DS102",
		"DROP FOREIGN TABLE t;":                                                                              "1 DS102",
		"DROP VIEW v;\nDROP FUNCTION f(int);\nDROP TYPE y RESTRICT;":                                         "",
		"DROP TYPE y CASCADE;\nDROP OWNED BY r;":                                                             "1 DU204, 2 DU204",
		"ALTER TABLE t DROP c;":                                                                              "1 DS103",
		"ALTER TABLE IF EXISTS ONLY s.t\n  ADD d int,\n  DROP COLUMN IF EXISTS c CASCADE,\n  DROP COLUMN d;": "3 DS103",
		"TRUNCATE TABLE ONLY a, b RESTART IDENTITY;":                                                         "1 DU201, 1 DU201",
		"DELETE FROM t;": "1 DU202",
		"DELETE FROM ONLY t USING u WHERE t.id = u.id;":       "",
		"DELETE FROM t AS x RETURNING (SELECT 1 WHERE true);": "1 DU202",
		"UPDATE t SET c = (SELECT 1 FROM u WHERE true);":      "1 DU203",
		"UPDATE t SET c = 1 WHERE c IS NULL;":                 "",

		// Data.
		"CREATE UNIQUE INDEX CONCURRENTLY i ON t (a, lower(b));":                                               "1 MF101, 1 PG103",
		"ALTER TABLE t ADD CONSTRAINT x UNIQUE (c);":                                                           "1 MF101, 1 PG105",
		"ALTER TABLE t ADD CONSTRAINT x UNIQUE USING INDEX i;":                                                 "",
		"ALTER TABLE t ADD COLUMN n int;\nALTER TABLE t ADD UNIQUE (n);":                                       "2 PG105",
		"ALTER TABLE t ADD c int NOT NULL;":                                                                    "1 MF103",
		"ALTER TABLE t ADD c int DEFAULT 0 NOT NULL, ADD d text;":                                              "",
		"ALTER TABLE t ADD c int NOT NULL DEFAULT NULL;":                                                       "1 MF103",
		"ALTER TABLE t ADD COLUMN key text, ADD exclude bool, ADD index int;":                                  "",
		"ALTER TABLE t ALTER COLUMN c SET NOT NULL;":                                                           "1 MF104",
		"UPDATE t SET c = 1 WHERE t.c IS NULL;\nALTER TABLE t ALTER c SET NOT NULL;":                           "",
		"ALTER TABLE t ADD CONSTRAINT n CHECK (c IS NOT NULL) NOT VALID;\nALTER TABLE t ALTER c SET NOT NULL;": "",
		"ALTER TABLE t ADD CONSTRAINT n NOT NULL c;":                                                           "1 MF104",
		"ALTER TABLE t ADD CONSTRAINT n NOT NULL c NOT VALID;":                                                 "",
		"ALTER TABLE t ALTER c DROP NOT NULL, ALTER c SET DEFAULT 1;":                                          "",

		// Old pods.
		"ALTER TABLE t RENAME TO u;":                                                                   "1 BC101",
		"ALTER TABLE t RENAME TO u;\nCREATE VIEW t AS SELECT * FROM u;":                                "",
		"ALTER TABLE t SET SCHEMA s;\nALTER SCHEMA a RENAME TO b;":                                     "1 BC101, 2 BC101",
		"ALTER VIEW v RENAME TO w;":                                                                    "1 BC101",
		"ALTER TABLE t RENAME c TO d;":                                                                 "1 BC102",
		"ALTER TABLE t RENAME COLUMN c TO d;\nALTER TABLE t ADD c int GENERATED ALWAYS AS (d) STORED;": "2 PG302",
		"ALTER TABLE t RENAME CONSTRAINT c TO d;\nALTER INDEX i RENAME TO j;":                          "",
		"ALTER TABLE t DROP CONSTRAINT x;":                                                             "1 CD101",
		"ALTER TABLE t ADD CONSTRAINT x CHECK (c > 0) NOT VALID;\nALTER TABLE t DROP CONSTRAINT x;":    "",

		// Locks.
		"CREATE INDEX ON t (c);":                                                                               "1 PG101",
		"create index if not exists i on only t (c);":                                                          "",
		"CREATE INDEX CONCURRENTLY i ON t (c);":                                                                "1 PG103",
		none + "CREATE INDEX CONCURRENTLY i ON t (c);":                                                         "",
		none + "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (c);":                                           "3 DU331",
		none + "CREATE INDEX i ON t (c);":                                                                      "3 PG101",
		"DROP INDEX i, j;":                                                                                     "1 PG102, 1 PG102",
		none + "DROP INDEX CONCURRENTLY i;":                                                                    "",
		"REINDEX (CONCURRENTLY) TABLE t;":                                                                      "1 PG103",
		"ALTER TABLE p DETACH PARTITION q CONCURRENTLY;":                                                       "1 PG103",
		"ALTER TABLE t ADD PRIMARY KEY (id);":                                                                  "1 PG104",
		"ALTER TABLE t ADD COLUMN id bigserial PRIMARY KEY;":                                                   "1 PG104, 1 PG302",
		"ALTER TABLE t ADD u int UNIQUE CHECK (u > 0);":                                                        "1 PG105, 1 PG305",
		"ALTER TABLE t ADD EXCLUDE USING gist (c WITH &&);":                                                    "1 PG105",
		"ALTER TABLE t ALTER COLUMN c TYPE bigint;":                                                            "1 PG301",
		"ALTER TABLE t ALTER c SET DATA TYPE character varying(20), ALTER d TYPE text;":                        "1 DU302, 1 DU302",
		"ALTER TABLE t ALTER c TYPE text USING c::text;":                                                       "1 PG301",
		"ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid();":                                                  "1 PG302",
		"ALTER TABLE t ADD a timestamptz DEFAULT now(), ADD b int GENERATED BY DEFAULT AS IDENTITY;":           "1 PG302",
		"ALTER TABLE t ADD CHECK (c > 0);":                                                                     "1 PG305",
		"ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (c) REFERENCES u (id);":                                    "1 DU311",
		"ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (c) REFERENCES u (id) NOT VALID;":                          "",
		"ALTER TABLE t ADD c int REFERENCES u, ADD d int DEFAULT 1 REFERENCES u;":                              "1 DU311",
		"ALTER TABLE t ADD CONSTRAINT f CHECK (c > 0) NOT VALID;\nALTER TABLE t VALIDATE CONSTRAINT f;":        "2 DU312",
		none + "ALTER TABLE t ADD CONSTRAINT f CHECK (c > 0) NOT VALID;\nALTER TABLE t VALIDATE CONSTRAINT f;": "",
		"ALTER TABLE t VALIDATE CONSTRAINT f;":                                                                 "",
		"LOCK TABLE t;\nLOCK t IN ROW EXCLUSIVE MODE;\nLOCK t IN SHARE ROW EXCLUSIVE MODE;":                    "1 DU321, 3 DU321",
		none + "VACUUM FULL t;\nVACUUM (FULL, ANALYZE) t;\nVACUUM t;\nCLUSTER t;\nREINDEX TABLE t;\nREFRESH MATERIALIZED VIEW v;\nREFRESH MATERIALIZED VIEW CONCURRENTLY v;": "3 DU322, 4 DU322, 6 DU322, 7 DU322, 8 DU322",
		"CREATE MATERIALIZED VIEW v AS SELECT 1;\nREFRESH MATERIALIZED VIEW v;":                                                                                              "",
		"ALTER TABLE t SET UNLOGGED;\nALTER TABLE t SET (fillfactor = 70);":                                                                                                  "1 DU322",

		// Sessions and transactions.
		"SET search_path = s;\nSET LOCAL search_path = s;\nSET SESSION search_path TO s;\nSET SCHEMA 's';": "1 DU401, 3 DU401, 4 DU401",
		"SELECT pg_catalog.set_config('search_path', '', false);\nSELECT set_config('x.y', '', false);":    "1 DU401",
		"SET lock_timeout = '1s';":            "",
		"BEGIN;\nSELECT 1;\nCOMMIT;":          "1 DU402, 3 DU402",
		"START TRANSACTION;\nROLLBACK;\nEND;": "1 DU402, 2 DU402, 3 DU402",
		"SAVEPOINT s;\nROLLBACK TO s;\nROLLBACK WORK TO SAVEPOINT s;\nPREPARE p AS SELECT 1;": "",
		"COPY t FROM STDIN;\nCOPY t FROM '/x';":                                               "1 DU402",
		"VACUUM t;\nCREATE DATABASE d;\nALTER SYSTEM SET x = 1;":                              "1 DU403, 2 DU403, 3 DU403",
		none + "VACUUM t;": "",
		"ALTER TABLE t\r\n  ADD a int,\r\n  DROP b;\r\nDROP TABLE u;\r\n": "3 DS103, 4 DS102",
	} {
		t.Run(sql, func(t *testing.T) { checkFindings(t, directory.Postgres, sql, want) })
	}
}

// What each rule says of MySQL and MariaDB.
func TestMySQL(t *testing.T) {
	for sql, want := range map[string]string{
		"CREATE TABLE `t` (`id` int AUTO_INCREMENT, KEY k (id), UNIQUE KEY u (id), FOREIGN KEY (id) REFERENCES o (id)) ENGINE=InnoDB;": "",
		"INSERT INTO t VALUES ('it\\'s; DROP TABLE t');\nINSERT INTO t VALUES (\"; TRUNCATE t\");":                                     "",
		"# DROP TABLE t;\nSELECT 1;": "",
		"SELECT 1--1;":               "",
		"DELIMITER //\nCREATE PROCEDURE p() BEGIN DELETE FROM t; DROP TABLE t; END//\nDELIMITER ;\nDROP TABLE u;": "4 DS102",

		"DROP DATABASE d;\nDROP SCHEMA IF EXISTS e;":                                    "1 DS101, 2 DS101",
		"DROP TABLE IF EXISTS `a`.`t`, u;":                                              "1 DS102, 1 DS102",
		"DROP TEMPORARY TABLE t;":                                                       "",
		"CREATE TABLE T (Id int);\nALTER TABLE t DROP id;\nDROP TABLE `t`;":             "",
		"ALTER TABLE t DROP PARTITION p0, DROP INDEX i, DROP FOREIGN KEY f;":            "1 CD101, 1 DS102",
		"ALTER TABLE t DROP COLUMN c;\nALTER TABLE t DROP `d`;":                         "1 DS103, 2 DS103",
		"TRUNCATE t;\nALTER TABLE t TRUNCATE PARTITION p0;":                             "1 DU201, 2 DU201",
		"DELETE FROM t;\nDELETE FROM t LIMIT 10;\nDELETE t FROM t JOIN u ON t.a = u.a;": "1 DU202",
		"UPDATE t SET c = 1;":                                                           "1 DU203",

		"CREATE UNIQUE INDEX i ON t (name(10));":                                                                           "1 MF101",
		"ALTER TABLE t ADD UNIQUE KEY u (c), ADD INDEX i (d), ADD PRIMARY KEY (id);":                                       "1 MF101, 1 MF101",
		"ALTER TABLE t ADD (a int NOT NULL, b int, UNIQUE (c));":                                                           "1 MF101, 1 MY101",
		"ALTER TABLE t ADD a int NOT NULL FIRST, ADD b int NOT NULL DEFAULT 1 AFTER a, ADD c int AUTO_INCREMENT NOT NULL;": "1 MY101",
		"ALTER TABLE t ADD c int AS (a + 1) STORED NOT NULL;":                                                              "",
		"ALTER TABLE t MODIFY c int NOT NULL;":                                                                             "1 DU301, 1 MF104",
		"UPDATE t SET c = 1 WHERE c IS NULL;\nALTER TABLE t MODIFY c int NOT NULL, ALGORITHM=INPLACE, LOCK=NONE;":          "",
		"ALTER TABLE t CHANGE COLUMN c c bigint;":                                                                          "1 DU301",
		"ALTER TABLE t CHANGE c d int, ALGORITHM=INSTANT;":                                                                 "1 BC102",
		"ALTER TABLE t RENAME COLUMN c TO d, ADD COLUMN c int AS (d);":                                                     "",
		"ALTER TABLE t RENAME u;\nALTER TABLE v RENAME AS w;\nRENAME TABLE a TO b, c TO d;":                                "1 BC101, 2 BC101, 3 BC101, 3 BC101",
		"ALTER TABLE t RENAME INDEX a TO b, RENAME KEY c TO d;":                                                            "",
		"RENAME TABLE t TO u;\nCREATE OR REPLACE ALGORITHM=MERGE VIEW t AS SELECT * FROM u;":                               "",
		"ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES o (id), ADD CONSTRAINT k CHECK (c > 0);":                             "1 DU313, 1 DU313",
		"CREATE TABLE t (o int REFERENCES o (id));\nALTER TABLE u ADD o int REFERENCES o (id);":                            "1 MY102, 2 MY102",

		"ALTER TABLE t ADD c int, ALGORITHM=COPY;\nALTER TABLE t ADD d int, LOCK = SHARED;":                                                 "1 DU323, 2 DU323",
		"CREATE INDEX i ON t (c) LOCK=EXCLUSIVE;\nDROP INDEX i ON t ALGORITHM=COPY;\nCREATE INDEX j ON t (c);":                              "1 DU323, 2 DU323",
		"CREATE FULLTEXT INDEX i ON t (c);\nALTER TABLE t ADD FULLTEXT KEY f (c);":                                                          "1 DU322, 2 DU322",
		"LOCK TABLES t WRITE;\nFLUSH TABLES WITH READ LOCK;\nFLUSH PRIVILEGES;":                                                             "1 DU402, 2 DU402",
		"OPTIMIZE TABLE t;\nALTER TABLE t ENGINE=InnoDB;\nALTER TABLE t CONVERT TO CHARACTER SET utf8mb4;\nALTER TABLE t DROP PRIMARY KEY;": "1 DU322, 2 DU322, 3 DU322, 4 DU322",

		"USE d;": "1 DU401",
		"SET autocommit = 0;\nSET NAMES utf8mb4, @@session.autocommit=1;\nSET NAMES utf8mb4;":         "1 DU402, 2 DU402",
		"XA START 'x';\nLOAD DATA LOCAL INFILE 'f' INTO TABLE t;\nLOAD DATA INFILE 'f' INTO TABLE t;": "1 DU402, 2 DU402",
		"START TRANSACTION;\nCOMMIT;\nROLLBACK;\nPREPARE s FROM 'x';":                                 "1 DU402, 2 DU402, 3 DU402",
		"VACUUM t;\nALTER TABLE t ALTER COLUMN c SET DEFAULT 1;":                                      "",
	} {
		t.Run(sql, func(t *testing.T) { checkFindings(t, directory.MySQL, sql, want) })
	}
}

func checkFindings(t *testing.T, d directory.Dialect, sql, want string) {
	t.Helper()
	findings := Run(Options{Dialect: d}, readFiles(t, d, map[string]string{"1.sql": sql}))
	if got := strings.Join(found(findings), ", "); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	for _, f := range findings {
		if len([]rune(f.Message)) > 220 || f.Severity != ruleOf(f.Code).severity {
			t.Errorf("%d characters, %s: %s", len([]rune(f.Message)), f.Severity, f.Message)
		}
	}
}

// A directive takes effect in one place only; elsewhere, or written in another way, it is a finding. Cases are of MySQL where they begin with #.
func TestDirectives(t *testing.T) {
	const drop = "DROP TABLE t;"
	for sql, want := range map[string]string{
		// What nolint silences.
		"-- atlas:nolint\n" + drop:                                                                    "",
		"-- atlas:nolint DS102\n" + drop:                                                              "",
		"--atlas:nolint PG101 destructive\r\n" + drop:                                                 "",
		"/* atlas:nolint DS102 */\n" + drop:                                                           "",
		"-- why\n-- atlas:nolint DS102\n-- because\n" + drop:                                          "",
		"#atlas:nolint DS102\n" + drop:                                                                "",
		"-- atlas:nolint naming\n" + drop:                                                             "2 DS102",
		"-- atlas:nolint DS102\n" + drop + "\n" + drop:                                                "3 DS102",
		"-- atlas:nolint DS102\n\n" + drop + "\n" + drop:                                              "",
		"-- atlas:nolint\n\n" + drop + "\nTRUNCATE t;":                                                "",
		"-- atlas:nolint DS102\n\n-- atlas:nolint DU201\n" + "TRUNCATE t;\n" + drop + "\nTRUNCATE t;": "6 DU201",
		"-- atlas:nolint DS999 destructiv DU101\n" + drop:                                             "1 DU103, 1 DU103, 1 DU103, 2 DS102",
		"-- atlas:nolint DS102,DS103\n" + drop:                                                        "1 DU103, 2 DS102",
		"-- atlas:nolint PG303 MY110\nSELECT 1;":                                                      "",
		"-- atlas:nolint DS102\r\n\r\n" + drop + "\r\n" + drop:                                        "",
		"-- atlas:nolint\nCREATE TABLE t (id int);\n" + drop:                                          "",
		// Where it silences nothing.
		"SELECT 1;\n-- atlas:nolint\n\n" + drop: "2 DU101, 4 DS102",
		"SELECT 1; -- atlas:nolint\n" + drop:    "1 DU101, 2 DS102",
		drop + " -- atlas:nolint":               "1 DS102, 1 DU101",
		"DROP -- atlas:nolint\n  TABLE t;":      "1 DS102, 1 DU101",
		"SELECT 1;\n\n-- atlas:nolint DS102\n":  "3 DU101",
		// Transaction modes.
		"-- atlas:txmode none\n\n" + "VACUUM t;":                                    "",
		"-- atlas:txmode none\n" + "VACUUM t;":                                      "",
		"-- about\n\n-- atlas:txmode none\nVACUUM t;":                               "",
		"SELECT 1;\n-- atlas:txmode none\nVACUUM t;":                                "2 DU101, 3 DU403",
		"/* atlas:txmode none */\n\nVACUUM t;":                                      "1 DU101, 3 DU403",
		"SELECT 1; -- atlas:txmode none":                                            "1 DU101",
		"-- atlas: txmode none\n\nVACUUM t;":                                        "1 DU102, 3 DU403",
		"-- atlas:tx-mode none\n\nSELECT 1;":                                        "1 DU102",
		"-- Atlas:txMode none\n\nSELECT 1;":                                         "1 DU102",
		"-- atlas txmode none\n\nSELECT 1;":                                         "1 DU102",
		"-- atlas:nolnt\n" + drop:                                                   "1 DU102, 2 DS102",
		"-- atlas:txtar\n\nSELECT 1;":                                               "1 DU102",
		"-- atlas is what we use\n-- atlas: the tool\n-- see atlas docs\nSELECT 1;": "",
		"SELECT '\n-- atlas:txmode none\n', $$\n-- atlas:nolint\n$$;":               "",
		"SELECT 1;\n-- atlas:delimiter //\nSELECT 2;":                               "2 DU101",
		"-- atlas:delimiter \\n\\n\n" + drop + "\n\nTRUNCATE t;\n\n":                "2 DS102, 4 DU201",
		// A file without statements.
		"-- atlas:nolint\n": "",
		"":                  "",
	} {
		t.Run(sql, func(t *testing.T) {
			d := directory.Postgres
			if strings.HasPrefix(sql, "#") {
				d = directory.MySQL
			}
			checkFindings(t, d, sql, want)
		})
	}
}

// The way back in a file of goose is not executed, so nothing is said of it.
func TestOtherTools(t *testing.T) {
	dir := t.TempDir()
	const file = "-- +goose NO TRANSACTION\n-- +goose Up\n-- atlas:nolint PG101\nCREATE INDEX i ON t (c);\nDROP TABLE u;\n" +
		"-- +goose Down\nDROP TABLE t;\n-- atlas:nolint\nDROP TABLE v;\n"
	if err := os.WriteFile(filepath.Join(dir, "1_x.sql"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := directory.Read(directory.Options{Dir: dir, Dialect: directory.Postgres, Format: v1alpha1.FormatGoose})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := read.File("1")
	got := found(Run(Options{Dialect: directory.Postgres}, []*directory.File{f}))
	if diff := cmp.Diff([]string{"1_x.sql:5 DS102"}, got); diff != "" {
		t.Error(diff)
	}
}

// What one file creates is new to the next one only where both are applied in one go.
func TestTogether(t *testing.T) {
	files := readFiles(t, directory.Postgres, map[string]string{
		"1.sql": "CREATE TABLE t (id int);",
		"2.sql": "CREATE INDEX i ON t (id);\nDROP TABLE t;",
		"3.sql": "TRUNCATE u;\nDROP TABLE v;",
	})
	for together, want := range map[bool][]string{
		true:  {"3.sql:1 DU201", "3.sql:2 DS102"},
		false: {"2.sql:1 PG101", "2.sql:2 DS102", "3.sql:1 DU201", "3.sql:2 DS102"},
	} {
		got := found(Run(Options{Dialect: directory.Postgres, Together: together}, files))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("together %t: %s", together, diff)
		}
	}
}

// The mode of the run counts where a file asks for none.
func TestTxMode(t *testing.T) {
	files := readFiles(t, directory.Postgres, map[string]string{"1.sql": "VACUUM t;", "2.sql": "-- atlas:txmode file\n\nVACUUM t;"})
	for mode, want := range map[v1alpha1.TxMode][]string{
		"":                  {"1 DU403", "2.sql:3 DU403"},
		v1alpha1.TxModeAll:  {"1 DU403", "2.sql:3 DU403"},
		v1alpha1.TxModeNone: {"2.sql:3 DU403"},
	} {
		got := found(Run(Options{Dialect: directory.Postgres, TxMode: mode}, files))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("mode %q: %s", mode, diff)
		}
	}
}

// Messages name objects. What stands in literals may be data, and is in none of them.
func TestNoLiterals(t *testing.T) {
	const secret = "s3cr3tMarker"
	for d, sql := range map[directory.Dialect]string{
		directory.Postgres: "UPDATE t SET c = 'X';\nDELETE FROM t RETURNING 'X', E'\\nX', $x$X$x$;\nALTER TABLE t ADD c text DEFAULT 'X' NOT NULL, ALTER d TYPE int USING 'X', " +
			"ADD e text NOT NULL CHECK (e <> 'X');\nCREATE INDEX ON t ((c || 'X'));\nCREATE UNIQUE INDEX ON t (('X' || c));\nCOPY t FROM STDIN DELIMITER 'X';\nDROP TYPE y CASCADE;",
		directory.MySQL: "UPDATE t SET c = \"X\";\nALTER TABLE t MODIFY c enum('X') NOT NULL;\nALTER TABLE t ADD d text NOT NULL COMMENT 'X';\nRENAME TABLE t TO u;",
	} {
		findings := Run(Options{Dialect: d}, readFiles(t, d, map[string]string{"1.sql": strings.ReplaceAll(sql, "X", secret)}))
		if len(findings) < 4 {
			t.Errorf("%s: only %v", d, found(findings))
		}
		for _, f := range findings {
			if strings.Contains(f.Message, secret) {
				t.Errorf("%s: %s", f.Code, f.Message)
			}
		}
	}
}
