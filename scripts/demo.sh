#!/usr/bin/env bash
# The main job from nothing: set-up, a local Kubernetes, the chart, a manifest; then, while a client
# counts without a pause, one node more, a drained machine, a roll of all pods, a killed node; and the
# count is right. What is done already is skipped. On a terminal each change is shown live.
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
CLIENT=demo-client

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
  step "a client that counts" "5 s" start_client
  live "one node more" edit '{"spec": {"replicas": 4}}'
  [[ $OWN_KUBERNETES = no ]] || live "a drain of a machine, which comes back" drain
  live "a roll of all pods to another template" edit '{"spec": {"pod": {"labels": {"demo": "rolled"}}}}'
  live "SIGKILL of node $NAME-0" kill_node
  show
}

apply() {
  kubectl apply -f "$SAMPLE"
  kubectl wait --for=condition=Ready --timeout=3m -f "$SAMPLE"
}

# Inside of the cluster, as an application would be. /tmp/count has: increments, failures, longest wait
# for one in ms.
start_client() {
  kubectl delete pod "$CLIENT" --ignore-not-found --now
  kubectl run "$CLIENT" --restart=Never --image "$(node_image)" --env MULTIRAFT_ENDPOINTS="$NAME:5678" --command -- sh -c '
    n=0 failed=0 longest=0
    multiraft counter set demo 0
    while [ ! -e /tmp/stop ]; do
      before=$(date +%s%3N)
      if multiraft counter increment demo >/dev/null; then n=$((n + 1)); else failed=$((failed + 1)); fi
      took=$(($(date +%s%3N) - before))
      [ "$took" -le "$longest" ] || longest=$took
      echo "$n $failed $longest" >/tmp/new && mv /tmp/new /tmp/count
    done
    sleep 600'
  kubectl wait --for=condition=Ready --timeout=1m "pod/$CLIENT"
  until in_client cat /tmp/count; do sleep 1; done
}

in_client() { kubectl exec "$CLIENT" -- "$@"; }

node_image() { kubectl get pod "$NAME-0" -o jsonpath='{.spec.containers[0].image}'; }

edit() { kubectl patch mrc "$NAME" --type merge -p "$1"; }

# One with a single node: a second one may go only when the first is back, and its volume keeps that one
# waiting for this machine. Only our pod: whatever else is on the machine stays.
drain() {
  local ours=multiraft.atomix.io/cluster="$NAME" machine
  machine=$(kubectl get pods -l "$ours" -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort | uniq -u | head -1)
  kubectl drain "$machine" --pod-selector="$ours" --timeout=2m
  kubectl uncordon "$machine"
}

# The process from outside of its pod; in a Kubernetes of the user's own, the pod without grace.
kill_node() {
  if [[ $OWN_KUBERNETES = no ]]; then
    kubectl delete pod "$NAME-0" --grace-period=0 --force
  else
    tests/e2e/cluster/cluster.sh kill "$(kubectl get -f "$SAMPLE" -o jsonpath='{.metadata.namespace}')" "$NAME-0"
  fi
  kubectl wait --for=condition=Ready=False --timeout=1m mrc "$NAME"
}

show() {
  local n failed longest
  in_client touch /tmp/stop
  sleep 2
  read -r n failed longest < <(in_client cat /tmp/count)
  echo
  kubectl get mrc
  echo
  "$BIN/multiraft" cluster status "$NAME"
  echo
  echo "$n increments were acknowledged, $failed failed, the longest took $longest ms"
  echo "the counter says $(in_client multiraft counter get demo)"
  [[ $failed = 0 && $(in_client multiraft counter get demo) = "$n" ]]
}

# A change, and what the operator does about it.
live() { # name, command…
  STEP=$1
  local started=$SECONDS log="$LOGS/${1//[^a-z]/-}.log"
  printf '\n%s\n' "$1"
  shift
  "$@" >"$log" 2>&1 &
  wait "$!" || { tail -40 "$log"; exit 1; }
  timeout 300 "$BIN/multiraft" cluster watch "$NAME" --until-ready
  echo "$STEP: $((SECONDS - started)) s; $(in_client cat /tmp/count | cut -d' ' -f1,2 | sed 's/ / increments, /') failed"
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
  ((status == 0)) || echo "the demo stopped at: $STEP"
  if [[ ${KEEP:-0} = 1 ]]; then
    echo "left as it is; eval \"\$(tests/e2e/cluster/cluster.sh env)\" to look around, make cluster-down to end it"
  elif [[ ${OWN_KUBERNETES:-} = no ]]; then
    kubectl delete --ignore-not-found --now pod "$CLIENT" >"$LOGS/down.log" 2>&1 || true
    kubectl delete --ignore-not-found -f "$SAMPLE" >>"$LOGS/down.log" 2>&1 || true
    helm uninstall multiraft --namespace "$OPERATOR_NAMESPACE" >>"$LOGS/down.log" 2>&1 || true
  else
    tests/e2e/cluster/cluster.sh down >"$LOGS/down.log" 2>&1 || true
  fi
  echo "$SECONDS s in all"
  exit "$status"
}

main "$@"
