// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

func TestClassesDiffer(t *testing.T) {
	names, codes := map[v1alpha1.FailureClass]bool{}, map[int32]bool{}
	retryable := map[string]bool{} // by reason
	for _, c := range result.Classes() {
		if names[c.Name] || codes[c.ExitCode] {
			t.Errorf("class %s or its exit code %d is there twice", c.Name, c.ExitCode)
		}
		names[c.Name], codes[c.ExitCode] = true, true
		if c.ExitCode < 3 || c.ExitCode > 125 {
			t.Errorf("%s: exit code %d belongs to the Go runtime, to wrong usage or to signals", c.Name, c.ExitCode)
		}
		// What a person must see to is told by the reason alone once the class is gone.
		if before, known := retryable[c.Reason]; known && before != c.Retryable {
			t.Errorf("%s: reason %s stands for both kinds of failure", c.Name, c.Reason)
		}
		retryable[c.Reason] = c.Retryable
		if got := result.ClassOf(c.Name); got != c {
			t.Errorf("ClassOf(%s) = %+v", c.Name, got)
		}
	}
}

func TestClassOfUnknownName(t *testing.T) {
	if got := result.ClassOf("NoSuchClass"); got.Name != v1alpha1.Internal {
		t.Errorf("got %s", got.Name)
	}
}

func TestClassOfExit(t *testing.T) {
	own := map[int32]v1alpha1.FailureClass{
		1: v1alpha1.Internal, 2: v1alpha1.Internal,
		10: v1alpha1.StatementFailed, 11: v1alpha1.IntegrityFailed, 12: v1alpha1.HistoryConflict, 13: v1alpha1.InDoubt,
		14: v1alpha1.DeadlineExceeded, 15: v1alpha1.ImageInvalid, 16: v1alpha1.Internal, 17: v1alpha1.LintFailed,
		30: v1alpha1.ImagePullFailed, 31: v1alpha1.DatabaseUnreachable, 32: v1alpha1.LockTimeout, 33: v1alpha1.Interrupted,
	}
	for code := int32(1); code < 256; code++ {
		want, documented := own[code]
		if !documented {
			want = v1alpha1.Interrupted // 137, 143 and whatever else a kill or the container runtime ends it with
		}
		if got := result.ClassOfExit(code).Name; got != want {
			t.Errorf("exit code %d: got %s, want %s", code, got, want)
		}
	}
}
