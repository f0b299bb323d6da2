// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// piece is a blob of an artifact.
type piece struct {
	mediaType types.MediaType
	title     string
	unpack    bool // as "oras push" marks a directory
	content   []byte
}

// artifact is an OCI artifact, whose configuration is empty.
type artifact struct {
	manifest []byte
	blobs    map[v1.Hash][]byte
}

func newArtifact(t *testing.T, pieces ...piece) v1.Image {
	t.Helper()
	a := artifact{blobs: map[v1.Hash][]byte{}}
	add := func(mediaType types.MediaType, content []byte) v1.Descriptor {
		digest, size, err := v1.SHA256(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		a.blobs[digest] = content
		return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: add("application/vnd.oci.empty.v1+json", []byte("{}"))}
	for _, p := range pieces {
		d := add(p.mediaType, p.content)
		d.Annotations = map[string]string{}
		if p.title != "" {
			d.Annotations["org.opencontainers.image.title"] = p.title
		}
		if p.unpack {
			d.Annotations["io.deis.oras.content.unpack"] = "true"
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	var err error
	if a.manifest, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	img, err := partial.CompressedToImage(a)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func (a artifact) RawConfigFile() ([]byte, error)      { return []byte("{}"), nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a artifact) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	return static.NewLayer(a.blobs[h], "application/octet-stream"), nil
}

func TestArtifacts(t *testing.T) {
	packed := pack(t, entries{folder("migrations"), regular("migrations/1.sql", "one"), regular("migrations/2.sql", "two")})
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := func(title, content string) piece {
		return piece{mediaType: "application/vnd.oci.image.layer.v1.tar", title: title, content: []byte(content)} // as oras says of any file
	}
	summed := migrations.WithSum(t, map[string]string{"1.sql": "one", "2.sql": "two"})
	both := map[string]string{"1.sql": "one", "2.sql": "two"}
	long := strings.Repeat("SELECT 'ustar';\n", 1000)
	tests := map[string]struct {
		pieces []piece
		dir    string // default /migrations
		want   map[string]string
		refuse string
	}{
		"an archive of some type":         {pieces: []piece{{mediaType: "application/vnd.example.migrations", content: packed}}, want: both},
		"a gzip archive of some type":     {pieces: []piece{{mediaType: "application/octet-stream", content: compressed(t, packed)}}, want: both},
		"a zstd archive of some type":     {pieces: []piece{{mediaType: "application/vnd.example+zstd", content: encoder.EncodeAll(packed, nil)}}, want: both},
		"a directory, pushed":             {pieces: []piece{{mediaType: types.OCILayer, title: "migrations", unpack: true, content: compressed(t, packed)}}, want: both},
		"an archive, pushed":              {pieces: []piece{{mediaType: types.OCILayer, title: "migrations.tar", content: packed}}, want: both},
		"a gzip archive, pushed":          {pieces: []piece{{mediaType: types.OCILayer, title: "migrations.tgz", content: compressed(t, packed)}}, want: both},
		"files, pushed from within":       {pieces: []piece{plain("1.sql", "one"), plain("2.sql", "two")}, want: both},
		"files, pushed from above":        {pieces: []piece{plain("migrations/1.sql", "one"), plain("migrations/2.sql", "two"), plain("src/main.go", "package main")}, want: both},
		"files, pushed from far above":    {pieces: []piece{plain("db/migrations/1.sql", "one"), plain("README.md", "read me")}, dir: "/db/migrations", want: map[string]string{"1.sql": "one", "README.md": "read me"}},
		"files, for the whole":            {pieces: []piece{plain("1.sql", "one"), plain("s/2.sql", "two")}, dir: "/", want: map[string]string{"1.sql": "one", "s/2.sql": "two"}},
		"files with their sum file":       {pieces: []piece{plain("atlas.sum", summed["atlas.sum"]), plain("1.sql", "one"), plain("2.sql", "two")}, want: summed},
		"the same content twice":          {pieces: []piece{plain("1.sql", "same"), plain("2.sql", "same")}, want: map[string]string{"1.sql": "same", "2.sql": "same"}},
		"empty, short and long files":     {pieces: []piece{plain("1.sql", ""), plain("2.sql", ";"), plain("3.sql", long)}, want: map[string]string{"1.sql": "", "2.sql": ";", "3.sql": long}},
		"two of one title: the last wins": {pieces: []piece{plain("1.sql", "old"), plain("1.sql", "one")}, want: map[string]string{"1.sql": "one"}},
		"a file without a title":          {pieces: []piece{plain("", "one")}, refuse: "layer 1 cannot be unpacked"},
		"a directory that is none":        {pieces: []piece{{mediaType: types.OCILayer, title: "migrations", unpack: true, content: []byte("one")}}, refuse: "layer 1 cannot be unpacked"},
		"a title that leads elsewhere":    {pieces: []piece{plain("../1.sql", "one")}, refuse: `has a ".." in its name`},
		"a title of dots":                 {pieces: []piece{plain("..", "one")}, refuse: `has a ".." in its name`},
		"a title that is the directory":   {pieces: []piece{plain("/migrations", "one")}, refuse: `"/migrations" is not a directory`},
		"a title with a backslash":        {pieces: []piece{plain(`a\b.sql`, "one")}, refuse: "has a backslash"},
		"files beside the directory":      {pieces: []piece{plain("sql/1.sql", "one")}, refuse: `directory "/migrations" is not in it (directories seen in /: sql)`},
		"nothing":                         {refuse: `directory "/migrations" is not in it`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := registry.New(t)
			reg.Push(t, "app:v1", newArtifact(t, tt.pieces...))
			if tt.dir == "" {
				tt.dir = "/migrations"
			}
			s := newSandbox(t)
			_, err := Run(t.Context(), Options{Image: reg.Ref("app:v1"), Dir: tt.dir, Out: s.out, PlainHTTP: true})
			if tt.refuse != "" {
				s.checkRefused(t, err, v1alpha1.ImageInvalid, tt.refuse)
				return
			}
			s.checkFiles(t, err, tt.want)
		})
	}
}

// TestArtifactInIndex: an index may list artifacts, which have no platform, and images beside them.
func TestArtifactInIndex(t *testing.T) {
	migrations := newArtifact(t, piece{mediaType: "application/vnd.example", title: "1.sql", content: []byte("artifact")})
	image := registry.Image(t, map[string]string{"migrations/1.sql": "image"})
	windows := mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "windows", Architecture: "arm64"}}}
	for testName, tt := range map[string]struct {
		index v1.ImageIndex
		want  string
	}{
		"alone":            {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: migrations}), "artifact"},
		"first of no ours": {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: migrations}, windows), "artifact"},
		"after another":    {mutate.AppendManifests(empty.Index, windows, mutate.IndexAddendum{Add: migrations}), "image"},
	} {
		t.Run(testName, func(t *testing.T) {
			reg := registry.New(t)
			ref, err := name.ParseReference(reg.Ref("app:v1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.WriteIndex(ref, tt.index); err != nil {
				t.Fatal(err)
			}
			s := newSandbox(t)
			_, err = Run(t.Context(), Options{Image: ref.Name(), Dir: "/migrations", Out: s.out, PlainHTTP: true})
			s.checkFiles(t, err, map[string]string{"1.sql": tt.want})
		})
	}
}
