# What is lost and replaced by itself: a machine, a volume, what is on it.
# shellcheck shell=bash

# The machine of a node loses its power and stays away for longer than `nodeLostAfter`. With three
# nodes on three machines the new one stands beside another, on one of the two that are left.
node_lost() {
  local pod machine uid claim started
  apply 3 ', replacement: {nodeLostAfter: 20s}'
  settled 60
  read -r pod machine < <(lost_candidate)
  uid=$(of_pod "$pod" '{.metadata.uid}')
  claim=$(claim_uid "$pod")
  started=$SECONDS
  $CLUSTER node-stop "${machine#n}"
  within 180 is_another "$pod" "$uid"
  within 180 holds_all "$pod"
  settled 180
  echo "$pod was on $machine with claim $claim, is on $(machine_of "$pod") with $(claim_uid "$pod")"
  [[ $(machine_of "$pod") != "$machine" && $(claim_uid "$pod") != "$claim" ]]
  whole 3
  echo "FIGURE whole again $((SECONDS - started)) s after the power cut"
  $CLUSTER node-start "${machine#n}"
  kubectl wait node "$machine" --for=condition=Ready --timeout=120s
  stays_ready 10
  whole 3
}

# A node's pod and machine that neither the load nor this machine's way to Services needs.
lost_candidate() {
  pods -o jsonpath='{range .items[*]}{.metadata.name} {.spec.nodeName}{"\n"}{end}' | grep -v ' n1$' | tail -1
}

# A node that shares its machine with another goes to a machine of its own by this.
claim_deleted() {
  local pod claim started=$SECONDS
  pod=$(crowded)
  claim=$(claim_uid "$pod")
  kubectl delete pvc -n "$NAMESPACE" "data-$pod" --wait=false
  within 120 another_claim "$pod" "$claim"
  within 120 holds_all "$pod"
  settled 180
  whole 3
  echo "FIGURE whole again $((SECONDS - started)) s after the claim was deleted"
}

another_claim() { # pod, uid that its claim had
  local now
  now=$(claim_uid "$1" || true)
  [[ -n $now && $now != "$2" ]]
}

# A pod on the machine that has the most of them.
crowded() {
  pods -o jsonpath='{range .items[*]}{.spec.nodeName} {.metadata.name}{"\n"}{end}' |
    awk '{n[$1]++; pod[$1] = $2} END {for (m in n) print n[m], pod[m]}' | sort -rn | awk 'NR == 1 {print $2}'
}

# All files of a node are deleted, and its process with them: it starts as a node that nobody knows.
wiped() {
  local pod=orders-1 before volume started=$SECONDS
  before=$(incarnation "$pod")
  volume=$(kubectl get -n "$NAMESPACE" pvc "data-$pod" -o jsonpath='{.spec.volumeName}')
  find "$RUN"/n*/volumes/"$volume" -mindepth 1 -delete
  $CLUSTER kill "$NAMESPACE" "$pod"
  within 120 another_incarnation "$pod" "$before"
  within 120 holds_all "$pod"
  settled 180
  whole 3
  echo "FIGURE whole again $((SECONDS - started)) s after the files were deleted"
}

incarnation() { # pod
  kubectl get -n "$NAMESPACE" pvc "data-$1" -o jsonpath='{.metadata.annotations.multiraft\.atomix\.io/incarnation}'
}

another_incarnation() { # pod, incarnation that it had
  [[ $(incarnation "$1") != "$2" ]]
}
