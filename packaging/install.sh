#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# install.sh BUILD vm|dom0 [DESTDIR]: installs from BUILD (configured with --prefix=/usr) what belongs into a template
# (vm), or what belongs into dom0. Which file is whose is said by debian/*.install.
set -eu
umask 022
top=$(cd "$(dirname "$0")/.." && pwd)
all=$(mktemp -d)
trap 'rm -rf "$all"' EXIT
build=$(cd "$1" && pwd)
DESTDIR=$all meson install -C "$build" --no-rebuild --quiet > /dev/null
mkdir -p "${3:-}/"
there=$(cd "${3:-}/" && pwd)
cd "$all"
dom0=$(cat "$top/debian/qubes-network-server-dom0.install")
# shellcheck disable=SC2086  # a list of patterns
case $2 in
vm) rm $dom0 && find . ! -type d -print0 ;;
dom0) find $dom0 ! -type d -print0 ;;
*) echo "vm or dom0?" >&2; exit 2 ;;
esac > .list
sed -i 's/\.\/\.list\x00//' .list
# Files alone: folders that are there keep their mode and owner.
tar -c --owner=0 --group=0 --no-recursion --null -T .list | tar -x --no-overwrite-dir --no-same-owner -C "$there"
