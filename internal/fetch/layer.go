// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bufio"
	"bytes"
	"context"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// layer is a layer of an image.
type layer struct {
	size  int64                         // in bytes, as it is packed
	title string                        // of a layer that may be a single file: its path
	open  func() (io.ReadCloser, error) // gives its blob; reading that to its end verifies its digest
}

// maxWindow is how far back a zstd layer may refer, and so what it makes us keep in memory. zstd itself uses up to 8 MiB unless told to go to extremes.
const maxWindow = 16 << 20

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	tarMagic  = []byte("ustar")
)

// tarMagicAt is where tarMagic is in the header of an archive's first entry.
const tarMagicAt = 257

// isFile says whether a layer with a title is the file of that title. It may also be an archive, whatever its title and media type say.
func isFile(r *bufio.Reader) bool {
	start, _ := r.Peek(tarMagicAt + len(tarMagic)) // an error shows again when it is read
	packed := bytes.HasPrefix(start, gzipMagic) || bytes.HasPrefix(start, zstdMagic)
	return !packed && !bytes.HasPrefix(start[min(len(start), tarMagicAt):], tarMagic)
}

// decompress undoes the compression that the first bytes tell of: media types are often wrong. The function that it returns frees what it holds.
func decompress(r *bufio.Reader) (io.Reader, func(), error) {
	magic, err := r.Peek(len(zstdMagic))
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return z, func() {}, nil
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	default:
		return r, func() {}, nil
	}
}

// meter counts unpacked bytes, and fails with full when they are more than its limit, or when the context ends.
type meter struct {
	ctx   context.Context
	r     io.Reader
	bytes int64
	limit int64
	full  error
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	if m.bytes += int64(n); m.bytes > m.limit {
		return 0, m.full
	}
	return n, err
}
