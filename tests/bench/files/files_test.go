// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package files measures how long it takes to apply directories of many files, beside the Atlas CLI and a bare loop on the same database server.
package files

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
	"github.com/subganapathy/automatic-db-upgrades/tests/runner"
)

var (
	server *postgres.Server
	binary string // the runner
)

// asLoop makes the benchmark's binary the bare loop, so that all three are processes.
const asLoop = "BENCH_AS_LOOP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asLoop); dir != "" {
		if err := loop(context.Background(), dir, os.Getenv("DATABASE_URL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "files")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binary, err = runner.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return postgres.Main(m, &server)
	}())
}

// loop is the least that there is to do: it executes each file in a transaction of its own, in which it also records it.
func loop(ctx context.Context, dir, url string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TABLE done (name text PRIMARY KEY, executed_at timestamptz NOT NULL, hash text NOT NULL)"); err != nil {
		return err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, string(content)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO done VALUES ($1, now(), $2)", filepath.Base(name), "hash")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// contender is one way to apply a directory.
type contender struct {
	name    string
	command func(ctx context.Context, dir, url string) *exec.Cmd
}

var contenders = []contender{
	{"runner", func(ctx context.Context, dir, url string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, binary, "migrate", "--dir="+dir, "--lint=Off")
		cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
		return cmd
	}},
	{"loop", func(ctx context.Context, dir, url string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), asLoop+"="+dir, "DATABASE_URL="+url)
		return cmd
	}},
	{"atlas", func(ctx context.Context, dir, url string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "atlas", "migrate", "apply", "--dir", "file://"+dir, "--url", url)
		cmd.Env = append(os.Environ(), "ATLAS_NO_UPDATE_NOTIFIER=true")
		return cmd
	}},
}

// BenchmarkFiles applies a directory of files of one statement each: each operation by all contenders, in shuffled order, each to a new database.
// x-loop is the median of the runner's time over that of the loop in the same operation.
func BenchmarkFiles(b *testing.B) {
	if _, err := exec.LookPath("atlas"); err != nil {
		b.Fatal("the Atlas CLI is not in PATH: make bin/atlas")
	}
	for _, n := range []int{2, 100, 1000, 10_000 - 1} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) { benchmarkFiles(b, directoryOf(b, n), n) })
	}
}

func directoryOf(b *testing.B, n int) string {
	b.Helper()
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("%05d_file.sql", i)] = fmt.Sprintf("CREATE TABLE t%d (id bigint PRIMARY KEY, name text NOT NULL);\n", i)
	}
	return migrations.Dir(b, files)
}

// slow is how many files are too many for a contender whose work grows with their square.
const slow = 2000

func benchmarkFiles(b *testing.B, dir string, n int) {
	took := map[string][]float64{}
	cpu := map[string][]float64{}
	peak := map[string]float64{}
	var ratios, over []float64
	for b.Loop() {
		now := map[string]float64{}
		for _, i := range rand.Perm(len(contenders)) {
			c := contenders[i]
			if c.name == "atlas" && n > slow {
				continue
			}
			url := server.NewDatabase(b)
			cmd := c.command(b.Context(), dir, url)
			start := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%s: %v\n%s", c.name, err, tail(out))
			}
			now[c.name] = time.Since(start).Seconds()
			took[c.name] = append(took[c.name], now[c.name])
			usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			cpu[c.name] = append(cpu[c.name], (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
			peak[c.name] = max(peak[c.name], float64(usage.Maxrss)/1024)
		}
		ratios, over = append(ratios, now["runner"]/now["loop"]), append(over, (now["runner"]-now["loop"])*1000)
	}
	for name := range took {
		b.ReportMetric(median(took[name])*1000, "ms-"+name)
		b.ReportMetric(median(cpu[name])*1000, "cpu-ms-"+name)
		b.ReportMetric(peak[name], "MiB-"+name)
	}
	b.ReportMetric(median(ratios), "x-loop")
	b.ReportMetric(median(over), "ms-over-loop")
	b.ReportMetric(median(took["runner"])*1000/float64(n), "ms/file")
	b.ReportMetric(0, "ns/op") // the sum of all contenders means nothing
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
