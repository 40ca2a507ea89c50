#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# epoch.sh [CHANGELOG]: the time of the newest entry of debian/changelog, in seconds: the only time in a package.
set -eu
date -u -d "$(sed -n '/^ -- /{s/.*>  *//p;q}' "${1:-$(dirname "$0")/../debian/changelog}")" +%s
