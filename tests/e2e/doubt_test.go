//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// resolveDoubt: a runner is killed in the middle of a statement outside of a transaction, and then a person ends the session that it has left
// behind. So the statement took no effect.
func resolveDoubt(s *site) {
	tb := ginkgo.GinkgoTB()
	g := &gate{conn: s.connect()}
	g.exec(tb, "SELECT pg_advisory_lock(1)")
	s.secret(s.url())
	s.create(s.push(map[string]string{
		"1_journal.sql": "CREATE TABLE journal (step int);\n",
		"2_steps.sql": "-- atlas:txmode none\n\nINSERT INTO journal VALUES (1);\n" +
			"INSERT INTO journal SELECT 2 FROM pg_advisory_xact_lock_shared(1);\nINSERT INTO journal VALUES (3);\n",
	}))
	g.reached(tb)
	kill(s.Team, s.name)
	g.exec(tb, "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted")
	g.open(tb)

	doubt := s.Ready(tb, s.name, v1alpha1.ReasonInDoubt)
	if failure := doubt.Status.Migration.Failure; failure.File != "2_steps.sql" || failure.Statement != 2 {
		tb.Errorf("in doubt is statement %d of %s, want 2 of 2_steps.sql", failure.Statement, failure.File)
	}
	redo(s.Team, doubt)
	if got := s.query("SELECT string_agg(step::text, ' ' ORDER BY step) FROM journal"); got != "1 2 3" {
		tb.Errorf("the steps ran: %s, want each once", got)
	}
}

// kill kills the runner of a DBUpgrade's attempt in the middle of the migration, and asks for another attempt at once.
func kill(team *stage.Team, name string) {
	tb := ginkgo.GinkgoTB()
	if team.Provider == "kind" {
		ginkgo.Skip("NOT TESTED: a container of a node of kind's cannot be killed from here")
	}
	running := team.Ready(tb, name, v1alpha1.ReasonMigrationInProgress)
	var pods corev1.PodList
	err := team.Client.List(tb.Context(), &pods, client.InNamespace(team.Namespace), client.MatchingLabels{"job-name": running.Status.Attempt.Job})
	if err != nil || len(pods.Items) != 1 {
		tb.Fatalf("%d pods of Job %s: %v", len(pods.Items), running.Status.Attempt.Job, err)
	}
	team.KillContainer(tb, &pods.Items[0], upgrade.MigrateContainer)
	team.Ready(tb, name, v1alpha1.ReasonInterrupted)
	team.Update(tb, name, retry)
}

// redo does what the message of the doubt says where the statement took no effect, to the letter, and waits until the migrations are applied.
func redo(team *stage.Team, doubt *v1alpha1.DBUpgrade) {
	tb := ginkgo.GinkgoTB()
	told := regexp.MustCompile(`If it took no effect: kubectl (annotate .*=redo:[A-Z2-7]{8} --overwrite); if it did, `).FindStringSubmatch(ready(doubt).Message)
	if told == nil {
		tb.Fatalf("message %q does not say what to do", ready(doubt).Message)
	}
	team.Kubectl(tb, "", strings.Fields(told[1])...)
	obj := team.Ready(tb, doubt.Name, v1alpha1.ReasonMigrationComplete)
	if got, want := obj.Status.Attempt.Number, doubt.Status.Attempt.Number+1; got != want {
		tb.Errorf("Ready by attempt %d, want %d", got, want)
	}
}
