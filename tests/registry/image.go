// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"path"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// Entry is one entry of a layer, as odd as a test wants it. A Typeflag of zero
// is a regular file, a Mode of zero is 0644, and Size is that of the Content
// where it is not given.
type Entry struct {
	tar.Header
	Content string
}

// Image is an image of one layer that holds the files: a map from path to
// content.
func Image(tb testing.TB, files map[string]string) v1.Image {
	tb.Helper()
	return Layers(tb, files)
}

// Layers is an image of one layer for each map of files, the lowest first.
func Layers(tb testing.TB, layers ...map[string]string) v1.Image {
	tb.Helper()
	built := make([]v1.Layer, len(layers))
	for i, files := range layers {
		var entries []Entry
		for _, name := range slices.Sorted(maps.Keys(files)) {
			entries = append(entries, Entry{Header: tar.Header{Name: name}, Content: files[name]})
		}
		built[i] = Layer(tb, entries...)
	}
	return Of(tb, built...)
}

// Layer is a compressed layer of the entries, in their order.
func Layer(tb testing.TB, entries ...Entry) v1.Layer {
	tb.Helper()
	return LayerFunc(tb, func(w *tar.Writer) error {
		for _, entry := range entries {
			header := entry.Header
			if header.Mode == 0 {
				header.Mode = 0o644
			}
			if header.Size == 0 {
				header.Size = int64(len(entry.Content))
			}
			if err := w.WriteHeader(&header); err != nil {
				return err
			}
			if _, err := io.WriteString(w, entry.Content); err != nil {
				return err
			}
		}
		return nil
	})
}

// LayerFunc is a compressed layer of what the function writes. Only its
// compressed form is kept in memory, so it may be huge when unpacked.
func LayerFunc(tb testing.TB, write func(*tar.Writer) error) v1.Layer {
	tb.Helper()
	var compressed bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&compressed, gzip.BestSpeed)
	if err != nil {
		tb.Fatal(err)
	}
	w := tar.NewWriter(zipped)
	if err := write(w); err != nil {
		tb.Fatalf("write a layer: %v", err)
	}
	if err := w.Close(); err != nil {
		tb.Fatalf("write a layer: %v", err)
	}
	if err := zipped.Close(); err != nil {
		tb.Fatalf("write a layer: %v", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(compressed.Bytes())), nil
	})
	if err != nil {
		tb.Fatalf("make a layer: %v", err)
	}
	return layer
}

// Of is an image for linux/amd64 of the layers, the lowest first.
func Of(tb testing.TB, layers ...v1.Layer) v1.Image {
	tb.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layers...); err != nil {
		tb.Fatalf("make an image: %v", err)
	}
	return img
}

// Migrations turns migration files, by their bare names, into the files of an
// image: they are put under /migrations, with the atlas.sum that belongs to them.
func Migrations(tb testing.TB, files map[string]string) map[string]string {
	tb.Helper()
	placed := make(map[string]string, len(files)+1)
	for name, content := range migrations.WithSum(tb, files) {
		placed[path.Join("migrations", name)] = content
	}
	return placed
}
