#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# registry.sh FILE puts the program of Debian's package docker-registry into FILE.
# The package is not installed, since it would start a service on this machine.
set -euo pipefail
file=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 777 . # apt downloads as a user of its own
apt-get download --quiet docker-registry || { apt-get update --quiet && apt-get download --quiet docker-registry; }
dpkg-deb --extract docker-registry_*.deb .
install usr/bin/docker-registry "$file"
