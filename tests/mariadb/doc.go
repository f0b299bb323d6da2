// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package mariadb runs throw-away MariaDB servers for tests.
//
// A server is a real one, started from the binaries of an installed MariaDB
// package, with its data in a temporary directory and its port on 127.0.0.1. It
// asks for a password and writes as durably as a production server does. It
// ends with the test, and also when the test's process is killed.
//
// One server for each test:
//
//	server := mariadb.Start(t)
//	url := server.NewDatabase(t)
//
// One server for a whole package:
//
//	var server *mariadb.Server
//
//	func TestMain(m *testing.M) { os.Exit(mariadb.Main(m, &server)) }
//
// Where MariaDB is missing, a test that asks for a server or a database fails if
// CI is true, and is skipped with a message that names the package if it is not.
package mariadb
