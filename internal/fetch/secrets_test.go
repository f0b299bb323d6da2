// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// marker stands for every secret in these tests: it may never be seen.
const marker = "s3cr3t-marker"

// mount plays the mount of a Secret: a directory with its name.
func mount(t *testing.T, secret, key, content string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), secret)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if key != "" {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPullSecrets(t *testing.T) {
	reg := registry.New(t, registry.WithBasicAuth("me", marker))
	reg.Push(t, "team/app:v1", registry.Image(t, simple))
	login := base64.StdEncoding.EncodeToString([]byte("me:" + marker))
	config := func(key, entry string) string { return fmt.Sprintf(`{"auths":{%q:%s}}`, key, entry) }
	right, wrong := `{"auth":"`+login+`"}`, `{"username":"me","password":"`+marker+`-wrong"}`
	const json, cfg = ".dockerconfigjson", ".dockercfg"
	tests := map[string]struct {
		secrets []string
		want    []string // of the error
	}{
		"auth":                  {secrets: []string{mount(t, "a", json, string(reg.DockerConfig(t)))}},
		"user and password":     {secrets: []string{mount(t, "a", json, config(reg.Host(), `{"username":"me","password":"`+marker+`"}`))}},
		"legacy":                {secrets: []string{mount(t, "a", cfg, fmt.Sprintf(`{%q:%s}`, reg.Host(), right))}},
		"by URL":                {secrets: []string{mount(t, "a", json, config("https://"+reg.Host()+"/v1/", right))}},
		"by repository":         {secrets: []string{mount(t, "a", json, config(reg.Ref("team"), right))}},
		"the more specific one": {secrets: []string{mount(t, "a", json, config(reg.Host(), wrong)), mount(t, "b", json, config(reg.Ref("team/app"), right))}},
		"the second one fits":   {secrets: []string{mount(t, "a", json, config(reg.Host(), wrong)), mount(t, "b", json, config(reg.Host(), right))}},
		"one absent, one right": {secrets: []string{mount(t, "a", "", ""), mount(t, "b", json, config(reg.Host(), right))}},
		"none":                  {want: []string{"answered 401 Unauthorized (UNAUTHORIZED: authentication required); no pull secret has a login for it"}},
		"absent":                {secrets: []string{"/nowhere/regcred", mount(t, "other", "", "")}, want: []string{"no pull secret has a login for it; pull secret(s) absent: regcred, other"}},
		"of another registry":   {secrets: []string{mount(t, "a", json, config("registry.example.com", right))}, want: []string{"no pull secret has a login for it"}},
		"of another repository": {secrets: []string{mount(t, "a", json, config(reg.Ref("te"), right))}, want: []string{"no pull secret has a login for it"}},
		"an empty entry":        {secrets: []string{mount(t, "a", json, config(reg.Host(), `{}`))}, want: []string{"no pull secret has a login for it"}},
		"wrong":                 {secrets: []string{mount(t, "a", json, config(reg.Host(), wrong))}, want: []string{"answered 401", "refused login(s) from pull secret(s): a"}},
		"not JSON":              {secrets: []string{mount(t, "a", json, marker)}, want: []string{"pull secret a cannot be read (.dockerconfigjson is not a docker configuration in JSON)"}},
		"legacy not JSON":       {secrets: []string{mount(t, "a", cfg, marker)}, want: []string{"pull secret a cannot be read (.dockercfg is"}},
		"not text":              {secrets: []string{mount(t, "a", json, config(reg.Host(), `{"password":12345678}`))}, want: []string{"pull secret a cannot be read"}},
		"not base64":            {secrets: []string{mount(t, "a", json, config(reg.Host(), `{"auth":"`+marker+`"}`))}, want: []string{"pull secret a cannot be read"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			var lines bytes.Buffer
			_, err := Run(t.Context(), Options{
				Image: reg.Ref("team/app:v1"), Dir: "/migrations", Out: s.out, PlainHTTP: true, PullSecrets: tt.secrets, Log: slog.New(slog.NewJSONHandler(&lines, nil)),
			})
			checkSilent(t, err, lines.String(), login, "12345678")
			if tt.want != nil {
				s.checkRefused(t, err, v1alpha1.ImagePullFailed, tt.want...)
				return
			}
			s.checkFiles(t, err, map[string]string{"1": "one"})
		})
	}
}

// checkSilent fails the test if a secret is in the error's text or in the log.
func checkSilent(t *testing.T, err error, lines string, more ...string) {
	t.Helper()
	for _, secret := range append(more, marker) {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("error holds a secret: %v", err)
		}
		if strings.Contains(lines, secret) {
			t.Errorf("log holds a secret: %s", lines)
		}
	}
}

func TestMatching(t *testing.T) {
	tests := map[string]struct {
		key, image string
		want       bool
	}{
		"registry":                         {"registry.example.com", "registry.example.com/app", true},
		"registry as a URL":                {"https://registry.example.com", "registry.example.com/app", true},
		"registry as a URL with v2":        {"https://registry.example.com/v2/", "registry.example.com/app", true},
		"repository":                       {"registry.example.com/team", "registry.example.com/team/app", true},
		"repository as a URL with v1":      {"https://registry.example.com/v1/team", "registry.example.com/team/app", true},
		"repository beginning with v1":     {"registry.example.com/v1beta", "registry.example.com/v1beta/app", true},
		"a longer repository":              {"registry.example.com/team", "registry.example.com/team-evil/app", false},
		"a longer registry":                {"registry.example.com", "registry.example.com.evil/app", false},
		"glob":                             {"*.example.com", "registry.example.com/app", true},
		"glob for two labels":              {"*.example.com", "a.b.example.com/app", false},
		"glob for none":                    {"*.example.com", "example.com/app", false},
		"glob that is none":                {"[", "registry.example.com/app", false},
		"port":                             {"registry.example.com:5000", "registry.example.com:5000/app", true},
		"another port":                     {"registry.example.com:5000", "registry.example.com/app", false},
		"port in the image only":           {"registry.example.com", "registry.example.com:5000/app", false},
		"IPv6":                             {"[::1]:5000", "[::1]:5000/app", true},
		"Docker Hub as docker writes it":   {"https://index.docker.io/v1/", "team/app", true},
		"Docker Hub as people write it":    {"docker.io", "team/app", true},
		"Docker Hub is not every registry": {"docker.io", "registry.example.com/team/app", false},
	}
	for testName, tt := range tests {
		t.Run(testName, func(t *testing.T) {
			dir := mount(t, "a", ".dockerconfigjson", fmt.Sprintf(`{"auths":{%q:{"username":"u","password":"p"}}}`, tt.key))
			secrets, err := readPullSecrets([]string{dir})
			if err != nil {
				t.Fatal(err)
			}
			repository, err := name.NewRepository(tt.image)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(secrets.matching(repository)) == 1; got != tt.want {
				t.Errorf("%s matches %s: %v, want %v", tt.key, tt.image, got, tt.want)
			}
		})
	}
}

// TestTokens: a registry that hands out tokens works, and neither they nor the login get into messages, even if the registry repeats them.
func TestTokens(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	token := "token-" + marker
	login := base64.StdEncoding.EncodeToString([]byte("me:" + marker))
	for name, repeat := range map[string]bool{"let in": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			var f *front
			f = newFront(t, reg, func(w http.ResponseWriter, req *http.Request) bool {
				switch authorization := req.Header.Get("Authorization"); {
				case req.URL.Path == "/token":
					if authorization != "Basic "+login {
						return reply(w, http.StatusUnauthorized, "")
					}
					return reply(w, http.StatusOK, fmt.Sprintf(`{"token":%q}`, token))
				case authorization != "Bearer "+token:
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="tests"`, f.host))
					return reply(w, http.StatusUnauthorized, "")
				case repeat && isManifest(req):
					return reply(w, http.StatusForbidden, fmt.Sprintf(`{"errors":[{"code":"DENIED","message":"%s\nand %s and me:%s at https://u:%s@x/?sig=%s are no good"}]}`, authorization, login, marker, marker, marker))
				}
				return false
			})
			s := newSandbox(t)
			var lines bytes.Buffer
			config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, f.host, login)
			_, err := Run(t.Context(), Options{
				Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true,
				PullSecrets: []string{mount(t, "regcred", ".dockerconfigjson", config)}, Log: slog.New(slog.NewJSONHandler(&lines, nil)),
			})
			checkSilent(t, err, lines.String(), login)
			if repeat {
				checkError(t, err, v1alpha1.ImagePullFailed, "answered 403 Forbidden (DENIED: Bearer *** and *** and me:***", "refused login(s) from pull secret(s): regcred")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBlobStore: layers may be elsewhere. The login does not go there, and the signature with which it is asked is not told.
func TestBlobStore(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	for name, status := range map[string]int{"gives": http.StatusOK, "refuses": http.StatusForbidden, "is down": 0} {
		t.Run(name, func(t *testing.T) {
			store := newFront(t, reg, func(w http.ResponseWriter, _ *http.Request) bool {
				return status != http.StatusOK && reply(w, status, "<Error><StringToSign>"+marker+"</StringToSign></Error>")
			})
			if status == 0 {
				store.Close()
			}
			f := newFront(t, reg, func(w http.ResponseWriter, req *http.Request) bool {
				if !isBlob(req) {
					return false
				}
				http.Redirect(w, req, "http://"+store.host+req.URL.Path+"?X-Amz-Signature="+marker, http.StatusTemporaryRedirect)
				return true
			})
			s := newSandbox(t)
			_, err := Run(t.Context(), Options{
				Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true,
				PullSecrets: []string{mount(t, "regcred", ".dockerconfigjson", fmt.Sprintf(`{"auths":{%q:{"username":"me","password":%q}}}`, f.host, marker))},
			})
			checkSilent(t, err, "")
			for _, r := range store.requests() {
				if r.authorization != "" {
					t.Errorf("the store was sent the login")
				}
			}
			if status == http.StatusOK {
				if err != nil {
					t.Error(err)
				}
				return
			}
			s.checkRefused(t, err, v1alpha1.ImagePullFailed, "registry "+store.host)
		})
	}
}

func TestHTTPS(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	plain := newFront(t, reg, nil)
	s := newSandbox(t)
	_, err := Run(t.Context(), Options{Image: plain.host + "/app:v1", Dir: "/migrations", Out: s.out})
	checkError(t, err, v1alpha1.ImagePullFailed, "speaks plain HTTP, which the operator does not allow")
	if len(plain.requests()) > 0 {
		t.Errorf("it was asked over plain HTTP: %v", plain.requests())
	}

	downgrade := newSecureFront(t, reg, func(w http.ResponseWriter, req *http.Request) bool {
		if !isBlob(req) {
			return false
		}
		http.Redirect(w, req, "http://"+plain.host+req.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	o := Options{Image: downgrade.host + "/app:v1", Dir: "/migrations", Out: s.out}
	_, err = Run(t.Context(), o)
	checkError(t, err, v1alpha1.ImagePullFailed, "certificate signed by unknown authority")
	o.transport = downgrade.Client().Transport
	_, err = Run(t.Context(), o)
	checkError(t, err, v1alpha1.ImagePullFailed, "plain HTTP is not allowed by the operator")
	if len(plain.requests()) > 0 {
		t.Errorf("a redirect led to plain HTTP: %v", plain.requests())
	}
	s.checkEmpty(t)

	secure := newSecureFront(t, reg, nil)
	o.Image, o.transport = secure.host+"/app:v1", secure.Client().Transport
	if _, err := Run(t.Context(), o); err != nil {
		t.Error(err)
	}
	for _, r := range secure.requests() {
		if !strings.HasPrefix(r.agent, userAgent) {
			t.Errorf("%s was asked for as %q, want %s", r.path, r.agent, userAgent)
		}
	}
}

// TestGuardGivesUp: an answer that stops coming is given up, one that never ends too.
func TestGuardGivesUp(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(w, "beginning")
		if req.URL.Path == "/v2/endless" {
			for chunk := bytes.Repeat([]byte("x"), 64<<10); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}
		w.(http.Flusher).Flush()
		<-req.Context().Done()
		close(ended)
	}))
	defer server.Close()
	g := &guard{inner: server.Client().Transport, plainHTTP: true, stall: 10 * time.Millisecond}
	for path, want := range map[string]error{"/v2/app/blobs/sha256:0": errStalled, "/v2/endless": errTooLong} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := g.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if errors.Is(want, errTooLong) {
			resp.Body.(*body).stall = time.Minute
		}
		if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	<-ended // the server knows that nobody listens any more
}
