# What the operator does when there is nothing to do, and what it is allowed to do.
# shellcheck shell=bash

# Seconds without a write.
QUIET=${QUIET:-60}

apply_again() { # nodes
  local before after
  before=$(of_cluster '{.metadata.generation}')$(generations)
  sample "$1" | kubectl diff -n "$NAMESPACE" -f -
  sample "$1" | kubectl apply -n "$NAMESPACE" -f -
  sleep 3
  after=$(of_cluster '{.metadata.generation}')$(generations)
  [[ $before = "$after" ]]
}

generations() {
  kubectl get -n "$NAMESPACE" rps,pods,pvc,svc,cm,pdb,networkpolicies -l multiraft.atomix.io/cluster=orders -o jsonpath='{range .items[*]}{.kind}{.metadata.name}{.metadata.generation}{"\n"}{end}'
}

# A settled cluster under load: commands alone give the operator nothing to write.
idle() {
  local before writes
  settled 120
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Balanced --timeout=120s
  # What scenarios before this one left to be told is told.
  sleep 20
  before=$(audited)
  sleep "$QUIET"
  writes=$(writes_since "$before")
  echo "FIGURE $writes API writes in $QUIET s, status of the cluster $(size_of mrc/orders) bytes, of its slice $(size_of rps/orders-0) bytes"
  [[ $writes = 0 ]] || { tail -n "+$((before + 1))" "$AUDIT" | jq -c '[.verb, .objectRef, .requestURI]'; return 1; }
}

size_of() { # object
  kubectl get -n "$NAMESPACE" "$1" -o json | jq -c .status | tr -d '\n' | wc -c
}

# All that the installed operator and its processes asked for, against what the chart allows.
rights() {
  {
    kubectl get clusterrole multiraft-operator -o json
    kubectl get role -n "$SYSTEM" multiraft-operator-lease -o json
  } | tests/e2e/scenarios/rights.py "$AUDIT" "$SYSTEM"
}
