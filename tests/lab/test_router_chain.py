# SPDX-License-Identifier: GPL-2.0-or-later
"""A qube behind other net qubes: reached under its own address through every hop, and by nobody's mistake."""

from dataclasses import replace

import socket

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
    net["web"].serve_tcp(8080)
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
    for name in ("lan1", "lan2", "hidden"):
        assert net[name].connect_tcp(of["web"], 8080).peer == of[name]
    withdraw(net, "web", family)
    wait_until(lambda: clean(sys_net, of["web"]) and not sys_net.proxies(), 5 * SLOW, "nothing of ours left")
    expect(net, questions + others, [])


def test_its_own_address_outwards(net, family):
    """Kept on every hop; its firewall rules hold once, where it is attached; everybody else stays masqueraded."""
    of = OF[family]
    net["lan1"].serve_tcp(80), net["lan1"].serve_tcp(81)
    expose(net, "web", family)
    wait_state(net, "web", family)
    seen = lambda name: net[name].connect_tcp(of["lan1"], 80).peer  # noqa: E731
    assert seen("web") == of["web"]
    assert seen("other") == seen("hidden") == of["sys-net"]
    expose(net, "hidden", family)
    wait_state(net, "hidden", family)
    assert net["web"].connect_tcp(of["hidden"], 80).peer == of["web"]
    net["web"].set_rules(("action=accept proto=tcp dstports=80-80",))
    assert seen("web") == of["web"]
    assert not net["web"].can_reach(of["lan1"], 81, timeout=0.2)
    assert net["other"].can_reach(of["lan1"], 81)


def _spoof(node, iface, source, target):
    """A datagram and the beginning of a connection that pretend to come from source."""
    from scapy.all import IP, TCP, UDP, Ether, IPv6  # pylint: disable=import-outside-toplevel
    layer = IPv6 if ":" in source else IP
    mac = platform.BACKEND_MAC
    for transport in (UDP(sport=7777, dport=7777), TCP(sport=7778, dport=7778, flags="S")):
        node.send_frame(iface, Ether(src=node.mac(iface), dst=mac) / layer(src=source, dst=target) / transport)


def test_nobody_else_takes_the_address(net, family):
    """A sibling of the qube, a sibling of its net qube, and a host on the LAN are not believed to be it."""
    of = OF[family]
    expose(net, "web", family)
    wait_state(net, "web", family)

    def heard(name, iface):
        with net["lan1"].sniff("eth0", "ip or ip6") as taken:
            _spoof(net[name], iface, of["web"], of["lan1"])
            _spoof(net["web"], "eth0", of["web"], of["lan1"])  # the real one, behind it on the same way

            def begun():
                return [p for p in taken.packets if not p.outgoing and getattr(p.scapy, "dport", 0) in (7777, 7778)]

            wait_until(lambda: len(begun()) >= 2, 2 * SLOW, "both of the real one")
            return len(begun())

    for name in ("other", "hidden"):
        assert heard(name, "eth0") == 2, name
    # The net qube it is behind is on the way and could: it is trusted with what is behind it. Not so a LAN host.
    lan_words = "udp dst port 7777" if family == 4 else "ip6 and ip6[6] == 17"
    with net["hidden"].sniff("eth0", lan_words) as taken:
        from scapy.all import IP, UDP, Ether, IPv6  # pylint: disable=import-outside-toplevel
        layer = IPv6 if family == 6 else IP
        for source in (of["web"], of["lan2"]):
            expose(net, "hidden", family)
            wait_state(net, "hidden", family)
            net["lan2"].send_frame("eth0", Ether(src=net["lan2"].mac(), dst=net["sys-net"].mac("ens6")) /
                                   layer(src=source, dst=of["hidden"]) / UDP(sport=7777, dport=7777))
        wait_until(lambda: taken.packets, 2 * SLOW, "the honest one")
        assert [packet.scapy["IPv6" if family == 6 else "IP"].src for packet in taken.packets] == [of["lan2"]]


THREE = topologies.CHAIN.plus(
    NetQube("sys-mid", netvm="sys-firewall", domid=6, ip="10.137.0.7", ip6="fd09:24ef:4179::a89:7"),
    Qube("deep", "sys-mid", 15, "192.168.16.27", "2001:db8:16::27"))


def test_a_third_hop(lab, family):
    net = routers(lab(THREE))
    addr, of = address(net, "deep", family), OF[family]
    net["deep"].serve_tcp(80)
    net["lan1"].serve_tcp(80)
    expose(net, "deep", family, allow="tcp/80")
    wait_state(net, "deep", family)
    expect(net, doors([net[name] for name in ("lan1", "hidden", "other", "web")], [addr], ("tcp/80", "tcp/81", "icmp")),
           doors([net[name] for name in ("lan1", "hidden", "other", "web")], [addr], ("tcp/80",)))
    assert net["lan1"].connect_tcp(addr, 80).peer == of["lan1"]
    with net["sys-mid"].sniff("eth0", "tcp") as mid, net["sys-firewall"].sniff("eth0", "tcp") as firewall:
        assert net["deep"].connect_tcp(of["lan1"], 80).peer == addr
        layer = "IP" if family == 4 else "IPv6"
        for taken in (mid, firewall):
            wait_until(lambda t=taken: t.packets, 2 * SLOW, "a packet")
            assert taken.packets[0].scapy[layer].src == addr
    assert way(net["sys-firewall"], addr) == [("vif6.0", address(net, "sys-mid", family), METRIC)]
    withdraw(net, "deep", family)
    for hop in ("sys-net", "sys-firewall"):
        wait_until(lambda h=hop: clean(net[h], addr), 5 * SLOW, f"{hop} clean")
    expect(net, doors([net["lan1"]], [addr], ("tcp/80",)), [])


def test_what_was_tracked_before_the_way_is_forgotten(net, family):
    """A datagram to the address was sent back into the LAN and masqueraded: the same socket is seen as itself at once."""
    of, inet = OF[family], socket.AF_INET if family == 4 else socket.AF_INET6
    net["lan1"].run(["ip", "route", "replace", of["web"], "via", of["sys-net"]])
    net["web"].serve_udp(5000, of["web"])
    with net["lan1"].socket(inet, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2 * SLOW)
        sock.connect((of["web"], 5000))
        sock.send(b"too early")
        wait_until(lambda: f"dst={of['web']} " in net["sys-net"].run(
            ["conntrack", "-L", "-f", f"ipv{family}"]).stdout, 2 * SLOW, "it is tracked")
        expose(net, "web", family)
        wait_state(net, "web", family)
        sock.send(b"?")  # the first one is not lost either
        assert sock.recv(100).split(b"\n")[0].decode() == f"peer {of['lan1']}"


# ---- coming, going, changing ----------------------------------------------------------------------------------------


def test_withdrawal_ends_connections_at_every_hop(net, family):
    of = OF[family]
    net["lan1"].serve_tcp(80)
    expose(net, "web", family)
    wait_state(net, "web", family)
    inbound, own = Ask(net["lan1"], of["web"], 80), Ask(net["web"], of["lan1"], 80)
    assert own.peer == of["web"]
    # only the outermost hop loses its record: the inner one would let both go on
    net["sys-net"].withdraw("web", family)
    assert inbound.stopped() and own.stopped()
    tracked = net["sys-net"].run(["conntrack", "-L", "-f", f"ipv{family}"]).stdout.splitlines()
    # a host on the LAN may still send to the net qube what is then for nobody behind it
    assert not [line for line in tracked if f"={of['web']} " in line and "UNREPLIED" not in line]
    inbound.close(), own.close()


@pytest.mark.parametrize("end", ("kill9", "usr1"))
def test_a_restart_adopts_and_finds_what_is_left_over(net, end, family):
    of, sys_net, router = OF[family], net["sys-net"], net.routers["sys-net"]
    expose(net, "web", family)
    wait_state(net, "web", family)
    flow = Ask(net["lan1"], of["web"], 80)
    before = way(sys_net, of["web"])
    with sys_net.sniff("vif4.0", "arp") as _, net["lan1"].sniff("eth0", "tcp[13] & 4 != 0") as resets:
        getattr(router, end)()
        assert way(sys_net, of["web"]) == before and flow.moves()
        router.start()
        wait_state(net, "web", family)
        assert way(sys_net, of["web"]) == before and flow.moves() and not resets.packets
    # QubesDB does not answer: what is there stays
    getattr(router, end)()
    sys_net.qubesdb_stop()
    router.start(qubesdb=False)
    wait_state(net, "web", family, "adopted", ("sys-net",))
    assert way(sys_net, of["web"]) == before and flow.moves()
    # it does, and nobody wishes it any more
    sys_net.qubesdb_start([("/network-server", "")])
    wait_until(lambda: clean(sys_net, of["web"]), 5 * SLOW, "leftovers gone")
    assert flow.stopped()
    flow.close()
    assert sources(sys_net, of["sys-firewall"]) == ({"vif4.0"}, True), "what is the platform's stays"


def test_leftovers_of_a_dead_router_go_also_without_their_vif(net, family):
    of, sys_net, router = OF[family], net["sys-net"], net.routers["sys-net"]
    expose(net, "web", family)
    wait_state(net, "web", family)
    router.kill9()
    withdraw(net, "web", family)
    net["sys-firewall"].stop()
    assert sources(sys_net, of["web"]) == ({"vif4.0"}, True), "positive control: they are there"
    router.start()
    wait_until(lambda: clean(sys_net, of["web"]), 5 * SLOW, "leftovers gone")


def test_a_route_taken_away_by_hand_comes_back(net, family):
    of, sys_net = OF[family], net["sys-net"]
    net["lan1"].serve_tcp(80)
    expose(net, "web", family)
    wait_state(net, "web", family)
    inbound, own = Ask(net["lan1"], of["web"], 80), Ask(net["web"], of["lan1"], 80)
    for _ in range(3):
        sys_net.run(["ip", "-6" if family == 6 else "-4", "route", "del", of["web"], "proto", "78"])
        wait_until(lambda: way(sys_net, of["web"]), 0.1 * SLOW + 0.05, "the route back in 100 ms")
    assert inbound.moves(1) and own.moves(1)
    table = "ip6" if family == 6 else "ip"
    sys_net.nft(f'delete element {table} qubes allowed {{ "vif4.0" . {of["web"]} }}\n')
    wait_until(lambda: sources(sys_net, of["web"]) == ({"vif4.0"}, True), 0.1 * SLOW + 0.05, "allowed back")
    sys_net.nft(f"delete element {table} qubes downstream {{ {of['web']} }}\n")
    wait_until(lambda: sources(sys_net, of["web"]) == ({"vif4.0"}, True), 0.1 * SLOW + 0.05, "downstream back")
    assert inbound.moves(1) and own.moves(1)
    inbound.close(), own.close()


def test_a_flushed_ruleset_heals(net, family):
    of, sys_net = OF[family], net["sys-net"]
    expose(net, "web", family)
    wait_state(net, "web", family)
    flow = Ask(net["lan1"], of["web"], 80)
    platform.flush_and_reload(sys_net)
    wait_until(lambda: sources(sys_net, of["web"]) == ({"vif4.0"}, True), 3 * SLOW, "sources again")
    expect(net, doors([net["lan1"]], [of["web"]], ("tcp/80",)), doors([net["lan1"]], [of["web"]], ("tcp/80",)))
    assert flow.moves(2)
    flow.close()
    withdraw(net, "web", family)
    wait_until(lambda: clean(sys_net, of["web"]), 5 * SLOW, "clean")


def test_the_net_qube_in_between_starts_again(net, family):
    """Its domain id and vif are new: closed at once, and open only when the record says the new one."""
    of, sys_net, firewall = OF[family], net["sys-net"], net["sys-firewall"]
    expose(net, "web", family)
    wait_state(net, "web", family)
    flow = Ask(net["lan1"], of["web"], 80)
    firewall.restart()
    wait_state(net, "web", family, "mismatch", ("sys-net",))
    assert clean(sys_net, of["web"]) and not sys_net.proxies()
    assert flow.stopped()
    flow.close()
    assert not reached(net, [door(net["lan1"], of["web"], "tcp/80")])
    expose(net, "web", family)
    wait_state(net, "web", family)
    assert way(sys_net, of["web"]) == [(firewall.vif, of["sys-firewall"], METRIC)]
    expect(net, doors([net["lan1"]], [of["web"]], ("tcp/80",)), doors([net["lan1"]], [of["web"]], ("tcp/80",)))
    firewall.stop()
    wait_state(net, "web", family, "no-vif", ("sys-net",))
    assert clean(sys_net, of["web"])


def test_a_vif_that_comes_before_its_record_and_one_after(net, family):
    of, sys_net, firewall = OF[family], net["sys-net"], net["sys-firewall"]
    firewall.stop()
    expose(net, "web", family, xid="pending")
    wait_state(net, "web", family, "pending", ("sys-net",))
    firewall.start(24)
    assert clean(sys_net, of["web"])
    expose(net, "web", family)
    wait_state(net, "web", family)
    expect(net, doors([net["lan1"]], [of["web"]], ("tcp/80",)), doors([net["lan1"]], [of["web"]], ("tcp/80",)))


def test_attached_here_while_the_record_says_behind(net, family):
    """The qube moves to the upper net qube and the record is late: the platform's route is never covered, what the
    platform needs stays, and it opens again by the new record."""
    of, sys_net = OF[family], net["sys-net"]
    expose(net, "web", family)
    wait_state(net, "web", family)
    net["web"].move_to("sys-net")
    wait_state(net, "web", family, "mismatch", ("sys-net",))
    assert not way(sys_net, of["web"])
    assert sources(sys_net, of["web"]) == ({"vif11.0"}, True)
    assert not reached(net, [door(net["lan1"], of["web"], "tcp/80")])
    sys_net.expose("web", family)
    wait_state(net, "web", family)
    expect(net, doors([net["lan1"]], [of["web"]], ("tcp/80",)), doors([net["lan1"]], [of["web"]], ("tcp/80",)))
    # and back, which the platform's own script must survive
    net["sys-firewall"].withdraw("web", family)
    net["web"].move_to("sys-firewall")
    expose(net, "web", family)
    wait_state(net, "web", family)
    assert sources(sys_net, of["web"]) == ({"vif4.0"}, True)
    expect(net, doors([net["lan1"]], [of["web"]], ("tcp/80",)), doors([net["lan1"]], [of["web"]], ("tcp/80",)))


@pytest.mark.parametrize("fields", ({"xid": "5"}, {"via": "10.137.0.99"}, {"via": OTHER}, {"via": WEB}),
                         ids=("another domain", "nobody", "elsewhere", "itself"))
def test_a_record_that_does_not_fit_opens_nothing(net, fields):
    sys_net = net["sys-net"]
    expose(net, "web")
    wait_state(net, "web")
    sys_net.expose("web", **{"xid": "4", "via": FIREWALL, "edge": "1"} | fields)
    wait_until(lambda: state(net.routers["sys-net"], WEB) != "open", 3 * SLOW, "not open")
    assert state(net.routers["sys-net"], WEB) in ("mismatch", "no-vif", "refused")
    assert clean(sys_net, WEB) and not sys_net.proxies()
    assert not reached(net, [door(net["lan1"], WEB, "tcp/80")])


# ---- machines with two interfaces -----------------------------------------------------------------------------------


def test_the_net_qube_in_between_has_two_vifs(lab, family):
    """An HVM: the way follows the better route, sources are let in on both."""
    net = routers(lab(topologies.CHAIN.changed("sys-firewall", hvm=True)))
    of, sys_net, firewall = OF[family], net["sys-net"], net["sys-firewall"]
    net["web"].serve_tcp(80)
    expose(net, "web", family)
    wait_state(net, "web", family)
    assert sources(sys_net, of["web"]) == ({"vif4.0", "vif5.0"}, True)
    assert way(sys_net, of["web"]) == [("vif5.0", of["sys-firewall"], METRIC)]
    route = [of["sys-firewall"], "dev", "vif5.0", "metric", str(platform.MAX_DOMID - 5)]
    sys_net.run(["ip", "route", "del", *route])  # nothing else changes
    wait_until(lambda: way(sys_net, of["web"]) == [("vif4.0", of["sys-firewall"], METRIC)], 2 * SLOW, "the other vif")
    sys_net.run(["ip", "route", "add", *route])
    wait_until(lambda: way(sys_net, of["web"]) == [("vif5.0", of["sys-firewall"], METRIC)], 2 * SLOW, "and back")
    firewall.stub_offline()
    wait_until(lambda: way(sys_net, of["web"]) == [("vif4.0", of["sys-firewall"], METRIC)], 2 * SLOW, "the other vif")
    wait_until(lambda: sources(sys_net, of["web"]) == ({"vif4.0"}, True), 2 * SLOW, "sources")
    flow = Ask(net["lan1"], of["web"], 80)
    firewall.stub_online()
    wait_until(lambda: way(sys_net, of["web"]) == [("vif5.0", of["sys-firewall"], METRIC)], 2 * SLOW, "back")
    firewall.stub_offline()
    wait_until(lambda: way(sys_net, of["web"]) == [("vif4.0", of["sys-firewall"], METRIC)], 2 * SLOW, "and again")
    assert flow.moves(2)
    flow.close()


def test_a_target_without_an_agent(lab, family):
    """An HVM at the last hop: two vifs carry its address there."""
    net = routers(lab(topologies.CHAIN.changed("web", hvm=True, domid=21)))
    of = OF[family]
    net["web"].serve_tcp(80)
    expose(net, "web", family)
    wait_state(net, "web", family)
    net["web"].stub_offline()
    wait_state(net, "web", family)
    expect(net, doors([net["lan1"], net["hidden"]], [of["web"]], ("tcp/80",)),
           doors([net["lan1"], net["hidden"]], [of["web"]], ("tcp/80",)))


def test_a_stop_leaves_nothing(net, family):
    of, sys_net = OF[family], net["sys-net"]
    expose(net, "web", family)
    wait_state(net, "web", family)
    assert net.routers["sys-net"].stop() == 0
    assert clean(sys_net, of["web"]) and not sys_net.proxies()
    assert sources(sys_net, of["sys-firewall"]) == ({"vif4.0"}, True)
    net.routers["sys-net"].start()
    wait_state(net, "web", family)
    expect(net, doors([net["lan1"]], [of["web"]], ("tcp/80",)), doors([net["lan1"]], [of["web"]], ("tcp/80",)))
