// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// How long things may take before they count as stuck, and how attempts are spaced.
const (
	// stuckAfter is for a pod that is kept from starting by something that the kubelet, the scheduler or the API server has named.
	stuckAfter = 2 * time.Minute
	// silentStuckAfter is for a pod that does not start while nobody says why; it may be pulling a large image.
	silentStuckAfter = 10 * time.Minute

	// lingerAfter is for a pod that goes on after its migration has ended, because a container that somebody injected does.
	lingerAfter = 2 * time.Minute

	// unwatchedWait is between two looks at a Job that no watch tells of.
	unwatchedWait = 10 * time.Second

	firstBackoff = 10 * time.Second
	maxBackoff   = 5 * time.Minute

	maxHistory = 10
)

// What a spec has where it says nothing and no API server has filled it in.
const (
	defaultRetries      = 3
	defaultHistoryLimit = 3
)

// Decide says what to do. The first row that matches wins; docs/architecture.md holds the same table.
func Decide(o Observation) Decision {
	d := decide(survey(o))
	if o.Unwatched && (d.Wait == 0 || d.Wait > unwatchedWait) {
		d.Wait = unwatchedWait
	}
	return d
}

func decide(s scene) Decision {
	switch {
	case s.current() && s.job != nil && s.job.Stage == StageDone: // before the rows of a deletion, so that a failure is told even then
		return s.record()
	case s.deleting() && s.running() != nil:
		return s.say("1 deleting, running", verdict{reason: v1alpha1.ReasonDeleting, progressing: true,
			message: fmt.Sprintf("Waiting for the running migration of Job %s to end", s.running().Name)})
	case s.deleting():
		return s.leave()
	case len(s.strays()) > 0:
		return s.quietly("6 stray Job", stop(s.strays())...)
	case s.running() != nil:
		return s.observeRunning()
	case s.current() && s.job != nil && s.job.Terminating:
		return s.say("5 terminating", verdict{reason: v1alpha1.ReasonInitializing, progressing: true,
			message: untilGone(*s.job)})
	case s.current() && s.unwanted():
		return s.cancel()
	case s.current() && s.stuckIn() == 0:
		return s.giveUp()
	case s.current() && s.job != nil && s.job.Stage == StagePending:
		return s.observePending()
	case s.current() && s.job != nil:
		return s.release()
	case s.current():
		return s.initializing("16 attempt without Job", Action{Kind: CreateJob})
	case s.obj.Status.Revision == s.revision:
		return s.settle("9 applied", s.complete())
	case s.planned():
		return s.settle("9 planned", s.plan())
	// Rows 10 and 11, bake and post-checks, belong here.
	case s.failedAsItStands() && needsPerson(s.attempt):
		return s.settle("12 failed", s.failure())
	case s.failedAsItStands() && s.backoff() > 0:
		d := s.settle("13 waiting to try again", s.failure())
		d.Wait = s.backoff()
		return d
	case len(s.problems) > 0:
		return s.settle("14 not accepted", verdict{reason: v1alpha1.ReasonInvalidSpec, message: s.problems.ToAggregate().Error(),
			blocked: true, stalled: true, refused: true})
	case s.obj.Spec.Suspend:
		return s.settle("14 suspended", verdict{reason: v1alpha1.ReasonSuspended, message: "spec.suspend is set", blocked: true})
	// Row 15, pre-checks, belongs here.
	case len(s.unfinished()) > 0:
		return s.clear()
	default:
		return s.start()
	}
}
