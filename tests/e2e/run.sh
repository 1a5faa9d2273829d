#!/usr/bin/env bash
# The whole system on a real Kubernetes: the chart by Helm, a cluster in a restricted namespace,
# commands, lost pods, refused manifests, an operator that dies at numbered calls.
#
# Uses the cluster that `cluster.sh ensure` found or started. MULTIRAFT_BIN: folder of the
# programs. CALLS: the calls of a first formation before which the operator dies (default: 20 of them).
# The rest of the scenarios, and all of them as a table: scenarios.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for part in lib orders load scenarios/changes scenarios/losses scenarios/crashes scenarios/quiet; do
  # shellcheck source=/dev/null
  source "tests/e2e/$part.sh"
done

CALLS=${CALLS:-$(seq -s ' ' 2 21)}

main() {
  begin
  run "the chart installs" install_chart
  run "wrong manifests are refused by name of the field" wrong_manifests
  run "a manifest becomes a counting cluster" counting_cluster
  run "a cluster may not change what its keys hang on" wrong_changes
  run "three nodes become five and three again under load" under_load scale scale_up_and_down
  run "a changed template reaches every pod under load" under_load roll roll
  run "a drained node waits for its machine, and no other may be evicted" under_load drain drain_one
  if [[ $OWN = no ]]; then
    run "every command takes effect once while leaders are killed in their pods" under_load killed kill_leaders
    run "commands and a lost node go on without an API server, the status follows it" under_load stopped outage stop start
    run "the same while the API server accepts and says nothing" under_load frozen outage freeze thaw
    LOAD_MACHINE=n1
    run "a node whose machine is lost is replaced by itself" under_load node-lost node_lost
  fi
  run "a node whose claim is deleted is replaced by itself" under_load claim claim_deleted
  run "each pod is deleted in turn and comes back with all data" lost_pods
  run "an operator that dies five times still adds a node" under_load crash-scale-up without_installed_operator crash_scale_up
  run "applying again changes nothing" apply_again 4
  run "an operator that dies at any call ends at the same plan" crashes
  echo "$PASSED tests passed"
}

wrong_manifests() {
  local name spec words count=0
  while IFS='|' read -r name spec words; do
    [[ $name != \#* ]] || continue
    not_taken "$(trim "$words")" "$(manifest "$(trim "$name")" "$spec")"
    count=$((count + 1))
  done <tests/e2e/manifests.txt
  ((count == 20))
}

not_taken() { # words, manifest
  refused "$1" kubectl apply -n "$NAMESPACE" --validate=strict --dry-run=server -f - <<<"$2" || {
    echo "$2"
    return 1
  }
}

wrong_changes() {
  not_taken "spec.groups: cannot change" "$(manifest orders "{replicas: 3, groups: 17, version: $VERSION, storage: {size: 1Gi}}")"
  not_taken "spec.storage.size: a volume cannot shrink" "$(manifest orders "{replicas: 3, groups: 16, version: $VERSION, storage: {size: 512Mi}}")"
  not_taken "spec.storage: cannot be added or removed" "$(manifest orders "{replicas: 3, groups: 16, version: $VERSION}")"
  # What nobody can do is said, not ignored.
  apply 2
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Stalled --timeout=30s
  of_cluster '{.status.conditions[?(@.type=="Stalled")].message}' | grep spec.replicas
  apply 3
  settled 60
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

# Leaders of the counter that clients increment.
kill_leaders() {
  local pod
  addresses
  for _ in 1 2 3; do
    acknowledged 100
    pod=$(leading_pod)
    $CLUSTER kill "$NAMESPACE" "$pod"
    acknowledged 100
    serving "$pod"
  done
  acknowledged 100
}

# A minute; a leader ends in the middle of it, so that the status has something to find out.
outage() { # fault, end of the fault
  local pod started
  addresses
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
  # Kubernetes doubts all machines now, and with them their pods; we do not. Leaders may move on, because the
  # one that ended leads nothing yet.
  stays_ready 20
  eventually status_is_right || { leaders; kubectl get -n "$NAMESPACE" mrc,rps -o yaml; return 1; }
  doubts_end
}

# Ready, and every group's leader the one that the nodes tell of.
status_is_right() {
  local told
  told=$(kubectl get --request-timeout=2s -n "$NAMESPACE" rps -o jsonpath='{range .items[*].status.groups[*]}{.id} {.leader}{"\n"}{end}') &&
    is_ready &&
    diff <(sort <<<"$told") <(leaders | sort)
}

# A fresh cluster per call, four at a time; each with operators of its own, run as processes here.
crashes() {
  # The installed operator would help out.
  installed_operator 0
  operator_rights
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
  installed_operator 2
}

crash_logs() { tail -n 15 "$WORK"/crash-*; }

crash_at() { # number of the call
  local space=multiraft-crash-$1 status=0
  space "$space"
  lease_rights "$space"
  sample | kubectl apply -n "$space" -f -
  operator "$space" "$1" || status=$?
  ((status == 86)) || { echo "the operator ended with $status, not at call $1"; return 1; }
  operator "$space" 100000 &
  local pid=$!
  kubectl wait -n "$space" mrc/orders --for=condition=Ready --timeout=90s || status=1
  end_operator "$pid"
  ((status == 86)) || return 1
  same_plan "$space"
  kubectl delete namespace "$space" --wait=false
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

main "$@"
