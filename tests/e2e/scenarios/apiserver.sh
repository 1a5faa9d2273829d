# The API server stands still: it accepts connections and says nothing.
# shellcheck shell=bash

# Seconds of standstill.
STALL=${STALL:-200}

api_server_stalls() {
  local thawed
  addresses
  operator_addresses
  watches_work
  $CLUSTER apiserver-freeze
  sleep "$STALL"
  acknowledged 20
  $CLUSTER apiserver-thaw
  thawed=$(date +%s%3N)
  within 120 watches_work
  echo "FIGURE watches back $(($(date +%s%3N) - thawed)) ms after the thaw"
  doubts_end
  settled 120
}

operator_addresses() {
  OPERATORS=$(kubectl get pods -n "$SYSTEM" -l app.kubernetes.io/name=multiraft-operator -o jsonpath='{.items[*].status.podIP}')
}

operator_metric() { # address, name
  curl -sf -m 2 "http://$1:8080/metrics" | sed -n "s/^multiraft_operator_$2 //p"
}

# Every operator answers, none of its watches fails, and each has listed everything since the thaw:
# the API server has answered a probe, and nothing was marked as failing by it.
watches_work() {
  local address
  for address in $OPERATORS; do
    [[ $(operator_metric "$address" watches_failing) = 0 ]] || return 1
  done
  sees_a_change
}

# The leader follows watches of its own: a pod's change reaches it as a new status, or a pass.
sees_a_change() {
  local before
  before=$(passes)
  kubectl annotate --request-timeout=2s --overwrite -n "$NAMESPACE" mrc/orders "test=$RANDOM" >/dev/null || return 1
  for _ in $(seq 10); do
    (($(passes) <= before)) || return 0
    sleep 0.1
  done
  return 1
}

# Passes over clusters that every operator made; the leader's rise.
passes() {
  local address sum=0
  for address in $OPERATORS; do
    sum=$((sum + $(operator_metric "$address" 'passes_total{result="Ok"}' | grep . || echo 0)))
  done
  echo "$sum"
}
