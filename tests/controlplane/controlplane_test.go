// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func TestStart(t *testing.T) {
	t.Setenv("USE_EXISTING_CLUSTER", "true")
	var env *envtest.Environment
	config, stop, err := Start(func(e *envtest.Environment) { env = e })
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}

	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "dbupgrades.dbupgrade.subbug.learning"}, crd); err != nil {
		t.Errorf("the CRD: %v", err)
	}
	first, second := Namespace(t, c), Namespace(t, c)
	if first == second {
		t.Errorf("two tests share namespace %s", first)
	}
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: first, Name: "x"}}
	if err := c.Create(t.Context(), configMap); err != nil {
		t.Errorf("write to the namespace: %v", err)
	}
	if env == nil || env.WebhookInstallOptions.LocalServingPort == 0 {
		t.Error("the environment does not tell where to serve webhooks")
	}

	if err := stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	address, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", address.Host); err == nil {
		_ = conn.Close()
		t.Error("the API server still listens")
	}
}

func TestMissingBinariesNameTheTarget(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", filepath.Join(t.TempDir(), "none"))
	if _, _, err := Start(); err == nil || !strings.Contains(err.Error(), "make envtest-assets") {
		t.Errorf("got %v, want an error that names make envtest-assets", err)
	}
}

func TestBinariesAreFoundInTheModule(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", "")
	root := t.TempDir()
	dir, below := filepath.Join(root, "bin", "controlplane"), filepath.Join(root, "tests", "some")
	for _, made := range []string{dir, below} {
		if err := os.MkdirAll(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{filepath.Join(root, "go.mod"), filepath.Join(dir, "etcd"), filepath.Join(dir, "kube-apiserver")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(below)
	found, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := findAssets(found); err != nil || got != dir {
		t.Errorf("got %q (%v), want %q", got, err, dir)
	}
}
