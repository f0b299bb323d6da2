// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package migrate applies a directory of migrations to a PostgreSQL, MySQL or MariaDB database, or tells what that would be.
//
// A run goes through these steps, and each failure has a class of its own:
//
//  1. Read the directory once and verify it. What was verified is what is executed.
//  2. Open one session. Lock, statements and history all use it, so that losing it ends all of them.
//  3. Take the advisory lock of the Atlas CLI.
//  4. Read the history, the table atlas_schema_revisions, which the Atlas CLI shares. A statement of unknown outcome ends the run here, unless a person
//     has answered for it.
//  5. Ask Atlas which files are pending, see that all of them can be executed, and lint them. A plan ends here.
//  6. Execute each: in a transaction that also holds its row of the history, or statement by statement.
//
// Where a statement and the row that counts it cannot commit together, the row says before that the statement was started; the row's next version,
// written after it, does not. A row that still says so was left by a run that was cut off, or by a
// procedure that was, of which a part may stay; only a person can tell whether the statement took effect.
//
// What cannot have a lock of the database in time is tried again, the transaction as a whole or else the statement, unless that would leave something behind.
//
// A cancelled context has the database cancel the running statement, which leaves the connection intact, so that what follows, a rollback or the row of
// the history, can still be written.
//
// What differs between databases is behind the interface session, and nowhere else.
package migrate
