#!/bin/sh
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# The entrypoint of the MariaDB image: makes the data directory once, then runs the server, with the arguments as its own. Anything but
# options and "mariadbd" is run instead of it: mariadb, mariadb-dump.
set -eu

case ${1:-mariadbd} in
mariadbd) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac

data=/var/lib/mysql/data
options="--no-defaults --character-set-server=utf8mb4 --collation-server=utf8mb4_general_ci --socket=/run/mysqld/mysqld.sock
  --pid-file=/run/mysqld/mysqld.pid --tmpdir=/run/mysqld --innodb-log-file-size=16M"

literal() { # TEXT: as a string of SQL, where backslashes are nothing special
  rest=$1
  printf "'"
  while [ "$rest" != "${rest#*\'}" ]; do
    printf "%s''" "${rest%%\'*}"
    rest=${rest#*\'}
  done
  printf "%s'" "$rest"
}

# new_data works beside the data directory, which is there complete or not at all, wherever this container is killed.
new_data() {
  user=$(literal "${MARIADB_USER:?is not set: it is the name of a user}")
  password=$(literal "${MARIADB_PASSWORD:?is not set: it is the password of that user}")
  : "${MARIADB_DATABASE:?is not set: it is the name of a database, which the user may do anything in}"
  case $MARIADB_DATABASE in *\`*) echo 'MARIADB_DATABASE has a backquote' >&2 && exit 1 ;; esac

  rm -rf $data.new
  mkdir $data.new
  {
    # Whoever runs in this container is the administrator.
    printf '%s;\n' 'CREATE DATABASE mysql' 'USE mysql' "SET @auth_root_socket = 'mysql'"
    cd /usr/share/mysql
    cat mysql_system_tables.sql mysql_performance_tables.sql mysql_system_tables_data.sql maria_add_gis_sp_bootstrap.sql mysql_sys_schema.sql
    printf '%s;\n' 'FLUSH PRIVILEGES' "SET sql_mode = 'NO_BACKSLASH_ESCAPES'" "CREATE DATABASE \`$MARIADB_DATABASE\`" \
      "CREATE USER $user IDENTIFIED BY $password" "GRANT ALL ON \`$MARIADB_DATABASE\`.* TO $user"
  } | mariadbd $options --datadir=$data.new --bootstrap
  mv $data.new $data
}

[ -e $data ] || new_data
exec mariadbd $options --datadir=$data --bind-address='*' --skip-name-resolve "$@"
