// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster is a real Kubernetes cluster of one node, made of binaries that
// were built from Go modules and of Debian packages, without a container engine.
//
// Its node is one process in process, mount, network and host name namespaces of
// its own, which starts etcd, the control plane, containerd, the kubelet,
// kube-proxy and a registry as its children. Everything that these start, mount or
// link is inside of the same namespaces, so that it ends with that process,
// however that ends. What remains then is a directory, and control groups.
//
// Clusters are numbered, and several can run at once. Their addresses are of
// 198.18.0.0/15, which is routed nowhere, and the machine's own firewall and forwarding are left as they are.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// MaxInstance is the highest number of a cluster.
const MaxInstance = 9

// Registry is the name of the registry inside of the cluster, for images of pods and for the runner. It speaks plain HTTP.
const Registry = "registry.local:5000"

// NodeName is the name of the node.
const NodeName = "node"

// ErrNotUp says that no cluster of that number is there.
var ErrNotUp = errors.New("no such cluster is up: make cluster-up starts one")

// Cluster is a cluster that is up. The file that says so is written last, and removed first.
type Cluster struct {
	Instance int `json:"instance"`
	// Provider is "node" for one of ours, and "kind".
	Provider string `json:"provider"`
	// Kubeconfig is the file of an administrator's.
	Kubeconfig string `json:"kubeconfig"`
	// Push is the registry's address as seen from the machine outside, with plain HTTP.
	Push string `json:"push"`
}

// Dir is the directory of a cluster of that number: its certificates, configuration, data and logs. It is short, since sockets are in it, and
// the same for every checkout, so that each can find and remove what another left.
func Dir(instance int) string { return fmt.Sprintf("/var/tmp/dbupgrade-cluster-%d", instance) }

// Open finds the cluster of that number. It is ErrNotUp where there is none.
func Open(instance int) (*Cluster, error) {
	err := owned(Dir(instance))
	var text []byte
	if err == nil {
		text, err = os.ReadFile(stateFile(instance))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %d: %w", instance, ErrNotUp)
	}
	if err != nil {
		return nil, err
	}
	var c Cluster
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", stateFile(instance), err)
	}
	if c.Provider == providerNode {
		if pid, err := findNode(instance); err != nil || pid == 0 {
			return nil, fmt.Errorf("cluster %d: its node has ended: %w", instance, errors.Join(ErrNotUp, err))
		}
	}
	return &c, nil
}

// owned is an error where a directory is not ours alone: anybody may make one in /var/tmp, and nothing that lies in theirs is believed.
func owned(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(s.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is somebody else's: have it removed", dir)
	}
	return nil
}

func (c *Cluster) save() error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(stateFile(c.Instance), append(text, '\n'), 0o600)
}

func stateFile(instance int) string { return filepath.Join(Dir(instance), "cluster.json") }
