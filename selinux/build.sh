#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# build.sh FOLDER: compiles the policy module into FOLDER/sluice.pp, with the headers of the installed policy (Fedora:
# selinux-policy-devel, Debian: selinux-policy-dev).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cp "$here"/sluice.te "$here"/sluice.fc "$here"/sluice.if "$1/"
make -s -C "$1" -f /usr/share/selinux/devel/Makefile sluice.pp
