#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# run.sh INSTANCE [GINKGO-FLAG...] tells the stories on a local cluster of that number, which it starts, and takes down however they end. Where
# one fails, the logs of the cluster's components are kept in bin/e2e-logs; with CI=true their ends are printed too.
set -euo pipefail
cd "$(dirname "$0")/../.."
export INSTANCE=$1
shift
logs=bin/e2e-logs

finish() {
  status=$?
  if [ "$status" -ne 0 ] && [ -d "/var/tmp/dbupgrade-cluster-$INSTANCE/logs" ]; then
    rm -rf "$logs"
    cp -r "/var/tmp/dbupgrade-cluster-$INSTANCE/logs" "$logs"
    [ "${CI:-}" != true ] || tail -n 40 "$logs"/*
    echo "The logs of the cluster's components are in $logs." >&2
  fi
  bin/local-cluster down --instance="$INSTANCE"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

bin/local-cluster up --instance="$INSTANCE"
# Most of the time a story waits, so there are more of them than cores.
bin/ginkgo run --tags=e2e --procs=4 --randomize-all --keep-going --timeout=20m "$@" ./tests/e2e
