// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"archive/tar"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func pull(t *testing.T, ref string, auth authn.Authenticator) (v1.Image, error) {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Image(parsed, remote.WithAuth(auth), remote.WithContext(t.Context()))
}

// contents are the regular files of an image, its layers put together.
func contents(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	flat := mutate.Extract(img)
	defer flat.Close()
	files := map[string]string{}
	for r := tar.NewReader(flat); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}

func TestPushAndPull(t *testing.T) {
	reg := New(t)
	img := Layers(t, map[string]string{"a": "1", "b": "1"}, map[string]string{"b": "2"})
	pushed := reg.Push(t, "team/app:v1", img)

	got, err := pull(t, reg.Ref("team/app:v1"), authn.Anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, contents(t, got)); diff != "" {
		t.Errorf("pulled files (-want +got):\n%s", diff)
	}
	if digest, err := got.Digest(); err != nil || digest != pushed {
		t.Errorf("pulled %s (%v), pushed %s", digest, err, pushed)
	}
}

func TestImagesAreReproducible(t *testing.T) {
	reg := New(t)
	files := map[string]string{"a": "1", "b": "2", "c": "3"}
	first, second := reg.Push(t, "app:v1", Image(t, files)), reg.Push(t, "app:v2", Image(t, files))
	if first != second {
		t.Errorf("the same files make %s and %s", first, second)
	}
}

func TestBasicAuth(t *testing.T) {
	reg := New(t, WithBasicAuth("bot", "secret"))
	reg.Push(t, "app:v1", Image(t, map[string]string{"a": "1"}))

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), reg.DockerConfig(t), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	parsed, err := name.ParseReference(reg.Ref("app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(parsed, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		t.Errorf("with the pull secret: %v", err)
	}

	for name, auth := range map[string]authn.Authenticator{
		"nobody":         authn.Anonymous,
		"wrong password": &authn.Basic{Username: "bot", Password: "guess"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pull(t, reg.Ref("app:v1"), auth)
			var refusal *transport.Error
			if !errors.As(err, &refusal) || refusal.StatusCode != http.StatusUnauthorized {
				t.Errorf("got %v, want status 401", err)
			}
		})
	}
}

func TestOutage(t *testing.T) {
	reg := New(t)
	reg.Push(t, "app:v1", Image(t, map[string]string{"a": "1"}))

	reg.Down()
	reg.Down()
	_, err := pull(t, reg.Ref("app:v1"), authn.Anonymous)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("while down: %v, want a refused connection", err)
	}

	reg.Up(t)
	reg.Up(t)
	if _, err := pull(t, reg.Ref("app:v1"), authn.Anonymous); err != nil {
		t.Errorf("up again: %v", err)
	}
}

func TestOddEntriesArriveAsWritten(t *testing.T) {
	reg := New(t)
	odd := []Entry{
		{Header: tar.Header{Name: "../outside"}, Content: "x"},
		{Header: tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "dir/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
	}
	reg.Push(t, "odd:v1", Of(t, Layer(t, odd...)))
	img, err := pull(t, reg.Ref("odd:v1"), authn.Anonymous)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	r := tar.NewReader(raw)
	for _, want := range odd {
		got, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", want.Name, err)
		}
		if got.Name != want.Name || got.Linkname != want.Linkname || got.Devminor != want.Devminor {
			t.Errorf("got %+v, want %+v", got, want.Header)
		}
	}
}

func TestMigrationsHaveTheirSum(t *testing.T) {
	files := Migrations(t, map[string]string{"1_a.sql": "SELECT 1;", "2_b.sql": "SELECT 2;"})
	var dir migrate.MemDir
	for name, content := range files {
		if path.Dir(name) != "migrations" {
			t.Errorf("%s is not under migrations", name)
		}
		if err := dir.WriteFile(path.Base(name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrate.Validate(&dir); err != nil {
		t.Errorf("Atlas refuses the directory: %v", err)
	}
}
