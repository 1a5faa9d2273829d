# A node: network namespace, containerd, kubelet, kube-proxy, and a folder as its disk.
# shellcheck shell=bash

make_node() { # node
  local folder=$RUN/n$1
  mkdir -p "$folder"/{network,containers,kubelet,volumes}
  cat >"$folder/network/10.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "$ID-n$1",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
     "ipam": {"type": "host-local", "dataDir": "$folder/addresses",
              "ranges": [[{"subnet": "$NET.$((64 + $1)).0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
  # restrict_oom_score_adj: where root may not lower the score, runc fails without it.
  # netns_mounts_under_state_dir: pods' namespaces then lie below the run folder, as ours.
  cat >"$folder/containerd.toml" <<TOML
version = 3
root = "$folder/containers"
state = "$folder/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "$folder/containerd.sock"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "$folder/network"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
TOML
  # The machine's disk may be nearly full: that is no reason to evict pods here.
  cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NET.0.1$1
healthzBindAddress: 127.0.0.1
cgroupDriver: cgroupfs
cgroupRoot: /$ID/n$1
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$folder/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $RUN/certificates/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $RUN/certificates/n$1.crt
tlsPrivateKeyFile: $RUN/certificates/n$1.key
podLogsDir: $folder/pod-logs
clusterDNS: [$NET.128.10]
clusterDomain: cluster.local
resolvConf: ""
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
nodeStatusUpdateFrequency: 4s
YAML
  start_containerd "$1"
  load_into "$1" "$(pause_image)"
}

start_containerd() { # node
  make_pod_group "$ID/n$1"
  daemon "n$1.containerd" nsenter --net="/var/run/netns/$(space_name "$1")" containerd -c "$RUN/n$1/containerd.toml" -l warn
  await "containerd of node $1" 30 ctr_of "$1" version
}

start_kubelet() { # node
  daemon "n$1.kubelet" nsenter --net="/var/run/netns/$(space_name "$1")" kubelet --config="$RUN/n$1/kubelet.yaml" \
    --kubeconfig="$RUN/certificates/n$1.kubeconfig" --hostname-override="n$1" --node-ip="$NET.0.1$1" \
    --root-dir="$RUN/n$1/kubelet" --cert-dir="$RUN/n$1/kubelet/pki" --v=1 \
    --node-labels="topology.kubernetes.io/region=local,topology.kubernetes.io/zone=z$1"
  # Zeros: in a namespace these settings of the kernel cannot be written.
  daemon "n$1.proxy" nsenter --net="/var/run/netns/$(space_name "$1")" kube-proxy --kubeconfig="$RUN/certificates/proxy.kubeconfig" \
    --hostname-override="n$1" --cluster-cidr="$NET.64.0/18" --proxy-mode=iptables --healthz-bind-address=127.0.0.1:10256 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
}

ctr_of() { # node, arguments…
  local node=$1
  shift
  ctr -a "$RUN/n$node/containerd.sock" -n k8s.io "$@"
}

load_into() { # node, archives…
  local node=$1 archive content mark
  shift
  mkdir -p "$RUN/n$node/loaded"
  for archive in "$@"; do
    # Names and digests, in archives of Docker's format.
    content=$(tar -xOf "$archive" manifest.json 2>/dev/null || true)
    mark=$RUN/n$node/loaded/$(jq -r '.[0].RepoTags[0] // "" | gsub("/"; "_")' <<<"${content:-[]}")
    [[ -z $content || ! -f $mark || $(<"$mark") != "$content" ]] || continue
    ctr_of "$node" images import "$archive" >>"$RUN/logs/n$node.images.log" 2>&1 || {
      tail -3 "$RUN/logs/n$node.images.log" >&2
      die "node $node cannot load $archive"
    }
    [[ -z $content || $mark = */ ]] || echo "$content" >"$mark"
  done
}

# An image of one file needs no tool to build: a layer, a configuration, a list of both.
pause_image() {
  local image=$BIN/pause.tar work layer
  if [[ ! -f $image ]]; then
    work=$(mktemp -d)
    tar -C "$BIN" --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" pause
    layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
    cat >"$work/config.json" <<JSON
{"architecture": "$(dpkg --print-architecture)", "os": "linux", "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
JSON
    echo '[{"Config": "config.json", "RepoTags": ["localhost/pause:1"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
    tar -C "$work" -cf "$image.$BASHPID" manifest.json config.json layer.tar
    mv "$image.$BASHPID" "$image"
    rm -rf "$work"
  fi
  echo "$image"
}

# --- faults ---------------------------------------------------------------------

node_cut() { ip link set "$(link_name "$1")" down; }
node_heal() { ip link set "$(link_name "$1")" up; }

# As the kernel would for want of memory: from outside, since init hears no signal from within. The
# sandbox stays, and so does the pod's address. Works without the API server.
kill_pod() { # namespace, pod
  local n id killed=0
  local labels="labels.\"io.kubernetes.pod.namespace\"==$1,labels.\"io.kubernetes.pod.name\"==$2"
  for n in $(seq "$NODES"); do
    for id in $(ctr_of "$n" containers list -q "$labels,labels.\"io.cri-containerd.kind\"==container" 2>/dev/null); do
      # Containers that ended before are still listed, without a task.
      ! ctr_of "$n" tasks kill -s SIGKILL "$id" 2>/dev/null || killed=1
    done
  done
  ((killed)) || die "pod $1/$2 runs nothing here"
}

# The link goes first: a machine without power says no farewell to its peers.
node_stop() { # node
  local name
  node_cut "$1"
  for name in kubelet proxy containerd; do kill_daemon "n$1.$name"; done
  kill_group "$(process_groups)/n$1"
  unmount_below "$RUN/n$1"
  rm -rf --one-file-system "$RUN/n$1/state"
  remove_groups "$ID/n$1"
}

node_start() { # node
  node_heal "$1"
  # The kernel forgot the way when the link went down.
  ip route replace "$NET.$((64 + $1)).0/24" via "$NET.0.1$1"
  BIN=$STARTED_BIN
  start_containerd "$1"
  start_kubelet "$1"
}
