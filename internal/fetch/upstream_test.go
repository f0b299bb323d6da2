// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// export writes an image to a file as crane does.
func export(t *testing.T, all ...[]registry.Entry) string {
	t.Helper()
	data, err := io.ReadAll(mutate.Extract(registry.Of(t, layers(t, all...)...)))
	if err != nil {
		t.Fatal(err)
	}
	return tarballOf(t, data)
}

func tarballOf(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTarball: an exported image is taken like one from a registry, and refused like one.
func TestTarball(t *testing.T) {
	whiteout := registry.Entry{Header: tar.Header{Name: "migrations/.wh.2.sql"}}
	for name, c := range map[string]struct {
		layers [][]registry.Entry
		want   map[string]string
		refuse string
	}{
		"layers": {layers: [][]registry.Entry{{folder("migrations"), regular("migrations/1.sql", "old"), regular("migrations/2.sql", "2")}, {regular("migrations/1.sql", "1"), whiteout}},
			want: map[string]string{"1.sql": "1"}},
		"links":     {layers: [][]registry.Entry{{regular("migrations/1.sql", "1"), linked("migrations/2.sql", "1.sql"), hardLinked("migrations/3.sql", "migrations/1.sql")}}, want: map[string]string{"1.sql": "1", "2.sql": "1", "3.sql": "1"}},
		"missing":   {layers: [][]registry.Entry{{regular("app/main", "x")}}, refuse: `directory "/migrations" is not in it (directories seen in /: app)`},
		"leads out": {layers: [][]registry.Entry{{linked("migrations/1.sql", "/etc/passwd")}}, refuse: "leaves the directory"},
		"a device":  {layers: [][]registry.Entry{{special("migrations/1.sql", tar.TypeChar)}}, refuse: "neither a file nor a directory"},
		"too large": {layers: [][]registry.Entry{{regular("migrations/1.sql", strings.Repeat("x", 2000))}}, refuse: "more than 1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			got, err := Run(t.Context(), Options{Image: "registry.test/app:v1", Dir: "/migrations", Out: s.out, MaxBytes: 1000, Tarball: export(t, c.layers...)})
			if c.refuse != "" {
				s.checkRefused(t, err, v1alpha1.ImageInvalid, "image registry.test/app:v1: ", c.refuse)
				return
			}
			s.checkFiles(t, err, c.want)
			if got.Image != "" {
				t.Errorf("digest of nothing: %s", got.Image)
			}
		})
	}
}

func TestTarballThatIsNone(t *testing.T) {
	whole, err := os.ReadFile(export(t, []registry.Entry{regular("migrations/1.sql", strings.Repeat("x", 2000))}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file  string
		class v1alpha1.FailureClass
		text  string
	}{
		"cut off": {tarballOf(t, whole[:1500]), v1alpha1.ImageInvalid, "cannot be unpacked: unexpected EOF"},
		"no tar":  {tarballOf(t, bytes.Repeat([]byte("x"), 2000)), v1alpha1.ImageInvalid, "cannot be unpacked"},
		"no file": {filepath.Join(t.TempDir(), "missing"), v1alpha1.Internal, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			_, err := Run(t.Context(), Options{Image: "registry.test/app:v1", Dir: "/migrations", Out: s.out, Tarball: c.file})
			s.checkRefused(t, err, c.class, c.text)
		})
	}
	s := newSandbox(t)
	_, err = Run(t.Context(), Options{Image: "registry.test/app:v1", Dir: "/migrations", Out: s.out, Tarball: "unread", AllowedPrefixes: []string{"other.test"}})
	s.checkRefused(t, err, v1alpha1.ImageInvalid, "not within")
}

// TestLogin: the configuration holds the login that fits best, under the key that docker's own has, and no other.
func TestLogin(t *testing.T) {
	secret := func(config string) string {
		dir := filepath.Join(t.TempDir(), "pull")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".dockerconfigjson"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	several := []string{
		secret(`{"auths":{"*.test":{"username":"any","password":"a"},"other.test":{"username":"other","password":"o"}}}`),
		secret(`{"auths":{"registry.test/team":{"username":"team","password":"t"},"https://index.docker.io/v1/":{"username":"hub","password":"h"}}}`),
		filepath.Join(t.TempDir(), "absent"),
	}
	for image, want := range map[string]string{
		"registry.test/team/app:v1": `{"auths":{"registry.test":{"username":"team","password":"t","auth":"dGVhbTp0"}}}`,
		"registry.test/app:v1":      `{"auths":{"registry.test":{"username":"any","password":"a","auth":"YW55OmE="}}}`,
		"app:v1":                    `{"auths":{"https://index.docker.io/v1/":{"username":"hub","password":"h","auth":"aHViOmg="}}}`,
		"registry.example.com/app":  `{"auths":{}}`,
	} {
		t.Run(image, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.json")
			if err := Login(Options{Image: image, PullSecrets: several}, file); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got, wanted any
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(want), &wanted); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted, got); diff != "" {
				t.Error(diff)
			}
			checkError(t, Login(Options{Image: image}, file), v1alpha1.Internal, "exists")
		})
	}
	checkError(t, Login(Options{Image: "app", PullSecrets: []string{secret("{")}}, "unused"), v1alpha1.ImagePullFailed, "pull secret pull cannot be read")
	checkError(t, Login(Options{Image: "not an image"}, "unused"), v1alpha1.ImageInvalid, "is not an image reference")
}

// TestAtlasProject: whatever a directory is called, its name stays one string in the file and one path in the URL.
func TestAtlasProject(t *testing.T) {
	file := filepath.Join(t.TempDir(), "atlas.hcl")
	if err := WriteAtlasProject(file, `/a "b"/${file("x")}/%{if}?c#d`); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = `env "dbupgrade" {
  url = getenv("DATABASE_URL")
  migration {
    dir = "file:///a%20%22b%22/$%7Bfile%28%22x%22%29%7D/%25%7Bif%7D%3Fc%23d"
  }
}
`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
	checkError(t, WriteAtlasProject(file, "/"), v1alpha1.Internal, "exists")
}
