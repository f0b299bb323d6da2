//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var _ = ginkgo.Describe("A deletion", func() {
	ginkgo.It("waits for a long statement, and is refused in the foreground", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("deletion")
		g := closeGate(tb, team)
		team.Create(tb, "orders", team.Image(tb, "v1", gated))
		g.reached(tb)
		running := team.Ready(tb, "orders", v1alpha1.ReasonMigrationInProgress)

		expectRefused(tb, "would cut off attempt 1", "delete", "dbu", "orders", "--cascade=foreground", "--namespace="+team.Namespace)
		team.Kubectl(tb, "", "delete", "dbu", "orders", "--wait=false", "--namespace="+team.Namespace)
		team.Ready(tb, "orders", v1alpha1.ReasonDeleting)
		expectRefused(tb, "would cut off attempt 1", "delete", "dbu", "orders", "--cascade=foreground", "--namespace="+team.Namespace)

		g.open(tb)
		stage.Gone[v1alpha1.DBUpgrade](team, tb, "orders")
		expectOnce(tb, team)
		expectUnlocked(tb, running)
	})

	ginkgo.It("of the whole namespace ends the migration in order", func() {
		tb := ginkgo.GinkgoTB()
		// The database is elsewhere, so that it can be asked afterwards.
		home, team := newTeam("home"), newTeam("leaving")
		far := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: team.Namespace, Name: "far"},
			StringData: map[string]string{"url": "postgres://app:secret@postgres." + home.Namespace + ":5432/app?sslmode=disable"},
		}
		if err := team.Client.Create(tb.Context(), far); err != nil {
			tb.Fatal(err)
		}
		g := closeGate(tb, home)
		team.Create(tb, "orders", team.Image(tb, "v1", gated), func(d *v1alpha1.DBUpgrade) { d.Spec.Database.Connection.URLSecretRef.Name = "far" })
		g.reached(tb)
		running := team.Ready(tb, "orders", v1alpha1.ReasonMigrationInProgress)

		ended := awaitRunner(tb, team, func() {
			team.Kubectl(tb, "", "delete", "namespace", team.Namespace, "--wait=false")
		})
		if ended.ExitCode != result.ClassOf(v1alpha1.Interrupted).ExitCode {
			tb.Errorf("the runner ended with %d: %s", ended.ExitCode, ended.Message)
		}
		team.Kubectl(tb, "", "wait", "--for=delete", "namespace/"+team.Namespace, "--timeout=300s")
		expectUnlocked(tb, running)
		if got := strings.Join(home.Applied(tb), " "); got != "20260101000000" {
			tb.Errorf("applied %s, want the file before the one that was cut off", got)
		}
		// Only the gate itself is locked: no session of the runner's lives on.
		if locks := home.Query(tb, "SELECT objid FROM pg_locks WHERE locktype = 'advisory'"); strings.Join(locks, " ") != "1" {
			tb.Errorf("advisory locks %s", locks)
		}

		// So the next one goes on where it was.
		g.open(tb)
		home.Create(tb, "orders", home.Image(tb, "v1", gated))
		home.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		if got := strings.Join(home.Applied(tb), " "); got != "20260101000000 20260102000000" {
			tb.Errorf("applied %s", got)
		}
	})
})

// awaitRunner starts something, and returns how the container "migrate" of the team ends after it.
func awaitRunner(tb testing.TB, team *stage.Team, start func()) *corev1.ContainerStateTerminated {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 3*time.Minute)
	defer cancel()
	pods, err := team.Client.Watch(ctx, &corev1.PodList{}, client.InNamespace(team.Namespace), client.HasLabels{upgrade.LabelOwner})
	if err != nil {
		tb.Fatal(err)
	}
	defer pods.Stop()
	start()
	for event := range pods.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			tb.Fatalf("watch pods: %v", event.Object)
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Terminated != nil {
				return c.State.Terminated
			}
		}
	}
	tb.Fatal("the pod went away without a word")
	return nil
}

// expectUnlocked holds that no Lease is the Job's any more.
func expectUnlocked(tb testing.TB, obj *v1alpha1.DBUpgrade) {
	tb.Helper()
	var leases coordinationv1.LeaseList
	if err := on.Client.List(tb.Context(), &leases, client.InNamespace(stage.Namespace)); err != nil {
		tb.Fatal(err)
	}
	for _, lease := range leases.Items {
		if holder := lease.Spec.HolderIdentity; holder != nil && *holder == string(obj.Status.Attempt.JobUID) {
			tb.Errorf("Lease %s is still held by Job %s", lease.Name, obj.Status.Attempt.Job)
		}
	}
}

// expectRefused holds that kubectl fails with these words.
func expectRefused(tb testing.TB, words string, args ...string) {
	tb.Helper()
	out, err := on.TryKubectl(tb.Context(), "", args...)
	if err == nil || !strings.Contains(out, words) {
		tb.Errorf("kubectl %s: %v, without the words %q:\n%s", strings.Join(args, " "), err, words, out)
	}
}
