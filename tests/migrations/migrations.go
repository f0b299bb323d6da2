// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package migrations makes directories of migrations, each with the atlas.sum that belongs to its files.
package migrations

import (
	"maps"
	"testing"

	"ariga.io/atlas/sql/migrate"
)

// Dir makes a directory of the files, by their names, that is removed when the test ends.
func Dir(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	Write(tb, dir, files)
	return dir
}

// Write puts the files into a directory, over those that it has, and sums up all that are there then.
func Write(tb testing.TB, dir string, files map[string]string) {
	tb.Helper()
	local, err := migrate.NewLocalDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	if err := migrate.WriteSumFile(local, fill(tb, local, files)); err != nil {
		tb.Fatal(err)
	}
}

// WithSum is the files, by their names, and their atlas.sum.
func WithSum(tb testing.TB, files map[string]string) map[string]string {
	tb.Helper()
	text, err := fill(tb, &migrate.MemDir{}, files).MarshalText()
	if err != nil {
		tb.Fatal(err)
	}
	all := maps.Clone(files)
	all[migrate.HashFileName] = string(text)
	return all
}

// fill writes the files, and returns the sum of the directory.
func fill(tb testing.TB, dir migrate.Dir, files map[string]string) migrate.HashFile {
	tb.Helper()
	for name, content := range files {
		if err := dir.WriteFile(name, []byte(content)); err != nil {
			tb.Fatal(err)
		}
	}
	sum, err := dir.Checksum()
	if err != nil {
		tb.Fatalf("sum up the migrations: %v", err)
	}
	return sum
}
