# SPDX-License-Identifier: GPL-2.0-or-later
"""A VPN provider: keys made once per sandbox, OpenVPN and WireGuard servers, the files that customers get, and what
stands before and behind the tunnel (targets that tell which way a packet took, name servers that log).

    with Lab(topologies.VPN) as lab:
        provider = Provider(lab)
        server = provider.openvpn("server")          # UDP 1194, ready
        provider.openvpn_profile("one")              # provider.folder/one.ovpn
"""

import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass

from lab import sandbox
from lab.node import plain, wait_until
from lab.router import SLOW
from lab.topologies import TARGET, TARGET6

NAME = "vpn.example.net"                  # what profiles call the server; Provider.names says what it means
CLEAR_DNS, VPN_DNS, VPN_DNS6 = "203.0.113.1", "10.64.0.53", "fd00:64::53"
CLEAR_ANSWER, VPN_ANSWER = "192.0.2.1", "192.0.2.2"
CLEAR_ANSWER6, VPN_ANSWER6 = "2001:db8:d::1", "2001:db8:d::2"
ECHO = 7                                  # port of the targets, UDP and TCP

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """What one server gives: its own addresses and the nets inside its tunnels."""
    ip: str
    ip6: str
    net: str        # OpenVPN, "10.8.0": the server is .1, the client .2
    net6: str       # "fd00:8:"
    wg_net: str
    wg_net6: str

    @property
    def client(self):
        return f"{self.net}.2"

    @property
    def client6(self):
        return f"{self.net6}:2"


SITES = {
    "server": Site("203.0.113.10", "2001:db8:1::10", "10.8.0", "fd00:8:", "10.66.0", "fd00:66:"),
    "server2": Site("203.0.113.20", "2001:db8:1::20", "10.9.0", "fd00:9:", "10.67.0", "fd00:67:"),
}


# -- keys --------------------------------------------------------------------------------------------------------------

def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@functools.cache
def pki():
    """Folder with ca, server and client (.crt, .key) and ta.key; EC keys, made at the first call."""
    folder = f"{sandbox.WORK}/pki"
    os.makedirs(folder, exist_ok=True)
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(folder, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650",
             "-subj", "/CN=Example VPN CA")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        with open(f"{folder}/{name}.ext", "w", encoding="ascii") as file:
            file.write(f"extendedKeyUsage={usage}\nkeyUsage=digitalSignature,keyAgreement\n")
        _openssl(folder, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                 "-out", f"{name}.crt", "-days", "3650", "-extfile", f"{name}.ext")
    subprocess.run(["openvpn", "--genkey", "tls-crypt", f"{folder}/ta.key"], check=True, stdout=subprocess.DEVNULL)
    return folder


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _pem(name):
    text = _read(f"{pki()}/{name}")
    return text[text.index("-----BEGIN"):]


@functools.cache
def wireguard_key(owner):
    """(private, public) of an owner; the same during a sandbox."""
    private = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout.strip()
    public = subprocess.run(["wg", "pubkey"], check=True, capture_output=True, text=True, input=private).stdout.strip()
    return private, public


# -- servers -----------------------------------------------------------------------------------------------------------

class OpenvpnServer:
    """openvpn in server mode. proto: udp, udp6, tcp, tcp6. pushes: what is sent besides the addresses; a change holds
    from the next connection on. address None pushes no address (hostile servers push their own by pushes). Everything
    addressed to the tunnel goes to the one client, and whatever the client sends is let in, so nothing is hidden from
    those who look."""

    PUSHES = (f"dhcp-option DNS {VPN_DNS}", "redirect-gateway def1 ipv6", "ping 1", "ping-restart 6")

    def __init__(self, node, proto="udp", port=1194, pushes=PUSHES, options=(), device=None):
        self.node, self.site = node, SITES[node.name]
        self.proto, self.port, self.options = proto, port, tuple(options)
        self.device = device or f"tun{next(_numbers)}"
        self.folder = f"{node.lab.work}/{node.name}-{self.device}"
        os.makedirs(f"{self.folder}/ccd")
        self.pushes, self.address, self.address6 = tuple(pushes), self.site.client, self.site.client6
        self.process, self.frozen = None, False
        self.push()

    def push(self, *pushes, address=..., address6=...):
        """Sets what the next client gets; without arguments what is set already."""
        self.pushes = pushes or self.pushes
        self.address = self.address if address is ... else address
        self.address6 = self.address6 if address6 is ... else address6
        lines = ["iroute 0.0.0.0 0.0.0.0", "iroute-ipv6 ::/0"]
        if self.address:
            lines.append(f"ifconfig-push {self.address} 255.255.255.0")
        if self.address6:
            lines.append(f"ifconfig-ipv6-push {self.address6}/64 {self.site.net6}:1")
        lines += [f'push "{text}"' for text in self.pushes]
        with open(f"{self.folder}/ccd/DEFAULT.new", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.rename(f"{self.folder}/ccd/DEFAULT.new", f"{self.folder}/ccd/DEFAULT")

    def command(self):
        site, keys = self.site, pki()
        proto = {"tcp": "tcp-server", "tcp6": "tcp6-server"}.get(self.proto, self.proto)
        words = ["openvpn", "--dev", self.device, "--dev-type", "tun", "--mode", "server", "--tls-server",
                 "--topology", "subnet", "--proto", proto, "--port", str(self.port), "--ifconfig", f"{site.net}.1", "255.255.255.0",
                 "--ifconfig-ipv6", f"{site.net6}:1/64", f"{site.net6}:2", "--push", "topology subnet",
                 "--push", f"route-gateway {site.net}.1",
                 "--ca", f"{keys}/ca.crt", "--cert", f"{keys}/server.crt", "--key", f"{keys}/server.key",
                 "--dh", "none", "--tls-crypt", f"{keys}/ta.key", "--client-config-dir", f"{self.folder}/ccd",
                 "--ping", "1", "--ping-restart", "16", "--disable-dco", "--verb", "3", "--suppress-timestamps",
                 "--management", f"{self.folder}/mgmt", "unix", "--log-append", f"{self.folder}/log",
                 "--data-ciphers", "AES-256-GCM", "--max-clients", "256"]
        return words + list(self.options)

    def start(self):
        self.frozen = False
        open(f"{self.folder}/log", "w", encoding="utf-8").close()
        self.process = self.node.popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        wait_until(self._ready, 10 * SLOW, f"{self.node.name}: openvpn server")
        return self

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"openvpn server ended:\n{self.log}")
        return "Initialization Sequence Completed" in self.log

    @property
    def log(self):
        return _read(f"{self.folder}/log")

    def manage(self, line):
        """One management command; its answer up to END, SUCCESS or ERROR."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5 * SLOW)
            sock.connect(f"{self.folder}/mgmt")
            sock.sendall(line.encode() + b"\n")
            text = ""
            while not any(word in text for word in ("\nEND", "SUCCESS:", "ERROR:")):
                data = sock.recv(65536)
                if not data:
                    break
                text += data.decode(errors="replace")
        return text

    def clients(self):
        if self.frozen or not self.process or self.process.poll() is not None:
            return []
        return [line for line in self.manage("status 3").splitlines() if line.startswith("CLIENT_LIST")]

    def kick(self):
        """Tells the client to start over, as a server does before maintenance."""
        for line in self.clients():
            self.manage(f"client-kill {line.split(chr(9))[10]}")

    def freeze(self, frozen=True):
        """The server goes silent (no packet says so), or comes back."""
        self.frozen = frozen
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop()
        return self.start()


def _listens(path):
    """A socket is there before it can be connected to; wg then asks the kernel instead."""
    with socket.socket(socket.AF_UNIX) as tried:
        return tried.connect_ex(path) == 0


class WireguardServer:
    """wireguard-go with one peer, who may send from and to every address."""

    def __init__(self, node, port=51820):
        self.node, self.site, self.port = node, SITES[node.name], port
        self.device = f"wg{next(_numbers)}x{os.getpid()}"
        self.process = None

    def start(self, peer="client"):
        control = f"/var/run/wireguard/{self.device}.sock"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(control)  # of one that was killed
        private, _ = wireguard_key(self.node.name)
        loud = {"PATH": os.environ["PATH"], "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
        self.process = self.node.popen(["wireguard-go", "-f", self.device], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=loud)
        wait_until(lambda: _listens(control), 5 * SLOW, "wireguard-go")
        path = f"{self.node.lab.work}/{self.device}.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[Interface]\nPrivateKey = {private}\nListenPort = {self.port}\n"
                       f"[Peer]\nPublicKey = {wireguard_key(peer)[1]}\nAllowedIPs = 0.0.0.0/0, ::/0\n")
        self.node.run(["wg", "setconf", self.device, path])
        site = self.site
        self.node.batch(f"link set {self.device} mtu 1420 up\naddr add {site.wg_net}.1/24 dev {self.device}\n"
                        f"addr add {site.wg_net6}:1/64 dev {self.device} nodad\n")
        return self

    def latest_handshake(self):
        """Seconds of the real-time clock, 0 before the first."""
        words = self.node.run(["wg", "show", self.device, "latest-handshakes"]).stdout.split()
        return int(words[1]) if len(words) > 1 else 0

    def freeze(self, frozen=True):
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop()
        return self.start()


# -- what stands before and behind the tunnel --------------------------------------------------------------------------

class Targets:
    """On one machine: UDP echo that answers WORD, the client's address as seen here, then the data; TCP the same once
    per connection, then an echo. peers: client addresses in order."""

    def __init__(self, node, word, addresses, port=ECHO):
        self.word, self.peers = word, []
        for address in addresses:
            node.listen(socket.SOCK_DGRAM, port, address, self._udp)
            node.listen(socket.SOCK_STREAM, port, address, self._tcp)

    def _line(self, address):
        self.peers.append(plain(address[0]))
        return f"{self.word} {self.peers[-1]}\n".encode()

    def _udp(self, server):
        while True:
            data, address = server.socket.recvfrom(65536)
            if address is None:
                return
            with contextlib.suppress(OSError):
                server.socket.sendto(self._line(address) + data, address)

    def _tcp(self, server):
        def talk(connection, address):
            with contextlib.suppress(OSError), connection:
                connection.sendall(self._line(address))
                while data := connection.recv(65536):
                    connection.sendall(data)

        while True:
            connection, address = server.socket.accept()
            threading.Thread(target=talk, args=(connection, address), daemon=True).start()


class NameServer:
    """Answers every A and AAAA question, UDP and TCP: names has special names ({name: [addresses]}), default is the
    answer to all others. queries: names asked for, in order."""

    def __init__(self, node, address, default, names=None):
        self.address, self.default, self.names, self.queries = address, default, names if names is not None else {}, []
        self.silent = False
        node.listen(socket.SOCK_DGRAM, 53, address, self._udp)
        node.listen(socket.SOCK_STREAM, 53, address, self._tcp)

    def answer(self, query):
        """The reply to one query as bytes, None where it is not one."""
        question = parse_question(query)
        if question is None:
            return None
        name, kind, end = question
        self.queries.append(name)
        found = []
        for address in self.names.get(name, self.default):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if kind == (28 if family == socket.AF_INET6 else 1):
                packed = socket.inet_pton(family, address)
                found.append(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(packed)) + packed)
        head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(found), 0, 0)
        return head + query[12:end] + b"".join(found)

    def _udp(self, server):
        while True:
            query, peer = server.socket.recvfrom(4096)
            if peer is None:
                return
            reply = self.answer(query)
            if reply and not self.silent:
                with contextlib.suppress(OSError):
                    server.socket.sendto(reply, peer)

    def _tcp(self, server):
        while True:
            connection, _ = server.socket.accept()
            with contextlib.suppress(OSError, struct.error), connection:
                connection.settimeout(1.0)
                length = struct.unpack("!H", connection.recv(2))[0]
                reply = self.answer(connection.recv(length))
                if reply and not self.silent:
                    connection.sendall(struct.pack("!H", len(reply)) + reply)


def parse_question(data):
    """(name, type, end of the question) of a DNS message; None when it holds no plain question."""
    labels, place = [], 12
    try:
        while (length := data[place]) != 0:
            if length > 63 or place + 1 + length > len(data):
                return None
            labels.append(data[place + 1:place + 1 + length].decode("ascii", "replace").lower())
            place += 1 + length
        return ".".join(labels), struct.unpack_from("!H", data, place + 1)[0], place + 5
    except (IndexError, struct.error):
        return None


def make_question(name, kind=1, number=0x1234):
    """A DNS query as bytes."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def resolve(node, name, server="10.139.1.1", kind=1, timeout=1.0, tcp=False):
    """What node is told by that name server: list of addresses, None without an answer."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    query = make_question(name, kind)
    with node.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout * SLOW)
        try:
            sock.connect((server, 53))
            sock.sendall(struct.pack("!H", len(query)) + query if tcp else query)
            data = sock.recv(4096)[2 if tcp else 0:]
        except OSError:
            return None
    place, found = parse_question(data)[2], []
    for _ in range(struct.unpack_from("!H", data, 6)[0]):
        kind, _, _, length = struct.unpack_from("!HHIH", data, place + 2)
        packed = data[place + 12:place + 12 + length]
        found.append(socket.inet_ntop(socket.AF_INET6 if kind == 28 else socket.AF_INET, packed))
        place += 12 + length
    return found


def way(node, address=TARGET, proto="udp", timeout=0.5, source=None):
    """Which way a packet of node takes to the target: "VPN", "CLEAR" or None (no answer)."""
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    with node.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.settimeout(timeout * SLOW)
        try:
            if source:
                sock.bind((source, 0))
            sock.connect((address, ECHO))
            if proto == "udp":
                sock.send(b"which way?")
            return sock.recv(4096).split()[0].decode()
        except OSError:
            return None


# -- the whole ---------------------------------------------------------------------------------------------------------

class Provider:
    """Everything outside of the VPN qube, in a lab of topologies.VPN: targets and name servers run at once, VPN servers
    when asked for. folder: where profiles are written (as a user's download; nothing reads it by itself)."""

    def __init__(self, lab):
        self.lab = lab
        self.folder = f"{lab.work}/provider"
        os.makedirs(self.folder)
        self.names = {NAME: [SITES["server"].ip]}
        both = (TARGET, TARGET6)
        self.clear = Targets(lab["internet"], "CLEAR", both)
        self.inside = Targets(lab["inside"], "VPN", both)
        self.wild = Targets(lab["wild"], "CLEAR", both)
        self.clear_dns = NameServer(lab["internet"], CLEAR_DNS, [CLEAR_ANSWER, CLEAR_ANSWER6], self.names)
        self.dns = NameServer(lab["inside"], VPN_DNS, [VPN_ANSWER, VPN_ANSWER6])
        self.dns6 = NameServer(lab["inside"], VPN_DNS6, [VPN_ANSWER, VPN_ANSWER6])

    def openvpn(self, name="server", **options):
        return OpenvpnServer(self.lab[name], **options).start()

    def wireguard(self, name="server", **options):
        return WireguardServer(self.lab[name], **options).start()

    def openvpn_text(self, remotes=("203.0.113.10 1194 udp",), extra=()):
        """A customer's file, everything inline. remotes: arguments of `remote`."""
        lines = ["client", "dev tun", "nobind", "persist-key", "persist-tun", "remote-cert-tls server", "verb 3",
                 "data-ciphers AES-256-GCM", "connect-retry 1 2", "connect-timeout 3", "server-poll-timeout 3"]
        lines += [f"remote {remote}" for remote in remotes]
        lines += list(extra)
        for tag, name in (("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key"), ("tls-crypt", "ta.key")):
            lines.append(f"<{tag}>\n{_pem(name).rstrip()}\n</{tag}>")
        return "\n".join(lines) + "\n"

    def openvpn_profile(self, name="provider", **options):
        return self._write(f"{name}.ovpn", self.openvpn_text(**options))

    def wireguard_text(self, server="server", endpoint=None, owner="client", dns=(VPN_DNS,), extra_interface=(),
                       extra_peer=(), addresses=None):
        site = SITES[server]
        addresses = addresses or (f"{site.wg_net}.2/32", f"{site.wg_net6}:2/128")
        lines = ["[Interface]", f"PrivateKey = {wireguard_key(owner)[0]}", f"Address = {', '.join(addresses)}"]
        lines += [f"DNS = {', '.join(dns)}"] if dns else []
        lines += [*extra_interface, "", "[Peer]", f"PublicKey = {wireguard_key(server)[1]}",
                  "AllowedIPs = 0.0.0.0/0, ::/0", f"Endpoint = {endpoint or site.ip + ':51820'}", *extra_peer]
        return "\n".join(lines) + "\n"

    def wireguard_profile(self, name="provider", **options):
        return self._write(f"{name}.conf", self.wireguard_text(**options))

    def _write(self, name, text):
        path = f"{self.folder}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    @staticmethod
    def install(path, folder, name=None):
        """Copies a profile to where the product looks for it; whole at once, as a careful editor writes."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        target = f"{folder}/{name or os.path.basename(path)}"
        shutil.copy(path, f"{target}.new~")
        os.rename(f"{target}.new~", target)
        return target
