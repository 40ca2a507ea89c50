#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What each package weighs and brings along, from the built packages and the lists of apt.

    closure.py FOLDER              the tables, as Markdown
    closure.py FOLDER --write      puts them into doc/packages.md
    closure.py FOLDER --brings     one line for each package: what comes with it, by name

What "is there" in a template that has nothing but qubes-core-agent-networking is the closure of BASE.
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
PAGE = TOP / "doc/packages.md"
BEGIN, END = "<!-- packaging/closure.py -->", "<!-- end -->"

# What qubes-core-agent-networking brings that is Debian's, and what any qube runs on; with essential packages. Less than a real
# template has, so that nothing of ours hides behind it.
BASE = "systemd systemd-sysv dbus nftables conntrack iproute2 socat tinyproxy python3".split()
# The libraries a package of ours may bring; another one needs a reason in ARCHITECTURE.md.
LIBRARIES = {"libjansson4", "libmnl0", "libnftnl11", "libcares2", "libc-ares2", "libsmartcols1", "libsystemd0", "libc6"}
ALLOWED = LIBRARIES | {"nftables", "systemd", "init-system-helpers"}
OURS = ["qubes-network-server", "qubes-network-server-inbound", "qubes-vpn", "qubes-vpn-desktop", "qubes-network-server-dom0"]


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Debian:
    """The packages of apt's lists: what needs what, and how big it is."""

    def __init__(self, roots):
        self.depends, self.size, self.essential = {}, {}, set()
        todo = list(roots)
        while todo:
            found = self._read([name for name in todo if name not in self.depends])
            todo = [name for name in {one for new in found for one in self.depends[new]} if name not in self.depends]

    shown = {}  # what apt-cache said, asked once: (size, names)

    def _read(self, names):
        self.ask([name for name in names if name not in self.shown])
        for name in names:
            self.size[name], self.depends[name] = self.shown[name] or (0, set())
        return [name for name in names if self.shown[name]]

    @classmethod
    def ask(cls, names):
        cls.shown.update({name: None for name in names})
        if not names:
            return
        text = subprocess.run(["apt-cache", "show", "--no-all-versions", *names], check=False, capture_output=True,
                              text=True).stdout
        for block in text.split("\n\n"):
            fields = dict(re.findall(r"^([\w-]+): (.*)$", block, re.MULTILINE))
            if fields.get("Package") in names:
                wanted = ", ".join(fields[key] for key in ("Depends", "Pre-Depends") if key in fields)
                cls.shown[fields["Package"]] = (int(fields.get("Installed-Size", 0)), cls.first(wanted))

    @staticmethod
    def first(text):
        """Names that a field wants; of alternatives the first, as apt takes it."""
        names = set()
        for part in filter(None, (one.strip() for one in text.split(","))):
            names.add(re.split(r"[\s|(:]", part)[0])
        return names

    def closure(self, names):
        found, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found.add(name)
            todo += self.depends.get(name, ())
        return found


def describe(folder):
    """{package: (bytes, installed KiB, names it depends on, names it recommends)}"""
    packages = {}
    for name in OURS:
        (deb,) = pathlib.Path(folder).glob(f"{name}_*.deb")
        fields = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", deb).splitlines() if re.match(r"[\w-]+: ", line))
        depends = Debian.first(", ".join(fields.get(key, "") for key in ("Depends", "Pre-Depends")))
        packages[name] = (deb.stat().st_size, int(fields["Installed-Size"]), depends,
                          Debian.first(fields.get("Recommends", "")))
    return packages


def brings(folder):
    """{package: [(name, installed KiB)...]}: what is installed with it where only BASE is, without Recommends."""
    packages = describe(folder)
    essential = run("dpkg-query", "-W", "-f", "${Essential} ${Package}\n").splitlines()
    base = [*BASE, *(line.split()[1] for line in essential if line.startswith("yes "))]
    wanted = set().union(*(depends for _, _, depends, _ in packages.values()))
    debian = Debian([*base, *wanted])
    there = debian.closure(base)
    new = {}
    for name, (_, _, depends, _) in packages.items():
        # another package of ours brings its own
        closure = debian.closure(set().union(*(packages[one][2] if one in packages else {one} for one in depends)))
        new[name] = sorted((one, debian.size.get(one, 0)) for one in closure - there - set(OURS))
    return new


def tables(folder):
    packages, new = describe(folder), brings(folder)
    lines = ["| Package | File | Installed | Uses | Comes with it, where only the base is | Recommends |", "|---|---|---|---|---|---|"]
    for name, (size, installed, depends, recommends) in packages.items():
        others = ", ".join(one for one in depends if one in packages)
        if len(new[name]) > 12:
            text = f"{len(new[name])} packages, {sum(kib for _, kib in new[name]) // 1024} MiB: GTK 3 and what it needs"
        else:
            text = ", ".join(f"{one} ({kib} KiB)" for one, kib in new[name]) or "nothing"
        uses = ", ".join(sorted(depends - set(packages))) if len(depends) < 14 else f"{len(depends)} packages, GTK 3 among them"
        lines.append(f"| `{name}` | {(size + 1023) // 1024} KiB | {installed} KiB | {uses} | "
                     f"{text}{'; ' + others if others else ''} | {', '.join(sorted(recommends)) or '-'} |")
    return "\n".join(lines)


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    if "--brings" in arguments:
        for name, found in brings(arguments[0]).items():
            print(f"{name}: {' '.join(one for one, _ in found)}")
        return
    text = tables(arguments[0])
    if "--write" not in arguments:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:begin]}\n{text}\n{page[end:]}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
