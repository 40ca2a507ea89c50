# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket of a stand-in qubesd: requests, answers, event streams. What is answered decides lab/dom0.py.

    request   METHOD+ARG SP SOURCE SP "name" SP DEST NUL PAYLOAD, then the end of the stream; 65536 bytes at most
    answer    "0" NUL CONTENT | "2" NUL TYPE NUL NUL MESSAGE NUL | nothing, for what qubesd answers with nothing
    event     "1" NUL SUBJECT NUL EVENT NUL (KEY NUL VALUE NUL)* NUL

One thread serves all connections; each request is one connection. An event is sent by whoever makes it, at once, also
while answers are blocked; what a client does not read is kept without limit, as qubesd does (buffered()).
"""

import contextlib
import os
import selectors
import socket
import threading
import time
import traceback

FLAVOURS = ("4.2", "4.3", "4.4")
REQUEST_MAX = 65536


class Refused(Exception):
    """An answer of type "2": the name of qubesd's exception and its message."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class NotPermitted(Exception):
    """PermissionDenied or ProtocolError: no answer before 4.4, an exception since."""

    def __init__(self, kind="ProtocolError", message=""):
        super().__init__(message)
        self.kind, self.message = kind, message


class Crashed(Exception):
    """qubesd failed inside: no answer, in any version."""


def event_parts(subject, event, pairs=()):
    """The texts of one frame in the order that they are written."""
    yield b"1\0"
    yield subject.encode() + b"\0"
    yield event.encode() + b"\0"
    for key, value in pairs:
        yield f"{key}\0{value}\0".encode()
    yield b"\0"


def parse_events(data):
    """([(subject, event, {key: value})], what is left) of bytes of a stream; for tests."""
    events = []
    while True:
        fields, position = [], 0
        while True:
            end = data.find(b"\0", position)
            if end < 0:
                return events, data
            fields.append(data[position:end].decode())
            position = end + 1
            if len(fields) > 3 and len(fields) % 2 == 0 and not fields[-1]:
                break
        if fields[0] != "1":
            raise ValueError(f"no event: {fields[0]!r}")
        pairs = fields[3:-1]
        events.append((fields[1], fields[2], dict(zip(pairs[::2], pairs[1::2]))))
        data = data[position:]


def call(path, method, dest="dom0", payload=b"", arg="", timeout=60.0, source="dom0"):
    """One request as bytes of its answer, for tests."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(path)
        sock.sendall(f"{method}+{arg} {source} name {dest}\0".encode() + payload)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(65536):
            answer += data
        return answer


class Listener:
    """A client of admin.Events, for tests: .events grows as they come, (subject, event, {key: value})."""

    def __init__(self, path, dest="dom0"):
        self.events, self.error, self.raw = [], None, b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.sendall(f"admin.Events+ dom0 name {dest}\0".encode())
        self._socket.shutdown(socket.SHUT_WR)
        self.ended = threading.Event()
        threading.Thread(target=self._work, daemon=True).start()
        deadline = time.monotonic() + 10
        while not self.events and time.monotonic() < deadline and not self.ended.is_set():
            time.sleep(0.001)

    def _work(self):
        rest = b""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                self.raw += data
                new, rest = parse_events(rest + data)
                self.events += new
        self.rest = rest
        self.ended.set()

    def names(self, subject=None):
        """"SUBJECT EVENT" of each event so far, or only EVENT of one subject."""
        if subject is not None:
            return [event for who, event, _pairs in list(self.events) if who == subject]
        return [f"{who} {event}".strip() for who, event, _pairs in list(self.events)]

    def clear(self):
        del self.events[:]

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class _Connection:
    def __init__(self, sock):
        self.sock, self.incoming, self.out = sock, b"", bytearray()
        self.dest, self.streaming, self.closing, self.cut = None, False, False, None


class Qubesd:
    """serve(method, arg, dest, payload) gives the content as bytes, or raises one of the above; it is called with lock
    held, in the server's thread, or without in one of its own where slow(method, arg) says so."""

    def __init__(self, path, serve, flavour="4.3", lock=None, slow=lambda method, arg: False):
        self.path, self.serve, self.flavour, self.slow = path, serve, flavour, slow
        self.lock = lock or threading.RLock()
        self.calls = {}                # METHOD or METHOD+ARG: how often
        self.call_log = []             # (METHOD, ARG, DEST), newest last
        self.split = flavour == "4.2"  # several writes for one event
        self.dribble = False           # every byte in a write of its own
        self._blocked_until = 0.0
        self._cut = None
        self._connections, self._ready = {}, []
        self._mutex = threading.RLock()  # of what is sent
        self._wake = os.pipe()
        os.set_blocking(self._wake[0], False)
        os.set_blocking(self._wake[1], False)
        self._selector, self._listener, self._thread = None, None, None

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        os.chmod(self.path, 0o770)
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="qubesd", daemon=True)
        self._thread.start()
        return self

    @property
    def running(self):
        return self._thread is not None

    def stop(self, crash=False):
        """Every connection ends. The socket's file stays where qubesd leaves it: after a crash, and before 4.3 (Python
        3.11 does not unlink)."""
        if self._thread is None:
            return
        self._stopping = True
        self._poke()
        self._thread.join()
        self._thread = None
        with self._mutex:
            self._listener.close()
            if not crash and self.flavour != "4.2":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
            for connection in list(self._connections.values()):
                connection.sock.close()
            self._connections.clear()
            self._selector.close()

    def close(self):
        self.stop()
        for descriptor in self._wake:
            os.close(descriptor)

    # -- troubles --------------------------------------------------------------------------------------------------

    def block_answers(self, seconds):
        """qubesd stands still (a call of libvirt): no request is answered meanwhile, events that are made go out."""
        self._blocked_until = time.monotonic() + seconds
        self._poke()

    def cut_streams(self, after=None):
        """Ends the streams: at once, or (after: bytes) in the middle of the next event's frame."""
        with self._mutex:
            if after is not None:
                self._cut = after
                return
            for connection in self._streams():
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._poke()

    def buffered(self):
        """Bytes of events that clients have not taken."""
        with self._mutex:
            return sum(len(connection.out) for connection in self._streams())

    def streams(self):
        """How many listen to everything."""
        with self._mutex:
            return sum(1 for connection in self._streams() if connection.dest == "dom0")

    # -- events ----------------------------------------------------------------------------------------------------

    def _streams(self):
        return [connection for connection in self._connections.values() if connection.streaming]

    def emit(self, subject, event, pairs=()):
        """One event to every stream that it concerns. pairs: (key, value) in order; None is written "None"."""
        pairs = list(pairs.items() if isinstance(pairs, dict) else pairs)
        with self._mutex:
            for connection in self._streams():
                if connection.dest in ("dom0", subject):
                    self._put(connection, event_parts(subject, event, pairs))
            if self._cut is not None and event != "connection-established":
                self._cut = None

    def _put(self, connection, parts):
        parts = list(parts)
        frame = b"".join(parts)
        if self._cut is not None:
            self._send(connection, frame[:self._cut])
            connection.closing = True
            self._poke()
            return
        if self.dribble:
            parts = [frame[i:i + 1] for i in range(len(frame))]
        elif not self.split:
            parts = [frame]
        for part in parts:
            self._send(connection, part)

    def _send(self, connection, data):
        if connection.closing:
            return
        if not connection.out:
            try:
                sent = connection.sock.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                data = data[sent:]
            except BlockingIOError:
                pass
            except OSError:  # the client went: its handlers go too
                connection.closing = True
                self._poke()
                return
        if data:
            connection.out += data
            self._poke()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _poke(self):
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake[1], b"!")

    def _work(self):
        while not self._stopping:
            blocked = self._blocked_until - time.monotonic()
            for key, events in self._selector.select(blocked if blocked > 0 else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._wake[0]:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake[0], 65536)
                else:
                    self._touched(key.data, events)
            if time.monotonic() >= self._blocked_until:
                ready, self._ready = self._ready, []
                for connection in ready:
                    self._request(connection)
            with self._mutex:
                for connection in list(self._connections.values()):
                    if connection.out or connection.closing:
                        self._flush(connection)

    def _accept(self):
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError:  # nobody else waits
                return
            sock.setblocking(False)
            connection = _Connection(sock)
            with self._mutex:
                self._connections[sock.fileno()] = connection
            self._selector.register(sock, selectors.EVENT_READ, connection)
            self._touched(connection, selectors.EVENT_READ)

    def _drop(self, connection):
        with self._mutex:
            if self._connections.pop(connection.sock.fileno(), None) is None:
                return
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.sock)
            connection.sock.close()

    def _touched(self, connection, events):
        if events & selectors.EVENT_WRITE:
            with self._mutex:
                self._flush(connection)
            return
        while True:
            try:
                data = connection.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                self._drop(connection)
                return
            if not data:
                break
            connection.incoming += data
            if len(connection.incoming) > REQUEST_MAX:
                self._drop(connection)
                return
        # The end of the request: nothing more is read, the other direction stays.
        self._watch(connection, 0)
        self._ready.append(connection)

    def _watch(self, connection, events):
        with contextlib.suppress(KeyError, ValueError):
            if events:
                try:
                    self._selector.modify(connection.sock, events, connection)
                except KeyError:
                    self._selector.register(connection.sock, events, connection)
            else:
                self._selector.unregister(connection.sock)

    def _flush(self, connection):
        if connection.sock.fileno() < 0:
            return
        try:
            while connection.out:
                sent = connection.sock.send(connection.out, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                del connection.out[:sent]
        except BlockingIOError:
            self._watch(connection, selectors.EVENT_WRITE)
            return
        except OSError:
            self._drop(connection)
            return
        if connection.closing:
            self._drop(connection)
        else:
            self._watch(connection, 0)

    def _request(self, connection):
        try:
            header, nul, payload = connection.incoming.partition(b"\0")
            words = header.decode("ascii").split(" ", 3)
            if not nul or len(words) != 4:
                raise ValueError
            name, _source, kind, dest = words
            method, _, arg = name.partition("+")
            if kind == "keyword" and dest == "adminvm":
                dest = "dom0"
            elif kind != "name":
                raise ValueError
        except ValueError:
            self._drop(connection)
            return
        self.call_log.append((method, arg, dest))
        for counted in {method, f"{method}+{arg}"}:
            self.calls[counted] = self.calls.get(counted, 0) + 1
        if method == "admin.Events":
            connection.dest, connection.streaming = dest, True
            with self._mutex:
                cut, self._cut = self._cut, None
                self._put(connection, event_parts("", "connection-established"))
                self._cut = cut
            return
        if self.slow(method, arg):
            threading.Thread(target=self._answer, args=(connection, method, arg, dest, payload), daemon=True).start()
        else:
            self._answer(connection, method, arg, dest, payload)

    def _answer(self, connection, method, arg, dest, payload):
        try:
            if self.slow(method, arg):
                content = self.serve(method, arg, dest, payload)
            else:
                with self.lock:
                    content = self.serve(method, arg, dest, payload)
            answer = b"0\0" + content
        except Refused as error:
            answer = self.exception(error)
        except NotPermitted as error:
            answer = self.exception(error) if self.flavour == "4.4" else b""
        except Crashed:
            answer = b""
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()  # as in qubesd's journal
            answer = b""
        with self._mutex:
            connection.out += answer
            connection.closing = True
            if threading.current_thread() is self._thread:
                self._flush(connection)
        self._poke()

    @staticmethod
    def exception(error):
        return f"2\0{error.kind}\0\0{error.message}\0".encode()
