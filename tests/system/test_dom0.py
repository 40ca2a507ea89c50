# SPDX-License-Identifier: GPL-2.0-or-later
"""The package of dom0 on a booted machine. qubesd and the databases of qubes are the lab's, at the places where dom0 has
them; the daemon, its unit and the command are the package's."""

import contextlib
import os
import tempfile
import threading

import pytest

from lab.dom0 import Dom0
from lab.node import wait_until
from tests.system.machines import SLOW
from tests.system.test_packages import SERVERD

PACKAGE = "qubes-network-server-dom0"
RECORD = "/network-server/192.168.16.25"
RUN = "/run/qubes-network-serverd"


@contextlib.contextmanager
def _made_in(folder):
    """Temporary files there, for everybody: dom0's sockets, made by this process."""
    before, mask = tempfile.tempdir, os.umask(0)
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        os.umask(mask)


@pytest.fixture
def dom0(world, debs):
    """(machine, Dom0): a booted dom0 with a qube behind a net qube, both running; nothing is exposed."""
    machine = world.machine("dom0", uplink=None, stand_ins=False, files=debs(PACKAGE))
    with open(machine.root / "etc/group", "a", encoding="ascii") as file:
        file.write("qubes:x:98:\n")
    machine.write(f"/etc/systemd/system/{SERVERD}.d/short.conf", "[Service]\nWatchdogSec=6s\n")
    machine.boot()
    with _made_in(f"/proc/{machine.pid}/root/run"), Dom0() as made:
        os.chmod(made.folder, 0o755)
        machine.run("chgrp", "qubes", f"/run/{os.path.basename(made.folder)}/qubesd.sock")
        machine.run("ln", "-s", os.path.basename(made.folder), "/run/qubes")
        machine.run("ln", "-s", "qubes/qubesd.sock", "/run/qubesd.sock")
        made.add("sys-net", provides_network=True, netvm=None)
        made.add("web", netvm="sys-net", ip="192.168.16.25")
        made.start("sys-net")
        made.start("web")
        machine.wait_active(SERVERD)
        yield machine, made


def record(made):
    return made.keys("sys-net").get(RECORD, "")


def wait_record(machine, made, probe, what):
    try:
        wait_until(lambda: probe(record(made)), 10 * SLOW, what, 0.02)
    except TimeoutError as error:
        raise AssertionError(f"{what}: {made.keys('sys-net')}\n" +
                             machine.run("qubes-network-serverd", "--status", check=False) +
                             machine.run("journalctl", "-b", "-o", "cat", "-u", SERVERD)) from error


class Looks:
    """The record, read without end: every other value than the first is noted."""

    def __init__(self, made):
        self.first, self.others, self.n = record(made), set(), 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(made,), daemon=True)
        self._thread.start()

    def _work(self, made):
        while not self._end.wait(0.005):
            now = record(made)
            self.n += 1
            if now != self.first:
                self.others.add(now)

    def stop(self):
        self._end.set()
        self._thread.join()
        return self.others


def test_life(dom0, install, later):
    """Exposed by the command. A kill, a hang, a restart and an upgrade change nothing of it; what is said in between is
    done afterwards; a purge takes the files, and what is exposed stays until it is withdrawn."""
    machine, made = dom0
    made.set_feature("web", "network-server.allow", "tcp/80")
    assert record(made) == ""
    print(machine.run("qvm-expose", "web", "--ip", "192.168.16.25", "--allow", "tcp/80"))
    wait_record(machine, made, lambda text: "allow=tcp/80" in text, "exposed")
    looks = Looks(made)
    for hurt in ("KILL", "STOP"):
        pid = machine.show(SERVERD, "MainPID")
        machine.run("kill", f"-{hurt}", pid)
        wait_until(lambda pid=pid: machine.show(SERVERD, "MainPID") not in ("0", pid), 60 * SLOW, f"another after {hurt}",
                   0.1)
        machine.wait_active(SERVERD)
    assert "Watchdog timeout" in machine.run("journalctl", "-b", "-o", "cat", "-u", SERVERD)
    machine.run("systemctl", "restart", SERVERD)
    pid = machine.show(SERVERD, "MainPID")
    install(machine, PACKAGE, folder=later)
    machine.wait_active(SERVERD)
    assert machine.show(SERVERD, "MainPID") != pid and "+later" in machine.run("dpkg-query", "-W", PACKAGE)
    assert looks.stop() == set() and looks.n > 50
    # Said while nobody runs.
    machine.run("systemctl", "stop", SERVERD)
    made.set_feature("web", "network-server.allow", "tcp/443")
    assert "tcp/80" in record(made)
    machine.run("systemctl", "start", SERVERD)
    wait_record(machine, made, lambda text: "allow=tcp/443" in text, "what was said meanwhile")
    refused = machine.run("qubes-network-serverd", "--withdraw", check=False)
    assert "the daemon runs" in refused and record(made) != ""
    looks = Looks(made)
    machine.run("apt-get", "purge", "-y", "-q", PACKAGE)
    assert machine.active(SERVERD) in ("inactive", "failed")
    assert looks.stop() == set() and record(made) != "", "nothing is cut by a removal"
    for gone in (RUN, "/usr/bin/qvm-expose", "/usr/bin/qubes-network-serverd"):
        assert machine.status("test", "-e", gone) != 0, gone


def test_withdraw(dom0):
    """The way to take everything back: stop, --withdraw."""
    machine, made = dom0
    machine.run("qvm-expose", "web", "--ip", "192.168.16.25", "--allow", "tcp/80")
    wait_record(machine, made, bool, "exposed")
    machine.run("systemctl", "stop", SERVERD)
    machine.run("qubes-network-serverd", "--withdraw")
    assert made.keys("sys-net") == {}
