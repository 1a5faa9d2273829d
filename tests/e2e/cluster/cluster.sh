#!/usr/bin/env bash
# A real Kubernetes on one Linux machine, as root, without a container engine:
# etcd, API server, controller manager, scheduler, DNS and volumes in the machine's
# own network; each node a network namespace with a containerd, kubelet and kube-proxy.
#
#   cluster.sh up [NODES]         start it (3 nodes); what an earlier run left is cleared first
#   cluster.sh ensure [NODES]     the same, unless one runs or KUBECONFIG names the user's own
#   cluster.sh down               end it and remove all that it made; also after a crash
#   cluster.sh env                print settings for the shell: eval "$(cluster.sh env)"
#   cluster.sh status             say what runs
#   cluster.sh load IMAGE.tar…    load images into every node
#   cluster.sh cert-manager       run cert-manager's controllers, unless they run
#   cluster.sh kill NAMESPACE POD    SIGKILL the processes in a pod's containers
#   cluster.sh node-stop N        lose node N at once, as by a power cut; its disk stays
#   cluster.sh node-start N       start it again
#   cluster.sh node-cut N         cut node N off the network; node-heal N joins it again
#   cluster.sh apiserver-stop     kill the API server; apiserver-start starts it again
#   cluster.sh apiserver-freeze   let it accept and say nothing; apiserver-thaw ends that
#
# MULTIRAFT_RUN (/tmp/multiraft-kube) is the run folder: all state, logs and volumes.
# Several clusters run side by side with a run folder each.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=paths.sh
source "$HERE/paths.sh"
# shellcheck source=ground.sh
source "$HERE/ground.sh"
# shellcheck source=control.sh
source "$HERE/control.sh"
# shellcheck source=node.sh
source "$HERE/node.sh"

RUN=${MULTIRAFT_RUN:-/tmp/multiraft-kube}

main() {
  local command=${1:-}
  shift || true
  case $command in
    up) up "${1:-3}" ;;
    ensure) ensure "${1:-3}" ;;
    down) down ;;
    env) print_env ;;
    status) status ;;
    load) load "$@" ;;
    cert-manager)
      users_own && die "cert-manager is started in the local Kubernetes only: install it into your own"
      ours
      cert_manager
      ;;
    node-stop | node-start | node-cut | node-heal)
      [[ ${1:-} =~ ^[1-9][0-9]?$ ]] || die "$command needs the number of a node"
      ours
      (($1 <= NODES)) || die "there is no node $1, only 1 to $NODES"
      "${command/-/_}" "$1"
      ;;
    kill)
      (($# == 2)) || die "kill needs a namespace and a pod"
      ours
      kill_pod "$1" "$2"
      ;;
    apiserver-stop | apiserver-start | apiserver-freeze | apiserver-thaw)
      ours
      "${command/-/_}"
      ;;
    *)
      grep '^#  ' "$0" >&2
      exit 2
      ;;
  esac
}

up() {
  local nodes=$1 started=$SECONDS n
  ((EUID == 0)) || die "the local Kubernetes needs root (namespaces, mounts, control groups)"
  [[ $nodes =~ ^[1-9]$ ]] || die "1 to 9 nodes, not '$nodes'"
  find_bin
  [[ -x $BIN/kubelet && -x $BIN/coredns && -x $BIN/helm ]] || die "not built yet: run scripts/setup.sh kube"
  export PATH=$BIN:$PATH
  make_run_folder "$nodes"
  trap 'failed_up' EXIT

  make_network
  make_certificates
  start_control_plane
  for n in $(seq "$NODES"); do make_node "$n" & done
  await "API server" 60 api_ready
  wait_all
  start_controllers
  for n in $(seq "$NODES"); do start_kubelet "$n"; done
  apply_addons
  await "nodes" 60 nodes_joined
  await "default service account" 30 kube get serviceaccount default
  trap - EXIT
  say "local Kubernetes with $NODES nodes ready in $((SECONDS - started)) s: eval \"\$($0 env)\""
}

# All kubelets of a machine make their device plugins' socket at one path, whatever their root: of two
# that do so at once, one ends.
nodes_joined() {
  local n
  for n in $(seq "$NODES"); do
    daemon_alive "n$n.kubelet" || { start_daemon "n$n.kubelet" && sleep 1; }
  done
  nodes_ready
}

failed_up() {
  say "the local Kubernetes did not start; logs are in $RUN/logs, and 'down' clears it"
}

ensure() {
  if users_own; then
    kubectl_of_user get --raw /readyz >/dev/null 2>&1 || die "the cluster of KUBECONFIG=$KUBECONFIG does not answer"
    say "using the cluster of KUBECONFIG=$KUBECONFIG; nothing is started"
  elif [[ -f $RUN/settings ]] && ours && [[ $NODES = "$1" ]] && whole; then
    say "using the local Kubernetes that runs in $RUN"
  else
    up "$1"
  fi
}

# Does KUBECONFIG name a cluster that is not ours?
users_own() {
  [[ -n ${KUBECONFIG:-} && $KUBECONFIG != "$RUN/kubeconfig" ]]
}

kubectl_of_user() {
  find_bin
  PATH=$PATH:$BIN kubectl --request-timeout=5s "$@"
}

# Is every part of our cluster alive, with the programs of this version?
whole() {
  find_bin
  [[ $BIN = "$STARTED_BIN" ]] && all_daemons_alive && api_ready && nodes_ready
}

# Reads what `up` wrote down about our cluster.
ours() {
  [[ -f $RUN/settings ]] || die "no local Kubernetes in $RUN: run '$0 up'"
  # shellcheck source=/dev/null
  source "$RUN/settings"
  export PATH=$STARTED_BIN:$PATH
}

print_env() {
  find_bin
  if users_own; then
    printf 'export KUBECONFIG=%q\n' "$KUBECONFIG"
  else
    printf 'export KUBECONFIG=%q\n' "$RUN/kubeconfig"
  fi
  path_setting
}

status() {
  if users_own; then
    say "KUBECONFIG=$KUBECONFIG names a cluster of your own"
    return
  fi
  ours
  say "run folder $RUN, marks $ID, network $NET.0.0/16"
  daemon_states
  kube get nodes -o wide || true
}

load() {
  users_own && die "images are loaded into the local Kubernetes only: push them to a registry that your cluster reads, or use its own tool (kind load image-archive)"
  (($#)) || die "load needs image archives"
  ours
  local n
  for n in $(seq "$NODES"); do
    daemon_alive "n$n.containerd" || continue
    load_into "$n" "$@" &
  done
  wait_all
}

# Waits for all background jobs and fails when one did.
wait_all() {
  local job failed=0
  for job in $(jobs -p); do wait "$job" || failed=1; done
  ((!failed)) || die "a step in the background failed; logs are in $RUN/logs"
}

# Repeats a command until it succeeds.
await() { # what, seconds, command…
  local what=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "$what not ready in time; logs are in $RUN/logs"
    sleep 0.2
  done
}

main "$@"
