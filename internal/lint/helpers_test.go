// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// tryFiles makes a directory of the format of Atlas, and reads it. The files come in the order of their names.
func tryFiles(dir string, d directory.Dialect, files map[string]string) ([]*directory.File, error) {
	var list []migrate.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			return nil, err
		}
		list = append(list, migrate.NewLocalFile(name, []byte(files[name])))
	}
	sum, err := migrate.NewHashFile(list)
	if err != nil {
		return nil, err
	}
	text, err := sum.MarshalText()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, migrate.HashFileName), text, 0o600); err != nil {
		return nil, err
	}
	read, err := directory.Read(directory.Options{Dir: dir, Dialect: d})
	if err != nil {
		return nil, err
	}
	out := make([]*directory.File, len(list))
	for i, f := range list {
		out[i], _ = read.File(f.Version())
	}
	return out, nil
}

// readFiles is tryFiles where it must not fail.
func readFiles(t testing.TB, d directory.Dialect, files map[string]string) []*directory.File {
	t.Helper()
	read, err := tryFiles(t.TempDir(), d, files)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// found is how tests write a finding: file:line code, the file only where there are several.
func found(findings []v1alpha1.Finding) []string {
	out := []string{}
	for _, f := range findings {
		at := ""
		if f.File != "1.sql" {
			at = f.File + ":"
		}
		out = append(out, at+strconv.Itoa(int(f.Line))+" "+f.Code)
	}
	return out
}
