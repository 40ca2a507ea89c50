#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds what the supervisor says about lines of a profile, for xgettext. Its words cross D-Bus in English and are looked
up where they are shown (src/desktop/words), so they are not marked where they stand. Those that are put together of
pieces are shown as they come.

    po/phrases.py SOURCE... > phrases.c
"""

import pathlib
import re
import sys

# Pieces that never stand alone, other programs' words, and what only the journal is told.
LABELS = {"a netmask", "a number that can be", "an IPv4 address", "an IPv6 address", "an address of a name server",
          "dhcp-option DNS ", "dhcp-option DNS6 ", "dns server ", "name server", "peer address", "hold release",
          "auth-temp-failure (server temporary reject)", "signal SIGUSR1", "the state cannot be read", "others may read the file",
          "the profile's file is another one since; give them again", "an answer to its question", "the folder changed", "dddd-dd-dd dd:dd:dd ", "its server", "another one",
          "qubes-routing-manager runs in this qube too: it exposes nothing here, because a VPN qube lets nothing in"}
LITERALS = re.compile(r'"(?:\\.|[^"\\\n])*"(?:\s*\\?\s*"(?:\\.|[^"\\\n])*")*')
LITERAL = re.compile(r'"((?:\\.|[^"\\\n])*)"')
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
CODE = re.compile(r"^\s*#\s*include.*$|TAKE_ONE_OF\([^)]*\)", re.MULTILINE)


def phrases(text):
    """Literals that are words for a person: several words, no format, no layout."""
    text = CODE.sub("", COMMENT.sub("", text))
    for match in LITERALS.finditer(text):
        phrase = "".join(LITERAL.findall(match[0]))
        if (phrase not in LABELS and re.match(r"[a-z]|[A-Z]{2}", phrase) and re.search(r"[a-z] [A-Za-z]", phrase)
                and len(phrase) > 8 and not re.search(r"%|\\n|\\x|-----", phrase)):
            yield phrase


def main():
    found = set()
    for path in sys.argv[1:]:
        found.update(phrases(pathlib.Path(path).read_text(encoding="utf-8")))
    print("/* Made by po/phrases.py for xgettext; never compiled. */")
    for phrase in sorted(found):
        print(f'_("{phrase}")')


if __name__ == "__main__":
    main()
