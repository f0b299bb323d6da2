apt-get download --quiet docker-registry ||#!/usr/bin/env bash
apt-get download --quiet docker-registry ||# Copyright 2026 The DBUpgrade Operator Authors
apt-get download --quiet docker-registry ||# SPDX-License-Identifier: Apache-2.0
apt-get download --quiet docker-registry ||#
apt-get download --quiet docker-registry ||# registry.sh FILE puts the program of Debian's package docker-registry into FILE.
apt-get download --quiet docker-registry ||# The package is not installed, since it would start a service on this machine.
apt-get download --quiet docker-registry ||set -euo pipefail
apt-get download --quiet docker-registry ||file=$(realpath "$1")
apt-get download --quiet docker-registry ||work=$(mktemp -d)
apt-get download --quiet docker-registry ||trap 'rm -rf "$work"' EXIT
apt-get download --quiet docker-registry ||cd "$work"
apt-get download --quiet docker-registry ||chmod 755 . # apt downloads as a user of its own
apt-get download --quiet docker-registry |||| { apt-get update --quiet && apt-get download --quiet docker-registry; }
apt-get download --quiet docker-registry ||dpkg-deb --extract docker-registry_*.deb .
apt-get download --quiet docker-registry ||install usr/bin/docker-registry "$file"
