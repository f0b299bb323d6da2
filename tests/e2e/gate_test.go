//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// gated are migrations of which the last takes until a test lets it pass. The sequence counts how often it was begun, since that is the one
// thing that no rollback takes back.
var gated = map[string]string{
	"20260101000000_runs.sql":  "CREATE SEQUENCE runs;\n",
	"20260102000000_gated.sql": "SELECT nextval('runs');\nSELECT pg_advisory_xact_lock(1);\nCREATE TABLE passed ();\n",
}

// gate keeps them from passing.
type gate struct {
	conn *pgx.Conn
}

func closeGate(tb testing.TB, team *stage.Team) *gate {
	tb.Helper()
	g := &gate{conn: team.DB(tb)}
	g.exec(tb, "SELECT pg_advisory_lock(1)")
	return g
}

// reached waits until somebody waits in front of the gate.
func (g *gate) reached(tb testing.TB) {
	tb.Helper()
	await(tb, g.conn, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted)")
}

// await asks the database until it says yes.
func await(tb testing.TB, conn *pgx.Conn, sql string) {
	tb.Helper()
	err := wait.PollUntilContextTimeout(tb.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		var yes bool
		err := conn.QueryRow(ctx, sql).Scan(&yes)
		return yes, err
	})
	if err != nil {
		tb.Fatalf("await %s: %v", sql, err)
	}
}

func (g *gate) open(tb testing.TB) {
	tb.Helper()
	g.exec(tb, "SELECT pg_advisory_unlock(1)")
}

func (g *gate) exec(tb testing.TB, sql string) {
	tb.Helper()
	if _, err := g.conn.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// expectOnce holds the gated migrations to having been begun once, and applied.
func expectOnce(tb testing.TB, team *stage.Team) {
	tb.Helper()
	if runs := team.Query(tb, "SELECT last_value FROM runs"); strings.Join(runs, "") != "1" {
		tb.Errorf("begun %s times", runs)
	}
	if got := strings.Join(team.Applied(tb), " "); got != "20260101000000 20260102000000" {
		tb.Errorf("applied %s", got)
	}
}
