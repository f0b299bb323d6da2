// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
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

	maxBytes int64
	bytes    int64 // taken so far, then: published
	files    int   // published
	maxScan  int64
	left     int64 // of maxScan

	parents []string            // of dir, the deepest first
	seen    map[string][]string // directories that the layers have in each of the parents, some of them
}

func newExtraction(o Options, dir string, s *stage) *extraction {
	x := &extraction{dir: dir, stage: s, maxBytes: o.MaxBytes, maxScan: o.MaxScanBytes, left: o.MaxScanBytes, seen: map[string][]string{}}
	for p := dir; p != "/"; {
		p = path.Dir(p)
		x.parents = append(x.parents, p)
	}
	x.tree = newTree(o.MaxFiles+len(names(dir)), refuse("directory %q has more than %d entries", dir, o.MaxFiles))
	return x
}

// scanned is how many unpacked bytes of layers were read.
func (x *extraction) scanned() int64 { return x.maxScan - x.left }

// read takes from a layer what no higher one hides. Layers are to be read from the top down.
func (x *extraction) read(ctx context.Context, l layer, number int) error {
	blob, err := l.Compressed()
	if err != nil {
		return err
	}
	defer blob.Close()
	src := &source{r: blob}
	err = x.unpack(ctx, src, number)
	if _, refused := errors.AsType[refusal](err); refused {
		return err
	}
	if _, disk := errors.AsType[*Error](err); disk {
		return err
	}
	// Damage shows first as bad compression or a bad archive. Whether the registry or the image is to blame, the digest tells at the end.
	_, _ = io.Copy(io.Discard, src)
	if src.err != nil {
		return src.err
	}
	if err != nil {
		return refuse("layer %d cannot be unpacked: %v", number, err)
	}
	return nil
}

func (x *extraction) unpack(ctx context.Context, src io.Reader, number int) error {
	unpacked, release, err := decompress(src)
	if err != nil {
		return err
	}
	defer release()
	metered := meter{ctx: ctx, r: unpacked, left: &x.left, full: refuse("its layers unpack to more than %d bytes: use an image that holds little more than the migrations", x.maxScan)}
	archive := tar.NewReader(metered)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := x.entry(header, archive, number); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, metered) // what follows the end of the archive
	return err
}

// entry sorts an entry of a layer: what is deleted, what is not of interest, the directory and its parents, what is in it.
func (x *extraction) entry(h *tar.Header, content io.Reader, number int) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if hasDotDot(h.Name) {
		return refuse("entry %s has a \"..\" in its name", quote(h.Name))
	}
	at := path.Clean("/" + h.Name)
	base := path.Base(at)
	switch {
	case strings.Contains(path.Dir(at), "/"+whiteout):
		return nil // beneath a deletion or a driver's metadata; no image can have such a directory
	case strings.HasPrefix(base, whiteout):
		return x.delete(path.Dir(at), base, number)
	case at == x.dir || beneath(at, x.dir):
		return x.parent(at, h, number)
	case !beneath(x.dir, at):
		x.note(at, h.Typeflag == tar.TypeDir)
		return nil
	}
	if err := checkName(at); err != nil {
		return err
	}
	return x.take(at, h, content, number)
}

// delete notes what lower layers have and this one does not.
func (x *extraction) delete(in, base string, number int) error {
	if base == opaque {
		if !x.concerns(in) {
			return nil
		}
		if err := checkName(in); err != nil {
			return err
		}
		return x.tree.makeOpaque(in, number)
	}
	if strings.HasPrefix(base, metadata) {
		return nil
	}
	at := path.Join(in, strings.TrimPrefix(base, whiteout))
	if at == in || path.Dir(at) != in {
		return refuse("deletion %s names no file", quote(path.Join(in, base)))
	}
	if !x.concerns(at) {
		return nil
	}
	if err := checkName(at); err != nil {
		return err
	}
	return x.tree.hide(at, number)
}

// parent takes note of the directory itself, or one that it is in.
func (x *extraction) parent(at string, h *tar.Header, number int) error {
	k := file
	switch h.Typeflag {
	case tar.TypeDir:
		k = directory
	case tar.TypeSymlink:
		k = symlink
	}
	n, err := x.tree.claim(at, k, number)
	if n == nil || k == directory {
		return err
	}
	if k == symlink {
		target := path.Join(linkTarget(at, h.Linkname), strings.TrimPrefix(x.dir, at))
		return refuse("%s is a symbolic link: set migrations.dir to %s", quote(at), quote(target))
	}
	return refuse("%s is not a directory: set migrations.dir to the one that holds the migrations", quote(at))
}

// take takes an entry that lies in the directory.
func (x *extraction) take(at string, h *tar.Header, content io.Reader, number int) error {
	switch h.Typeflag {
	case tar.TypeDir:
		_, err := x.tree.claim(at, directory, number)
		return err
	case tar.TypeReg, tar.TypeGNUSparse:
		n, err := x.tree.claim(at, file, number)
		if n == nil {
			return err
		}
		if h.Size > x.maxBytes-x.bytes {
			return x.tooLarge(at)
		}
		if n.blob, err = x.stage.add(content); err != nil {
			return err
		}
		x.bytes += n.blob.size
		return nil
	case tar.TypeSymlink:
		return x.link(at, symlink, linkTarget(at, h.Linkname), h, number)
	case tar.TypeLink:
		if hasDotDot(h.Linkname) {
			return refuse("hard link %s has a \"..\" in its target %s", quote(at), quote(h.Linkname))
		}
		return x.link(at, hardlink, path.Clean("/"+h.Linkname), h, number)
	}
	n, err := x.tree.claim(at, file, number)
	if n == nil {
		return err
	}
	return refuse("%s is neither a file nor a directory but a device, FIFO or the like (tar type %q)", quote(at), h.Typeflag)
}

func (x *extraction) link(at string, k kind, target string, h *tar.Header, number int) error {
	n, err := x.tree.claim(at, k, number)
	if n == nil {
		return err
	}
	if !beneath(x.dir, target) || len(target) > maxPath {
		return refuse("link %s leaves the directory %q: it leads to %s", quote(at), x.dir, quote(h.Linkname))
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

// note remembers the names of some directories beside the wanted one, for missing.
func (x *extraction) note(at string, isDir bool) {
	for _, p := range x.parents {
		if !beneath(p, at) {
			continue
		}
		name, _, isParent := strings.Cut(strings.TrimPrefix(at[len(p):], "/"), "/")
		if (isDir || isParent) && len(x.seen[p]) < maxSeen && !slices.Contains(x.seen[p], name) && len(name) <= 64 && checkName("/"+name) == nil {
			x.seen[p] = append(x.seen[p], name)
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
