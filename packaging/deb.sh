#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# deb.sh OUT [FOLDER]: Debian packages of the last commit, built in FOLDER (default: a temporary one), into OUT.
# SUITE=trixie (or another): built in a root of that Debian, which mmdebstrap makes once (as root; SLUICE_CACHE, see
# tests/system). NOLINT=1 leaves out lintian.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
root=
if [ -n "${SUITE:-}" ]; then
    root=$("$here/deb-root.sh" "$SUITE")
    set -- "$1" "$(mktemp -d "$root/build.XXXXXX")"
    trap 'rm -rf "$2"' EXIT
fi
work=${2:-$(mktemp -d -t sluice-deb.XXXXXX)}
[ -n "${2:-}" ] || trap 'rm -rf "$work"' EXIT
rm -rf "$work/sluice"
mkdir -p "$work/sluice"
"$here/source.sh" "$work/sluice"
cd "$work/sluice"
SOURCE_DATE_EPOCH=$("$here/epoch.sh" debian/changelog)
export SOURCE_DATE_EPOCH
# A second job gains little and takes the whole machine.
DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-parallel=2}"
export DEB_BUILD_OPTIONS
# shellcheck disable=SC2016  # the inner shell's
build='cd "$1/sluice" && exec dpkg-buildpackage -us -uc -b'
if [ -n "$root" ]; then
    unshare --mount --net --pid --fork sh -ec 'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"
        exec chroot "$1" sh -c "$2" sh "$3"' sh "$root" "$build" "${work#"$root"}"
else
    sh -c "$build" sh "$work"
fi > ../build.log 2>&1 || { tail -40 ../build.log >&2; exit 1; }
cd ..
if [ -z "${NOLINT:-}" ]; then
    # The project has no mail address yet; everything else counts.
    lintian --allow-root --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog \
        --fail-on error,warning ./*.changes
fi
cp ./*.deb ./*.changes ./*.buildinfo "$out/"
