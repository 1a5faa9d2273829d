#!/usr/bin/env bash
# Checks the wire contract with buf.
#
#   check.sh            lint, and no breaking change against the stored image
#   check.sh update     store the present contract as the image (after a reviewed change)
#
# BUF names the program; default: the one that scripts/setup.sh tools builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

BUF=${BUF:-$(../scripts/setup.sh bin)/buf}
[[ -x $BUF ]] || { echo "buf is missing: run scripts/setup.sh tools" >&2; exit 1; }

case ${1:-check} in
  check)
    "$BUF" lint
    "$BUF" breaking --against image.binpb
    echo "the contract is clean and breaks nothing"
    ;;
  update)
    "$BUF" build --exclude-source-info -o image.binpb
    ;;
  *)
    grep '^#  ' "$0" >&2
    exit 2
    ;;
esac
