// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// maxNote is the longest text that the events API takes, in bytes; a character may need four.
const maxNote = 1024 / 4

// report writes the status, if it changed, and then tells the change by events and metrics.
func (r *DBUpgradeReconciler) report(ctx context.Context, obj *v1alpha1.DBUpgrade, decision upgrade.Decision) error {
	before := obj.DeepCopy()
	if equality.Semantic.DeepEqual(before.Status, decision.Status) {
		return nil
	}
	obj.Status = decision.Status
	if err := r.Status().Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("patch status: %w", staleIfGone(err))
	}
	r.tell(obj, before.Status, decision.Status)
	return nil
}

// tell emits the start and the end of an attempt, and one event for a change of Ready's reason.
func (r *DBUpgradeReconciler) tell(obj *v1alpha1.DBUpgrade, before, after v1alpha1.DBUpgradeStatus) {
	if attempt := after.Attempt; attempt != nil {
		if after.StartedAt != nil && before.StartedAt == nil {
			r.event(obj, corev1.EventTypeNormal, eventsOf(attempt).started, fmt.Sprintf("Attempt %d started in Job %s", attempt.Number, attempt.Job))
		}
		if before.Attempt == nil || before.Attempt.Phase != attempt.Phase {
			r.tellEnd(obj, after)
		}
	}
	was, is := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionReady), meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady)
	if is != nil && (was == nil || was.Reason != is.Reason) {
		r.event(obj, eventType(is.Reason), is.Reason, is.Message)
	}
}

func (r *DBUpgradeReconciler) tellEnd(obj *v1alpha1.DBUpgrade, status v1alpha1.DBUpgradeStatus) {
	attempt, class := status.Attempt, v1alpha1.FailureClass("")
	switch attempt.Phase {
	case v1alpha1.AttemptSucceeded:
		r.event(obj, corev1.EventTypeNormal, eventsOf(attempt).succeeded, fmt.Sprintf("Attempt %d: %s", attempt.Number, attempt.Message))
	case v1alpha1.AttemptFailed:
		class = status.Migration.Failure.Class // which record has seen to
		r.event(obj, corev1.EventTypeWarning, eventsOf(attempt).failed, fmt.Sprintf("Attempt %d: %s", attempt.Number, attempt.Message))
	default:
		return
	}
	seconds := -1.0 // it may have ended before it started
	if status.StartedAt != nil && status.CompletedAt != nil {
		seconds = status.CompletedAt.Sub(status.StartedAt.Time).Seconds()
	}
	r.Metrics.AttemptEnded(cmp.Or(attempt.Mode, v1alpha1.ModeApply), string(attempt.Phase), string(class), seconds)
}

type attemptEvents struct{ started, succeeded, failed string }

// eventsOf are the events of an attempt: who waits for a migration must not take a plan for one.
func eventsOf(attempt *v1alpha1.AttemptStatus) attemptEvents {
	if attempt.Mode == v1alpha1.ModePlan {
		return attemptEvents{v1alpha1.EventPlanStarted, v1alpha1.EventPlanSucceeded, v1alpha1.EventPlanFailed}
	}
	return attemptEvents{v1alpha1.EventMigrationStarted, v1alpha1.EventMigrationSucceeded, v1alpha1.EventMigrationFailed}
}

// eventType is Warning for everything that is neither on its way, nor done, nor wished for.
func eventType(reason string) string {
	switch reason {
	case v1alpha1.ReasonInitializing, v1alpha1.ReasonJobPending, v1alpha1.ReasonMigrationInProgress, v1alpha1.ReasonMigrationComplete,
		v1alpha1.ReasonPlanComplete, v1alpha1.ReasonSuspended, v1alpha1.ReasonDeleting, v1alpha1.ReasonWaitingForLock:
		return corev1.EventTypeNormal
	default:
		return corev1.EventTypeWarning
	}
}

func (r *DBUpgradeReconciler) event(obj *v1alpha1.DBUpgrade, kind, reason, note string) {
	r.Recorder.Eventf(obj, nil, kind, reason, "Reconcile", "%s", result.Cut(note, maxNote))
}
