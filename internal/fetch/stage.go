// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/rand"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// stage is where file contents wait, nameless, until the image has been read to its end. It lies within the output directory, so that giving
// a content its name is a rename.
type stage struct {
	root *os.Root
	dir  string // within root; random, so that no image can have it
	next atomic.Int64
	done bool
}

// blob is the content of a file.
type blob struct {
	at     string // within the output directory
	size   int64
	placed bool // has got a name
}

func newStage(out string) (*stage, error) {
	root, err := os.OpenRoot(out)
	if err != nil {
		return nil, diskError(err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err == nil && len(entries) > 0 {
		_ = root.Close()
		return nil, failure(v1alpha1.Internal, nil, "output directory %s is not empty: it holds %q", out, entries[0].Name())
	}
	s := &stage{root: root, dir: ".fetch-" + rand.Text()}
	if err == nil {
		err = root.Mkdir(s.dir, 0o700)
	}
	if err != nil {
		_ = root.Close()
		return nil, diskError(err)
	}
	return s, nil
}

// buffers are chunks for add: there may be many small files.
var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// add stores a content. Several may be stored at once. Errors of the reader are returned as they are.
func (s *stage) add(r io.Reader) (*blob, error) {
	at := path.Join(s.dir, strconv.FormatInt(s.next.Add(1), 10))
	f, err := s.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, diskError(err)
	}
	buffer := buffers.Get().(*[chunk]byte)
	size, err := io.CopyBuffer(diskWriter{f}, r, buffer[:])
	buffers.Put(buffer)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = diskError(closeErr)
	}
	if err != nil {
		_ = s.root.Remove(at) // the error says more
		return nil, err
	}
	if err := s.root.Chmod(at, 0o444); err != nil { // a mode given to OpenFile would be subject to the umask
		return nil, diskError(err)
	}
	return &blob{at: at, size: size}, nil
}

// read opens a content.
func (s *stage) read(b *blob) (io.ReadCloser, error) {
	f, err := s.root.Open(b.at)
	return f, diskError(err)
}

// remove takes a content away again that nobody will see.
func (s *stage) remove(b *blob) error {
	return diskError(s.root.Remove(b.at))
}

// place gives a content a name, and further ones by hard links.
func (s *stage) place(b *blob, at string) error {
	if b.placed {
		return diskError(s.root.Link(b.at, at))
	}
	if err := s.root.Rename(b.at, at); err != nil {
		return diskError(err)
	}
	b.at, b.placed = at, true
	return nil
}

func (s *stage) mkdir(at string) error {
	if err := s.root.Mkdir(at, 0o755); err != nil {
		return diskError(err)
	}
	return diskError(s.root.Chmod(at, 0o755))
}

// finish ends staging: what is placed will stay.
func (s *stage) finish() error {
	if err := s.root.RemoveAll(s.dir); err != nil {
		return diskError(err)
	}
	s.done = true
	return nil
}

// close empties the output directory, unless finish was reached.
func (s *stage) close() {
	if !s.done {
		entries, _ := fs.ReadDir(s.root.FS(), ".")
		for _, e := range entries {
			_ = s.root.RemoveAll(e.Name()) // the error that led here says more
		}
	}
	_ = s.root.Close()
}

// diskWriter tells errors of writing from those of reading in a copy.
type diskWriter struct{ w io.Writer }

func (d diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	return n, diskError(err)
}

func diskError(err error) error {
	if err == nil {
		return nil
	}
	return failure(v1alpha1.Internal, err, "output directory cannot be used: %v", err)
}
