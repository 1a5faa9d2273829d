#!/usr/bin/env bash
# The main job from nothing: set-up, a local Kubernetes, the chart, a manifest, commands, a node
# killed, the same count. What is done already is skipped.
#
#   KEEP=1 scripts/demo.sh    leave the Kubernetes and the cluster in it
#
# KUBECONFIG, when set, names the Kubernetes to use instead; its nodes must be able to pull the
# images named by MULTIRAFT_REGISTRY (such as registry.example.com/multiraft).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

SAMPLE=config/samples/minimal.yaml
OPERATOR_NAMESPACE=multiraft-system
INCREMENTS=100

main() {
  LOGS=$(scripts/target.sh)/demo-logs
  BIN=$(scripts/target.sh)/release
  mkdir -p "$LOGS"
  trap finish EXIT
  STEP=begin

  step "set-up" "1 s when done before, 20 minutes at first" scripts/setup.sh kube
  step "programs" "10 s when built before, 8 minutes at first" cargo build --release --locked --workspace --bins
  OWN_KUBERNETES=${KUBECONFIG:+no}
  step "Kubernetes" "10 s" tests/e2e/cluster/cluster.sh ensure
  eval "$(tests/e2e/cluster/cluster.sh env)"
  [[ $OWN_KUBERNETES = no ]] || step "images" "5 s when built before, 2 minutes at first" scripts/install.sh images
  step "operator, by Helm" "10 s" scripts/install.sh operator "$OPERATOR_NAMESPACE"
  step "manifest $SAMPLE" "10 s" apply
  NAME=$(kubectl get -f "$SAMPLE" -o jsonpath='{.metadata.name}')
  forward
  step "$INCREMENTS increments" "2 s" count
  before=$(multiraft counter get demo)
  step "SIGKILL of node $NAME-0, and it comes back" "30 s" kill_node
  after=$(multiraft counter get demo)
  show
}

apply() {
  kubectl apply -f "$SAMPLE"
  kubectl wait --for=condition=Ready --timeout=3m -f "$SAMPLE"
}

# A port of a node that lives on, for the rest of the demo.
forward() {
  kubectl port-forward "pod/$NAME-1" :5678 >"$LOGS/forward.log" 2>&1 &
  FORWARD=$!
  local port=
  for _ in $(seq 100); do
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$LOGS/forward.log")
    [[ -z $port ]] || break
    sleep 0.1
  done
  [[ -n $port ]] || { cat "$LOGS/forward.log"; return 1; }
  export MULTIRAFT_ENDPOINTS=127.0.0.1:$port
}

multiraft() { "$BIN/multiraft" "$@"; }

count() {
  local n
  multiraft counter set demo 0
  for ((n = 0; n < INCREMENTS; n++)); do multiraft counter increment demo; done
}

# The process from outside of its pod; in a Kubernetes of the user's own, the pod without grace.
kill_node() {
  local before
  if [[ $OWN_KUBERNETES = no ]]; then
    before=$(restarts)
    tests/e2e/cluster/cluster.sh kill "$(kubectl get -f "$SAMPLE" -o jsonpath='{.metadata.namespace}')" "$NAME-0"
    multiraft counter get demo
    kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=$((before + 1)) --timeout=60s "pod/$NAME-0"
  else
    kubectl delete pod "$NAME-0" --grace-period=0 --force
    multiraft counter get demo
    kubectl wait --for=create --timeout=60s "pod/$NAME-0"
  fi
  kubectl wait --for=condition=Ready --timeout=2m "pod/$NAME-0"
  kubectl wait --for=condition=Ready --timeout=2m -f "$SAMPLE"
}

restarts() { kubectl get pod "$NAME-0" -o jsonpath='{.status.containerStatuses[0].restartCount}'; }

show() {
  echo
  kubectl get mrc
  echo
  kubectl get -f "$SAMPLE" -o jsonpath='{range .status.conditions[*]}{.type}{"\t"}{.status}{"\t"}{.reason}{"\n"}{end}' | expand -t 20
  echo
  echo "counter before the kill: $before, after it: $after"
  [[ $before = "$INCREMENTS" && $after = "$before" ]]
}

step() { # name, usual time, command…
  STEP=$1
  local started=$SECONDS log="$LOGS/${1//[^a-z]/-}.log"
  printf '%s (usually %s) … ' "$1" "$2"
  shift 2
  # In the background, since bash ignores failures inside of a function that is tested by ||.
  "$@" >"$log" 2>&1 &
  wait "$!" || {
    echo "failed; all of $log:"
    tail -40 "$log"
    exit 1
  }
  echo "$((SECONDS - started)) s"
}

finish() {
  local status=$?
  [[ -z ${FORWARD:-} ]] || kill "$FORWARD" 2>/dev/null || true
  ((status == 0)) || echo "the demo stopped at: $STEP"
  if [[ ${KEEP:-0} = 1 ]]; then
    echo "left as it is; eval \"\$(tests/e2e/cluster/cluster.sh env)\" to look around, make cluster-down to end it"
  elif [[ ${OWN_KUBERNETES:-} = no ]]; then
    kubectl delete --ignore-not-found -f "$SAMPLE" >"$LOGS/down.log" 2>&1 || true
    helm uninstall multiraft --namespace "$OPERATOR_NAMESPACE" >>"$LOGS/down.log" 2>&1 || true
  else
    tests/e2e/cluster/cluster.sh down >"$LOGS/down.log" 2>&1 || true
  fi
  echo "$SECONDS s in all"
  exit "$status"
}

main "$@"
