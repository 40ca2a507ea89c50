# SPDX-License-Identifier: GPL-2.0-or-later
"""The text that is written for the client, given to the real openvpn: it takes every directive of every sample,
connects to a server, and does nothing that a hostile server pushes."""

import os
import re
import socket
import subprocess
import time

import pytest

from lab.node import make_namespace, wait_until
from lab.router import ROOT, SLOW, available, program
from lab.vpn_provider import pki

TOOL = "tests/unit/vpn-openvpn-text"
SAMPLES = os.path.join(ROOT, "tests/data/vpn/openvpn")
SERVER = "10.99.0.1"

pytestmark = pytest.mark.skipif(not available(TOOL), reason="vpn-openvpn-text is not built")


class Place:
    """A network namespace of the test with a tun device, and the processes in it."""

    def __init__(self, folder):
        self.folder, self.processes = str(folder), []
        self.name = f"ovpntext{os.getpid()}"
        make_namespace(f"/run/netns/{self.name}")
        for line in ("link set lo up", f"addr add {SERVER}/32 dev lo", "addr add 2001:db8:99::1/128 dev lo",
                     "tuntap add dev qubes-vpn mode tun", "link set qubes-vpn up"):
            self.run("ip", *line.split())

    def enter(self, *command):
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def run(self, *command):
        return subprocess.run(self.enter(*command), check=True, capture_output=True, text=True).stdout

    def start(self, name, *command, **options):
        log = open(f"{self.folder}/{name}.log", "w", encoding="utf-8")  # pylint: disable=consider-using-with
        with log:
            self.processes.append(subprocess.Popen(self.enter(*command), stdout=log, stderr=log, cwd=self.folder,
                                                   **options))
        return self.processes[-1]

    def log(self, name):
        with open(f"{self.folder}/{name}.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def server(self, *options, port=1194, proto="udp"):
        keys = pki()
        with open(f"{self.folder}/DEFAULT", "w", encoding="utf-8") as file:
            file.write("ifconfig-push 10.8.0.2 255.255.255.0\n")
        self.start(f"server{port}", "openvpn", "--dev", f"tun{port}", "--mode", "server", "--tls-server",
                   "--proto", proto, "--port", str(port), "--topology", "subnet", "--push", "topology subnet",
                   "--ifconfig", "10.8.0.1", "255.255.255.0", "--client-config-dir", self.folder, "--duplicate-cn",
                   "--ca", f"{keys}/ca.crt", "--cert", f"{keys}/server.crt", "--key", f"{keys}/server.key",
                   "--dh", "none", "--verb", "3", "--disable-dco", *options)
        wait_until(lambda: self._serves(f"server{port}"), 10 * SLOW, "server")

    def _serves(self, name):
        assert self.processes[-1].poll() is None, self.log(name)
        return "Initialization Sequence Completed" in self.log(name)

    def text(self, profile, *targets):
        """(text for the client, what was found)"""
        done = subprocess.run([program(TOOL), profile, "qubes-vpn", f"{self.folder}/m", *targets], check=False,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    def profile(self, *lines):
        keys = pki()
        path = f"{self.folder}/own.ovpn"
        blocks = [f"<{tag}>\n{open(f'{keys}/{name}', encoding='utf-8').read()}</{tag}>"
                  for tag, name in (("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key"))]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(["client", "dev tun", f"remote {SERVER}", "remote-cert-tls server", *lines, *blocks]))
        return path

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Client:
    """openvpn with the text on its standard input, driven by its management socket."""

    def __init__(self, place, text):
        self.place, self.said = place, ""
        if os.path.exists(f"{place.folder}/m"):
            os.unlink(f"{place.folder}/m")
        self.process = place.start("client", "openvpn", "--config", "stdin", stdin=subprocess.PIPE)
        self.process.stdin.write(text.encode())
        self.process.stdin.close()
        self.socket = socket.socket(socket.AF_UNIX)
        wait_until(self._connect, 10 * SLOW, "management socket")
        self.socket.settimeout(0.05)
        self.say("state on", "hold off", "hold release")

    def _connect(self):
        assert self.process.poll() is None, self.place.log("client")
        return self.socket.connect_ex(f"{self.place.folder}/m") == 0

    def say(self, *lines):
        self.socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def wait(self, pattern, timeout=10, after=0):
        """Match of the pattern in what was said from place `after` on."""
        end = time.monotonic() + timeout * SLOW
        while not (found := re.compile(pattern, re.MULTILINE).search(self.said, after)):
            assert time.monotonic() < end, f"no {pattern} in {self.said}\n{self.place.log('client')}"
            try:
                data = self.socket.recv(65536)
                assert data, f"ended: {self.said}\n{self.place.log('client')}"
                self.said += data.decode()
            except TimeoutError:
                pass
        return found


@pytest.fixture
def place(tmp_path):
    one = Place(tmp_path)
    yield one
    one.close()


def test_every_option_of_openvpn_is_known(place):
    options = sorted(set(re.findall(r"^--([a-z0-9-]+)", place.run("sh", "-c", "openvpn --help; true"), re.MULTILINE)))
    assert len(options) > 200
    path = f"{place.folder}/all.ovpn"
    unknown = []
    for one in options:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{one}\n")
        done = subprocess.run([program(TOOL), path], check=False, capture_output=True, text=True)
        assert done.returncode == 1  # no profile has one line only
        if "is not a directive" in done.stderr:
            unknown.append(one)
    assert not unknown


@pytest.mark.parametrize("name", sorted(name for name in os.listdir(SAMPLES) if name.endswith(".ovpn")))
def test_samples_are_taken_by_openvpn(place, name):
    text, _ = place.text(os.path.join(SAMPLES, name), f"{SERVER}:9:udp", "2001:db8:99::1:9:tcp")
    Client(place, text).wait(r"^>STATE:.*,(WAIT|TCP_CONNECT),|^>PASSWORD:Need")
    assert "Options error" not in place.log("client")


@pytest.mark.parametrize("proto,target", [("udp", f"{SERVER}:1194:udp"), ("tcp-server", f"{SERVER}:1194:tcp"),
                                          ("udp6", "2001:db8:99::1:1194:udp")])
def test_connects(place, proto, target):
    place.server(proto=proto)
    text, _ = place.text(place.profile("cipher AES-256-CBC", "explicit-exit-notify"), target)
    client = Client(place, text)
    client.wait(r"^>UPDOWN:ENV,ifconfig_local=10\.8\.0\.2")
    client.wait(r"^>STATE:.*,CONNECTED,SUCCESS,10\.8\.0\.2,")
    assert ("\nfast-io\n" in text) == (proto != "tcp-server")
    assert "--fast-io is disabled" not in place.log("client")


def test_asks_for_secrets_by_management_only(place):
    place.server("--script-security", "3", "--auth-user-pass-verify", "/bin/true", "via-env", "--comp-lzo", "no",
                 "--push", "comp-lzo no")
    text, _ = place.text(place.profile("auth-user-pass", 'static-challenge "Your \\"code\\": #; now" 1'),
                         f"{SERVER}:1194:udp")
    client = Client(place, text)
    client.wait(r"""^>PASSWORD:Need 'Auth' username/password SC:1,Your "code": #; now\r?$""")
    client.say('username "Auth" anna', 'password "Auth" "SCRV1:YQ==:YQ=="')
    client.wait(r"^>STATE:.*,CONNECTED,SUCCESS")


def test_tries_the_next_server(place):
    place.server(port=1195)
    text, _ = place.text(place.profile(), f"{SERVER}:9:tcp", f"{SERVER}:1195:udp")
    client = Client(place, text)
    client.wait(r"^>STATE:.*,RECONNECTING,")
    client.wait(rf"^>STATE:.*,CONNECTED,SUCCESS,10\.8\.0\.2,{SERVER},1195", 20)


def test_ends_when_no_server_answers(place):
    """So that the supervisor looks names up again."""
    text, _ = place.text(place.profile(), f"{SERVER}:9:tcp", f"{SERVER}:10:tcp")
    client = Client(place, text)
    client.wait(r"^>FATAL:All connections have been connect-retry-max", 30)


def test_nothing_pushed_is_done(place):
    pushes = ["route 198.51.100.0 255.255.255.0", "redirect-gateway def1", "route-gateway 10.8.0.1", "ping-exit 1",
              "setenv-safe EVIL 1", "dhcp-option DOMAIN evil", "dhcp-option DNS 10.8.0.1", "block-ipv6", "inactive 1",
              "script-security 2", "explicit-exit-notify 30", "session-timeout 1", "dns search-domains evil",
              "sndbuf 1", "persist-key", "verb 9", "echo evil", "route-metric 1", "route-ipv6 2001:db8:77::/48",
              "client-nat snat 1.2.3.0 255.255.255.0 1.2.4.0"]
    place.server(*(word for push in pushes for word in ("--push", push)))
    before = place.run("ip", "addr", "show", "qubes-vpn"), place.run("ip", "route")
    text, _ = place.text(place.profile(), f"{SERVER}:1194:udp")
    client = Client(place, text)
    client.wait(r"^>UPDOWN:ENV,foreign_option_1=dhcp-option DNS 10\.8\.0\.1")
    client.wait(r"^>STATE:.*,CONNECTED,SUCCESS")
    assert not re.search("evil|route_network|redirect_|inactive|verb=9", client.said, re.IGNORECASE)
    after = place.run("ip", "addr", "show", "qubes-vpn"), place.run("ip", "route")
    assert before[1] == after[1]
    assert re.findall(r"inet (\S+)", before[0]) == re.findall(r"inet (\S+)", after[0]) == []
    removed = re.findall(r"Pushed option removed by filter: '([a-z0-9-]+)", place.log("client"))
    assert sorted(removed) == sorted(push.split()[0] for push in pushes if "DNS 10" not in push)


def test_a_restart_with_the_same_answer_leaves_the_device(place):
    """What the driver of the client relies on: then no second UPDOWN comes, only CONNECTED."""
    place.server()
    text, _ = place.text(place.profile(), f"{SERVER}:1194:udp")
    client = Client(place, text)
    first = client.wait(r"^>STATE:.*,CONNECTED,SUCCESS").end()
    client.say("signal SIGUSR1")
    client.wait(r"^>STATE:.*,CONNECTED,SUCCESS", after=first)
    assert ">UPDOWN" not in client.said[first:]
