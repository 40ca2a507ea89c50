#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The 48 px pictures from the drawings, for places that show no SVG. They are kept, so that a build needs no rsvg.
set -e
cd "$(dirname "$0")/hicolor"
for drawing in scalable/*/*.svg; do
    picture=48x48/${drawing#scalable/}
    rsvg-convert --width 48 --height 48 "$drawing" --output "${picture%.svg}.png"
done
