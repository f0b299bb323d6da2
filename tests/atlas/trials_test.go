// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"slices"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// The wanted differences.
var (
	earlyHistory    = difference{name: "early-history", aspects: []string{"dump"}}
	sameBlock       = difference{name: "directive-without-blank-line", aspects: slices.Concat([]string{"outcome", "dump"}, row)}
	fileUnderNone   = difference{name: "file-under-none", aspects: slices.Concat([]string{"dump"}, row)}
	mixedFile       = difference{name: "mixed-file", aspects: slices.Concat([]string{"dump", "partial_hashes"}, row)}
	staleError      = difference{name: "stale-error", aspects: []string{repaired + "error", repaired + "error_stmt"}}
	lateFile        = difference{name: "late-file-in-part", aspects: []string{repaired + "dump", repaired + "applied", repaired + "error", repaired + "error_stmt", repaired + "partial_hashes"}}
	targetApplied   = difference{name: "target-applied", aspects: []string{"outcome"}}
	lockRetry       = difference{name: "lock-retry", aspects: slices.Concat([]string{"outcome", "dump"}, row)}
	lockRetryInPart = difference{name: "lock-retry", aspects: []string{"outcome", "dump", "applied", "error", "error_stmt", "partial_hashes"}}
	allOrNothing    = difference{name: "all-or-nothing", aspects: slices.Concat([]string{"outcome", "dump"}, row)}
	timeoutWords    = difference{name: "timeout-words", aspects: []string{"error"}}
	leftoverNamed   = difference{name: "leftover-named", aspects: []string{"error", repaired + "error"}}
)

// row is what differs of a file that only one of both has a row of.
var row = []string{"version", "description", "type", "applied", "total", "error", "error_stmt", "hash"}

// plain is success on every engine.
var plain = files{
	"1_first.sql":  "CREATE TABLE a (i int PRIMARY KEY);\nINSERT INTO a VALUES (1);\n",
	"2_second.sql": "CREATE TABLE b (i int);\n",
	"3_third.sql":  "INSERT INTO a VALUES (3);\nINSERT INTO b VALUES (3);\n",
	"4_fourth.sql": "ALTER TABLE b ADD COLUMN j int;\n",
}

const (
	createA = "CREATE TABLE a (i int PRIMARY KEY);"
	missing = "INSERT INTO missing VALUES (1);"
	remedy  = "CREATE TABLE missing (i int)"
)

var trials = slices.Concat(basics, baselines, orders, modes, places, targets, timeouts)

var basics = []trial{
	{name: "success", files: plain},
	{name: "nothing pending", files: plain, earlier: plain},
	{name: "some pending", files: plain, earlier: plain.first(2)},
	{name: "failure, and its repair", files: files{"1.sql": createA, "2.sql": "INSERT INTO a VALUES (1);\n" + missing}, class: v1alpha1.StatementFailed, repair: remedy},
}

var baselines = []trial{
	{name: "baseline", files: plain, setup: plain["1_first.sql"], flags: []string{"--baseline=1"}},
	{name: "baseline is the last", files: plain.first(1), setup: plain["1_first.sql"], flags: []string{"--baseline=1"}},
	{name: "baseline is not the first", files: plain, setup: plain["1_first.sql"] + plain["2_second.sql"], flags: []string{"--baseline=2"}},
	{name: "baseline is unknown", files: plain, setup: createA, flags: []string{"--baseline=7"}, class: v1alpha1.IntegrityFailed, differs: []difference{earlyHistory}},
	{name: "baseline of a known database", files: plain, earlier: plain.first(1), flags: []string{"--baseline=3"}},
	{name: "dirty", files: plain, setup: "CREATE TABLE x (i int)", class: v1alpha1.HistoryConflict, differs: []difference{earlyHistory}},
	{name: "dirty allowed", files: plain, setup: "CREATE TABLE x (i int)", flags: []string{"--allow-dirty"}},
	{name: "dirty allowed, and refused by a statement", files: plain, setup: "CREATE TABLE b (i int)", flags: []string{"--allow-dirty"}, class: v1alpha1.StatementFailed,
		repair: "DROP TABLE b", differs: []difference{staleError.on(mysql)}},
	{name: "clean allowed to be dirty", files: plain, flags: []string{"--allow-dirty"}},
}

// Files were added between applied ones. This CLI cannot choose what that means and always goes on after the last one.
var (
	gap     = files{"1_first.sql": plain["1_first.sql"], "3_third.sql": "INSERT INTO a VALUES (3);\n"}
	filled  = files{"1_first.sql": gap["1_first.sql"], "2_second.sql": plain["2_second.sql"], "3_third.sql": gap["3_third.sql"], "4_fourth.sql": "INSERT INTO a VALUES (4);\n"}
	earlier = files{"0_zeroth.sql": plain["2_second.sql"], "1_first.sql": gap["1_first.sql"], "3_third.sql": gap["3_third.sql"], "4_fourth.sql": "INSERT INTO a VALUES (4);\n"}
)

var orders = []trial{
	{name: "linear", files: filled, earlier: filled.first(3), runner: []string{"--exec-order=linear"}},
	{name: "linear refuses", files: filled, earlier: gap, runner: []string{"--exec-order=linear"}, oracle: inOrder(linear), class: v1alpha1.HistoryConflict},
	{name: "linear is the default", files: filled, earlier: gap, oracle: inOrder(linear), class: v1alpha1.HistoryConflict},
	{name: "linear-skip", files: filled, earlier: gap, runner: []string{"--exec-order=linear-skip"}},
	{name: "non-linear", files: filled, earlier: gap, runner: []string{"--exec-order=non-linear"}, oracle: inOrder(nonLinear)},
	{name: "non-linear fails", files: files{"1_first.sql": filled["1_first.sql"], "2_second.sql": missing, "3_third.sql": gap["3_third.sql"]},
		earlier: gap, runner: []string{"--exec-order=non-linear", "--tx-mode=none"}, oracle: inOrder(nonLinear), class: v1alpha1.StatementFailed, repair: remedy, differs: []difference{lateFile}},
	{name: "before the first, linear", files: earlier, earlier: gap, runner: []string{"--exec-order=linear"}, oracle: inOrder(linear)},
	{name: "before the first, non-linear", files: earlier, earlier: gap, runner: []string{"--exec-order=non-linear"}, oracle: inOrder(nonLinear)},
}

var modes = []trial{
	{name: "tx-mode file", files: plain, flags: []string{"--tx-mode=file"}},
	{name: "tx-mode none", files: plain, flags: []string{"--tx-mode=none"}},
	{name: "tx-mode none fails", files: files{"1.sql": createA, "2.sql": "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\n" + missing + "\nINSERT INTO a VALUES (3);"},
		flags: []string{"--tx-mode=none"}, class: v1alpha1.StatementFailed, repair: remedy, differs: []difference{staleError}},
	{name: "tx-mode all", engine: postgresql, files: plain, flags: []string{"--tx-mode=all"}},
	{name: "tx-mode all fails", engine: postgresql, files: files{"1.sql": createA, "2.sql": "INSERT INTO a VALUES (1);", "3.sql": missing, "4.sql": "INSERT INTO a VALUES (4);"},
		flags: []string{"--tx-mode=all", "--allow-dirty"}, class: v1alpha1.StatementFailed, repair: remedy},
	{name: "tx-mode all", engine: mysql, earlier: files{"1.sql": createA}, files: files{"1.sql": createA, "2.sql": "INSERT INTO a VALUES (1);", "3.sql": "INSERT INTO a VALUES (2);"},
		flags: []string{"--tx-mode=all"}},
	{name: "tx-mode all fails", engine: mysql, earlier: files{"1.sql": createA}, files: files{"1.sql": createA, "2.sql": "INSERT INTO a VALUES (1);", "3.sql": missing},
		flags: []string{"--tx-mode=all"}, class: v1alpha1.StatementFailed, repair: remedy},
	{name: "tx-mode all of schema changes", engine: mysql, files: plain, flags: []string{"--tx-mode=all"}, class: v1alpha1.IntegrityFailed, differs: []difference{allOrNothing}},
	{name: "schema changes fail", files: files{"1.sql": createA, "2.sql": "CREATE TABLE b (i int);\nINSERT INTO a VALUES (1);\n" + missing + "\nINSERT INTO a VALUES (2);"},
		class: v1alpha1.StatementFailed, repair: remedy, differs: []difference{staleError.on(mysql)}},
	{name: "schema changes after data", engine: mysql, files: files{"1.sql": createA, "2.sql": "INSERT INTO a VALUES (1);\n" + missing + "\nCREATE TABLE b (i int);"},
		class: v1alpha1.StatementFailed, differs: []difference{mixedFile}},
	{name: "directive none", files: files{"1.sql": createA, "2.sql": none + "INSERT INTO a VALUES (1);\n" + missing + "\nINSERT INTO a VALUES (2);"},
		class: v1alpha1.StatementFailed, repair: remedy, differs: []difference{staleError}},
	{name: "directive none for an index", engine: postgresql, files: files{"1.sql": createA, "2.sql": none + "CREATE INDEX CONCURRENTLY a_i ON a (i);"}},
	{name: "directive none without a blank line", engine: postgresql, differs: []difference{sameBlock},
		files: files{"1.sql": createA, "2.sql": "-- atlas:txmode none\nCREATE INDEX CONCURRENTLY a_i ON a (i);"}},
	{name: "no directive for an index", engine: postgresql, files: files{"1.sql": createA, "2.sql": "CREATE INDEX CONCURRENTLY a_i ON a (i);"}, class: v1alpha1.StatementFailed},
	{name: "directive file under none", files: files{"1.sql": createA, "2.sql": file + "INSERT INTO a VALUES (1);", "3.sql": "INSERT INTO a VALUES (2);"}, flags: []string{"--tx-mode=none"}},
	{name: "directive file under none fails", engine: postgresql, files: files{"1.sql": createA, "2.sql": file + "INSERT INTO a VALUES (1);\n" + missing},
		flags: []string{"--tx-mode=none"}, class: v1alpha1.StatementFailed, repair: remedy},
	{name: "directive file under none, then a failure", engine: postgresql, files: files{"1.sql": createA, "2.sql": file + "INSERT INTO a VALUES (1);", "3.sql": missing},
		flags: []string{"--tx-mode=none"}, class: v1alpha1.StatementFailed, differs: []difference{fileUnderNone}},
	{name: "directive under all", engine: postgresql, files: files{"1.sql": createA, "2.sql": none + "INSERT INTO a VALUES (1);"}, flags: []string{"--tx-mode=all"},
		class: v1alpha1.IntegrityFailed, differs: []difference{earlyHistory}},
	{name: "directive unknown", files: files{"1.sql": "-- atlas:txmode most\n\n" + createA}, class: v1alpha1.IntegrityFailed, differs: []difference{earlyHistory}},
	{name: "directive all", files: files{"1.sql": "-- atlas:txmode all\n\n" + createA}, class: v1alpha1.IntegrityFailed, differs: []difference{earlyHistory}},
	{name: "directive twice", files: files{"1.sql": "-- atlas:txmode none\n-- atlas:txmode file\n\n" + createA}, class: v1alpha1.IntegrityFailed, differs: []difference{earlyHistory}},
}

var places = []trial{
	{name: "revisions schema", files: plain, flags: []string{"--revisions-schema=" + elsewhere}},
	{name: "revisions schema is there", files: plain, setup: "CREATE SCHEMA " + elsewhere, flags: []string{"--revisions-schema=" + elsewhere, "--allow-dirty"}},
	{name: "revisions schema, and a failure", files: files{"1.sql": createA, "2.sql": none + "INSERT INTO a VALUES (1);\n" + missing},
		flags: []string{"--revisions-schema=" + elsewhere}, class: v1alpha1.StatementFailed, repair: remedy, differs: []difference{staleError}},
	{name: "revisions schema of a database with a history elsewhere", files: plain, earlier: plain.first(1), flags: []string{"--revisions-schema=" + elsewhere},
		class: v1alpha1.HistoryConflict, differs: []difference{earlyHistory.on(postgresql)}},
	{name: "schema of the URL, and a history elsewhere", engine: postgresql, files: plain, earlier: plain.first(1), query: "search_path=public", class: v1alpha1.HistoryConflict},
	{name: "schema of the URL, and a history where the flag says", engine: postgresql, files: plain, earlier: plain.first(1), query: "search_path=public",
		flags: []string{"--revisions-schema=atlas_schema_revisions"}},
}

var targets = []trial{
	{name: "to-version", files: plain, earlier: plain.first(1), runner: []string{"--to-version=3"}, oracle: to("3")},
	{name: "to-version is the last", files: plain, earlier: plain.first(1), runner: []string{"--to-version=4"}, oracle: to("4")},
	{name: "to-version is unknown", files: plain, earlier: plain.first(1), runner: []string{"--to-version=7"}, oracle: to("7"), class: v1alpha1.IntegrityFailed},
	{name: "to-version fails", files: files{"1.sql": createA, "2.sql": none + missing, "3.sql": "INSERT INTO a VALUES (3);"}, earlier: files{"1.sql": createA},
		runner: []string{"--to-version=2"}, oracle: to("2"), class: v1alpha1.StatementFailed, repair: remedy},
	{name: "to-version is applied", files: plain, earlier: plain.first(2), runner: []string{"--to-version=1"}, oracle: to("1"), differs: []difference{targetApplied}},
}

var held = files{"1.sql": "CREATE TABLE held (i int);"}

var timeouts = []trial{
	{name: "lock timeout", engine: postgresql, files: plain, hold: postgresql.lock, flags: []string{"--lock-timeout=300ms"}, class: v1alpha1.LockTimeout, repair: "SELECT 1"},
	{name: "lock timeout", engine: mysql, files: plain, hold: mysql.lock, flags: []string{"--lock-timeout=1s"}, class: v1alpha1.LockTimeout, repair: "SELECT 1"},
	{name: "statement lock timeout", engine: postgresql, earlier: held, files: held.and("INSERT INTO held VALUES (1);\nINSERT INTO held VALUES (2);"),
		hold: "BEGIN; LOCK TABLE held", runner: []string{"--statement-lock-timeout=200ms"}, variables: "lock_timeout=200ms",
		refused: giveUp, class: v1alpha1.LockTimeout, repair: "SELECT 1"},
	{name: "statement lock timeout passes", engine: postgresql, earlier: held, files: held.and("INSERT INTO held VALUES (1);\nINSERT INTO held VALUES (2);"),
		hold: "BEGIN; LOCK TABLE held", refused: letGo, runner: []string{"--statement-lock-timeout=200ms"}, variables: "lock_timeout=200ms",
		differs: []difference{lockRetry}},
	{name: "statement lock timeout of data", engine: mysql, earlier: held, files: held.and("INSERT INTO held VALUES (1);\nINSERT INTO held VALUES (2);"),
		hold: "LOCK TABLES held WRITE", runner: []string{"--statement-lock-timeout=1s"}, variables: "lock_wait_timeout=1&innodb_lock_wait_timeout=1",
		refused: giveUp, class: v1alpha1.LockTimeout, repair: "SELECT 1"},
	{name: "statement lock timeout of a schema", engine: mysql, earlier: held, files: held.and("CREATE TABLE b (i int);\nALTER TABLE held ADD COLUMN j int;"),
		hold: "LOCK TABLES held WRITE", runner: []string{"--statement-lock-timeout=1s"}, variables: "lock_wait_timeout=1&innodb_lock_wait_timeout=1",
		refused: giveUp, class: v1alpha1.LockTimeout, repair: "SELECT 1", differs: []difference{staleError}},
	{name: "statement lock timeout of a schema passes", engine: mysql, earlier: held, files: held.and("CREATE TABLE b (i int);\nALTER TABLE held ADD COLUMN j int;"),
		hold: "LOCK TABLES held WRITE", refused: letGo, runner: []string{"--statement-lock-timeout=1s"},
		variables: "lock_wait_timeout=1&innodb_lock_wait_timeout=1", differs: []difference{lockRetryInPart}},
	{name: "statement lock timeout of an index", engine: postgresql, earlier: held, files: held.and(none + "CREATE INDEX CONCURRENTLY held_i ON held (i);"),
		hold: "BEGIN; INSERT INTO held VALUES (1)", runner: []string{"--statement-lock-timeout=200ms"}, variables: "lock_timeout=200ms",
		class: v1alpha1.StatementFailed, repair: "SELECT 1", resolved: v1alpha1.StatementFailed, differs: []difference{leftoverNamed}},
	{name: "statement lock timeout is not reached", engine: postgresql, files: plain, runner: []string{"--statement-lock-timeout=20s"}, variables: "lock_timeout=20s"},
	{name: "statement lock timeout is not reached", engine: mysql, files: plain, runner: []string{"--statement-lock-timeout=20s"}, variables: "lock_wait_timeout=20"},
	{name: "statement timeout", engine: postgresql, earlier: held, files: held.and("INSERT INTO held VALUES (1);\nSELECT pg_sleep(60);"),
		runner: []string{"--statement-timeout=200ms"}, variables: "statement_timeout=200ms", class: v1alpha1.StatementFailed},
	{name: "statement timeout without a transaction", engine: postgresql, earlier: held, files: held.and(none + "INSERT INTO held VALUES (1);\nSELECT pg_sleep(60);"),
		runner: []string{"--statement-timeout=200ms"}, variables: "statement_timeout=200ms", class: v1alpha1.StatementFailed},
	{name: "statement timeout", engine: mysql, earlier: held, files: held.and("INSERT INTO held VALUES (1);\nINSERT INTO held SELECT SLEEP(60);"),
		runner: []string{"--statement-timeout=200ms"}, variables: "max_statement_time=0.2", class: v1alpha1.StatementFailed},
	{name: "statement timeout of a schema", engine: mysql, earlier: held, files: held.and("INSERT INTO held VALUES (1);\nCREATE TABLE b AS SELECT SLEEP(60) AS i;"),
		runner: []string{"--statement-timeout=200ms"}, variables: "max_statement_time=0.2", class: v1alpha1.StatementFailed, differs: []difference{timeoutWords}},
	{name: "statement timeout is not reached", engine: postgresql, files: plain, runner: []string{"--statement-timeout=20s"}, variables: "statement_timeout=20s"},
	{name: "statement timeout is not reached", engine: mysql, files: plain, runner: []string{"--statement-timeout=20s"}, variables: "max_statement_time=20"},
}
