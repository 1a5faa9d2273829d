#!/usr/bin/env bash
# Installs and builds what the project needs on a Debian-like machine (bookworm).
# Does only what is missing, and says so; when nothing is, it takes a second.
#
#   setup.sh fast    the pure half of the Rust code: protoc
#   setup.sh node    + the node: RocksDB's library, libclang
#   setup.sh interop + Python's gRPC, in a folder of its own
#   setup.sh tools   + buf, grpcurl, etcd (built from Go modules, 5 minutes at first)
#   setup.sh kube    + the local Kubernetes (the default; 15 minutes at first on 2 cores)
#   setup.sh bin     print the folder of the Go programs and do nothing
#   setup.sh python  print the Python that has gRPC and do nothing
#   setup.sh env     print a setting of PATH for the shell: eval "$(setup.sh env)"
#
# MULTIRAFT_CACHE (~/.cache/multiraft) holds what was built; its size is 1 GB.
set -euo pipefail
# shellcheck source=../tests/e2e/cluster/paths.sh
source "$(dirname "${BASH_SOURCE[0]}")/../tests/e2e/cluster/paths.sh"

FAST_PACKAGES=(protobuf-compiler libprotobuf-dev build-essential pkg-config)
NODE_PACKAGES=(librocksdb-dev libclang-dev)
PYTHON_PACKAGES=(python3 python3-venv)
TOOLS_PACKAGES=(jq curl)
KUBE_PACKAGES=(runc containernetworking-plugins iptables iproute2 conntrack debootstrap buildah
  openssl procps util-linux strace faketime valgrind)

GO_VERSION_MIN=1.26

main() {
  case ${1:-kube} in
    fast) need_rust && packages "${FAST_PACKAGES[@]}" ;;
    node) need_rust && packages "${FAST_PACKAGES[@]}" "${NODE_PACKAGES[@]}" ;;
    interop)
      need_rust
      packages "${FAST_PACKAGES[@]}" "${NODE_PACKAGES[@]}" "${PYTHON_PACKAGES[@]}"
      python_grpc
      ;;
    tools)
      need_rust
      need_go
      packages "${FAST_PACKAGES[@]}" "${NODE_PACKAGES[@]}" "${PYTHON_PACKAGES[@]}" "${TOOLS_PACKAGES[@]}"
      python_grpc
      tools
      ;;
    kube)
      need_rust
      need_go
      packages "${FAST_PACKAGES[@]}" "${NODE_PACKAGES[@]}" "${PYTHON_PACKAGES[@]}" "${TOOLS_PACKAGES[@]}" "${KUBE_PACKAGES[@]}"
      python_grpc
      tools
      kube
      ;;
    bin)
      need_go
      find_bin
      echo "$BIN"
      ;;
    python)
      find_python
      echo "$PYTHON"
      ;;
    env)
      need_go
      find_bin
      path_setting
      ;;
    *)
      grep '^#  ' "$0" >&2
      exit 2
      ;;
  esac
}

need_rust() {
  local wanted
  wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$REPOSITORY/rust-toolchain.toml" 2>/dev/null || true)
  command -v cargo >/dev/null || die "Rust is missing: install toolchain ${wanted:-stable} with rustup (https://rustup.rs)"
  (cd "$REPOSITORY" && cargo --version >/dev/null 2>&1) ||
    die "Rust toolchain ${wanted:-of rust-toolchain.toml} is missing: run 'rustup toolchain install ${wanted:-stable}'"
}

need_go() {
  command -v go >/dev/null || die "Go is missing: install version $GO_VERSION_MIN or newer (https://go.dev/dl) and put it on the PATH"
  local have
  have=$(GOTOOLCHAIN=local go env GOVERSION)
  [[ $(printf '%s\n' "$GO_VERSION_MIN" "${have#go}" | sort -V | head -1) = "$GO_VERSION_MIN" ]] ||
    die "Go ${have#go} is too old: install version $GO_VERSION_MIN or newer (https://go.dev/dl)"
}

# Installs those of the named Debian packages that are missing.
packages() {
  local missing
  mapfile -t missing < <(comm -13 <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | sed -n 's/ installed$//p' | LC_ALL=C sort -u) \
    <(printf '%s\n' "$@" | LC_ALL=C sort -u))
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "not a Debian-like machine: install by hand: ${missing[*]}"
  local sudo=()
  if ((EUID)); then
    command -v sudo >/dev/null || die "run as root, or install by hand: ${missing[*]}"
    sudo=(sudo)
  fi
  step "Debian packages ${missing[*]}" "2 minutes for all"
  local log
  log=$(mktemp)
  { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
    tail -20 "$log" >&2
    die "apt-get failed"
  }
  rm -f "$log"
  finished
}

# Sets PYTHON. Its folder is named after what is installed there.
find_python() {
  local stamp
  stamp=$({ cat "$REPOSITORY/tests/interop/requirements.txt" && python3 --version; } | sha256sum | cut -c1-12)
  PYTHON=$CACHE/python/$stamp/bin/python
}

python_grpc() {
  find_python
  [[ ! -e ${PYTHON%/bin/python}/ready ]] || return 0
  local folder=${PYTHON%/bin/python} log
  step "Python's gRPC" "20 s"
  log=$(mktemp)
  # Built from source it would take an hour: better to say that there is none for this Python.
  { rm -rf "$folder" && python3 -m venv "$folder" &&
    "$PYTHON" -m pip install --only-binary :all: -r "$REPOSITORY/tests/interop/requirements.txt"; } >"$log" 2>&1 || {
    tail -20 "$log" >&2
    die "pip failed"
  }
  touch "$folder/ready"
  rm -f "$log"
  finished
}

tools() {
  find_bin
  mkdir -p "$BIN"
  built etcd || program etcd "30 s" -o "$BIN/etcd" go.etcd.io/etcd/server/v3
  built grpcurl || program grpcurl "40 s" -o "$BIN/" github.com/fullstorydev/grpcurl/cmd/grpcurl
  built buf || program buf "2 minutes" -o "$BIN/" github.com/bufbuild/buf/cmd/buf
}

kube() {
  find_bin
  mkdir -p "$BIN"
  built pause || program pause "1 s" -o "$BIN/pause" .
  built containerd containerd-shim-runc-v2 ctr ||
    program containerd "1 minute" -o "$BIN/" github.com/containerd/containerd/v2/cmd/{containerd-shim-runc-v2,ctr,containerd}
  built coredns || program coredns "90 s" -o "$BIN/" github.com/coredns/coredns
  built helm || program helm "90 s" -o "$BIN/" helm.sh/helm/v4/cmd/helm
  built promtool || promtool
  built cert-manager || cert_manager
  local names=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl local-volumes manifest-check)
  built "${names[@]}" || control_plane "${names[@]}"
}

# With its resource definitions, which are no part of the program.
cert_manager() {
  program cert-manager "4 minutes" -o "$BIN/cert-manager" .
  local source
  source=$(cd "$CLUSTER_SOURCE/go/cert-manager" && GOFLAGS=-mod=readonly GOWORK=off GOTOOLCHAIN=local go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)
  rm -rf "$BIN/cert-manager-crds"
  mkdir "$BIN/cert-manager-crds"
  install -m 0644 "$source"/deploy/crds/*.yaml "$BIN/cert-manager-crds/"
}

# Out of Debian's package, which would start a Prometheus if it were installed.
promtool() {
  step "promtool, from a Debian package" "5 s"
  local folder log
  folder=$(mktemp -d) log=$(mktemp)
  { chmod 755 "$folder" && cd "$folder" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } && dpkg -x prometheus_*.deb . &&
    mv usr/bin/promtool "$BIN/"; } >"$log" 2>&1 || {
    tail -20 "$log" >&2
    die "apt-get could not download prometheus"
  }
  cd "$REPOSITORY"
  rm -rf "$folder" "$log"
  finished
}

# Without a version of the usual form kubectl and Helm cannot parse the server's.
control_plane() {
  local version major minor name
  version=$(sed -n 's/^[[:space:]]*k8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$CLUSTER_SOURCE/go/controlplane/go.mod")
  IFS=. read -r major minor _ <<<"${version#v}"
  LDFLAGS="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor" \
    program controlplane "5 minutes" -o "$BIN/controlplane" .
  for name in "$@"; do ln -sf controlplane "$BIN/$name"; done
}

# Are these programs there?
built() {
  local name
  for name in "$@"; do [[ -x $BIN/$name ]] || return 1; done
}

# Builds packages of one of our Go modules, with exactly the versions in its go.mod.
program() { # module, usual time, arguments of go build…
  local module=$1 log
  step "$module, from Go modules" "$2, with nothing cached"
  shift 2
  log=$(mktemp)
  (cd "$CLUSTER_SOURCE/go/$module" &&
    CGO_ENABLED=0 GOFLAGS='' GOWORK=off GOTOOLCHAIN=local nice -n 5 \
      go build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w ${LDFLAGS:-}" "$@") >"$log" 2>&1 || {
    grep -v '^go: downloading' "$log" | tail -20 >&2
    die "building $module failed"
  }
  rm -f "$log"
  finished
}

step() {
  printf 'set-up: %s (usually %s) … ' "$1" "$2" >&2
  STARTED=$SECONDS
}
finished() { say "$((SECONDS - STARTED)) s"; }

main "$@"
