//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// jitter is the longest wait before a start, more than a second: the kubelet looks at its pods once a second, and starts that keep a distance of
// their own lock onto that.
const jitter = 1500 * time.Millisecond

// BenchmarkLatency measures one migration on a real node: from the creation of a DBUpgrade until it is Ready, beside a bare Job of the same pod
// until it is Complete. One operation is one of each, in random order; ask for some by -benchtime=24x.
func BenchmarkLatency(b *testing.B) {
	s := stage.Open(b)
	s.Install(b)
	for _, extraction := range []v1alpha1.Extraction{v1alpha1.ExtractionCrane, v1alpha1.ExtractionImageVolume} {
		b.Run("extraction="+string(extraction), func(b *testing.B) { benchmarkLatency(b, s, extraction) })
	}
}

func benchmarkLatency(b *testing.B, s *stage.Stage, extraction v1alpha1.Extraction) {
	l := newLatency(b, s, extraction)
	job := l.upgrade(b) // what the node has not, it pulls now
	l.job = stage.Get[batchv1.Job](l.team, b, job)
	l.bare(b)

	clear(l.seconds)
	for b.Loop() {
		pair := []func(*testing.B){func(b *testing.B) { l.upgrade(b) }, l.bare}
		rand.Shuffle(len(pair), func(i, j int) { pair[i], pair[j] = pair[j], pair[i] })
		for _, run := range pair {
			run(b)
		}
	}
	l.report(b)
}

// latency is a team that migrates one database from nothing again and again.
type latency struct {
	team       *stage.Team
	witness    *witness
	db         *pgx.Conn
	image      string
	extraction v1alpha1.Extraction
	job        *batchv1.Job // of the operator, to be made bare
	runs       int
	seconds    map[string][]float64 // by what took them; those of a pair have the same index
}

func newLatency(b *testing.B, s *stage.Stage, extraction v1alpha1.Extraction) *latency {
	team := s.NewTeam(b, "latency")
	w, stop := watch(b, s, team.Namespace)
	b.Cleanup(stop)
	return &latency{
		team: team, witness: w, db: team.DB(b), extraction: extraction, seconds: map[string][]float64{},
		image: team.Image(b, "v1", map[string]string{
			"20260101000000_users.sql": "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);",
			"20260102000000_email.sql": "ALTER TABLE users ADD COLUMN email text;\nCREATE INDEX users_email ON users (email);",
		}),
	}
}

// prepare empties the database, and returns at a random moment with a new name.
func (l *latency) prepare(b *testing.B) string {
	_, err := l.db.Exec(b.Context(), "DROP SCHEMA IF EXISTS atlas_schema_revisions CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	must(b, err)
	l.runs++
	time.Sleep(rand.N(jitter))
	return fmt.Sprintf("run-%d", l.runs)
}

// upgrade runs a DBUpgrade, and returns the name of its Job.
func (l *latency) upgrade(b *testing.B) string {
	name := l.prepare(b)
	start := time.Now()
	obj := l.team.Create(b, name, l.image, func(obj *v1alpha1.DBUpgrade) { obj.Spec.Migrations.Extraction = l.extraction })
	l.note("ready", l.witness.wait(b, obj.UID, ready).Sub(start))
	l.witness.wait(b, obj.UID, settled) // its lock is free again
	attempt := stage.Get[v1alpha1.DBUpgrade](l.team, b, name).Status.Attempt
	l.note("ended", l.witness.wait(b, attempt.JobUID, ended).Sub(start))
	l.note("complete", l.witness.wait(b, attempt.JobUID, complete).Sub(start))
	return attempt.Job
}

// bare runs a bare Job.
func (l *latency) bare(b *testing.B) {
	name := l.prepare(b)
	job := bareJob(l.job, l.team.Namespace, name)
	start := time.Now()
	must(b, l.team.Client.Create(b.Context(), job))
	l.note("bare-complete", l.witness.wait(b, job.UID, complete).Sub(start))
	l.note("bare-ended", l.witness.wait(b, job.UID, ended).Sub(start))
}

func (l *latency) note(what string, took time.Duration) {
	l.seconds[what] = append(l.seconds[what], took.Seconds())
}

func (l *latency) report(b *testing.B) {
	for i, took := range l.seconds["ready"] {
		l.seconds["ready-less-bare-complete"] = append(l.seconds["ready-less-bare-complete"], took-l.seconds["bare-complete"][i])
		l.seconds["ready-less-bare-ended"] = append(l.seconds["ready-less-bare-ended"], took-l.seconds["bare-ended"][i])
	}
	b.ReportMetric(0, "ns/op") // mostly waits between runs: says nothing
	for _, what := range slices.Sorted(maps.Keys(l.seconds)) {
		all := slices.Sorted(slices.Values(l.seconds[what]))
		b.ReportMetric(quantile(all, 0.5), "s-"+what)
		b.Logf("%-24s p10 %.2f  median %.2f  p90 %.2f  of %d", what, quantile(all, 0.1), quantile(all, 0.5), quantile(all, 0.9), len(all))
	}
}

// quantile of what is sorted: the nearest.
func quantile(sorted []float64, q float64) float64 {
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}
