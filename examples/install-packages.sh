#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# install-packages.sh [build|test] - the Debian packages that building (default) or testing needs,
# by apt, with sudo if not root. Does nothing if they are there.
set -eu

build=(gcc meson ninja-build pkg-config libc6-dev libfuse3-dev fuse3 libsqlite3-dev libssl-dev
    libyaml-dev libzstd-dev libarchive-dev libinih-dev libcmocka-dev sqlite3 zstd
    python3 python3-cryptography tzdata)
test=(clang clang-format libclang-rt-14-dev bats python3 rsync tar acl attr libarchive-tools less zsh dash
    coreutils util-linux procps strace file e2fsprogs mount patch gcovr valgrind faketime ed vim-tiny
    perl-base mandoc python3-prometheus-client)

want=("${build[@]}")
if [ "${1:-build}" = test ]; then want+=("${test[@]}"); fi

missing=()
for p in "${want[@]}"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
echo "installing: ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq >&2
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
