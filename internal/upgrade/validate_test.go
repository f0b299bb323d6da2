// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

func TestValidateImage(t *testing.T) {
	const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for image, valid := range map[string]bool{
		"app":                                true, // of Docker Hub, latest
		"app:v1":                             true,
		"team/app":                           true,
		"registry.test/app:v1":               true,
		"registry.test/team/sub/app:1.2.3":   true,
		"registry.test:5000/app:v1":          true,
		"localhost:5000/app":                 true,
		"127.0.0.1:5000/app:v1":              true,
		"[::1]:5000/app:v1":                  true,
		"registry.test/app@sha256:" + hex:    true,
		"registry.test/app:v1@sha256:" + hex: true,
		"registry.test/app:" + strings.Repeat("v", 128): true,

		"":                              false,
		" ":                             false,
		"registry.test/app:v1 ":         false,
		"registry.test/my app":          false,
		"registry.test/App":             false, // upper case
		"registry.test/app:":            false,
		"registry.test/app:v 1":         false,
		"registry.test/app:v1:v2":       false,
		"registry.test/app@sha256:abc":  false,
		"registry.test/app@md5:" + hex:  false,
		"registry.test/app@":            false,
		"https://registry.test/app:v1":  false,
		"oci://registry.test/app:v1":    false,
		"docker://registry.test/app":    false,
		"registry.test/app:v1\n":        false,
		"registry.test/$(DATABASE_URL)": false,
		"registry.test/app;id":          false,
		"registry.test/team/../app":     false, // would be within registry.test/team
		"--insecure":                    false,
		"registry.test/app:" + strings.Repeat("v", 129): false,
	} {
		t.Run(image, func(t *testing.T) {
			errs := upgrade.Validate(&builders.DBUpgrade(builders.Image(image)).Spec, upgrade.RunnerConfig{})
			if valid {
				if errs != nil {
					t.Error(errs)
				}
				return
			}
			if len(errs) != 1 {
				t.Fatalf("got %v", errs)
			}
			if e := errs[0]; e.Field != "spec.migrations.image" || e.Type != field.ErrorTypeInvalid || e.BadValue != image {
				t.Errorf("got %s %s of %q", e.Type, e.Field, e.BadValue)
			}
		})
	}
}

// TestValidateUpstream: what the Atlas CLI cannot do is refused where it is asked for, and by name.
func TestValidateUpstream(t *testing.T) {
	apply := func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Apply = v1alpha1.ApplySpec{
			Baseline: "1", ExecOrder: v1alpha1.ExecOrderNonLinear, TxMode: v1alpha1.TxModeAll, RevisionsSchema: "history", LockTimeout: after(time.Minute),
		}
	}
	for name, c := range map[string]struct {
		option  builders.Option
		refused []string
	}{
		"what it can": {apply, nil},
		"lint warns":  {func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Lint = v1alpha1.LintWarn }, nil},
		"plan":        {func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = v1alpha1.ModePlan }, []string{"spec.mode"}},
		"the rest": {ofTheRunner, []string{
			"spec.migrations.lint", "spec.migrations.apply.toVersion", "spec.migrations.apply.statementLockTimeout", "spec.migrations.apply.statementTimeout", "spec.database.tls",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := builders.DBUpgrade(c.option).Spec
			var refused []string
			for _, e := range upgrade.Validate(&spec, upgrade.RunnerConfig{AtlasImage: "atlas"}) {
				refused = append(refused, e.Field)
				if e.Type != field.ErrorTypeForbidden || !strings.Contains(e.Detail, "--atlas-image") {
					t.Error(e)
				}
			}
			if diff := cmp.Diff(c.refused, refused); diff != "" {
				t.Error(diff)
			}
			if errs := upgrade.Validate(&spec, upgrade.RunnerConfig{}); errs != nil {
				t.Errorf("the runner can: %v", errs)
			}
		})
	}
}

func TestValidateResolve(t *testing.T) {
	const path = "metadata.annotations[dbupgrade.subbug.learning/resolve]"
	for value, valid := range map[string]bool{
		"": true, "redo:ABCDEF23": true, "skip:ZZZZ7777": true,
		"redo": false, "redo:": false, "redo:ABCDEF2": false, "redo:ABCDEF234": false, "redo:abcdef23": false, "redo:ABCDEF21": false, "undo:ABCDEF23": false,
		"an answer: redo:ABCDEF23": false, "redo:ABCDEF23\n": false, "skip:ABCDEF23,redo:ABCDEF23": false,
	} {
		obj := builders.DBUpgrade(resolvedBy(value))
		errs := upgrade.ValidateResolve(obj, upgrade.RunnerConfig{})
		if valid != (errs == nil) || !valid && errs[0].Field != path {
			t.Errorf("%q: %v", value, errs)
		}
	}
	errs := upgrade.ValidateResolve(builders.DBUpgrade(resolvedBy("skip:ABCDEF23")), upgrade.RunnerConfig{AtlasImage: "atlas"})
	if len(errs) != 1 || errs[0].Field != path || errs[0].Type != field.ErrorTypeForbidden {
		t.Errorf("with the Atlas CLI: %v", errs)
	}
}

// TestValidateOperator refuses what this operator, or its cluster, cannot do.
func TestValidateOperator(t *testing.T) {
	const image, extraction = "spec.migrations.image", "spec.migrations.extraction"
	for name, c := range map[string]struct {
		config     upgrade.RunnerConfig
		extraction v1alpha1.Extraction
		refused    string // path, "" for none
		why        string
	}{
		"an allowed image":           {config: upgrade.RunnerConfig{AllowedImagePrefixes: []string{"other.test", "registry.test/app"}}},
		"another image":              {config: upgrade.RunnerConfig{AllowedImagePrefixes: []string{"registry.test/ap"}}, refused: image, why: "repository registry.test/app is not within one that the operator allows (registry.test/ap)"},
		"another image, mounted":     {config: upgrade.RunnerConfig{AllowedImagePrefixes: []string{"other.test"}}, extraction: v1alpha1.ExtractionImageVolume, refused: image, why: "not within"},
		"a prefix that is none":      {config: upgrade.RunnerConfig{AllowedImagePrefixes: []string{"/"}}, refused: image, why: "not within"},
		"image volume":               {config: upgrade.RunnerConfig{KubernetesVersion: version.MustParseGeneric("v1.35.0")}, extraction: v1alpha1.ExtractionImageVolume},
		"image volume, later":        {config: upgrade.RunnerConfig{KubernetesVersion: version.MustParseGeneric("v1.36.2-gke.100")}, extraction: v1alpha1.ExtractionImageVolume},
		"image volume, earlier":      {config: upgrade.RunnerConfig{KubernetesVersion: version.MustParseGeneric("v1.34.9+k3s1")}, extraction: v1alpha1.ExtractionImageVolume, refused: extraction, why: "needs Kubernetes 1.35, and this is 1.34.9"},
		"crane, earlier":             {config: upgrade.RunnerConfig{KubernetesVersion: version.MustParseGeneric("v1.29.0")}, extraction: v1alpha1.ExtractionCrane},
		"image volume and crane":     {config: upgrade.RunnerConfig{CraneImage: "crane"}, extraction: v1alpha1.ExtractionImageVolume},
		"image volume and Atlas CLI": {config: upgrade.RunnerConfig{AtlasImage: "atlas"}, extraction: v1alpha1.ExtractionImageVolume, refused: extraction, why: "--atlas-image"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := builders.DBUpgrade(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Extraction = c.extraction })
			errs := upgrade.Validate(&obj.Spec, c.config)
			switch {
			case c.refused == "" && errs != nil:
				t.Error(errs)
			case c.refused != "" && (len(errs) != 1 || errs[0].Field != c.refused || errs[0].Type != field.ErrorTypeForbidden || !strings.Contains(errs[0].Detail, c.why)):
				t.Errorf("got %v", errs)
			}
		})
	}
}
