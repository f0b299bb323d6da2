//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/onsi/ginkgo/v2"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// Arguments of kubectl, to install manifests, and to wait until the operator is the one that they ask for.
var (
	apply     = []string{"apply", "--server-side", "--force-conflicts", "--filename=-"}
	rolledOut = []string{"rollout", "status", "deployment/" + stage.Manager, "--namespace=" + stage.Namespace, "--timeout=180s"}
)

// What happens to the operator happens to all of its objects, so these are alone.
var _ = ginkgo.Describe("In the middle of a migration", ginkgo.Serial, func() {
	ginkgo.It("the operator restarts, and loses its leader", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("restart")
		g := closeGate(tb, team)
		team.Create(tb, "orders", team.Image(tb, "v1", gated))
		g.reached(tb)
		before := team.Ready(tb, "orders", v1alpha1.ReasonMigrationInProgress)

		team.Kubectl(tb, "", "rollout", "restart", "deployment/"+stage.Manager, "--namespace="+stage.Namespace)
		on.Kubectl(tb, "", rolledOut...)
		afterwards("", rolledOut...)
		team.Kubectl(tb, "", "delete", "pod", on.Leader(tb).Name, "--wait=false", "--namespace="+stage.Namespace)
		g.open(tb)

		after := team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		expectOnce(tb, team)
		expectSameAttempt(tb, team, before, after)
	})

	ginkgo.It("the operator is upgraded", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("upgrade")
		first := map[string]string{"20260101000000_runs.sql": gated["20260101000000_runs.sql"]}
		team.Create(tb, "orders", team.Image(tb, "v1", first))
		team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		g := closeGate(tb, team)
		v2 := team.Image(tb, "v2", gated)
		team.Update(tb, "orders", func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Image = v2 })
		g.reached(tb)
		before := team.Ready(tb, "orders", v1alpha1.ReasonMigrationInProgress)

		manifests := on.Kubectl(tb, "", "kustomize", stage.Root()+"/tests/stage/operator")
		tagOperator(tb, "next")
		afterwards("", rolledOut...)
		afterwards(manifests, apply...)
		on.Kubectl(tb, strings.ReplaceAll(manifests, "/dbupgrade-operator:local", "/dbupgrade-operator:next"), apply...)
		on.Kubectl(tb, "", rolledOut...)
		g.open(tb)

		after := team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		expectOnce(tb, team)
		expectSameAttempt(tb, team, before, after)
		expectUpgraded(tb, team, after, false)

		// Only what is new runs in the new image.
		v3 := map[string]string{"20260103000000_more.sql": "CREATE TABLE more ();\n"}
		for file, sql := range gated {
			v3[file] = sql
		}
		image := team.Image(tb, "v3", v3)
		team.Update(tb, "orders", func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Image = image })
		last := team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		if last.Status.Attempt.Number != 3 {
			tb.Errorf("attempt %d, want one for each image", last.Status.Attempt.Number)
		}
		expectUpgraded(tb, team, last, true)
	})
})

// tagOperator gives the operator's image another name in the registry.
func tagOperator(tb testing.TB, tag string) {
	tb.Helper()
	repository := on.Cluster.Push + "/dbupgrade-operator"
	from, err := name.NewTag(repository+":local", name.Insecure)
	if err != nil {
		tb.Fatal(err)
	}
	image, err := remote.Get(from, remote.WithContext(tb.Context()))
	if err != nil {
		tb.Fatal(err)
	}
	if err := remote.Tag(from.Context().Tag(tag), image, remote.WithContext(tb.Context())); err != nil {
		tb.Fatal(err)
	}
}

// expectSameAttempt holds that no further Job was made between two looks at an object.
func expectSameAttempt(tb testing.TB, team *stage.Team, before, after *v1alpha1.DBUpgrade) {
	tb.Helper()
	was, is := before.Status.Attempt, after.Status.Attempt
	if is.Number != was.Number || is.JobUID != was.JobUID {
		tb.Errorf("attempt %d in Job %s, before %d in %s", is.Number, is.JobUID, was.Number, was.JobUID)
	}
	if jobs := team.Jobs(tb); int64(len(jobs)) != is.Number {
		tb.Errorf("%d Jobs for %d attempts", len(jobs), is.Number)
	}
}

// expectUpgraded says whether a Job is the upgraded operator's. The first one's image has a digest or a tag, by what other stories have done to it.
func expectUpgraded(tb testing.TB, team *stage.Team, obj *v1alpha1.DBUpgrade, want bool) {
	tb.Helper()
	job := stage.Get[batchv1.Job](team, tb, obj.Status.Attempt.Job)
	if image := job.Spec.Template.Spec.Containers[0].Image; strings.HasSuffix(image, "/dbupgrade-operator:next") != want {
		tb.Errorf("Job %s has the image %s", job.Name, image)
	}
}
