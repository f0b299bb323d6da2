// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Up starts the cluster of that number from the binaries in a directory, and tells its progress. One that is up already is left as it is.
func Up(ctx context.Context, instance int, bin string, progress io.Writer) (*Cluster, error) {
	c, err := Open(instance)
	if !errors.Is(err, ErrNotUp) {
		return c, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a node needs root; where Docker and kind are there, kind is used and needs none")
	}
	if err := Down(ctx, instance); err != nil { // what a crash left
		return nil, err
	}
	l := newLayout(instance, bin)
	for _, prepare := range []func(layout) error{makeDirs, writeSecrets, writeFiles, makeCgroups} {
		if err := prepare(l); err != nil {
			return nil, err
		}
	}
	c = &Cluster{Instance: instance, Provider: providerNode, Kubeconfig: l.path("admin.kubeconfig"), Push: l.registry()}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return startNode(ctx, l, progress) },
		func(ctx context.Context) error { return c.addOns(ctx, l, progress) },
		func(context.Context) error { return c.save() },
	} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("%w\nlogs are in %s; make cluster-down removes them", err, l.path("logs"))
		}
	}
	return c, nil
}

func makeDirs(l layout) error {
	if err := os.Mkdir(l.dir, 0o755); err != nil { // never one that is there already
		return err
	}
	for _, dir := range []string{"pki", "logs", "node"} {
		if err := os.MkdirAll(l.path(dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// startNode starts the node, plugs its cable in, and returns when all of its components answer.
func startNode(ctx context.Context, l layout, progress io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(l.path("logs/node.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	node := exec.Command(self, nodeArgs(l.instance, l.bin)...) // outlives ctx
	node.Args[0] = nodeProgram
	node.Stderr = log
	node.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	plug, err := node.StdinPipe()
	if err != nil {
		return err
	}
	started, err := node.StdoutPipe()
	if err != nil {
		return err
	}
	if err := node.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = node.Process.Kill() })
	defer stop()
	if err := errors.Join(connect(ctx, l, node.Process.Pid), plug.Close()); err != nil {
		return errors.Join(err, node.Process.Kill(), node.Wait())
	}
	var last string
	for lines := bufio.NewScanner(started); lines.Scan(); {
		last = lines.Text()
		fmt.Fprintf(progress, "  %s runs\n", last)
	}
	if last != string(NetworkPolicies) {
		text, _ := os.ReadFile(l.path("logs/node.log"))
		return errors.Join(fmt.Errorf("the node did not start: %s", strings.TrimSpace(string(text))), node.Process.Kill(), ctx.Err())
	}
	return node.Process.Release()
}

// nodeProgram is how a node's process calls itself, for findNode.
const nodeProgram = "local-cluster"

func nodeArgs(instance int, bin string) []string {
	return []string{"node", fmt.Sprintf("--instance=%d", instance), "--bin=" + bin}
}

// Down removes the cluster of that number and everything that it left, also after a crash. It is no error where there is nothing.
func Down(ctx context.Context, instance int) error {
	if c, err := Open(instance); err == nil && c.Provider == providerKind {
		return errors.Join(kindDown(ctx, instance), os.RemoveAll(Dir(instance)))
	}
	if err := owned(Dir(instance)); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Remove(stateFile(instance)); err != nil && !os.IsNotExist(err) {
		return err
	}
	pid, err := findNode(instance)
	if err != nil {
		return err
	}
	if pid != 0 {
		if err := killNode(ctx, pid); err != nil {
			return err
		}
	}
	l := newLayout(instance, "")
	return errors.Join(disconnect(ctx, l), removeCgroups(l), os.RemoveAll(l.dir))
}

// killNode kills the first process of the namespaces, whereupon the kernel kills all others. It ends only after them.
func killNode(ctx context.Context, pid int) error {
	// It is no child of ours, so its end is awaited by a descriptor of it.
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000) //nolint:gosec // descriptors are small
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return errors.Join(fmt.Errorf("the node's process %d does not end", pid), ctx.Err())
}

// disconnect removes the cable. It would vanish with the node's network namespace, which the kernel keeps while connections in it are closing.
func disconnect(ctx context.Context, l layout) error {
	if _, err := os.Stat("/sys/class/net/" + l.link()); os.IsNotExist(err) {
		return nil
	}
	return run(ctx, "ip", "link", "delete", l.link())
}

// findNode is the process of a node, or 0.
func findNode(instance int) (int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(entry)
		if err != nil {
			continue // it has ended
		}
		argv := strings.Split(string(text), "\x00")
		if len(argv) < 4 || !slices.Equal(argv[1:3], nodeArgs(instance, "")[:2]) || argv[0] != nodeProgram {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(entry, "/proc/%d/", &pid); err != nil {
			return 0, err
		}
		status, err := os.ReadFile(filepath.Dir(entry) + "/status")
		if err == nil && firstOfOurs(string(status)) {
			return pid, nil
		}
	}
	return 0, nil
}

// firstOfOurs tells of a process's status that it is root's, and the first in a process namespace right below this one. Anybody may call a program
// as they like.
func firstOfOurs(status string) bool {
	var root, first bool
	for line := range strings.Lines(status) {
		switch fields := strings.Fields(line); fields[0] {
		case "Uid:":
			root = slices.Equal(fields[1:], []string{"0", "0", "0", "0"})
		case "NSpid:":
			first = len(fields) == 3 && fields[2] == "1"
		}
	}
	return root && first
}
