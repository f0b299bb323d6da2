// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

const lastMySQLRow = "SELECT CONCAT_WS(' ', version, applied, total, type, CONCAT('[', error, ']'), CONCAT('[', error_stmt, ']'), partial_hashes, operator_version) " +
	"FROM atlas_schema_revisions ORDER BY version DESC LIMIT 1"

func TestMySQLApply(t *testing.T) {
	db := maria.NewDatabase(t)
	dir := migrations.Dir(t, files{
		"1_init.sql": "CREATE TABLE a (i int PRIMARY KEY);\nINSERT INTO a VALUES (1);\nSELECT * FROM a;",
		"2_rows.sql": "INSERT INTO a VALUES (2);\nUPDATE a SET i = 3 WHERE i = 1;",
		"3.sql":      "DELIMITER //\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END//\nDELIMITER ;\nCREATE INDEX a_i ON a (i);",
	})
	got := migrateTo(t, dir, db)
	want := &v1alpha1.MigrationStatus{
		CurrentVersion: "3", TargetVersion: "3", Total: 3,
		Applied: []v1alpha1.AppliedFile{
			{Version: "1", Description: "init", Statements: 3},
			{Version: "2", Description: "rows", Statements: 2},
			{Version: "3", Statements: 2},
		},
	}
	ignore := cmpopts.IgnoreFields(v1alpha1.AppliedFile{}, "Duration")
	if diff := cmp.Diff(want, got, ignore, cmpopts.IgnoreFields(v1alpha1.MigrationStatus{}, "DirectoryHash")); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if row := mysqlQuery(t, db, lastMySQLRow); row != "3 2 2 2 [] [] null DBUpgrade test" {
		t.Errorf("row is %q", row)
	}
	mysqlUnlocked(t, db)

	again := migrateTo(t, dir, db)
	mustSucceed(t, again)
	if again.CurrentVersion != "3" || len(again.Applied) != 0 || again.Pending != 0 {
		t.Errorf("second run: %+v", again)
	}
}

// mysqlQuery returns the one value of a query, as text.
func mysqlQuery(t *testing.T, db, query string) string {
	t.Helper()
	var value string
	if err := mariadb.Connect(t, db).QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func mysqlUnlocked(t *testing.T, db string) {
	t.Helper()
	mariadb.Await(t, db, "SELECT IS_FREE_LOCK('"+lockName+"')") // a session ends a moment after its connection
}

// TestMySQLFailureKeepsWhatIsCommitted: a file that changes the schema is applied statement by statement, one of rows only as a whole.
func TestMySQLFailureKeepsWhatIsCommitted(t *testing.T) {
	for name, c := range map[string]struct {
		content, corrected string
		statement          int32
		rows               string // after the failure
		row                string
		resumed            int32 // statements
	}{
		"of the schema": {"INSERT INTO a VALUES (1);\nCREATE TABLE b (i int);\nINSERT INTO a VALUES (2);\nINSERT INTO nowhere VALUES (1);",
			"INSERT INTO a VALUES (1);\nCREATE TABLE b (i int);\nINSERT INTO a VALUES (2);\nINSERT INTO a VALUES (3);", 4, "1,2", "2 3 4 2", 1},
		"of rows": {"INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (1);", "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\nINSERT INTO a VALUES (3);", 2, "", "1 1 1 2", 3},
	} {
		t.Run(name, func(t *testing.T) {
			db := maria.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int PRIMARY KEY);", "2.sql": c.content})
			got := migrateTo(t, dir, db)
			f := mustFail(t, got, v1alpha1.StatementFailed)
			if f.File != "2.sql" || f.Statement != c.statement || f.SQLState == "" {
				t.Errorf("failure is %+v", f)
			}
			const rows = "SELECT COALESCE(GROUP_CONCAT(i ORDER BY i), '') FROM a"
			if r := mysqlQuery(t, db, rows); r != c.rows {
				t.Errorf("rows are %q, want %q", r, c.rows)
			}
			if row := mysqlQuery(t, db, lastMySQLRow); !strings.HasPrefix(row, c.row) {
				t.Errorf("row is %q, want %q", row, c.row)
			}
			migrations.Write(t, dir, files{"2.sql": c.corrected})
			got = migrateTo(t, dir, db)
			mustSucceed(t, got)
			if got.Applied[0].Statements != c.resumed {
				t.Errorf("%d statements were executed, want %d", got.Applied[0].Statements, c.resumed)
			}
			if r := mysqlQuery(t, db, rows); r != "1,2,3" {
				t.Errorf("rows are %q", r)
			}
		})
	}
}

func TestMySQLInDoubt(t *testing.T) {
	for answer, want := range map[string]string{"redo": "1", "skip": "0"} {
		t.Run(answer, func(t *testing.T) {
			db := maria.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE b AS SELECT SLEEP(60) AS s;\nINSERT INTO a VALUES (2);"})
			done := make(chan *v1alpha1.MigrationStatus, 1)
			go func() { done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db}) }()
			mariadb.AwaitStatement(t, db, "CREATE TABLE b")
			killRunner(t, db)
			f := mustFail(t, <-done, v1alpha1.InDoubt)
			mustContain(t, f.Error, "CREATE TABLE b", "skip:", "redo:")
			if f.File != "1.sql" || f.Statement != 2 {
				t.Errorf("failure is %+v", f)
			}
			mysqlUnlocked(t, db)
			again := mustFail(t, migrateTo(t, dir, db), v1alpha1.InDoubt)
			id := doubtID(t, again.Error)
			stale := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: "AAAAAAAA"}})
			mustFail(t, stale, v1alpha1.InDoubt)

			migrations.Write(t, dir, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE b AS SELECT SLEEP(0) AS s;\nINSERT INTO a VALUES (2);"})
			mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: id, Skip: answer == "skip"}}))
			if n := mysqlQuery(t, db, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'b'"); n != want {
				t.Errorf("b exists %s times, want %s", n, want)
			}
			if row := mysqlQuery(t, db, lastMySQLRow); row != "1 3 3 2 [] [] null DBUpgrade test" {
				t.Errorf("row is %q", row)
			}
		})
	}
}

// killRunner ends the sessions of the run, as a failover or an administrator does.
func killRunner(t *testing.T, db string) {
	t.Helper()
	for id := range strings.FieldsSeq(mysqlQuery(t, db, "SELECT GROUP_CONCAT(id SEPARATOR ' ') FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")) {
		_, _ = mariadb.Connect(t, db).ExecContext(t.Context(), "KILL "+id) // when the first is gone, the runner closes the second
	}
}

// doubtID is the ID that a failure tells.
func doubtID(t *testing.T, text string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "redo:")
	if !ok || len(rest) < 8 {
		t.Fatalf("no ID in %q", text)
	}
	return rest[:8]
}

func TestMySQLInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		words   string
	}{
		"rows":   {"INSERT INTO a SELECT SLEEP(60);", "rolled back"},
		"schema": {"CREATE TABLE b AS SELECT SLEEP(60) AS s;", "those before it stay applied"},
	} {
		t.Run(name, func(t *testing.T) {
			db := maria.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": c.content})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan *v1alpha1.MigrationStatus, 1)
			go func() { done <- migrateWith(ctx, t, Options{Dir: dir, URL: db}) }()
			mariadb.AwaitStatement(t, db, c.content[:20])
			start := time.Now()
			cancel()
			f := mustFail(t, <-done, v1alpha1.Interrupted)
			mustContain(t, f.Error, c.words)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %s to end", took)
			}
			mysqlUnlocked(t, db)
			migrations.Write(t, dir, files{"2.sql": strings.ReplaceAll(c.content, "60", "0")})
			mustSucceed(t, migrateTo(t, dir, db))
		})
	}
}

func TestMySQLStatementTimeout(t *testing.T) {
	db := maria.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE b AS SELECT SLEEP(60) AS s;"})
	f := mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, StatementTimeout: 300 * time.Millisecond}), v1alpha1.StatementFailed)
	mustContain(t, f.Error, "statement timeout of 300ms")
	if f.Statement != 2 {
		t.Errorf("failure is %+v", f)
	}
	migrations.Write(t, dir, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE b AS SELECT 1 AS s;"})
	mustSucceed(t, migrateTo(t, dir, db))
}

func TestMySQLLockTimeout(t *testing.T) {
	for name, content := range map[string]string{"of rows": "UPDATE a SET i = 2;", "of the schema": "ALTER TABLE a ADD COLUMN j int;"} {
		t.Run(name, func(t *testing.T) {
			db := maria.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int PRIMARY KEY);\nINSERT INTO a VALUES (1);"})
			mustSucceed(t, migrateTo(t, dir, db))
			holder := mariadb.Connect(t, db)
			tx, err := holder.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(t.Context(), "SELECT * FROM a FOR UPDATE"); err != nil {
				t.Fatal(err)
			}
			migrations.Write(t, dir, files{"2.sql": content})
			out := newOutput()
			done := make(chan *v1alpha1.MigrationStatus, 1)
			go func() {
				done <- migrateWith(t.Context(), t, Options{Dir: dir, URL: db, StatementLockTimeout: time.Second, Log: slog.New(slog.NewJSONHandler(out, nil))})
			}()
			out.await(t, `"retry":2`)
			if doubted := mysqlQuery(t, db, "SELECT COUNT(*) FROM atlas_schema_revisions WHERE error LIKE 'dbupgrade: in doubt%' AND applied = total"); doubted != "0" {
				t.Error("a doubt about nothing")
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			got := <-done
			mustSucceed(t, got)
			if got.LockRetries < 2 {
				t.Errorf("%d retries are told", got.LockRetries)
			}
		})
	}
}

func TestMySQLLockIsWaitedFor(t *testing.T) {
	one, other := maria.NewDatabase(t), maria.NewDatabase(t) // the lock is the server's
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a AS SELECT SLEEP(1) AS s;"})
	done := make(chan *v1alpha1.MigrationStatus, 1)
	go func() { done <- migrateTo(t, dir, one) }()
	mariadb.AwaitStatement(t, one, "CREATE TABLE a")
	mustSucceed(t, migrateTo(t, dir, other))
	mustSucceed(t, <-done)
	go func() {
		done <- migrateTo(t, migrations.Dir(t, files{"2.sql": "CREATE TABLE b AS SELECT SLEEP(3) AS s;"}), one)
	}()
	mariadb.AwaitStatement(t, one, "CREATE TABLE b")
	f := mustFail(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: other, LockTimeout: time.Second}), v1alpha1.LockTimeout)
	mustContain(t, f.Error, "another run held the lock")
	<-done
}

func TestMySQLFilesDoNotShareSessionState(t *testing.T) {
	db := maria.NewDatabase(t)
	other := strings.TrimPrefix(mustParse(t, maria.NewDatabase(t)).Path, "/")
	dir := migrations.Dir(t, files{
		"1.sql": fmt.Sprintf("SET sql_mode = 'ANSI_QUOTES', foreign_key_checks = 0;\nUSE `%s`;", other),
		"2.sql": "CREATE TABLE a (s varchar(10));\nINSERT INTO a VALUES (\"text\");\nCREATE TABLE modes AS SELECT @@foreign_key_checks AS f;",
	})
	mustSucceed(t, migrateTo(t, dir, db))
	if got := mysqlQuery(t, db, "SELECT CONCAT(s, f) FROM a, modes"); got != "text1" {
		t.Errorf("rows are %q", got)
	}
}

func TestMySQLTxModes(t *testing.T) {
	cases := map[string]struct {
		mode  v1alpha1.TxMode
		two   string
		class v1alpha1.FailureClass
		words string
		rows  string
	}{
		"all, rows only":      {v1alpha1.TxModeAll, "INSERT INTO a VALUES (2);", "", "", "1,2"},
		"all, the second bad": {v1alpha1.TxModeAll, "INSERT INTO a VALUES (1);", v1alpha1.StatementFailed, "Duplicate", ""},
		"all, of the schema":  {v1alpha1.TxModeAll, "CREATE TABLE b (i int);", v1alpha1.IntegrityFailed, "commit by themselves", ""},
		"none":                {v1alpha1.TxModeNone, "INSERT INTO a VALUES (2);\nINSERT INTO a VALUES (2);", v1alpha1.StatementFailed, "Duplicate", "1,2"},
		"directive":           {v1alpha1.TxModeFile, none + "INSERT INTO a VALUES (2);\nINSERT INTO a VALUES (2);", v1alpha1.StatementFailed, "Duplicate", "1,2"},
		"file over none":      {v1alpha1.TxModeNone, "-- atlas:txmode file\n\nINSERT INTO a VALUES (2);\nINSERT INTO a VALUES (2);", v1alpha1.StatementFailed, "Duplicate", "1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			db := maria.NewDatabase(t)
			mariadb.Exec(t, db, "CREATE TABLE a (i int PRIMARY KEY)")
			dir := migrations.Dir(t, files{"1.sql": "INSERT INTO a VALUES (1);", "2.sql": c.two})
			got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, AllowDirty: true, TxMode: c.mode})
			if c.class == "" {
				mustSucceed(t, got)
			} else {
				mustContain(t, mustFail(t, got, c.class).Error, c.words)
			}
			if rows := mysqlQuery(t, db, "SELECT COALESCE(GROUP_CONCAT(i ORDER BY i), '') FROM a"); rows != c.rows {
				t.Errorf("rows are %q, want %q", rows, c.rows)
			}
			if c.mode == v1alpha1.TxModeAll && c.class != "" && len(got.Applied) != 0 {
				t.Errorf("applied are %v", got.Applied)
			}
		})
	}
}

func TestMySQLTransactional(t *testing.T) {
	s := &mysqlSession{}
	for stmt, want := range map[string]bool{
		"INSERT INTO a VALUES (1)": true, "-- why\nupdate a set i = 1": true, "/* c */ DELETE FROM a": true, "# c\nREPLACE INTO a VALUES (1)": true,
		"WITH x AS (SELECT 1) SELECT * FROM x": true, "SET @a = 1": true, "SET NAMES utf8mb4": true,
		"CREATE TABLE a (i int)": false, "ALTER TABLE a ADD j int": false, "TRUNCATE a": false, "CALL p()": false, "GRANT ALL ON *.* TO u": false,
		"/*!50000 CREATE TABLE a (i int) */": false, "/*M! INSERT INTO a VALUES (1) */": false, "SET PASSWORD = 'x'": false, "set global x = 1": false, "SET STATEMENT max_statement_time = 1 FOR DROP TABLE a": false, "OPTIMIZE TABLE a": false, "": false,
	} {
		if got := s.transactional(stmt); got != want {
			t.Errorf("%q is %v", stmt, got)
		}
	}
}

func TestMySQLNotExecutable(t *testing.T) {
	for _, stmt := range []string{"BEGIN", "START TRANSACTION", "commit", "ROLLBACK", "SET autocommit = 0", "SET\nautocommit = 0", "SET completion_type = 1", "DO RELEASE_ALL_LOCKS()", "SET SESSION foo = 1, @@autocommit = 1", "LOCK TABLES a WRITE", "XA START 'x'", "LOAD DATA LOCAL INFILE 'x' INTO TABLE a"} {
		t.Run(stmt, func(t *testing.T) {
			db := maria.NewDatabase(t)
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);", "2.sql": stmt + ";"})
			f := mustFail(t, migrateTo(t, dir, db), v1alpha1.IntegrityFailed)
			if f.File != "2.sql" || f.Statement != 1 {
				t.Errorf("failure is %+v", f)
			}
			if n := mysqlQuery(t, db, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"); n != "0" {
				t.Error("something was executed")
			}
		})
	}
}

// A part of a procedure may stay: nobody but a person says whether it is called again.
func TestMySQLProcedureIsNotCalledAgain(t *testing.T) {
	db := maria.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE log (i int);\nCREATE TABLE a (i int);\nINSERT INTO a VALUES (1);\n" +
		"DELIMITER //\nCREATE PROCEDURE p() BEGIN INSERT INTO log VALUES (1); UPDATE a SET i = 2; END//\nDELIMITER ;"})
	mustSucceed(t, migrateTo(t, dir, db))
	migrations.Write(t, dir, files{"2.sql": "CALL p();\nINSERT INTO a VALUES (3);"})
	tx, err := mariadb.Connect(t, db).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT * FROM a FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, StatementLockTimeout: time.Second})
	id := doubtID(t, mustFail(t, got, v1alpha1.InDoubt).Error)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if again := mustFail(t, migrateTo(t, dir, db), v1alpha1.InDoubt); doubtID(t, again.Error) != id {
		t.Errorf("the doubt is another one: %+v", again)
	}
	mustSucceed(t, migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: id, Skip: true}}))
	if r := mysqlQuery(t, db, "SELECT CONCAT((SELECT COUNT(*) FROM log), ':', GROUP_CONCAT(i ORDER BY i)) FROM a"); r != "1:1,3" || got.LockRetries != 0 {
		t.Errorf("rows are %q after %d retries", r, got.LockRetries)
	}
}

// SET STATEMENT … FOR commits if what it holds does.
func TestMySQLSetStatement(t *testing.T) {
	db := maria.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);",
		"2.sql": "INSERT INTO a VALUES (1);\nSET STATEMENT lock_wait_timeout = 5 FOR ALTER TABLE a ADD COLUMN j int;\nINSERT INTO nowhere VALUES (1);"})
	mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
	migrations.Write(t, dir, files{"2.sql": "INSERT INTO a VALUES (1);\nSET STATEMENT lock_wait_timeout = 5 FOR ALTER TABLE a ADD COLUMN j int;\nINSERT INTO a VALUES (2, 2);"})
	mustSucceed(t, migrateTo(t, dir, db))
	if r := mysqlQuery(t, db, "SELECT GROUP_CONCAT(i ORDER BY i) FROM a"); r != "1,2" {
		t.Errorf("rows are %q", r)
	}
}

// TestMySQLOpenTransactions: what is told to be applied is committed, and nothing else, whatever becomes of autocommit.
func TestMySQLOpenTransactions(t *testing.T) {
	for name, c := range map[string]struct{ parameter, body, rows string }{
		"server without autocommit":       {"autocommit=0", "INSERT INTO a VALUES (7);", "7"},
		"chained transactions":            {"completion_type=1", "INSERT INTO a VALUES (7);", "7"},
		"procedure that leaves one open":  {"", "START TRANSACTION; INSERT INTO a VALUES (7);", "7"},
		"procedure that turns it off":     {"", "SET autocommit = 0; INSERT INTO a VALUES (7);", "7"},
		"procedure that fails within one": {"", "START TRANSACTION; INSERT INTO a VALUES (7); INSERT INTO a VALUES (7);", ""},
	} {
		t.Run(name, func(t *testing.T) {
			plain := maria.NewDatabase(t)
			u := mustParse(t, plain)
			u.RawQuery = c.parameter
			db := u.String()
			dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int PRIMARY KEY);\nDELIMITER //\nCREATE PROCEDURE p() BEGIN " + c.body + " END//\nDELIMITER ;\nCALL p();"})
			got := migrateTo(t, dir, db)
			if failed := got.Failure != nil; failed != (c.rows == "") {
				t.Errorf("result is %+v", got)
			}
			if r := mysqlQuery(t, plain, "SELECT COALESCE(GROUP_CONCAT(i), '') FROM a"); r != c.rows {
				t.Errorf("rows are %q, want %q", r, c.rows)
			}
			if c.rows == "" {
				return
			}
			if again := migrateTo(t, dir, db); again.Failure != nil || len(again.Applied) != 0 {
				t.Errorf("second run: %+v", again)
			}
			migrations.Write(t, dir, files{"2.sql": "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (1);"})
			mustFail(t, migrateTo(t, dir, db), v1alpha1.StatementFailed)
			if r := mysqlQuery(t, plain, "SELECT GROUP_CONCAT(i) FROM a"); r != c.rows {
				t.Errorf("rows are %q after a file that was rolled back", r)
			}
		})
	}
}

// A file that was corrected while a doubt was open may have more statements than its row knows.
func TestMySQLSkipInALongerFile(t *testing.T) {
	db := maria.NewDatabase(t)
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE b (i int);"})
	mustSucceed(t, migrateTo(t, dir, db))
	mariadb.Exec(t, db, "UPDATE atlas_schema_revisions SET applied = 1, error = '"+doubt{"ABCDEFGH", 2}.String()+"'")
	migrations.Write(t, dir, files{"1.sql": "CREATE TABLE a (i int);\nCREATE TABLE b (i int);\nCREATE TABLE c (i int);"})
	got := migrateWith(t.Context(), t, Options{Dir: dir, URL: db, Resolve: Resolution{ID: "ABCDEFGH", Skip: true}})
	mustSucceed(t, got)
	if len(got.Applied) != 1 || got.Applied[0].Statements != 1 {
		t.Errorf("result is %+v", got)
	}
	if row := mysqlQuery(t, db, lastMySQLRow); row != "1 3 3 2 [] [] null DBUpgrade test" {
		t.Errorf("row is %q", row)
	}
}

func TestMySQLNamesInMixedCase(t *testing.T) {
	folding := mariadb.Start(t, mariadb.WithSetting("lower_case_table_names", "1"))
	mariadb.Exec(t, folding.AdminURL(), "CREATE DATABASE MixedCase")
	u := mustParse(t, folding.AdminURL())
	u.Path = "/MixedCase"
	dir := migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"})
	mustSucceed(t, migrateTo(t, dir, u.String()))
	if again := migrateTo(t, dir, u.String()); again.Failure != nil || len(again.Applied) != 0 {
		t.Errorf("second run: %+v", again)
	}
}

// What answers for one host in turn may be several servers, and the lock is one server's.
func TestMySQLSeveralServers(t *testing.T) {
	other := mariadb.Start(t)
	hosts, turn := []string{mustParse(t, maria.AdminURL()).Host, mustParse(t, other.AdminURL()).Host}, 0
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			turn++
			go forward(client, hosts[turn%2])
		}
	}()
	for _, s := range []*mariadb.Server{maria, other} {
		mariadb.Exec(t, s.AdminURL(), "CREATE OR REPLACE USER either IDENTIFIED BY 'either-password'")
	}
	u := url.URL{Scheme: "mysql", Host: listener.Addr().String(), User: url.UserPassword("either", "either-password")}
	mustContain(t, mustFail(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "SELECT 1;"}), u.String()), v1alpha1.DatabaseUnreachable).Error, "several servers")
}

func forward(client net.Conn, address string) {
	defer client.Close()
	server, err := (&net.Dialer{}).Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(server, client) }()
	_, _ = io.Copy(client, server)
}

func TestMySQLSystemVersionedIsNotClean(t *testing.T) {
	db := maria.NewDatabase(t)
	mariadb.Exec(t, db, "CREATE TABLE v (i int) WITH SYSTEM VERSIONING")
	mustContain(t, mustFail(t, migrateTo(t, migrations.Dir(t, files{"1.sql": "CREATE TABLE a (i int);"}), db), v1alpha1.HistoryConflict).Error, `found table "v"`)
}
