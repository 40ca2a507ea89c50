# SPDX-License-Identifier: GPL-2.0-or-later
"""Published ports through the hops, and asked from everywhere: the LAN, qubes beside, the net qube itself."""

import pytest

from lab import topologies
from lab.doors import door, expect, reached
from lab.router import SLOW
from test_router_chain import OF, expose, routers, state, wait_state, way

pytestmark = pytest.mark.usefixtures("need_router")

PUBLISH = "tcp/8443:443;tcp/9000-9001:80-81;udp/5353:53;tcp/7000:82 from 192.168.16.10,2001:db8:16::10;udp/54"
OPEN = ("tcp/8443", "tcp/9000", "tcp/9001", "udp/5353", "udp/54")
CLOSED = ("tcp/443", "tcp/80", "tcp/9002", "udp/53", "tcp/54", "udp/8443")
GATEWAY = {4: "10.137.0.5", 6: "fd09:24ef:4179::a89:5"}
OTHER_FAMILY = {4: "2001:db8:16::10", 6: "192.168.16.10"}


@pytest.fixture(params=(4, 6), ids=("ipv4", "ipv6"))
def family(request):
    return request.param


@pytest.fixture(params=("direct", "chain"))
def net(lab, request):
    """web behind sys-net, or behind sys-firewall behind it; hidden beside its net qube; other beside web."""
    net = routers(lab(topologies.BASIC if request.param == "direct" else topologies.CHAIN))
    for port in (80, 81, 82, 443):
        net["web"].serve_tcp(port)
    for port in (53, 54):
        net["web"].serve_udp(port, OF[4]["web"]), net["web"].serve_udp(port, OF[6]["web"])
    return net


def test_reached_from_everywhere(net, family):
    """From the LAN, a qube beside, one beside the net qube, the qube itself, and the net qube's own programs; at the
    address in the LAN and, from qubes, at the gateway's."""
    publish = PUBLISH.replace("," + OTHER_FAMILY[family], "").replace(OTHER_FAMILY[family] + ",", "")
    of = OF[family]
    expose(net, "web", family, mode="publish", publish=publish)
    wait_state(net, "web", family)
    qubes, lan, gateway = ("other", "hidden", "web"), of["sys-net"], GATEWAY[family]
    asked = [(name, lan) for name in ("lan1", "lan2", "sys-net") + qubes] + [(name, gateway) for name in qubes]
    questions = [door(net[name], addr, what) for name, addr in asked for what in OPEN + CLOSED + ("tcp/7000",)]
    wanted = [one for one in questions if one.what in OPEN]
    # the net qube itself is not filtered at the edge: its own programs reach the qube anyway
    limited = [one for one in questions if one.what == "tcp/7000" and one.source in ("lan1", "sys-net")]
    if net["web"].netvm.name != "sys-net":
        limited = [one for one in limited if one.source == "lan1"]
    expect(net, questions, wanted + limited)
    # from outside nobody reaches the qube by its own address
    net["gw"].run(["ip", "route", "add", of["web"], "via", lan])
    assert not reached(net, [door(net["gw"], of["web"], "tcp/9002"), door(net["gw"], of["web"], "tcp/443")])
    assert not net["sys-net"].proxies()


def test_clients_keep_their_address(net, family):
    of = OF[family]
    server = net["web"].serve_tcp(8080)
    expose(net, "web", family, mode="publish", publish="tcp/8080")
    wait_state(net, "web", family)
    assert net["lan1"].connect_tcp(of["sys-net"], 8080).peer == of["lan1"]
    assert net["hidden"].connect_tcp(of["sys-net"], 8080).peer == of["hidden"]
    assert server.peers == [of["lan1"], of["hidden"]]
    # only its port is published: its own connections carry the net qube's address
    net["lan1"].serve_tcp(7001)
    assert net["web"].connect_tcp(of["lan1"], 7001).peer == of["sys-net"]
