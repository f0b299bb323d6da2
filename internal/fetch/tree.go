// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"fmt"
	"strings"
)

type kind int

const (
	absent kind = iota
	directory
	file
	symlink
	hardlink
)

// hasContent says whether a node is a file, or a link that may lead to one.
func (n *node) hasContent() bool {
	return n.kind == file || n.kind == symlink || n.kind == hardlink
}

// tree is what is known of the image's files while its layers are read from the top down: those of the wanted directory, and its parents.
type tree struct {
	root *node
	left int   // how many more nodes may be made
	full error // when there are to be more
}

// node is a path that some layer has said something about. Layers are counted from 1, the lowest.
type node struct {
	kind    kind
	layer   int  // which decided kind; 0 while undecided
	implied bool // a directory only because something lies in it
	hides   int  // nothing that layers below this one hold here or beneath is to be seen
	blob    *blob
	target  string // of a link: cleaned path from the image's root

	children map[string]*node
}

// refusal says why an image's content is not taken.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error {
	return refusal(fmt.Sprintf(format, args...))
}

func newTree(limit int, full error) *tree {
	return &tree{root: &node{kind: directory, implied: true}, left: limit, full: full}
}

// names takes a cleaned absolute path apart.
func names(clean string) []string {
	if clean == "/" {
		return nil
	}
	return strings.Split(clean[1:], "/")
}

// find looks for a path as far as the tree knows it.
func (t *tree) find(clean string) *node {
	n := t.root
	for _, name := range names(clean) {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

// closed says whether lower layers can add nothing to a path.
func (t *tree) closed(clean string) bool {
	n := t.root
	for _, name := range names(clean) {
		if n.hides > 0 {
			return true
		}
		if n = n.children[name]; n == nil {
			return false
		}
	}
	return n.hides > 0
}

// hide notes that a layer deletes a path: lower layers' entries there and beneath are not to be seen. Those of this layer are.
func (t *tree) hide(clean string, layer int) error {
	n, err := t.descend(names(clean), layer, false)
	if n != nil && n.hides == 0 {
		n.hides = layer
	}
	return err
}

// makeOpaque notes that a layer has a directory of which nothing is to be seen that lower layers hold.
func (t *tree) makeOpaque(clean string, layer int) error {
	n, err := t.descend(names(clean), layer, true)
	if n != nil && n.hides == 0 {
		n.hides = layer
	}
	return err
}

// claim notes that a layer holds an entry of some kind at a path. It returns nil where a higher layer has decided otherwise.
func (t *tree) claim(clean string, k kind, layer int) (*node, error) {
	parts := names(clean)
	if len(parts) == 0 {
		return nil, nil
	}
	last := len(parts) - 1
	parent, err := t.descend(parts[:last], layer, true)
	if parent == nil || err != nil {
		return nil, err
	}
	n, err := t.child(parent, parts[last])
	if err != nil {
		return nil, err
	}
	switch {
	case layer < n.hides:
		return nil, nil
	case n.layer > layer && n.implied && k == symlink:
		// Unpacked from the bottom up, the higher layer's files would go where the link leads.
		return nil, refuse("%q is a symbolic link in one layer and a directory in a higher one", clean)
	case n.layer > layer && k == directory:
		n.implied = false
		return nil, nil
	case n.layer > layer:
		if n.hides == 0 {
			n.hides = layer // it took the place of what lower layers have there, and is itself replaced
		}
		return nil, nil
	case n.layer == layer && n.kind == directory && k == directory:
		n.implied = false
		return n, nil
	case n.layer == layer:
		n.hides = layer // what replaces an entry of the same layer also replaces what lower layers have there
		n.children = nil
	}
	if k != directory {
		n.children = nil
	}
	n.kind, n.layer, n.implied = k, layer, false
	return n, nil
}

// descend goes to a path, as a layer sees it. It returns nil where a higher layer hides it. With imply, what is undecided on the way becomes a directory.
func (t *tree) descend(parts []string, layer int, imply bool) (*node, error) {
	n := t.root
	if layer < n.hides {
		return nil, nil
	}
	for i, part := range parts {
		child, err := t.child(n, part)
		if err != nil {
			return nil, err
		}
		inside := imply || i < len(parts)-1 // something lies in child
		switch {
		case layer < child.hides, inside && child.layer > layer && child.kind != directory:
			return nil, nil
		case inside && child.layer == layer && child.kind != directory:
			return nil, refuse("/%s is not a directory, but its layer has something in it", strings.Join(parts[:i+1], "/"))
		case imply && child.layer == 0:
			child.kind, child.layer, child.implied = directory, layer, true
		}
		n = child
	}
	return n, nil
}

func (t *tree) child(n *node, name string) (*node, error) {
	if child := n.children[name]; child != nil {
		return child, nil
	}
	if t.left--; t.left < 0 {
		return nil, t.full
	}
	if n.children == nil {
		n.children = map[string]*node{}
	}
	child := &node{}
	n.children[name] = child
	return child, nil
}
