//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"

	"github.com/onsi/ginkgo/v2"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var _ = ginkgo.Describe("Two writers of one database", func() {
	ginkgo.It("follow one another", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("writers")
		g := closeGate(tb, team)
		image := team.Image(tb, "v1", gated)
		team.Create(tb, "first", image)
		g.reached(tb)

		second := strings.ReplaceAll(`
apiVersion: dbupgrade.subbug.learning/v1alpha1
kind: DBUpgrade
metadata: {name: second}
spec:
  migrations: {image: IMAGE}
  database: {type: selfHosted, connection: {urlSecretRef: {name: db, key: url}}}
`, "IMAGE", image)
		out, err := team.TryKubectl(tb.Context(), second, "create", "--filename=-", "--namespace="+team.Namespace)
		if err != nil || !strings.Contains(out, "Warning: ") || !strings.Contains(out, "the same database has migrations from first") {
			tb.Errorf("%v, without a warning: %s", err, out)
		}
		waiting := team.Ready(tb, "second", v1alpha1.ReasonWaitingForLock)
		if c := meta.FindStatusCondition(waiting.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(c.Message, "DBUpgrade "+team.Namespace+"/first is changing the same database") {
			tb.Errorf("message %q", c.Message)
		}
		if job := stage.Get[batchv1.Job](team, tb, waiting.Status.Attempt.Job); job.Spec.Suspend == nil || !*job.Spec.Suspend {
			tb.Errorf("Job %s is not suspended", job.Name)
		}

		g.open(tb)
		first := team.Ready(tb, "first", v1alpha1.ReasonMigrationComplete)
		after := team.Ready(tb, "second", v1alpha1.ReasonMigrationComplete)
		expectOnce(tb, team)
		if after.Status.StartedAt.Before(first.Status.CompletedAt) {
			tb.Errorf("the second started at %s, before the first was through at %s", after.Status.StartedAt, first.Status.CompletedAt)
		}
		if got := after.Status.Migration; len(got.Applied) != 0 || got.CurrentVersion != "20260102000000" {
			tb.Errorf("the second: %+v", got)
		}
	})
})
