#!/usr/bin/env bash
# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh shows the main job on a local cluster that is up: see make demo.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/bin:$PWD/bin/cluster:$PATH
instance=${INSTANCE:-0}
started=$SECONDS

status=$(local-cluster status --instance="$instance")
KUBECONFIG=$(awk '$1 == "kubeconfig" { print $2; exit }' <<<"$status")
registry=$(awk '$1 == "registry" { print $2; exit }' <<<"$status")
export KUBECONFIG

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
tell() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() { # runs a command and shows it
  printf '%s$ %s%s\n' "$bold" "$*" "$plain"
  "$@"
}

work=$(mktemp -d)
watching=
finish() {
  [[ -z $watching ]] || kill "$watching" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
# upgrade waits for the end that is expected, and shows the way there.
upgrade() { # the arguments of kubectl wait
  kubectl get dbu shop --namespace=shop --watch &
  watching=$!
  kubectl wait dbu/shop --namespace=shop --timeout=180s "$@" >/dev/null || { kubectl describe dbu shop --namespace=shop; exit 1; }
  kill "$watching" && wait "$watching" 2>/dev/null || true
  watching=
  show kubectl get dbu shop --namespace=shop --output=wide
}
push() { images app --dir="hack/demo/$1" --command=/pause --push="$registry/shop:$1" --plain-http >/dev/null; }
release() { kubectl patch dbu shop --namespace=shop --type=merge --patch="{\"spec\":{\"migrations\":{\"image\":\"registry.local:5000/shop:$1\"}}}"; }
sql() { show kubectl exec --namespace=shop deploy/postgres -- psql --username=app --command="$1"; }
fails='{.status.conditions[?(@.type=="Ready")].reason}'

tell "The operator: its image is built without a container engine, and it is installed by kustomize"
images operator --platform=host --version=demo --push="$registry/dbupgrade-operator:local" --plain-http | tee "$work/pushed"
digest=$(sed -n 's/^pushed .*@//p' "$work/pushed")
# By digest, or a node that has seen the name before would run what it had then.
kubectl kustomize tests/stage/operator | sed "s|/dbupgrade-operator:local|/dbupgrade-operator@$digest|" >"$work/operator.yaml"
show kubectl apply --server-side --force-conflicts --filename="$work/operator.yaml"
show kubectl rollout status deployment/dbupgrade-controller-manager --namespace=dbupgrade-system --timeout=180s

tell "A team: a namespace that takes restricted pods only, with a PostgreSQL and the Secret of its URL"
images postgres --push="$registry/postgres:15" --plain-http
kubectl delete namespace shop --ignore-not-found --timeout=120s
show kubectl create namespace shop
show kubectl label namespace shop pod-security.kubernetes.io/enforce=restricted
show kubectl apply --server-side --namespace=shop --filename=tests/stage/postgres.yaml
show kubectl rollout status deployment/postgres --namespace=shop --timeout=180s

tell "A DBUpgrade names an image that nobody has pushed yet: it is Blocked, and says why"
show cat hack/demo/dbupgrade.yaml
show kubectl apply --namespace=shop --filename=hack/demo/dbupgrade.yaml
upgrade --for=condition=Blocked
show kubectl get dbu shop --namespace=shop --output=jsonpath='{.status.conditions[?(@.type=="Ready")].message}{"\n"}'

tell "The image v1 is pushed, and the next try asked for: it would come by itself in some seconds"
push v1
show kubectl annotate dbu shop --namespace=shop --overwrite dbupgrade.subbug.learning/retry="$(date +%s)"
upgrade --for=condition=Ready
sql '\d customers'

tell "Release v2 brings a second file"
push v2
release v2
upgrade --for=condition=Ready
sql '\d orders'

tell "Release v3 brings two files more, and a statement of the second fails: two customers have one address"
push v3
release v3
upgrade --for=jsonpath="$fails"=JobFailed
show kubectl describe dbu shop --namespace=shop
tell "The file that failed was rolled back; the one before it stays"
sql '\d customers'

tell "Release v4 mends the file: the upgrade goes on where it failed"
push v4
release v4
upgrade --for=condition=Ready
sql '\d customers'
sql 'SELECT version, description, applied, total, executed_at FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version'
show kubectl get events --namespace=shop --field-selector=involvedObject.kind=DBUpgrade

tell "Done in $((SECONDS - started)) s. The cluster stays up. To look around:"
cat <<EOF
  export KUBECONFIG=$KUBECONFIG PATH=$PWD/bin/cluster:\$PATH
  kubectl describe dbu shop -n shop
  kubectl explain dbu.spec
  kubectl get jobs,pods -n shop
  kubectl logs -n shop -l app.kubernetes.io/component=migration -c migrate
  kubectl exec -n shop -it deploy/postgres -- psql -U app
To remove the cluster and all that it left:
  make cluster-down
EOF
