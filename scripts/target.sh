#!/usr/bin/env bash
# Prints the folder into which cargo builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo metadata --no-deps --format-version 1 </dev/null | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'
