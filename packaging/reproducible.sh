#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the Debian packages twice, in folders of different names, times, umasks, languages and numbers of jobs, and
# compares each byte.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d -t sluice-twice.XXXXXX)
trap 'rm -rf "$work"' EXIT
export NOLINT=1
mkdir "$work/here"
"$here/deb.sh" "$work/first" "$work/here"
rm -rf "$work/here"
mkdir -p "$work/another/place/with-a-longer-name"
(umask 027; DEB_BUILD_OPTIONS=parallel=1 TZ=Pacific/Auckland LC_ALL=C.UTF-8 HOME=/nonexistent \
    "$here/deb.sh" "$work/second" "$work/another/place/with-a-longer-name")
cd "$work/first"
different=0
for package in *.deb; do
    cmp "$package" "../second/$package" || different=1
done
[ "$different" = 0 ] || { echo "the packages of two builds differ" >&2; exit 1; }
echo "two builds, $(find . -name "*.deb" | wc -l) packages, the same bytes"
