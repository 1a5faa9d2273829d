# Clusters with TLS, and who calls them.
# shellcheck shell=bash

secured() { # cluster, mode
  manifest "$1" "{replicas: 3, groups: 4, version: $VERSION, storage: {size: 1Gi}, tls: {mode: $2, secretName: $1-tls}}"
}

apply() { # cluster, mode
  secured "$@" | kubectl apply -n "$NAMESPACE" --validate=strict -f -
}

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

is_reason() { [[ $(condition "$1" "$2" reason) = "$3" ]]; } # cluster, type, reason

# Ready at the present generation, with all pods of a mode.
settled() { # cluster, mode
  reconciled "$1" 240
  [[ $(modes "$1") = "${2/Disabled/}" ]] || { echo "modes: $(modes "$1")"; return 1; }
}

modes() { # cluster
  kubectl get pods -n "$NAMESPACE" -l "multiraft.atomix.io/cluster=$1" \
    -o jsonpath='{range .items[*]}{.metadata.annotations.multiraft\.atomix\.io/tls-mode}{"\n"}{end}' | sort -u | tr -d '\n'
}

# Of the nodes of a cluster, and of the operators.
all_lives() { # cluster
  lives -n "$NAMESPACE" -l "multiraft.atomix.io/cluster=$1"
  lives -n "$SYSTEM"
}

# The message speaks of the node whose certificate ends first.
is_renewed() { # cluster, message before
  local now
  now=$(condition "$1" CertificatesReady message)
  [[ $now == *"3 nodes are good until"* && $now != "$2" ]]
}
