// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Decision is what to do, as data: first the actions, in order, then the status, then the wait.
type Decision struct {
	// Row of the state table that matched.
	Row string
	// Do these in order, and stop at the first that fails or is kept from its end.
	Do []Action
	// Status to report once they are done. It holds what was observed, not what the actions will bring about.
	Status v1alpha1.DBUpgradeStatus
	// Wait until the next look; 0 where a watch will tell.
	Wait time.Duration
}

// ActionKind is a kind of write to the cluster.
type ActionKind string

// The actions there are.
const (
	// AddFinalizer to the DBUpgrade.
	AddFinalizer ActionKind = "AddFinalizer"
	// RemoveFinalizer from the DBUpgrade.
	RemoveFinalizer ActionKind = "RemoveFinalizer"
	// CreateJob of the attempt in status, suspended.
	CreateJob ActionKind = "CreateJob"
	// TakeLock of the database for the Job.
	TakeLock ActionKind = "TakeLock"
	// ReleaseJob unsuspends the Job. Its lock must be held.
	ReleaseJob ActionKind = "ReleaseJob"
	// StopJob deletes a Job that has not finished, unless a live look finds it running.
	StopJob ActionKind = "StopJob"
	// PruneJob deletes a Job that has finished and is recorded.
	PruneJob ActionKind = "PruneJob"
	// ReleaseLock of the database, where the Job holds it.
	ReleaseLock ActionKind = "ReleaseLock"
)

// Action is one write to the cluster.
type Action struct {
	Kind ActionKind
	// Job concerned; of ReleaseLock only its UID is set.
	Job Job
}

// Obstacle is what kept an action from its end although nothing is broken: the world has to change first.
type Obstacle struct {
	Reason  string
	Message string
	// Wait until the next look.
	Wait time.Duration
}

// Obstructed is the decision after one of its actions met an obstacle. Its conditions start from those of the object, so that an obstacle
// that stays changes none of them.
func (d Decision) Obstructed(by Obstacle, obj *v1alpha1.DBUpgrade, now time.Time) Decision {
	d.Wait = by.Wait
	d.Status.Conditions = slices.Clone(obj.Status.Conditions)
	invalid := by.Reason == v1alpha1.ReasonInvalidSpec
	waiting := by.Reason == v1alpha1.ReasonWaitingForLock
	setConditions(&d.Status, verdict{
		reason: by.Reason, message: by.Message, blocked: true, refused: invalid, stalled: !waiting,
	}, obj.Generation, now)
	return d
}

// verdict is the state of all conditions at once.
type verdict struct {
	reason, message                       string
	ready, progressing, blocked, degraded bool
	// stalled: a person must act.
	stalled bool
	// refused: the spec is not accepted.
	refused bool
}

// Bounds of texts in status, in characters.
const (
	maxMessage = 2048
	maxError   = 1024
)

func setConditions(status *v1alpha1.DBUpgradeStatus, v verdict, generation int64, now time.Time) {
	set := func(kind string, on, speaks bool) {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: v.reason,
			ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
		}
		if on {
			c.Status = metav1.ConditionTrue
		}
		if speaks {
			c.Message = result.Cut(v.message, maxMessage)
		}
		meta.SetStatusCondition(&status.Conditions, c)
	}
	set(v1alpha1.ConditionAccepted, !v.refused, v.refused)
	set(v1alpha1.ConditionReady, v.ready, true)
	set(v1alpha1.ConditionProgressing, v.progressing, v.progressing)
	set(v1alpha1.ConditionDegraded, v.degraded, v.degraded)
	set(v1alpha1.ConditionBlocked, v.blocked, v.blocked)
	if v.stalled {
		set(v1alpha1.ConditionStalled, true, true)
	} else {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	}
	status.ObservedGeneration = generation
}
