// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/controllers"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// startManager runs a real manager until stop is called: watches, cache, queue, workers and event recorder are those of production.
func startManager(t *testing.T) func() {
	t.Helper()
	mgr, err := ctrl.NewManager(world.operator, ctrl.Options{
		Scheme: world.scheme, Cache: controllers.CacheOptions(operatorNamespace, nil),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // several managers in one process
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &controllers.DBUpgradeReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("dbupgrade-controller"), Clock: clock.RealClock{},
		Namespace: operatorNamespace, Runner: upgrade.RunnerConfig{Image: operatorImage, PlainHTTP: true}, Workers: 4,
		Metrics: controllers.NewMetrics(mgr.GetClient()),
	}
	if err := r.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// play has the player step by itself, as a cluster does, until the test ends.
func (h *hand) play() {
	h.player.Wait = false
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			moved, err := h.player.Step(ctx)
			if err != nil && ctx.Err() == nil {
				h.t.Logf("player: %v", err) // a conflict with the manager: the next step sees more
			}
			if !moved {
				time.Sleep(20 * time.Millisecond) // the kubelet's own rhythm
			}
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done })
}

// await waits until a DBUpgrade is as wanted.
func (h *hand) await(name string, wanted until) *v1alpha1.DBUpgrade {
	h.t.Helper()
	obj := &v1alpha1.DBUpgrade{}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		h.must(client.IgnoreNotFound(world.client.Get(h.ctx, client.ObjectKey{Namespace: h.namespace, Name: name}, obj)))
		if wanted(obj) {
			return obj
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s does not get there:\n%s", name, describe(obj))
		}
	}
}

// TestManager has a real manager do what the other tests do by hand: every step must be woken by a watch.
func TestManager(t *testing.T) {
	h := newHand(t)
	stop := startManager(t)
	defer func() { stop() }()
	h.play()

	h.create(h.image("app:v1", steps(1)))
	h.await("app", settled)
	h.expectAPIEvents("MigrationStarted", "MigrationSucceeded", "MigrationComplete")

	// Killed and started anew in the middle of a migration, with somebody else waiting for the same database.
	h.setImage(h.image("app:v2", steps(2, "SELECT pg_sleep(2);\n")))
	running := h.await("app", reason(v1alpha1.ReasonMigrationInProgress))
	other := &v1alpha1.DBUpgrade{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "other"}, Spec: running.Spec}
	h.must(world.client.Create(h.ctx, other))
	h.await("other", reason(v1alpha1.ReasonWaitingForLock))
	stop()
	stop = startManager(t)
	h.await("app", settled)
	h.await("other", settled)
	h.expectExecuted("1 2")

	// The Job controller's words about a pod that it may not create come by an event.
	h.must(world.client.Create(h.ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "q"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
	}))
	quota := &corev1.ResourceQuota{}
	h.must(world.client.Get(h.ctx, client.ObjectKey{Namespace: h.namespace, Name: "q"}, quota))
	quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: quota.Spec.Hard}
	h.must(world.client.Status().Update(h.ctx, quota))
	h.setImage(h.image("app:v3", steps(3)))
	h.await("app", func(o *v1alpha1.DBUpgrade) bool {
		ready := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Reason == v1alpha1.ReasonJobPending && strings.Contains(ready.Message, "exceeded quota")
	})
	h.must(world.client.Delete(h.ctx, quota))
	h.await("app", settled)
	h.expectExecuted("1 2 3")
	h.expectOneJobPerAttempt()
}

// expectAPIEvents waits for events on the DBUpgrade in the API server.
func (h *hand) expectAPIEvents(reasons ...string) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var events corev1.EventList
		h.must(world.client.List(h.ctx, &events, client.InNamespace(h.namespace)))
		seen := map[string]bool{}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind == "DBUpgrade" {
				seen[e.Reason] = true
			}
		}
		missing := []string{}
		for _, reason := range reasons {
			if !seen[reason] {
				missing = append(missing, reason)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("no events %v among %v", missing, seen)
		}
	}
}

// TestRights asks the API server what the manager may do: no Secret of anybody, nothing outside of what it needs.
func TestRights(t *testing.T) {
	h := newHand(t)
	operator, err := client.New(world.operator, client.Options{Scheme: world.scheme, Mapper: world.mapper})
	h.must(err)
	secret := &corev1.Secret{}
	for what, err := range map[string]error{
		"get a Secret":   operator.Get(h.ctx, client.ObjectKey{Namespace: h.namespace, Name: "db"}, secret),
		"list Secrets":   operator.List(h.ctx, &corev1.SecretList{}, client.InNamespace(h.namespace)),
		"create a pod":   operator.Create(h.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "p"}}),
		"delete a pod":   operator.Delete(h.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "p"}}),
		"edit a spec":    operator.Update(h.ctx, &v1alpha1.DBUpgrade{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "app", ResourceVersion: "1"}}),
		"take a Lease":   rawGet(world.operator, "/apis/coordination.k8s.io/v1/namespaces/"+h.namespace+"/leases"),
		"list all nodes": operator.List(h.ctx, &corev1.NodeList{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "forbidden") {
			t.Errorf("the manager may %s: %v", what, err)
		}
	}
}

func rawGet(config *rest.Config, path string) error {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	response, err := httpClient.Get(strings.TrimSuffix(config.Host, "/") + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusForbidden {
		return fmt.Errorf("forbidden")
	}
	return fmt.Errorf("%s", response.Status)
}
