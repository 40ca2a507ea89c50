# SPDX-License-Identifier: GPL-2.0-or-later
"""Seal and supervisor in cgroups (version 2) with the limits of their units, and a client that the kernel ends when memory
is short."""

import os
import re
import shlex

import pytest

from lab.node import wait_until
from lab.router import SLOW, available
from lab.vpn import SUPERVISOR
from lab.vpn_flood import Flood
from lab.vpn_provider import way
from tests.leaks.world import World

pytestmark = pytest.mark.skipif(not available(SUPERVISOR), reason="qubes-vpnd is not built")
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CGROUPS = "/sys/fs/cgroup"


def tasks_max(unit):
    with open(f"{TOP}/data/systemd/{unit}.service.in", encoding="utf-8") as file:
        return re.search(r"^TasksMax=(\d+)$", file.read(), re.MULTILINE)[1]


class Group:
    """A control group: attributes are its files."""

    def __init__(self, name, **limits):
        self.path = f"{CGROUPS}/sluice-{name}"
        os.makedirs(self.path, exist_ok=True)
        for key, value in limits.items():
            self.write(key.replace("_", ".", 1), value)

    def read(self, key):
        with open(f"{self.path}/{key}", encoding="ascii") as file:
            return file.read().strip()

    def write(self, key, value):
        with open(f"{self.path}/{key}", "w", encoding="ascii") as file:
            file.write(str(value))

    def count(self, key, word):
        """One number of a file of words and numbers."""
        return int(dict(line.split() for line in self.read(key).splitlines())[word])

    def wrap(self):
        """As SLUICE_WRAP: the program is in the group from its first moment on."""
        return f"sh -c {shlex.quote(f'echo $$ > {self.path}/cgroup.procs; exec $0 $*')}"

    def pids(self):
        return [int(pid) for pid in self.read("cgroup.procs").split()]


@pytest.fixture(autouse=True)
def controllers():
    try:
        with open(f"{CGROUPS}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+memory +pids")
    except OSError as error:
        assert "SLUICE_GUEST" not in os.environ, error
        pytest.skip(f"no control groups of version 2: {error}")


@pytest.fixture
def groups(monkeypatch, controllers):  # pylint: disable=unused-argument,redefined-outer-name
    """(seal's, supervisor's) with the limits of the units, and a world that starts both of them there."""
    seal, vpnd = (Group(f"{name}-{os.getpid()}", pids_max=tasks_max(unit))
                  for name, unit in (("seal", "qubes-vpn-forwarding"), ("vpnd", "qubes-vpn")))
    with World("product") as world:
        monkeypatch.setenv("SLUICE_WRAP", seal.wrap())
        world.arm()
        monkeypatch.setenv("SLUICE_WRAP", vpnd.wrap())
        world.connect()
        assert seal.pids() and len(vpnd.pids()) == 2  # supervisor and client
        yield world, seal, vpnd


def client(world):
    return (world.supervisor.clients() or [None])[0]


def test_life_within_the_limits_of_the_units(groups):
    world, seal, vpnd = groups
    assert world.works() == []
    world.kill_client()
    world.revive()
    world.kill_owner()
    world.revive_owner()
    assert world.is_up()
    for group in (seal, vpnd):
        assert group.count("pids.events", "max") == 0, group.path
    assert int(vpnd.read("pids.current")) < int(tasks_max("qubes-vpn")) / 4


def test_client_killed_for_want_of_memory(groups):
    """The kernel chooses the largest, again and again: sealed meanwhile, and back when there is memory."""
    world, _seal, vpnd = groups
    pid, first = world.supervisor.process.pid, client(world)
    with Flood(world.lab["work"], 40):
        world.mark("short of memory")
        vpnd.write("memory.max", int(int(vpnd.read("memory.current")) * 0.7))
        wait_until(lambda: vpnd.count("memory.events", "oom_kill") > 0, 20 * SLOW, "somebody was killed")
        wait_until(lambda: client(world) != first, 10 * SLOW, "the client is not there")
        wait_until(lambda: way(world.lab["work"], timeout=0.3) is None, 5 * SLOW, "sealed")
        assert world.supervisor.running() and world.supervisor.process.pid == pid
        vpnd.write("memory.max", "max")
        world.mark("memory again")
        world.wait_up(60)
        world.supervisor.wait_state("up")
    assert world.works() == []
    report = world.close()
    assert not world.oracle.blind() and report.seen("carrier") > 10
    assert not [key for key in report.leak_counts if key[0] != "before" and key[1] == "uplink"], report


def test_no_process_may_be_started(groups):
    """A fork bomb next door: no client can be started. Said, sealed, and tried until it works."""
    world, _seal, vpnd = groups
    vpnd.write("pids.max", 1)
    world.kill_client()
    wait_until(lambda: vpnd.count("pids.events", "max") > 0, 20 * SLOW, "a start was refused")
    assert way(world.lab["work"], timeout=0.5) is None and world.supervisor.running()
    assert "Resource temporarily unavailable" in world.supervisor.log
    vpnd.write("pids.max", tasks_max("qubes-vpn"))
    world.wait_up(60)
