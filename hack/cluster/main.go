// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Command local-cluster starts and stops a real Kubernetes cluster of one node on this machine: see the package tests/cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
)

const usage = `local-cluster starts and stops a real Kubernetes cluster of one node on this machine.

  local-cluster up             start it, or kind's where Docker and kind are there
  local-cluster down           stop it and remove all that it left, also after a crash
  local-cluster status         where its kubeconfig and registry are, and what runs
  local-cluster start NAME     start a component of the node that was stopped
  local-cluster stop NAME      ask a component to end
  local-cluster kill NAME      kill a component

Flags:
`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "local-cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("local-cluster", flag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(fs.Output(), usage); fs.PrintDefaults() }
	instance := fs.Int("instance", 0, fmt.Sprintf("`number` of the cluster, from 0 to %d", cluster.MaxInstance))
	provider := fs.String("provider", "", "`node` or kind; else kind where Docker and kind are there (up only)")
	bin := fs.String("bin", "bin/cluster", "`directory` of the binaries")
	if len(args) == 0 {
		fs.Usage()
		return errors.New("what is to be done?")
	}
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if *instance < 0 || *instance > cluster.MaxInstance {
		return fmt.Errorf("--instance=%d: clusters are numbered from 0 to %d", *instance, cluster.MaxInstance)
	}
	dir, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	switch args[0] {
	case "node":
		return cluster.RunNode(ctx, *instance, dir)
	case "up":
		return up(ctx, *provider, *instance, dir, out)
	case "down":
		return cluster.Down(ctx, *instance)
	case "-h", "--help", "help":
		fs.Usage()
		return nil
	}
	c, err := cluster.Open(*instance)
	if err != nil {
		return err
	}
	name := cluster.Component(fs.Arg(0))
	switch args[0] {
	case "status":
		return status(ctx, c, out)
	case "start":
		return c.Start(ctx, name)
	case "stop":
		return c.Stop(ctx, name)
	case "kill":
		return c.Kill(ctx, name)
	}
	fs.Usage()
	return fmt.Errorf("unknown command %q", args[0])
}

func up(ctx context.Context, provider string, instance int, bin string, out io.Writer) error {
	var c *cluster.Cluster
	var err error
	switch {
	case provider == "kind", provider == "" && cluster.HaveKind(ctx):
		c, err = cluster.UpKind(ctx, instance, out)
	case provider == "node", provider == "":
		c, err = cluster.Up(ctx, instance, bin, out)
	default:
		err = fmt.Errorf("--provider=%s: there are node and kind", provider)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Cluster %d is up.\n  export KUBECONFIG=%s PATH=%s:$PATH\n  push images to %s, and name them %s/... in the cluster\n",
		instance, c.Kubeconfig, bin, c.Push, cluster.Registry)
	return nil
}

func status(ctx context.Context, c *cluster.Cluster, out io.Writer) error {
	fmt.Fprintf(out, "kubeconfig\t%s\nregistry\t%s\n", c.Kubeconfig, c.Push)
	running, err := c.Running(ctx)
	if errors.Is(err, cluster.ErrNotOurs) {
		return nil
	}
	for name, pid := range running {
		fmt.Fprintf(out, "%s\tprocess %d of the node\n", name, pid)
	}
	return err
}
