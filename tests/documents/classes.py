# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a command: it is run in a world of places.py, or only its form is checked, for the reason told here.
A command that nothing here knows is a failure of the test.
"""

import functools
import re
import shlex

from shown import ROOT

# Whose program runs where, if the document does not say it.
PLACES = {
    "qvm-expose": "dom0", "qubes-network-serverd": "dom0", "qvm-features": "dom0", "qvm-prefs": "dom0",
    "qvm-service": "dom0", "qvm-start": "dom0", "qvm-shutdown": "dom0", "qvm-create": "dom0", "qvm-ls": "dom0",
    "qvm-firewall": "dom0", "qubes-prefs": "dom0", "qvm-check": "dom0",
    "qubes-routing-manager": "sys-net", "qubes-inbound": "web", "nft": "web",
    "qubes-vpn": "sys-vpn", "qubes-vpn-forwarding": "sys-vpn",
}
DOCUMENT_PLACES = {"doc/vpn.md": "sys-vpn", "doc/dbus.md": "sys-vpn"}
DOCUMENT_ELSE = {"doc/setup-vpn.md": "sys-vpn"}

OURS = ("qvm-expose", "qubes-network-serverd", "qubes-routing-manager", "qubes-inbound", "qubes-vpn", "qubes-vpn-forwarding")
# What a world runs as it stands, given the place.
RUN = {"curl", "ssh", "ss", "ip", "nft", "sysctl", "conntrack", "qubesdb-read", "qubesdb-write", "qubesdb-multiread",
       "mkdir", "touch", "chmod", "echo", "cat", "python3", "timeout", "ping", "ssh-keygen", *PLACES}

UNITS_OF_OTHERS = {"qubesd", "qubes-iptables", "qubes-firewall", "qubes-network", "ssh", "ssh.socket", "sshd"}
VERBS = {"status", "is-active", "start", "stop", "restart", "enable", "disable", "reload", "kill", "list-units", "show"}
PACKAGES_OF_OTHERS = {"openssh-server", "openvpn", "wireguard-go", "polkitd", "jansson", "nginx"}


@functools.cache
def units():
    return {path.name.removesuffix(".in").removesuffix(".service") for path in (ROOT / "data/systemd").iterdir()}


@functools.cache
def packages():
    text = (ROOT / "debian/control").read_text(encoding="utf-8")
    needs = (ROOT / "lab/requirements-debian.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^Package: (\S+)", text, re.M)) | PACKAGES_OF_OTHERS | {line.split()[-1]
                                                                                  for line in needs.splitlines() if line}


def is_unit(name):
    name = name.removesuffix(".service")
    return name in units() or name in UNITS_OF_OTHERS


def systemctl(words):
    rest = [word for word in words[1:] if word not in ("--now", "--user") and not word.startswith("--signal=")]
    if not rest or rest[0] not in VERBS:
        return f"systemctl has no {rest[:1]}"
    wrong = [word for word in rest[1:] if not is_unit(word)]
    return f"no such unit: {wrong}" if wrong else None


def journalctl(words):
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if word == "-u":
            if not rest or not is_unit(rest.pop(0)):
                return "no such unit"
        elif word == "--grep":
            rest.pop(0)
        elif word not in ("-b", "-f", "-n", "-e") and not re.fullmatch(r"SLUICE_[A-Z]+=\S+", word):
            return f"option {word}"
    return None


def install(words):
    names = [word for word in words[1:] if not word.startswith("-") and word not in ("install", "remove", "purge", "update",
                                                                                     "reinstall")]
    # A file of a package that was built here: by name, whatever version and system.
    wrong = [name for name in names if name not in packages()
             and re.split(r"[_*]|-[0-9\[*]|\.(?:deb|rpm)$", name.split("/")[-1])[0] not in packages()]
    return f"no such package: {wrong}" if wrong else None


def make(words):
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
    wrong = [one for one in targets if not re.search(rf"^(\.PHONY:.*\s)?{re.escape(one)}(\s*:|\s|$)", text, re.M)]
    return f"no such target: {wrong}" if wrong else None


def qubesctl(words):
    """The formula's states, and top files that exist; tests/salt performs the states."""
    rest = [word for word in words[1:] if word not in ("--show-output", "--skip-dom0") and not word.startswith("--targets=")]
    verb, *names = [word for word in rest if word not in ("test=True", "pillar=True")]
    folder = ROOT / "salt" / ("pillar" if "pillar=True" in rest else "states")
    if verb in ("top.enable", "top.disable"):
        wrong = [name for name in names if not (folder / name / "init.top").is_file()]
    elif verb in ("state.apply", "state.sls"):
        paths = {name: folder / name.replace(".", "/") for name in names}
        wrong = [name for name, path in paths.items() if not path.with_suffix(".sls").is_file()
                 and not (path / "init.sls").is_file()]
    else:
        return f"qubesctl has no {verb}"
    return f"salt/ has no {wrong}" if wrong else None


def policy(words):
    return None if len(words) == 6 and words[4] == "allow" else "a policy line has five fields and an action"


def anything(_words):
    return None


# Programs whose form alone is checked: what checks it, and why they are not run here.
FORM = {
    "systemctl": (systemctl, "there is no systemd in the lab; units and verbs are compared with what there is"),
    "journalctl": (journalctl, "there is no journal in the lab"),
    "apt": (install, "changes the machine; the system test installs the packages"),
    "apt-get": (install, "changes the machine; the system test installs the packages"),
    "dnf": (install, "not on this system"),
    "qubes-dom0-update": (install, "Qubes' own"),
    "make": (make, "a target that exists; CI runs them"),
    "meson": (anything, "builds, as the tests were built"),
    "ninja": (anything, "builds, as the tests were built"),
    "tar": (anything, "unpacks what only the reader has"),
    "git": (anything, "makes an archive of a clone that only the reader has"),
    "rpm": (anything, "asks about packages of dom0"),
    "rm": (anything, "removes installed files"),
    "userdel": (anything, "changes the machine's users"),
    "systemd-sysusers": (anything, "changes the machine's users"),
    "qvm-run": (anything, "Qubes' own; needs another qube's shell"),
    "qvm-copy": (anything, "Qubes' own; asks in dom0"),
    "qvm-clone": (anything, "Qubes' own; the stand-in of qubesd has no such call"),
    "qubesctl": (qubesctl, "there is no Salt here; tests/salt performs the states with a stand-in"),
    "install": (anything, "gives files to users that only an installed system has"),
    "busctl": (anything, "needs the system bus; tests/lab/test_vpn_command.py compares the object with its description"),
    "qubes.UpdatesProxy": (policy, "a line of dom0's policy"),
    "arping": (anything, "there are two programs of that name"),
    "qubes-vpn-configurator": (anything, "needs a session; tests/desktop run it"),
    "last": (anything, "reads the log-ins of an installed system"),
    "cd": (anything, "the reader's folder"),
}
# A program of the source tree.
IN_TREE = (anything, "builds, measures or tests; takes minutes")
# In a template or on the machine where the project is built nothing is run at all.
FORM_PLACES = {"template": "installs into a template", "build": "builds"}


def words_of(text):
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        words = text.split()
    while words and (words[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words.pop(0)
    return words


def first(text):
    words = words_of(text)
    return words[0] if words else ""
