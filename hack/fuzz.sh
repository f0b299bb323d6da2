#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# fuzz.sh TIME runs every fuzz target of the module for TIME.
set -euo pipefail
cd "$(dirname "$0")/.."

# Only packages that have a target are asked for their list: building all tests
# of the module takes longer than fuzzing it.
packages=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r dirname | sort -u)
for package in $packages; do
  targets=$(go test -list '^Fuzz' "$package" | grep '^Fuzz')
  for target in $targets; do
    echo "== $package $target"
    # Left alone, making interesting inputs small takes a slow target most of its time.
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x "$package"
  done
done
