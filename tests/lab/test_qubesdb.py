# SPDX-License-Identifier: GPL-2.0-or-later
"""qubesdb-server answers as Qubes' daemon does (4.1 to 4.3.3), and cannot be stopped by a client."""

import os
import resource
import select
import signal
import socket
import stat
import subprocess
import time

import pytest

from lab.qubesdb import (CMD_LIST, CMD_MULTIREAD, CMD_READ, CMD_RM, CMD_UNWATCH, CMD_WATCH, CMD_WRITE, HEADER,
                         RESP_ERROR, RESP_LIST, RESP_MULTIREAD, RESP_NOENT, RESP_OK, RESP_READ, RESP_WATCH,
                         Disconnected, Error, QubesDB, pack)
from lab.router import ReadySocket, environment, program

SERVER = program("src/qubesdb/qubesdb-server")
KEY63 = "/" + "k" * 62


class Server:
    def __init__(self, folder, *options):
        self.socket = str(folder / "qubesdb.sock")
        self.ready = ReadySocket(str(folder / f"notify-{time.monotonic_ns()}"))
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen([SERVER, self.socket, *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=environment(NOTIFY_SOCKET=self.ready.path))
        deadline = time.monotonic() + 5
        while "READY=1" not in self.ready.messages:
            self.ready.read(0.1)
            assert self.process.poll() is None and time.monotonic() < deadline, "not ready"

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=5)[0]
        assert said == b""
        return self.process.returncode


@pytest.fixture(name="start")
def fixture_start(tmp_path):
    servers = []

    def start(*options, folder=tmp_path):
        servers.append(Server(folder, *options))
        return servers[-1]

    yield start
    for server in servers:
        assert server.stop() == 0


@pytest.fixture(name="server")
def fixture_server(start):
    return start()


@pytest.fixture(name="db")
def fixture_db(server):
    with QubesDB(server.socket) as client:
        yield client


def ask(db, kind, path, value=b""):
    """Sends one request and gives (type, path, value) of the answer."""
    db.send_raw(pack(kind, path, value))
    return db.answer()


def is_usable(db):
    return ask(db, CMD_READ, "/surely/absent") == (RESP_NOENT, "/surely/absent", b"")


def is_closed(db):
    with pytest.raises(Disconnected):
        db.receive()
    return True


def events(db, count):
    return [db.next_event(timeout=2) for _ in range(count)]


def no_event(db):
    """Nothing has come: an answer is in order behind all events that the daemon had to tell."""
    return is_usable(db) and db.next_event(timeout=0) is None


# Reading and writing.

def test_write_then_read(db):
    assert ask(db, CMD_WRITE, "/a", b"value") == (RESP_OK, "/a", b"")
    assert ask(db, CMD_READ, "/a") == (RESP_READ, "/a", b"value")


def test_write_replaces(db):
    db.write("/a", "long value")
    db.write("/a", "x")
    assert db.read("/a") == b"x"
    assert db.list() == ["/a"]


def test_empty_value_is_not_absence(db):
    db.write("/a", "")
    assert db.read("/a") == b""
    assert db.read("/b") is None


@pytest.mark.parametrize("path", ["", "/", "/a/", "/A", "/ab", "a", "//a", "/a/.."])
def test_read_is_exact(db, path):
    db.write("/a", "1")
    assert ask(db, CMD_READ, path) == (RESP_NOENT, path, b"")


@pytest.mark.parametrize("path", ["/a", "/a//b", "/a/../b", "/A.b:c@d_e-f", "/-x", "/0", KEY63])
def test_paths_that_can_be_written(db, path):
    assert ask(db, CMD_WRITE, path, b"v") == (RESP_OK, path, b"")
    assert db.list() == [path]


@pytest.mark.parametrize("path", ["a", "", "/", "/a/", "a/", "@"])
def test_write_to_no_key_costs_the_connection(db, server, path):
    assert ask(db, CMD_WRITE, path, b"v") == (RESP_ERROR, path, b"")
    assert is_closed(db)
    assert QubesDB(server.socket).list() == []


@pytest.mark.parametrize("path", ["-a", "/a b", "/a%", "/a+", "/a,b", "/a=b", "/a\n", "/a\x7f", "/a~", "/a*"])
@pytest.mark.parametrize("kind", [CMD_READ, CMD_WRITE, CMD_LIST, CMD_MULTIREAD, CMD_RM, CMD_WATCH, CMD_UNWATCH])
def test_bad_characters(db, kind, path):
    assert ask(db, kind, path, b"abc") == (RESP_ERROR, path, b"")
    assert is_usable(db)


def test_bytes_beyond_ascii(db):
    db.send_raw(HEADER.pack(CMD_READ, b"/\xc3\xa4", 0))
    db._fill(HEADER.size)  # pylint: disable=protected-access
    assert db._in[0] == RESP_ERROR and db._in[1:4] == b"/\xc3\xa4"  # pylint: disable=protected-access


@pytest.mark.parametrize("kind", [7, 10, 13, 14, 255])
def test_unknown_type(db, kind):
    assert ask(db, kind, "/a", b"skipped") == (RESP_ERROR, "/a", b"")
    assert is_usable(db)


def test_longest_value(db):
    value = bytes(range(1, 256)) * 12 + b"x" * 11
    assert len(value) == 3071
    assert ask(db, CMD_WRITE, "/a", value)[0] == RESP_OK
    assert db.read("/a") == value


@pytest.mark.parametrize("size", [3072, 4096, 1 << 20])
def test_value_too_long(db, size):
    assert ask(db, CMD_WRITE, "/a", b"x" * size) == (RESP_ERROR, "/a", b"")
    assert db.read("/a") is None


@pytest.mark.parametrize("value", [b"\0", b"a\0b", b"a\0"])
def test_nul_in_value(db, value):
    assert ask(db, CMD_WRITE, "/a", value) == (RESP_ERROR, "/a", b"")
    assert db.read("/a") is None


def test_nul_is_found_before_the_path_is_judged(db):
    assert ask(db, CMD_WRITE, "no-slash", b"\0")[0] == RESP_ERROR
    assert is_usable(db)


def test_path_of_64_is_cut(db):
    db.send_raw(HEADER.pack(CMD_WRITE, (KEY63 + "x").encode(), 1) + b"v")
    assert db.answer() == (RESP_OK, KEY63, b"")
    assert db.list() == [KEY63]


def test_garbage_behind_nul_is_ignored(db):
    db.send_raw(HEADER.pack(CMD_WRITE, b"/a\0 \xff%" + b"\xee" * 57, 1)[:65] + b"\xee\xee\xee\x01\0\0\0v")
    assert db.answer() == (RESP_OK, "/a", b"")
    assert db.list() == ["/a"]


def test_read_with_data_is_closed_without_answer(db):
    db.send_raw(HEADER.pack(CMD_READ, b"/a", 5))
    assert is_closed(db)


def test_read_with_too_much_data_is_only_bad(db):
    assert ask(db, CMD_READ, "/a", b"x" * 3072)[0] == RESP_ERROR
    assert is_usable(db)


# Removing.

def test_rm(db):
    db.write("/a", "1")
    assert ask(db, CMD_RM, "/a") == (RESP_OK, "/a", b"")
    assert ask(db, CMD_RM, "/a") == (RESP_NOENT, "/a", b"")


def test_rm_never_takes_children(db):
    db.write_many([("/a/b", "1"), ("/ab", "2")])
    assert ask(db, CMD_RM, "/a")[0] == RESP_NOENT
    assert db.list() == ["/a/b", "/ab"]


@pytest.mark.parametrize("path,left", [("/a/", ["/a", "/ab", "/b"]), ("/a/b/", ["/a", "/a/b", "/ab", "/b"]), ("/", [])])
def test_rm_directory(db, path, left):
    db.write_many((key, "v") for key in ["/a", "/a/b", "/a/b/c", "/ab", "/b"])
    assert db.rm(path)
    assert db.list() == left
    assert not db.rm(path)


@pytest.mark.parametrize("path", ["", "a/", "/", "/none/"])
def test_rm_of_nothing(db, path):
    assert ask(db, CMD_RM, path)[0] == RESP_NOENT


@pytest.mark.parametrize("kind", [CMD_RM, CMD_LIST, CMD_MULTIREAD])
def test_data_where_none_belongs(db, kind):
    db.write("/a", "1")
    assert ask(db, kind, "/a", b"data") == (RESP_ERROR, "/a", b"")
    assert db.list() == ["/a"]


# Listing.

KEYS = {"/a": b"1", "/a/x": b"2", "/ab": b"3", "/B": b"4", "/a-": b"5", "/a.": b""}


@pytest.mark.parametrize("prefix", ["", "/", "/a", "/a/", "/B", "/none", "a"])
def test_list_is_a_sorted_string_prefix(db, prefix):
    db.write_many(KEYS.items())
    assert db.list(prefix) == sorted(key for key in KEYS if key.startswith(prefix))


@pytest.mark.parametrize("prefix", ["/", "/a", "/a/", "/none"])
def test_multiread(db, prefix):
    db.write_many(KEYS.items())
    db.send_raw(pack(CMD_MULTIREAD, prefix))
    for key in sorted(key for key in KEYS if key.startswith(prefix)):
        assert db.receive() == (RESP_MULTIREAD, key, KEYS[key])
    assert db.receive() == (RESP_MULTIREAD, "", b"")


def test_multiread_of_everything_descends(db):
    db.write_many(KEYS.items())
    db.send_raw(pack(CMD_MULTIREAD, ""))
    assert [db.receive()[1] for _ in range(7)] == sorted(KEYS, reverse=True) + [""]


def test_list_carries_no_values(db):
    db.write("/a", "1")
    db.send_raw(pack(CMD_LIST, ""))
    assert db.receive() == (RESP_LIST, "/a", b"")
    assert db.receive() == (RESP_LIST, "", b"")


# Watches.

@pytest.mark.parametrize("watch,written,heard", [
    ("/d/", "/d/a", True), ("/d/", "/d/a/b", True), ("/d/", "/d", False), ("/d/", "/da", False),
    ("/d", "/d", True), ("/d", "/d/a", False), ("/", "/anything", True), ("", "/a", False), ("d", "/d", False),
    ("/a//", "/a//b", True), ("/a//", "/a/b", False)])
def test_watch_hears_writes(db, watch, written, heard):
    db.watch(watch)
    db.write(written, "v")
    assert (events(db, 1) == [written]) if heard else no_event(db)


@pytest.mark.parametrize("watch,heard", [
    ("/d/", True), ("/", True), ("/d/a", False), ("/d/sub/", False), ("/d", False)])
def test_watch_hears_directory_removal(db, watch, heard):
    db.write_many([("/d/a", "1"), ("/d/sub/b", "2")])
    db.watch(watch)
    db.rm("/d/")
    if heard:
        assert events(db, 1) == ["/d/"]
    assert no_event(db)


def test_removal_of_everything_reaches_the_root_only(db):
    db.write("/d/a", "1")
    for path in ["/d/", "/d/a", "/"]:
        db.watch(path)
    db.rm("/")
    assert events(db, 1) == ["/"]
    assert no_event(db)


def test_removal_of_nothing_is_no_event(db):
    db.watch("/")
    db.rm("/a")
    db.rm("/")
    assert no_event(db)


def test_unchanged_value_is_an_event(db):
    db.watch("/")
    db.write("/a", "1")
    db.write("/a", "1")
    assert events(db, 2) == ["/a", "/a"]


def test_refused_write_is_no_event(db):
    db.watch("/")
    assert ask(db, CMD_WRITE, "/a", b"\0")[0] == RESP_ERROR
    assert no_event(db)


def test_writer_gets_the_answer_before_the_event(db):
    db.watch("/")
    db.send_raw(pack(CMD_WRITE, "/a", b"1"))
    assert [db.receive()[0] for _ in range(2)] == [RESP_OK, RESP_WATCH]


def test_watches_count(db):
    for _ in range(3):
        db.watch("/a")
    db.write("/a", "1")
    assert events(db, 3) == ["/a"] * 3
    assert db.unwatch("/a")
    db.write("/a", "1")
    assert events(db, 2) == ["/a"] * 2
    assert no_event(db)


@pytest.mark.parametrize("path", ["/a", "/a/", ""])
def test_unwatch_of_nothing(db, path):
    db.watch("/a/b")
    assert ask(db, CMD_UNWATCH, path) == (RESP_NOENT, path, b"")


def test_watch_does_not_take_data_off_the_stream(db):
    """The daemon ignores the announced length: what follows is the next request."""
    db.send_raw(HEADER.pack(CMD_WATCH, b"/a", 72) + HEADER.pack(CMD_READ, b"/b", 0))
    assert db.answer()[0] == RESP_OK
    assert db.answer()[:2] == (RESP_NOENT, "/b")


def test_watches_end_with_the_connection(server, db):
    with QubesDB(server.socket) as other:
        other.watch("/")
    db.write("/a", "1")
    assert no_event(db)


def test_event_comes_after_the_change(server, db):
    with QubesDB(server.socket) as writer:
        db.watch("/")
        for i in range(200):
            writer.write("/a", str(i))
            assert events(db, 1) == ["/a"]
            assert int(QubesDB.read(db, "/a")) == i


# The read-only socket.

def test_read_only_socket(start, tmp_path):
    path = str(tmp_path / "ro.sock")
    server = start("--ro-socket", path)
    with QubesDB(server.socket) as writer, QubesDB(path) as reader:
        writer.write("/a", "1")
        reader.watch("/")
        assert ask(reader, CMD_WRITE, "/a", b"2") == (RESP_ERROR, "/a", b"")
        assert ask(reader, CMD_WRITE, "no-slash", b"2")[0] == RESP_ERROR
        assert ask(reader, CMD_RM, "/a")[0] == RESP_ERROR
        assert ask(reader, CMD_RM, "/", b"data")[0] == RESP_ERROR
        assert reader.multiread("/") == {"/a": b"1"}
        writer.write("/a", "3")
        assert events(reader, 1) == ["/a"]
    assert server.stop() == 0
    assert not os.path.exists(path)


@pytest.mark.parametrize("options,mode", [((), 0o666), (("--mode", "660"), 0o660), (("--mode", "0777"), 0o777)])
def test_mode(start, options, mode):
    old = os.umask(0o077)
    try:
        server = start(*options)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == mode


# Nobody stops it.

@pytest.mark.parametrize("half", [b"\0", pack(CMD_READ, "/a")[:71], HEADER.pack(CMD_WRITE, b"/h", 100) + b"x" * 99,
                                  HEADER.pack(CMD_WRITE, b"/h", 0xffffffff) + b"x"])
def test_half_message_stops_nobody(server, db, half):
    with QubesDB(server.socket) as hanging:
        hanging.send_raw(half)
        db.write("/a", "1")
        assert db.read("/a") == b"1"
    assert db.read("/h") is None


def test_half_message_may_be_completed(server, db):
    whole = pack(CMD_WRITE, "/a", b"value")
    with QubesDB(server.socket) as slow:
        for i in range(len(whole)):
            slow.send_raw(whole[i:i + 1])
            assert db.read("/a") is None or i == len(whole) - 1
        assert slow.answer()[0] == RESP_OK
    assert db.read("/a") == b"value"


def test_client_that_does_not_read_its_list(server, db):
    db.write_many((f"/k/{i}", "x" * 3000) for i in range(2000))
    with QubesDB(server.socket) as lazy:
        lazy.send_raw(pack(CMD_MULTIREAD, "") + pack(CMD_READ, "/k/7"))
        assert db.read("/k/1999") == b"x" * 3000
        found = 0
        while lazy.receive()[1]:
            found += 1
        assert found == 2000
        assert lazy.answer() == (RESP_READ, "/k/7", b"x" * 3000)


def test_watcher_that_does_not_read_loses_nothing(server, db):
    with QubesDB(server.socket) as lazy:
        lazy.watch("/")
        db.write_many((f"/k/{i % 500}", "v") for i in range(20000))
        assert [lazy.next_event() for _ in range(20000)] == [f"/k/{i % 500}" for i in range(20000)]


def test_watcher_that_never_reads_is_dropped(server, db):
    with QubesDB(server.socket) as lazy:
        for _ in range(200):
            lazy.watch("/")
        # 200 events of 72 bytes each: 64 MiB are waiting after about 4700 writes.
        db.write_many(("/k", "v") for _ in range(6000))
        assert db.read("/k") == b"v"
        poll = select.poll()
        poll.register(lazy, 0)
        assert poll.poll(5000), "not hung up"


def test_many_clients(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    clients = []
    try:
        for _ in range(1000):
            clients.append(QubesDB(server.socket))
        for i in (0, 500, 999):
            clients[i].write("/a", str(i))
            assert clients[999 - i].read("/a") == str(i).encode()
        with QubesDB(server.socket) as late:
            assert is_closed(late)
        clients.pop().close()
        deadline = time.monotonic() + 5
        while True:  # the server sees the end a moment later
            try:
                with QubesDB(server.socket) as late:
                    assert late.read("/a") == b"999"
                break
            except Disconnected:
                assert time.monotonic() < deadline
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_die_in_the_middle(server, db):
    for size in range(1, 80):
        with QubesDB(server.socket) as dying:
            dying.send_raw(pack(CMD_WRITE, "/dead", b"x" * 8)[:size % 80])
    assert db.read("/dead") is None


def test_requests_before_a_half_close_are_answered(server):
    with QubesDB(server.socket) as client:
        client.send_raw(pack(CMD_WRITE, "/a", b"1") * 1000)
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.answer()[0] for _ in range(1000)] == [RESP_OK] * 1000
        assert is_closed(client)


def test_answers_are_sent_before_the_server_closes(server, db):
    db.write("/big", "x" * 3000)
    for count in range(50, 110, 3):
        with QubesDB(server.socket) as client:
            client.send_raw(pack(CMD_READ, "/big") * count + pack(CMD_WRITE, "no-slash", b"1"))
            assert is_usable(db) and is_usable(db)  # the server has been round
            assert [client.answer()[0] for _ in range(count + 1)] == [RESP_READ] * count + [RESP_ERROR]
            assert is_closed(client)


def test_ten_thousand_keys(db):
    assert db.write_many((f"/k/{i * 7919 % 10000:05}", str(i)) for i in range(10000)) == 10000
    assert db.list("/k/") == [f"/k/{i:05}" for i in range(10000)]
    assert db.rm_many(f"/k/{i:05}" for i in range(0, 10000, 2)) == 5000
    assert len(db.multiread("/k/")) == 5000
    assert db.rm("/k/") and db.list() == []


def test_pipelined_requests_in_order(db):
    requests = b"".join(pack(CMD_READ, f"/{i}") for i in range(3000))
    poll = select.poll()
    poll.register(db, select.POLLIN | select.POLLOUT)
    db.sock.setblocking(False)
    sent, got = 0, b""
    deadline = time.monotonic() + 10
    while len(got) < len(requests):
        assert time.monotonic() < deadline
        poll.poll(100)
        try:
            sent += db.sock.send(requests[sent:]) if sent < len(requests) else 0
        except BlockingIOError:
            pass
        try:
            got += db.sock.recv(65536)
        except BlockingIOError:
            pass
    assert [HEADER.unpack_from(got, i * 72)[1].rstrip(b"\0") for i in range(3000)] == [
        b"/%d" % i for i in range(3000)]


# Life and death.

def test_new_server_takes_the_socket_over(start):
    first = start()
    with QubesDB(first.socket) as old:
        old.write("/a", "1")
        second = start()
        with QubesDB(second.socket) as new:
            assert new.read("/a") is None
            assert old.read("/a") == b"1"
            assert first.stop() == 0
            assert is_closed(old)
            assert os.path.exists(second.socket)  # not the first one's any more
            with QubesDB(second.socket) as again:
                assert again.read("/a") is None
    assert second.stop() == 0
    assert not os.path.exists(second.socket)


def test_killed_server_leaves_a_socket_that_the_next_one_replaces(start):
    first = start()
    first.process.kill()
    first.process.wait()
    assert os.path.exists(first.socket)
    with pytest.raises(Disconnected):
        QubesDB(first.socket)
    first.process.returncode = 0
    second = start()
    with QubesDB(second.socket) as db:
        assert db.list() == []


def test_two_servers_know_nothing_of_each_other(start, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = start(folder=tmp_path / "one"), start(folder=tmp_path / "two")
    with QubesDB(one.socket) as a, QubesDB(two.socket) as b:
        a.write("/a", "1")
        assert b.read("/a") is None


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["x", "--mode", "9"], ["x", "--mode", ""], ["--what", "x"]])
def test_wrong_usage(arguments, tmp_path):
    done = subprocess.run([SERVER, *arguments], cwd=tmp_path, capture_output=True, check=False, timeout=5)
    assert done.returncode == 2 and done.stderr and not os.listdir(tmp_path)


def test_a_file_is_not_replaced(tmp_path):
    file = tmp_path / "precious"
    file.write_text("x")
    done = subprocess.run([SERVER, str(file)], capture_output=True, check=False, timeout=5)
    assert done.returncode == 1 and b"precious" in done.stderr
    assert file.read_text() == "x"


# The client that the lab uses.

def test_client_refuses_long_paths(db):
    with pytest.raises(ValueError):
        db.read(KEY63 + "x")


def test_client_tells_refusals(db):
    with pytest.raises(Error):
        db.write("/a b", "x")
    with pytest.raises(Error):
        db.write_many([("/ok", "1"), ("/not ok", "2"), ("/ok2", "3")])
    assert db.list() == ["/ok", "/ok2"]


def test_command_line(server):
    def run(*arguments, data=None):
        done = subprocess.run(["/usr/bin/python3", "-m", "lab.qubesdb", server.socket, *arguments], input=data,
                              capture_output=True, text=True, check=False, timeout=10)
        return done.returncode, done.stdout

    assert run("write", "/a", "1", "/b", "two words") == (0, "")
    assert run("load", data="/c 3\n/d x y\n") == (0, "")
    assert run("read", "/b") == (0, "two words\n")
    assert run("read", "/none") == (2, "")
    assert run("list", "/") == (0, "/a\n/b\n/c\n/d\n")
    assert run("rm", "/a", "/b") == (0, "")
    assert run("multiread") == (0, "/c = 3\n/d = x y\n")
    assert run("nonsense")[0] == 2
