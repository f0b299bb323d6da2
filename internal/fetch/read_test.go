// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// TestStopsWhereComplete: a layer beneath those that are needed may be missing, and nobody notices.
func TestStopsWhereComplete(t *testing.T) {
	one, both := map[string]string{"1.sql": "one"}, map[string]string{"1.sql": "one", "2.sql": "two"}
	sum := func(files map[string]string) registry.Entry {
		return regular("m/atlas.sum", migrations.WithSum(t, files)["atlas.sum"])
	}
	file1, file2 := regular("m/1.sql", "one"), regular("m/2.sql", "two")
	tests := map[string]struct {
		image []entries // the lowest first
		files string    // wanted, if no more layers are needed
	}{
		"all that is listed":                       {image: []entries{{file1, file2, sum(both)}}, files: "1.sql 2.sql atlas.sum"},
		"what follows the sum file":                {image: []entries{{sum(one), file1, regular("m/.atlas.hcl", "lint {}"), regular("m/s/README", "")}}, files: ".atlas.hcl 1.sql atlas.sum s/README"},
		"a file that is not listed":                {image: []entries{{file1, file2, sum(one)}}, files: "1.sql 2.sql atlas.sum"},
		"files and sum file in other layers":       {image: []entries{{file1}, {sum(both)}, {file2}}, files: "1.sql 2.sql atlas.sum"},
		"a new sum file over an old one":           {image: []entries{{file1, sum(one)}, {file2, sum(both)}}, files: "1.sql 2.sql atlas.sum"},
		"links to files that are there":            {image: []entries{{regular("m/all/1.sql", "one"), linked("m/1.sql", "all/1.sql"), sum(one)}}, files: "1.sql all/1.sql atlas.sum"},
		"a sum file behind a link":                 {image: []entries{{file1, regular("m/sums/latest", sum(one).Content), linked("m/atlas.sum", "sums/latest")}}, files: "1.sql atlas.sum sums/latest"},
		"an opaque directory":                      {image: []entries{{file1, regular("m/.wh..wh..opq", "")}}, files: "1.sql"},
		"an opaque directory, made before":         {image: []entries{{regular("m/.wh..wh..opq", "")}, {file1}}, files: "1.sql"},
		"the directory deleted and made again":     {image: []entries{{regular(".wh.m", ""), file1}}, files: "1.sql"},
		"everything deleted":                       {image: []entries{{regular(".wh..wh..opq", ""), file1}}, files: "1.sql"},
		"a listed file missing":                    {image: []entries{{file1, sum(both)}}},
		"a listed file of other content":           {image: []entries{{regular("m/1.sql", "other"), sum(one)}}},
		"a listed file deleted":                    {image: []entries{{file1, file2, sum(both)}, {regular("m/.wh.2.sql", "")}}},
		"a listed file that is a directory":        {image: []entries{{folder("m/1.sql"), sum(one)}}},
		"the sum file deleted":                     {image: []entries{{file1, sum(one)}, {regular("m/.wh.atlas.sum", "")}}},
		"a link to what may be in a lower layer":   {image: []entries{{file1, sum(one), linked("m/s/latest", "../2.sql")}}},
		"a sum file that is none":                  {image: []entries{{file1, regular("m/atlas.sum", "h1:x\n1.sql h1:x\n")}}},
		"a sum file without a list":                {image: []entries{{file1, sum(map[string]string{})}}},
		"an empty sum file":                        {image: []entries{{file1, regular("m/atlas.sum", "")}}},
		"a sum file of another directory":          {image: []entries{{file1, regular("m/s/atlas.sum", sum(one).Content)}}},
		"an opaque directory within the directory": {image: []entries{{file1, regular("m/s/.wh..wh..opq", "")}}},
	}
	errMissing := errors.New("missing")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			all := []layer{{open: func() (io.ReadCloser, error) { return nil, errMissing }}}
			for _, made := range tt.image {
				all = append(all, memory(pack(t, made)))
			}
			s := newSandbox(t)
			err := extractAll(t, s, Options{}, all...)
			if tt.files == "" {
				if !errors.Is(err, errMissing) {
					t.Errorf("got %v, want the error of the layer beneath", err)
				}
				s.checkEmpty(t)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for name := range s.files(t) {
				names = append(names, name)
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != tt.files {
				t.Errorf("got %s, want %s", got, tt.files)
			}
		})
	}
}

// noise is a layer that concerns nobody, of that many MiB, which cannot be compressed.
func noise(seed uint64, mib int) v1.Layer {
	content := make([]byte, mib<<20)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(content) // never fails
	return static.NewLayer(content, types.OCIUncompressedLayer)
}

// TestTransfersNoMoreThanNeeded asks a registry what it was asked for: beneath a small layer with a sum file, nothing.
func TestTransfersNoMoreThanNeeded(t *testing.T) {
	reg := registry.New(t)
	dir := registry.Migrations(t, map[string]string{"1.sql": "one", "2.sql": "two"})
	var made entries
	for name, content := range dir {
		made = append(made, regular(name, content))
	}
	top := registry.Layer(t, made...)
	digest, err := top.Digest()
	if err != nil {
		t.Fatal(err)
	}
	reg.Push(t, "app:v1", registry.Of(t, noise(1, 4), noise(2, 2), top))
	f := newFront(t, reg, nil)
	s := newSandbox(t)
	var lines bytes.Buffer
	if _, err := Run(t.Context(), Options{Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true, Log: slog.New(slog.NewTextHandler(&lines, nil))}); err != nil {
		t.Fatal(err)
	}
	for _, r := range f.requests() {
		if strings.Contains(r.path, "/blobs/") && !strings.HasSuffix(r.path, digest.String()) {
			t.Errorf("it was asked for %s", r.path)
		}
	}
	if !strings.Contains(lines.String(), "layer=3 of=3") || strings.Contains(lines.String(), "layer=2") {
		t.Errorf("log does not say that only the topmost layer was read:\n%s", lines.String())
	}
}

// TestDoesNotWaitForWhatIsNotNeeded: a layer that was begun in vain is let go of, even if its registry has gone quiet, and its damage is nobody's.
func TestDoesNotWaitForWhatIsNotNeeded(t *testing.T) {
	img := registry.Of(t, layers(t, entries{regular("migrations/0", "stray")}, entries{regular("migrations/.wh..wh..opq", ""), regular("migrations/1", "one")})...)
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, l := range all {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.String())
	}
	for name, answered := range map[string]func(w http.ResponseWriter, req *http.Request){
		"quiet":   func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
		"missing": func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusNotFound, "") },
	} {
		t.Run(name, func(t *testing.T) {
			reg := registry.New(t)
			reg.Push(t, "app:v1", img)
			asked := make(chan struct{})
			f := newFront(t, reg, func(w http.ResponseWriter, req *http.Request) bool {
				if strings.HasSuffix(req.URL.Path, digests[1]) {
					<-asked // so the lower one has been begun
				}
				if !strings.HasSuffix(req.URL.Path, digests[0]) {
					return false
				}
				close(asked)
				answered(w, req)
				return true
			})
			s := newSandbox(t)
			_, err := Run(t.Context(), Options{Image: f.host + "/app:v1", Dir: "/migrations", Out: s.out, PlainHTTP: true})
			s.checkFiles(t, err, map[string]string{"1": "one"})
		})
	}
}

func TestWorthwhile(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		sizes []int64 // the lowest first
		sumIn int     // counted from 1
		want  bool
	}{
		"the needed one itself":              {sizes: []int64{100 * mib}, want: true},
		"of about one size":                  {sizes: []int64{40 * mib, 30 * mib}, want: true},
		"large beneath small":                {sizes: []int64{40 * mib, 10_000}, want: false},
		"small beneath small":                {sizes: []int64{10_000, 10_000, 0}, want: true},
		"too much together":                  {sizes: []int64{40 * mib, 40 * mib, 30 * mib}, want: false},
		"beneath a sum file":                 {sizes: []int64{10_000, 10_000}, sumIn: 2, want: false},
		"beneath a sum file that was ahead":  {sizes: []int64{10_000, 10_000, 10_000}, sumIn: 2, want: false},
		"as much as may be asked for always": {sizes: []int64{mib, 0}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			var undecided []*reading
			for i, size := range tt.sizes {
				r := &reading{layer: layer{size: size}}
				r.hasSum.Store(tt.sumIn == i+1)
				undecided = append(undecided, r)
			}
			if got := worthwhile(undecided); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// TestLargeDirectories: what cannot wait for its turn is read again.
func TestLargeDirectories(t *testing.T) {
	reg := registry.New(t)
	large := strings.Repeat("-- migration\n", (maxAhead+entryCost)/13)
	reg.Push(t, "app:v1", registry.Of(t, layers(t,
		entries{regular("migrations/1", large), regular("migrations/2", "two")},
		entries{regular("migrations/1", large+"new"), regular("migrations/3", "three")},
		entries{regular("migrations/4", "four")},
	)...))
	s := newSandbox(t)
	err := runChild(t, Options{Image: reg.Ref("app:v1"), Dir: "/migrations", Out: s.out, PlainHTTP: true})
	s.checkFiles(t, err, map[string]string{"1": large + "new", "2": "two", "3": "three", "4": "four"})
}

// TestSpeculationIsForgotten: what is wrong in a layer that was read ahead counts when its turn comes, and not before.
func TestSpeculationIsForgotten(t *testing.T) {
	evil := memory(pack(t, entries{regular("m/../x", "evil")}))
	link := memory(pack(t, entries{linked("m/x", "/etc/passwd")}))
	s := newSandbox(t)
	err := extractAll(t, s, Options{}, topLast([]layer{evil, link}, 1)...)
	if _, refused := errors.AsType[refusal](err); !refused || !strings.Contains(err.Error(), "leaves the directory") {
		t.Errorf("got %v, want the topmost layer's refusal", err)
	}
	s.checkEmpty(t)
	img := registry.Of(t, layers(t, entries{regular("migrations/../x", "evil")}, entries{regular("migrations/1", "one")})...)
	reg := registry.New(t)
	reg.Push(t, "app:v1", img)
	_, err = Run(t.Context(), Options{Image: reg.Ref("app:v1"), Dir: "/migrations", Out: s.out, PlainHTTP: true})
	s.checkRefused(t, err, v1alpha1.ImageInvalid, `has a ".." in its name`)
}

// TestLetsGo: what was begun in vain is told to end, and has ended.
func TestLetsGo(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}), false
	quiet := layer{open: func() (io.ReadCloser, error) {
		close(begun)
		<-ctx.Done()
		ended = true
		return nil, ctx.Err()
	}}
	top := memory(pack(t, entries{regular("m/.wh..wh..opq", "")}))
	waiting := layer{size: top.size, open: func() (io.ReadCloser, error) {
		<-begun
		return top.open()
	}}
	x := newExtraction(Options{}.withDefaults(), "/m", nil)
	if err := x.read(ctx, stop, []layer{quiet, waiting}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if !ended {
		t.Error("it has not ended")
	}
}

// TestHiddenFilesLeaveTheDisk, and give room to what else is read ahead.
func TestHiddenFilesLeaveTheDisk(t *testing.T) {
	s := newSandbox(t)
	stage, err := newStage(s.out)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.close()
	x := newExtraction(Options{}.withDefaults(), "/m", stage)
	lower := memory(pack(t, entries{regular("m/1", "old"), regular("m/2", "old")}))
	upper := memory(pack(t, entries{regular("m/1", "new"), regular("m/.wh.2", "")}))
	ctx, stop := context.WithCancel(t.Context())
	if err := x.read(ctx, stop, topLast([]layer{lower, upper}, 1), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if staged, err := fs.ReadDir(stage.root.FS(), stage.dir); err != nil || len(staged) != 1 {
		t.Errorf("%v are staged (%v), want one file", staged, err)
	}
	if left := x.ahead.Load(); left != maxAhead {
		t.Errorf("there is room for %d bytes, want %d", left, maxAhead)
	}
}
