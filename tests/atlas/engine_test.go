// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// engine is what tests have to know of a kind of database.
type engine struct {
	name string
	// database makes an empty one, and returns its URL.
	database func(*testing.T) string
	exec     func(t testing.TB, url, sql string)
	await    func(t testing.TB, url, sql string)
	// empty removes everything from a database, which is faster than to make another one.
	empty func(t *testing.T, url string)
	// hold executes SQL in a session that is left open until release is called.
	hold func(t *testing.T, url, sql string) (release func())
	// dump shows everything but the rows of the history.
	dump func(t *testing.T, url string) string
	// schema is where the history is if nobody says anything, and elsewhere the name of another place for it, which does not exist yet.
	schema, elsewhere func(url string) string
	// sleep is a query of one row that takes so many seconds, as a format, and current the expression for the schema that is used.
	sleep, current string
	// cut ends all other sessions of the database, in the middle of whatever they do.
	cut func(t *testing.T, url string)
	// awaitSlow waits until a session is in the middle of a statement that creates a table named slow.
	awaitSlow func(t *testing.T, url string)
	// lock is SQL that takes the lock of migrations, and free one that tells whether nobody has it.
	lock, free string
}

var engines = []*engine{postgresql, mysql}

var postgresql = &engine{
	name:     "PostgreSQL",
	database: func(t *testing.T) string { return server.NewDatabase(t) },
	exec:     postgres.Exec,
	empty: func(t *testing.T, url string) {
		postgres.Exec(t, url, `DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
				EXECUTE format('DROP SCHEMA %I CASCADE', name);
			END LOOP;
			CREATE SCHEMA public;
		END $$`)
	},
	await: postgres.Await,
	hold: func(t *testing.T, url, sql string) func() {
		conn := postgres.Connect(t, url)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return func() { _ = conn.Close(t.Context()) }
	},
	dump: func(t *testing.T, url string) string {
		return postgres.Dump(t, url, "--exclude-table-data=*.atlas_schema_revisions")
	},
	schema:    func(string) string { return "atlas_schema_revisions" },
	elsewhere: func(string) string { return "elsewhere" },
	sleep:     "SELECT 1 AS i FROM pg_sleep(%g)",
	current:   "current_schema",
	cut: func(t *testing.T, url string) {
		postgres.Exec(t, url, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	},
	awaitSlow: func(t *testing.T, url string) { postgres.AwaitSleep(t, url) },
	lock:      "SELECT pg_advisory_lock(" + lockNumber + ")",
	free:      "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
}

// lockNumber is what Atlas makes of the name of its lock, atlas_migrate_execute.
const lockNumber = "2686470616"

var mysql = &engine{
	name: "MariaDB",
	database: func(t *testing.T) string {
		url := maria.NewDatabase(t)
		t.Cleanup(func() { mariadb.Exec(t, maria.AdminURL(), "DROP DATABASE IF EXISTS "+nameOf(url)+"_elsewhere") })
		return url
	},
	exec: mariadb.Exec,
	empty: func(t *testing.T, url string) {
		name := nameOf(url)
		mariadb.Exec(t, url, "DROP DATABASE "+name+"; CREATE DATABASE "+name+"; DROP DATABASE IF EXISTS "+name+"_elsewhere")
	},
	await: mariadb.Await,
	hold: func(t *testing.T, url, sql string) func() {
		conn := mariadb.Connect(t, url)
		if _, err := conn.ExecContext(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return func() { _ = conn.Close() }
	},
	dump: func(t *testing.T, url string) string {
		return mariadb.Dump(t, url, "--ignore-table-data="+nameOf(url)+".atlas_schema_revisions")
	},
	schema:    nameOf,
	elsewhere: func(url string) string { return nameOf(url) + "_elsewhere" },
	sleep:     "SELECT SLEEP(%g) AS i",
	current:   "DATABASE()",
	cut: func(t *testing.T, url string) {
		mariadb.Exec(t, url, `BEGIN NOT ATOMIC
			DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; -- it has ended already
			FOR other IN (SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()) DO KILL other.id; END FOR;
		END`)
		mariadb.Await(t, url, "SELECT COUNT(*) = 1 FROM information_schema.processlist WHERE db = DATABASE()")
	},
	awaitSlow: func(t *testing.T, url string) { mariadb.AwaitStatement(t, url, "CREATE TABLE slow") },
	lock:      "DO GET_LOCK('atlas_migrate_execute', 10)",
	free:      "SELECT IS_FREE_LOCK('atlas_migrate_execute')",
}

// is asks a query of one boolean.
func (e *engine) is(t *testing.T, url, query string) bool {
	t.Helper()
	if e == postgresql {
		return rows(t, url, "SELECT ("+query+") AS yes") == `{"yes": true}`
	}
	return mariadb.Query(t, url, query) == `["1"]`
}

// nameOf is the name of the database of a URL.
func nameOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// columns of the history in which two runs of the same can agree: not times, and not who they were.
var columns = []string{"version", "description", "type", "applied", "total", "error", "error_stmt", "hash", "partial_hashes"}

// history returns the rows of the history by version, or nothing where there is none.
func (e *engine) history(t *testing.T, url, schema string) string {
	t.Helper()
	table := schema + ".atlas_schema_revisions"
	if e == postgresql {
		if rows(t, url, "SELECT to_regclass('"+table+"') IS NULL AS missing") == `{"missing": true}` {
			return ""
		}
		return rows(t, url, "SELECT "+strings.Join(columns, ", ")+" FROM "+table+` ORDER BY version COLLATE "C"`)
	}
	if mariadb.Query(t, url, fmt.Sprintf("SELECT 1 FROM information_schema.tables WHERE CONCAT(table_schema, '.', table_name) = '%s'", table)) == "" {
		return ""
	}
	var fields []string
	for _, column := range columns {
		fields = append(fields, fmt.Sprintf("'%s', %[1]s", column))
	}
	var lines []string
	for line := range strings.Lines(mariadb.Query(t, url, "SELECT JSON_OBJECT("+strings.Join(fields, ", ")+") FROM "+table+" ORDER BY version")) {
		var values []string
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, values[0])
	}
	return strings.Join(lines, "\n")
}
