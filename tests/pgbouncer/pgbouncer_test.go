// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package pgbouncer

import (
	"net/url"
	"os"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

var server *postgres.Server

func TestMain(m *testing.M) { os.Exit(postgres.Main(m, &server)) }

// What a session keeps survives a transaction in session mode. In transaction
// mode another client gets the same connection, with what the first one left.
func TestModes(t *testing.T) {
	for mode, leaks := range map[Mode]bool{Session: false, Transaction: true} {
		t.Run(string(mode), func(t *testing.T) {
			database := server.NewDatabase(t)
			pooled := Start(t, database, mode, WithSetting("default_pool_size", "2"))
			if u, err := url.Parse(pooled); err != nil || u.Path == "" || pooled == database {
				t.Fatalf("pooled URL %q of %q: %v", pooled, database, err)
			}
			first, second := postgres.Connect(t, pooled), postgres.Connect(t, pooled)
			if _, err := first.Exec(t.Context(), "SET statement_timeout = '1234s'"); err != nil {
				t.Fatal(err)
			}
			var timeout string
			if err := second.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&timeout); err != nil {
				t.Fatal(err)
			}
			if got := timeout == "1234s"; got != leaks {
				t.Errorf("the second client's statement_timeout is %s", timeout)
			}
		})
	}
}
