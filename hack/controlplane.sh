#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# controlplane.sh DIR puts kube-apiserver and etcd into DIR: downloaded by
# setup-envtest where its host can be reached, else built from Go modules, which
# takes some minutes when nothing is cached.
set -euo pipefail
dir=$1
tools=$(cd "$(dirname "$0")/tools" && pwd)
version=$(go -C "$tools/kubernetes" list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"

download() {
  timeout 15 setup-envtest list >/dev/null 2>&1 || return
  local found
  found=$(timeout 300 setup-envtest use "$major.$minor.x" --bin-dir "$dir/download" --print path) || return
  install "$found/kube-apiserver" "$found/etcd" "$dir/" && rm -rf "$dir/download"
}

build() {
  local stamp=k8s.io/component-base/version
  # Without its stamps an API server reports v0.0.0 and treats it as such.
  go -C "$tools/kubernetes" build -trimpath -buildvcs=false -o "$dir/kube-apiserver" -ldflags "-s -w \
    -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor -X $stamp.gitTreeState=clean" tool
  go -C "$tools/etcd" build -trimpath -buildvcs=false -o "$dir/etcd" -ldflags '-s -w' tool
  touch "$dir/kube-apiserver" "$dir/etcd"
}

mkdir -p "$dir"
if ! download; then
  echo "setup-envtest's host cannot be reached: building kube-apiserver $version and etcd from Go modules" >&2
  export CGO_ENABLED=0
  build
fi
