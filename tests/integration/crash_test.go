// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// end is what a lifetime must come to, whatever happened to the manager on the way.
type end struct {
	Executed   string
	Attempts   []string
	Conditions []string
	Failure    v1alpha1.Failure // of the second attempt
}

// lifetime carries a DBUpgrade through a first image, one that fails, its fix, and deletion.
func (h *hand) lifetime() end {
	h.t.Helper()
	var e end
	h.create(h.image("app:v1", steps(1)))
	h.drive(settled)
	h.setImage(h.image("app:v2", steps(2, "ALTER TABLE nowhere ADD COLUMN c int;\n")))
	failed := h.drive(func(o *v1alpha1.DBUpgrade) bool { return reason(v1alpha1.ReasonJobFailed)(o) && len(o.Finalizers) == 0 })
	e.Failure = *failed.Status.Migration.Failure
	h.setImage(h.image("app:v3", steps(2)))
	obj := h.drive(settled)
	for _, c := range obj.Status.Conditions {
		e.Conditions = append(e.Conditions, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	for _, entry := range obj.Status.History {
		e.Attempts = append(e.Attempts, fmt.Sprintf("%d %s %s", entry.Attempt, entry.Result, entry.Version))
	}
	h.must(world.client.Delete(h.ctx, obj))
	h.drive(gone)
	e.Executed = h.executed()
	h.expectOneJobPerAttempt()
	h.expectNoLease()
	return e
}

// shortLifetime deletes a DBUpgrade while its Job is made ready, before anything is released.
func (h *hand) shortLifetime() end {
	h.t.Helper()
	h.create(h.image("app:v1", steps(1)))
	obj := h.drive(func(o *v1alpha1.DBUpgrade) bool { return o.Status.Attempt != nil && o.Status.Attempt.JobUID != "" })
	h.must(world.client.Delete(h.ctx, obj))
	h.drive(gone)
	h.expectNoLease()
	return end{Executed: h.executed()}
}

// TestCrashSweep takes the API calls of one lifetime one by one, and has the manager die before and after each, and each fail once. It always
// comes to the same end, with one Job per attempt and every file executed once. Reads have no effect, so for them one fault stands for all.
func TestCrashSweep(t *testing.T) {
	want := sweep(t, (*hand).lifetime)
	if want.Executed != "1 2" || len(want.Attempts) != 3 {
		t.Errorf("the undisturbed lifetime comes to %+v", want)
	}
}

func TestCrashSweepOfDeletion(t *testing.T) {
	if want := sweep(t, (*hand).shortLifetime); want.Executed != "" {
		t.Errorf("executed %q", want.Executed)
	}
}

// sweep holds the end of every disturbed lifetime against that of the undisturbed one, which it returns.
func sweep(t *testing.T, lifetime func(*hand) end) end {
	undisturbed := newHand(t)
	want := lifetime(undisturbed)
	calls := undisturbed.wire.calls
	t.Logf("%d calls: %+v", len(calls), want)
	for i, call := range calls {
		faults := []tamper{dieBefore, dieAfter, conflict, lostAnswer}
		if strings.HasPrefix(call, http.MethodGet) {
			faults = []tamper{dieBefore}
		}
		for _, how := range faults {
			t.Run(fmt.Sprintf("%d %s %s: %s", i+1, strings.Fields(call)[0], lastPart(call), how), func(t *testing.T) {
				t.Parallel()
				h := newHand(t)
				h.wire.at, h.wire.how = i+1, how
				got := lifetime(h)
				if !h.wire.met {
					t.Fatalf("there was no call %d", i+1)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("another end (-undisturbed +got):\n%s\n%s", diff, strings.Join(h.wire.calls, "\n"))
				}
			})
		}
	}
	return want
}

func lastPart(call string) string { return call[strings.LastIndex(call, "/")+1:] }
