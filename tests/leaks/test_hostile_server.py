# SPDX-License-Identifier: GPL-2.0-or-later
"""A VPN server that pushes what suits it: whatever that is, nothing gets out, nothing in the VPN qube changes that the tunnel
needs not, and with an honest push the tunnel works again."""

import time

import pytest

from lab.node import wait_until
from lab.router import SLOW
from lab.vpn import COMMAND, SEAL, SUPERVISOR, available
from lab.vpn_flood import Flood
from lab.vpn_provider import CLEAR_ANSWER, VPN_DNS, OpenvpnServer, resolve
from tests.leaks import vectors
from tests.leaks.world import World

pytestmark = pytest.mark.skipif(not all(map(available, (SEAL, SUPERVISOR, COMMAND))), reason="the VPN half is not built")

HONEST = OpenvpnServer.PUSHES
# name: (pushes besides the honest ones, address or None, does a working tunnel follow: True, False, None for either)
PUSHES = {
    "110 a virtual name server's address": ((), "10.139.1.1", False),
    "110 the gateway's address": ((), "10.137.0.5", False),
    "110 a qube's address": ((), "10.137.0.21", False),
    "110 the uplink's address": ((), "10.137.0.20", False),
    "110 the endpoint's address": ((), "203.0.113.10", False),
    "110 a loopback address": ((), "127.0.0.1", False),
    "110 a multicast address": ((), "224.0.0.5", False),
    "110 no address": ((), None, None),
    "111 no name server, but this computer": (("dhcp-option DNS 127.0.0.1",), "10.8.0.2", None),
    "111 the net qube": (("dhcp-option DNS 10.137.0.5",), "10.8.0.2", None),
    "111 a qube": (("dhcp-option DNS 10.137.0.21",), "10.8.0.2", None),
    "111 the virtual name server": (("dhcp-option DNS 10.139.1.1",), "10.8.0.2", None),
    "111 the clear name server": (("dhcp-option DNS 203.0.113.1",), "10.8.0.2", None),
    "111 a link-local one": (("dhcp-option DNS 169.254.1.1",), "10.8.0.2", None),
    "112 many": (tuple(f"dhcp-option DNS 10.64.{number}.1" for number in range(60)), "10.8.0.2", None),
    "112 words that a shell would like": (("dhcp-option DOMAIN $(id)`id`;id", "dhcp-option DNS *"), "10.8.0.2", None),
    "113 MTU 68": (("tun-mtu 68",), "10.8.0.2", None),
    "113 MTU 65535": (("tun-mtu 65535",), "10.8.0.2", None),
    "114 routes by the uplink": (("route 198.51.100.0 255.255.255.0 net_gateway", "route 0.0.0.0 128.0.0.0 net_gateway",
                                  "route-ipv6 2001:db8:51::/64 fd09:24ef:4179::a89:5"), "10.8.0.2", True),
    "114 redirect-gateway local": (("redirect-gateway local bypass-dhcp bypass-dns", "block-ipv6"), "10.8.0.2", True),
    "115 a client that ends": (("ping-exit 1", "inactive 1"), "10.8.0.2", None),
    "115 scripts": (("setenv PATH /tmp", "up /bin/true", "script-security 3", "plugin /x.so", "dev tun99"), "10.8.0.2", None),
}


def routes(world):
    """What no push may change: everything but the tunnel's own routes and the seal's tables."""
    lines = []
    for family in ("-4", "-6"):
        lines += world.vpn.run(["ip", family, "route", "show", "table", "all"]).stdout.splitlines()
        lines += world.vpn.run(["ip", family, "rule", "show"]).stdout.splitlines()
    return sorted(line for line in lines if "qubes-vpn" not in line and " table 7" not in line)


@pytest.fixture(scope="module")
def world():
    with World("product") as one:
        one.arm().connect()
        yield one


@pytest.mark.parametrize("name", PUSHES)
def test_a_push(world, name):
    pushes, address, works = PUSHES[name]
    names = () if any("DNS" in push for push in pushes) else (f"dhcp-option DNS {VPN_DNS}",)
    before = routes(world)
    told = world.server.log.count("SENT CONTROL")
    world.mark(name)
    world.server.push(*names, *(push for push in HONEST if "DNS" not in push), *pushes, address=address)
    if address:
        world.oracle.tunnel_addresses.add(address)
    with Flood(world.lab["work"], 3600):
        world.server.kick()
        wait_until(lambda: world.server.log.count("SENT CONTROL") > told, 10 * SLOW, "the push")
        time.sleep(0.5)
        vectors.shoot(world)
        answer = resolve(world.lab["work"], "secret.example", timeout=0.3)
        if works:
            world.wait_up(20)
        up = world.is_up()
    assert answer != [CLEAR_ANSWER]
    assert works is None or up == works, world.logs()[-3000:]
    assert routes(world) == before
    leaks = [str(leak) for leak in world.oracle.report.leaks if leak.state == name]
    assert not leaks, "\n".join(leaks[:20])
    world.mark("honest again")
    world.server.push(*HONEST, address=world.server.site.client)
    world.server.kick()
    world.wait_up(40)
