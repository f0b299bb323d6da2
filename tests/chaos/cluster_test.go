// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package chaos

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// endsWithout kills components, and starts them again once the migration has ended unseen.
func endsWithout(components ...cluster.Component) func(*migration) {
	return func(m *migration) {
		m.kill(components...)
		m.finish()
		m.revive(components...)
	}
}

// restart kills components and starts them again while the migration goes on.
func restart(components ...cluster.Component) func(*migration) {
	return func(m *migration) {
		m.kill(components...)
		m.revive(components...)
	}
}

func (m *migration) kill(components ...cluster.Component) {
	m.t.Helper()
	m.t.Cleanup(func() { m.reviveUntil(context.Background(), components) }) // for the others, should this test end before
	for _, c := range components {
		m.must(nil, m.Kill(m.t.Context(), c))
	}
}

func (m *migration) revive(components ...cluster.Component) {
	m.t.Helper()
	m.reviveUntil(m.t.Context(), components)
}

// reviveUntil insists, as a service manager does: a kubelet ends where containerd is not ready to serve it.
func (m *migration) reviveUntil(ctx context.Context, components []cluster.Component) {
	m.t.Helper()
	for _, c := range components {
		var last error
		err := wait.PollUntilContextTimeout(ctx, time.Second, podTimeout, true, func(ctx context.Context) (bool, error) {
			last = m.Start(ctx, c)
			return last == nil, nil
		})
		if err != nil {
			m.t.Errorf("%s does not start: %v", c, last)
		}
	}
}

func (m *migration) managers() []corev1.Pod {
	m.t.Helper()
	var pods corev1.PodList
	m.must(nil, m.Client.List(m.t.Context(), &pods, client.InNamespace(stage.Namespace), client.MatchingLabels{upgrade.LabelComponent: "manager"}))
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return !upgrade.Alive(&p) })
}

func (m *migration) deleteManagers() {
	m.t.Helper()
	for _, pod := range m.managers() {
		m.deleteByForce(stage.Namespace, pod.Name)
	}
}

func registryAwayBefore(m *migration) {
	m.image = m.Image(m.t, m.name, m.files)
	m.kill(cluster.RegistryServer)
	m.start()
	m.fails(1, v1alpha1.ReasonImagePullFailed)
	m.revive(cluster.RegistryServer)
}

// registryAwayDuring makes the registry slow, so that it dies in the middle of a layer.
func registryAwayDuring(m *migration) {
	m.image = m.heavyImage()
	table := "inet " + m.Namespace
	m.must(m.Exec(m.t.Context(), "nft",
		"table "+table+" { chain slow { type filter hook output priority 0; tcp sport 5000 limit rate over 4 mbytes/second drop; }; }"))
	m.start()
	m.fetching()
	m.kill(cluster.RegistryServer)
	m.must(m.Exec(m.t.Context(), "nft", "delete table "+table))
	m.fails(1, v1alpha1.ReasonImagePullFailed)
	m.revive(cluster.RegistryServer)
}

// heavyImage holds 64 MiB besides the migrations, which nothing can compress.
func (m *migration) heavyImage() string {
	m.t.Helper()
	heavy := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{}).Read(heavy) //nolint:errcheck // it returns none
	placed := []image.File{{Path: "/heavy", Mode: 0o644, Content: heavy}}
	for file, content := range migrations.WithSum(m.t, m.files) {
		placed = append(placed, image.File{Path: path.Join("/migrations", file), Mode: 0o644, Content: []byte(content)})
	}
	img, err := image.Build(placed, v1.Config{}, image.Host())
	m.must(nil, err)
	return m.Push(m.t, m.Namespace+"/app:heavy", img)
}

// fetching waits until the runner says that it has found the image, whose layer it then reads.
func (m *migration) fetching() {
	m.t.Helper()
	pod := m.podThat("fetches", func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
	})
	set, err := kubernetes.NewForConfig(m.Config)
	m.must(nil, err)
	options := &corev1.PodLogOptions{Container: upgrade.FetchContainer, Follow: true}
	log, err := set.CoreV1().Pods(m.Namespace).GetLogs(pod.Name, options).Stream(m.t.Context())
	m.must(nil, err)
	defer log.Close()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), "image resolved") {
			return
		}
	}
	m.t.Fatal("the image was not resolved")
}

// drain empties the node of everything but what a drain of the only node would make an end of: the database's data, and DNS. The migration's pod is
// replaced by one that no node takes, as is one manager's; the other is kept by its disruption budget until the node is back.
func (m *migration) drain() {
	m.t.Helper()
	drained := make(chan error, 1)
	go func() {
		out, err := m.TryKubectl(m.t.Context(), "", "drain", cluster.NodeName, "--delete-emptydir-data", "--timeout=120s",
			"--pod-selector=app!=postgres,k8s-app!=kube-dns")
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		drained <- err
	}()
	m.podThat("is unschedulable", func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == corev1.PodReasonUnschedulable })
	})
	m.Ready(m.t, m.name, v1alpha1.ReasonJobPending)
	m.Kubectl(m.t, "", "uncordon", cluster.NodeName)
	m.must(nil, <-drained)
}

// apocalypse kills the runner, the managers, and all of the node but its network.
func (m *migration) apocalypse() {
	m.t.Helper()
	runner, managers := m.pod(), m.managers()
	everything := []cluster.Component{cluster.Etcd, cluster.APIServer, cluster.Containerd, cluster.ControllerManager, cluster.Scheduler, cluster.Kubelet}
	m.kill(cluster.Kubelet, cluster.ControllerManager, cluster.APIServer)
	m.KillContainer(m.t, runner, upgrade.MigrateContainer)
	for _, manager := range managers {
		m.KillContainer(m.t, &manager, "manager")
	}
	m.kill(everything...)
	m.open()
	m.revive(everything...)
}
