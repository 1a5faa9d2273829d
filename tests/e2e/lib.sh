# What all suites on Kubernetes share: how a test is run and told of, namespaces, and what to wait for.
# A suite may set NAMESPACE after it has sourced this; nobody else's is taken, for it is deleted in the end.
# shellcheck shell=bash

CLUSTER=tests/e2e/cluster/cluster.sh
BIN=${MULTIRAFT_BIN:-$(scripts/target.sh)/release}
VERSION=$(scripts/install.sh version)
REGISTRY=${MULTIRAFT_REGISTRY:-localhost}
RUN=${MULTIRAFT_RUN:-/tmp/multiraft-kube}
SYSTEM=multiraft-system
NAMESPACE=multiraft-e2e
WORK=$(mktemp -d)
PASSED=0

# Sets OWN to `no` where KUBECONFIG names no cluster of the user's: then machines can be lost, too.
begin() {
  OWN=$([[ -n ${KUBECONFIG:-} && $KUBECONFIG != "$RUN/kubeconfig" ]] && echo yes || echo no)
  eval "$($CLUSTER env)"
  trap finish EXIT
  [[ $OWN = yes ]] || run "images are built and loaded" scripts/install.sh images
}

run() { # claim, command…
  local started=$SECONDS
  printf 'test %s ... ' "$1"
  shift
  "$@" >"$WORK/log" 2>&1 &
  wait "$!" || {
    echo FAILED
    tail -60 "$WORK/log"
    kubectl get mrc,pods -A -o wide || true
    kubectl get -n "$NAMESPACE" mrc -o yaml | sed -n '/^  status:/,$p' | tail -60 || true
    exit 1
  }
  PASSED=$((PASSED + 1))
  echo "ok ($((SECONDS - started)) s)$(sed -n 's/^FIGURE /, /p' "$WORK/log" | tr -d '\n')"
}

finish() {
  local status=$?
  kubectl delete namespace -l multiraft-test --wait=false >/dev/null 2>&1 || true
  rm -rf "$WORK"
  exit "$status"
}

trim() { sed -E 's/^ +| +$//g' <<<"$1"; }

# --- objects --------------------------------------------------------------------

# A namespace of the test's, gone with it.
space() { # namespace
  restricted "$1"
  kubectl label --overwrite namespace "$1" multiraft-test=
}

restricted() { # namespace
  kubectl create namespace "$1" --dry-run=client -o yaml | kubectl apply -f -
  kubectl label --overwrite namespace "$1" pod-security.kubernetes.io/enforce=restricted
}

manifest() { # name, spec
  printf 'apiVersion: multiraft.atomix.io/v1beta1\nkind: MultiRaftCluster\nmetadata: {name: %s}\nspec: %s\n' "$1" "$2"
}

refused() { # words, command…
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then
    echo "done, which is wrong: $*"
    return 1
  fi
  [[ $said == *"$words"* ]] || { echo "refused without saying '$words': $said"; return 1; }
}

condition() { # cluster, type, field
  kubectl get -n "$NAMESPACE" mrc "$1" -o jsonpath="{.status.conditions[?(@.type==\"$2\")].$3}"
}

# Name, uid and restarts of the pods.
lives() { # which…
  kubectl get pods "$@" -o json |
    jq -r '.items[] | select(.metadata.deletionTimestamp | not) | [.metadata.name, .metadata.uid, (.status.containerStatuses[].restartCount | tostring)] | join(" ")' | sort
}

# --- waiting --------------------------------------------------------------------

# Within a minute.
eventually() { # command…
  within 60 "$@"
}

within() { # seconds, command…
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || { echo "never: $*"; return 1; }
    sleep 0.2
  done
}

none() { # what to list…
  [[ -z $(kubectl get "$@" -o name) ]]
}

# Ready at the present generation.
reconciled() { # cluster, seconds
  local generation
  generation=$(kubectl get -n "$NAMESPACE" mrc "$1" -o jsonpath='{.metadata.generation}')
  kubectl wait -n "$NAMESPACE" "mrc/$1" --for=jsonpath='{.status.observedGeneration}'="$generation" --timeout=60s
  kubectl wait -n "$NAMESPACE" "mrc/$1" --for=condition=Ready --timeout="$2s"
}
