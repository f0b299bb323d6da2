// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// Leader is the pod of the operator's replica that reconciles. There is none for a moment after the last one has gone.
func (s *Stage) Leader(tb testing.TB) *corev1.Pod {
	tb.Helper()
	operator := &Team{Stage: s, Namespace: Namespace}
	pod := &corev1.Pod{}
	Wait(operator, tb, Manager+".subbug.learning", "is held by a replica that is alive", func(lease *coordinationv1.Lease) bool {
		holder, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
		err := s.Client.Get(tb.Context(), client.ObjectKey{Namespace: Namespace, Name: holder}, pod)
		return holder != "" && err == nil && pod.DeletionTimestamp == nil && upgrade.Alive(pod)
	})
	return pod
}

// KillContainer kills the first process of a container, and with it all of them. What is in its volumes stays.
func (s *Stage) KillContainer(tb testing.TB, pod *corev1.Pod, container string) {
	tb.Helper()
	if _, err := s.Containerd(tb.Context(), "tasks", "kill", "--signal=SIGKILL", ContainerID(tb, pod, container)); err != nil {
		tb.Fatal(err)
	}
}

// ContainerID is that of a container that has been started.
func ContainerID(tb testing.TB, pod *corev1.Pod, container string) string {
	tb.Helper()
	for _, status := range pod.Status.ContainerStatuses {
		if id, ok := strings.CutPrefix(status.ContainerID, "containerd://"); ok && status.Name == container {
			return id
		}
	}
	tb.Fatalf("container %s of pod %s has not been started", container, pod.Name)
	return ""
}

// Containerd asks the node's containerd, of which the API server knows nothing.
func (s *Stage) Containerd(ctx context.Context, args ...string) (string, error) {
	ctr, err := filepath.Abs(filepath.Join(Root(), "bin/cluster/ctr"))
	if err != nil {
		return "", err
	}
	return s.Exec(ctx, append([]string{ctr, "--namespace=k8s.io"}, args...)...)
}
