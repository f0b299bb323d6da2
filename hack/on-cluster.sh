#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# on-cluster.sh INSTANCE COMMAND [ARG...] runs a command, which finds the number in its environment, on a local cluster of its own, which is taken
# down however the command ends. Where it fails, the logs of the cluster's components are kept in bin/cluster-logs; with CI=true their ends are
# printed too.
set -euo pipefail
cd "$(dirname "$0")/.."
export INSTANCE=$1
shift
logs=bin/cluster-logs

finish() {
  status=$?
  if [[ $status -ne 0 && -d /var/tmp/dbupgrade-cluster-$INSTANCE/logs ]]; then
    rm -rf "$logs"
    cp -r "/var/tmp/dbupgrade-cluster-$INSTANCE/logs" "$logs"
    [[ ${CI:-} != true ]] || tail -n 40 "$logs"/*
    echo "The logs of the cluster's components are in $logs." >&2
  fi
  bin/local-cluster down --instance="$INSTANCE"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Not kind, whose components cannot be killed one by one.
bin/local-cluster up --provider=node --instance="$INSTANCE"
"$@"
