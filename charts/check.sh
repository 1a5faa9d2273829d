#!/usr/bin/env bash
# Checks the chart: lint, every documented mode renders objects that Kubernetes takes, wrong values
# are refused, CRDs are fresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=/dev/null
eval "$(scripts/setup.sh env 2>/dev/null || true)"
chart=charts/multiraft-operator

for file in config/crd/*.yaml; do
  cmp "$file" "$chart/files/crds/$(basename "$file")" || { echo "run make fix"; exit 1; }
done
helm lint --strict "$chart"
for values in watch.scope=Cluster watch.scope=Own 'watch.scope=Namespaces,watch.namespaces={a,b}' crds.install=false replicas=1; do
  helm template multiraft "$chart" -n multiraft-system --set "$values" --kube-version 1.36.0 |
    manifest-check --skip MultiRaftCluster
  echo "renders with $values"
done
for values in watch.scope=Everything replicas=0 unknown=1 image.digest=abc leaseDuration=soon watch.scope=Namespaces; do
  if helm template multiraft "$chart" --set "$values" --kube-version 1.36.0 >/dev/null 2>&1; then
    echo "the chart takes $values, which is wrong"
    exit 1
  fi
  echo "refuses $values"
done
