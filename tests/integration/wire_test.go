// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tamper is what a wire does to one call.
type tamper string

const (
	dieBefore   tamper = "the manager dies before the call"
	dieAfter    tamper = "the manager dies after the call"
	conflict    tamper = "the call fails with a conflict"
	lostAnswer  tamper = "the call takes effect and its answer is lost"
	unavailable tamper = "the call does not get through"
)

// wire counts the API calls of a reconciler and tampers with one of them. After a death every call fails until revive.
type wire struct {
	mu    sync.Mutex
	next  http.RoundTripper
	calls []string
	at    int // number of the call to tamper with, from 1; 0 for none
	how   tamper
	dead  bool
	met   bool // the call was met
}

var errWire = errors.New("the connection broke")

func (w *wire) around(next http.RoundTripper) http.RoundTripper {
	w.next = next
	return w
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	if w.dead {
		w.mu.Unlock()
		return nil, errWire
	}
	w.calls = append(w.calls, r.Method+" "+r.URL.Path)
	now := len(w.calls) == w.at
	how := w.how
	if now {
		w.met = true
		w.dead = how == dieBefore || how == dieAfter
	}
	w.mu.Unlock()
	if !now {
		return w.next.RoundTrip(r)
	}
	switch how {
	case conflict:
		if r.Method == http.MethodGet {
			return w.next.RoundTrip(r) // a read cannot conflict
		}
		return conflictResponse(r)
	case dieAfter, lostAnswer:
		response, err := w.next.RoundTrip(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		return nil, errWire
	default:
		return nil, errWire
	}
}

func conflictResponse(r *http.Request) (*http.Response, error) {
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict, Message: "the object has been modified",
	})
	return &http.Response{
		StatusCode: http.StatusConflict, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}, err
}

func (w *wire) writes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, call := range w.calls {
		if !strings.HasPrefix(call, http.MethodGet) {
			n++
		}
	}
	return n
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

// tampers tells that errors are to be expected.
func (w *wire) tampers() bool { return w.at > 0 }

// revive starts a manager that died anew. It keeps nothing in memory but its cache, so there is nothing else to do.
func (w *wire) revive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = false
}
