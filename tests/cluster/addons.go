// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"os/exec"

	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
)

// addOns pushes the images that the node itself needs, starts DNS, and waits until both are ready.
func (c *Cluster) addOns(ctx context.Context, l layout, progress io.Writer) error {
	if err := pushImages(ctx, l); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"apply", "--server-side", "--filename", l.path("coredns.yaml")},
		{"wait", "--for=create", "node/" + NodeName, "--timeout=60s"},
		{"wait", "--for=condition=Ready", "node/" + NodeName, "--timeout=120s"},
		{"rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=120s"},
	} {
		kubectl := exec.CommandContext(ctx, l.tool("kubectl"), append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
		out, err := kubectl.CombinedOutput()
		if err != nil {
			return fmt.Errorf("kubectl %v: %w: %s", args, err, out)
		}
	}
	fmt.Fprintln(progress, "  the node is Ready, and resolves names")
	return nil
}

func pushImages(ctx context.Context, l layout) error {
	for _, name := range []string{"pause", "coredns"} {
		img, err := image.Static(l.tool(name))
		if err != nil {
			return err
		}
		if _, err := image.Push(ctx, l.registry()+"/"+name+":1", img, true); err != nil {
			return err
		}
	}
	return nil
}
