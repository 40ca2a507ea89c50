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
import subprocess

from lab.node import wait_until
from lab.router import GRACEFUL, REPORT, SLOW, ReadySocket, available, environment, program
from lab.vpn_provider import Provider

SEAL = "src/vpn/seal/qubes-vpn-forwarding"
SUPERVISOR = "src/vpn/daemon/qubes-vpnd"
COMMAND = "src/vpn/command/qubes-vpn"
CLIENT_USER = "4978"          # of no account: what carries that number is the client
TUNNEL = "qubes-vpn"
LAYERS = "RNG"

__all__ = ["SEAL", "SUPERVISOR", "COMMAND", "CLIENT_USER", "TUNNEL", "LAYERS", "Seal", "Supervisor", "Command",
           "available"]


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
        self._ready.read()
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
        return json.loads(self.run("--json", *words).stdout)
