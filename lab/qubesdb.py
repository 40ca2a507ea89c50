# SPDX-License-Identifier: GPL-2.0-or-later
"""Synchronous client for one QubesDB socket, for the lab and the tests.

    python3 -m lab.qubesdb SOCKET write KEY VALUE
    python3 -m lab.qubesdb SOCKET read|rm KEY
    python3 -m lab.qubesdb SOCKET list|multiread [PREFIX]
    python3 -m lab.qubesdb SOCKET watch PATH...        one line per event, until killed
    python3 -m lab.qubesdb SOCKET load                 KEY VALUE lines from standard input

Wire format: a header of 72 bytes (type u8, path 64 bytes with NUL, 3 bytes padding, data length
u32 in host order), then the value. Answers come in request order; events may come in between.
"""

import collections
import socket
import struct
import sys
import time

(CMD_READ, CMD_WRITE, CMD_MULTIREAD, CMD_LIST, CMD_RM, CMD_WATCH, CMD_UNWATCH,
 RESP_OK, RESP_NOENT, RESP_ERROR, RESP_READ, RESP_MULTIREAD, RESP_LIST, RESP_WATCH) = range(14)

HEADER = struct.Struct('=B64s3xI')
PATH_MAX = 63
VALUE_MAX = 3071


class Error(RuntimeError):
    """The daemon refused the request."""


class Disconnected(Error):
    """The daemon closed the connection, or could not be reached."""


def pack(kind, path, value=b''):
    """One message as bytes. Nothing is checked, so that tests can send what they like."""
    if isinstance(path, str):
        path = path.encode('ascii')
    return HEADER.pack(kind, path, len(value)) + value


def _bytes(value):
    return value.encode('utf-8') if isinstance(value, str) else bytes(value)


def _checked(path):
    if len(path) > PATH_MAX:
        raise ValueError(f'path of more than {PATH_MAX} characters: {path}')
    return path


class QubesDB:
    """One connection. Values are bytes; events are kept in arrival order. Not thread-safe."""

    def __init__(self, path, timeout=10.0, wait=0.0):
        """wait: how many seconds to try until a daemon listens on the socket."""
        self.path = str(path)
        self.timeout = timeout
        self._in = bytearray()
        self._events = collections.deque()
        deadline = time.monotonic() + wait
        while True:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout)
            try:
                self.sock.connect(self.path)
                return
            except OSError as error:
                self.sock.close()
                if time.monotonic() >= deadline:
                    raise Disconnected(f'{self.path}: {error.strerror}') from error
                time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_unused):
        self.close()

    def close(self):
        self.sock.close()

    def fileno(self):
        return self.sock.fileno()

    # -- messages

    def _fill(self, need):
        while len(self._in) < need:
            try:
                more = self.sock.recv(262144)
            except ConnectionResetError as error:
                raise Disconnected(f'{self.path}: connection reset') from error
            if not more:
                raise Disconnected(f'{self.path}: closed by the daemon')
            self._in += more

    def receive(self):
        """The next message as it comes: (type, path, value)."""
        self._fill(HEADER.size)
        kind, path, length = HEADER.unpack_from(self._in)
        self._fill(HEADER.size + length)
        value = bytes(self._in[HEADER.size:HEADER.size + length])
        del self._in[:HEADER.size + length]
        return kind, path.split(b'\0', 1)[0].decode('ascii'), value

    def send_raw(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Disconnected(f'{self.path}: closed by the daemon') from error

    def answer(self):
        """The next message that is not an event; events are kept for watch_events()."""
        while True:
            message = self.receive()
            if message[0] != RESP_WATCH:
                return message
            self._events.append(message[1])

    def _ask(self, kind, path, value=b''):
        self.send_raw(pack(kind, _checked(path), value))
        return self.answer()

    def _expect_ok(self, kind, path, value=b''):
        answer = self._ask(kind, path, value)
        if answer[0] != RESP_OK:
            raise Error(f'{path}: refused (answer {answer[0]})')

    # -- commands

    def read(self, key):
        """The value, or None when the key is absent."""
        kind, _path, value = self._ask(CMD_READ, key)
        if kind == RESP_NOENT:
            return None
        if kind != RESP_READ:
            raise Error(f'{key}: not readable (answer {kind})')
        return value

    def write(self, key, value):
        self._expect_ok(CMD_WRITE, key, _bytes(value))

    def rm(self, key):
        """True when something was removed. A key ending in '/' removes everything below it."""
        kind = self._ask(CMD_RM, key)[0]
        if kind not in (RESP_OK, RESP_NOENT):
            raise Error(f'{key}: not removed (answer {kind})')
        return kind == RESP_OK

    def _collect(self, command, response, prefix):
        self.send_raw(pack(command, _checked(prefix)))
        found = []
        while True:
            kind, path, value = self.answer()
            if kind != response:
                raise Error(f'{prefix}: refused (answer {kind})')
            if not path:
                return found
            found.append((path, value))

    def list(self, prefix=''):
        """Keys that begin with prefix (a plain string comparison), sorted."""
        return [path for path, _value in self._collect(CMD_LIST, RESP_LIST, prefix)]

    def multiread(self, prefix=''):
        """{key: value} of all keys that begin with prefix."""
        return dict(self._collect(CMD_MULTIREAD, RESP_MULTIREAD, prefix))

    def watch(self, path):
        """Events for path; a path ending in '/' hears everything below it."""
        self._expect_ok(CMD_WATCH, path)

    def unwatch(self, path):
        return self._ask(CMD_UNWATCH, path)[0] == RESP_OK

    def next_event(self, timeout=None):
        """The path of the next event; None when none came within timeout seconds."""
        if self._events:
            return self._events.popleft()
        self.sock.settimeout(self.timeout if timeout is None else max(timeout, 0.000001))
        try:
            kind, path, _value = self.receive()
        except socket.timeout:
            return None
        finally:
            self.sock.settimeout(self.timeout)
        if kind != RESP_WATCH:
            raise Error(f'answer {kind} without a request')
        return path

    def watch_events(self):
        """Iterator over events, without end."""
        while True:
            event = self.next_event(timeout=3600)
            if event is not None:
                yield event

    # -- many at once

    def _pipeline(self, messages, window=128):
        """Sends messages without waiting for each answer; gives the answers in order."""
        pending = 0
        batch = []
        for message in messages:
            batch.append(message)
            if len(batch) == window:
                while pending:
                    yield self.answer()
                    pending -= 1
                self.send_raw(b''.join(batch))
                pending, batch = len(batch), []
        if batch:
            # A window stays far below what the socket holds, so sending it cannot deadlock.
            while pending:
                yield self.answer()
                pending -= 1
            self.send_raw(b''.join(batch))
            pending = len(batch)
        while pending:
            yield self.answer()
            pending -= 1

    def write_many(self, pairs):
        """Writes all (key, value) pairs, in order; returns how many."""
        count = 0
        refused = None
        for kind, path, _value in self._pipeline(
                pack(CMD_WRITE, _checked(key), _bytes(value)) for key, value in pairs):
            count += 1
            if kind != RESP_OK and refused is None:
                refused = path
        if refused is not None:
            raise Error(f'{refused}: refused')
        return count

    def rm_many(self, keys):
        """Removes all keys, in order; returns how many were there."""
        return sum(1 for kind, _path, _value in self._pipeline(
            pack(CMD_RM, _checked(key)) for key in keys) if kind == RESP_OK)


def _print(data):
    sys.stdout.write(data.decode('utf-8', 'backslashreplace') + '\n')


def main(argv=None):
    args = sys.argv[1:] if argv is None else argv
    if len(args) < 2:
        sys.stderr.write(__doc__ + '\n')
        return 2
    path, command, rest = args[0], args[1], args[2:]
    try:
        with QubesDB(path) as db:
            if command == 'read' and len(rest) == 1:
                value = db.read(rest[0])
                if value is None:
                    return 2
                _print(value)
            elif command == 'write' and rest and len(rest) % 2 == 0:
                db.write_many(zip(rest[::2], rest[1::2]))
            elif command == 'rm' and rest:
                db.rm_many(rest)
            elif command == 'list' and len(rest) <= 1:
                for key in db.list(*rest):
                    sys.stdout.write(key + '\n')
            elif command == 'multiread' and len(rest) <= 1:
                for key, value in sorted(db.multiread(*rest).items()):
                    _print(key.encode() + b' = ' + value)
            elif command == 'watch' and rest:
                for watched in rest:
                    db.watch(watched)
                for event in db.watch_events():
                    sys.stdout.write(event + '\n')
                    sys.stdout.flush()
            elif command == 'load' and not rest:
                lines = (line.rstrip('\n') for line in sys.stdin)
                db.write_many(line.split(' ', 1) for line in lines if line.strip())
            else:
                sys.stderr.write(__doc__ + '\n')
                return 2
    except (OSError, Error, ValueError) as error:
        sys.stderr.write(f'qubesdb: {error}\n')
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
