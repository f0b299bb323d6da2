// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOwned: what others may write into, or have put there, is not believed.
func TestOwned(t *testing.T) {
	dir := t.TempDir()
	link, open, file := filepath.Join(dir, "link"), filepath.Join(dir, "open"), filepath.Join(dir, "file")
	for _, err := range []error{os.Symlink(dir, link), os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.WriteFile(file, nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{dir: true, link: false, open: false, file: false} {
		if err := owned(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := owned(filepath.Join(dir, "nothing")); !os.IsNotExist(err) {
		t.Errorf("nothing: %v", err)
	}
}

// TestFirstOfOurs: only root's process that is the first of a namespace right below this one is taken for a node.
func TestFirstOfOurs(t *testing.T) {
	for name, c := range map[string]struct {
		uid, pids string
		want      bool
	}{
		"a node":                     {"0\t0\t0\t0", "4711\t1", true},
		"somebody's":                 {"1000\t1000\t1000\t1000", "4711\t1", false},
		"once somebody's":            {"1000\t0\t0\t0", "4711\t1", false},
		"in no namespace of its own": {"0\t0\t0\t0", "4711", false},
		"a container's node":         {"0\t0\t0\t0", "4711\t812\t1", false},
		"not the first":              {"0\t0\t0\t0", "4711\t2", false},
	} {
		if got := firstOfOurs("Name:\tlocal-cluster\nUid:\t" + c.uid + "\nNSpid:\t" + c.pids + "\n"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
