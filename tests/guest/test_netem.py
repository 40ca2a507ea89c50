# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad line: packets late, lost and out of order, both ways."""

import time

import pytest

from lab.node import wait_until
from lab.router import SLOW
from lab.vpn_flood import Flood
from lab.vpn_provider import way
from tests.lab.conftest import need_router  # noqa: F401  pylint: disable=unused-import
from tests.leaks.world import World

BAD = "delay 80ms 30ms 25% loss 5% reorder 20% 50%"
WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"


def impair(node, iface, words):
    node.run(["tc", "qdisc", "replace", "dev", iface, "root", "netem", *words.split()])


def lost(node, iface):
    text = node.run(["tc", "-s", "qdisc", "show", "dev", iface]).stdout
    return int(text.split("dropped ")[1].split(",")[0])


def mend(node, iface):
    node.run(["tc", "qdisc", "del", "dev", iface, "root"])


@pytest.mark.parametrize("proto", ["udp", "wireguard"])
def test_the_tunnel_gets_up_and_stays(kernel, proto):
    kernel("netem")
    with World("product", proto=proto) as world:
        impair(world.vpn, "eth0", BAD)
        impair(world.lab["sys-net"], world.vpn.vif, BAD)
        with Flood(world.lab["work"], 30) as flood:
            wait_until(lambda: world.oracle.report.qube_bytes() > 10, 20 * SLOW, "leaks are seen before")
            world.arm()
            mend(world.vpn, "eth0")  # and what it holds back is gone
            impair(world.vpn, "eth0", BAD)
            world.mark("armed")
            world.connect()
            world.mark("up")
            ups = world.supervisor.log.count("Up: ")
            end, answers = time.monotonic() + 10, []
            while time.monotonic() < end:
                answers.append(way(world.lab["work"], timeout=1.0))
            assert world.supervisor.state() == "up" and world.supervisor.log.count("Up: ") == ups
            assert lost(world.vpn, "eth0") > 0
        assert "CLEAR" not in answers and answers.count("VPN") >= 0.6 * len(answers), answers
        assert flood.sent > 100
        report = world.close()
    assert not world.oracle.blind(), "the witness lost frames"
    assert report.count(state="before") > 10, report
    assert not [key for key in report.leak_counts if key[0] != "before" and key[1] == "uplink"], report


@pytest.mark.usefixtures("need_router")
def test_an_exposure_answers(lab, kernel):
    """A fifth of all frames lost, each way: ARP and neighbour discovery, connections, and nobody is taken for a conflict."""
    kernel("netem")
    net = lab()
    sys_net = net["sys-net"]
    impair(sys_net, "ens6", "loss 20%")
    impair(net.switch, net.ports["sys-net", "ens6"], "loss 20%")
    router = sys_net.router()
    net["web"].serve_tcp(80)
    for family in (4, 6):
        sys_net.expose("web", family)

    def in_place():
        found = router.status()["addresses"]
        return len(found) == 2 and all(one["in_place"] for one in found)

    wait_until(in_place, 5 * SLOW, "both open")
    for addr in (WEB, WEB6):
        for _ in range(5):
            net["lan1"].neighbour_forget(addr)
            net["lan1"].connect_tcp(addr, 80, timeout=60).close()
    assert in_place()
    assert lost(sys_net, "ens6") > 0
