// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// files are the contents of migration files by name.
type files map[string]string

// plain makes a directory without an atlas.sum.
func plain(tb testing.TB, content files) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range content {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func mustRead(tb testing.TB, o Options) *Directory {
	tb.Helper()
	d, err := Read(o)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// mustRefuse asserts class, file and words of an error.
func mustRefuse(t *testing.T, err error, class v1alpha1.FailureClass, file string, words ...string) {
	t.Helper()
	var known *result.Error
	if !errors.As(err, &known) || known.Class != class || known.File != file {
		t.Fatalf("got %#v, want %s about %q", err, class, file)
	}
	for _, word := range words {
		if !strings.Contains(known.Error(), word) {
			t.Errorf("%q does not contain %q", known.Error(), word)
		}
	}
}

func TestRead(t *testing.T) {
	dir := migrations.Dir(t, files{
		"1_init.sql": "CREATE TABLE a (i int);\nSELECT 1;", "2.sql": "", "3_index.sql": "-- atlas:txmode none\n\n-- Fast.\nCREATE INDEX a_i ON a (i);", "notes.txt": "SELECT",
		".atlas.hcl": "lint {}",
	})
	if err := os.MkdirAll(filepath.Join(dir, "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := mustRead(t, Options{Dir: dir})
	if d.Len() != 3 || d.Last() != "3" || string(d.Config()) != "lint {}" {
		t.Errorf("%d files up to %q, config %q", d.Len(), d.Last(), d.Config())
	}
	sum, err := os.ReadFile(filepath.Join(dir, migrate.HashFileName))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	fmt.Fprintln(&got, d.Hash())
	for _, version := range []string{"1", "2", "3"} {
		f, _ := d.File(version)
		fmt.Fprintf(&got, "%s h1:%s\n", f.Name(), f.Sum)
	}
	if got.String() != string(sum) {
		t.Errorf("sums are\n%swant\n%s", got.String(), sum)
	}
	first, _ := d.File("1")
	last, _ := d.File("3")
	stmt := last.Statements()[0]
	if first.Desc() != "init" || len(first.Statements()) != 2 || last.TxMode != v1alpha1.TxModeNone || stmt.Pos != strings.Index(string(last.Bytes()), "CREATE") || len(stmt.Comments) != 1 {
		t.Errorf("files are %+v, %+v", first, last)
	}
	if _, found := d.File("4"); found {
		t.Error("there is no version 4")
	}
}

func TestEmptyDirectory(t *testing.T) {
	for _, f := range formats {
		d := mustRead(t, Options{Dir: t.TempDir(), Format: f.name})
		if d.Len() != 0 || d.Last() != "" || d.Hash() != "" || d.Config() != nil {
			t.Errorf("%s: %+v", f.name, d)
		}
	}
}

func TestIntegrity(t *testing.T) {
	write := func(name, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	cases := map[string]struct {
		change func(dir string) error
		file   string
		words  []string
	}{
		"edited":     {write("2.sql", "SELECT 3;"), "2.sql", []string{"atlas.sum line 3", "2.sql was edited", "run 'atlas migrate hash'"}},
		"added":      {write("3.sql", "SELECT 3;"), "3.sql", []string{"3.sql was added"}},
		"removed":    {func(dir string) error { return os.Remove(filepath.Join(dir, "1.sql")) }, "1.sql", []string{"atlas.sum line 2", "1.sql was removed"}},
		"no sum":     {func(dir string) error { return os.Remove(filepath.Join(dir, "atlas.sum")) }, "atlas.sum", []string{"no atlas.sum"}},
		"bad sum":    {write("atlas.sum", "h1:x\ny\n"), "atlas.sum", []string{"format"}},
		"no dir":     {os.RemoveAll, "", []string{"no such file"}},
		"not a file": {func(dir string) error { return os.Mkdir(filepath.Join(dir, "x.sql"), 0o700) }, "", []string{"x.sql is not a regular file"}},
		"leads out":  {func(dir string) error { return os.Symlink("/proc/self/environ", filepath.Join(dir, "x.sql")) }, "", []string{"x.sql", "escapes"}},
		"config leads out": {func(dir string) error {
			return os.Symlink("/proc/self/environ", filepath.Join(dir, ".atlas.hcl"))
		}, "", []string{".atlas.hcl", "escapes"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := migrations.Dir(t, files{"1.sql": "SELECT 1;", "2.sql": "SELECT 2;"})
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Read(Options{Dir: dir})
			mustRefuse(t, err, v1alpha1.IntegrityFailed, c.file, c.words...)
		})
	}
	for name, c := range map[string]struct {
		content files
		file    string
		words   string
	}{
		"not SQL":      {files{"1.sql": "SELECT 1;", "2.sql": "SELECT 1;\nSELECT (1;"}, "2.sql", "2.sql:2:8: unclosed '('"},
		"txmode":       {files{"1.sql": "-- atlas:txmode all\n\nSELECT 1;"}, "1.sql", "txmode"},
		"not hashed":   {files{"1.sql": "SELECT 1;", "2.sql": "-- atlas:sum ignore\n\nSELECT 1;", "3.sql": ""}, "2.sql", "atlas:sum ignore"},
		"same version": {files{"1_a.sql": "SELECT 1;", "1_b.sql": "SELECT 1;"}, "1_b.sql", "1_a.sql and 1_b.sql have the same version"},
		"no version":   {files{"_a.sql": "SELECT 1;"}, "_a.sql", "no version"},
		"BOM":          {files{"1.sql": "\ufeffSELECT 1;"}, "1.sql", "byte order mark"},
		"UTF-16":       {files{"1.sql": "\xff\xfeS\x00"}, "1.sql", "byte order mark"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(Options{Dir: migrations.Dir(t, c.content)})
			mustRefuse(t, err, v1alpha1.IntegrityFailed, c.file, c.words)
		})
	}
}

func TestUnknownFormat(t *testing.T) {
	_, err := Read(Options{Dir: t.TempDir(), Format: "rails"})
	mustRefuse(t, err, v1alpha1.IntegrityFailed, "", `"rails"`, "golang-migrate")
}

// TestMountedImage: what fetch would refuse of an image is refused of one that is mounted, and nothing outside of the directory is read.
func TestMountedImage(t *testing.T) {
	const root = "directory \"/db/migrations\" of the image: "
	big := func(at string) error { return os.Truncate(at, 64<<20+1) } // of which nothing is on the disk
	cases := map[string]struct {
		change func(image, dir string) error
		words  []string // nil where it is read
	}{
		"as it should be": {func(_, _ string) error { return nil }, nil},
		"a link beside": {func(_, dir string) error {
			return errors.Join(os.Rename(dir+"/1.sql", dir+"/one"), os.Symlink("one", dir+"/1.sql"))
		}, nil},
		"not there":        {func(_, dir string) error { return os.RemoveAll(dir) }, []string{root + "it is not in it (directories seen in /db: other): set migrations.dir"}},
		"nothing is there": {func(image, _ string) error { return os.RemoveAll(image + "/db") }, []string{root + "it is not in it (directories seen in /: none)"}},
		"empty":            {func(_, dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) }, []string{root + "it holds no files"}},
		"a file":           {func(_, dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644)) }, []string{"/db/migrations is not a directory"}},
		"a link":           {func(_, dir string) error { return errors.Join(os.RemoveAll(dir), os.Symlink("other", dir)) }, []string{"/db/migrations is a symbolic link"}},
		"a link on the way": {func(image, _ string) error {
			return errors.Join(os.RemoveAll(image+"/db"), os.Symlink("/proc", image+"/db"))
		}, []string{"/db is a symbolic link"}},
		"leads out":         {func(_, dir string) error { return os.Symlink("/proc/self/environ", dir+"/x.sql") }, []string{"x.sql", "escapes"}},
		"leads up":          {func(_, dir string) error { return os.Symlink("../other/x.sql", dir+"/x.sql") }, []string{"x.sql", "escapes"}},
		"a pipe":            {func(_, dir string) error { return syscall.Mkfifo(dir+"/x.sql", 0o644) }, []string{"x.sql is not a regular file"}},
		"a directory":       {func(_, dir string) error { return os.Mkdir(dir+"/x.sql", 0o755) }, []string{"x.sql is not a regular file"}},
		"a large file":      {func(_, dir string) error { return big(dir + "/1.sql") }, []string{"more than 67108864 bytes (reached at 1.sql)"}},
		"a large atlas.sum": {func(_, dir string) error { return big(dir + "/atlas.sum") }, []string{"more than 67108864 bytes (reached at atlas.sum)"}},
		"a deep directory":  {func(_, dir string) error { return os.MkdirAll(dir+strings.Repeat("/d", 100), 0o755) }, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			image := t.TempDir()
			dir := filepath.Join(image, "db", "migrations")
			if err := errors.Join(os.MkdirAll(dir+"/../other", 0o755), os.WriteFile(filepath.Join(image, "db", "other", "x.sql"), nil, 0o644),
				os.CopyFS(dir, os.DirFS(migrations.Dir(t, files{"1.sql": "SELECT 1;"}))), c.change(image, dir)); err != nil {
				t.Fatal(err)
			}
			d, err := Read(Options{Dir: "/db/migrations/", ImageRoot: image})
			if c.words != nil {
				mustRefuse(t, err, v1alpha1.ImageInvalid, "", c.words...)
			} else if err != nil || d.Len() != 1 {
				t.Fatalf("%+v, %v", d, err)
			}
		})
	}
}

// TestBounds of what is read: entries, also those of directories below, and how deep those are.
func TestBounds(t *testing.T) {
	root, err := os.OpenRoot(plain(t, files{"1.sql": "", "2.sql": "", "a/3.sql": "", "a/b/4.sql": "", ".git/5.sql": ""}))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for most, want := range map[int]string{8: "[1.sql 2.sql a/3.sql a/b/4.sql]", 6: "", 3: ""} {
		names, err := walk(root, ".", most, true)
		if got := fmt.Sprint(names); want != "" && got != want || (err == nil) != (want != "") {
			t.Errorf("at most %d: %s, %v", most, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "entries") {
			t.Error(err)
		}
	}
	if names, err := walk(root, ".", 4, false); err != nil || fmt.Sprint(names) != "[.git/ 1.sql 2.sql a/]" {
		t.Errorf("%v, %v", names, err)
	}
	deep := t.TempDir()
	if err := os.MkdirAll(deep+strings.Repeat("/d", 40), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = Read(Options{Dir: deep, Format: v1alpha1.FormatFlyway})
	mustRefuse(t, err, v1alpha1.IntegrityFailed, "", "more than 32 deep")
}
