# SPDX-License-Identifier: GPL-2.0-or-later
"""Uplinks that come, go and change: exposed addresses are answered for on the right ones, and flows live on."""

import contextlib
import os
import signal
import time

import pytest

from lab import topologies
from lab.router import SLOW
from lab.topology import Link, Qube, Route
from lan_frames import Asker, announce, entry, is6, is_announcement, is_answer, question, state, wire

WEB4, WEB6 = "192.168.16.25", "2001:db8:16::25"
STRANGER = "52:54:00:99:00:02"
WIFI = {4: "192.168.17.10", 6: "2001:db8:17::10"}

pytestmark = pytest.mark.usefixtures("need_router")


def version(address):
    return 6 if is6(address) else 4


def exposed(built, *names):
    """Starts the router, exposes both addresses of these qubes, waits until all of them are open."""
    sys_net = built["sys-net"]
    router = sys_net.router()
    for name in names:
        for address in built[name].spec.addresses:
            sys_net.expose(name, version(address))
    for name in names:
        for address in built[name].spec.addresses:
            wait(lambda a=address: state(router, a) == "open", f"{address} open")
    return router


def wait(probe_, what, timeout=5.0):
    from lab.node import wait_until
    return wait_until(probe_, timeout * SLOW, what)


def who_has(host, address):
    """MAC addresses that answer a host of the LAN."""
    answers = host.ndisc(address, timeout=0.05 * SLOW) if is6(address) else host.arping(address, timeout=0.05 * SLOW)
    return {mac for mac, _delay in answers}


def announced(taken, address, mac, timeout=3.0):
    return taken.wait_for(lambda p: not p.outgoing and is_announcement(p, address, mac), timeout * SLOW,
                          f"the announcement of {address}")


def listens(built, router, address, host="lan2"):
    """A conflict on the uplink is noticed: the last thing that a test does with an address."""
    built[host].send_frame("eth0", announce(STRANGER, address))
    wait(lambda: state(router, address) == "conflict", f"the conflict of {address}")
    return True


def test_two_networks_each_has_its_own(lab):
    topology = topologies.TWO_UPLINKS.plus(Qube("air", "sys-net", 21, "192.168.17.25", "2001:db8:17::25"),
                                           Qube("routed", "sys-net", 22, "10.88.0.5", "2001:db8:88::5"),
                                           Qube("far", "sys-net", 23, "10.99.0.5", "2001:db8:99::5"))
    built = lab(topology)
    sys_net, lan1, wifi1 = built["sys-net"], built["lan1"], built["wifi1"]
    sys_net.batch("route add 10.88.0.0/16 via 192.168.17.10 dev wls7\n"
                  "route add 2001:db8:88::/48 via 2001:db8:17::10 dev wls7\n")
    router = exposed(built, "web", "air", "routed", "far")
    ens6, wls7 = {sys_net.mac("ens6")}, {sys_net.mac("wls7")}
    seen = {}
    for name in ("web", "air", "routed", "far"):
        for address in built[name].spec.addresses:
            seen[address] = who_has(lan1, address), who_has(wifi1, address)
    for address in built["web"].spec.addresses:
        assert seen[address] == (ens6, set())
    for address in built["air"].spec.addresses + built["routed"].spec.addresses:
        assert seen[address] == (set(), wls7)
    for address in built["far"].spec.addresses:
        assert seen[address] == (ens6, wls7)
        assert "no uplink's subnet" in entry(router, address)["reason"]
    built["far"].serve_tcp(80)
    lan1.batch("route add 10.99.0.5 dev eth0\n")
    assert lan1.connect_tcp("10.99.0.5", 80).peer == "192.168.16.10"
    # the route moves, and so does who answers
    sys_net.batch("route replace 10.88.0.0/16 via 192.168.16.10 dev ens6\n")
    wait(lambda: who_has(lan1, "10.88.0.5") == ens6 and not who_has(wifi1, "10.88.0.5"), "the answer there")


def test_one_lan_twice(lab):
    built = lab(topologies.TWO_UPLINKS_ONE_LAN)
    sys_net, lan1, web = built["sys-net"], built["lan1"], built["web"]
    ens6, wls7 = sys_net.mac("ens6"), sys_net.mac("wls7")
    web.serve_tcp(80)
    router = exposed(built, "web")
    addresses = (WEB4, WEB6)
    assert [who_has(lan1, address) for address in addresses] == [{ens6}, {ens6}]
    # and for nobody else: neither for other hosts of this LAN nor for free addresses
    assert who_has(lan1, "192.168.16.11") == who_has(lan1, "2001:db8:16::11") == {built["lan2"].mac()}
    for free in ("192.168.16.200", "192.168.16.26", "2001:db8:16::200", "2001:db8:16::26"):
        assert who_has(lan1, free) == set()
    second = wire(built, iface="wls7")
    with lan1.connect_tcp(WEB4, 80) as connection:
        sys_net.carrier("ens6", False)
        # what a network manager does then, so that replies find the way
        sys_net.batch("route del 192.168.16.0/24 dev ens6\nroute del 2001:db8:16::/64 dev ens6\n")
        for address in addresses:
            announced(second, address, wls7)
            assert who_has(lan1, address) == {wls7}
        assert connection.alive(2 * SLOW)
        first = wire(built, iface="ens6")
        sys_net.carrier("ens6", True)
        sys_net.batch("route prepend 192.168.16.0/24 dev ens6 src 192.168.16.2\n"
                      "route append 2001:db8:16::/64 dev ens6 metric 256\n")
        for address in addresses:
            announced(first, address, ens6)
            assert who_has(lan1, address) == {ens6}
        assert connection.alive(2 * SLOW)
    assert listens(built, router, WEB4) and listens(built, router, WEB6)


def test_uplink_goes_and_another_comes(basic):
    sys_net, lan1, web, other = basic["sys-net"], basic["lan1"], basic["web"], basic["other"]
    web.serve_tcp(80)
    router = exposed(basic, "web")
    link = sys_net.uplinks["ens6"]
    assert lan1.can_reach(WEB4, 80)
    sys_net.remove_uplink("ens6")
    wait(lambda: "no uplink" in entry(router, WEB4).get("reason", ""), "the status to say so")
    assert other.can_reach(WEB4, 80) and router.status()["uplinks"] == []
    sys_net.routes = list(topologies.BASIC.netqubes[0].routes)
    seen = lan1.sniff("eth0", "arp or icmp6")
    sys_net.add_uplink(link)
    mac = sys_net.mac("ens6")
    for address in (WEB4, WEB6):
        announced(seen, address, mac)
        lan1.neighbour_forget(address)
        assert lan1.can_reach(address, 80)
    assert entry(router, WEB4)["answered_on"] == ["ens6"]
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_router_before_any_uplink(lab):
    built = lab(topologies.BASIC.changed("sys-net", uplinks=(), routes=()))
    sys_net, lan1 = built["sys-net"], built["lan1"]
    built["web"].serve_tcp(80)
    router = exposed(built, "web")
    assert built["other"].can_reach(WEB4, 80)
    sys_net.add_uplink(Link("ens6", "lan", ("192.168.16.2/24", "2001:db8:16::2/64")),
                       (Route("default", via="192.168.16.1"),))
    wait(lambda: entry(router, WEB4)["answered_on"] == entry(router, WEB6)["answered_on"] == ["ens6"], "answers")
    assert lan1.can_reach(WEB4, 80) and lan1.can_reach(WEB6, 80)


def index_of(node, iface):
    return int(node.run(["ip", "-o", "link", "show", "dev", iface]).stdout.split(":")[0])


def replace_link(built, index, mac):
    """Another interface of the same name and index takes the place of ens6."""
    sys_net = built["sys-net"]
    port = built.ports["sys-net", "ens6"]
    sys_net.batch(f"link del ens6\nlink add ens6 index {index} address {mac} type veth peer name {port} "
                  f"netns {os.path.basename(built.switch.path)}\n")
    built.switch.batch(f"link set {port} master lan up\n")  # the old port went with its other end
    sys_net.uplink_up("ens6")


@pytest.mark.parametrize("mac", [None, "52:54:00:bb:00:01"], ids=["same mac", "other mac"])
@pytest.mark.parametrize("asleep", [False, True], ids=["seen", "unseen"])
def test_index_used_again(basic, mac, asleep):
    """unseen: the router looks only when all is over, as on a busy machine."""
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    index = index_of(sys_net, "ens6")
    mac = mac or sys_net.mac("ens6")
    seen = lan1.sniff("eth0", "arp or icmp6")
    if asleep:
        router.process.send_signal(signal.SIGSTOP)
    try:
        replace_link(basic, index, mac)
    finally:
        router.process.send_signal(signal.SIGCONT)
    assert index_of(sys_net, "ens6") == index
    for address in (WEB4, WEB6):
        wait(lambda a=address: who_has(lan1, a) == {mac}, f"an answer for {address}")
        lan1.neighbour_forget(address)
        assert lan1.can_reach(address, 80)
    if mac.startswith("52:54:00:bb"):
        announced(seen, WEB4, mac), announced(seen, WEB6, mac)
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_rename(basic):
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    mac = sys_net.mac("ens6")
    seen = lan1.sniff("eth0", "arp or icmp6")
    with lan1.connect_tcp(WEB4, 80) as connection:
        sys_net.rename_uplink("ens6", "enp0s6f0u1")
        for address in (WEB4, WEB6):
            announced(seen, address, mac)
            assert who_has(lan1, address) == {mac}
            assert entry(router, address)["answered_on"] == ["enp0s6f0u1"]
        assert connection.alive(2 * SLOW)
    # what the qube opens keeps its address by the new name too
    with basic["lan2"].serve_tcp(81) as server:
        assert basic["web"].connect_tcp("192.168.16.11", 81).peer == WEB4 and server.peers == [WEB4]
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_down_and_up(basic):
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    mac = sys_net.mac("ens6")
    seen = lan1.sniff("eth0", "arp or icmp6")
    with lan1.connect_tcp(WEB4, 80) as connection:
        sys_net.uplink_down("ens6")
        wait(lambda: not sys_net.proxies() and state(router, WEB4) == "open", "the kernel's entries gone with it")
        sys_net.uplink_up("ens6")
        for address in (WEB4, WEB6):
            announced(seen, address, mac)
            lan1.neighbour_forget(address)
            assert lan1.can_reach(address, 80)
        assert connection.alive(2 * SLOW)
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_carrier_and_mac_leave_flows_alone(basic):
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    with lan1.connect_tcp(WEB4, 80) as four, lan1.connect_tcp(WEB6, 80) as six:
        sys_net.carrier("ens6", False)
        wait(lambda: [(one["name"], one["carrier"]) for one in router.status()["uplinks"]] == [("ens6", False)],
             "the router to know")
        assert state(router, WEB4) == "open" and {a for a, _ in sys_net.proxies()} == {WEB4, WEB6}
        sys_net.carrier("ens6", True)
        assert four.alive(2 * SLOW) and six.alive(2 * SLOW)
        seen = lan1.sniff("eth0", "arp or icmp6")
        sys_net.new_mac("ens6", "52:54:00:aa:00:01")
        announced(seen, WEB4, "52:54:00:aa:00:01"), announced(seen, WEB6, "52:54:00:aa:00:01")
        assert four.alive(2 * SLOW) and six.alive(2 * SLOW)
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_lease_is_renewed(basic):
    """The address goes for a moment, with all routes by it; the kernel answers no ARP there without an address."""
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    mac = sys_net.mac("ens6")
    taken = wire(basic)
    announced(taken, WEB4, mac), announced(taken, WEB6, mac)
    questions = [question(lan1.mac(), WEB4, "192.168.16.10"), question(lan1.mac(), WEB6, "2001:db8:16::10")]
    with lan1.connect_tcp(WEB4, 80) as four, lan1.connect_tcp(WEB6, 80) as six, Asker(lan1, questions):
        sys_net.run(["ip", "addr", "flush", "dev", "ens6", "scope", "global"])
        assert not sys_net.addresses("ens6")
        assert state(router, WEB4) == state(router, WEB6) == "open"
        sys_net.uplink_up("ens6")
        back = time.time()
        for address in (WEB4, WEB6):
            again = taken.wait_for(lambda p, a=address: not p.outgoing and p.time > back and is_answer(p, a, mac),
                                   SLOW, f"an answer for {address}")
            assert again.time - back < 0.1 * SLOW
        assert four.alive(2 * SLOW) and six.alive(2 * SLOW)
    assert who_has(lan1, WEB4) == who_has(lan1, WEB6) == {mac}
    assert sys_net.sysctl("net/ipv4/neigh/ens6/proxy_delay") == "0"
    assert state(router, WEB4) == state(router, WEB6) == "open"
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_uplink_changes_its_address(basic):
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    with lan1.connect_tcp(WEB4, 80) as connection:
        sys_net.batch("addr add 192.168.16.3/24 dev ens6\naddr del 192.168.16.2/24 dev ens6\n"
                      "addr replace 192.168.16.3/24 dev ens6\nroute replace default via 192.168.16.1\n")
        assert connection.alive(2 * SLOW) and who_has(lan1, WEB4) == {sys_net.mac("ens6")}
    # into another network: the only uplink still answers
    sys_net.batch("addr add 192.168.20.2/24 dev ens6\naddr del 192.168.16.3/24 dev ens6\n")
    assert state(router, WEB4) == "open"
    wait(lambda: who_has(lan1, WEB4) == {sys_net.mac("ens6")}, "an answer")


def test_address_strange_to_the_only_uplink_is_said(basic):
    router = exposed(basic, "web", "other")
    assert "reason" not in entry(router, WEB4)
    assert "no uplink's subnet" in entry(router, "10.137.0.13").get("reason", "")


@pytest.mark.parametrize("address", [WEB4, WEB6], ids=["ip4", "ip6"])
def test_net_qube_gets_the_exposed_address_itself(basic, address):
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    server = basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    with lan1.connect_tcp(address, 80) as connection:
        sys_net.batch(f"addr add {address}/{64 if is6(address) else 24} dev ens6\n")
        wait(lambda: state(router, address) == "unusable", "the exposure closed")
        assert not connection.alive(0.3)
    assert "itself" in entry(router, address)["reason"]
    assert address not in {a for a, _iface in sys_net.proxies()}
    served = len(server.peers)
    assert not lan1.can_reach(address, 80, timeout=0.3) and len(server.peers) == served
    sys_net.batch(f"addr del {address}/{64 if is6(address) else 24} dev ens6\n")
    wait(lambda: state(router, address) == "open", "open again")
    lan1.neighbour_forget(address)
    assert lan1.can_reach(address, 80)


def test_address_of_a_gateway_is_refused(lab):
    topology = topologies.BASIC.plus(Qube("evil", "sys-net", 31, "192.168.16.1", "2001:db8:16::1"))
    built = lab(topology)
    sys_net, lan1 = built["sys-net"], built["lan1"]
    router = exposed(built, "web")
    for family in (4, 6):
        sys_net.expose("evil", family)
    for address in ("192.168.16.1", "2001:db8:16::1"):
        wait(lambda a=address: state(router, a) == "unusable", f"{address} refused")
        assert "gateway" in entry(router, address)["reason"]
        assert who_has(lan1, address) == {built["gw"].mac()}
    assert {a for a, _ in sys_net.proxies()} == {WEB4, WEB6}
    # the gateway is another one from now on: the address is free
    built["gw"].batch("addr del 192.168.16.1/24 dev eth0\n")
    sys_net.batch("route replace default via 192.168.16.11\n")
    wait(lambda: state(router, "192.168.16.1") == "open", "open when it is no gateway any more")
    sys_net.batch("route replace default via 192.168.16.1\n")
    wait(lambda: state(router, "192.168.16.1") == "unusable", "closed when it is one again")


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_uplink_on_top_of_another(basic, kind):
    """Addresses sit on the bridge (or VLAN, macvlan) and its port has none: the upper one faces the LAN."""
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = exposed(basic, "web")
    addresses = "".join(f"addr add {a} dev up0\n" for a in sys_net.uplinks["ens6"].addresses)
    sys_net.run(["ip", "addr", "flush", "dev", "ens6", "scope", "global"])
    if kind == "bridge":
        # where bridged frames pass the IP rules, the platform drops what comes from the LAN with a qube's address
        for name in ("iptables", "ip6tables", "arptables"):
            with contextlib.suppress(OSError):
                sys_net.sysctl(f"net/bridge/bridge-nf-call-{name}", 0)
        sys_net.batch("link add up0 address 52:54:00:cc:00:01 type bridge mcast_snooping 0\nlink set ens6 master up0\n")
    else:
        sys_net.batch("link add up0 link ens6 address 52:54:00:cc:00:01 type macvlan mode bridge\n")
    sys_net.batch("link set up0 up\n" + addresses + "route replace default via 192.168.16.1\n")
    for address in (WEB4, WEB6):
        wait(lambda a=address: entry(router, a)["answered_on"] == ["up0"], f"{address} answered on it alone")
        wait(lambda a=address: who_has(lan1, a) == {"52:54:00:cc:00:01"}, f"an answer for {address}")
        lan1.neighbour_forget(address)
        assert lan1.can_reach(address, 80)
    assert listens(basic, router, WEB4) and listens(basic, router, WEB6)


def test_what_is_no_uplink_never_answers(lab):
    """An address that no uplink holds is answered on all of them: on these never."""
    topology = topologies.TWO_UPLINKS.plus(Qube("far", "sys-net", 23, "10.99.0.5", "2001:db8:99::5"))
    built = lab(topology)
    sys_net, wifi1, lan1 = built["sys-net"], built["wifi1"], built["lan1"]
    sys_net.batch("tuntap add dev tun0 mode tun\nlink set tun0 up\naddr add 10.8.0.2/24 dev tun0\n"
                  "addr add 2001:db8:8::2/64 dev tun0\naddr add 192.0.2.7/32 dev lo\n"
                  "link add vifx type veth peer name vify\nlink set vifx up\nlink set vify up\n"
                  "addr add 172.30.0.1/24 dev vifx\nlink add bare type veth peer name erab\nlink set bare up\n"
                  "link set erab up\n")
    router = exposed(built, "far")
    addresses = built["far"].spec.addresses

    def names():
        return {iface for _address, iface in sys_net.proxies()}

    assert names() == {"ens6", "wls7"}
    assert {one["name"] for one in router.status()["uplinks"]} == {"ens6", "wls7"}
    assert all(who_has(wifi1, address) for address in addresses)
    for change, back in (("arp off", "arp on"), ("group 2", "group 0")):
        sys_net.batch(f"link set wls7 {change}\n")
        wait(lambda: names() == {"ens6"}, f"no entry on wls7 with {change}")
        assert all(not who_has(wifi1, address) and who_has(lan1, address) for address in addresses)
        sys_net.batch(f"link set wls7 {back}\n")
        wait(lambda: names() == {"ens6", "wls7"}, f"entries on wls7 with {back}")
        wait(lambda: all(who_has(wifi1, address) for address in addresses), "answers on wls7")
