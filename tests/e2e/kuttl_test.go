//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/onsi/ginkgo/v2"

	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// Each story is a spec of its own, so that Ginkgo runs them side by side with the others and reports them by name.
var _ = ginkgo.Describe("kuttl", func() {
	for _, story := range stories() {
		ginkgo.It("tells "+story, func() {
			tb := ginkgo.GinkgoTB()
			team := newTeam(story)
			root, err := filepath.Abs(stage.Root())
			if err != nil {
				tb.Fatal(err)
			}
			kuttl := exec.CommandContext(tb.Context(), filepath.Join(root, "bin/kuttl"), "test", filepath.Join(root, "tests/e2e/kuttl"),
				"--config="+filepath.Join(root, "tests/e2e/kuttl/kuttl-test.yaml"), "--test="+story, "--namespace="+team.Namespace, "--skip-delete")
			kuttl.Dir = tb.TempDir() // it writes a kubeconfig where it stands
			kuttl.Env = append(os.Environ(), "KUBECONFIG="+on.Kubeconfig, "PATH="+filepath.Join(root, "bin/cluster")+":"+os.Getenv("PATH"))
			kuttl.Stdout, kuttl.Stderr = ginkgo.GinkgoWriter, ginkgo.GinkgoWriter
			if err := kuttl.Run(); err != nil {
				tb.Fatalf("kuttl: %v", err)
			}
		})
	}
})
