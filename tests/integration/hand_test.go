// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/controllers"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
	"github.com/subganapathy/automatic-db-upgrades/tests/player"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// hand drives the reconciler by hand, in a namespace of its own, with a database of its own.
type hand struct {
	t          *testing.T
	ctx        context.Context
	namespace  string
	key        types.NamespacedName
	url        string // of the database
	registry   *registry.Registry
	player     *player.Player
	clock      *testingclock.FakePassiveClock
	wire       *wire // every API call of the reconciler
	reconciler *controllers.DBUpgradeReconciler
	events     *recorder
	holder     *pgx.Conn // of the advisory lock, where a test takes it
}

func newHand(t *testing.T) *hand {
	t.Helper()
	h := &hand{t: t, ctx: context.Background(), registry: registry.New(t), clock: testingclock.NewFakePassiveClock(time.Now()), events: &recorder{}, wire: &wire{}}
	h.namespace = controlplane.Namespace(t, world.client)
	h.key = types.NamespacedName{Namespace: h.namespace, Name: "app"}
	h.url = world.postgres.NewDatabase(t)
	h.secret("db", map[string]string{"url": h.url})
	h.player = &player.Player{Client: world.client, Namespace: h.namespace, Runner: world.runner, Dir: t.TempDir(), Wait: true}
	t.Cleanup(h.player.Stop)

	config := rest.CopyConfig(world.operator)
	config.Wrap(h.wire.around)
	cached, err := client.New(config, client.Options{Scheme: world.scheme, Mapper: world.mapper, Cache: &client.CacheOptions{Reader: world.cache}})
	h.must(err)
	live, err := client.New(config, client.Options{Scheme: world.scheme, Mapper: world.mapper})
	h.must(err)
	h.reconciler = &controllers.DBUpgradeReconciler{
		Client: cached, Live: live, Recorder: h.events, Clock: h.clock, Namespace: operatorNamespace,
		Runner:  upgrade.RunnerConfig{Image: operatorImage, PlainHTTP: true, LockTimeout: "5s"},
		Metrics: controllers.NewMetrics(cached),
	}
	t.Cleanup(h.checkNoPassword)
	return h
}

func (h *hand) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hand) secret(name string, data map[string]string) {
	h.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: name}, StringData: data}
	if err := world.client.Create(h.ctx, secret); err != nil {
		h.must(world.client.Update(h.ctx, secret))
	}
}

// image pushes an image with these migrations and returns its reference.
func (h *hand) image(name string, files map[string]string) string {
	h.t.Helper()
	h.registry.Push(h.t, name, registry.Image(h.t, registry.Migrations(h.t, files)))
	return h.registry.Ref(name)
}

// create makes the DBUpgrade that the test is about.
func (h *hand) create(image string, options ...builders.Option) {
	h.t.Helper()
	options = append([]builders.Option{builders.Named(h.namespace, "app"), builders.Image(image)}, options...)
	h.must(world.client.Create(h.ctx, builders.DBUpgrade(options...)))
}

// edit changes the DBUpgrade as a user would.
func (h *hand) edit(change func(*v1alpha1.DBUpgrade)) {
	h.t.Helper()
	obj := h.get()
	base := obj.DeepCopy()
	change(obj)
	h.must(world.client.Patch(h.ctx, obj, client.MergeFrom(base)))
}

func (h *hand) setImage(image string) {
	h.t.Helper()
	h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = image })
}

// get is the DBUpgrade as the API server has it; empty once it is gone.
func (h *hand) get() *v1alpha1.DBUpgrade {
	h.t.Helper()
	obj := &v1alpha1.DBUpgrade{}
	h.must(client.IgnoreNotFound(world.client.Get(h.ctx, h.key, obj)))
	return obj
}

func (h *hand) jobs() []batchv1.Job {
	h.t.Helper()
	var jobs batchv1.JobList
	h.must(world.client.List(h.ctx, &jobs, client.InNamespace(h.namespace)))
	return jobs.Items
}

// reconcile calls Reconcile once, with a cache that is up to date.
func (h *hand) reconcile() (ctrl.Result, error) {
	h.t.Helper()
	h.sync()
	return h.reconciler.Reconcile(h.ctx, ctrl.Request{NamespacedName: h.key})
}

// until is a state to drive to.
type until func(*v1alpha1.DBUpgrade) bool

func reason(reason string) until {
	return func(o *v1alpha1.DBUpgrade) bool {
		ready := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Reason == reason && ready.ObservedGeneration == o.Generation
	}
}

// settled is Ready with nothing left to clean up.
func settled(o *v1alpha1.DBUpgrade) bool {
	return reason(v1alpha1.ReasonMigrationComplete)(o) && len(o.Finalizers) == 0
}

func gone(o *v1alpha1.DBUpgrade) bool { return o.UID == "" }

// drive lets the reconciler and the cluster take turns, and steps the clock where both wait for it, until the state is reached.
func (h *hand) drive(done until) *v1alpha1.DBUpgrade {
	h.t.Helper()
	obj := h.get()
	for range 300 {
		if done(obj) {
			return obj
		}
		before := h.wire.writes()
		result, failed := h.reconcile()
		if failed != nil && !h.wire.tampers() {
			h.t.Fatalf("reconcile: %v", failed)
		}
		h.wire.revive()
		moved, err := h.player.Step(h.ctx)
		h.must(err)
		if obj = h.get(); done(obj) {
			return obj
		}
		if moved || failed != nil || h.wire.writes() != before || h.player.Await(100*time.Millisecond) {
			continue
		}
		if result.RequeueAfter == 0 {
			h.t.Fatalf("nothing moves and nothing is waited for:\n%s\n%s", describe(obj), h.player.Log())
		}
		h.clock.SetTime(h.clock.Now().Add(result.RequeueAfter))
	}
	h.t.Fatalf("does not get there:\n%s\n%s", describe(obj), h.player.Log())
	return nil
}

// quiet drives until nobody has anything to do and nothing is left to wait for but time.
func (h *hand) quiet() {
	h.t.Helper()
	for range 100 {
		before := h.wire.writes()
		_, err := h.reconcile()
		h.must(err)
		moved, err := h.player.Step(h.ctx)
		h.must(err)
		if !moved && h.wire.writes() == before {
			return
		}
	}
	h.t.Fatal("never quiet")
}

func describe(o *v1alpha1.DBUpgrade) string {
	var b strings.Builder
	for _, c := range o.Status.Conditions {
		fmt.Fprintf(&b, "%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	fmt.Fprintf(&b, "attempt %+v\n", o.Status.Attempt)
	return b.String()
}

// sync waits until the cache shows what the API server has of the namespace.
func (h *hand) sync() {
	h.t.Helper()
	ours := client.MatchingLabels{upgrade.LabelManagedBy: upgrade.ManagedBy}
	for list, only := range map[client.ObjectList]client.ListOption{
		&v1alpha1.DBUpgradeList{}: client.MatchingLabels{}, &batchv1.JobList{}: ours, &corev1.PodList{}: ours,
		&corev1.EventList{}: client.MatchingFields{"involvedObject.kind": "Job", "reason": "FailedCreate"},
	} {
		h.must(world.client.List(h.ctx, list, client.InNamespace(h.namespace), only))
		want := versions(list)
		for deadline := time.Now().Add(20 * time.Second); ; {
			cached := list.DeepCopyObject().(client.ObjectList)
			h.must(meta.SetList(cached, nil))
			h.must(world.cache.List(h.ctx, cached, client.InNamespace(h.namespace)))
			if got := versions(cached); reflect.DeepEqual(want, got) {
				break
			} else if time.Now().After(deadline) {
				h.t.Fatalf("the cache lags: %v, want %v", got, want)
			}
			time.Sleep(time.Millisecond) // there is no watch on a cache's own state
		}
	}
}

func versions(list client.ObjectList) map[string]string {
	seen := map[string]string{}
	_ = meta.EachListItem(list, func(o apiruntime.Object) error {
		seen[o.(client.Object).GetName()] = o.(client.Object).GetResourceVersion()
		return nil
	})
	return seen
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []event
}

type event struct{ kind, reason, note string }

func (r *recorder) Eventf(_, _ apiruntime.Object, kind, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event{kind, reason, fmt.Sprintf(note, args...)})
}

// reasons are those of all events so far.
func (r *recorder) reasons() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.events {
		all = append(all, e.reason)
	}
	return all
}

func (r *recorder) last(reason string) (event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.events) - 1; i >= 0; i-- {
		if r.events[i].reason == reason {
			return r.events[i], nil
		}
	}
	return event{}, errors.New("no event " + reason)
}

// checkNoPassword looks for the database's password in everything that the operator and the runner have said.
func (h *hand) checkNoPassword() {
	h.t.Helper()
	parsed, err := url.Parse(h.url)
	h.must(err)
	password, _ := parsed.User.Password()
	var pods corev1.PodList
	h.must(world.client.List(h.ctx, &pods, client.InNamespace(h.namespace)))
	said, err := json.Marshal(map[string]any{"object": h.get(), "jobs": h.jobs(), "pods": pods.Items, "log": h.player.Log(), "events": fmt.Sprint(h.events.events), "manager": world.log.String()})
	h.must(err)
	for _, secret := range []string{password, marker} {
		if at := bytes.Index(said, []byte(secret)); at >= 0 {
			h.t.Errorf("a password is told: …%s", said[max(0, at-200):min(len(said), at+100)])
		}
	}
}

// marker is the password in every URL that a test breaks on purpose.
const marker = "do-not-tell-7d1f"

// safeBuffer is a buffer that several goroutines may write to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
