# cert-manager's certificates: a strict cluster waits for them, is Ready with them, and goes on with every
# renewed one without a restart. So does the operator.
# shellcheck shell=bash

# The shortest that cert-manager takes.
LIFE=1h

cert_manager() {
  told_when_it_is_missing
  $CLUSTER cert-manager
  authority
  operator_certificate
  strict_cluster
  renewal_of_issued
  gone_with_tls
}

STRICT="{mode: Strict, certManager: {issuerRef: {name: multiraft-ca, kind: ClusterIssuer}, duration: $LIFE}}"

issued() {
  manifest issued "{replicas: 3, groups: 4, version: $VERSION, storage: {size: 1Gi}, tls: $STRICT}" |
    kubectl apply -n "$NAMESPACE" --validate=strict -f -
}

says() { [[ $(condition issued "$1" "$2") == *"$3"* ]]; } # type, field, words

told_when_it_is_missing() {
  kubectl get crd certificates.cert-manager.io >/dev/null 2>&1 && return
  issued
  eventually says CertificatesReady message "cert-manager is not installed"
  says Ready status False
}

# Of ClusterIssuers the controllers look for Secrets in kube-system. One of an earlier run stays: what it
# issued, it issued to the operator, too.
authority() {
  kubectl get secret -n kube-system multiraft-ca >/dev/null 2>&1 && return
  certificate_authority multiraft-ca
  kubectl create secret tls -n kube-system multiraft-ca --cert="$WORK/multiraft-ca.crt" --key="$WORK/multiraft-ca.key"
  kubectl apply -f - <<'YAML'
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: multiraft-ca}
spec: {ca: {secretName: multiraft-ca}}
YAML
}

operator_certificate() {
  scripts/install.sh operator "$SYSTEM" --set tls.issuerRef.name=multiraft-ca,tls.issuerRef.kind=ClusterIssuer
  eventually is_issued "$SYSTEM" multiraft-operator
}

# kubectl's own waiting fails on an object that has no conditions yet.
is_issued() { # namespace, certificate
  [[ $(kubectl get -n "$1" certificate "$2" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}') = True ]]
}

strict_cluster() {
  local started=$SECONDS
  issued
  eventually is_issued "$NAMESPACE" issued-nodes
  kubectl wait -n "$NAMESPACE" mrc/issued --for=condition=Ready --timeout=240s
  says CertificatesReady reason CertificatesValid
  echo "FIGURE Ready after $((SECONDS - started)) s"
}

renewal_of_issued() {
  local before old started=$SECONDS
  before=$(all_lives issued)
  old=$(condition issued CertificatesReady message)
  # What `cmctl renew` does.
  kubectl get -n "$NAMESPACE" certificate/issued-nodes -o json |
    jq --arg now "$(date -u +%FT%TZ)" '.status.conditions += [{type: "Issuing", status: "True", reason: "ManuallyTriggered", message: "a test", lastTransitionTime: $now}]' |
    kubectl replace --subresource=status -f -
  eventually is_revision 2
  kubectl annotate pods -n "$NAMESPACE" -l multiraft.atomix.io/cluster=issued --overwrite "touched=$SECONDS"
  within 120 is_renewed issued "$old"
  diff <(echo "$before") <(all_lives issued)
  kubectl wait -n "$NAMESPACE" mrc/issued --for=condition=Ready --timeout=30s
  echo "FIGURE renewed on all nodes after $((SECONDS - started)) s, nothing restarted"
}

is_revision() { [[ $(kubectl get -n "$NAMESPACE" certificate/issued-nodes -o jsonpath='{.status.revision}') = "$1" ]]; }

gone_with_tls() {
  kubectl delete -n "$NAMESPACE" mrc/issued --wait
  eventually none certificates -n "$NAMESPACE"
}
