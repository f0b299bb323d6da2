// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import "fmt"

// layout is the addresses and paths of one cluster.
type layout struct {
	instance int
	dir      string // of the cluster
	bin      string // of the binaries
}

func newLayout(instance int, bin string) layout {
	return layout{instance: instance, dir: Dir(instance), bin: bin}
}

func (l layout) path(name string) string { return l.dir + "/" + name }
func (l layout) tool(name string) string { return l.bin + "/" + name }

// link is the machine's end of the cable to the node.
func (l layout) link() string        { return fmt.Sprintf("dbupgrade%d", l.instance) }
func (l layout) hostAddress() string { return fmt.Sprintf("198.19.%d.254", l.instance) }
func (l layout) nodeAddress() string { return fmt.Sprintf("198.19.%d.1", l.instance) }
func (l layout) podRange() string    { return fmt.Sprintf("198.19.%d.0/24", 100+l.instance) }

// The API server is the first address of the Services, CoreDNS the tenth, as everywhere.
func (l layout) serviceRange() string { return fmt.Sprintf("198.18.%d.0/24", l.instance) }
func (l layout) apiAddress() string   { return fmt.Sprintf("198.18.%d.1", l.instance) }
func (l layout) dnsAddress() string   { return fmt.Sprintf("198.18.%d.10", l.instance) }

func (l layout) server() string   { return "https://" + l.nodeAddress() + ":6443" }
func (l layout) registry() string { return l.nodeAddress() + ":5000" }

// cgroup is the parent of all pods. A kubelet kills the pods below its own that it does not know, hence one for each cluster.
func (l layout) cgroup() string { return fmt.Sprintf("/dbupgrade-cluster-%d", l.instance) }
