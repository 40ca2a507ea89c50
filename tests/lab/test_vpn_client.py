# SPDX-License-Identifier: GPL-2.0-or-later
"""The OpenVPN driver with the real openvpn, through a small program that prints its events."""

import os
import re
import signal
import subprocess
import threading

import pytest

from lab import topologies, tundevice
from lab.node import wait_until
from lab.router import SLOW, available, program
from lab.vpn_provider import VPN_DNS, Provider, pki

PROBE = "tests/unit/vpn-client-probe"
UID, SUPERVISOR = 4978, 4979
CHECK = """#!/bin/sh
{ read -r user; read -r password; } < "$1"
echo "$user|$password" >> %s/seen
[ "$password" = "good \\"one\\" \\\\" ] && exit 0
case "$password" in SCRV1:Z29vZA==:MTIzNDU2|CRV1::sid::123456) exit 0;; esac
[ -e %s/dynamic ] && [ "$password" = first ] && echo 'CRV1:R,E:sid:YW5uYQ==:Code: please' > "$auth_failed_reason_file"
exit 1
"""

pytestmark = pytest.mark.skipif(not available(PROBE), reason="vpn-client-probe is not built")


class Probe:
    """One run of the program; lines: what it printed so far."""

    def __init__(self, node, profile, *words, wrap=(), owner=0):
        self.lines, self.node = [], node
        self.runtime = f"{node.folder}/runtime"
        os.makedirs(self.runtime, mode=0o711, exist_ok=True)
        os.chown(self.runtime, owner, owner)
        path = node.folder
        while path != "/":  # the client passes through
            os.chmod(path, os.stat(path).st_mode | 0o11)
            path = os.path.dirname(path)
        self.process = node.popen([*wrap, program(PROBE), profile, self.runtime, str(UID), *words],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((line.decode() if isinstance(line, bytes) else line).rstrip("\n"))

    def say(self, line):
        data = line + "\n"
        self.process.stdin.write(data if "b" not in getattr(self.process.stdin, "mode", "b") else data.encode())
        self.process.stdin.flush()

    def wait(self, start, timeout=8.0, count=1):
        """The count-th line that begins so."""
        def find():
            found = [line for line in self.lines if line.startswith(start)]
            return found[count - 1] if len(found) >= count else None
        try:
            return wait_until(find, timeout * SLOW, f"'{start}'")
        except TimeoutError:
            raise AssertionError(f"no '{start}' among {self.lines}\n{self.log()}") from None

    def log(self):
        try:
            with open(f"{self.runtime}/client/log", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def client(self):
        """Process number of the client."""
        with open(f"{self.runtime}/client/process", encoding="ascii") as file:
            return int(file.read().split()[0])

    def end(self, word="free"):
        if self.process.poll() is None:
            self.say(word)
        self.process.wait(5 * SLOW)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def networks(lab):
    """Makes networks, each with its provider; net.probe(PROFILE, ...) starts a probe there."""
    probes = []

    def make():
        tundevice.ensure()
        net = lab(topologies.VPN)
        net.provider = Provider(net)

        def run(profile, *words, **options):
            probes.append(Probe(net["vpn"], profile, *words, **options))
            return probes[-1]

        net.probe = run
        return net

    yield make
    for probe in probes:
        probe.close()


@pytest.fixture
def net(networks):
    return networks()


def login_server(net, **options):
    """A server that wants name and password."""
    folder = net.work
    with open(f"{folder}/check", "w", encoding="ascii") as file:
        file.write(CHECK % (folder, folder))
    os.chmod(f"{folder}/check", 0o755)
    return net.provider.openvpn(options=("--script-security", "2", "--auth-user-pass-verify", f"{folder}/check",
                                         "via-file", "--username-as-common-name", "--tmp-dir", folder), **options)


def seen(net):
    with open(f"{net.work}/seen", encoding="ascii") as file:
        return file.read().splitlines()


def device(net):
    return net["vpn"].run(["ip", "-d", "addr", "show", "dev", "qubes-vpn"], check=False).stdout


def alive(pid):
    return os.path.exists(f"/proc/{pid}")


def test_connects_and_ends(net):
    net.provider.openvpn()
    probe = net.probe(net.provider.openvpn_profile())
    assert probe.wait("UP ") == f"UP 10.8.0.2/24 fd00:8::2/64 server 203.0.113.10 mtu 1500 dns {VPN_DNS}"
    assert probe.lines[:4] == ["started", "CONNECTING waiting for the server", "CONNECTING logging in",
                               probe.lines[3]]
    probe.say("configure")
    probe.wait("configured 0")
    text = device(net)
    assert "inet 10.8.0.2/32" in text and "inet6 fd00:8::2/128" in text and "fe80" not in text and "tun type tun" in text
    assert ",UP" in text and "group default" in text
    probe.say("poll")
    assert int(probe.wait("ALIVE").split()[1]) > 0
    pid = probe.client()
    probe.end()
    assert not alive(pid) and device(net) == "" and not os.path.exists(f"{probe.runtime}/client/sockets/management")


def test_client_has_no_rights(net):
    net.provider.openvpn()
    probe = net.probe(net.provider.openvpn_profile())
    probe.wait("UP ")
    pid = probe.client()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == [str(UID)] * 4 and status["Groups"].split() == []
    assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert status["NoNewPrivs"] == "1" and int(status["SigBlk"], 16) == 0
    with open(f"/proc/{pid}/environ", "rb") as file:
        assert [line.split(b"=")[0] for line in file.read().split(b"\0") if line] == [b"PATH"]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        assert file.read() == b"openvpn\0--config\0stdin\0"
    names = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0].split(" ")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
    assert names <= {"/memfd", "/memfd:openvpn", f"{probe.runtime}/client/log", "socket", "anon_inode", "/dev/net/tun"}
    modes = [oct(os.stat(f"{probe.runtime}/{name}").st_mode & 0o7777)
             for name in ("client", "client/sockets", "client/log", "client/process", "client/pushed")]
    assert modes == ["0o710", "0o770", "0o600", "0o600", "0o600"]


def test_supervisor_with_few_rights(net):
    """As the unit runs it: a user of its own with four capabilities, none of them over files."""
    rights = "-all,+net_admin,+setuid,+setgid,+kill"
    few = {"owner": SUPERVISOR, "wrap": ("setpriv", f"--reuid={SUPERVISOR}", f"--regid={SUPERVISOR}", "--clear-groups",
                                         f"--inh-caps={rights}", f"--ambient-caps={rights}",
                                         f"--bounding-set={rights}", "--no-new-privs")}
    net.provider.openvpn()
    profile = net.provider.openvpn_profile()
    first = net.probe(profile, **few)
    first.wait("UP ")
    first.say("configure")
    first.wait("configured 0")
    pid = first.client()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        text = file.read()
    assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in text and "CapPrm:\t0000000000000000" in text
    folder = os.stat(f"{first.runtime}/client/sockets")
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o7777) == (SUPERVISOR, UID, 0o770)
    first.close()
    second = net.probe(profile, "adopt", **few)
    second.wait("UP ")
    second.say("restart")
    second.wait("UP ", count=2)
    second.end()
    assert not alive(pid) and device(net) == ""


def test_refused_password(net):
    login_server(net)
    probe = net.probe(net.provider.openvpn_profile(extra=["auth-user-pass"]))
    probe.wait("SECRET user-password")
    probe.say("user anna bad")
    assert probe.wait("REFUSED") == "REFUSED the server refused the log-in"
    assert "RECONNECTING" not in str(probe.lines) and seen(net) == ["anna|bad"]
    probe.say("restart")
    probe.wait("SECRET user-password", count=2)
    probe.say('user anna good "one" \\')
    probe.wait("UP ")
    assert seen(net) == ["anna|bad", 'anna|good "one" \\']
    assert "good" not in probe.log()


def test_secret_given_before_it_is_asked(net):
    login_server(net)
    probe = net.probe(net.provider.openvpn_profile(extra=["auth-user-pass"]))
    probe.say('user anna good "one" \\')
    probe.wait("UP ")
    assert "SECRET" not in str(probe.lines)


def test_static_challenge(net):
    login_server(net)
    probe = net.probe(net.provider.openvpn_profile(extra=["auth-user-pass", 'static-challenge "Code from the key" 1']))
    probe.wait("SECRET user-password")
    probe.say("user anna good")
    assert probe.wait("SECRET challenge") == "SECRET challenge Code from the key"
    probe.say("challenge 123456")
    probe.wait("UP ")


def test_dynamic_challenge(net):
    login_server(net)
    open(f"{net.work}/dynamic", "w", encoding="ascii").close()
    probe = net.probe(net.provider.openvpn_profile(extra=["auth-user-pass"]))
    probe.wait("SECRET user-password")
    probe.say("user anna first")
    assert probe.wait("SECRET challenge") == "SECRET challenge Code: please"
    probe.say("challenge 123456")
    probe.wait("UP ")
    assert seen(net) == ["anna|first", "anna|CRV1::sid::123456"] and "REFUSED" not in str(probe.lines)


def test_server_goes_silent_and_comes_back(net):
    server = net.provider.openvpn(pushes=(f"dhcp-option DNS {VPN_DNS}", "ping 1", "ping-restart 2"))
    probe = net.probe(net.provider.openvpn_profile())
    probe.wait("UP ")
    server.freeze()
    assert probe.wait("RECONNECTING") == "RECONNECTING the server went silent"
    assert "tun type tun" in device(net)
    server.freeze(False)
    assert probe.wait("UP ", count=2, timeout=25) == probe.wait("UP ")


def test_new_values_on_reconnect(net):
    server = net.provider.openvpn()
    probe = net.probe(net.provider.openvpn_profile())
    probe.wait("UP 10.8.0.2/24")
    server.push("dhcp-option DNS 10.64.0.99", address="10.8.0.77")
    probe.say("restart")
    probe.wait("RECONNECTING asked for a new connection")
    assert "dns 10.64.0.99" in probe.wait("UP 10.8.0.77/24")
    probe.say("restart")
    probe.wait("UP 10.8.0.77/24", count=2)


def test_client_is_killed(net):
    net.provider.openvpn()
    probe = net.probe(net.provider.openvpn_profile())
    probe.wait("UP ")
    os.kill(probe.client(), signal.SIGKILL)
    probe.wait("ENDED")
    assert "tun type tun" in device(net)
    probe.end()
    assert device(net) == ""


def test_no_server_at_all(net):
    probe = net.probe(net.provider.openvpn_profile(remotes=["203.0.113.10 1 tcp"]))
    probe.wait("CONNECTING calling the server")
    probe.say("restart")  # here OpenVPN would die of a signal
    probe.wait("CONNECTING calling the server", count=2)
    assert "ENDED" not in str(probe.lines)
    server = net.provider.openvpn(proto="tcp", port=1)
    probe.wait("UP ", timeout=15)
    server.stop()
    assert probe.wait("ENDED", timeout=20) == "ENDED no server of the profile answers"


def test_supervisor_is_killed_and_adopts(net):
    net.provider.openvpn()
    profile = net.provider.openvpn_profile()
    first = net.probe(profile)
    up = first.wait("UP ")
    pid = first.client()
    first.close()
    assert alive(pid)
    second = net.probe(profile, "adopt")
    assert second.wait("UP ") == up and second.client() == pid
    second.say("restart")
    assert second.wait("UP ", count=2) == up
    second.end("leave")
    assert alive(pid)
    third = net.probe(profile, "adopt")
    third.wait("UP ")
    third.end()
    assert not alive(pid) and device(net) == ""


def test_moved_on_while_nobody_listened(net):
    server = net.provider.openvpn()
    profile = net.provider.openvpn_profile()
    first = net.probe(profile)
    first.wait("UP ")
    pid = first.client()
    first.close()
    server.push("dhcp-option DNS 10.64.0.99")
    server.kick()
    wait_until(lambda: first.log().count("Initialization Sequence Completed") == 2, 10 * SLOW, "a new connection")
    second = net.probe(profile, "adopt")
    second.wait("ENDED it moved on while nobody listened")
    assert "UP" not in [line.split()[0] for line in second.lines]
    second.end()
    assert not alive(pid)


def test_nothing_to_adopt(net):
    net.provider.openvpn()
    profile = net.provider.openvpn_profile()
    assert net.probe(profile, "adopt").wait("failed") == "failed No such file or directory"
    first = net.probe(profile)
    first.wait("UP ")
    pid = first.client()
    first.close()
    other = net.provider.openvpn_profile("other", extra=["reneg-sec 1000"])
    assert net.probe(other, "adopt").wait("failed") == "failed No such file or directory"
    assert alive(pid)
    second = net.probe(other)  # a start sweeps
    second.wait("UP ")
    assert not alive(pid) and second.client() != pid


def test_leftovers_are_swept(net):
    net.provider.openvpn()
    profile = net.provider.openvpn_profile()
    net["vpn"].run(["ip", "tuntap", "add", "qubes-vpn", "mode", "tun"])
    probe = net.probe(profile)
    probe.wait("UP ")
    probe.end()
    net["vpn"].run(["ip", "link", "add", "qubes-vpn", "type", "veth", "peer", "name", "imposter"])
    assert net.probe(profile).wait("failed") == "failed File exists"


# A client in other hands: it says what it likes, and does not want to end.
HOSTILE = """#!/usr/bin/python3
import os, signal, socket, sys
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
print("last words of the log", flush=True)
path = [line.split()[1] for line in sys.stdin if line.startswith("management ")][0].strip('"')
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
peer, _ = listener.accept()

def ever(data):
    while True:
        peer.sendall(data)

def env():
    peer.sendall(b">UPDOWN:UP\\n")
    for _ in range(100):
        peer.sendall(b">UPDOWN:ENV,dns_x=" + b"y" * 3000 + b"\\n")
    peer.sendall(b">UPDOWN:ENV,END\\n>STATE:1,CONNECTED,x,10.0.0.1\\n")
    signal.pause()

def close():
    peer.close()
    listener.close()
    signal.pause()

what = open(__file__ + ".what").read()
if what == "flood":
    ever(b">LOG:1,I,noise\\r\\n" * 1000)
elif what == "states":
    ever(b">STATE:1,WAIT\\r\\n>STATE:1,AUTH\\r\\n" * 100)
elif what == "ups":
    ever(b">UPDOWN:UP\\n>UPDOWN:ENV,END\\n>STATE:1,CONNECTED,x,10.0.0.1\\n" * 100)
elif what == "secrets":
    ever(b">PASSWORD:Need 'Auth' username/password\\n" * 100)
elif what == "line":
    ever(b"x" * 100000)
elif what == "env":
    env()
elif what == "close":
    close()
signal.pause()
"""


@pytest.fixture
def hostile(net):
    """hostile(what): the probe with such a client."""
    path = f"{net.work}/hostile"
    with open(path, "w", encoding="ascii") as file:
        file.write(HOSTILE)
    os.chmod(path, 0o755)

    def run(what):
        with open(f"{path}.what", "w", encoding="ascii") as file:
            file.write(what)
        os.chmod(f"{path}.what", 0o644)
        probe = net.probe(net.provider.openvpn_profile(), f"program={path}")
        probe.wait("started")
        return probe
    return run


@pytest.mark.parametrize("what", ["states", "ups", "secrets"])
def test_client_that_makes_too_many_events_is_killed(hostile, what):
    probe = hostile(what)
    pid = probe.client()
    assert "too often" in probe.wait("ENDED", timeout=15)
    assert not alive(pid) and len(probe.lines) < 300
    probe.end()


@pytest.mark.parametrize("what", ["flood", "line", "silent", "env"])
def test_client_that_does_not_end_is_killed(hostile, what):
    probe = hostile(what)
    pid = probe.client()
    if what == "env":
        probe.wait("UP none none")
        assert not os.path.exists(f"{probe.runtime}/client/pushed")
    probe.say("poll")
    probe.end()
    assert not alive(pid) and len(probe.lines) < 10


def test_client_that_closes_is_killed(hostile):
    probe = hostile("close")
    pid = probe.client()
    assert probe.wait("ENDED") == "ENDED last words of the log"
    assert not alive(pid)


def with_key(net, name, key):
    """The profile with another private key."""
    path = net.provider.openvpn_profile(name)
    with open(path, encoding="ascii") as file:
        text = re.sub("<key>.*</key>", lambda _: f"<key>\n{key}</key>", file.read(), flags=re.DOTALL)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def test_key_of_another_certificate(net):
    with open(f"{pki()}/server.key", encoding="ascii") as file:
        probe = net.probe(with_key(net, "mismatch", file.read()))
    assert probe.wait("REFUSED").startswith("REFUSED the private key cannot be used")


def test_password_of_the_key(net):
    net.provider.openvpn()
    key = subprocess.run(["openssl", "pkey", "-in", f"{pki()}/client.key", "-aes256", "-passout", "pass:top-secret"],
                         check=True, capture_output=True, text=True).stdout
    probe = net.probe(with_key(net, "locked", key))
    probe.wait("SECRET key-password")
    probe.say("key wrong")
    assert probe.wait("REFUSED") == "REFUSED the password does not open the private key"
    probe.say("restart")
    probe.wait("SECRET key-password", count=2)
    probe.say("key top-secret")
    probe.wait("UP ")
    assert "top-secret" not in probe.log()


def test_program_that_ends_at_once(net):
    path = f"{net.work}/short"
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\n"
                   "echo '2026-11-22 03:24:31 Options error: no way'; echo Use --help for more information.; exit 1\n")
    os.chmod(path, 0o755)
    assert net.probe(net.provider.openvpn_profile(), f"program={path}").wait("ENDED") == "ENDED Options error: no way"
    assert net.probe(net.provider.openvpn_profile(), "program=/nonexistent").wait("failed").startswith("failed No such")
