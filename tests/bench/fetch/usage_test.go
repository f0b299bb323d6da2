// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// commandVariable holds a command that a process of this program runs and measures, instead of benchmarking. The kernel counts a process's
// memory from that of its parent, and the benchmark itself, with its registry, is large.
const commandVariable = "FETCH_BENCH_COMMAND"

// usage is what a command took, the processes that it started included.
type usage struct {
	Seconds float64 // from start to end
	CPU     float64 // seconds
	Peak    int64   // bytes of memory, of the process that had most
}

func TestMain(m *testing.M) {
	command, ok := os.LookupEnv(commandVariable)
	if !ok {
		os.Exit(m.Run())
	}
	if err := tell(command); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tell runs a command and writes its usage to stdout.
func tell(command string) error {
	var args []string
	if err := json.Unmarshal([]byte(command), &args); err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	start := time.Now()
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, text)
	}
	seconds := time.Since(start).Seconds()
	resources := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return json.NewEncoder(os.Stdout).Encode(usage{Seconds: seconds, CPU: cpu.Seconds(), Peak: resources.Maxrss << 10})
}

// measure runs a command and fails the benchmark if that fails.
func measure(b *testing.B, args []string) usage {
	b.Helper()
	command, err := json.Marshal(args)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), commandVariable+"="+string(command))
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	var u usage
	if err := json.Unmarshal(said, &u); err != nil {
		b.Fatal(err)
	}
	return u
}
