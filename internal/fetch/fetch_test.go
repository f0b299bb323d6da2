// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// TestTimeout bounds the whole, whatever the registry does: here it answers nothing.
func TestTimeout(t *testing.T) {
	front := newFront(t, registry.New(t), func(_ http.ResponseWriter, req *http.Request) bool {
		<-req.Context().Done()
		return true
	})
	s := newSandbox(t)
	_, err := Run(t.Context(), Options{Image: front.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true, Timeout: 50 * time.Millisecond})
	var e *Error
	if !errors.As(err, &e) || e.Class != v1alpha1.ImagePullFailed || !strings.Contains(e.Message, "could not be read within 50ms") {
		t.Errorf("got %v", err)
	}
}

var simple = map[string]string{"migrations/1": "one"}

func TestReport(t *testing.T) {
	reg := registry.New(t)
	digest := reg.Push(t, "team/app:v1", registry.Image(t, simple))
	for name, image := range map[string]string{
		"by tag":            "team/app:v1",
		"by digest":         "team/app@" + digest.String(),
		"by tag and digest": "team/app:gone@" + digest.String(),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			var lines bytes.Buffer
			report, err := Run(t.Context(), Options{
				Image: reg.Ref(image), Dir: "/migrations", Out: s.out, PlainHTTP: true,
				PullSecrets: []string{filepath.Join(s.root, "regcred")}, Log: slog.New(slog.NewJSONHandler(&lines, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			want := Report{Image: reg.Ref("team/app@" + digest.String()), Files: 1, Bytes: 3}
			if diff := cmp.Diff(want, report); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			for _, line := range []string{`"msg":"image resolved"`, `"layer":1,"of":1`, `"files":1,"bytes":3`, digest.String(), `"secrets":["regcred"]`} {
				if !strings.Contains(lines.String(), line) {
					t.Errorf("log does not say %s:\n%s", line, lines.String())
				}
			}
		})
	}
}

// TestTagMoves: what a tag meant at first is what is read to the end.
func TestTagMoves(t *testing.T) {
	reg := registry.New(t)
	first := reg.Push(t, "app:v1", registry.Image(t, map[string]string{"migrations/1": "first"}))
	moved := false
	f := newFront(t, reg, func(_ http.ResponseWriter, req *http.Request) bool {
		if isBlob(req) && !moved {
			moved = true
			reg.Push(t, "app:v1", registry.Image(t, map[string]string{"migrations/1": "second"}))
		}
		return false
	})
	s := newSandbox(t)
	report, err := Run(t.Context(), Options{Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if !moved || s.files(t)["1"] != "first" || !strings.HasSuffix(report.Image, first.String()) {
		t.Errorf("got %v of %s, want the first image", s.files(t), report.Image)
	}
	asked := 0
	for _, r := range f.requests() {
		if strings.HasSuffix(r.path, "/manifests/v1") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the tag was resolved %d times: %v", asked, f.requests())
	}
}

func TestIndex(t *testing.T) {
	reg := registry.New(t)
	image := func(content string) v1.Image {
		return registry.Image(t, map[string]string{"migrations/1": content})
	}
	add := func(index v1.ImageIndex, child mutate.Appendable, platform *v1.Platform) v1.ImageIndex {
		return mutate.AppendManifests(index, mutate.IndexAddendum{Add: child, Descriptor: v1.Descriptor{Platform: platform}})
	}
	arm := &v1.Platform{OS: "linux", Architecture: "arm64"}
	amd := &v1.Platform{OS: "linux", Architecture: "amd64"}
	unknown := &v1.Platform{OS: "unknown", Architecture: "unknown"}
	attestation := add(empty.Index, image("attestation"), unknown)
	nested := add(empty.Index, image("deep"), amd)
	for range maxIndexDepth {
		nested = add(empty.Index, nested, nil)
	}
	tests := map[string]struct {
		index  v1.ImageIndex
		want   string
		refuse string
	}{
		"amd64 preferred":          {index: add(add(attestation, image("arm"), arm), image("amd"), amd), want: "amd"},
		"one of another":           {index: add(attestation, image("arm"), arm), want: "arm"},
		"no platform":              {index: add(attestation, image("plain"), nil), want: "plain"},
		"an index in an index":     {index: add(empty.Index, add(attestation, image("arm"), arm), nil), want: "arm"},
		"nothing but attestations": {index: attestation, refuse: "its index lists no image"},
		"nothing":                  {index: empty.Index, refuse: "its index lists no image"},
		"nested without end":       {index: nested, refuse: "nested too deeply"},
	}
	for testName, tt := range tests {
		t.Run(testName, func(t *testing.T) {
			ref, err := name.ParseReference(reg.Ref("app:v1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.WriteIndex(ref, tt.index); err != nil {
				t.Fatal(err)
			}
			s := newSandbox(t)
			report, err := Run(t.Context(), Options{Image: ref.Name(), Dir: "/migrations", Out: s.out, PlainHTTP: true})
			if tt.refuse != "" {
				checkError(t, err, v1alpha1.ImageInvalid, tt.refuse)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.files(t)["1"]; got != tt.want {
				t.Errorf("got the image %q, want %q", got, tt.want)
			}
			if digest, _ := tt.index.Digest(); report.Image != ref.Context().Digest(digest.String()).Name() {
				t.Errorf("reported %s, want the index's digest %s", report.Image, digest)
			}
		})
	}
}

// TestRegistryFaults: whatever the registry does, the class is ImagePullFailed, nothing is left, and the message says what was seen.
func TestRegistryFaults(t *testing.T) {
	img := registry.Of(t, layers(t, entries{regular("migrations/1", strings.Repeat("content ", 10_000))}, entries{regular("migrations/2", "two")})...)
	manifest := func(status int, body string) answer {
		return func(w http.ResponseWriter, req *http.Request) bool { return isManifest(req) && reply(w, status, body) }
	}
	blob := func(status int, body string) answer {
		return func(w http.ResponseWriter, req *http.Request) bool { return isBlob(req) && reply(w, status, body) }
	}
	lowest := func(change func([]byte) []byte) answer { return changedBlob(t, img, change) }
	absent := "app@sha256:" + strings.Repeat("0", 64)
	tests := map[string]struct {
		image  string // default app:v1
		answer answer
		want   []string
	}{
		"no such repository":         {image: "nobody:v1", want: []string{"answered 404 Not Found (NAME_UNKNOWN"}},
		"no such tag":                {image: "app:v2", want: []string{"app:v2: registry ", "answered 404 Not Found (MANIFEST_UNKNOWN"}},
		"no such digest":             {image: absent, want: []string{"answered 404 Not Found (MANIFEST_UNKNOWN"}},
		"busy for good":              {answer: manifest(503, "try later"), want: []string{"answered 503 Service Unavailable"}},
		"forbidden":                  {answer: manifest(403, `{"errors":[{"code":"DENIED","message":"not you"}]}`), want: []string{"answered 403 Forbidden (DENIED: not you)", "no pull secret has a login for it", "pull secret(s) absent: regcred"}},
		"unauthorized":               {answer: manifest(401, ""), want: []string{"answered 401 Unauthorized", "pull secret(s) absent: regcred"}},
		"manifest of another digest": {image: absent, answer: manifest(200, "{}"), want: []string{"does not match requested digest"}},
		"blob missing":               {answer: blob(404, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`), want: []string{"answered 404 Not Found (BLOB_UNKNOWN)"}},
		"blob of another size":       {answer: blob(200, "surprise"), want: []string{"does not match expected size"}},
		"blob cut off":               {answer: lowest(func(b []byte) []byte { return b[:len(b)/2] }), want: []string{"unexpected EOF"}},
		"blob damaged":               {answer: lowest(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), want: []string{"error verifying sha256 checksum"}},
		"blob's start damaged":       {answer: lowest(func(b []byte) []byte { b[0] ^= 1; return b }), want: []string{"error verifying sha256 checksum"}},
		"blob's end damaged":         {answer: lowest(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), want: []string{"error verifying sha256 checksum"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait before they ask again
			reg := registry.New(t)
			reg.Push(t, "app:v1", img)
			f := newFront(t, reg, tt.answer)
			image := tt.image
			if image == "" {
				image = "app:v1"
			}
			s := newSandbox(t)
			_, err := Run(t.Context(), Options{Image: f.host + "/" + image, Dir: "/migrations", Out: s.out, PlainHTTP: true, PullSecrets: []string{filepath.Join(s.root, "regcred")}})
			s.checkRefused(t, err, v1alpha1.ImagePullFailed, append(tt.want, f.host)...)
		})
	}
}

// changedBlob answers with something else than the lowest layer of an image, but of the length that was announced.
func changedBlob(t *testing.T, img v1.Image, change func([]byte) []byte) answer {
	t.Helper()
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := all[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	r, err := all[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(change(bytes.Clone(data))) // fewer bytes than announced make the server cut the connection
		return true
	}
}

func TestRegistryDown(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	reg.Down()
	s := newSandbox(t)
	for _, plain := range []bool{false, true} {
		_, err := Run(t.Context(), Options{Image: reg.Ref("app:v1"), Dir: "/migrations", Out: s.out, PlainHTTP: plain})
		s.checkRefused(t, err, v1alpha1.ImagePullFailed, "image "+reg.Ref("app:v1"), "registry "+reg.Host(), "connection refused")
	}
	reg.Up(t)
	if _, err := Run(t.Context(), Options{Image: reg.Ref("app:v1"), Dir: "/migrations", Out: s.out, PlainHTTP: true}); err != nil {
		t.Errorf("after the registry came back: %v", err)
	}
}

func TestBadManifests(t *testing.T) {
	reg := registry.New(t)
	manyLayers := `{"layers":[` + strings.TrimSuffix(strings.Repeat(`{"size":1,"digest":"sha256:`+strings.Repeat("0", 64)+`"},`, maxLayers+1), ",") + `]}`
	tests := map[string]struct{ mediaType, body, want string }{
		"not JSON":         {"application/vnd.oci.image.manifest.v1+json", "<html>", `its manifest, of type "application/vnd.oci.image.manifest.v1+json", cannot be read`},
		"a web page":       {"text/html", "<html>", `of type "text/html", cannot be read`},
		"null":             {"application/vnd.oci.image.manifest.v1+json", "null", "is not in it"},
		"index not JSON":   {"application/vnd.oci.image.index.v1+json", "<html>", "its index cannot be read"},
		"schema 1":         {"application/vnd.docker.distribution.manifest.v1+json", "{}", "cannot be read"},
		"too long":         {"application/vnd.oci.image.manifest.v1+json", `{"annotations":{"x":"` + strings.Repeat("x", maxAnswer) + `"}}`, "longer than 4194304 bytes"},
		"too many layers":  {"application/vnd.oci.image.manifest.v1+json", manyLayers, "has 501 layers, more than 500"},
		"a negative size":  {"application/vnd.oci.image.manifest.v1+json", `{"layers":[{"size":-1,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`, "layer 1 has the size -1"},
		"overflowing size": {"application/vnd.oci.image.manifest.v1+json", `{"layers":[{"size":9223372036854775807},{"size":9223372036854775807}]}`, "are larger than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, reg, func(w http.ResponseWriter, req *http.Request) bool {
				if !isManifest(req) {
					return false
				}
				w.Header().Set("Content-Type", tt.mediaType)
				return reply(w, http.StatusOK, tt.body)
			})
			s := newSandbox(t)
			_, err := Run(t.Context(), Options{Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true})
			s.checkRefused(t, err, v1alpha1.ImageInvalid, tt.want)
		})
	}
}

func TestInterrupted(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	for name, when := range map[string]func(*http.Request) bool{"at the manifest": isManifest, "at a blob": isBlob} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			f := newFront(t, reg, func(_ http.ResponseWriter, req *http.Request) bool {
				if !when(req) {
					return false
				}
				cancel(fmt.Errorf("told to end"))
				<-req.Context().Done()
				return true
			})
			s := newSandbox(t)
			_, err := Run(ctx, Options{Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true})
			s.checkRefused(t, err, v1alpha1.Interrupted, "was interrupted: told to end")
		})
	}
}

func TestOutputDirectory(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	s := newSandbox(t)
	o := Options{Image: reg.Ref("app:v1"), Dir: "/migrations", Out: filepath.Join(s.root, "missing"), PlainHTTP: true}
	_, err := Run(t.Context(), o)
	checkError(t, err, v1alpha1.Internal, "no such file or directory")

	before := filepath.Join(s.out, "before")
	if err := os.WriteFile(before, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	o.Out = s.out
	_, err = Run(t.Context(), o)
	checkError(t, err, v1alpha1.Internal, "is not empty", `"before"`)
	if _, err := os.Stat(before); err != nil {
		t.Errorf("what was in the output directory: %v", err)
	}
}

func TestReferences(t *testing.T) {
	tests := map[string]struct {
		image  string
		prefix []string
		refuse string
	}{
		"empty":                         {image: "", refuse: "is not an image reference"},
		"a URL":                         {image: "https://registry.example.com/app:v1", refuse: "is not an image reference"},
		"capitals":                      {image: "registry.example.com/App:v1", refuse: "is not an image reference"},
		"short digest":                  {image: "registry.example.com/app@sha256:12", refuse: "is not an image reference"},
		"dots in the repository":        {image: "registry.example.com/team/../evil/app:v1", refuse: "is not an image reference"},
		"empty part of the repository":  {image: "registry.example.com/team//app:v1", refuse: "is not an image reference"},
		"dots for a tag":                {image: "registry.example.com/app:..", refuse: "is not an image reference"},
		"within a repository":           {image: "registry.example.com/team/app:v1", prefix: []string{"other.example.com", "registry.example.com/team"}},
		"prefix with a slash":           {image: "registry.example.com/team/app:v1", prefix: []string{"registry.example.com/team/"}},
		"the repository itself":         {image: "registry.example.com/team:v1", prefix: []string{"registry.example.com/team"}},
		"within a registry":             {image: "registry.example.com/team/app", prefix: []string{"registry.example.com"}},
		"with a port":                   {image: "registry.example.com:5000/app", prefix: []string{"registry.example.com:5000"}},
		"Docker Hub":                    {image: "team/app:v1", prefix: []string{"docker.io/team"}},
		"Docker Hub, without its name":  {image: "docker.io/team/app:v1", prefix: []string{"team/app"}},
		"a library image":               {image: "postgres:15", prefix: []string{"docker.io/library"}},
		"a longer repository name":      {image: "registry.example.com/team-evil/app", prefix: []string{"registry.example.com/team"}, refuse: "not within one that the operator allows (registry.example.com/team)"},
		"a longer registry name":        {image: "registry.example.com.evil/team/app", prefix: []string{"registry.example.com/team", "registry.example.com"}, refuse: "not within"},
		"another port":                  {image: "registry.example.com:444/team/app", prefix: []string{"registry.example.com"}, refuse: "not within"},
		"Docker Hub looking like it":    {image: "registry/team/app", prefix: []string{"registry.example.com/team"}, refuse: "not within"},
		"digest does not help":          {image: "evil.example.com/app@sha256:" + strings.Repeat("0", 64), prefix: []string{"registry.example.com"}, refuse: "not within"},
		"only part of the name":         {image: "registry.example.com/team", prefix: []string{"registry.example.com/team/app"}, refuse: "not within"},
		"a prefix that cannot be meant": {image: "registry.example.com/team", prefix: []string{"/"}, refuse: "mend the operator's configuration"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ref, err := parseImage(tt.image, false)
			if err == nil {
				err = checkAllowed(ref.Context().Name(), tt.prefix)
			}
			switch {
			case tt.refuse == "" && err != nil:
				t.Error(err)
			case tt.refuse != "" && (err == nil || !strings.Contains(err.Error(), tt.refuse)):
				t.Errorf("got %v, want %q", err, tt.refuse)
			}
		})
	}
}

// TestNotAllowedIsNotAsked: a registry that is not allowed hears nothing from us.
func TestNotAllowedIsNotAsked(t *testing.T) {
	reg := registry.New(t)
	reg.Push(t, "app:v1", registry.Image(t, simple))
	f := newFront(t, reg, nil)
	s := newSandbox(t)
	_, err := Run(t.Context(), Options{Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true, AllowedPrefixes: []string{f.host + "/ap"}})
	checkError(t, err, v1alpha1.ImageInvalid, "not within")
	if len(f.requests()) > 0 {
		t.Errorf("it was asked: %v", f.requests())
	}
}
