//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"database/sql"
	"maps"
	"strings"

	"github.com/onsi/ginkgo/v2"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// One app through all its releases, in a namespace that enforces restricted pods.
var _ = ginkgo.Describe("MariaDB", ginkgo.Ordered, func() {
	var team *stage.Team
	files := map[string]string{"1_orders.sql": "CREATE TABLE orders (id int PRIMARY KEY) ENGINE=InnoDB;\nINSERT INTO orders VALUES (1), (2);\n"}
	release := func(tag string, more map[string]string) {
		tb := ginkgo.GinkgoTB()
		maps.Copy(files, more)
		image := team.Image(tb, tag, files)
		team.Update(tb, "orders", func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Image = image })
	}
	ginkgo.BeforeAll(func() { team = reported(on.NewMariaDBTeam(ginkgo.GinkgoTB(), "mariadb")) })

	ginkgo.It("is migrated from one release to the next", func() {
		tb := ginkgo.GinkgoTB()
		team.Create(tb, "orders", team.Image(tb, "v1", files))
		team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		release("v2", map[string]string{"2_total.sql": "ALTER TABLE orders ADD COLUMN total int;\nUPDATE orders SET total = 10 * id;\n"})
		obj := team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		if applied := obj.Status.Migration.Applied; len(applied) != 1 || applied[0].Version != "2" || applied[0].Statements != 2 {
			tb.Errorf("applied %+v, want both statements of version 2", applied)
		}
		expectColumn(team, "SELECT total FROM orders ORDER BY id", "10 20")
	})

	ginkgo.It("goes on in a file that was corrected, behind what has been executed", func() {
		tb := ginkgo.GinkgoTB()
		const first = "CREATE TABLE journal (step int);\nINSERT INTO journal VALUES (1);\n"
		release("v3", map[string]string{"3_journal.sql": first + "INSERT INTO jornal VALUES (2);\n"})
		obj := team.Ready(tb, "orders", v1alpha1.ReasonJobFailed)
		if f := obj.Status.Migration.Failure; f.Class != v1alpha1.StatementFailed || f.File != "3_journal.sql" || f.Statement != 3 || !strings.Contains(f.Error, "jornal") {
			tb.Errorf("failure %+v, want the third statement of 3_journal.sql", f)
		}
		release("v3-fixed", map[string]string{"3_journal.sql": first + "INSERT INTO journal VALUES (2);\n"})
		obj = team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		if applied := obj.Status.Migration.Applied; len(applied) != 1 || applied[0].Statements != 1 {
			tb.Errorf("applied %+v, want the corrected statement only", applied)
		}
		expectColumn(team, "SELECT step FROM journal ORDER BY step", "1 2")
	})

	// MariaDB has a statement wait for a table no longer than its client is there. So this one took no effect, and it has ended when the next
	// run has the lock that the session held.
	ginkgo.It("asks whether a CREATE TABLE took effect where its runner was killed", func() {
		tb := ginkgo.GinkgoTB()
		app := mariadb.Connect(tb, team.MariaDB(tb))
		execIn(app, "LOCK TABLES orders WRITE")
		release("v4", map[string]string{
			"4_archive.sql": "INSERT INTO journal VALUES (3);\nCREATE TABLE archive LIKE orders;\nINSERT INTO journal VALUES (4);\n",
		})
		team.Ready(tb, "orders", v1alpha1.ReasonMigrationInProgress)
		mariadb.AwaitStatement(tb, team.MariaDB(tb), "CREATE TABLE archive")
		kill(team, "orders")
		doubt := team.Ready(tb, "orders", v1alpha1.ReasonInDoubt)
		if f := doubt.Status.Migration.Failure; f.File != "4_archive.sql" || f.Statement != 2 {
			tb.Errorf("in doubt is statement %d of %s, want 2 of 4_archive.sql", f.Statement, f.File)
		}
		expectColumn(team, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'archive'", "0")
		execIn(app, "UNLOCK TABLES")
		redo(team, doubt)
		expectColumn(team, "SELECT step FROM journal ORDER BY step", "1 2 3 4")
		expectColumn(team, "SELECT version FROM atlas_schema_revisions WHERE applied = total AND type <> 0 ORDER BY version", "1 2 3 4")
	})
})

// expectColumn holds that a query gives these values.
func expectColumn(team *stage.Team, query, want string) {
	tb := ginkgo.GinkgoTB()
	if got := strings.Join(team.Query(tb, query), " "); got != want {
		tb.Errorf("%s: %s, want %s", query, got, want)
	}
}

// execIn executes a statement in a session that stays.
func execIn(session *sql.DB, statement string) {
	tb := ginkgo.GinkgoTB()
	if _, err := session.ExecContext(tb.Context(), statement); err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
}
