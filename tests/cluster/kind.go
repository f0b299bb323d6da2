// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Where Docker and kind are there, kind's cluster is used: it needs no root. Its components cannot be stopped one by one.
// No continuous integration of ours has Docker, so this is not exercised there.

func kindName(instance int) string         { return fmt.Sprintf("dbupgrade-%d", instance) }
func kindRegistry(instance int) string     { return kindName(instance) + "-registry" }
func kindRegistryPort(instance int) string { return fmt.Sprint(5500 + instance) }

// HaveKind says whether kind and a Docker engine that answers are there.
func HaveKind(ctx context.Context) bool {
	if _, err := exec.LookPath("kind"); err != nil {
		return false
	}
	return exec.CommandContext(ctx, "docker", "info").Run() == nil
}

// UpKind starts kind's cluster of that number with a registry beside it. One that is up already is left as it is.
func UpKind(ctx context.Context, instance int, progress io.Writer) (*Cluster, error) {
	c, err := Open(instance)
	if !errors.Is(err, ErrNotUp) {
		return c, err
	}
	l := newLayout(instance, "")
	if err := errors.Join(kindDown(ctx, instance), os.RemoveAll(l.dir), os.Mkdir(l.dir, 0o755), writeFiles(l)); err != nil {
		return nil, err
	}
	c = &Cluster{Instance: instance, Provider: providerKind, Kubeconfig: l.path("admin.kubeconfig"), Push: "127.0.0.1:" + kindRegistryPort(instance)}
	node, registry := kindName(instance)+"-control-plane", kindRegistry(instance)
	for _, argv := range [][]string{
		{"kind", "create", "cluster", "--name", kindName(instance), "--kubeconfig", c.Kubeconfig, "--config", l.path("kind.yaml"), "--wait", "3m"},
		{"docker", "run", "--detach", "--name", registry, "--network", "kind", "--publish", c.Push + ":5000", "docker.io/library/registry:2"},
		{"docker", "exec", node, "mkdir", "-p", "/etc/containerd/certs.d/" + Registry},
	} {
		fmt.Fprintf(progress, "  %s\n", strings.Join(argv, " "))
		if err := run(ctx, argv...); err != nil {
			return nil, err
		}
	}
	if err := c.kindNames(ctx, l, node, registry); err != nil {
		return nil, err
	}
	return c, c.save()
}

// kindNames makes the name of the registry known to the node's containerd and to the cluster's DNS.
func (c *Cluster) kindNames(ctx context.Context, l layout, node, registry string) error {
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format", "{{.NetworkSettings.Networks.kind.IPAddress}}", registry).Output()
	if err != nil {
		return fmt.Errorf("the registry's address: %w", err)
	}
	address := strings.TrimSpace(string(out))
	hosts := fmt.Sprintf("server = \"http://%s:5000\"\n\n[host.\"http://%s:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n", address, address)
	if err := os.WriteFile(l.path("hosts.toml"), []byte(hosts), 0o600); err != nil {
		return err
	}
	corefile := fmt.Sprintf(".:53 {\n errors\n health\n ready\n hosts {\n  %s registry.local\n  fallthrough\n }\n kubernetes cluster.local in-addr.arpa ip6.arpa\n"+
		" forward . /etc/resolv.conf\n cache 5\n reload\n}\n", address)
	if err := os.WriteFile(l.path("Corefile"), []byte(corefile), 0o600); err != nil {
		return err
	}
	dns := exec.CommandContext(ctx, "kubectl", "--kubeconfig", c.Kubeconfig, "create", "configmap", "coredns", "--namespace=kube-system",
		"--from-file=Corefile="+l.path("Corefile"), "--dry-run=client", "--output=yaml")
	manifest, err := dns.Output()
	if err != nil {
		return fmt.Errorf("CoreDNS's configuration: %w", err)
	}
	if err := os.WriteFile(l.path("coredns.yaml"), manifest, 0o600); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"docker", "cp", l.path("hosts.toml"), node + ":/etc/containerd/certs.d/" + Registry + "/hosts.toml"},
		{"kubectl", "--kubeconfig", c.Kubeconfig, "replace", "--filename", l.path("coredns.yaml")},
		{"kubectl", "--kubeconfig", c.Kubeconfig, "rollout", "restart", "deployment/coredns", "--namespace=kube-system"},
		{"kubectl", "--kubeconfig", c.Kubeconfig, "rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=120s"},
	} {
		if err := run(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

// kindDown is no error where there is nothing.
func kindDown(ctx context.Context, instance int) error {
	return errors.Join(
		run(ctx, "docker", "rm", "--force", kindRegistry(instance)),
		run(ctx, "kind", "delete", "cluster", "--name", kindName(instance)),
	)
}

func run(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}
