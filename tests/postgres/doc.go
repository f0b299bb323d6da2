// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package postgres runs throw-away PostgreSQL servers for tests.
//
// A server is a real one, started from the binaries of an installed PostgreSQL
// package, with its data in a temporary directory and its port on 127.0.0.1.
// It asks for a password (SCRAM), as production servers do, and skips fsync, as
// they must not. It ends with the test, and also when the test's process is
// killed.
//
// One server for each test:
//
//	server := postgres.Start(t)
//	url := server.NewDatabase(t)
//
// One server for a whole package:
//
//	var server *postgres.Server
//
//	func TestMain(m *testing.M) { os.Exit(postgres.Main(m, &server)) }
//
// Where PostgreSQL is missing, a test that asks for a server or a database
// fails if CI is true, and is skipped with a message that names the package if
// it is not.
package postgres
