# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-network-serverd with 500 qubes, 50 of them exposed behind three net qubes: how long it takes, how much it needs."""

import time

import pytest

from lab.router import PLAIN, SLOW
from serverd_world import World

HOPS = ["sys-fw", "sys-mid", "sys-net"]


@pytest.fixture(scope="module")
def big():
    world = World("4.3", start=False)
    dom0 = world.dom0
    dom0.add("sys-mid", provides_network=True, netvm="sys-net", qid=250)
    dom0.kill("sys-fw")
    dom0.start("sys-mid")
    dom0.set_netvm("sys-fw", "sys-mid")
    dom0.start("sys-fw")
    for i in range(490):
        # Names alone; those that are exposed have a QubesDB.
        netvm = "sys-fw" if i < 50 else ("sys-fw2", "sys-net", None)[i % 3]  # /connected-ips holds about 200
        vm = dom0.add(f"app{i:03}", netvm=netvm, database=i < 50, ip=f"192.168.{17 + i // 200}.{1 + i % 200}")
        if i < 50:
            vm.features |= {"routing-method": "forward", "network-server.allow": "tcp/22,80,443 from 192.168.16.0/24"}
            dom0.start(vm.name)
    yield world
    world.close()


def in_place(world, n=50):
    return all(len(world.dom0.keys(hop, "/network-server/")) == n for hop in HOPS)


def test_from_nothing(big):
    """READY means that all is in place."""
    took = []
    for _ in range(3):  # the best counts: others use this machine too
        started = time.monotonic()
        big.serverd.start()
        took.append(time.monotonic() - started)
        assert in_place(big)
        big.serverd.stop()
        assert big.serverd.call("--withdraw").returncode == 0
        assert in_place(big, 0)
    big.serverd.start()
    print(f"from nothing: {min(took) * 1000:.0f} ms")
    assert min(took) < 1.0 * SLOW


def test_one_feature(big):
    """From the event to the record in every hop."""
    took = []
    for n in range(20):
        value = f"tcp/{1000 + n}"
        databases = [big.dom0.qdb(hop) for hop in HOPS]
        key = f"/network-server/{big.dom0.model.value(big.dom0['app007'], 'ip')}"
        started = time.monotonic()
        big.dom0.set_feature("app007", "network-server.allow", value)
        for database in databases:
            while not database.read(key).endswith(b"allow=" + value.encode()):
                pass
        took.append(time.monotonic() - started)
        for database in databases:
            database.close()
    took.sort()
    print(f"one feature: median {took[10] * 1000:.1f} ms, worst {took[-1] * 1000:.1f} ms")
    assert took[10] < 0.02 * SLOW


def test_memory(big):
    print(f"memory: {big.serverd.memory()} kB")
    if PLAIN:
        assert big.serverd.memory() < 8000


def test_net_qube_returns(big):
    """All 50 records of a restarted net qube, before it boots."""
    big.dom0.kill("sys-fw")
    big.wait(lambda: not big.records(), "withdrawal")
    with big.dom0.until("boot", big.dom0.start, "sys-fw", qube="sys-fw"):
        big.wait(lambda: in_place(big), "all records")
