// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = 2 * time.Minute
	stopTimeout  = 10 * time.Second
	pollInterval = 50 * time.Millisecond
)

// supervisor runs the node's programs. As the first process of its process namespace it is also the parent of every orphan there, so it reaps
// whatever ends, and os/exec, which waits for its own, is of no use to it.
type supervisor struct {
	layout
	programs []program

	mu      sync.Mutex
	running map[Component]*child
}

type child struct {
	pid  int
	done chan struct{} // closed when it was reaped
}

func newSupervisor(l layout) *supervisor {
	return &supervisor{layout: l, programs: programs(l), running: map[Component]*child{}}
}

// reap never returns.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.ECHILD): // before the first child, and when all were killed
			time.Sleep(pollInterval)
		case err == nil:
			s.ended(pid)
		}
	}
}

func (s *supervisor) ended(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.running {
		if c.pid == pid {
			delete(s.running, name)
			close(c.done)
		}
	}
}

// start starts a component unless it runs, and waits until it answers.
func (s *supervisor) start(ctx context.Context, name Component) error {
	p, err := s.find(name)
	if err != nil {
		return err
	}
	c, err := s.launch(p)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s has ended: see %s", name, s.log(name))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: see %s", name, err, s.log(name))
		case <-time.After(pollInterval):
		}
	}
}

func (s *supervisor) launch(p program) (*child, error) {
	s.mu.Lock() // until the child is noted, so that its end is not missed
	defer s.mu.Unlock()
	if c := s.running[p.name]; c != nil {
		return c, nil
	}
	log, err := os.OpenFile(s.log(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	process, err := os.StartProcess(p.argv[0], p.argv, &os.ProcAttr{
		Dir: "/", Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
		Env: []string{"PATH=" + s.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/run"},
	})
	if err != nil {
		return nil, err
	}
	c := &child{pid: process.Pid, done: make(chan struct{})}
	s.running[p.name] = c
	return c, process.Release()
}

// signal sends a signal to a component and waits for its end. One that does not heed SIGTERM is killed: an API server without its etcd never
// ends by itself.
func (s *supervisor) signal(name Component, signal syscall.Signal) error {
	if _, err := s.find(name); err != nil {
		return err
	}
	s.mu.Lock()
	c := s.running[name]
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	for _, signal := range []syscall.Signal{signal, syscall.SIGKILL} {
		if err := syscall.Kill(c.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("%s to %s: %w", signal, name, err)
		}
		select {
		case <-c.done:
			return nil
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("%s does not end", name)
}

func (s *supervisor) find(name Component) (program, error) {
	for _, p := range s.programs {
		if p.name == name {
			return p, nil
		}
	}
	return program{}, fmt.Errorf("no component %q: they are %v", name, s.names())
}

func (s *supervisor) names() []Component {
	var names []Component
	for _, p := range s.programs {
		names = append(names, p.name)
	}
	return names
}

func (s *supervisor) log(name Component) string { return s.path("logs/" + string(name) + ".log") }
