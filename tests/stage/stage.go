// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package stage sets the scene for tests on a local cluster: the operator, installed as its users do, and teams with a database and images of their own.
package stage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
)

// The operator's namespace, and its Deployment there.
const (
	Namespace = "dbupgrade-system"
	Manager   = "dbupgrade-controller-manager"
)

// Stage is a local cluster that is up.
type Stage struct {
	*cluster.Cluster
	Config *rest.Config
	Client client.WithWatch
}

// Open finds the cluster whose number is in INSTANCE, 0 where it is unset. Without one the test fails.
func Open(tb testing.TB) *Stage {
	tb.Helper()
	instance := 0
	if text := os.Getenv("INSTANCE"); text != "" {
		var err error
		if instance, err = strconv.Atoi(text); err != nil {
			tb.Fatalf("INSTANCE=%q is not the number of a cluster", text)
		}
	}
	c, err := cluster.Open(instance)
	if err != nil {
		tb.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		tb.Fatal(err)
	}
	config.QPS = -1
	scheme := clientgoscheme.Scheme
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		tb.Fatal(err)
	}
	watcher, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		tb.Fatal(err)
	}
	return &Stage{Cluster: c, Config: config, Client: watcher}
}

// Install builds the images that teams need and the operator's, and installs the operator by kustomize. Doing it again installs what has changed.
func (s *Stage) Install(tb testing.TB) {
	tb.Helper()
	ctx := tb.Context()
	operator, err := image.Operator(ctx, Root(), "local", []v1.Platform{image.Host()})
	if err != nil {
		tb.Fatal(err)
	}
	postgres, err := image.Postgres(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	digest, err := operator.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	name := s.Push(tb, "dbupgrade-operator:local", operator)
	s.Push(tb, "postgres:15", postgres)
	manifests := s.run(tb, "", "kustomize", "build", filepath.Join(Root(), "tests/stage/operator"))
	// By digest, or a node that has seen the name before would run what it had then.
	manifests = strings.ReplaceAll(manifests, name, cluster.Registry+"/dbupgrade-operator@"+digest.String())
	s.Kubectl(tb, manifests, "apply", "--server-side", "--force-conflicts", "--filename=-")
	s.Kubectl(tb, "", "rollout", "restart", "deployment/"+Manager, "--namespace="+Namespace)
	s.Kubectl(tb, "", "rollout", "status", "deployment/"+Manager, "--namespace="+Namespace, "--timeout=180s")
}

// Push puts an image into the cluster's registry, and returns its name there.
func (s *Stage) Push(tb testing.TB, name string, what image.Pushable) string {
	tb.Helper()
	if _, err := image.Push(tb.Context(), s.Cluster.Push+"/"+name, what, true); err != nil {
		tb.Fatal(err)
	}
	return cluster.Registry + "/" + name
}

// Kubectl runs kubectl as an administrator and returns what it printed. The test ends where it fails.
func (s *Stage) Kubectl(tb testing.TB, stdin string, args ...string) string {
	tb.Helper()
	return s.run(tb, stdin, "kubectl", args...)
}

// TryKubectl returns what kubectl printed on both of its outputs, and its error.
func (s *Stage) TryKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := s.command(ctx, "kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *Stage) run(tb testing.TB, stdin, name string, args ...string) string {
	tb.Helper()
	cmd := s.command(tb.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// command runs a program of the checkout's bin, or of PATH.
func (s *Stage) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path := os.Getenv("PATH")
	for _, dir := range []string{"bin/cluster", "bin"} {
		path = filepath.Join(Root(), dir) + ":" + path
		if file := filepath.Join(Root(), dir, name); exists(file) {
			name = file
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "PATH="+path)
	return cmd
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Root is the directory of the checkout.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
