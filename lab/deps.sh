#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# deps.sh STAGE...: sees to the packages of lab/requirements-debian.txt. Silent when all are there.
list=$(dirname "$0")/requirements-debian.txt
stages=$(echo "$*" | tr ' ' '|')
packages=$(sed '/^#/d' "$list" | grep -E "^($stages) " | awk '{ print $2 }')

if ! command -v dpkg-query > /dev/null; then
    # Another system: only the tools can be looked for, the libraries are Meson's business.
    missing=
    for tool in cc meson ninja pkg-config python3 ip ping nft conntrack tcpdump; do
        command -v "$tool" > /dev/null || missing="$missing $tool"
    done
    [ -z "$missing" ] && exit 0
    # shellcheck disable=SC2086  # a list of words
    echo "Missing:$missing. This is not Debian: install them and what these Debian packages hold:" $packages >&2
    exit 1
fi

missing=
for package in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Missing packages; run as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of words
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing
