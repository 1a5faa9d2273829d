# The cluster `orders` of run.sh and scenarios.sh: its manifest, its pods, its data, and operators of the
# tests' own.
# shellcheck shell=bash

install_chart() {
  restricted "$SYSTEM"
  scripts/install.sh operator
  # A Kubernetes that was found may run an earlier build of the same version.
  kubectl rollout restart -n "$SYSTEM" deployment/multiraft-operator
  kubectl rollout status -n "$SYSTEM" deployment/multiraft-operator --timeout=120s
  space "$NAMESPACE"
}

# The cluster of the tests. What else its spec says goes behind a comma: `sample 3 ', paused: true'`.
sample() { # nodes, rest of the spec
  manifest orders "{replicas: ${1:-3}, groups: 16, version: $VERSION, storage: {size: 1Gi}, pod: {labels: {template: $(template)}}${2:-}}"
}

# A label of the pods: by another one all of them are made anew. Tests run as processes of their own.
template() { cat "$WORK/template" 2>/dev/null || echo first; }
new_template() { echo "t$RANDOM" >"$WORK/template"; }

apply() { # nodes, rest of the spec
  sample "$@" | kubectl apply -n "$NAMESPACE" -f -
}

of_cluster() { kubectl get -n "$NAMESPACE" mrc orders -o jsonpath="$1"; }
of_pod() { kubectl get -n "$NAMESPACE" pod "$1" -o jsonpath="$2" 2>/dev/null; }
claim_uid() { kubectl get -n "$NAMESPACE" pvc "data-$1" -o jsonpath='{.metadata.uid}' 2>/dev/null; }
machine_of() { of_pod "$1" '{.spec.nodeName}'; }
pods() { kubectl get pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders "$@"; }

in_pod() { # pod, arguments of the command line tool
  local pod=$1
  shift
  kubectl exec -n "$NAMESPACE" "$pod" -- multiraft --endpoints "127.0.0.1:5678" "$@"
}

# A cluster with 42 hits and 7 apples, by which lost data would be noticed.
counting_cluster() {
  sample | kubectl apply -n "$NAMESPACE" --validate=strict -f -
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=Ready --timeout=120s
  in_pod orders-0 counter set hits 41
  [[ $(in_pod orders-1 counter increment hits) = 42 ]]
  [[ $(in_pod orders-2 counter get hits) = 42 ]]
  in_pod orders-1 map put stock apples 7
  [[ $(of_cluster '{.status.groups.available}') = 16 ]]
  [[ $(kubectl get -n "$NAMESPACE" rps -o name | wc -l) = 1 ]]
}

# --- waiting --------------------------------------------------------------------

# Ready at the present generation, fully replicated, with nothing under way.
settled() { # seconds
  reconciled orders "$1"
  kubectl wait -n "$NAMESPACE" mrc/orders --for=condition=FullyReplicated --timeout=60s
}

is_ready() { [[ $(word_of_ready) = True ]]; }

# A read that the API server does not answer in time says nothing of the cluster.
stays_ready() { # seconds
  local end=$((SECONDS + $1)) word
  while ((SECONDS < end)); do
    word=$(word_of_ready) || word=True
    [[ $word = True ]] || { of_cluster '{.status.conditions}'; return 1; }
    sleep 1
  done
}

# After an outage Kubernetes' node controller doubts all machines, and with them their pods. A kubelet learns of
# that by a watch that it tries to open less and less often while nobody answers: a minute and more.
doubts_end() {
  kubectl wait nodes --all --for=condition=Ready --timeout=180s || { kubectl describe nodes; return 1; }
  kubectl wait pods --all -n "$NAMESPACE" --for=condition=Ready --timeout=180s
}

word_of_ready() {
  kubectl get --request-timeout=2s -n "$NAMESPACE" mrc orders -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'
}

# All pods, claims and members of so many nodes, and the data.
whole() { # nodes
  within 60 counted "$1" || { counts; of_cluster '{.status}'; return 1; }
  [[ $(in_pod orders-0 counter get hits) = 42 ]]
  [[ $(in_pod "orders-$(($1 - 1))" map get stock apples) = 7 ]]
}

counted() { [[ $(counts) = "$1 $1 48" ]]; }

# Pods, claims, and members of groups as the nodes tell of them: the status may be older.
counts() {
  local address members=0
  for address in $(pods -o jsonpath='{.items[*].status.podIP}'); do
    members=$((members + $(members_at "$address")))
  done
  echo "$(pods -o name | wc -l) $(kubectl get pvc -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders -o name | wc -l) $members"
}

members_at() { # address
  grpcurl -plaintext -max-time 2 "$1:5678" atomix.multiraft.v1.Node/GetInfo 2>/dev/null |
    jq '[.groups[]? | select(.phase | endswith("READY"))] | length' | grep . || echo 0
}

replaced() { # pod, uid that it had
  within "${3:-60}" is_another "$1" "$2"
}

is_another() { # pod, uid that it had
  local now
  now=$(of_pod "$1" '{.metadata.uid}' || true)
  [[ -n $now && $now != "$2" ]]
}

# By the word of the node itself, not of the status, which comes later.
holds_all() { # pod
  [[ $(members_at "$(of_pod "$1" '{.status.podIP}')") = 16 ]]
}

# --- operators as processes -----------------------------------------------------

# A kubeconfig with the rights that the chart gives to its operator, and no others.
operator_rights() {
  local token
  token=$(kubectl create token multiraft-operator -n "$SYSTEM" --duration=6h)
  kubectl config view --raw --minify --flatten -o json |
    jq --arg token "$token" '.users[0].user = {token: $token}' >"$WORK/operator.kubeconfig"
}

# The chart gives its operator one lease in one namespace; a process of ours has its own.
lease_rights() { # namespace
  kubectl create role lease -n "$1" --verb=get,create,update --resource=leases.coordination.k8s.io --dry-run=client -o yaml | kubectl apply -f -
  kubectl create rolebinding lease -n "$1" --role=lease --serviceaccount="$SYSTEM:multiraft-operator" --dry-run=client -o yaml | kubectl apply -f -
}

# Runs until it dies at a call, or is ended.
operator() { # namespace, call, arguments…
  local namespace=$1 call=$2
  shift 2
  KUBECONFIG=$WORK/operator.kubeconfig MULTIRAFT_OPERATOR_EXIT_AT_CALL=$call POD_NAME=operator timeout 1800 "$BIN/multiraft-operator" \
    --watch-namespaces "$namespace" --lease-namespace "$namespace" --leader-elect=false --metrics-address 127.0.0.1:0 \
    --node-image "$REGISTRY/multiraft-node" --log-format text "$@"
}

# The program below the shell that runs the function: the shell alone would leave it behind.
end_operator() { # process
  pkill -TERM -P "$1" || true
  wait "$1" || true
}

installed_operator() { # replicas
  kubectl scale -n "$SYSTEM" deployment/multiraft-operator --replicas="$1"
  if (($1)); then
    kubectl rollout status -n "$SYSTEM" deployment/multiraft-operator --timeout=120s
  else
    kubectl wait -n "$SYSTEM" --for=delete pod -l app.kubernetes.io/name=multiraft-operator --timeout=60s
  fi
}
