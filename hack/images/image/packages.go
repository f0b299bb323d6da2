// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// packageFiles returns what the Debian packages installed, but for what a server in a container has no use for: documentation,
// translations, and the compiler of queries, which is larger than all the rest.
func packageFiles(ctx context.Context, packages ...string) (map[string]File, error) {
	listed, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"--listfiles"}, packages...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of %v: %w", packages, err)
	}
	files := map[string]File{}
	for lines := bufio.NewScanner(bytes.NewReader(listed)); lines.Scan(); {
		name := lines.Text()
		if !wanted(name) {
			continue
		}
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // machines leave files out, documentation mostly
		}
		if err != nil {
			return nil, err
		}
		switch file := (File{Path: name, Mode: info.Mode().Type() | info.Mode().Perm()}); info.Mode().Type() {
		case 0:
			file.Source = name
			files[name] = file
		case fs.ModeSymlink:
			if file.Target, err = os.Readlink(name); err != nil {
				return nil, err
			}
			files[name] = file
		}
	}
	return files, nil
}

func wanted(name string) bool {
	for _, dir := range []string{"/usr/lib/postgresql/", "/usr/share/postgresql/", "/usr/share/zoneinfo/", "/usr/share/mysql/charsets/", "/usr/share/mysql/english/"} {
		if strings.HasPrefix(name, dir) {
			return !strings.Contains(name, "/man/") && !strings.Contains(name, "/lib/bitcode/") && path.Base(name) != "llvmjit.so" &&
				!strings.HasPrefix(name, "/usr/share/zoneinfo/right/") && !strings.HasPrefix(name, "/usr/share/zoneinfo/posix/")
		}
	}
	return false
}

// addLibraries adds the shared libraries that programs and libraries among the files are linked to, those of libraries included.
func addLibraries(ctx context.Context, files map[string]File) error {
	var linked []string
	for _, file := range files {
		if file.Source != "" && (strings.Contains(file.Path, "bin/") || path.Ext(file.Path) == ".so") {
			linked = append(linked, file.Source)
		}
	}
	slices.Sort(linked)
	command := exec.CommandContext(ctx, "ldd", linked...)
	command.Env = append(command.Environ(), "LC_ALL=C")
	listed, err := command.Output()
	if err != nil {
		return fmt.Errorf("list the shared libraries of %v: %w", linked, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(listed)); lines.Scan(); {
		// "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)", and without an arrow for the loader.
		line := lines.Text()
		if strings.Contains(line, "not found") {
			return fmt.Errorf("a shared library is missing: %s", strings.TrimSpace(line))
		}
		for word := range strings.FieldsSeq(line) {
			if path.IsAbs(word) && !strings.HasSuffix(word, ":") {
				files[word] = File{Path: word, Mode: 0o755, Source: word}
			}
		}
	}
	return nil
}
