#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# controlplane.sh DIR puts kube-apiserver and etcd into DIR: downloaded by
# setup-envtest where its host can be reached, else built from Go modules, which
# takes some minutes when nothing is cached.
set -euo pipefail
dir=$1
hack=$(cd "$(dirname "$0")" && pwd)
version=$(go -C "$hack/tools/kubernetes" list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"

download() {
  timeout 15 setup-envtest list >/dev/null 2>&1 || return
  local found
  found=$(timeout 300 setup-envtest use "$major.$minor.x" --bin-dir "$dir/download" --print path) || return
  install "$found/kube-apiserver" "$found/etcd" "$dir/" && rm -rf "$dir/download"
}

mkdir -p "$dir"
if ! download; then
  echo "setup-envtest's host cannot be reached: building kube-apiserver $version and etcd from Go modules" >&2
  "$hack/kubernetes.sh" "$dir" kube-apiserver
  CGO_ENABLED=0 go -C "$hack/tools/etcd" build -trimpath -buildvcs=false -o "$dir/etcd" -ldflags '-s -w' tool
  touch "$dir/etcd"
fi
