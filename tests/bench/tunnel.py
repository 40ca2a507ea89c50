# SPDX-License-Identifier: GPL-2.0-or-later
"""The VPN qube with a tunnel: how soon a qube gets through, what it carries beside the same client without Sluice, what the
supervisor costs."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import threading
import time

import sealing
from lab import topologies
from lab.lab import Lab
from lab.node import wait_until
from lab.router import SLOW
from lab.topologies import TARGET
from lab.vpn import CLIENT_USER, TUNNEL, HandClient, Seal, Supervisor
from lab.vpn_provider import ECHO, VPN_DNS, Provider, way, wireguard_key

GOAL_REPLY_MS, GOAL_RATE, GOAL_MIB = 10, 0.97, 5
SMALL = 64          # bytes of payload


class TimedSupervisor(Supervisor):
    """Every line of its log with the moment it was written."""

    def __init__(self, *arguments, **options):
        self.lines = []
        super().__init__(*arguments, **options)

    def start(self, ready=True, timeout=10.0):
        pipe = f"{self.node.folder}/{self.name}.pipe"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pipe)
        os.mkfifo(pipe)
        self._log_path = pipe
        end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(end, True)
        threading.Thread(target=self._read, args=(end,), daemon=True).start()
        return super().start(ready, timeout)

    def _read(self, end):
        with os.fdopen(end, "rb", buffering=0) as pipe:
            rest = b""
            while not self.lines or rest is not None:
                data = pipe.read(65536)
                now = time.monotonic()
                if not data:
                    if self.process is not None:
                        return
                    time.sleep(0.001)  # nobody has opened it yet
                    continue
                *whole, rest = (rest + data).split(b"\n")
                self.lines += [(now, line.decode(errors="replace")) for line in whole]

    @property
    def log(self):
        return "\n".join(line for _, line in self.lines)

    def event(self, since, text):
        """When the first line since then that ends so was written; None without one."""
        return next((moment for moment, line in list(self.lines) if moment >= since and line.endswith(text)), None)


class Prober:
    """Asks the target twice a millisecond, from one flow, until it is answered."""

    def __init__(self, node):
        self._socket = node.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((TARGET, ECHO))
        self._ended, self.answered = False, None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._ended:
            with contextlib.suppress(OSError):
                self._socket.send(b"?")
            if select.select([self._socket], [], [], 0.0005)[0]:
                with contextlib.suppress(OSError):  # told that nobody is there
                    self._socket.recv(2048)
                    self.answered = time.monotonic()
                    return

    def wait(self, timeout):
        self._thread.join(timeout)
        self._ended = True
        self._thread.join()
        self._socket.close()
        return self.answered


class HandWireguard:
    """wireguard-go as its manual says, with the routes of wg-quick and no seal."""

    def __init__(self, node, provider):
        self.node, self.provider, self.process = node, provider, None

    def connect(self, server):
        site = server.site
        control = f"/var/run/wireguard/{TUNNEL}.sock"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(control)  # of one that was killed
        loud = {"PATH": os.environ["PATH"], "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
        self.process = self.node.popen(["wireguard-go", "-f", TUNNEL], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=loud,
                                       start_new_session=True)
        wait_until(lambda: os.path.exists(control), 5 * SLOW, "wireguard-go")
        path = f"{self.node.folder}/hand.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[Interface]\nPrivateKey = {wireguard_key('client')[0]}\n[Peer]\n"
                       f"PublicKey = {wireguard_key(server.node.name)[1]}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
                       f"Endpoint = {site.ip}:{server.port}\nPersistentKeepalive = 15\n")
        self.node.run(["wg", "setconf", TUNNEL, path])
        gateway = self.node.netvm.spec.ip
        self.node.batch(f"link set {TUNNEL} mtu 1420 up\naddr add {site.wg_net}.2/32 dev {TUNNEL}\n"
                        f"route replace {site.ip} via {gateway} dev eth0 onlink\n"
                        f"route replace 0.0.0.0/1 dev {TUNNEL}\nroute replace 128.0.0.0/1 dev {TUNNEL}\n")
        return self


class Side:
    """One network with a tunnel. kind: "openvpn" or "wireguard"; sluice: with the product, else by hand."""

    def __init__(self, kind, sluice, supervisor_class=Supervisor):
        self.kind, self.lab = kind, Lab(topologies.VPN)
        try:
            self._build(kind, sluice, supervisor_class)
        except BaseException:
            self.lab.close()
            raise

    def _build(self, kind, sluice, supervisor_class):
        lab = self.lab
        self.vpn, self.work, self.inside = lab["vpn"], lab["work"], lab["inside"]
        self.provider = Provider(lab)
        self.server = self.provider.openvpn() if kind == "openvpn" else self.provider.wireguard()
        self.seal = self.supervisor = None
        if sluice:
            self.seal = Seal(self.vpn)
            self.supervisor = supervisor_class(self.vpn, self.seal)
            profile = self.provider.openvpn_profile if kind == "openvpn" else self.provider.wireguard_profile
            self.supervisor.install(profile("bench"))
        elif kind == "openvpn":
            HandClient(self.vpn, self.provider).connect(self.server)
        else:
            HandWireguard(self.vpn, self.provider).connect(self.server)
        wait_until(lambda: way(self.work, timeout=0.1) == "VPN", 20 * SLOW, f"{kind} carries")

    def serve(self):
        self.inside.popen(["iperf3", "-s", "-B", TARGET], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          stdin=subprocess.DEVNULL)
        wait_until(lambda: ":5201" in self.inside.run(["ss", "-Hltn"]).stdout, 5 * SLOW, "iperf3 listens")

    def iperf(self, seconds, *options):
        """End of the answer of one run, as a dictionary. Its own control connection may suffer from the load."""
        for _ in range(5):
            done = self.work.run(["iperf3", "-c", TARGET, "-t", str(seconds), "-J", *options], check=False,
                                 timeout=seconds + 30)
            answer = json.loads(done.stdout)
            if "error" not in answer:
                return answer["end"]
            time.sleep(0.5)
        raise RuntimeError(answer["error"])

    def tcp(self, seconds, *options):
        """Mbit a second that arrived."""
        return self.iperf(seconds, *options)["sum_received"]["bits_per_second"] / 1e6

    def udp(self, seconds, rate):
        """Thousand packets a second that arrived, of rate sent."""
        end = self.iperf(seconds, "-u", "-l", str(SMALL), "-b", str(rate * SMALL * 8))["sum"]
        return (end["packets"] - end["lost_packets"]) / end["seconds"] / 1000

    def cost(self, seconds, rate=10000):
        """Microseconds of the client's CPU time for each packet that arrived, at a rate that every machine carries."""
        before = _cpu(self.client())
        arrived = self.udp(seconds, rate) * 1000 * seconds
        return (_cpu(self.client()) - before) * 1e6 / arrived

    def with_cpu(self, run):
        """(rate, the same for each second of CPU time of all that a packet passes: sender, client, server, receiver).
        The kernel's way of a packet is done in their system calls. Who else uses the machine takes time from the rate,
        but not from the second figure."""
        pids = [self.client(), *_named(self.server.node, self.program), *_named(self.inside, "iperf3")]
        before, sent = sum(map(_cpu, pids)), _children()
        rate = run(self)
        return rate, rate / (sum(map(_cpu, pids)) - before + _children() - sent)

    @property
    def program(self):
        return "openvpn" if self.kind == "openvpn" else "wireguard-go"

    def client(self):
        """Process id of the VPN client."""
        return _named(self.vpn, self.program)[0]

    def close(self):
        self.lab.close()


def _named(node, name):
    """Process ids of those that run this program there."""
    found = []
    for pid in node.pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
            if file.read().strip() == name:
                found.append(pid)
    return found


def _cpu(pid):
    """Seconds, of all threads."""
    whole = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            whole += int(file.read().split()[0])
    return whole / 1e9


def _children():
    """Seconds of the programs that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


BY_HAND = "the same client without Sluice"
NAMES = {"openvpn": "OpenVPN", "wireguard": "WireGuard (wireguard-go)"}


KINDS = (("TCP from a qube", "Mbit/s", lambda side: side.tcp(1)),
         ("TCP to a qube", "Mbit/s", lambda side: side.tcp(1, "-R")),
         (f"UDP of {SMALL} bytes from a qube, all that fits", "thousand packets/s", lambda side: side.udp(1, 1000000)))


def _measure_pair(kind, rounds, values):
    """Two networks side by side, in turns, first one then the other. values: per what is measured (ours, by hand)."""
    sides = Side(kind, True), Side(kind, False)
    try:
        for side in sides:
            side.serve()
            side.tcp(1)
        for number in range(rounds):
            for what, _unit, run in KINDS:
                pair = [None, None]
                for which in ((0, 1), (1, 0))[number % 2]:
                    pair[which] = sides[which].with_cpu(run)
                values[what].append(pair)
            values["cost"].append([side.cost(1) for side in sides])
    finally:
        for side in sides:
            side.close()


def measure_rates(report, kind, quick):
    """The ratio is the median of the ratios of neighbours; networks are made anew several times, because two of the same
    making differ by some per cent for as long as they live."""
    pairs, rounds = (1, 2) if quick else (6, 3)
    values = {what: [] for what in [what for what, _unit, _run in KINDS] + ["cost"]}
    for _ in range(pairs):
        _measure_pair(kind, rounds, values)
    for what, unit, _run in KINDS:
        for which, tail in enumerate(("", ", for each second of CPU time on its way")):
            mine, other = ([pair[side][which] for pair in values[what]] for side in (0, 1))
            ratio = statistics.median(a / b for a, b in zip(mine, other))
            report.rate(f"{NAMES[kind]}: {what}{tail}", mine, unit, ratio, GOAL_RATE, BY_HAND, other)
    mine, other = ([pair[side] for pair in values["cost"]] for side in (0, 1))
    report.row(f"{NAMES[kind]}: CPU time of the client for one packet of 10,000 small ones a second", mine, "µs", None,
               other, BY_HAND)


def measure_up(report, kind, quick):
    """From the moment the supervisor knows that the client is up until a qube has an answer."""
    side = Side(kind, True, TimedSupervisor)
    try:
        supervisor = side.supervisor
        with open(f"{supervisor.runtime}/debug", "w", encoding="ascii"):
            pass
        supervisor.command.run("status", check=False)
        after, whole = [], []
        for _ in range(3 if quick else 15):
            supervisor.command.run("down")
            supervisor.wait_state("sealed")
            wait_until(lambda: way(side.work, timeout=0.05) is None, 5, "closed")
            prober, begun = Prober(side.work), time.monotonic()
            supervisor.command.run("up")
            answered = prober.wait(20 * SLOW)
            if answered is None:
                raise TimeoutError("the tunnel did not come back")
            event = wait_until(lambda since=begun: supervisor.event(since, "-> up"), 5, "the event in the log")
            after.append((answered - event) * 1000)
            whole.append((answered - begun) * 1000)
        os.unlink(f"{supervisor.runtime}/debug")
        report.row(f"{NAMES[kind]}: client is up → first answer to a qube (asks each 0.5 ms)", after, "ms", GOAL_REPLY_MS)
        report.row(f"{NAMES[kind]}: `qubes-vpn up` → first answer to a qube, the handshake included", whole, "ms")
        if kind == "openvpn":
            status = []
            for _ in range(5 if quick else 30):
                begun = time.monotonic()
                supervisor.command.run("status")
                status.append((time.monotonic() - begun) * 1000)
            report.row("`qubes-vpn status`: exec → end", status, "ms")
    finally:
        side.close()


def measure_rest(report, kind, quick):
    side = Side(kind, True)
    try:
        name = f"supervisor, {NAMES[kind]} up"
        sealing.measure_rest(report, side.supervisor.process.pid, name, quick, GOAL_MIB)
    finally:
        side.close()


def measure(report, quick):
    report.part("The tunnel")
    for kind in NAMES:
        measure_up(report, kind, quick)
    for kind in NAMES:
        measure_rates(report, kind, quick)
    for kind in NAMES:
        measure_rest(report, kind, quick)
