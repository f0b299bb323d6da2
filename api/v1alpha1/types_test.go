// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

func TestEnded(t *testing.T) {
	ended := map[v1alpha1.AttemptPhase]bool{
		v1alpha1.AttemptNew: false, v1alpha1.AttemptPending: false, v1alpha1.AttemptRunning: false,
		v1alpha1.AttemptSucceeded: true, v1alpha1.AttemptFailed: true, v1alpha1.AttemptStuck: true, v1alpha1.AttemptCancelled: true,
	}
	for _, phase := range constants(t, "AttemptPhase") {
		want, known := ended[v1alpha1.AttemptPhase(phase)]
		if !known {
			t.Errorf("nobody has thought about phase %s", phase)
		}
		if got := v1alpha1.AttemptPhase(phase).Ended(); got != want {
			t.Errorf("%s: ended %v", phase, got)
		}
	}
}

func TestAddToScheme(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"DBUpgrade", "DBUpgradeList"} {
		if !scheme.Recognizes(v1alpha1.GroupVersion.WithKind(kind)) {
			t.Errorf("%s is not known", kind)
		}
	}
}
