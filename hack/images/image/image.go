// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package image builds container images without a container engine: the operator's own, and those of the local cluster and its demo. The
// same content gives the same digest, wherever and whenever it is built.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// level of compression: the highest takes seven times as long and saves a fortieth.
const level = 6

// epoch stands for every time in an image, since a real one would change the digest.
var epoch = time.Unix(0, 0).UTC()

// Host is the platform of this machine's images.
func Host() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// File is an entry of an image. Its content is that of Source, a path on this machine, or else Content.
type File struct {
	// Path is absolute in the image. Directories above it need not be given.
	Path string
	// Mode has the permissions, and fs.ModeDir or fs.ModeSymlink where it is no regular file.
	Mode fs.FileMode
	// Owner is the number of both its user and its group.
	Owner int
	// Source and Content are of regular files only, and Target of symbolic links.
	Source  string
	Content []byte
	Target  string
}

// Dir returns the files of a directory on this machine, to lie at the root of an image and belong to its root. Of their permissions
// only the right to execute is kept: the rest varies with the umask of whoever checked them out.
func Dir(dir string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		file := File{Path: "/" + filepath.ToSlash(inside), Mode: info.Mode().Type() | 0o644}
		switch {
		case info.IsDir():
			file.Mode |= 0o755
		case info.Mode().IsRegular():
			file.Source = name
			if info.Mode()&0o111 != 0 {
				file.Mode |= 0o755
			}
		case info.Mode().Type() == fs.ModeSymlink:
			file.Mode |= 0o777
			file.Target, err = os.Readlink(name)
		default:
			return fmt.Errorf("%s is neither a file, a directory nor a symbolic link", name)
		}
		files = append(files, file)
		return err
	})
	return files, err
}

// Build makes an image of one layer. It reads the files before it returns.
func Build(files []File, config v1.Config, platform v1.Platform) (v1.Image, error) {
	layer, err := newLayer(files)
	if err != nil {
		return nil, err
	}
	oci := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(oci, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: epoch},
		Config:  config,
		RootFS:  v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: epoch}}})
}

// newLayer keeps the compressed layer in memory, so that it is compressed once and nothing on disk needs to stay.
func newLayer(files []File) (v1.Layer, error) {
	entries, err := withParents(files)
	if err != nil {
		return nil, err
	}
	var compressed bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&compressed, level)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := write(w, entries[name]); err != nil {
			return nil, fmt.Errorf("put %s into a layer: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(compressed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

// withParents adds the directories above the files, so that none is left to an unpacker's taste.
func withParents(files []File) (map[string]File, error) {
	entries := make(map[string]File, len(files))
	for _, file := range files {
		if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path || file.Path == "/" {
			return nil, fmt.Errorf("%q is no clean absolute path of a file", file.Path)
		}
		if _, ok := entries[file.Path]; ok {
			return nil, fmt.Errorf("%s is there twice", file.Path)
		}
		entries[file.Path] = file
	}
	for _, file := range files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			if _, ok := entries[dir]; !ok {
				entries[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	return entries, nil
}

func write(w *tar.Writer, file File) error {
	header := &tar.Header{
		Name: strings.TrimPrefix(file.Path, "/"), Mode: int64(file.Mode.Perm()), ModTime: epoch, Uid: file.Owner, Gid: file.Owner,
	}
	content := file.Content
	switch file.Mode.Type() {
	case fs.ModeDir:
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	case fs.ModeSymlink:
		header.Typeflag, header.Linkname = tar.TypeSymlink, file.Target
	default:
		if file.Source != "" {
			var err error
			if content, err = os.ReadFile(file.Source); err != nil {
				return err
			}
		}
		header.Typeflag, header.Size = tar.TypeReg, int64(len(content))
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
