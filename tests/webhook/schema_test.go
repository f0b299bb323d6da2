// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
)

// minimal is what somebody writes who sets nothing that has a default.
func minimal(namespace, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"migrations": map[string]any{"image": "registry.example.com/team/app:v1"},
		"database": map[string]any{
			"type":       "selfHosted",
			"connection": map[string]any{"urlSecretRef": map[string]any{"name": "db", "key": "url"}},
		},
	}}}
	obj.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DBUpgrade"))
	obj.SetNamespace(namespace)
	obj.SetName(name)
	return obj
}

func TestDefaults(t *testing.T) {
	obj := minimal(controlplane.Namespace(t, admin), "orders")
	if err := admin.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	got := &v1alpha1.DBUpgrade{}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(obj), got); err != nil {
		t.Fatal(err)
	}
	if got.Spec.Migrations.Dir != "/migrations" {
		t.Errorf("migrations.dir = %q", got.Spec.Migrations.Dir)
	}
	if got.Spec.Migrations.Extraction != v1alpha1.ExtractionCrane {
		t.Errorf("migrations.extraction = %q", got.Spec.Migrations.Extraction)
	}
	if got.Spec.Mode != v1alpha1.ModeApply || got.Spec.Migrations.Format != v1alpha1.FormatAtlas || got.Spec.Migrations.Lint != v1alpha1.LintWarn {
		t.Errorf("mode %q, format %q, lint %q", got.Spec.Mode, got.Spec.Migrations.Format, got.Spec.Migrations.Lint)
	}
	runner := got.Spec.Runner
	if runner.TerminationGracePeriodSeconds != 300 || ptr.Deref(runner.InfrastructureRetries, -1) != 3 || ptr.Deref(runner.JobHistoryLimit, -1) != 3 || runner.ActiveDeadlineSeconds != nil {
		t.Errorf("runner = %+v, want a grace of 300 s, 3 retries, 3 Jobs and no deadline", runner)
	}
	resources := map[string]string{
		"requests.cpu": runner.Resources.Requests.Cpu().String(), "requests.memory": runner.Resources.Requests.Memory().String(),
		"limits.cpu": runner.Resources.Limits.Cpu().String(), "limits.memory": runner.Resources.Limits.Memory().String(),
	}
	want := map[string]string{"requests.cpu": "50m", "requests.memory": "64Mi", "limits.cpu": "1", "limits.memory": "256Mi"}
	if diff := cmp.Diff(want, resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// TestDefaultsOfGoClients: who sets one field of the runner, or of apply, by the Go types gets the defaults of the others.
func TestDefaultsOfGoClients(t *testing.T) {
	obj := created(t, dbupgrade(controlplane.Namespace(t, admin), "orders", func(o *v1alpha1.DBUpgrade) {
		o.Spec.Runner = v1alpha1.RunnerSpec{PriorityClassName: "high"}
		o.Spec.Migrations.Apply = v1alpha1.ApplySpec{AllowDirty: true}
		o.Spec.Database.TLS = &v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "authorities"}}
	}), "")
	runner, apply := obj.Spec.Runner, obj.Spec.Migrations.Apply
	if runner.TerminationGracePeriodSeconds != 300 || ptr.Deref(runner.InfrastructureRetries, -1) != 3 || ptr.Deref(runner.JobHistoryLimit, -1) != 3 {
		t.Errorf("runner = %+v", runner)
	}
	if apply.ExecOrder != v1alpha1.ExecOrderLinear || apply.TxMode != v1alpha1.TxModeFile {
		t.Errorf("apply = %+v", apply)
	}
	if key := obj.Spec.Database.TLS.CAConfigMapRef.Key; key != "ca.crt" {
		t.Errorf("caConfigMapRef.key = %q", key)
	}
}

// TestZeroIsKept: zero retries and zero Jobs kept are wishes, not fields left out.
func TestZeroIsKept(t *testing.T) {
	obj := minimal(controlplane.Namespace(t, admin), "none")
	obj.Object["spec"].(map[string]any)["runner"] = map[string]any{"infrastructureRetries": int64(0), "jobHistoryLimit": int64(0)}
	if err := admin.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	got := &v1alpha1.DBUpgrade{}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(obj), got); err != nil {
		t.Fatal(err)
	}
	// A round trip through the Go types is what the operator's own writes are.
	if err := admin.Update(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if ptr.Deref(got.Spec.Runner.InfrastructureRetries, -1) != 0 || ptr.Deref(got.Spec.Runner.JobHistoryLimit, -1) != 0 {
		t.Errorf("runner = %+v, want the zeros that were asked for", got.Spec.Runner)
	}
}

func TestSchemaRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*v1alpha1.DBUpgrade)
		field  string
		text   string
	}{
		"no image": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = "" }, "spec.migrations.image", "at least 1 char"},
		"long image": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = "a/" + strings.Repeat("b", 1023) }, "spec.migrations.image", "1024"},
		"relative directory": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "migrations" }, "spec.migrations.dir", "must be an absolute path"},
		"directory that climbs": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/a/../etc" }, "spec.migrations.dir", "must not contain '..'"},
		"directory that ends above": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/a/.." }, "spec.migrations.dir", "must not contain '..'"},
		"long directory": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/" + strings.Repeat("d", 512) }, "spec.migrations.dir", "512"},
		"unknown extraction": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Extraction = "Docker" }, "spec.migrations.extraction", "ImageVolume"},
		"pull secret without a name": {
			func(o *v1alpha1.DBUpgrade) {
				o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: ""}}
			},
			"spec.migrations.imagePullSecrets", "every entry needs a name"},
		"pull secret named twice": {
			func(o *v1alpha1.DBUpgrade) {
				o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}, {Name: "a"}}
			}, "spec.migrations.imagePullSecrets[1]", "Duplicate value"},
		"too many pull secrets": {
			func(o *v1alpha1.DBUpgrade) {
				for i := range 9 {
					o.Spec.Migrations.ImagePullSecrets = append(o.Spec.Migrations.ImagePullSecrets, corev1.LocalObjectReference{Name: fmt.Sprint(i)})
				}
			}, "spec.migrations.imagePullSecrets", "8"},
		"no key that a Secret could have": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection.URLSecretRef.Key = "a key" },
			"spec.database.connection.urlSecretRef.key", "[-._a-zA-Z0-9]"},
		"no connection": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection = nil }, "spec.database.connection", "urlSecretRef is required"},
		"unknown type": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Type = "cloud" }, "spec.database.type", "selfHosted"},
		"no Secret": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection.URLSecretRef.Name = "" }, "spec.database.connection.urlSecretRef.name", ""},
		"no key": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection.URLSecretRef.Key = "" }, "spec.database.connection.urlSecretRef.key", ""},
		"deadline of nothing": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.ActiveDeadlineSeconds = ptr.To[int64](0) }, "spec.runner.activeDeadlineSeconds", "1"},
		"negative retries": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.InfrastructureRetries = ptr.To[int32](-1) }, "spec.runner.infrastructureRetries", "0"},
		"endless history": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = ptr.To[int32](21) }, "spec.runner.jobHistoryLimit", "20"},
	}
	namespace := controlplane.Namespace(t, admin)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			refused(t, admin.Create(t.Context(), dbupgrade(namespace, "refused", test.change)), metav1.StatusReasonInvalid, test.field, test.text)
		})
	}
}

func after(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// applying changes how migrations are applied.
func applying(change func(*v1alpha1.ApplySpec)) func(*v1alpha1.DBUpgrade) {
	return func(o *v1alpha1.DBUpgrade) { change(&o.Spec.Migrations.Apply) }
}

func secured(tls v1alpha1.TLSSpec) func(*v1alpha1.DBUpgrade) {
	return func(o *v1alpha1.DBUpgrade) { o.Spec.Database.TLS = &tls }
}

// TestSchemaRefusesOptions: values that are none, and those that make no sense together, each with the field and a reason.
func TestSchemaRefusesOptions(t *testing.T) {
	const apply, tls = "spec.migrations.apply", "spec.database.tls"
	tests := map[string]struct {
		change func(*v1alpha1.DBUpgrade)
		field  string
		text   string
	}{
		"unknown mode":    {func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = "DryRun" }, "spec.mode", `"Plan"`},
		"unknown format":  {func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Format = "rails" }, "spec.migrations.format", `"golang-migrate"`},
		"unknown lint":    {func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Lint = "Strict" }, "spec.migrations.lint", `"Enforce"`},
		"unknown order":   {applying(func(a *v1alpha1.ApplySpec) { a.ExecOrder = "random" }), apply + ".execOrder", `"linear-skip"`},
		"unknown tx mode": {applying(func(a *v1alpha1.ApplySpec) { a.TxMode = "statement" }), apply + ".txMode", `"none"`},
		"baseline of a dirty database": {applying(func(a *v1alpha1.ApplySpec) { a.Baseline, a.AllowDirty = "20260101", true }),
			apply, "baseline and allowDirty exclude each other"},
		"baseline beyond the end": {applying(func(a *v1alpha1.ApplySpec) { a.Baseline, a.ToVersion = "20260102", "20260101" }),
			apply, "toVersion comes before baseline"},
		"long baseline":  {applying(func(a *v1alpha1.ApplySpec) { a.Baseline = strings.Repeat("1", 257) }), apply + ".baseline", "256"},
		"long version":   {applying(func(a *v1alpha1.ApplySpec) { a.ToVersion = strings.Repeat("1", 257) }), apply + ".toVersion", "256"},
		"long schema":    {applying(func(a *v1alpha1.ApplySpec) { a.RevisionsSchema = strings.Repeat("s", 64) }), apply + ".revisionsSchema", "63"},
		"no lock":        {applying(func(a *v1alpha1.ApplySpec) { a.LockTimeout = after(0) }), apply + ".lockTimeout", "between 1s and 24h"},
		"endless lock":   {applying(func(a *v1alpha1.ApplySpec) { a.LockTimeout = after(25 * time.Hour) }), apply + ".lockTimeout", "between 1s and 24h"},
		"negative limit": {applying(func(a *v1alpha1.ApplySpec) { a.StatementTimeout = after(-time.Second) }), apply + ".statementTimeout", "in body should match"},
		"no limit":       {applying(func(a *v1alpha1.ApplySpec) { a.StatementTimeout = after(0) }), apply + ".statementTimeout", "between 1ms and 720h"},
		"tiny limit":     {applying(func(a *v1alpha1.ApplySpec) { a.StatementLockTimeout = after(time.Microsecond) }), apply + ".statementLockTimeout", "in body should match"},
		"limit that never counts": {applying(func(a *v1alpha1.ApplySpec) {
			a.StatementLockTimeout, a.StatementTimeout = after(time.Minute), after(60*time.Second)
		}),
			apply, "statementLockTimeout must be shorter than statementTimeout"},
		"TLS of nothing":          {secured(v1alpha1.TLSSpec{}), tls, "set mode, caConfigMapRef or both"},
		"unknown TLS":             {secured(v1alpha1.TLSSpec{Mode: "prefer"}), tls + ".mode", `"VerifyFull"`},
		"unverified authorities":  {secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSRequire, CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "a"}}), tls, "caConfigMapRef is for mode VerifyFull"},
		"authorities without TLS": {secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSDisable, CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "a"}}), tls, "caConfigMapRef is for mode VerifyFull"},
		"authorities of nobody":   {secured(v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{}}), tls + ".caConfigMapRef.name", ""},
		"authorities misspelt":    {secured(v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "My CA"}}), tls + ".caConfigMapRef.name", "in body should match"},
		"no key of authorities":   {secured(v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "a", Key: "../key"}}), tls + ".caConfigMapRef.key", "[-._a-zA-Z0-9]"},
	}
	namespace := controlplane.Namespace(t, admin)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			refused(t, admin.Create(t.Context(), dbupgrade(namespace, "refused", test.change)), metav1.StatusReasonInvalid, test.field, test.text)
		})
	}
}

// TestDurations: what people write who do not know how Go does.
func TestDurations(t *testing.T) {
	namespace := controlplane.Namespace(t, admin)
	for value, valid := range map[string]bool{"1h30m": true, "90s": true, "0.5s": true, "5 minutes": false, "1d": false, "5": false, "": false} {
		obj := minimal(namespace, "orders")
		obj.Object["spec"].(map[string]any)["migrations"].(map[string]any)["apply"] = map[string]any{"statementTimeout": value}
		err := admin.Create(t.Context(), obj, client.DryRunAll)
		switch {
		case valid && err != nil:
			t.Errorf("%q: %v", value, err)
		case !valid:
			refused(t, err, metav1.StatusReasonInvalid, "spec.migrations.apply.statementTimeout", "should match", "(ms|s|m|h)")
		}
	}
}

func TestSchemaAcceptsOptions(t *testing.T) {
	tests := map[string]func(*v1alpha1.DBUpgrade){
		"plan":                    func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = v1alpha1.ModePlan },
		"baseline":                applying(func(a *v1alpha1.ApplySpec) { a.Baseline = "20260101" }),
		"baseline, clean":         applying(func(a *v1alpha1.ApplySpec) { a.Baseline, a.AllowDirty = "20260101", false }),
		"baseline at the end":     applying(func(a *v1alpha1.ApplySpec) { a.Baseline, a.ToVersion = "20260101", "20260101" }),
		"baseline before the end": applying(func(a *v1alpha1.ApplySpec) { a.Baseline, a.ToVersion = "9", "10" }),
		"versions of no order":    applying(func(a *v1alpha1.ApplySpec) { a.Baseline, a.ToVersion = "v2", "1.9" }),
		"all in one":              applying(func(a *v1alpha1.ApplySpec) { a.TxMode, a.ExecOrder = v1alpha1.TxModeAll, v1alpha1.ExecOrderNonLinear }),
		"longest schema":          applying(func(a *v1alpha1.ApplySpec) { a.RevisionsSchema = strings.Repeat("s", 63) }),
		"limits": applying(func(a *v1alpha1.ApplySpec) {
			a.LockTimeout, a.StatementLockTimeout, a.StatementTimeout = after(time.Second), after(time.Millisecond), after(2*time.Millisecond)
		}),
		"largest limits": applying(func(a *v1alpha1.ApplySpec) {
			a.LockTimeout, a.StatementLockTimeout, a.StatementTimeout = after(24*time.Hour), after(24*time.Hour), after(720*time.Hour)
		}),
		"half a second":           applying(func(a *v1alpha1.ApplySpec) { a.StatementTimeout = after(1500 * time.Millisecond) }),
		"TLS":                     secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSRequire}),
		"no TLS":                  secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSDisable}),
		"public authorities":      secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSVerifyFull}),
		"authorities":             secured(v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "kube-root-ca.crt", Key: "ca.crt"}}),
		"authorities, said twice": secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSVerifyFull, CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "a"}}),
	}
	namespace := controlplane.Namespace(t, admin)
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			if err := admin.Create(t.Context(), dbupgrade(namespace, "accepted", change), client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSchemaAccepts(t *testing.T) {
	namespace := controlplane.Namespace(t, admin)
	tests := map[string]*v1alpha1.DBUpgrade{
		"longest name":    dbupgrade(namespace, strings.Repeat("n", 249)), // its Secret's name has four more
		"name with dots":  dbupgrade(namespace, "orders.v1.example"),
		"dots in a name":  dbupgrade(namespace, "dots", func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/a..b/..c" }),
		"root as the dir": dbupgrade(namespace, "root", func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/" }),
		"pull secrets": dbupgrade(namespace, "pull", func(o *v1alpha1.DBUpgrade) {
			o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}}
		}),
		"longest deadline": dbupgrade(namespace, "late", func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.ActiveDeadlineSeconds = ptr.To[int64](2592000) }),
	}
	for name, obj := range tests {
		t.Run(name, func(t *testing.T) {
			if err := admin.Create(t.Context(), obj); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDatabaseIsImmutable(t *testing.T) {
	obj := created(t, dbupgrade(controlplane.Namespace(t, admin), "orders"), "")
	obj.Spec.Database.Connection.URLSecretRef.Key = "other"
	refused(t, admin.Update(t.Context(), obj), metav1.StatusReasonInvalid, "spec.database", "create another DBUpgrade for another database")
}

// TestCertificatesChange: what secures the connection is no part of which database it is.
func TestCertificatesChange(t *testing.T) {
	obj := created(t, dbupgrade(controlplane.Namespace(t, admin), "orders"), "")
	for _, change := range []func(*v1alpha1.DBUpgrade){
		secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSRequire}),
		secured(v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "authorities"}}),
		func(o *v1alpha1.DBUpgrade) { o.Spec.Database.TLS = nil },
	} {
		change(obj)
		if err := admin.Update(t.Context(), obj); err != nil {
			t.Error(err)
		}
	}
}

// TestEditGate holds the webhook's half of the gate to be the second one: this is the schema's.
func TestEditGate(t *testing.T) {
	edits := map[string]func(*v1alpha1.DBUpgrade){
		"image":  func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = "registry.example.com/team/app:v2" },
		"runner": func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = ptr.To[int32](1) },
		"mode":   func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = v1alpha1.ModePlan },
		"TLS":    secured(v1alpha1.TLSSpec{Mode: v1alpha1.TLSRequire}),
		"limits": applying(func(a *v1alpha1.ApplySpec) { a.StatementTimeout = after(time.Minute) }),
	}
	harmless := map[string]func(*v1alpha1.DBUpgrade){
		"suspend": func(o *v1alpha1.DBUpgrade) { o.Spec.Suspend = true },
		"retry":   func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "1"} },
		"resolve": func(o *v1alpha1.DBUpgrade) {
			o.Annotations = map[string]string{v1alpha1.AnnotationResolve: "redo:ABCDEF23"}
		},
	}
	phases := map[v1alpha1.AttemptPhase]bool{ // whether it shuts the gate
		"": false, v1alpha1.AttemptNew: false, v1alpha1.AttemptPending: true, v1alpha1.AttemptRunning: true, v1alpha1.AttemptSucceeded: false,
		v1alpha1.AttemptFailed: false, v1alpha1.AttemptStuck: false, v1alpha1.AttemptCancelled: false,
	}
	namespace := controlplane.Namespace(t, admin)
	for phase, shut := range phases {
		t.Run("phase "+string(phase), func(t *testing.T) {
			obj := created(t, dbupgrade(namespace, "gate-"+strings.ToLower(string(phase))+"x"), phase)
			for name, edit := range edits {
				changed := obj.DeepCopy()
				edit(changed)
				err := admin.Update(t.Context(), changed, client.DryRunAll)
				switch {
				case shut:
					refused(t, err, metav1.StatusReasonInvalid, "spec", "spec may not change while the attempt's Job is pending or running")
				case err != nil:
					t.Errorf("edit of %s: %v", name, err)
				}
			}
			for name, edit := range harmless {
				changed := obj.DeepCopy()
				edit(changed)
				if err := admin.Update(t.Context(), changed, client.DryRunAll); err != nil {
					t.Errorf("edit of %s: %v", name, err)
				}
			}
		})
	}
}

func TestPrintColumns(t *testing.T) {
	namespace := controlplane.Namespace(t, admin)
	obj := created(t, dbupgrade(namespace, "orders"), v1alpha1.AttemptSucceeded)
	obj.Status.ObservedGeneration = 1
	obj.Status.Migration = &v1alpha1.MigrationStatus{CurrentVersion: "20260101"}
	for kind, status := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionReady: metav1.ConditionTrue, v1alpha1.ConditionProgressing: metav1.ConditionFalse, v1alpha1.ConditionDegraded: metav1.ConditionFalse,
	} {
		obj.Status.Conditions = append(obj.Status.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: v1alpha1.ReasonMigrationComplete, LastTransitionTime: metav1.Now(),
		})
	}
	if err := admin.Status().Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		t.Fatal(err)
	}
	body, err := clientset.RESTClient().Get().AbsPath("/apis/dbupgrade.subbug.learning/v1alpha1/namespaces/"+namespace+"/dbupgrades").
		SetHeader("Accept", "application/json;as=Table;g=meta.k8s.io;v=v1").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := yaml.Unmarshal(body, &table); err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for i, column := range table.ColumnDefinitions {
		if column.Name != "Age" {
			got[column.Name] = table.Rows[0].Cells[i]
		}
	}
	want := map[string]any{
		"Name": "orders", "Ready": "True", "Progressing": "False", "Reason": "MigrationComplete", "Version": "20260101",
		"Degraded": "False", "ObservedGen": float64(1),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	d, err := discovery.NewDiscoveryClientForConfig(cluster)
	if err != nil {
		t.Fatal(err)
	}
	list, err := d.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range list.APIResources {
		if resource.Name != "dbupgrades" {
			continue
		}
		if diff := cmp.Diff([]string{"dbu"}, resource.ShortNames); diff != "" {
			t.Errorf("short names (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"all", "dbupgrade"}, resource.Categories); diff != "" {
			t.Errorf("categories (-want +got):\n%s", diff)
		}
		return
	}
	t.Errorf("the server knows no dbupgrades: %+v", list.APIResources)
}

// TestSamples: each sample is accepted as it stands, without a field that the schema does not know, and the full one has every field there is.
func TestSamples(t *testing.T) {
	namespace := controlplane.Namespace(t, admin)
	files, err := filepath.Glob("../../config/samples/dbupgrade_*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			obj := &unstructured.Unstructured{}
			if err := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096).Decode(obj); err != nil {
				t.Fatal(err)
			}
			obj.SetNamespace(namespace)
			if err := admin.Create(t.Context(), obj, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFullSampleIsFull(t *testing.T) {
	data, err := os.ReadFile("../../config/samples/dbupgrade_full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sample := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(data, &sample.Object); err != nil {
		t.Fatal(err)
	}
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := admin.Get(t.Context(), client.ObjectKey{Name: "dbupgrades." + v1alpha1.GroupVersion.Group}, crd); err != nil {
		t.Fatal(err)
	}
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"", "migrations", "migrations.apply", "database", "database.tls", "runner"} {
		path, at := []string{"schema", "openAPIV3Schema", "properties", "spec", "properties"}, []string{"spec"}
		for part := range strings.SplitSeq(section, ".") {
			if part != "" {
				path, at = append(path, part, "properties"), append(at, part)
			}
		}
		fields, _, _ := unstructured.NestedMap(versions[0].(map[string]any), path...)
		if len(fields) == 0 {
			t.Errorf("the schema has no fields at %v", path)
		}
		for name := range fields {
			if _, found, _ := unstructured.NestedFieldNoCopy(sample.Object, append(at, name)...); !found {
				t.Errorf("the full sample has no %s", strings.Join(append(at, name), "."))
			}
		}
	}
}
