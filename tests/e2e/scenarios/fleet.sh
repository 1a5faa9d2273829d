# How soon clusters are Ready, and what very many groups cost the operator.
# shellcheck shell=bash

# Clusters of 1,024 groups, and nodes of each.
FLEET=${FLEET:-10}
FLEET_NODES=${FLEET_NODES:-1}

# From `kubectl apply` to Ready, with the images on every machine.
sizes() {
  local groups
  for groups in 16 100 1024; do
    ready_after "sized-$groups" 3 "$groups"
    kubectl delete -n "$NAMESPACE" mrc "sized-$groups"
    within 60 none pods -n "$NAMESPACE" -l "multiraft.atomix.io/cluster=sized-$groups"
  done
}

# The operator's share is what passes from the last pod's being ready to the condition.
ready_after() { # cluster, nodes, groups
  local started pods ready cpu
  cpu=$(cpu_ms)
  started=$(now_ms)
  manifest "$1" "{replicas: $2, groups: $3, version: $VERSION, storage: {size: 1Gi, retention: {whenDeleted: Delete}}}" |
    kubectl apply -n "$NAMESPACE" -f -
  when_pods_ready "$1" "$2" >"$WORK/pods-ready" &
  kubectl wait -n "$NAMESPACE" "mrc/$1" --for=condition=Ready --timeout=300s
  ready=$(now_ms)
  wait "$!"
  pods=$(<"$WORK/pods-ready")
  echo "FIGURE $2 nodes x $3 groups: $((ready - started)) ms, of these the operator's $((ready - pods)), its processor time $(($(cpu_ms) - cpu)) ms, status $(size_of "mrc/$1") bytes"
}

when_pods_ready() { # cluster, nodes
  local selector=multiraft.atomix.io/cluster=$1
  until [[ $(kubectl get pods -n "$NAMESPACE" -l "$selector" -o name | wc -l) = "$2" ]]; do sleep 0.1; done
  kubectl wait -n "$NAMESPACE" pods -l "$selector" --for=condition=Ready --timeout=300s >&2
  now_ms
}

now_ms() { date +%s%3N; }

# More groups than anybody has, one cluster after another, and then nothing happens.
fleet() {
  local cluster before cpu writes
  for cluster in $(seq "$FLEET"); do
    ready_after "fleet-$cluster" "$FLEET_NODES" 1024
  done | sed 's/^FIGURE //'
  sleep 30
  before=$(audited)
  cpu=$(cpu_ms)
  sleep "$QUIET"
  writes=$(writes_since "$before")
  cpu=$(($(cpu_ms) - cpu))
  echo "FIGURE $((FLEET * 1024)) groups: operators $(operators_rss) MB resident, $((cpu / QUIET)) millicores and $writes API writes in $QUIET idle seconds"
  seq -f "mrc/fleet-%g" "$FLEET" | xargs kubectl delete -n "$NAMESPACE" --wait=false
  for cluster in $(seq "$FLEET"); do within 60 none pods -n "$NAMESPACE" -l "multiraft.atomix.io/cluster=fleet-$cluster"; done
  [[ $writes = 0 ]]
}

# Of all operators together; they are processes of this machine.
cpu_ms() {
  local process sum=0
  for process in $(pgrep -x multiraft-opera); do
    sum=$((sum + $(awk '{print ($14 + $15) * 10}' "/proc/$process/stat")))
  done
  echo "$sum"
}

operators_rss() {
  local process
  for process in $(pgrep -x multiraft-opera); do
    awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$process/status"
  done | sort -n | paste -sd+ | sed 's/+/ + /'
}
