// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkFleet creates DBUpgrades at once and waits until all are Ready, and compares them with as many bare Jobs until all are Complete.
//
// One operation is four legs, DBUpgrades, Jobs, Jobs, DBUpgrades: what drifts while they run, such as the load of the machine or the size of
// the API server's store, falls on both alike. What a leg
// has made stays. The manager runs, and rests, beside the Jobs.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{1, 300} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) { benchmarkFleet(b, n) })
	}
}

func benchmarkFleet(b *testing.B, n int) {
	c := startCluster(b)
	s, leave := c.play(b)
	defer leave()
	m := c.startManager(b, 0)
	defer m.stop()

	s.upgrades(b, fleet("warm", 20)) // connections are made, buffers grow
	s.bareJobs(b, fleet("warm", 20))
	c.rest(b, m)
	m.calls.reset()

	var ready, settled, jobs time.Duration
	legs := 0
	upgradeLeg := func() {
		r, s := s.upgrades(b, fleet(fmt.Sprintf("leg%d", legs), n))
		ready, settled = ready+r, settled+s
	}
	jobLeg := func() { jobs += s.bareJobs(b, fleet(fmt.Sprintf("leg%d", legs), n)) }
	for b.Loop() {
		for _, leg := range []func(){upgradeLeg, jobLeg, jobLeg, upgradeLeg} {
			leg()
			legs++
			b.StopTimer()
			c.rest(b, m)
			b.StartTimer()
		}
	}

	each := float64(legs / 2)
	b.ReportMetric(0, "ns/op") // of four legs: says nothing
	b.ReportMetric(ready.Seconds()/each, "s-ready")
	b.ReportMetric(settled.Seconds()/each, "s-settled")
	b.ReportMetric(jobs.Seconds()/each, "s-bare-jobs")
	b.ReportMetric(ready.Seconds()/jobs.Seconds(), "x-bare-jobs")
	m.calls.report(b, legs/2*n)
}
