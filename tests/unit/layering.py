#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks who includes whom in src/ (ARCHITECTURE.md): libraries include base and what is named here, programs include
libraries but no other program, the plan includes nothing that can do input or output."""

import pathlib
import re
import sys

LIBRARIES = {
    "base": set(),
    "control": {"base"},
    "netlink": {"base"},
    "nft": {"base", "netlink"},
    "qubesdb": {"base"},
    "adminapi": {"base"},
    "exposure": {"base"},
    "reconcile": {"base"},
}
# Rooms of a program's folder that are libraries: what one may include, and which other folder may include it.
ROOMS = {
    "vpn/object": ({"base", "vpn/object", "vpn/profile"}, {"desktop"}),
    "vpn/profile": ({"base", "vpn/profile", "vpn/wish"}, {"desktop"}),
}
PROGRAMS = {"router", "inbound", "vpn", "desktop", "dom0"}

PLAN = re.compile(r"(router/plan(_\w+)?|dom0/tree/(tree|qube|features|wish(_\w+)?))\.[ch]$")
# The plan may see these headers of ours, directly or through one another.
PLAN_OWN = re.compile(r"(base/(addr|str|cleanup)|exposure/\w+|reconcile/\w+|"
                      r"router/(access|plan(_\w+)?|model(_\w+)?|object|limits)|"
                      r"dom0/tree/(tree|wish(_\w+)?))\.h$")
# Of the C library it names only what computes; types and constants may come along with the headers above.
PLAN_LIBC = {"errno.h", "inttypes.h", "limits.h", "netinet/in.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h",
             "stdio.h", "stdlib.h", "string.h"}
PLAN_ALONG = PLAN_LIBC | {"arpa/inet.h", "net/if.h", "sys/queue.h", "unistd.h"}
# <stdio.h> is for printing into memory, <stdlib.h> for memory: what else they offer is refused by name.
PLAN_CALLS = re.compile(r"\b(f?printf|vf?printf|dprintf|puts|fputs|f?putc|putchar|f(open|dopen|write|read|close|flush)|"
                        r"perror|getenv|secure_getenv|system|exit|abort|open|close|read|write|ioctl|sleep|time)\s*\(")
COMMENT = re.compile(r"/\*.*?\*/|\"(?:\\.|[^\"\\])*\"", re.DOTALL)

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def includes(path):
    """Pairs (own header or None, system header or None)."""
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def check_arrows(src, path, errors):
    place = path.relative_to(src)
    folder = place.parts[0]
    if folder not in LIBRARIES and folder not in PROGRAMS:
        errors.append(f"{place}: folder {folder} is in no layer (tests/unit/layering.py)")
        return
    for own, _system in includes(path):
        if not own:
            continue
        if not (src / own).is_file():
            if (path.parent / own).is_file():
                errors.append(f'{place}: "{own}" must be written with its folder')
            continue  # made by the build
        target = pathlib.PurePath(own).parts[0]
        allowed = LIBRARIES.get(folder, set(LIBRARIES)) | {folder}
        target_room, room = ("/".join(pathlib.PurePath(name).parts[:2]) for name in (own, place))
        if room in ROOMS:
            target, allowed = target_room if target == folder else target, ROOMS[room][0]
        elif target_room in ROOMS and folder in ROOMS[target_room][1]:
            continue
        if target not in allowed:
            errors.append(f"{place}: includes {own}; {folder} may include only {', '.join(sorted(allowed))}")


def check_plan(src, path, errors):
    place, seen, waiting = path.relative_to(src), set(), [path]
    for call in PLAN_CALLS.finditer(COMMENT.sub("", path.read_text(encoding="utf-8"))):
        errors.append(f"{place}: calls {call[1]}(): the plan does no input or output")
    while waiting:
        current = waiting.pop()
        along = "" if current == path else f" (by {current.relative_to(src)})"
        for own, system in includes(current):
            if system and system not in (PLAN_ALONG if along else PLAN_LIBC):
                errors.append(f"{place}: includes <{system}>{along}: the plan does no input or output")
            if own and own not in seen:
                seen.add(own)
                if not PLAN_OWN.match(own):
                    errors.append(f"{place}: includes {own}{along}: not for the plan")
                elif (src / own).is_file():
                    waiting.append(src / own)


def main():
    src = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "src").resolve()
    files, errors = sorted(src.rglob("*.[ch]")), []
    if not files:
        sys.exit(f"{src}: no source files")
    for path in files:
        check_arrows(src, path, errors)
        if PLAN.search(path.relative_to(src).as_posix()):
            check_plan(src, path, errors)
    print("\n".join(errors) or f"{len(files)} files, every arrow points down")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
