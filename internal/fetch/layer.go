// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"

	"github.com/klauspost/compress/zstd"
)

// layer is a layer's blob; reading it to its end verifies its digest.
type layer interface {
	Compressed() (io.ReadCloser, error)
}

// maxWindow is how far back a zstd layer may refer, and so what it makes us keep in memory. zstd itself uses up to 8 MiB unless told to go to extremes.
const maxWindow = 16 << 20

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress undoes the compression that the first bytes tell of: media types are often wrong. The function that it returns frees what it holds.
func decompress(r io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(len(zstdMagic))
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, err
		}
		return z, func() {}, nil
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	default:
		return buffered, func() {}, nil
	}
}

// source remembers what went wrong below a decompressor, which may tell something else.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// meter counts unpacked bytes down, and fails with full when none are left, or when the context ends.
type meter struct {
	ctx  context.Context
	r    io.Reader
	left *int64
	full error
}

func (m meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	if *m.left -= int64(n); *m.left < 0 {
		return 0, m.full
	}
	return n, err
}
