# SPDX-License-Identifier: GPL-2.0-or-later
"""The witness of the leak tests. It listens at the far end of every uplink of the VPN qube (before the net qube touches
anything), at the mouth of the tunnel, and in the qubes, and judges every frame by what may be there:

on an uplink    ARP and neighbour discovery for the uplink's own address and gateway; packets of the carrier; look-ups
                of the endpoint's name. Everything else is a leak.                                          (I1, I2, I3)
in the tunnel   nothing but packets of qubes behind, with the tunnel's own address as source.               (I4, I5)
in the qubes    nothing that began at a server or beside the uplink.                                        (I6)

    with Oracle(lab, carriers=[("udp", "203.0.113.10", 1194)]) as oracle:
        oracle.mark("connecting")
        ...
    report = oracle.report      # after the end
    assert not report.leaks, report

A frame is a carrier's by its tuple and only when no tag (lab/vpn_frames.py) is in it: every packet that a test sends
holds one, and the client's own packets hold none. Frames are counted by class and not kept; of each sort of
leak the first few are kept. A witness that lost frames says so: blind() is then true and its report worth nothing.
"""

import bisect
import contextlib
import ctypes
import errno
import fnmatch
import ipaddress
import select
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from lab import vpn_frames as frames
from lab.topologies import TARGET, TARGET6
from lab.vpn_provider import NAME, SITES, parse_question

_ETH_P_ALL, _SO_TIMESTAMPNS, _SO_ATTACH_FILTER = 3, 35, 26
_SOL_PACKET, _PACKET_STATISTICS, _OUTGOING = 263, 6, 4
_KEPT = 16
_libc = ctypes.CDLL(None, use_errno=True)
RESOLVERS = ("10.139.1.1", "10.139.1.2")


@dataclass(frozen=True)
class Leak:
    """One frame where it must not be. kind: "content" (a qube's or the tunnel's bytes), "foreign" (came in by another
    interface or is of unknown origin), "local" (a process of this qube), "noise" (the kernel's own chatter)."""
    time: float
    place: str            # "uplink", "tunnel", "qube"
    state: str
    kind: str
    invariants: tuple
    tag: str              # "LK078aA", "" without one
    summary: str

    def __str__(self):
        return f"[{self.state}] {self.place} {'+'.join(self.invariants)} {self.kind} {self.tag or 'untagged'}: {self.summary}"


@dataclass
class Report:
    frames: Counter = field(default_factory=Counter)      # (state, place, class) -> frames
    leaks: list = field(default_factory=list)             # the first few of each sort
    leak_counts: Counter = field(default_factory=Counter)  # (state, place, kind, tag) -> frames, complete
    lost: int = 0

    def count(self, *kinds, place="uplink", state=None):
        """Leaked frames of these kinds (all when none is given) at a place."""
        return sum(number for (where, at, kind, _tag), number in self.leak_counts.items()
                   if at == place and (not kinds or kind in kinds) and state in (None, where))

    def told(self, state, kind, most=3):
        """What the first different frames of that kind on the uplinks were, tag or not."""
        return list(dict.fromkeys(f"{leak.tag or 'untagged'}: {leak.summary}" for leak in self.leaks
                                  if (leak.place, leak.state.split(" / ")[0], leak.kind) == ("uplink", state, kind)))[:most]

    def qube_bytes(self):
        """Frames on an uplink that break I2 or I3: the figure that even a single layer must keep at 0."""
        return self.count("content", "foreign")

    def tags(self, place="uplink"):
        return sorted({tag for (_, at, _, tag), number in self.leak_counts.items() if tag and at == place})

    def seen(self, name, place="uplink"):
        """Frames of a lawful class: "carrier", "lookup", "link", ..."""
        return sum(number for (_, at, what), number in self.frames.items() if at == place and what == name)

    def __str__(self):
        lines = [f"{number:6} x [{state}] {place} {kind} {tag}" for (state, place, kind, tag), number in
                 sorted(self.leak_counts.items())]
        shown = {}
        for leak in sorted(self.leaks, key=lambda leak: leak.place != "uplink"):
            shown.setdefault((leak.state, leak.place, leak.kind, leak.tag), str(leak))
        return "\n".join(lines + list(shown.values())[:40]) or "no leak"


class Tap:
    """All frames of one node that arrive there (outgoing False) or leave (True), in a thread of its own."""

    def __init__(self, node, judge, outgoing=False, without=()):
        self.node, self._judge, self._stop = node, judge, False
        self.lost = 0
        self._socket = node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 128 << 20)  # SO_RCVBUFFORCE
        self._filter(outgoing, without)
        self._socket.setblocking(False)
        # Python binds to one interface only; index 0 is all of them, also those that come later.
        place = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b"")
        if _libc.bind(self._socket.fileno(), place, len(place)) != 0:
            raise OSError(ctypes.get_errno(), "bind")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _filter(self, outgoing, without):
        """In the kernel: the direction, and not these interfaces."""
        with self.node.ns:
            indexes = [socket.if_nametoindex(name) for name in without]
        drop = len(indexes) + 4
        code = [(0x20, 0, 0, 0xFFFFF000 + 8)]                            # load the interface's index
        code += [(0x15, drop - 2 - number, 0, index) for number, index in enumerate(indexes)]
        code += [(0x20, 0, 0, 0xFFFFF000 + 4),                           # load the packet's direction
                 (0x15, *((0, 1) if outgoing else (1, 0)), _OUTGOING),
                 (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0)]
        raw = b"".join(struct.pack("=HBBI", *line) for line in code)
        buffer = ctypes.create_string_buffer(raw)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                                struct.pack("@HP", len(code), ctypes.addressof(buffer)))

    def _work(self):
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not self._stop:
            poll.poll(20)
            self._drain()

    def _drain(self):
        while True:
            try:
                data, ancillary, _flags, address = self._socket.recvmsg(65600, 64)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue
                raise
            stamp = time.time()
            if ancillary and len(ancillary[0][2]) >= 16:
                seconds, nanoseconds = struct.unpack("@ll", ancillary[0][2][:16])
                stamp = seconds + nanoseconds / 1e9
            self._judge(data, stamp, address[0])

    def close(self):
        if self._stop:
            return
        time.sleep(0.03)  # what is on its way through a veth and a softirq arrives
        self._stop = True
        self._thread.join()
        self._drain()
        self.lost = struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        self._socket.close()


class Oracle:
    """carriers: (protocol, address, port) of endpoints; names: that may be looked up. watch_qubes: also I6."""

    def __init__(self, lab, carriers=(), names=(NAME,), vpn="vpn", state="start", tunnels=("qubes-vpn", "tun*", "wgt*"),
                 watch_qubes=True):
        self.lab, self.report, self._lock = lab, Report(), threading.Lock()
        self.carriers = {({"udp": frames.UDP, "tcp": frames.TCP}[proto], address, port)
                         for proto, address, port in carriers}
        self.names, self.tunnels = set(names), tunnels
        self._marks = [(0.0, state)]
        self._vpn, node = vpn, lab[vpn]
        self._own = {node.spec.ip, node.spec.ip6, "172.31.7.2", "2001:db8:77::2", _link_local(node.spec.mac)}
        netvms = [one for one in lab.netqubes if one.name != vpn and not one.spec.netvm]
        self._gateways = {address for one in netvms for address in one.spec.addresses}
        # A net qube that fragments again writes its own header over the one that waits here to be read.
        self._rewritten = {link.split("/")[0] for one in netvms for uplink in one.uplinks.values()
                           for link in uplink.addresses}
        self._gateways |= {"172.31.7.1", "2001:db8:77::1", _link_local("fe:ff:ff:ff:ff:ff")}
        qubes = [one.spec for one in lab if getattr(one.spec, "netvm", None) == vpn]
        self._qubes = {address for spec in qubes for address in spec.addresses}
        self._nets = [ipaddress.ip_network(text) for site in SITES.values() for text in
                      (f"{site.net}.0/24", f"{site.net6}:/64", f"{site.wg_net}.0/24", f"{site.wg_net6}:/64")]
        self._nets += [ipaddress.ip_network(text) for text in ("10.64.0.0/24", "fd00:64::/64")]
        self.tunnel_addresses = {address for site in SITES.values() for address in
                                 (site.client, site.client6, f"{site.wg_net}.2", f"{site.wg_net6}:2")}
        self._taps = [Tap(one, self._uplink_of(one), without=tuple(one.uplinks)) for one in netvms]
        self._taps.append(Tap(lab["wild"], self._wild))
        self._taps.append(Tap(node, self._tunnel, outgoing=True))
        if watch_qubes:
            self._taps += [Tap(lab[spec.name], self._qube) for spec in qubes]

    # -- use -------------------------------------------------------------------------------------------------------

    def mark(self, state):
        """From now on frames belong to this state."""
        self._marks.append((time.time(), state))

    def admit(self, proto, address, port):
        """One more endpoint whose tuple is the carrier's."""
        self.carriers.add(({"udp": frames.UDP, "tcp": frames.TCP}[proto], address, port))

    def own(self, *addresses):
        """More addresses of the VPN qube's uplinks."""
        self._own.update(addresses)

    def close(self):
        for tap in self._taps:
            tap.close()
        self.report.lost = sum(tap.lost for tap in self._taps)
        return self.report

    def blind(self):
        return self.report.lost > 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- judging ---------------------------------------------------------------------------------------------------

    def _state(self, stamp):
        return self._marks[max(bisect.bisect(self._marks, (stamp, "\x7f")) - 1, 0)][1]

    def _fine(self, stamp, place, what):
        with self._lock:
            self.report.frames[self._state(stamp), place, what] += 1

    def _leak(self, stamp, place, kind, invariants, tag, summary):
        state = self._state(stamp)
        with self._lock:
            self.report.leak_counts[state, place, kind, tag] += 1
            if self.report.leak_counts[state, place, kind, tag] <= _KEPT:
                self.report.leaks.append(Leak(stamp, place, state, kind, invariants, tag, summary))

    def _uplink_of(self, netvm):
        def judge(data, stamp, iface):
            child = self.lab.nodes.get(self._vpn)
            if child is not None and iface in (child.vif, child.stub_vif):
                self._uplink(data, stamp)
        return judge

    def _wild(self, data, stamp, iface):
        self._uplink(data, stamp)

    def _uplink(self, data, stamp):
        found = frames.TAG.search(data) if frames.TAG_END in data else None
        packet = frames.parse(data)
        if found:
            name, actor = found[0][:7].decode(), found[3].decode()
            # What somebody on the uplink gets back of his own packet holds no bytes of a qube, unless by its source.
            outside = actor == "L" and not (packet.src and self._inner(packet.src))
            kind = "local" if actor in "PD" or outside else "content"
            self._leak(stamp, "uplink", kind, ("I1",) if kind == "local" else ("I1", "I2", "I3"), name, str(packet))
            return
        lawful = self._lawful(packet)
        if lawful:
            self._fine(stamp, "uplink", lawful)
            return
        kind, invariants = self._unlawful(packet, data)
        # No tag says whose it is: the frame must speak for itself.
        self._leak(stamp, "uplink", kind, invariants, "", f"{packet} ({_ether_text(data)})")

    def _lawful(self, packet):
        """The class of a frame that may be on an uplink; None of others."""
        if packet.ethertype == 0x0806:
            good = packet.src in self._own and packet.dst in self._own | self._gateways and packet.body[:6] == \
                b"\0\1\x08\0\6\4"
            return "link" if good else None
        if packet.fragment and packet.src in self._rewritten:
            return "carrier-rewritten"
        if packet.src not in self._own or packet.fragment and packet.proto != frames.UDP:
            return None
        if (packet.proto, packet.dst, packet.dport) in self.carriers and not packet.extensions:
            return "carrier-reset" if packet.proto == frames.TCP and packet.body[13] & frames.RST else "carrier"
        if packet.dport == 53 and packet.dst in RESOLVERS and packet.proto in (frames.UDP, frames.TCP):
            return self._lookup(packet)
        if packet.proto == frames.ICMP6 and packet.body[:1] in (b"\x87", b"\x88") and len(packet.body) >= 24:
            target = socket.inet_ntop(socket.AF_INET6, packet.body[8:24])
            return "link" if target in (self._gateways if packet.body[0] == 135 else self._own) else None
        return None

    def _lookup(self, packet):
        data = packet.data
        if packet.proto == frames.TCP:
            if not data:
                return "lookup"
            data = data[2:]
        question = parse_question(data)
        return "lookup" if question and question[0] in self.names else None

    def _inner(self, address):
        if address in self._qubes:
            return True
        parsed = ipaddress.ip_address(address)
        return any(parsed in net for net in self._nets if net.version == parsed.version)

    def _unlawful(self, packet, data):
        """Kind and invariants of a frame without a tag."""
        if packet.ethertype == 0x0806:
            if packet.src in self._own:  # some process here wants to speak to somebody it should not
                return "local", ("I1",)
            return ("content" if self._inner(packet.src) else "foreign"), ("I1", "I3")
        everything = [packet]
        if packet.proto in (frames.ICMP, frames.ICMP6) and len(packet.body) >= 28:
            everything.append(frames.parse_ip(packet.body[8:]))  # an error quotes what caused it
        for one in everything:
            if one.src and (self._inner(one.src) or self._inner(one.dst)):
                return "content", ("I1", "I2", "I3")
        if any(one.dst in (TARGET, TARGET6) or one.src in (TARGET, TARGET6) for one in everything):
            return "content", ("I1", "I2", "I3")
        if packet.dport == 53 or packet.proto == frames.UDP and packet.dport in (5353, 5355):
            return "local", ("I1", "I5")
        if packet.ethertype == 0x86DD and packet.proto == frames.ICMP6 and packet.body and \
                packet.body[0] in (130, 131, 132, 133, 135, 136, 143):
            return "noise", ("I1",)
        if packet.proto == 2:
            return "noise", ("I1",)
        return ("local" if packet.src in self._own else "foreign"), ("I1",)

    def _tunnel(self, data, stamp, iface):
        if not any(fnmatch.fnmatch(iface, name) for name in self.tunnels):
            return
        packet = frames.parse_ip(data)
        found = frames.TAG.search(data) if frames.TAG_END in data else None
        name, actor = (found[0][:7].decode(), found[3].decode()) if found else ("", "")
        if actor in tuple("PD"):
            self._leak(stamp, "tunnel", "local", ("I4",), name, str(packet))
        elif not name and packet.proto == frames.ICMP6 and packet.body[:1] in (b"\x85", b"\x87", b"\x88", b"\x8f"):
            self._leak(stamp, "tunnel", "noise", ("I4",), name, str(packet))
        elif packet.src not in self.tunnel_addresses:
            self._leak(stamp, "tunnel", "content", ("I4",), name, str(packet))
        elif packet.dport == 53 and packet.dst in RESOLVERS:
            self._leak(stamp, "tunnel", "content", ("I5",), name, str(packet))
        else:
            self._fine(stamp, "tunnel", "payload")

    def _qube(self, data, stamp, iface):
        if iface == "lo" or frames.TAG_END not in data:
            return
        found = frames.TAG.search(data)
        if found and found[3] in (b"S", b"L"):
            self._leak(stamp, "qube", "content", ("I6",), found[0][:7].decode(), str(frames.parse(data)))


def _ether_text(data):
    """A frame's addresses and type."""
    return f"{data[6:12].hex(':')} > {data[:6].hex(':')} type {data[12:14].hex()}"


def _link_local(mac):
    """The link-local address that a MAC leads to."""
    raw = frames.mac_bytes(mac)
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:])
