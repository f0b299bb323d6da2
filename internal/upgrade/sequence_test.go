// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world is a cluster as far as one DBUpgrade touches it: the object, its Jobs, the lock of its database, a kubelet, users, and a manager that may die
// between any two of its writes. Every check in it is an invariant; a violation ends the test with the seed and the log.
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	now  time.Time
	log  []string

	obj  *v1alpha1.DBUpgrade // nil once it is gone
	jobs []*simulatedJob
	// lock is the UID of the Job that holds it, or that of somebody else's.
	lock types.UID
	uids int

	// applied are the revisions that a Job has applied; a plan applies none.
	applied map[string]bool
	// disturbed: something from outside may have set the current attempt back.
	disturbed bool
	reasons   map[string]bool
}

const otherHolder types.UID = "somebody-else"

type simulatedJob struct {
	upgrade.Job
	suspended bool
	hidden    bool // it lost its label or its owner, so only a live look finds it
}

func newWorld(t *testing.T, seed uint64, reasons map[string]bool) *world {
	return &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), reasons: reasons, applied: map[string]bool{},
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), obj: builders.DBUpgrade(),
	}
}

func (w *world) logf(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%6.0fs  ", w.now.Sub(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s\n%s", w.seed, fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
}

func (w *world) observe() upgrade.Observation {
	o := upgrade.Observation{DBUpgrade: w.obj.DeepCopy(), Now: w.now}
	a := w.obj.Status.Attempt
	for _, j := range w.jobs {
		looked := j.hidden && a != nil && !a.Phase.Ended() && a.JobUID == j.UID
		o.Unwatched = o.Unwatched || looked
		if !j.hidden || looked {
			o.Jobs = append(o.Jobs, j.Job)
		}
	}
	if a != nil && !a.Phase.Ended() && a.JobUID != "" && !slices.ContainsFunc(w.jobs, func(j *simulatedJob) bool { return j.UID == a.JobUID }) {
		o.Jobs = append(o.Jobs, upgrade.VanishedJob(a, nil))
	}
	return o
}

// reconcile runs the manager once. With die ≥ 0 it dies after that many writes. It returns whether it changed anything.
func (w *world) reconcile(die int) bool {
	if w.obj == nil {
		return false
	}
	seen := w.observe()
	d := upgrade.Decide(seen)
	if !reflect.DeepEqual(seen.DBUpgrade, w.obj) {
		w.failf("Decide changed what it was given:\n%s", cmp.Diff(seen.DBUpgrade, w.obj))
	}
	changed := false
	for i, action := range d.Do {
		if i == die {
			w.logf("%-28s %s, then the manager dies", d.Row, kinds(d.Do[:i]))
			return true
		}
		obstacle, ok := w.perform(action)
		changed = true
		if !ok {
			w.logf("%-28s %s: stale", d.Row, action.Kind)
			return false
		}
		if obstacle != nil {
			d = d.Obstructed(*obstacle, w.obj, w.now)
			changed = false
			break
		}
		if w.obj == nil {
			w.logf("%-28s %s", d.Row, kinds(d.Do))
			return true
		}
	}
	if die == len(d.Do) {
		w.logf("%-28s %s, then the manager dies", d.Row, kinds(d.Do))
		return true
	}
	if equality.Semantic.DeepEqual(w.obj.Status, d.Status) {
		if changed {
			w.logf("%-28s %s", d.Row, kinds(d.Do))
		}
		return changed
	}
	w.checkStatus(w.obj.Status, d.Status)
	w.obj.Status = *d.Status.DeepCopy()
	ready := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady)
	w.reasons[ready.Reason] = true
	w.logf("%-28s %s → %s: %s", d.Row, kinds(d.Do), ready.Reason, ready.Message)
	return true
}

func kinds(do []upgrade.Action) string {
	names := []string{}
	for _, a := range do {
		names = append(names, string(a.Kind))
	}
	return "[" + strings.Join(names, " ") + "]"
}

func (w *world) find(uid types.UID) *simulatedJob {
	for _, j := range w.jobs {
		if j.UID == uid {
			return j
		}
	}
	return nil
}

// perform plays the API server. false: a precondition did not hold.
func (w *world) perform(a upgrade.Action) (*upgrade.Obstacle, bool) {
	job := w.find(a.Job.UID)
	switch a.Kind {
	case upgrade.AddFinalizer:
		if w.obj.DeletionTimestamp != nil {
			w.failf("a finalizer is added to a deleted object")
		}
		w.obj.Finalizers = []string{v1alpha1.Finalizer}
	case upgrade.RemoveFinalizer:
		w.obj.Finalizers = nil
		for _, j := range w.jobs {
			if !j.Finished && !j.hidden {
				w.failf("the finalizer goes while Job %s is unfinished", j.Name)
			}
		}
		if w.obj.DeletionTimestamp != nil {
			w.obj = nil
		}
	case upgrade.CreateJob:
		return w.createJob()
	case upgrade.TakeLock:
		holder := w.find(w.lock)
		if w.lock == otherHolder || (holder != nil && holder.UID != a.Job.UID && !holder.Finished) {
			return &upgrade.Obstacle{Reason: v1alpha1.ReasonWaitingForLock, Message: "held", Wait: time.Minute}, true
		}
		w.lock = a.Job.UID
	case upgrade.ReleaseJob:
		if job == nil {
			return nil, false
		}
		if w.lock != a.Job.UID || w.obj.Status.Attempt.JobUID != a.Job.UID {
			w.failf("Job %s is released without its lock or its UID in status", a.Job.Name)
		}
		job.suspended, job.Stage = false, upgrade.StagePending
	case upgrade.StopJob:
		if job == nil || job.Stage == upgrade.StageRunning {
			return nil, false
		}
		job.Terminating = true
	case upgrade.PruneJob:
		if job != nil && !job.Finished {
			w.failf("unfinished Job %s is pruned", job.Name)
		}
		w.jobs = slices.DeleteFunc(w.jobs, func(j *simulatedJob) bool { return j == job })
	case upgrade.ReleaseLock:
		if w.lock == a.Job.UID {
			if job != nil && !job.Finished { // a live look finds it alive
				return nil, false
			}
			w.lock = ""
		}
	}
	return nil, true
}

func (w *world) createJob() (*upgrade.Obstacle, bool) {
	if w.rng.IntN(20) == 0 {
		return &upgrade.Obstacle{Reason: v1alpha1.ReasonPodNotCreated, Message: "exceeded quota", Wait: time.Minute}, true
	}
	a := w.obj.Status.Attempt
	for _, j := range w.jobs {
		if j.Name == a.Job {
			return nil, false
		}
		if !j.Finished && !j.hidden { // of a hidden one that is being deleted, only the lock tells
			w.failf("a second Job while %s is unfinished", j.Name)
		}
	}
	w.uids++
	w.jobs = append(w.jobs, &simulatedJob{suspended: true, Job: upgrade.Job{
		Name: a.Job, UID: types.UID(fmt.Sprintf("uid-%d", w.uids)), Attempt: a.Number, Revision: a.Revision, Generation: a.Generation,
		Retry: a.Retry, Resolve: a.Resolve, Mode: a.Mode, CreatedAt: w.now,
	}})
	return nil, true
}

// checkStatus holds one change of status against the rules.
func (w *world) checkStatus(before, after v1alpha1.DBUpgradeStatus) {
	for _, kind := range []string{"Accepted", "Ready", "Progressing", "Degraded", "Blocked"} {
		c := meta.FindStatusCondition(after.Conditions, kind)
		if c == nil || c.ObservedGeneration != w.obj.Generation {
			w.failf("condition %s is missing or speaks of another generation", kind)
		}
	}
	ready := meta.IsStatusConditionTrue(after.Conditions, v1alpha1.ConditionReady)
	if ready != (meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady).Reason == v1alpha1.ReasonMigrationComplete) {
		w.failf("Ready and its reason do not agree")
	}
	if ready && after.Revision != upgrade.Revision(&w.obj.Spec) {
		w.failf("Ready for a revision that is not applied")
	}
	if after.Revision != "" && !w.applied[after.Revision] {
		w.failf("revision %s is latched, and no Job has applied it", after.Revision)
	}
	if planned := trueOnes(after) == "Accepted"; planned != (meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady).Reason == v1alpha1.ReasonPlanComplete) {
		w.failf("a plan is neither Ready nor trouble, and nothing else is so")
	} else if planned && (w.obj.Spec.Mode != v1alpha1.ModePlan || after.Attempt.Mode != v1alpha1.ModePlan || after.Attempt.Generation != w.obj.Generation) {
		w.failf("PlanComplete without the plan that was asked for")
	}
	if meta.IsStatusConditionTrue(after.Conditions, v1alpha1.ConditionStalled) && meta.IsStatusConditionTrue(after.Conditions, v1alpha1.ConditionProgressing) {
		w.failf("Stalled and Progressing at once")
	}
	w.checkAttempt(before, after)
}

func (w *world) checkAttempt(before, after v1alpha1.DBUpgradeStatus) {
	a, b := before.Attempt, after.Attempt
	if b == nil {
		return
	}
	if a == nil || a.Number != b.Number {
		if a != nil && (b.Number < a.Number || !a.Phase.Ended()) {
			w.failf("attempt %d (%s) is replaced by %d", a.Number, a.Phase, b.Number)
		}
		if b.Revision == after.Revision {
			w.failf("attempt %d runs a revision that is applied", b.Number)
		}
		w.disturbed = false
		return
	}
	if a.Mode != b.Mode || a.Resolve != b.Resolve || a.Revision != b.Revision {
		w.failf("attempt %d changes what it is for", a.Number)
	}
	nothingRan := a.Phase == v1alpha1.AttemptStuck || a.Phase == v1alpha1.AttemptCancelled
	if a.Phase.Ended() && a.Phase != b.Phase && (!nothingRan || b.Phase != v1alpha1.AttemptRunning) {
		w.failf("outcome %s of attempt %d turns into %s", a.Phase, a.Number, b.Phase)
	}
	rank := []v1alpha1.AttemptPhase{v1alpha1.AttemptNew, v1alpha1.AttemptPending, v1alpha1.AttemptRunning}
	if !w.disturbed && !b.Phase.Ended() && !a.Phase.Ended() && slices.Index(rank, b.Phase) < slices.Index(rank, a.Phase) {
		w.failf("attempt %d falls back from %s to %s", a.Number, a.Phase, b.Phase)
	}
}

// checkCluster holds the cluster against the rules that must hold after every single write.
func (w *world) checkCluster() {
	released := 0
	for _, j := range w.jobs {
		if !j.suspended && !j.Finished {
			released++
			if w.lock != j.UID {
				w.failf("Job %s is released and unfinished without the lock", j.Name)
			}
		}
	}
	if released > 1 {
		w.failf("%d Jobs are released and unfinished", released)
	}
}

// kubelet moves one Job a step. With wellMeaning nothing goes wrong.
func (w *world) kubelet(wellMeaning bool) bool {
	for _, j := range w.jobs {
		switch {
		case j.Finished && !j.Terminating:
			continue
		case j.Terminating && j.Stage != upgrade.StageRunning: // its pods are gone
			w.logf("  Job %s is gone", j.Name)
			w.jobs = slices.DeleteFunc(w.jobs, func(k *simulatedJob) bool { return k == j })
			return true
		case j.suspended:
			continue
		case j.Stage == upgrade.StagePending && !wellMeaning && w.rng.IntN(3) == 0:
			j.Trouble = w.anyTrouble()
			w.logf("  Job %s: %s", j.Name, j.Trouble.Message())
			return true
		case j.Stage == upgrade.StagePending && !wellMeaning && w.rng.IntN(4) == 0:
			w.end(j, v1alpha1.ImagePullFailed) // fetch failed
			return true
		case j.Stage == upgrade.StagePending:
			j.Stage, j.Trouble, j.StartedAt = upgrade.StageRunning, nil, &metav1.Time{Time: w.now}
			w.logf("  Job %s runs", j.Name)
			return true
		case j.Stage == upgrade.StageRunning && !wellMeaning && w.rng.IntN(8) == 0: // evicted; the Job makes another pod
			j.Stage, w.disturbed = upgrade.StagePending, true
			w.logf("  Job %s: its pod is evicted", j.Name)
			return true
		case j.Stage == upgrade.StageRunning:
			class := v1alpha1.FailureClass("")
			if classes := result.Classes(); !wellMeaning && w.rng.IntN(2) == 0 {
				class = classes[w.rng.IntN(len(classes))].Name
			}
			w.end(j, class)
			return true
		default: // done, and now the Job controller says so too
			j.Finished = true
			w.logf("  Job %s has ended", j.Name)
			return true
		}
	}
	return false
}

func (w *world) anyTrouble() *upgrade.Trouble {
	all := []upgrade.Trouble{
		{Reason: v1alpha1.ReasonImagePullFailed, What: "image", Detail: fmt.Sprintf("ErrImagePull %d", w.rng.IntN(2))},
		{Reason: v1alpha1.ReasonSecretNotFound, What: "secret", Detail: "not found"},
		{Reason: v1alpha1.ReasonPodNotCreated, What: "pod"},
		{Reason: v1alpha1.ReasonUnschedulable, What: "node", Detail: "taints"},
	}
	return &all[w.rng.IntN(len(all))]
}

func (w *world) end(j *simulatedJob, class v1alpha1.FailureClass) {
	j.Stage, j.Outcome = upgrade.StageDone, upgrade.Outcome{Succeeded: true, Message: "applied", EndedAt: metav1.NewTime(w.now)}
	if class != "" {
		c := result.ClassOf(class)
		j.Outcome = upgrade.Outcome{Class: c, Message: string(class), Result: result.Failed(v1alpha1.Failure{Class: class}), EndedAt: metav1.NewTime(w.now)}
		j.Finished = c.Retryable // such an outcome counts only once the Job has ended
	}
	if class == "" && j.Mode != v1alpha1.ModePlan {
		w.applied[j.Revision] = true
	}
	w.logf("  Job %s: succeeded %v %s%s", j.Name, j.Outcome.Succeeded, j.Mode, class)
}

// user does something to the object, or to a Job, that a person may do.
func (w *world) user() {
	if w.obj == nil {
		return
	}
	a := w.obj.Status.Attempt
	locked := a != nil && (a.Phase == v1alpha1.AttemptPending || a.Phase == v1alpha1.AttemptRunning)
	switch w.rng.IntN(10) {
	case 0, 1:
		if locked {
			return // the API server refuses it
		}
		w.obj.Spec.Migrations.Image = fmt.Sprintf("registry.test/app:v%d", 1+w.rng.IntN(3))
	case 2:
		w.obj.Annotations = map[string]string{v1alpha1.AnnotationRetry: fmt.Sprint(w.rng.IntN(1000))}
		w.logf("  user: retry")
		return
	case 8:
		w.obj.Annotations = map[string]string{v1alpha1.AnnotationResolve: []string{"redo:ABCDEF23", "skip:ABCDEF24", "skip it"}[w.rng.IntN(3)]}
		w.logf("  user: resolve")
		return
	case 9:
		if locked {
			return
		}
		w.obj.Spec.Mode = []v1alpha1.Mode{v1alpha1.ModeApply, v1alpha1.ModePlan}[w.rng.IntN(2)]
	case 3, 4:
		w.obj.Spec.Suspend = !w.obj.Spec.Suspend
	case 5:
		if locked {
			return
		}
		w.obj.Spec.Migrations.Image = []string{"no image at all", "registry.test/app:v1"}[w.rng.IntN(2)]
	case 6:
		if w.rng.IntN(6) == 0 && w.obj.DeletionTimestamp == nil {
			w.logf("  user: delete")
			w.obj.DeletionTimestamp = &metav1.Time{Time: w.now}
			if len(w.obj.Finalizers) == 0 {
				w.obj = nil
			}
			return
		}
	case 7:
		if len(w.jobs) > 0 {
			j := w.jobs[w.rng.IntN(len(w.jobs))]
			w.logf("  user: delete Job %s", j.Name)
			w.disturbed = true
			switch {
			case w.rng.IntN(4) == 0 && a != nil && a.JobUID == j.UID:
				w.logf("  … no, disown it")
				j.hidden = true
			case j.Finished:
				w.jobs = slices.DeleteFunc(w.jobs, func(k *simulatedJob) bool { return k == j })
			default:
				j.Terminating = true
			}
		}
		return
	}
	w.obj.Generation++
	w.logf("  user: generation %d, image %s, suspend %v %s", w.obj.Generation, w.obj.Spec.Migrations.Image, w.obj.Spec.Suspend, w.obj.Spec.Mode)
}

// disturb lets anything happen that may.
func (w *world) disturb(steps int) {
	for range steps {
		switch w.rng.IntN(10) {
		case 0, 1, 2, 3:
			w.reconcile(-1)
		case 4:
			w.reconcile(w.rng.IntN(3))
		case 5, 6, 7:
			w.kubelet(false)
		case 8:
			w.user()
		case 9:
			w.now = w.now.Add(time.Duration(w.rng.IntN(200)) * time.Second)
			if w.lock == "" && w.rng.IntN(4) == 0 {
				w.lock = otherHolder
			} else if w.lock == otherHolder {
				w.lock = ""
			}
		}
		w.checkCluster()
	}
}

// calm lets everything go well and checks that it ends where it should, and stays there.
func (w *world) calm() {
	if w.obj != nil {
		w.logf("  all is well from here")
		if w.lock == otherHolder {
			w.lock = ""
		}
		if !w.locked() {
			w.obj.Spec.Migrations.Image = "registry.test/app:final"
		}
		w.obj.Spec.Suspend = false
		w.obj.Generation++
	}
	w.rest()
	if w.obj != nil && w.obj.Spec.Mode == v1alpha1.ModePlan && w.obj.DeletionTimestamp == nil {
		if reason := ready(w.obj.Status).Reason; reason != v1alpha1.ReasonPlanComplete && reason != v1alpha1.ReasonMigrationComplete {
			w.failf("a plan ends as %s", reason)
		}
		w.logf("  apply it")
		w.obj.Spec.Mode = v1alpha1.ModeApply
		w.obj.Generation++
		w.rest()
	}
	if w.obj == nil {
		return
	}
	if w.obj.DeletionTimestamp != nil {
		w.failf("a deleted object stays")
	}
	if !meta.IsStatusConditionTrue(w.obj.Status.Conditions, v1alpha1.ConditionReady) {
		w.failf("it does not end Ready")
	}
	if len(w.obj.Finalizers) > 0 || w.lock != "" {
		w.failf("finalizers %v or lock %q are left", w.obj.Finalizers, w.lock)
	}
	w.jobs = slices.DeleteFunc(w.jobs, func(j *simulatedJob) bool { return j.hidden && (j.Finished || j.suspended) })
	if kept := len(w.jobs); kept > 3 {
		w.failf("%d Jobs are left", kept)
	}
}

// rest goes on until nobody has anything left to do.
func (w *world) rest() {
	for range 400 {
		moved := w.reconcile(-1)
		moved = w.kubelet(true) || moved
		w.checkCluster()
		if !moved {
			w.now = w.now.Add(5 * time.Minute)
			if !w.reconcile(-1) && !w.kubelet(true) {
				break
			}
		}
	}
}

func (w *world) locked() bool {
	a := w.obj.Status.Attempt
	return a != nil && (a.Phase == v1alpha1.AttemptPending || a.Phase == v1alpha1.AttemptRunning)
}

// TestSequences walks thousands of random lifetimes and checks every rule at every step; together they reach every reason there is.
func TestSequences(t *testing.T) {
	runs := 2000
	if testing.Short() {
		runs = 200
	}
	reasons := map[string]bool{}
	for seed := range runs {
		w := newWorld(t, uint64(seed), reasons)
		w.disturb(120)
		w.calm()
	}
	for _, reason := range []string{
		v1alpha1.ReasonInitializing, v1alpha1.ReasonWaitingForLock, v1alpha1.ReasonJobPending, v1alpha1.ReasonMigrationInProgress,
		v1alpha1.ReasonMigrationComplete, v1alpha1.ReasonJobFailed, v1alpha1.ReasonInDoubt, v1alpha1.ReasonDeadlineExceeded,
		v1alpha1.ReasonLintFailed, v1alpha1.ReasonPlanComplete,
		v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonImagePullFailed, v1alpha1.ReasonDatabaseUnreachable, v1alpha1.ReasonInterrupted,
		v1alpha1.ReasonPodNotCreated, v1alpha1.ReasonUnschedulable, v1alpha1.ReasonSuspended, v1alpha1.ReasonDeleting, v1alpha1.ReasonInvalidSpec,
	} {
		if !reasons[reason] {
			t.Errorf("no sequence reaches reason %s", reason)
		}
	}
}

// TestSequenceLog shows three lifetimes step by step. A change in behaviour shows as a difference here.
func TestSequenceLog(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		w := newWorld(t, seed, map[string]bool{})
		if seed > 1 {
			w.disturb(60)
		}
		w.calm()
		got := strings.Join(w.log, "\n") + "\n"
		file := filepath.Join("testdata", fmt.Sprintf("sequence-%d.log", seed))
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("seed %d (-want +got, -update writes it anew):\n%s", seed, diff)
		}
	}
}
