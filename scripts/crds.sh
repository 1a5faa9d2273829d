#!/usr/bin/env bash
# Writes the resource definitions from the types; with --check it only says whether they differ.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo run --quiet --locked -p multiraft-api --bin crdgen -- "$@" config/crd charts/multiraft-operator/files/crds
