#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# source.sh FOLDER: puts the sources of the last commit into FOLDER, every file with the time of the changelog. What is
# not committed is not packaged. Without git (an unpacked release) the tree itself is copied.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
if git -C "$top" rev-parse --git-dir > /dev/null 2>&1; then
    [ -z "$(git -C "$top" status --porcelain -uno)" ] || echo "note: what is not committed is not packaged" >&2
    git -C "$top" archive --format=tar "${REF:-HEAD}" | tar -x -C "$out"
else
    tar -c -C "$top" --exclude='./build*' --exclude=./dist --exclude=__pycache__ . | tar -x -C "$out"
fi
epoch=$("$top/packaging/epoch.sh" "$out/debian/changelog")
find "$out" -exec touch -h -d "@$epoch" {} +
