#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures routing manager, VPN qube, dom0 and desktop in the lab and prints what it found; doc/performance.md explains the rows.

    tests/bench/run.py [--quick] [--only few|many|forward|watch|dom0|seal|tunnel|desktop]... [--write]

Root is needed, the build directory is $SLUICE_BUILD. --write puts the tables of the parts that were
measured into doc/performance.md. The exit status is 1 when a goal was missed.
"""

import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [ROOT, HERE]

# pylint: disable=wrong-import-position
from lab import sandbox

PARTS = ("few", "many", "forward", "watch", "dom0", "seal", "tunnel", "desktop")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few samples: shows that everything works")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part (may be repeated)")
    parser.add_argument("--write", action="store_true", help="put the tables into doc/performance.md")
    arguments = parser.parse_args()
    sandbox.enter()

    import desktop
    import dom0
    import forward
    import many
    import reach
    import sealing
    import tunnel
    import watching
    from report import Report, machine
    report = Report()
    print(machine())
    for name, part in zip(PARTS, (reach, many, forward, watching, dom0, sealing, tunnel, desktop)):
        if not arguments.only or name in arguments.only:
            part.measure(report, arguments.quick)
    if arguments.write:
        report.write(f"{ROOT}/doc/performance.md")
    print(f"\n{report.met} goals met, {len(report.missed)} missed", *report.missed, sep="\n  ")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
