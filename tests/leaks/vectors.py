# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that try to get out: one function per way. The number is that of doc/leaks.md; letters tell variants apart.

Each vector has an actor (A a qube behind, S the VPN server or somebody in its tunnel, L somebody on the uplink, P a
process of the VPN qube, D one under the client's user, T whom a qube speaks to, through the tunnel) and a function that gives what to send: frames for A and L,
packets for S; P and D act themselves. Nothing is judged here, the witness (lab/vpn_oracle.py) does that by the tags.
"""

import contextlib
import ctypes
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Callable

from lab import vpn_frames as frames
from lab.platform import BACKEND_MAC
from lab.topologies import TARGET, TARGET6
from lab.vpn import CLIENT_USER, TUNNEL
from lab.vpn_frames import ACK, FIN, RST, SYN
from lab.vpn_provider import make_question

VICTIM, VICTIM6 = "8.8.8.8", "2001:db8:8::8"
VDNS = "10.139.1.1"


@dataclass(frozen=True)
class Vector:
    number: int
    letter: str
    actor: str
    title: str
    make: Callable

    @property
    def tag(self):
        return f"LK{self.number:03d}{self.letter}{self.actor}"

    def payload(self, size=64):
        return frames.payload(self.number, self.letter, self.actor, size)


ALL = []


def vector(number, letter, actor, title):
    def keep(make):
        ALL.append(Vector(number, letter, actor, title, make))
        return make
    return keep


def family(number, actor, *variants):
    """Several variants at once: (letter, title, function of world and payload)."""
    for letter, title, make in variants:
        ALL.append(Vector(number, letter, actor, title, make))


@dataclass(frozen=True)
class Raw:
    """A frame as it is, where a packet alone does not say enough."""
    frame: bytes


# -- a qube behind (frames leave its eth0) -----------------------------------------------------------------------------
# w: the World (tests/leaks/world.py). w.q, w.q6: the qube; w.u, w.u6: the VPN qube; w.gw, w.gw6: its net qube; w.t,
# w.t6: the tunnel's own address; w.e: the endpoint, w.eport its port; w.cport: the client's own port.

def spoof(w, d):
    return frames.udp("10.137.0.99", TARGET, 4001, 7, d)


family(
    78, "A",
    ("a", "spoofed source", spoof),
    ("b", "another qube's source", lambda w, d: frames.udp(w.p, TARGET, 4001, 7, d)),
    ("c", "spoofed IPv6 source", lambda w, d: frames.udp("fd09::77", TARGET6, 4001, 7, d)),
    ("d", "honest UDP", lambda w, d: frames.udp(w.q, TARGET, 4002, 7, d)),
    ("e", "honest UDP over IPv6", lambda w, d: frames.udp(w.q6, TARGET6, 4002, 7, d)),
    ("f", "honest ping", lambda w, d: frames.icmp(w.q, TARGET, data=d)),
    ("g", "honest TCP", lambda w, d: frames.tcp(w.q, TARGET, 4003, 7, d)))
family(
    79, "A",
    ("a", "SYN in a victim's name to a closed port", lambda w, d: frames.tcp(VICTIM, w.u, 4004, 9999, d)),
    ("b", "UDP in a victim's name to a closed port", lambda w, d: frames.udp(VICTIM, w.u, 4004, 9999, d)),
    ("c", "ping in a victim's name", lambda w, d: frames.icmp(VICTIM, w.u, data=d)))
family(
    80, "A",
    ("a", "TTL 1 in a victim's name", lambda w, d: frames.udp(VICTIM, TARGET, 4005, 7, d, ttl=1)),
    ("b", "too big and DF in a victim's name",
     lambda w, d: frames.udp(VICTIM, TARGET, 4005, 7, (d * 30)[:1472], df=True)),
    ("c", "TTL 1, own name", lambda w, d: frames.udp(w.q, TARGET, 4005, 7, d, ttl=1)))
family(
    81, "A",
    ("a", "hop limit 1 in a victim's name", lambda w, d: frames.udp(VICTIM6, TARGET6, 4006, 7, d, ttl=1)),
    ("b", "UDP to a closed port in a victim's name", lambda w, d: frames.udp(VICTIM6, w.u6, 4006, 9999, d)),
    ("c", "ping in a victim's name", lambda w, d: frames.icmp(VICTIM6, w.u6, data=d)),
    ("d", "SYN to a closed port in a victim's name", lambda w, d: frames.tcp(VICTIM6, w.u6, 4006, 9999, d)))
family(
    82, "A",
    ("a", "the endpoint as source, forwarded", lambda w, d: frames.udp(w.e, TARGET, w.eport, 7, d)),
    ("b", "the endpoint as source, to the client", lambda w, d: frames.udp(w.e, w.u, w.eport, w.cport, d)))
family(
    83, "A",
    ("a", "to the endpoint's port", lambda w, d: frames.udp(w.q, w.e, 4007, w.eport, d)),
    ("b", "to the endpoint by TCP 443", lambda w, d: frames.tcp(w.q, w.e, 4007, 443, d)),
    ("c", "to the endpoint from the client's port", lambda w, d: frames.udp(w.q, w.e, w.cport, w.eport, d)),
    ("d", "to the endpoint as if from the client", lambda w, d: frames.udp(w.u, w.e, w.cport, w.eport, d)))
family(
    84, "A",
    ("a", "UDP to the uplink's gateway", lambda w, d: frames.udp(w.q, w.gw, 4008, 9999, d)),
    ("b", "ping of the uplink's gateway", lambda w, d: frames.icmp(w.q, w.gw, data=d)))
family(
    85, "A",
    ("a", "a private net", lambda w, d: frames.udp(w.q, "192.168.77.1", 4009, 80, d)),
    ("b", "the net before the net qube", lambda w, d: frames.udp(w.q, "203.0.113.1", 4009, 80, d)),
    ("c", "another qube of the net qube", lambda w, d: frames.udp(w.q, "10.137.0.30", 4009, 80, d)))
family(
    86, "A",
    ("a", "the virtual name server, another port", lambda w, d: frames.udp(w.q, VDNS, 4010, 5353, d)),
    ("b", "ping of the virtual name server", lambda w, d: frames.icmp(w.q, VDNS, data=d)))


def question(d, port):
    return make_question(f"secret{port}.example", number=port) + d


family(
    87, "A",
    ("a", "DNS by UDP", lambda w, d: frames.udp(w.q, VDNS, 4011, 53, question(d, 4011))),
    ("b", "DNS by TCP", lambda w, d: frames.tcp(w.q, VDNS, 4011, 53, d)),
    ("c", "DNS to the second server", lambda w, d: frames.udp(w.q, "10.139.1.2", 4012, 53, question(d, 4012))),
    ("d", "DNS to the VPN qube", lambda w, d: frames.udp(w.q, w.u, 4013, 53, question(d, 4013))))
family(
    88, "A",
    ("a", "another resolver", lambda w, d: frames.udp(w.q, VICTIM, 4014, 53, question(d, 4014))),
    ("b", "DNS over TLS", lambda w, d: frames.tcp(w.q, VICTIM, 4014, 853, d)),
    ("c", "another resolver by IPv6", lambda w, d: frames.udp(w.q6, VICTIM6, 4014, 53, question(d, 4014))))
family(
    90, "A",
    ("a", "to 127.0.0.1", lambda w, d: frames.udp(w.q, "127.0.0.1", 4015, 53, d)),
    ("b", "to ::1", lambda w, d: frames.udp(w.q6, "::1", 4015, 53, d)))
family(
    91, "A",
    ("a", "from 127.0.0.1", lambda w, d: frames.udp("127.0.0.1", TARGET, 4016, 7, d)),
    ("b", "from 0.0.0.0", lambda w, d: frames.udp("0.0.0.0", TARGET, 4016, 7, d)),
    ("c", "from a multicast address", lambda w, d: frames.udp("224.0.0.1", TARGET, 4016, 7, d)),
    ("d", "to 255.255.255.255", lambda w, d: frames.udp(w.q, "255.255.255.255", 4016, 7, d)),
    ("e", "from 255.255.255.255", lambda w, d: frames.udp("255.255.255.255", TARGET, 4016, 7, d)),
    ("f", "from ::", lambda w, d: frames.udp("::", TARGET6, 4016, 7, d)))
family(
    92, "A",
    ("a", "mDNS", lambda w, d: frames.udp(w.q, "224.0.0.251", 5353, 5353, d)),
    ("b", "LLMNR", lambda w, d: frames.udp(w.q, "224.0.0.252", 4017, 5355, d)),
    ("c", "SSDP", lambda w, d: frames.udp(w.q, "239.255.255.250", 4017, 1900, d)),
    ("d", "a net's broadcast", lambda w, d: frames.udp(w.q, "10.137.0.255", 4017, 137, d)),
    ("e", "mDNS over IPv6", lambda w, d: frames.udp(w.q6, "ff02::fb", 5353, 5353, d)))
family(
    93, "A",
    ("a", "DHCP server's ports", lambda w, d: frames.udp(w.q, VICTIM, 67, 68, d)),
    ("b", "DHCP discover", lambda w, d: frames.udp("0.0.0.0", "255.255.255.255", 68, 67, d)),
    ("c", "DHCP to the gateway", lambda w, d: frames.udp(w.q, w.gw, 68, 67, d)),
    ("d", "DHCPv6", lambda w, d: frames.udp(w.q6, "ff02::1:2", 546, 547, d)))


def proto(number, family6=False):
    if family6:
        return lambda w, d: frames.ip(w.q6, TARGET6, number, d)
    return lambda w, d: frames.ip(w.q, TARGET, number, d)


family(
    94, "A",
    ("a", "GRE", lambda w, d: frames.ip(w.q, TARGET, 47, b"\0\0\x08\0" + d)),
    ("b", "IPIP", lambda w, d: frames.ip(w.q, TARGET, 4, frames.udp(w.q, TARGET, 4018, 7, d))),
    ("c", "6in4", lambda w, d: frames.ip(w.q, TARGET, 41, frames.udp(w.q6, TARGET6, 4018, 7, d))),
    ("d", "ESP", proto(50)), ("e", "protocol 253", proto(253)), ("f", "SCTP", proto(132)),
    ("g", "protocol 253 over IPv6", proto(253, True)))
family(
    95, "A",
    ("a", "IPIP to the VPN qube", lambda w, d: frames.ip(w.q, w.u, 4, frames.udp(w.u, TARGET, 4019, 7, d))),
    ("b", "GRE to the VPN qube",
     lambda w, d: frames.ip(w.q, w.u, 47, b"\0\0\x08\0" + frames.udp(w.u, TARGET, 4019, 7, d))))
family(
    96, "A",
    ("a", "loose source route by the gateway",
     lambda w, d: frames.udp(w.q, w.u, 4020, 7, d, options=b"\x83\x07\x04" + frames.pack(w.gw))),
    ("b", "strict source route",
     lambda w, d: frames.udp(w.q, w.u, 4020, 7, d, options=b"\x89\x07\x04" + frames.pack(w.gw))),
    ("c", "record route", lambda w, d: frames.udp(w.q, TARGET, 4020, 7, d, options=b"\x07\x0f\x04" + bytes(12))),
    ("d", "time stamps", lambda w, d: frames.udp(w.q, TARGET, 4020, 7, d, options=b"\x44\x0c\x05\x00" + bytes(8))))
family(
    97, "A",
    ("a", "a lone first fragment", lambda w, d: frames.udp(w.q, TARGET, 4021, 7, d, fragment=0x2000)),
    ("b", "a lone later fragment", lambda w, d: frames.udp(w.q, TARGET, 4021, 7, d, fragment=0x0010)),
    ("c", "overlapping fragments", lambda w, d: [
        frames.udp(w.q, TARGET, 4021, 7, d, fragment=0x2000, ident=7),
        frames.ip(w.q, TARGET, 17, d, fragment=0x0002, ident=7)]),
    ("d", "a tiny fragment", lambda w, d: [
        frames.ip(w.q, TARGET, 6, frames.tcp_body(w.q, TARGET, 4021, 7, d)[:8], fragment=0x2000, ident=8),
        frames.ip(w.q, TARGET, 6, frames.tcp_body(w.q, TARGET, 4021, 7, d)[8:], fragment=0x0001, ident=8)]))
family(
    98, "A",
    ("a", "a bad UDP checksum", lambda w, d: frames.udp(w.q, TARGET, 4022, 7, d, bad=True)),
    ("b", "no TCP flags", lambda w, d: frames.tcp(w.q, TARGET, 4022, 7, d, flags=0)),
    ("c", "all TCP flags", lambda w, d: frames.tcp(w.q, TARGET, 4022, 7, d, flags=0x3F)),
    ("d", "an ACK of no connection", lambda w, d: frames.tcp(w.q, TARGET, 4023, 7, d, flags=ACK, ack=7)),
    ("e", "a RST of no connection", lambda w, d: frames.tcp(w.q, TARGET, 4024, 7, d, flags=RST)),
    ("f", "a FIN of no connection", lambda w, d: frames.tcp(w.q, TARGET, 4025, 7, d, flags=FIN | ACK, ack=7)),
    ("g", "an answer to nobody's SYN", lambda w, d: frames.tcp(w.q, TARGET, 4026, 7, d, flags=SYN | ACK, ack=7)))
family(
    99, "A",
    ("a", "the uplink's own address as source", lambda w, d: frames.udp(w.u, TARGET, 4027, 7, d)),
    ("b", "the tunnel's own address as source", lambda w, d: frames.udp(w.t, TARGET, 4027, 7, d)),
    ("c", "the uplink's own IPv6 address as source", lambda w, d: frames.udp(w.u6, TARGET6, 4027, 7, d)),
    ("d", "the gateway's address as source", lambda w, d: frames.udp(w.gw, TARGET, 4027, 7, d)))
family(
    100, "A",
    ("a", "hop-by-hop options",
     lambda w, d: frames.udp(w.q6, TARGET6, 4028, 7, d, options=[(0, b"\0\0\1\4\0\0\0\0")])),
    ("b", "destination options",
     lambda w, d: frames.udp(w.q6, TARGET6, 4028, 7, d, options=[(60, b"\0\0\1\4\0\0\0\0")])),
    ("c", "routing header 0", lambda w, d: frames.udp(
        w.q6, w.u6, 4028, 7, d, options=[(43, b"\0\2\0\1\0\0\0\0" + frames.pack(w.gw6))])),
    ("d", "a lone fragment",
     lambda w, d: frames.udp(w.q6, TARGET6, 4028, 7, d, options=[(44, b"\0\0\0\1\0\0\0\7")])),
    ("e", "routing header 2", lambda w, d: frames.udp(
        w.q6, TARGET6, 4028, 7, d, options=[(43, b"\0\2\2\0\0\0\0\0" + frames.pack(w.gw6))])))
family(
    101, "A",
    ("a", "UDP to the uplink's gateway", lambda w, d: frames.udp(w.q6, w.gw6, 4029, 9999, d)),
    ("b", "to a link-local address", lambda w, d: frames.udp(w.q6, "fe80::1", 4029, 7, d)),
    ("c", "to global multicast", lambda w, d: frames.udp(w.q6, "ff0e::77", 4029, 7, d)),
    ("d", "to a unique local net", lambda w, d: frames.udp(w.q6, "fd12::1", 4029, 7, d)),
    ("e", "to the net before the net qube", lambda w, d: frames.udp(w.q6, "2001:db8:1::1", 4029, 7, d)),
    ("f", "ping of the uplink's gateway", lambda w, d: frames.icmp(w.q6, w.gw6, data=d)))


def prefix_option(d):
    return struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 1800, 1800, 0) + frames.pack("2001:db8:bad::") + d


family(
    102, "A",
    ("a", "a router advertisement", lambda w, d: frames.icmp(
        "fe80::216:3eff:fe5e:6c15", "ff02::1", 134, 0, 0x40000708, bytes(8) + prefix_option(d), ttl=255)),
    ("b", "a redirect of IPv6", lambda w, d: frames.icmp(
        "fe80::216:3eff:fe5e:6c15", w.u6, 137, 0, 0, frames.pack("fe80::bad") + frames.pack(TARGET6) + d, ttl=255)),
    ("c", "a redirect of IPv4", lambda w, d: frames.icmp(
        w.q, w.u, 5, 1, struct.unpack("!I", frames.pack(w.q))[0], frames.udp(w.u, w.e, w.cport, w.eport, d))))
family(
    14, "A",
    ("a", "a neighbour advertisement, to be forwarded",
     lambda w, d: frames.icmp(w.q6, TARGET6, 136, 0, 0x60000000, frames.pack(w.q6) + d, ttl=255)),
    ("b", "a neighbour solicitation, to be forwarded",
     lambda w, d: frames.icmp(w.q6, TARGET6, 135, 0, 0, frames.pack(TARGET6) + d, ttl=255)),
    ("c", "a router solicitation, to be forwarded",
     lambda w, d: frames.icmp(w.q6, TARGET6, 133, 0, 0, d, ttl=255)))


def raw(kind, tail=b"", dst=BACKEND_MAC):
    def make(w, d):
        packet = frames.udp(w.q, TARGET, 4030, 7, d)
        return Raw(frames.mac_bytes(dst) + frames.mac_bytes(w.qmac) + struct.pack("!H", kind) + tail + packet)
    return make


family(
    103, "A",
    ("a", "a VLAN tag", raw(0x8100, b"\0\5\x08\0")), ("b", "two VLAN tags", raw(0x88A8, b"\0\5\x81\0\0\6\x08\0")),
    ("c", "PPPoE", raw(0x8864, b"\x11\0\0\1\0\x5e\0\x21")), ("d", "an unknown protocol", raw(0x88B5)),
    ("e", "IP in a broadcast frame", raw(0x0800, dst="ff:ff:ff:ff:ff:ff")),
    ("f", "IP in a multicast frame", raw(0x0800, dst="01:00:5e:00:00:01")))
family(
    104, "A",
    ("a", "ARP in the gateway's name", lambda w, d: Raw(frames.arp(
        "ff:ff:ff:ff:ff:ff", w.qmac, 1, w.gw, w.u) + d)),
    ("b", "ARP answer for the gateway", lambda w, d: Raw(frames.arp(BACKEND_MAC, w.qmac, 2, w.gw, w.u) + d)))
family(
    107, "A",
    ("a", "type of service", lambda w, d: frames.udp(w.q, TARGET, 4031, 7, d, tos=0xB8)),
    ("b", "traffic class", lambda w, d: frames.udp(w.q6, TARGET6, 4031, 7, d, tos=0xB8)))
family(
    109, "A",
    ("a", "the updates proxy", lambda w, d: frames.tcp(w.q, w.u, 4032, 8082, d)),
    ("b", "ssh", lambda w, d: frames.tcp(w.q, w.u, 4032, 22, d)),
    ("c", "the updates proxy by IPv6", lambda w, d: frames.tcp(w.q6, w.u6, 4032, 8082, d)))


def about_carrier(w, d, kind=3, code=4, rest=552):
    return dict(kind=kind, code=code, rest=rest, data=frames.udp(w.u, w.e, w.cport, w.eport, d))


family(
    15, "A",
    ("a", "frag-needed about the carrier, to the endpoint",
     lambda w, d: frames.icmp(w.q, w.e, **about_carrier(w, d))),
    ("b", "the same, quoted the other way round", lambda w, d: frames.icmp(
        w.q, w.e, 3, 4, 552, frames.udp(w.e, w.u, w.eport, w.cport, d))))
family(16, "A", ("a", "frag-needed about the carrier, to the VPN qube",
                 lambda w, d: frames.icmp(w.q, w.u, **about_carrier(w, d))))
family(17, "A", ("a", "port unreachable about the carrier, to the VPN qube",
                 lambda w, d: frames.icmp(w.q, w.u, **about_carrier(w, d, code=3, rest=0))))

# -- the VPN server (packets come out of the tunnel) -------------------------------------------------------------------

family(
    1, "S",
    ("a", "an answer whose TTL ends in the VPN qube", lambda w, d: frames.udp(TARGET, w.t, 7, w.flow, d, ttl=1)),
    ("b", "the same over IPv6", lambda w, d: frames.udp(TARGET6, w.t6, 7, w.flow, d, ttl=1)))
family(
    3, "S",
    ("a", "to a private net", lambda w, d: frames.udp(w.st, "192.168.77.1", 5001, 80, d)),
    ("b", "to the Internet", lambda w, d: frames.udp(w.st, "9.9.9.9", 5001, 53, d)),
    ("c", "to the uplink's gateway", lambda w, d: frames.udp(w.st, w.gw, 5001, 53, d)),
    ("d", "to the Internet by IPv6", lambda w, d: frames.udp(w.st6, "2001:db8:1::1", 5001, 80, d)),
    ("e", "TCP to the net before the net qube", lambda w, d: frames.tcp(w.st, "203.0.113.1", 5001, 80, d)),
    ("f", "to the uplink's gateway by IPv6", lambda w, d: frames.udp(w.st6, w.gw6, 5001, 80, d)),
    ("g", "ping of the uplink's gateway", lambda w, d: frames.icmp(w.st, w.gw, data=d)),
    ("h", "to the endpoint itself", lambda w, d: frames.udp(w.st, w.e, 5001, w.eport, d)))
family(
    4, "S",
    ("a", "TTL 1 to the Internet", lambda w, d: frames.udp("1.2.3.4", "9.9.9.9", 5002, 53, d, ttl=1)),
    ("b", "TTL 1 to a qube", lambda w, d: frames.udp("1.2.3.4", w.q, 5002, 53, d, ttl=1)),
    ("c", "hop limit 1 to the Internet", lambda w, d: frames.udp(VICTIM6, "2001:db8:9::9", 5002, 53, d, ttl=1)))
family(
    5, "S",
    ("a", "UDP to a closed port, strange source", lambda w, d: frames.udp("1.2.3.4", w.t, 5003, 9999, d)),
    ("b", "SYN to a closed port, strange source", lambda w, d: frames.tcp("1.2.3.4", w.t, 5003, 9999, d)),
    ("c", "ping, strange source", lambda w, d: frames.icmp("1.2.3.4", w.t, data=d)),
    ("d", "ping, strange source, IPv6", lambda w, d: frames.icmp(VICTIM6, w.t6, data=d)),
    ("e", "to the updates proxy", lambda w, d: frames.tcp(w.st, w.t, 5003, 8082, d)),
    ("f", "to the uplink's own address", lambda w, d: frames.udp(w.st, w.u, 5003, 9999, d)))
family(
    6, "S",
    ("a", "uninvited UDP to a qube", lambda w, d: frames.udp(w.st, w.q, 5004, 7, d)),
    ("b", "uninvited SYN to a qube", lambda w, d: frames.tcp(w.st, w.q, 5004, 7, d)),
    ("c", "uninvited UDP to a qube, IPv6", lambda w, d: frames.udp(w.st6, w.q6, 5004, 7, d)))
family(
    7, "S",
    ("a", "a qube's source, to the Internet", lambda w, d: frames.udp(w.q, VICTIM, 5005, 53, d)),
    ("b", "a qube's source, to the VPN qube", lambda w, d: frames.udp(w.q, w.t, 5005, 53, d)),
    ("c", "the uplink's source, to the Internet", lambda w, d: frames.udp(w.u, VICTIM, 5005, 53, d)),
    ("d", "the gateway's source, to a qube", lambda w, d: frames.udp(w.gw, w.q, 5005, 53, d)))
family(
    8, "S",
    ("a", "DHCP offer", lambda w, d: frames.udp(w.st, "255.255.255.255", 67, 68, d)),
    ("b", "multicast", lambda w, d: frames.udp(w.st, "224.0.0.251", 5353, 5353, d)),
    ("c", "router advertisement", lambda w, d: frames.icmp(
        "fe80::1", "ff02::1", 134, 0, 0x40000708, bytes(8) + prefix_option(d), ttl=255)))
family(
    9, "S",
    ("a", "redirect", lambda w, d: frames.icmp(
        w.st, w.t, 5, 1, struct.unpack("!I", frames.pack(w.gw))[0], frames.udp(w.t, TARGET, w.flow, 7, d))),
    ("b", "frag-needed about the carrier", lambda w, d: frames.icmp(w.st, w.t, **about_carrier(w, d))))
family(10, "T", ("a", "frag-needed 68 about a qube's flow", lambda w, d: frames.icmp(
    w.st, w.t, 3, 4, 68, frames.udp(w.t, TARGET, w.flow, 7, d))))

# -- the uplink (frames come from the net qube) ------------------------------------------------------------------------

family(
    126, "L",
    ("a", "to a qube's address", lambda w, d: frames.udp("203.0.113.99", w.q, 6001, 7, d)),
    ("b", "to the tunnel's address", lambda w, d: frames.udp("203.0.113.99", w.t, 6001, 7, d)),
    ("c", "to a port of the VPN qube", lambda w, d: frames.tcp("203.0.113.99", w.u, 6001, 8082, d)),
    ("d", "to a qube's IPv6 address", lambda w, d: frames.udp("2001:db8:1::99", w.q6, 6001, 7, d)),
    ("e", "in the target's name to the tunnel's address", lambda w, d: frames.udp(TARGET, w.t, 7, w.flow, d)),
    ("f", "SYN to the tunnel's address", lambda w, d: frames.tcp("203.0.113.99", w.t, 6001, 9999, d)),
    ("g", "ping of the tunnel's address", lambda w, d: frames.icmp("203.0.113.99", w.t, data=d)),
    ("h", "to a closed port", lambda w, d: frames.udp("203.0.113.99", w.u, 6001, 9999, d)),
    ("i", "TTL 1 to a qube's address", lambda w, d: frames.udp("203.0.113.99", w.q, 6001, 7, d, ttl=1)),
    ("j", "from the endpoint to another port", lambda w, d: frames.udp(w.e, w.u, w.eport, 9999, d)))
family(
    127, "L",
    ("a", "frag-needed about the carrier", lambda w, d: frames.icmp("203.0.113.99", w.u, **about_carrier(w, d))),
    ("b", "redirect about the carrier", lambda w, d: frames.icmp(
        w.gw, w.u, 5, 1, struct.unpack("!I", frames.pack("10.137.0.77"))[0],
        frames.udp(w.u, w.e, w.cport, w.eport, d))),
    ("c", "a source route by the VPN qube", lambda w, d: frames.udp(
        "203.0.113.99", w.u, 6002, 7, d, options=b"\x83\x07\x04" + frames.pack(TARGET))))
family(
    128, "L",
    ("a", "ARP question for the tunnel's address", lambda w, d: Raw(frames.arp(
        "ff:ff:ff:ff:ff:ff", BACKEND_MAC, 1, w.gw, w.t) + d)),
    ("b", "ARP question for a qube's address", lambda w, d: Raw(frames.arp(
        "ff:ff:ff:ff:ff:ff", BACKEND_MAC, 1, w.gw, w.q) + d)),
    ("c", "ARP answer with another MAC for the gateway", lambda w, d: Raw(frames.arp(
        w.umac, "52:54:00:ba:db:ad", 2, w.gw, w.u, w.umac))),
    ("d", "neighbour solicitation for the tunnel's address", lambda w, d: frames.icmp(
        w.gw6, w.t6, 135, 0, 0, frames.pack(w.t6) + b"\1\1" + frames.mac_bytes(BACKEND_MAC), ttl=255)),
    ("e", "a router advertisement", lambda w, d: frames.icmp(
        "fe80::fcff:ffff:feff:ffff", "ff02::1", 134, 0, 0x40000708, bytes(8) + prefix_option(b""), ttl=255)))


# -- the VPN qube itself -----------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_SETRESUID = 117


def socket_of(node, uid, family_, kind, proto_=0):
    """A socket in node that a process of that user made (the user of a socket is its maker's)."""
    made = []

    def work():
        with node.ns:
            same = ctypes.c_uint(-1 & 0xFFFFFFFF)
            _libc.syscall(_SETRESUID, same, ctypes.c_uint(uid), same)  # this thread alone
            try:
                made.append(socket.socket(family_, kind, proto_))
            except OSError as error:
                made.append(error)
            finally:
                _libc.syscall(_SETRESUID, same, ctypes.c_uint(0), same)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    made[0].setblocking(False)
    return made[0]


def local(uid, to, port=None, device=None, source=None, tcp=False, mark=None, actor="P"):
    """A process of that user sends a datagram (or opens a connection and pushes) to a place."""
    def act(w, d):
        address = to(w) if callable(to) else to
        place = port(w) if callable(port) else port or 7
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket_of(w.vpn, uid, socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock, \
                contextlib.suppress(OSError):
            if mark is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if source:
                sock.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
                sock.bind((source(w), 0))
            if tcp:
                # Data in the SYN carries the tag.
                sock.sendto(d, 0x20000000, (address, place))  # MSG_FASTOPEN
            else:
                sock.sendto(d, (address, place))
    return act


USER, CLIENT = 1000, int(CLIENT_USER)
family(
    117, "P",
    ("a", "a user's UDP", local(USER, TARGET)),
    ("b", "a user's UDP to the endpoint", local(USER, lambda w: w.e, lambda w: w.eport)),
    ("c", "a user's TCP to the endpoint", local(USER, lambda w: w.e, 443, tcp=True)),
    ("d", "a user's UDP by IPv6", local(USER, TARGET6)),
    ("e", "a user's UDP to the gateway", local(USER, lambda w: w.gw, 9999)),
    ("f", "root's UDP", local(0, TARGET)),
    ("g", "root, bound to the uplink", local(0, TARGET, device="eth0")),
    ("h", "root, bound to the uplink, to the endpoint", local(0, lambda w: w.e, lambda w: w.eport, device="eth0")),
    ("i", "root, bound to the uplink, IPv6", local(0, TARGET6, device="eth0")),
    ("j", "root with the carrier's mark, elsewhere", local(0, TARGET, mark=0x79000000)),
    ("k", "root, bound to the tunnel", local(0, TARGET, device=TUNNEL)))
family(
    125, "D",
    ("a", "the client's user, elsewhere", local(CLIENT, TARGET)),
    ("b", "the client's user, another port of the endpoint", local(CLIENT, lambda w: w.e, 9999)),
    ("c", "the client's user, to a qube's name server", local(CLIENT, VDNS, 53)),
    ("d", "the client's user by IPv6", local(CLIENT, TARGET6)),
    ("e", "the client's user to the gateway", local(CLIENT, lambda w: w.gw, 9999)))
family(
    118, "P",
    ("a", "root's look-up", local(0, VDNS, 53)),
    ("b", "a user's look-up, bound to the uplink", local(USER, VDNS, 53, device="eth0")))
family(119, "P", ("a", "a user's TCP to a web server", local(USER, TARGET, 80, tcp=True)))
family(
    120, "P",
    ("a", "time", local(0, "203.0.113.1", 123)),
    ("b", "mDNS by the uplink", local(0, "224.0.0.251", 5353, device="eth0")),
    ("c", "broadcast to the gateway's net", local(0, "203.0.113.1", 9)))
family(19, "P", ("a", "bound to the tunnel's address, by the uplink",
                 local(0, lambda w: w.gw, 9999, device="eth0", source=lambda w: w.t)))


def packet_socket(bypass):
    def act(w, d):
        frame = frames.ether(BACKEND_MAC, w.umac, frames.udp(w.u, TARGET, 7001, 7, d))
        with w.vpn.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock, contextlib.suppress(OSError):
            if bypass:
                sock.setsockopt(263, 20, 1)  # PACKET_QDISC_BYPASS
            with w.vpn.ns:
                sock.bind(("eth0", 0))
            sock.send(frame)
    return act


family(73, "P", ("a", "a packet socket", packet_socket(False)), ("b", "one that bypasses the queue",
                                                                packet_socket(True)))


@vector(74, "a", "P", "a raw socket, a strange source")
def raw_socket(w, d):
    with w.vpn.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock, contextlib.suppress(OSError):
        sock.sendto(frames.udp("1.2.3.4", TARGET, 7002, 7, d), (TARGET, 0))


@vector(74, "b", "P", "a raw socket, a qube's source, bound to the uplink")
def raw_socket_bound(w, d):
    with w.vpn.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.sendto(frames.udp(w.q, TARGET, 7002, 7, d), (TARGET, 0))


# -- sending -----------------------------------------------------------------------------------------------------------

def _packets(made):
    return made if isinstance(made, list) else [made]


def shoot(world, vectors=None, actors="ASTLPD"):
    """Sends each vector once; S and T only while there is a tunnel. Returns how many."""
    count = 0
    up = world.tunnel_device() is not None
    nothing = contextlib.nullcontext()
    with world.sender("work", "eth0") as qube, \
            (world.sender(world.netvm, world.vpn.vif) if world.vpn.is_running else nothing) as uplink, \
            (world.sender(world.server.node.name, world.server.device) if up else nothing) as tunnel:
        if up and "S" in actors:
            world.open_flow()
        for one in ALL if vectors is None else vectors:
            if one.actor not in actors or one.actor in "ST" and not up or one.actor == "L" and uplink is None:
                continue
            made = one.make(world, one.payload())
            count += 1
            if one.actor in "PD":
                continue
            for packet in _packets(made):
                try:
                    if one.actor in "ST":
                        tunnel.packet(packet)
                    elif isinstance(packet, Raw):
                        (qube if one.actor == "A" else uplink).frame(packet.frame)
                    elif one.actor == "A":
                        qube.frame(frames.ether(BACKEND_MAC, world.qmac, packet))
                    else:
                        uplink.frame(frames.ether(world.umac, BACKEND_MAC, packet))
                except OSError:
                    count -= 1  # the interface went away under it
    return count
