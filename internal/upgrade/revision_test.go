// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

// TestRevisionGolden: a hash that changes with a version of the operator would run every migration in the world again.
func TestRevisionGolden(t *testing.T) {
	for want, option := range map[string]builders.Option{
		"0bbcdd3b5d0d40a6": func(*v1alpha1.DBUpgrade) {},
		"9b5b3ed78da1c8ec": builders.Image("registry.test/app:v2"),
		"d4cfdc468b282fbc": builders.Image("registry.test/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
		"6f2fb0d5ea1114fb": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/db/migrations" },
		"330287351b1b62fc": builders.URLSecret("other"),
		"b9950b88cf3249be": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Format = v1alpha1.FormatGolangMigrate },
		"2b0ae783dcb3c43f": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Apply.Baseline = "20260101" },
		"802a335b5932767a": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Apply.ExecOrder = v1alpha1.ExecOrderNonLinear },
		"573d5b43bd47c688": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Apply.RevisionsSchema = "20260101" },
		"9aeacc2a8ccd2e39": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Apply.ToVersion = "20260101" },
		"b280d034d01eaaf2": func(o *v1alpha1.DBUpgrade) {
			o.Spec.Migrations.Format = v1alpha1.FormatGoose
			o.Spec.Migrations.Apply = v1alpha1.ApplySpec{Baseline: "1", ExecOrder: v1alpha1.ExecOrderLinearSkip, RevisionsSchema: "history", ToVersion: "9"}
		},
	} {
		if got := upgrade.Revision(&builders.DBUpgrade(option).Spec); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestRevisionIgnores(t *testing.T) {
	want := upgrade.Revision(&builders.DBUpgrade().Spec)
	for name, option := range map[string]builders.Option{
		"dir default": func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/migrations" },
		"dir unset":   func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "" },
		"pull secrets": func(o *v1alpha1.DBUpgrade) {
			o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
		},
		"defaults": func(o *v1alpha1.DBUpgrade) {
			o.Spec.Mode, o.Spec.Migrations.Format = v1alpha1.ModeApply, v1alpha1.FormatAtlas
			o.Spec.Migrations.Apply.ExecOrder = v1alpha1.ExecOrderLinear
		},
		"how it is applied": func(o *v1alpha1.DBUpgrade) {
			o.Spec.Migrations.Apply = v1alpha1.ApplySpec{
				AllowDirty: true, TxMode: v1alpha1.TxModeNone, LockTimeout: after(1), StatementLockTimeout: after(1), StatementTimeout: after(1),
			}
		},
		"TLS": func(o *v1alpha1.DBUpgrade) {
			o.Spec.Database.TLS = &v1alpha1.TLSSpec{Mode: v1alpha1.TLSVerifyFull, CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "a", Key: "b"}}
		},
		"lint":             func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Lint = v1alpha1.LintEnforce },
		"mode":             func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = v1alpha1.ModePlan },
		"extraction":       imageVolume,
		"suspend":          func(o *v1alpha1.DBUpgrade) { o.Spec.Suspend = true },
		"no runner":        func(o *v1alpha1.DBUpgrade) { o.Spec.Runner = v1alpha1.RunnerSpec{} },
		"metadata":         func(o *v1alpha1.DBUpgrade) { o.Name, o.Namespace, o.UID, o.Generation = "other", "other", "other", 7 },
		"retry annotation": func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "now"} },
		"runner": func(o *v1alpha1.DBUpgrade) {
			image := o.Spec.Migrations
			everything(o)
			o.Spec.Migrations = image
			o.Spec.Runner.Resources = corev1.ResourceRequirements{}
			o.Spec.Runner.InfrastructureRetries, o.Spec.Runner.JobHistoryLimit = ptr.To[int32](9), ptr.To[int32](9)
			o.Spec.Runner.ActiveDeadlineSeconds = ptr.To[int64](1)
		},
	} {
		if got := upgrade.Revision(&builders.DBUpgrade(option).Spec); got != want {
			t.Errorf("%s makes another revision", name)
		}
	}
}

// TestRevisionsDiffer: two specs that migrate differently never share a revision, whatever separators their texts hold. A key has no slash.
func TestRevisionsDiffer(t *testing.T) {
	type facts struct{ image, dir, secret, key string }
	seen := map[string]facts{}
	for _, image := range []string{"a", "a:b", "a/b", `a","migrations.dir":"/b`, "/b"} {
		for _, dir := range []string{"/b", "/migrations/", "/a/b", "/", `/b"`, "/b,", "a"} {
			for _, secret := range []string{"a", "a/b", "b", "a.b", "a-b", "", "/"} {
				for _, key := range []string{"a", "b", "a.b", "", "_"} {
					spec := builders.DBUpgrade().Spec
					spec.Migrations.Image, spec.Migrations.Dir = image, dir
					spec.Database.Connection.URLSecretRef = v1alpha1.SecretKeyRef{Name: secret, Key: key}
					got, is := upgrade.Revision(&spec), facts{image, dir, secret, key}
					if was, taken := seen[got]; taken {
						t.Errorf("%+v and %+v share revision %s", was, is, got)
					}
					seen[got] = is
				}
			}
		}
	}
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(upgrade.Revision(&builders.DBUpgrade().Spec)) {
		t.Error("a revision is not 16 hexadecimal digits")
	}
}

func TestLockName(t *testing.T) {
	db := func(name, key string) v1alpha1.DatabaseSpec {
		return v1alpha1.DatabaseSpec{Type: v1alpha1.DatabaseSelfHosted, Connection: &v1alpha1.ConnectionSpec{URLSecretRef: v1alpha1.SecretKeyRef{Name: name, Key: key}}}
	}
	names := map[string]string{}
	for what, key := range map[string]string{
		"a database":        upgrade.DatabaseKey("team", db("db", "url")),
		"of another team":   upgrade.DatabaseKey("team-b", db("db", "url")),
		"another Secret":    upgrade.DatabaseKey("team", db("db2", "url")),
		"another key":       upgrade.DatabaseKey("team", db("db", "url2")),
		"shifted by a dash": upgrade.DatabaseKey("team-db", db("url", "url")),
	} {
		name := upgrade.LockName(key)
		if errs := validation.IsDNS1123Label(name); errs != nil {
			t.Errorf("%s: %s: %v", what, name, errs)
		}
		if other, taken := names[name]; taken {
			t.Errorf("%s and %s share a lock", what, other)
		}
		names[name] = what
	}
	// Two versions of the operator, in turn or side by side, must contend for one Lease.
	if got := upgrade.LockName(upgrade.DatabaseKey("team", db("db", "url"))); got != "dbupgrade-fda6a4a83b7061c88917e3d1425d93f5" {
		t.Errorf("got %s", got)
	}
}
