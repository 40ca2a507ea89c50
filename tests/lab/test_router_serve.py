# SPDX-License-Identifier: GPL-2.0-or-later
"""Who reaches whom, before, during and after: every key and record the router knows, seen with packets."""

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from lab import topologies
from lab.doors import door, doors, expect, reached
from lab.flows import Ask, Datagrams, Pull, serve_push
from lab.lab import Lab
from lab.node import wait_until
from lab.router import SLOW

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
HIDDEN, HIDDEN6 = "192.168.16.26", "2001:db8:16::26"
OTHER, OTHER6 = "10.137.0.13", "fd09:24ef:4179::a89:d"
LAN1, LAN1_6 = "192.168.16.10", "2001:db8:16::10"
SYS, SYS6 = "192.168.16.2", "2001:db8:16::2"
OF = {4: {"web": WEB, "hidden": HIDDEN, "other": OTHER, "lan1": LAN1, "lan2": "192.168.16.11", "sys-net": SYS},
      6: {"web": WEB6, "hidden": HIDDEN6, "other": OTHER6, "lan1": LAN1_6, "lan2": "2001:db8:16::11",
          "sys-net": SYS6}}

TCP_PORTS = (22, 80, 443, 7999, 8000, 8050, 8100, 8101)
EVERYTHING = tuple(f"tcp/{port}" for port in TCP_PORTS) + ("udp/53", "udp/54", "icmp")
PUSH_ALLOWED, PUSH_CLOSED = 80, 8080


@pytest.fixture(params=(4, 6), ids=("ipv4", "ipv6"))
def family(request):
    return request.param


@pytest.fixture
def net(lab):
    """The basic network with a router."""
    net = lab()
    net.router = net["sys-net"].router(["--verbose"])
    return net


def state(net, addr):
    """(state, open) of an address as the status says it; None when it is not known."""
    for one in net.router.status()["addresses"]:
        if one["address"] == addr:
            return one["state"], one["open"]
    return None


def wait_state(net, addr, wanted):
    wait_until(lambda: state(net, addr) == wanted, 3.0 * SLOW, f"{addr} {wanted}, is {state(net, addr)}")


def route_to_qubes(net, *names):
    """Hosts that know the way to the qubes without ARP: what is then closed is closed by the rules."""
    for name in names:
        net[name].batch("".join(f"route replace {addr} via {SYS6 if ':' in addr else SYS}\n"
                                for family in (4, 6) for addr in (OF[family][n] for n in ("web", "hidden", "other"))))


def forget(net, *names):
    for name in names:
        net[name].run("ip neigh flush dev eth0 nud all; ip -6 neigh flush dev eth0 nud all")


# ---- before, during, after ------------------------------------------------------------------------------------------


def test_before_during_and_after(net, family):
    of, sys_net, web = OF[family], net["sys-net"], net["web"]
    for name in ("web", "other", "hidden"):
        net[name].serve_tcp(80), net[name].serve_udp(53)
    server = web.serve_tcp(8080)
    everybody = [net[name] for name in ("lan1", "lan2", "internet", "other", "hidden")]
    questions = doors(everybody, [of["web"]], ("tcp/80", "tcp/8080", "udp/53", "icmp"))
    others = doors([net["lan1"], net["lan2"]], [of["hidden"], of["other"]], ("tcp/80", "udp/53", "icmp"))
    asked = (net["lan1"], net["lan2"])

    def answers(node, addr):
        ask = node.arping if family == 4 else node.ndisc
        return {mac for mac, _delay in ask(addr, timeout=0.1 * SLOW)}

    expect(net, questions + others, [])
    assert not answers(net["lan1"], of["web"])
    sys_net.expose("web", family)
    wait_state(net, of["web"], ("open", True))
    forget(net, "lan1", "lan2", "gw")
    expect(net, questions + others, questions)
    for node in asked:
        assert answers(node, of["web"]) == {sys_net.mac("ens6")}
        assert not answers(node, of["hidden"])
    # Everybody is seen under the own address, and answers come from the qube's own.
    server.peers.clear()
    for name in ("lan1", "lan2", "other"):
        net[name].connect_tcp(of["web"], 8080).close()
    assert server.peers == [of["lan1"], of["lan2"], of["other"]]
    sys_net.withdraw("web", family)
    wait_until(lambda: not sys_net.proxies(), 2 * SLOW, "proxy entry gone")
    expect(net, questions + others, [])
    forget(net, "lan1", "lan2", "gw")
    assert not answers(net["lan1"], of["web"])
    expect(net, questions + others, [])


def test_own_address_outwards(net, family):
    """The exposed qube is seen under its address, everybody else under that of the net qube; and so is the exposed one
    before and after. A connection that was masqueraded when it began stays what it was."""
    of, sys_net, web = OF[family], net["sys-net"], net["web"]
    net["lan1"].serve_tcp(80), net["lan1"].serve_udp(53), net["other"].serve_tcp(80), net["internet"].serve_tcp(80)
    # an IPv6 host has two addresses and answers datagrams from the one it likes best
    inet, masqueraded = net["internet"].spec.links[0].addresses[0 if family == 4 else 1].split("/")[0], of["sys-net"]

    def seen(name):
        node = net[name]
        return {node.connect_tcp(of["lan1"], 80).peer, node.ask_udp(of["lan1"], 53), node.connect_tcp(inet, 80).peer}

    old = Ask(web, of["lan1"], 80)
    assert seen("web") == seen("hidden") == {masqueraded} == {old.peer}
    sys_net.expose("web", family)
    wait_state(net, of["web"], ("open", True))
    forget(net, "lan1", "gw")
    assert seen("web") == {of["web"]}
    assert seen("hidden") == seen("other") == {masqueraded}
    with net["lan1"].sniff("eth0", "icmp[0] == 8" if family == 4 else "icmp6[0] == 128") as taken:
        assert web.ping(of["lan1"]) and net["hidden"].ping(of["lan1"])
        layer = "IP" if family == 4 else "IPv6"
        assert [packet.scapy[layer].src for packet in taken.packets] == [of["web"], masqueraded]
    own = Ask(web, of["lan1"], 80)
    assert own.peer == of["web"] and old.moves()
    sys_net.withdraw("web", family)
    assert own.stopped()
    assert old.moves()
    assert seen("web") == {masqueraded}
    old.close(), own.close()


def test_several_addresses_are_independent(net):
    sys_net = net["sys-net"]
    route_to_qubes(net, "lan1")
    names, flows = ("web", "hidden", "other"), {}
    for name in names:
        net[name].serve_tcp(80)
    for family in (4, 6):
        for name in names:
            sys_net.expose(name, family, allow="tcp/80")
            wait_state(net, OF[family][name], ("open", True))
            flows[name, family] = Ask(net["lan1"], OF[family][name], 80)
    outwards = Ask(net["hidden"], LAN1, net["lan1"].serve_tcp(80).port)
    left = dict(flows)
    for name, family in (("web", 6), ("other", 4), ("web", 4), ("other", 6)):
        sys_net.withdraw(name, family)
        assert left.pop((name, family)).stopped()
        assert all(flow.moves() for flow in left.values()) and outwards.moves()
        expect(net, doors([net["lan1"]], [OF[f][n] for f in (4, 6) for n in names], ["tcp/80"]),
               [door(net["lan1"], OF[f][n], "tcp/80") for n, f in left])
    for flow in flows.values():
        flow.close()


@pytest.mark.parametrize("flavour", ("4.2", "4.3"))
def test_both_layouts_of_the_firewall_daemon(lab, flavour):
    net = lab(topologies.BASIC.changed("sys-net", flavour=flavour).changed("other", rules=()))
    net.router = net["sys-net"].router()
    net["web"].serve_tcp(80)
    net["sys-net"].expose("web")
    wait_state(net, WEB, ("open", True))
    # what the qube `other` may send is its own firewall's business, an exposure does not change it
    expect(net, doors([net["lan1"], net["hidden"], net["other"]], [WEB], ["tcp/80", "icmp"]),
           doors([net["lan1"], net["hidden"]], [WEB], ["tcp/80", "icmp"]))


def test_not_at_the_edge_nothing_is_answered_for(net, family):
    of, sys_net, lan1 = OF[family], net["sys-net"], net["lan1"]
    net["web"].serve_tcp(80), lan1.serve_tcp(80)
    sys_net.expose("web", family, edge="0")
    wait_state(net, of["web"], ("open", True))
    ask = lan1.arping if family == 4 else lan1.ndisc
    assert not ask(of["web"], timeout=0.15 * SLOW) and not sys_net.proxies()
    assert not reached(net, [door(lan1, of["web"], "tcp/80")])
    route_to_qubes(net, "lan1")
    assert lan1.connect_tcp(of["web"], 80).peer == of["lan1"]
    assert net["web"].connect_tcp(of["lan1"], 80).peer == of["web"]
    sys_net.expose("web", family, edge="1")
    wait_until(lambda: ask(of["web"], count=1), 3 * SLOW, "an answer")


# ---- allow ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served():
    """One network for all forms of allow: nothing but the record changes."""
    with Lab(topologies.BASIC) as net:
        net.router = net["sys-net"].router()
        for port in TCP_PORTS:
            net["web"].serve_tcp(port)
        for port in (53, 54):
            for addr in (WEB, WEB6):
                net["web"].serve_udp(port, addr)
        net["sys-net"].expose("web")  # announced once and for all
        route_to_qubes(net, "lan1", "lan2")
        yield net


def tcp(*ports):
    return {f"tcp/{port}" for port in ports}


# allow, then what lan1, lan2 and the qube `other` may; {lan1}, {lan} are addresses of the family at hand.
FORMS = (
    (None, EVERYTHING, EVERYTHING, EVERYTHING),
    ("", (), (), ()),
    ("tcp/80", tcp(80), tcp(80), tcp(80)),
    ("tcp/22,443", tcp(22, 443), tcp(22, 443), tcp(22, 443)),
    ("tcp/8000-8100", tcp(8000, 8050, 8100), tcp(8000, 8050, 8100), tcp(8000, 8050, 8100)),
    ("tcp/22,8000-8050,443", tcp(22, 8000, 8050, 443), tcp(22, 8000, 8050, 443), tcp(22, 8000, 8050, 443)),
    ("udp/53", {"udp/53"}, {"udp/53"}, {"udp/53"}),
    ("icmp", {"icmp"}, {"icmp"}, {"icmp"}),
    ("tcp", tcp(*TCP_PORTS), tcp(*TCP_PORTS), tcp(*TCP_PORTS)),
    ("udp", {"udp/53", "udp/54"}, {"udp/53", "udp/54"}, {"udp/53", "udp/54"}),
    ("any", EVERYTHING, EVERYTHING, EVERYTHING),
    ("any from {lan}", EVERYTHING, EVERYTHING, ()),
    ("any from {lan1}", EVERYTHING, (), ()),
    ("tcp/22 from {lan}", tcp(22), tcp(22), ()),
    ("tcp/22 from {lan1},{other}", tcp(22), (), tcp(22)),
    ("icmp from {lan2}", (), {"icmp"}, ()),
    ("tcp/80;udp/53;icmp", tcp(80) | {"udp/53", "icmp"}, tcp(80) | {"udp/53", "icmp"}, tcp(80) | {"udp/53", "icmp"}),
    ("tcp/22 from {lan1}; tcp/80 from {lan2} ;icmp", tcp(22) | {"icmp"}, tcp(80) | {"icmp"}, {"icmp"}),
    ("tcp/1-1024;tcp/80 from {lan1};any from {lan2}", tcp(22, 80, 443), EVERYTHING, tcp(22, 80, 443)),
    ("tcp/8000-8100;tcp/8050-8101 from {lan1};tcp/1-65535 from {other}", tcp(8000, 8050, 8100, 8101),
     tcp(8000, 8050, 8100), tcp(*TCP_PORTS)),
    ("tcp/80 from {lan};tcp/80 from {lan1}/{bits};tcp/22-443 from {lan2}", tcp(80), tcp(22, 80, 443), ()),
    ("tcp/80 from {foreign}", (), (), ()),
    ("tcp/1-65535 from {lan1};udp/1-53", tcp(*TCP_PORTS) | {"udp/53"}, {"udp/53"}, {"udp/53"}),
)
REFUSED = ("tcp/80;", ";", "tcp/", "tcp/0", "tcp/65536", "tcp/90-80", "tcp/80 from", "icmp/8", "any/80", "sctp/80",
           "tcp/80 from 192.168.16.10/33", "tcp/80 from 192.168.16.10/24", "tcp/80 to 1.2.3.4", "TCP/80", "tcp 80")


def _words(family):
    of = OF[family]
    return {"lan": "192.168.16.0/24" if family == 4 else "2001:db8:16::/64", "lan1": of["lan1"], "lan2": of["lan2"],
            "other": of["other"], "bits": 32 if family == 4 else 128,
            "foreign": "2001:db8:16::10" if family == 4 else "192.168.16.10"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form[0]))
def test_allow(served, family, form):
    of, nodes = OF[family], [served[name] for name in ("lan1", "lan2", "other")]
    allow = form[0] if form[0] is None else form[0].format(**_words(family))
    value = served["sys-net"].expose("web", family, allow=allow)[1]
    wait_until(lambda: _known_value(served, of["web"]) == value, 3 * SLOW, "the record taken up")
    assert state(served, of["web"]) == ("open", True)
    expect(served, doors(nodes, [of["web"]], EVERYTHING),
           [door(node, of["web"], what) for node, open_ in zip(nodes, form[1:]) for what in open_])


def _known_value(net, addr):
    for one in net.router.status()["addresses"]:
        if one["address"] == addr:
            return one["keys"][0]["value"]
    return None


@pytest.mark.parametrize("allow", REFUSED)
def test_allow_that_does_not_parse_closes_everything(served, allow):
    lan1 = served["lan1"]
    for family in (4, 6):
        served["sys-net"].expose("web", family, allow="any")
        wait_state(served, OF[family]["web"], ("open", True))
        served["sys-net"].expose("web", family, allow=allow)
    questions = doors([lan1], [WEB, WEB6], EVERYTHING)
    for addr in (WEB, WEB6):
        wait_state(served, addr, ("refused", False))
    expect(served, questions, [])


# ---- changes: what is permitted stays, the rest ends ----------------------------------------------------------------


class Flows(ExitStack):
    """Flows by name, closed at the end."""

    def __init__(self):
        super().__init__()
        self.by_name = {}

    def __setitem__(self, name, flow):
        self.by_name[name] = flow
        self.callback(flow.close)

    def check(self, stay, end):
        """The flows of `end` stop soon and for good, those of `stay` go on."""
        wait_until(lambda: not self._moving(end, 0.1), 2.0 * SLOW, f"an end of {end}")
        if stay:
            counts = self._counts(stay)
            wait_until(lambda: all(now > then for now, then in zip(self._counts(stay), counts)), 1.0 * SLOW,
                       f"{stay} going on from {counts}")

    def _counts(self, names):
        return [self.by_name[name].count for name in names]

    def _moving(self, names, seconds):
        counts, end = self._counts(names), time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            if self._counts(names) != counts:
                return True
            time.sleep(0.005)
        return False


ALL = ("ask80", "ask8080", "udp53", "qube80")
CHANGES = (  # fields before and after; flows that stay, the others end
    ({}, {"allow": "tcp/80"}, ("ask80", "qube80")),
    ({"allow": "any"}, {"allow": "tcp/80 from {lan1};udp/53"}, ("ask80", "udp53")),
    ({"allow": "tcp/1-9000;udp"}, {"allow": "tcp/8080"}, ("ask8080",)),
    ({"allow": "tcp;udp"}, {"allow": ""}, ()),
    ({"allow": "tcp;udp"}, {"allow": "nonsense"}, ()),
    ({"allow": "tcp;udp"}, None, ()),
    ({"allow": "tcp;udp"}, {"allow": "any"}, ALL),
    ({"allow": "tcp/80;tcp/8080;udp"}, {"allow": "tcp/1-79,81-9000;udp/53;tcp/80 from {lan1}"},
     ("ask80", "ask8080", "udp53")),
    ({"allow": "tcp;udp"}, {"allow": "tcp/22", "keep": "1"}, ALL),
    ({"allow": "tcp;udp", "keep": "1"}, None, ALL),
    ({"allow": "tcp;udp", "keep": "1"}, {"expires": "2001-01-01T00:00:00Z"}, ALL),
    ({"allow": "tcp;udp", "keep": "1"}, {"allow": "tcp/22"}, ()),
)


@pytest.fixture(scope="module")
def changing():
    """One network for all changes, in which others talk too."""
    with Lab(topologies.BASIC) as net:
        net.router = net["sys-net"].router()
        for port in (80, 8080):
            net["web"].serve_tcp(port)
        for addr in (WEB, WEB6):
            net["web"].serve_udp(53, addr)
        net["hidden"].serve_tcp(80), net["lan1"].serve_tcp(99)
        route_to_qubes(net, "lan1", "lan2")
        with Flows() as others:
            for family in (4, 6):
                net["sys-net"].expose("hidden", family)
                wait_state(net, OF[family]["hidden"], ("open", True))
                others["to hidden", family] = Ask(net["lan1"], OF[family]["hidden"], 80)
                others["of hidden", family] = Ask(net["hidden"], OF[family]["lan1"], 99)
                others["masqueraded", family] = Ask(net["other"], OF[family]["lan1"], 99)
            net.others = others
            yield net


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}-{change[1]}".replace("'", ""))
def test_a_change_cuts_what_is_not_permitted_any_more(changing, change):
    net, (before, after, stay) = changing, change
    sys_net, lan1, lan2 = net["sys-net"], net["lan1"], net["lan2"]
    for family in (4, 6):
        sys_net.expose("web", family, **before)
        wait_state(net, OF[family]["web"], ("open", True))
    with Flows() as flows:
        for family in (4, 6):
            addr = OF[family]["web"]
            flows["ask80", family] = Ask(lan1, addr, 80)
            flows["ask8080", family] = Ask(lan2, addr, 8080)
            flows["udp53", family] = Datagrams(lan1, addr, 53)
            flows["qube80", family] = Ask(net["other"], addr, 80)
        for family in (4, 6):
            if after is None:
                sys_net.withdraw("web", family)
            else:
                sys_net.expose("web", family, **{k: v.format(**_words(family)) for k, v in after.items()})
        flows.check([(name, family) for name in stay for family in (4, 6)],
                    [(name, family) for name in ALL if name not in stay for family in (4, 6)])
    net.others.check(list(net.others.by_name), ())


@pytest.mark.parametrize("how", ("narrow", "narrow from",
                                 "withdraw", "refuse", "vif gone"))
def test_a_download_ends_too(net, how):
    """The server sends, the client is silent: the kernel would take the middle of such a flow for a new connection of
    the qube's own, which keeps its address while anything of it is exposed."""
    sys_net, web = net["sys-net"], net["web"]
    serve_push(web, PUSH_ALLOWED), serve_push(web, PUSH_CLOSED)
    stay = ("allowed",) if "narrow" in how else ()
    with Flows() as flows:
        for family in (4, 6):
            addr = OF[family]["web"]
            sys_net.expose("web", family)
            wait_state(net, addr, ("open", True))
            flows["allowed", family] = Pull(net["lan1"], addr, PUSH_ALLOWED)
            flows["closed", family] = Pull(net["lan2"], addr, PUSH_CLOSED)
        for family in (4, 6):
            if how == "narrow":
                sys_net.expose("web", family, allow=f"tcp/{PUSH_ALLOWED}")
            elif how == "narrow from":
                sys_net.expose("web", family, allow=f"tcp from {OF[family]['lan1']}")
            elif how == "withdraw":
                sys_net.withdraw("web", family)
            elif how == "refuse":
                sys_net.qdb.write(f"/network-server/{OF[family]['web']}", "v=2|what=ever")
        if how == "vif gone":
            web.stop()
        flows.check([(name, family) for name in stay for family in (4, 6)],
                    [(name, family) for name in ("allowed", "closed") if name not in stay for family in (4, 6)])


# ---- expiry ---------------------------------------------------------------------------------------------------------


def _utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_expires(net):
    """Three records expire, one of them with `keep`; an open connection ends with its exposure and no other."""
    sys_net, lan1 = net["sys-net"], net["lan1"]
    at = int(time.time()) + 2
    for name in ("web", "hidden"):
        serve_push(net[name], 80)
    sys_net.expose("web", expires=_utc(at))
    sys_net.expose("web", 6, expires=_utc(at), keep="1")
    sys_net.expose("hidden", expires=_utc(at + 3600))
    for addr in (WEB, WEB6, HIDDEN):
        wait_state(net, addr, ("open", True))
    with Flows() as flows:
        for addr in (WEB, WEB6, HIDDEN):
            flows[addr] = Pull(lan1, addr, 80)
        assert time.time() < at, "too slow to see it open"
        wait_until(lambda: state(net, WEB) == ("expired", False), 3 * SLOW, "expired")
        assert at <= time.time() < at + 0.5 * SLOW
        flows.check((WEB6, HIDDEN), (WEB,))
        expect(net, doors([lan1], [WEB, WEB6, HIDDEN], ["tcp/80"]), [door(lan1, HIDDEN, "tcp/80")])
        sys_net.expose("web", expires=_utc(at - 1))
        sys_net.expose("hidden", expires=_utc(at - 1))  # from open to over at once
        flows.check((), (HIDDEN,))
        sys_net.expose("web", expires=_utc(time.time() + 60))
        expect(net, doors([lan1], [WEB, HIDDEN], ["tcp/80"]), [door(lan1, WEB, "tcp/80")])


# ---- other keys -----------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(net):
    """Questions about web on tcp/80, tcp/443 and ping, of both families, without ARP in between."""
    for port in (80, 443):
        net["web"].serve_tcp(port)
    route_to_qubes(net, "lan1")
    net.qdb = net["sys-net"].qdb
    lan1 = net["lan1"]

    def check(what4, what6=None):
        all_ = ("tcp/80", "tcp/443", "icmp")
        named = {"all": all_, "80": ("tcp/80",), "-": ()}
        expect(net, doors([lan1], [WEB, WEB6], all_),
               doors([lan1], [WEB], named[what4]) + doors([lan1], [WEB6], named[what6 or what4]))

    net.check = check
    return net


def test_compatible_key(keyed):
    qdb, check = keyed.qdb, keyed.check
    key, key6 = f"/qubes-routing-method/{WEB}", f"/qubes-routing-method/{WEB6}"
    check("-")
    qdb.write(key, "forward")
    check("all", "-")
    with Flows() as flows:
        flows["in"] = Ask(keyed["lan1"], WEB, 80)
        qdb.write(key6, "forward")
        check("all")
        flows.check(("in",), ())
        qdb.write(key, "masquerade")
        check("-", "all")
        flows.check((), ("in",))
    qdb.write(key, "forward")
    check("all")
    for garbage in ("forward ", "Forward", "", "forward\nforward", "1", "forward|allow=any"):
        qdb.write(key, garbage)
        check("-", "all")
        qdb.write(key, "forward")
        check("all")
    qdb.rm(key)
    check("-", "all")
    qdb.write(key, "forward")
    check("all")
    qdb.rm("/qubes-routing-method/")
    check("-")
    qdb.write(key, "forward")
    qdb.write(key6, "masquerade")
    check("all", "-")
    assert keyed["web"].connect_tcp(LAN1, keyed["lan1"].serve_tcp(7).port).peer == WEB
    # of a qube that is not attached: nothing is answered for
    qdb.write("/qubes-routing-method/192.168.16.99", "forward")
    wait_state(keyed, "192.168.16.99", ("no-vif", False))
    assert not keyed["lan1"].arping("192.168.16.99", timeout=0.1)


def test_precedence_of_marker_record_and_other_keys(keyed):
    qdb, check, sys_net = keyed.qdb, keyed.check, keyed["sys-net"]
    method, config = f"/qubes-routing-method/{WEB}", f"/vm-config/expose.{WEB}"
    qdb.write(method, "forward")
    check("all", "-")
    qdb.write("/network-server", "")
    check("-")
    assert state(keyed, WEB) == ("superseded", False)
    qdb.write(config, "v=1|allow=tcp/80|mode=forward")
    check("-")
    sys_net.expose("web", allow="tcp/80")
    check("80", "-")
    qdb.rm("/network-server")
    check("-")  # record and vm-config both claim it and nobody says who is right
    assert state(keyed, WEB) == ("duplicate", False)
    qdb.rm(config)
    check("80", "-")
    # a record that opens nothing is still a record
    for fields in ({"allow": "nonsense"}, {"allow": ""}, {"expires": "2001-01-01T00:00:00Z"}, {"xid": "77"},
                   {"xid": "pending"}, {"v": "2"}):
        sys_net.expose("web", **fields)
        check("-")
        sys_net.expose("web", allow="tcp/80")
        check("80", "-")
    qdb.write(f"/network-server/{WEB}", "")
    check("-")
    sys_net.withdraw("web")
    check("all", "-")
    qdb.write(method, "masquerade")
    check("-")
    sys_net.expose("web", allow="tcp/80")
    check("80", "-")
    # the directory of records goes, the marker with it or not
    qdb.write("/network-server", "")
    qdb.rm("/network-server/")
    check("-")


@pytest.mark.parametrize("key, addr", ((f"/vm-config/expose.{WEB}", WEB), ("/vm-config/expose.2001_db8_16__25", WEB6)))
def test_vm_config(keyed, key, addr):
    qdb = keyed.qdb

    def check(what):
        keyed.check(*((what, "-") if addr == WEB else ("-", what)))

    qdb.write(key, "v=1|mode=forward")
    check("all")
    qdb.write(key, "v=1|mode=forward|allow=tcp/80")
    check("80")
    qdb.write(f"/qubes-routing-method/{addr}", "forward")
    qdb.write(key, "v=1|mode=forward|via=direct|edge=1|allow=tcp/80 from 10.0.0.0/8")
    check("-")
    for refused in ("v=1|vm=web|mode=forward", "v=1|xid=11|mode=forward", "mode=forward",
                    "v=1|mode=forward|mode=forward", "v=1|mode=forward|via=10.137.0.6", "v=1|mode=forward|color=red", "forward"):
        qdb.write(key, refused)
        check("-")
        qdb.write(key, "v=1|mode=forward|allow=tcp/80")
        check("80")
    qdb.rm(key)
    check("all")  # the compatible key is left


# ---- the qube behind the record -------------------------------------------------------------------------------------


def test_record_and_vif(net, family):
    of, sys_net, web, lan1 = OF[family], net["sys-net"], net["web"], net["lan1"]
    web.serve_tcp(80)
    route_to_qubes(net, "lan1")
    question = [door(lan1, of["web"], "tcp/80")]
    sys_net.expose("web", family, xid="12")  # the domain of another qube
    wait_state(net, of["web"], ("mismatch", False))
    expect(net, question, [])
    sys_net.expose("web", family, xid="pending")
    wait_state(net, of["web"], ("pending", False))
    expect(net, question, [])
    assert not (lan1.arping if family == 4 else lan1.ndisc)(of["web"], timeout=0.1)
    sys_net.expose("web", family)
    expect(net, question, question)
    with Flows() as flows:
        flows["in"] = Ask(lan1, of["web"], 80)
        sys_net.expose("web", family, xid="pending")
        flows.check((), ("in",))
        sys_net.expose("web", family)
        expect(net, question, question)
        flows["again"] = Ask(lan1, of["web"], 80)
        web.stop()
        wait_state(net, of["web"], ("no-vif", False))
        assert not sys_net.proxies()
        flows.check((), ("again",))
    web.start(31)
    wait_state(net, of["web"], ("mismatch", False))  # the old record exposes no new owner
    expect(net, question, [])
    sys_net.expose("web", family)
    expect(net, question, question)
    web.stop(offline=False)  # the tool stack crashed: the vif went, the platform's elements stayed
    wait_state(net, of["web"], ("no-vif", False))
    wait_until(lambda: not sys_net.proxies(), 1 * SLOW, "nothing answered for")


def test_the_next_owner_of_an_address_is_not_exposed(net):
    sys_net, lan1 = net["sys-net"], net["lan1"]
    sys_net.expose("web")
    wait_state(net, WEB, ("open", True))
    net["web"].stop()
    heir = net.add(replace(net["web"].spec, name="heir", domid=40))
    heir.serve_tcp(80)
    route_to_qubes(net, "lan1")
    wait_state(net, WEB, ("mismatch", False))
    expect(net, [door(lan1, WEB, "tcp/80")], [])
    sys_net.expose("web", vm="heir", xid="40")
    expect(net, [door(lan1, WEB, "tcp/80")], [door(lan1, WEB, "tcp/80")])


def test_a_pending_record_opens_when_the_number_follows(net, family):
    """As dom0 does at a start: pending before the vif exists, the number before the guest runs."""
    of, sys_net, web, lan1 = OF[family], net["sys-net"], net["web"], net["lan1"]
    web.serve_tcp(80)
    web.stop()
    route_to_qubes(net, "lan1")
    sys_net.expose("web", family, xid="pending")
    wait_state(net, of["web"], ("pending", False))
    web.start(51)
    expect(net, [door(lan1, of["web"], "tcp/80")], [])
    assert state(net, of["web"]) == ("pending", False)
    sys_net.expose("web", family)
    expect(net, [door(lan1, of["web"], "tcp/80")], [door(lan1, of["web"], "tcp/80")])


def test_two_keys_of_one_address_open_nothing(net):
    sys_net, lan1 = net["sys-net"], net["lan1"]
    net["web"].serve_tcp(80)
    route_to_qubes(net, "lan1")
    key, value = sys_net.expose("web", 6)
    question = [door(lan1, WEB6, "tcp/80")]
    expect(net, question, question)
    sys_net.qdb.write("/network-server/2001:db8:16:0:0:0:0:25", value.replace("vm=web", "vm=other"))
    expect(net, question, [])
    assert state(net, WEB6)[0] in ("duplicate", "open") and not sys_net.proxies()
    sys_net.qdb.rm(key)
    expect(net, question, question)


# ---- two vifs of one address ----------------------------------------------------------------------------------------


@pytest.fixture
def hvm(lab):
    topology = topologies.BASIC.changed("web", hvm=True)
    net = lab(replace(topology, qubes=(topology.qubes[0], topology.qubes[2])))
    net.router = net["sys-net"].router(["--verbose"])
    net["web"].serve_tcp(80)
    return net


def _unplug(net, vif):
    net["sys-net"].batch(f"link del {vif}\n")


def test_hvm_stub_leaves_first(hvm, family):
    of, web, lan1 = OF[family], hvm["web"], hvm["lan1"]
    hvm["sys-net"].expose("web", family)
    wait_state(hvm, of["web"], ("open", True))
    question = [door(lan1, of["web"], "tcp/80")]
    expect(hvm, question, question)
    with Flows() as flows:
        flows["in"] = Ask(lan1, of["web"], 80)
        web.stub_offline()
        flows.check(("in",), ())
        _unplug(hvm, web.stub_vif)
        flows.check(("in",), ())
        expect(hvm, question, question)
        assert lan1.connect_tcp(of["web"], 80).peer == of["lan1"]
        assert _vifs(hvm, of["web"]) == ["vif11.0"]
        _unplug(hvm, web.vif)
        flows.check((), ("in",))
    wait_state(hvm, of["web"], ("no-vif", False))
    assert not hvm["sys-net"].proxies()


def _vifs(net, addr):
    return next(one["vifs"] for one in net.router.status()["addresses"] if one["address"] == addr)


def test_hvm_stub_leaves_last(hvm, family):
    """The qube proper goes first: what is left of the address leads to the stub domain, until that goes too."""
    of, web, lan1, sys_net = OF[family], hvm["web"], hvm["lan1"], hvm["sys-net"]
    sys_net.expose("web", family)
    wait_state(hvm, of["web"], ("open", True))
    assert sorted(_vifs(hvm, of["web"])) == ["vif11.0", "vif12.0"]
    web.offline()
    _unplug(hvm, web.vif)
    wait_until(lambda: _vifs(hvm, of["web"]) == ["vif12.0"], 2 * SLOW, "only the stub's vif")
    assert state(hvm, of["web"]) == ("open", True)
    with sys_net.sniff("vif12.0", "tcp[13] == 2" if family == 4 else "ip6 proto 6") as taken:
        reached(hvm, [door(lan1, of["web"], "tcp/80")])
        taken.wait_for(lambda packet: packet.outgoing)
    _unplug(hvm, web.stub_vif)
    wait_state(hvm, of["web"], ("no-vif", False))
    assert not sys_net.proxies()
    forget(hvm, "lan1")
    assert not (lan1.arping if family == 4 else lan1.ndisc)(of["web"], timeout=0.1)


def test_hvm_vifs_must_be_those_of_the_record(hvm):
    sys_net, lan1 = hvm["sys-net"], hvm["lan1"]
    sys_net.expose("web", xid="11")  # the best route is that of the stub domain, which the record does not know
    wait_state(hvm, WEB, ("mismatch", False))
    sys_net.expose("web", xid="12")
    wait_state(hvm, WEB, ("open", True))
    assert _vifs(hvm, WEB) == ["vif12.0"]
    sys_net.expose("web", xid="12,11")
    wait_until(lambda: sorted(_vifs(hvm, WEB)) == ["vif11.0", "vif12.0"], 2 * SLOW, "both vifs")
    expect(hvm, [door(lan1, WEB, "tcp/80")], [door(lan1, WEB, "tcp/80")])
