# The control plane: certificates, etcd, API server, controllers, DNS, volumes.
# shellcheck shell=bash

kube() { kubectl --kubeconfig="$RUN/kubeconfig" --request-timeout=10s "$@"; }
api_ready() { kubectl --kubeconfig="$RUN/kubeconfig" --request-timeout=2s get --raw /readyz; }

nodes_ready() {
  local ready
  ready=$(kube get nodes -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep -c True)
  ((ready == NODES))
}

# --- who is who -----------------------------------------------------------------

make_certificates() {
  local n
  cd "$RUN/certificates"
  new_key ca && openssl req -x509 -key ca.key -out ca.crt -days 30 -subj "/CN=$ID" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature
  openssl genrsa -out accounts.key 2048 2>/dev/null
  certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$NET.0.1,IP:$NET.128.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet
  certificate manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  for n in $(seq "$NODES"); do certificate "n$n" "/O=system:nodes/CN=system:node:n$n" "IP:$NET.0.1$n,DNS:n$n"; done
  printf '%s,admin,admin,"system:masters"\n' "$(secret)" >tokens.csv
  cd "$RUN"
  kubeconfig manager client-certificate: "$RUN/certificates/manager.crt" client-key: "$RUN/certificates/manager.key"
  kubeconfig scheduler client-certificate: "$RUN/certificates/scheduler.crt" client-key: "$RUN/certificates/scheduler.key"
  kubeconfig proxy client-certificate: "$RUN/certificates/proxy.crt" client-key: "$RUN/certificates/proxy.key"
  for n in $(seq "$NODES"); do
    kubeconfig "n$n" client-certificate: "$RUN/certificates/n$n.crt" client-key: "$RUN/certificates/n$n.key"
  done
  kubeconfig admin token: "$(cut -d, -f1 certificates/tokens.csv)"
  ln -s certificates/admin.kubeconfig kubeconfig
}

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

certificate() { # name, subject, names of the server (none: for a client only)
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$2" | openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(secret | cut -c1-16)" \
    -days 30 -out "$1.crt" -extfile <(echo "extendedKeyUsage=clientAuth,serverAuth${3:+
subjectAltName=$3}") 2>/dev/null
}

kubeconfig() { # name, then pairs of what proves who this is
  local name=$1
  shift
  (umask 077 && cat >"$RUN/certificates/$name.kubeconfig") <<YAML
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://$NET.0.1:6443", certificate-authority-data: $(base64 -w0 "$RUN/certificates/ca.crt")}}]
users: [{name: $name, user: {$(printf '%s "%s", ' "$@")}}]
contexts: [{name: local, context: {cluster: local, user: $name}}]
current-context: local
YAML
}

# --- the programs ---------------------------------------------------------------

start_control_plane() {
  write_audit_policy
  local etcd=http://127.0.0.1:$ETCD_PORT peer=http://127.0.0.1:$ETCD_PEER_PORT
  daemon etcd etcd --data-dir=etcd --log-level=warn --unsafe-no-fsync \
    --listen-client-urls="$etcd" --advertise-client-urls="$etcd" \
    --listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="default=$peer"
  daemon apiserver kube-apiserver --etcd-servers="$etcd" \
    --bind-address="$NET.0.1" --advertise-address="$NET.0.1" --secure-port=6443 \
    --tls-cert-file=certificates/apiserver.crt --tls-private-key-file=certificates/apiserver.key \
    --client-ca-file=certificates/ca.crt --token-auth-file=certificates/tokens.csv \
    --kubelet-certificate-authority=certificates/ca.crt --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate=certificates/apiserver-kubelet.crt --kubelet-client-key=certificates/apiserver-kubelet.key \
    --service-account-key-file=certificates/accounts.key --service-account-signing-key-file=certificates/accounts.key \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-cluster-ip-range="$NET.128.0/20" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
    --audit-policy-file=audit.yaml --audit-log-path=logs/audit.log
}

# What an operator asks for, and nobody else: RUN/logs/audit.log, one line for each request.
write_audit_policy() {
  cat >"$RUN/audit.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ["system:serviceaccounts:multiraft-system"]}
  - {level: None}
YAML
}

# Those that need the API server and end without it.
start_controllers() {
  # 20 s of grace: a lost node is seen soon, and a busy machine does not lose one by chance.
  daemon manager kube-controller-manager --kubeconfig=certificates/manager.kubeconfig \
    --service-account-private-key-file=certificates/accounts.key --root-ca-file=certificates/ca.crt \
    --cluster-signing-cert-file=certificates/ca.crt --cluster-signing-key-file=certificates/ca.key \
    --use-service-account-credentials=true --leader-elect=false --bind-address=127.0.0.1 --secure-port="$MANAGER_PORT" \
    --cert-dir=certificates/manager --node-monitor-grace-period=20s --node-monitor-period=2s
  # It ends itself when it missed events of pods in an outage, and counts on being started again.
  # shellcheck disable=SC2016
  daemon scheduler bash -c 'until "$@"; do sleep 1; done' scheduler kube-scheduler --kubeconfig=certificates/scheduler.kubeconfig --leader-elect=false \
    --bind-address=127.0.0.1 --secure-port="$SCHEDULER_PORT" --cert-dir=certificates/scheduler
  daemon volumes local-volumes --kubeconfig=kubeconfig --root="$RUN"
  cat >"$RUN/Corefile" <<CORE
.:53 {
  bind $NET.0.1
  errors
  health 127.0.0.1:$DNS_HEALTH_PORT
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig $RUN/kubeconfig
    ttl 2
  }
  cache 2
}
CORE
  daemon dns coredns -conf Corefile
}

# Not part of every cluster: most tests do without.
cert_manager() {
  daemon_alive cert-manager && return
  kube apply --server-side -f "$STARTED_BIN/cert-manager-crds" >/dev/null
  kube wait --for=condition=Established crd/certificates.cert-manager.io crd/issuers.cert-manager.io --timeout=30s
  daemon cert-manager cert-manager --kubeconfig=kubeconfig
}

apply_addons() {
  local n
  kube apply -f - >/dev/null <<YAML
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: multiraft.local/folder
reclaimPolicy: Delete
allowVolumeExpansion: true
volumeBindingMode: WaitForFirstConsumer
---
# DNS runs beside the control plane, so that the loss of a node does not take it along.
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $NET.128.10
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-machine, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{addresses: [$NET.0.1], conditions: {ready: true}}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
YAML
}

# --- faults ---------------------------------------------------------------------

apiserver_stop() { kill_daemon apiserver; }
apiserver_freeze() { signal_daemon STOP apiserver; }
apiserver_thaw() { signal_daemon CONT apiserver; }

apiserver_start() {
  daemon_alive apiserver || start_daemon apiserver
  await "API server" 60 api_ready
  # These give up when they cannot reach it for long.
  local name
  for name in manager scheduler volumes dns; do daemon_alive "$name" || start_daemon "$name"; done
}
