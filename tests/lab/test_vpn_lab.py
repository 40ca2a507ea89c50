# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's VPN half without our programs: what stands outside of the VPN qube works, and unsealed it leaks."""

import subprocess

import pytest

from lab import topologies
from lab.node import wait_until
from lab.topologies import TARGET, TARGET6
from lab.vpn_provider import (CLEAR_ANSWER, NAME, VPN_ANSWER, VPN_ANSWER6, VPN_DNS, VPN_DNS6, Provider, resolve,
                              way)


@pytest.fixture
def net(lab):
    return lab(topologies.VPN)


@pytest.fixture
def provider(net):
    return Provider(net)


def plain_openvpn(net, path):
    """What a user without a kill switch runs."""
    return net["vpn"].popen(["openvpn", "--config", path, "--disable-dco"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def test_without_a_tunnel_everything_goes_in_clear(net, provider):
    for name in ("work", "play", "vpn"):
        for address in (TARGET, TARGET6):
            assert way(net[name], address) == "CLEAR"
            assert way(net[name], address, "tcp") == "CLEAR"
    assert resolve(net["work"], "secret.example") == [CLEAR_ANSWER]
    assert resolve(net["vpn"], NAME, tcp=True) == ["203.0.113.10"]
    assert provider.clear_dns.queries == ["secret.example", NAME]


@pytest.mark.parametrize("proto, port, remote", [
    ("udp", 1194, "203.0.113.10 1194 udp"), ("tcp", 443, "203.0.113.10 443 tcp"),
    ("udp6", 1194, "2001:db8:1::10 1194 udp6"), ("udp", 1194, f"{NAME} 1194 udp")])
def test_openvpn_carries_both_families(net, provider, proto, port, remote):
    server = provider.openvpn(proto=proto, port=port)
    plain_openvpn(net, provider.openvpn_profile(remotes=[remote]))
    wait_until(lambda: way(net["work"], timeout=0.1) == "VPN", 10, "the tunnel carries")
    assert way(net["play"], TARGET6, "tcp") == "VPN"
    assert provider.inside.peers[-1] == server.site.client6
    assert resolve(net["work"], "secret.example", VPN_DNS) == [VPN_ANSWER]
    assert resolve(net["work"], "secret.example", VPN_DNS6, kind=28) == [VPN_ANSWER6]


def test_pushes_change_and_the_client_takes_them_when_kicked(net, provider):
    server = provider.openvpn("server2")
    plain_openvpn(net, provider.openvpn_profile(remotes=["203.0.113.20 1194 udp"]))
    wait_until(lambda: way(net["work"], timeout=0.1) == "VPN", 10, "the tunnel carries")
    assert provider.inside.peers[-1] == "10.9.0.2"
    server.push(address="10.9.0.77")
    server.kick()
    wait_until(lambda: way(net["work"], timeout=0.1) and provider.inside.peers[-1:] == ["10.9.0.77"], 15,
               "the new address")


def test_a_wireguard_profile_works(net, provider):
    server, vpn = provider.wireguard(), net["vpn"]
    path = f"{net.work}/wg.conf"
    lines = [line for line in provider.wireguard_text().splitlines() if not line.startswith(("Address", "DNS"))]
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    vpn.popen(["wireguard-go", "-f", "wgt"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: vpn.run(["wg", "setconf", "wgt", path], check=False).returncode == 0, 5, "wireguard-go")
    vpn.batch("addr add 10.66.0.2/32 dev wgt\nlink set wgt mtu 1420 up\nroute add 198.51.100.0/24 dev wgt\n")
    wait_until(lambda: way(net["work"], timeout=0.2) == "VPN", 5, "the tunnel carries")
    assert server.latest_handshake() > 0


def test_another_net_qube_and_a_late_uplink(net, provider):
    vpn = net["vpn"]
    vpn.move_to("sys-other")
    assert way(net["work"]) == "CLEAR"
    assert provider.clear.peers[-1] == "203.0.113.3"
    vpn.add_uplink(topologies.Link("wls7", "wild", ("172.31.7.2/24",)))
    vpn.batch(f"route add {TARGET}/32 via 172.31.7.1 dev wls7\n")
    assert way(net["work"]) == "CLEAR"
    assert provider.wild.peers == ["172.31.7.2"]
