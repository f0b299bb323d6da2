// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// The rows of Decide that do more than say something, in its order.

// record latches the outcome of the attempt. What shows it is cleaned up the next time round, once this is stored.
func (s scene) record() Decision {
	outcome, job := s.job.Outcome, s.job
	a, status := s.attempt, s.status
	ended := outcome.EndedAt
	if ended.IsZero() {
		ended = metav1.NewTime(s.Now)
	}
	s.learn(job)
	status.CompletedAt = &ended
	before := status.Migration
	if outcome.Succeeded && a.Mode != v1alpha1.ModePlan {
		before = nil // whatever version that was, it is another one now
	}
	status.Migration = carryVersion(outcome.Result.Migration, before)
	a.Message, a.Since = result.Cut(outcome.Message, maxMessage), metav1.NewTime(s.Now)
	if outcome.Succeeded {
		s.succeed()
	} else {
		s.fail(outcome)
	}
	s.remember()
	v := settingUp // where the spec moved on while it ran
	switch {
	case !outcome.Succeeded:
		v = s.failure()
	case status.Revision == s.revision:
		v = s.complete()
	case s.planned():
		v = s.plan()
	}
	d := s.say("3 outcome", v)
	d.Do = s.keepFinalizer()
	return d
}

// succeed latches what the attempt has done; a plan has done nothing.
func (s scene) succeed() {
	a := s.attempt
	a.Phase, a.Reason, a.InfrastructureFailures = v1alpha1.AttemptSucceeded, v1alpha1.ReasonMigrationComplete, 0
	if a.Mode == v1alpha1.ModePlan {
		a.Reason = v1alpha1.ReasonPlanComplete
		return
	}
	s.status.Revision = a.Revision
}

func (s scene) fail(outcome Outcome) {
	a, m := s.attempt, s.status.Migration
	if m.Failure == nil { // the runner could not say it
		m.Failure = &v1alpha1.Failure{Class: outcome.Class.Name, Error: result.Cut(outcome.Message, maxError)}
	}
	a.Phase, a.Reason = v1alpha1.AttemptFailed, outcome.Class.Reason
	if outcome.Class.Retryable {
		a.InfrastructureFailures++
	}
}

// learn takes over what a Job tells about its attempt, and keeps what an earlier look learnt where the Job's pods are gone by now.
func (s scene) learn(job *Job) {
	s.attempt.JobUID = job.UID
	if job.StartedAt != nil {
		s.status.StartedAt = job.StartedAt
	}
	if job.Image != "" {
		s.status.Image = job.Image
	}
}

// carryVersion keeps the version that the database was last seen at when this attempt did not come so far as to look.
func carryVersion(now, before *v1alpha1.MigrationStatus) *v1alpha1.MigrationStatus {
	if now == nil {
		now = &v1alpha1.MigrationStatus{}
	}
	now = now.DeepCopy()
	if before != nil && now.CurrentVersion == "" && now.TargetVersion == "" {
		now.CurrentVersion = before.CurrentVersion
	}
	return now
}

// remember puts the attempt, whose end is in status by now, on top of the history.
func (s scene) remember() {
	entry := v1alpha1.HistoryEntry{
		Attempt: s.attempt.Number, Revision: s.attempt.Revision, Mode: s.attempt.Mode, Image: s.status.Image, Result: s.attempt.Phase,
		StartedAt: s.status.StartedAt, CompletedAt: *s.status.CompletedAt,
	}
	if m := s.status.Migration; m != nil && s.attempt.Phase == v1alpha1.AttemptSucceeded {
		entry.Version = m.CurrentVersion
	}
	// A Job that was given up and started all the same ends twice; the later end is the true one.
	history := slices.DeleteFunc(s.status.History, func(e v1alpha1.HistoryEntry) bool { return e.Attempt == entry.Attempt })
	history = slices.Insert(history, 0, entry)
	s.status.History = history[:min(len(history), maxHistory)]
}

// leave lets a deleted object go once nothing of it is unfinished.
func (s scene) leave() Decision {
	const row = "2 deleting"
	if !s.hasFinalizer() {
		return s.quietly(row)
	}
	if unfinished := s.unfinished(); len(unfinished) > 0 {
		d := s.say(row, verdict{reason: v1alpha1.ReasonDeleting, progressing: true, message: untilGone(unfinished[0])})
		d.Do, d.Wait = stop(s.removable()), s.lingersFor()
		return d
	}
	return s.quietly(row, append(s.releaseLock(), Action{Kind: RemoveFinalizer})...)
}

func (s scene) observeRunning() Decision {
	job := s.running()
	if s.job == job {
		s.reach(v1alpha1.AttemptRunning)
		s.learn(job)
		s.status.CompletedAt = nil
	}
	message := fmt.Sprintf("Job %s is applying the migrations", job.Name)
	if job.Mode == v1alpha1.ModePlan {
		message = fmt.Sprintf("Job %s is finding out what would be applied", job.Name)
	}
	if job.Terminating {
		message += "; it, or its pod, is being deleted"
	}
	d := s.say("4 running", verdict{reason: v1alpha1.ReasonMigrationInProgress, progressing: true, message: message})
	d.Do = s.keepFinalizer()
	return d
}

func untilGone(job Job) string {
	return fmt.Sprintf("Waiting until Job %s and its pods are gone", job.Name)
}

// keepFinalizer puts the finalizer back where somebody has replaced the object without it.
func (s scene) keepFinalizer() []Action {
	if s.hasFinalizer() || s.deleting() {
		return nil
	}
	return []Action{{Kind: AddFinalizer}}
}

// cancel gives up an attempt whose migration has not started, because something else is wanted now. Its Job goes once this is stored.
func (s scene) cancel() Decision {
	if s.Unwatched {
		return s.quietly("6 unwanted", stop([]Job{*s.job})...) // once its attempt has ended, nothing would look for it any more
	}
	s.end(v1alpha1.AttemptCancelled, "", "removed before the migration started: the spec changed or was suspended")
	if s.obj.Spec.Suspend {
		return s.say("6 unwanted", verdict{reason: v1alpha1.ReasonSuspended, message: "spec.suspend is set", blocked: true})
	}
	return s.initializing("6 unwanted")
}

// giveUp ends an attempt whose pod does not start. Its Job goes once this is stored, and another attempt follows with backoff.
func (s scene) giveUp() Decision {
	if s.Unwatched {
		return s.quietly("6 stuck", stop([]Job{*s.job})...)
	}
	if s.job.Held != nil {
		s.job.Outcome = *s.job.Held
		return s.record()
	}
	s.attempt.InfrastructureFailures++
	s.end(v1alpha1.AttemptStuck, s.job.Trouble.Reason, s.troubleMessage())
	return s.say("6 stuck", s.failure())
}

// end records an attempt of which nothing ran.
func (s scene) end(phase v1alpha1.AttemptPhase, reason, message string) {
	if s.job != nil {
		s.attempt.JobUID = s.job.UID
	}
	s.attempt.Reason, s.attempt.Message = reason, result.Cut(message, maxMessage)
	s.reach(phase)
	now := metav1.NewTime(s.Now)
	s.status.CompletedAt = &now
	s.remember()
}

func (s scene) observePending() Decision {
	s.reach(v1alpha1.AttemptPending)
	s.attempt.JobUID = s.job.UID
	message := fmt.Sprintf("Job %s is released; its migration has not started", s.job.Name)
	if !s.job.troubled() {
		s.attempt.TroubleSince = nil
	} else {
		message = s.troubleMessage()
		if s.attempt.TroubleSince == nil {
			now := metav1.NewTime(s.Now)
			s.attempt.TroubleSince = &now
		}
	}
	d := s.say("7 pending", verdict{reason: v1alpha1.ReasonJobPending, progressing: true, message: message})
	d.Do = s.keepFinalizer()
	if s.job.Trouble != nil {
		d.Wait = s.stuckIn()
	}
	return d
}

// troubleMessage keeps the first words about one trouble: the kubelet alternates between ErrImagePull and ImagePullBackOff, and each try words it anew.
func (s scene) troubleMessage() string {
	t := s.job.Trouble
	if before := s.readyMessage(); t.Detail != "" && strings.HasPrefix(before, t.What+": ") {
		return before
	}
	return t.Message()
}

// release lets a new Job go: first its UID goes into status; the next time round, once that is stored, it gets the lock and then starts.
func (s scene) release() Decision {
	if s.attempt.JobUID != s.job.UID {
		s.attempt.JobUID = s.job.UID
		return s.initializing("8 new")
	}
	return s.initializing("8 new", append(s.keepFinalizer(), Action{Kind: TakeLock, Job: *s.job}, Action{Kind: ReleaseJob, Job: *s.job})...)
}

// settle reports an end, or a wait in which nothing of the attempt is needed any more, and cleans up after it.
func (s scene) settle(row string, v verdict) Decision {
	d := s.say(row, v)
	if len(s.unfinished()) > 0 {
		d.Do, d.Wait = stop(s.removable()), s.lingersFor()
		return d
	}
	for _, job := range s.prunable() {
		d.Do = append(d.Do, Action{Kind: PruneJob, Job: job})
	}
	if s.hasFinalizer() {
		d.Do = append(append(d.Do, s.releaseLock()...), Action{Kind: RemoveFinalizer})
	}
	return d
}

// clear waits until nothing is left of the attempts before.
func (s scene) clear() Decision {
	d := s.say("5 leftovers", verdict{reason: v1alpha1.ReasonInitializing, progressing: true, message: untilGone(s.unfinished()[0])})
	d.Do, d.Wait = stop(s.removable()), s.lingersFor()
	return d
}

// start latches the next attempt. Its Job is created the next time round, once this is stored.
func (s scene) start() Decision {
	var do []Action
	if s.hasFinalizer() {
		do = s.releaseLock() // of the attempt before, which a new spec overtook
	} else {
		do = []Action{{Kind: AddFinalizer}}
	}
	next := v1alpha1.AttemptStatus{
		Number: s.attempt.Number + 1, Revision: s.revision, Generation: s.obj.Generation, Retry: retryOf(s.obj), Resolve: resolveOf(s.obj),
		Mode: latched(s.obj.Spec.Mode), Phase: v1alpha1.AttemptNew, Since: metav1.NewTime(s.Now),
	}
	next.Job = JobName(s.obj, next.Number)
	if s.failedAsItStands() {
		next.InfrastructureFailures = s.attempt.InfrastructureFailures
	}
	*s.attempt = next
	s.status.Attempt = s.attempt
	s.status.StartedAt, s.status.CompletedAt, s.status.Image = nil, nil, ""
	return s.initializing("16 start", do...)
}

var settingUp = verdict{reason: v1alpha1.ReasonInitializing, message: "Setting up the next attempt", progressing: true}

// initializing reports that the latest attempt is being set up.
func (s scene) initializing(row string, do ...Action) Decision {
	d := s.say(row, settingUp)
	d.Do = do
	return d
}

// say reports a state.
func (s scene) say(row string, v verdict) Decision {
	setConditions(s.status, v, s.obj.Generation, s.Now)
	return Decision{Row: row, Status: *s.status}
}

// quietly acts and leaves status as it is.
func (s scene) quietly(row string, do ...Action) Decision {
	return Decision{Row: row, Do: do, Status: *s.obj.Status.DeepCopy()}
}

func stop(jobs []Job) []Action {
	var do []Action
	for _, job := range jobs {
		do = append(do, Action{Kind: StopJob, Job: job})
	}
	return do
}

// complete is the state of an applied revision.
func (s scene) complete() verdict {
	message := "The migrations are applied"
	switch a := s.attempt; {
	case a.Mode == v1alpha1.ModePlan: // of another revision, and it changed nothing
	case a.Phase == v1alpha1.AttemptSucceeded:
		message = a.Message
	case a.Phase == v1alpha1.AttemptFailed:
		message = fmt.Sprintf("The migrations are applied; attempt %d, of another revision, failed since and may have applied some of its own", s.attempt.Number)
	}
	return verdict{reason: v1alpha1.ReasonMigrationComplete, message: message, ready: true}
}

// plan is the state after a plan, which is neither trouble nor an upgrade.
func (s scene) plan() verdict {
	return verdict{reason: v1alpha1.ReasonPlanComplete, message: s.attempt.Message}
}

// failure is the state after an attempt that did not succeed.
func (s scene) failure() verdict {
	v := verdict{reason: s.attempt.Reason, message: s.attempt.Message + s.wayOut()}
	if s.attempt.Mode == v1alpha1.ModePlan {
		v.message = "Planning: " + v.message
	}
	switch {
	case needsPerson(s.attempt):
		v.degraded, v.stalled = true, true
	case s.attempt.Phase == v1alpha1.AttemptStuck:
		v.blocked, v.stalled = true, true
	default:
		v.blocked, v.stalled = true, s.attempt.InfrastructureFailures > ptr.Deref(s.obj.Spec.Runner.InfrastructureRetries, defaultRetries)
	}
	return v
}

// doubt is how the runner names a statement in doubt, and the ways out.
var doubt = regexp.MustCompile(`(?:in doubt: |redo:|skip:)([A-Z2-7]{8})\b`)

// wayOut is what to type once somebody knows what became of a statement in doubt. The runner cannot say it: it knows no name of an object.
func (s scene) wayOut() string {
	m := s.status.Migration
	if !s.inDoubt() || m == nil || m.Failure == nil {
		return ""
	}
	id := doubt.FindStringSubmatch(m.Failure.Error)
	if id == nil {
		return ""
	}
	return fmt.Sprintf(". If it took no effect: kubectl annotate dbu --namespace %s %s %s=redo:%s --overwrite; if it did, the same with skip:%s",
		s.obj.Namespace, s.obj.Name, v1alpha1.AnnotationResolve, id[1], id[1])
}

// backoff is the time left before another attempt: 10 s after the first failure in a row, doubled after each further one, at most 5 minutes.
func (s scene) backoff() time.Duration {
	wait := firstBackoff
	for range s.attempt.InfrastructureFailures - 1 {
		wait = min(2*wait, maxBackoff)
	}
	return min(wait, s.attempt.Since.Add(wait).Sub(s.Now)) // the clock may have been set back
}
