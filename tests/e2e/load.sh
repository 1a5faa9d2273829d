# Clients at work in the cluster while something is done to it, and what they saw. The load is a pod:
# it finds nodes by name, whatever addresses their pods get, and goes on without the API server.
# shellcheck shell=bash

# Clients, and milliseconds between the rounds of each: steady work that leaves a small machine free.
CLIENTS=${CLIENTS:-5}
EVERY=${EVERY:-50}
# The machine that the load stands on, which is never lost; empty: any.
LOAD_MACHINE=

# Prints what clients saw meanwhile as figures; fails if a command failed or the history fits nowhere.
under_load() { # name, command…
  local name=$1 started=$SECONDS before seen writes
  shift
  before=$(audited)
  load_start "$name"
  "$@"
  seen=$(load_end)
  writes=$(writes_since "$before")
  echo "scenario name=$name $seen seconds=$((SECONDS - started)) writes=$writes" | tee -a "${ROWS:-/dev/null}"
  echo "FIGURE $(figure failed "$seen") failed, gap $(figure gap_ms "$seen") ms, $(figure violations "$seen") violations, $writes API writes"
  [[ $(figure failed "$seen") = 0 && $(figure violations "$seen") = 0 ]]
}

figure() { # name, line
  sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" <<<"$2"
}

# Sets NAME, of the counter.
load_start() { # name
  NAME=$1-$RANDOM
  kubectl delete pod -n "$NAMESPACE" load --ignore-not-found --grace-period=0
  load_pod | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" pod/load --for=condition=Ready --timeout=60s
  # No image of its own: the node's has all that the program needs.
  kubectl exec -i -n "$NAMESPACE" load -- sh -c 'cat >/work/history && chmod +x /work/history && touch /work/go' <"$BIN/multiraft-history"
  within 60 load_says "^at work" || { kubectl logs -n "$NAMESPACE" load; return 1; }
}

load_pod() {
  cat <<YAML
apiVersion: v1
kind: Pod
metadata: {name: load, labels: {app: multiraft-load}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  nodeSelector: {${LOAD_MACHINE:+kubernetes.io/hostname: $LOAD_MACHINE}}
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: load
      image: $REGISTRY/multiraft-node:$VERSION
      command: [sh, -c]
      args:
        - |
          until [ -e /work/go ]; do sleep 0.1; done
          exec /work/history --name $NAME --endpoints $(names) --clients $CLIENTS --every $EVERY -- \
            sh -c 'until [ -e /work/stop ]; do sleep 0.1; done' 2>&1
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: work, mountPath: /work}]
  volumes: [{name: work, emptyDir: {}}]
YAML
}

# The first three nodes, which every scenario keeps or brings back; clients learn of others.
names() {
  local slot
  for slot in 0 1 2; do echo "orders-$slot.orders-peers.$NAMESPACE.svc.cluster.local:5678"; done | paste -sd,
}

load_says() { # words
  kubectl logs -n "$NAMESPACE" load 2>/dev/null | grep -q "$1"
}

# Prints what the clients saw.
load_end() {
  kubectl exec -n "$NAMESPACE" load -- touch /work/stop >&2
  within 240 load_ended >&2
  kubectl logs -n "$NAMESPACE" load >&2
  kubectl logs -n "$NAMESPACE" load | sed -n 's/^history //p' | grep . || echo "failed=unknown gap_ms=unknown violations=unknown"
}

load_ended() {
  [[ $(of_pod load '{.status.phase}') = Succeeded || $(of_pod load '{.status.phase}') = Failed ]]
}

# --- the clients' progress, from this machine -----------------------------------

# Works without the API server, too: call `addresses` before it is away.
addresses() {
  ENDPOINTS=$(pods -o jsonpath='{range .items[*]}{.status.podIP}:5678{"\n"}{end}' | paste -sd,)
}

multiraft() { "$BIN/multiraft" --endpoints "$ENDPOINTS" "$@"; }

acknowledged() { # more increments
  local wanted
  wanted=$(($(multiraft counter get "$NAME") + $1))
  within 60 has_counted "$wanted"
}

has_counted() { (($(multiraft counter get "$NAME") >= $1)); }

# group, pod of its leader
leaders() { multiraft group list "$@" | awk 'NR > 1 {split($2, host, "."); print $1, host[1]}'; }

leading_pod() { leaders --of "$NAME" | cut -d' ' -f2; }

# Waits until a node that ended serves again, with or without the API server.
serving() { # pod
  local place=$((${1##*-} + 1))
  within 60 answers "$(cut -d, -f$place <<<"$ENDPOINTS")"
}

answers() { "$BIN/multiraft" --endpoints "$1" --timeout 1s node info >/dev/null 2>&1; }

# --- what the operator asked the API server for ---------------------------------

AUDIT=$RUN/logs/audit.log

# Lines of the audit log; it has what service accounts of the operator's namespace did.
audited() {
  if [[ -f $AUDIT ]]; then wc -l <"$AUDIT"; else echo 0; fi
}

# Writes that changed something; the lease is renewed by the clock and does not count.
writes_since() { # lines of the audit log
  [[ -f $AUDIT ]] || { echo unknown; return; }
  tail -n "+$(($1 + 1))" "$AUDIT" | jq -r 'select(.stage == "ResponseComplete" and .responseStatus.code < 300)
    | select(.verb | IN("create", "update", "patch", "delete"))
    | select(.objectRef.resource != "leases" and (.requestURI | contains("dryRun") | not)) | .verb' | wc -l
}
