# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets as bytes, made without scapy (quick to import, quick to make), and tags that name them wherever they turn up.

A tag is LK, the number of a vector, a letter for its variant, a letter for its actor, and -sluice. It stands in the
payload, more than once, so fragments and quotations in ICMP errors hold it too.
"""

import re
import socket
import struct
from dataclasses import dataclass

TAG = re.compile(rb"LK(\d{3})([a-z])([ASTLPDKU])-sluice")
TAG_END = b"-sluice"
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
SYN, RST, ACK, FIN = 2, 4, 16, 1
ARP = {1: "request", 2: "reply"}


def tag(number, variant="a", actor="A"):
    return f"LK{number:03d}{variant}{actor}-sluice".encode()


def payload(number, variant="a", actor="A", size=64):
    mark = tag(number, variant, actor) + b"."
    return (mark * (size // len(mark) + 1))[:max(size, len(mark))]


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pack(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def _pseudo(src, dst, proto, length):
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, proto, length)
    return src + dst + struct.pack("!II", length, proto)


def ip(src, dst, proto, body, ttl=64, tos=0, options=b"", ident=0x4C4B, fragment=0, df=False):
    """An IPv4 or IPv6 packet (by the address). options: IPv4 options, or IPv6 extension headers as (number, bytes) pairs,
    in order. fragment: the IPv4 flags-and-offset word."""
    src, dst = pack(src), pack(dst)
    if len(src) == 16:
        chain = b""
        numbers = [number for number, _ in options] + [proto] if options else [proto]
        for (_, header), following in zip(options or (), numbers[1:]):
            chain += bytes([following]) + header[1:]
        return struct.pack("!IHBB", 6 << 28 | tos << 20, len(chain) + len(body), numbers[0], ttl) + src + dst + chain + body
    options += b"\0" * (-len(options) % 4)
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, tos, words * 4 + len(body), ident, fragment | (0x4000 if df else 0),
                       ttl, proto, 0) + src + dst + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def udp_body(src, dst, sport, dport, data, bad=False):
    src, dst = pack(src), pack(dst)
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    total = checksum(_pseudo(src, dst, UDP, 8 + len(data)) + head + data) or 0xFFFF
    return head[:6] + struct.pack("!H", total ^ 0x5555 if bad else total) + data


def tcp_body(src, dst, sport, dport, data=b"", flags=SYN, seq=0x4C4B0000, ack=0, options=b"", bad=False):
    src, dst = pack(src), pack(dst)
    options += b"\1" * (-len(options) % 4)
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, (5 + len(options) // 4) << 4, flags, 64240, 0, 0) + options
    total = checksum(_pseudo(src, dst, TCP, len(head) + len(data)) + head + data)
    return head[:16] + struct.pack("!H", total ^ 0x5555 if bad else total) + head[18:] + data


def icmp_body(kind, code, rest=0, data=b"", pseudo=None):
    """ICMP; with pseudo (source, destination) ICMPv6."""
    head = struct.pack("!BBHI", kind, code, 0, rest)
    prefix = _pseudo(pack(pseudo[0]), pack(pseudo[1]), ICMP6, 8 + len(data)) if pseudo else b""
    return head[:2] + struct.pack("!H", checksum(prefix + head + data)) + head[4:] + data


def udp(src, dst, sport, dport, data, bad=False, **options):
    return ip(src, dst, UDP, udp_body(src, dst, sport, dport, data, bad), **options)


def tcp(src, dst, sport, dport, data=b"", flags=SYN, seq=0x4C4B0000, ack=0, bad=False, **options):
    return ip(src, dst, TCP, tcp_body(src, dst, sport, dport, data, flags, seq, ack, bad=bad), **options)


def icmp(src, dst, kind=None, code=0, rest=0x4C4B0001, data=b"", **options):
    """Echo request by default, of the addresses' family."""
    if ":" in src:
        return ip(src, dst, ICMP6, icmp_body(128 if kind is None else kind, code, rest, data, (src, dst)), **options)
    return ip(src, dst, ICMP, icmp_body(8 if kind is None else kind, code, rest, data), **options)


def ether(dst, src, packet, kind=None):
    """A frame; the kind by the packet's version when not given."""
    if kind is None:
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return mac_bytes(dst) + mac_bytes(src) + struct.pack("!H", kind) + packet


def arp(dst, src, op, sender_ip, target_ip, target_mac="00:00:00:00:00:00", sender_mac=None):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + mac_bytes(sender_mac or src) + pack(sender_ip)
    return ether(dst, src, body + mac_bytes(target_mac) + pack(target_ip), 0x0806)


# -- reading -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Parsed:
    """What was understood of a frame. proto: the IP protocol, or None; ports 0 where there are none."""
    ethertype: int
    src: str = ""
    dst: str = ""
    proto: int = None
    sport: int = 0
    dport: int = 0
    body: bytes = b""     # behind the IP header (and IPv6 extension headers)
    fragment: bool = False
    extensions: tuple = ()

    @property
    def data(self):
        """The payload of UDP and TCP."""
        if self.proto == UDP:
            return self.body[8:]
        if self.proto == TCP and len(self.body) > 12:
            return self.body[(self.body[12] >> 4) * 4:]
        return b""

    def __str__(self):
        if self.ethertype == 0x0806:
            operation = int.from_bytes(self.body[6:8], "big")
            return f"ARP {ARP.get(operation, f'operation {operation}')} {self.src} > {self.dst}"
        if not self.src:
            return f"frame of type {self.ethertype:04x}"
        name = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMP6: "ICMPv6"}.get(self.proto, f"protocol {self.proto}")
        ports = self.proto in (TCP, UDP)
        detail = ""
        if self.proto in (ICMP, ICMP6) and len(self.body) >= 2:
            detail = f" type {self.body[0]} code {self.body[1]}"
        if self.proto == TCP and len(self.body) > 13:
            detail = f" flags {self.body[13]:02x}"
        return (f"{name} {self.src}{f':{self.sport}' if ports else ''} > {self.dst}{f':{self.dport}' if ports else ''}"
                f"{detail}{' fragment' if self.fragment else ''}")


_EXTENSIONS = (0, 43, 44, 60)


def parse_ip(packet, ethertype=None):
    """Reads an IP packet of either version, as far as it goes."""
    version = packet[0] >> 4 if packet else 0
    try:
        if version == 4 and len(packet) >= 20:
            head = (packet[0] & 15) * 4
            word = struct.unpack_from("!H", packet, 6)[0]
            src, dst = socket.inet_ntop(socket.AF_INET, packet[12:16]), socket.inet_ntop(socket.AF_INET, packet[16:20])
            proto, body, first = packet[9], packet[head:], not word & 0x1FFF
            sport, dport = struct.unpack_from("!HH", body) if first and proto in (TCP, UDP) and len(body) >= 4 else (0, 0)
            return Parsed(0x0800, src, dst, proto, sport, dport, body, bool(word & 0x3FFF))
        if version == 6 and len(packet) >= 40:
            src, dst = socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
            proto, place, fragment, seen = packet[6], 40, False, []
            while proto in _EXTENSIONS and place + 8 <= len(packet):
                seen.append(proto)
                fragment |= proto == 44
                length = 8 if proto == 44 else (packet[place + 1] + 1) * 8
                proto, place = packet[place], place + length
            body = packet[place:]
            sport, dport = struct.unpack_from("!HH", body) if proto in (TCP, UDP) and len(body) >= 4 else (0, 0)
            return Parsed(0x86DD, src, dst, proto, sport, dport, body, fragment, tuple(seen))
    except struct.error:
        pass
    return Parsed(ethertype or 0)


def parse(frame):
    """Reads an Ethernet frame."""
    kind = struct.unpack_from("!H", frame, 12)[0] if len(frame) >= 14 else 0
    if kind in (0x0800, 0x86DD):
        return parse_ip(frame[14:], kind)
    if kind == 0x0806 and len(frame) >= 42:
        return Parsed(kind, socket.inet_ntop(socket.AF_INET, frame[28:32]), socket.inet_ntop(socket.AF_INET, frame[38:42]),
                      body=frame[14:42])
    return Parsed(kind)
