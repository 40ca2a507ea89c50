# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP and neighbour discovery frames for the lab tests: made (right or wrong on purpose) and read back."""

import socket
import struct
import threading
import time
from collections import namedtuple

from lab.router import SLOW

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY = "00:00:00:00:00:00"
ALL_NODES = "ff02::1"
REQUEST, REPLY = 1, 2
SOLICIT, ADVERT = 135, 136
SOLICITED, OVERRIDE = 0x40, 0x20
# The bounds of the design: an answer to a first question; the end of ours after another host's.
ANSWER_SECONDS = 0.005 * SLOW
CONFLICT_SECONDS = 0.010 * SLOW

Arp = namedtuple("Arp", "op sender_mac sender target_mac target source_mac")
Nd = namedtuple("Nd", "kind source destination target flags mac source_mac")


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def mac_text(data):
    return ":".join(f"{byte:02x}" for byte in data)


def is6(addr):
    return ":" in addr


def arp(op, sender_mac, sender, target, target_mac=NOBODY, to=BROADCAST, shape=(1, 0x0800, 6, 4)):
    return (mac_bytes(to) + mac_bytes(sender_mac) + b"\x08\x06" + struct.pack("!HHBBH", *shape, op)
            + mac_bytes(sender_mac) + socket.inet_aton(sender) + mac_bytes(target_mac) + socket.inet_aton(target))


def _sum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp6(mac, source, destination, body, hops=255, spoil=0, length=None, next_header=58, to=None):
    """body has zeros where the checksum goes; spoil is added to it."""
    source, destination = (socket.inet_pton(socket.AF_INET6, a) for a in (source, destination))
    if len(body) % 2:
        raise ValueError("odd length")
    checksum = _sum(source + destination + struct.pack("!II", len(body), 58) + body)
    body = body[:2] + struct.pack("!H", (checksum + spoil) & 0xFFFF) + body[4:]
    to = mac_bytes(to) if to else b"\x33\x33" + destination[12:]
    return (to + mac_bytes(mac) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body) if length is None else length,
                                                            next_header, hops) + source + destination + body)


def group_of(addr):
    tail = socket.inet_pton(socket.AF_INET6, addr)[13:]
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff0200000000000000000001ff") + tail)


def advert(mac, target, source=None, flags=OVERRIDE, option=None, code=0, destination=ALL_NODES, **changes):
    """A neighbour advertisement; unsolicited, to all, unless changed."""
    if option is None:
        option = b"\x02\x01" + mac_bytes(mac)
    body = struct.pack("!BBHB3x", ADVERT, code, 0, flags) + socket.inet_pton(socket.AF_INET6, target) + option
    return icmp6(mac, source or target, destination, body, **changes)


def solicit(mac, target, source):
    option = b"" if source == "::" else b"\x01\x01" + mac_bytes(mac)
    body = struct.pack("!BBHI", SOLICIT, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, target) + option
    return icmp6(mac, source, group_of(target), body)


def router_advert(mac, source, lifetime=1800):
    """A router that offers itself as default router and nothing else."""
    return icmp6(mac, source, ALL_NODES, struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0))


def probe(mac, addr):
    """The question before an address is taken: RFC 5227, RFC 4862."""
    return solicit(mac, addr, "::") if is6(addr) else arp(REQUEST, mac, "0.0.0.0", addr)


def announce(mac, addr):
    return advert(mac, addr) if is6(addr) else arp(REQUEST, mac, addr, addr)


def question(mac, addr, asker):
    return solicit(mac, addr, asker) if is6(addr) else arp(REQUEST, mac, asker, addr)


def read(packet):
    """An Arp, an Nd, or None."""
    data = packet.data
    source = mac_text(data[6:12])
    if data[12:14] == b"\x08\x06" and len(data) >= 42:
        return Arp(int.from_bytes(data[20:22], "big"), mac_text(data[22:28]), socket.inet_ntoa(data[28:32]),
                   mac_text(data[32:38]), socket.inet_ntoa(data[38:42]), source)
    if data[12:14] == b"\x86\xdd" and len(data) >= 78 and data[20] == 58 and data[54] in (SOLICIT, ADVERT):
        text = [socket.inet_ntop(socket.AF_INET6, data[at:at + 16]) for at in (22, 38, 62)]
        mac = mac_text(data[80:86]) if len(data) >= 86 else None
        return Nd(data[54], *text, data[58], mac, source)
    return None


def is_probe(packet, addr, mac):
    f = read(packet)
    if f is None or f.source_mac != mac or f.target != addr:
        return False
    return f.kind == SOLICIT and f.source == "::" if is6(addr) else f.op == REQUEST and f.sender == "0.0.0.0"


def is_announcement(packet, addr, mac):
    """Said to all without being asked."""
    f = read(packet)
    if f is None or f.source_mac != mac or f.target != addr:
        return False
    if is6(addr):
        return f.kind == ADVERT and f.destination == ALL_NODES and not f.flags & SOLICITED
    return f.sender == addr


def is_answer(packet, addr, mac):
    """Says that mac has addr, in any form."""
    f = read(packet)
    if f is None or f.source_mac != mac:
        return False
    return f.target == addr and f.kind == ADVERT if isinstance(f, Nd) else f.sender == addr


class Asker:
    """Asks who has addr, again and again, by raw frames from iface of node; neither side's cache matters.
    stall: the longest that this machine kept the asker itself waiting for its turn."""

    def __init__(self, node, frames, iface="eth0", pause=0.002):
        self._socket = node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with node.ns:
            self._socket.bind((iface, 0))
        self._frames, self._pause, self._stopped = frames, pause, False
        self.sent, self.stall = 0, 0.0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._stopped:
            for frame in self._frames:
                self._socket.send(frame)
            self.sent += 1
            before = time.monotonic()
            time.sleep(self._pause)
            self.stall = max(self.stall, time.monotonic() - before - self._pause)

    def close(self):
        self._stopped = True
        self._thread.join()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def flood(node, frames, count, per_second, iface="eth0"):
    """Sends count frames, the given ones in turn, at about this rate."""
    with node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        with node.ns:
            sock.bind((iface, 0))
        start = time.monotonic()
        for number in range(count):
            sock.send(frames[number % len(frames)])
            ahead = start + number / per_second - time.monotonic()
            if ahead > 0.002:
                time.sleep(ahead)


def wire(lab, node="sys-net", iface="ens6", expression="arp or icmp6"):
    """Capture at the switch port of an uplink: all that this uplink sends (not outgoing) and gets (outgoing)."""
    return lab.switch.sniff(lab.ports[node, iface], expression)


def entry(router, address):
    """What the status says of an address; {} when nothing."""
    return next((one for one in router.status()["addresses"] if one["address"] == address), {})


def state(router, address):
    return entry(router, address).get("state")
