# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the commands of a document run: dom0, the net qubes and a server behind them (World of the exposed qube), and a
VPN qube with its provider (World of the VPN). A command line is given to a shell there, whose PATH begins with programs
of the build folder under their own names, with the sockets of the lab; `sudo` does nothing, qubesdb-* ask the lab's
QubesDB, and qvm-* (but for qvm-expose, which is ours) ask its stand-in of qubesd.
"""

import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import threading

from lab import topologies
from lab.dom0 import Dom0, flavoured
from lab.inbound import PROGRAM as INBOUND
from lab.inbound import Inbound
from lab.lab import Lab
from lab.node import wait_until
from lab.router import SLOW, available, program
from lab.serverd import EXPOSE, SERVERD, Expose, Serverd
from lab.topology import Qube
from lab.vpn import COMMAND, SEAL, SUPERVISOR, Seal, Supervisor
from lab.vpn_provider import Provider

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROUTER = "src/router/qubes-routing-manager"
PROGRAMS = (ROUTER, SERVERD, EXPOSE, INBOUND, SEAL, SUPERVISOR, COMMAND)
QUBESDB = f"/usr/bin/python3 -I -S {ROOT}/lab/qubesdb.py"
TIMEOUT = 30 * SLOW
QVM = ("qvm-prefs", "qvm-features", "qvm-service", "qvm-start", "qvm-shutdown", "qvm-ls", "qvm-check", "qvm-create",
       "qvm-firewall", "qubes-prefs")


def built():
    return all(map(available, PROGRAMS))


class Place:
    """A machine of the lab with a folder of programs and a home."""

    def __init__(self, node, folder, **env):
        self.node, self.bin, self.home = node, f"{folder}/bin", f"{folder}/home"
        os.makedirs(self.bin)
        os.makedirs(f"{self.home}/QubesIncoming/work")
        self.env = {"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.home, "LC_ALL": "C.UTF-8",
                    "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"} | env
        self.script("sudo", 'case "$1" in -u) shift 2 ;; esac; exec "$@"')

    def script(self, name, text):
        path = f"{self.bin}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def program(self, path, *options, **env):
        words = [*(f"{name}={shlex.quote(value)}" for name, value in env.items()), "exec", program(path),
                 *map(shlex.quote, options)]
        self.script(os.path.basename(path), f'{" ".join(words)} "$@"')

    def qubesdb(self, socket):
        """The platform's clients of QubesDB, as far as documents use them."""
        for name, verb in (("read", "read"), ("write", "write"), ("rm", "rm"), ("list", "list"), ("multiread", "multiread")):
            self.script(f"qubesdb-{name}", f'exec {QUBESDB} {shlex.quote(socket)} {verb} "$@"')

    def run(self, line, stdin=None):
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        with self.node.ns if self.node is not None else contextlib.nullcontext():
            return subprocess.run(["/bin/sh", "-c", line], env=self.env, text=True, capture_output=True, cwd=self.home,
                                  timeout=TIMEOUT, check=False, **options)

    def run_for(self, line, seconds):
        """A command that goes on by itself (a watch): it is ended after a while. Returns (alive at the end, output)."""
        with self.node.ns:
            process = subprocess.Popen(["/bin/sh", "-c", f"exec {line}"], env=self.env, text=True, cwd=self.home,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        timer = threading.Timer(seconds, process.terminate)
        timer.start()
        out, _none = process.communicate()
        timer.cancel()
        return process.returncode in (0, -15, 143), out


class ServerWorld:
    """dom0, two chains of net qubes, and `web` and `box` behind sys-firewall, each with its own firewall and server."""

    def __init__(self):
        topology = topologies.TWO_CHAINS.changed("web", ip="10.137.0.12", ip6="fd09:24ef:4179::a89:c", firewall=True)
        topology = topology.plus(Qube("box", "sys-firewall", 15, "10.137.0.15", "fd09:24ef:4179::a89:f", firewall=True))
        self.lab = Lab(flavoured(topology, "4.3"))
        try:
            self._build()
        except BaseException:
            self.lab.close()
            raise

    def _build(self):
        self.dom0 = Dom0(self.lab)
        # For what documents say of a VPN qube and of templates: qubes without a machine.
        for name in ("debian-12-xfce", "debian-13-xfce", "fedora-43-xfce"):
            self.dom0.add(name, "TemplateVM", database=False)
        self.dom0.add("sys-vpn", provides_network=True, netvm="sys-net", database=False)
        for name, qube in (("work", "sys-vpn"), ("db", "sys-firewall"), ("sys-updates", "sys-firewall")):
            self.dom0.add(name, netvm=qube, database=False)
        for name in ("sys-net", "sys-firewall", "sys-net2", "sys-fw2"):
            self.dom0.router(name)
        self.serverd = Serverd(self.dom0)
        self.servers = []
        self.doors = {name: Inbound(self.lab[name], ()) for name in ("web", "box")}
        for name in ("web", "box"):
            for port in (22, 80, 443, 8080):
                self.servers.append(self.lab[name].serve_tcp(port))
        self.places = {"dom0": self._dom0()}
        for name in ("sys-net", "sys-firewall"):
            self.places[name] = place = self._place(name)
            router = self.dom0.routers[name]
            place.program(ROUTER, "--control", router.control, "--qubesdb", self.lab[name].qubesdb_socket)
            place.qubesdb(self.lab[name].qubesdb_socket)
        for name in ("web", "box"):
            self.places[name] = place = self._place(name)
            place.program(INBOUND, "--qubesdb", self.doors[name].socket)
            place.qubesdb(self.doors[name].socket)
        self.places["lan"] = self._place("lan1")
        # The LAN host has no web browser or ssh client that could be counted on: what answers is the lab's echo.
        # Not every machine has these programs, and no server in the lab speaks what they want.
        self.places["lan"].script("curl", f'exec /usr/bin/python3 {HERE}/knock "$1"')
        self.places["lan"].script("ssh", f'exec /usr/bin/python3 {HERE}/knock "ssh://${{1#*@}}"')

    def _place(self, name):
        return Place(self.lab[name], f"{self.lab.work}/documents-{name}")

    def _dom0(self):
        expose = Expose(self.dom0)
        place = Place(None, f"{self.lab.work}/documents-dom0", QUBESD_SOCKET=self.dom0.socket,
                      QUBESDB_DIRECTORY=self.dom0.folder, RUNTIME_DIRECTORY=f"{self.dom0.folder}/run")
        place.program(EXPOSE, "--status-command", expose.status_command())
        place.program(SERVERD)
        for name in QVM:
            shutil.copy(HERE / "qvm", f"{place.bin}/{name}")
        # `qubesdb-* -d QUBE`
        for verb in ("read", "write", "rm", "list", "multiread"):
            place.script(f"qubesdb-{verb}", f'[ "$1" = -d ] || exit 2; socket={self.dom0.folder}/qubesdb."$2".sock; shift 2\n'
                                            f'exec {QUBESDB} "$socket" {verb} "$@"')
        return place

    def reset(self):
        """Nothing exposed, web and box where and as they were."""
        for name in ("web", "box", "other", "db"):
            for feature in list(self.dom0[name].features):
                if feature == "routing-method" or feature.startswith(("network-server.", "vm-config.")):
                    self.dom0.remove_feature(name, feature)
        for feature in list(self.dom0["sys-net"].features):
            if feature.startswith("vm-config."):
                self.dom0.remove_feature("sys-net", feature)
        for name, ip, ip6 in (("web", "10.137.0.12", "fd09:24ef:4179::a89:c"),
                              ("box", "10.137.0.15", "fd09:24ef:4179::a89:f")):
            vm = self.dom0[name]
            if not vm.is_running:
                self.dom0.start(name)
            if vm.live != ("sys-firewall", ip, ip6) or self.dom0.model.value(vm, "ip") != ip or (
                    self.dom0.model.value(vm, "ip6") != ip6):
                self.dom0.set_netvm(name, None)
                self.dom0.set_property(name, "ip", ip)
                self.dom0.set_property(name, "ip6", ip6)
                self.dom0.set_netvm(name, "sys-firewall")
            self.lab[name].run(["nft", "flush", "chain", "ip", "qubes", "custom-input"])   # its door puts its own back
        self.dom0.set_netvm("work", "sys-vpn")
        for feature in list(self.dom0["sys-vpn"].features):
            self.dom0.remove_feature("sys-vpn", feature)
        if not self.serverd.running():
            self.serverd.start()
        # "has heard of a host of the LAN in the last five minutes": of this one, whichever document comes first
        self.lab["sys-net"].run(["ping", "-c", "1", "-W", "5", "192.168.16.10"])
        self.settle()

    def settle(self):
        """Until what was said in dom0 has arrived."""
        def arrived():
            return self.serverd.call("--check").returncode == 0 or self.serverd.call("--status").returncode == 0
        with contextlib.suppress(TimeoutError):
            wait_until(arrived, 3 * SLOW, interval=0.02)

    def close(self):
        for door in self.doors.values():
            door.close()
        self.lab.close()


class VpnWorld:
    """A VPN qube with seal and supervisor, work and play behind it, the provider's servers outside."""

    def __init__(self):
        self.lab = Lab(topologies.VPN)
        try:
            self._build()
        except BaseException:
            self.lab.close()
            raise

    def _build(self):
        node = self.node = self.lab["vpn"]
        self.provider = Provider(self.lab)
        self.provider.openvpn("server")
        self.provider.wireguard("server2")
        self.seal = Seal(node)
        self.supervisor = Supervisor(node, self.seal)
        place = Place(node, f"{self.lab.work}/documents-vpn", QUBESDB_SOCKET=node.qubesdb_socket)
        place.program(COMMAND, "--seal", self.seal.socket, "--bus", self.supervisor.bus)
        place.script("qubes-vpn-forwarding", f'verb=$1; shift; exec {program(SEAL)} "$verb" --user 4978 '
                                             f'--supervisor-user 0 --socket {self.seal.socket} "$@"')
        place.qubesdb(node.qubesdb_socket)
        behind = Place(self.lab["work"], f"{self.lab.work}/documents-work")
        below = Place(self.lab["sys-net"], f"{self.lab.work}/documents-below")
        self.places = {"sys-vpn": place, "work": behind, "below": below}
        self.restock()

    def restock(self):
        """The provider's files, where qvm-copy leaves them, and where documents say that a user is."""
        home = self.places["sys-vpn"].home
        for name, text in (("provider.ovpn", self.provider.openvpn_text()),
                           ("provider.conf", self.provider.wireguard_text("server2")),
                           ("qubes-vpn.conf", self.provider.openvpn_text())):
            for folder in (home, f"{home}/QubesIncoming/work", f"{home}/QubesIncoming/old-vpn"):
                os.makedirs(folder, exist_ok=True)
                pathlib.Path(folder, name).write_text(text, encoding="ascii")

    def profiles(self):
        return {one["name"] for one in self.supervisor.command.json("list")}

    def settle_import(self):
        """A first profile connects by itself: until that was tried."""
        if len(self.profiles()) != 1 or not self.supervisor.status().get("wanted_up", True):
            return
        with contextlib.suppress(TimeoutError):
            self.supervisor.wait_state("up", "failed", timeout=5.0)

    def have(self, name, openvpn=True):
        """A profile of this name, which a document supposes."""
        if name not in self.profiles():
            path = f"{self.places['sys-vpn'].home}/provider.{'ovpn' if openvpn else 'conf'}"
            self.supervisor.install(path, name)
            wait_until(lambda: name in self.profiles(), 5 * SLOW, f"profile {name}", 0.02)

    def choose(self):
        """Documents that connect suppose that somebody chose a profile."""
        listed = self.supervisor.command.json("list")
        if len(listed) > 1 and not any(one["chosen"] for one in listed):
            self.have("provider.ovpn")
            self.supervisor.command.run("use", "provider.ovpn")

    def reset(self):
        """No profile, no choice, sealed; what comes next may connect by itself again."""
        if not self.supervisor.status().get("wanted_up", True):
            self.have("provider.ovpn")
            self.choose()
            self.supervisor.command.run("up", check=False)
        for name in sorted(self.profiles()):
            self.supervisor.command.run("delete", name, check=False)
        self.supervisor.command.run("order", check=False)
        self.restock()

    def close(self):
        self.lab.close()
