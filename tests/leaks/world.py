# SPDX-License-Identifier: GPL-2.0-or-later
"""A VPN qube under observation: the lab, the provider, what protects it and what connects it, behind one set of verbs.

mode "product"  the seal's owner and the supervisor
     "seal"     the seal's owner, and a client driven by hand (lab/vpn.py HandClient)
     "older"    a client driven by hand, and the older package's way to seal (tests/leaks/older.py): another control
     "none"     nothing: an ordinary client. What the witness must see leaking (the control).
"""

import contextlib
import socket
import subprocess

from lab import topologies
from lab.lab import Lab
from lab.node import wait_until
from lab.router import SLOW
from lab.topologies import TARGET, TARGET6
from lab.vpn import LAYERS, TUNNEL, HandClient, Seal, Supervisor
from lab.vpn_oracle import Oracle
from lab.vpn_provider import SITES, VPN_ANSWER, Provider, WireguardServer, resolve, way
from tests.leaks.older import OlderSeal

FLOW = 41111     # local port of the qube's known flow


class Sender:
    """A packet socket on one interface, for many frames."""

    def __init__(self, node, iface):
        self._sock = node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with node.ns:
            self._sock.bind((iface, 0))
        self._iface = iface

    def frame(self, data):
        self._sock.send(data)

    def packet(self, data):
        """On a device without frames."""
        self._sock.sendto(data, (self._iface, 0x86DD if data[0] >> 4 == 6 else 0x0800))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.close()


class WireguardSide(WireguardServer):
    """With the verbs of an OpenVPN server, where there is something like it."""

    proto, frozen = "udp", False

    def freeze(self, frozen=True):
        self.frozen = frozen
        super().freeze(frozen)

    @property
    def address(self):
        return f"{self.site.wg_net}.2"

    @property
    def address6(self):
        return f"{self.site.wg_net6}:2"

    def kick(self):
        """It has forgotten every client."""
        self.restart()

    def clients(self):
        """A frozen one does not answer."""
        return ["client"] if not self.frozen and self.process.poll() is None and self.latest_handshake() else []


class World:
    seal_class = Seal

    def __init__(self, mode="product", layers=LAYERS, rp_filter=2, proto="udp", running=True):
        self.mode, self.layers = mode, layers if mode != "none" else ""
        topology = topologies.VPN.changed("vpn", rp_filter=rp_filter)
        if not running:
            topology = topology.changed("vpn", running=False)
        self.lab = Lab(topology)
        try:
            self._build(proto)
        except BaseException:
            self.lab.close()
            raise

    def _build(self, proto):
        lab = self.lab
        self.provider = Provider(lab)
        self.vpn, self.netvm = lab["vpn"], "sys-net"
        self.wireguard = proto == "wireguard"
        port = 51820 if self.wireguard else 443 if proto == "tcp" else 1194
        options = ["--reneg-sec", "3"]
        if self.wireguard:
            proto, self.servers = "udp", {name: WireguardSide(lab[name], port).start() for name in SITES}
        else:
            self.servers = {name: self.provider.openvpn(name, proto=proto, port=port, options=options)
                            for name in SITES}
        self.server = self.servers["server"]
        self.seal = self.supervisor = self.hand = self.oracle = None
        work, play, vpn = (lab[name].spec for name in ("work", "play", "vpn"))
        self.q, self.q6, self.qmac = work.ip, work.ip6, work.mac
        self.p, self.p6 = play.ip, play.ip6
        self.u, self.u6, self.umac = vpn.ip, vpn.ip6, vpn.mac
        self.gw, self.gw6 = lab["sys-net"].spec.ip, lab["sys-net"].spec.ip6
        self.flow, self._ports = FLOW, {}
        self.oracle = Oracle(lab, [(proto, site.ip, port) for site in SITES.values()], state="before")
        if self.wireguard:
            # It names the interface when it sends: without a route the kernel then looks for the server on the link.
            self.oracle._gateways |= {site.ip for site in SITES.values()}  # pylint: disable=protected-access

    # -- addresses that vectors speak of ---------------------------------------------------------------------------

    @property
    def e(self):
        return self.server.site.ip

    @property
    def eport(self):
        return self.server.port

    @property
    def t(self):
        return self.server.address or self.server.site.client

    @property
    def t6(self):
        return self.server.address6 or self.server.site.client6

    @property
    def st(self):
        site = self.server.site
        return f"{site.wg_net if self.wireguard else site.net}.1"

    @property
    def st6(self):
        site = self.server.site
        return f"{site.wg_net6 if self.wireguard else site.net6}:1"

    @property
    def cport(self):
        """The client's own port, as the endpoint's side knows it."""
        for line in self.vpn.run(["ss", "-Hn", "-u" if self.server.proto == "udp" else "-t", "-a"]).stdout.splitlines():
            words = line.split()
            if words[-1].endswith(f"{self.e}:{self.eport}"):
                return int(words[-2].rsplit(":", 1)[1])
        return self._unconnected_port() or 55555

    def _unconnected_port(self):
        """OpenVPN does not connect its socket: the one UDP socket of a client's process."""
        for line in self.vpn.run(["ss", "-Hunpa"], check=False).stdout.splitlines():
            if '"openvpn"' in line or '"wireguard-go"' in line:
                return int(line.split()[3].rsplit(":", 1)[1])
        return None

    # -- verbs -----------------------------------------------------------------------------------------------------

    def arm(self):
        if self.mode != "none" and self.seal is None:
            self.seal = (OlderSeal if self.mode == "older" else self.seal_class)(self.vpn, self.layers)
        return self

    def boot_uplink(self):
        """The network comes after the seal (with running=False)."""
        if not self.vpn.is_running:
            self.vpn.start()

    def connect(self, wait=True):
        if self.mode == "product":
            if self.supervisor is None:
                self.supervisor = Supervisor(self.vpn, self.seal)
                self._install()
            elif not self.supervisor.running():
                self.supervisor.start()
            else:
                self.supervisor.command.run("up")
        else:
            if self.hand is None:
                self.hand = self._hand()
            self.hand.connect(self.server, wait=wait)
        if wait:
            self.wait_up()
        return self

    def _hand(self):
        routes = self.mode == "seal" and "R" not in self.layers
        return HandClient(self.vpn, self.provider, self.seal, routes)

    def _install(self):
        for name, server in self.servers.items():
            if self.wireguard:
                path = self.provider.wireguard_profile(name, server=name)
            else:
                path = self.provider.openvpn_profile(name, remotes=[f"{server.site.ip} {server.port} {server.proto}"])
            self.supervisor.install(path)
        with contextlib.suppress(subprocess.CalledProcessError):
            wait_until(lambda: self.supervisor.state() is not None, 10 * SLOW, "the supervisor's bus")
        self.supervisor.command.run("use", self.server.node.name)

    def is_up(self):
        return way(self.lab["work"], timeout=0.1) == "VPN"

    def wait_up(self, timeout=25.0):
        try:
            wait_until(self.is_up, timeout * SLOW, "the tunnel carries the qube's packets", 0.02)
        except TimeoutError as error:
            error.add_note(self.logs())
            raise

    def works(self):
        """What must hold when up: both families and DNS, for both qubes; a list of what does not."""
        if self.mode in ("none", "older"):
            return []
        probes = {}
        for name in ("work", "play"):
            node = self.lab[name]
            for address in (TARGET, TARGET6):
                probes[f"{name} to {address}"] = lambda node=node, to=address: way(node, to) == "VPN"
                probes[f"{name} to {address} by TCP"] = lambda node=node, to=address: way(node, to, "tcp") == "VPN"
            if "N" in self.layers:
                probes[f"{name}'s look-ups"] = lambda node=node: resolve(node, "works.example") == [VPN_ANSWER]
        missing = []
        for what, probe in probes.items():
            try:
                wait_until(probe, 4 * SLOW, what)  # a datagram may be lost in the flood
            except TimeoutError:
                missing.append(what)
        return missing

    def down(self):
        if self.mode == "product":
            self.supervisor.command.run("down")
            self.supervisor.wait_state("sealed")
        else:
            self.hand.disconnect()

    def use(self, name):
        """The other server."""
        self.server = self.servers[name]
        if self.mode == "product":
            self.supervisor.command.run("use", name)
        else:
            self.hand.connect(self.server)
        self.wait_up()

    def kill_client(self):
        if self.mode == "product":
            self.supervisor.kill_client()
        else:
            self.hand.kill()

    def revive(self):
        """After something broke the client: the supervisor sees to it by itself, a hand must."""
        if self.mode != "product":
            self.hand.connect(self.server)
        self.wait_up(40.0)

    def kill_supervisor(self):
        if self.mode == "product":
            self.supervisor.kill9()
        elif self.hand.wish:
            self.hand.wish.close()
            self.hand.kill()

    def revive_supervisor(self):
        if self.mode == "product":
            self.supervisor.start()
        else:
            self.hand.close()
            self.hand = self._hand()
            self.hand.connect(self.server)
        self.wait_up(40.0)

    def kill_owner(self):
        if self.seal:
            self.seal.kill9()

    def revive_owner(self):
        if self.seal and not self.seal.running():
            self.seal.start()
            if self.mode == "seal":
                self.revive_supervisor()

    def restart_owner(self):
        if self.seal:
            self.seal.restart()
            if self.mode == "seal":
                self.revive_supervisor()

    def tunnel_device(self):
        """The server's device where the client is connected; None without."""
        connected = self.vpn.run(["ip", "link", "show", TUNNEL], check=False)
        return self.server.device if connected.returncode == 0 and self.server.clients() else None

    def open_flow(self):
        """A flow of the qube whose translated port is known to the vectors."""
        for address in (TARGET, TARGET6):
            way(self.lab["work"], address, timeout=0.3, source=self.q6 if ":" in address else self.q)
            with self.lab["work"].socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                                         socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("::" if ":" in address else "0.0.0.0", FLOW))
                sock.sendto(b"the known flow", (address, 7))

    def sender(self, name, iface):
        return Sender(self.lab[name], iface)

    def mark(self, state):
        self.oracle.mark(state)

    def logs(self):
        text = ""
        for program in (self.seal, self.supervisor):
            if program and hasattr(program, "log"):
                text += f"--- {program.name}\n{program.log[-6000:]}\n"
        if self.hand and self.hand.process:
            text += f"--- client\n{self.hand.log[-3000:]}\n"
        return text

    def close(self):
        self.oracle.close()
        self.lab.close()
        return self.oracle.report

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.lab.nodes:
            self.close()


