#!/usr/bin/env bash
# Prints the folder of the previous release's programs and chart, and builds them when they are
# missing: the commit that tests/e2e/previous names, in the cache (usually 15 minutes, once).
set -euo pipefail
# shellcheck source=cluster/paths.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/paths.sh"
cd "$REPOSITORY"

COMMIT=$(cat tests/e2e/previous)
FOLDER=$CACHE/previous/${COMMIT:0:12}
PROGRAMS=(multiraft-node multiraft multiraft-operator)

main() {
  mkdir -p "$FOLDER"
  # One at a time.
  exec 9>"$FOLDER/lock"
  flock 9
  [[ -d $FOLDER/charts ]] || unpack charts "$FOLDER"
  local program
  for program in "${PROGRAMS[@]}"; do
    [[ -x $FOLDER/$program ]] || { build; break; }
  done
  echo "$FOLDER"
}

unpack() { # path in the repository, or nothing for all; folder
  git cat-file -e "$COMMIT^{commit}" 2>/dev/null || die "commit $COMMIT of the previous release is not in this clone: git fetch --unshallow"
  git archive "$COMMIT" ${1:+"$1"} | tar -x -C "$2"
}

build() {
  local source target=$CACHE/previous/target
  say "building the previous release, $COMMIT (usually 15 minutes, once)"
  source=$(mktemp -d "$FOLDER/source.XXXXXX")
  unpack "" "$source"
  (cd "$source" && CARGO_TARGET_DIR=$target cargo build --release --locked -p multiraft-server -p multiraft-client -p multiraft-controller --bins 9>&- >&2)
  install -m 0755 "${PROGRAMS[@]/#/$target/release/}" "$FOLDER/"
  rm -rf "$source"
}

main
