#!/usr/bin/env bash
# Measures our nodes beside etcd on loopback, with fsync on; about 5 minutes. Options are those of
# `multiraft-bench suite --help`. The table's figures are written to target/bench/report.json too.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
cd "$here/.."
exec "$(scripts/target.sh)/release/multiraft-bench" suite "$@"
