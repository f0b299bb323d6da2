//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// instance is one that nobody else uses.
const instance = MaxInstance - 3

const checkout = "../.."

// TestNothingRemains starts a cluster, ends it in each way that there is, and compares what is on this machine before and after.
func TestNothingRemains(t *testing.T) {
	command(t, "down")
	before := remains(t, 0)
	for name, end := range map[string]func(t *testing.T, node int){
		"down":             func(*testing.T, int) {},
		"crash, then down": func(t *testing.T, node int) { kill(t, node) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { command(t, "down") })
			command(t, "up")
			node, err := findNode(instance)
			if err != nil || node == 0 {
				t.Fatalf("the node's process is %d: %v", node, err)
			}
			namespace := processNamespace(t, node)
			if during := remains(t, namespace); len(during) <= len(before) {
				t.Fatal("nothing of a running cluster is seen, so this test would see nothing of what it leaves")
			}
			end(t, node)
			command(t, "down")
			after := remains(t, namespace)
			for _, left := range slices.Sorted(maps.Keys(after)) {
				if !before[left] {
					t.Errorf("left behind: %s", left)
				}
			}
			if _, err := Open(instance); err == nil {
				t.Error("the cluster is said to be up")
			}
		})
	}
}

// TestUpAgain starts a cluster after a crash, without a down between, and a component of it after its death.
func TestUpAgain(t *testing.T) {
	t.Cleanup(func() { command(t, "down") })
	command(t, "up")
	node, err := findNode(instance)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, node)
	command(t, "up")
	c, err := Open(instance)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := c.Kill(ctx, APIServer); err != nil {
		t.Fatal(err)
	}
	running, err := c.Running(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := running[APIServer]; ok || len(running) != len(programs(layout{}))-1 {
		t.Errorf("after the API server's death, these run: %v", running)
	}
	if err := c.Start(ctx, APIServer); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx, "nonsense"); err == nil || !strings.Contains(err.Error(), "kube-apiserver") {
		t.Errorf("a component that there is not: %v, want the names of those that there are", err)
	}
}

func command(t *testing.T, verb string) {
	t.Helper()
	cmd := exec.Command(checkout+"/bin/local-cluster", verb, "--provider=node", fmt.Sprint("--instance=", instance), "--bin="+checkout+"/bin/cluster")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("local-cluster %s: %v: %s", verb, err, out)
	}
}

// kill is a crash of the node.
func kill(t *testing.T, node int) {
	t.Helper()
	if err := syscall.Kill(node, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := killNode(context.Background(), node); err != nil { // waits
		t.Fatal(err)
	}
}

// remains lists what a cluster can leave on this machine: mounts, links, routes, control groups, files, and the processes of a node.
func remains(t *testing.T, namespace uint64) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, argv := range [][]string{{"findmnt", "--raw", "--noheadings"}, {"ip", "-oneline", "route"}, {"ip", "-brief", "link"}} {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
		for line := range strings.Lines(string(out)) {
			found[argv[0]+" "+strings.TrimSpace(line)] = true
		}
	}
	for _, name := range sysctls {
		value, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		found[name+" = "+strings.TrimSpace(string(value))] = true
	}
	for _, dir := range []string{"/run", "/var/lib", "/var/log", "/var/tmp", "/etc", "/opt", "/usr/libexec", "/sys/fs/cgroup"} {
		for _, name := range names(dir) {
			found[name] = true
		}
	}
	for _, pid := range names("/proc") {
		if info, err := os.Stat(pid + "/ns/pid"); namespace != 0 && err == nil && info.Sys().(*syscall.Stat_t).Ino == namespace && !zombie(pid) {
			found["process "+pid] = true
		}
	}
	// Other clusters and tests may come and go meanwhile.
	maps.DeleteFunc(found, func(what string, _ bool) bool { return others(what) })
	return found
}

func others(what string) bool {
	for i := range MaxInstance + 1 {
		l := newLayout(i, "")
		for _, mine := range []string{l.dir, l.cgroup(), l.link(), l.nodeAddress(), "dbupgrade-cluster-" + fmt.Sprint(i)} {
			if i != instance && strings.Contains(what, mine) {
				return true
			}
		}
	}
	return false
}

// names are the files of a directory to a depth that shows whatever a program of the node would create.
func names(dir string) []string {
	depth := 3
	if dir == "/proc" {
		depth = 1
	}
	var all []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || strings.Count(strings.TrimPrefix(path, dir), "/") > depth {
			return fs.SkipDir
		}
		all = append(all, path)
		return nil
	})
	return all
}

// zombie says that a process has ended and that its parent, which is not ours, has still to take notice.
func zombie(pid string) bool {
	status, err := os.ReadFile(pid + "/status")
	return err != nil || strings.Contains(string(status), "State:\tZ")
}

func processNamespace(t *testing.T, pid int) uint64 {
	t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d/ns/pid_for_children", pid))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}
