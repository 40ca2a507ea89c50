#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# rpm.sh OUT [FOLDER]: RPM packages of the last commit, built in FOLDER (default: a temporary one), into OUT. Where rpm
# knows nothing of systemd and Meson (Debian), packaging/macros.fallback says what they mean.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=${2:-$(mktemp -d -t sluice-rpm.XXXXXX)}
[ -n "${2:-}" ] || trap 'rm -rf "$work"' EXIT
version=$(cat "$here/../version")
rm -rf "$work/rpmbuild" "$work/sluice-$version"
mkdir -p "$work/rpmbuild/SOURCES" "$work/rpmbuild/SPECS"
"$here/source.sh" "$work/sluice-$version"
SOURCE_DATE_EPOCH=$("$here/epoch.sh" "$work/sluice-$version/debian/changelog")
export SOURCE_DATE_EPOCH
tar -c -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "sluice-$version" |
    gzip -n > "$work/rpmbuild/SOURCES/sluice-$version.tar.gz"
set -- --nodeps
rpm --eval '%{_unitdir}' | grep -q '^/' || set -- "$@" --load "$here/macros.fallback"
# Fedora builds the policy module in any case; elsewhere it is built where its headers are (selinux-policy-dev).
[ ! -e /usr/share/selinux/devel/Makefile ] || set -- "$@" --with selinux
for spec in sluice sluice-dom0; do
    sed -e "s/@VERSION@/$version/" "$work/sluice-$version/rpm_spec/$spec.spec.in" |
        "$here/changelog.sh" "$work/sluice-$version/debian/changelog" > "$work/rpmbuild/SPECS/$spec.spec"
    rpmbuild "$@" -bb -D "_topdir $work/rpmbuild" -D 'clamp_mtime_to_source_date_epoch 1' \
        -D 'use_source_date_epoch_as_buildtime 1' -D '_buildhost reproducible' -D "_build_id_links none" \
        "$work/rpmbuild/SPECS/$spec.spec" > "$work/$spec.log" 2>&1 || { tail -40 "$work/$spec.log" >&2; exit 1; }
done
cp "$work"/rpmbuild/RPMS/*/*.rpm "$work"/rpmbuild/RPMS/*.rpm "$out/" 2> /dev/null || ls "$out"/*.rpm > /dev/null
