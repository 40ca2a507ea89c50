# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that go on by themselves, so that a test can tell whether something cut them or cost them a packet."""

import contextlib
import socket
import struct
import threading
import time

from lab.node import plain
from lab.router import SLOW

_WORD = struct.Struct("!Q")


class Flow:
    """Base: a thread of its own until close(); .count grows while the flow lives."""

    def __init__(self, sock):
        self.socket, self.count, self._stop = sock, 0, False
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def _guard(self):
        with contextlib.suppress(OSError):
            self._work()

    def _start(self, timeout=2.0):
        self._thread.start()
        if not self.moves(timeout):
            self.close()
            raise TimeoutError(f"{type(self).__name__} never began")
        return self

    def moves(self, within=0.2):
        """True as soon as something more arrives; False when nothing did."""
        before, end = self.count, time.monotonic() + within * SLOW
        while time.monotonic() < end:
            if self.count > before:
                return True
            time.sleep(0.002)
        return False

    def stopped(self, within=2.0, still=0.1):
        """True when nothing arrives any more for `still` seconds, at the latest after `within`."""
        end = time.monotonic() + within * SLOW
        while time.monotonic() < end:
            if not self.moves(still):
                return True
        return False

    def close(self):
        self._stop = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(2.0)
        self.socket.close()


def _push(server):
    def work(sock):
        number = 0
        with contextlib.suppress(OSError), sock:
            while True:
                sock.sendall(_WORD.pack(number))
                number += 1
                time.sleep(0.003)

    while True:
        sock, address = server.socket.accept()
        server.peers.append(plain(address[0]))
        threading.Thread(target=work, args=(sock,), daemon=True).start()


def serve_push(node, port):
    """A TCP server that only sends: a number every few milliseconds, to whoever connects."""
    return node.listen(socket.SOCK_STREAM, port, None, _push)


class Pull(Flow):
    """Client of serve_push: says nothing itself, as in a download."""

    def __init__(self, node, addr, port):
        super().__init__(node.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_STREAM))
        try:
            self.socket.settimeout(2.0 * SLOW)
            self.socket.connect((addr, port))
            self.socket.settimeout(None)
        except BaseException:
            self.socket.close()
            raise
        self._start()

    def _work(self):
        rest = b""
        while data := self.socket.recv(65536):
            rest += data
            while len(rest) >= _WORD.size:
                assert _WORD.unpack_from(rest)[0] == self.count
                self.count += 1
                rest = rest[_WORD.size:]


class Ask(Flow):
    """Client of an echo server (serve_tcp): asks, waits for the answer, asks again. peer: its address seen there."""

    pace = 0.003                        # seconds before the next question

    def __init__(self, node, addr, port, source=None):
        connection = node.connect_tcp(addr, port, 2.0 * SLOW, source)
        self.peer = connection.peer
        super().__init__(connection.socket)
        self.socket.settimeout(None)
        self._start()

    def _work(self):
        while not self._stop:
            self.socket.sendall(b"x")
            if not self.socket.recv(1):
                return
            self.count += 1
            time.sleep(self.pace)


class Datagrams(Flow):
    """Client of serve_udp: a numbered datagram every interval, whatever happens. lost() counts those not answered."""

    def __init__(self, node, addr, port, interval=0.002):
        super().__init__(node.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM))
        self.interval, self.sent, self.answered, self._enough = interval, 0, set(), False
        self.socket.settimeout(0.1)
        self.socket.connect((addr, port))
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()
        self._start()

    def _send(self):
        while not self._stop and not self._enough:
            with contextlib.suppress(OSError):
                self.socket.send(_WORD.pack(self.sent))
            self.sent += 1
            time.sleep(self.interval)

    def _work(self):
        while not self._stop:
            try:
                data = self.socket.recv(2048)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if data:  # nothing: close() shut it down
                self.answered.add(_WORD.unpack(data.split(b"\n", 1)[1])[0])
                self.count += 1

    def finish(self):
        """Ends the sending, waits for what is under way and returns how many were lost."""
        self._enough = True  # not _stop: the last answers are still under way and somebody must hear them
        self._sender.join(2.0)
        sent = self.sent
        end = time.monotonic() + 0.5 * SLOW
        while len(self.answered) < sent and time.monotonic() < end:
            time.sleep(0.002)
        return sent - len([number for number in self.answered if number < sent])

    def close(self):
        self._stop = True
        self._sender.join(2.0)
        super().close()
