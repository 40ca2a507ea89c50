# SPDX-License-Identifier: GPL-2.0-or-later
"""Real tunnels on booted machines: the packages by apt, a provider's file where the user puts it, nothing else done by
hand. Judged by the answers that a qube behind gets, and by every frame that comes out of the machine from power-on."""

import contextlib
import itertools
import os
import random
import socket
import threading
import time
from dataclasses import replace

import pytest

from lab import topologies
from lab.lab import Lab
from lab.node import _setns, wait_until
from lab.vpn_provider import ECHO, SITES, TARGET, Provider
from tests.system.machines import SLOW, ip
from tests.system.test_life import Wire, kinds
from tests.system.test_packages import NET, SEAL, VPN, sealed

MARK = b"sluice-inner-packet"
PROFILES = "/rw/config/qubes-vpn"
WORK = "10.137.0.21"
OUTSIDE = replace(topologies.VPN, netqubes=(), qubes=())
KINDS = ("openvpn", "wireguard")
PORTS = {"openvpn": 1194, "wireguard": 51820}
_domids = itertools.count(12)


class Asker:
    """A program in a qube behind that asks the target all the time, each question with a number; who answers says which
    way it took."""

    def __init__(self, space, pace=0.02):
        self.ways, self.sent, self.pace = [], 0, pace
        self.socket = _socket_in(space)
        self.socket.settimeout(0)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._end.wait(self.pace):
            self.sent += 1
            with contextlib.suppress(OSError):
                self.socket.sendto(MARK + b" %d" % self.sent, (TARGET, ECHO))
            with contextlib.suppress(OSError):
                while True:
                    self.ways.append(self.socket.recv(4096).split()[0].decode())

    def wait_answer(self, timeout=30):
        """Until a question asked from now on is answered; returns the way it took."""
        before = len(self.ways) + 2  # what was under way
        wait_until(lambda: len(self.ways) > before, timeout * SLOW, f"answers ({self.sent} asked)", 0.02)
        return self.ways[-1]

    def stop(self):
        self._end.set()
        self._thread.join()
        self.socket.close()
        return set(self.ways)


def _socket_in(space):
    """A UDP socket of a named network namespace."""
    made = []

    def work():
        with open(f"/run/netns/{space}", "rb") as file:
            _setns(file.fileno())
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture
def provider():
    """The Internet with a VPN provider; this side of it, net qube of the machine, is the sandbox itself."""
    with Lab(OUTSIDE) as lab:
        ip("link", "add", "wan", "type", "veth", "peer", "name", "below", "netns", os.path.basename(lab["internet"].path))
        ip("addr", "replace", "192.0.2.1/30", "dev", "wan")
        ip("link", "set", "wan", "up")
        lab["internet"].batch("addr add 192.0.2.2/30 dev below\nlink set below up\nroute add 10.137.0.0/16 via 192.0.2.1\n")
        ip("route", "replace", "default", "via", "192.0.2.2")
        with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
            file.write("1\n")
        yield Provider(lab)
        ip("link", "del", "wan")


def start_server(provider, kind):
    """The server of a provider and the file of a customer: (name, text)."""
    if kind == "openvpn":
        return provider.openvpn("server"), ("mine.ovpn", provider.openvpn_text())
    return provider.wireguard("server"), ("mine.conf", provider.wireguard_text())


def power_on(machine):
    """The cable, somebody who listens on it, then the machine; returns the listener and a qube behind that asks."""
    machine.wire()
    ip("addr", "add", "10.137.0.1/32", "dev", machine.far)
    ip("route", "add", "10.137.0.6", "dev", machine.far)
    wire = Wire(machine)
    machine.boot()
    machine.wait_active("qubes-network.service")
    if "work" in machine.world._spaces:  # pylint: disable=protected-access
        ip("netns", "del", "work")
        machine.world._spaces.remove("work")  # pylint: disable=protected-access
    return wire, Asker(machine.world.qube(machine, "work", next(_domids), WORK))


def state(machine):
    return machine.run("qubes-vpn", "status", check=False)


def leaks(frames, port):
    """What is neither ARP, ND nor the carrier; the inside of a tunnel is nowhere to be read."""
    ends = socket.inet_aton("10.137.0.6") + socket.inet_aton(SITES["server"].ip)
    carrier = [frame for frame in frames if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[26:34] == ends
               and (int.from_bytes(frame[36:38], "big") == port or int.from_bytes(frame[20:22], "big") & 0x1FFF)]
    known = set(map(id, carrier))
    found = kinds([frame for frame in frames if id(frame) not in known])
    found["in clear"] = sum(MARK in frame for frame in frames)
    return {what: count for what, count in found.items() if what not in ("arp", "nd") and count}, len(carrier)


@pytest.fixture
def machine(world, debs):
    return world.machine("vpn", services=[*NET, "qubes-vpn"], files=[*debs("qubes-vpn"), "wireguard-go"])


@pytest.mark.parametrize("kind", KINDS)
def test_up_by_itself(machine, provider, kind):
    """From the first boot on, after an orderly one and after a power cut: the tunnel comes up with nobody's help, the qube
    behind is answered through it, and from power-on nothing but the carrier is heard."""
    _server, (name, text) = start_server(provider, kind)
    machine.write(f"{PROFILES}/{name}", text)
    for end in (machine.stop, machine.cut, machine.cut):
        wire, asker = power_on(machine)
        began = time.monotonic()
        try:
            assert asker.wait_answer(60) == "VPN"
        except TimeoutError as error:
            raise AssertionError(state(machine) + machine.run("journalctl", "-b", "-o", "cat", "-u", VPN)) from error
        print(f"{kind}: answered after {time.monotonic() - began:.2f} s")
        assert sealed(machine) == []
        if end == machine.stop:  # once: its own leak test, as it is installed
            machine.run("qubes-vpn", "test", timeout=120)
        assert asker.stop() == {"VPN"}
        end()
        other, carried = leaks(wire.stop(), PORTS[kind])
        assert other == {} and carried > 3


def processes(machine, kind):
    """Process ids (inside) of client, supervisor, owner."""
    client = machine.run("pgrep", "-x", "openvpn" if kind == "openvpn" else "wireguard-go", check=False).split()
    return {"client": client, "supervisor": [machine.show(VPN, "MainPID")], "owner": [machine.show(SEAL, "MainPID")]}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_any_order(machine, provider, kind):
    """Client, supervisor and owner are killed one after the other, in half of the orders (the other kind has the other
    half), and by systemctl as a whole, while a qube talks: sealed at each look, nothing in clear, and the tunnel is back
    each time."""
    _server, (name, text) = start_server(provider, kind)
    machine.write(f"{PROFILES}/{name}", text)
    wire, asker = power_on(machine)
    assert asker.wait_answer(60) == "VPN"
    orders = list(itertools.permutations(("client", "supervisor", "owner")))
    random.Random(6).shuffle(orders)
    for order in orders[KINDS.index(kind)::2]:
        for who in order:
            found = [pid for pid in processes(machine, kind)[who] if pid != "0"]
            if found:
                machine.run("kill", "-KILL", *found, check=False)
            _armed(machine, order, who)
        _back(machine, asker, order)
    for unit in (VPN, SEAL):
        machine.run("systemctl", "kill", "-s", "KILL", unit)
        _armed(machine, unit)
        _back(machine, asker, unit)
    assert asker.stop() == {"VPN"}
    other, carried = leaks(wire.stop(), PORTS[kind])
    assert other == {} and carried > 3
    # Control: without the seal the same question is heard.
    machine.run("systemctl", "mask", "--runtime", "--now", VPN, SEAL)
    wire = Wire(machine)
    _tear_down(machine)
    asker = Asker("work")
    wait_until(lambda: leaks(list(wire.frames), PORTS[kind])[0].get("in clear"), 10 * SLOW, "the qube is heard in clear")
    asker.stop()
    wire.stop()


def _armed(machine, *when):
    rules = machine.run("sh", "-c", "ip rule; nft list chain inet qubes-vpn forward; nft list chain netdev qubes-vpn egress",
                        check=False)
    assert "80:\tfrom all blackhole" in rules and rules.count("chain ") == 2, (when, rules)


def _back(machine, asker, when):
    try:
        assert asker.wait_answer(60) == "VPN"
    except TimeoutError as error:
        raise AssertionError(f"{when}: " + state(machine) + machine.run("journalctl", "-b", "-o", "short-monotonic", "-n",
                                                                     "60")) from error
    wait_until(lambda: not sealed(machine), 20 * SLOW, f"sealed after {when}", 0.1)


def _tear_down(machine):
    """What only root can do, and the product has no command for."""
    machine.run("sh", "-c", "nft flush ruleset; for f in -4 -6; do ip $f rule | grep -v -e '^0:' -e '^3276[67]:' | "
                            "while read pref rest; do ip $f rule del pref ${pref%:}; done; done; "
                            "echo 1 > /proc/sys/net/ipv4/ip_forward")
