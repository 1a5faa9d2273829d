#!/usr/bin/env bash
# TLS on a real Kubernetes: clusters of the user's own certificates and of cert-manager's, commands with
# and without the right to them, renewal without a restart, and TLS switched on under load.
#
# Uses the cluster that `cluster.sh ensure` found or started, with the images loaded. MULTIRAFT_BIN:
# folder of the programs. TLS_TESTS=long switches it off again, too, straight from Strict to Disabled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CLUSTER=tests/e2e/cluster/cluster.sh
BIN=${MULTIRAFT_BIN:-$(scripts/target.sh)/release}
VERSION=$(scripts/install.sh version)
REGISTRY=${MULTIRAFT_REGISTRY:-localhost}
NAMESPACE=multiraft-tls
SYSTEM=multiraft-system
WORK=$(mktemp -d)
PASSED=0
export NAMESPACE

main() {
  eval "$($CLUSTER env)"
  trap finish EXIT
  certificate_authority ca
  run "an operator without a certificate says so, and goes on when it has one" strict_from_the_start
  run "clients get in by their certificates, and by those only" callers
  run "certificates are renewed under load, and nothing restarts" renewal
  run "TLS is switched on under load" switch_on
  [[ ${TLS_TESTS:-} != long ]] || run "a mode that cuts a node off is taken back" cut_off
  [[ ${TLS_TESTS:-} != long ]] || run "TLS is switched off by way of Permissive" switch_off
  if [[ -x $(scripts/setup.sh bin)/cert-manager ]]; then
    run "cert-manager issues and renews the certificates of a strict cluster" tests/e2e/cert-manager.sh
  fi
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
    kubectl get -n "$NAMESPACE" mrc -o yaml | sed -n '/^  status:/,$p' || true
    exit 1
  }
  PASSED=$((PASSED + 1))
  echo "ok ($((SECONDS - started)) s)$(sed -n 's/^FIGURE /, /p' "$WORK/log" | tr -d '\n')"
}

# --- certificates ---------------------------------------------------------------

certificate_authority() { # name
  openssl ecparam -name prime256v1 -genkey -noout -out "$WORK/$1.key"
  openssl req -x509 -key "$WORK/$1.key" -out "$WORK/$1.crt" -days 30 -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
}

# Makes a Secret, or puts other certificates into it.
secret() { # namespace, name, days, alternative names
  local folder=$WORK/$1-$2
  mkdir -p "$folder"
  openssl ecparam -name prime256v1 -genkey -noout -out "$folder/tls.key"
  openssl req -new -key "$folder/tls.key" -subj "/CN=$2" |
    openssl x509 -req -CA "$WORK/ca.crt" -CAkey "$WORK/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days "$3" \
      -out "$folder/tls.crt" -extfile <(printf 'extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=%s\n' "$4") 2>/dev/null
  cp "$WORK/ca.crt" "$folder/ca.crt"
  kubectl create secret generic -n "$1" "$2" --from-file="$folder" --dry-run=client -o yaml | kubectl apply -f -
}

nodes_secret() { # cluster, days
  secret "$NAMESPACE" "$1-tls" "$2" \
    "URI:multiraft://$1.$NAMESPACE/node/$1,DNS:$1,DNS:$1.$NAMESPACE.svc,DNS:*.$1-peers.$NAMESPACE.svc"
}

operator_secret() { # days
  secret "$SYSTEM" operator-tls "$1" "URI:multiraft://multiraft-operator/operator/test"
}

client_secret() { # name, identity
  secret "$NAMESPACE" "$1" 30 "URI:multiraft://$2"
}

# --- clusters and clients -------------------------------------------------------

manifest() { # name, mode
  printf 'apiVersion: multiraft.atomix.io/v1beta1\nkind: MultiRaftCluster\nmetadata: {name: %s}\n' "$1"
  printf 'spec: {replicas: 3, groups: 4, version: %s, storage: {size: 1Gi}, tls: {mode: %s, secretName: %s-tls}}\n' "$VERSION" "$2" "$1"
}

apply() { manifest "$@" | kubectl apply -n "$NAMESPACE" --validate=strict -f -; }

# The pod of a client, with certificates of several kinds and the load.
client_pod() {
  local name mounts= volumes=
  for name in "$@"; do
    mounts+="{name: $name, mountPath: /$name, readOnly: true}, "
    volumes+="{name: $name, secret: {secretName: $name, defaultMode: 0440}}, "
  done
  kubectl apply -n "$NAMESPACE" -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: shop
      image: $REGISTRY/multiraft-node:$VERSION
      command: [sleep, infinity]
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts: [$mounts{name: work, mountPath: /work}]
  volumes: [$volumes{name: work, emptyDir: {}}]
YAML
  kubectl wait -n "$NAMESPACE" pod/shop --for=condition=Ready --timeout=60s
  in_shop sh -c 'cat >/work/history && chmod +x /work/history' <"$BIN/multiraft-history"
}

in_shop() { kubectl exec -i -n "$NAMESPACE" shop -- "$@"; }

# The command line tool, with a certificate.
ask() { # folder, cluster, arguments…
  local folder=$1 cluster=$2
  shift 2
  in_shop multiraft --endpoints "$cluster:5678" --timeout 10s --tls-ca "$folder/ca.crt" --tls-cert "$folder/tls.crt" --tls-key "$folder/tls.key" "$@" </dev/null
}

refused() { # words, command…
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then
    echo "done, which is wrong: $*"
    return 1
  fi
  [[ $said == *"$words"* ]] || { echo "refused without saying '$words': $said"; return 1; }
}

# Clients at work while a command runs; none of their calls fails.
under_load() { # cluster, name of the load, options of the load, command…
  local cluster=$1 name=$2 options=$3 history endpoints
  shift 3
  endpoints=$(printf "$cluster-%d.$cluster-peers.$NAMESPACE.svc:5678," 0 1 2)
  # shellcheck disable=SC2086
  in_shop /work/history --endpoints "${endpoints%,}" --name "$name" --clients 4 $options -- \
    sh -c "touch /work/$name-runs; until [ -e /work/$name-ends ]; do sleep 0.1; done" </dev/null >"$WORK/$name" 2>&1 &
  history=$!
  until in_shop test -e "/work/$name-runs" </dev/null; do
    kill -0 "$history" || { cat "$WORK/$name"; return 1; }
    sleep 0.2
  done
  "$@"
  in_shop touch "/work/$name-ends" </dev/null
  wait "$history" || { tail -20 "$WORK/$name"; return 1; }
  tail -5 "$WORK/$name"
}

condition() { # cluster, type, field
  kubectl get -n "$NAMESPACE" mrc "$1" -o jsonpath="{.status.conditions[?(@.type==\"$2\")].$3}"
}

eventually() { # seconds, command…
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || { echo "not in time: $*"; return 1; }
    sleep 0.3
  done
}

is_reason() { [[ $(condition "$1" "$2" reason) = "$3" ]]; } # cluster, type, reason

# Ready at the present generation, with all pods of a mode.
settled() { # cluster, mode
  local generation
  generation=$(kubectl get -n "$NAMESPACE" mrc "$1" -o jsonpath='{.metadata.generation}')
  kubectl wait -n "$NAMESPACE" "mrc/$1" --for=jsonpath='{.status.observedGeneration}'="$generation" --timeout=30s
  kubectl wait -n "$NAMESPACE" "mrc/$1" --for=condition=Ready --timeout=240s
  [[ $(modes "$1") = "${2/Disabled/}" ]] || { echo "modes: $(modes "$1")"; return 1; }
}

modes() { # cluster
  kubectl get pods -n "$NAMESPACE" -l "multiraft.atomix.io/cluster=$1" \
    -o jsonpath='{range .items[*]}{.metadata.annotations.multiraft\.atomix\.io/tls-mode}{"\n"}{end}' | sort -u | tr -d '\n'
}

# Uid and restarts of every pod that a cluster depends on.
lives() { # cluster
  { kubectl get pods -n "$NAMESPACE" -l "multiraft.atomix.io/cluster=$1" -o json; kubectl get pods -n "$SYSTEM" -o json; } |
    jq -r '.items[] | [.metadata.name, .metadata.uid, (.status.containerStatuses[].restartCount | tostring)] | join(" ")' | sort
}

# --- tests ----------------------------------------------------------------------

strict_from_the_start() {
  kubectl create namespace "$NAMESPACE" --dry-run=client -o yaml | kubectl apply -f -
  kubectl label --overwrite namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted
  scripts/install.sh operator "$SYSTEM"
  nodes_secret orders 2
  apply orders Strict
  eventually 60 is_reason orders Stalled OperatorCertificateMissing
  is_reason orders CertificatesReady OperatorCertificateMissing
  condition orders Stalled message | grep tls.secretName
  operator_secret 2
  scripts/install.sh operator "$SYSTEM" --set tls.secretName=operator-tls
  settled orders Strict
  is_reason orders CertificatesReady CertificatesValid
  [[ $(kubectl get -n "$NAMESPACE" mrc orders -o jsonpath='{.status.tls.cluster}') = "orders.$NAMESPACE" ]]
}

callers() {
  client_secret writer "orders.$NAMESPACE/writer/shop"
  client_secret reader "orders.$NAMESPACE/reader/shop"
  client_secret stranger "orders.elsewhere/admin/shop"
  client_secret operator "multiraft-operator/operator/shop"
  client_pod writer reader stranger operator
  ask /writer orders counter set hits 41
  [[ $(ask /writer "orders-1.orders-peers.$NAMESPACE.svc" counter increment hits) = 42 ]]
  [[ $(ask /reader "orders.$NAMESPACE.svc" counter get hits) = 42 ]]
  refused "is for role writer or admin" ask /reader orders counter increment hits
  refused "names nobody in this cluster" ask /stranger orders counter get hits
  refused "is for role" ask /operator orders counter get hits
  ask /operator orders node list
  refused "takes TLS only" in_shop multiraft --endpoints orders:5678 --timeout 5s counter get hits
  refused "wants a certificate of ours" in_shop multiraft --endpoints orders:5678 --timeout 5s --tls-ca /writer/ca.crt counter get hits
}

renewal() {
  local before
  before=$(lives orders)
  under_load orders renewed "--tls /writer" renew
  diff <(echo "$before") <(lives orders)
  [[ $(ask /reader orders counter get hits) = 42 ]]
}

renew() {
  local old started=$SECONDS
  old=$(condition orders CertificatesReady message)
  nodes_secret orders 20
  operator_secret 20
  # Kubelet looks at once when the pod changes; else within a minute or so.
  kubectl annotate pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders --overwrite "touched=$SECONDS"
  kubectl annotate pods -n "$SYSTEM" --all --overwrite "touched=$SECONDS"
  eventually 120 is_renewed "$old"
  echo "FIGURE new certificates in use on all nodes after $((SECONDS - started)) s"
}

# The message speaks of the node whose certificate ends first.
is_renewed() { # message before
  local now
  now=$(condition orders CertificatesReady message)
  [[ $now == *"3 nodes are good until"* && $now != "$1" ]]
}

switch_on() {
  kubectl delete -n "$NAMESPACE" mrc/orders --wait=false
  nodes_secret invoices 20
  apply invoices Disabled
  settled invoices Disabled
  [[ -z $(condition invoices CertificatesReady status) ]]
  client_secret shop "invoices.$NAMESPACE/writer/shop"
  kubectl delete pod -n "$NAMESPACE" shop --wait
  client_pod shop
  local started=$SECONDS
  under_load invoices plain "" to_mode Permissive
  echo "FIGURE Permissive after $((SECONDS - started)) s"
  started=$SECONDS
  under_load invoices secure "--tls /shop" to_mode Strict
  echo "FIGURE Strict after $((SECONDS - started)) s"
  refused "takes TLS only" in_shop multiraft --endpoints invoices:5678 --timeout 5s counter get hits
}

to_mode() { # mode
  apply invoices "$1"
  settled invoices "$1"
}

# Certificates that name no host: in Permissive mode all go on in plain text, the first node that is
# Strict is heard of by nobody.
cut_off() {
  ask /shop invoices counter set hits 41
  # Nodes that are Strict still would not take these: the old ones stay until none is.
  secret "$NAMESPACE" nameless-tls 20 "URI:multiraft://invoices.$NAMESPACE/node/invoices"
  apply_nameless Permissive
  settled invoices Permissive
  apply_nameless Strict
  eventually 90 is_cut_off
  [[ $(modes invoices) = PermissiveStrict ]]
  [[ $(kubectl exec -n "$NAMESPACE" invoices-0 -- multiraft --endpoints "$(permissive_pod):5678" --timeout 20s counter increment hits) = 42 ]]
  apply_nameless Permissive
  settled invoices Permissive
}

is_cut_off() { [[ $(condition invoices NodesConnected message) == *"its certificate does not name"* ]]; }

apply_nameless() { # mode
  manifest invoices "$1" | sed 's/invoices-tls/nameless-tls/' | kubectl apply -n "$NAMESPACE" --validate=strict -f -
}

permissive_pod() {
  kubectl get pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=invoices -o json |
    jq -r '[.items[] | select(.metadata.annotations["multiraft.atomix.io/tls-mode"] == "Permissive")][0].status.podIP'
}

switch_off() {
  # Back to certificates that name hosts.
  to_mode Strict
  ask /shop invoices counter set hits 42
  local seen=$WORK/modes watcher
  while sleep 0.5; do modes invoices; echo; done >"$seen" &
  watcher=$!
  to_mode Disabled
  kill "$watcher"
  sort -u "$seen"
  grep -qx Permissive "$seen"
  [[ $(in_shop multiraft --endpoints invoices:5678 counter get hits </dev/null) = 42 ]]
}

finish() {
  local status=$?
  kubectl delete namespace "$NAMESPACE" --wait=false >/dev/null 2>&1 || true
  rm -rf "$WORK"
  exit "$status"
}

main "$@"
