#!/bin/sh
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# The entrypoint of the PostgreSQL image: makes the database cluster once, then runs the server, with the arguments as its own. Anything
# but options and "postgres" is run instead of it: psql, pg_dump.
set -eu

case ${1:-postgres} in
postgres) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac

# new_cluster works beside PGDATA, which is there complete or not at all, wherever this container is killed.
new_cluster() {
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  : "${POSTGRES_PASSWORD:?is not set: it is the password of the user $user}"
  case $database in *\"*) echo 'POSTGRES_DB has a quotation mark' >&2 && exit 1 ;; esac

  rm -rf "$PGDATA.new"
  printf '%s\n' "$POSTGRES_PASSWORD" |
    initdb --pgdata="$PGDATA.new" --username="$user" --pwfile=/dev/stdin --auth-local=trust --auth-host=scram-sha-256 \
      --encoding=UTF8 --no-locale
  echo 'host all all all scram-sha-256' >>"$PGDATA.new/pg_hba.conf"
  [ "$database" = postgres ] || echo "CREATE DATABASE \"$database\"" | postgres --single -jE -D "$PGDATA.new" postgres
  mv "$PGDATA.new" "$PGDATA"
}

[ -e "$PGDATA" ] || new_cluster
exec postgres -D "$PGDATA" -c "listen_addresses=*" "$@"
