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
// the API server's store, falls on both alike. The manager runs, and rests, beside the Jobs.
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
	defer m.stop(b)

	var upgrades, settled, jobs time.Duration
	upgradeLeg := func() {
		m.calls.counting(true)
		start := time.Now()
		upgrades += s.run(b, n, c.upgrade, ready)
		b.StopTimer()
		m.rest(b)
		settled += m.calls.lastAnswer().Sub(start)
		m.calls.counting(false)
	}
	jobLeg := func() {
		jobs += s.run(b, n, c.bareJob, complete)
		b.StopTimer()
	}
	legs := []func(){upgradeLeg, jobLeg, jobLeg, upgradeLeg}
	round := func() {
		for _, leg := range legs {
			b.StartTimer()
			leg()
			c.clear(b)
			m.rest(b)
		}
		b.StartTimer()
	}

	round() // connections are made, buffers grow
	upgrades, settled, jobs = 0, 0, 0
	m.calls.reset()
	for b.Loop() {
		round()
	}

	total := 2 * b.N * n
	b.ReportMetric(0, "ns/op") // of four legs: says nothing
	b.ReportMetric(upgrades.Seconds()/float64(2*b.N), "s-ready")
	b.ReportMetric(settled.Seconds()/float64(2*b.N), "s-settled")
	b.ReportMetric(jobs.Seconds()/float64(2*b.N), "s-bare-jobs")
	b.ReportMetric(upgrades.Seconds()/jobs.Seconds(), "x-bare-jobs")
	m.calls.report(b, total)
	b.Log("requests for each object:", m.calls.each(total))
}
