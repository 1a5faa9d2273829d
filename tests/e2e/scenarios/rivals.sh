# Two operators at once, each with a lease of its own, so that both believe that they lead. What keeps
# them from harm are the nodes: they refuse an epoch that is older than one that they have seen.
# shellcheck shell=bash

# Minutes of churn.
CHURN=${CHURN:-1}

two_operators() {
  local pids=() name rejected
  for name in one two; do
    operator "$NAMESPACE" 1000000 --lease-name="$name" --identity="$name" >"$WORK/operator-$name" 2>&1 &
    pids+=("$!")
  done
  churn || { tail -30 "$WORK"/operator-*; for name in "${pids[@]}"; do end_operator "$name"; done; return 1; }
  for name in "${pids[@]}"; do kill -0 "$name" || { echo "an operator ended"; return 1; }; done
  rejected=$(cat "$WORK"/operator-one "$WORK"/operator-two | grep -c "another operator took over" || true)
  for name in one two; do
    grep -q "leading" "$WORK/operator-$name" || { echo "operator $name never led"; return 1; }
  done
  # One of them ends: the other brings everything to where the spec wants it.
  end_operator "${pids[0]}"
  apply 3
  settled 300
  end_operator "${pids[1]}"
  whole 3
  echo "FIGURE $rejected calls of an older epoch refused"
  # Each takes a higher epoch as soon as a node tells of one, so that a minute may pass without any.
  ((rejected > 0 || CHURN < 5))
}

# Ends with what the spec asks for under way.
churn() {
  local end=$((SECONDS + 60 * CHURN))
  while ((SECONDS < end)); do
    new_template
    apply 4 || return 1
    sleep 10
    kubectl delete pod -n "$NAMESPACE" "orders-$((RANDOM % 3))" --wait=false || return 1
    sleep 10
    new_template
    apply 3 || return 1
    sleep 10
  done
}
