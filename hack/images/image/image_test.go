// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

func TestLayerSaysNothingOfWhoBuiltIt(t *testing.T) {
	img, err := image.App(app(t, 0o600, 0o711), []string{"/app", "serve"})
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name   string
		Mode   int64
		Target string
	}
	var got []entry
	for _, header := range headers(t, img) {
		if header.ModTime.Unix() != 0 || header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Gname != "" {
			t.Errorf("%s has a time or an owner: %+v", header.Name, header)
		}
		got = append(got, entry{header.Name, header.Mode, header.Linkname})
	}
	want := []entry{
		{"app", 0o755, ""},
		{"current", 0o777, "migrations"},
		{"migrations/", 0o755, ""},
		{"migrations/1.sql", 0o644, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the layer is not as expected (-want +got):\n%s", diff)
	}
	if other, err := image.App(app(t, 0o664, 0o755), []string{"/app", "serve"}); err != nil || digest(t, other) != digest(t, img) {
		t.Errorf("another checkout of the same files has another digest (error: %v)", err)
	}
	if other, err := image.App(app(t, 0o600, 0o711), nil); err != nil || digest(t, other) == digest(t, img) {
		t.Errorf("the command makes no difference to the digest (error: %v)", err)
	}
}

func TestFilesThatNoLayerCanHold(t *testing.T) {
	for name, files := range map[string][]image.File{
		"relative":  {{Path: "a"}},
		"unclean":   {{Path: "/a/../b"}},
		"the root":  {{Path: "/", Mode: fs.ModeDir}},
		"the same":  {{Path: "/a"}, {Path: "/a"}},
		"not there": {{Path: "/a", Source: filepath.Join(t.TempDir(), "gone")}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := image.Build(files, v1.Config{}, image.Host()); err == nil {
				t.Error("an image was built")
			}
		})
	}
}

func TestPushedImageIsTheWrittenOne(t *testing.T) {
	img, err := image.App(app(t, 0o644, 0o755), nil)
	if err != nil {
		t.Fatal(err)
	}
	to := registry.New(t).Ref("team/app:v1")
	pushed, err := image.Push(t.Context(), to, img, true)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(to, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	if want := digest(t, img); got.Digest != want || !strings.HasSuffix(pushed, "/team/app@"+want.String()) {
		t.Errorf("%s is %s in the registry, and should be %s", pushed, got.Digest, want)
	}

	dir := filepath.Join(t.TempDir(), "layout")
	for range 2 { // the second replaces the first
		if err := image.Write(dir, img); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != digest(t, img) {
		t.Errorf("the layout has %+v, and should have %s alone", manifest.Manifests, digest(t, img))
	}
}

func TestOnlyLayoutsAreReplaced(t *testing.T) {
	img, err := image.App(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := app(t, 0o644, 0o755)
	if err := image.Write(dir, img); err == nil {
		t.Error("a layout was written over other files")
	}
	if _, err := os.Stat(filepath.Join(dir, "migrations", "1.sql")); err != nil {
		t.Errorf("a file is gone: %v", err)
	}
}

// command is the program that builds images: not this one, since the race detector makes compression take many times as long.
func command(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "images")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./hack/images")
	build.Dir = repository
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, output)
	}
	return out
}

// build runs that program in a directory, and returns the image or index that it wrote.
func build(t *testing.T, images, dir string, args ...string) image.Pushable {
	t.Helper()
	out := t.TempDir()
	run := exec.CommandContext(t.Context(), images, append(args, "--out="+out)...)
	run.Dir = dir
	output, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", run, err, output)
	}
	t.Logf("%s", output)
	written, err := layout.ImageIndexFromPath(out)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := written.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the layout has %+v, and should have one entry", manifest.Manifests)
	}
	var got image.Pushable
	if entry := manifest.Manifests[0]; entry.MediaType.IsIndex() {
		got, err = written.ImageIndex(entry.Digest)
	} else {
		got, err = written.Image(entry.Digest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// app makes the directory of an app, with these permissions for what is a plain file and for what can be executed.
func app(t *testing.T, plain, executable os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	migrations := filepath.Join(dir, "migrations")
	if err := errors.Join(
		os.Mkdir(migrations, executable),
		os.WriteFile(filepath.Join(migrations, "1.sql"), []byte("SELECT 1;"), plain),
		os.WriteFile(filepath.Join(dir, "app"), []byte("program"), executable),
		os.Symlink("migrations", filepath.Join(dir, "current")),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

func digest(t *testing.T, img interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// headers returns those of the image's only layer.
func headers(t *testing.T, img v1.Image) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	walk(t, img, func(header *tar.Header, _ io.Reader) error {
		all = append(all, header)
		return nil
	})
	return all
}

// walk calls do for each entry of the image's only layer.
func walk(t *testing.T, img v1.Image, do func(*tar.Header, io.Reader) error) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("the image has %d layers and should have one (error: %v)", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := do(header, reader); err != nil {
			t.Fatalf("%s: %v", header.Name, err)
		}
	}
}

// unpack lays the image out in a directory, as a container runtime would.
func unpack(t *testing.T, img v1.Image) string {
	t.Helper()
	needRoot(t)
	root := t.TempDir()
	walk(t, img, func(header *tar.Header, content io.Reader) error {
		file := filepath.Join(root, header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			if err := os.Mkdir(file, fs.FileMode(header.Mode)); err != nil {
				return err
			}
		case tar.TypeSymlink:
			return os.Symlink(header.Linkname, file)
		default:
			data, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			if err := os.WriteFile(file, data, fs.FileMode(header.Mode)); err != nil {
				return err
			}
		}
		return errors.Join(os.Chmod(file, fs.FileMode(header.Mode)), os.Chown(file, header.Uid, header.Gid))
	})
	// Directories of tests are for their owner alone, and a container's root is for everyone.
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		unable(t, "only root can change the root directory")
	}
}

// unable ends a test that cannot run here. Where it must not go unnoticed, it fails.
func unable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s", why)
}
