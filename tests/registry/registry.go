// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package registry runs image registries for tests, and builds small images to
// put into them.
//
//	reg := registry.New(t)
//	reg.Push(t, "app:v1", registry.Image(t, registry.Migrations(t, map[string]string{
//		"20240101000000_pets.sql": "CREATE TABLE pets (name text);",
//	})))
//	image := reg.Ref("app:v1")
package registry

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/subganapathy/automatic-db-upgrades/tests/loopback"
)

// Registry is an image registry in memory, served over plain HTTP, on 127.0.0.1 if not told otherwise.
type Registry struct {
	host     string
	listener net.Listener
	handler  http.Handler
	user     string // empty: everybody may read and write
	password string

	mu     sync.Mutex
	server *http.Server // nil while down
}

// Option changes how a registry is run.
type Option func(*Registry)

// WithBasicAuth makes the registry refuse whoever does not know the password.
func WithBasicAuth(user, password string) Option {
	return func(r *Registry) { r.user, r.password = user, password }
}

// WithListener has the registry served there, for clients on other machines.
func WithListener(listener net.Listener) Option {
	return func(r *Registry) { r.listener = listener }
}

// New runs an empty registry until the test ends.
func New(tb testing.TB, opts ...Option) *Registry {
	tb.Helper()
	r := &Registry{}
	for _, opt := range opts {
		opt(r)
	}
	r.handler = r.authenticate(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	if r.listener == nil {
		var err error
		if r.listener, err = loopback.Listen(); err != nil {
			tb.Fatalf("run a registry: %v", err)
		}
	}
	r.host = r.listener.Addr().String()
	r.serve(r.listener)
	tb.Cleanup(r.Down)
	return r
}

// Host is the registry's host and port.
func (r *Registry) Host() string {
	return r.host
}

// Ref is the full reference of an image of this registry, such as
// 127.0.0.1:20000/app:v1 for app:v1.
func (r *Registry) Ref(image string) string {
	return r.host + "/" + image
}

// Push puts an image under a name and tag, such as app:v1, and returns its
// digest.
func (r *Registry) Push(tb testing.TB, image string, img v1.Image) v1.Hash {
	tb.Helper()
	ref, err := name.ParseReference(r.Ref(image), name.StrictValidation, name.Insecure)
	if err != nil {
		tb.Fatal(err)
	}
	auth := authn.Anonymous
	if r.user != "" {
		auth = &authn.Basic{Username: r.user, Password: r.password}
	}
	if err := remote.Write(ref, img, remote.WithAuth(auth), remote.WithContext(tb.Context())); err != nil {
		tb.Fatalf("push %s: %v", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	return digest
}

// DockerConfig is what a Secret of the type kubernetes.io/dockerconfigjson holds
// for this registry.
func (r *Registry) DockerConfig(tb testing.TB) []byte {
	tb.Helper()
	return DockerConfig(tb, r.host, r.user, r.password)
}

// DockerConfig is what a Secret of the type kubernetes.io/dockerconfigjson holds for one login.
func DockerConfig(tb testing.TB, host, user, password string) []byte {
	tb.Helper()
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	config, err := json.Marshal(map[string]any{
		"auths": map[string]any{host: map[string]string{"auth": login}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return config
}

// Down cuts all connections and refuses new ones until Up.
func (r *Registry) Down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return
	}
	_ = r.server.Close() // it serves nobody any more, whatever it says
	r.server = nil
}

// Up ends what Down began: the same images are served at the same address.
func (r *Registry) Up(tb testing.TB) {
	tb.Helper()
	r.mu.Lock()
	down := r.server == nil
	r.mu.Unlock()
	if !down {
		return
	}
	listener, err := net.Listen("tcp", r.host)
	if err != nil {
		tb.Fatalf("bring the registry up again: %v", err)
	}
	r.serve(listener)
}

func (r *Registry) serve(listener net.Listener) {
	server := &http.Server{Handler: r.handler}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	go func() { _ = server.Serve(listener) }() // ends with Down, always with an error
}

// authenticate asks for the password, if there is one.
func (r *Registry) authenticate(next http.Handler) http.Handler {
	if r.user == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user != r.user || password != r.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="tests"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	})
}
