# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input of every kind, from QubesDB and at the status socket: it exposes nothing and hurts nobody else.

Good exposures are watched by packets all the time: connections that stay open, and a stream of datagrams at the qube
that must not be reached.
"""

import contextlib
import json
import os
import random
import socket
import threading
import time

import pytest

from lab import topologies
from lab.node import wait_until
from lab.qubesdb import (RESP_ERROR, RESP_MULTIREAD, RESP_OK, RESP_READ, RESP_WATCH, Error, QubesDB, pack)
from lab.router import PLAIN, SLOW
from lab.topology import Qube
from lan_frames import entry, state

WEB4, WEB6 = "192.168.16.25", "2001:db8:16::25"
HIDDEN4, HIDDEN6 = "192.168.16.26", "2001:db8:16::26"
GOOD = "v=1|vm=hidden|xid=13|via=direct|edge=1|mode=forward"  # for hidden
RSS_MAX = 20 << 20

pytestmark = pytest.mark.usefixtures("need_router")


def wait(probe, what, timeout=5.0):
    return wait_until(probe, timeout * SLOW, what)


def rss(router):
    with open(f"/proc/{router.process.pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) << 10


class Net:
    """web is exposed and connected to all the time; at hidden a stream knocks that must not arrive."""

    def __init__(self, built, *arguments):
        self.lab = built
        self.sys_net, self.lan1, self.web = built["sys-net"], built["lan1"], built["web"]
        self.router = self.sys_net.router(arguments)
        self.web.serve_tcp(80)
        self.expose_web()
        for address in (WEB4, WEB6):
            wait(lambda a=address: state(self.router, a) == "open", f"{address} open")
        self.connections = [self.lan1.connect_tcp(address, 80) for address in (WEB4, WEB6)]
        self.inside = built["hidden"].sniff("eth0", "udp port 9")
        mac = self.sys_net.mac("ens6")
        self.lan1.batch(f"neigh replace {HIDDEN4} lladdr {mac} dev eth0 nud permanent\n"
                        f"neigh replace {HIDDEN6} lladdr {mac} dev eth0 nud permanent\n")
        self._stop, self._turn = threading.Event(), 0
        self._thread = threading.Thread(target=self._knock, daemon=True)
        self._thread.start()

    def expose_web(self):
        self.sys_net.expose("web", 4)
        self.sys_net.expose("web", 6)

    def _knock(self):
        with self.lan1.socket(socket.AF_INET, socket.SOCK_DGRAM) as four, \
                self.lan1.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
            while not self._stop.wait(0.002):
                for sock, address in ((four, HIDDEN4), (six, HIDDEN6)):
                    with contextlib.suppress(OSError):
                        sock.sendto(b"x", (address, 9))

    def settle(self):
        """Everything that was written before is acted on."""
        self._turn += 1
        value = self.sys_net.expose("web", 6, keep=str(self._turn % 2))[1]
        wait(lambda: entry(self.router, WEB6)["keys"][0]["value"] == value, "the router to have read everything")

    def good_is_served(self):
        assert all(connection.alive(2 * SLOW) for connection in self.connections)
        assert self.lan1.can_reach(WEB4, 80) and self.lan1.can_reach(WEB6, 80)

    def knocking_works(self):
        """The positive control, at the end of a test."""
        assert not self.inside.packets
        for family in (4, 6):
            self.inside.clear()
            self.sys_net.expose("hidden", family)
            self.inside.wait_for(lambda p, v=family: p.data[12:14] == (b"\x08\x00" if v == 4 else b"\x86\xdd"),
                                 2 * SLOW, "the stream at the qube, now that it is exposed")

    def close(self):
        self._stop.set()
        self._thread.join()
        for connection in self.connections:
            connection.close()


@pytest.fixture(name="make")
def fixture_make(lab):
    made = []

    def make(topology=topologies.BASIC, *arguments, built=None):
        made.append(Net(built or lab(topology), *arguments))
        return made[-1]

    yield make
    for net in made:
        net.close()


@pytest.fixture(name="net")
def fixture_net(make):
    return make()


BAD_ADDRESSES = [
    # no host can have them
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.7.7", "224.0.0.1", "239.255.0.1", "240.0.0.1",
    "255.255.255.255", "10.139.1.1", "10.139.1.2", "::", "::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::26",
    f"::ffff:{HIDDEN4}", "::ffff:c0a8:101a", f"::{HIDDEN4}", "64:ff9b::c0a8:101a",
    # this net qube, its networks, its gateway
    "192.168.16.2", "10.137.0.5", "2001:db8:16::2", "fd09:24ef:4179::a89:5", "192.168.16.0", "192.168.16.255",
    "192.168.16.1", "2001:db8:16::1",
    # no address at all
    "web", "hidden", "localhost", "lan2.example.org", "@downstream", "-1", "1", "3232239642", "0xc0a8101a",
    "192.168.4122", "192.168.16.300", "192.168.16.026", "192.168.16", "192.168.16.26.", "192.168.16.26.1",
    ".192.168.16.26",
    "192.168.16.26-192.168.16.27", "192.168.16.25-192.168.16.26", "192.168.16.26/32", "192.168.16.0/24",
    "192.168.16.26/", "192.168.16.26:80", "2001:db8:16::26/128", "2001:db8:16::zz", "2001:db8:16:::26",
    "2001:db8:16::2::6", ":26", ":::",
    "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "2001:db8:16::00026", "2001:db8:16::1.2.3", "vif13.0", "ens6", "..", ".",
]


def test_keys_that_name_no_usable_address(net):
    sys_net = net.sys_net
    written = 0
    for source in ("/network-server/", "/vm-config/expose.", "/qubes-routing-method/"):
        value = {"/network-server/": GOOD, "/vm-config/expose.": "v=1|mode=forward"}.get(source, "forward")
        for text in BAD_ADDRESSES + ["2" * (63 - len(source)), f"{HIDDEN4}{'0' * (63 - len(source) - len(HIDDEN4))}"]:
            with contextlib.suppress(Error), QubesDB(sys_net.qubesdb_socket) as qdb:
                qdb.write(source + text, value)
                written += 1
    assert written > 180  # the server itself does not take a few of them
    net.settle()
    net.good_is_served()
    status = net.router.status()
    assert {one["address"] for one in status["addresses"] if one["open"]} == {WEB4, WEB6}
    assert {address for address, _iface in sys_net.proxies()} == {WEB4, WEB6}
    assert status["refused_keys_total"] > 80 and 0 < len(status["refused_keys"]) <= 32
    for address in ("192.168.16.2", "192.168.16.1", "192.168.16.255", "2001:db8:16::2", "fd09:24ef:4179::a89:5"):
        assert state(net.router, address) in ("unusable", "duplicate")
    assert "refused:" in net.router.call("--status").stdout
    net.knocking_works()
    for source in ("/network-server/", "/vm-config/", "/qubes-routing-method/"):
        sys_net.qdb.rm(source)
    wait(lambda: net.router.status()["refused_keys_total"] == 0, "no bad key left")
    assert not net.router.status()["addresses"] and not sys_net.proxies()


def test_other_spellings_of_one_address(net):
    sys_net, qdb = net.sys_net, net.sys_net.qdb
    spellings = ["2001:DB8:16::26", "2001:db8:16:0:0:0:0:26", "2001:0db8:0016::0026"]
    for text in spellings[:2]:
        qdb.write(f"/network-server/{text}", GOOD)
    net.settle()
    wait(lambda: state(net.router, HIDDEN6) == "duplicate", "two keys for one address: nobody")
    qdb.write(f"/network-server/{spellings[2]}", GOOD)
    qdb.write(f"/network-server/{HIDDEN6}", "nonsense")
    net.settle()
    assert state(net.router, HIDDEN6) == "duplicate" and not net.inside.packets
    assert HIDDEN6 not in {address for address, _iface in sys_net.proxies()}
    net.good_is_served()
    # each goes away by its own name, and nothing is left behind
    for text in spellings[1:] + [HIDDEN6]:
        qdb.rm(f"/network-server/{text}")
    wait(lambda: state(net.router, HIDDEN6) == "open", "one key alone serves, however it is spelt")
    net.inside.wait_for(lambda p: p.data[12:14] == b"\x86\xdd", what="the stream at the qube")
    qdb.rm(f"/network-server/{spellings[0]}")
    wait(lambda: entry(net.router, HIDDEN6) == {}, "nothing left of it")
    with net.lan1.ns, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM):
        net.settle()
        net.inside.clear()
        net.settle()
        assert not net.inside.packets


def test_two_sources_for_one_address(net):
    """Two records of different keys are two qubes, as far as anybody can tell."""
    qdb = net.sys_net.qdb
    qdb.write(f"/network-server/{HIDDEN4}", GOOD)
    qdb.write(f"/vm-config/expose.{HIDDEN4}", "v=1|mode=forward")
    qdb.write(f"/vm-config/expose.{HIDDEN6.replace(':', '_')}", "v=1|mode=forward")
    qdb.write(f"/vm-config/expose.{HIDDEN6.upper().replace(':', '_')}", "v=1|mode=forward")
    qdb.write("/qubes-routing-method/2001:DB8:16::26", "forward")
    # written in that order a single key can be seen first: only what stays counts
    wait(lambda: state(net.router, HIDDEN4) == state(net.router, HIDDEN6) == "duplicate", "both refused")
    net.settle()
    net.inside.clear()
    net.settle()
    net.good_is_served()
    net.sys_net.qdb.rm(f"/vm-config/expose.{HIDDEN4}")
    net.sys_net.qdb.rm("/vm-config/")
    net.sys_net.qdb.rm("/qubes-routing-method/")
    net.settle()
    net.sys_net.withdraw("hidden", 4)
    net.settle()
    net.inside.clear()
    net.knocking_works()


BAD_RECORDS = [
    b"", b" ", b"|", b"||||", b"=", b"v=1", b"forward", b"masquerade", b"v=1|mode=forward", GOOD.encode() + b"\n",
    GOOD.encode() + b" ", b" " + GOOD.encode(), GOOD.encode() + b"|",
    GOOD.replace("v=1", "v=2").encode(), GOOD.replace("v=1|", "").encode(), GOOD.replace("v=1", "v=01").encode(),
    GOOD.encode() + b"|frobnicate=1",
    GOOD.encode() + b"|allow", GOOD.encode() + b"|v=1", GOOD.encode() + b"|xid=13", GOOD.encode() + b"|vm=hidden",
    GOOD.replace("forward", "everything").encode(), GOOD.replace("forward", "Forward").encode(),
    GOOD.replace("edge=1", "edge=2").encode(), GOOD.replace("edge=1", "edge=").encode(),
    GOOD.replace("via=direct", "via=192.168.16.26").encode(),
    GOOD.replace("via=direct", "via=2001:db8:16::26").encode(),
    GOOD.replace("via=direct", "via=nowhere").encode(), GOOD.replace("via=direct|", "").encode(),
    # another qube's number, none, impossible ones
    GOOD.replace("xid=13", "xid=11").encode(), GOOD.replace("xid=13", "xid=12,14").encode(),
    GOOD.replace("xid=13", "xid=0").encode(), GOOD.replace("xid=13", "xid=-13").encode(),
    GOOD.replace("xid=13", "xid=65549").encode(), GOOD.replace("xid=13", "xid=4294967309").encode(),
    GOOD.replace("xid=13", "xid=0x0d").encode(), GOOD.replace("xid=13", "xid=013").encode(),
    GOOD.replace("xid=13", "xid=13,").encode(), GOOD.replace("xid=13", "xid=13,14,15").encode(),
    GOOD.replace("xid=13", "xid=").encode(), GOOD.replace("xid=13", "xid=pending").encode(),
    GOOD.replace("xid=13|", "").encode(), GOOD.replace("vm=hidden", "vm=").encode(),
    GOOD.replace("vm=hidden", "vm=hid den").encode(), GOOD.replace("vm=hidden", "vm=" + "h" * 32).encode(),
    GOOD.replace("vm=hidden", "vm=\x1b[31mhidden").encode(), GOOD.replace("vm=hidden", "vm=hidd\u202een").encode(),
    # times
    GOOD.encode() + b"|expires=2001-01-01T00:00:00Z", GOOD.encode() + b"|expires=never",
    GOOD.encode() + b"|expires=",
    GOOD.encode() + b"|expires=2999-02-30T00:00:00Z", GOOD.encode() + b"|expires=99999999999",
    # what is allowed: a part that is not understood closes all of it
    *(GOOD.encode() + b"|allow=" + text for text in (
        b"udp/9;bogus", b"udp/9;;", b"udp/9 from", b"udp/9 from nowhere", b"udp/9 from 192.168.16.10/24",
        b"udp/0-9",
        b"udp/9-8", b"udp/70000", b"icmp/9", b"any/9", b"sctp/9", b"udp/9,", b"udp/ 9",
        b"udp/9 from 192.168.16.0/33",
        b"UDP/9", b"udp/9\x1b[2J", b"udp/9 from 192.168.16.0/24,", b"", b"tcp/80", b"udp/10",
        b"udp/9 from 192.168.16.11")),
    GOOD.replace("forward", "publish").encode(),
    GOOD.replace("forward", "publish").encode() + b"|allow=udp/9", GOOD.encode() + b"|keep=2",
    GOOD.encode() + b"|keep=yes",
    # long, binary
    b"x" * 3071, b"\xff" * 3071, b"|" * 3071, b"=" * 3071, bytes(range(1, 256)) * 12, b"\x1b]0;title\x07" * 200,
    (GOOD.encode() + b"|allow=" + b"udp/9;" * 600)[:3071], (GOOD.encode() + b"|allow=" + b"udp/9," * 600)[:3071],
    (GOOD.encode() + b"|vm=" + b"h" * 3071)[:3071], b"\xf0\x9f\x92\xa9" * 700,
]


def unescaped(text):
    return {c for c in text if not (" " <= c <= "~" or c == "\n")}


def test_values_that_are_no_records(net):
    for value in BAD_RECORDS:
        net.sys_net.qdb.write_many([(f"/network-server/{HIDDEN4}", value), (f"/network-server/{HIDDEN6}", value)])
        net.settle()
        for address in (HIDDEN4, HIDDEN6):
            told = entry(net.router, address)
            # some are understood and just do not let the stream in
            harmless = value.split(b"|allow=")[-1] in (b"", b"tcp/80", b"udp/10", b"udp/9 from 192.168.16.11")
            assert not told["open"] or harmless, value
            assert not net.inside.packets, value
    net.good_is_served()
    for text in (net.router.log, net.router.call("--status").stdout, net.router.call("--dry-run").stdout,
                 net.router.call("--check", check=False).stdout):
        assert not unescaped(text)
    net.sys_net.qdb.rm_many([f"/network-server/{HIDDEN4}", f"/network-server/{HIDDEN6}"])
    net.settle()
    net.knocking_works()


def test_random_records(net):
    """Pieces of the grammar put together at random: what the router calls closed is closed."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    pieces = ["v=1", "v=1|", "|", "=", "vm=hidden", "xid=13", "xid=11", "via=direct", "edge=1", "edge=0",
              "mode=forward", "allow=", "udp/9", ";", "tcp/80", " from ", "0.0.0.0/0", "::/0", "expires=",
              "2999-01-01T00:00:00Z", "\x1b", "\n", "keep=1", ",", "any"]
    for _ in range(60):
        values = ["".join(dice.choices(pieces, k=dice.randrange(1, 14))) for _ in range(50)]
        net.sys_net.qdb.write_many([(f"/network-server/{HIDDEN4}", value) for value in values])
    net.settle()
    assert not entry(net.router, HIDDEN4)["open"], f"seed {seed}"
    assert not net.inside.packets, f"seed {seed}"
    net.good_is_served()
    net.sys_net.withdraw("hidden", 4)
    net.knocking_works()


def test_foreign_text_is_escaped(make, lab):
    """Also in keys and values that only a QubesDB that is not Qubes' own lets through."""
    evil = b"\x1b]0;owned\x07\x1b[2J\x9b31m\xe2\x80\xae\r\nfake line"
    net = make()
    for number, source in enumerate(("/network-server/", "/vm-config/expose.", "/qubes-routing-method/")):
        net.sys_net.qdb.write(f"{source}10.99.0.{number + 1}", evil)
        net.sys_net.qdb.write(f"{source}10.98.0.{number + 1}", b"forward" + evil)
    net.settle()
    for call in ("--status", "--check", "--dry-run"):
        done = net.router.call(call, check=False)
        assert not unescaped(done.stdout + done.stderr) and "\nfake" not in done.stdout
        assert "10.99.0.1" in done.stdout or call == "--check"
    raw = net.router.call("--status", "--json").stdout
    assert not unescaped(raw)
    assert any("\\x1b]0;owned\\x07" in key["value"] for one in json.loads(raw)["addresses"] for key in one["keys"])
    assert not unescaped(net.router.log) and "\nfake" not in net.router.log
    assert "\\x1b]0;owned" in net.router.log
    net.good_is_served()


def test_record_without_a_qube_and_of_an_earlier_one(net):
    """The next owner of an address is not exposed by the record of the last one."""
    built, address, address6 = net.lab, "192.168.16.30", "2001:db8:16::30"
    record = "v=1|vm=old|xid=50|via=direct|edge=1|mode=forward"
    net.sys_net.qdb.write_many([(f"/network-server/{address}", record), (f"/network-server/{address6}", record)])
    wait(lambda: state(net.router, address) == state(net.router, address6) == "no-vif", "known, and no qube there")
    assert not net.lan1.arping(address, timeout=0.1) and not net.lan1.ndisc(address6, timeout=0.1)
    young = built.add(Qube("young", "sys-net", 51, address, address6))
    young.serve_tcp(80)
    inside = young.sniff("eth0", "tcp port 80 or icmp or icmp6[0] == 128")
    wait(lambda: state(net.router, address) == state(net.router, address6) == "mismatch", "the mismatch")
    assert "50" in entry(net.router, address)["reason"] and "vif51.0" in entry(net.router, address)["reason"]
    mac = net.sys_net.mac("ens6")
    net.lan1.batch(f"neigh replace {address} lladdr {mac} dev eth0 nud permanent\n"
                   f"neigh replace {address6} lladdr {mac} dev eth0 nud permanent\n")
    assert not net.lan1.can_reach(address, 80, timeout=0.2) and not net.lan1.can_reach(address6, 80, timeout=0.2)
    assert not net.lan1.ping(address, 0.1) and not inside.packets
    assert {a for a, _iface in net.sys_net.proxies()} == {WEB4, WEB6}
    net.good_is_served()
    for family in (4, 6):
        net.sys_net.expose("young", family)
    wait(lambda: net.lan1.can_reach(address, 80) and net.lan1.can_reach(address6, 80), "open with its own record")
    # the same the other way round: web ends, and somebody else comes with its address while its record stays
    net.web.stop()
    thief = built.add(Qube("thief", "sys-net", 61, WEB4, WEB6))
    thief.serve_tcp(80)
    taken = thief.sniff("eth0", "tcp port 80")
    wait(lambda: state(net.router, WEB4) == state(net.router, WEB6) == "mismatch", "the mismatch")
    for target in (WEB4, WEB6):
        net.lan1.batch(f"neigh replace {target} lladdr {mac} dev eth0 nud permanent\n")
        assert not net.lan1.can_reach(target, 80, timeout=0.2)
    assert not taken.packets
    thief.stop()
    net.web.start()
    wait(lambda: net.lan1.can_reach(WEB4, 80) and net.lan1.can_reach(WEB6, 80), "web back")


def garbage(number):
    """Keys of all kinds, none of which opens anything."""
    for i in range(number):
        yield (f"/network-server/{('qube', '-', '@downstream', '192.168.16.26-', 'fe80::')[i % 5]}{i}",
               GOOD) if i % 4 == 0 else \
              (f"/network-server/10.{90 + i % 3}.{i // 250 % 250}.{i % 250}", "garbage") if i % 4 == 1 else \
              (f"/network-server/fd00:99::{i:x}", GOOD) if i % 4 == 2 else \
              (f"/qubes-routing-method/{i}", "forward")


def test_ten_thousand_bad_keys(net):
    fresh = net.lab.add(Qube("fresh", "sys-net", 70, "192.168.16.40", "2001:db8:16::40"))
    fresh.serve_tcp(80)
    net.sys_net.qdb.write_many(garbage(10000))
    net.good_is_served()
    assert not net.inside.packets
    start = time.monotonic()
    net.sys_net.expose("fresh", 4)
    net.sys_net.expose("fresh", 6)
    wait(lambda: net.lan1.can_reach("192.168.16.40", 80, timeout=0.1), "the good exposure", 1.0)
    wait(lambda: net.lan1.can_reach("2001:db8:16::40", 80, timeout=0.1), "the good exposure, IPv6", 1.0)
    assert time.monotonic() - start < SLOW
    if PLAIN:
        assert rss(net.router) < RSS_MAX
    net.settle()
    net.good_is_served()
    # one that reads all this at its start
    net.router.usr1()
    net.router.start()
    net.good_is_served()
    if PLAIN:
        assert rss(net.router) < RSS_MAX
    wait(lambda: state(net.router, "192.168.16.40") == "open", "open under the successor")
    net.sys_net.qdb.rm("/qubes-routing-method/")
    net.settle()
    net.good_is_served()


@pytest.mark.skipif(not PLAIN, reason="memory under a sanitizer says nothing")
def test_memory_of_a_long_answer_comes_back(net):
    net.sys_net.qdb.write_many((f"/network-server/10.50.{i // 250}.{i % 250}", GOOD) for i in range(10000))
    wait(lambda: len(net.router.status()["addresses"]) == 10002, "all of them known", 10.0)
    net.good_is_served()
    assert rss(net.router) < RSS_MAX


def test_beyond_the_limit_of_addresses(net):
    """The excess is refused and said; it is served as soon as there is room."""
    net.sys_net.qdb.write_many((f"/qubes-routing-method/10.50.{i // 250}.{i % 250}", "forward") for i in range(12000))
    net.sys_net.qdb.write(f"/network-server/{HIDDEN4}", GOOD)
    wait(lambda: net.router.status()["over_limit"] >= 1, "the limit", 10.0)
    assert "limit" in net.router.log
    net.settle()
    net.good_is_served()
    net.sys_net.qdb.rm("/qubes-routing-method/")
    wait(lambda: state(net.router, HIDDEN4) == "open", "room for the good one")
    assert net.router.status()["over_limit"] == 0


def test_room_by_single_removals(net):
    net.sys_net.qdb.write_many((f"/qubes-routing-method/10.50.{i // 250}.{i % 250}", "forward") for i in range(12000))
    wait(lambda: len(net.router.status()["addresses"]) == 12000, "the limit", 10.0)
    net.settle()
    net.sys_net.qdb.write(f"/network-server/{HIDDEN4}", GOOD)
    net.settle()
    assert state(net.router, HIDDEN4) is None
    assert net.sys_net.qdb.rm_many([f"/qubes-routing-method/10.50.0.{i}" for i in range(5)]) == 5
    net.settle()
    net.inside.wait_for(lambda p: True, 2 * SLOW, "room for the good one")


# ---- a QubesDB that misbehaves -------------------------------------------------------------------------------------


class Peer:
    """Stands between the router and QubesDB. script(stream) is told each new connection and may do what it likes;
    forward() is the honest one."""

    def __init__(self, path, real):
        self.path, self.real = path, real
        self.connections = 0
        self._listener, self._open, self._threads = None, [], []

    def listen(self, script):
        """A new socket at the path, as if the daemon was started again; all old connections end."""
        self.close()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self.connections = 0
        thread = threading.Thread(target=self._accept, args=(self._listener, script), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self, listener, script):
        while True:
            try:
                sock, _address = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            threading.Thread(target=self._run, args=(script, sock), daemon=True).start()

    def _run(self, script, sock):
        with contextlib.suppress(OSError):
            script(self, sock)

    def pump(self, sock, change=None):
        """Between sock and the real daemon until one ends. change(bytes so far, data) gives what goes to the router,
        None to end the connection."""
        real = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        real.connect(self.real)
        self._open.append(real)

        def upwards():
            with contextlib.suppress(OSError):
                while data := sock.recv(65536):
                    real.sendall(data)
                real.shutdown(socket.SHUT_WR)

        threading.Thread(target=upwards, daemon=True).start()
        count = 0
        with contextlib.suppress(OSError):
            while data := real.recv(65536):
                sent = change(count, data) if change else data
                count += len(data)
                if sent is None:
                    break
                sock.sendall(sent)
        for one in (sock, real):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            os.unlink(self.path)
            self._listener = None
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._open.clear()


def honest(peer, sock):
    peer.pump(sock)


@pytest.fixture(name="behind")
def fixture_behind(lab, make):
    """A network whose router sees QubesDB through a Peer: (net, peer)."""
    peers = []

    def behind():
        built = lab()
        node = built["sys-net"]
        node.qubesdb_start()
        peer = Peer(f"{node.folder}/peer.sock", node.qubesdb_socket)
        peers.append(peer)
        peer.listen(honest)
        return make(topologies.BASIC, "--qubesdb", peer.path, built=built), peer

    yield behind
    for peer in peers:
        peer.close()


def recovers(net, peer):
    """An honest daemon again: what changed meanwhile is seen, what did not is not interrupted."""
    net.sys_net.expose("hidden", 4)
    peer.listen(honest)
    wait(lambda: state(net.router, HIDDEN4) == "open", "the router reading again", 8.0)
    net.inside.wait_for(lambda p: True, what="the stream at the qube")
    net.good_is_served()
    net.sys_net.withdraw("hidden", 4)
    wait(lambda: entry(net.router, HIDDEN4) == {}, "withdrawn")
    net.settle()
    net.inside.clear()


def test_daemon_that_ends_at_every_point(behind):
    net, peer = behind()
    sizes = []

    def measure(peer_, sock):
        total = [0]

        def count(_so_far, data):
            total[0] += len(data)
            return data

        sizes.append(total)
        peer_.pump(sock, count)

    peer.listen(measure)
    wait(lambda: net.router.status()["qubesdb"]["readable"] and len(sizes) == 2, "both connections measured")
    net.settle()
    most = max(total[0] for total in sizes)
    net.sys_net.qdb.write(f"/network-server/{HIDDEN4}", GOOD)
    wait(lambda: state(net.router, HIDDEN4) == "open", "the control")
    net.sys_net.withdraw("hidden", 4)
    net.settle()
    net.inside.clear()
    points = sorted({0, 1, 36, 71, 72, 73} | set(range(74, most, max(1, most // 20))))
    for point in points:
        def cut(so_far, data, at=point):
            return data if so_far + len(data) <= at else data[:at - so_far] if at > so_far else None

        def script(peer_, sock, cut=cut):
            peer_.pump(sock, cut)

        peer.listen(script)
        wait(lambda: peer.connections >= 1, f"the router at a daemon that ends after {point} bytes", 8.0)
        assert all(connection.alive(2 * SLOW) for connection in net.connections), point
        assert not net.inside.packets and net.router.running()
    recovers(net, peer)


def header(kind, path, length, value=b""):
    return pack(kind, path, b"")[:-4] + length.to_bytes(4, "little") + value


NONSENSE = {
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "random": random.Random(7).randbytes(100000),
    "length without end": header(RESP_OK, "/", 0xFFFFFFFF, b"x" * 1000),
    "value too long": header(RESP_OK, "/", 3072, b"x" * 3072) + pack(RESP_OK, "/"),
    "unknown answer": pack(99, "/"),
    "error": pack(RESP_ERROR, "/"),
    "another answer": pack(RESP_READ, "/", GOOD.encode()),
    "another key": pack(RESP_OK, "/other"),
    "path without end": b"\x07" + b"/" * 64 + bytes(7),
    "an event first": pack(RESP_WATCH, f"/network-server/{HIDDEN4}") * 2000,
    "a list first": pack(RESP_MULTIREAD, f"/network-server/{HIDDEN4}", GOOD.encode()) * 100,
}


def test_daemon_that_talks_nonsense(behind):
    net, peer = behind()
    for name, data in NONSENSE.items():
        def say(_peer, sock, data=data):
            sock.recv(65536)
            sock.sendall(data)
            time.sleep(0.05)
            sock.close()

        def say_second(peer_, sock, data=data):
            """The first connection gets honest service, the one that reads gets this."""
            if peer_.connections == 1:
                peer_.pump(sock)
            else:
                say(peer_, sock, data)

        for script in (say, say_second):
            peer.listen(script)
            wait(lambda: peer.connections >= (1 if script is say else 2), f"the router to hear: {name}", 8.0)
            assert all(connection.alive(2 * SLOW) for connection in net.connections), name
            assert not net.inside.packets and net.router.running(), name
            assert HIDDEN4 not in {address for address, _iface in net.sys_net.proxies()}
    assert not unescaped(net.router.log)
    recovers(net, peer)


def test_keys_that_no_daemon_would_send(behind):
    """A reading with foreign bytes in paths, repeated keys, keys outside of what was asked."""
    net, peer = behind()
    keys = [(b"/network-server/\x1b[31m", GOOD), (f"/network-server/{HIDDEN4}\n".encode(), GOOD), (b"no-slash", GOOD),
            (b"/network-server/" + b"1" * 47, GOOD), (b"/vm-config/expose.\xff\xfe", GOOD),
            (b"/network-server//" + HIDDEN4.encode(), GOOD), (b"/network-server/" + HIDDEN4.encode() + b"%ens6", GOOD),
            (b"/network-server/fe80::1%ens6", GOOD), (b"/network-server/ " + HIDDEN4.encode(), GOOD),
            (b"/other/" + HIDDEN4.encode(), GOOD), (f"/network-server/{HIDDEN4}x".encode(), GOOD),
            # these two are keys, with a value that Qubes' daemon does not take
            (f"/network-server/{HIDDEN4}".encode(), GOOD + "\0"),
            (f"/network-server/{HIDDEN6}".encode(), "\0" * 100 + GOOD)]
    extra = b"".join(pack(RESP_MULTIREAD, path, value.encode()) for path, value in keys)

    def script(peer_, sock):
        number = peer_.connections
        done = []

        def change(_so_far, data):
            if number > 1 and not done:
                done.append(True)
                return extra + data
            return data

        peer_.pump(sock, change)

    peer.listen(script)
    wait(lambda: peer.connections >= 2, "the second connection", 8.0)
    wait(lambda: net.router.status()["qubesdb"]["readable"] or "cannot be read" in net.router.log, "a verdict on them")
    assert all(connection.alive(2 * SLOW) for connection in net.connections) and not net.inside.packets
    assert not unescaped(net.router.log) and not unescaped(net.router.call("--status").stdout)
    recovers(net, peer)


def test_daemon_that_hangs(behind):
    """It takes requests and never answers: what is open stays, what has to close closes, nothing opens."""
    net, peer = behind()
    hold = threading.Event()

    def script(_peer, sock):
        with contextlib.suppress(OSError):
            sock.recv(65536)
            hold.wait(30)

    peer.listen(script)
    net.sys_net.expose("hidden", 4)
    wait(lambda: not net.router.status()["qubesdb"]["readable"], "the router to notice", 8.0)
    net.good_is_served()
    assert "cannot be read" in net.router.call("--status").stdout
    net.web.offline()
    wait(lambda: state(net.router, WEB4) == "no-vif", "the withdrawal of a qube that left")
    assert not net.lan1.can_reach(WEB4, 80, timeout=0.2) and not net.sys_net.proxies()
    net.web.online()
    net.sys_net.batch("link set ens6 mtu 1499\n")  # something to look at
    assert not net.inside.packets and net.router.running()
    hold.set()
    peer.listen(honest)
    wait(lambda: state(net.router, HIDDEN4) == state(net.router, WEB4) == "open", "the router reading again", 8.0)
    assert net.lan1.can_reach(WEB4, 80) and net.lan1.can_reach(WEB6, 80)


def test_daemon_with_a_stutter(behind):
    """Each byte for itself, events in the middle of a reading: slow is not wrong."""
    net, peer = behind()

    def script(peer_, sock):
        def change(_so_far, data):
            for at in range(0, len(data), 7):
                sock.sendall(data[at:at + 7])
            return b""

        peer_.pump(sock, change)

    peer.listen(script)
    wait(lambda: peer.connections >= 2 and net.router.status()["qubesdb"]["readable"], "a complete reading", 8.0)
    net.sys_net.expose("hidden", 4)
    net.inside.wait_for(lambda p: True, what="the stream at the qube")
    net.good_is_served()


# ---- the status socket ---------------------------------------------------------------------------------------------


def dial(router):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(router.control)
    sock.settimeout(2 * SLOW)
    return sock


def test_status_for_rude_clients(net):
    with dial(net.router) as sock:
        for question in (b"\n", b"status", b"\0" * 16, b"x" * 1000, b"status\nstatus\n", b"STATUS\n", b"\xff\n",
                         b"check me\n"):
            with dial(net.router) as other, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                other.sendall(question)
                if question == b"status":
                    other.shutdown(socket.SHUT_WR)
                answer = b""
                while data := other.recv(65536):
                    answer += data
                assert answer == b"" or json.loads(answer)
        sock.sendall(b"sta")
        net.settle()
        sock.sendall(b"tus\n")
        with sock.makefile("rb") as stream:
            assert json.loads(stream.read())["open"] == 2
    net.good_is_served()


def descriptors(router):
    return len(os.listdir(f"/proc/{router.process.pid}/fd"))


def test_status_for_those_who_never_read(net):
    net.sys_net.qdb.write_many(garbage(4000))  # a long answer
    net.settle()
    before, memory = descriptors(net.router), rss(net.router)
    rude = [dial(net.router) for _ in range(6)]
    for sock in rude:
        sock.sendall(b"status\n")
    assert net.router.status()["open"] == 2
    net.good_is_served()
    assert not PLAIN or rss(net.router) - memory < 64 << 20
    wait(lambda: descriptors(net.router) <= before, "the end of their time", 8.0)
    for sock in rude:
        sock.close()


@pytest.mark.parametrize("said", [pytest.param(b"", id="silent"), pytest.param(b"stat", id="half"),
                                  pytest.param(b"status\n", id="deaf")])
def test_hundred_clients_at_the_status_socket(net, said):
    """Whatever they do, somebody else still gets an answer, and the router does not grow."""
    before = descriptors(net.router)
    rude = []
    for _ in range(100):
        rude.append(dial(net.router))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            rude[-1].sendall(said)
    net.good_is_served()
    assert descriptors(net.router) <= before + 16
    start = time.monotonic()
    assert wait(lambda: net.router.call("--status", check=False).returncode == 0, "an answer", 2.0)
    assert time.monotonic() - start < SLOW
    for sock in rude:
        sock.close()
    net.settle()
