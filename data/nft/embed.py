#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints a text file as the lines of a C string literal."""
import sys

for line in open(sys.argv[1], encoding="ascii"):
    print('"%s\\n"' % line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"'))
