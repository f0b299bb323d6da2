// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// memory is a layer that was not compressed.
func memory(data []byte) layer {
	return layer{size: int64(len(data)), open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// extractAll extracts /m from layers, the lowest first, without a registry.
func extractAll(tb testing.TB, s sandbox, o Options, all ...layer) error {
	tb.Helper()
	stage, err := newStage(s.out)
	if err != nil {
		tb.Fatal(err)
	}
	defer stage.close()
	x := newExtraction(o.withDefaults(), "/m", stage)
	ctx, stop := context.WithCancel(tb.Context())
	if err := x.read(ctx, stop, all, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	return x.publish()
}

// TestTopDownAgreesWithBottomUp compares what is extracted from random images with what comes of unpacking their layers one upon the other.
func TestTopDownAgreesWithBottomUp(t *testing.T) {
	paths := []string{"m", "m/a", "m/b", "m/a/x", "m/a/y", "m/a/x/1", "m/a/x/2", "m/b/x", "m/b/x/1", "n", "n/a"}
	compared := 0
	s := newSandbox(t)
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		var all []layer
		var script []string
		files, conflict := map[string]string{}, false
		for number := range 1 + random.IntN(4) {
			var made []registry.Entry
			for i := range random.IntN(6) {
				p := paths[random.IntN(len(paths))]
				switch random.IntN(6) {
				case 0:
					made = append(made, folder(p))
				case 1:
					made = append(made, regular(path.Join(path.Dir(p), ".wh."+path.Base(p)), ""))
				case 2:
					made = append(made, regular(path.Join(p, ".wh..wh..opq"), ""))
				default:
					made = append(made, regular(p, fmt.Sprintf("%d.%d", number, i)))
				}
				script = append(script, fmt.Sprintf("%d: %s", number, made[len(made)-1].Name))
			}
			all = append(all, memory(pack(t, made)))
			conflict = unpackOnto(files, made) || conflict
		}
		want := map[string]string{}
		for name, content := range files {
			if rest, ok := strings.CutPrefix(name, "m/"); ok && content != isDir {
				want[rest] = content
			}
		}
		if conflict || len(want) == 0 {
			continue // refused: other tests show how
		}
		if err := extractAll(t, s, Options{}, all...); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(script, "\n"))
		}
		if diff := cmp.Diff(want, s.files(t)); diff != "" {
			t.Fatalf("seed %d: files (-bottom up +top down):\n%s\n%s", seed, diff, strings.Join(script, "\n"))
		}
		s.clear(t)
		compared++
	}
	if compared < 300 {
		t.Errorf("only %d images could be compared", compared)
	}
}

const isDir = "\x00"

// unpackOnto does to files what unpacking a layer does, deletions first. It says whether the layer has something beneath what is a file in it.
func unpackOnto(files map[string]string, made []registry.Entry) bool {
	remove := func(p string, itself bool) {
		maps.DeleteFunc(files, func(f, _ string) bool { return itself && f == p || strings.HasPrefix(f, p+"/") })
	}
	own := map[string]bool{} // files of this layer, also those replaced
	for _, e := range made {
		if base := path.Base(e.Name); !strings.HasPrefix(base, whiteout) && e.Typeflag != tar.TypeDir {
			own[e.Name] = true
		} else if base == opaque {
			p := path.Dir(e.Name)
			remove(p, files[p] != isDir)
		} else if gone, ok := strings.CutPrefix(base, whiteout); ok {
			remove(path.Join(path.Dir(e.Name), gone), true)
		}
	}
	for _, e := range made {
		p := path.Clean(e.Name)
		opaqueDir := path.Base(p) == opaque
		if opaqueDir {
			p = path.Dir(p)
		}
		for parent := path.Dir(p); parent != "."; parent = path.Dir(parent) {
			if own[parent] {
				return true
			}
			if !strings.HasPrefix(path.Base(p), whiteout) {
				files[parent] = isDir
			}
		}
		switch {
		case strings.HasPrefix(path.Base(p), whiteout):
		case opaqueDir && own[p]:
			return true
		case opaqueDir, e.Typeflag == tar.TypeDir:
			files[p] = isDir
		default:
			remove(p, true)
			files[p] = e.Content
		}
	}
	return false
}

// pack writes entries as a tar archive.
func pack(tb testing.TB, made []registry.Entry) []byte {
	tb.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, e := range made {
		h := e.Header
		h.Mode, h.Size = 0o644, int64(len(e.Content))
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buffer.Bytes()
}

// FuzzExtract feeds two layers of any bytes. Whatever they are: nothing is written outside, limits hold, an error leaves nothing behind and blames the image.
func FuzzExtract(f *testing.F) {
	seed := func(lower, upper []registry.Entry) { f.Add(pack(f, lower), pack(f, upper)) }
	seed(entries{regular("m/1.sql", "one"), folder("m/s"), regular("m/s/2", "two")}, entries{regular("m/.wh.1.sql", ""), regular("m/3", "three")})
	seed(entries{regular("m/1", "one"), hardLinked("m/2", "m/1")}, entries{linked("m/3", "1"), linked("m/4", "/m/1")})
	seed(entries{linked("m/1", "/etc/passwd"), linked("m/d", "../.."), regular("m/d/x", "evil")}, entries{regular("m/../../x", "evil")})
	seed(entries{linked("m", "/etc"), regular("m/passwd", "evil")}, entries{regular("m/.wh..wh..opq", ""), regular("m/1", "one")})
	seed(entries{special("m/1", tar.TypeChar), special("m/2", tar.TypeFifo), hardLinked("m/3", "../x")}, entries{regular(".wh.m", ""), regular("m/.wh...", "")})
	seed(entries{regular("m/"+strings.Repeat("d/", 300)+"x", "deep")}, entries{regular("/m/a", "a"), regular("./m/a", "b"), regular("m/a", "c"), folder("m/a"), regular("m/a/b", "")})
	f.Add([]byte{}, []byte("\x1f\x8b not gzip"))
	f.Add([]byte("\x28\xb5\x2f\xfd not zstd"), []byte{})
	s := newSandbox(f) // one for all: making it takes longer than all the rest
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		defer s.clear(t)
		o := Options{MaxBytes: 64 << 10, MaxFiles: 50, MaxScanBytes: 4 << 20}
		err := extractAll(t, s, o, memory(lower), memory(upper))
		if err != nil {
			if _, ok := errors.AsType[refusal](err); !ok {
				t.Errorf("the image was not blamed but: %v (%T)", err, err)
			}
			s.checkEmpty(t)
			return
		}
		files, bytes := s.files(t), int64(0)
		for _, content := range files {
			bytes += int64(len(content))
		}
		if len(files) == 0 || len(files) > o.MaxFiles || bytes > o.MaxBytes {
			t.Errorf("%d files of %d bytes are there", len(files), bytes)
		}
	})
}
