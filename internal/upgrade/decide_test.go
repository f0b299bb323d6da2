// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

// attempted gives an object attempt 1 in a phase, reached at second 0, with Job job-1. Options before it say for which spec.
func attempted(phase v1alpha1.AttemptPhase) builders.Option {
	return func(o *v1alpha1.DBUpgrade) {
		o.Finalizers = []string{v1alpha1.Finalizer}
		o.Status.Attempt = &v1alpha1.AttemptStatus{
			Number: 1, Revision: upgrade.Revision(&o.Spec), Generation: o.Generation, Job: upgrade.JobName(o, 1), JobUID: "job-1", Phase: phase, Since: at(0),
		}
		if o.Spec.Mode == v1alpha1.ModePlan {
			o.Status.Attempt.Mode = v1alpha1.ModePlan
		}
	}
}

// failedFor gives it an attempt 1 that failed at second 0, so many times in a row by now.
func failedFor(class v1alpha1.FailureClass, inARow int32) builders.Option {
	return func(o *v1alpha1.DBUpgrade) {
		attempted(v1alpha1.AttemptFailed)(o)
		o.Status.Attempt.Reason, o.Status.Attempt.Message, o.Status.Attempt.InfrastructureFailures = result.ClassOf(class).Reason, string(class), inARow
	}
}

func stuckFor(reason string, inARow int32) builders.Option {
	return func(o *v1alpha1.DBUpgrade) {
		attempted(v1alpha1.AttemptStuck)(o)
		o.Status.Attempt.Reason, o.Status.Attempt.Message, o.Status.Attempt.InfrastructureFailures = reason, "words", inARow
	}
}

// isApplied says that the present spec has been applied, by attempt 1.
func isApplied(o *v1alpha1.DBUpgrade) {
	attempted(v1alpha1.AttemptSucceeded)(o)
	o.Status.Attempt.Reason, o.Status.Attempt.Message = v1alpha1.ReasonMigrationComplete, "The database is at version 2"
	o.Status.Revision = o.Status.Attempt.Revision
}

// The edits that users make, each a new generation unless it is one of metadata.

func edited(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Migrations.Image = "registry.test/app:v2"
}

func tuned(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Runner.PriorityClassName = "high"
}

func suspend(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Suspend = true
}

func resume(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Suspend = false
}

func misspelt(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Migrations.Image = "no image at all"
}

func askAgain(o *v1alpha1.DBUpgrade) {
	o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "again"}
}

// resolvedBy annotates with a way out of doubt.
func resolvedBy(value string) builders.Option {
	return func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationResolve: value} }
}

// toPlan and toApply switch the mode. Before attempted, they say what the attempt is for.
func toPlan(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Mode = v1alpha1.ModePlan
}

func toApply(o *v1alpha1.DBUpgrade) {
	o.Generation++
	o.Spec.Mode = v1alpha1.ModeApply
}

// isPlanned says that the present spec has been planned, by attempt 1.
func isPlanned(o *v1alpha1.DBUpgrade) {
	attempted(v1alpha1.AttemptSucceeded)(o)
	o.Status.Attempt.Reason, o.Status.Attempt.Message = v1alpha1.ReasonPlanComplete, "Files to be applied: 3"
}

func deleted(o *v1alpha1.DBUpgrade) { o.DeletionTimestamp = ptr.To(at(1)) }

func unfinalized(o *v1alpha1.DBUpgrade) { o.Finalizers = nil }

func withoutUID(o *v1alpha1.DBUpgrade) { o.Status.Attempt.JobUID = "" }

// seenJob is the Job of an attempt at the spec that builders make.
func seenJob(attempt int64, stage upgrade.Stage, options ...func(*upgrade.Job)) upgrade.Job {
	obj := builders.DBUpgrade()
	j := upgrade.Job{
		Name: upgrade.JobName(obj, attempt), UID: types.UID(fmt.Sprintf("job-%d", attempt)), Attempt: attempt, Stage: stage,
		Revision: upgrade.Revision(&obj.Spec), Generation: 1, CreatedAt: at(int(attempt)).Time,
	}
	for _, option := range options {
		option(&j)
	}
	return j
}

func finished(j *upgrade.Job) { j.Finished = true }

func alive(j *upgrade.Job) { j.Alive = true }

// troubled has been told at second 0 what keeps its pod from starting.
func troubled(o *v1alpha1.DBUpgrade) { o.Status.Attempt.TroubleSince = ptr.To(at(0)) }

// held is a Job whose pod another container keeps alive after this outcome.
func held(o upgrade.Outcome) func(*upgrade.Job) { return func(j *upgrade.Job) { j.Held = &o } }

func goes(j *upgrade.Job) { j.Terminating = true }

func in(trouble upgrade.Trouble) func(*upgrade.Job) {
	return func(j *upgrade.Job) { j.Trouble = &trouble }
}

func with(o upgrade.Outcome) func(*upgrade.Job) {
	return func(j *upgrade.Job) {
		j.Stage, j.Outcome, j.StartedAt, j.Image = upgrade.StageDone, o, ptr.To(at(3)), fetchedImage
	}
}

var (
	unpullable = upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: "image", Detail: "ErrImagePull"}
	silence    = upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "pod"}
	success    = succeeded("The database is at version 2", applied)
	refused    = outcome(v1alpha1.StatementFailed, "2_users.sql: no", statementFailed)
	cutOff     = outcome(v1alpha1.DatabaseUnreachable, "connection refused", failure(v1alpha1.DatabaseUnreachable, "connection refused"))
)

// decide at a second, and hold what comes out against the API.
func decide(t *testing.T, second int, obj *v1alpha1.DBUpgrade, jobs ...upgrade.Job) upgrade.Decision {
	t.Helper()
	d := upgrade.Decide(upgrade.Observation{DBUpgrade: obj, Jobs: jobs, Now: at(second).Time})
	if errs := refusal(t, d.Status); errs != nil {
		t.Errorf("the API server refuses the status: %v", errs)
	}
	return d
}

// trueOnes are the conditions that are True, in the order in which the API lists them.
func trueOnes(status v1alpha1.DBUpgradeStatus) string {
	var all []string
	for _, kind := range []string{"Accepted", "Ready", "Progressing", "Degraded", "Blocked", "Stalled"} {
		if meta.IsStatusConditionTrue(status.Conditions, kind) {
			all = append(all, kind)
		}
	}
	return strings.Join(all, " ")
}

func ready(status v1alpha1.DBUpgradeStatus) metav1.Condition {
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func of(options ...builders.Option) []builders.Option { return options }

// TestRows has each row of the state table at least once.
func TestRows(t *testing.T) {
	const (
		progressing = "Accepted Progressing"
		blocked     = "Accepted Blocked"
		stalled     = "Accepted Blocked Stalled"
		degraded    = "Accepted Degraded Stalled"
	)
	for name, c := range map[string]struct {
		obj  []builders.Option
		jobs []upgrade.Job
		now  int
		row  string
		do   string
		// reason and the conditions that are True; empty where status stays as it is.
		reason, on string
		wait       time.Duration
	}{
		"running, object deleted": {obj: of(attempted(v1alpha1.AttemptRunning), deleted), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)},
			row: "1 deleting, running", do: "[]", reason: "Deleting", on: progressing},
		"a forgotten attempt runs, object deleted": {obj: of(isApplied, deleted), jobs: []upgrade.Job{seenJob(2, upgrade.StageRunning), seenJob(1, upgrade.StageDone, finished)},
			row: "1 deleting, running", do: "[]", reason: "Deleting", on: progressing},

		"deleted, never started":    {obj: of(deleted), row: "2 deleting", do: "[]"},
		"deleted, nothing is left":  {obj: of(attempted(v1alpha1.AttemptNew), withoutUID, deleted), row: "2 deleting", do: "[RemoveFinalizer]"},
		"deleted, a new Job":        {obj: of(attempted(v1alpha1.AttemptNew), deleted), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "2 deleting", do: "[StopJob]", reason: "Deleting", on: progressing},
		"deleted, a pending Job":    {obj: of(attempted(v1alpha1.AttemptPending), deleted), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "2 deleting", do: "[StopJob]", reason: "Deleting", on: progressing},
		"deleted, the Job goes":     {obj: of(attempted(v1alpha1.AttemptPending), deleted), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, goes)}, row: "2 deleting", do: "[]", reason: "Deleting", on: progressing},
		"deleted, recorded, ended":  {obj: of(failedFor(v1alpha1.StatementFailed, 0), deleted), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, finished)}, row: "2 deleting", do: "[ReleaseLock RemoveFinalizer]"},
		"deleted and not our turn":  {obj: of(isApplied, deleted, unfinalized), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, finished)}, row: "2 deleting", do: "[]"},
		"deleted, failed, not told": {obj: of(attempted(v1alpha1.AttemptRunning), deleted), jobs: []upgrade.Job{seenJob(1, 0, with(refused))}, row: "3 outcome", do: "[]", reason: "JobFailed", on: degraded},

		"success":            {obj: of(attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, 0, with(success))}, row: "3 outcome", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"success, unnoticed": {obj: of(attempted(v1alpha1.AttemptNew)), jobs: []upgrade.Job{seenJob(1, 0, with(success))}, row: "3 outcome", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"success, suspended": {obj: of(attempted(v1alpha1.AttemptRunning), suspend), jobs: []upgrade.Job{seenJob(1, 0, with(success))}, row: "3 outcome", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"success, overtaken": {obj: of(attempted(v1alpha1.AttemptRunning), edited), jobs: []upgrade.Job{seenJob(1, 0, with(success))}, row: "3 outcome", do: "[]", reason: "Initializing", on: progressing},
		"failure":            {obj: of(attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, 0, with(refused))}, row: "3 outcome", do: "[]", reason: "JobFailed", on: degraded},
		"a failure that may go away": {obj: of(attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, 0, with(cutOff), finished)},
			row: "3 outcome", do: "[]", reason: "DatabaseUnreachable", on: blocked},
		"the outcome goes before strays": {obj: of(attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, 0, with(success)), seenJob(0, upgrade.StageNew)},
			row: "3 outcome", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},

		"running":                      {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"running, another image":       {obj: of(attempted(v1alpha1.AttemptRunning), edited), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"running, suspended":           {obj: of(attempted(v1alpha1.AttemptRunning), suspend), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"running, not valid any more":  {obj: of(attempted(v1alpha1.AttemptRunning), misspelt), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"running, its Job deleted":     {obj: of(attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning, goes)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"given up, runs all the same":  {obj: of(stuckFor("ImagePullFailed", 1)), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"a forgotten attempt runs":     {obj: of(isApplied), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, finished), seenJob(0, upgrade.StageRunning)}, row: "4 running", do: "[]", reason: "MigrationInProgress", on: progressing},
		"its Job is deleted by a user": {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, goes)}, row: "5 terminating", do: "[]", reason: "Initializing", on: progressing},
		"deleted Job, spec edited":     {obj: of(attempted(v1alpha1.AttemptNew), edited), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew, goes)}, row: "5 terminating", do: "[]", reason: "Initializing", on: progressing},
		"cancelled, Job is there":      {obj: of(attempted(v1alpha1.AttemptCancelled)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "5 leftovers", do: "[StopJob]", reason: "Initializing", on: progressing},
		"cancelled, Job goes":          {obj: of(attempted(v1alpha1.AttemptCancelled)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, goes)}, row: "5 leftovers", do: "[]", reason: "Initializing", on: progressing},

		"a Job nobody knows":             {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending), seenJob(0, upgrade.StageNew)}, row: "6 stray Job", do: "[StopJob]"},
		"a Job of the name, another UID": {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew, func(j *upgrade.Job) { j.UID = "x" })}, row: "6 stray Job", do: "[StopJob]"},
		"pending, suspended":             {obj: of(attempted(v1alpha1.AttemptPending), suspend), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "6 unwanted", do: "[]", reason: "Suspended", on: blocked},
		"pending, another image":         {obj: of(attempted(v1alpha1.AttemptPending), edited), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "6 unwanted", do: "[]", reason: "Initializing", on: progressing},
		"pending, not valid any more":    {obj: of(attempted(v1alpha1.AttemptPending), misspelt), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "6 unwanted", do: "[]", reason: "Initializing", on: progressing},
		"new, suspended":                 {obj: of(attempted(v1alpha1.AttemptNew), suspend), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "6 unwanted", do: "[]", reason: "Suspended", on: blocked},
		"new, another runner":            {obj: of(attempted(v1alpha1.AttemptNew), tuned), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "6 unwanted", do: "[]", reason: "Initializing", on: progressing},
		"no Job yet, another runner":     {obj: of(attempted(v1alpha1.AttemptNew), withoutUID, tuned), row: "6 unwanted", do: "[]", reason: "Initializing", on: progressing},
		"stuck":                          {obj: of(attempted(v1alpha1.AttemptPending), troubled), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable))}, now: 120, row: "6 stuck", do: "[]", reason: "ImagePullFailed", on: stalled},
		"troubled only now":              {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable))}, now: 600, row: "7 pending", do: "[]", reason: "JobPending", on: progressing, wait: 2 * time.Minute},
		"silent, another runner":         {obj: of(attempted(v1alpha1.AttemptPending), tuned), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(silence))}, now: 1, row: "7 pending", do: "[]", reason: "JobPending", on: progressing, wait: 599 * time.Second},
		"held open":                      {obj: of(attempted(v1alpha1.AttemptPending), troubled), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable), held(cutOff))}, now: 120, row: "3 outcome", do: "[]", reason: "DatabaseUnreachable", on: blocked},
		"stuck, another runner":          {obj: of(attempted(v1alpha1.AttemptPending), tuned), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable))}, now: 1, row: "6 stuck", do: "[]", reason: "ImagePullFailed", on: stalled},
		"stuck, asked again":             {obj: of(attempted(v1alpha1.AttemptPending), askAgain), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable))}, now: 1, row: "6 stuck", do: "[]", reason: "ImagePullFailed", on: stalled},

		"pending":                 {obj: of(attempted(v1alpha1.AttemptNew)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "7 pending", do: "[]", reason: "JobPending", on: progressing},
		"pending, another runner": {obj: of(attempted(v1alpha1.AttemptPending), tuned), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "7 pending", do: "[]", reason: "JobPending", on: progressing},
		"pending, asked again":    {obj: of(attempted(v1alpha1.AttemptPending), askAgain), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "7 pending", do: "[]", reason: "JobPending", on: progressing},
		"pending in trouble": {obj: of(attempted(v1alpha1.AttemptPending), troubled), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable))}, now: 30,
			row: "7 pending", do: "[]", reason: "JobPending", on: progressing, wait: 90 * time.Second},
		"pending in silence": {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(silence))}, now: 150,
			row: "7 pending", do: "[]", reason: "JobPending", on: progressing, wait: 450 * time.Second},

		"new Job":               {obj: of(attempted(v1alpha1.AttemptNew), withoutUID), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "8 new", do: "[]", reason: "Initializing", on: progressing},
		"new Job, no finalizer": {obj: of(attempted(v1alpha1.AttemptNew), unfinalized), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "8 new", do: "[AddFinalizer TakeLock ReleaseJob]", reason: "Initializing", on: progressing},
		"pending, no finalizer": {obj: of(attempted(v1alpha1.AttemptPending), unfinalized), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "7 pending", do: "[AddFinalizer]", reason: "JobPending", on: progressing},
		"running, no finalizer": {obj: of(attempted(v1alpha1.AttemptRunning), unfinalized), jobs: []upgrade.Job{seenJob(1, upgrade.StageRunning)}, row: "4 running", do: "[AddFinalizer]", reason: "MigrationInProgress", on: progressing},
		"new Job, latched":      {obj: of(attempted(v1alpha1.AttemptNew)), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "8 new", do: "[TakeLock ReleaseJob]", reason: "Initializing", on: progressing},
		"suspended by hand":     {obj: of(attempted(v1alpha1.AttemptPending)), jobs: []upgrade.Job{seenJob(1, upgrade.StageNew)}, row: "8 new", do: "[TakeLock ReleaseJob]", reason: "Initializing", on: progressing},

		"applied":                      {obj: of(isApplied), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, finished)}, row: "9 applied", do: "[ReleaseLock RemoveFinalizer]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied and settled":          {obj: of(isApplied, unfinalized), row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, suspended":           {obj: of(isApplied, unfinalized, suspend), row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, another runner":      {obj: of(isApplied, unfinalized, tuned), row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, asked again":         {obj: of(isApplied, unfinalized, askAgain), row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, its Job was deleted": {obj: of(isApplied), row: "9 applied", do: "[ReleaseLock RemoveFinalizer]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, its pod goes on":     {obj: of(isApplied), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, with(success), alive)}, now: 30, row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready", wait: 99 * time.Second},
		"applied, its pod lingers":     {obj: of(isApplied), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, with(success), alive)}, now: 1 << 20, row: "9 applied", do: "[StopJob]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, its Job will end":    {obj: of(isApplied), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, with(success))}, now: 300, row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready", wait: 309 * time.Second},
		"failed, its pod goes on":      {obj: of(failedFor(v1alpha1.StatementFailed, 0)), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, with(refused), alive)}, now: 30, row: "12 failed", do: "[]", reason: "JobFailed", on: degraded, wait: 99 * time.Second},
		"deleted, its pod goes on":     {obj: of(isApplied, deleted), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, with(success), alive)}, now: 30, row: "2 deleting", do: "[]", reason: "Deleting", on: progressing, wait: 99 * time.Second},
		"applied, a stray Job":         {obj: of(isApplied, unfinalized), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, finished), seenJob(0, upgrade.StageNew)}, row: "9 applied", do: "[StopJob]", reason: "MigrationComplete", on: "Accepted Ready"},

		"failed":                 {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized), row: "12 failed", do: "[]", reason: "JobFailed", on: degraded},
		"in doubt":               {obj: of(failedFor(v1alpha1.InDoubt, 0)), now: 1 << 20, row: "12 failed", do: "[ReleaseLock RemoveFinalizer]", reason: "InDoubt", on: degraded},
		"out of time":            {obj: of(failedFor(v1alpha1.DeadlineExceeded, 0), unfinalized), row: "12 failed", do: "[]", reason: "DeadlineExceeded", on: degraded},
		"failed, asked again":    {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized, askAgain), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"failed, another runner": {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized, tuned), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"failed, another image":  {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized, edited), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"failed, suspended":      {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized, suspend), row: "14 suspended", do: "[]", reason: "Suspended", on: blocked},
		"failed, resumed":        {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized, suspend, resume), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},

		"linted":                         {obj: of(failedFor(v1alpha1.LintFailed, 0), unfinalized), row: "12 failed", do: "[]", reason: "LintFailed", on: degraded},
		"in doubt, resolved":             {obj: of(failedFor(v1alpha1.InDoubt, 0), unfinalized, resolvedBy("redo:ABCDEF23")), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"in doubt, resolved by nonsense": {obj: of(failedFor(v1alpha1.InDoubt, 0), unfinalized, resolvedBy("redo it")), row: "12 failed", do: "[]", reason: "InDoubt", on: degraded},
		"not in doubt, resolved":         {obj: of(failedFor(v1alpha1.StatementFailed, 0), unfinalized, resolvedBy("redo:ABCDEF23")), row: "12 failed", do: "[]", reason: "JobFailed", on: degraded},
		"in doubt, resolved before": {obj: of(failedFor(v1alpha1.InDoubt, 0), unfinalized, resolvedBy("redo:ABCDEF23"), func(o *v1alpha1.DBUpgrade) { o.Status.Attempt.Resolve = "redo:ABCDEF23" }),
			row: "12 failed", do: "[]", reason: "InDoubt", on: degraded},

		"planned":                  {obj: of(toPlan, isPlanned), row: "9 planned", do: "[ReleaseLock RemoveFinalizer]", reason: "PlanComplete", on: "Accepted"},
		"planned, nothing to do":   {obj: of(toPlan, isPlanned, unfinalized), now: 1 << 20, row: "9 planned", do: "[]", reason: "PlanComplete", on: "Accepted"},
		"planned, its pod goes on": {obj: of(toPlan, isPlanned), jobs: []upgrade.Job{seenJob(1, upgrade.StageDone, with(success), alive)}, now: 30, row: "9 planned", do: "[]", reason: "PlanComplete", on: "Accepted", wait: 99 * time.Second},
		"planned, resolved":        {obj: of(toPlan, isPlanned, unfinalized, resolvedBy("redo:ABCDEF23")), row: "9 planned", do: "[]", reason: "PlanComplete", on: "Accepted"},
		"planned, asked again":     {obj: of(toPlan, isPlanned, unfinalized, askAgain), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"planned, another image":   {obj: of(toPlan, isPlanned, unfinalized, edited), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"planned, now apply":       {obj: of(toPlan, isPlanned, unfinalized, toApply), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"planned, suspended":       {obj: of(toPlan, isPlanned, unfinalized, suspend), row: "14 suspended", do: "[]", reason: "Suspended", on: blocked},
		"planned, deleted":         {obj: of(toPlan, isPlanned, deleted), row: "2 deleting", do: "[ReleaseLock RemoveFinalizer]"},
		"planning succeeds":        {obj: of(toPlan, attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, 0, with(success))}, row: "3 outcome", do: "[]", reason: "PlanComplete", on: "Accepted"},
		"planning fails":           {obj: of(toPlan, attempted(v1alpha1.AttemptRunning)), jobs: []upgrade.Job{seenJob(1, 0, with(refused))}, row: "3 outcome", do: "[]", reason: "JobFailed", on: degraded},
		"planning, overtaken":      {obj: of(toPlan, attempted(v1alpha1.AttemptRunning), toApply), jobs: []upgrade.Job{seenJob(1, 0, with(success))}, row: "3 outcome", do: "[]", reason: "Initializing", on: progressing},
		"plan failed":              {obj: of(toPlan, failedFor(v1alpha1.LintFailed, 0), unfinalized), row: "12 failed", do: "[]", reason: "LintFailed", on: degraded},
		"plan in doubt, resolved":  {obj: of(toPlan, failedFor(v1alpha1.InDoubt, 0), unfinalized, resolvedBy("redo:ABCDEF23")), row: "12 failed", do: "[]", reason: "InDoubt", on: degraded},
		"plan failed, now apply":   {obj: of(toPlan, failedFor(v1alpha1.LintFailed, 0), unfinalized, toApply), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"plan waiting":             {obj: of(toPlan, failedFor(v1alpha1.LockTimeout, 1)), now: 4, row: "13 waiting to try again", do: "[ReleaseLock RemoveFinalizer]", reason: "WaitingForLock", on: blocked, wait: 6 * time.Second},
		"pending plan, now apply":  {obj: of(toPlan, attempted(v1alpha1.AttemptPending), toApply), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "6 unwanted", do: "[]", reason: "Initializing", on: progressing},
		"pending, now plan":        {obj: of(attempted(v1alpha1.AttemptPending), toPlan), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "6 unwanted", do: "[]", reason: "Initializing", on: progressing},
		"applied, now plan":        {obj: of(isApplied, unfinalized, toPlan), row: "9 applied", do: "[]", reason: "MigrationComplete", on: "Accepted Ready"},
		"applied, next one planned": {obj: of(isApplied, edited, toPlan, func(o *v1alpha1.DBUpgrade) {
			applied := o.Status.Revision
			isPlanned(o)
			o.Status.Revision = applied
		}, unfinalized), row: "9 planned", do: "[]", reason: "PlanComplete", on: "Accepted"},

		"waiting":                  {obj: of(failedFor(v1alpha1.LockTimeout, 1)), now: 4, row: "13 waiting to try again", do: "[ReleaseLock RemoveFinalizer]", reason: "WaitingForLock", on: blocked, wait: 6 * time.Second},
		"waiting, stuck before":    {obj: of(stuckFor("SecretNotFound", 1)), now: 4, row: "13 waiting to try again", do: "[ReleaseLock RemoveFinalizer]", reason: "SecretNotFound", on: stalled, wait: 6 * time.Second},
		"stuck, its Job is there":  {obj: of(stuckFor("SecretNotFound", 1)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)}, row: "13 waiting to try again", do: "[StopJob]", reason: "SecretNotFound", on: stalled, wait: 10 * time.Second},
		"stuck, its Job goes":      {obj: of(stuckFor("SecretNotFound", 1)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, goes)}, row: "13 waiting to try again", do: "[]", reason: "SecretNotFound", on: stalled, wait: 10 * time.Second},
		"stuck, Job goes, in time": {obj: of(stuckFor("SecretNotFound", 1)), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, goes)}, now: 10, row: "5 leftovers", do: "[]", reason: "Initializing", on: progressing},
		"waited":                   {obj: of(failedFor(v1alpha1.LockTimeout, 1), unfinalized), now: 10, row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"waiting, asked again":     {obj: of(failedFor(v1alpha1.LockTimeout, 5), unfinalized, askAgain), now: 1, row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"waiting, another runner":  {obj: of(failedFor(v1alpha1.LockTimeout, 5), unfinalized, tuned), now: 1, row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},

		"not valid":          {obj: of(misspelt), row: "14 not accepted", do: "[]", reason: "InvalidSpec", on: "Blocked Stalled"},
		"not valid, failed":  {obj: of(failedFor(v1alpha1.StatementFailed, 0), misspelt), row: "14 not accepted", do: "[ReleaseLock RemoveFinalizer]", reason: "InvalidSpec", on: "Blocked Stalled"},
		"not valid at all":   {obj: of(misspelt, suspend), row: "14 not accepted", do: "[]", reason: "InvalidSpec", on: "Blocked Stalled"},
		"not valid, applied": {obj: of(isApplied, unfinalized, misspelt), row: "14 not accepted", do: "[]", reason: "InvalidSpec", on: "Blocked Stalled"},
		"suspended":          {obj: of(suspend), row: "14 suspended", do: "[]", reason: "Suspended", on: blocked},
		"suspended, its cancelled Job is there": {obj: of(attempted(v1alpha1.AttemptCancelled), suspend), jobs: []upgrade.Job{seenJob(1, upgrade.StagePending)},
			row: "14 suspended", do: "[StopJob]", reason: "Suspended", on: blocked},

		"first":                 {row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"next":                  {obj: of(isApplied, unfinalized, edited), row: "16 start", do: "[AddFinalizer]", reason: "Initializing", on: progressing},
		"next, at once":         {obj: of(attempted(v1alpha1.AttemptCancelled), edited), row: "16 start", do: "[ReleaseLock]", reason: "Initializing", on: progressing},
		"latched":               {obj: of(attempted(v1alpha1.AttemptNew), withoutUID), row: "16 attempt without Job", do: "[CreateJob]", reason: "Initializing", on: progressing},
		"latched, others ended": {obj: of(attempted(v1alpha1.AttemptNew), withoutUID), jobs: []upgrade.Job{seenJob(0, upgrade.StageDone, finished)}, row: "16 attempt without Job", do: "[CreateJob]", reason: "Initializing", on: progressing},
	} {
		t.Run(name, func(t *testing.T) {
			obj := builders.DBUpgrade(c.obj...)
			d := decide(t, c.now, obj, c.jobs...)
			if d.Row != c.row || kinds(d.Do) != c.do || d.Wait != c.wait {
				t.Errorf("got row %q, %s, wait %s", d.Row, kinds(d.Do), d.Wait)
			}
			if c.reason == "" {
				if diff := cmp.Diff(obj.Status, d.Status); diff != "" {
					t.Errorf("status changes: %s", diff)
				}
				return
			}
			if got := ready(d.Status).Reason; got != c.reason {
				t.Errorf("reason %s", got)
			}
			if got := trueOnes(d.Status); got != c.on {
				t.Errorf("conditions %s", got)
			}
			for _, condition := range d.Status.Conditions {
				if condition.ObservedGeneration != obj.Generation || condition.Reason != c.reason {
					t.Errorf("%s is of generation %d and says %s", condition.Type, condition.ObservedGeneration, condition.Reason)
				}
			}
		})
	}
}

// TestLifeOfAnAttempt goes through an undisturbed one and looks at what each step leaves in status.
func TestLifeOfAnAttempt(t *testing.T) {
	obj := builders.DBUpgrade()
	step := func(second int, jobs ...upgrade.Job) *v1alpha1.AttemptStatus {
		t.Helper()
		obj.Status = decide(t, second, obj, jobs...).Status
		obj.Finalizers = []string{v1alpha1.Finalizer}
		return obj.Status.Attempt
	}
	want := v1alpha1.AttemptStatus{
		Number: 1, Revision: upgrade.Revision(&obj.Spec), Generation: 1, Job: jobName, Phase: v1alpha1.AttemptNew, Since: at(1),
	}
	check := func(got *v1alpha1.AttemptStatus) {
		t.Helper()
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Error(diff)
		}
	}
	check(step(1))
	check(step(2)) // its Job is created
	got := step(3, seenJob(1, upgrade.StageNew))
	want.JobUID = "job-1"
	check(got)
	check(step(4, seenJob(1, upgrade.StageNew))) // released
	got = step(5, seenJob(1, upgrade.StagePending))
	want.Phase, want.Since = v1alpha1.AttemptPending, at(5)
	check(got)
	check(step(6, seenJob(1, upgrade.StagePending)))
	got = step(7, seenJob(1, upgrade.StageRunning, func(j *upgrade.Job) { j.StartedAt, j.Image = ptr.To(at(3)), fetchedImage }))
	want.Phase, want.Since = v1alpha1.AttemptRunning, at(7)
	check(got)
	if obj.Status.StartedAt == nil || obj.Status.CompletedAt != nil || obj.Status.Image != fetchedImage || obj.Status.Revision != "" {
		t.Errorf("while it runs: %+v", obj.Status)
	}
	got = step(11, seenJob(1, 0, with(success)))
	want.Phase, want.Since, want.Reason, want.Message = v1alpha1.AttemptSucceeded, at(11), v1alpha1.ReasonMigrationComplete, "The database is at version 2"
	check(got)
	wantStatus := v1alpha1.DBUpgradeStatus{
		ObservedGeneration: 1, Conditions: obj.Status.Conditions, Attempt: &want, Revision: want.Revision, Image: fetchedImage,
		StartedAt: ptr.To(at(3)), CompletedAt: ptr.To(at(9)), Migration: applied.Migration,
		History: []v1alpha1.HistoryEntry{{
			Attempt: 1, Revision: want.Revision, Image: fetchedImage, Result: v1alpha1.AttemptSucceeded, Version: "2", StartedAt: ptr.To(at(3)), CompletedAt: at(9),
		}},
	}
	if diff := cmp.Diff(wantStatus, obj.Status); diff != "" {
		t.Error(diff)
	}
	if got := decide(t, 12, obj, seenJob(1, 0, with(success), finished)); !cmp.Equal(got.Status, obj.Status) {
		t.Errorf("an applied revision does not rest: %s", cmp.Diff(obj.Status, got.Status))
	}
}

// TestActionsNameTheirJobs: an action is carried out by what it names, with preconditions.
func TestActionsNameTheirJobs(t *testing.T) {
	five := []upgrade.Job{
		seenJob(4, upgrade.StageDone, finished), seenJob(1, upgrade.StageDone, finished), seenJob(5, upgrade.StageDone, finished),
		seenJob(3, upgrade.StageDone, finished, goes), seenJob(2, upgrade.StageDone, finished),
	}
	latest := func(o *v1alpha1.DBUpgrade) { o.Status.Attempt.Number, o.Status.Attempt.JobUID = 5, "job-5" }
	for name, c := range map[string]struct {
		obj  []builders.Option
		jobs []upgrade.Job
		want []string
	}{
		"history beyond three, oldest first, none twice": {of(isApplied, latest), five, []string{"PruneJob job-1", "ReleaseLock job-5", "RemoveFinalizer "}},
		"no history": {of(isApplied, latest, func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = ptr.To[int32](0) }), five,
			[]string{"PruneJob job-1", "PruneJob job-2", "PruneJob job-4", "PruneJob job-5", "ReleaseLock job-5", "RemoveFinalizer "}},
		"all strays":  {of(attempted(v1alpha1.AttemptPending)), []upgrade.Job{seenJob(0, upgrade.StagePending), seenJob(1, upgrade.StagePending), seenJob(-1, upgrade.StageNew)}, []string{"StopJob job--1", "StopJob job-0"}},
		"release":     {of(attempted(v1alpha1.AttemptNew)), []upgrade.Job{seenJob(1, upgrade.StageNew)}, []string{"TakeLock job-1", "ReleaseJob job-1"}},
		"lock of old": {of(attempted(v1alpha1.AttemptCancelled), edited), nil, []string{"ReleaseLock job-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, a := range decide(t, 0, builders.DBUpgrade(c.obj...), c.jobs...).Do {
				got = append(got, fmt.Sprintf("%s %s", a.Kind, a.Job.UID))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStuckExactly: a pod has two minutes, ten where nobody says what it waits for, and not a nanosecond less.
func TestStuckExactly(t *testing.T) {
	for limit, trouble := range map[time.Duration]upgrade.Trouble{2 * time.Minute: unpullable, 10 * time.Minute: silence} {
		obj := builders.DBUpgrade(attempted(v1alpha1.AttemptPending), troubled)
		o := upgrade.Observation{DBUpgrade: obj, Jobs: []upgrade.Job{seenJob(1, upgrade.StagePending, in(trouble))}, Now: at(0).Add(limit - 1)}
		if d := upgrade.Decide(o); d.Row != "7 pending" || d.Wait != 1 {
			t.Errorf("1 ns before %s: row %q, wait %s", limit, d.Row, d.Wait)
		}
		o.Now = at(0).Add(limit)
		d := upgrade.Decide(o)
		if d.Row != "6 stuck" {
			t.Errorf("after %s: row %q", limit, d.Row)
		}
		want := obj.Status.Attempt.DeepCopy()
		want.Phase, want.Reason, want.Message, want.InfrastructureFailures = v1alpha1.AttemptStuck, trouble.Reason, trouble.Message(), 1
		want.Since = metav1.NewTime(o.Now)
		if diff := cmp.Diff(want, d.Status.Attempt); diff != "" {
			t.Error(diff)
		}
	}
	// Trouble that the pod had at its very first sight starts the clock then.
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew))
	if d := decide(t, 1000, obj, seenJob(1, upgrade.StagePending, in(unpullable))); d.Wait != 2*time.Minute {
		t.Errorf("row %q, wait %s", d.Row, d.Wait)
	}
}

// TestFlappingTrouble: the kubelet alternates between two names for one trouble, and words it anew at each try; status does not follow.
func TestFlappingTrouble(t *testing.T) {
	pod := func(reason, message string) []upgrade.Job {
		return []upgrade.Job{upgrade.ReadJob(newJob(), pods(newPod(1, fetchIs(waiting(reason, message)))), nil)}
	}
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptPending))
	first := decide(t, 1, obj, pod("ErrImagePull", "not found (request 1)")...)
	const want = "container fetch-migrations: image operator.test/runner:v1 cannot be pulled: not found (request 1)"
	if got := ready(first.Status).Message; got != want {
		t.Fatalf("got %q", got)
	}
	obj.Status = first.Status
	for second, jobs := range map[int][]upgrade.Job{
		20: pod("ImagePullBackOff", `Back-off pulling image "operator.test/runner:v1"`), 40: pod("ErrImagePull", "not found (request 2)"),
	} {
		if diff := cmp.Diff(first.Status, decide(t, second, obj, jobs...).Status); diff != "" {
			t.Errorf("it flaps: %s", diff)
		}
	}
	other := decide(t, 50, obj, pod("CreateContainerConfigError", `secret "db" not found`)...)
	if got := ready(other.Status).Message; got != `container fetch-migrations cannot be configured: secret "db" not found` {
		t.Errorf("another trouble hides behind the first: %q", got)
	}
	stuck := decide(t, 121, obj, pod("ImagePullBackOff", "back-off")...)
	if got := stuck.Status.Attempt.Message; got != want {
		t.Errorf("given up with %q", got)
	}
}

func TestBackoff(t *testing.T) {
	for inARow, want := range map[int32]time.Duration{
		1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 4: 80 * time.Second, 5: 160 * time.Second, 6: 300 * time.Second, 7: 300 * time.Second, 1000: 300 * time.Second,
	} {
		for name, option := range map[string]builders.Option{
			"failed": failedFor(v1alpha1.Interrupted, inARow), "stuck": stuckFor(v1alpha1.ReasonUnschedulable, inARow),
		} {
			o := upgrade.Observation{DBUpgrade: builders.DBUpgrade(option, unfinalized), Now: at(0).Time}
			if d := upgrade.Decide(o); d.Wait != want {
				t.Errorf("%s %d in a row: wait %s, want %s", name, inARow, d.Wait, want)
			}
			o.Now = at(0).Add(want - 1)
			if d := upgrade.Decide(o); d.Wait != 1 || d.Row != "13 waiting to try again" {
				t.Errorf("%s %d in a row, 1 ns before: row %q, wait %s", name, inARow, d.Row, d.Wait)
			}
			o.Now = at(0).Add(want)
			if d := upgrade.Decide(o); d.Row != "16 start" || d.Status.Attempt.Number != 2 || d.Status.Attempt.InfrastructureFailures != inARow {
				t.Errorf("%s %d in a row, then: row %q, attempt %+v", name, inARow, d.Row, d.Status.Attempt)
			}
		}
	}
}

// TestStalledAfterRetries: infrastructureRetries failures are borne in silence; the next one calls for a person, and attempts go on.
func TestStalledAfterRetries(t *testing.T) {
	for retries, from := range map[int32]int32{0: 1, 1: 2, 3: 4} {
		obj := builders.DBUpgrade(func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.InfrastructureRetries = &retries }, attempted(v1alpha1.AttemptRunning))
		for n := int32(1); n < 8; n++ {
			a := obj.Status.Attempt
			job := seenJob(a.Number, 0, with(cutOff), finished, func(j *upgrade.Job) { j.UID = a.JobUID })
			d := decide(t, int(n)*1000, obj, job)
			if d.Row != "3 outcome" || d.Status.Attempt.InfrastructureFailures != n {
				t.Fatalf("row %q, attempt %+v", d.Row, d.Status.Attempt)
			}
			if stalled := meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionStalled); stalled != (n >= from) {
				t.Errorf("%d retries: stalled %v after failure %d", retries, stalled, n)
			}
			obj.Status = d.Status
			obj.Status = decide(t, int(n)*1000+300, obj).Status
			obj.Status.Attempt.JobUID = types.UID(fmt.Sprintf("job-%d", n+1))
		}
	}
}

// TestFailuresInARow: a success, a new spec and a retry start the count anew; a failure that needs a person leaves it.
func TestFailuresInARow(t *testing.T) {
	running := func(o *v1alpha1.DBUpgrade) {
		attempted(v1alpha1.AttemptRunning)(o)
		o.Status.Attempt.InfrastructureFailures = 3
	}
	for name, c := range map[string]struct {
		obj  []builders.Option
		jobs []upgrade.Job
		want int32
	}{
		"success":     {of(running), []upgrade.Job{seenJob(1, 0, with(success))}, 0},
		"refused":     {of(running), []upgrade.Job{seenJob(1, 0, with(refused))}, 3},
		"cut off":     {of(running), []upgrade.Job{seenJob(1, 0, with(cutOff))}, 4},
		"new spec":    {of(failedFor(v1alpha1.Interrupted, 3), edited), nil, 0},
		"retry":       {of(failedFor(v1alpha1.Interrupted, 3), askAgain), nil, 0},
		"after a try": {of(failedFor(v1alpha1.Interrupted, 3)), nil, 3},
	} {
		if got := decide(t, 1000, builders.DBUpgrade(c.obj...), c.jobs...).Status.Attempt.InfrastructureFailures; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestRetryOnce: one value of the annotation makes one attempt, however long the value is.
func TestRetryOnce(t *testing.T) {
	for _, value := range []string{"again", strings.Repeat("long ", 10_000), strings.Repeat("ä", 200)} {
		obj := builders.DBUpgrade(failedFor(v1alpha1.StatementFailed, 0), unfinalized, func(o *v1alpha1.DBUpgrade) {
			o.Annotations = map[string]string{v1alpha1.AnnotationRetry: value}
		})
		d := decide(t, 1, obj)
		if d.Row != "16 start" || d.Status.Attempt.Number != 2 {
			t.Errorf("row %q", d.Row)
		}
		obj.Status = d.Status
		obj.Status.Attempt.Phase, obj.Status.Attempt.Reason = v1alpha1.AttemptFailed, v1alpha1.ReasonJobFailed
		if d := decide(t, 2, obj); d.Row != "12 failed" {
			t.Errorf("the same value once more: row %q", d.Row)
		}
	}
}

// TestResolveOnce: one way out makes one attempt, which has it latched; a text that is none never gets into status.
func TestResolveOnce(t *testing.T) {
	inDoubt := func(o *v1alpha1.DBUpgrade) {
		o.Status.Attempt.Phase, o.Status.Attempt.Reason = v1alpha1.AttemptFailed, v1alpha1.ReasonInDoubt
	}
	obj := builders.DBUpgrade(failedFor(v1alpha1.InDoubt, 0), unfinalized, resolvedBy("redo:ABCDEF23"))
	d := decide(t, 1, obj)
	if d.Row != "16 start" || d.Status.Attempt.Resolve != "redo:ABCDEF23" {
		t.Fatalf("row %q, attempt %+v", d.Row, d.Status.Attempt)
	}
	obj.Status = d.Status
	inDoubt(obj)
	if d := decide(t, 2, obj); d.Row != "12 failed" {
		t.Errorf("the same value once more: row %q", d.Row)
	}
	resolvedBy("skip:ABCDEF23")(obj)
	if d := decide(t, 3, obj); d.Row != "16 start" || d.Status.Attempt.Resolve != "skip:ABCDEF23" {
		t.Errorf("another way: row %q, attempt %+v", d.Row, d.Status.Attempt)
	}
	for _, value := range []string{"--dir=/", strings.Repeat("redo:", 1<<16), "redo:ABCDEF23 "} {
		obj := builders.DBUpgrade(failedFor(v1alpha1.StatementFailed, 0), unfinalized, edited, resolvedBy(value))
		if d := decide(t, 1, obj); d.Row != "16 start" || d.Status.Attempt.Resolve != "" {
			t.Errorf("%.20q: row %q, attempt %+v", value, d.Row, d.Status.Attempt)
		}
	}
}

// TestWayOut: a failure in doubt comes with the command to type, where the runner has said its ID, and with no other.
func TestWayOut(t *testing.T) {
	const command = ". If it took no effect: kubectl annotate dbu --namespace team app dbupgrade.subbug.learning/resolve=redo:ABCDEF23 --overwrite; if it did, the same with skip:ABCDEF23"
	for words, way := range map[string]string{
		"dbupgrade: in doubt: ABCDEF23: 2.sql":              command,
		"go on with redo:ABCDEF23 or with skip:ABCDEF23":    command,
		"dbupgrade: in doubt: ABCDEF234: 2.sql":             "",
		"DATABASE FUNCTION":                                 "",
		"dbupgrade: in doubt: " + strings.Repeat("A", 1000): "",
	} {
		for class, has := range map[v1alpha1.FailureClass]bool{v1alpha1.InDoubt: true, v1alpha1.StatementFailed: false} {
			obj := builders.DBUpgrade(attempted(v1alpha1.AttemptRunning))
			job := seenJob(1, 0, with(outcome(class, words, failure(class, words))))
			first := decide(t, 1, obj, job)
			obj.Status = first.Status
			want := words
			if has {
				want += way
			}
			if got := ready(first.Status).Message; got != result.Cut(want, 2048) {
				t.Errorf("%s: %q", class, got)
			}
			if later := decide(t, 2, obj, job); ready(later.Status).Message != ready(first.Status).Message {
				t.Errorf("%s: later %q", class, ready(later.Status).Message)
			}
		}
	}
}

// TestPlanLatchesNothing: a plan leaves what is known of the database, and what is applied, as it was, however it ends.
func TestPlanLatchesNothing(t *testing.T) {
	before := func(o *v1alpha1.DBUpgrade) {
		o.Status.Revision, o.Status.Migration = "applied", &v1alpha1.MigrationStatus{CurrentVersion: "1", TargetVersion: "1", Total: 1}
	}
	plan := result.Result{Migration: &v1alpha1.MigrationStatus{CurrentVersion: "1", TargetVersion: "3", Pending: 2, Total: 3, Planned: []v1alpha1.PlannedFile{{Version: "2"}, {Version: "3"}}}}
	for name, c := range map[string]struct {
		outcome upgrade.Outcome
		want    *v1alpha1.MigrationStatus
	}{
		"planned":     {succeeded("Files to be applied: 2", plan), plan.Migration},
		"lost report": {upgrade.Outcome{Succeeded: true, Message: "lost"}, &v1alpha1.MigrationStatus{CurrentVersion: "1"}},
		"cut off":     {cutOff, &v1alpha1.MigrationStatus{CurrentVersion: "1", Failure: cutOff.Result.Failure()}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := builders.DBUpgrade(toPlan, attempted(v1alpha1.AttemptRunning), before)
			status := decide(t, 1, obj, seenJob(1, 0, with(c.outcome))).Status
			if diff := cmp.Diff(c.want, status.Migration); diff != "" {
				t.Error(diff)
			}
			if status.Revision != "applied" || status.History[0].Mode != v1alpha1.ModePlan {
				t.Errorf("revision %q, history %+v", status.Revision, status.History[0])
			}
		})
	}
	// Back at what is applied, nothing is said of a plan of something else, not even of one that failed.
	for name, ended := range map[string]builders.Option{"planned": isPlanned, "failed": failedFor(v1alpha1.StatementFailed, 0)} {
		obj := builders.DBUpgrade(toPlan, edited, ended, builders.Image("registry.test/app:v1"), func(o *v1alpha1.DBUpgrade) {
			o.Generation++
			o.Status.Revision = upgrade.Revision(&o.Spec)
		}, unfinalized)
		if d := decide(t, 1, obj); d.Row != "9 applied" || ready(d.Status).Message != "The migrations are applied" {
			t.Errorf("%s: row %q, %q", name, d.Row, ready(d.Status).Message)
		}
	}
}

// TestThereAndBack goes from spec A, which is applied, to B and back to A.
func TestThereAndBack(t *testing.T) {
	back := func(o *v1alpha1.DBUpgrade) { builders.Image("registry.test/app:v1")(o); o.Generation++ }
	record := func(o *v1alpha1.DBUpgrade) {
		o.Status.Attempt.Number, o.Status.Attempt.Revision, o.Status.Attempt.Generation = 2, upgrade.Revision(&o.Spec), o.Generation
	}
	for name, c := range map[string]struct {
		obj []builders.Option
		row string
	}{
		"B never started": {of(isApplied, unfinalized, edited, back), "9 applied"},
		"B failed": {of(isApplied, edited, record, func(o *v1alpha1.DBUpgrade) {
			o.Status.Attempt.Phase, o.Status.Attempt.Reason = v1alpha1.AttemptFailed, v1alpha1.ReasonJobFailed
		}, unfinalized, back), "9 applied"},
		"B is applied": {of(isApplied, edited, record, func(o *v1alpha1.DBUpgrade) { o.Status.Revision = o.Status.Attempt.Revision }, unfinalized, back), "16 start"},
	} {
		t.Run(name, func(t *testing.T) {
			d := decide(t, 1, builders.DBUpgrade(c.obj...))
			if d.Row != c.row {
				t.Errorf("row %q", d.Row)
			}
			if d.Row == "16 start" && d.Status.Attempt.Number != 3 {
				t.Errorf("attempt %d", d.Status.Attempt.Number)
			}
		})
	}
}

// TestAdoption: status may be wiped, or rolled back by a restore; the Jobs then tell what must not run again.
func TestAdoption(t *testing.T) {
	wiped := func(o *v1alpha1.DBUpgrade) { o.Status = v1alpha1.DBUpgradeStatus{} }
	sixth := func(o *v1alpha1.DBUpgrade) { o.Status.Attempt.Number, o.Status.Attempt.JobUID = 6, "job-6" }
	marked := func(j *upgrade.Job) { j.Retry = "again" }
	planning := func(j *upgrade.Job) { j.Retry, j.Resolve, j.Mode = "again", "redo:ABCDEF23", v1alpha1.ModePlan }
	for name, c := range map[string]struct {
		obj   []builders.Option
		jobs  []upgrade.Job
		row   string
		phase v1alpha1.AttemptPhase
	}{
		"planned":             {of(toPlan, wiped), []upgrade.Job{seenJob(7, 0, with(success), finished, planning)}, "3 outcome", v1alpha1.AttemptSucceeded},
		"planned, now apply":  {of(wiped), []upgrade.Job{seenJob(7, 0, with(success), finished, planning)}, "3 outcome", v1alpha1.AttemptSucceeded},
		"planning":            {of(toPlan, wiped), []upgrade.Job{seenJob(7, upgrade.StageRunning, planning)}, "4 running", v1alpha1.AttemptRunning},
		"running":             {of(wiped), []upgrade.Job{seenJob(7, upgrade.StageRunning, marked)}, "4 running", v1alpha1.AttemptRunning},
		"pending":             {of(wiped), []upgrade.Job{seenJob(7, upgrade.StagePending, marked)}, "7 pending", v1alpha1.AttemptPending},
		"new":                 {of(wiped), []upgrade.Job{seenJob(7, upgrade.StageNew, marked)}, "8 new", v1alpha1.AttemptNew},
		"succeeded":           {of(wiped), []upgrade.Job{seenJob(7, 0, with(success), finished, marked)}, "3 outcome", v1alpha1.AttemptSucceeded},
		"failed, the last of": {of(wiped), []upgrade.Job{seenJob(7, 0, with(refused), finished, marked), seenJob(6, 0, with(success), finished)}, "3 outcome", v1alpha1.AttemptFailed},
		"rolled back":         {of(attempted(v1alpha1.AttemptPending), sixth), []upgrade.Job{seenJob(6, 0, with(cutOff), finished), seenJob(7, upgrade.StageRunning, marked)}, "4 running", v1alpha1.AttemptRunning},
	} {
		t.Run(name, func(t *testing.T) {
			obj := builders.DBUpgrade(c.obj...)
			d := decide(t, 1, obj, c.jobs...)
			a := d.Status.Attempt
			if d.Row != c.row || a == nil || a.Phase != c.phase {
				t.Fatalf("row %q, attempt %+v", d.Row, a)
			}
			if ready(d.Status).Reason == v1alpha1.ReasonPlanComplete && obj.Spec.Mode != v1alpha1.ModePlan {
				t.Error("a plan is the end, and another end is asked for")
			}
			if a.Number != 7 || a.Job != seenJob(7, 0).Name || a.Generation != 1 || a.Retry != "again" {
				t.Errorf("got %+v", a)
			}
			if a.JobUID != "job-7" {
				t.Errorf("the Job's UID is not latched: %+v", a)
			}
			job := slices.MaxFunc(c.jobs, func(a, b upgrade.Job) int { return int(a.Attempt - b.Attempt) })
			if a.Mode != job.Mode || a.Resolve != job.Resolve {
				t.Errorf("mode %q, resolve %q", a.Mode, a.Resolve)
			}
			if applied := d.Status.Revision != ""; applied != (c.phase == v1alpha1.AttemptSucceeded && job.Mode != v1alpha1.ModePlan) {
				t.Errorf("revision %q", d.Status.Revision)
			}
		})
	}
}

// TestNumbersGoUp: no number is given twice, even where only a Job remembers it.
func TestNumbersGoUp(t *testing.T) {
	d := decide(t, 1, builders.DBUpgrade(isApplied, unfinalized, edited), seenJob(1, upgrade.StageDone, finished), seenJob(0, upgrade.StageDone, finished))
	if d.Status.Attempt.Number != 2 {
		t.Errorf("attempt %d", d.Status.Attempt.Number)
	}
}

func TestHistory(t *testing.T) {
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptRunning))
	for n := int64(1); n <= 14; n++ {
		a := obj.Status.Attempt
		a.Number, a.Phase, a.JobUID = n, v1alpha1.AttemptRunning, types.UID(fmt.Sprintf("job-%d", n))
		obj.Status = decide(t, int(n), obj, seenJob(n, 0, with(refused))).Status
	}
	var got []int64
	for _, e := range obj.Status.History {
		got = append(got, e.Attempt)
		if e.Result != v1alpha1.AttemptFailed || e.Version != "" || e.CompletedAt.IsZero() || e.Image != fetchedImage {
			t.Errorf("got %+v", e)
		}
	}
	if diff := cmp.Diff([]int64{14, 13, 12, 11, 10, 9, 8, 7, 6, 5}, got); diff != "" {
		t.Error(diff)
	}
}

// TestHistoryOfASecondEnd: a Job that was given up may have started at that moment; the later end replaces the first.
func TestHistoryOfASecondEnd(t *testing.T) {
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptPending))
	for second, job := range []upgrade.Job{
		seenJob(1, upgrade.StagePending, in(unpullable), func(j *upgrade.Job) { obj.Status.Attempt.Since = at(-120) }),
		seenJob(1, upgrade.StageRunning), seenJob(1, 0, with(success)),
	} {
		obj.Status = decide(t, second, obj, job).Status
	}
	if len(obj.Status.History) != 1 || obj.Status.History[0].Result != v1alpha1.AttemptSucceeded || obj.Status.Revision == "" {
		t.Errorf("got %+v", obj.Status.History)
	}
}

// TestVersionIsCarried: where an attempt did not come so far as to look, the database is still at the version last seen.
func TestVersionIsCarried(t *testing.T) {
	before := func(o *v1alpha1.DBUpgrade) {
		o.Status.Migration = &v1alpha1.MigrationStatus{CurrentVersion: "1", TargetVersion: "1", Total: 1, Applied: []v1alpha1.AppliedFile{{Version: "1"}}}
	}
	unreached := result.Failed(v1alpha1.Failure{Class: v1alpha1.ImagePullFailed, Error: "401"})
	empty := result.Result{Migration: &v1alpha1.MigrationStatus{TargetVersion: "2", Pending: 2, Total: 2}}
	for name, c := range map[string]struct {
		outcome upgrade.Outcome
		want    *v1alpha1.MigrationStatus
	}{
		"migrated":               {success, applied.Migration},
		"success without a word": {upgrade.Outcome{Succeeded: true, Message: "done"}, &v1alpha1.MigrationStatus{}},
		"fetch failed":           {outcome(v1alpha1.ImagePullFailed, "401", unreached), &v1alpha1.MigrationStatus{CurrentVersion: "1", Failure: unreached.Failure()}},
		"no report":              {outcome(v1alpha1.Interrupted, "killed", result.Result{}), &v1alpha1.MigrationStatus{CurrentVersion: "1", Failure: &v1alpha1.Failure{Class: v1alpha1.Interrupted, Error: "killed"}}},
		"an empty database": {outcome(v1alpha1.Interrupted, "told to end", empty), &v1alpha1.MigrationStatus{TargetVersion: "2", Pending: 2, Total: 2,
			Failure: &v1alpha1.Failure{Class: v1alpha1.Interrupted, Error: "told to end"}}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := builders.DBUpgrade(attempted(v1alpha1.AttemptRunning), before)
			if diff := cmp.Diff(c.want, decide(t, 1, obj, seenJob(1, 0, with(c.outcome))).Status.Migration); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOutcomeWithoutTime: what the kubelet did not time ended when it was seen.
func TestOutcomeWithoutTime(t *testing.T) {
	lost := refused
	lost.EndedAt = metav1.Time{}
	status := decide(t, 77, builders.DBUpgrade(attempted(v1alpha1.AttemptRunning)), seenJob(1, 0, with(lost))).Status
	if want := at(77); !status.CompletedAt.Equal(&want) || !status.History[0].CompletedAt.Equal(&want) {
		t.Errorf("ended at %s and %s", status.CompletedAt, status.History[0].CompletedAt)
	}
}

// TestNewAttemptForgets: what status says of an attempt is not said of the next.
func TestNewAttemptForgets(t *testing.T) {
	obj := builders.DBUpgrade(isApplied, func(o *v1alpha1.DBUpgrade) {
		o.Status.StartedAt, o.Status.CompletedAt, o.Status.Image = ptr.To(at(1)), ptr.To(at(2)), fetchedImage
	}, edited)
	before := obj.Status.Revision
	status := decide(t, 5, obj).Status
	if status.StartedAt != nil || status.CompletedAt != nil || status.Image != "" || status.Attempt.JobUID != "" || status.Attempt.Message != "" {
		t.Errorf("got %+v", status)
	}
	if status.Revision != before {
		t.Error("the applied revision is forgotten")
	}
}

// TestDecideIsPure: the same observation, its Jobs in any order, makes the same decision, and stays as it was.
func TestDecideIsPure(t *testing.T) {
	jobs := []upgrade.Job{seenJob(1, upgrade.StagePending, in(unpullable)), seenJob(0, upgrade.StageDone, finished), seenJob(-1, upgrade.StageNew), seenJob(-2, upgrade.StagePending)}
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptPending))
	before := obj.DeepCopy()
	want := decide(t, 1, obj, jobs...)
	slices.Reverse(jobs)
	given := slices.Clone(jobs)
	if diff := cmp.Diff(want, decide(t, 1, obj, jobs...)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, obj); diff != "" {
		t.Errorf("the object changed: %s", diff)
	}
	if diff := cmp.Diff(given, jobs); diff != "" {
		t.Errorf("the Jobs changed: %s", diff)
	}
}
