// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Bounds of a directory, as fetch has them: one that is mounted has passed no other.
const (
	maxFiles = 10_000
	maxBytes = 64 << 20
	maxDepth = 32
)

// within calls read with the directory opened, and gives errors that are no result yet their class: what is wrong with a mounted image is told as fetch
// would tell it.
func (o Options) within(read func(*os.Root) error) error {
	class, where := v1alpha1.IntegrityFailed, "directory of migrations"
	root, err := os.OpenRoot(o.Dir)
	if o.ImageRoot != "" {
		dir := path.Clean(o.Dir)
		class, where = v1alpha1.ImageInvalid, fmt.Sprintf("directory %q of the image", dir)
		image, errImage := os.OpenRoot(o.ImageRoot)
		if errImage != nil {
			return result.Errorf(v1alpha1.Internal, "the mounted image: %v", errImage)
		}
		defer image.Close()
		root, err = openMounted(image, dir)
	}
	if err == nil {
		defer root.Close()
		err = read(root)
	}
	var known *result.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return result.Errorf(class, "%s: %v", where, err)
}

// openMounted opens the clean absolute path dir in a mounted image. Like fetch it refuses a link on the way: an absolute one would mean this container's root.
func openMounted(image *os.Root, dir string) (*os.Root, error) {
	at := "."
	for name := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		parent := at
		at = path.Join(at, name)
		info, err := image.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("it is not in it (directories seen in /%s: %s): set migrations.dir to the one that holds the migrations",
				strings.TrimPrefix(parent, "."), directoriesIn(image, parent))
		case err != nil:
			return nil, readable(err)
		case info.Mode().Type() == fs.ModeSymlink:
			return nil, fmt.Errorf("/%s is a symbolic link: set migrations.dir to the directory that it leads to", at)
		case !info.IsDir():
			return nil, fmt.Errorf("/%s is not a directory: set migrations.dir to the one that holds the migrations", at)
		}
	}
	if entries, err := entriesOf(image, at, maxFiles); err == nil && len(entries) == 0 {
		return nil, errors.New("it holds no files: set migrations.dir to the one that holds the migrations")
	}
	root, err := image.OpenRoot(at)
	return root, readable(err)
}

// directoriesIn are the names of some directories, for a message.
func directoriesIn(image *os.Root, at string) string {
	const most = 20
	entries, _ := entriesOf(image, at, maxFiles) // the error that led here says more
	var names []string
	for _, e := range entries {
		if e.IsDir() && len(names) < most && len(e.Name()) <= 64 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return cmp.Or(strings.Join(names, ", "), "none")
}

// readable says what to do about files that only their owner may read. In an image that is mounted they keep their modes.
func readable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let everybody read it, as with COPY --chmod", err)
	}
	return err
}

// entriesOf reads the names in a directory, sorted. More than most of them are refused before they fill the memory.
func entriesOf(root *os.Root, at string, most int) ([]fs.DirEntry, error) {
	dir, err := root.Open(at)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > most {
		return nil, fmt.Errorf("it has more than %d entries", maxFiles)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// walk are the paths of what is not a directory, at most so many and each directory's in the order of names. Directories below the first one are entered
// where deep, except for hidden ones, and else told by a path that ends in a slash.
func walk(root *os.Root, at string, most int, deep bool) ([]string, error) {
	if strings.Count(at, "/") >= maxDepth {
		return nil, fmt.Errorf("its directories are more than %d deep (reached at %s)", maxDepth, at)
	}
	entries, err := entriesOf(root, at, most)
	if err != nil {
		return nil, readable(err)
	}
	var names []string
	left := most - len(entries)
	for _, entry := range entries {
		name := path.Join(at, entry.Name())
		switch {
		case !entry.IsDir():
			names = append(names, name)
		case !deep:
			names = append(names, name+"/")
		case !strings.HasPrefix(entry.Name(), "."):
			below, err := walk(root, name, left, deep)
			if err != nil {
				return nil, err
			}
			left -= len(below)
			names = append(names, below...)
		}
	}
	return names, nil
}

// reader reads files of a directory, all of them together within its bounds.
type reader struct {
	root *os.Root
	left int64
}

// read reads a regular file. Others are not even opened: a pipe would make that wait for ever.
func (r *reader) read(name string) ([]byte, error) {
	info, err := r.root.Stat(name)
	if err != nil {
		return nil, readable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() > r.left {
		return nil, fmt.Errorf("its files hold more than %d bytes (reached at %s)", maxBytes, name)
	}
	data, err := r.root.ReadFile(name)
	r.left -= int64(len(data))
	return data, readable(err)
}
