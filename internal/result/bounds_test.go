// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package result

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/crd"
)

var judge = crd.Validator("status")

// refusal says why the API server would refuse a status that holds r; nil where it takes it.
func refusal(t *testing.T, r Result) []error {
	t.Helper()
	return judge(t, v1alpha1.DBUpgradeStatus{Image: r.Image, Migration: r.Migration})
}

// TestBoundsMatchAPI: a text that bounded lets through must not be refused by the API server.
func TestBoundsMatchAPI(t *testing.T) {
	limits := map[string]int64{
		"status.image":                           maxImage,
		"status.history[].image":                 maxImage,
		"status.history[].version":               maxName,
		"status.migration.currentVersion":        maxName,
		"status.migration.targetVersion":         maxName,
		"status.migration.directoryHash":         128,
		"status.migration.applied[].version":     maxName,
		"status.migration.applied[].description": maxName,
		"status.migration.planned[].version":     maxName,
		"status.migration.planned[].description": maxName,
		"status.migration.findings[].file":       maxName,
		"status.migration.findings[].code":       maxCode,
		"status.migration.findings[].message":    maxText,
		"status.migration.failure.version":       maxName,
		"status.migration.failure.file":          maxName,
		"status.migration.failure.sqlState":      5,
		"status.migration.failure.error":         maxError,
	}
	for path, bound := range limits {
		if limit := crd.Schema(t, path).MaxLength; limit == nil || *limit < bound {
			t.Errorf("%s: results may have %d characters, the API takes %v", path, bound, limit)
		}
	}
	for list, bound := range map[string]int64{"applied": maxFiles, "planned": maxFiles, "findings": maxFindings} {
		if limit := crd.Schema(t, "status.migration."+list).MaxItems; limit == nil || *limit < bound {
			t.Errorf("results may have %d %s, the API takes %v", bound, list, limit)
		}
	}
	// Every text of a result is in the table above: one that a later version adds must be bounded too.
	for _, path := range []string{"status.migration", "status.migration.applied[]", "status.migration.planned[]", "status.migration.findings[]", "status.migration.failure"} {
		for property, p := range crd.Schema(t, path).Properties {
			_, known := limits[path+"."+property]
			if p.Type == "string" && p.Enum == nil && !known && property != "duration" {
				t.Errorf("%s.%s has no known bound", path, property)
			}
		}
	}
}

// TestLongestResult holds each text at its bound against the schema, on its own: all at once would not fit.
func TestLongestResult(t *testing.T) {
	long := strings.Repeat("🐘", 3000)
	for name, r := range map[string]Result{
		"image":    {Image: long},
		"versions": {Migration: &v1alpha1.MigrationStatus{CurrentVersion: long, TargetVersion: long, DirectoryHash: long}},
		"file":     {Migration: &v1alpha1.MigrationStatus{Applied: []v1alpha1.AppliedFile{{Version: long, Description: long}}}},
		"files":    {Migration: &v1alpha1.MigrationStatus{Applied: make([]v1alpha1.AppliedFile, 1000)}},
		"plan":     {Migration: &v1alpha1.MigrationStatus{Planned: []v1alpha1.PlannedFile{{Version: long, Description: long}}}},
		"plans":    {Migration: &v1alpha1.MigrationStatus{Planned: make([]v1alpha1.PlannedFile, 1000)}},
		"finding":  {Migration: &v1alpha1.MigrationStatus{Findings: []v1alpha1.Finding{{File: long, Code: long, Severity: "Odd", Message: long}}}},
		"findings": {Migration: &v1alpha1.MigrationStatus{Findings: make([]v1alpha1.Finding, 1000)}},
		"failure":  Failed(v1alpha1.Failure{Class: v1alpha1.InDoubt, Version: long, File: long, SQLState: long, Error: long}),
	} {
		t.Run(name, func(t *testing.T) {
			if errs := refusal(t, r.bounded()); errs != nil {
				t.Error(errs)
			}
			if refusal(t, r) == nil {
				t.Error("the schema takes it unbounded too, so this test proves nothing")
			}
		})
	}
}

func TestEveryClassIsInTheAPI(t *testing.T) {
	var ours []string
	for _, c := range Classes() {
		ours = append(ours, string(c.Name))
	}
	slices.Sort(ours)
	if diff := cmp.Diff(crd.Enum(t, "status.migration.failure.class"), ours); diff != "" {
		t.Errorf("-API +classes:\n%s", diff)
	}
}

// FuzzParse: whatever a container leaves behind, it is refused or becomes a status that the API server takes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "{}}", "[]", `{"image":"registry.test/app"}`, "\xff{\"image\":\"\xff\"}", `{"image":"\ud800"}`,
		`{"migration":{"pending":1,"total":2,"applied":[{"version":"1","statements":1,"duration":"1s"}],"failure":{"class":"InDoubt","error":"` + "\u2028" + `"}}}`,
		`{"migration":{"pending":3,"total":3,"lockRetries":2,"planned":[{"version":"1","statements":1}],"findings":[{"file":"1.sql","code":"X1","severity":"Note","message":"m"},{"severity":"Error"}]}}`,
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
		if errs := refusal(t, r); errs != nil {
			t.Fatalf("the API server refuses it: %v", errs)
		}
		checkEncoded(t, r)
	})
}

// FuzzEncode: whatever the runner meets, it leaves a result that fits and that the manager reads.
func FuzzEncode(f *testing.F) {
	f.Add("registry.test/app", "20260102", "create users", "relation \"x\" does not exist", uint8(1), uint8(3), uint8(2), uint8(0))
	f.Add("", "", "", "", uint8(0), uint8(0), uint8(0), uint8(200))
	f.Add("\x01", "\u2028", "\"", "\xff", uint8(255), uint8(40), uint8(20), uint8(3))
	classes := Classes()
	// Texts are repeated, since the fuzzer itself seldom makes long ones.
	f.Fuzz(func(t *testing.T, image, name, description, text string, times, files, findings, class uint8) {
		long := func(s string) string { return strings.Repeat(s, int(times)) }
		m := &v1alpha1.MigrationStatus{CurrentVersion: name, TargetVersion: long(name), DirectoryHash: long(description), Pending: int32(files), Total: -int32(files)}
		for range files {
			m.Applied = append(m.Applied, v1alpha1.AppliedFile{Version: name, Description: long(description), Statements: int32(times)})
			m.Planned = append(m.Planned, v1alpha1.PlannedFile{Version: long(name), Description: description, Statements: int32(times)})
		}
		for i := range findings {
			severity := []v1alpha1.Severity{v1alpha1.SeverityWarning, v1alpha1.SeverityError}[i%2]
			m.Findings = append(m.Findings, v1alpha1.Finding{File: long(name), Line: int32(i), Code: description, Severity: severity, Message: long(text)})
		}
		if int(class) < len(classes) {
			m.Failure = &v1alpha1.Failure{Class: classes[class].Name, Version: name, File: long(name), SQLState: description, Error: long(text)}
		}
		checkEncoded(t, Result{Image: long(image), Migration: m})
	})
}

func checkEncoded(t *testing.T, r Result) {
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
	if errs := refusal(t, again); errs != nil {
		t.Fatalf("the API server refuses it: %v", errs)
	}
	if m := again.Migration; m != nil && !slices.IsSortedFunc(m.Findings, func(a, b v1alpha1.Finding) int { return strings.Compare(string(a.Severity), string(b.Severity)) }) {
		t.Fatal("a warning comes before an error")
	}
	if (r.Failure() == nil) != (again.Failure() == nil) || (r.Failure() != nil && r.Failure().Class != again.Failure().Class) {
		t.Fatal("the failure or its class is lost")
	}
}
