// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

const (
	controlSocket = "control.sock"
	providerNode  = "node"
	providerKind  = "kind"
)

// ErrNotOurs says that the cluster is kind's, whose components cannot be reached one by one.
var ErrNotOurs = errors.New("components can be stopped in a cluster of provider node only")

// Start starts a component that was stopped or killed, and returns when it answers.
func (c *Cluster) Start(ctx context.Context, name Component) error {
	return c.command(ctx, "start", name)
}

// Stop asks a component to end, and returns when it did.
func (c *Cluster) Stop(ctx context.Context, name Component) error {
	return c.command(ctx, "stop", name)
}

// Kill kills a component by SIGKILL. What it started goes on: containers outlive their containerd.
func (c *Cluster) Kill(ctx context.Context, name Component) error {
	return c.command(ctx, "kill", name)
}

// Running is the process ID, within the node, of each component that runs.
func (c *Cluster) Running(ctx context.Context) (map[Component]int, error) {
	answer, err := c.call(ctx, http.MethodGet, "/running")
	if err != nil {
		return nil, err
	}
	var pids map[Component]int
	return pids, json.Unmarshal(answer, &pids)
}

func (c *Cluster) command(ctx context.Context, verb string, name Component) error {
	_, err := c.call(ctx, http.MethodPost, "/"+verb+"/"+string(name))
	return err
}

func (c *Cluster) call(ctx context.Context, method, path string) ([]byte, error) {
	if c.Provider != providerNode {
		return nil, ErrNotOurs
	}
	socket := Dir(c.Instance) + "/" + controlSocket
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("node: %s", strings.TrimSpace(string(answer)))
	}
	return answer, nil
}

// handler is the node's side of it.
func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(context.Context, Component) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), Component(r.PathValue("name"))); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("POST /start/{name}", s.start)
	handle("POST /stop/{name}", func(_ context.Context, name Component) error { return s.signal(name, syscall.SIGTERM) })
	handle("POST /kill/{name}", func(_ context.Context, name Component) error { return s.signal(name, syscall.SIGKILL) })
	mux.HandleFunc("GET /running", func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(s.pids()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

func (s *supervisor) pids() map[Component]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := map[Component]int{}
	for name, c := range s.running {
		pids[name] = c.pid
	}
	return pids
}
