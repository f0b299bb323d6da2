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
	"slices"
	"strings"
	"sync"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// memory is a layer that was not compressed.
func memory(data []byte) layer {
	return layer{size: int64(len(data)), open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// extractAll extracts /m from layers, the lowest first, without a registry.
func extractAll(tb testing.TB, s sandbox, o Options, all ...layer) error {
	tb.Helper()
	return extractAhead(tb, s, o, maxAhead, all...)
}

// extractAhead is extractAll with room for so many bytes of layers whose turn has not come.
func extractAhead(tb testing.TB, s sandbox, o Options, ahead int64, all ...layer) error {
	tb.Helper()
	stage, err := newStage(s.out)
	if err != nil {
		tb.Fatal(err)
	}
	defer stage.close()
	x := newExtraction(o.withDefaults(), "/m", stage)
	x.ahead.Store(ahead)
	ctx, stop := context.WithCancel(tb.Context())
	if err := x.read(ctx, stop, all, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	return x.publish()
}

// closing is a layer's blob that tells when nobody reads it any more.
type closing struct {
	io.Reader
	tell func()
}

func (c closing) Close() error {
	c.tell()
	return nil
}

// topDown makes layers be read one after the other.
func topDown(all []layer) []layer { return ordered(all, func(i int) []int { return []int{i + 1} }) }

// topLast makes the topmost layer be read after so many layers beneath it.
func topLast(all []layer, below int) []layer {
	return ordered(all, func(i int) []int {
		if i < len(all)-1 {
			return nil
		}
		var first []int
		for n := range below {
			first = append(first, i-1-n)
		}
		return first
	})
}

// ordered makes each layer wait until others, which the function names, have been read. Numbers that are none are passed over.
func ordered(all []layer, after func(int) []int) []layer {
	read := make([]chan struct{}, len(all))
	for i := range read {
		read[i] = make(chan struct{})
	}
	waiting := slices.Clone(all)
	for i := range waiting {
		tell := sync.OnceFunc(func() { close(read[i]) })
		waiting[i].open = func() (io.ReadCloser, error) {
			for _, n := range after(i) {
				if n >= 0 && n < len(all) {
					<-read[n]
				}
			}
			blob, err := all[i].open()
			return closing{blob, tell}, err
		}
	}
	return waiting
}

// randomImage has entries in and around /m, and sometimes sum files that may be right.
func randomImage(tb testing.TB, random *rand.Rand) [][]registry.Entry {
	paths := []string{"m", "m/a", "m/b", "m/a/x", "m/a/y", "m/a/x/1", "m/a/x/2", "m/b/x", "m/b/x/1", "n", "n/a"}
	files := []string{"m/1.sql", "m/2.sql", "m/atlas.sum"}
	contents := map[string][]string{
		"m/1.sql": {"a", "a", "x"}, "m/2.sql": {"b", "b", "y"},
		"m/atlas.sum": {
			migrations.WithSum(tb, map[string]string{"1.sql": "a"})["atlas.sum"],
			migrations.WithSum(tb, map[string]string{"1.sql": "a", "2.sql": "b"})["atlas.sum"],
		},
	}
	summed := random.IntN(2) == 0
	image := make([][]registry.Entry, 1+random.IntN(5))
	for number := range image {
		for i := range random.IntN(6) {
			p := paths[random.IntN(len(paths))]
			if summed && random.IntN(2) == 0 {
				p = files[random.IntN(len(files))]
			}
			made, choice := regular(p, fmt.Sprintf("%d.%d", number, i)), random.IntN(6)
			some := contents[p]
			switch {
			case some != nil && choice > 0:
				made.Content = some[random.IntN(len(some))]
			case choice == 0:
				made = folder(p)
			case choice == 1:
				made = regular(path.Join(path.Dir(p), ".wh."+path.Base(p)), "")
			case choice == 2:
				made = regular(path.Join(p, ".wh..wh..opq"), "")
			}
			image[number] = append(image[number], made)
		}
	}
	return image
}

// script is an image to be read in the message of a test.
func script(image [][]registry.Entry) string {
	var lines strings.Builder
	for number, made := range image {
		for _, e := range made {
			fmt.Fprintf(&lines, "%d: %s %.3q\n", number+1, e.Name, e.Content)
		}
	}
	return lines.String()
}

// TestTopDownAgreesWithBottomUp compares what is extracted from random images with what comes of unpacking their layers one upon the other, from
// the lowest that is needed. Nor may it matter which layer is read first, and how much may wait for its turn.
func TestTopDownAgreesWithBottomUp(t *testing.T) {
	compared, early := 0, 0
	s := newSandbox(t)
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		image := randomImage(t, random)
		var all []layer
		hasSum := false
		for _, made := range image {
			all = append(all, memory(pack(t, made)))
			hasSum = hasSum || slices.ContainsFunc(made, func(e registry.Entry) bool { return e.Name == "m/atlas.sum" })
		}
		below := len(all) - 1
		if hasSum {
			below = min(below, 1) // the others may be waited for
		}
		o, limited := Options{}, random.IntN(4) == 0
		if limited {
			o = Options{MaxBytes: random.Int64N(20) + 1, MaxFiles: random.IntN(8) + 1, MaxScanBytes: random.Int64N(20<<10) + 1}
		}
		err := extractAll(t, s, o, topDown(all)...)
		got := s.files(t)
		s.clear(t)
		for _, ahead := range []int64{maxAhead, random.Int64N(4 * entryCost)} {
			again := extractAhead(t, s, o, ahead, topLast(all, below)...)
			if fmt.Sprint(err) != fmt.Sprint(again) {
				t.Fatalf("seed %d: errors %v and, with the topmost layer last and %d bytes ahead, %v\n%s", seed, err, ahead, again, script(image))
			}
			if diff := cmp.Diff(got, s.files(t)); diff != "" {
				t.Fatalf("seed %d: files (-top first +top last, %d bytes ahead):\n%s\n%s", seed, ahead, diff, script(image))
			}
			s.clear(t)
		}
		want, needed, conflict := unpackNeeded(image)
		if limited || conflict || len(want) == 0 {
			continue // refused, perhaps: other tests show how
		}
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, script(image))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: files (-bottom up +top down):\n%s\n%s", seed, diff, script(image))
		}
		compared++
		if needed < len(image) {
			early++
		}
	}
	if compared < 300 || early < 40 {
		t.Errorf("only %d images could be compared, only %d of them without their lowest layers", compared, early)
	}
}

// unpackNeeded unpacks the topmost layers one upon the other, as few of them as have all files of /m that a sum file there lists. It returns the files of
// /m and the number of the layers, and says whether one of them has something beneath what is a file in it.
func unpackNeeded(image [][]registry.Entry) (map[string]string, int, bool) {
	for needed := 1; ; needed++ {
		files, conflict := map[string]string{}, false
		for _, made := range image[len(image)-needed:] {
			conflict = unpackOnto(files, made) || conflict
		}
		within := map[string]string{}
		for name, content := range files {
			if rest, ok := strings.CutPrefix(name, "m/"); ok && content != isDir {
				within[rest] = content
			}
		}
		if needed == len(image) || summedUp(within) {
			return within, needed, conflict
		}
	}
}

// summedUp asks the library whether the listed files are there as they are listed.
func summedUp(files map[string]string) bool {
	var listed migrate.HashFile
	if listed.UnmarshalText([]byte(files[migrate.HashFileName])) != nil || len(listed) == 0 {
		return false
	}
	var all []migrate.File
	for _, f := range listed {
		all = append(all, migrate.NewLocalFile(f.N, []byte(files[f.N])))
	}
	sum, err := migrate.NewHashFile(all)
	return err == nil && sum.Sum() == listed.Sum()
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
