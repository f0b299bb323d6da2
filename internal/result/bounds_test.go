// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package result

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// statusSchema is the schema of status in the CRD, by which the API server refuses a patch.
func statusSchema(t testing.TB) apiextensionsv1.JSONSchemaProps {
	t.Helper()
	data, err := os.ReadFile("../../config/crd/bases/dbupgrade.subbug.learning_dbupgrades.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"]
}

// judge says why the API server would refuse a status that holds r; nil where it takes it.
func judge(t testing.TB) func(r Result) []error {
	t.Helper()
	data, err := json.Marshal(statusSchema(t))
	if err != nil {
		t.Fatal(err)
	}
	schema := &spec.Schema{}
	if err := json.Unmarshal(data, schema); err != nil {
		t.Fatal(err)
	}
	validator := validate.NewSchemaValidator(schema, nil, "status", strfmt.Default)
	return func(r Result) []error {
		data, err := json.Marshal(v1alpha1.DBUpgradeStatus{Image: r.Image, Migration: r.Migration})
		if err != nil {
			return []error{err}
		}
		var status any
		if err := json.Unmarshal(data, &status); err != nil {
			return []error{err}
		}
		return validator.Validate(status).Errors
	}
}

// TestBoundsMatchAPI: a text that bounded lets through must not be refused by the API server.
func TestBoundsMatchAPI(t *testing.T) {
	status := statusSchema(t)
	migration := status.Properties["migration"]
	applied, failure := migration.Properties["applied"], migration.Properties["failure"]
	limits := map[string]struct {
		schema apiextensionsv1.JSONSchemaProps
		bound  int64
	}{
		"image":                         {status.Properties["image"], maxImage},
		"history.image":                 {status.Properties["history"].Items.Schema.Properties["image"], maxImage},
		"history.version":               {status.Properties["history"].Items.Schema.Properties["version"], maxName},
		"migration.currentVersion":      {migration.Properties["currentVersion"], maxName},
		"migration.targetVersion":       {migration.Properties["targetVersion"], maxName},
		"migration.directoryHash":       {migration.Properties["directoryHash"], 128},
		"migration.applied.version":     {applied.Items.Schema.Properties["version"], maxName},
		"migration.applied.description": {applied.Items.Schema.Properties["description"], maxName},
		"migration.failure.version":     {failure.Properties["version"], maxName},
		"migration.failure.file":        {failure.Properties["file"], maxName},
		"migration.failure.sqlState":    {failure.Properties["sqlState"], 5},
		"migration.failure.error":       {failure.Properties["error"], maxError},
	}
	for name, limit := range limits {
		if limit.schema.MaxLength == nil || *limit.schema.MaxLength < limit.bound {
			t.Errorf("%s: results may have %d characters, the API takes %v", name, limit.bound, limit.schema.MaxLength)
		}
	}
	if applied.MaxItems == nil || *applied.MaxItems < maxFiles {
		t.Errorf("results may have %d files, the API takes %v", maxFiles, applied.MaxItems)
	}
	// Every text of a result is in the table above: one that a later version adds must be bounded too.
	for name, schema := range map[string]apiextensionsv1.JSONSchemaProps{
		"migration": migration, "migration.applied": *applied.Items.Schema, "migration.failure": failure,
	} {
		for property, p := range schema.Properties {
			_, known := limits[name+"."+property]
			if p.Type == "string" && p.Enum == nil && !known && property != "duration" {
				t.Errorf("%s.%s has no known bound", name, property)
			}
		}
	}
}

// TestLongestResult holds each text at its bound against the schema, on its own: all at once would not fit.
func TestLongestResult(t *testing.T) {
	refusal := judge(t)
	long := strings.Repeat("🐘", 3000)
	for name, r := range map[string]Result{
		"image":    {Image: long},
		"versions": {Migration: &v1alpha1.MigrationStatus{CurrentVersion: long, TargetVersion: long, DirectoryHash: long}},
		"file":     {Migration: &v1alpha1.MigrationStatus{Applied: []v1alpha1.AppliedFile{{Version: long, Description: long}}}},
		"files":    {Migration: &v1alpha1.MigrationStatus{Applied: make([]v1alpha1.AppliedFile, 1000)}},
		"failure":  Failed(v1alpha1.Failure{Class: v1alpha1.InDoubt, Version: long, File: long, SQLState: long, Error: long}),
	} {
		t.Run(name, func(t *testing.T) {
			if errs := refusal(r.bounded()); errs != nil {
				t.Error(errs)
			}
			if refusal(r) == nil {
				t.Error("the schema takes it unbounded too, so this test proves nothing")
			}
		})
	}
}

func TestEveryClassIsInTheAPI(t *testing.T) {
	var inAPI, ours []v1alpha1.FailureClass
	for _, value := range statusSchema(t).Properties["migration"].Properties["failure"].Properties["class"].Enum {
		var name v1alpha1.FailureClass
		if err := json.Unmarshal(value.Raw, &name); err != nil {
			t.Fatal(err)
		}
		inAPI = append(inAPI, name)
	}
	for _, c := range Classes() {
		ours = append(ours, c.Name)
	}
	slices.Sort(inAPI)
	slices.Sort(ours)
	if diff := cmp.Diff(inAPI, ours); diff != "" {
		t.Errorf("-API +classes:\n%s", diff)
	}
}

// FuzzParse: whatever a container leaves behind, it is refused or becomes a status that the API server takes.
func FuzzParse(f *testing.F) {
	refusal := judge(f)
	for _, seed := range []string{
		"", "null", "{}", "{}}", "[]", `{"image":"registry.test/app"}`, "\xff{\"image\":\"\xff\"}", `{"image":"\ud800"}`,
		`{"migration":{"pending":1,"total":2,"applied":[{"version":"1","statements":1,"duration":"1s"}],"failure":{"class":"InDoubt","error":"` + "\u2028" + `"}}}`,
		`{"migration":{"pending":0,"total":0,"applied":[{},{"duration":"-9223372036854775808ns"}]},"Migration":null}`,
		"failed to create containerd task", `{"migration":{"failure":{"class":"Explosion"}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		r, err := Parse(message)
		if err != nil {
			return
		}
		if errs := refusal(r); errs != nil {
			t.Fatalf("the API server refuses it: %v", errs)
		}
		checkEncoded(t, r, refusal)
	})
}

// FuzzEncode: whatever the runner meets, it leaves a result that fits and that the manager reads.
func FuzzEncode(f *testing.F) {
	refusal := judge(f)
	f.Add("registry.test/app", "20260102", "create users", "relation \"x\" does not exist", uint8(1), uint8(3), uint8(0))
	f.Add("", "", "", "", uint8(0), uint8(0), uint8(200))
	f.Add("\x01", "\u2028", "\"", "\xff", uint8(255), uint8(40), uint8(3))
	classes := Classes()
	// Texts are repeated, since the fuzzer itself seldom makes long ones.
	f.Fuzz(func(t *testing.T, image, name, description, text string, times, files, class uint8) {
		long := func(s string) string { return strings.Repeat(s, int(times)) }
		m := &v1alpha1.MigrationStatus{CurrentVersion: name, TargetVersion: long(name), DirectoryHash: long(description), Pending: int32(files), Total: -int32(files)}
		for range files {
			m.Applied = append(m.Applied, v1alpha1.AppliedFile{Version: name, Description: long(description), Statements: int32(times)})
		}
		if int(class) < len(classes) {
			m.Failure = &v1alpha1.Failure{Class: classes[class].Name, Version: name, File: long(name), SQLState: description, Error: long(text)}
		}
		checkEncoded(t, Result{Image: long(image), Migration: m}, refusal)
	})
}

func checkEncoded(t *testing.T, r Result, refusal func(Result) []error) {
	t.Helper()
	data := r.Encode()
	if len(data) > MaxBytes {
		t.Fatalf("%d bytes", len(data))
	}
	if !utf8.Valid(data) {
		t.Fatal("not UTF-8")
	}
	again, err := Parse(string(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if got := again.Encode(); string(got) != string(data) {
		t.Fatalf("a second time it differs:\n%s\n%s", data, got)
	}
	if errs := refusal(again); errs != nil {
		t.Fatalf("the API server refuses it: %v", errs)
	}
	if (r.Failure() == nil) != (again.Failure() == nil) || (r.Failure() != nil && r.Failure().Class != again.Failure().Class) {
		t.Fatal("the failure or its class is lost")
	}
}
