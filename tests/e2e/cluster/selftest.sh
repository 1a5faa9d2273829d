#!/usr/bin/env bash
# Shows that the local Kubernetes does what the tests need, and leaves nothing behind.
# Starts one of its own beside any other. Takes about 90 s; each line says what holds.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=paths.sh
source "$HERE/paths.sh"
MULTIRAFT_RUN=$(mktemp -u /tmp/multiraft-selftest.XXXXXX)
export MULTIRAFT_RUN
unset KUBECONFIG

cluster() { "$HERE/cluster.sh" "$@"; }
holds() { say "$(printf '%4d s  holds: %s' "$SECONDS" "$1")"; }
kube() { kubectl -n selftest --request-timeout=20s "$@"; }

main() {
  read -r image archive < <("$HERE/images.sh" base)
  # A failed run is taken down, too; its logs are kept.
  trap 'cp -r "$MULTIRAFT_RUN/logs" "$MULTIRAFT_RUN.logs" 2>/dev/null && say "FAILED, logs in $MULTIRAFT_RUN.logs"; cluster down' EXIT
  cluster up 3
  eval "$(cluster env)"
  holds "three nodes are Ready"
  cluster ensure 3
  holds "a second start finds it running"
  cluster load "$archive"
  holds "an image is loaded into all nodes"
  workload_runs
  pods_are_reached
  objects_are_accepted
  volumes_grow
  node_is_lost_and_returns
  apiserver_faults
  trap - EXIT
  leaves_nothing
  crash_leaves_nothing
  say "all holds, $SECONDS s"
}

workload_runs() {
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Namespace
metadata: {name: selftest, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: selftest}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: peer}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: peer, namespace: selftest}
spec:
  replicas: 3
  serviceName: peers
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: peer}}
  template:
    metadata: {labels: {app: peer}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: peer}}}
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: peer
        image: $image
        imagePullPolicy: Never
        command: [sh, -c, "echo \$HOSTNAME >>/data/starts && sleep 1000000"]
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        # Names of pods must not wait for this.
        readinessProbe: {exec: {command: [test, -e, /data/ready]}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
YAML
  until [[ $(kube get pods -l app=peer -o jsonpath='{range .items[*]}{.status.phase} {end}') = 'Running Running Running ' ]]; do within 60; done
  holds "restricted pods run, one a zone, and write to volumes of their own node"
  [[ $(kube get pods -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l) = 3 ]]
  until [[ $(kube exec peer-0 -- getent hosts peer-1.peers.selftest.svc.cluster.local) = "$(pod_address peer-1) "* ]]; do within 60; done
  holds "a pod finds another by its headless name before that is ready"
  for n in 0 1 2; do kube exec peer-$n -- touch /data/ready; done
  kube wait pod -l app=peer --for=condition=Ready --timeout=20s >/dev/null
  holds "probes make them ready"
}

pods_are_reached() {
  for n in 0 1 2; do reach "$(pod_address peer-$n)"; done
  holds "this machine reaches pods by their addresses"
  # The API server's Service, from a pod, by way of kube-proxy.
  kube exec peer-0 -- bash -c 'exec 3<>/dev/tcp/kubernetes.default.svc.cluster.local/443'
  holds "a pod reaches a Service by name"
}

# Nothing listens in the pods: a refusal comes from the pod itself, silence would not.
reach() { # address
  local answer
  answer=$(timeout 3 bash -c "exec 3<>/dev/tcp/$1/9" 2>&1 || true)
  [[ $answer = *refused* ]]
}

objects_are_accepted() {
  kubectl apply -f - >/dev/null <<'YAML'
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: peers, namespace: selftest}
spec: {podSelector: {matchLabels: {app: peer}}, ingress: [{from: [{podSelector: {matchLabels: {app: peer}}}]}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: peers, namespace: selftest}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: peer}}}
YAML
  local answer
  answer=$(kube run open --image="$image" 2>&1 || true)
  [[ $answer = *violates\ PodSecurity* ]]
  local chart=$MULTIRAFT_RUN/chart
  mkdir -p "$chart/templates"
  printf 'apiVersion: v2\nname: chart\nversion: 0.1.0\n' >"$chart/Chart.yaml"
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: chart}\n' >"$chart/templates/map.yaml"
  helm install chart "$chart" -n selftest --wait --timeout 30s >/dev/null
  helm uninstall chart -n selftest >/dev/null
  holds "policies are accepted, an open pod is refused, Helm installs"
}

volumes_grow() {
  kube patch pvc data-peer-0 -p '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}' >/dev/null
  until [[ $(kube get pvc data-peer-0 -o jsonpath='{.status.capacity.storage}') = 2Gi ]]; do within 20; done
  holds "a volume grows"
}

node_is_lost_and_returns() {
  local node pod
  pod=peer-1
  node=$(kube get pod $pod -o jsonpath='{.spec.nodeName}')
  cluster node-stop "${node#n}"
  kubectl wait node "$node" --for=condition=Ready=Unknown --timeout=60s >/dev/null
  holds "a lost node is seen as lost"
  cluster node-start "${node#n}"
  kubectl wait node "$node" --for=condition=Ready --timeout=60s >/dev/null
  until [[ $(kube exec $pod -- wc -l /data/starts 2>/dev/null) = "2 "* ]]; do within 90; done
  holds "its pod starts again on the same volume"
}

apiserver_faults() {
  cluster apiserver-freeze
  ! kubectl --request-timeout=2s get nodes >/dev/null 2>&1
  cluster apiserver-thaw
  kubectl get nodes >/dev/null
  cluster apiserver-stop
  ! kubectl --request-timeout=2s get nodes >/dev/null 2>&1
  cluster apiserver-start
  kubectl wait node --all --for=condition=Ready --timeout=60s >/dev/null
  holds "the API server is frozen, thawed, stopped and started"
}

leaves_nothing() {
  marks
  cluster down
  nothing_left
  holds "down leaves no process, mount, namespace, link, route, rule or control group"
}

# The starting script is killed in the middle, and a down comes after that.
crash_leaves_nothing() {
  local starting
  setsid "$HERE/cluster.sh" up 2 >/dev/null 2>&1 &
  starting=$!
  until [[ -e $MULTIRAFT_RUN/logs/n2.containerd.log ]]; do within 30; done
  kill -KILL -- "-$starting"
  wait "$starting" 2>/dev/null || true
  marks
  cluster down
  nothing_left
  holds "the same after a crash of the starting script"
}

# What all that this cluster made is named by; gone with the run folder.
marks() {
  # shellcheck source=/dev/null
  source "$MULTIRAFT_RUN/settings"
}

nothing_left() {
  local left
  left=$(
    ls -d "$MULTIRAFT_RUN" 2>/dev/null
    grep -o " $MULTIRAFT_RUN/[^ ]*" /proc/mounts
    pgrep -af "$MULTIRAFT_RUN/"
    ip -o link | grep "$ID"
    ip netns | grep "$ID"
    ip -4 route show root "$NET.0.0/16"
    iptables -S | grep "$ID"
    find /sys/fs/cgroup -maxdepth 2 -name "$ID*"
  ) || true
  [[ -z $left ]] || die "left behind: $left"
}

pod_address() { kube get pod "$1" -o jsonpath='{.status.podIP}'; }

# One more turn of a loop that must end within so many seconds.
within() { # seconds
  local here=${BASH_LINENO[0]}
  [[ ${LOOP:-} = "$here" ]] || { LOOP=$here LOOP_END=$((SECONDS + $1)); }
  ((SECONDS < LOOP_END)) || die "not in time, line $here"
  sleep 0.3
}

main "$@"
