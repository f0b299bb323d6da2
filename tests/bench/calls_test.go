// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// calls counts requests by what they do. Watches are not counted: there is one for each kind, however many objects there are.
type calls struct {
	mu     sync.Mutex
	counts map[string]int64 // by method, resource and, of an error, status, as in "PATCH dbupgrades/status 409"
	open   int              // requests that wait for their answer
	last   time.Time        // of the last answer
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *calls) around(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Get("watch") != "" {
			return next.RoundTrip(r)
		}
		c.begin()
		response, err := next.RoundTrip(r)
		call := r.Method + " " + resource(r.URL.Path)
		if err == nil && response.StatusCode >= http.StatusBadRequest {
			call += fmt.Sprintf(" %d", response.StatusCode)
		}
		c.end(call)
		return response, err
	})
}

func (c *calls) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
}

func (c *calls) end(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int64{}
	}
	c.counts[call]++
	c.open--
	c.last = time.Now()
}

// quiet tells whether no request is open, and none was answered since.
func (c *calls) quiet(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open == 0 && c.last.Before(since)
}

// sum adds up the calls of one sort.
func (c *calls) sum(sort func(call string) bool) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum int64
	for call, n := range c.counts {
		if sort(call) {
			sum += n
		}
	}
	return sum
}

func (c *calls) total() int64 { return c.sum(func(string) bool { return true }) }

// reset forgets what was counted.
func (c *calls) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
}

// each lists the calls with how many there were of them for each of n objects.
func (c *calls) each(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, call := range slices.Sorted(maps.Keys(c.counts)) {
		all = append(all, fmt.Sprintf("%.2f %s", float64(c.counts[call])/float64(n), call))
	}
	return strings.Join(all, ", ")
}

func isEvent(call string) bool {
	return strings.HasPrefix(call, "POST events") || strings.HasPrefix(call, "PATCH events")
}
func isRead(call string) bool  { return strings.HasPrefix(call, http.MethodGet) }
func isWrite(call string) bool { return !isRead(call) && !isEvent(call) }

// resource is what a path of the API is about, as in "pods/status".
func resource(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	prefix := map[string]int{"api": 2, "apis": 3}[parts[0]]
	if len(parts) <= prefix {
		return "discovery"
	}
	parts = parts[prefix:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	if len(parts) == 3 {
		return parts[0] + "/" + parts[2]
	}
	return parts[0]
}

// report reports the calls for each of n objects.
func (c *calls) report(b *testing.B, n int) {
	b.ReportMetric(float64(c.sum(isRead))/float64(n), "reads/object")
	b.ReportMetric(float64(c.sum(isWrite))/float64(n), "writes/object")
	b.ReportMetric(float64(c.sum(isEvent))/float64(n), "events/object")
	b.Log("requests for each object:", c.each(n))
}
