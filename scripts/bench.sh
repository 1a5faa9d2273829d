#!/usr/bin/env bash
# Measures our nodes beside etcd on loopback, with fsync on; about 10 minutes. Options are those of
# `multiraft-bench suite --help`: --parts names those that take long, too (active, sparse, snapshots),
# and those that judge what they load: locks (10,000 sessions while nodes are killed: one holder each)
# and subscribers (1,000 of one hot key: no gap, no repeat, one that stops reading).
# The table's figures are written to target/bench/report.json as well.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
cd "$here/.."
exec "$(scripts/target.sh)/release/multiraft-bench" suite "$@"
