#!/usr/bin/env bash
# TLS on a real Kubernetes: clusters of the user's own certificates and of cert-manager's, commands with
# and without the right to them, renewal without a restart, and TLS switched on under load.
#
# Uses the cluster that `cluster.sh ensure` found or started. MULTIRAFT_BIN: folder of the programs.
# TLS_TESTS=long switches it off again, too, straight from Strict to Disabled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for part in lib tls/certificates tls/clients tls/cert-manager; do
  # shellcheck source=/dev/null
  source "tests/e2e/$part.sh"
done
NAMESPACE=multiraft-tls

main() {
  begin
  certificate_authority ca
  run "an operator without a certificate says so, and goes on when it has one" strict_from_the_start
  run "clients get in by their certificates, and by those only" callers
  run "certificates are renewed under load, and nothing restarts" renewal
  run "TLS is switched on under load" switch_on
  [[ ${TLS_TESTS:-} != long ]] || run "a mode that cuts a node off is taken back" cut_off
  [[ ${TLS_TESTS:-} != long ]] || run "TLS is switched off by way of Permissive" switch_off
  if [[ -x $(scripts/setup.sh bin)/cert-manager ]]; then
    run "cert-manager issues and renews the certificates of a strict cluster" cert_manager
  fi
  echo "$PASSED tests passed"
}

strict_from_the_start() {
  space "$NAMESPACE"
  scripts/install.sh operator "$SYSTEM"
  nodes_secret orders 2
  apply orders Strict
  eventually is_reason orders Stalled OperatorCertificateMissing
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
  before=$(all_lives orders)
  under_load orders renewed "--tls /writer" renew
  diff <(echo "$before") <(all_lives orders)
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
  within 120 is_renewed orders "$old"
  echo "FIGURE new certificates in use on all nodes after $((SECONDS - started)) s"
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
  within 90 is_cut_off
  [[ $(modes invoices) = PermissiveStrict ]]
  [[ $(kubectl exec -n "$NAMESPACE" invoices-0 -- multiraft --endpoints "$(permissive_pod):5678" --timeout 20s counter increment hits) = 42 ]]
  apply_nameless Permissive
  settled invoices Permissive
}

is_cut_off() { [[ $(condition invoices NodesConnected message) == *"its certificate does not name"* ]]; }

apply_nameless() { # mode
  secured invoices "$1" | sed 's/invoices-tls/nameless-tls/' | kubectl apply -n "$NAMESPACE" --validate=strict -f -
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

main "$@"
