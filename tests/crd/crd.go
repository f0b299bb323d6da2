// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package crd reads the CustomResourceDefinition of config/crd, and judges values by its schema as the API server does.
//
// Parts of an object are named by their path, with [] for the items of a list: status.history[].image.
package crd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

var read = sync.OnceValues(func() (apiextensionsv1.CustomResourceDefinitionSpec, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	_, here, _, _ := runtime.Caller(0)
	data, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "config", "crd", "bases", "dbupgrade.subbug.learning_dbupgrades.yaml"))
	if err != nil {
		return crd.Spec, err
	}
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		return crd.Spec, err
	}
	if n := len(crd.Spec.Versions); n != 1 {
		return crd.Spec, fmt.Errorf("the CRD has %d versions, want 1", n)
	}
	return crd.Spec, nil
})

// Spec is what the CRD says, of its one version. Callers must not change it.
func Spec(tb testing.TB) apiextensionsv1.CustomResourceDefinitionSpec {
	tb.Helper()
	crd, err := read()
	if err != nil {
		tb.Fatal(err)
	}
	return crd
}

// Schema is the schema of what stands at a path. It fails the test where the CRD has nothing there.
func Schema(tb testing.TB, path string) apiextensionsv1.JSONSchemaProps {
	tb.Helper()
	schema, err := find(path)
	if err != nil {
		tb.Fatal(err)
	}
	return schema
}

// Enum is the sorted values that the schema allows at a path.
func Enum(tb testing.TB, path string) []string {
	tb.Helper()
	var values []string
	for _, raw := range Schema(tb, path).Enum {
		var value string
		if err := json.Unmarshal(raw.Raw, &value); err != nil {
			tb.Fatal(err)
		}
		values = append(values, value)
	}
	slices.Sort(values)
	return values
}

// Validator makes a function that says why the API server would refuse a value at a path, and nil where it takes the value. Rules in CEL are not
// looked at. The schema is made ready once, at the first value.
func Validator(path string) func(tb testing.TB, value any) []error {
	validator := sync.OnceValues(func() (*validate.SchemaValidator, error) {
		found, err := find(path)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(found)
		if err != nil {
			return nil, err
		}
		schema := &spec.Schema{}
		if err := json.Unmarshal(data, schema); err != nil {
			return nil, err
		}
		return validate.NewSchemaValidator(schema, nil, path, strfmt.Default), nil
	})
	return func(tb testing.TB, value any) []error {
		tb.Helper()
		v, err := validator()
		if err != nil {
			tb.Fatal(err)
		}
		data, err := json.Marshal(value)
		if err != nil {
			tb.Fatal(err)
		}
		var written any
		if err := json.Unmarshal(data, &written); err != nil {
			tb.Fatal(err)
		}
		return v.Validate(written).Errors
	}
}

// find walks down from the whole object, which is at the empty path.
func find(path string) (apiextensionsv1.JSONSchemaProps, error) {
	crd, err := read()
	if err != nil {
		return apiextensionsv1.JSONSchemaProps{}, err
	}
	schema := *crd.Versions[0].Schema.OpenAPIV3Schema
	if path == "" {
		return schema, nil
	}
	for step := range strings.SplitSeq(path, ".") {
		name, list := strings.CutSuffix(step, "[]")
		next, ok := schema.Properties[name]
		if !ok || list && next.Items == nil {
			return schema, fmt.Errorf("the CRD has no %s of %s", step, path)
		}
		if schema = next; list {
			schema = *next.Items.Schema
		}
	}
	return schema, nil
}
