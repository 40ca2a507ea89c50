# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of a lab machine: captures with the kernel's time stamps, ARP and neighbour questions."""

import contextlib
import ctypes
import ipaddress
import select
import socket
import struct
import threading
import time

_ETH_P_ALL, _ETH_P_ARP, _ETH_P_IPV6 = 3, 0x0806, 0x86DD
_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_SO_ATTACH_FILTER = 26
_PACKET_OUTGOING = 4


class Packet:
    """One frame. time: seconds of the real-time clock, by the kernel; outgoing: sent by this machine."""

    def __init__(self, data, stamp, iface, outgoing):
        self.data, self.time, self.iface, self.outgoing = data, stamp, iface, outgoing
        self._parsed = None

    @property
    def scapy(self):
        if self._parsed is None:
            from scapy.layers import l2  # slow to import: only for those who ask
            import scapy.layers.inet  # noqa: F401, these two make l2 see more than frames
            import scapy.layers.inet6  # noqa: F401
            self._parsed = l2.Ether(self.data)
        return self._parsed

    def __contains__(self, data):
        return data in self.data

    def __repr__(self):
        return f"{self.time:.6f} {self.iface} {'>' if self.outgoing else '<'} {self.scapy.summary()}"


def _attach(sock, node, expression):
    """Compiles a tcpdump expression and attaches it."""
    text = node.run(["tcpdump", "-y", "EN10MB", "-ddd", expression]).stdout.split("\n")
    code = b"".join(struct.pack("=HBBI", *map(int, line.split())) for line in text[1:] if line)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", int(text[0]), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _timespec(ancillary):
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("@ll", data[:16])
            return seconds + nanoseconds / 1e9
    return time.time()


class Capture:
    """Collects from its making until stop() (or the end of a `with`)."""

    def __init__(self, node, iface=None, expression=None):
        # Protocol 0 first: no frame may slip in before the filter and the interface are set.
        self._socket = node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        if expression:
            _attach(self._socket, node, expression)
        self._socket.setblocking(False)
        self._packets, self._news, self._stopped = [], threading.Condition(), False
        self._wake, self._waker = socket.socketpair()
        with node.ns:
            self._socket.bind((iface or "", _ETH_P_ALL))
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _drain(self):
        fresh = []
        while True:
            try:
                data, ancillary, _flags, address = self._socket.recvmsg(65536, 128)
            except BlockingIOError:
                break
            except OSError:  # interface gone down: the socket goes on afterwards
                continue
            fresh.append(Packet(data, _timespec(ancillary), address[0], address[2] == _PACKET_OUTGOING))
        if fresh:
            with self._news:
                self._packets += fresh
                self._news.notify_all()

    def _work(self):
        while not self._stopped:
            select.select([self._socket, self._wake], [], [])
            self._drain()

    @property
    def packets(self):
        """What was captured so far (a copy)."""
        with self._news:
            return list(self._packets)

    def matching(self, predicate):
        return [packet for packet in self.packets if predicate(packet)]

    def wait_for(self, predicate, timeout=2.0, what="a packet"):
        """The first packet, past or coming, for which predicate is true; TimeoutError otherwise."""
        deadline, looked = time.monotonic() + timeout, 0
        with self._news:
            while True:
                while looked < len(self._packets):
                    looked += 1
                    if predicate(self._packets[looked - 1]):
                        return self._packets[looked - 1]
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited {timeout} s for {what}; saw {self._packets}")
                self._news.wait(left)

    def clear(self):
        with self._news:
            self._packets.clear()

    def stop(self):
        """Ends the capture and returns all packets."""
        if not self._stopped:
            self._stopped = True
            self._waker.send(b"x")
            self._thread.join()
            self._drain()
            for sock in (self._socket, self._wake, self._waker):
                sock.close()
        return self.packets

    close = stop

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def _mac_text(data):
    return ":".join(f"{byte:02x}" for byte in data)


def _first_address(node, iface, version):
    for text in node.addresses(iface):
        interface = ipaddress.ip_interface(text)
        if interface.version == version:
            return str(interface.ip)
    raise ValueError(f"{node.name} {iface} has no IPv{version} address")


def _answers(node, iface, protocol, frame, judge, timeout, count):
    """Sends frame and collects what judge (bytes -> mac or None) takes for an answer."""
    answers = []
    with node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        with node.ns:
            sock.bind((iface, protocol))
        start = time.monotonic()
        sock.send(frame)
        while (left := start + timeout - time.monotonic()) > 0 and (count is None or len(answers) < count):
            sock.settimeout(left)
            try:
                data, address = sock.recvfrom(2048)
            except TimeoutError:
                break
            mac = judge(data) if address[2] != _PACKET_OUTGOING else None
            if mac:
                answers.append((mac, time.monotonic() - start))
    return answers


def arping(node, addr, iface, timeout, source, count):
    mine = _mac_bytes(node.mac(iface))
    wanted = socket.inet_aton(addr)
    source = socket.inet_aton(source or _first_address(node, iface, 4))
    frame = (b"\xff" * 6 + mine + struct.pack("!HHHBBH", _ETH_P_ARP, 1, 0x0800, 6, 4, 1)
             + mine + source + bytes(6) + wanted)

    def judge(data):
        answer = data[12:14] == b"\x08\x06" and data[20:22] == b"\x00\x02" and data[28:32] == wanted
        return _mac_text(data[22:28]) if answer else None

    return _answers(node, iface, _ETH_P_ARP, frame, judge, timeout, count)


def _checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ndisc(node, addr, iface, timeout, count):
    mine = _mac_bytes(node.mac(iface))
    wanted = socket.inet_pton(socket.AF_INET6, addr)
    source = socket.inet_pton(socket.AF_INET6, _first_address(node, iface, 6))
    group = bytes.fromhex("ff0200000000000000000001ff") + wanted[13:]
    body = struct.pack("!BBHI", 135, 0, 0, 0) + wanted + b"\x01\x01" + mine
    pseudo = source + group + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    frame = (b"\x33\x33" + group[12:] + mine + struct.pack("!HIHBB", _ETH_P_IPV6, 6 << 28, len(body), 58, 255)
             + source + group + body)

    def judge(data):
        if data[12:14] != b"\x86\xdd" or data[20] != 58 or data[54] != 136 or data[62:78] != wanted:
            return None
        return _mac_text(data[80:86]) if data[78:80] == b"\x02\x01" else _mac_text(data[6:12])

    return _answers(node, iface, _ETH_P_IPV6, frame, judge, timeout, count)


