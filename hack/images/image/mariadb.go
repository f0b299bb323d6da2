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
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// mariadbUser is the number that MariaDB's official image gives its user.
const mariadbUser = 999

//go:embed mariadb.sh
var mariadbEntrypoint []byte

// MariaDB is an image of the MariaDB server that this machine has as Debian packages, with mariadb and mariadb-dump. It knows the
// variables MARIADB_USER, MARIADB_PASSWORD and MARIADB_DATABASE of the official image, runs as user 999 and writes only to
// /var/lib/mysql and /run/mysqld, which may be volumes of that user. Its administrator logs in from inside, without a password.
func MariaDB(ctx context.Context) (v1.Image, error) {
	const server = "/usr/sbin/mariadbd"
	if _, err := os.Stat(server); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: install Debian's package mariadb-server-core", server)
	}
	files, err := packageFiles(ctx, "mariadb-server-core")
	if err != nil {
		return nil, err
	}
	sources := []string{server, "/usr/bin/mariadb", "/usr/bin/mariadb-dump"}
	// The entrypoint makes the system's tables with these.
	sources = append(sources, "/bin/cat", "/bin/rm", "/bin/mv", "/bin/mkdir")
	for _, script := range []string{"mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data", "maria_add_gis_sp_bootstrap", "mysql_sys_schema"} {
		sources = append(sources, path.Join("/usr/share/mysql", script+".sql"))
	}
	for _, source := range sources {
		files[source] = File{Path: source, Mode: 0o755, Source: source}
	}
	files["/bin/sh"] = File{Path: "/bin/sh", Mode: 0o755, Source: "/bin/dash"}
	if err := addLibraries(ctx, files); err != nil {
		return nil, err
	}
	for _, file := range []File{
		{Path: "/entrypoint.sh", Mode: 0o755, Content: mariadbEntrypoint},
		{Path: "/etc/passwd", Mode: 0o644, Content: fmt.Appendf(nil, "root:x:0:0::/:/bin/sh\nmysql:x:%[1]d:%[1]d::/var/lib/mysql:/bin/sh\n", mariadbUser)},
		{Path: "/etc/group", Mode: 0o644, Content: fmt.Appendf(nil, "root:x:0:\nmysql:x:%d:\n", mariadbUser)},
		{Path: "/var/lib/mysql", Mode: fs.ModeDir | 0o700, Owner: mariadbUser},
		{Path: "/run/mysqld", Mode: fs.ModeDir | 0o755, Owner: mariadbUser},
	} {
		files[file.Path] = file
	}
	return Build(slices.Collect(maps.Values(files)), v1.Config{
		User:       fmt.Sprintf("%[1]d:%[1]d", mariadbUser),
		WorkingDir: "/",
		Entrypoint: []string{"/entrypoint.sh"},
		Env:        []string{"PATH=/usr/sbin:/usr/bin:/bin"},
	}, Host())
}
