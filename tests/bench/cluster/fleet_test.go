//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// creators is how many clients create objects at the same time.
const creators = 16

// BenchmarkFleet creates DBUpgrades at once and waits until all are Ready, and compares them with as many bare Jobs of the same pods until all are
// Complete. API server, Job controller, scheduler and manager are real, and only the nodes are not.
//
// One operation is one leg of each, and the order is turned round every time: two of them, by -benchtime=2x, have what drifts fall on both alike.
// What a leg has made is gone before the next. The manager runs, and rests, beside the Jobs.
func BenchmarkFleet(b *testing.B) {
	f := newFleet(b)
	for _, fleet := range []struct {
		objects int
		idle    time.Duration // how long to watch them do nothing
	}{{300, 0}, {1000, 2 * time.Minute}} {
		b.Run(fmt.Sprintf("objects=%d", fleet.objects), func(b *testing.B) { f.benchmark(b, fleet.objects, fleet.idle) })
	}
}

// fleet is a cluster with fake nodes, and the operator.
type fleet struct {
	stage   *stage.Stage
	manager *manager
	job     *batchv1.Job // of the operator, to be made bare
}

func newFleet(b *testing.B) *fleet {
	b.Helper()
	s := stage.Open(b)
	s.Install(b)
	startKwok(b, s)
	f := &fleet{stage: s, manager: findManager(b, s)}
	f.leg(b, func(l *leg) { f.job = l.upgrades(b, 20).job }, nil) // connections are made, buffers grow
	f.leg(b, func(l *leg) { l.bareJobs(b, 20) }, nil)
	return f
}

func (f *fleet) benchmark(b *testing.B, n int, idle time.Duration) {
	var sum outcome
	var used, usedIdle, usedBare usage
	legs := []func(){
		func() {
			used = used.plus(f.leg(b, func(l *leg) { sum.add(l.upgrades(b, n)) }, func() {
				before := f.manager.usage(b)
				time.Sleep(idle)
				usedIdle = usedIdle.plus(f.manager.usage(b).since(before))
			}))
		},
		func() {
			usedBare = usedBare.plus(f.leg(b, func(l *leg) { sum.bare += l.bareJobs(b, n) }, nil))
		},
	}
	f.manager.resetPeak(b)
	ops := 0
	for b.Loop() {
		for _, leg := range legs {
			leg()
		}
		slices.Reverse(legs)
		ops++
	}
	b.ReportMetric(0, "ns/op") // with all that is between: says nothing
	b.ReportMetric(sum.ready.Seconds()/float64(ops), "s-ready")
	b.ReportMetric(sum.settled.Seconds()/float64(ops), "s-settled")
	b.ReportMetric(sum.bare.Seconds()/float64(ops), "s-bare-jobs")
	b.ReportMetric(sum.ready.Seconds()/sum.bare.Seconds(), "x-bare-jobs")
	b.ReportMetric(total(used.requests)/float64(ops*n), "manager-requests/object")
	b.ReportMetric(total(used.api)/float64(ops*n), "requests/object")
	b.ReportMetric(total(usedBare.api)/float64(ops*n), "requests/bare-job")
	b.ReportMetric(1000*used.cpu/float64(ops*n), "ms-manager-cpu/object")
	b.ReportMetric(f.manager.peak(b), "MiB-manager-peak")
	b.Log("requests of the manager for each DBUpgrade:", each(used.requests, ops*n))
	b.Log("requests of all for each DBUpgrade:", each(used.api, ops*n))
	b.Log("requests of all for each bare Job:", each(usedBare.api, ops*n))
	if idle > 0 {
		b.ReportMetric(usedIdle.cpu/float64(ops), "s-idle-cpu")
		b.ReportMetric(total(usedIdle.requests)/float64(ops), "idle-requests")
		b.Logf("requests of the manager in %s with %d settled objects: %s", idle, n, each(usedIdle.requests, ops))
	}
}

// leg is a namespace of its own, and who watches it.
type leg struct {
	*fleet
	namespace string
	witness   *witness
}

// leg plays one, and returns what was used until then. Then it does what else is to be done, and removes the objects.
func (f *fleet) leg(b *testing.B, play func(*leg), then func()) usage {
	b.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "fleet-"}}
	must(b, f.stage.Client.Create(b.Context(), namespace))
	removed := false
	remove := func(ctx context.Context) {
		if removed {
			return
		}
		removed = true
		if out, err := f.stage.TryKubectl(ctx, "", "delete", "namespace", namespace.Name, "--timeout=20m"); err != nil {
			b.Errorf("%v: %s", err, out)
		}
	}
	b.Cleanup(func() { remove(context.Background()) }) // where the benchmark fails
	w, stop := watch(b, f.stage, namespace.Name)
	defer stop()
	l := &leg{fleet: f, namespace: namespace.Name, witness: w}
	before := f.manager.usage(b)
	play(l)
	used := f.manager.usage(b).since(before)
	if then != nil {
		then()
	}
	remove(b.Context())
	return used
}

// outcome of a leg, or the sum of some.
type outcome struct {
	ready, settled, bare time.Duration
	job                  *batchv1.Job
}

func (o *outcome) add(other outcome) {
	o.ready += other.ready
	o.settled += other.settled
}

// upgrades creates DBUpgrades at once, each with a database of its own, and waits until all are settled.
func (l *leg) upgrades(b *testing.B, n int) outcome {
	b.Helper()
	start := time.Now()
	uids := l.create(b, n, func(name string) client.Object {
		return builders.DBUpgrade(builders.Named(l.namespace, name), builders.URLSecret(name), func(obj *v1alpha1.DBUpgrade) {
			onFakeNodes(&obj.Spec.Runner)
		})
	})
	o := outcome{
		ready:   l.witness.last(b, uids, ready).Sub(start),
		settled: l.witness.last(b, uids, settled).Sub(start),
	}
	var jobs batchv1.JobList
	must(b, l.stage.Client.List(b.Context(), &jobs, client.InNamespace(l.namespace), client.Limit(1)))
	o.job = &jobs.Items[0]
	return o
}

// bareJobs creates as many bare Jobs and returns how long it took until all were Complete.
func (l *leg) bareJobs(b *testing.B, n int) time.Duration {
	b.Helper()
	start := time.Now()
	uids := l.create(b, n, func(name string) client.Object { return bareJob(l.job, l.namespace, name) })
	return l.witness.last(b, uids, complete).Sub(start)
}

// create creates n objects at once, and returns their UIDs.
func (l *leg) create(b *testing.B, n int, object func(name string) client.Object) []types.UID {
	b.Helper()
	uids := make([]types.UID, n)
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(creators)
	for i := range n {
		group.Go(func() error {
			obj := object(fmt.Sprintf("app-%d", i))
			err := l.stage.Client.Create(ctx, obj)
			uids[i] = obj.GetUID()
			return err
		})
	}
	must(b, group.Wait())
	return uids
}
