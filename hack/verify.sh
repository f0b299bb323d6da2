#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# verify.sh fails where generated files differ from what their generators make
# now, where go.mod is not tidy, where the manifests cannot be built, where a
# file has no licence header, or where a script does not parse. What it regenerates stays, ready to commit.
set -euo pipefail
cd "$(dirname "$0")/.."

# tree prints the git tree of the files as they are, untracked ones included,
# and leaves the index alone.
tree() (
  index=$(mktemp)
  trap 'rm -f "$index"' EXIT
  cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm "$index"
  export GIT_INDEX_FILE=$index
  git add --all
  git write-tree
)

headers() {
  local file bad=0
  while read -r file; do
    # A build constraint may stand above the header.
    if [[ $(head -n 5 "$file") != *"SPDX-License-Identifier: Apache-2.0"* ]]; then
      echo "$file: no licence header (hack/boilerplate.go.txt)"
      bad=1
    fi
    if [[ $file == *.sh ]]; then bash -n "$file" || bad=1; fi
  done < <(git ls-files --cached --others --exclude-standard --deduplicate '*.go' '*.sh' Makefile .ci/run)
  return $bad
}

failed=0
headers || failed=1
go mod tidy -diff || { echo 'go.mod or go.sum is not tidy: run go mod tidy'; failed=1; }

before=$(tree)
make --no-print-directory generate
after=$(tree)
if [[ $before != "$after" ]]; then
  git --no-pager diff --stat --patch "$before" "$after"
  echo 'generated files were out of date: commit what make generate wrote'
  failed=1
fi

kustomize build config/default >/dev/null || { echo 'config/default does not build'; failed=1; }
exit $failed
