# SPDX-License-Identifier: GPL-2.0-or-later
"""Over boots, upgrades and removal, judged from the other end of the wire and from a qube."""

import collections
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time

import pytest

from lab.node import wait_until
from tests.system.machines import SLOW, ip
from tests.system.test_packages import NET, ROUTER, SEAL, VPN, net, sealed, vpn  # noqa: F401, the fixtures

WEB = "192.168.16.25"
_SO_RCVBUFFORCE = 33
_ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind((sys.argv[1], 7))
    print("ready", flush=True)
    while True:
        data, peer = s.recvfrom(2048)
        s.sendto(data, peer)
"""


class Wire:
    """Everything that comes out of a machine, from before its power-on."""

    def __init__(self, machine):
        self.frames = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._socket.bind((machine.far, 3))
        self._socket.settimeout(0.2)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._end.is_set():
            try:
                data, origin = self._socket.recvfrom(65536)
            except TimeoutError:
                continue
            except OSError:  # the cable is gone
                continue
            if origin[2] != socket.PACKET_OUTGOING:
                self.frames.append(data)

    def stop(self):
        self._end.set()
        self._thread.join()
        self._socket.close()
        return self.frames


def kinds(frames):
    """How many frames of what: ARP and neighbour discovery for its own address are what a sealed uplink may say."""
    found = collections.Counter()
    for frame in frames:
        kind = int.from_bytes(frame[12:14], "big")
        if kind == 0x0806:
            found["arp"] += 1
        elif kind == 0x86DD and frame[20] == 58 and frame[54] in (135, 136):
            found["nd"] += 1
        else:
            found[f"{kind:#06x} " + frame[14:74].hex()] += 1
    return found


@contextlib.contextmanager
def running(*words):
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def _one_boot(machine):
    """Power on, a talkative program inside and a qube behind, orderly power off: what came out."""
    machine.wire()
    ip("addr", "add", "10.137.0.1/32", "dev", machine.far)
    ip("route", "add", "10.137.0.6", "dev", machine.far)
    wire = Wire(machine)
    machine.boot()
    machine.wait_active("qubes-network-uplink.service")
    machine.wait_active("qubes-network.service")
    work = machine.world.qube(machine, "work", 12, "10.137.0.21")
    with running("ip", "netns", "exec", work, "ping", "-n", "-q", "-i", "0.02", "198.51.100.1"):
        time.sleep(1.0)
        missing = sealed(machine) if machine.status("test", "-e", "/usr/bin/qubes-vpn-forwarding") == 0 else None
        order = [int(machine.show(unit, "ActiveEnterTimestampMonotonic"))
                 for unit in (SEAL, "network-pre.target", "qubes-network.service")]
        machine.stop()
    return kinds(wire.stop()), missing, order


@pytest.mark.parametrize("packages", [["qubes-vpn"], []], ids=["sealed", "control"])
def test_silent_from_power_on(vpn, packages):  # noqa: F811
    """At each boot the uplink is sealed before the network: at the other end nothing but ARP and ND is ever heard."""
    machine = vpn(*packages)
    machine.write("/etc/qubes-stand-in/chatter", "")
    for _ in range(2):
        heard, missing, order = _one_boot(machine)
        print(dict(heard))
        other = {kind: count for kind, count in heard.items() if kind not in ("arp", "nd")}
        if packages:
            assert other == {}
            assert missing == []
            assert 0 < order[0] <= order[1] and order[0] <= order[2], order
        else:
            text = "".join(other)
            assert socket.inet_aton("198.51.100.1").hex() in text, "the qube's packets are seen"
            assert socket.inet_aton("10.137.0.6").hex() in text


class Flow:
    """Datagrams of a LAN host to the qube and back, each with a number."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self.socket.connect((WEB, 7))
        self.sent, self.back = 0, set()

    def once(self, wait):
        """Sends the next one, and takes what comes until it is answered, at most `wait` seconds."""
        self.sent += 1
        with contextlib.suppress(OSError):  # of an earlier one
            self.socket.send(str(self.sent).encode())
        end = time.monotonic() + wait
        while self.sent not in self.back:
            if not select.select([self.socket], [], [], max(0.0, end - time.monotonic()))[0]:
                return False
            with contextlib.suppress(OSError):
                self.back.add(int(self.socket.recv(64)))
        return True


@contextlib.contextmanager
def exposed(machine, domid=11):
    """The machine as net qube of an exposed qube that answers; the sandbox is the LAN host."""
    if not os.path.exists(f"/sys/class/net/{machine.far}"):
        machine.wire()
        ip("addr", "add", "192.168.16.10/24", "dev", machine.far)
    machine.boot()
    machine.wait_active(ROUTER)
    machine.wait_active("qubes-network.service")
    web = machine.world.qube(machine, "web", domid, WEB)
    with running("ip", "netns", "exec", web, sys.executable, "-c", _ECHO, WEB) as echo:
        assert echo.stdout.readline() == b"ready\n"
        with machine.qubesdb() as qdb:
            qdb.write("/network-server", "v=1")
            flow = Flow()
            assert not flow.once(0.5), "closed before it is exposed"
            qdb.write(f"/network-server/{WEB}", f"v=1|vm=web|xid={domid}|via=direct|edge=1|mode=forward|allow=udp/7")
        flow = Flow()
        wait_until(lambda: flow.once(0.3), 10 * SLOW, "the exposed qube answers")
        yield Flow()


def test_exposure_over_reboots(net):  # noqa: F811
    """Orderly and by power cut: exposed again after each."""
    machine = net("qubes-network-server")
    for domid, end in ((11, machine.stop), (12, machine.cut), (13, machine.stop)):
        with exposed(machine, domid) as flow:
            assert flow.once(2)
        subprocess.run(["ip", "netns", "del", "web"], check=True)
        machine.world._spaces.remove("web")  # pylint: disable=protected-access
        end()


class Steady(threading.Thread):
    """Datagrams at an even pace until stop()."""

    def __init__(self, flow, pace=0.005):
        super().__init__(daemon=True)
        self.flow, self.pace, self.end = flow, pace, threading.Event()

    def run(self):
        while not self.end.wait(self.pace):
            self.flow.once(0)

    def stop(self):
        self.end.set()
        self.join()
        limit = time.monotonic() + 3 * SLOW
        while len(self.flow.back) < self.flow.sent and time.monotonic() < limit:
            if select.select([self.flow.socket], [], [], 0.1)[0]:
                self.flow.back.add(int(self.flow.socket.recv(64)))
        return sorted(set(range(1, self.flow.sent + 1)) - self.flow.back)


def test_upgrade_under_traffic(net, install, later):  # noqa: F811
    """A later version comes while an exposed qube is talked to: another process serves, no datagram is lost."""
    machine = net("qubes-network-server")
    with exposed(machine) as flow:
        before = machine.show(ROUTER, "MainPID")
        steady = Steady(flow)
        steady.start()
        install(machine, "qubes-network-server", folder=later)
        wait_until(lambda: machine.active(ROUTER) == "active", 10 * SLOW, "router back")
        assert machine.show(ROUTER, "MainPID") != before
        assert "+later" in machine.run("dpkg-query", "-W", "qubes-network-server")
        assert flow.sent > 20
        assert steady.stop() == []
        # Control: a stop withdraws, and this is how it looks.
        flow = Flow()
        steady = Steady(flow)
        steady.start()
        wait_until(lambda: flow.back, 5 * SLOW, "answers")
        machine.run("systemctl", "stop", ROUTER)
        wait_until(lambda: flow.sent - max(flow.back) > 20, 5 * SLOW, "answers end")
        assert steady.stop() != []


def _watch_seal(machine, end, gaps, looks):
    """Looks at the kernel, not at the program, as often as it can."""
    while not end.is_set():
        # Not what nft says of a table that is missing: its name is in there too.
        rules = machine.run("sh", "-c", "ip rule; ip -6 rule; nft list chain inet qubes-vpn forward 2> /dev/null; "
                                        "nft list chain netdev qubes-vpn egress 2> /dev/null", check=False)
        if rules.count("80:\tfrom all blackhole") != 2 or rules.count("chain ") != 2:
            gaps.append(rules)
        looks.append(1)


def test_seal_over_upgrade_and_purge(vpn, install, later):  # noqa: F811
    """An upgrade is never a moment of openness; a purge takes the files, not the seal, and not the user's folder."""
    machine = vpn()
    machine.boot()
    before = _files(machine)
    install(machine, "qubes-vpn")
    machine.wait_active(VPN)
    machine.write("/rw/config/qubes-vpn/mine.ovpn", "remote 192.0.2.1\n")
    assert sealed(machine) == []
    machine.run("ping", "-c1", "-W1", machine.gateway, check=False)
    wire = Wire(machine)
    work = machine.world.qube(machine, "work", 12, "10.137.0.21")
    end, gaps, looks = threading.Event(), [], []
    watcher = threading.Thread(target=_watch_seal, args=(machine, end, gaps, looks))
    with running("ip", "netns", "exec", work, "ping", "-n", "-q", "-i", "0.01", "198.51.100.1"):
        watcher.start()
        before_pid = machine.show(SEAL, "MainPID")
        install(machine, "qubes-vpn", folder=later)
        machine.wait_active(VPN)
        assert machine.show(SEAL, "MainPID") != before_pid
        wait_until(lambda: not sealed(machine), 10 * SLOW, "sealed after the upgrade", 0.1)
        machine.run("apt-get", "purge", "-y", "-q", "qubes-vpn")
        machine.run("systemctl", "daemon-reload")
        end.set()
        watcher.join()
    other = {kind: count for kind, count in kinds(wire.stop()).items() if kind not in ("arp", "nd")}
    assert gaps == [] and other == {}
    assert len(looks) > 20
    left = {name for name in _files(machine) - before if not name.startswith("/rw/config/qubes-vpn")}
    left = {name for name in left if not name.startswith(("/var/cache/", "/var/lib/dpkg/", "/var/lib/apt/", "/var/log/"))}
    assert {name for name in left if "libc-ares" not in name and "libcares" not in name} == set()
    assert machine.status("test", "-e", "/rw/config/qubes-vpn/mine.ovpn") == 0


def _files(machine):
    text = machine.run("sh", "-c", "find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/dev/*' "
                                   "-not -path '/tmp/*'; find /run -path '*qubes-vpn*' -not -path '/run/qubes-service/*'")
    return set(text.splitlines())
