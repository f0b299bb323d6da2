// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// file is a migration that shows in the table "applied" how often it was executed.
func file(n int, more ...string) (string, string) {
	sql := fmt.Sprintf("CREATE TABLE IF NOT EXISTS applied (n int);\nINSERT INTO applied VALUES (%d);\n", n)
	return fmt.Sprintf("2026010%d000000_step.sql", n), sql + strings.Join(more, "")
}

// steps are the migrations 1 to n, the last with more statements.
func steps(n int, more ...string) map[string]string {
	files := map[string]string{}
	for i := 1; i < n; i++ {
		name, sql := file(i)
		files[name] = sql
	}
	name, sql := file(n, more...)
	files[name] = sql
	return files
}

// executed are the migrations that were executed, in order, each as often as it was.
func (h *hand) executed() string {
	h.t.Helper()
	if h.tables() == "" {
		return ""
	}
	return strings.Join(h.column("SELECT n::text FROM applied ORDER BY ctid"), " ")
}

func (h *hand) expectExecuted(want string) {
	h.t.Helper()
	if got := h.executed(); got != want {
		h.t.Errorf("executed %q, want %q", got, want)
	}
}

// TestLifetime carries one DBUpgrade from creation through a second image and one that fails to its fix.
func TestLifetime(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1)))
	obj := h.drive(settled)
	h.expectExecuted("1")
	if !strings.HasPrefix(obj.Status.Image, h.registry.Host()+"/app@sha256:") {
		t.Errorf("image %q has no digest", obj.Status.Image)
	}

	h.setImage(h.image("app:v2", steps(2)))
	obj = h.drive(settled)
	h.expectExecuted("1 2")
	wantApplied := []v1alpha1.AppliedFile{{Version: "20260102000000", Description: "step", Statements: 2}}
	for i := range obj.Status.Migration.Applied {
		obj.Status.Migration.Applied[i].Duration = metav1.Duration{}
	}
	if diff := cmp.Diff(wantApplied, obj.Status.Migration.Applied); diff != "" {
		t.Error(diff)
	}

	h.setImage(h.image("app:v3", steps(3, "ALTER TABLE nowhere ADD COLUMN c int;\n")))
	obj = h.drive(reason(v1alpha1.ReasonJobFailed))
	h.expectExecuted("1 2") // the third rolled back
	wantFailure := &v1alpha1.Failure{
		Class: v1alpha1.StatementFailed, Version: "20260103000000", File: "20260103000000_step.sql", Statement: 3, SQLState: "42P01",
		Error: `relation "nowhere" does not exist`,
	}
	if f := obj.Status.Migration.Failure; f == nil || !strings.Contains(f.Error, wantFailure.Error) {
		t.Fatalf("failure %+v", f)
	}
	obj.Status.Migration.Failure.Error = wantFailure.Error
	if diff := cmp.Diff(wantFailure, obj.Status.Migration.Failure); diff != "" {
		t.Error(diff)
	}
	if got := obj.Status.Migration; got.CurrentVersion != "20260102000000" || got.TargetVersion != "20260103000000" || got.Pending != 1 || got.Total != 3 {
		t.Errorf("migration %+v", got)
	}

	h.setImage(h.image("app:v4", steps(3)))
	obj = h.drive(settled)
	h.expectExecuted("1 2 3")
	var results []string
	for _, entry := range obj.Status.History {
		results = append(results, fmt.Sprintf("%d %s %s", entry.Attempt, entry.Result, entry.Version))
	}
	if diff := cmp.Diff([]string{"4 Succeeded 20260103000000", "3 Failed ", "2 Succeeded 20260102000000", "1 Succeeded 20260101000000"}, results); diff != "" {
		t.Error(diff)
	}
	if jobs := h.jobs(); len(jobs) != 3 {
		t.Errorf("%d Jobs are kept, want 3", len(jobs))
	}
	wantEvents := []string{
		"Initializing", "JobPending", "MigrationStarted", "MigrationInProgress", "MigrationSucceeded", "MigrationComplete",
		"Initializing", "JobPending", "MigrationStarted", "MigrationInProgress", "MigrationSucceeded", "MigrationComplete",
		"Initializing", "JobPending", "MigrationStarted", "MigrationInProgress", "MigrationFailed", "JobFailed",
		"Initializing", "JobPending", "MigrationStarted", "MigrationInProgress", "MigrationSucceeded", "MigrationComplete",
	}
	if diff := cmp.Diff(wantEvents, h.events.reasons()); diff != "" {
		t.Error(diff)
	}
}

// TestBudget holds a plain upgrade to 12 writes and a settled object to none, not even a read.
func TestBudget(t *testing.T) {
	h := newHand(t)
	image := h.image("app:v1", steps(1))
	h.create(image)
	h.drive(settled)
	t.Logf("a plain upgrade: %d writes and %d reads besides events:\n%s", h.wire.writes(), h.wire.count()-h.wire.writes(), strings.Join(h.wire.calls, "\n"))
	if writes := h.wire.writes(); writes > 12 {
		t.Errorf("a plain upgrade costs %d writes", writes)
	}
	before := h.wire.count()
	for range 3 {
		result, err := h.reconcile()
		h.must(err)
		if result.RequeueAfter != 0 {
			t.Errorf("a settled object is looked at again in %s", result.RequeueAfter)
		}
	}
	if calls := h.wire.count() - before; calls != 0 {
		t.Errorf("a settled object costs %d requests", calls)
	}

	h.setImage(h.image("app:v2", steps(2, "SELECT pg_sleep(60);\n")))
	h.player.Wait = false
	h.drive(reason(v1alpha1.ReasonMigrationInProgress))
	postgres.AwaitSleep(t, h.url)
	before = h.wire.count()
	for range 3 {
		result, err := h.reconcile()
		h.must(err)
		if result.RequeueAfter != 0 {
			t.Errorf("a running object is looked at again in %s", result.RequeueAfter)
		}
	}
	if calls := h.wire.count() - before; calls != 0 {
		t.Errorf("a running migration costs %d requests", calls)
	}
}

// TestBackAndForth goes from image A to B and back. Nothing of A runs again, and the database stays ahead.
func TestBackAndForth(t *testing.T) {
	h := newHand(t)
	a, b := h.image("app:a", steps(1)), h.image("app:b", steps(2))
	h.create(a)
	first := h.drive(settled)
	h.setImage(b)
	h.drive(settled)
	h.setImage(a)
	obj := h.drive(settled)
	h.expectExecuted("1 2")
	if obj.Status.Revision != first.Status.Revision || !obj.Status.Migration.DatabaseAhead {
		t.Errorf("revision %s, databaseAhead %v", obj.Status.Revision, obj.Status.Migration.DatabaseAhead)
	}
}

// TestRecreated deletes a settled object and creates another of the same name: its Job has another name, and nothing runs twice.
func TestRecreated(t *testing.T) {
	h := newHand(t)
	image := h.image("app:v1", steps(1))
	h.create(image)
	first := h.drive(settled)
	h.must(world.client.Delete(h.ctx, first))
	h.create(image)
	second := h.drive(settled)
	if first.Status.Attempt.Job == second.Status.Attempt.Job {
		t.Errorf("both have Job %s", first.Status.Attempt.Job)
	}
	h.expectExecuted("1")
}

// TestJobDeleted deletes the Job by hand in every state. The object always gets Ready, and no file is executed twice.
func TestJobDeleted(t *testing.T) {
	states := map[string]until{
		"created": func(o *v1alpha1.DBUpgrade) bool { return o.Status.Attempt != nil && o.Status.Attempt.JobUID != "" },
		"pending": reason(v1alpha1.ReasonJobPending),
		"running": reason(v1alpha1.ReasonMigrationInProgress),
		"applied": reason(v1alpha1.ReasonMigrationComplete),
		"settled": settled,
	}
	for name, state := range states {
		for _, how := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground} {
			t.Run(fmt.Sprintf("%s, %s", name, how), func(t *testing.T) {
				t.Parallel()
				h := newHand(t)
				h.create(h.image("app:v1", steps(1)))
				h.drive(state)
				for _, job := range h.jobs() {
					h.must(world.client.Delete(h.ctx, &job, client.PropagationPolicy(how)))
				}
				h.quiet()
				h.drive(settled)
				h.expectExecuted("1")
				h.expectOneJobPerAttempt()
			})
		}
	}
}

// TestJobDisowned takes the label or the owner from the Job in the middle of its migration. It is found all the same, and nothing runs twice.
func TestJobDisowned(t *testing.T) {
	for name, change := range map[string]func(*batchv1.Job){
		"label": func(job *batchv1.Job) { job.Labels = nil },
		"owner": func(job *batchv1.Job) { job.OwnerReferences = nil },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHand(t)
			h.create(h.image("app:v1", steps(1)))
			h.drive(reason(v1alpha1.ReasonMigrationInProgress))
			job := h.jobs()[0]
			change(&job)
			h.must(world.client.Update(h.ctx, &job))
			obj := h.drive(settled)
			h.expectExecuted("1")
			if obj.Status.Attempt.Number != 1 {
				t.Errorf("attempt %d, want 1", obj.Status.Attempt.Number)
			}
		})
	}
}

func (h *hand) expectOneJobPerAttempt() {
	h.t.Helper()
	for name, uids := range h.player.Released() {
		if len(uids) > 1 {
			h.t.Errorf("Job %s was run %d times", name, len(uids))
		}
	}
}

// TestSuspend holds a new object back, takes a pending Job away, and leaves a running one alone.
func TestSuspend(t *testing.T) {
	h := newHand(t)
	suspend := func(on bool) { h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Suspend = on }) }
	h.create(h.image("app:v1", steps(1, "SELECT pg_sleep(0.5);\n")), func(o *v1alpha1.DBUpgrade) { o.Spec.Suspend = true })
	h.drive(reason(v1alpha1.ReasonSuspended))
	h.quiet()
	if jobs := h.jobs(); len(jobs) != 0 {
		t.Errorf("%d Jobs while suspended", len(jobs))
	}
	suspend(false)
	h.drive(reason(v1alpha1.ReasonJobPending))
	suspend(true)
	h.drive(reason(v1alpha1.ReasonSuspended))
	h.quiet()
	if jobs := h.jobs(); len(jobs) != 0 {
		t.Errorf("%d Jobs while suspended", len(jobs))
	}
	suspend(false)
	h.player.Wait = false
	h.drive(reason(v1alpha1.ReasonMigrationInProgress))
	suspend(true)
	h.player.Wait = true
	h.drive(settled)
	h.expectExecuted("1")
}

// TestEditGate refuses edits of the spec while a Job is pending or running, with the webhook away.
func TestEditGate(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1)))
	other := h.image("app:v2", steps(2))
	edits := map[string]func(*v1alpha1.DBUpgrade){
		"image":  func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = other },
		"runner": func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.JobHistoryLimit = new(int32(1)) },
	}
	for _, state := range []string{v1alpha1.ReasonJobPending, v1alpha1.ReasonMigrationInProgress} {
		obj := h.drive(reason(state))
		for name, edit := range edits {
			changed := obj.DeepCopy()
			edit(changed)
			err := world.client.Update(h.ctx, changed)
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec may not change while") {
				t.Errorf("%s, %s: %v", state, name, err)
			}
		}
		h.edit(func(o *v1alpha1.DBUpgrade) { o.Labels = map[string]string{"state": state} })
	}
	h.drive(settled)
	h.setImage(other)
	h.drive(settled)
	h.expectExecuted("1 2")
}

// TestDeletion waits for a running migration and takes everything else along.
func TestDeletion(t *testing.T) {
	states := map[string]until{
		"created": func(o *v1alpha1.DBUpgrade) bool { return o.Status.Attempt != nil },
		"pending": reason(v1alpha1.ReasonJobPending),
		"running": reason(v1alpha1.ReasonMigrationInProgress),
		"applied": reason(v1alpha1.ReasonMigrationComplete),
		"settled": settled,
	}
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHand(t)
			h.create(h.image("app:v1", steps(1, "SELECT pg_sleep(0.3);\n")))
			h.player.Wait = false
			obj := h.drive(state)
			h.must(world.client.Delete(h.ctx, obj))
			if name == "running" {
				if _, err := h.reconcile(); err != nil {
					t.Fatal(err)
				}
				if now := h.get(); !reason(v1alpha1.ReasonDeleting)(now) {
					t.Errorf("while it runs: %s", describe(now))
				}
			}
			h.player.Wait = true
			h.drive(gone)
			if name == "running" {
				h.expectExecuted("1")
				if _, err := h.events.last(v1alpha1.EventMigrationSucceeded); err != nil {
					t.Error(err)
				}
			}
			h.expectNoLease()
		})
	}
}

func (h *hand) expectNoLease() {
	h.t.Helper()
	var leases coordinationv1.LeaseList
	h.must(world.client.List(h.ctx, &leases, client.InNamespace(operatorNamespace)))
	for _, lease := range leases.Items {
		if lease.Annotations["dbupgrade.subbug.learning/namespace"] == h.namespace {
			h.t.Errorf("Lease %s is left", lease.Name)
		}
	}
}

// TestReplaced replaces the object during its migration by one without finalizers, as some tools do. The finalizer comes back.
func TestReplaced(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1)))
	obj := h.drive(reason(v1alpha1.ReasonMigrationInProgress))
	obj.Finalizers = nil
	h.must(world.client.Update(h.ctx, obj))
	h.drive(func(o *v1alpha1.DBUpgrade) bool { return slices.Contains(o.Finalizers, v1alpha1.Finalizer) })
	h.drive(settled)
	h.expectExecuted("1")
	h.expectNoLease()
}

// TestTwoWriters has two DBUpgrades of one Secret key take turns.
func TestTwoWriters(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1, "SELECT pg_sleep(1);\n")))
	h.player.Wait = false
	first := h.key
	h.drive(reason(v1alpha1.ReasonMigrationInProgress))

	h.key = types.NamespacedName{Namespace: h.namespace, Name: "other"}
	image := h.image("app:v2", steps(2))
	other := &v1alpha1.DBUpgrade{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "other"}}
	running := &v1alpha1.DBUpgrade{}
	h.must(world.client.Get(h.ctx, first, running))
	other.Spec = *running.Spec.DeepCopy()
	other.Spec.Migrations.Image = image
	h.must(world.client.Create(h.ctx, other))
	obj := h.drive(reason(v1alpha1.ReasonWaitingForLock))
	if ready := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, "DBUpgrade "+first.String()+" is changing the same database") {
		t.Errorf("message %q", ready.Message)
	}
	if meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Error("waiting for a lock is not Stalled")
	}
	h.player.Wait = true
	h.key = first
	h.drive(settled)
	h.key = types.NamespacedName{Namespace: h.namespace, Name: "other"}
	h.drive(settled)
}

// TestEviction replaces an evicted pod within the same Job and attempt.
func TestEviction(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1, "SELECT pg_sleep(1.5);\n")))
	h.player.Wait = false
	h.drive(reason(v1alpha1.ReasonMigrationInProgress))
	postgres.AwaitSleep(t, h.url)
	h.must(h.player.Evict(h.ctx))
	h.player.Wait = true
	obj := h.drive(settled)
	h.expectExecuted("1")
	if obj.Status.Attempt.Number != 1 {
		t.Errorf("attempt %d, want 1", obj.Status.Attempt.Number)
	}
}

// TestRetry starts a failed attempt anew for a new value of the annotation, and does nothing on a Ready object.
func TestRetry(t *testing.T) {
	h := newHand(t)
	retry := func(value string) {
		h.edit(func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: value} })
	}
	h.create(h.image("app:v1", steps(1)))
	h.drive(settled)
	h.setImage(h.image("app:v2", steps(2, "INSERT INTO later VALUES (1);\n")))
	h.drive(reason(v1alpha1.ReasonJobFailed))
	h.quiet()
	h.clock.SetTime(h.clock.Now().Add(24 * time.Hour))
	h.quiet()
	if n := h.get().Status.Attempt.Number; n != 2 {
		t.Errorf("%d attempts, one of them at what fails as it stands", n)
	}
	h.exec("CREATE TABLE later (n int)")
	retry("1")
	if obj := h.drive(settled); obj.Status.Attempt.Number != 3 {
		t.Errorf("attempt %d", obj.Status.Attempt.Number)
	}
	retry("2")
	h.quiet()
	if n := h.get().Status.Attempt.Number; n != 3 {
		t.Errorf("retry on a Ready object started attempt %d", n)
	}
}

// TestStatusLost wipes the status at several moments; the Job still says what was done.
func TestStatusLost(t *testing.T) {
	for name, state := range map[string]until{"pending": reason(v1alpha1.ReasonJobPending), "running": reason(v1alpha1.ReasonMigrationInProgress), "settled": settled} {
		t.Run(name, func(t *testing.T) {
			h := newHand(t)
			h.create(h.image("app:v1", steps(1)))
			obj := h.drive(state)
			obj.Status = v1alpha1.DBUpgradeStatus{}
			h.must(world.client.Status().Update(h.ctx, obj))
			h.drive(settled)
			h.expectExecuted("1")
			h.expectOneJobPerAttempt()
		})
	}
}

// TestStaleCache reconciles on a cache that shows the past: an object before its attempt, a Job before its end. Nothing is started twice.
func TestStaleCache(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1)))
	past := &frozen{Client: h.reconciler.Client}
	for _, state := range []until{
		func(o *v1alpha1.DBUpgrade) bool { return o.Status.Attempt != nil },
		reason(v1alpha1.ReasonJobPending), reason(v1alpha1.ReasonMigrationInProgress), settled,
	} {
		shown := h.get() // the cache will show this object, and the Jobs of now, while the truth moves on
		past.freeze(shown, h.jobs())
		h.drive(state)
		fresh := h.reconciler.Client
		h.reconciler.Client = past
		for range 3 {
			_, err := h.reconciler.Reconcile(h.ctx, ctrl.Request{NamespacedName: h.key})
			h.must(err)
		}
		h.reconciler.Client = fresh
	}
	h.drive(settled)
	h.expectExecuted("1")
	h.expectOneJobPerAttempt()
	if n := h.get().Status.Attempt.Number; n != 1 {
		t.Errorf("attempt %d, want 1", n)
	}
}

// TestForeignJob finds a Job of somebody else under the name that the attempt's Job should have.
func TestForeignJob(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", steps(1)))
	obj := h.drive(func(o *v1alpha1.DBUpgrade) bool { return o.Status.Attempt != nil })
	foreign := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: obj.Status.Attempt.Job}}
	foreign.Spec.Template.Spec.RestartPolicy = "Never"
	foreign.Spec.Template.Spec.Containers = append(foreign.Spec.Template.Spec.Containers, container("nothing"))
	suspended := true
	foreign.Spec.Suspend = &suspended
	h.must(world.client.Create(h.ctx, foreign))
	obj = h.drive(reason(v1alpha1.ReasonPodNotCreated))
	if ready := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, "is not this DBUpgrade's: delete it") {
		t.Errorf("message %q", ready.Message)
	}
	h.must(world.client.Delete(h.ctx, foreign, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	h.drive(settled)
	if !slices.Contains(h.events.reasons(), v1alpha1.ReasonPodNotCreated) {
		t.Error("no event")
	}
}
