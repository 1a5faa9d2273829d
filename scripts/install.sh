#!/usr/bin/env bash
# Puts this checkout's product into the Kubernetes that KUBECONFIG names, from programs that are
# built already.
#
#   install.sh version               print the version
#   install.sh images                build the images and load them into the local Kubernetes
#   install.sh operator [NAMESPACE [HELM OPTIONS…]]
#                                    install or upgrade the operator by Helm [multiraft-system]
#
# MULTIRAFT_REGISTRY names where a Kubernetes of your own pulls the images from, such as
# registry.example.com/multiraft.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

images() {
  tests/e2e/cluster/images.sh "$VERSION" | while read -r _ archive; do
    tests/e2e/cluster/cluster.sh load "$archive"
  done
}

operator() { # namespace, options of Helm…
  local registry=${MULTIRAFT_REGISTRY:-localhost} namespace=$1
  shift
  helm upgrade --install multiraft charts/multiraft-operator --namespace "$namespace" \
    --create-namespace --wait --timeout 3m "$@" \
    --set image.repository="$registry/multiraft-operator",image.tag="$VERSION" \
    --set nodeImage.repository="$registry/multiraft-node"
}

case ${1:-} in
  version) echo "$VERSION" ;;
  images) images ;;
  operator) operator "${2:-multiraft-system}" "${@:3}" ;;
  *)
    grep '^#  ' "$0" >&2
    exit 2
    ;;
esac
