# SPDX-License-Identifier: GPL-2.0-or-later
"""A few exposures: how soon a change is there and is seen in the LAN, what it costs to do nothing, taking over."""

import contextlib
import select
import socket
import time

import scale
from lab.lab import Lab
from lab.node import wait_until
from lab.router import program

FEW = 10
ROUNDS = 3


def numbers(text):
    """Milliseconds of the nanoseconds that a measuring program printed, one list for each column."""
    rows = [line.split() for line in text.splitlines()]
    return [[int(value) / 1e6 for value in column] for column in zip(*rows)]


def reaction(net, key, value, count, pause_ms=60):
    """Milliseconds until the element is there, and until it is gone."""
    return numbers(net.run([program("tests/bench/bench-reaction"), net.qubesdb_socket, "network-server-any", key, value,
                            str(count), str(pause_ms)], timeout=300).stdout)


def older_way(net, address, count):
    """What the older package did for each further address: a list and two new rules, a process each."""
    lines = ("list chain ip qubes forward\n"
             f"add rule ip qubes custom-forward ip daddr {address} accept\n"
             f"add rule ip qubes custom-forward ip saddr {address} accept\n")
    out = net.run([program("tests/bench/bench-processes"), "/usr/sbin/nft", str(count), "20"], input=lines, timeout=300)
    net.nft("flush chain ip qubes custom-forward\n")
    return numbers(out.stdout)[0]


def contact(lan, address, mac, count, pause_ms, change=("-", "-", "-")):
    return numbers(lan.run([program("tests/bench/bench-contact"), "first", "eth0", address, "80", mac, str(count),
                            str(pause_ms), *change], timeout=300).stdout)[0]


def real_client(net, lan, address, key, value, count):
    """An ordinary client without neighbour entry that connects at the moment of the write."""
    taken = []
    for _ in range(count):
        lan.neighbour_forget(address)
        begin = time.monotonic()
        net.qdb.write(key, value)
        lan.connect_tcp(address, 80, 5.0).close()
        taken.append((time.monotonic() - begin) * 1000)
        net.qdb.rm(key)
        wait_until(lambda: not lan.can_reach(address, 80, timeout=0.05), what="closed again")
    return taken


def older_network():
    """A network as the older package leaves it: everything proxied on the uplink, the kernel's delay as it is."""
    lab = Lab(scale.topology())
    lab["sys-net"].sysctl("net/ipv4/conf/ens6/proxy_arp", 1)
    lab["web"].serve_tcp(80)
    return lab


def measure_changes(report, lab, older, quick):
    net, lan, web = lab["sys-net"], lab["lan1"], lab["web"]
    address = web.spec.ip
    key, value = f"/network-server/{address}", scale.record(web)
    change = (net.qubesdb_socket, key, value)
    count = 5 if quick else 25
    there, gone, baseline = [], [], []
    for _ in range(ROUNDS):
        opened, closed = reaction(net, key, value, count)
        there += opened
        gone += closed
        baseline += older_way(older["sys-net"], address, count)
    report.row("QubesDB write → rules in place", there, "ms", 2, baseline, "3 nft processes")
    report.row("QubesDB removal → rules gone", gone, "ms", None, baseline, "3 nft processes")
    count = 5 if quick else 30
    report.row("QubesDB write → first SYN answered, client knows the MAC",
               contact(lan, address, net.mac("ens6"), count, 60, change), "ms", 5)
    report.row("the same, client asks by ARP first", contact(lan, address, "-", count, 60, change), "ms", 5)
    report.row("the same, an ordinary client whose only ARP request comes too early",
               real_client(net, lan, address, key, value, 3 if quick else 7), "ms")
    net.qdb.write(key, value)
    wait_until(lambda: lan.can_reach(address, 80), what="web open")
    older["sys-net"].nft("add rule ip qubes custom-forward oifgroup 2 tcp dport 80 accept\n")
    report.row("open already: first ARP request → SYN/ACK", contact(lan, address, "-", count, 20), "ms", None,
               contact(older["lan1"], address, "-", 3 if quick else 10, 20), "proxy_arp, kernel's delay")
    net.qdb.rm(key)


def measure_conflict(report, lab, quick):
    net, lan, web = lab["sys-net"], lab["lan2"], lab["web"]
    key, value = f"/network-server/{web.spec.ip}", scale.record(web)
    out = lan.run([program("tests/bench/bench-contact"), "conflict", "eth0", web.spec.ip, str(3 if quick else 10),
                   "200", net.qubesdb_socket, key, value], timeout=120).stdout
    report.row("another host says it has the address → our last ARP reply (asked every 0.2 ms)", numbers(out)[0],
               "ms", 10)


class Probe:
    """One datagram each millisecond, by a flow that is established and by a new one each time, and what comes back."""

    def __init__(self, lan, address, port):
        self.lan, self.to = lan, (address, port)
        self.sent, self.answered = {"old": 0, "new": 0}, {"old": 0, "new": 0}
        self._old = self._open()
        self._waiting = []

    def _open(self):
        sock = self.lan.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self.to)
        return sock

    def _take(self, timeout):
        ready, _, _ = select.select([self._old, *self._waiting], [], [], timeout)
        for sock in ready:
            with contextlib.suppress(OSError):
                sock.recv(2048)
                self.answered["old" if sock is self._old else "new"] += 1
            if sock is not self._old:
                self._waiting.remove(sock)
                sock.close()

    def run(self, seconds):
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            new = self._open()
            self._waiting.append(new)
            for name, sock in (("old", self._old), ("new", new)):
                with contextlib.suppress(OSError):
                    sock.send(b"?")
                    self.sent[name] += 1
            while (left := now + 0.001 - time.monotonic()) > 0:
                self._take(left)

    def close(self):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            self._take(0.05)
        for sock in (self._old, *self._waiting):
            sock.close()
        return {name: self.sent[name] - self.answered[name] for name in self.sent}


def measure_takeover(report, lab, router, quick):
    net, lan, web = lab["sys-net"], lab["lan1"], lab["web"]
    web.serve_udp(7, web.spec.ip)
    key, value = f"/network-server/{web.spec.ip}", scale.record(web)
    net.qdb.write(key, value)
    wait_until(lambda: lan.can_reach(web.spec.ip, 7, "udp"), what="web open")
    lost = {"old": [], "new": []}
    for _ in range(2 if quick else 5):
        probe = Probe(lan, web.spec.ip, 7)
        probe.run(0.1)
        router.kill9()
        probe.run(0.1)
        router.start()
        probe.run(0.2)
        for name, number in probe.close().items():
            lost[name].append(number)
    report.row("killed and started again: datagrams lost of a running flow (one each ms)", lost["old"], "packets", 0)
    report.row("the same, a new flow each time", lost["new"], "packets", 0)
    net.qdb.rm(key)


def measure_idle(report, router, quick):
    process = scale.Process(router.process.pid)
    process.wait_quiet()
    report.row(f"resident memory with {FEW} addresses", [process.rss_kib / 1024], "MiB", 4)
    report.row("of it not shared with other programs (proportional)", [process.pss_kib / 1024], "MiB")
    seconds = 12 if quick else 60
    before, cpu = process.wakeups, process.cpu_s
    time.sleep(seconds)
    # 6: the watchdog's
    report.row("wake-ups when idle", [(process.wakeups - before) * 60 / seconds], "a minute", 6 if not quick else 10)
    report.row("CPU time when idle", [(process.cpu_s - cpu) * 60000 / seconds], "ms a minute")


def measure(report, quick):
    report.part(f"{FEW} addresses")
    with Lab(scale.topology()) as lab, older_network() as older:
        net = lab["sys-net"]
        router = net.router()
        lab["web"].serve_tcp(80)
        scale.write_records(net, scale.attach(lab, scale.filler(4, FEW)))
        wait_until(lambda: scale.elements(net, "network-server-any") == FEW, what="all served")
        measure_changes(report, lab, older, quick)
        measure_takeover(report, lab, router, quick)
        measure_conflict(report, lab, quick)
        measure_idle(report, router, quick)
