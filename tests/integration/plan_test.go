// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
)

// says has the runner fetch, and then, instead of going near a database, end with a result: for what depends on the moment, or on the runner's own words.
// That of the next pod that starts is the one last set.
func (h *hand) says(code int32, r result.Result) {
	h.t.Helper()
	quoted := strings.ReplaceAll(string(r.Encode()), "'", `'\''`)
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = fetch ] && exec '%s' \"$@\"\nfor arg; do log=${arg#--termination-log=}; done\nprintf '%%s' '%s' >\"$log\"\nexit %d\n",
		world.runner, quoted, code)
	h.player.Runner = filepath.Join(h.t.TempDir(), "runner")
	h.must(os.WriteFile(h.player.Runner, []byte(script), 0o755))
}

// fails is says with a failure.
func (h *hand) fails(m v1alpha1.MigrationStatus, class v1alpha1.FailureClass, words string) {
	h.t.Helper()
	m.Failure = &v1alpha1.Failure{Class: class, Error: words}
	h.says(result.ClassOf(class).ExitCode, result.Result{Migration: &m})
}

// asked are the arguments that the migrate container of the latest attempt was given.
func (h *hand) asked() []string {
	h.t.Helper()
	attempt := h.get().Status.Attempt
	for _, job := range h.jobs() {
		if job.Name == attempt.Job {
			return job.Spec.Template.Spec.Containers[0].Args
		}
	}
	h.t.Fatalf("attempt %d has no Job", attempt.Number)
	return nil
}

func (h *hand) setMode(mode v1alpha1.Mode) {
	h.t.Helper()
	h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Mode = mode })
}

func planning(o *v1alpha1.DBUpgrade) { o.Spec.Mode = v1alpha1.ModePlan }

// trueOnes are the conditions that are True.
func trueOnes(o *v1alpha1.DBUpgrade) string {
	var all []string
	for _, kind := range []string{"Accepted", "Ready", "Progressing", "Degraded", "Blocked", "Stalled"} {
		if meta.IsStatusConditionTrue(o.Status.Conditions, kind) {
			all = append(all, kind)
		}
	}
	return strings.Join(all, " ")
}

// planEnded is PlanComplete with nothing left to clean up.
func planEnded(o *v1alpha1.DBUpgrade) bool {
	return reason(v1alpha1.ReasonPlanComplete)(o) && len(o.Finalizers) == 0
}

// TestPlan goes from a plan of the first image over its application to the plan of a second image, with the real runner.
func TestPlan(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	first := h.image("app:v1", steps(2))
	h.create(first, planning)
	obj := h.drive(planEnded)
	h.expectExecuted("")
	want := []v1alpha1.PlannedFile{{Version: "20260101000000", Description: "step", Statements: 2}, {Version: "20260102000000", Description: "step", Statements: 2}}
	if m := obj.Status.Migration; obj.Status.Revision != "" || m.Pending != 2 || !cmp.Equal(m.Planned, want) || len(m.Applied) > 0 {
		t.Errorf("revision %q, migration %+v", obj.Status.Revision, obj.Status.Migration)
	}
	if on := trueOnes(obj); on != "Accepted" {
		t.Errorf("conditions %s", on)
	}
	if message := h.readyMessage(obj); message != "Files to be applied: 2; the database has no version yet" {
		t.Errorf("message %q", message)
	}

	h.setMode(v1alpha1.ModeApply)
	obj = h.drive(settled)
	h.expectExecuted("1 2")
	applied := obj.Status.Revision

	h.edit(func(o *v1alpha1.DBUpgrade) {
		o.Spec.Mode, o.Spec.Migrations.Image = v1alpha1.ModePlan, h.image("app:v2", steps(3))
	})
	obj = h.drive(planEnded)
	h.expectExecuted("1 2")
	if m := obj.Status.Migration; obj.Status.Revision != applied || m.CurrentVersion != "20260102000000" || !cmp.Equal(m.Planned, []v1alpha1.PlannedFile{{Version: "20260103000000", Description: "step", Statements: 2}}) {
		t.Errorf("revision %q, migration %+v", obj.Status.Revision, obj.Status.Migration)
	}
	h.setImage(first)
	h.drive(settled) // a plan of what is applied needs no Job
	if n := h.get().Status.Attempt.Number; n != 3 {
		t.Errorf("attempt %d", n)
	}
}

// TestPlanIsTold: who looks at Jobs, events or the history takes a plan for a plan; it is made once, and again where somebody asks.
func TestPlanIsTold(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	found := []v1alpha1.Finding{{File: "20260101000000_step.sql", Line: 1, Code: "DS102", Severity: v1alpha1.SeverityError, Message: "drops table users"}}
	h.says(0, result.Result{Migration: &v1alpha1.MigrationStatus{
		TargetVersion: "20260101000000", Pending: 1, Total: 1, Planned: []v1alpha1.PlannedFile{{Version: "20260101000000", Statements: 2}}, Findings: found,
	}})
	h.create(h.image("app:v1", steps(1)), planning)
	h.drive(reason(v1alpha1.ReasonMigrationInProgress))
	if message := h.readyMessage(h.get()); !strings.Contains(message, "is finding out what would be applied") {
		t.Errorf("message %q", message)
	}
	obj := h.drive(planEnded)
	if got := h.asked()[0]; got != "plan" {
		t.Errorf("the Job was asked to %s", got)
	}
	if diff := cmp.Diff(found, obj.Status.Migration.Findings); diff != "" {
		t.Error(diff)
	}
	if message := h.readyMessage(obj); !strings.HasSuffix(message, "; there are errors among the findings") {
		t.Errorf("message %q", message)
	}
	wantEvents := []string{"Initializing", "JobPending", "PlanStarted", "MigrationInProgress", "PlanSucceeded", "PlanComplete"}
	if diff := cmp.Diff(wantEvents, h.events.reasons()); diff != "" {
		t.Error(diff)
	}
	if entry := obj.Status.History[0]; entry.Mode != v1alpha1.ModePlan || entry.Result != v1alpha1.AttemptSucceeded {
		t.Errorf("history %+v", entry)
	}
	h.clock.SetTime(h.clock.Now().Add(24 * time.Hour))
	h.quiet()
	if n := h.get().Status.Attempt.Number; n != 1 {
		t.Errorf("%d plans", n)
	}
	h.expectNoLease()

	h.fails(v1alpha1.MigrationStatus{}, v1alpha1.HistoryConflict, "file 2 is applied and was changed")
	h.edit(func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "1"} })
	obj = h.drive(reason(v1alpha1.ReasonJobFailed))
	if message := h.readyMessage(obj); message != "Planning: file 2 is applied and was changed" || trueOnes(obj) != "Accepted Degraded Stalled" {
		t.Errorf("%s: %q", trueOnes(obj), message)
	}
	if _, err := h.events.last(v1alpha1.EventPlanFailed); err != nil {
		t.Error(err)
	}
}

// TestPlanWithoutStatus: where the status is lost while a plan is made, its Job says that it is only that.
func TestPlanWithoutStatus(t *testing.T) {
	for name, state := range map[string]until{"pending": reason(v1alpha1.ReasonJobPending), "running": reason(v1alpha1.ReasonMigrationInProgress), "ended": planEnded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHand(t)
			h.says(0, result.Result{Migration: &v1alpha1.MigrationStatus{Pending: 1, Total: 1, Planned: []v1alpha1.PlannedFile{{Version: "1"}}}})
			h.create(h.image("app:v1", steps(1)), planning)
			obj := h.drive(state)
			obj.Status = v1alpha1.DBUpgradeStatus{}
			h.must(world.client.Status().Update(h.ctx, obj))
			if obj = h.drive(planEnded); obj.Status.Revision != "" || obj.Status.Attempt.Mode != v1alpha1.ModePlan {
				t.Errorf("revision %q, attempt %+v", obj.Status.Revision, obj.Status.Attempt)
			}
		})
	}
}

// TestResolve: the message of a statement in doubt is all that one needs to go on, in either way.
func TestResolve(t *testing.T) {
	for _, way := range []string{"redo", "skip"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHand(t)
			const words = "dbupgrade: in doubt: ABCDEF23: it was started outside a transaction, and nobody knows whether it took effect"
			h.fails(v1alpha1.MigrationStatus{Pending: 1, Total: 1}, v1alpha1.InDoubt, words)
			h.create(h.image("app:v1", steps(1)))
			obj := h.drive(reason(v1alpha1.ReasonInDoubt))
			want := words + ". If it took no effect: kubectl annotate dbu --namespace " + h.namespace +
				" app dbupgrade.subbug.learning/resolve=redo:ABCDEF23 --overwrite; if it did, the same with skip:ABCDEF23"
			if message := h.readyMessage(obj); message != want {
				t.Errorf("message %q", message)
			}
			resolve := func(value string) {
				h.edit(func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationResolve: value} })
			}
			resolve("the statement took effect") // the webhook is away
			h.quiet()
			if n := h.get().Status.Attempt.Number; n != 1 {
				t.Errorf("nonsense started attempt %d", n)
			}
			h.fails(v1alpha1.MigrationStatus{Pending: 1, Total: 1}, v1alpha1.InDoubt, strings.Replace(words, "ABCDEF23", "ABCDEF24", 1))
			resolve(way + ":ABCDEF23")
			obj = h.drive(func(o *v1alpha1.DBUpgrade) bool {
				return reason(v1alpha1.ReasonInDoubt)(o) && o.Status.Attempt.Number == 2
			})
			if !slices.Contains(h.asked(), "--resolve="+way+":ABCDEF23") || obj.Status.Attempt.Resolve != way+":ABCDEF23" {
				t.Errorf("the Job was asked to %q", h.asked())
			}
			h.quiet()
			if n := h.get().Status.Attempt.Number; n != 2 {
				t.Errorf("one value made %d attempts", n-1)
			}
			h.says(0, result.Result{Migration: &v1alpha1.MigrationStatus{CurrentVersion: "20260101000000", TargetVersion: "20260101000000", Total: 1}})
			resolve(way + ":ABCDEF24")
			if obj = h.drive(settled); obj.Status.Attempt.Number != 3 {
				t.Errorf("attempt %d", obj.Status.Attempt.Number)
			}
			resolve(way + ":ABCDEF25")
			h.quiet()
			if n := h.get().Status.Attempt.Number; n != 3 {
				t.Errorf("on a Ready object it started attempt %d", n)
			}
		})
	}
}

// TestResolveInTheDatabase: the real runner is killed within a statement outside a transaction, and does with it what the annotation says.
func TestResolveInTheDatabase(t *testing.T) {
	for way, want := range map[string]string{"redo": "1 2", "skip": "2"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHand(t)
			h.create(h.image("app:v1", map[string]string{"20260101000000_step.sql": `-- atlas:txmode none

CREATE TABLE applied (n int);
CREATE TABLE gate AS SELECT 60 AS seconds;
INSERT INTO applied SELECT 1 FROM pg_sleep((SELECT seconds FROM gate));
INSERT INTO applied VALUES (2);
`}))
			h.player.Wait = false
			h.drive(reason(v1alpha1.ReasonMigrationInProgress))
			postgres.AwaitSleep(t, h.url)
			h.player.Kill()
			h.endSleep()
			h.player.Wait = true
			message := h.readyMessage(h.drive(reason(v1alpha1.ReasonInDoubt)))
			id := regexp.MustCompile("resolve=redo:([A-Z2-7]{8}) --overwrite").FindStringSubmatch(message)
			if id == nil {
				t.Fatalf("message %q", message)
			}
			h.exec("UPDATE gate SET seconds = 0")
			h.edit(func(o *v1alpha1.DBUpgrade) {
				o.Annotations = map[string]string{v1alpha1.AnnotationResolve: way + ":" + id[1]}
			})
			h.drive(settled)
			if got := strings.Join(h.column("SELECT n::text FROM applied ORDER BY ctid"), " "); got != want {
				t.Errorf("executed %q, want %q", got, want)
			}
		})
	}
}

// TestLintFailed: findings get into status, and a changed image goes on.
func TestLintFailed(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	found := []v1alpha1.Finding{
		{File: "20260101000000_step.sql", Line: 3, Code: "DS102", Severity: v1alpha1.SeverityError, Message: "drops table users"},
		{File: "20260101000000_step.sql", Line: 1, Code: "PG101", Severity: v1alpha1.SeverityWarning, Message: "builds an index under a lock"},
	}
	h.fails(v1alpha1.MigrationStatus{TargetVersion: "20260101000000", Pending: 1, Total: 1, Findings: found}, v1alpha1.LintFailed, "1 of 2 findings is an error: 20260101000000_step.sql:3: DS102")
	h.create(h.image("app:v1", steps(1)), func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Lint = v1alpha1.LintEnforce })
	obj := h.drive(reason(v1alpha1.ReasonLintFailed))
	if !slices.Contains(h.asked(), "--lint=Enforce") {
		t.Errorf("the Job was asked to %q", h.asked())
	}
	if diff := cmp.Diff(found, obj.Status.Migration.Findings); diff != "" {
		t.Error(diff)
	}
	if f := obj.Status.Migration.Failure; f.Class != v1alpha1.LintFailed || trueOnes(obj) != "Accepted Degraded Stalled" {
		t.Errorf("%s, failure %+v", trueOnes(obj), f)
	}
	if event, err := h.events.last(v1alpha1.ReasonLintFailed); err != nil || event.kind != corev1.EventTypeWarning {
		t.Errorf("event %+v, %v", event, err)
	}
	h.says(0, result.Result{Migration: &v1alpha1.MigrationStatus{CurrentVersion: "20260101000000", TargetVersion: "20260101000000", Total: 1}})
	h.setImage(h.image("app:v2", steps(1)))
	if obj = h.drive(settled); len(obj.Status.Migration.Findings) > 0 {
		t.Errorf("findings of an earlier attempt: %+v", obj.Status.Migration.Findings)
	}
}

// everyOption sets all options of a migration, as far as they go together.
func everyOption(o *v1alpha1.DBUpgrade) {
	o.Spec.Migrations.Lint = v1alpha1.LintOff
	o.Spec.Migrations.Apply = v1alpha1.ApplySpec{
		Baseline: "20260101000000", ExecOrder: v1alpha1.ExecOrderNonLinear, TxMode: v1alpha1.TxModeNone, RevisionsSchema: "public", ToVersion: "20260102000000",
		LockTimeout:          &metav1.Duration{Duration: 20 * time.Second},
		StatementLockTimeout: &metav1.Duration{Duration: time.Second},
		StatementTimeout:     &metav1.Duration{Duration: time.Minute},
	}
}

// TestOptions: the real runner takes all of them, and does what they say.
func TestOptions(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.create(h.image("app:v1", steps(3)), everyOption)
	obj := h.drive(settled)
	h.expectExecuted("2") // the first is the baseline, the third comes after the last
	if m := obj.Status.Migration; m.CurrentVersion != "20260102000000" || m.Pending != 1 {
		t.Errorf("migration %+v", m)
	}
	if got := h.tables(); got != "applied atlas_schema_revisions" {
		t.Errorf("tables %q", got)
	}
}

// TestAuthorities: a ConfigMap that is missing is told by the runner, and comes to the pod of the next attempt.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.says(0, result.Result{Migration: &v1alpha1.MigrationStatus{CurrentVersion: "1", TargetVersion: "1", Total: 1}})
	h.must(world.client.Create(h.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "authorities"}, Data: map[string]string{"db.pem": "certificates"}}))
	h.create(h.image("app:v1", steps(1)), func(o *v1alpha1.DBUpgrade) {
		o.Spec.Database.TLS = &v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "authorities", Key: "db.pem"}}
	})
	h.drive(settled)
	mounted, err := filepath.Glob(filepath.Join(h.player.Dir, "*", "tls", "ca.crt"))
	h.must(err)
	if len(mounted) != 1 || !slices.Contains(h.asked(), "--tls-ca=/tls/ca.crt") {
		t.Errorf("mounted %v, asked to %q", mounted, h.asked())
	}
}

// TestInvalidCombinations are refused with the webhook away, by the API server or else by the condition Accepted.
func TestInvalidCombinations(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	image := h.image("app:v1", steps(1))
	contradiction := builders.DBUpgrade(builders.Named(h.namespace, "app"), builders.Image(image), func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Apply = v1alpha1.ApplySpec{Baseline: "1", AllowDirty: true}
	})
	if err := world.client.Create(h.ctx, contradiction, client.DryRunAll); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("got %v", err)
	}
	upstream(h)
	h.create(image, everyOption, planning)
	obj := h.drive(reason(v1alpha1.ReasonInvalidSpec))
	accepted := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAccepted)
	for _, field := range []string{"spec.mode", "spec.migrations.apply.toVersion", "spec.migrations.apply.statementLockTimeout", "spec.migrations.apply.statementTimeout"} {
		if accepted.Status != metav1.ConditionFalse || !strings.Contains(accepted.Message, field+": Forbidden") {
			t.Errorf("accepted: %+v", accepted)
		}
	}
	if jobs := h.jobs(); len(jobs) > 0 {
		t.Errorf("there are %d Jobs", len(jobs))
	}
}

// TestUpstreamOptions: the real Atlas CLI is told the format, the baseline and where its history is.
func TestUpstreamOptions(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	upstream(h)
	h.unencrypted()
	h.exec("CREATE TABLE users (id int)")
	h.create(h.image("app:v1", map[string]string{
		"20260101000000_users.sql":  "-- +goose Up\nCREATE TABLE users (id int);\n-- +goose Down\nDROP TABLE users;\n",
		"20260102000000_orders.sql": "-- +goose Up\nCREATE TABLE orders (id int);\n-- +goose Down\nDROP TABLE orders;\n",
	}), func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Format = v1alpha1.FormatGoose
		o.Spec.Migrations.Apply = v1alpha1.ApplySpec{Baseline: "20260101000000", TxMode: v1alpha1.TxModeAll, RevisionsSchema: "public"}
	})
	h.drive(settled)
	if got := h.tables(); got != "atlas_schema_revisions orders users" {
		t.Errorf("tables %q", got)
	}
}
