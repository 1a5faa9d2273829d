# Two operators at once, each with a lease of its own, so that both believe that they lead. What keeps
# them from harm are the nodes: they refuse an epoch that is older than one that they have seen.
# shellcheck shell=bash

two_operators() {
  local rejected
  rival one
  rival two
  churn || { tail -n 30 "$WORK"/operator-*; end_rival one; end_rival two; return 1; }
  rejected=$(cat "$WORK"/operator-one "$WORK"/operator-two | grep -c "another operator took over" || true)
  # One of them ends: the other brings everything to where the spec wants it.
  end_rival one
  apply 3
  settled 300
  end_rival two
  whole 3
  echo "FIGURE $rejected calls of an older epoch refused"
  # One that is frozen between two passes learns of the new epoch in time.
  ((rejected > 0 || CHURN < 5))
}

# Starts one that takes the next epoch, whoever else acts.
rival() { # name
  operator "$NAMESPACE" 1000000 --lease-name="$1" --identity="$1" >>"$WORK/operator-$1" 2>&1 &
  echo "$!" >"$WORK/pid-$1"
}

end_rival() { end_operator "$(<"$WORK/pid-$1")"; }

# The program itself, below the shells that wait for it.
program_of() { pgrep -f "^$BIN/multiraft-operator .*--identity=$1$"; }

# CHURN minutes of it; ends with what the spec asks for under way.
churn() {
  local end=$((SECONDS + 60 * CHURN))
  while ((SECONDS < end)); do
    new_template
    apply 4 || return 1
    usurp || return 1
    sleep 5
    kubectl delete pod -n "$NAMESPACE" "orders-$((RANDOM % 3))" --ignore-not-found --wait=false || return 1
    usurp || return 1
    sleep 5
    new_template
    apply 3 || return 1
    usurp || return 1
    sleep 5
  done
}

# In the midst of what it does, one operator is frozen; the other begins anew with a higher epoch, and
# acts. The first goes on where it was, with the epoch that it had.
usurp() {
  local frozen leading
  sleep "$((1 + RANDOM % 3)).$((RANDOM % 10))"
  frozen=$(program_of one) || { echo "operator one ended"; return 1; }
  leading=$(grep -c "leading" "$WORK/operator-two")
  kill -STOP "$frozen"
  end_rival two
  rival two
  within 20 leads_again "$leading" || { kill -CONT "$frozen"; return 1; }
  sleep 2
  kill -CONT "$frozen"
}

leads_again() { (($(grep -c "leading" "$WORK/operator-two") > $1)); } # how often it began to
