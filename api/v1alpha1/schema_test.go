// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/crd"
)

// constants are the values of all constants of a type in this package's source.
func constants(t *testing.T, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "dbupgrade_types.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, s := range group.Specs {
			constant := s.(*ast.ValueSpec)
			if name, ok := constant.Type.(*ast.Ident); !ok || name.Name != typeName {
				continue
			}
			value, err := strconv.Unquote(constant.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
	}
	return values
}

// TestEnums: a constant that the CRD does not list would make the API server refuse the object that holds it.
func TestEnums(t *testing.T) {
	for path, typeName := range map[string]string{
		"spec.database.type":                   "DatabaseType",
		"spec.database.tls.mode":               "TLSMode",
		"spec.mode":                            "Mode",
		"spec.migrations.extraction":           "Extraction",
		"spec.migrations.format":               "Format",
		"spec.migrations.lint":                 "LintMode",
		"spec.migrations.apply.execOrder":      "ExecOrder",
		"spec.migrations.apply.txMode":         "TxMode",
		"status.attempt.mode":                  "Mode",
		"status.history[].mode":                "Mode",
		"status.migration.findings[].severity": "Severity",
		"status.attempt.phase":                 "AttemptPhase",
		"status.history[].result":              "AttemptPhase",
		"status.migration.failure.class":       "FailureClass",
	} {
		want := constants(t, typeName)
		if len(want) == 0 {
			t.Errorf("no constant of type %s", typeName)
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, crd.Enum(t, path)); diff != "" {
			t.Errorf("%s: -constants +CRD:\n%s", path, diff)
		}
	}
}

// TestEverythingIsBounded: bounds keep objects small, and the cost of CEL rules known. What Kubernetes itself defines is as it is.
func TestEverythingIsBounded(t *testing.T) {
	foreign := []string{
		"spec.runner.affinity", "spec.runner.resources", "spec.runner.tolerations[]", "spec.migrations.imagePullSecrets[]", "status.conditions[]",
		"spec.runner.nodeSelector{}", "spec.runner.podLabels{}", "spec.runner.podAnnotations{}",
		"status.attempt.jobUID", "status.migration.applied[].duration",
	}
	var walk func(path string, s apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s apiextensionsv1.JSONSchemaProps) {
		if slices.Contains(foreign, path) {
			return
		}
		switch {
		case s.Type == "string" && s.MaxLength == nil && s.Enum == nil && s.Format == "":
			t.Errorf("%s has no maxLength", path)
		case s.Type == "array" && s.MaxItems == nil:
			t.Errorf("%s has no maxItems", path)
		case s.AdditionalProperties != nil && s.MaxProperties == nil:
			t.Errorf("%s has no maxProperties", path)
		}
		for name, property := range s.Properties {
			walk(strings.TrimPrefix(path+"."+name, "."), property)
		}
		if s.Items != nil {
			walk(path+"[]", *s.Items.Schema)
		}
		if s.AdditionalProperties != nil {
			walk(path+"{}", *s.AdditionalProperties.Schema)
		}
	}
	walk("spec", crd.Schema(t, "spec"))
	walk("status", crd.Schema(t, "status"))
}

// TestNames: manifests, dashboards and people know the kind by these.
func TestNames(t *testing.T) {
	definition := crd.Spec(t)
	version := definition.Versions[0]
	if definition.Group != v1alpha1.GroupVersion.Group || version.Name != v1alpha1.GroupVersion.Version || !version.Storage || version.Subresources.Status == nil {
		t.Errorf("%s/%s", definition.Group, version.Name)
	}
	if definition.Scope != apiextensionsv1.NamespaceScoped || definition.Names.Kind != "DBUpgrade" || !slices.Equal(definition.Names.ShortNames, []string{"dbu"}) {
		t.Errorf("%s %+v", definition.Scope, definition.Names)
	}
	var columns []string
	for _, c := range version.AdditionalPrinterColumns {
		if c.Priority == 0 {
			columns = append(columns, c.Name)
		} else {
			columns = append(columns, c.Name+" (wide)")
		}
	}
	want := []string{"Ready", "Progressing", "Reason", "Version", "Age", "Degraded (wide)", "ObservedGen (wide)"}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Error(diff)
	}
}

// TestSchemaTakesTheTypes: what the Go types write is what the schema describes, the object that tests are built from among it.
func TestSchemaTakesTheTypes(t *testing.T) {
	refusal := crd.Validator("")
	for name, c := range map[string]struct {
		option builders.Option
		valid  bool
	}{
		"as built":  {func(*v1alpha1.DBUpgrade) {}, true},
		"no runner": {func(o *v1alpha1.DBUpgrade) { o.Spec.Runner = v1alpha1.RunnerSpec{} }, true},
		"no retries": {func(o *v1alpha1.DBUpgrade) {
			o.Spec.Runner.InfrastructureRetries, o.Spec.Runner.JobHistoryLimit = new(int32(0)), new(int32(0))
		}, true},
		"no image":      {builders.Image(""), false},
		"long image":    {builders.Image(strings.Repeat("a", 1025)), false},
		"no Secret":     {builders.URLSecret(""), false},
		"unknown type":  {func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Type = "other" }, false},
		"long grace":    {func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.TerminationGracePeriodSeconds = 86401 }, false},
		"negative":      {func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.InfrastructureRetries = new(int32(-1)) }, false},
		"many Jobs":     {func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = new(int32(21)) }, false},
		"long history":  {func(o *v1alpha1.DBUpgrade) { o.Status.History = make([]v1alpha1.HistoryEntry, 11) }, false},
		"unknown phase": {func(o *v1alpha1.DBUpgrade) { o.Status.Attempt = &v1alpha1.AttemptStatus{Number: 1, Phase: "Odd"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if errs := refusal(t, builders.DBUpgrade(c.option)); (errs == nil) != c.valid {
				t.Errorf("got %v", errs)
			}
		})
	}
}

// TestZeroIsWritten: a field whose zero means something and whose default is another must not vanish when a Go client writes it, nor be written where the
// client says nothing about it.
func TestZeroIsWritten(t *testing.T) {
	for want, runner := range map[string]v1alpha1.RunnerSpec{
		`{"infrastructureRetries":0,"jobHistoryLimit":0}`: {InfrastructureRetries: new(int32(0)), JobHistoryLimit: new(int32(0))},
		`{"priorityClassName":"high"}`:                    {PriorityClassName: "high"},
	} {
		got, err := json.Marshal(runner)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
