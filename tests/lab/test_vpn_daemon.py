# SPDX-License-Identifier: GPL-2.0-or-later
"""The supervisor in a VPN qube of the lab: a tunnel comes up, stays up, comes back, and ends; whatever happens, no
qube behind is answered from the clear side."""

import contextlib
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import threading

import pytest

from lab import topologies
from lab.node import wait_until
from lab.router import GRACEFUL, SLOW, program
from lab.topologies import TARGET, TARGET6
from lab.vpn import COMMAND, SUPERVISOR, Seal, Supervisor, available
from lab.vpn_provider import NAME, VPN_ANSWER, VPN_DNS, Provider, resolve, way

pytestmark = pytest.mark.skipif(not available(SUPERVISOR), reason="qubes-vpnd is not built")


class Watch:
    """Asks all the time which way the target is from a qube; answers: what was heard, in order."""

    def __init__(self, node, address=TARGET):
        self.answers, self._node, self._address, self._end = [], node, address, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._end.is_set():
            self.answers.append(way(self._node, self._address, timeout=0.1))

    def end(self):
        """Everything heard; fails when the clear side was among it."""
        self._end.set()
        self._thread.join()
        assert "CLEAR" not in self.answers
        return self.answers


@pytest.fixture
def net(lab):
    return lab(topologies.VPN)


@pytest.fixture
def provider(net):
    return Provider(net)


@pytest.fixture
def vpn(net):
    return net["vpn"]


@pytest.fixture
def seal(vpn):
    return Seal(vpn)


def options(node):
    service = f"{node.folder}/service"
    os.makedirs(service, exist_ok=True)
    resolv = f"{node.folder}/resolv.conf"
    open(resolv, "a", encoding="ascii").close()
    return ["--service-dir", service, "--resolv-conf", resolv, "--proxy-user", "daemon"]


@pytest.fixture
def vpnd(vpn, seal):
    return Supervisor(vpn, seal, arguments=options(vpn))


@pytest.fixture
def work(net):
    """A qube behind, watched for the whole test."""
    watch = Watch(net["work"])
    yield net["work"]
    watch.end()


def through(node, address=TARGET, proto="udp", timeout=5.0):
    wait_until(lambda: way(node, address, proto, 0.2) == "VPN", timeout * SLOW, f"{node.spec.name} gets through")


def state_file(vpnd):
    with open(f"{vpnd.runtime}/state.json", encoding="utf-8") as file:
        return json.load(file)


def resolver(vpn, *servers):
    """The name servers that the platform gives the VPN qube."""
    vpn.qubesdb_start([(f"/qubes-{name}-dns", server) for name, server in zip(("primary", "secondary"), servers)])


# -- up ----------------------------------------------------------------------------------------------------------------

def test_openvpn_carries_everything(net, provider, vpn, vpnd, work):
    provider.openvpn()
    assert vpnd.wait_state("unconfigured")
    vpnd.install(provider.openvpn_profile())
    vpnd.wait_state("up")
    for node in (work, net["play"]):
        for address in (TARGET, TARGET6):
            for proto in ("udp", "tcp"):
                through(node, address, proto)
    assert provider.inside.peers[-1] in ("10.8.0.2", "fd00:8::2")
    for tcp in (False, True):
        for server in ("10.139.1.1", "10.139.1.2"):
            assert resolve(work, "secret.example", server, tcp=tcp) == [VPN_ANSWER]
    assert provider.clear_dns.queries == []
    assert way(vpn) is None and way(vpn, TARGET6) is None  # the VPN qube itself goes nowhere
    state = state_file(vpnd)
    assert state["state"] == "up" and state["profile"] == "provider.ovpn"
    assert state["tunnel"]["address4"] == "10.8.0.2" and state["tunnel"]["dns"] == [VPN_DNS]
    assert any(line.startswith("STATUS=up, profile provider.ovpn") for line in vpnd.notifications)


def test_wireguard_carries_everything(provider, vpnd, work):
    provider.wireguard()
    vpnd.install(provider.wireguard_profile())
    vpnd.wait_state("up")
    for address in (TARGET, TARGET6):
        through(work, address)
    assert resolve(work, "secret.example") == [VPN_ANSWER]
    assert state_file(vpnd)["tunnel"]["address4"] == "10.66.0.2"


@contextlib.contextmanager
def bus_listener(vpnd):
    """A connection to the supervisor's socket that only hears; b"".join(bytes) is what it heard."""
    heard, sock = [], socket.socket(socket.AF_UNIX)

    def work():
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                heard.append(data)

    with sock:
        sock.connect(vpnd.bus)
        sock.sendall(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield heard
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_traffic_alone_is_no_news(provider, vpnd, work):
    """Counters are for those who ask: whoever follows the object is not woken every tick of a tunnel in use."""
    provider.openvpn()
    vpnd.install(provider.openvpn_profile())
    vpnd.wait_state("up")
    through(work)
    with bus_listener(vpnd) as heard:
        before = state_file(vpnd)["bytes_in"]
        wait_until(lambda: state_file(vpnd)["bytes_in"] > before, 15 * SLOW, "the counters moved", 0.1)
        assert vpnd.status()["bytes_in"] > before
        assert b"PropertiesChanged" not in b"".join(heard)
        vpnd.command.run("down")  # and it would have been heard
        wait_until(lambda: b"PropertiesChanged" in b"".join(heard), 5 * SLOW, "a change")


@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_server_by_name(provider, vpn, vpnd, work, kind):
    resolver(vpn, "10.139.1.1", "10.139.1.2")
    if kind == "openvpn":
        provider.openvpn()
        vpnd.install(provider.openvpn_profile(remotes=[f"{NAME} 1194 udp"]))
    else:
        provider.wireguard()
        vpnd.install(provider.wireguard_profile(endpoint=f"{NAME}:51820"))
    vpnd.wait_state("up")
    through(work)
    assert set(provider.clear_dns.queries) == {NAME}


def test_server_by_name_without_qubesdb(provider, vpn, vpnd, work):
    with open(f"{vpn.folder}/resolv.conf", "w", encoding="ascii") as file:
        file.write("nameserver 10.139.1.1\n")
    provider.openvpn()
    vpnd.install(provider.openvpn_profile(remotes=[f"{NAME} 1194 udp"]))
    vpnd.wait_state("up")
    through(work)


def test_last_good_address_helps_when_nobody_answers(provider, vpn, vpnd, work):
    resolver(vpn, "10.139.1.1")
    provider.openvpn()
    vpnd.install(provider.openvpn_profile(remotes=[f"{NAME} 1194 udp"]))
    vpnd.wait_state("up")
    provider.clear_dns.silent = True
    vpnd.command.run("down")
    vpnd.wait_state("sealed")
    vpnd.command.run("up")
    vpnd.wait_state("up", timeout=40)
    through(work)
    assert "address that was good last" in vpnd.log


def test_server_that_moved_is_found_by_its_name(provider, vpn, vpnd, work):
    resolver(vpn, "10.139.1.1")
    first, _second = provider.openvpn(), provider.openvpn("server2")
    vpnd.install(provider.openvpn_profile(remotes=[f"{NAME} 1194 udp"]))
    vpnd.wait_state("up")
    provider.names[NAME] = ["203.0.113.20"]
    first.stop()
    vpnd.kill_client()
    wait_until(lambda: state_file(vpnd)["tunnel"] and state_file(vpnd)["tunnel"]["server"] == "203.0.113.20",
               30 * SLOW, "the other server")
    through(work)


def test_server_of_several_addresses(provider, vpn, vpnd, work):
    resolver(vpn, "10.139.1.1")
    provider.names[NAME] = ["203.0.113.77", "203.0.113.10"]
    provider.openvpn()
    vpnd.install(provider.openvpn_profile(remotes=[f"{NAME} 1194 udp"]))
    vpnd.wait_state("up", timeout=30)
    through(work)
    assert state_file(vpnd)["tunnel"]["server"] == "203.0.113.10"


# -- staying up --------------------------------------------------------------------------------------------------------

def connected(provider, vpnd, work, kind="openvpn"):
    server = provider.openvpn() if kind == "openvpn" else provider.wireguard()
    vpnd.install(provider.openvpn_profile() if kind == "openvpn" else provider.wireguard_profile())
    vpnd.wait_state("up")
    through(work)
    return server


@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_client_killed(provider, vpnd, work, kind):
    connected(provider, vpnd, work, kind)
    for _ in range(3):
        assert vpnd.kill_client() == 1
        wait_until(lambda: vpnd.state() != "up", 5 * SLOW, "the loss is noticed")
        vpnd.wait_state("up", timeout=30)
        through(work)


@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_supervisor_replaced(provider, vpnd, work, kind, number):
    connected(provider, vpnd, work, kind)
    clients = vpnd.clients()
    watch = Watch(work)
    with work.socket() as sock:
        sock.settimeout(3 * SLOW)
        sock.connect((TARGET, 7))
        assert sock.recv(100).startswith(b"VPN")
        vpnd.end(number)
        assert vpnd.clients() == clients
        vpnd.start()
        vpnd.wait_state("up")
        sock.sendall(b"still here")
        assert sock.recv(100) == b"still here"  # the flow has outlived it
    assert vpnd.clients() == clients and "taken over" in vpnd.log
    answers = watch.end()
    assert answers.count(None) <= (2 if SLOW < 4 else 4), answers
    if vpnd.kill_client() == 0:  # and the adopted one is looked after; in the kernel it is the device
        vpnd.node.run(["ip", "link", "del", "qubes-vpn"])
    vpnd.wait_state("connecting", "sealed", "resolving")
    vpnd.wait_state("up", timeout=30)


def test_supervisor_killed_and_the_file_changed_meanwhile(provider, vpnd, work):
    connected(provider, vpnd, work)
    provider.openvpn("server2")
    clients = vpnd.clients()
    vpnd.kill9()
    vpnd.install(provider.openvpn_profile(remotes=["203.0.113.20 1194 udp"]))
    vpnd.start()
    wait_until(lambda: state_file(vpnd)["tunnel"] and state_file(vpnd)["tunnel"]["server"] == "203.0.113.20",
               20 * SLOW, "the other server")
    assert not set(clients) & set(vpnd.clients())


def test_stop_seals_and_ends_the_client(provider, vpnd, work, seal):
    connected(provider, vpnd, work)
    assert vpnd.stop() == 0
    assert vpnd.clients() == []
    assert way(work) is None
    status, report = seal.check()
    assert status == 0 and report["open"]["carriers"] == [] and not report["open"]["tunnel"]


def test_server_goes_silent_and_comes_back(provider, vpnd, work):
    server = connected(provider, vpnd, work)
    server.freeze()
    vpnd.wait_state("stalled", "connecting", "sealed", timeout=20)
    assert way(work) is None
    server.freeze(False)
    vpnd.wait_state("up", timeout=40)
    through(work)


def test_server_restarts(provider, vpnd, work):
    server = connected(provider, vpnd, work)
    server.restart()
    wait_until(lambda: way(work, timeout=0.2) is None, 20 * SLOW, "the old session is dead")
    vpnd.wait_state("up", timeout=40)
    through(work, timeout=30)


def test_other_address_and_name_server_after_reconnection(provider, net, vpnd, work):
    server = connected(provider, vpnd, work)
    net["inside"].batch("addr add 10.64.0.54/32 dev eth0\n")
    server.push("dhcp-option DNS 10.64.0.54", "ping 1", "ping-restart 6", address="10.8.0.77")
    server.kick()
    wait_until(lambda: (state_file(vpnd)["tunnel"] or {}).get("address4") == "10.8.0.77", 30 * SLOW, "the new address")
    assert state_file(vpnd)["tunnel"]["dns"] == ["10.64.0.54"]
    through(work)
    assert provider.inside.peers[-1] == "10.8.0.77"


def test_another_net_qube(provider, vpn, vpnd, work):
    connected(provider, vpnd, work)
    connects = vpnd.log.count("Up: ")
    vpn.move_to("sys-other")
    wait_until(lambda: vpnd.log.count("Up: ") > connects, 30 * SLOW, "the tunnel by the other net qube")
    through(work)


def test_uplink_away_and_back(provider, net, vpn, vpnd, work):
    connected(provider, vpnd, work)
    connects = vpnd.log.count("Up: ")
    vpn.batch("link set eth0 down\n")
    wait_until(lambda: way(work, timeout=0.1) is None, 5 * SLOW, "nothing goes")
    vpn.move_to("sys-net")
    wait_until(lambda: vpnd.log.count("Up: ") > connects, 30 * SLOW, "the tunnel again")
    through(work)


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    FILE *file = clock == CLOCK_REALTIME ? fopen(CLOCK_FILE, "re") : NULL;
    long ahead = 0;
    int r = real(clock, ts);

    if (file != NULL && fscanf(file, "%ld", &ahead) == 1)
        ts->tv_sec += ahead;
    if (file != NULL)
        fclose(file);
    return r;
}
"""


@pytest.mark.slow
@pytest.mark.skipif(GRACEFUL, reason="a sanitizer wants to be the first library")
@pytest.mark.parametrize("ahead, again", [(3600, True), (2, False)])
def test_machine_slept(provider, vpn, net, seal, work, ahead, again):
    """A machine that slept has another wall clock: the tunnel is made anew. One whose clock is set right has not."""
    jump, library = f"{net.work}/jump", f"{net.work}/clock.so"
    with open(f"{net.work}/clock.c", "w", encoding="ascii") as file:
        file.write(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", f'-DCLOCK_FILE="{jump}"', "-o", library, f"{net.work}/clock.c"], check=True)
    vpnd = Supervisor(vpn, seal, arguments=[*options(vpn), "--verbose"], LD_PRELOAD=library)
    connected(provider, vpnd, work)
    with open(f"{jump}.new", "w", encoding="ascii") as file:
        file.write(str(ahead))
    os.rename(f"{jump}.new", jump)
    if again:
        wait_until(lambda: "up + resumed" in vpnd.log and vpnd.log.count("Up: ") == 2, 20 * SLOW, "another tunnel")
        through(work)
    else:
        os.kill(vpnd.process.pid, signal.SIGHUP)
        with pytest.raises(TimeoutError):
            wait_until(lambda: "resumed" in vpnd.log, 12, "it takes it for sleep")


# -- the seal ----------------------------------------------------------------------------------------------------------

def test_without_the_seals_owner_nothing_starts(provider, vpn, net):
    provider.openvpn()
    vpnd = Supervisor(vpn, None, arguments=options(vpn))
    vpnd.install(provider.openvpn_profile())
    wait_until(lambda: vpnd.state() == "resolving" or "does not answer" in vpnd.log, 5 * SLOW, "it tries")
    assert vpnd.clients() == []
    seal = Seal(vpn)
    vpnd.wait_state("up", timeout=20)
    through(net["work"])
    assert seal.check()[0] == 0


def test_seals_owner_killed_and_back(provider, vpnd, work, seal):
    connected(provider, vpnd, work)
    clients = vpnd.clients()
    seal.kill9()
    wait_until(lambda: state_file(vpnd)["seal"] == "absent", 5 * SLOW, "the loss is seen")
    through(work)  # what is armed stays
    seal.start()
    wait_until(lambda: state_file(vpnd)["seal"] == "tunnel", 5 * SLOW, "the wish is told again")
    through(work)
    assert vpnd.clients() == clients and vpnd.state() == "up"


@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_blackhole_is_heard_of(provider, vpnd, work, seal, kind):
    """Whoever asks the seal to forget the wish takes the tunnel from a client that may not notice by itself."""
    connected(provider, vpnd, work, kind)
    assert seal.blackhole() == 0
    wait_until(lambda: seal.check()[1]["open"]["tunnel"], 10 * SLOW, "wished for again")
    vpnd.wait_state("up", timeout=30)
    through(work)


def test_no_client_while_the_seals_owner_is_away(provider, vpnd, work, seal):
    connected(provider, vpnd, work)
    seal.kill9()
    vpnd.kill_client()
    wait_until(lambda: vpnd.state() != "up", 5 * SLOW, "the loss is noticed")
    wait_until(lambda: state_file(vpnd)["retry"] or state_file(vpnd)["state"] == "resolving", 5 * SLOW, "another try")
    assert vpnd.clients() == []
    seal.start()
    vpnd.wait_state("up", timeout=20)
    through(work)


# -- wishes ------------------------------------------------------------------------------------------------------------

def test_down_lasts_and_up_ends_it(provider, vpnd, work):
    connected(provider, vpnd, work)
    vpnd.command.run("down")
    assert vpnd.wait_state("sealed")
    assert vpnd.clients() == [] and way(work) is None
    vpnd.restart()
    assert vpnd.wait_state("sealed")
    assert vpnd.clients() == []
    vpnd.command.run("up")
    vpnd.wait_state("up")
    through(work)


def test_use_chooses(provider, vpnd, work):
    provider.openvpn(), provider.openvpn("server2")
    vpnd.install(provider.openvpn_profile("one"))
    vpnd.wait_state("up")
    vpnd.install(provider.openvpn_profile("two", remotes=["203.0.113.20 1194 udp"]))
    wait_until(lambda: "two" in vpnd.command.run("list").stdout, 5 * SLOW, "the second profile")
    assert vpnd.state() == "up" and way(work) == "VPN"  # what is in use stays
    vpnd.command.run("use", "two")
    wait_until(lambda: (state_file(vpnd)["tunnel"] or {}).get("server") == "203.0.113.20", 10 * SLOW, "the chosen one")
    through(work)
    assert state_file(vpnd)["tunnel"]["server"] == "203.0.113.20"
    vpnd.command.run("use", "one")
    wait_until(lambda: (state_file(vpnd)["tunnel"] or {}).get("server") == "203.0.113.10", 10 * SLOW, "the other one")
    assert vpnd.command.run("use", "three", check=False).returncode == 1
    through(work)


def test_two_profiles_from_the_start(provider, vpnd, work):
    vpnd.stop()
    vpnd.install(provider.openvpn_profile("one"))
    vpnd.install(provider.openvpn_profile("two"))
    vpnd.start()
    vpnd.wait_state("unconfigured")  # none chosen and none in use: better asked than guessed
    assert way(work) is None


def test_fail_over_goes_through_the_list(provider, vpnd, work):
    provider.openvpn("server2")
    vpnd.install(provider.openvpn_profile("one", remotes=["203.0.113.99 1194 udp"], extra=["connect-retry-max 1"]))
    vpnd.install(provider.openvpn_profile("two", remotes=["203.0.113.20 1194 udp"]))
    vpnd.command.run("order", "one", "two")
    vpnd.command.run("use", "one")
    vpnd.wait_state("up", timeout=90)
    assert state_file(vpnd)["profile"] == "two.ovpn"
    through(work)


def test_broken_file_leaves_the_tunnel_alone(provider, vpnd, work):
    connected(provider, vpnd, work)
    clients = vpnd.clients()
    with open(f"{vpnd.profiles}/provider.ovpn", "a", encoding="ascii") as file:
        file.write("up /bin/evil\n")
    wait_until(lambda: "what runs goes on" in vpnd.log, 5 * SLOW, "it is said")
    assert vpnd.state() == "up" and vpnd.clients() == clients
    through(work)
    vpnd.command.run("down")
    assert vpnd.command.run("up", check=False).returncode == 1
    assert way(work) is None and vpnd.clients() == []
    vpnd.install(provider.openvpn_profile())
    vpnd.command.run("up")
    vpnd.wait_state("up")


def test_broken_file_from_the_start(provider, vpnd, work):
    provider.openvpn()
    with open(f"{vpnd.profiles}/bad.ovpn", "w", encoding="ascii") as file:
        file.write(provider.openvpn_text(extra=["plugin /tmp/evil.so"]))
    vpnd.wait_state("failed")
    assert "plugin" in state_file(vpnd)["error"] and vpnd.clients() == []
    os.unlink(f"{vpnd.profiles}/bad.ovpn")
    vpnd.wait_state("unconfigured")
    vpnd.install(provider.openvpn_profile())
    vpnd.wait_state("up")
    through(work)


def test_profile_removed_while_up(provider, vpnd, work):
    connected(provider, vpnd, work)
    vpnd.remove("provider.ovpn")
    vpnd.wait_state("unconfigured")
    assert way(work) is None and vpnd.clients() == []


# -- secrets -----------------------------------------------------------------------------------------------------------

def password_server(provider, net):
    """A server that wants user "me" with password "right"."""
    script = f"{net.work}/check"
    with open(script, "w", encoding="ascii") as file:
        file.write('#!/bin/sh\n[ "$(sed -n 1p "$1")" = me ] && [ "$(sed -n 2p "$1")" = right ]\n')
    os.chmod(script, 0o755)
    return provider.openvpn(options=["--script-security", "2", "--auth-user-pass-verify", script, "via-file"])


def set_secret(vpnd, text, name="provider"):
    return vpnd.node.run([vpnd_command(), "--bus", vpnd.bus, "set-secret", name, "--kind", "user-password"],
                         check=False, input=text)


def vpnd_command():
    return program(COMMAND)


def test_password_asked_for_refused_and_right(provider, net, vpnd, work):
    password_server(provider, net)
    vpnd.install(provider.openvpn_profile(extra=["auth-user-pass"]))
    wait_until(lambda: state_file(vpnd)["missing"], 10 * SLOW, "a password is asked for")
    assert vpnd.state() == "connecting"
    assert set_secret(vpnd, "me\nwrong\n").returncode == 0
    vpnd.wait_state("failed", timeout=20)
    assert vpnd.clients() == [] and way(work) is None
    assert set_secret(vpnd, "me\nright\n").returncode == 0
    vpnd.wait_state("up", timeout=20)
    through(work)
    assert "wrong" not in vpnd.log and "right" not in vpnd.log
    for place in (vpnd.runtime, vpnd.profiles):
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and b"right" in open(path, "rb").read():
                    assert folder.endswith("/secrets") and os.stat(path).st_mode & 0o077 == 0


def unit_prepares(vpnd):
    """What the unit does to the folder before each start, here with root for the supervisor's user."""
    with open(program("data/qubes-vpn.service"), encoding="utf-8") as unit:
        lines = [line.strip().split("+", 1)[1] for line in unit if line.startswith("ExecStartPre=+")]
    lines = [line.replace("/rw/config/qubes-vpn", vpnd.profiles).replace("qubes-vpnd", "root") for line in lines
             if "/rw/config/qubes-vpn" in line]
    assert len(lines) == 2
    for line in lines:
        vpnd.node.run(shlex.split(line))


def test_password_outlives_a_start_of_the_unit(provider, net, vpnd, work):
    password_server(provider, net)
    vpnd.install(provider.openvpn_profile(extra=["auth-user-pass"]))
    wait_until(lambda: state_file(vpnd)["missing"], 10 * SLOW, "a password is asked for")
    assert set_secret(vpnd, "me\nright\n").returncode == 0
    vpnd.wait_state("up", timeout=20)
    vpnd.stop()
    os.chown(f"{vpnd.profiles}/secrets", 1, 1)  # as an older start left it
    unit_prepares(vpnd)
    assert os.stat(f"{vpnd.profiles}/secrets").st_uid == 0
    vpnd.start()
    vpnd.wait_state("up", timeout=20)
    through(work)


# -- few rights --------------------------------------------------------------------------------------------------------

RIGHTS = "net_admin,setuid,setgid,kill"
UNPRIVILEGED = 4979


@pytest.mark.skipif("SLUICE_WRAP" in os.environ, reason="runs under another program")
@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_with_the_rights_of_the_unit_only(provider, net, vpn, monkeypatch, kind):
    """As the unit runs it: a user of its own, four capabilities; the client has none."""
    seal = Seal(vpn, arguments=("--supervisor-user", str(UNPRIVILEGED)))
    vpnd = Supervisor(vpn, seal, start=False, arguments=options(vpn))
    for path in (vpnd.profiles, vpnd.runtime, vpn.folder):
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    path = vpn.folder
    while path != "/":
        os.chmod(path, os.stat(path).st_mode | 0o11)
        path = os.path.dirname(path)
    os.chmod(f"{vpn.folder}/{vpnd.name}.notify", 0o777)
    added = ",".join(f"+{name}" for name in RIGHTS.split(","))
    monkeypatch.setenv("SLUICE_WRAP", f"setpriv --reuid {UNPRIVILEGED} --regid {UNPRIVILEGED} --groups 4978 "
                                      f"--bounding-set -all,{added} --inh-caps -all,{added} --ambient-caps {added} "
                                      "--no-new-privs")
    vpnd.start()
    monkeypatch.delenv("SLUICE_WRAP")
    connected(provider, vpnd, net["work"], kind)
    for pid in vpnd.clients():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert fields["NoNewPrivs"] == "1" and fields["Groups"].split() in ([], ["4978"])
    clients = vpnd.clients()
    vpnd.kill9()
    monkeypatch.setenv("SLUICE_WRAP", f"setpriv --reuid {UNPRIVILEGED} --regid {UNPRIVILEGED} --groups 4978 "
                                      f"--inh-caps -all,{added} --ambient-caps {added} --no-new-privs")
    vpnd.start()
    vpnd.wait_state("up")
    assert vpnd.clients() == clients
    vpnd.command.run("down")
    vpnd.wait_state("sealed")
    assert vpnd.clients() == []


# -- a hostile server --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("address", ["10.137.0.21", "10.139.1.1", "127.0.0.1", "10.137.0.20", "203.0.113.10", "224.0.0.5"])
def test_pushed_address_that_is_refused(provider, vpnd, work, address):
    server = provider.openvpn(pushes=("ping 1",))
    server.push(address=address, address6=None)
    vpnd.install(provider.openvpn_profile())
    wait_until(lambda: "cannot be used" in vpnd.log, 10 * SLOW, "the refusal")
    assert state_file(vpnd)["tunnel"] is None and way(work) is None
    server.push(address="10.8.0.2")
    vpnd.wait_state("up", timeout=30)
    through(work)


def test_no_name_server(provider, vpnd, work):
    provider.openvpn(pushes=("ping 1", "ping-restart 6", "dhcp-option DNS 127.0.0.1", "dhcp-option DNS 10.137.0.21"))
    vpnd.install(provider.openvpn_profile())
    vpnd.wait_state("up")
    through(work)
    assert resolve(work, "secret.example", timeout=0.3) is None
    assert provider.clear_dns.queries == [] and "no name server" in vpnd.log


# -- the platform ------------------------------------------------------------------------------------------------------

def dns_addr(vpn):
    text = vpn.run(["nft", "-j", "list", "set", "ip", "qubes-firewall", "dns-addr"]).stdout
    return [item["set"].get("elem", []) for item in json.loads(text)["nftables"] if "set" in item][0]


def test_firewall_knows_the_name_servers(provider, net, vpn, vpnd, work):
    rules = ("action=accept specialtarget=dns", "action=drop")
    net["play"].set_rules(rules)
    before = dns_addr(vpn)
    connected(provider, vpnd, work)
    wait_until(lambda: VPN_DNS in dns_addr(vpn), 2 * SLOW, "the element")
    assert resolve(net["play"], "secret.example") == [VPN_ANSWER] and way(net["play"]) is None
    vpn.nft("flush set ip qubes-firewall dns-addr\n")  # as any change of rules does
    wait_until(lambda: VPN_DNS in dns_addr(vpn), 2 * SLOW, "the element again")
    assert resolve(net["play"], "secret.example") == [VPN_ANSWER]
    vpnd.command.run("down")
    wait_until(lambda: VPN_DNS not in dns_addr(vpn), 2 * SLOW, "it goes with the tunnel")
    assert not set(dns_addr(vpn)) - set(before)


def test_updates_proxy_only_where_it_is_switched_on(provider, vpn, vpnd, work, seal):
    connected(provider, vpnd, work)
    assert not seal.check()[1]["open"]["updates_proxy"]
    open(f"{vpn.folder}/service/qubes-updates-proxy", "w", encoding="ascii").close()
    wait_until(lambda: seal.check()[1]["open"]["updates_proxy"], 5 * SLOW, "the exception")
    assert "may use the uplink" in vpnd.log
    through(work)
    resolver(vpn, "10.139.1.1")
    ask = ("import socket; s = socket.socket(2, 2); s.settimeout(3); s.connect(('10.139.1.1', 53));"
           "s.send(bytes.fromhex('123401000001000000000000046875746507657861 6d706c650000010001'.replace(' ', '')));"
           "print(len(s.recv(512)))")
    as_proxy = ["setpriv", "--reuid", "daemon", "--regid", "daemon", "--clear-groups", "/usr/bin/python3", "-c", ask]
    assert int(vpn.run(as_proxy).stdout) > 12  # it looks its hosts up where the uplink's servers are
    assert vpn.run(["setpriv", "--reuid", "nobody", *as_proxy[3:]], check=False).returncode != 0
    vpnd.command.run("down")
    vpnd.wait_state("sealed")
    assert seal.check()[1]["open"]["updates_proxy"]
    os.unlink(f"{vpn.folder}/service/qubes-updates-proxy")
    wait_until(lambda: not seal.check()[1]["open"]["updates_proxy"], 5 * SLOW, "its end")


def test_service_switched_off_while_the_qube_runs(provider, vpn, vpnd, work):
    vpn.qubesdb_start([("/qubes-service/qubes-vpn", "1")])
    connected(provider, vpnd, work)
    vpn.qdb.write("/qubes-service/qubes-vpn", "0")
    vpnd.wait_state("sealed")
    assert way(work) is None and vpnd.clients() == []
    assert vpnd.command.run("up", check=False).returncode != 0


def test_own_look_ups_only_while_a_rule_names_a_host(provider, vpn, vpnd, work, seal):
    vpn.qubesdb_start([("/qubes-primary-dns", "10.139.1.1")])
    connected(provider, vpnd, work)
    assert not seal.check()[1]["open"]["own_lookups"]
    vpn.qdb.write("/qubes-firewall/10.137.0.22/0000", "action=accept dsthost=example.com proto=tcp")
    wait_until(lambda: seal.check()[1]["open"]["own_lookups"], 5 * SLOW, "look-ups")
    assert resolve(vpn, "example.com", VPN_DNS) == [VPN_ANSWER] and provider.clear_dns.queries == []
    vpn.qdb.rm("/qubes-firewall/10.137.0.22/")
    wait_until(lambda: not seal.check()[1]["open"]["own_lookups"], 5 * SLOW, "their end")


def test_debug_file(provider, vpnd):
    debug = f"{vpnd.runtime}/debug"
    assert " -> " not in vpnd.log
    open(debug, "w", encoding="ascii").close()
    vpnd.install(provider.openvpn_profile())
    wait_until(lambda: " -> " in vpnd.log, 5 * SLOW, "details")


@pytest.mark.parametrize("command", ["ip addr flush dev qubes-vpn", "ip link set qubes-vpn down", "ip link del qubes-vpn",
                                     "ip link set qubes-vpn mtu 700", "ip link set qubes-vpn group 1"])
@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_device_that_somebody_changed(provider, vpn, vpnd, work, kind, command):
    """Nobody tells the client; the kernel tells us."""
    connected(provider, vpnd, work, kind)
    vpn.run(command)

    def right():
        link = vpn.run(["ip", "-o", "link", "show", "qubes-vpn"], check=False).stdout
        return "UP" in link and "mtu 700" not in link and "group default" in link

    wait_until(right, 15 * SLOW, "the device as it was")
    wait_until(lambda: vpnd.state() == "up" and way(work, timeout=0.2) == "VPN", 15 * SLOW, "the tunnel again")
    assert way(vpn, timeout=0.2) is None


# -- a system bus that hangs -------------------------------------------------------------------------------------------

def _field(code, kind, value):
    """One header field of a D-Bus message, padded to 8 bytes."""
    data = bytes((code, 1)) + kind.encode() + b"\0"
    if kind == "u":
        data += struct.pack("<I", value)
    elif kind == "g":
        data += bytes((len(value),)) + value.encode() + b"\0"
    else:
        data += struct.pack("<I", len(value)) + value.encode() + b"\0"
    return data + bytes(-len(data) % 8)


def _hello_answer(serial):
    body = struct.pack("<I", 4) + b":1.5\0"
    fields = (_field(5, "u", serial) + _field(6, "s", ":1.5") + _field(7, "s", "org.freedesktop.DBus") +
              bytes((8, 1)) + b"g\0\1s\0")
    head = b"l\2\1\1" + struct.pack("<III", len(body), 1, len(fields)) + fields
    return head + bytes(-len(head) % 8) + body


class HangingBus:
    """Lets a client in and then answers nothing. connections: how many came."""

    def __init__(self, path):
        self.connections, self._sock = 0, socket.socket(socket.AF_UNIX)
        self._sock.bind(path)
        self._sock.listen()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._sock.accept()[0],), daemon=True).start()

    def _serve(self, sock):
        self.connections += 1
        data, answered, greeted = b"", False, False
        with contextlib.suppress(OSError), sock:
            while more := sock.recv(65536):
                data += more
                if not answered:
                    sock.sendall(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n")
                    answered = True
                _, begun, messages = data.partition(b"BEGIN\r\n")
                if begun and len(messages) >= 16 and not greeted:
                    sock.sendall(_hello_answer(struct.unpack_from("<I", messages, 8)[0]))
                    greeted = True

    def close(self):
        self._sock.close()


class OnTheSystemBus(Supervisor):
    """As installed, without a socket of its own."""

    def _arguments(self):
        words = super()._arguments()
        at = words.index("--bus")
        return words[:at] + words[at + 2:]


def test_system_bus_that_hangs(vpn, seal):
    """It is given up and tried again; the supervisor goes on."""
    path = f"{vpn.folder}/hanging"
    bus = HangingBus(path)
    vpnd = OnTheSystemBus(vpn, seal, arguments=options(vpn), DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={path}",
                          SYSTEMD_BUS_TIMEOUT="1s")
    wait_until(lambda: bus.connections >= 3 or not vpnd.running(), 20 * SLOW, "another try")
    assert vpnd.running() and state_file(vpnd)["state"] == "unconfigured"
    bus.close()
