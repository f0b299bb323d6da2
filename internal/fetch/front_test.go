// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// answer may answer a request, and says whether it has.
type answer func(w http.ResponseWriter, req *http.Request) bool

// front stands before a registry and may answer instead of it.
type front struct {
	*httptest.Server
	host string

	mu   sync.Mutex
	seen []request
}

type request struct{ path, authorization, agent string }

func newFront(t *testing.T, reg *registry.Registry, instead answer) *front {
	t.Helper()
	f := unstartedFront(t, reg, instead)
	f.Start()
	f.host = f.Listener.Addr().String()
	return f
}

// newSecureFront speaks HTTPS, with a certificate that only its own client trusts.
func newSecureFront(t *testing.T, reg *registry.Registry, instead answer) *front {
	t.Helper()
	f := unstartedFront(t, reg, instead)
	f.StartTLS()
	f.host = f.Listener.Addr().String()
	return f
}

func unstartedFront(t *testing.T, reg *registry.Registry, instead answer) *front {
	silent := log.New(io.Discard, "", 0)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.Host()})
	proxy.ErrorLog = silent
	f := &front{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.mu.Lock()
		f.seen = append(f.seen, request{req.URL.Path, req.Header.Get("Authorization"), req.UserAgent()})
		f.mu.Unlock()
		if instead == nil || !instead(w, req) {
			proxy.ServeHTTP(w, req)
		}
	}))
	f.Config.ErrorLog = silent
	t.Cleanup(f.Close)
	return f
}

func (f *front) requests() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func isBlob(req *http.Request) bool     { return strings.Contains(req.URL.Path, "/blobs/") }
func isManifest(req *http.Request) bool { return strings.Contains(req.URL.Path, "/manifests/") }

func reply(w http.ResponseWriter, status int, body string) bool {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return true
}
