#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# kubernetes.sh DIR NAME... builds Kubernetes' programs of these names, of the
# version in hack/tools/kubernetes, into DIR.
set -euo pipefail
dir=$(realpath "$1")
shift
module=$(cd "$(dirname "$0")/tools/kubernetes" && pwd)
version=$(go -C "$module" list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"

# Without its stamps an API server reports v0.0.0 and treats it as such.
stamp=k8s.io/component-base/version
for name; do
  echo "  building $name $version" >&2
  CGO_ENABLED=0 go -C "$module" build -trimpath -buildvcs=false -o "$dir/$name" -ldflags "-s -w \
    -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor -X $stamp.gitTreeState=clean" \
    "k8s.io/kubernetes/cmd/$name"
  touch "$dir/$name"
done
