# From the previous release to this one, under load: first the operator, then the nodes; and the nodes back.
# shellcheck shell=bash

# The previous release runs a cluster of its own nodes, in a namespace of its own.
upgrade() {
  local folder before
  folder=$(tests/e2e/previous.sh)
  before=$(sed -n 's/^appVersion: //p' "$folder/charts/multiraft-operator/Chart.yaml")
  NAMESPACE=multiraft-upgrade
  [[ $OWN = yes ]] || previous_images "$folder" "$before"
  restricted "$SYSTEM"
  helm upgrade --install multiraft "$folder/charts/multiraft-operator" --namespace "$SYSTEM" --wait --timeout 3m \
    --set image.repository="$REGISTRY/multiraft-operator",nodeImage.repository="$REGISTRY/multiraft-node"
  space "$NAMESPACE"
  VERSION=$before counting_cluster
  [[ $(versions) = "$before" ]]
  under_load upgrade upgraded
  under_load downgrade rolled_to "$before"
  kubectl delete namespace "$NAMESPACE" --wait=false
}

previous_images() { # folder of programs, version
  MULTIRAFT_BIN=$1 tests/e2e/cluster/images.sh "$2" | while read -r _ archive; do
    $CLUSTER load "$archive"
  done
}

upgraded() {
  local before after
  before=$(lives -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders)
  scripts/install.sh operator
  # Its leader waits for the lease, looks at every cluster, and would restart what it would restart.
  sleep 25
  settled 60
  after=$(lives -n "$NAMESPACE" -l multiraft.atomix.io/cluster=orders)
  [[ $after = "$before" ]] || { echo "the new operator restarted pods: $before, now $after"; return 1; }
  echo "FIGURE the new operator restarted no pod"
  rolled_to "$VERSION"
}

rolled_to() { # version
  local VERSION=$1
  apply 3
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.observedGeneration}'="$(of_cluster '{.metadata.generation}')" --timeout=60s
  kubectl wait -n "$NAMESPACE" mrc/orders --for=jsonpath='{.status.updatedReplicas}'=3 --timeout=300s
  settled 300
  [[ $(versions) = "$VERSION" ]]
  whole 3
}

# What the nodes say of themselves, each once.
versions() { of_cluster '{.status.nodes[*].version}' | tr ' ' '\n' | sort -u | paste -sd' '; }
