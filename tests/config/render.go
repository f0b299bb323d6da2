// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads the manifests of config/ as kustomize builds them, for tests that hold them to what they promise.
package config

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Render builds a kustomization, a directory of the module such as config/default, and returns its objects in kustomize's order. root is the
// module's root, seen from the test.
func Render(tb testing.TB, root, dir string) []*unstructured.Unstructured {
	tb.Helper()
	kustomize := filepath.Join(root, "bin", "kustomize")
	if _, err := os.Stat(kustomize); err != nil {
		if kustomize, err = exec.LookPath("kustomize"); err != nil {
			tb.Fatalf("this test needs kustomize, run `make tools`: %v", err)
		}
	}
	command := exec.CommandContext(tb.Context(), kustomize, "build", filepath.Join(root, dir))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	built, err := command.Output()
	if err != nil {
		tb.Fatalf("kustomize build %s: %v\n%s", dir, err, stderr.String())
	}
	var objects []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(built), 4096); ; {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			tb.Fatalf("kustomize build %s: %v", dir, err)
		}
		objects = append(objects, object)
	}
}

// Find returns the one object of that kind and name.
func Find(tb testing.TB, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	tb.Helper()
	for _, object := range objects {
		if object.GetKind() == kind && object.GetName() == name {
			return object
		}
	}
	tb.Fatalf("there is no %s %s", kind, name)
	return nil
}
