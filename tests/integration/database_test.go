// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// connect to the test's database as its superuser.
func (h *hand) connect() *pgx.Conn {
	h.t.Helper()
	return postgres.Connect(h.t, h.url)
}

func (h *hand) exec(sql string) {
	h.t.Helper()
	tag, err := h.connect().Exec(h.ctx, sql)
	h.must(err)
	if strings.HasPrefix(sql, "UPDATE") && tag.RowsAffected() != 1 {
		h.t.Fatalf("%s: %s", sql, tag)
	}
}

// column is the first column of a query's rows, as text.
func (h *hand) column(sql string) []string {
	h.t.Helper()
	rows, err := h.connect().Query(h.ctx, sql)
	h.must(err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	h.must(err)
	return values
}

// tables of the application, in order.
func (h *hand) tables() string {
	h.t.Helper()
	return strings.Join(h.column("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"), " ")
}

// endSleep ends the sleep that a killed runner left behind in the server.
func (h *hand) endSleep() {
	h.t.Helper()
	postgres.AwaitSleep(h.t, h.url)
	h.exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
}

// holdAdvisoryLock takes the lock of the Atlas CLI, as another tool at work would.
func (h *hand) holdAdvisoryLock() {
	h.t.Helper()
	id := fnv.New32()
	_, _ = id.Write([]byte("atlas_migrate_execute"))
	h.holder = h.connect()
	_, err := h.holder.Exec(h.ctx, "SELECT pg_advisory_lock($1)", int64(id.Sum32()))
	h.must(err)
}

func (h *hand) freeAdvisoryLock() {
	h.t.Helper()
	h.must(h.holder.Close(h.ctx))
}
