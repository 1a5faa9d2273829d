#!/usr/bin/env bash
# cert-manager's certificates on a real Kubernetes, called by tls.sh: a strict cluster waits for them,
# is Ready with them, and goes on with every renewed one without a restart. So does the operator.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CLUSTER=tests/e2e/cluster/cluster.sh
VERSION=$(scripts/install.sh version)
NAMESPACE=${NAMESPACE:-multiraft-tls}
SYSTEM=multiraft-system
# The shortest that cert-manager takes.
LIFE=1h

main() {
  eval "$($CLUSTER env)"
  told_when_it_is_missing
  $CLUSTER cert-manager
  authority
  operator_certificate
  strict_cluster
  renewal
  gone_with_tls
}

manifest() { # tls
  printf 'apiVersion: multiraft.atomix.io/v1beta1\nkind: MultiRaftCluster\nmetadata: {name: issued}\n'
  printf 'spec: {replicas: 3, groups: 4, version: %s, storage: {size: 1Gi}, tls: %s}\n' "$VERSION" "$1"
}

STRICT="{mode: Strict, certManager: {issuerRef: {name: multiraft-ca, kind: ClusterIssuer}, duration: $LIFE}}"

condition() { # type, field
  kubectl get -n "$NAMESPACE" mrc issued -o jsonpath="{.status.conditions[?(@.type==\"$1\")].$2}"
}

eventually() { # seconds, command…
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || { echo "not in time: $*"; return 1; }
    sleep 0.3
  done
}

says() { [[ $(condition "$1" "$2") == *"$3"* ]]; } # type, field, words

told_when_it_is_missing() {
  kubectl get crd certificates.cert-manager.io >/dev/null 2>&1 && return
  manifest "$STRICT" | kubectl apply -n "$NAMESPACE" --validate=strict -f -
  eventually 60 says CertificatesReady message "cert-manager is not installed"
  says Ready status False
}

# Of ClusterIssuers the controllers look for Secrets in kube-system. One of an earlier run stays: what it
# issued, it issued to the operator, too.
authority() {
  local folder
  kubectl get secret -n kube-system multiraft-ca >/dev/null 2>&1 && return
  folder=$(mktemp -d)
  openssl ecparam -name prime256v1 -genkey -noout -out "$folder/tls.key"
  openssl req -x509 -key "$folder/tls.key" -out "$folder/tls.crt" -days 30 -subj "/CN=multiraft-ca" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
  kubectl create secret tls -n kube-system multiraft-ca --cert="$folder/tls.crt" --key="$folder/tls.key" --dry-run=client -o yaml | kubectl apply -f -
  rm -rf "$folder"
  kubectl apply -f - <<'YAML'
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: multiraft-ca}
spec: {ca: {secretName: multiraft-ca}}
YAML
}

operator_certificate() {
  scripts/install.sh operator "$SYSTEM" --set tls.issuerRef.name=multiraft-ca,tls.issuerRef.kind=ClusterIssuer
  kubectl wait -n "$SYSTEM" certificate/multiraft-operator --for=condition=Ready --timeout=60s
}

strict_cluster() {
  local started=$SECONDS
  manifest "$STRICT" | kubectl apply -n "$NAMESPACE" --validate=strict -f -
  kubectl wait -n "$NAMESPACE" certificate/issued-nodes --for=condition=Ready --timeout=60s
  kubectl wait -n "$NAMESPACE" mrc/issued --for=condition=Ready --timeout=240s
  says CertificatesReady reason CertificatesValid
  echo "FIGURE Ready after $((SECONDS - started)) s"
}

lives() {
  kubectl get pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=issued -o json |
    jq -r '.items[] | [.metadata.name, .metadata.uid, (.status.containerStatuses[].restartCount | tostring)] | join(" ")' | sort
}

renewal() {
  local before old started=$SECONDS
  before=$(lives)
  old=$(condition CertificatesReady message)
  # What `cmctl renew` does.
  kubectl get -n "$NAMESPACE" certificate/issued-nodes -o json |
    jq --arg now "$(date -u +%FT%TZ)" '.status.conditions += [{type: "Issuing", status: "True", reason: "ManuallyTriggered", message: "a test", lastTransitionTime: $now}]' |
    kubectl replace --subresource=status -f -
  eventually 60 is_revision 2
  kubectl annotate pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=issued --overwrite "touched=$SECONDS"
  eventually 120 is_renewed "$old"
  diff <(echo "$before") <(lives)
  kubectl wait -n "$NAMESPACE" mrc/issued --for=condition=Ready --timeout=30s
  echo "FIGURE renewed on all nodes after $((SECONDS - started)) s, nothing restarted"
}

is_revision() { [[ $(kubectl get -n "$NAMESPACE" certificate/issued-nodes -o jsonpath='{.status.revision}') = "$1" ]]; }

is_renewed() { # message before
  local now
  now=$(condition CertificatesReady message)
  [[ $now == *"3 nodes are good until"* && $now != "$1" ]]
}

gone_with_tls() {
  kubectl delete -n "$NAMESPACE" mrc/issued --wait
  eventually 30 gone
}

gone() { [[ -z $(kubectl get -n "$NAMESPACE" certificate -o name) ]]; }

main "$@"
