// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package player

import (
	"bytes"
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// process is a container's.
type process struct {
	cmd     *exec.Cmd
	message string
	output  bytes.Buffer
	done    chan struct{}
	err     error
	// fallsBackToLog: where the process fails without a message, its log is one.
	fallsBackToLog bool
}

func start(binary string, args, env []string, message string) (*process, error) {
	proc := &process{cmd: exec.Command(binary, args...), message: message, done: make(chan struct{})}
	proc.cmd.Env = append([]string{"PATH=/nowhere"}, env...) // an image from scratch has nothing else
	proc.cmd.Stdout, proc.cmd.Stderr = &proc.output, &proc.output
	proc.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := proc.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		proc.err = proc.cmd.Wait()
		close(proc.done)
	}()
	return proc, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) wait() {
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
		<-p.done
	}
}

func (p *process) terminate() { p.signal(syscall.SIGTERM) }

func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) {
	if !p.ended() {
		_ = p.cmd.Process.Signal(s) // it may end in between
	}
}

// exitCode is what the kubelet reports: 128 and the signal's number for a process that a signal ended.
func (p *process) exitCode() int32 {
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int32(status.Signal())
	}
	return int32(exit.ExitCode())
}
