#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# prerequisites.sh [cluster] installs the Debian packages that the tests need, or
# those that the local cluster needs besides, where it may, and names them where
# it may not.
set -euo pipefail

missing=()
need() { # FILE PACKAGE...: one of the files that match FILE shows that the packages are there
  compgen -G "$1" >/dev/null || missing+=("${@:2}")
}
command -v initdb >/dev/null || need '/usr/lib/postgresql/*/bin/initdb' postgresql # Debian keeps it out of PATH
if [[ ${1:-} == cluster ]]; then
  need '/usr/sbin/runc' runc
  need '/usr/lib/cni/ptp' containernetworking-plugins
  need '/usr/sbin/nft' nftables
  need '/usr/sbin/iptables' iptables
  need '/usr/sbin/conntrack' conntrack
  need '/*bin/ip' iproute2
else
  need '/usr/sbin/mariadbd' mariadb-server-core # the server alone, without a service
  need '/usr/bin/mariadb-dump' mariadb-client
  need '/usr/sbin/pgbouncer' pgbouncer
  # The race detector needs a C compiler.
  command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  command -v git >/dev/null || missing+=(git)
fi
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "missing: install the packages ${missing[*]} (apt-get install ${missing[*]})" >&2
  exit 1
fi

# Tests start servers of their own, so the packages need not start any.
drop_in=/etc/postgresql-common/createcluster.d/dbupgrade-tests.conf
mkdir -p "$(dirname "$drop_in")"
trap 'rm -f "$drop_in"' EXIT
echo 'create_main_cluster = false' >"$drop_in"

export DEBIAN_FRONTEND=noninteractive
install=(apt-get install --yes --quiet --no-install-recommends "${missing[@]}")
"${install[@]}" || { apt-get update --quiet && "${install[@]}"; }

if [[ " ${missing[*]} " == *' pgbouncer '* ]] && command -v systemctl >/dev/null; then
  systemctl disable --quiet --now pgbouncer.service || true # where systemd is installed but does not run
fi
