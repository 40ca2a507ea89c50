#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Brings po/sluice.pot and the translations up to what the sources say. --pot FILE: only writes the template there.
set -e
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 po/phrases.py src/vpn/profile/*.c src/vpn/client/*.c src/vpn/daemon/machine.c \
    src/vpn/daemon/manager*.c > "$work/phrases.c"
{ cat po/POTFILES; echo phrases.c; } > "$work/files"
xgettext --from-code=UTF-8 --language=C --keyword= --keyword=_ --keyword=N_ --keyword=ngettext:1,2 \
    --add-comments=TRANSLATORS --add-location=file --sort-by-file --package-name=sluice --copyright-holder="the authors of Sluice" \
    --files-from="$work/files" --directory=. --directory="$work" --output="$work/sluice.pot"
sed -i '/^"POT-Creation-Date:/d' "$work/sluice.pot"
if [ "$1" = --pot ]; then
    cp "$work/sluice.pot" "$2"
    exit
fi
cp "$work/sluice.pot" po/sluice.pot
grep -v '^#' po/LINGUAS | while read -r language; do
    msgmerge --quiet --update --backup=none --no-fuzzy-matching --sort-by-file --add-location=file "po/$language.po" po/sluice.pot
    msgattrib --no-obsolete --sort-by-file --add-location=file --output-file="po/$language.po" "po/$language.po"
    echo "$language: $(msgfmt --check --statistics --output-file=/dev/null "po/$language.po" 2>&1)"
done
