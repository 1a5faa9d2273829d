# What people ask for: more nodes, fewer nodes, another template, a machine for repair.
# shellcheck shell=bash

scaled() { # nodes
  local started=$SECONDS
  apply "$1"
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.replicas}'="$1" --timeout=300s
  settled 300
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Balanced --timeout=300s
  whole "$1"
  echo "FIGURE to $1 nodes in $((SECONDS - started)) s"
}

scale_up_and_down() {
  scaled 5
  scaled 3
}

# A changed template; every pod is another one afterwards.
roll() {
  local before after
  before=$(pods -o jsonpath='{.items[*].metadata.uid}')
  rolled
  after=$(pods -o jsonpath='{.items[*].metadata.uid}')
  [[ $(wc -w <<<"$after") = 3 ]]
  [[ -z $(comm -12 <(tr ' ' '\n' <<<"$before" | sort) <(tr ' ' '\n' <<<"$after" | sort)) ]]
  whole 3
}

rolled() {
  new_template
  apply 3
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.observedGeneration}'="$(of_cluster '{.metadata.generation}')" --timeout=60s
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.updatedReplicas}'=3 --timeout=300s
  settled 300
  [[ $(pods -l "multiraft.atomix.io/cluster=orders,template=$(template)" -o name | wc -l) = 3 ]]
}

# --- drains ---------------------------------------------------------------------

drain_each() {
  local machine
  for machine in $(machines); do drained "$machine"; done
}

drain_one() { drained "$(machine_of orders-1)"; }

machines() { kubectl get nodes -o jsonpath='{.items[*].metadata.name}'; }

# Volumes are on the machine. So the drained node's pod comes back as one that waits for its machine,
# and until then no other node may be evicted, here or anywhere.
drained() { # machine
  local pod uid
  pod=$(pods --field-selector="spec.nodeName=$1" -o jsonpath='{.items[*].metadata.name}')
  [[ $(wc -w <<<"$pod") = 1 ]] || { echo "machine $1 has '$pod', not one node of the cluster"; return 1; }
  uid=$(of_pod "$pod" '{.metadata.uid}')
  kubectl drain "$1" --ignore-daemonsets --delete-emptydir-data --pod-selector='app!=multiraft-load' --timeout=180s
  replaced "$pod" "$uid"
  eventually waits_for_machine "$pod"
  for other in $(pods -o jsonpath='{.items[*].metadata.name}'); do
    [[ $other = "$pod" ]] || may_not_be_evicted "$other"
  done
  kubectl uncordon "$1"
  kubectl wait -n "$NAMESPACE" "pod/$pod" --for=condition=Ready --timeout=120s
  settled 120
  whole 3
}

waits_for_machine() { # pod
  [[ $(of_pod "$1" '{.status.conditions[?(@.type=="PodScheduled")].reason}') = Unschedulable ]]
}

may_not_be_evicted() { # pod
  local said
  if said=$(evict "$1" 2>&1); then
    echo "$1 was evicted while another node is away"
    return 1
  fi
  [[ $said == *"disruption budget"* ]] || { echo "$said"; return 1; }
}

evict() { # pod
  kubectl create -f - --raw "/api/v1/namespaces/$NAMESPACE/pods/$1/eviction" <<JSON
{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "$1", "namespace": "$NAMESPACE"}}
JSON
}
