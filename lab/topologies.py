# SPDX-License-Identifier: GPL-2.0-or-later
"""Ready topologies, by name in ALL. Make variants with Topology.changed() and .plus()."""

from dataclasses import replace

from lab.topology import Host, Link, NetQube, Qube, Route, Segment, Topology

LAN4, LAN6, ULA6 = "192.168.16", "2001:db8:16:", "fd00:16:"


def _lan(number):
    return (f"{LAN4}.{number}/24", f"{LAN6}:{number}/64", f"{ULA6}:{number}/64")


_DEFAULT_LAN = (Route("default", via=f"{LAN4}.1"), Route("::/0", via=f"{LAN6}:1"))


def _lan_host(name, number):
    return Host(name, (Link("eth0", "lan", _lan(number)),), _DEFAULT_LAN)


_GATEWAY = Host("gw", (Link("eth0", "lan", _lan(1)), Link("eth1", "wan", ("203.0.113.254/24", "2001:db8:1::fe/64"))),
                forward=True)
# The gateway routes and does not translate: the server in the Internet sees who speaks to it.
_INTERNET = Host("internet", (Link("eth0", "wan", ("203.0.113.1/24", "2001:db8:1::1/64")),),
                 (Route("default", via="203.0.113.254"), Route("::/0", via="2001:db8:1::fe")))

_QUBES = (
    Qube("web", "sys-net", 11, "192.168.16.25", "2001:db8:16::25"),
    Qube("other", "sys-net", 12, "10.137.0.13", "fd09:24ef:4179::a89:d"),
    Qube("hidden", "sys-net", 13, "192.168.16.26", "2001:db8:16::26"),
)

# One LAN, one net qube, three qubes: a server with a LAN address, an ordinary one, and one with a LAN address that
# nobody exposes.
BASIC = Topology(
    "basic",
    segments=(Segment("lan"), Segment("wan")),
    hosts=(_lan_host("lan1", 10), _lan_host("lan2", 11), _GATEWAY, _INTERNET),
    netqubes=(NetQube("sys-net", uplinks=(Link("ens6", "lan", _lan(2)),), routes=_DEFAULT_LAN),),
    qubes=_QUBES,
)

# A laptop with cable and wireless in different networks; wired is preferred.
TWO_UPLINKS = replace(
    BASIC,
    name="two_uplinks",
    segments=BASIC.segments + (Segment("wifi"),),
    hosts=BASIC.hosts + (
        Host("wifi1", (Link("eth0", "wifi", ("192.168.17.10/24", "2001:db8:17::10/64")),),
             (Route("default", via="192.168.17.2"), Route("::/0", via="2001:db8:17::2"))),),
    netqubes=(replace(
        BASIC.netqubes[0],
        uplinks=(Link("ens6", "lan", _lan(2)), Link("wls7", "wifi", ("192.168.17.2/24", "2001:db8:17::2/64"))),
        routes=(Route("default", via=f"{LAN4}.1", dev="ens6", metric=100),
                Route("::/0", via=f"{LAN6}:1", dev="ens6", metric=100))),),
)

# The same laptop docked at home: cable and wireless lead into the same LAN, each with an address of its own.
TWO_UPLINKS_ONE_LAN = replace(
    BASIC,
    name="two_uplinks_one_lan",
    netqubes=(replace(
        BASIC.netqubes[0],
        uplinks=(Link("ens6", "lan", _lan(2)), Link("wls7", "lan", _lan(3))),
        routes=(Route("default", via=f"{LAN4}.1", dev="ens6", metric=100),
                Route("default", via=f"{LAN4}.1", dev="wls7", metric=600),
                Route("::/0", via=f"{LAN6}:1", dev="ens6", metric=100),
                Route("::/0", via=f"{LAN6}:1", dev="wls7", metric=600))),),
)

# sys-net <- sys-firewall <- web, other; hidden directly below sys-net.
CHAIN = replace(
    BASIC,
    name="chain",
    netqubes=BASIC.netqubes + (
        NetQube("sys-firewall", netvm="sys-net", domid=4, ip="10.137.0.6", ip6="fd09:24ef:4179::a89:6"),),
    qubes=(replace(_QUBES[0], netvm="sys-firewall"), replace(_QUBES[1], netvm="sys-firewall"), _QUBES[2]),
)

# Two chains of net qubes on one LAN, with a dom0 (lab/dom0.py): web and other behind sys-firewall, hidden directly below
# sys-net, peer behind sys-fw2. Addresses of net qubes and of other and peer are those that qubesd gives by default.
TWO_CHAINS = replace(
    CHAIN,
    name="two_chains",
    netqubes=CHAIN.netqubes + (
        NetQube("sys-net2", domid=2, ip="10.137.0.7", ip6="fd09:24ef:4179::a89:7",
                uplinks=(Link("ens6", "lan", _lan(3)),), routes=_DEFAULT_LAN),
        NetQube("sys-fw2", netvm="sys-net2", domid=5, ip="10.137.0.8", ip6="fd09:24ef:4179::a89:8"),),
    qubes=CHAIN.qubes + (
        Qube("peer", "sys-fw2", 14, "10.137.0.14", "fd09:24ef:4179::a89:e"),),
)

# The VPN qube: a link of a chain, with IPv6 on all the way so that IPv6 really gets out where nothing stops it. "server"
# and "server2" are the provider's, "inside" is what lies behind the tunnel, "internet" what lies beside it: both hold
# the target's addresses 198.51.100.1 and 2001:db8:51::1, so an answer tells which way a packet took. "wild" waits for
# uplinks that appear later, "sys-other" for another net qube.
TARGET, TARGET6 = "198.51.100.1", "2001:db8:51::1"


def _wan(number):
    return (f"203.0.113.{number}/24", f"2001:db8:1::{number}/64")


_DEFAULT_WAN = (Route("default", via="203.0.113.1"), Route("::/0", via="2001:db8:1::1"))


def _vpn_server(name, number, inner):
    return Host(name, (Link("eth0", "wan", _wan(number)),
                       Link("eth1", "inner", (f"198.51.100.{inner}/24", f"2001:db8:51::{inner}/64"))),
                _DEFAULT_WAN + (Route("10.64.0.53/32", via=TARGET), Route("fd00:64::53/128", via=TARGET6)), forward=True)


VPN = Topology(
    "vpn",
    segments=(Segment("wan"), Segment("inner"), Segment("wild")),
    hosts=(
        Host("internet", (Link("eth0", "wan", _wan(1) + (f"{TARGET}/32", f"{TARGET6}/128")),), forward=True),
        _vpn_server("server", 10, 2),
        _vpn_server("server2", 20, 3),
        Host("inside", (Link("eth0", "inner", (f"{TARGET}/24", f"{TARGET6}/64", "10.64.0.53/32", "fd00:64::53/128")),),
             (Route("default", via="198.51.100.2"), Route("::/0", via="2001:db8:51::2"),
              Route("10.9.0.0/24", via="198.51.100.3"), Route("fd00:9::/64", via="2001:db8:51::3"),
              Route("10.67.0.0/24", via="198.51.100.3"), Route("fd00:67::/64", via="2001:db8:51::3"))),
        Host("wild", (Link("eth0", "wild", ("172.31.7.1/24", "2001:db8:77::1/64", f"{TARGET}/32", f"{TARGET6}/128")),)),
    ),
    netqubes=(
        NetQube("sys-net", uplinks=(Link("ens6", "wan", _wan(2)),), routes=_DEFAULT_WAN),
        NetQube("sys-other", ip="10.137.0.6", ip6="fd09:24ef:4179::a89:6",
                uplinks=(Link("ens6", "wan", _wan(3)),), routes=_DEFAULT_WAN),
        NetQube("vpn", netvm="sys-net", domid=31, ip="10.137.0.20", ip6="fd09:24ef:4179::a89:14",
                dns=("10.139.1.1", "10.139.1.2")),
    ),
    qubes=(
        Qube("work", "vpn", 41, "10.137.0.21", "fd09:24ef:4179::a89:15", mac="00:16:3e:5e:6c:15"),
        Qube("play", "vpn", 42, "10.137.0.22", "fd09:24ef:4179::a89:16", mac="00:16:3e:5e:6c:16"),
    ),
)

ALL = {topology.name: topology for topology in (BASIC, TWO_UPLINKS, TWO_UPLINKS_ONE_LAN, CHAIN, TWO_CHAINS,
                                               VPN)}
