# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the VPN half that once worked, each as small as it can be. What is marked xfail works still; the reason says
what would stop it. The letter in brackets is the actor, as in vectors.py."""

import os
import shutil
import signal
import time

import pytest

from lab import topologies
from lab import vpn_frames as frames
from lab.lab import Lab
from lab.node import wait_until
from lab.platform import dns_text
from lab.router import SLOW
from lab.vpn import CLIENT_USER, Seal, Supervisor
from lab.vpn_oracle import Tap
from lab.vpn_provider import CLEAR_DNS, Provider, resolve, way

STRANGER = "3333"


@pytest.fixture
def net():
    with Lab(topologies.VPN) as lab:
        lab.provider = Provider(lab)
        yield lab


def connect(net, *arguments):
    """Seal and supervisor, with the tunnel up."""
    seal = Seal(net["vpn"])
    vpnd = Supervisor(net["vpn"], seal, arguments=arguments)
    vpnd.install(net.provider.openvpn_profile())
    vpnd.wait_state("up")
    return seal, vpnd


def test_queries_stay_here_without_vpn_dns(net):
    """[S] The server pushes no name server, and the platform translates the virtual one to the uplink's resolver: neither
    the question nor that address may show in the tunnel (I4, I5)."""
    net.provider.openvpn(pushes=("ping 1", "ping-restart 6"))
    connect(net)
    net["vpn"].nft(dns_text([CLEAR_DNS]))
    seen = []
    tap = Tap(net["vpn"], lambda data, *_: seen.append(data), outgoing=True)
    assert resolve(net["work"], "secret.example", timeout=0.3) is None
    assert resolve(net["work"], "secret.example", "10.139.1.2", timeout=0.3, tcp=True) is None
    assert way(net["work"]) == "VPN"  # the witness sees what is in the tunnel
    tap.close()
    sent = [frames.parse_ip(data) for data in seen if data and data[0] >> 4 in (4, 6)]
    assert any(packet.dport == 7 for packet in sent)
    assert [str(packet) for packet in sent if packet.dport == 53] == []


def test_stranger_fills_no_journal(net):
    """[local user] Anybody may knock at the seal's socket; each knock was a line in the journal."""
    seal = Seal(net["vpn"])
    knock = (f"import socket\nfor _ in range(500):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
             f"    s.connect({seal.socket!r})\n    s.close()\n")
    os.chmod(net.work, 0o755)
    os.chmod(net["vpn"].folder, 0o755)
    net["vpn"].run(["setpriv", "--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "/usr/bin/python3", "-c",
                    knock])
    assert seal.check()[0] == 0
    assert 1 <= seal.log.count(f"User {STRANGER}") <= 2


THIEF = """#!/bin/sh
cat "$1" > %s/stolen
exit 0
"""


def thief(net):
    """A server that writes down what it is told as user and password, and finds it good."""
    path = f"{net.work}/thief"
    with open(path, "w", encoding="ascii") as file:
        file.write(THIEF % net.work)
    os.chmod(path, 0o755)
    return net.provider.openvpn(options=("--script-security", "2", "--auth-user-pass-verify", path, "via-file",
                                         "--tmp-dir", net.work))


def stolen(net):
    try:
        with open(f"{net.work}/stolen", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("path", ["good.conf", "secrets/good.ovpn", "settings"])
def test_profile_takes_no_secret_of_another(net, path):
    """[S] A hostile provider's file names the keys of another provider as its user and password."""
    thief(net)
    vpnd = Supervisor(net["vpn"], Seal(net["vpn"]))
    vpnd.install(net.provider.wireguard_profile("good"))
    os.makedirs(f"{vpnd.profiles}/secrets", mode=0o700)
    with open(f"{vpnd.profiles}/secrets/good.ovpn", "w", encoding="ascii") as file:
        file.write("user=alice\npassword=of another provider\n")
    with open(f"{vpnd.profiles}/settings", "w", encoding="ascii") as file:
        file.write("profile=evil.ovpn\nwanted=up\n")
    vpnd.install(net.provider.openvpn_profile("evil", extra=[f"auth-user-pass {path}"]))
    wait_until(lambda: vpnd.state() in ("up", "failed") or vpnd.status().get("missing") or stolen(net)
               or "auth-user-pass" in vpnd.log, 8 * SLOW,
               "an end of it")
    assert stolen(net) == ""


def test_import_takes_no_hidden_file(net):
    """[S] A hostile file in the home folder names a key of ssh as its user and password."""
    vpnd = Supervisor(net["vpn"], Seal(net["vpn"]))
    os.makedirs(f"{net.provider.folder}/.ssh")
    with open(f"{net.provider.folder}/.ssh/id_ed25519", "w", encoding="ascii") as file:
        file.write("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n")
    path = net.provider.openvpn_profile("evil", extra=["auth-user-pass .ssh/id_ed25519"])
    vpnd.command.run("import", path, check=False)
    found = [name for folder, _, names in os.walk(vpnd.profiles) for name in names if "id_ed25519" in name]
    assert found == []


@pytest.mark.slow
def test_hung_client_is_not_up(net):
    """[D] A client that hangs, or was made to, is not "up" for ever."""
    net.provider.openvpn()
    _, vpnd = connect(net)
    (pid,) = vpnd.clients()
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: vpnd.clients() not in ([], [pid]) and vpnd.state() == "up", 45 * SLOW, "another client", 0.2)
    assert way(net["work"]) == "VPN"


FORKING = """#!/usr/bin/python3
import os, sys, time
try:
    if os.fork() == 0:
        os.setsid()
        time.sleep(3600)
except OSError as error:
    print(error, file=sys.stderr)
os.execv("%s", sys.argv)
"""


def test_nothing_of_a_client_outlives_it(net):
    """[D] A client that was taken over leaves a process behind, with the rights of the next client: its memory, its
    device, its way out."""
    wrapper = f"{net.work}/openvpn"
    with open(wrapper, "w", encoding="ascii") as file:
        file.write(FORKING % shutil.which("openvpn"))
    os.chmod(wrapper, 0o755)
    os.chmod(net.work, 0o755)
    net.provider.openvpn()
    _, vpnd = connect(net, "--openvpn", wrapper)
    (client,) = vpnd.clients()  # it could make none
    user = int(CLIENT_USER)
    net["vpn"].popen(["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "sleep", "3600"])
    wait_until(lambda: len(vpnd.clients()) == 2, 3 * SLOW, "one that came to be all the same")
    assert client in vpnd.clients()
    vpnd.command.run("down")
    vpnd.wait_state("sealed")
    wait_until(lambda: vpnd.clients() == [], 3 * SLOW, "the end of all of its processes")


@pytest.mark.parametrize("name", ["second.ovpn", "qubes-vpn.conf"])
def test_import_leaves_the_tunnel_alone(net, name):
    """[S] A new profile does not end a tunnel that does not use it, nor does its name choose it (qubes-vpn.conf)."""
    net.provider.openvpn()
    _, vpnd = connect(net)
    path = net.provider.openvpn_profile("second", remotes=["203.0.113.20 1194 udp"])
    os.rename(path, f"{net.provider.folder}/{name}")
    vpnd.command.run("import", f"{net.provider.folder}/{name}")
    wait_until(lambda: name in vpnd.command.run("list").stdout, 5 * SLOW, "the new profile")
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert vpnd.state() == "up" and vpnd.status()["profile"] == "provider.ovpn"


def test_profile_does_not_stop_the_supervisor(net):
    """[S] A hostile file with a big one beside it keeps the supervisor busy; it starts anew, and reads it again."""
    vpnd = Supervisor(net["vpn"], Seal(net["vpn"]))
    with open(f"{vpnd.profiles}/big.txt", "w", encoding="ascii") as file:
        file.write("-----BEGIN X-----\n" * 28000)
    with open(f"{vpnd.profiles}/evil.ovpn", "w", encoding="ascii") as file:
        file.write("client\ndev tun\nremote 203.0.113.10\n" + "ca big.txt\n" * 300)
    vpnd.wait_state("failed", timeout=60.0)
    with open(f"/proc/{vpnd.process.pid}/stat", encoding="ascii") as file:
        used = sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    assert used < 1.0 * SLOW


@pytest.mark.parametrize("how", ["import", "copy"])
def test_secrets_stay_with_their_provider(net, how):
    """[S] A file of another provider that has the name of one before it (client.ovpn) gets the other's password."""
    thief(net)
    vpnd = Supervisor(net["vpn"], Seal(net["vpn"]))
    first = vpnd.install(net.provider.openvpn_profile("client", remotes=["192.0.2.77 1194 udp"], extra=["auth-user-pass"]))
    wait_until(lambda: "client.ovpn" in vpnd.command.run("list").stdout, 5 * SLOW, "the profile")
    vpnd.command.run("set-secret", "client.ovpn", "--kind", "user-password", input="alice\nof another provider\n")
    os.unlink(first)
    wait_until(lambda: vpnd.state() == "unconfigured", 5 * SLOW, "its end")
    hostile = net.provider.openvpn_profile("client", extra=["auth-user-pass"])
    if how == "import":
        vpnd.command.run("import", hostile)
    else:
        vpnd.install(hostile)
    wait_until(lambda: vpnd.state() == "up" or vpnd.status().get("missing") or stolen(net)
               or "needs a user name" in vpnd.log, 8 * SLOW, "an end of it")
    assert stolen(net) == ""


def test_supervisor_survives_use_after_a_start_that_was_down(net):
    """[U] Down, restart, and then anything that makes it look at the folder: use, set-secret, a new file."""
    net.provider.openvpn()
    vpnd = Supervisor(net["vpn"], Seal(net["vpn"]), start=False)
    with open(f"{vpnd.profiles}/settings", "w", encoding="ascii") as file:
        file.write("wanted=down\n")
    vpnd.install(net.provider.openvpn_profile())
    vpnd.start()
    vpnd.command.run("use", "provider.ovpn", check=False)
    vpnd.wait_state("up")
