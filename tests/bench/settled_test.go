// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"runtime"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	settledObjects = 1000
	// idleFor is how long the manager is watched while it has nothing to do.
	idleFor = 3 * time.Second
)

// BenchmarkSettled looks at a manager whose DBUpgrades are all Ready, each with the Job and the pod of its attempt still there.
func BenchmarkSettled(b *testing.B) {
	c, names := startCluster(b), fleet("app", settledObjects)
	c.settle(b, names[:1])
	before := heap()
	m := c.startManager(b, 1)
	c.reconciled(b, m)
	c.rest(b, m)
	one := heap() - before
	m.stop()
	c.settle(b, names[1:])

	b.Run("start", func(b *testing.B) { benchmarkStart(b, c, one) })
	b.Run("idle", func(b *testing.B) { benchmarkIdle(b, c) })
	b.Run("reconcile", func(b *testing.B) { benchmarkReconcile(b, c, names) })
}

// settle creates DBUpgrades and has a manager bring them to rest.
func (c *cluster) settle(b *testing.B, names []string) {
	b.Helper()
	s, leave := c.play(b)
	defer leave()
	m := c.startManager(b, 0)
	defer m.stop()
	s.upgrades(b, names)
	c.rest(b, m)
}

// benchmarkStart measures from the start of a manager until it has come to reconcile every object once, and the heap that it then holds,
// which was one with a single object.
func benchmarkStart(b *testing.B, c *cluster, one float64) {
	var held float64
	var m *manager
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		m = c.startManager(b, settledObjects)
		c.reconciled(b, m)
		b.StopTimer()
		c.rest(b, m)
		held += heap() - before
		m.stop()
		b.StartTimer()
	}
	held /= float64(b.N)
	b.ReportMetric(held/(1<<20), "MiB-heap")
	b.ReportMetric(one/(1<<20), "MiB-heap-of-1")
	b.ReportMetric((held-one)/(1<<10)/(settledObjects-1), "KiB/object")
	b.ReportMetric(float64(m.notes.reconciles.Load())/settledObjects, "reconciles/object")
	m.calls.report(b, settledObjects)
}

// benchmarkIdle counts what a manager does while nothing happens. Any write is an error.
func benchmarkIdle(b *testing.B, c *cluster) {
	m := c.startManager(b, settledObjects)
	defer m.stop()
	c.reconciled(b, m)
	c.rest(b, m)
	m.calls.reset()
	reconciles := m.notes.reconciles.Load()
	for b.Loop() {
		time.Sleep(idleFor)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(idleFor.Seconds()*float64(b.N), "s")
	b.ReportMetric(float64(m.notes.reconciles.Load()-reconciles), "reconciles")
	b.ReportMetric(float64(m.calls.total()), "requests")
	if n := m.calls.sum(isWrite); n > 0 {
		b.Errorf("%d writes while nothing happened: %s", n, m.calls.each(1))
	}
}

// benchmarkReconcile measures one reconcile of a settled object among many. It must make no request and wait for nothing.
func benchmarkReconcile(b *testing.B, c *cluster, names []string) {
	m := c.startManager(b, settledObjects)
	defer m.stop()
	c.reconciled(b, m)
	c.rest(b, m)
	m.calls.reset()
	r, i := m.reconciler(m.GetClient()), 0
	b.ReportAllocs()
	for b.Loop() {
		key := types.NamespacedName{Namespace: c.namespace, Name: names[i%len(names)]}
		result, err := r.Reconcile(context.Background(), ctrl.Request{NamespacedName: key})
		if err != nil || result != (ctrl.Result{}) {
			b.Fatalf("%+v, %v", result, err)
		}
		i++
	}
	b.ReportMetric(float64(m.calls.total())/float64(i), "requests/op")
}

// heap is what this process holds, in bytes.
func heap() float64 {
	runtime.GC() // finishes what the one before began to free
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
