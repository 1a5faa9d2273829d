#!/usr/bin/env bash
# Builds the images from the project's own Dockerfiles, without a container engine,
# on a base made from Debian packages. Nothing is built again that has not changed.
#
#   images.sh [TAG]    build node and operator, tag "dev" unless given, from the binaries
#                      in MULTIRAFT_BIN, or cargo's target folder
#   images.sh base     build the base alone
#
# Prints one line per image, its name and its archive:
#   localhost/multiraft-node:dev /…/multiraft-node-0123456789ab.tar
set -euo pipefail

# shellcheck source=paths.sh
source "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

# All Debian packages of the base: with librocksdb7.8 here, the node's Dockerfile
# needs no network.
BASE_SUITE=bookworm
BASE_PACKAGES=librocksdb7.8
BASE_NAME=localhost/multiraft-base:1

IMAGES=$CACHE/images
RELEASE=${MULTIRAFT_BIN:-$("$REPOSITORY/scripts/target.sh")/release}
KEEP_ARCHIVES=4

main() {
  ((EUID == 0)) || die "building images needs root"
  mkdir -p "$IMAGES"
  # One at a time: the builder's storage is shared.
  exec 9>"$IMAGES/lock"
  flock 9
  base
  if [[ ${1:-} = base ]]; then
    echo "$BASE_NAME $BASE"
    return
  fi
  image "${1:-dev}" node multiraft-node multiraft
  image "${1:-dev}" operator multiraft-operator
}

# Sets BASE, the base's archive, and makes it if it is missing.
base() {
  local key folder container
  key=$(printf '%s\n' "$BASE_SUITE" "$BASE_PACKAGES" "$(declare -f base slim)" | sha256sum | cut -c1-12)
  BASE=$IMAGES/multiraft-base-$key.tar
  [[ ! -f $BASE ]] || return 0
  command -v debootstrap >/dev/null && command -v buildah >/dev/null || die "debootstrap or buildah is missing: run scripts/setup.sh kube"
  printf 'images: base of Debian %s (usually 40 s, once) … ' "$BASE_SUITE" >&2
  SECONDS=0
  folder=$(mktemp -d "$IMAGES/base.XXXXXX")
  debootstrap --variant=minbase --include="$BASE_PACKAGES" "$BASE_SUITE" "$folder/root" >"$IMAGES/base.log" 2>&1 ||
    { tail -5 "$IMAGES/base.log" >&2; rm -rf --one-file-system "$folder"; die "debootstrap failed"; }
  slim "$folder/root"
  container=$(build_tool from scratch)
  build_tool add -q "$container" "$folder/root" / >/dev/null
  build_tool config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd /bin/sh "$container"
  build_tool commit -q "$container" "$BASE_NAME" >/dev/null
  build_tool rm "$container" >/dev/null
  archive "$BASE_NAME" "$BASE"
  rm -rf --one-file-system "$folder"
  say "$SECONDS s"
}

# What a server never reads.
slim() { # root
  rm -rf "$1"/usr/share/{doc,man,info,locale,lintian,bug,zoneinfo}/* "$1"/var/{cache,log}/* "$1"/var/lib/apt/lists/* "$1"/var/cache/apt
  mkdir -p "$1"/var/lib/apt/lists/partial "$1"/var/cache/apt/archives/partial
}

# Builds an image of some binaries unless it is there, and prints its name and archive.
image() { # tag, part (a folder with a Dockerfile), binaries…
  local tag=$1 part=$2 name key target context binary
  shift 2
  for binary in "$@"; do
    [[ -x $RELEASE/$binary ]] || die "$RELEASE/$binary is missing: run 'cargo build --release' first"
  done
  name=localhost/multiraft-$part:$tag
  key=$( (cd "$RELEASE" && sha256sum "$@" "$REPOSITORY/$part/Dockerfile" && echo "$name" "$BASE") | sha256sum | cut -c1-12)
  target=$IMAGES/multiraft-$part-$key.tar
  if [[ ! -f $target ]]; then
    printf 'images: %s (usually 5 s) … ' "$name" >&2
    SECONDS=0
    context=$(mktemp -d "$IMAGES/context.XXXXXX")
    for binary in "$@"; do install -m 0755 "$RELEASE/$binary" "$context/"; done
    build_tool inspect --type image "$BASE_NAME" >/dev/null 2>&1 || build_tool pull -q "docker-archive:$BASE" >/dev/null
    build_tool bud -q --pull-never --build-arg BASE="$BASE_NAME" -f "$REPOSITORY/$part/Dockerfile" -t "$name" "$context" >"$IMAGES/$part.log" 2>&1 ||
      { tail -20 "$IMAGES/$part.log" >&2; rm -rf "$context"; die "building $name failed"; }
    archive "$name" "$target"
    build_tool rmi "$name" >/dev/null
    rm -rf "$context"
    # shellcheck disable=SC2012
    ls -t "$IMAGES/multiraft-$part-"*.tar | tail -n +$((KEEP_ARCHIVES + 1)) | xargs -r rm -f
    say "$SECONDS s"
  fi
  touch "$target"
  echo "$name $target"
}

archive() { # name, file
  rm -f "$2.new"
  build_tool push -q "$1" "docker-archive:$2.new:$1" >/dev/null
  mv "$2.new" "$2"
}

# With storage of its own: images of this machine's user are not touched.
build_tool() {
  local command=$1
  shift
  BUILDAH_ISOLATION=chroot buildah --storage-driver vfs --root "$IMAGES/storage" --runroot "$IMAGES/running" "$command" "$@" 9>&-
}

main "$@"
