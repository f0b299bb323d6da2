// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

const containerdSocket = "/run/containerd/containerd.sock"

//go:embed files
var files embed.FS

// writeFiles fills in the configuration files of the node.
func writeFiles(l layout) error {
	templates, err := template.ParseFS(files, "files/*")
	if err != nil {
		return err
	}
	values := map[string]string{
		"Registry": Registry, "RegistryAddress": l.registry(), "Containerd": containerdSocket, "Dir": l.dir,
		"PodRange": l.podRange(), "DNS": l.dnsAddress(), "Host": l.hostAddress(), "Node": l.nodeAddress(), "Cgroup": l.cgroup(),
	}
	for target, name := range map[string]string{
		"containerd.toml":                     "containerd.toml",
		"registry.yaml":                       "registry.yaml",
		"kubelet.yaml":                        "kubelet.yaml",
		"resolv.conf":                         "resolv.conf",
		"cni/10-ptp.conflist":                 "cni.json",
		"certs.d/" + Registry + "/hosts.toml": "hosts.toml",
		"coredns.yaml":                        "coredns.yaml",
		"kind.yaml":                           "kind.yaml",
	} {
		if err := writeFile(l.path(target), templates.Lookup(name), values); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return nil
}

func writeFile(path string, t *template.Template, values map[string]string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := t.Execute(f, values); err != nil {
		return err
	}
	return f.Close()
}
