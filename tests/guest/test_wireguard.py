# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own WireGuard through the whole supervisor. There is no client process: the tunnel lives and dies with its
device, and its packets are told from others by a mark."""

import json

import pytest

from lab.node import wait_until
from lab.router import SLOW, available
from lab.topologies import TARGET
from lab.vpn import SUPERVISOR, TUNNEL
from lab.vpn_flood import Flood
from lab.vpn_provider import way
from tests.leaks.world import World

pytestmark = pytest.mark.skipif(not available(SUPERVISOR), reason="qubes-vpnd is not built")
RATE = 60


@pytest.fixture
def world(kernel):
    kernel("wireguard")
    with World("product", proto="wireguard") as made:
        yield made


def link(world):
    """What the tunnel's device is."""
    done = world.vpn.run(["ip", "-j", "-d", "link", "show", TUNNEL], check=False)
    return json.loads(done.stdout)[0]["linkinfo"]["info_kind"] if done.returncode == 0 else None


def judged(world):
    """The witness's report; nothing may have left by an uplink since it was armed."""
    report = world.close()
    assert not world.oracle.blind(), "the witness lost frames"
    assert report.count(state="before") > 20, report  # it would have seen them
    late = [key for key in report.leak_counts if key[0] != "before" and key[1] == "uplink"]
    assert not late, report
    assert report.seen("carrier") > 20
    return report


def test_supervisor_killed_and_replaced(world):
    with Flood(world.lab["work"], RATE) as flood:
        wait_until(lambda: world.oracle.report.qube_bytes() > 20, 20 * SLOW, "leaks are seen before")
        world.arm()
        world.mark("armed")
        world.connect()
        world.mark("up")
        assert link(world) == "wireguard" and world.supervisor.clients() == []  # nobody but the kernel
        assert world.works() == []
        with world.lab["work"].socket() as sock:
            sock.settimeout(5 * SLOW)
            sock.connect((TARGET, 7))
            assert sock.recv(100).startswith(b"VPN")
            world.kill_supervisor()
            world.mark("killed")
            assert world.is_up()  # the tunnel does not need it
            world.supervisor.start()
            world.supervisor.wait_state("up")
            sock.sendall(b"still here")
            assert sock.recv(100) == b"still here"
        assert "taken over" in world.supervisor.log
        world.mark("killed again")
        world.kill_supervisor()
        world.vpn.run(["ip", "link", "del", TUNNEL])  # with it go its routes: now only the seal stands there
        world.mark("no tunnel")
        assert way(world.lab["work"], timeout=1.0) is None
        world.revive_supervisor()
        world.mark("up again")
        assert link(world) == "wireguard" and world.works() == []
    assert flood.sent > 100
    judged(world)
