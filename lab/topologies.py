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

ALL = {topology.name: topology for topology in (BASIC, TWO_UPLINKS, TWO_UPLINKS_ONE_LAN, CHAIN)}
