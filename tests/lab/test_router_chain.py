# SPDX-License-Identifier: GPL-2.0-or-later
"""A qube behind other net qubes: reached under its own address through every hop, and by nobody's mistake."""

from dataclasses import replace

import pytest

from lab import platform, topologies
from lab.doors import door, doors, expect, reached
from lab.flows import Ask
from lab.node import wait_until
from lab.router import SLOW
from lab.topology import NetQube, Qube

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
OTHER, OTHER6 = "10.137.0.13", "fd09:24ef:4179::a89:d"
FIREWALL, FIREWALL6 = "10.137.0.6", "fd09:24ef:4179::a89:6"
OF = {4: {"web": WEB, "other": OTHER, "hidden": "192.168.16.26", "lan1": "192.168.16.10", "lan2": "192.168.16.11",
          "sys-net": "192.168.16.2", "sys-firewall": FIREWALL},
      6: {"web": WEB6, "other": OTHER6, "hidden": "2001:db8:16::26", "lan1": "2001:db8:16::10",
          "lan2": "2001:db8:16::11", "sys-net": "2001:db8:16::2", "sys-firewall": FIREWALL6}}
METRIC = "40078"


@pytest.fixture(params=(4, 6), ids=("ipv4", "ipv6"))
def family(request):
    return request.param


def hops(net, qube):
    """Net qubes on the way from a qube outwards: the one it is attached to first."""
    found, name = [], net.netvm_of[qube]
    while name:
        found.append(net[name])
        name = net.netvm_of.get(name)
    return found


def address(net, name, family):
    spec = net.specs[name]
    return spec.ip if family == 4 else spec.ip6


def expose(net, qube, family=4, **fields):
    """The record of a qube at every hop, as dom0 writes it, and the block that lets it out at the upper ones."""
    addr, child = address(net, qube, family), qube
    for hop in hops(net, qube):
        via = "direct" if child == qube else address(net, child, family)
        edge = "0" if net.netvm_of.get(hop.name) else "1"
        hop.expose(qube, family, **{"xid": net[child].xid, "via": via, "edge": edge} | fields)
        if child != qube and fields.get("mode") != "publish":
            platform.firewall_apply(hop, addr, None)
        child = hop.name


def withdraw(net, qube, family=4):
    for hop in hops(net, qube):
        hop.withdraw(qube, family)


def state(router, addr):
    for entry in router.status()["addresses"]:
        if entry["address"] == addr:
            return entry["state"]
    return None


def wait_state(net, qube, family=4, expected="open", names=None):
    addr = address(net, qube, family)
    for hop in hops(net, qube):
        if names is None or hop.name in names:
            wait_until(lambda h=hop: state(net.routers[h.name], addr) == expected, 5 * SLOW,
                       f"{addr} {expected} in {hop.name}")


def routers(net):
    net.routers = {node.name: node.router() for node in net.netqubes}
    return net


def way(node, addr):
    """(device, gateway, metric) of our routes to an address."""
    found = []
    full = f"{addr}/{128 if ':' in addr else 32}"
    for line in node.run(["ip", "-6" if ":" in addr else "-4", "route", "show", "proto", "78"]).stdout.splitlines():
        words = line.split()
        if words[0] in (addr, full):
            found.append((words[words.index("dev") + 1], words[words.index("via") + 1],
                          words[words.index("metric") + 1]))
    return found


def sources(node, addr):
    """Interfaces by which the platform's antispoofing lets an address in; and is it listed as one of a qube?"""
    table = "ip6" if ":" in addr else "ip"
    allowed = node.run(["nft", "list", "set", table, "qubes", "allowed"]).stdout
    downstream = node.run(["nft", "list", "set", table, "qubes", "downstream"]).stdout
    vifs = {part.split('"')[1] for part in allowed.replace("{", ",").replace("}", ",").split(",")
            if '"' in part and part.split(" . ")[1].strip() == addr}
    return vifs, addr in downstream.replace(",", " ").split()


def clean(node, addr):
    return not way(node, addr) and sources(node, addr) == (set(), False)


@pytest.fixture
def net(lab):
    """lan1, lan2 - sys-net - sys-firewall - web, other; hidden directly behind sys-net."""
    net = routers(lab(topologies.CHAIN))
    for name in ("web", "other", "hidden"):
        net[name].serve_tcp(80), net[name].serve_udp(53)
    return net


def test_before_during_and_after(net, family):
    of, sys_net = OF[family], net["sys-net"]
    server = net["web"].serve_tcp(8080)
    asked = [net[name] for name in ("lan1", "lan2", "internet", "hidden", "other")]
    questions = doors(asked, [of["web"]], ("tcp/80", "tcp/8080", "udp/53", "icmp"))
    others = doors([net["lan1"], net["lan2"]], [of["hidden"], of["other"]], ("tcp/80", "udp/53", "icmp"))
    expect(net, questions + others, [])
    expose(net, "web", family)
    wait_state(net, "web", family)
    expect(net, questions + others, questions)
    assert way(sys_net, of["web"]) == [("vif4.0", of["sys-firewall"], METRIC)]
    assert sources(sys_net, of["web"]) == ({"vif4.0"}, True)
    ask = net["lan1"].arping if family == 4 else net["lan1"].ndisc
    assert {mac for mac, _ in ask(of["web"], timeout=0.1 * SLOW)} == {sys_net.mac("ens6")}
    server.peers.clear()
    for name in ("lan1", "lan2", "hidden"):
        net[name].connect_tcp(of["web"], 8080).close()
    assert server.peers == [of["lan1"], of["lan2"], of["hidden"]]
    withdraw(net, "web", family)
    wait_until(lambda: clean(sys_net, of["web"]) and not sys_net.proxies(), 5 * SLOW, "nothing of ours left")
    expect(net, questions + others, [])
