// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"

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
