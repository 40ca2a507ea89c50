#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed beside the program: installed.py unit UNIT PROGRAM [BESIDE...] | installed.py man PAGE...

BESIDE are other units of ours that are installed with it.

The unit is verified among stand-ins of the platform's units, so that an ordering cycle shows, and its sandbox is rated.
Exit status 77 (skipped) where the tool is missing."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

EXPOSURE = 25  # tenths: how much systemd-analyze may find open, at most
SKIPPED = 77

# The order of the platform's units (QubesOS/qubes-core-agent-linux, vm-systemd); what they run does not matter here.
PLATFORM = {
    "qubes-db": "DefaultDependencies=no\nBefore=sysinit.target",
    "qubes-sysinit": "DefaultDependencies=no\nBefore=sysinit.target\nRequires=qubes-db.service\nAfter=qubes-db.service",
    "qubes-antispoof": "Before=network-pre.target\nWants=network-pre.target",
    "qubes-iptables": "Requires=qubes-antispoof.service\nAfter=qubes-antispoof.service\nBefore=network-pre.target",
    "qubes-firewall": "After=qubes-iptables.service\nBefore=qubes-network.service",
    "qubes-network": "After=network-pre.target qubes-iptables.service\nBefore=network.target",
    "qubes-network-uplink": "Requires=network-pre.target\nAfter=network-pre.target\nBefore=network.target",
}
WANTED_BY = {"qubes-db": "sysinit.target", "qubes-sysinit": "sysinit.target", "qubes-antispoof": "network-pre.target",
             "qubes-iptables": "network-pre.target"}


def need(tool):
    if shutil.which(tool) is None:
        print(f"skipped: {tool} is not installed")
        sys.exit(SKIPPED)


def run(*command, **environment):
    """Runs it, prints what it says; the exit status and its standard error."""
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    quiet = "-Z" in command  # a formatted page is not for reading
    print("+", *command, "\n" + ("" if quiet else done.stdout) + done.stderr)
    return done.returncode, done.stderr.strip()


def write_unit(folder, name, text, wanted_by="multi-user.target"):
    """The unit as `systemctl enable` leaves it."""
    (folder / name).write_text(text, encoding="utf-8")
    places = [f"{wanted_by}.wants"]
    places += [f"{line.split('=')[1]}.requires" for line in text.splitlines() if line.startswith("RequiredBy=")]
    for place in places:
        (folder / place).mkdir(exist_ok=True)
        (folder / place / name).symlink_to(folder / name)


def read_unit(path, program):
    """The text with a program that is there: ours is not installed yet."""
    lines = [f"ExecStart={program} " + " ".join(line.split()[1:]) if line.startswith("ExecStart=") else line
             for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("ExecStopPost=")]
    return "\n".join(lines) + "\n"


def check_unit(unit, program, *beside):
    """Both commands read the unit as it is installed, but for the place of the program, which is not installed yet.
    A word exposure=N among the units beside it: as much as that may be open."""
    need("systemd-analyze")
    words = [word for word in beside if word.startswith("exposure=")]
    exposure = int(words[0].split("=")[1]) if words else EXPOSURE
    beside = [unit for unit in beside if unit not in words]
    unit = pathlib.Path(unit)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_unit(folder, unit.name, read_unit(unit, program))
        for other in map(pathlib.Path, beside):
            write_unit(folder, other.name, read_unit(other, "/bin/true"))
        for service, order in PLATFORM.items():
            write_unit(folder, f"{service}.service", f"[Unit]\nDescription=stand-in\n{order}\n[Service]\nType=oneshot\n"
                       "ExecStart=/bin/true\n", WANTED_BY.get(service, "multi-user.target"))
        # Together with the boot they are part of: a cycle is found when it is put together.
        status, said = run("systemd-analyze", "verify", "--man=no", "multi-user.target", str(folder / unit.name),
                           SYSTEMD_UNIT_PATH=f"{folder}:", SYSTEMD_LOG_LEVEL="info")
        rated, _said = run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={exposure}",
                           str(folder / unit.name))
    about_us = [line for line in said.splitlines() if "qubes" in line or "cycle" in line]
    for line in about_us:
        print("wrong:", line)
    return bool(status or rated or about_us)


def check_man(pages):
    need("man")
    wrong = False
    for page in pages:
        status, said = run("man", "--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page,
                           LC_ALL="C.UTF-8", MANROFFSEQ="", MANWIDTH="80", MANPAGER="cat")
        wrong = wrong or bool(status or said)
    if shutil.which("mandoc"):
        wrong = bool(run("mandoc", "-T", "lint", "-W", "warning", *pages)[0]) or wrong
    return wrong


def main():
    kind, arguments = sys.argv[1], sys.argv[2:]
    return check_unit(*arguments) if kind == "unit" else check_man(arguments)


if __name__ == "__main__":
    sys.exit(main())
