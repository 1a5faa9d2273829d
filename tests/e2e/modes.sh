#!/usr/bin/env bash
# Each documented way to install the chart: it is installed, `helm test` makes a cluster that counts,
# and it goes without a trace but the definitions.
#
# Uses the cluster that `cluster.sh ensure` found or started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SYSTEM=multiraft-system
REGISTRY=${MULTIRAFT_REGISTRY:-localhost}
VERSION=$(scripts/install.sh version)
LOG=$(mktemp)
PASSED=0

main() {
  local own=${KUBECONFIG:+no} space
  eval "$(tests/e2e/cluster/cluster.sh env)"
  trap finish EXIT
  [[ $own = no ]] || scripts/install.sh images >"$LOG" 2>&1
  helm uninstall multiraft -n "$SYSTEM" --wait --ignore-not-found >>"$LOG" 2>&1
  for space in "$SYSTEM" modes-a modes-b; do
    kubectl create namespace "$space" --dry-run=client -o yaml | kubectl apply -f -
    kubectl label --overwrite namespace "$space" pod-security.kubernetes.io/enforce=restricted
  done >>"$LOG" 2>&1
  mode "for all namespaces" --set watch.scope=Cluster
  mode "for its own namespace" --set watch.scope=Own
  mode "for some namespaces" --set 'watch.scope=Namespaces,watch.namespaces={modes-a,modes-b}'
  mode "one operator, with a network policy, the definitions already there" \
    --set replicas=1,networkPolicy.enabled=true,crds.install=false,log.format=text
  echo "$PASSED tests passed"
}

mode() { # words, arguments of Helm…
  local words=$1 started=$SECONDS
  shift
  printf 'test the chart installs %s ... ' "$words"
  try "$@" >"$LOG" 2>&1 &
  wait "$!" || {
    echo FAILED
    tail -40 "$LOG"
    kubectl get mrc,pods -A || true
    exit 1
  }
  PASSED=$((PASSED + 1))
  echo "ok ($((SECONDS - started)) s)"
}

try() { # arguments of Helm…
  helm install multiraft charts/multiraft-operator -n "$SYSTEM" --wait --timeout 2m \
    --set image.repository="$REGISTRY/multiraft-operator",image.tag="$VERSION" \
    --set nodeImage.repository="$REGISTRY/multiraft-node" "$@"
  helm test multiraft -n "$SYSTEM" --timeout 4m
  # What the test made goes with it, the volume by its owner.
  gone pods,mrc,pvc -A -l 'multiraft.atomix.io/cluster'
  gone mrc,pods -A -l app.kubernetes.io/managed-by=Helm --field-selector metadata.namespace!="$SYSTEM"
  helm uninstall multiraft -n "$SYSTEM" --wait
  gone deployments,pods,poddisruptionbudgets,networkpolicies,roles,rolebindings -n "$SYSTEM"
  kubectl get clusterroles,clusterrolebindings -o name | { ! grep multiraft; }
  kubectl get crd multiraftclusters.multiraft.atomix.io raftpartitionslices.multiraft.atomix.io
}

gone() { # what to list…
  local left
  for _ in $(seq 60); do
    left=$(kubectl get "$@" -o name)
    [[ -n $left ]] || return 0
    sleep 1
  done
  echo "left behind: $left"
  return 1
}

finish() {
  local status=$?
  kubectl delete namespace modes-a modes-b --ignore-not-found --wait=false >/dev/null 2>&1 || true
  rm -f "$LOG"
  exit "$status"
}

main "$@"
