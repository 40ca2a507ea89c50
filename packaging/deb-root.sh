#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# deb-root.sh SUITE: a root of that Debian with what debian/control wants to build, made once; says where it is.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${SLUICE_CACHE:-${TMPDIR:-/tmp}/sluice-system}
root=$cache/build-$1
mkdir -p "$cache"
exec 9> "$root.lock"
flock 9
if ! cmp -s "$here/debian/control" "$root/.control"; then
    echo "making $root" >&2
    rm -rf "$root"
    # shellcheck disable=SC2016  # $1 is mmdebstrap's
    mmdebstrap --quiet --variant=buildd --customize-hook='mkdir -p "$1/tmp/source"' \
        --customize-hook="copy-in $here/debian /tmp/source" --customize-hook='chroot "$1" sh -ec "
            cd /tmp/source && DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends build-dep ./
            cd / && rm -rf /tmp/source" > /dev/null' "$1" "$root" >&2
    cp "$here/debian/control" "$root/.control"
fi
echo "$root"
