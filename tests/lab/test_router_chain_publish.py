# SPDX-License-Identifier: GPL-2.0-or-later
"""Published ports through the hops, and asked from everywhere: the LAN, qubes beside, the net qube itself."""

import pytest

from lab import topologies
from lab.doors import door, doors, expect, reached
from lab.flows import Ask
from lab.node import wait_until
from lab.router import SLOW
from test_router_chain import OF, THREE, address, clean, expose, routers, state, wait_state, way, withdraw

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
    limited = [one for one in questions if one.what == "tcp/7000" and one.source == "lan1"]
    expect(net, questions, wanted + limited)
    # from outside nobody reaches the qube by its own address
    net["gw"].run(["ip", "route", "add", of["web"], "via", lan])
    assert not reached(net, [door(net["gw"], of["web"], "tcp/9002"), door(net["gw"], of["web"], "tcp/443")])
    assert not net["sys-net"].proxies()


def test_clients_keep_their_address(net, family):
    of = OF[family]
    net["web"].serve_tcp(8080)
    expose(net, "web", family, mode="publish", publish="tcp/8080")
    wait_state(net, "web", family)
    assert net["lan1"].connect_tcp(of["sys-net"], 8080).peer == of["lan1"]
    assert net["hidden"].connect_tcp(of["sys-net"], 8080).peer == of["hidden"]
    # only its port is published: its own connections carry the net qube's address
    net["lan1"].serve_tcp(7001)
    assert net["web"].connect_tcp(of["lan1"], 7001).peer == of["sys-net"]


def test_change_and_withdrawal_end_connections(net, family):
    of, lan1 = OF[family], net["lan1"]
    expose(net, "web", family, mode="publish", publish="tcp/8443:443;tcp/8080:80")
    wait_state(net, "web", family)
    kept, cut = Ask(lan1, of["sys-net"], 8080), Ask(lan1, of["sys-net"], 8443)
    beside = Ask(net["other"], of["sys-net"], 8443)
    expose(net, "web", family, mode="publish", publish="tcp/8444:443;tcp/8080:80")
    expect(net, doors([lan1], [of["sys-net"]], ("tcp/8443", "tcp/8444")), [door(lan1, of["sys-net"], "tcp/8444")])
    assert cut.stopped() and beside.stopped() and kept.moves()
    withdraw(net, "web", family)
    assert kept.stopped()
    wait_until(lambda: not state(net.routers["sys-net"], of["web"]), 3 * SLOW, "withdrawn")
    assert not reached(net, [door(node, of["sys-net"], "tcp/8080") for node in (lan1, net["other"], net["sys-net"])])
    for flow in (kept, cut, beside):
        flow.close()


def test_beside_its_own_address(net, family):
    of, lan1 = OF[family], net["lan1"]
    expose(net, "web", family, allow="tcp/80", publish="tcp/8443:443")
    wait_state(net, "web", family)
    asked = doors([lan1], [of["web"]], ("tcp/80", "tcp/443", "tcp/8443")) + \
        doors([lan1, net["other"]], [of["sys-net"]], ("tcp/80", "tcp/443", "tcp/8443"))
    expect(net, asked, [door(lan1, of["web"], "tcp/80"), door(lan1, of["sys-net"], "tcp/8443"),
                        door(net["other"], of["sys-net"], "tcp/8443")])


def test_sources_bind_whoever_else_may_come_in(net, family):
    """The qube's own address is open for everybody, the ports of the net qube for those that each map names."""
    of, netqube = OF[family], net["web"].netvm
    wide = {4: "192.168.0.0/16", 6: "2001:db8:16::/64"}[family]
    own = of["sys-net"]
    publish = (f"tcp/7000:82 from {of['lan1']};tcp/7001:82 from {own},{of['hidden']};tcp/7002-7003:80-81 from "
               f"{of['lan2']};tcp/7002:80 from {wide},{of['lan2']};tcp/7004:80 from {of['lan1']};tcp/7004:80;"
               f"udp/7000:53 from {OTHER_FAMILY[family]}")
    expose(net, "web", family, publish=publish)
    wait_state(net, "web", family)
    names = ("lan1", "lan2", "other", "hidden", "sys-net")
    asked = doors([net[name] for name in names], [own],
                  [f"tcp/{port}" for port in range(7000, 7006)] + ["udp/7000"])
    masked = netqube.name != "sys-net"      # other is masked as sys-firewall
    may = {"tcp/7000": ("lan1",), "tcp/7001": ("hidden", "sys-net"), "tcp/7002": ("lan1", "lan2", "hidden", "sys-net"),
           "tcp/7003": ("lan2",), "tcp/7004": names}
    expect(net, asked, [one for one in asked if one.source in may.get(one.what, ())])
    if masked:
        publish = f"tcp/7000:82 from {of['sys-firewall']}"
        expose(net, "web", family, publish=publish)
        only = doors([net[name] for name in names], [own], ("tcp/7000",))
        expect(net, only, [one for one in only if one.source == "other"])


def test_a_source_less_ends_its_connections(net, family):
    """Also where the qube's own address is open for it."""
    of, lan1, lan2 = OF[family], net["lan1"], net["lan2"]
    expose(net, "web", family, publish=f"tcp/8443:443 from {of['lan1']},{of['lan2']},{of['sys-net']};tcp/8444:443")
    wait_state(net, "web", family)
    kept, cut, own = (Ask(node, of["sys-net"], 8443) for node in (lan1, lan2, net["sys-net"]))
    everybody = Ask(lan2, of["sys-net"], 8444)
    expose(net, "web", family, publish=f"tcp/8443:443 from {of['lan1']};tcp/8444:443 from {of['lan1']}")
    asked = doors([lan1, lan2, net["sys-net"]], [of["sys-net"]], ("tcp/8443", "tcp/8444"))
    expect(net, asked, [one for one in asked if one.source == "lan1"])
    assert cut.stopped() and own.stopped() and everybody.stopped() and kept.moves()
    for flow in (kept, cut, own, everybody):
        flow.close()


def test_an_inner_hop_knows_the_ports_inside_only(lab, family):
    """Translated once, at the edge: further in it is a rule for exactly the port and the sources."""
    net = routers(lab(topologies.CHAIN))
    of = OF[family]
    for port in (80, 81, 82, 443):
        net["web"].serve_tcp(port)
    expose(net, "web", family, mode="publish", publish=f"tcp/8443:443;tcp/7000:82 from {of['lan1']}")
    wait_state(net, "web", family)
    # who comes round the outermost net qube: the net qube itself, straight to the address
    straight = doors([net["sys-net"]], [of["web"]], ("tcp/443", "tcp/82", "tcp/80", "tcp/8443"))
    expect(net, straight, straight[:1])
    # and at the inner hop's own address nothing is published
    assert not reached(net, [door(net["other"], address(net, "sys-firewall", family), "tcp/8443"),
                             door(net["hidden"], address(net, "sys-firewall", family), "tcp/8443")])


def test_through_three_hops(lab, family):
    net = routers(lab(THREE))
    of = OF[family]
    net["deep"].serve_tcp(443)
    expose(net, "deep", family, mode="publish", publish="tcp/8443:443")
    wait_state(net, "deep", family)
    names = ("lan1", "hidden", "other", "web", "deep", "sys-net", "sys-firewall", "sys-mid")
    asked = doors([net[name] for name in names], [of["sys-net"]], ("tcp/8443", "tcp/443"))
    expect(net, asked, [one for one in asked if one.what == "tcp/8443"])
    assert net["lan1"].connect_tcp(of["sys-net"], 8443).peer == of["lan1"]
    addr = address(net, "deep", family)
    withdraw(net, "deep", family)
    for hop in ("sys-net", "sys-firewall"):
        wait_until(lambda h=hop: clean(net[h], addr), 5 * SLOW, f"{hop} clean")
    assert not reached(net, asked)


def test_the_net_qube_in_between_has_two_vifs(lab, family):
    net = routers(lab(topologies.CHAIN.changed("sys-firewall", hvm=True)))
    of = OF[family]
    net["web"].serve_tcp(443)
    expose(net, "web", family, mode="publish", publish="tcp/8443:443")
    wait_state(net, "web", family)
    net["sys-firewall"].stub_offline()
    wait_until(lambda: [vif for vif, _, _ in way(net["sys-net"], of["web"])] == ["vif4.0"], 2 * SLOW, "the other vif")
    asked = doors([net[name] for name in ("lan1", "other", "web", "sys-net")], [of["sys-net"]], ("tcp/8443",))
    expect(net, asked, asked)
