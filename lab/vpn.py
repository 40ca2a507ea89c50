# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of the VPN half as a test drives them: in the foreground, in the VPN qube of the lab.

    seal = Seal(lab["vpn"])                 # qubes-vpn-forwarding run, ready: everything armed and read back
    vpnd = Supervisor(lab["vpn"], seal)     # qubes-vpnd, ready
    vpnd.install(provider.openvpn_profile())
    vpnd.wait_state("up")

The variables of lab/router.py hold here too (SLUICE_BUILD, SLUICE_WRAP, SLUICE_SLOW, SLUICE_GRACEFUL). Files of one VPN
qube are in its folder: seal.sock, profiles/, runtime/, bus.
"""

import json
import os
import shlex
import signal
import socket
import subprocess

from lab.node import wait_until
from lab.router import GRACEFUL, REPORT, SLOW, ReadySocket, available, environment, program
from lab.vpn_provider import VPN_DNS, Provider

SEAL = "src/vpn/seal/qubes-vpn-forwarding"
SUPERVISOR = "src/vpn/daemon/qubes-vpnd"
COMMAND = "src/vpn/command/qubes-vpn"
CLIENT_USER = "4978"          # of no account: what carries that number is the client
TUNNEL = "qubes-vpn"
LAYERS = "RNG"

__all__ = ["SEAL", "SUPERVISOR", "COMMAND", "CLIENT_USER", "TUNNEL", "LAYERS", "Seal", "Supervisor", "Command",
           "Wish", "HandClient", "available"]


class Program:
    """A daemon of ours in a node: start, log, end. What a sanitizer wrote into its log fails the test at close()."""

    path = None

    def __init__(self, node, **env):
        self.node, self.env, self.process = node, env, None
        self.name = os.path.basename(self.path)
        os.makedirs(node.folder, exist_ok=True)
        self._log_path = f"{node.folder}/{self.name}.log"
        open(self._log_path, "w", encoding="utf-8").close()
        self._ready = ReadySocket(f"{node.folder}/{self.name}.notify")
        node._closers.append(self)  # pylint: disable=protected-access

    def _environment(self):
        return environment(QUBESDB_SOCKET=self.node.qubesdb_socket, **self.env)

    def _arguments(self):
        raise NotImplementedError

    def start(self, ready=True, timeout=10.0):
        """Starts the program; with ready waits until it says so."""
        self._ready.messages.clear()
        wrap = shlex.split(os.environ.get("SLUICE_WRAP", ""))
        with open(self._log_path, "a", encoding="utf-8") as log:
            self.process = self.node.popen([*wrap, program(self.path), *self._arguments()],
                                           env=self._environment() | {"NOTIFY_SOCKET": self._ready.path},
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=10.0):
        self._ready.wait(self.process, timeout * SLOW, self.name, lambda: self.log)

    @property
    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def notifications(self):
        """Lines sent to the service manager since the start (READY=1, STATUS=...)."""
        return list(self._ready.messages)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def end(self, number=signal.SIGTERM, timeout=10.0):
        """A signal and the wait for its effect; returns the exit status."""
        if self.running():
            self.process.send_signal(number)
        return self.process.wait(timeout * SLOW)

    def stop(self):
        return self.end(signal.SIGTERM)

    def kill9(self):
        return self.end(signal.SIGKILL)

    def restart(self):
        """As a restart of the service does it."""
        self.end(signal.SIGUSR1)
        return self.start()

    def close(self):
        if self.running():
            if GRACEFUL:  # leaks of memory are looked for at a normal end only
                self.stop()
            else:
                self.kill9()
        self._ready.close()
        found = REPORT.search(self.log)
        if found:
            raise AssertionError(f"{self.name}: {found[0]}\n{self.log}")


class Seal(Program):
    """qubes-vpn-forwarding run. layers: some of "RNG" (a test of what holds alone); the seal then never says it is
    ready, so the start waits until check() finds just these."""

    path = SEAL

    def __init__(self, node, layers=LAYERS, start=True, arguments=(), **env):
        super().__init__(node, **env)
        self.layers, self.arguments = layers, tuple(arguments)
        self.socket = f"{node.folder}/seal.sock"
        if start:
            self.start()

    def _options(self):
        part = ["--layers", self.layers] if set(self.layers) != set(LAYERS) else []
        return ["--user", CLIENT_USER, "--supervisor-user", "0", "--socket", self.socket, *part, *self.arguments]

    def _arguments(self):
        return ["run", *self._options()]

    def wait_ready(self, timeout=10.0):
        if set(self.layers) == set(LAYERS):
            super().wait_ready(timeout)
            return
        wait_until(lambda: os.path.exists(self.socket) and self.verb("check").returncode == 3, timeout * SLOW,
                   f"the seal armed in part ({self.layers})", 0.02)

    def verb(self, *words):
        """One of on, blackhole, check [--json] beside (or without) the running owner: the CompletedProcess."""
        return self.node.run([program(self.path), words[0], *self._options(), *words[1:]], check=False,
                             env=self._environment(), timeout=20 * SLOW)

    def on(self):
        return self.verb("on").returncode

    def blackhole(self):
        return self.verb("blackhole").returncode

    def check(self):
        """(exit status, the answer): 0 all armed, 3 armed in part, anything else not armed."""
        done = self.verb("check", "--json")
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            return done.returncode, {"text": done.stdout + done.stderr}


class Supervisor(Program):
    """qubes-vpnd beside a Seal (or without one, seal None: it must stay closed)."""

    path = SUPERVISOR

    def __init__(self, node, seal, start=True, arguments=(), **env):
        super().__init__(node, **env)
        self.arguments = tuple(arguments)
        self.profiles, self.runtime, self.bus = (f"{node.folder}/{name}" for name in ("profiles", "runtime", "bus"))
        self.seal = seal.socket if seal else f"{node.folder}/seal.sock"
        os.makedirs(self.profiles, mode=0o700, exist_ok=True)
        os.makedirs(self.runtime, mode=0o755, exist_ok=True)
        self.command = Command(node, self.bus)
        if start:
            self.start()

    def _arguments(self):
        return ["--folder", self.profiles, "--runtime", self.runtime, "--seal", self.seal, "--bus", self.bus,
                "--client-user", CLIENT_USER, *self.arguments]

    def install(self, path, name=None):
        """Puts a provider's file where the user puts it."""
        return Provider.install(path, self.profiles, name)

    def remove(self, name):
        os.unlink(f"{self.profiles}/{name}")

    def status(self):
        return self.command.json("status")

    def state(self):
        try:
            return self.status().get("state")
        except (ValueError, subprocess.CalledProcessError):
            return None  # no bus yet

    def wait_state(self, *states, timeout=15.0):
        """Until the machine is in one of these states; returns it."""
        seen = []

        def probe():
            if not self.running():
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log}")
            state = self.state()
            if seen[-1:] != [state]:
                seen.append(state)
            return state if state in states else None

        try:
            return wait_until(probe, timeout * SLOW, " or ".join(states), 0.02)
        except TimeoutError as error:
            error.add_note(f"states seen: {seen}\n{self.log}")
            raise

    def clients(self):
        """Process ids of VPN clients here: those that run under the client's number."""
        return [pid for pid in self.node.pids() if _user(pid) == CLIENT_USER]

    def kill_client(self, number=signal.SIGKILL):
        """As the kernel does when memory is short; returns how many there were."""
        pids = self.clients()
        for pid in pids:
            os.kill(pid, number)
        return len(pids)


def _user(pid):
    """The user number of a process that is alive, as text; None of others."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            fields = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    except OSError:
        return None
    return None if fields["State"].startswith(("Z", "X")) else fields["Uid"].split()[0]


class Command:
    """qubes-vpn, the user's command."""

    def __init__(self, node, bus):
        self.node, self.bus = node, bus

    def run(self, *words, check=True, **options):
        return self.node.run([program(COMMAND), "--bus", self.bus, *words], check=check, env=environment(),
                             timeout=30 * SLOW, **options)

    def json(self, *words):
        return json.loads(self.run("--json", *words, check=False).stdout)  # status 3: sealed, not connected


class Wish:
    """A connection to the seal's socket, as the supervisor has one: set() asks, the answer is "ok" or "error=WHAT"."""

    def __init__(self, seal):
        self._path = seal.socket
        self._connect()

    def _connect(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(5 * SLOW)
        self._socket.connect(self._path)

    def ask(self, text):
        try:
            self._socket.sendall(text.encode())
        except BrokenPipeError:  # somebody asked for a blackhole meanwhile
            self._socket.close()
            self._connect()
            self._socket.sendall(text.encode())
        return self._socket.recv(65536).decode(errors="replace").strip()

    def set(self, carriers=(), resolvers=(), tunnel=None, addresses=(), mtu=1500, dns=(), more=()):
        """carriers: (protocol, address, port, "uid" or "mark"). The wish replaces the one before."""
        lines = ["set"] + [f"carrier={' '.join(map(str, carrier))}" for carrier in carriers]
        lines += [f"resolver={address}" for address in resolvers]
        if tunnel:
            lines += [f"tunnel={tunnel}"] + [f"address={address}" for address in addresses] + [f"mtu={mtu}"]
            lines += [f"dns={address}" for address in dns]
        return self.ask("\n".join(lines + list(more)) + "\n")

    def close(self):
        self._socket.close()


class HandClient:
    """An OpenVPN client driven by hand, for tests of the seal alone: what the supervisor does when all goes well, and no
    more. With seal None nothing protects it: user root, and openvpn itself puts the routes into the main table, as
    people run it who have no kill switch. routes: the same routes beside a seal that lacks the layer of routing, else
    nothing would reach the tunnel."""

    def __init__(self, node, provider, seal=None, routes=False):
        self.node, self.provider, self.seal, self.routes = node, provider, seal, routes
        self.wish = Wish(seal) if seal else None
        self.process, self._number = None, 0
        node._closers.append(self)  # pylint: disable=protected-access

    def _make_device(self):
        if not os.path.exists("/dev/net/tun"):
            raise RuntimeError("no /dev/net/tun")
        self.node.run(["ip", "link", "del", TUNNEL], check=False)
        self.node.batch(f"tuntap add dev {TUNNEL} mode tun user {CLIENT_USER}\n")
        self.node.sysctl(f"net/ipv6/conf/{TUNNEL}/addr_gen_mode", 1)

    def connect(self, server, wait=True, timeout=15.0):
        """Connects to an OpenvpnServer; with wait until its tunnel is configured and admitted."""
        self.disconnect()
        site = server.site
        self._number += 1
        proto = server.proto.rstrip("6")
        name = f"hand{self._number}"
        extra = [f"dev {TUNNEL}", "dev-type tun"]
        path = self.provider.openvpn_profile(name, remotes=[f"{site.ip} {server.port} {proto}"], extra=extra)
        self._log = f"{self.node.folder}/{name}.log"
        command = ["openvpn", "--config", path, "--disable-dco"]
        if self.seal:
            self._carriers = [(proto, site.ip, server.port, "uid")]
            self._must(self.wish.set(self._carriers))
            self._make_device()
            command = ["setpriv", "--reuid", CLIENT_USER, "--regid", CLIENT_USER, "--clear-groups", *command,
                       "--ifconfig-noexec", "--route-noexec"]
        with open(self._log, "w", encoding="utf-8") as log:
            self.process = self.node.popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           start_new_session=True)
        if wait:
            self.wait_up(server, timeout)
        return self

    def wait_up(self, server, timeout=15.0):
        try:
            wait_until(self._completed, timeout * SLOW, "the client connected")
        except TimeoutError as error:
            error.add_note(self.log[-2000:])
            raise
        if self.seal:
            addresses = [address for address in (server.address, server.address6) if address]
            self.node.batch("".join(f"addr replace {address}/{128 if ':' in address else 32} dev {TUNNEL}" +
                                    (" nodad\n" if ":" in address else "\n") for address in addresses) +
                            f"link set {TUNNEL} up\n")
            if self.routes:
                self._route(server)
            self._must(self.wish.set(self._carriers, tunnel=TUNNEL, addresses=addresses, dns=[VPN_DNS]))

    def _route(self, server):
        gateway = self.node.netvm.spec.ip
        for line in (f"replace {server.site.ip} via {gateway} dev eth0 onlink", f"replace 0.0.0.0/1 dev {TUNNEL}",
                     f"replace 128.0.0.0/1 dev {TUNNEL}", f"replace ::/1 dev {TUNNEL}", f"replace 8000::/1 dev {TUNNEL}"):
            self.node.run(["ip", "route", *line.split()], check=False)

    def _completed(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the client ended:\n{self.log}")
        return "Initialization Sequence Completed" in self.log

    @staticmethod
    def _must(answer):
        if answer.split("\n")[0] != "ok":
            raise RuntimeError(f"the seal refused: {answer}")

    @property
    def log(self):
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def disconnect(self):
        """The client ends, the seal forgets its carrier and tunnel."""
        if self.wish and self.process:
            self._must(self.wish.set())
        self.kill()
        if self.seal and self.process:
            self.node.run(["ip", "link", "del", TUNNEL], check=False)

    def close(self):
        self.kill()
        if self.wish:
            self.wish.close()
