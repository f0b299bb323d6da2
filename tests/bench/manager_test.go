// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
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

// workers is the manager's default of --workers.
const workers = 8

// quietFor is how long nothing must happen to count as rest.
const quietFor = 500 * time.Millisecond

// manager is a manager as main.go makes it, without leader election, servers and webhook. It runs until stop.
type manager struct {
	ctrl.Manager
	calls  *calls
	notes  *notes
	cancel context.CancelFunc
	ended  chan struct{}
}

// startManager starts a manager. Its notes are complete once it has come to reconcile so many objects.
func (c *cluster) startManager(b *testing.B, objects int) *manager {
	b.Helper()
	m := &manager{calls: &calls{}, ended: make(chan struct{})}
	operator := rest.CopyConfig(c.operator)
	operator.Wrap(m.calls.around)
	var err error
	m.Manager, err = ctrl.NewManager(operator, ctrl.Options{
		Scheme:     c.scheme,
		Cache:      controllers.CacheOptions(operatorNamespace, nil),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // several managers come after each other in this process
	})
	must(b, err)
	m.notes = &notes{Client: m.GetClient(), objects: objects, seen: map[types.NamespacedName]bool{}, complete: make(chan struct{})}
	must(b, m.reconciler(m.notes).SetupWithManager(m))
	ctx, cancel := context.WithCancel(c.ctx)
	m.cancel = cancel
	go func() {
		defer close(m.ended)
		if err := m.Start(ctx); err != nil {
			c.fail(fmt.Errorf("the manager: %w", err))
		}
	}()
	return m
}

func (m *manager) reconciler(c client.Client) *controllers.DBUpgradeReconciler {
	return &controllers.DBUpgradeReconciler{
		Client: c, Live: m.GetAPIReader(), Recorder: m.GetEventRecorder("dbupgrade-controller"), Clock: clock.RealClock{},
		Namespace: operatorNamespace, Runner: upgrade.RunnerConfig{Image: operatorImage},
		Workers: workers, Metrics: controllers.NewMetrics(m.GetClient()),
	}
}

func (m *manager) stop() {
	m.cancel()
	<-m.ended
}

// reconciled waits until the manager has come to reconcile every object.
func (c *cluster) reconciled(b *testing.B, m *manager) {
	b.Helper()
	select {
	case <-m.notes.complete:
	case <-c.ctx.Done():
		b.Fatal(context.Cause(c.ctx))
	}
}

// rest waits until the manager makes no request and reconciles nothing any more.
func (c *cluster) rest(b *testing.B, m *manager) {
	b.Helper()
	for before, since := int64(-1), time.Now(); time.Since(since) < quietFor; {
		if now := m.notes.reconciles.Load(); now != before || !m.calls.quiet(since) {
			before, since = now, time.Now()
		}
		select {
		case <-time.After(quietFor / 10): // no watch tells that nothing happens
		case <-c.ctx.Done():
			b.Fatal(context.Cause(c.ctx))
		}
	}
}

// notes is a client that notes which objects are reconciled: every reconcile begins by getting its object from the cache.
type notes struct {
	client.Client
	objects    int
	complete   chan struct{}
	reconciles atomic.Int64
	mu         sync.Mutex
	seen       map[types.NamespacedName]bool
}

func (n *notes) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if _, ok := obj.(*v1alpha1.DBUpgrade); ok {
		n.note(key)
	}
	return n.Client.Get(ctx, key, obj, opts...)
}

func (n *notes) note(key client.ObjectKey) {
	n.reconciles.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen[key] {
		return
	}
	n.seen[key] = true
	if len(n.seen) == n.objects {
		close(n.complete)
	}
}
