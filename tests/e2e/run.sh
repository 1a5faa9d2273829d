#!/usr/bin/env bash
# The whole system on a real Kubernetes: the chart by Helm, a cluster in a restricted namespace,
# commands, lost pods, refused manifests, an operator that dies at numbered calls.
#
# Uses the cluster that `cluster.sh ensure` found or started. MULTIRAFT_BIN: folder of the
# programs. CALLS: the calls before which the operator dies (default: 20 of them).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CLUSTER=tests/e2e/cluster/cluster.sh
BIN=${MULTIRAFT_BIN:-$(scripts/target.sh)/release}
VERSION=$(scripts/install.sh version)
REGISTRY=${MULTIRAFT_REGISTRY:-localhost}
CALLS=${CALLS:-$(seq -s ' ' 2 21)}
NAMESPACE=multiraft-e2e
WORK=$(mktemp -d)
PASSED=0

main() {
  OWN=${KUBECONFIG:+no}
  eval "$($CLUSTER env)"
  trap finish EXIT
  [[ $OWN = no ]] || run "images are built and loaded" scripts/install.sh images
  run "the chart installs" install_chart
  run "wrong manifests are refused by name of the field" wrong_manifests
  run "a manifest becomes a counting cluster" counting_cluster
  run "a cluster may not change what its keys hang on" wrong_changes
  run "three nodes become five and three again" scale_up_and_down
  run "a changed template reaches every pod" roll
  run "each pod is deleted in turn and comes back with all data" lost_pods
  if [[ $OWN != no ]]; then
    run "every command takes effect once while leaders are killed in their pods" with_history killed kill_leaders
    run "commands and a lost node go on without an API server, the status follows it" with_history stopped outage stop start
    run "the same while the API server accepts and says nothing" with_history frozen outage freeze thaw
  fi
  run "applying again changes nothing" apply_again
  run "an operator that dies at any call ends at the same plan" crashes
  echo "$PASSED tests passed"
}

run() { # claim, command…
  local started=$SECONDS
  printf 'test %s ... ' "$1"
  shift
  "$@" >"$WORK/log" 2>&1 &
  wait "$!" || {
    echo FAILED
    tail -60 "$WORK/log"
    kubectl get mrc,pods -A || true
    exit 1
  }
  PASSED=$((PASSED + 1))
  echo "ok ($((SECONDS - started)) s)$(sed -n 's/^FIGURE /, /p' "$WORK/log" | tr -d '\n')"
}

install_chart() {
  kubectl create namespace multiraft-system --dry-run=client -o yaml | kubectl apply -f -
  kubectl label --overwrite namespace multiraft-system pod-security.kubernetes.io/enforce=restricted
  scripts/install.sh operator
  restricted "$NAMESPACE"
}

restricted() { # namespace
  kubectl create namespace "$1" --dry-run=client -o yaml | kubectl apply -f -
  kubectl label --overwrite namespace "$1" pod-security.kubernetes.io/enforce=restricted
}

manifest() { # name, spec
  printf 'apiVersion: multiraft.atomix.io/v1beta1\nkind: MultiRaftCluster\nmetadata: {name: %s}\nspec: %s\n' "$1" "$2"
}

wrong_manifests() {
  local name spec words count=0
  while IFS='|' read -r name spec words; do
    [[ $name != \#* ]] || continue
    refused "$(trim "$words")" "$(manifest "$(trim "$name")" "$spec")"
    count=$((count + 1))
  done <tests/e2e/manifests.txt
  ((count == 20))
}

refused() { # words, manifest
  local said
  if said=$(kubectl apply -n "$NAMESPACE" --validate=strict --dry-run=server -f - <<<"$2" 2>&1); then
    echo "taken, which is wrong: $2"
    return 1
  fi
  [[ $said == *"$1"* ]] || { echo "refused without saying '$1': $said"; return 1; }
}

trim() { sed -E 's/^ +| +$//g' <<<"$1"; }

sample() { manifest orders "{replicas: 3, groups: 16, version: $VERSION, storage: {size: 1Gi}}"; }

in_pod() { # pod, arguments of the command line tool
  local pod=$1
  shift
  kubectl exec -n "$NAMESPACE" "$pod" -- multiraft --endpoints "127.0.0.1:5678" "$@"
}

counting_cluster() {
  sample | kubectl apply -n "$NAMESPACE" --validate=strict -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Ready --timeout=120s
  in_pod orders-0 counter set hits 41
  [[ $(in_pod orders-1 counter increment hits) = 42 ]]
  [[ $(in_pod orders-2 counter get hits) = 42 ]]
  in_pod orders-1 map put stock apples 7
  [[ $(kubectl get -n "$NAMESPACE" mrc orders -o jsonpath='{.status.groups.available}') = 16 ]]
  [[ $(kubectl get -n "$NAMESPACE" rps -o name | wc -l) = 1 ]]
}

wrong_changes() {
  refused "spec.groups: cannot change" "$(manifest orders "{replicas: 3, groups: 17, version: $VERSION, storage: {size: 1Gi}}")"
  refused "spec.storage.size: a volume cannot shrink" "$(manifest orders "{replicas: 3, groups: 16, version: $VERSION, storage: {size: 512Mi}}")"
  refused "spec.storage: cannot be added or removed" "$(manifest orders "{replicas: 3, groups: 16, version: $VERSION}")"
  # What nobody can do is said, not ignored.
  manifest orders "{replicas: 2, groups: 16, version: $VERSION, storage: {size: 1Gi}}" | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Stalled --timeout=30s
  kubectl get -n "$NAMESPACE" mrc orders -o jsonpath='{.status.conditions[?(@.type=="Stalled")].message}' | grep spec.replicas
  sample | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.observedGeneration}'="$(kubectl get -n "$NAMESPACE" mrc orders -o jsonpath='{.metadata.generation}')" --timeout=30s
}

# Ready at the present generation, with nothing under way.
settled() { # seconds
  local generation
  generation=$(kubectl get -n "$NAMESPACE" mrc orders -o jsonpath='{.metadata.generation}')
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.observedGeneration}'="$generation" --timeout=30s
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Ready --timeout="$1s"
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=FullyReplicated --timeout=30s
}

scaled() { # nodes
  local started=$SECONDS
  manifest orders "{replicas: $1, groups: 16, version: $VERSION, storage: {size: 1Gi}}" | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.replicas}'="$1" --timeout=300s
  settled 300
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Balanced --timeout=300s
  [[ $(kubectl get pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders -o name | wc -l) = "$1" ]]
  [[ $(kubectl get pvc -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders -o name | wc -l) = "$1" ]]
  [[ $(kubectl get -n "$NAMESPACE" mrc orders -o jsonpath='{.status.nodes[*].voters}' | tr ' ' '\n' | awk '{n += $1} END {print n}') = 48 ]]
  [[ $(in_pod orders-0 counter get hits) = 42 ]]
  echo "FIGURE to $1 nodes in $((SECONDS - started)) s"
}

scale_up_and_down() {
  scaled 5
  [[ $(in_pod orders-4 map get stock apples) = 7 ]]
  scaled 3
}

roll() {
  local before after started=$SECONDS
  before=$(kubectl get pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders -o jsonpath='{.items[*].metadata.uid}')
  manifest orders "{replicas: 3, groups: 16, version: $VERSION, storage: {size: 1Gi}, pod: {labels: {rolled: \"yes\"}}}" | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.updatedReplicas}'=3 --timeout=300s
  settled 300
  echo "FIGURE $((SECONDS - started)) s"
  after=$(kubectl get pods -n "$NAMESPACE" -l rolled=yes -o jsonpath='{.items[*].metadata.uid}')
  [[ $(wc -w <<<"$after") = 3 ]]
  [[ -z $(comm -12 <(tr ' ' '\n' <<<"$before" | sort) <(tr ' ' '\n' <<<"$after" | sort)) ]]
  [[ $(in_pod orders-0 counter get hits) = 42 ]]
  # Back again; the tests that follow know the first template.
  sample | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.updatedReplicas}'=3 --timeout=300s
  settled 300
}

lost_pods() {
  local slot uid
  for slot in 0 1 2; do
    uid=$(kubectl get -n "$NAMESPACE" pod "orders-$slot" -o jsonpath='{.metadata.uid}')
    kubectl delete pod -n "$NAMESPACE" "orders-$slot" --wait
    replaced "orders-$slot" "$uid"
    kubectl wait -n "$NAMESPACE" "pod/orders-$slot" --for=condition=Ready --timeout=60s
    kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Ready --timeout=60s
    [[ $(in_pod "orders-$slot" counter get hits) = 42 ]]
    [[ $(in_pod "orders-$slot" map get stock apples) = 7 ]]
  done
}

# Clients at work on a counter and a map of this name while a command runs; their history is checked.
with_history() { # name, command…
  NAME=$1
  ENDPOINTS=$(kubectl get pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders -o jsonpath='{range .items[*]}{.status.podIP}:5678{"\n"}{end}' | paste -sd,)
  "$BIN/multiraft-history" --endpoints "$ENDPOINTS" --name "$NAME" -- \
    bash -c "while [[ -d $WORK && ! -e $WORK/$NAME ]]; do sleep 0.1; done" &
  local history=$!
  shift
  "$@"
  touch "$WORK/$NAME"
  wait "$history"
}

# From this machine, not by kubectl: works without the API server, too.
multiraft() { "$BIN/multiraft" --endpoints "$ENDPOINTS" "$@"; }

acknowledged() { # more increments
  local wanted
  wanted=$(($(multiraft counter get "$NAME") + $1))
  for _ in $(seq 600); do
    (($(multiraft counter get "$NAME") < wanted)) || return 0
    sleep 0.1
  done
  echo "not $1 increments in a minute"
  return 1
}

# group, pod of its leader
leaders() { multiraft group list "$@" | awk 'NR > 1 {split($2, host, "."); print $1, host[1]}'; }

leading_pod() { leaders --of "$NAME" | cut -d' ' -f2; }

kill_leaders() {
  local pod
  for _ in 1 2 3; do
    acknowledged 500
    pod=$(leading_pod)
    $CLUSTER kill "$NAMESPACE" "$pod"
    acknowledged 500
    serving "$pod"
  done
  acknowledged 500
}

# Waits until a node that ended serves again, with or without the API server.
serving() { # pod
  local place=$((${1##*-} + 1))
  for _ in $(seq 600); do
    ! "$BIN/multiraft" --endpoints "$(cut -d, -f$place <<<"$ENDPOINTS")" --timeout 1s node info >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  echo "$1 did not come back"
  return 1
}

# A minute; a leader ends in the middle of it, so that the status has something to find out.
outage() { # fault, end of the fault
  local pod started
  $CLUSTER "apiserver-$1"
  sleep 20
  pod=$(leading_pod)
  $CLUSTER kill "$NAMESPACE" "$pod"
  acknowledged 20
  serving "$pod"
  sleep 30
  acknowledged 20
  $CLUSTER "apiserver-$2"
  started=$(date +%s%3N)
  eventually status_is_right || { leaders; kubectl get -n "$NAMESPACE" mrc,rps -o yaml; return 1; }
  echo "FIGURE status right $(($(date +%s%3N) - started)) ms after the API server's return"
  # Kubernetes' node controller doubts all nodes now, and with them their pods; we do not. Leaders may
  # move on, because the one that ended leads nothing yet.
  for _ in $(seq 20); do
    is_ready || { kubectl get -n "$NAMESPACE" mrc orders -o yaml; return 1; }
    sleep 1
  done
  eventually status_is_right || { leaders; kubectl get -n "$NAMESPACE" mrc,rps -o yaml; return 1; }
  kubectl wait nodes --all --for=condition=Ready --timeout=60s
  kubectl wait pods --all -n "$NAMESPACE" --for=condition=Ready --timeout=120s
}

# Within a minute.
eventually() { # command…
  local _
  for _ in $(seq 300); do
    ! "$@" || return 0
    sleep 0.2
  done
  return 1
}

is_ready() {
  [[ $(kubectl get --request-timeout=2s -n "$NAMESPACE" mrc orders -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}') = True ]]
}

# Ready, and every group's leader the one that the nodes tell of.
status_is_right() {
  local told
  told=$(kubectl get --request-timeout=2s -n "$NAMESPACE" rps -o jsonpath='{range .items[*].status.groups[*]}{.id} {.leader}{"\n"}{end}') &&
    is_ready &&
    diff <(sort <<<"$told") <(leaders | sort)
}

replaced() { # pod, uid that it had
  local now
  for _ in $(seq 300); do
    now=$(kubectl get -n "$NAMESPACE" pod "$1" -o jsonpath='{.metadata.uid}' 2>/dev/null || true)
    [[ -z $now || $now = "$2" ]] || return 0
    sleep 0.2
  done
  echo "pod $1 did not come back"
  return 1
}

apply_again() {
  local before after
  before=$(kubectl get -n "$NAMESPACE" mrc,rps,pods,pvc,svc,cm,pdb -o jsonpath='{range .items[*]}{.kind}{.metadata.name}{.metadata.generation}{"\n"}{end}')
  sample | kubectl diff -n "$NAMESPACE" -f -
  sample | kubectl apply -n "$NAMESPACE" -f -
  sleep 3
  after=$(kubectl get -n "$NAMESPACE" mrc,rps,pods,pvc,svc,cm,pdb -o jsonpath='{range .items[*]}{.kind}{.metadata.name}{.metadata.generation}{"\n"}{end}')
  [[ $before = "$after" ]]
}

# A fresh cluster per call, four at a time; each with operators of its own, run as processes here.
crashes() {
  # The installed operator would help out.
  kubectl scale -n multiraft-system deployment/multiraft-operator --replicas=0
  kubectl wait -n multiraft-system --for=delete pod -l app.kubernetes.io/name=multiraft-operator --timeout=60s
  local call pids=() pid
  for call in $CALLS; do
    crash_at "$call" >"$WORK/crash-$call" 2>&1 &
    pids+=("$!")
    if ((${#pids[@]} == 4)); then
      for pid in "${pids[@]}"; do wait "$pid" || { crash_logs; return 1; }; done
      pids=()
    fi
  done
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || { crash_logs; return 1; }; done
  kubectl scale -n multiraft-system deployment/multiraft-operator --replicas=2
}

crash_logs() { tail -n 15 "$WORK"/crash-*; }

crash_at() { # number of the call
  local space=multiraft-crash-$1 status=0
  restricted "$space"
  sample | kubectl apply -n "$space" -f -
  operator "$space" "$1" || status=$?
  ((status == 86)) || { echo "the operator ended with $status, not at call $1"; return 1; }
  operator "$space" 100000 &
  local pid=$!
  kubectl wait -n "$space" mrc/orders --for=condition=Ready --timeout=90s || status=1
  # The program below the shell that runs the function: the shell alone would leave it behind.
  pkill -TERM -P "$pid" || true
  wait "$pid" || true
  ((status == 86)) || return 1
  same_plan "$space"
  kubectl delete namespace "$space" --wait=false
}

# Runs until it dies at a call, or is ended.
operator() { # namespace, call
  MULTIRAFT_OPERATOR_EXIT_AT_CALL=$2 POD_NAME=operator timeout 120 "$BIN/multiraft-operator" \
    --watch-namespaces "$1" --lease-namespace "$1" --leader-elect=false --metrics-address 127.0.0.1:0 \
    --node-image "$REGISTRY/multiraft-node" --log-format text
}

# Every node holds every group of one and the same plan.
same_plan() { # namespace
  local planned slot address held
  planned=$(kubectl get -n "$1" rps -o jsonpath='{.items[*].spec.planHash}')
  for slot in 0 1 2; do
    address=$(kubectl get -n "$1" pod "orders-$slot" -o jsonpath='{.status.podIP}')
    held=$(grpcurl -plaintext "$address:5678" atomix.multiraft.v1.Node/GetInfo |
      jq -r '[.groups[].planHash] | "\(length) \(unique | join(","))"')
    [[ $held = "16 $planned" ]] || { echo "orders-$slot holds $held, not 16 groups of plan $planned"; return 1; }
    kubectl exec -n "$1" "orders-$slot" -- multiraft --endpoints 127.0.0.1:5678 counter increment hits
  done
}

finish() {
  local status=$?
  kubectl get namespaces -o name | sed -n 's,^namespace/\(multiraft-crash-[0-9]*\|'"$NAMESPACE"'\)$,\1,p' |
    xargs -r kubectl delete namespace --wait=false >/dev/null 2>&1 || true
  rm -rf "$WORK"
  exit "$status"
}

main "$@"
