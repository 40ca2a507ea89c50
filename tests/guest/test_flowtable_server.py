# SPDX-License-Identifier: GPL-2.0-or-later
"""Exposed qubes behind a net qube with the platform's flow table, which takes each connection at its first answer: what is
counted, limited, logged and ended all the same."""

import re

import pytest

from lab import topologies
from lab.flows import Datagrams
from lab.node import wait_until
from lab.router import SLOW
from tests.guest.flowtable import PACE, Talk, accelerate, by_rules, offloaded, watch
from tests.lab.conftest import need_router  # noqa: F401  pylint: disable=unused-import
from tests.lab.test_router_chain import WEB, WEB6, expose, routers, wait_state
from tests.lab.test_router_limit import Opener

pytestmark = pytest.mark.usefixtures("need_router")


@pytest.fixture
def net(lab, kernel):
    """lan1 - sys-net - sys-firewall, which has the flow table - web."""
    kernel("flowtable")
    net = routers(lab(topologies.CHAIN))
    net["web"].serve_tcp(80), net["web"].serve_udp(53)
    accelerate(net["sys-firewall"])
    return net


def status(net, hop, addr):
    return next((one for one in net.routers[hop].status()["addresses"] if one["address"] == addr), {})


def counters(net, hop, addr):
    return status(net, hop, addr)["counters"]


@pytest.fixture
def flows(net):
    """Flows to web in both families, offloaded, behind records that permit them."""
    made = []
    for family, addr in ((4, WEB), (6, WEB6)):
        expose(net, "web", family)
        wait_state(net, "web", family)
        made += [Talk(net["lan1"], addr, 80), Datagrams(net["lan1"], addr, 53, PACE)]
    wait_until(lambda: len(offloaded(net["sys-firewall"])) == len(made), 5 * SLOW, "all flows offloaded")
    yield made
    for flow in made:
        flow.close()


def test_counters_tell_the_truth(net, flows):
    """Connections exactly; where a flow is offloaded packets are not told, one hop further out they are."""
    firewall = net["sys-firewall"]
    for addr in (WEB, WEB6):
        assert counters(net, "sys-firewall", addr) == {"connections": 2, "offloaded": True}
    assert "2, not counted (offloaded)" in net.routers["sys-firewall"].call("--status").stdout
    watch(firewall, "eth0")
    before = [(flow.count, counters(net, "sys-net", addr)["packets"]) for flow, addr in zip(flows[::2], (WEB, WEB6))]
    for flow in flows:
        count = flow.count
        wait_until(lambda f=flow, c=count: f.count > c + 20, 20 * SLOW, "the flow goes on")
    assert by_rules(firewall) < 10  # it did not go by the rules
    for (count, packets), flow, addr in zip(before, flows[::2], (WEB, WEB6)):
        further = counters(net, "sys-net", addr)
        assert further["offloaded"] is False and further["connections"] == 2
        assert further["packets"] - packets >= 2 * (flow.count - count) - 4
    for _ in range(5):
        net["lan1"].connect_tcp(WEB, 80, 2 * SLOW).close()
    assert counters(net, "sys-firewall", WEB)["connections"] == counters(net, "sys-net", WEB)["connections"] == 7


def test_what_is_not_offloaded_is_counted(net):
    """Pings never are: right numbers, not the excuse."""
    expose(net, "web")
    wait_state(net, "web")
    assert net["lan1"].ping(WEB, 2 * SLOW)
    before = counters(net, "sys-firewall", WEB)
    for _ in range(5):
        assert net["lan1"].ping(WEB, 2 * SLOW)
    after = counters(net, "sys-firewall", WEB)
    assert after["offloaded"] is False and after["packets"] - before["packets"] == 10
    assert after["connections"] - before["connections"] == 5


@pytest.mark.parametrize("how", ["withdraw", "narrow", "kill"])
def test_withdrawal_cuts_offloaded_flows(net, flows, how):
    """Only the hop with the flow table is told, so that nobody else does it. Not one packet reaches the qube after it said
    that the address is closed. kill: the program is dead meanwhile, its successor does it."""
    firewall, router = net["sys-firewall"], net.routers["sys-firewall"]
    assert all([flow.moves() for flow in flows])
    if how == "kill":
        router.kill9()
    for family in (4, 6):
        if how == "narrow":
            firewall.expose("web", family, edge="0", allow="tcp/1-79;udp/1-52;icmp")
        else:
            firewall.withdraw("web", family)
    if how == "kill":
        assert all([flow.moves() for flow in flows])  # what is armed stays
        router.start()
    for addr in (WEB, WEB6):
        wait_until(lambda a=addr: not offloaded_to(firewall, a), 1 * SLOW, f"{addr} cut", 0.01)
    with net["web"].sniff("eth0", "tcp port 80 or udp port 53") as seen:
        sent = [flow.sent for flow in flows[1::2]]
        for flow, before in zip(flows[1::2], sent):
            wait_until(lambda f=flow, b=before: f.sent > b + 20, 20 * SLOW, "datagrams sent")
        assert not any(flow.moves() for flow in flows)
        came = [packet for packet in seen.packets if comes_from_outside(packet)]
    assert not came, [packet.scapy.summary() for packet in came[:5]]
    assert not offloaded(firewall)


def offloaded_to(node, addr):
    return [line for line in offloaded(node) if f"dst={addr} " in line]


def comes_from_outside(packet):
    """To the qube, not from it."""
    for layer in ("IP", "IPv6"):
        if layer in packet.scapy:
            return packet.scapy[layer].dst in (WEB, WEB6)
    return False


def test_limit_and_log_hold(net):
    """Both are about the first packet of a connection, which no flow table ever sees."""
    expose(net, "web", limit="5", log="1")
    wait_state(net, "web")
    wait_until(lambda: status(net, "sys-firewall", WEB).get("limit") == 5, 3 * SLOW, "the limit")
    net["web"].nft("add table inet mute; add chain inet mute in { type filter hook input priority -1; }; "
                   "add rule inet mute in udp dport 9 drop")
    flow = Datagrams(net["lan1"], WEB, 53, PACE)
    opener = Opener(net["lan2"], WEB)
    try:
        wait_until(lambda: offloaded(net["sys-firewall"]), 5 * SLOW, "offloaded")
        opener.open(60)
        got = counters(net, "sys-net", WEB)["connections"], counters(net, "sys-firewall", WEB)["connections"]
        assert got[1] <= got[0] < 55, got
        assert flow.moves()
        log = net.routers["sys-firewall"]
        wait_until(lambda: "new peer 192.168.16.11" in log.log, 5 * SLOW, "both peers named")
        assert len(re.findall(r"new peer 192\.168\.16\.10, udp port 53", log.log)) == 1
    finally:
        opener.close()
        flow.close()
