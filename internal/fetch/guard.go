// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// How long a registry may take, at each try of three: a dead one is given up in less than a minute.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 15 * time.Second
	stallTimeout  = 30 * time.Second
)

// maxAnswer is how long an answer that is not a blob may be. The OCI specification wants registries to take manifests of 4 MiB, not of more.
const maxAnswer = 4 << 20

var (
	errPlainHTTP = errors.New("plain HTTP is not allowed by the operator")
	errTooLong   = fmt.Errorf("its manifest, or another answer of the registry, is longer than %d bytes", maxAnswer)
	errStalled   = errors.New("nothing more came in the middle of an answer")
)

// guard is the transport beneath go-containerregistry's. It refuses what the library would let pass: plain HTTP to hosts that look local or
// after a redirect, endless answers, answers that stop coming. And it knows all credentials that are sent, to keep them out of messages.
type guard struct {
	inner     http.RoundTripper
	plainHTTP bool
	stall     time.Duration

	mu      sync.Mutex
	secrets []string
}

func newGuard(o Options) *guard {
	inner := o.transport
	if inner == nil {
		t := http.DefaultTransport.(*http.Transport).Clone() // its proxy settings are those of the environment
		t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
		t.ResponseHeaderTimeout = answerTimeout
		inner = t
	}
	return &guard{inner: inner, plainHTTP: o.PlainHTTP, stall: stallTimeout}
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.plainHTTP {
		return nil, errPlainHTTP
	}
	if _, credential, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		g.redact(credential)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := g.inner.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	left := int64(maxAnswer)
	if asksBlob(req) {
		left = 1 << 62 // bounded by the size in the manifest
	}
	resp.Body = &body{inner: resp.Body, ctx: ctx, cancel: cancel, left: left, stall: g.stall}
	return resp, nil
}

// asksBlob looks at the request before all redirects.
func asksBlob(req *http.Request) bool {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return path.Base(path.Dir(req.URL.Path)) == "blobs"
}

// body is an answer's body, bounded in length and in the time that a read may take.
type body struct {
	inner  io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	left   int64
	stall  time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.stall, func() { b.cancel(errStalled) })
	n, err := b.inner.Read(p)
	timer.Stop()
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLong
	}
	if err != nil && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (b *body) Close() error {
	defer b.cancel(nil)
	return b.inner.Close()
}

// redact keeps secrets out of what clean returns.
func (g *guard) redact(secrets ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, secret := range secrets {
		if secret == "" || slices.Contains(g.secrets, secret) {
			continue
		}
		g.secrets = append(g.secrets, secret)
		// A Basic credential is user:password; a registry might quote either form.
		if plain, err := base64.StdEncoding.DecodeString(secret); err == nil {
			if _, password, ok := strings.Cut(string(plain), ":"); ok && password != "" {
				g.secrets = append(g.secrets, password)
			}
		}
	}
}

var (
	controlPattern  = regexp.MustCompile(`[[:cntrl:]]+`)
	userInfoPattern = regexp.MustCompile(`://[^/\s"]*@`)
	queryPattern    = regexp.MustCompile(`\?[^\s"]*`) // signatures, in redirects to a blob store
)

// clean makes text of strangers fit to be shown: one line, not too long, no credentials.
func (g *guard) clean(text string) string {
	g.mu.Lock()
	secrets := slices.SortedFunc(slices.Values(g.secrets), func(a, b string) int { return len(b) - len(a) }) // one may be part of another
	g.mu.Unlock()
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	text = controlPattern.ReplaceAllString(strings.ToValidUTF8(text, "?"), " ")
	text = userInfoPattern.ReplaceAllString(text, "://")
	text = queryPattern.ReplaceAllString(text, "?…")
	if runes := []rune(text); len(runes) > 400 {
		text = string(runes[:400]) + "…"
	}
	return text
}

// explain says in plain words why a request to the registry failed.
func (g *guard) explain(registry string, err error) string {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		return g.explainStatus(registry, e)
	}
	host := registry
	for {
		e, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		if u, parseErr := url.Parse(e.URL); parseErr == nil && u.Host != "" {
			host = u.Host
		}
		err = e.Err
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return fmt.Sprintf("registry %s speaks plain HTTP, which the operator does not allow", host)
	}
	if e, ok := err.(interface{ Timeout() bool }); ok && e.Timeout() {
		return fmt.Sprintf("registry %s did not answer in time: %s", host, g.clean(err.Error()))
	}
	return fmt.Sprintf("registry %s: %s", host, g.clean(err.Error()))
}

// explainStatus quotes the codes and messages that registries give by their specification, but no other text: what a blob store or a proxy
// says may be a page, or hold parts of the signature.
func (g *guard) explainStatus(registry string, e *transport.Error) string {
	host := registry
	if e.Request != nil {
		host = e.Request.URL.Host
	}
	text := fmt.Sprintf("registry %s answered %d %s", host, e.StatusCode, http.StatusText(e.StatusCode))
	var details []string
	for _, d := range e.Errors {
		details = append(details, strings.TrimSuffix(fmt.Sprintf("%s: %s", d.Code, d.Message), ": "))
	}
	if len(details) > 0 {
		text += g.clean(" (" + strings.Join(details, "; ") + ")")
	}
	return text
}
