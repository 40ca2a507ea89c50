#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# changelog.sh CHANGELOG: copies standard input and puts CHANGELOG, as RPM wants it, in the place of @CHANGELOG@.
set -eu
text=$(awk '
    /^[a-z]/ { gsub(/[()]/, "", $2); version = $2; n = 0; next }
    /^  \* / { sub(/^  \* /, "- "); line[++n] = $0; next }
    /^ -- / { who = $0; sub(/^ -- /, "", who); date = who; sub(/  .*/, "", who); sub(/.*>  /, "", date)
              split(date, d, " "); sub(",", "", d[1])
              printf "* %s %s %s %s %s - %s-1\n", d[1], d[3], d[2], d[4], who, version
              for (i = 1; i <= n; i++) print line[i] }' "$1")
while IFS= read -r line; do
    [ "$line" = "@CHANGELOG@" ] && printf '%s\n' "$text" || printf '%s\n' "$line"
done
