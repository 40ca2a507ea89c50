#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# reproducible.sh [deb] [rpm]: builds the packages twice, in folders of different names, at different times, with other
# umasks, languages and numbers of jobs, and compares each byte.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d -t sluice-twice.XXXXXX)
trap 'rm -rf "$work"' EXIT
export NOLINT=1
[ $# -gt 0 ] || set -- deb rpm
different=0
for kind in "$@"; do
    mkdir "$work/here"
    "$here/$kind.sh" "$work/first" "$work/here"
    rm -rf "$work/here"
    mkdir -p "$work/another/place/with-a-longer-name"
    (umask 027; DEB_BUILD_OPTIONS=parallel=1 TZ=Pacific/Auckland LC_ALL=C.UTF-8 LANGUAGE=de HOME=/nonexistent \
        "$here/$kind.sh" "$work/second" "$work/another/place/with-a-longer-name")
    rm -rf "$work/another"
    n=0
    for package in "$work"/first/*."$kind"; do
        n=$((n + 1))
        cmp "$package" "$work/second/${package##*/}" || different=1
    done
    [ "$n" -gt 0 ] && [ "$n" = "$(find "$work/second" -name "*.$kind" | wc -l)" ] || different=1
    echo "$kind: two builds, $n packages"
done
[ "$different" = 0 ] || { echo "the packages of two builds differ" >&2; exit 1; }
echo "the same bytes"
