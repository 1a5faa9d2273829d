#!/usr/bin/env bash
# Each documented way to install the chart: it is installed, `helm test` makes a cluster that counts,
# and it goes without a trace but the definitions.
#
# Uses the cluster that `cluster.sh ensure` found or started. MULTIRAFT_BIN: folder of the programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=lib.sh
source tests/e2e/lib.sh

main() {
  begin
  helm uninstall multiraft -n "$SYSTEM" --wait --ignore-not-found
  {
    restricted "$SYSTEM"
    space modes-a
    space modes-b
  } >"$WORK/log"
  run "the chart installs for all namespaces" mode --set watch.scope=Cluster
  run "the chart installs for its own namespace" mode --set watch.scope=Own
  run "the chart installs for some namespaces" mode --set 'watch.scope=Namespaces,watch.namespaces={modes-a,modes-b}'
  run "the chart installs with one operator, a network policy, and the definitions already there" \
    mode --set replicas=1,networkPolicy.enabled=true,crds.install=false,log.format=text
  echo "$PASSED tests passed"
}

mode() { # arguments of Helm…
  helm install multiraft charts/multiraft-operator -n "$SYSTEM" --wait --timeout 2m \
    --set image.repository="$REGISTRY/multiraft-operator",image.tag="$VERSION" \
    --set nodeImage.repository="$REGISTRY/multiraft-node" "$@"
  helm test multiraft -n "$SYSTEM" --timeout 4m
  # What the test made goes with it, the volume by its owner.
  eventually none pods,mrc,pvc -A -l 'multiraft.atomix.io/cluster'
  eventually none mrc,pods -A -l app.kubernetes.io/managed-by=Helm --field-selector metadata.namespace!="$SYSTEM"
  helm uninstall multiraft -n "$SYSTEM" --wait
  eventually none deployments,pods,poddisruptionbudgets,networkpolicies,roles,rolebindings -n "$SYSTEM"
  kubectl get clusterroles,clusterrolebindings -o name | { ! grep multiraft; }
  kubectl get crd multiraftclusters.multiraft.atomix.io raftpartitionslices.multiraft.atomix.io
}

main "$@"
