// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real API server, with its etcd, for tests. Neither
// controllers nor a kubelet run beside it: a test plays their part.
package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// startTimeout is generous because the first start on a machine reads two
// hundred megabytes of binaries while other packages are still being compiled.
const startTimeout = 2 * time.Minute

// Start starts an API server that has the CRDs of config/crd/bases, and returns
// how to reach it as an administrator, and how to stop it. Its binaries are
// those of KUBEBUILDER_ASSETS, else of bin/controlplane in the module's root.
//
// A test can change the environment before it is started, and keep it: where to
// serve webhooks stands in its WebhookInstallOptions afterwards, and its AddUser
// makes users of fewer rights.
func Start(configure ...func(*envtest.Environment)) (*rest.Config, func() error, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, nil, err
	}
	assets, err := findAssets(root)
	if err != nil {
		return nil, nil, err
	}
	env := &envtest.Environment{
		BinaryAssetsDirectory:    assets,
		CRDDirectoryPaths:        []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: startTimeout,
		UseExistingCluster:       new(false), // whatever the environment says: tests are no guests
	}
	for _, change := range configure {
		change(env)
	}
	config, err := env.Start()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start the control plane: %w", err), env.Stop())
	}
	return config, env.Stop, nil
}

// Namespace makes a namespace that no other test uses and returns its name.
// Nothing removes it: without the namespace controller none ever goes away.
func Namespace(tb testing.TB, c client.Client) string {
	tb.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.Create(tb.Context(), namespace); err != nil {
		tb.Fatalf("create a namespace: %v", err)
	}
	return namespace.Name
}

// moduleRoot is the nearest directory above the test's that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod in the working directory or above it")
		}
		dir = filepath.Dir(dir)
	}
}

func findAssets(root string) (string, error) {
	dir := os.Getenv("KUBEBUILDER_ASSETS")
	if dir == "" {
		dir = filepath.Join(root, "bin", "controlplane")
	}
	for _, name := range []string{"kube-apiserver", "etcd"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("the tests need a kube-apiserver and an etcd, run `make envtest-assets`: %w", err)
		}
	}
	return dir, nil
}
