// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

const (
	whiteout = ".wh."         // before the name of a path that lower layers have and this one deletes
	metadata = ".wh..wh."     // of the storage driver, not of the image
	opaque   = ".wh..wh..opq" // in a directory of which nothing that lower layers have is left

	maxName = 255 // bytes, as file systems have it
	maxPath = 1024
	maxHops = 32
	maxSeen = 20
)

var (
	errTooMany  = refusal("too many entries")
	errTooLarge = refusal("too many bytes in its layers")
)

// extraction takes one directory out of an image's layers.
type extraction struct {
	image string
	dir   string
	stage *stage
	tree  *tree

	maxFiles            int
	maxBytes, bytes     int64
	maxScan, left       int64
	files               int
	parents             []string            // of dir, the deepest first
	seen                map[string][]string // directories that the layers have in each of the parents, some of them
}

func newExtraction(o Options, dir, image string, s *stage) *extraction {
	x := &extraction{
		image: image, dir: dir, stage: s,
		tree:     newTree(o.MaxFiles + len(names(dir))),
		maxFiles: o.MaxFiles, maxBytes: o.MaxBytes, maxScan: o.MaxScanBytes, left: o.MaxScanBytes,
		seen: map[string][]string{},
	}
	for p := dir; p != "/"; {
		p = path.Dir(p)
		x.parents = append(x.parents, p)
	}
	return x
}

// scanned is how many unpacked bytes of layers were read.
func (x *extraction) scanned() int64 { return x.maxScan - x.left }

// read takes from a layer what no higher one hides. Layers are to be read from the top down.
func (x *extraction) read(ctx context.Context, l layer, number int, p *puller) error {
	blob, err := l.Compressed()
	if err != nil {
		return p.pullError(err)
	}
	defer blob.Close() //nolint:errcheck // it was only read
	src := &source{r: blob}
	err = x.unpack(ctx, src, number)
	if e, ok := errors.AsType[refusal](err); ok {
		return x.refused(e)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	// Damage shows first as bad compression or a bad archive. Whether the registry or the image is to blame, the digest tells.
	_, _ = io.Copy(io.Discard, src)
	if src.err != nil {
		return p.pullError(src.err)
	}
	if err != nil {
		return p.invalid(err, "layer %d of the image cannot be unpacked: %v", number, err)
	}
	return nil
}
