# SPDX-License-Identifier: GPL-2.0-or-later
"""What stays true behind a VPN qube, and what does not come in by it: the firewall of qubes behind a ProxyVM that is
attached to it, the DNS rules of Qubes 4.2, and exposures (network server and VPN in one qube)."""

import pytest

from lab import platform, topologies
from lab.node import wait_until
from lab.router import SLOW, Router, available
from lab.topologies import TARGET, TARGET6
from lab.topology import NetQube, Qube
from lab.vpn import SEAL, SUPERVISOR, Seal, Supervisor
from lab.vpn_provider import VPN_ANSWER, VPN_DNS, Provider, resolve, way

pytestmark = pytest.mark.skipif(not all(map(available, (SEAL, SUPERVISOR))), reason="the VPN half is not built")

# work, play <- vpn, and behind vpn a ProxyVM with a qube of its own.
CHAIN = topologies.VPN.plus(
    NetQube("sys-behind", netvm="vpn", domid=51, ip="10.137.0.30", ip6="fd09:24ef:4179::a89:1e",
            dns=("10.139.1.1", "10.139.1.2")),
    Qube("deep", "sys-behind", 52, "10.137.0.31", "fd09:24ef:4179::a89:1f", mac="00:16:3e:5e:6c:1f"))
ROUTER = "src/router/qubes-routing-manager"
ONLY_UDP_7 = ("action=accept proto=udp dstports=7-7",)


def connected(net):
    provider = Provider(net)
    provider.openvpn()
    seal = Seal(net["vpn"])
    vpnd = Supervisor(net["vpn"], seal)
    vpnd.install(provider.openvpn_profile())
    vpnd.wait_state("up")
    wait_until(lambda: way(net["work"], timeout=0.2) == "VPN", 5 * SLOW, "the tunnel carries")
    return vpnd, seal


def ways(node):
    """By UDP and TCP, by both families."""
    return [way(node, address, proto, 0.5) for address in (TARGET, TARGET6) for proto in ("udp", "tcp")]


OPEN, UDP_ONLY, SHUT = ["VPN"] * 4, ["VPN", None] * 2, [None] * 4


def become(node, wanted):
    wait_until(lambda: ways(node) == wanted, 10 * SLOW, f"{node.spec.name}: {wanted}")


def test_the_firewall_of_a_qube_behind_a_proxy_is_kept(lab):
    net = lab(CHAIN)
    vpnd, _ = connected(net)
    become(net["deep"], OPEN)
    net["deep"].set_rules(ONLY_UDP_7)              # enforced by the ProxyVM
    become(net["deep"], UDP_ONLY)
    net["deep"].set_rules(())
    become(net["deep"], SHUT)
    net["deep"].set_rules(None)
    net["sys-behind"].set_rules(ONLY_UDP_7)        # the ProxyVM's own, enforced by the VPN qube
    become(net["deep"], UDP_ONLY)
    assert ways(net["work"]) == OPEN
    vpnd.kill_client()                             # and by the next tunnel
    wait_until(lambda: way(net["deep"], timeout=0.2) == "VPN", 30 * SLOW, "the next tunnel")
    become(net["deep"], UDP_ONLY)
    vpnd.command.run("down")
    vpnd.wait_state("sealed")
    assert ways(net["deep"]) == SHUT


def test_names_behind_a_proxy(lab):
    net = lab(CHAIN)
    connected(net)
    wait_until(lambda: resolve(net["deep"], "secret.example") == [VPN_ANSWER], 10 * SLOW, "names")


@pytest.mark.parametrize("rules, names", [
    (None, True),
    (("action=accept specialtarget=dns",), False),  # 4.2 holds the rule against the address before the VPN's
    ((f"action=accept proto=udp dst4={VPN_DNS}/32 dstports=53-53",), True)])
def test_dns_rules_of_qubes_4_2(lab, rules, names):
    """Without a set dns-addr nothing can be added that opens no more than the rules say: closed, and said."""
    net = lab(topologies.VPN.changed("vpn", flavour="4.2"))
    if rules is not None:
        net["play"].set_rules(rules)
    vpnd, _ = connected(net)
    answer = resolve(net["play"], "secret.example")
    assert answer == ([VPN_ANSWER] if names else None)
    assert "cannot be told of the VPN's name servers" in vpnd.log
    assert resolve(net["work"], "secret.example") == [VPN_ANSWER]


@pytest.mark.skipif(not available(ROUTER), reason="the router is not built")
@pytest.mark.parametrize("running", [True, False])
def test_exposures_end_when_the_seal_arms(lab, running):
    """Exposed first, then sealed, with the router running or dead (its rules are still there): nothing comes in, and the
    supervisor says whose rules it found. The way back works once the qube is no VPN qube."""
    net = lab(topologies.VPN)
    vpn, work, outside = net["vpn"], net["work"], net["sys-net"]
    router = Router(vpn, start=False)
    vpn.expose("work")
    router.start()
    outside.nft(platform.elements_text("add", vpn.vif, work.spec.ip))  # as the net qube's own router would
    outside.run(["ip", "route", "replace", f"{work.spec.ip}/32", "via", vpn.spec.ip, "dev", vpn.vif, "onlink"])

    def comes_in():
        return outside.can_reach(work.spec.ip, 80)

    with work.serve_tcp(80):
        wait_until(comes_in, 10 * SLOW, "exposed")
        if not running:
            router.kill9()
        vpnd, seal = connected(net)
        assert not comes_in()
        assert "it exposes nothing here" in vpnd.log
        assert seal.check()[0] == 0
        if running:
            wait_until(lambda: router.status()["vpn_qube"], 5 * SLOW, "the router knows")
            vpn.withdraw("work")
            vpn.expose("work")
            assert not comes_in()
        assert ways(work) == OPEN
