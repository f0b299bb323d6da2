// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
)

// maxSum is how many bytes a sum file may have that is looked at. It is far more than those of as many files as a directory may have.
const maxSum = 4 << 20

// sum is what is known of the directory's atlas.sum. Lower layers cannot change what a higher one has shown, so it is read once and compared once.
type sum struct {
	listed migrate.HashFile // nil until it is read
	wrong  bool             // it does not describe the directory, and no lower layer can mend that
}

func (x *extraction) sumPath() string { return path.Join(x.dir, migrate.HashFileName) }

// complete says that no layer beneath those that are decided is needed: because it would be hidden, or because the directory's sum file
// lists all of its migrations, they are there, and their hashes are right.
func (x *extraction) complete() bool {
	if x.tree.closed(x.dir) {
		return true
	}
	dir := x.tree.find(x.dir)
	if dir == nil || x.sum.wrong {
		return false
	}
	if x.sum.listed == nil && !x.readSum(dir) {
		return false
	}
	for _, f := range x.sum.listed {
		if dir.children[f.N] == nil {
			return false
		}
	}
	if !x.linked(dir, x.dir) {
		return false
	}
	got, err := x.hash(dir)
	x.sum.wrong = err != nil || !slices.Equal(got, x.sum.listed)
	return !x.sum.wrong
}

// readSum says whether there is a sum file that lists anything.
func (x *extraction) readSum(dir *node) bool {
	n := dir.children[migrate.HashFileName]
	if !n.hasContent() {
		return false
	}
	b, err := x.content(n, x.sumPath())
	if err != nil {
		return false // a link to what no layer has shown so far
	}
	x.sum.wrong = true
	if b.size > maxSum {
		return false
	}
	f, err := x.stage.read(b)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil || x.sum.listed.UnmarshalText(text) != nil || len(x.sum.listed) == 0 {
		return false
	}
	x.sum.wrong = false
	return true
}

// linked says whether every link beneath a node, which is known as at, leads to a file.
func (x *extraction) linked(n *node, at string) bool {
	for name, child := range n.children {
		at := path.Join(at, name)
		if child.hasContent() {
			if _, err := x.content(child, at); err != nil {
				return false
			}
		}
		if !x.linked(child, at) {
			return false
		}
	}
	return true
}

// hash is the sum of the migrations that are there, as Atlas has it: each file's hash is that of its name and content and those of all before it. Unlike
// the library's, it holds no content in memory, and no file can ask not to be hashed.
func (x *extraction) hash(dir *node) (migrate.HashFile, error) {
	var all migrate.HashFile
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n := dir.children[name]
		if !n.hasContent() || !strings.HasSuffix(name, ".sql") {
			continue
		}
		b, err := x.content(n, path.Join(x.dir, name))
		if err != nil {
			return nil, err
		}
		_, _ = io.WriteString(h, name) // a hash takes everything
		if err := x.copyTo(h, b); err != nil {
			return nil, err
		}
		all = append(all, struct{ N, H string }{name, base64.StdEncoding.EncodeToString(h.Sum(nil))})
	}
	return all, nil
}

func (x *extraction) copyTo(w io.Writer, b *blob) error {
	f, err := x.stage.read(b)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
