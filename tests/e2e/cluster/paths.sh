# Where everything lies. Sourced by setup.sh and by the scripts beside this file.
# shellcheck shell=bash

CLUSTER_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$CLUSTER_SOURCE/../../.." && pwd)

# What takes long to make, kept between runs and shared by all checkouts.
CACHE=${MULTIRAFT_CACHE:-$HOME/.cache/multiraft}

# The programs are named after what they are built from, so that another version
# of the sources never uses them.
tools_stamp() {
  (cd "$CLUSTER_SOURCE/go" && { find . -type f | LC_ALL=C sort | xargs sha256sum; go env GOVERSION GOARCH; }) | sha256sum | cut -c1-12
}

# Sets BIN, the folder of the Go programs.
find_bin() {
  BIN=$CACHE/kube/$(tools_stamp)/bin
}

# For a shell to evaluate: the Go programs come first on its PATH, once.
path_setting() {
  # shellcheck disable=SC2016
  printf 'case ":$PATH:" in *:%q:*) ;; *) export PATH=%q:$PATH ;; esac\n' "$BIN" "$BIN"
}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
