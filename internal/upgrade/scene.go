// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// scene is an Observation with what follows from it, and the status that is being drawn up. Its methods are the conditions of Decide's rows.
type scene struct {
	Observation
	obj      *v1alpha1.DBUpgrade
	revision string
	problems field.ErrorList

	// status is a copy, to be changed; attempt is the one in it. Before the first attempt it is empty and counts as ended.
	status  *v1alpha1.DBUpgradeStatus
	attempt *v1alpha1.AttemptStatus
	// job is the attempt's, nil where there is none. It points into Jobs, which are in the order of their attempts.
	job *Job
}

func survey(o Observation) scene {
	o.Jobs = slices.Clone(o.Jobs)
	slices.SortFunc(o.Jobs, func(a, b Job) int { return cmp.Or(cmp.Compare(a.Attempt, b.Attempt), a.CreatedAt.Compare(b.CreatedAt)) })
	s := scene{
		Observation: o,
		obj:         o.DBUpgrade,
		revision:    Revision(&o.DBUpgrade.Spec),
		problems:    Validate(&o.DBUpgrade.Spec, o.Runner),
		status:      o.DBUpgrade.Status.DeepCopy(),
	}
	s.adopt()
	for i := range s.Jobs {
		job := &s.Jobs[i]
		if job.UID == s.attempt.JobUID || s.attempt.JobUID == "" && job.Attempt == s.attempt.Number { // once the UID is known, annotations prove nothing
			s.job = job
		}
	}
	return s
}

// adopt takes the latest attempt from status or, where status was lost or rolled back, from a Job of a later attempt than status knows.
func (s *scene) adopt() {
	s.attempt = s.status.Attempt
	if s.attempt == nil {
		s.attempt = &v1alpha1.AttemptStatus{Phase: v1alpha1.AttemptCancelled}
	}
	if len(s.Jobs) == 0 {
		return
	}
	last := s.Jobs[len(s.Jobs)-1]
	if last.Attempt <= s.attempt.Number || last.UID == s.attempt.JobUID {
		return
	}
	s.attempt = &v1alpha1.AttemptStatus{
		Number: last.Attempt, Revision: result.Cut(last.Revision, 64), Generation: last.Generation, Retry: result.Cut(last.Retry, 256),
		Resolve: result.Cut(last.Resolve, 64), Mode: last.Mode,
		Job: last.Name, Phase: v1alpha1.AttemptNew, Since: metav1.NewTime(s.Now),
	}
	s.status.Attempt = s.attempt
}

func (s scene) deleting() bool { return !s.obj.DeletionTimestamp.IsZero() }

func (s scene) hasFinalizer() bool { return slices.Contains(s.obj.Finalizers, v1alpha1.Finalizer) }

// current tells whether there is an attempt whose outcome is not recorded.
func (s scene) current() bool { return !s.attempt.Phase.Ended() }

// running is a Job that is migrating, whatever its attempt.
func (s scene) running() *Job {
	for i := range s.Jobs {
		if s.Jobs[i].Stage == StageRunning {
			return &s.Jobs[i]
		}
	}
	return nil
}

// unfinished are the Jobs that may still have a pod, or get one.
func (s scene) unfinished() []Job {
	return s.jobs(func(j *Job) bool { return !j.Finished })
}

// removable are the unfinished Jobs that nobody has deleted yet and that would not finish by themselves: their migration has not started, or it has
// ended some time ago and their pod goes on, or long ago and the Job controller does not say so.
func (s scene) removable() []Job {
	return s.jobs(func(j *Job) bool {
		return j.idle() || !j.Finished && !j.Terminating && j.Stage == StageDone && s.lingerLeft(j) == 0
	})
}

// lingersFor is the time until the next Job becomes removable because it goes on, 0 where there is none.
func (s scene) lingersFor() time.Duration {
	var wait time.Duration
	for i := range s.Jobs {
		if j := &s.Jobs[i]; !j.Finished && !j.Terminating && j.Stage == StageDone && (wait == 0 || s.lingerLeft(j) < wait) {
			wait = s.lingerLeft(j)
		}
	}
	return wait
}

func (s scene) lingerLeft(j *Job) time.Duration {
	ended := j.Outcome.EndedAt
	if ended.IsZero() {
		ended = s.attempt.Since
	}
	after := lingerAfter
	if !j.Alive {
		after = silentStuckAfter // only the Job controller's word is missing, which has much to do perhaps; the Job has the log
	}
	return min(after, max(0, ended.Add(after).Sub(s.Now)))
}

// strays are removable Jobs of another attempt than the current one. A manager that was cut off from the API server and came back late can
// create one; it is suspended then, so it has done no harm.
func (s scene) strays() []Job {
	return s.jobs(func(j *Job) bool {
		return j.idle() && s.current() && (s.job == nil || j.UID != s.job.UID)
	})
}

// prunable are finished and recorded Jobs beyond the history limit, oldest first.
func (s scene) prunable() []Job {
	ended := s.jobs(func(j *Job) bool { return j.Finished && !j.Terminating })
	return ended[:max(0, len(ended)-int(ptr.Deref(s.obj.Spec.Runner.JobHistoryLimit, defaultHistoryLimit)))]
}

func (s scene) jobs(keep func(*Job) bool) []Job {
	var kept []Job
	for i := range s.Jobs {
		if keep(&s.Jobs[i]) {
			kept = append(kept, s.Jobs[i])
		}
	}
	return kept
}

// unwanted tells that the current attempt, whose migration has not started, is not what the spec asks for now. A Job that is not released yet is
// made anew for any change of the spec, a released one only for what changes the migration.
func (s scene) unwanted() bool {
	outdated := s.attempt.Revision != s.revision || s.attempt.Mode != latched(s.obj.Spec.Mode) || len(s.problems) > 0
	if s.job == nil || s.job.Stage == StageNew {
		outdated = outdated || s.attempt.Generation != s.obj.Generation
	}
	return s.obj.Spec.Suspend || outdated
}

// stuckIn is the time left until the current attempt's pod counts as stuck, 0 where it does.
func (s scene) stuckIn() time.Duration {
	if s.job == nil || s.job.Trouble == nil || s.attempt.Phase != v1alpha1.AttemptPending {
		return math.MaxInt64
	}
	if !s.job.troubled() {
		return max(0, s.attempt.Since.Add(silentStuckAfter).Sub(s.Now))
	}
	if s.attempt.Generation != s.obj.Generation || s.askedAgain() {
		return 0 // somebody has mended something; do not make them wait
	}
	since := s.Now
	if s.attempt.TroubleSince != nil {
		since = s.attempt.TroubleSince.Time
	}
	return max(0, since.Add(stuckAfter).Sub(s.Now))
}

// failedAsItStands tells that the latest attempt failed and nothing has been changed or asked for since.
func (s scene) failedAsItStands() bool {
	failed := s.attempt.Phase == v1alpha1.AttemptFailed || s.attempt.Phase == v1alpha1.AttemptStuck
	return failed && s.asItStands()
}

// planned tells that the latest attempt is the plan that the spec asks for.
func (s scene) planned() bool {
	wanted := s.obj.Spec.Mode == v1alpha1.ModePlan && s.attempt.Mode == v1alpha1.ModePlan
	return wanted && s.attempt.Phase == v1alpha1.AttemptSucceeded && s.asItStands()
}

// asItStands tells that nothing has been changed or asked for since the latest attempt.
func (s scene) asItStands() bool {
	return s.attempt.Generation == s.obj.Generation && !s.askedAgain()
}

// askedAgain tells that the retry annotation has a new value, or that of resolve where the latest attempt ended in doubt. Taking one away asks for nothing.
func (s scene) askedAgain() bool {
	retry, resolve := retryOf(s.obj), resolveOf(s.obj)
	return retry != "" && retry != s.attempt.Retry || resolve != "" && resolve != s.attempt.Resolve && s.inDoubt()
}

// inDoubt tells that the latest attempt waits to be told what became of a statement. A plan can do nothing with the answer.
func (s scene) inDoubt() bool {
	return s.attempt.Reason == v1alpha1.ReasonInDoubt && s.attempt.Mode != v1alpha1.ModePlan
}

// needsPerson tells that trying again as it stands would fail again.
func needsPerson(a *v1alpha1.AttemptStatus) bool {
	return a.Phase == v1alpha1.AttemptFailed && slices.ContainsFunc(result.Classes(), func(c result.Class) bool {
		return !c.Retryable && c.Reason == a.Reason
	})
}

func (s scene) releaseLock() []Action {
	if s.attempt.JobUID == "" {
		return nil
	}
	return []Action{{Kind: ReleaseLock, Job: Job{UID: s.attempt.JobUID}}}
}

// reach moves the attempt to a phase.
func (s scene) reach(phase v1alpha1.AttemptPhase) {
	if s.attempt.Phase != phase {
		s.attempt.Phase, s.attempt.Since = phase, metav1.NewTime(s.Now)
	}
}

func (s scene) readyMessage() string {
	ready := meta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return ""
	}
	return ready.Message
}

// latched is a mode as status has it: Plan, or empty.
func latched(mode v1alpha1.Mode) v1alpha1.Mode {
	if mode == v1alpha1.ModePlan {
		return mode
	}
	return ""
}

// resolveOf is the value of the resolve annotation, empty where it is none that the webhook would have let through.
func resolveOf(obj *v1alpha1.DBUpgrade) string {
	if value := obj.Annotations[v1alpha1.AnnotationResolve]; resolution.MatchString(value) {
		return value
	}
	return ""
}

// retryOf is the value of the retry annotation, in a form that fits into status.
func retryOf(obj *v1alpha1.DBUpgrade) string {
	value := obj.Annotations[v1alpha1.AnnotationRetry]
	if len(value) > 256 {
		return "sha256:" + hash(value)
	}
	return value
}
