// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// What a real API server makes of this is in tests/webhook. Here is what it lets nobody see: behind the schema's own edit gate and the match
// conditions, the webhook holds by itself, as it must where an installer cannot express these.

type namespaced struct {
	client.Reader
	items []v1alpha1.DBUpgrade
	err   error
}

func (n namespaced) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.DBUpgradeList).Items = n.items
	return n.err
}

func object(name string, phase v1alpha1.AttemptPhase) *v1alpha1.DBUpgrade {
	return &v1alpha1.DBUpgrade{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: v1alpha1.DBUpgradeSpec{
			Migrations: v1alpha1.MigrationsSpec{Image: "registry.example.com/app:v1"},
			Database: v1alpha1.DatabaseSpec{
				Type:       v1alpha1.DatabaseSelfHosted,
				Connection: &v1alpha1.ConnectionSpec{URLSecretRef: v1alpha1.SecretKeyRef{Name: "db", Key: "url"}},
			},
		},
		Status: v1alpha1.DBUpgradeStatus{Attempt: &v1alpha1.AttemptStatus{Number: 2, Phase: phase}},
	}
}

func causes(err error) []string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		fields = append(fields, cause.Field)
	}
	slices.Sort(fields)
	return fields
}

func TestEditGate(t *testing.T) {
	everything := func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Dir = "/other"
		o.Spec.Database.Connection.URLSecretRef.Key = "other"
		o.Spec.Runner.JobHistoryLimit = new(int32(1))
	}
	resolve := func(value string) func(*v1alpha1.DBUpgrade) {
		return func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationResolve: value} }
	}
	tests := map[string]struct {
		phase v1alpha1.AttemptPhase
		edit  func(*v1alpha1.DBUpgrade)
		want  []string
	}{
		"running, all":        {v1alpha1.AttemptRunning, everything, []string{"spec.database", "spec.migrations", "spec.runner"}},
		"pending, image":      {v1alpha1.AttemptPending, func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = "app:v2" }, []string{"spec.migrations"}},
		"pending, mode":       {v1alpha1.AttemptPending, func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = v1alpha1.ModePlan }, []string{"spec.mode"}},
		"running, a way out":  {v1alpha1.AttemptRunning, resolve("redo:ABCDEF23"), nil},
		"running, no way out": {v1alpha1.AttemptRunning, resolve("redo"), []string{"metadata.annotations[" + v1alpha1.AnnotationResolve + "]"}},
		"both at once": {v1alpha1.AttemptFailed, func(o *v1alpha1.DBUpgrade) {
			resolve("redo")(o)
			o.Spec.Migrations.Image = "No image"
		}, []string{"metadata.annotations[" + v1alpha1.AnnotationResolve + "]", "spec.migrations.image"}},
		"running, suspend":    {v1alpha1.AttemptRunning, func(o *v1alpha1.DBUpgrade) { o.Spec.Suspend = true }, nil},
		"running, annotation": {v1alpha1.AttemptRunning, func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{"a": "b"} }, nil},
		"succeeded, all":      {v1alpha1.AttemptSucceeded, everything, nil},
		"new, all":            {v1alpha1.AttemptNew, everything, nil},
		"running, being deleted": {v1alpha1.AttemptRunning, func(o *v1alpha1.DBUpgrade) {
			everything(o)
			o.DeletionTimestamp = new(metav1.Now())
		}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			old := object("orders", test.phase)
			changed := old.DeepCopy()
			test.edit(changed)
			_, err := (&DBUpgradeValidator{Reader: namespaced{}}).ValidateUpdate(t.Context(), old, changed)
			if diff := cmp.Diff(test.want, causes(err)); diff != "" || (err == nil) != (test.want == nil) {
				t.Errorf("%v: fields (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestDeletion(t *testing.T) {
	tests := map[string]struct {
		phase   v1alpha1.AttemptPhase
		job     types.UID
		options string
		refused bool
	}{
		"foreground, running":  {v1alpha1.AttemptRunning, "job", `{"propagationPolicy":"Foreground"}`, true},
		"foreground, no Job":   {v1alpha1.AttemptNew, "", `{"propagationPolicy":"Foreground"}`, false},
		"foreground, released": {v1alpha1.AttemptNew, "job", `{"propagationPolicy":"Foreground"}`, true}, // perhaps, a moment ago
		"foreground, ended":    {v1alpha1.AttemptFailed, "job", `{"propagationPolicy":"Foreground"}`, false},
		"background, running":  {v1alpha1.AttemptRunning, "job", `{"propagationPolicy":"Background"}`, false},
		"no policy, running":   {v1alpha1.AttemptRunning, "job", `{}`, false},
		"no options, running":  {v1alpha1.AttemptRunning, "job", ``, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := admission.NewContextWithRequest(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Options: runtime.RawExtension{Raw: []byte(test.options)},
			}})
			obj := object("orders", test.phase)
			if obj.Status.Attempt != nil {
				obj.Status.Attempt.JobUID = test.job
			}
			_, err := (&DBUpgradeValidator{}).ValidateDelete(ctx, obj)
			if apierrors.IsForbidden(err) != test.refused || (err != nil) != test.refused {
				t.Errorf("got %v, want a refusal: %v", err, test.refused)
			}
		})
	}
}

func TestWarning(t *testing.T) {
	others := func(n int) []v1alpha1.DBUpgrade {
		var items []v1alpha1.DBUpgrade
		for i := range n {
			items = append(items, *object(fmt.Sprintf("other-%d", i), ""))
		}
		slices.Reverse(items)
		return items
	}
	leaving := object("leaving", "")
	leaving.DeletionTimestamp = new(metav1.Now())
	tests := map[string]struct {
		reader namespaced
		want   string
	}{
		"nobody":              {namespaced{}, ""},
		"itself":              {namespaced{items: []v1alpha1.DBUpgrade{*object("orders", "")}}, ""},
		"one that is leaving": {namespaced{items: []v1alpha1.DBUpgrade{*leaving}}, ""},
		"two":                 {namespaced{items: others(2)}, "from other-0, other-1:"},
		"many":                {namespaced{items: others(9)}, "from other-0, other-1, other-2, 6 more:"},
		"no list":             {namespaced{items: others(2), err: errors.New("not watched")}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := (&DBUpgradeValidator{Reader: test.reader}).ValidateCreate(t.Context(), object("orders", ""))
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(got, "\n")
			if (said == "") != (test.want == "") || !strings.Contains(said, test.want) {
				t.Errorf("got %q, want %q", said, test.want)
			}
		})
	}
}
