// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/crd"
)

// refusal says why the API server would refuse a status; nil where it takes it.
var refusal = crd.Validator("status")

func TestObstructed(t *testing.T) {
	for name, c := range map[string]struct {
		by upgrade.Obstacle
		on string
	}{
		"lock":    {upgrade.Obstacle{Reason: v1alpha1.ReasonWaitingForLock, Message: "another DBUpgrade migrates", Wait: time.Minute}, "Accepted Blocked"},
		"quota":   {upgrade.Obstacle{Reason: v1alpha1.ReasonPodNotCreated, Message: "the Job is refused", Wait: 30 * time.Second}, "Accepted Blocked Stalled"},
		"invalid": {upgrade.Obstacle{Reason: v1alpha1.ReasonInvalidSpec, Message: "the Job is not valid", Wait: 30 * time.Second}, "Blocked Stalled"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew), tuned)
			decided := decide(t, 1, obj)
			d := decided.Obstructed(c.by, obj, at(2).Time)
			if d.Wait != c.by.Wait || trueOnes(d.Status) != c.on {
				t.Errorf("wait %s, conditions %s", d.Wait, trueOnes(d.Status))
			}
			if r := ready(d.Status); r.Reason != c.by.Reason || r.Message != c.by.Message || r.ObservedGeneration != 2 {
				t.Errorf("got %+v", r)
			}
			if diff := cmp.Diff(decided.Status.Attempt, d.Status.Attempt); diff != "" {
				t.Errorf("the latch is lost: %s", diff)
			}
			if errs := refusal(t, d.Status); errs != nil {
				t.Error(errs)
			}
		})
	}
}

// TestConditionsAreStable: five conditions are always there; a transition is dated once, and Stalled goes with its cause.
func TestConditionsAreStable(t *testing.T) {
	obj := builders.DBUpgrade(failedFor(v1alpha1.StatementFailed, 0), unfinalized)
	obj.Status = decide(t, 1, obj).Status
	if n := len(obj.Status.Conditions); n != 6 {
		t.Errorf("%d conditions", n)
	}
	if diff := cmp.Diff(obj.Status, decide(t, 1000, obj).Status); diff != "" {
		t.Errorf("nothing has happened, yet: %s", diff)
	}
	askAgain(obj)
	obj.Status = decide(t, 2000, obj).Status
	if n := len(obj.Status.Conditions); n != 5 || meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Errorf("%d conditions, Stalled among them", n)
	}
	for kind, since := range map[string]int{"Accepted": 1, "Ready": 1, "Progressing": 2000, "Degraded": 2000, "Blocked": 1} {
		c := meta.FindStatusCondition(obj.Status.Conditions, kind)
		if want := at(since); c == nil || !c.LastTransitionTime.Equal(&want) {
			t.Errorf("%s: %+v", kind, c)
		}
	}
}

// TestObstacleIsStable: an obstacle that stays is told once, and its conditions keep their dates.
func TestObstacleIsStable(t *testing.T) {
	by := upgrade.Obstacle{Reason: v1alpha1.ReasonWaitingForLock, Message: "another DBUpgrade migrates", Wait: time.Minute}
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew))
	obj.Status = decide(t, 1, obj).Obstructed(by, obj, at(1).Time).Status
	if diff := cmp.Diff(obj.Status, decide(t, 100, obj).Obstructed(by, obj, at(100).Time).Status); diff != "" {
		t.Error(diff)
	}
}

// TestNothingControlsATerminal: what a database or a registry says may hold escapes.
func TestNothingControlsATerminal(t *testing.T) {
	by := upgrade.Obstacle{Reason: v1alpha1.ReasonPodNotCreated, Message: "\x1b[2Jgone\nReady"}
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew))
	if got := ready(decide(t, 1, obj).Obstructed(by, obj, at(1).Time).Status).Message; got != " [2Jgone Ready" {
		t.Errorf("message %q", got)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew))
	by := upgrade.Obstacle{Reason: v1alpha1.ReasonPodNotCreated, Message: strings.Repeat("ä", 5000)}
	status := decide(t, 1, obj).Obstructed(by, obj, at(1).Time).Status
	if n := utf8.RuneCountInString(ready(status).Message); n != 2048 {
		t.Errorf("%d characters", n)
	}
	if errs := refusal(t, status); errs != nil {
		t.Error(errs)
	}
}
