// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package migrate applies an Atlas directory of migrations to a PostgreSQL database.
//
// A run goes through these steps, and each failure has a class of its own:
//
//  1. Read the directory once, and check it against its atlas.sum. What was checked is what is executed.
//  2. Open one connection. Lock, statements and history all use it, so that losing it ends all of them.
//  3. Take the advisory lock of the Atlas CLI.
//  4. Read the history, the table atlas_schema_revisions, which the Atlas CLI shares. A statement of unknown outcome ends the run here.
//  5. Ask Atlas which files are pending, and execute each: in a transaction that also holds its row of the history, or,
//     with "-- atlas:txmode none", statement by statement.
//
// Outside a transaction, a statement and the row that counts it cannot commit together. Before such a statement its row says that it
// was started; the row's next version, written after it, does not. A row that still says so was left by a run that was cut off, and only
// a person can tell whether the statement took effect.
//
// A cancelled context cancels the running statement through a cancel request, which leaves the connection intact, so that what
// follows, a rollback or the row of the history, can still be written.
package migrate
