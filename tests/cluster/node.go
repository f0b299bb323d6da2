// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// namespaces are those of a node. All that it starts, mounts and links is in them, and ends with it.
const namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// RunNode is the node: the first process of its namespaces, which Up starts as "node --instance=N --bin=DIR". It waits on its standard input
// for its cable, starts the components, says so on its standard output, and obeys what comes in at its socket. It does not return but for an
// error.
func RunNode(ctx context.Context, instance int, bin string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("a node is started by the command up")
	}
	l := newLayout(instance, bin)
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	if err := privateMounts(l); err != nil {
		return err
	}
	if err := nodeNetwork(ctx, l); err != nil {
		return err
	}
	control, err := new(net.ListenConfig).Listen(ctx, "unix", l.path(controlSocket))
	if err != nil {
		return err
	}
	s := newSupervisor(l)
	go s.reap()
	for _, name := range s.names() {
		if err := s.start(ctx, name); err != nil {
			return err
		}
		fmt.Println(name) // Up reads how far it is
	}
	if err := os.Stdout.Close(); err != nil {
		return err
	}
	server := &http.Server{Handler: s.handler()} //nolint:gosec // a socket of root's, for tests
	return server.Serve(control)
}

// privateMounts gives the node directories of its own where its programs insist on a place.
func privateMounts(l layout) error {
	// Nothing of the node is to appear outside, and the kubelet wants what it mounts to appear in its containers.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for _, own := range []string{"/var/lib", "/var/log", "/run"} {
		source := l.path("node" + own)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(source, own, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", own, err)
		}
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := l.ownSysctls(); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("shared mounts: %w", err)
	}
	return syscall.Sethostname([]byte(NodeName))
}

// sysctls are those of the whole machine that a kubelet sets as it likes.
var sysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// ownSysctls lays files over them, for the kubelet to write to.
func (l layout) ownSysctls() error {
	for _, name := range sysctls {
		path, own := "/proc/sys/"+name, l.path("node/"+strings.ReplaceAll(name, "/", "."))
		value, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // this kernel was built without
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(own, value, 0o600); err != nil {
			return err
		}
		if err := syscall.Mount(own, path, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	return nil
}

// nodeNetwork sets up the node's end of the cable.
func nodeNetwork(ctx context.Context, l layout) error {
	for _, argv := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "address", "add", l.nodeAddress() + "/24", "dev", "eth0"},
		{"ip", "link", "set", "eth0", "up"},
		{"ip", "route", "add", "default", "via", l.hostAddress()},
		// What pods send to each other and to the node, for network policies. While nobody judges, all may pass.
		{"iptables", "-t", "mangle", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "NEW",
			"-j", "NFQUEUE", "--queue-num", policyQueue, "--queue-bypass"},
		{"iptables", "-t", "mangle", "-A", "INPUT", "-s", l.podRange(), "-m", "conntrack", "--ctstate", "NEW",
			"-j", "NFQUEUE", "--queue-num", policyQueue, "--queue-bypass"},
	} {
		if err := run(ctx, argv...); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o600)
}

// connect makes the cable between the machine and a node.
func connect(ctx context.Context, l layout, pid int) error {
	for _, argv := range [][]string{
		{"ip", "link", "add", l.link(), "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(pid)},
		{"ip", "address", "add", l.hostAddress() + "/24", "dev", l.link()},
		{"ip", "link", "set", l.link(), "up"},
		{"ip", "route", "add", l.podRange(), "via", l.nodeAddress()},
		{"ip", "route", "add", l.serviceRange(), "via", l.nodeAddress()},
	} {
		if err := run(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

// makeCgroups makes the parent of all pods in every hierarchy: one of version 2, or those of version 1.
func makeCgroups(l layout) error {
	for _, root := range cgroupRoots() {
		if err := os.MkdirAll(root+l.cgroup(), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups removes it with all that pods left there, the innermost first. Its processes have ended.
func removeCgroups(l layout) error {
	for _, root := range cgroupRoots() {
		var dirs []string
		err := filepath.WalkDir(root+l.cgroup(), func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // it may vanish meanwhile
		})
		if err != nil {
			return err
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
	}
	return nil
}

func cgroupRoots() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	tasks, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return nil
	}
	var roots []string
	for _, path := range tasks {
		roots = append(roots, filepath.Dir(path))
	}
	return roots
}
