// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// Exec runs a program within the node, with its processes, mounts and network, and returns what it printed.
func (c *Cluster) Exec(ctx context.Context, argv ...string) (string, error) {
	if c.Provider != providerNode {
		return "", ErrNotOurs
	}
	pid, err := findNode(c.Instance)
	if err != nil || pid == 0 {
		return "", errors.Join(ErrNotUp, err)
	}
	enter := append([]string{fmt.Sprint("--target=", pid), "--pid", "--mount", "--net", "--uts", "--ipc", "--"}, argv...)
	out, err := exec.CommandContext(ctx, "nsenter", enter...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%v in the node: %w: %s", argv, err, out)
	}
	return string(out), nil
}
