#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed beside the program: installed.py unit UNIT PROGRAM [BESIDE...] | installed.py units UNIT... |
installed.py man PAGE...

BESIDE are other units of ours that are installed with it.

The unit is verified among stand-ins of the platform's units, so that an ordering cycle shows, and its sandbox is rated;
`units` verifies all that a template with every package has, together.
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
    "qubes-db": "DefaultDependencies=no\nAfter=systemd-modules-load.service\nBefore=sysinit.target",
    "qubes-sysinit": "DefaultDependencies=no\nBefore=sysinit.target\nRequires=qubes-db.service\nAfter=qubes-db.service",
    "qubes-mount-dirs": "DefaultDependencies=no\nAfter=qubes-sysinit.service\nBefore=local-fs.target",
    "qubes-bind-dirs": "DefaultDependencies=no\nAfter=qubes-mount-dirs.service local-fs.target\n"
                       "Before=systemd-tmpfiles-setup.service",
    "qubes-early-vm-config": "DefaultDependencies=no\nAfter=local-fs.target qubes-db.service\nWants=network-pre.target\n"
                             "Before=sysinit.target network-pre.target",
    "qubes-antispoof": "Before=network-pre.target\nWants=network-pre.target",
    "qubes-iptables": "Requires=qubes-antispoof.service\nAfter=qubes-antispoof.service\nBefore=network-pre.target",
    "qubes-firewall": "After=qubes-iptables.service\nBefore=qubes-network.service",
    "qubes-network": "After=network-pre.target qubes-iptables.service\nBefore=network.target",
    "qubes-network-uplink": "Wants=qubes-network-uplink@eth0.service\nBefore=network.target",
    "qubes-network-uplink@eth0": "Requires=network-pre.target\nAfter=network-pre.target\nWants=network.target\n"
                                 "Before=network.target",
    "xendriverdomain": "",
    "qubes-updates-proxy": "After=qubes-iptables.service",
    "qubes-misc-post": "After=network-pre.target qubes-bind-dirs.service qubes-network.service qubes-firewall.service",
    "NetworkManager": "Wants=network.target\nBefore=network.target\nAfter=network-pre.target qubes-sysinit.service "
                      "qubes-bind-dirs.service qubes-network-uplink.service",
    "firewalld": "Wants=network-pre.target\nBefore=network-pre.target",
    "qubesd": "Before=systemd-user-sessions.service",
}
PULLED_BY = {"qubes-db": "sysinit.target.wants", "qubes-sysinit": "sysinit.target.wants",
             "qubes-early-vm-config": "sysinit.target.wants", "qubes-antispoof": "network-pre.target.requires",
             "qubes-iptables": "network-pre.target.requires"}


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


def write_unit(folder, name, text, pulled_by="multi-user.target.wants"):
    """The unit as `systemctl enable` leaves it."""
    (folder / name).write_text(text, encoding="utf-8")
    places = [pulled_by]
    places += [f"{line.split('=')[1]}.requires" for line in text.splitlines() if line.startswith("RequiredBy=")]
    for place in places:
        (folder / place).mkdir(exist_ok=True)
        (folder / place / name).symlink_to(folder / name)


def write_platform(folder):
    """Stand-ins of its units, enabled."""
    for service, order in PLATFORM.items():
        write_unit(folder, f"{service}.service", f"[Unit]\nDescription=stand-in\n{order}\n[Service]\nType=oneshot\n"
                   "RemainAfterExit=yes\nExecStart=/bin/true\n", PULLED_BY.get(service, "multi-user.target.wants"))


def verify(folder, *units):
    """What systemd has to say of units, together with the boot they are part of: a cycle is found when it is put
    together."""
    status, said = run("systemd-analyze", "verify", "--man=no", "multi-user.target", *(str(folder / unit) for unit in units),
                       SYSTEMD_UNIT_PATH=f"{folder}:", SYSTEMD_LOG_LEVEL="info")
    about_us = [line for line in said.splitlines() if "qubes" in line or "cycle" in line]
    for line in about_us:
        print("wrong:", line)
    return bool(status or about_us)


def read_unit(path, program):
    """The text with a program that is there: ours is not installed yet."""
    lines = [f"ExecStart={program} " + " ".join(line.split()[1:]) if line.startswith("ExecStart=") else line
             for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("ExecStopPost=")]
    return "\n".join(lines) + "\n"


def check_unit(unit, program, *beside):
    """Both commands read the unit as it is installed, but for the place of the program, which is not installed yet."""
    need("systemd-analyze")
    unit = pathlib.Path(unit)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_unit(folder, unit.name, read_unit(unit, program))
        for other in map(pathlib.Path, beside):
            write_unit(folder, other.name, read_unit(other, "/bin/true"))
        write_platform(folder)
        wrong = verify(folder, unit.name)
        rated, _said = run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE}",
                           str(folder / unit.name))
    return bool(wrong or rated)


def check_units(*units):
    need("systemd-analyze")
    units = [pathlib.Path(unit) for unit in units]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for unit in units:
            write_unit(folder, unit.name, read_unit(unit, "/bin/true"))
        write_platform(folder)
        return verify(folder, *(unit.name for unit in units))


def check_man(*pages):
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
    return {"unit": check_unit, "units": check_units, "man": check_man}[kind](*arguments)


if __name__ == "__main__":
    sys.exit(main())
