// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// postgresUser is the number that PostgreSQL's official image gives its user.
const postgresUser = 999

//go:embed postgres.sh
var postgresEntrypoint []byte

// Postgres is an image of the PostgreSQL server that this machine has as Debian packages, with psql and pg_dump. It knows the variables
// POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and PGDATA of the official image, runs as user 999 and writes only to
// /var/lib/postgresql/data and /run/postgresql, which may be volumes of that user.
func Postgres(ctx context.Context) (v1.Image, error) {
	bin, err := newestPostgres()
	if err != nil {
		return nil, err
	}
	major := path.Base(path.Dir(bin))
	files, err := packageFiles(ctx, "postgresql-"+major, "postgresql-client-"+major, "tzdata")
	if err != nil {
		return nil, err
	}
	// The server runs its helpers by a shell, and the entrypoint needs the others.
	for name, source := range map[string]string{"/bin/sh": "/bin/dash", "/bin/rm": "/bin/rm", "/bin/mv": "/bin/mv"} {
		files[name] = File{Path: name, Mode: 0o755, Source: source}
	}
	if err := addLibraries(ctx, files); err != nil {
		return nil, err
	}
	for _, file := range []File{
		{Path: "/entrypoint.sh", Mode: 0o755, Content: postgresEntrypoint},
		{Path: "/etc/passwd", Mode: 0o644, Content: fmt.Appendf(nil, "root:x:0:0::/:/bin/sh\npostgres:x:%[1]d:%[1]d::/var/lib/postgresql:/bin/sh\n", postgresUser)},
		{Path: "/etc/group", Mode: 0o644, Content: fmt.Appendf(nil, "root:x:0:\npostgres:x:%d:\n", postgresUser)},
		{Path: "/var/lib/postgresql/data", Mode: fs.ModeDir | 0o700, Owner: postgresUser},
		{Path: "/run/postgresql", Mode: fs.ModeDir | 0o755, Owner: postgresUser},
		{Path: "/var/run", Mode: fs.ModeSymlink | 0o777, Target: "/run"},
	} {
		files[file.Path] = file
	}
	return Build(slices.Collect(maps.Values(files)), v1.Config{
		User:       fmt.Sprintf("%[1]d:%[1]d", postgresUser),
		WorkingDir: "/",
		Entrypoint: []string{"/entrypoint.sh"},
		StopSignal: "SIGINT", // ends the sessions that are open, where SIGTERM waits for them
		Env: []string{
			"PATH=" + bin + ":/bin",
			"PGDATA=/var/lib/postgresql/data/pgdata",
			"PSQL_PAGER=", // there is none
		},
	}, Host())
}

// newestPostgres returns the directory of the server's programs. Debian has one for each major version.
func newestPostgres() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("there is no /usr/lib/postgresql/*/bin/initdb: install Debian's package postgresql")
	}
	bins := make([]string, len(found))
	for i, initdb := range found {
		bins[i] = path.Dir(initdb)
	}
	return slices.MaxFunc(bins, func(a, b string) int { return major(a) - major(b) }), nil
}

func major(bin string) int {
	n, err := strconv.Atoi(path.Base(path.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

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
	for _, dir := range []string{"/usr/lib/postgresql/", "/usr/share/postgresql/", "/usr/share/zoneinfo/"} {
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
		if file.Source != "" && (strings.Contains(file.Path, "/bin/") || path.Ext(file.Path) == ".so") {
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
