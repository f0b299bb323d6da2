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
	runner := got.Spec.Runner
	if runner.TerminationGracePeriodSeconds != 300 || runner.InfrastructureRetries != 3 || runner.JobHistoryLimit != 3 || runner.ActiveDeadlineSeconds != nil {
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
	if got.Spec.Runner.InfrastructureRetries != 0 || got.Spec.Runner.JobHistoryLimit != 0 {
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
			func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.InfrastructureRetries = -1 }, "spec.runner.infrastructureRetries", "0"},
		"endless history": {
			func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = 21 }, "spec.runner.jobHistoryLimit", "20"},
	}
	namespace := controlplane.Namespace(t, admin)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			refused(t, admin.Create(t.Context(), dbupgrade(namespace, "refused", test.change)), metav1.StatusReasonInvalid, test.field, test.text)
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

// TestEditGate holds the webhook's half of the gate to be the second one: this is the schema's.
func TestEditGate(t *testing.T) {
	edits := map[string]func(*v1alpha1.DBUpgrade){
		"image":  func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = "registry.example.com/team/app:v2" },
		"runner": func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = 1 },
	}
	harmless := map[string]func(*v1alpha1.DBUpgrade){
		"suspend": func(o *v1alpha1.DBUpgrade) { o.Spec.Suspend = true },
		"retry":   func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "1"} },
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
	for _, section := range []string{"", "migrations", "database", "runner"} {
		path, at := []string{"schema", "openAPIV3Schema", "properties", "spec", "properties"}, []string{"spec"}
		if section != "" {
			path, at = append(path, section, "properties"), append(at, section)
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
