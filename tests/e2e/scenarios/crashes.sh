# The operator dies before numbered calls, one life after the other, and a last one lives.
# shellcheck shell=bash

# The calls before which the lives end; each life counts its own. Of a procedure with many calls, five
# places that lie more and more apart. Of all calls: lives of one, two and three in turn, because a life
# that only asks whether it may do something does not come any further.
LIVES=${LIVES:-2 3 5 8 13}

crash_scale_up() {
  crashing apply 4
  whole 4
}

crash_scale_down() {
  crashing apply 3
  whole 3
}

crash_roll() {
  new_template
  crashing apply 3
  whole 3
}

crash_replace() {
  local claim
  claim=$(claim_uid orders-2)
  ALSO=(holds_all_on_another orders-2 "$claim")
  crashing kubectl delete pvc -n "$NAMESPACE" data-orders-2 --wait=false
  whole 3
}

# What must hold beside the status for a change to be done.
ALSO=(true)

holds_all_on_another() { # pod, uid that its claim had
  another_claim "$1" "$2" && holds_all "$1"
}

# The installed operator is away while a change is asked for; then come the lives.
crashing() { # command that asks for a change
  local calls call lives=0 outcome pid
  read -ra calls <<<"$LIVES"
  "$@"
  while [[ ${calls[lives]:-} || ${CRASHES:-} = all ]]; do
    call=${calls[lives]:-$((2 + lives % 3))} outcome=0
    life "$call" || outcome=$?
    ((outcome == 0)) || break
    lives=$((lives + 1))
  done
  ((outcome < 2)) || return 1
  ((lives > 0)) || { echo "the operator never died: the change was done before"; return 1; }
  echo "FIGURE $lives crashes"
  operator "$NAMESPACE" 1000000 &
  pid=$!
  done_changing || { end_operator "$pid"; return 1; }
  settled 300
  end_operator "$pid"
}

# One life: 0 when it ended at its call, 1 when there is nothing left to do, 2 when something is wrong.
life() { # call before which it ends
  local pid status=0
  operator "$NAMESPACE" "$1" &
  pid=$!
  for _ in $(seq 900); do
    if ! kill -0 "$pid" 2>/dev/null; then
      wait "$pid" || status=$?
      ((status != 86)) || return 0
      echo "the operator ended with $status, not at call $1"
      return 2
    fi
    ! is_done || { end_operator "$pid"; return 1; }
    sleep 0.3
  done
  end_operator "$pid"
  echo "the operator neither died nor came to an end"
  return 2
}

done_changing() { within 300 is_done; }

# By the status of this generation, written after all was done.
is_done() {
  "${ALSO[@]}" && kubectl get -n "$NAMESPACE" mrc orders -o json | jq -e '
    (.metadata.generation == .status.observedGeneration)
    and ([.status.conditions[] | select(.type == "Ready" or .type == "FullyReplicated") | .status] == ["True", "True"])
    and (.spec.replicas == .status.replicas) and (.status.updatedReplicas == .status.replicas)
    and (.status.operation == null)' >/dev/null
}

without_installed_operator() { # command…
  installed_operator 0
  operator_rights
  lease_rights "$NAMESPACE"
  "$@"
  installed_operator 2
}
