// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// deleteMigration deletes the pod that migrates by force, which the API server forgets at once, and waits until its kubelet has ended the runner: it
// asks first, and kills seconds later.
func (m *migration) deleteMigration() {
	m.t.Helper()
	pod := m.pod()
	id := stage.ContainerID(m.t, pod, upgrade.MigrateContainer)
	m.deleteByForce(m.Namespace, pod.Name)
	err := wait.PollUntilContextTimeout(m.t.Context(), pollInterval, podTimeout, true, func(context.Context) (bool, error) {
		running, err := m.Containerd(m.t.Context(), "tasks", "list", "--quiet")
		return !strings.Contains(running, id), err
	})
	if err != nil {
		m.t.Fatalf("container %s goes on: %v", id, err)
	}
}

func (m *migration) deleteByForce(namespace, pod string) {
	m.t.Helper()
	m.Kubectl(m.t, "", "delete", "pod", pod, "--namespace="+namespace, "--force", "--grace-period=0", "--wait=false")
}

// evict does what draining a node does with each pod.
func (m *migration) evict() {
	m.t.Helper()
	pod := m.pod()
	if err := m.Client.SubResource("eviction").Create(m.t.Context(), pod, &policyv1.Eviction{}); err != nil {
		m.t.Fatal(err)
	}
	stage.Gone[corev1.Pod](m.Team, m.t, pod.Name)
}

// killPostgres is the server's death; its container is started again, with the same data.
func (m *migration) killPostgres() {
	m.t.Helper()
	var pods corev1.PodList
	if err := m.Client.List(m.t.Context(), &pods, client.InNamespace(m.Namespace), client.MatchingLabels{"app": "postgres"}); err != nil {
		m.t.Fatal(err)
	}
	m.KillContainer(m.t, &pods.Items[0], "postgres")
}

// cutNetwork drops every packet from and to the migration's pod for a while.
func (m *migration) cutNetwork(while func()) {
	m.t.Helper()
	ip := m.pod().Status.PodIP
	table := "inet " + m.Namespace
	rules := fmt.Sprintf("table %s { chain cut { type filter hook forward priority -1; ip saddr %s drop; ip daddr %s drop; }; }", table, ip, ip)
	m.must(m.Exec(m.t.Context(), "nft", rules))
	while()
	m.must(m.Exec(m.t.Context(), "nft", "delete table "+table))
}

// outOfMemory is a runner that is given more to hold than it may, the first time.
var outOfMemory = disturbance{
	change: func(obj *v1alpha1.DBUpgrade) {
		obj.Spec.Runner = v1alpha1.RunnerSpec{JobHistoryLimit: new(int32(3)), Resources: corev1.ResourceRequirements{
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		}}
	},
	happens: func(m *migration) {
		m.files["2_gate.sql"] = `
SELECT enter('2');
SELECT repeat('x', CASE currval('entered') WHEN 2 THEN 200000000 ELSE 1 END);
`
		m.start()
		m.fails(1, v1alpha1.ReasonInterrupted)
		status := m.endedContainer()
		if status.State.Terminated.Reason != "OOMKilled" {
			m.t.Errorf("the container ended with %+v, want OOMKilled", status.State.Terminated)
		}
	},
	failures: []string{v1alpha1.ReasonInterrupted}, lostRuns: 1,
}

// endedContainer is that of the first attempt's migration.
func (m *migration) endedContainer() corev1.ContainerStatus {
	m.t.Helper()
	var pods corev1.PodList
	if err := m.Client.List(m.t.Context(), &pods, client.InNamespace(m.Namespace)); err != nil {
		m.t.Fatal(err)
	}
	for _, pod := range pods.Items {
		for _, status := range pod.Status.ContainerStatuses {
			if status.Name == upgrade.MigrateContainer && status.State.Terminated != nil {
				return status
			}
		}
	}
	m.t.Fatal("no migration has ended")
	return corev1.ContainerStatus{}
}

// inDoubt kills the runner in the middle of a statement outside of a transaction: the one case that needs a person.
func inDoubt(t *testing.T, team *stage.Team) {
	m := prepare(t, team, "in-doubt")
	m.files["2_gate.sql"] = "-- atlas:txmode none\n\nSELECT enter('2');\nSELECT pg_advisory_xact_lock_shared(1);\n"
	m.start()
	m.atGate()
	m.KillContainer(m.t, m.pod(), upgrade.MigrateContainer)
	m.fails(1, v1alpha1.ReasonInterrupted)
	m.open()
	obj := m.Ready(t, m.name, v1alpha1.ReasonInDoubt)
	answer := regexp.MustCompile(`skip:[A-Z2-7]{8}`).FindString(obj.Status.Migration.Failure.Error)
	m.Update(t, m.name, func(obj *v1alpha1.DBUpgrade) { obj.Annotations = map[string]string{v1alpha1.AnnotationResolve: answer} })
	failures := []string{v1alpha1.ReasonInterrupted, v1alpha1.ReasonInDoubt}
	m.Ready(t, m.name, v1alpha1.ReasonMigrationComplete)
	m.tellsTheTruth(failures)
	m.ranOnce(disturbance{})
}
