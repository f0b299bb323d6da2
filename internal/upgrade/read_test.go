// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

const jobName = "app-16b81fda-1" // attempt 1 of team/app

// at is a time after the Job was made.
func at(seconds int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(seconds) * time.Second))
}

// newJob is the Job of attempt 1 as the API server would store it, released.
func newJob(options ...func(*batchv1.Job)) *batchv1.Job {
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew))
	job := upgrade.BuildJob(obj, upgrade.RunnerConfig{Image: "operator.test/runner:v1"})
	job.UID, job.ResourceVersion, job.CreationTimestamp = "job-1", "7", at(0)
	job.Spec.Suspend = ptr.To(false)
	for _, option := range options {
		option(job)
	}
	return job
}

func suspended(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) }

func deletedJob(j *batchv1.Job) { j.DeletionTimestamp = ptr.To(at(50)) }

func complete(j *batchv1.Job) {
	j.Status.CompletionTime = ptr.To(at(100))
	j.Status.Conditions = append(j.Status.Conditions,
		batchv1.JobCondition{Type: batchv1.JobSuspended, Status: corev1.ConditionFalse},
		batchv1.JobCondition{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue},
		batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: at(100)})
}

func failed(reason, message string) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = append(j.Status.Conditions,
			batchv1.JobCondition{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: at(90)},
			batchv1.JobCondition{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: at(100)})
	}
}

var failedInTheEnd = failed(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")

// newPod is a pod of that Job, made so many seconds after it, whose containers wait as they do at first.
func newPod(seconds int, options ...func(*corev1.Pod)) corev1.Pod {
	initializing := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: jobName + "-" + string(rune('a'+seconds%26)) + "7k2p", CreationTimestamp: at(seconds),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: jobName, UID: "job-1", Controller: ptr.To(true)}}},
		Status: corev1.PodStatus{
			Phase:                 corev1.PodPending,
			Conditions:            []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: upgrade.FetchContainer, Image: "operator.test/runner:v1", State: initializing}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: upgrade.MigrateContainer, Image: "operator.test/runner:v1", State: initializing}},
		},
	}
	for _, option := range options {
		option(&p)
	}
	return p
}

// unreported is a pod that no kubelet has seen yet.
func unreported(p *corev1.Pod) { p.Status = corev1.PodStatus{} }

func disowned(p *corev1.Pod) { p.OwnerReferences = nil }

func fetchIs(state corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].State = state }
}

func migrateIs(state corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State = state }
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func runningSince(seconds int) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(seconds)}}
}

// exited is a container that ran from one second to another.
func exited(from, to int, code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		StartedAt: at(from), FinishedAt: at(to), ExitCode: code, Reason: reason, Message: message,
	}}
}

const fetchedImage = "registry.test/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fetched: fetch is through, and migrate about to start.
func fetched(p *corev1.Pod) {
	fetchIs(exited(1, 2, 0, "Completed", string(result.Result{Image: fetchedImage}.Encode())))(p)
}

// migrating since second 3.
func migrating(p *corev1.Pod) {
	fetched(p)
	migrateIs(runningSince(3))(p)
	p.Status.Phase = corev1.PodRunning
}

// migrated from second 3 to 9. The kubelet tells a container's end some time before the pod's.
func migrated(code int32, reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		migrating(p)
		migrateIs(exited(3, 9, code, reason, message))(p)
	}
}

func ended(p *corev1.Pod) {
	p.Status.Phase = corev1.PodFailed
	if t := p.Status.ContainerStatuses[0].State.Terminated; t != nil && t.ExitCode == 0 {
		p.Status.Phase = corev1.PodSucceeded
	}
}

// sidecar is a container that somebody has injected, and that goes on.
func sidecar(p *corev1.Pod) {
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "mesh", State: runningSince(1)})
}

// dueAt gives a Job a deadline of its own.
func dueAt(t metav1.Time) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Spec.ActiveDeadlineSeconds = ptr.To[int64](60)
		j.Status.StartTime = ptr.To(metav1.NewTime(t.Add(-time.Minute)))
	}
}

func terminating(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(at(60)) }

func disrupted(p *corev1.Pod) {
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"})
}

func unschedulable(message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		}}}
	}
}

func failedCreate(seconds int, message string) corev1.Event {
	return corev1.Event{Reason: "FailedCreate", LastTimestamp: at(seconds), Message: message}
}

func failure(class v1alpha1.FailureClass, text string) result.Result {
	return result.Failed(v1alpha1.Failure{Class: class, Error: text})
}

var (
	applied = result.Result{Migration: &v1alpha1.MigrationStatus{
		CurrentVersion: "2", TargetVersion: "2", Total: 2, Applied: []v1alpha1.AppliedFile{{Version: "2", Statements: 1}},
	}}
	statementFailed = result.Failed(v1alpha1.Failure{
		Class: v1alpha1.StatementFailed, File: "2_users.sql", Statement: 3, SQLState: "42P01", Error: `relation "users" does not exist`,
	})
)

func outcome(class v1alpha1.FailureClass, message string, r result.Result) upgrade.Outcome {
	return upgrade.Outcome{Class: result.ClassOf(class), Message: message, Result: r, EndedAt: at(9)}
}

func succeeded(message string, r result.Result) upgrade.Outcome {
	return upgrade.Outcome{Succeeded: true, Message: message, Result: r, EndedAt: at(9)}
}

type readCase struct {
	job    *batchv1.Job
	pods   []corev1.Pod
	events []corev1.Event
	want   upgrade.Job
}

func (c readCase) check(t *testing.T) {
	t.Helper()
	want := c.want
	want.Name, want.UID, want.ResourceVersion, want.CreatedAt = jobName, "job-1", "7", at(0).Time
	want.Attempt, want.Revision, want.Generation = 1, upgrade.Revision(&builders.DBUpgrade().Spec), 1
	want.Alive = anyAlive(c.pods)
	if diff := cmp.Diff(want, upgrade.ReadJob(c.job, c.pods, c.events)); diff != "" {
		t.Error(diff)
	}
}

func pods(p ...corev1.Pod) []corev1.Pod { return p }

func anyAlive(pods []corev1.Pod) bool {
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool { return upgrade.Alive(&p) })
}

func TestReadJobStages(t *testing.T) {
	silent := &upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "the pod of Job " + jobName + " does not start; its events tell why"}
	for name, c := range map[string]readCase{
		"new":                   {job: newJob(suspended), want: upgrade.Job{Stage: upgrade.StageNew}},
		"new and being deleted": {job: newJob(suspended, deletedJob), want: upgrade.Job{Stage: upgrade.StageNew, Terminating: true}},
		"suspended again, its pod still there": {job: newJob(suspended), pods: pods(newPod(1, terminating)),
			want: upgrade.Job{Stage: upgrade.StagePending, Terminating: true, Trouble: silent}},
		"released, no pod yet": {job: newJob(),
			want: upgrade.Job{Stage: upgrade.StagePending, Trouble: &upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "Job " + jobName + " has no pod"}}},
		"pod without status":           {job: newJob(), pods: pods(newPod(1, unreported)), want: upgrade.Job{Stage: upgrade.StagePending, Trouble: silent}},
		"pulling the runner":           {job: newJob(), pods: pods(newPod(1)), want: upgrade.Job{Stage: upgrade.StagePending, Trouble: silent}},
		"fetching, for however long":   {job: newJob(), pods: pods(newPod(1, fetchIs(runningSince(2)))), want: upgrade.Job{Stage: upgrade.StagePending}},
		"fetched":                      {job: newJob(), pods: pods(newPod(1, fetched)), want: upgrade.Job{Stage: upgrade.StagePending, Image: fetchedImage}},
		"fetched, what it says is cut": {job: newJob(), pods: pods(newPod(1, fetchIs(exited(1, 2, 0, "Completed", `{"image":"reg`)))), want: upgrade.Job{Stage: upgrade.StagePending}},
		"running":                      {job: newJob(), pods: pods(newPod(1, migrating)), want: upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage}},
		"running, deleted": {job: newJob(deletedJob), pods: pods(newPod(1, migrating, terminating)),
			want: upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage, Terminating: true}},
		"running although the Job is suspended": {job: newJob(suspended), pods: pods(newPod(1, migrating, terminating)),
			want: upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage, Terminating: true}},
		"running although the Job has failed": {job: newJob(failed(batchv1.JobReasonDeadlineExceeded, "x")), pods: pods(newPod(1, migrating, terminating)),
			want: upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage, Terminating: true}},
		"a lost node's pod, declared dead": {job: newJob(), pods: pods(newPod(1, migrating, disrupted, ended)),
			want: upgrade.Job{Stage: upgrade.StagePending, StartedAt: ptr.To(at(3)), Image: fetchedImage, Trouble: noPod}},
	} {
		t.Run(name, c.check)
	}
}

// TestReadJobOutcome: which terminations count, when, and what they say.
// heldOpen is said of a pod that goes on after a failure that only the end of the Job makes final.
const heldOpen = "the migration has ended, and another container keeps its pod from ending"

// noPod is for a released Job whose pods are dead or not there yet, while nobody says why there is no other.
var noPod = &upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "Job " + jobName + " has no pod"}

func TestReadJobOutcome(t *testing.T) {
	interrupted := failure(v1alpha1.Interrupted, "told to end")
	ran := upgrade.Job{StartedAt: ptr.To(at(3)), Image: fetchedImage}
	with := func(stage upgrade.Stage, finished bool, o upgrade.Outcome) upgrade.Job {
		j := ran
		j.Stage, j.Finished, j.Outcome = stage, finished, o
		return j
	}
	for name, c := range map[string]readCase{
		"success, the pod has not ended": {job: newJob(), pods: pods(newPod(1, migrated(0, "Completed", string(applied.Encode())))),
			want: with(upgrade.StageDone, false, succeeded("The database is at version 2", applied))},
		"success, the Job has not ended": {job: newJob(), pods: pods(newPod(1, migrated(0, "Completed", string(applied.Encode())), ended)),
			want: with(upgrade.StageDone, false, succeeded("The database is at version 2", applied))},
		"success": {job: newJob(complete), pods: pods(newPod(1, migrated(0, "Completed", string(applied.Encode())), ended)),
			want: with(upgrade.StageDone, true, succeeded("The database is at version 2", applied))},
		"complete while a pod is alive is not finished": {job: newJob(complete), pods: pods(newPod(1, migrated(0, "Completed", string(applied.Encode())))),
			want: with(upgrade.StageDone, false, succeeded("The database is at version 2", applied))},
		"success without words": {job: newJob(), pods: pods(newPod(1, migrated(0, "Completed", ""))),
			want: with(upgrade.StageDone, false, succeeded("The migrations are applied", result.Result{}))},
		"success in words that are no result": {job: newJob(), pods: pods(newPod(1, migrated(0, "Completed", "bye"))),
			want: with(upgrade.StageDone, false, succeeded("The migrations are applied", result.Result{}))},
		"a failure that needs a person counts at once": {job: newJob(), pods: pods(newPod(1, migrated(10, "Error", string(statementFailed.Encode())))),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.StatementFailed, `2_users.sql, statement 3: relation "users" does not exist (SQLSTATE 42P01)`, statementFailed))},
		"and stays so when the node is drained at that moment": {job: newJob(), pods: pods(newPod(1, migrated(10, "Error", string(statementFailed.Encode())), disrupted, ended)),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.StatementFailed, `2_users.sql, statement 3: relation "users" does not exist (SQLSTATE 42P01)`, statementFailed))},
		"a pod that only looks like the Job's is not believed": {job: newJob(), pods: pods(newPod(1, migrated(0, "Completed", string(applied.Encode())), disowned, ended)),
			want: func() upgrade.Job {
				j := with(upgrade.StagePending, false, upgrade.Outcome{})
				j.Trouble, j.StartedAt, j.Image = noPod, nil, ""
				return j
			}()},
		"a retryable failure counts when its pod has failed": {job: newJob(), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), ended)),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.Interrupted, "told to end", interrupted))},
		"but not where the Job replaces the pod": {job: newJob(), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), disrupted, ended)),
			want: func() upgrade.Job {
				j := with(upgrade.StagePending, false, upgrade.Outcome{})
				j.Trouble = noPod
				return j
			}()},
		"nor where the Job's own deadline may have ended it": {job: newJob(dueAt(at(30))), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), ended)),
			want: func() upgrade.Job {
				j := with(upgrade.StagePending, false, upgrade.Outcome{})
				j.Trouble = noPod
				return j
			}()},
		"as long before it it cannot have": {job: newJob(dueAt(at(3000))), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), ended)),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.Interrupted, "told to end", interrupted))},
		"until its pod has failed too, it is running": {job: newJob(failedInTheEnd), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), terminating)),
			want: func() upgrade.Job {
				j := with(upgrade.StageRunning, false, upgrade.Outcome{})
				j.Terminating = true
				return j
			}()},
		"unless another container goes on": {job: newJob(), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), sidecar)),
			want: func() upgrade.Job {
				j := with(upgrade.StagePending, false, upgrade.Outcome{})
				j.Trouble = &upgrade.Trouble{Reason: v1alpha1.ReasonInterrupted, What: heldOpen, Detail: "told to end"}
				j.Held = ptr.To(outcome(v1alpha1.Interrupted, "told to end", interrupted))
				return j
			}()},
		"the Job's own deadline, with the pod there": {job: newJob(failed(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")), pods: pods(newPod(1, migrated(137, "Error", ""), ended)),
			want: with(upgrade.StageDone, true, outcome(v1alpha1.DeadlineExceeded,
				"Job "+jobName+" was ended after 0 seconds, its deadline: container migrate ended with exit code 137 (Error) and left no result", result.Result{}))},
		"a retryable failure": {job: newJob(failedInTheEnd), pods: pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), ended)),
			want: with(upgrade.StageDone, true, outcome(v1alpha1.Interrupted, "told to end", interrupted))},
		"killed for want of memory": {job: newJob(failedInTheEnd), pods: pods(newPod(1, migrated(137, "OOMKilled", ""), ended)),
			want: with(upgrade.StageDone, true, outcome(v1alpha1.Interrupted, "container migrate ended with exit code 137 (OOMKilled) and left no result: raise spec.runner.resources.limits.memory", result.Result{}))},
		"killed without a reason": {job: newJob(failedInTheEnd), pods: pods(newPod(1, migrated(137, "", ""), ended)),
			want: with(upgrade.StageDone, true, outcome(v1alpha1.Interrupted, "container migrate ended with exit code 137 (no reason given) and left no result", result.Result{}))},
		"a panic counts at once": {job: newJob(), pods: pods(newPod(1, migrated(2, "Error", "panic: runtime error: index out of range [3]\n\ngoroutine 1 [running]:"))),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.Internal,
				"container migrate ended with exit code 2 (Error) and left no result: panic: runtime error: index out of range [3]\n\ngoroutine 1 [running]:", result.Result{}))},
		"cannot be started": {job: newJob(failedInTheEnd), pods: pods(newPod(1, migrated(128, "StartError", `exec: "/runner": permission denied`), ended)),
			want: with(upgrade.StageDone, true, outcome(v1alpha1.Interrupted,
				`container migrate ended with exit code 128 (StartError) and left no result: exec: "/runner": permission denied`, result.Result{}))},
		"a result of an unknown class is told by its exit code": {job: newJob(), pods: pods(newPod(1, migrated(13, "Error", `{"migration":{"failure":{"class":"Novel"}}}`))),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.InDoubt,
				`container migrate ended with exit code 13 (Error) and left no result: {"migration":{"failure":{"class":"Novel"}}}`, result.Result{}))},
		"a success of which the runtime lost the exit code": {job: newJob(failedInTheEnd), pods: pods(newPod(1, migrated(255, "Unknown", string(applied.Encode())), ended)),
			want: with(upgrade.StageDone, true, succeeded("The database is at version 2", applied))},
		"the report goes before the exit code": {job: newJob(), pods: pods(newPod(1, migrated(137, "Error", string(statementFailed.Encode())))),
			want: with(upgrade.StageDone, false, outcome(v1alpha1.StatementFailed, `2_users.sql, statement 3: relation "users" does not exist (SQLSTATE 42P01)`, statementFailed))},
	} {
		t.Run(name, c.check)
	}
}

func TestReadJobFetchFailure(t *testing.T) {
	invalid, unreachable := failure(v1alpha1.ImageInvalid, "/migrations is not in the image"), failure(v1alpha1.ImagePullFailed, "401 Unauthorized")
	fetchFailed := func(code int32, r result.Result) func(*corev1.Pod) {
		return fetchIs(exited(1, 9, code, "Error", string(r.Encode())))
	}
	for name, c := range map[string]readCase{
		"the image is not right": {job: newJob(), pods: pods(newPod(1, fetchFailed(15, invalid))),
			want: upgrade.Job{Stage: upgrade.StageDone, Outcome: outcome(v1alpha1.ImageInvalid, "/migrations is not in the image", invalid)}},
		"the registry refuses, the pod is about to fail": {job: newJob(), pods: pods(newPod(1, fetchFailed(30, unreachable))), want: upgrade.Job{Stage: upgrade.StagePending,
			Trouble: &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: heldOpen}, Held: ptr.To(outcome(v1alpha1.ImagePullFailed, "401 Unauthorized", unreachable))}},
		"the registry refuses, another container goes on": {job: newJob(), pods: pods(newPod(1, fetchFailed(30, unreachable), sidecar)), want: upgrade.Job{Stage: upgrade.StagePending,
			Trouble: &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: heldOpen, Detail: "401 Unauthorized"}, Held: ptr.To(outcome(v1alpha1.ImagePullFailed, "401 Unauthorized", unreachable))}},
		"the registry refuses": {job: newJob(failedInTheEnd), pods: pods(newPod(1, fetchFailed(30, unreachable), ended)),
			want: upgrade.Job{Stage: upgrade.StageDone, Finished: true, Outcome: outcome(v1alpha1.ImagePullFailed, "401 Unauthorized", unreachable)}},
		"out of memory": {job: newJob(failedInTheEnd), pods: pods(newPod(1, fetchIs(exited(1, 9, 137, "OOMKilled", "")), ended)),
			want: upgrade.Job{Stage: upgrade.StageDone, Finished: true,
				Outcome: outcome(v1alpha1.Interrupted, "container fetch-migrations ended with exit code 137 (OOMKilled) and left no result: raise spec.runner.resources.limits.memory", result.Result{})}},
	} {
		t.Run(name, c.check)
	}
}

// byUpstream makes a pod one in which crane pulls the image and the Atlas CLI applies the migrations.
func byUpstream(export corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec = build(upgrade.RunnerConfig{CraneImage: "crane", AtlasImage: "atlas"}).Spec.Template.Spec
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, corev1.ContainerStatus{Name: upgrade.ExportContainer, State: export})
	}
}

// TestReadJobUpstream quotes crane v0.22 and the Atlas CLI v0.13.
func TestReadJobUpstream(t *testing.T) {
	const progress = "Migrating to version 2 (1 migrations in total):\n\n  -- migrating version 2\n    -> INSERT INTO a VALUES ('private');\n    pq: division by zero\n\n"
	exported := exited(0, 1, 0, "Completed", "")
	atlas := func(code int32, reason, log string) []corev1.Pod {
		return pods(newPod(1, byUpstream(exported), fetchIs(exited(1, 2, 0, "Completed", "{}")), migrateIs(exited(3, 9, code, reason, log)), ended))
	}
	crane := func(code int32, reason, log string) []corev1.Pod {
		return pods(newPod(1, byUpstream(exited(0, 9, code, reason, log)), ended))
	}
	for name, c := range map[string]struct {
		pods    []corev1.Pod
		class   v1alpha1.FailureClass // "" for success
		message string
	}{
		"applied": {atlas(0, "Completed", ""), "", "The migrations are applied; the log of the Atlas CLI tells which"},
		"statement": {atlas(1, "Error", progress+`Error: sql/migrate: executing statement "INSERT INTO a\n VALUES ('private');" from version "2": pq: division by zero`), v1alpha1.StatementFailed,
			`Error: executing a statement from version "2": pq: division by zero`},
		"statement whose beginning is cut off": {atlas(1, "Error", `'private', 'private');" from version "2": pq: division by zero`), v1alpha1.StatementFailed,
			`Error: executing a statement from version "2": pq: division by zero`},
		"URL": {atlas(1, "Error", `Error: sql/sqlclient: parse open url: parse "postgres://u:private": invalid port ":private" after host`), v1alpha1.DatabaseUnreachable,
			"Error: sql/sqlclient: parse open url: the URL cannot be parsed"},
		"no URL": {atlas(1, "Error", `Error: required flag "url" not set`), v1alpha1.DatabaseUnreachable, `Error: required flag "url" not set`},
		"a URL that is told": {atlas(1, "Error", `Error: cannot use "postgres://u:pri/vate@h/db?password=private" with password = private`), v1alpha1.Internal,
			`Error: cannot use "postgres://h/db?…" with password=***`},
		"no server": {atlas(1, "Error", "Error: postgres: scanning system variables: dial tcp 127.0.0.1:1: connect: connection refused"), v1alpha1.DatabaseUnreachable,
			"Error: postgres: scanning system variables: dial tcp 127.0.0.1:1: connect: connection refused"},
		"lock":                             {atlas(1, "Error", "Error: acquiring database lock: sql/schema: lock is held by other session\n"), v1alpha1.LockTimeout, "Error: acquiring database lock: sql/schema: lock is held by other session"},
		"checksum":                         {atlas(1, "Error", "You have a checksum error in your migration directory.\nError: checksum mismatch\n"), v1alpha1.IntegrityFailed, "Error: checksum mismatch"},
		"unknown":                          {atlas(1, "Error", progress), v1alpha1.Internal, "container migrate ended with exit code 1 (Error)"},
		"told to end as the first process": {atlas(2, "Error", progress), v1alpha1.Interrupted, "container migrate ended with exit code 2 (Error)"},
		"killed":                           {atlas(137, "OOMKilled", progress), v1alpha1.Interrupted, "container migrate ended with exit code 137 (OOMKilled)"},
		"no result of ours":                {atlas(1, "Error", `{"migration":{"failure":{"class":"LockTimeout","error":"x"}}}`), v1alpha1.Internal, "container migrate ended with exit code 1 (Error)"},

		"no such tag": {crane(1, "Error", "2026/01/01 00:00:00 retrying\nError: pulling registry.test/app:v9: GET http://u:private@registry.test/v2/app/manifests/v9?token=private: MANIFEST_UNKNOWN: manifest unknown; map[Tag:v9]\n"), v1alpha1.ImagePullFailed,
			"Error: pulling registry.test/app:v9: GET http://registry.test/v2/app/manifests/v9?… MANIFEST_UNKNOWN: manifest unknown; map[Tag:v9]"},
		"crane says nothing": {crane(1, "Error", ""), v1alpha1.ImagePullFailed, "container export-image ended with exit code 1 (Error)"},
		"crane is killed":    {crane(137, "Error", ""), v1alpha1.Interrupted, "container export-image ended with exit code 137 (Error)"},
	} {
		t.Run(name, func(t *testing.T) {
			want := upgrade.Outcome{Succeeded: c.class == "", Message: c.message, EndedAt: at(9)}
			if c.class != "" {
				want.Class = result.ClassOf(c.class)
			}
			job := upgrade.ReadJob(newJob(failedInTheEnd), c.pods, nil)
			if diff := cmp.Diff(want, job.Outcome); diff != "" || job.Stage != upgrade.StageDone {
				t.Errorf("stage %d: %s", job.Stage, diff)
			}
		})
	}
	if job := upgrade.ReadJob(newJob(), pods(newPod(1, byUpstream(runningSince(1)))), nil); job.Trouble != nil {
		t.Errorf("while crane exports: %+v", job.Trouble)
	}
}

// TestReadJobImageVolume: the kubelet says of the container that mounts an image what it would say of the container's own.
func TestReadJobImageVolume(t *testing.T) {
	const (
		backOff = `Back-off pulling image "registry.test/app:v1": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image "registry.test/app:v1": registry.test/app:v1: not found`
		own     = `Back-off pulling image "operator.test/runner:v1": ErrImagePull: rpc error: code = Unavailable`
		mount   = `failed to resolve image "registry.test/app:v1": not found`
	)
	for name, c := range map[string]struct {
		reason, message string
		want            *upgrade.Trouble
	}{
		"of the volume":         {"ImagePullBackOff", backOff, &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: "container migrate: image registry.test/app:v1 cannot be pulled", Detail: backOff}},
		"its own":               {"ImagePullBackOff", own, &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: "container migrate: image operator.test/runner:v1 cannot be pulled", Detail: own}},
		"a runtime that cannot": {"CreateContainerError", mount, &upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "container migrate cannot be started", Detail: mount}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(1, migrateIs(waiting(c.reason, c.message)), func(p *corev1.Pod) {
				p.Spec, p.Status.InitContainerStatuses = build(upgrade.RunnerConfig{}, imageVolume).Spec.Template.Spec, nil
			})
			if diff := cmp.Diff(c.want, upgrade.ReadJob(newJob(), pods(pod), nil).Trouble); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReadJobEviction: a pod that is evicted is replaced within the Job, and only the replacement's end is the attempt's.
func TestReadJobEviction(t *testing.T) {
	evicted := newPod(1, migrated(33, "Error", string(failure(v1alpha1.Interrupted, "told to end").Encode())), disrupted, ended)
	later := func(p *corev1.Pod) {
		migrating(p)
		migrateIs(runningSince(20))(p)
	}
	for name, c := range map[string]readCase{
		"no replacement yet": {job: newJob(), pods: pods(evicted),
			want: upgrade.Job{Stage: upgrade.StagePending, StartedAt: ptr.To(at(3)), Image: fetchedImage, Trouble: noPod}},
		"the replacement fetches": {job: newJob(), pods: pods(evicted, newPod(15, fetchIs(runningSince(16)))),
			want: upgrade.Job{Stage: upgrade.StagePending, StartedAt: ptr.To(at(3)), Image: fetchedImage}},
		"the replacement cannot start": {job: newJob(), pods: pods(newPod(15, fetchIs(waiting("ErrImagePull", "x"))), evicted),
			want: upgrade.Job{Stage: upgrade.StagePending, StartedAt: ptr.To(at(3)), Image: fetchedImage, Trouble: &upgrade.Trouble{
				Reason: v1alpha1.ReasonImagePullFailed, What: "container fetch-migrations: image operator.test/runner:v1 cannot be pulled", Detail: "x"}}},
		"the replacement runs": {job: newJob(), pods: pods(evicted, newPod(15, later)),
			want: upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage}},
		"the replacement succeeds": {job: newJob(complete), pods: pods(evicted, newPod(15, migrated(0, "Completed", string(applied.Encode())), ended)),
			want: upgrade.Job{Stage: upgrade.StageDone, Finished: true, StartedAt: ptr.To(at(3)), Image: fetchedImage, Outcome: succeeded("The database is at version 2", applied)}},
		"the replacement fails too, told in any order": {job: newJob(failedInTheEnd),
			pods: pods(newPod(15, migrated(31, "Error", string(failure(v1alpha1.DatabaseUnreachable, "connection refused").Encode())), ended), evicted),
			want: upgrade.Job{Stage: upgrade.StageDone, Finished: true, StartedAt: ptr.To(at(3)), Image: fetchedImage,
				Outcome: outcome(v1alpha1.DatabaseUnreachable, "connection refused", failure(v1alpha1.DatabaseUnreachable, "connection refused"))}},
		"the evicted pod had already succeeded": {job: newJob(), pods: pods(newPod(1, migrated(0, "Completed", string(applied.Encode())), disrupted, ended)),
			want: upgrade.Job{Stage: upgrade.StageDone, StartedAt: ptr.To(at(3)), Image: fetchedImage, Outcome: succeeded("The database is at version 2", applied)}},
	} {
		t.Run(name, c.check)
	}
}

func TestReadJobWithoutPods(t *testing.T) {
	for name, c := range map[string]struct {
		job       func(*batchv1.Job)
		succeeded bool
		class     v1alpha1.FailureClass
		message   string
	}{
		"complete": {job: complete, succeeded: true, message: "The migrations are applied; no pod is left that reports which"},
		"complete, no time given": {job: func(j *batchv1.Job) { complete(j); j.Status.CompletionTime = nil }, succeeded: true,
			message: "The migrations are applied; no pod is left that reports which"},
		"deadline": {job: failed(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"), class: v1alpha1.DeadlineExceeded,
			message: "no pod of Job app-16b81fda-1 reports how it ended; the Job says DeadlineExceeded: Job was active longer than specified deadline"},
		"an exit code that needs a person": {class: v1alpha1.Internal,
			job:     failed(batchv1.JobReasonPodFailurePolicy, "Container migrate for pod team/app-16b81fda-1-x7k2p failed with exit code 10 matching FailJob rule at index 0"),
			message: "no pod of Job app-16b81fda-1 reports how it ended; the Job says PodFailurePolicy: Container migrate for pod team/app-16b81fda-1-x7k2p failed with exit code 10 matching FailJob rule at index 0"},
		"backoff limit": {job: failedInTheEnd, class: v1alpha1.Interrupted,
			message: "no pod of Job app-16b81fda-1 reports how it ended; the Job says BackoffLimitExceeded: Job has reached the specified backoff limit"},
		"some reason of a later Kubernetes": {job: failed("Novel", "because"), class: v1alpha1.Interrupted,
			message: "no pod of Job app-16b81fda-1 reports how it ended; the Job says Novel: because"},
	} {
		t.Run(name, func(t *testing.T) {
			job := newJob(c.job)
			if !upgrade.Ended(job) {
				t.Error("not ended")
			}
			want := upgrade.Outcome{Succeeded: c.succeeded, Message: c.message}
			if !c.succeeded {
				want.Class = result.ClassOf(c.class)
			}
			if !c.succeeded || job.Status.CompletionTime != nil {
				want.EndedAt = at(100)
			}
			readCase{job: job, want: upgrade.Job{Stage: upgrade.StageDone, Finished: true, Outcome: want}}.check(t)
		})
	}
}

func TestEndedNeedsATrueCondition(t *testing.T) {
	job := newJob(func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{
			{Type: batchv1.JobComplete, Status: corev1.ConditionFalse}, {Type: batchv1.JobFailed, Status: corev1.ConditionUnknown},
			{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}, {Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue},
		}
	})
	if upgrade.Ended(job) {
		t.Error("a Job whose pods may still run counts as ended")
	}
}

// TestReadJobTrouble quotes the kubelet, the scheduler and the API server word for word.
func TestReadJobTrouble(t *testing.T) {
	const (
		notFound = `failed to pull and unpack image "operator.test/runner:v1": failed to resolve reference "operator.test/runner:v1": operator.test/runner:v1: not found`
		backOff  = `Back-off pulling image "operator.test/runner:v1": ErrImagePull: ` + notFound
		noNode   = "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient memory. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
		pull     = "container fetch-migrations: image operator.test/runner:v1 cannot be pulled"
	)
	for name, c := range map[string]struct {
		pod  func(*corev1.Pod)
		want *upgrade.Trouble
	}{
		"ErrImagePull":      {fetchIs(waiting("ErrImagePull", notFound)), &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: pull, Detail: notFound}},
		"ImagePullBackOff":  {fetchIs(waiting("ImagePullBackOff", backOff)), &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: pull, Detail: backOff}},
		"InvalidImageName":  {fetchIs(waiting("InvalidImageName", "x")), &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: pull, Detail: "x"}},
		"ErrImageNeverPull": {fetchIs(waiting("ErrImageNeverPull", "x")), &upgrade.Trouble{Reason: v1alpha1.ReasonImagePullFailed, What: pull, Detail: "x"}},
		"no Secret": {func(p *corev1.Pod) {
			fetched(p)
			migrateIs(waiting("CreateContainerConfigError", `secret "db" not found`))(p)
		},
			&upgrade.Trouble{Reason: v1alpha1.ReasonSecretNotFound, What: "container migrate cannot be configured", Detail: `secret "db" not found`}},
		"no such key": {func(p *corev1.Pod) {
			fetched(p)
			migrateIs(waiting("CreateContainerConfigError", "couldn't find key url in Secret team/db"))(p)
		}, &upgrade.Trouble{Reason: v1alpha1.ReasonSecretNotFound, What: "container migrate cannot be configured", Detail: "couldn't find key url in Secret team/db"}},
		"root": {fetchIs(waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root (pod: \"x\", container: fetch-migrations)")),
			&upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "container fetch-migrations cannot be configured",
				Detail: "container has runAsNonRoot and image will run as root (pod: \"x\", container: fetch-migrations)"}},
		"CreateContainerError": {fetchIs(waiting("CreateContainerError", "context deadline exceeded")),
			&upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "container fetch-migrations cannot be started", Detail: "context deadline exceeded"}},
		"RunContainerError": {fetchIs(waiting("RunContainerError", "x")),
			&upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "container fetch-migrations cannot be started", Detail: "x"}},
		"no node": {unschedulable(noNode), &upgrade.Trouble{Reason: v1alpha1.ReasonUnschedulable, What: "no node takes the pod of Job " + jobName, Detail: noNode}},
		"another scheduling gate": {func(p *corev1.Pod) {
			unschedulable("waiting")(p)
			p.Status.Conditions[0].Reason = corev1.PodReasonSchedulingGated
		}, &upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "the pod of Job " + jobName + " does not start; its events tell why"}},
		"fetched, migrate is next": {fetched, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := upgrade.ReadJob(newJob(), pods(newPod(1, c.pod)), nil)
			if got.Stage != upgrade.StagePending {
				t.Errorf("stage %d", got.Stage)
			}
			if diff := cmp.Diff(c.want, got.Trouble); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReadJobFailedCreate: the Job controller tries again and again, with a new pod name each time, which must not make a new message.
func TestReadJobFailedCreate(t *testing.T) {
	const (
		quota    = `Error creating: pods "app-16b81fda-1-x7k2p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0`
		security = `Error creating: pods "app-16b81fda-1-b4vxq" is forbidden: violates PodSecurity "restricted:latest": seccompProfile (pod or containers "app-16b81fda-1-b4vxq" must set it)`
	)
	for name, c := range map[string]struct {
		events []corev1.Event
		want   string
	}{
		"quota":             {[]corev1.Event{failedCreate(1, quota)}, `Error creating: pods "app-16b81fda-1-*" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0`},
		"security":          {[]corev1.Event{failedCreate(1, security)}, `Error creating: pods "app-16b81fda-1-*" is forbidden: violates PodSecurity "restricted:latest": seccompProfile (pod or containers "app-16b81fda-1-*" must set it)`},
		"the latest counts": {[]corev1.Event{failedCreate(5, "second"), failedCreate(9, "third"), failedCreate(1, "first")}, "third"},
		"others do not":     {[]corev1.Event{failedCreate(5, "refused"), {Reason: "SuccessfulCreate", LastTimestamp: at(9), Message: "Created pod: x"}}, "refused"},
		"no time":           {[]corev1.Event{{Reason: "FailedCreate", Message: "refused"}}, "refused"},
		"only that name":    {[]corev1.Event{failedCreate(1, `pods "app-16b81fda-12" and "app-16b81fda-1-toolong" and "other-x7k2p"`)}, `pods "app-16b81fda-12" and "app-16b81fda-1-toolong" and "other-x7k2p"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := upgrade.ReadJob(newJob(), nil, c.events).Trouble
			want := &upgrade.Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: "Job " + jobName + " has no pod", Detail: c.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTroubleMessage(t *testing.T) {
	for want, trouble := range map[string]upgrade.Trouble{
		"no pod":          {What: "no pod"},
		"no pod: refused": {What: "no pod", Detail: "refused"},
	} {
		if got := trouble.Message(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestReadJobOfStrangers: what is not as BuildJob wrote it belongs to no attempt.
func TestReadJobOfStrangers(t *testing.T) {
	for name, annotations := range map[string]map[string]string{
		"none":   nil,
		"edited": {"dbupgrade.subbug.learning/attempt": "one", "dbupgrade.subbug.learning/generation": "99999999999999999999"},
	} {
		got := upgrade.ReadJob(newJob(func(j *batchv1.Job) { j.Annotations = annotations }), nil, nil)
		if got.Attempt != 0 || got.Generation != 0 {
			t.Errorf("%s: read as attempt %d of generation %d", name, got.Attempt, got.Generation)
		}
	}
}

// TestReadJobReadsWhatBuildJobWrites: the way back from a Job to its attempt.
func TestReadJobReadsWhatBuildJobWrites(t *testing.T) {
	obj := builders.DBUpgrade(attempted(v1alpha1.AttemptNew), func(o *v1alpha1.DBUpgrade) {
		a := o.Status.Attempt
		a.Number, a.Generation, a.Retry, a.Job = 41, 17, "please\nagain", upgrade.JobName(o, 41)
	})
	got := upgrade.ReadJob(upgrade.BuildJob(obj, upgrade.RunnerConfig{}), nil, nil)
	a := obj.Status.Attempt
	want := upgrade.Job{Name: a.Job, Attempt: 41, Revision: a.Revision, Generation: 17, Retry: a.Retry, Stage: upgrade.StageNew}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVanishedJob(t *testing.T) {
	lost := upgrade.Outcome{Class: result.ClassOf(v1alpha1.Interrupted), Message: "Job " + jobName + " was deleted before its migration had ended"}
	interrupted := failure(v1alpha1.Interrupted, "told to end")
	for name, c := range map[string]struct {
		pods []corev1.Pod
		want upgrade.Job
	}{
		"nothing is left":      {nil, upgrade.Job{Stage: upgrade.StageDone, Finished: true, Outcome: lost}},
		"an orphan waits":      {pods(newPod(1)), upgrade.Job{Stage: upgrade.StagePending, Terminating: true}},
		"an orphan fetches":    {pods(newPod(1, fetchIs(runningSince(1)), terminating)), upgrade.Job{Stage: upgrade.StagePending, Terminating: true}},
		"an orphan migrates":   {pods(newPod(1, migrating)), upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage}},
		"it migrates and ends": {pods(newPod(1, migrating, terminating)), upgrade.Job{Stage: upgrade.StageRunning, StartedAt: ptr.To(at(3)), Image: fetchedImage, Terminating: true}},
		"an orphan succeeded": {pods(newPod(1, migrated(0, "Completed", string(applied.Encode())), ended)),
			upgrade.Job{Stage: upgrade.StageDone, Finished: true, StartedAt: ptr.To(at(3)), Image: fetchedImage, Outcome: succeeded("The database is at version 2", applied)}},
		"a disowned pod succeeded": {pods(newPod(1, migrated(0, "Completed", string(applied.Encode())), disowned, ended)),
			upgrade.Job{Stage: upgrade.StageDone, Finished: true, Outcome: lost}},
		"an orphan was interrupted": {pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), ended)),
			upgrade.Job{Stage: upgrade.StageDone, Finished: true, StartedAt: ptr.To(at(3)), Image: fetchedImage, Outcome: outcome(v1alpha1.Interrupted, "told to end", interrupted)}},
		"an orphan died without a word": {pods(newPod(1, migrating, ended)),
			upgrade.Job{Stage: upgrade.StageDone, Finished: true, StartedAt: ptr.To(at(3)), Image: fetchedImage, Outcome: lost}},
		"one died, one waits": {pods(newPod(1, migrated(33, "Error", string(interrupted.Encode())), ended), newPod(15)),
			upgrade.Job{Stage: upgrade.StagePending, Terminating: true, StartedAt: ptr.To(at(3)), Image: fetchedImage}},
	} {
		t.Run(name, func(t *testing.T) {
			attempt := builders.DBUpgrade(attempted(v1alpha1.AttemptPending)).Status.Attempt
			attempt.Retry = "again"
			want := c.want
			want.Name, want.UID, want.Attempt, want.Revision, want.Generation, want.Retry = jobName, "job-1", 1, attempt.Revision, 1, "again"
			want.Alive = anyAlive(c.pods)
			if diff := cmp.Diff(want, upgrade.VanishedJob(attempt, c.pods)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAlive(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]bool{
		"": true, corev1.PodPending: true, corev1.PodRunning: true, corev1.PodUnknown: true, corev1.PodSucceeded: false, corev1.PodFailed: false,
	} {
		if got := upgrade.Alive(&corev1.Pod{Status: corev1.PodStatus{Phase: phase}}); got != want {
			t.Errorf("%q: alive %v", phase, got)
		}
	}
}

func TestSuccessMessages(t *testing.T) {
	encoded := func(m *v1alpha1.MigrationStatus) string { return string(result.Result{Migration: m}.Encode()) }
	for want, m := range map[string]*v1alpha1.MigrationStatus{
		"The migrations are applied":                                                            nil,
		"The database is at version 2, with 3 of 5 files left pending":                          {CurrentVersion: "2", Pending: 3, Total: 5, Applied: []v1alpha1.AppliedFile{{Version: "2"}}},
		"Nothing to apply: the database is at version 2, with 3 of 5 files left pending":        {CurrentVersion: "2", Pending: 3, Total: 5},
		"Nothing to apply: the database has no version yet":                                     {},
		"The database is at version 2":                                                          {CurrentVersion: "2", Applied: []v1alpha1.AppliedFile{{Version: "2"}}},
		"Nothing to apply: the database is at version 2":                                        {CurrentVersion: "2"},
		"Nothing to apply: the database is at version 3, ahead of the last one in the image, 2": {CurrentVersion: "3", TargetVersion: "2", DatabaseAhead: true},
	} {
		if got := upgrade.ReadJob(newJob(), pods(newPod(1, migrated(0, "Completed", encoded(m)))), nil).Outcome.Message; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	const lost = "The plan is made, but what it was is lost: a new value of the annotation dbupgrade.subbug.learning/retry makes another"
	plan := func(job *batchv1.Job) { job.Annotations["dbupgrade.subbug.learning/mode"] = "Plan" }
	for want, m := range map[string]*v1alpha1.MigrationStatus{
		lost: nil,
		"Nothing to apply: the database is at version 2":                                        {CurrentVersion: "2"},
		"Nothing to apply: the database is at version 3, ahead of the last one in the image, 2": {CurrentVersion: "3", TargetVersion: "2", DatabaseAhead: true},
		"Files to be applied: 1; the database has no version yet":                               {Pending: 1, Planned: []v1alpha1.PlannedFile{{Version: "1"}}},
		"Files to be applied: 1; the database is at version 2; there are findings": {CurrentVersion: "2", Pending: 9, Planned: []v1alpha1.PlannedFile{{Version: "3"}},
			Findings: []v1alpha1.Finding{{Severity: v1alpha1.SeverityWarning}}},
		"Files to be applied: at most 900; the database is at version 2; there are errors among the findings": {CurrentVersion: "2", Pending: 900, Truncated: true,
			Planned: []v1alpha1.PlannedFile{{Version: "3"}}, Findings: []v1alpha1.Finding{{Severity: v1alpha1.SeverityWarning}, {Severity: v1alpha1.SeverityError}}},
	} {
		if got := upgrade.ReadJob(newJob(plan), pods(newPod(1, migrated(0, "Completed", encoded(m)))), nil); got.Outcome.Message != want || got.Mode != v1alpha1.ModePlan {
			t.Errorf("mode %q: %q, want %q", got.Mode, got.Outcome.Message, want)
		}
	}
	if got := upgrade.ReadJob(newJob(plan, complete), nil, nil).Outcome.Message; got != lost {
		t.Errorf("without a pod: %q", got)
	}
}

func TestFailureMessages(t *testing.T) {
	for want, f := range map[string]v1alpha1.Failure{
		"Internal":       {Class: v1alpha1.Internal},
		"no atlas.sum":   {Class: v1alpha1.IntegrityFailed, Error: "no atlas.sum"},
		"2.sql: not SQL": {Class: v1alpha1.IntegrityFailed, File: "2.sql", Error: "not SQL"},
		"2.sql, statement 1: bad (SQLSTATE 42601)": {Class: v1alpha1.StatementFailed, File: "2.sql", Statement: 1, SQLState: "42601", Error: "bad"},
		"ERROR: bad (SQLSTATE 42601)":              {Class: v1alpha1.StatementFailed, SQLState: "42601", Error: "ERROR: bad (SQLSTATE 42601)"}, // said once
	} {
		message := string(result.Failed(f).Encode())
		if got := upgrade.ReadJob(newJob(failedInTheEnd), pods(newPod(1, migrated(16, "Error", message), ended)), nil).Outcome.Message; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
