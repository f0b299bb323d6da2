// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Observation is everything that Decide may look at.
type Observation struct {
	// DBUpgrade as last seen. Decide does not change it.
	DBUpgrade *v1alpha1.DBUpgrade
	// Jobs of the DBUpgrade, in any order.
	Jobs []Job
	// Unwatched: the current attempt's Job was found by a live look only, since it has lost its label or its owner; no watch will tell of it.
	Unwatched bool
	// Runner is what the operator adds to every Job; it bounds what a spec may ask for.
	Runner RunnerConfig
	// Now is the time of the observation.
	Now time.Time
}

// Stage says how far a Job has come.
type Stage int

// The stages of a Job, in order. Package documentation says what they mean.
const (
	StageNew Stage = iota
	StagePending
	StageRunning
	StageDone
)

// Job is one attempt's Job, read together with its pods and events.
type Job struct {
	Name            string
	UID             types.UID
	ResourceVersion string
	CreatedAt       time.Time

	// Attempt, Revision, Generation, Retry, Resolve and Mode are those that the Job was made with.
	Attempt    int64
	Revision   string
	Generation int64
	Retry      string
	Resolve    string
	Mode       v1alpha1.Mode

	Stage Stage
	// Outcome of the attempt, where Stage is StageDone.
	Outcome Outcome
	// Finished: the Job has a terminal condition, or is gone, and none of its pods is alive.
	Finished bool
	// Alive: a pod of it may be changing the database, or may yet.
	Alive bool
	// Terminating: the Job or a living pod of it is being deleted.
	Terminating bool
	// Trouble keeps a pending Job's pod from starting; nil while nothing is wrong with it.
	Trouble *Trouble
	// Held is the outcome of a pod that another container keeps from ending, where only the end of the Job would make it final.
	Held *Outcome
	// StartedAt is when migrate started, nil where it did not.
	StartedAt *metav1.Time
	// Image that was fetched, with its digest, where that is known already.
	Image string
}

// idle tells that the Job's migration has not started and that nobody is deleting it.
func (j *Job) idle() bool {
	return !j.Finished && !j.Terminating && (j.Stage == StageNew || j.Stage == StagePending)
}

// troubled tells that somebody has said what keeps the pod from starting.
func (j *Job) troubled() bool { return j.Trouble != nil && j.Trouble.Detail != "" }

// Outcome is how an attempt ended.
type Outcome struct {
	Succeeded bool
	// Result is what the runner reported; empty where its pod is gone.
	Result result.Result
	// Class of the failure.
	Class result.Class
	// Message for a person.
	Message string
	// EndedAt is when it ended, as far as that is known.
	EndedAt metav1.Time
}

// Trouble is why a pod does not start.
type Trouble struct {
	// Reason for the Ready condition.
	Reason string
	// What is the matter, in words that do not change while it lasts.
	What string
	// Detail in the words of the kubelet, the scheduler or the API server. Empty where none of them has said anything yet.
	Detail string
}

// Message for a person.
func (t Trouble) Message() string {
	if t.Detail == "" {
		return t.What
	}
	return t.What + ": " + t.Detail
}
