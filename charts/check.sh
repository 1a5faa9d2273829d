#!/usr/bin/env bash
# Checks the chart: lint, every documented mode renders objects that Kubernetes takes, wrong values
# are refused, CRDs and README are fresh, alerts do what their tests say and have a runbook page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=/dev/null
eval "$(scripts/setup.sh env 2>/dev/null || true)"
chart=charts/multiraft-operator

for file in config/crd/*.yaml; do
  cmp "$file" "$chart/files/crds/$(basename "$file")" || { echo "run make fix"; exit 1; }
done
charts/readme.py --check
helm lint --strict "$chart"

all=metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboards.enabled=true,networkPolicy.enabled=true
for values in watch.scope=Cluster watch.scope=Own 'watch.scope=Namespaces,watch.namespaces={a,b}' crds.install=false replicas=1 \
  "$all" "$all,watch.scope=Own" podDisruptionBudget.enabled=false tls.secretName=operator-tls \
  tls.issuerRef.name=ca,tls.issuerRef.kind=ClusterIssuer; do
  # Kinds of others have no schema here.
  helm template multiraft "$chart" -n multiraft-system --set "$values" --kube-version 1.36.0 |
    manifest-check --skip MultiRaftCluster,PodMonitor,PrometheusRule,Certificate
  echo "renders with $values"
done
for values in watch.scope=Everything replicas=0 unknown=1 image.digest=abc leaseDuration=soon watch.scope=Namespaces \
  metrics.podMonitor.interval=often metrics.unknown=1 networkPolicy.metricsFrom=all tls.secretName=a,tls.issuerRef.name=b tls.issuerRef.kind=Issuer tls.secret=a; do
  if helm template multiraft "$chart" --set "$values" --kube-version 1.36.0 >/dev/null 2>&1; then
    echo "the chart takes $values, which is wrong"
    exit 1
  fi
  echo "refuses $values"
done

for board in "$chart"/files/dashboards/*.json; do
  jq -e '.uid and .title and ([.panels[] | .title and (.targets | length > 0)] | all)' "$board" >/dev/null ||
    { echo "$board: a panel without a title or a query"; exit 1; }
done
for alert in $(sed -n 's/.*- alert: //p' "$chart/files/alerts.yaml"); do
  grep -q "^## $alert$" docs/runbook.md || { echo "docs/runbook.md has no page for $alert"; exit 1; }
  grep -q "RUNBOOK#${alert,,}$" "$chart/files/alerts.yaml" || { echo "$alert links to another page"; exit 1; }
  grep -q "alertname: $alert\b" charts/tests/alerts.yaml || { echo "charts/tests/alerts.yaml has no test of $alert"; exit 1; }
done
for reason in $(sed -n '/^pub enum Reason/,/^}/s/^    \([A-Z][A-Za-z]*\),$/\1/p' operator/api/src/conditions.rs); do
  grep -q "^| .*\`$reason\`" docs/runbook.md || { echo "docs/runbook.md does not say what helps for $reason"; exit 1; }
done
rules=$(mktemp -d)
trap 'rm -rf "$rules"' EXIT
cp "$chart/files/alerts.yaml" "$rules/alerts-rules.yaml"
cp charts/tests/alerts.yaml "$rules/"
promtool check rules "$rules/alerts-rules.yaml"
promtool test rules "$rules/alerts.yaml"
echo "alerts do what their tests say"
