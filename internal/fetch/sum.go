// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"path"

	"ariga.io/atlas/sql/migrate"
)

// maxSum is how many bytes a sum file may have that is looked at. It is far more than those of as many files as a directory may have.
const maxSum = 4 << 20

// sum is what is known of the directory's sum file. Lower layers cannot change what a higher one has shown, so it is read once and compared once.
type sum struct {
	listed migrate.HashFile // nil until it is read
	wrong  bool             // it does not describe the directory, and no lower layer can mend that
}

func (x *extraction) sumPath() string { return path.Join(x.dir, migrate.HashFileName) }

// complete says that no layer beneath those that are decided is needed: because it would be hidden, or because the directory has all files that its
// sum file lists, and their hashes are right.
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
	x.sum.wrong = !x.verify(dir)
	return !x.sum.wrong
}

// readSum says whether there is a sum file that lists anything.
func (x *extraction) readSum(dir *node) bool {
	n := dir.children[migrate.HashFileName]
	if n == nil || !n.hasContent() {
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

// verify says whether the listed files have the listed hashes. As Atlas has it, a hash is that of a file's name and content and of all listed before it.
// Unlike the library's function, this one does not need all files in memory.
func (x *extraction) verify(dir *node) bool {
	h := sha256.New()
	for _, f := range x.sum.listed {
		n := dir.children[f.N]
		if !n.hasContent() {
			return false
		}
		b, err := x.content(n, path.Join(x.dir, f.N))
		if err != nil {
			return false
		}
		_, _ = io.WriteString(h, f.N) // a hash takes everything
		if x.copyTo(h, b) != nil || base64.StdEncoding.EncodeToString(h.Sum(nil)) != f.H {
			return false
		}
	}
	return true
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
