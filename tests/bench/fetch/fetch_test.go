// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
	"github.com/subganapathy/automatic-db-upgrades/tests/runner"
)

// maxPeak is how many MiB of memory the runner may have had.
const maxPeak = 32

// exportAndExtract is what one does by hand. It takes an image, a directory to put things into, and where crane is.
const exportAndExtract = `"$3" export --insecure "$1" - | tar -x -C "$2" migrations`

// BenchmarkFetch fetches the directory of an image of a gibibyte, and compares that with crane and tar. One operation is a pair of both, in random
// order; ask for some by -benchtime=5x. All times are those of whole processes.
func BenchmarkFetch(b *testing.B) {
	dir := b.TempDir()
	program, err := runner.Build(dir)
	if err != nil {
		b.Fatal(err)
	}
	crane, err := filepath.Abs("../../../bin/crane")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(crane); err != nil {
		b.Fatalf("%v: see the target bench-fetch", err)
	}
	reg := serve(b)
	below := others(b)
	for _, c := range []struct {
		name    string
		at      int // how many layers are beneath that of the directory
		withSum bool
	}{
		{"directory=top", otherLayers, true},
		{"directory=middle", otherLayers / 2, true},
		{"directory=top,sum=none", otherLayers, false},
	} {
		files := directory(b, c.withSum)
		reg.Push(b, "app:v1", registry.Of(b, slices.Insert(slices.Clone(below), c.at, files.layer(b))...))
		b.Run(c.name, func(b *testing.B) {
			f := &fetching{registry: reg, image: reg.Ref("app:v1"), program: program, crane: crane, files: files}
			f.benchmark(b)
		})
	}
}

// fetching is one image that is fetched again and again.
type fetching struct {
	registry       served
	image          string
	program, crane string
	files          files
	ours, theirs   []run // those of a pair have the same index
}

// run is what one of a pair took.
type run struct {
	usage
	sent int64 // bytes, by the registry
}

const mib = 1 << 20

// peak is in MiB.
func (r run) peak() float64 { return float64(r.Peak) / mib }

func (f *fetching) benchmark(b *testing.B) {
	for b.Loop() {
		pair := []func(*testing.B){f.fetch, f.export}
		rand.Shuffle(len(pair), func(i, j int) { pair[i], pair[j] = pair[j], pair[i] })
		for _, run := range pair {
			run(b)
		}
	}
	var times []float64
	for i := range f.ours {
		times = append(times, f.theirs[i].Seconds/f.ours[i].Seconds)
	}
	b.ReportMetric(0, "ns/op") // of a pair: nobody wants to know
	b.ReportMetric(median(times), "x-faster")
	for name, runs := range map[string][]run{"": f.ours, "-crane": f.theirs} {
		b.ReportMetric(median(collect(runs, func(r run) float64 { return r.Seconds })), "s"+name)
		b.ReportMetric(median(collect(runs, func(r run) float64 { return r.CPU })), "s-cpu"+name)
		b.ReportMetric(slices.Max(collect(runs, run.peak)), "MiB-peak"+name)
		b.ReportMetric(slices.Max(collect(runs, func(r run) float64 { return float64(r.sent) / mib })), "MiB-sent"+name)
	}
	b.ReportMetric(float64(f.files.bytes())/(1<<10), "KiB-on-disk") // measure would have found more
	if peak := slices.Max(collect(f.ours, run.peak)); peak > maxPeak {
		b.Errorf("took %.1f MiB of memory, more than %d", peak, maxPeak)
	}
}

func (f *fetching) fetch(b *testing.B) {
	f.ours = append(f.ours, f.measure(b, func(out string) []string {
		log := path.Join(b.TempDir(), "termination-log")
		return []string{f.program, "fetch", "--image", f.image, "--dir", "/migrations", "--out", out, "--plain-http", "--termination-log", log}
	}, "."))
}

func (f *fetching) export(b *testing.B) {
	f.theirs = append(f.theirs, f.measure(b, func(out string) []string {
		return []string{"sh", "-c", exportAndExtract, "sh", f.image, out, f.crane}
	}, "migrations"))
}

// measure runs a command that puts the directory's files, and nothing else, into a directory of out.
func (f *fetching) measure(b *testing.B, command func(out string) []string, in string) run {
	b.Helper()
	out := filepath.Join(b.TempDir(), fmt.Sprint(len(f.ours)+len(f.theirs)))
	if err := os.MkdirAll(out, 0o755); err != nil {
		b.Fatal(err)
	}
	before := f.registry.sent.Load()
	r := run{usage: measure(b, command(out))}
	r.sent = f.registry.sent.Load() - before
	if diff := cmp.Diff(f.files.within(in), read(b, out)); diff != "" {
		b.Fatalf("files (-want +got):\n%s", diff)
	}
	if err := os.RemoveAll(out); err != nil {
		b.Fatal(err)
	}
	return r
}

func collect(runs []run, value func(run) float64) []float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, value(r))
	}
	return all
}

func median(all []float64) float64 {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
