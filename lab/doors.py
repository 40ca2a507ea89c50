# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks many doors at once whether they are open, as packets see it.

    reached(lab, [door(lan1, "192.168.16.25", "tcp/80"), door(lan2, "2001:db8:16::25", "icmp")])

All questions leave together; one that is refused in silence costs no timeout of its own: when nothing was heard for a
while after the last answer, what did not answer is closed. Ask one door that is open in the same call, so that silence
means something.
"""

import collections
import contextlib
import errno
import os
import select
import socket
import struct
import time

from lab.router import SLOW

Door = collections.namedtuple("Door", "source addr what")
_QUIET = 0.05
_numbers = iter(range(1, 1 << 30))


def door(node, addr, what):
    """what: "tcp/PORT", "udp/PORT" or "icmp" (of the family of addr)."""
    return Door(node.name, addr, what)


def doors(nodes, addrs, whats):
    return [door(node, addr, what) for node in nodes for addr in addrs for what in whats]


def _icmp(sock, six):
    ident = number = next(_numbers) & 0xFFFF  # a new flow for the kernel's connection tracking
    header = struct.pack("!BBHHH", 128 if six else 8, 0, 0, ident, number)
    if not six:
        total = sum(struct.unpack("!4H", header))
        total = (total & 0xFFFF) + (total >> 16)
        header = struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, ident, number)
    sock.send(header)
    answer = struct.pack("!HH", ident, number)

    def answered(data):
        data = data if six else data[(data[0] & 15) * 4:]
        return data[0] == (129 if six else 0) and data[4:8] == answer

    return answered


def _ask(lab, question):
    """Sends; returns the socket and what judges an answer (None: TCP)."""
    six = ":" in question.addr
    inet = socket.AF_INET6 if six else socket.AF_INET
    proto, _, port = question.what.partition("/")
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}[proto]
    number = (socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP) if proto == "icmp" else 0
    sock = lab[question.source].socket(inet, kind, number)
    sock.setblocking(False)
    answered = None
    try:
        error = sock.connect_ex((question.addr, int(port or 0)))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        if proto == "udp":
            sock.send(b"?")
            answered = bool
        elif proto == "icmp":
            answered = _icmp(sock, six)
    except OSError:  # no route: closed
        sock.close()
        return None, None
    return sock, answered


def _hear(sock, answered):
    """True: open, False: closed, None: nothing yet."""
    if answered is None:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    try:
        while True:
            if answered(sock.recv(4096)):
                return True
    except BlockingIOError:
        return None
    except OSError:
        return False


def reached(lab, questions, quiet=None):
    """The subset of questions that were answered. quiet: seconds of silence that end the asking."""
    quiet = (quiet or _QUIET) * SLOW
    opened, waiting, poll = set(), {}, select.poll()
    try:
        for question in questions:
            sock, answered = _ask(lab, question)
            if sock is not None:
                waiting[sock.fileno()] = question, sock, answered
                poll.register(sock, select.POLLOUT if answered is None else select.POLLIN)
        end = time.monotonic() + quiet
        while waiting and (left := end - time.monotonic()) > 0:
            for descriptor, _events in poll.poll(left * 1000):
                question, sock, answered = waiting[descriptor]
                result = _hear(sock, answered)
                if result is None:
                    continue
                poll.unregister(descriptor)
                del waiting[descriptor]
                sock.close()
                if result:
                    opened.add(question)
                    end = time.monotonic() + quiet
    finally:
        for _question, sock, _answered in waiting.values():
            with contextlib.suppress(OSError):
                sock.close()
    return opened


def expect(lab, questions, expected, timeout=3.0):
    """Asks until exactly the expected ones answer; AssertionError tells the difference of the last time."""
    expected = set(expected)
    end = time.monotonic() + timeout * SLOW
    while True:
        got = reached(lab, questions)
        if got == expected:
            return
        if time.monotonic() > end:
            raise AssertionError(f"closed but should be open: {sorted(expected - got)}; "
                                 f"open but should be closed: {sorted(got - expected)}")


def until_open(lab, question, timeout, interval=0.002):
    """Asks one door again and again, each time anew, until it answers; TimeoutError when it does not."""
    waiting, poll, end = {}, select.poll(), time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            sock, answered = _ask(lab, question)
            if sock is not None:
                waiting[sock.fileno()] = sock, answered
                poll.register(sock, select.POLLOUT if answered is None else select.POLLIN)
            for descriptor, _events in poll.poll(interval * 1000):
                sock, answered = waiting[descriptor]
                result = _hear(sock, answered)
                if result:
                    return
                if result is False:
                    poll.unregister(descriptor)
                    waiting.pop(descriptor)[0].close()
                    time.sleep(interval)
        raise TimeoutError(f"waited {timeout} s for: {question}")
    finally:
        for sock, _answered in waiting.values():
            sock.close()
