// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// Names that say what a layer deletes.
const (
	whiteout = ".wh."         // before the name of a path that lower layers have
	metadata = ".wh..wh."     // of the storage driver, not of the image
	opaque   = ".wh..wh..opq" // in a directory of which nothing that lower layers have is left
)

// Bounds of names, in bytes, and of other things that an image could make endless.
const (
	maxName = 255 // what file systems allow
	maxPath = 1024
	maxHops = 32
	maxSeen = 20
)

// extraction takes one directory out of an image's layers. Its errors are an [*Error] if the disk is to blame, a [refusal] if the image is,
// and others if a layer could not be read.
type extraction struct {
	dir   string
	stage *stage
	tree  *tree
	sum   sum

	maxBytes int64
	bytes    int64 // taken so far, then: published
	files    int   // published
	maxScan  int64
	left     int64 // of maxScan

	parents []string // of dir, the deepest first
	seen    seen

	// Of all layers that are being read.
	begun       sync.WaitGroup
	ahead       atomic.Int64 // left of maxAhead
	transferred atomic.Int64 // bytes
}

func newExtraction(o Options, dir string, s *stage) *extraction {
	x := &extraction{dir: dir, stage: s, maxBytes: o.MaxBytes, maxScan: o.MaxScanBytes, left: o.MaxScanBytes, seen: seen{}}
	x.ahead.Store(maxAhead)
	for p := dir; p != "/"; {
		p = path.Dir(p)
		x.parents = append(x.parents, p)
	}
	x.tree = newTree(o.MaxFiles+len(names(dir)), refuse("directory %q has more than %d entries", dir, o.MaxFiles))
	return x
}

// scanned is how many unpacked bytes of layers were read.
func (x *extraction) scanned() int64 { return x.maxScan - x.left }

// full refuses an image whose layers have more than is to be unpacked.
func (x *extraction) full() error {
	return refuse("its layers unpack to more than %d bytes: use an image that holds little more than the migrations", x.maxScan)
}

// action is what an entry of a layer does to the directory.
type action int

const (
	nothing action = iota // its path may still be told to somebody who looks for the directory
	deletes               // it deletes a path of lower layers
	empties               // nothing that lower layers hold in a path is to be seen
	leads                 // it is the directory itself, or one that it is in
	holds                 // it lies in the directory
)

// entry is what matters of a layer's entry.
type entry struct {
	action   action
	at       string // a cleaned absolute path
	typeflag byte
	link     string
	size     int64
}

func (e entry) isFile() bool {
	return e.action == holds && (e.typeflag == tar.TypeReg || e.typeflag == tar.TypeGNUSparse)
}

// titled is the entry for a layer that is a file. Its title is a path from the image's root or, as where files are pushed from within the
// directory, a bare name in it.
func (x *extraction) titled(l layer) *tar.Header {
	at := l.title
	if !strings.Contains(at, "/") {
		at = x.dir + "/" + at // not cleaned, since it may be ".."
	}
	return &tar.Header{Name: at, Typeflag: tar.TypeReg, Size: l.size}
}

// sift finds out what an entry does to the directory. It refuses names that nobody should use, also of what a higher layer may have replaced.
func (x *extraction) sift(h *tar.Header) (entry, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return entry{}, nil
	}
	if hasDotDot(h.Name) {
		return entry{}, refuse("entry %s has a \"..\" in its name", quote(h.Name))
	}
	at := path.Clean("/" + h.Name)
	e := entry{at: at, typeflag: h.Typeflag, link: h.Linkname, size: h.Size}
	base := path.Base(at)
	switch {
	case strings.Contains(path.Dir(at), "/"+whiteout):
		return entry{}, nil // beneath a deletion or a driver's metadata; no image can have such a directory
	case base == opaque:
		e.action, e.at = empties, path.Dir(at)
	case strings.HasPrefix(base, metadata):
		return entry{}, nil
	case strings.HasPrefix(base, whiteout):
		in := path.Dir(at)
		e.action, e.at = deletes, path.Join(in, strings.TrimPrefix(base, whiteout))
		if e.at == in || path.Dir(e.at) != in {
			return entry{}, refuse("deletion %s names no file", quote(at))
		}
	case at == x.dir || beneath(at, x.dir):
		e.action = leads
		return e, nil
	case beneath(x.dir, at):
		e.action = holds
	}
	if e.action == nothing {
		return e, nil // beside the directory
	}
	if !x.concerns(e.at) {
		return entry{}, nil
	}
	return e, checkName(e.at)
}

// apply notes what an entry does, unless a higher layer hides it. Layers are to be applied from the top down. The function content stores what a file holds.
func (x *extraction) apply(e entry, number int, content func() (*blob, error)) error {
	switch e.action {
	case deletes:
		return x.tree.hide(e.at, number)
	case empties:
		return x.tree.makeOpaque(e.at, number)
	case leads:
		return x.parent(e, number)
	case holds:
		return x.take(e, number, content)
	case nothing:
	}
	return nil
}

// parent takes note of the directory itself, or one that it is in.
func (x *extraction) parent(e entry, number int) error {
	k := file
	switch e.typeflag {
	case tar.TypeDir:
		k = directory
	case tar.TypeSymlink:
		k = symlink
	}
	n, err := x.tree.claim(e.at, k, number)
	if n == nil || k == directory {
		return err
	}
	if k == symlink {
		target := path.Join(linkTarget(e.at, e.link), strings.TrimPrefix(x.dir, e.at))
		return refuse("%s is a symbolic link: set migrations.dir to %s", quote(e.at), quote(target))
	}
	return refuse("%s is not a directory: set migrations.dir to the one that holds the migrations", quote(e.at))
}

// take takes an entry that lies in the directory.
func (x *extraction) take(e entry, number int, content func() (*blob, error)) error {
	switch e.typeflag {
	case tar.TypeDir:
		_, err := x.tree.claim(e.at, directory, number)
		return err
	case tar.TypeReg, tar.TypeGNUSparse:
		n, err := x.tree.claim(e.at, file, number)
		if n == nil {
			return err
		}
		if e.size > x.maxBytes-x.bytes {
			return x.tooLarge(e.at)
		}
		if n.blob, err = content(); err != nil {
			return err
		}
		x.bytes += n.blob.size
		return nil
	case tar.TypeSymlink:
		return x.link(e, symlink, linkTarget(e.at, e.link), number)
	case tar.TypeLink:
		if hasDotDot(e.link) {
			return refuse("hard link %s has a \"..\" in its target %s", quote(e.at), quote(e.link))
		}
		return x.link(e, hardlink, path.Clean("/"+e.link), number)
	}
	n, err := x.tree.claim(e.at, file, number)
	if n == nil {
		return err
	}
	return refuse("%s is neither a file nor a directory but a device, FIFO or the like (tar type %q)", quote(e.at), e.typeflag)
}

func (x *extraction) link(e entry, k kind, target string, number int) error {
	n, err := x.tree.claim(e.at, k, number)
	if n == nil {
		return err
	}
	if !beneath(x.dir, target) || len(target) > maxPath {
		return refuse("link %s leaves the directory %q: it leads to %s", quote(e.at), x.dir, quote(e.link))
	}
	n.target = target
	// A hard link is to what the archive has so far shown under its target's name, even if that is replaced later on.
	if k == hardlink {
		if t := x.tree.find(target); t != nil && t.layer == number && t.kind == file {
			n.kind, n.blob = file, t.blob
		}
	}
	return nil
}

// publish gives the files their names, after all layers were read.
func (x *extraction) publish() error {
	n := x.tree.find(x.dir)
	if n == nil || n.kind != directory {
		return x.missing()
	}
	x.bytes = 0
	if err := x.place(n, x.dir, "."); err != nil {
		return err
	}
	if x.files == 0 {
		return refuse("directory %q holds no files: set migrations.dir to the one that holds the migrations", x.dir)
	}
	return x.stage.finish()
}

// place puts the files of a directory, known in the image as at, under the local directory out.
func (x *extraction) place(n *node, at, out string) error {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		child, at, out := n.children[name], path.Join(at, name), path.Join(out, name)
		switch child.kind {
		case absent:
			continue
		case directory:
			if err := x.stage.mkdir(out); err != nil {
				return err
			}
			if err := x.place(child, at, out); err != nil {
				return err
			}
			continue
		}
		b, err := x.content(child, at)
		if err != nil {
			return err
		}
		if x.bytes += b.size; x.bytes > x.maxBytes {
			return x.tooLarge(at)
		}
		if err := x.stage.place(b, out); err != nil {
			return err
		}
		x.files++
	}
	return nil
}

// content is that of a file, or of the file that a link leads to.
func (x *extraction) content(n *node, at string) (*blob, error) {
	seenAs := at
	for range maxHops {
		if n.kind == file {
			return n.blob, nil
		}
		t := x.tree.find(n.target)
		switch {
		case t == nil || t.kind == absent:
			return nil, refuse("link %s leads to %s, which is not there", quote(at), quote(n.target))
		case t.kind == directory:
			return nil, refuse("link %s leads to %s, which is a directory: only links to files are followed", quote(at), quote(n.target))
		case n.kind == hardlink && t.layer > n.layer:
			return nil, refuse("hard link %s is to a file %s that a higher layer replaces: copy the file instead", quote(seenAs), quote(n.target))
		}
		seenAs, n = n.target, t
	}
	return nil, refuse("link %s leads in a circle, or through more than %d links", quote(at), maxHops)
}

// missing says that the directory is not there, and what is there instead.
func (x *extraction) missing() error {
	in, has := "/", "none"
	for _, p := range x.parents {
		if len(x.seen[p]) > 0 {
			in, has = p, strings.Join(slices.Sorted(slices.Values(x.seen[p])), ", ")
			break
		}
	}
	return refuse("directory %q is not in it (directories seen in %s: %s): set migrations.dir to the one that holds the migrations", x.dir, in, has)
}

// seen are directories that layers have in each of the wanted one's parents, some of them, for missing.
type seen map[string][]string

func (s seen) add(parent, name string) {
	if len(s[parent]) < maxSeen && !slices.Contains(s[parent], name) {
		s[parent] = append(s[parent], name)
	}
}

func (s seen) addAll(of seen) {
	for parent, all := range of {
		for _, name := range all {
			s.add(parent, name)
		}
	}
}

// note remembers a directory that an entry beside the wanted one shows.
func (x *extraction) note(e entry, in seen) {
	for _, p := range x.parents {
		if e.at == "" || !beneath(p, e.at) {
			continue
		}
		name, _, isParent := strings.Cut(strings.TrimPrefix(e.at[len(p):], "/"), "/")
		if (e.typeflag == tar.TypeDir || isParent) && len(name) <= 64 && checkName("/"+name) == nil {
			in.add(p, name)
		}
		return
	}
}

// concerns says whether a path is the directory, in it, or a parent of it.
func (x *extraction) concerns(at string) bool {
	return at == x.dir || beneath(x.dir, at) || beneath(at, x.dir)
}

func (x *extraction) tooLarge(at string) error {
	return refuse("directory %q holds more than %d bytes of files (reached at %s)", x.dir, x.maxBytes, quote(at))
}

// beneath says whether the cleaned absolute path p lies in the directory dir.
func beneath(dir, p string) bool {
	return p != "/" && (dir == "/" || strings.HasPrefix(p, dir+"/"))
}

// linkTarget is where a symbolic link leads, as long as no other link is on the way. Like the kernel, it takes / for the parent of /.
func linkTarget(at, link string) string {
	if path.IsAbs(link) {
		return path.Clean(link)
	}
	return path.Join(path.Dir(at), link)
}

func hasDotDot(name string) bool {
	return strings.Contains(name, "..") && slices.Contains(strings.Split(name, "/"), "..")
}

// checkName refuses names that a file system or a reader of logs would stumble over.
func checkName(at string) error {
	odd := func(r rune) bool { return r == '\\' || r == utf8.RuneError || unicode.IsControl(r) }
	if strings.ContainsFunc(at, odd) {
		return refuse("name %s has a backslash, a control character or bytes that are not UTF-8", quote(at))
	}
	if len(at) > maxPath {
		return refuse("name %s is longer than %d bytes", quote(at), maxPath)
	}
	for name := range strings.SplitSeq(at, "/") {
		if len(name) > maxName {
			return refuse("name %s has a part longer than %d bytes", quote(at), maxName)
		}
	}
	return nil
}

// quote makes a name from an image fit for a message.
func quote(name string) string {
	if len(name) > 120 {
		name = strings.ToValidUTF8(name[:120], "") + "…"
	}
	return fmt.Sprintf("%q", name)
}
