//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var _ = ginkgo.Describe("A pod taken away in the middle of a file", func() {
	var team *stage.Team
	var gate *gate
	var pod *corev1.Pod

	ginkgo.BeforeEach(func() {
		tb := ginkgo.GinkgoTB()
		team = newTeam("taken-away")
		gate = closeGate(tb, team)
		team.Create(tb, "app", team.Image(tb, "gated", gated))
		gate.reached(tb)
		pod = onlyPod(team)
	})
	// twice opens the gate for the pod that came after, and checks that what the first one began has left nothing.
	twice := func() *v1alpha1.DBUpgrade {
		tb := ginkgo.GinkgoTB()
		gate.open(tb)
		obj := team.Ready(tb, "app", v1alpha1.ReasonMigrationComplete)
		if runs := team.Query(tb, "SELECT last_value FROM runs"); !slices.Equal(runs, []string{"2"}) {
			tb.Errorf("begun %s times", runs)
		}
		if applied := team.Applied(tb); !slices.Equal(applied, []string{"20260101000000", "20260102000000"}) {
			tb.Errorf("applied %s", applied)
		}
		return obj
	}

	ginkgo.It("by eviction is replaced within the attempt", func() {
		tb := ginkgo.GinkgoTB()
		if err := team.Client.SubResource("eviction").Create(tb.Context(), pod, &policyv1.Eviction{}); err != nil {
			tb.Fatal(err)
		}
		stage.Gone[corev1.Pod](team, tb, pod.Name)
		gate.reached(tb)
		if obj := twice(); obj.Status.Attempt.Number != 1 {
			tb.Errorf("%d attempts", obj.Status.Attempt.Number)
		}
	})

	ginkgo.It("by deletion is told, and followed by another attempt", func() {
		tb := ginkgo.GinkgoTB()
		if err := team.Client.Delete(tb.Context(), pod); err != nil {
			tb.Fatal(err)
		}
		tb.Log(ready(team.Ready(tb, "app", v1alpha1.ReasonInterrupted)).Message) // what the pod said may have gone with it
		gate.reached(tb)
		if obj := twice(); obj.Status.Attempt.Number != 2 {
			tb.Errorf("%d attempts", obj.Status.Attempt.Number)
		}
	})
})

// What these do to the node or the operator, every other team would feel.
var _ = ginkgo.Describe("A fault of all teams", ginkgo.Serial, func() {
	var team *stage.Team
	ginkgo.BeforeEach(func() { team = newTeam("all") })

	ginkgo.It("is told where the only node is cordoned, and is over with that", func() {
		tb := ginkgo.GinkgoTB()
		nodes := "--selector=" + corev1.LabelOSStable
		image := team.Image(tb, "v1", users)
		ginkgo.DeferCleanup(func(ctx context.Context) error {
			_, err := team.TryKubectl(ctx, "", "uncordon", nodes)
			return err
		})
		team.Kubectl(tb, "", "cordon", nodes)
		team.Create(tb, "app", image)
		pendingWith(team, "no node takes the pod of Job app-", "1 node(s) were unschedulable")
		team.Kubectl(tb, "", "uncordon", nodes)
		if obj := team.Ready(tb, "app", v1alpha1.ReasonMigrationComplete); obj.Status.Attempt.Number != 1 {
			tb.Errorf("%d attempts", obj.Status.Attempt.Number)
		}
	})

	ginkgo.It("is told where the operator's image cannot be pulled, and is over for those who then ask for another attempt", func() {
		tb := ginkgo.GinkgoTB()
		operator := &stage.Team{Stage: team.Stage, Namespace: stage.Namespace}
		image := stage.Get[appsv1.Deployment](operator, tb, stage.Manager).Spec.Template.Spec.Containers[0].Image
		absent := cluster.Registry + "/dbupgrade-operator:absent"
		use := func(ctx context.Context, image string) error {
			manager, namespace := "deployment/"+stage.Manager, "--namespace="+stage.Namespace
			for _, args := range [][]string{{"set", "env", manager, namespace, "OPERATOR_IMAGE=" + image}, {"rollout", "status", manager, namespace, "--timeout=180s"}} {
				if out, err := team.TryKubectl(ctx, "", args...); err != nil {
					return fmt.Errorf("kubectl %q: %w: %s", args, err, out)
				}
			}
			return nil
		}
		ginkgo.DeferCleanup(use, image)
		if err := use(tb.Context(), absent); err != nil {
			tb.Fatal(err)
		}
		team.Create(tb, "app", team.Image(tb, "v1", users))
		pendingWith(team, "container fetch-migrations: image "+absent+" cannot be pulled: ", absent+": not found")
		if err := use(tb.Context(), image); err != nil {
			tb.Fatal(err)
		}
		team.Update(tb, "app", func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "mended"} })
		obj := team.Ready(tb, "app", v1alpha1.ReasonMigrationComplete)
		if history := obj.Status.History; len(history) != 2 || history[1].Result != v1alpha1.AttemptStuck {
			tb.Errorf("history: %+v", history)
		}
	})
})

// pendingWith waits until the DBUpgrade says what keeps its pod from starting.
func pendingWith(team *stage.Team, texts ...string) {
	tb := ginkgo.GinkgoTB()
	obj := stage.Wait(team, tb, "app", "says "+strings.Join(texts, " and "), func(d *v1alpha1.DBUpgrade) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(ready(d).Message, text) })
	})
	if reason := stage.Reason(obj); reason != v1alpha1.ReasonJobPending {
		tb.Errorf("reason %s", reason)
	}
	tb.Log(ready(obj).Message)
}

func onlyPod(team *stage.Team) *corev1.Pod {
	tb := ginkgo.GinkgoTB()
	var pods corev1.PodList
	if err := team.Client.List(tb.Context(), &pods, client.InNamespace(team.Namespace), client.HasLabels{"batch.kubernetes.io/job-name"}); err != nil {
		tb.Fatal(err)
	}
	if len(pods.Items) != 1 {
		tb.Fatalf("%d pods of Jobs", len(pods.Items))
	}
	return &pods.Items[0]
}
