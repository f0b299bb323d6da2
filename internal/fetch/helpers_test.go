// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// sandbox is a directory with an output directory in it, and files around that which nobody may touch.
type sandbox struct {
	root, out string
}

var canaries = map[string]string{"canary": "1", "beside/canary": "2", "etc/passwd": "root"}

func newSandbox(tb testing.TB) sandbox {
	tb.Helper()
	s := sandbox{root: tb.TempDir()}
	s.out = filepath.Join(s.root, "deep", "out")
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, content := range canaries {
		at := filepath.Join(s.root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// files are those in the output directory. It fails the test if anything is changed outside, or if there is anything but plain read-only files.
func (s sandbox) files(tb testing.TB) map[string]string {
	tb.Helper()
	inside, outside := map[string]string{}, map[string]string{}
	err := filepath.WalkDir(s.root, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			tb.Errorf("%s is a %s, not a regular file", at, d.Type())
			return nil
		}
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(s.out, at); err == nil && filepath.IsLocal(rel) {
			inside[rel] = string(content)
			if info, _ := d.Info(); info.Mode() != 0o444 {
				tb.Errorf("%s has the mode %s, want 0444", at, info.Mode())
			}
			return nil
		}
		rel, err := filepath.Rel(s.root, at)
		outside[rel] = string(content)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	if diff := cmp.Diff(canaries, outside); diff != "" {
		tb.Errorf("files outside the output directory (-before +after):\n%s", diff)
	}
	return inside
}

// checkEmpty fails the test if the output directory has anything in it.
func (s sandbox) checkEmpty(tb testing.TB) {
	tb.Helper()
	s.files(tb)
	entries, err := os.ReadDir(s.out)
	if err != nil || len(entries) > 0 {
		tb.Errorf("output directory holds %v (%v), want nothing", entries, err)
	}
}

// checkFiles fails the test unless all went well, and the output directory holds the files.
func (s sandbox) checkFiles(tb testing.TB, err error, want map[string]string) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	if diff := cmp.Diff(want, s.files(tb)); diff != "" {
		tb.Errorf("files (-want +got):\n%s", diff)
	}
}

// checkRefused is checkError, and nothing may be left in the output directory.
func (s sandbox) checkRefused(tb testing.TB, err error, class v1alpha1.FailureClass, texts ...string) {
	tb.Helper()
	checkError(tb, err, class, texts...)
	s.checkEmpty(tb)
}

// clear empties the output directory.
func (s sandbox) clear(tb testing.TB) {
	tb.Helper()
	entries, err := os.ReadDir(s.out)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(s.out, e.Name())); err != nil {
			tb.Fatal(err)
		}
	}
}

// checkError fails the test unless err is an Error of the class with every one of the texts in it.
func checkError(tb testing.TB, err error, class v1alpha1.FailureClass, texts ...string) {
	tb.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		tb.Fatalf("got error %v (%T), want an *Error of class %s", err, err, class)
	}
	if e.Class != class {
		tb.Errorf("got class %s, want %s", e.Class, class)
	}
	for _, text := range texts {
		if !strings.Contains(e.Message, text) {
			tb.Errorf("error %q does not say %q", e.Message, text)
		}
	}
}

// Entries of layers.

func regular(name, content string) registry.Entry {
	return registry.Entry{Header: tar.Header{Name: name}, Content: content}
}

func folder(name string) registry.Entry {
	return registry.Entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}

func linked(name, target string) registry.Entry {
	return registry.Entry{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}}
}

func hardLinked(name, target string) registry.Entry {
	return registry.Entry{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}}
}

func special(name string, typeflag byte) registry.Entry {
	return registry.Entry{Header: tar.Header{Name: name, Typeflag: typeflag}}
}

func layers(tb testing.TB, all ...[]registry.Entry) []v1.Layer {
	tb.Helper()
	var built []v1.Layer
	for _, entries := range all {
		built = append(built, registry.Layer(tb, entries...))
	}
	return built
}
