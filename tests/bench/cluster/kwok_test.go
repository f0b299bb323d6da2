//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

const (
	fakeNodes = 10
	// fakeKey is a label and a taint of the fake nodes: they get no other pods, and their pods no other node.
	fakeKey = "bench.dbupgrade.subbug.learning/fake"
)

// startKwok starts fake nodes, which are gone when the benchmark ends.
func startKwok(b *testing.B, s *stage.Stage) {
	b.Helper()
	program := filepath.Join(stage.Root(), "bin/kwok")
	if _, err := os.Stat(program); err != nil {
		b.Fatalf("%v: make bin/kwok", err)
	}
	removeNodes := func(ctx context.Context) error {
		if out, err := s.TryKubectl(ctx, "", "delete", "nodes", "--selector="+fakeKey); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	must(b, removeNodes(b.Context())) // of a benchmark that was killed
	kwok := exec.Command(program, "--kubeconfig="+s.Kubeconfig, "--config=kwok.yaml", "--manage-nodes-with-label-selector="+fakeKey,
		"--node-lease-duration-seconds=40", "--v=WARN")
	kwok.Stdout, kwok.Stderr = os.Stderr, os.Stderr
	kwok.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(b, kwok.Start())
	b.Cleanup(func() {
		if err := removeNodes(context.Background()); err != nil {
			b.Error(err)
		}
		if err := kwok.Process.Kill(); err != nil {
			b.Error(err)
		}
		_ = kwok.Wait() // it was killed
	})
	for i := range fakeNodes {
		must(b, s.Client.Create(b.Context(), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("fake-%d", i), Labels: map[string]string{fakeKey: ""}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: fakeKey, Effect: corev1.TaintEffectNoSchedule}}},
		}))
	}
	s.Kubectl(b, "", "wait", "--for=condition=Ready", "nodes", "--selector="+fakeKey, "--timeout=60s")
}

// onFakeNodes has a migration run there.
func onFakeNodes(runner *v1alpha1.RunnerSpec) {
	runner.NodeSelector = map[string]string{fakeKey: ""}
	runner.Tolerations = []corev1.Toleration{{Key: fakeKey, Operator: corev1.TolerationOpExists}}
}
