#!/usr/bin/env bash
# Measures our nodes beside etcd on loopback, with fsync on; about 10 minutes. Options are those of
# `multiraft-bench suite --help`: --parts names those that take long, too (active, sparse, snapshots).
# The table's figures are written to target/bench/report.json as well.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
cd "$here/.."
exec "$(scripts/target.sh)/release/multiraft-bench" suite "$@"
