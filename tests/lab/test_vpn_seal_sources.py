# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may have sent a packet: what the seal's own rules let through before connection tracking, and nothing else counted.
The platform checks sources too; its rules are taken away here, and with layer N alone no route of ours stands behind it."""

import fcntl
import os
import struct

import pytest

from lab import vpn_frames as frames
from lab.node import wait_until
from lab.platform import BACKEND_MAC
from lab.router import SLOW
from lab.vpn import SEAL, Wish, available
from lab.vpn_seal import TARGET, TARGET6, TUNNEL, Sealed

pytestmark = pytest.mark.skipif(not available(SEAL), reason="the seal is not built")

TUN, TUN6, PEER, PEER6 = "10.8.0.2", "fd53:8::2", "198.51.100.9", "2001:db8:9::9"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
PROBE = 4777            # port that is counted behind the check
CONTROL = 4778


class Gate:
    """What comes behind the seal's first chain, by way."""

    def __init__(self, lab, layers="RNG"):
        self.box = box = Sealed(lab, provider=False, layers=layers)
        self.vpn, self.work, self.play = box.vpn, box.work, box.play
        box.tunnel_device((TUN, TUN6))
        with self.vpn.ns:
            self._tun = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self._tun, TUNSETIFF, struct.pack("16sH14x", TUNNEL.encode(), IFF_TUN | IFF_NO_PI))
        self._wish = Wish(box.seal)
        assert box.open(self._wish, addresses=(TUN, TUN6)) == "ok"
        for family in ("ip", "ip6"):
            self.vpn.run(["nft", "flush", "chain", family, "qubes", "prerouting"])
        self.vpn.nft("".join(f"add table inet probe\nadd counter inet probe p{port}\n" for port in (PROBE, CONTROL)) +
                     "add chain inet probe c { type filter hook prerouting priority -305; }\n" +
                     "".join(f"add rule inet probe c meta l4proto udp th dport {port} counter name p{port}\n"
                             for port in (PROBE, CONTROL)))

    def counted(self, port):
        text = self.vpn.run(["nft", "list", "counter", "inet", "probe", f"p{port}"]).stdout
        return int(text.split("packets")[1].split()[0])

    def send(self, way, packet):
        if way == "tunnel":
            os.write(self._tun, packet)
        elif way == "uplink":
            self.box.lab["sys-net"].send_frame(self.vpn.vif, frames.ether(self.vpn.spec.mac, BACKEND_MAC, packet))
        else:
            node = getattr(self, way)
            node.send_frame("eth0", frames.ether(BACKEND_MAC, node.spec.mac, packet))

    def honest(self, way, six=False):
        """Source and destination of a packet of that way that nobody objects to."""
        own = {"work": self.work.spec, "play": self.play.spec}
        if way == "tunnel":
            return (PEER6, TUN6) if six else (PEER, TUN)
        if way == "uplink":
            return (PEER6, self.vpn.spec.ip6) if six else (PEER, self.vpn.spec.ip)
        return (own[way].ip6, TARGET6) if six else (own[way].ip, TARGET)

    def passes(self, way, source=None, target=None, six=False, **options):
        """Does such a packet pass? An honest one behind it has always to."""
        honest = self.honest(way, six)
        before, control = self.counted(PROBE), self.counted(CONTROL)
        self.send(way, frames.udp(source or honest[0], target or honest[1], PROBE, PROBE, b"x", **options))
        self.send(way, frames.udp(*honest, CONTROL, CONTROL, b"x"))
        wait_until(lambda: self.counted(CONTROL) > control, 2 * SLOW, f"the honest packet from {way}")
        return self.counted(PROBE) > before

    def close(self):
        self._wish.close()
        os.close(self._tun)


@pytest.fixture(params=["RNG", "N"])
def gate(lab, request):
    one = Gate(lab, request.param)
    yield one
    one.close()


def test_honest_packets_pass(gate):
    for way in ("work", "play", "tunnel", "uplink"):
        for six in (False, True):
            assert gate.passes(way, six=six)


def test_a_qube_has_its_own_address_only(gate):
    for source in (gate.play.spec.ip, "10.137.0.99", gate.vpn.spec.ip, TUN, PEER, "0.0.0.0", "127.0.0.1"):
        assert not gate.passes("work", source), source
    for source in (gate.play.spec.ip6, "fd09::77", gate.vpn.spec.ip6, TUN6, PEER6, "fe80::216:3eff:fe5e:6c00", "::"):
        assert not gate.passes("work", source, six=True), source


def test_a_qube_sends_no_options(gate):
    assert not gate.passes("work", options=b"\x07\x07\x04\0\0\0\0\0")  # record route
    for header in ((0, b"\0\0\x01\x04\0\0\0\0"), (43, b"\0\0\0\0\0\0\0\0")):
        assert not gate.passes("work", six=True, options=[header]), header
    assert gate.passes("work", six=True, options=[(60, b"\0\0\x01\x04\0\0\0\0")])


def test_other_protocols_of_a_qube_stay(gate):
    for number in (4, 41, 47, 50, 58):
        before = gate.vpn.run(["cat", "/proc/net/snmp"]).stdout
        gate.vpn.nft(f"add counter inet probe n{number}\n"
                     f"add rule inet probe c meta nfproto ipv4 meta l4proto {number} counter name n{number}\n")
        gate.send("work", frames.ip(gate.work.spec.ip, TARGET, number, b"x" * 40))
        assert gate.passes("work"), before
        assert "packets 0 " in gate.vpn.run(["nft", "list", "counter", "inet", "probe", f"n{number}"]).stdout, number


def test_from_the_tunnel_nobody_is_of_here(gate):
    for source in (gate.work.spec.ip, gate.play.spec.ip, gate.vpn.spec.ip, TUN):
        assert not gate.passes("tunnel", source), source
    for source in (gate.work.spec.ip6, gate.play.spec.ip6, gate.vpn.spec.ip6, TUN6):
        assert not gate.passes("tunnel", source, six=True), source


def test_from_the_tunnel_to_its_address_only(gate):
    for target in (gate.work.spec.ip, gate.vpn.spec.ip, PEER, "10.8.0.3"):
        assert not gate.passes("tunnel", target=target), target
    for target in (gate.work.spec.ip6, gate.vpn.spec.ip6, PEER6):
        assert not gate.passes("tunnel", target=target, six=True), target


def test_from_an_uplink_to_its_address_only(gate):
    gate.vpn.batch("addr add 10.77.0.1/32 dev lo\naddr add fd77::1/128 dev lo\n")
    for target in (gate.work.spec.ip, TUN, "10.77.0.1", "255.255.255.255", "224.0.0.1", TARGET):
        assert not gate.passes("uplink", target=target), target
    for target in (gate.work.spec.ip6, TUN6, "fd77::1", "ff02::1", TARGET6):
        assert not gate.passes("uplink", target=target, six=True), target
    gate.vpn.batch(f"addr add {TUN}/32 dev eth0\naddr add {TUN6}/128 dev eth0 nodad\n")
    gate.vpn.batch("addr add 10.77.0.2/32 dev eth0\n")
    wait_until(lambda: gate.passes("uplink", target="10.77.0.2"), 2 * SLOW, "a new address is one of the uplink's")
    assert not gate.passes("uplink", target=TUN) and not gate.passes("uplink", target=TUN6, six=True)
    assert not gate.passes("uplink", options=b"\x07\x07\x04\0\0\0\0\0")


def test_an_address_that_another_vif_takes_over(gate):
    """As a qube that starts anew while its old vif is still there: the route with the better metric has the address."""
    address, address6 = gate.work.spec.ip, gate.work.spec.ip6
    assert gate.passes("work") and not gate.passes("play", address)
    gate.vpn.batch(f"route add {address} dev {gate.play.vif} metric 1\nroute add {address6} dev {gate.play.vif} metric 1\n")
    for node, other, source, six in (("play", "work", address, False), ("play", "work", address6, True)):
        wait_until(lambda n=node, s=source, v=six: gate.passes(n, s, six=v), 2 * SLOW, "the new one has it")
        before = gate.counted(PROBE)
        gate.send(other, frames.udp(source, gate.honest("work", six)[1], PROBE, PROBE, b"x"))
        assert gate.passes("play", six=six)
        assert gate.counted(PROBE) == before + 1
    gate.vpn.batch(f"route del {address} dev {gate.play.vif} metric 1\nroute del {address6} dev {gate.play.vif} metric 1\n")
    wait_until(lambda: not gate.passes("play", address) and not gate.passes("play", address6, six=True), 2 * SLOW,
               "it has lost it again")
    assert gate.passes("work") and gate.passes("work", six=True)


def test_an_address_goes_with_its_vif(gate):
    """And a route that somebody takes away goes with its address, whatever the interface."""
    address = gate.work.spec.ip
    metric = next(line.split("metric ")[1].split()[0] if "metric" in line else "0" for line in
                  gate.vpn.run(["ip", "route", "show", "table", "main"]).stdout.splitlines() if line.startswith(address))
    gate.vpn.batch(f"route del {address} dev {gate.work.vif} metric {metric}\n")
    wait_until(lambda: not gate.passes("play", address), 2 * SLOW, "nobody has it")

    def gone():
        before = gate.counted(PROBE)
        gate.send("work", frames.udp(address, TARGET, PROBE, PROBE, b"x"))
        gate.passes("play", "10.137.0.99")  # the honest one behind it has come
        return gate.counted(PROBE) == before
    wait_until(gone, 2 * SLOW, "the address is gone")
