// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package webhook tests what a real API server refuses, fills in and shows of DBUpgrades: first by the schema alone, then with the webhook.
package webhook

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
)

// patience is how long something may take that takes milliseconds.
const patience = 30 * time.Second

var (
	cluster *rest.Config
	admin   client.Client
	scheme  = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	config, stop, err := controlplane.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the control plane:", err)
		}
	}()
	cluster = config
	if admin, err = client.New(cluster, client.Options{Scheme: scheme}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// dbupgrade is a valid object; change makes it what a test is about.
func dbupgrade(namespace, name string, change ...func(*v1alpha1.DBUpgrade)) *v1alpha1.DBUpgrade {
	obj := &v1alpha1.DBUpgrade{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.DBUpgradeSpec{
			Migrations: v1alpha1.MigrationsSpec{Image: "registry.example.com/team/app:v1"},
			Database: v1alpha1.DatabaseSpec{
				Type:       v1alpha1.DatabaseSelfHosted,
				Connection: &v1alpha1.ConnectionSpec{URLSecretRef: v1alpha1.SecretKeyRef{Name: name + "-db", Key: "url"}},
			},
			Runner: v1alpha1.RunnerSpec{InfrastructureRetries: new(int32(3)), JobHistoryLimit: new(int32(3))},
		},
	}
	for _, f := range change {
		f(obj)
	}
	return obj
}

// created creates the object, with the status that it is given.
func created(t *testing.T, obj *v1alpha1.DBUpgrade, phase v1alpha1.AttemptPhase) *v1alpha1.DBUpgrade {
	t.Helper()
	if err := admin.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	if phase == "" {
		return obj
	}
	obj.Status.Attempt = &v1alpha1.AttemptStatus{
		Number: 7, Revision: "r", Generation: 1, Job: obj.Name + "-7", Phase: phase, Since: metav1.Now(),
	}
	if err := admin.Status().Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

// refused checks that an error is a refusal for that reason which has all of the texts, and names the field in its causes where one is given.
func refused(t *testing.T, err error, reason metav1.StatusReason, fieldPath string, texts ...string) {
	t.Helper()
	if apierrors.ReasonForError(err) != reason {
		t.Fatalf("got %v (reason %q), want a refusal for %q", err, apierrors.ReasonForError(err), reason)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got %q, want it to say %q", err, text)
		}
	}
	status, ok := err.(apierrors.APIStatus)
	if fieldPath == "" || !ok {
		return
	}
	details := status.Status().Details
	if details == nil || !slices.ContainsFunc(details.Causes, func(c metav1.StatusCause) bool { return c.Field == fieldPath }) {
		t.Errorf("got details %+v, want a cause at %s", details, fieldPath)
	}
}

// eventually waits until done is true.
func eventually(t *testing.T, what string, done func(ctx context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patience, true, done); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
