// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"

	"github.com/subganapathy/automatic-db-upgrades/tests/loopback"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

const (
	imageBytes  = 1 << 30 // unpacked
	imageFiles  = 200     // in the directory, the sum file not counted
	otherLayers = 7       // those that are not the directory's
)

// served is a registry that counts what it sends.
type served struct {
	*registry.Registry
	sent *atomic.Int64
}

func serve(b *testing.B) served {
	b.Helper()
	listener, err := loopback.Listen()
	if err != nil {
		b.Fatal(err)
	}
	var sent atomic.Int64
	return served{registry.New(b, registry.WithListener(countingListener{listener, &sent})), &sent}
}

type countingListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.sent}, err
}

type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// others makes the layers that have nothing of the directory: a gibibyte of the files of this Go installation, its programs, packages and sources, over and over again.
// They shrink by gzip about as those of any image do.
func others(b *testing.B) []v1.Layer {
	b.Helper()
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(strings.TrimSpace(string(root)), func(at string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, at)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	all := make([]v1.Layer, otherLayers)
	next := 0
	for i := range all {
		all[i] = layer(b, func(w *tar.Writer) error {
			for left := int64(imageBytes / otherLayers); left > 0; next++ {
				content, err := os.ReadFile(files[next%len(files)])
				if err != nil {
					return err
				}
				content = content[:min(int64(len(content)), left)]
				left -= int64(len(content))
				if err := write(w, fmt.Sprintf("usr/%d/%d/%s", i, next, filepath.Base(files[next%len(files)])), content); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all
}

// layer is one of gzip's usual level, as image builders make them.
func layer(b *testing.B, fill func(*tar.Writer) error) v1.Layer {
	b.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for _, step := range []func() error{func() error { return fill(w) }, w.Close, z.Close} {
		if err := step(); err != nil {
			b.Fatal(err)
		}
	}
	data := slices.Clip(packed.Bytes())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func write(w *tar.Writer, name string, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// files are those of the directory, by their paths in the image.
type files map[string]string

// directory makes the migrations, with or without their sum file.
func directory(b *testing.B, withSum bool) files {
	b.Helper()
	plain := map[string]string{}
	for i := range imageFiles {
		var text strings.Builder
		for column := range 10 + i%30 {
			fmt.Fprintf(&text, "ALTER TABLE table_%d ADD COLUMN column_%d_%d text NOT NULL DEFAULT '';\n", i, i, column)
		}
		plain[fmt.Sprintf("%d_change.sql", 20240101000000+i)] = text.String()
	}
	all := registry.Migrations(b, plain)
	if !withSum {
		delete(all, "migrations/atlas.sum")
	}
	return all
}

func (f files) layer(b *testing.B) v1.Layer {
	b.Helper()
	return layer(b, func(w *tar.Writer) error {
		for _, name := range slices.Sorted(maps.Keys(f)) {
			if err := write(w, name, []byte(f[name])); err != nil {
				return err
			}
		}
		return nil
	})
}

// within are the files by their paths in the directory, put into another one.
func (f files) within(dir string) files {
	moved := files{}
	for name, content := range f {
		moved[path.Join(dir, path.Base(name))] = content
	}
	return moved
}

func (f files) bytes() int {
	n := 0
	for _, content := range f {
		n += len(content)
	}
	return n
}

// read reads all that is in a local directory.
func read(b *testing.B, dir string) files {
	b.Helper()
	all := files{}
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(at)
		all[name] = string(content)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return all
}
