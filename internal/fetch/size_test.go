// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// maxMemory is how much memory a whole process that fetches may have had at most, whatever the image.
const maxMemory = raceFactor * 100 << 20

// childVariable holds the Options of a test process that fetches, and says how it went, instead of running tests: only a process of its own has
// a peak of memory that is not that of the test.
const childVariable = "FETCH_TEST_OPTIONS"

// outcome is what such a process says.
type outcome struct {
	Error *Error // nil if it went well
	Peak  int64  // bytes
}

func TestMain(m *testing.M) {
	options, ok := os.LookupEnv(childVariable)
	if !ok {
		os.Exit(m.Run())
	}
	if err := child(options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(options string) error {
	var o Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	_, err := Run(context.Background(), o)
	var result outcome
	if e, ok := errors.AsType[*Error](err); ok {
		result.Error = &Error{Class: e.Class, Message: e.Message}
	}
	// The peak that the kernel tells a parent starts with the parent's own: the two share their memory for a moment.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(peak, "%d kB", &result.Peak); err != nil {
		return fmt.Errorf("no peak in /proc/self/status: %w", err)
	}
	result.Peak <<= 10
	return json.NewEncoder(os.Stdout).Encode(result)
}

// runChild fetches in a process of its own and checks the memory that took.
func runChild(t *testing.T, o Options) error {
	t.Helper()
	options, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(options), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var result outcome
	if err := json.Unmarshal(said, &result); err != nil {
		t.Fatal(err)
	}
	t.Logf("peak of memory: %d MiB", result.Peak>>20)
	if result.Peak > maxMemory {
		t.Errorf("took %d bytes of memory, more than %d", result.Peak, maxMemory)
	}
	if result.Error != nil {
		return result.Error
	}
	return nil
}

// Parts of archives, compressed. Put together they are one compressed archive, so that a part can be repeated without compressing it again.

func compressed(t *testing.T, data []byte) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w, err := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// header is a file's header without the file.
func header(t *testing.T, name string, size int64) []byte {
	t.Helper()
	var buffer bytes.Buffer
	if err := tar.NewWriter(&buffer).WriteHeader(&tar.Header{Name: name, Size: size}); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// zeros is a file of that many MiB of zeros.
func zeros(t *testing.T, name string, mib int) []byte {
	t.Helper()
	const chunk = 1 << 20
	return append(compressed(t, header(t, name, int64(mib)<<20)), bytes.Repeat(compressed(t, make([]byte, chunk)), mib<<20/chunk)...)
}

// many is a million entries with names as the pattern makes them of a number, repeated after 12,500. With the race detector it is fewer.
func many(t *testing.T, pattern string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	for i := range 12_500 {
		buffer.Write(header(t, fmt.Sprintf(pattern, i), 0))
	}
	return bytes.Repeat(compressed(t, buffer.Bytes()), 80/raceFactor)
}

func end(t *testing.T) []byte { return compressed(t, make([]byte, 1024)) }

func blobLayer(parts ...[]byte) v1.Layer {
	return static.NewLayer(bytes.Join(parts, nil), types.DockerLayer)
}

func TestHugeImages(t *testing.T) {
	reg := registry.New(t)
	one := compressed(t, pack(t, entries{regular("migrations/1", "one")})[:1024]) // without the end of the archive
	want := map[string]string{"1": "one"}
	scan := int64(64 << 20)
	whole := 10 << 10 / (raceFactor * raceFactor) // MiB; what is read to its end takes long with the race detector
	tests := map[string]struct {
		layer   v1.Layer
		options Options
		refuse  string
	}{
		"10 GiB in the directory":        {layer: blobLayer(one, zeros(t, "migrations/2", 10<<10), end(t)), refuse: "holds more than 67108864 bytes"},
		"10 GiB elsewhere":               {layer: blobLayer(zeros(t, "app/blob", whole), one, end(t))},
		"10 GiB elsewhere, over a limit": {layer: blobLayer(zeros(t, "app/blob", 10<<10), one, end(t)), options: Options{MaxScanBytes: scan}, refuse: "unpack to more than 67108864 bytes"},
		"10 GiB after the archive's end": {layer: blobLayer(one, end(t), zeros(t, "app/blob", 10<<10)), options: Options{MaxScanBytes: scan}, refuse: "unpack to more than"},
		"packed layers over the limit":   {layer: blobLayer(one, end(t), zeros(t, "x", 1<<10)), options: Options{MaxScanBytes: 100_000}, refuse: "its layers are larger than 100000 bytes together"},
		"a million files in it":          {layer: blobLayer(many(t, "migrations/%06d"), end(t)), refuse: "has more than 10000 entries"},
		"a million deletions in it":      {layer: blobLayer(many(t, "migrations/.wh.%06d"), end(t)), refuse: "has more than 10000 entries"},
		"a million directories in it":    {layer: blobLayer(many(t, "migrations/d%06d/"), end(t)), refuse: "has more than 10000 entries"},
		"a million files elsewhere":      {layer: blobLayer(many(t, "app/%06d"), one, end(t))},
		"more than so many bytes by links": {
			layer:   registry.Layer(t, regular("migrations/1", strings.Repeat("x", 1000)), linked("migrations/2", "1"), hardLinked("migrations/3", "migrations/1"), linked("migrations/4", "3")),
			options: Options{MaxBytes: 3500}, refuse: "holds more than 3500 bytes",
		},
		"more than so many bytes by repetition": {
			layer:   registry.Layer(t, regular("migrations/1", strings.Repeat("x", 1000)), regular("migrations/1", strings.Repeat("y", 1000))),
			options: Options{MaxBytes: 1500}, refuse: "holds more than 1500 bytes",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg.Push(t, "app:v1", registry.Of(t, tt.layer))
			s := newSandbox(t)
			o := tt.options
			o.Image, o.Dir, o.Out, o.PlainHTTP = reg.Ref("app:v1"), "/migrations", s.out, true
			err := runChild(t, o)
			if tt.refuse != "" {
				s.checkRefused(t, err, v1alpha1.ImageInvalid, tt.refuse)
				return
			}
			s.checkFiles(t, err, want)
		})
	}
}

// TestLimitsAreInclusive: as much as a limit says may be there.
func TestLimitsAreInclusive(t *testing.T) {
	s := newSandbox(t)
	layer := memory(pack(t, entries{folder("m"), regular("m/1", "12345"), folder("m/s"), regular("m/s/2", "67890")}))
	o := Options{MaxBytes: 10, MaxFiles: 3, MaxScanBytes: layer.size}
	if err := extractAll(t, s, o, layer); err != nil {
		t.Error(err)
	}
	empty := memory(pack(t, nil))
	if err := extractAll(t, newSandbox(t), Options{MaxScanBytes: layer.size + empty.size}, empty, layer); err != nil {
		t.Error(err)
	}
	if err := extractAll(t, newSandbox(t), Options{MaxScanBytes: layer.size + empty.size - 1}, empty, layer); err == nil {
		t.Error("scanned, of two layers: one less was enough")
	}
	for name, o := range map[string]Options{
		"bytes":   {MaxBytes: 9, MaxFiles: 3, MaxScanBytes: layer.size},
		"entries": {MaxBytes: 10, MaxFiles: 2, MaxScanBytes: layer.size},
		"scanned": {MaxBytes: 10, MaxFiles: 3, MaxScanBytes: layer.size - 1},
	} {
		s := newSandbox(t)
		if err := extractAll(t, s, o, layer); err == nil {
			t.Errorf("%s: one less was enough", name)
		}
		s.checkEmpty(t)
	}
}

func TestCompressions(t *testing.T) {
	reg := registry.New(t)
	zeros := make([]byte, 24<<20)
	plain := pack(t, entries{regular("migrations/1", "one"), regular("app/zeros", string(zeros))})
	zst := func(window int) v1.Layer {
		var buffer bytes.Buffer
		w, err := zstd.NewWriter(&buffer, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return static.NewLayer(buffer.Bytes(), types.OCILayerZStd)
	}
	tests := map[string]struct {
		layer  v1.Layer
		refuse string
	}{
		"none":                         {layer: static.NewLayer(plain, types.OCIUncompressedLayer)},
		"gzip":                         {layer: blobLayer(compressed(t, plain))},
		"zstd":                         {layer: zst(8 << 20)},
		"zstd, the largest window":     {layer: zst(16 << 20)},
		"zstd, too large a window":     {layer: zst(64 << 20), refuse: "layer 1 cannot be unpacked: window size exceeded"},
		"damaged before it was pushed": {layer: blobLayer([]byte("\x1f\x8b\x08 what else")), refuse: "layer 1 cannot be unpacked"},
		"not an archive":               {layer: static.NewLayer(bytes.Repeat([]byte("not a tar\n"), 100), types.OCIUncompressedLayer), refuse: "layer 1 cannot be unpacked"},
		"archive cut off":              {layer: blobLayer(compressed(t, plain[:514])), refuse: "layer 1 cannot be unpacked: unexpected EOF"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg.Push(t, "app:v1", registry.Of(t, tt.layer))
			s := newSandbox(t)
			err := runChild(t, Options{Image: reg.Ref("app:v1"), Dir: "/migrations", Out: s.out, PlainHTTP: true})
			if tt.refuse != "" {
				s.checkRefused(t, err, v1alpha1.ImageInvalid, tt.refuse)
				return
			}
			s.checkFiles(t, err, map[string]string{"1": "one"})
		})
	}
}
