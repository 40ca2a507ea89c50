# SPDX-License-Identifier: GPL-2.0-or-later
"""What a forwarded packet costs with very many exposures. Three networks side by side, a batch of packets in each in
turns: our program with all exposures, our program with none (or only the one address that the packets go to), and no
program of ours but one rule by hand that accepts what the packets need."""

import random
import socket

import scale
from lab.lab import Lab
from lab.router import Router, program

COUNT = 10000
EXTRA = 1000        # with rules of ports, and with rules of networks
PORT = 9            # discard
FIRST_PORT = 20000  # of bench-flood
FLOWS = 64          # of one sender
SAMPLE = 512        # destinations in use, known to the kernel after the warm-up
GOAL = 1.05

_SINK = f"""
add table inet bench
add chain inet bench sink {{ type filter hook prerouting priority raw; policy accept; }}
add rule inet bench sink udp dport {PORT} counter drop
"""


class Side:
    """One network and what is exposed in it."""

    def __init__(self, version, addresses):
        self.version = version
        self.lab = Lab(scale.topology())
        self.net, self.lan, self.web = self.lab["sys-net"], self.lab["lan1"], self.lab["web"]
        self.router = None
        self.owned = scale.attach(self.lab, addresses)
        for node in (*scale.many(self.lab), self.lab["hidden"], self.lab["lan2"]):
            node.nft(_SINK)
        self.lan.run(["ip", "neigh", "replace", self.ip(self.web), "lladdr", self.net.mac("ens6"), "dev", "eth0", "nud",
                      "permanent"])

    def ip(self, node):
        if hasattr(node.spec, "ip"):
            return node.spec.ip if self.version == 4 else node.spec.ip6
        return node.spec.links[0].addresses[0 if self.version == 4 else 1].split("/")[0]

    def close(self):
        if self.router is not None:
            self.router.close()
        self.lab.close()

    def open_by_hand(self):
        table = "ip" if self.version == 4 else "ip6"
        self.net.nft(f"add rule {table} qubes custom-forward oifgroup 2 udp dport {PORT} accept\n")

    def start(self):
        self.router = Router(self.net, start=False)
        self.router.start()
        return self

    def expose_web(self):
        scale.write_records(self.net, [(self.ip(self.web), self.web)])

    def hide_web(self):
        scale.remove_records(self.net, [(self.ip(self.web), self.web)])

    def establish(self, client, server, address):
        """FLOWS flows of which both directions were seen; what comes then is dropped by the server."""
        inet = socket.AF_INET if self.version == 4 else socket.AF_INET6
        server.run("nft delete table inet bench", check=False)
        with server.serve_udp(PORT, address):
            for number in range(FLOWS):
                with client.socket(inet, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(0.2)
                    sock.bind(("", FIRST_PORT + number))
                    sock.connect((address, PORT))
                    for _ in range(2):
                        self._exchange(sock)
        server.nft(_SINK)

    @staticmethod
    def _exchange(sock):
        for _ in range(20):
            sock.send(b"?")
            try:
                return sock.recv(2048)
            except TimeoutError:
                continue
        raise TimeoutError("no answer")

    def spec(self, sender, destinations):
        """The argument of bench-flood for packets from sender by the net qube."""
        path = f"{self.lab.work}/destinations"
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{address}\n" for address in destinations)
        hop = self.net.mac("ens6") if sender is self.lan else "fe:ff:ff:ff:ff:ff"
        return f"{sender.path},eth0,{hop},{self.ip(sender)},{PORT},{path}"


class Flood:
    def __init__(self, report, version, quick):
        self.report, self.quick = report, quick
        self.family = f"IPv{version}"
        self.addresses = scale.filler(version, COUNT + 2 * EXTRA)
        self.hand, self.none, self.full = (Side(version, self.addresses) for _ in range(3))
        self.ports = self.addresses[COUNT:COUNT + EXTRA]
        self.networks = self.addresses[COUNT + EXTRA:]
        self.network = "192.168.16.0/24" if version == 4 else "2001:db8:16::/64"

    def close(self):
        for side in (self.hand, self.none, self.full):
            side.close()

    def prepare(self):
        self.hand.open_by_hand()
        self.none.start()
        owned = self.full.owned
        # web and a rule of it, and the limit of addresses
        scale.write_records(self.full.net, owned[:COUNT - 1])
        scale.write_records(self.full.net, owned[COUNT:COUNT + EXTRA], allow=f"tcp/22,80,443;udp/{PORT}")
        scale.write_records(self.full.net, owned[COUNT + EXTRA:],
                            allow=f"tcp/1000-2000 from {self.network};udp/{PORT} from {self.network}")
        self.full.start()
        self.full.expose_web()
        scale.Process(self.full.router.process.pid).wait_quiet(timeout=180)

    def _run(self, sides, ports, rounds):
        out = self.hand.net.run([program("tests/bench/bench-flood"), str(rounds), str(ports), *sides],
                                timeout=600).stdout
        ratios, costs = [1.0], []
        for line in out.splitlines():
            words = line.split()
            if words[0] == "ratio":
                ratios.append(float(words[1]))
            else:
                costs.append((float(words[1]), float(words[2])))
        return ratios, costs

    def row(self, what, sender, destinations, ports=1, with_none=True, goal=GOAL):
        """sender and destinations are functions of a side. First side is the baseline."""
        baseline = [(self.none, "program without exposures")] if with_none else []
        baseline.append((self.hand, "no program, one rule by hand"))
        rounds = 100 if self.quick else (600 if ports == 0 else 1500)
        specs = [side.spec(sender(side), destinations(side)) for side in (*(side for side, _ in baseline), self.full)]
        for number, (_side, name) in enumerate(baseline):
            order = [specs[number], specs[-1]]
            ratios, costs = self._run(order, ports, rounds)
            self.report.ratio(f"{self.family}: {what}", costs[1], ratios[1], goal if number == 0 else None, name,
                              costs[0])
        for side in (self.hand, self.none, self.full):
            side.net.run("conntrack -F; conntrack -F -f ipv6", check=False)

    def measure(self):
        lan, web = (lambda side: side.lan), (lambda side: [side.ip(side.web)])
        other, lan2 = (lambda side: side.lab["other"]), (lambda side: [side.ip(side.lab["lan2"])])
        sample = random.Random(1).sample(self.addresses[:COUNT - 1], SAMPLE)
        for side in (self.hand, self.none, self.full):
            side.establish(side.lab["other"], side.lab["lan2"], side.ip(side.lab["lan2"]))
        self.row("established, from a qube to the LAN", other, lan2, FLOWS)
        self.none.expose_web()
        for side in (self.hand, self.none, self.full):
            side.establish(side.lan, side.web, side.ip(side.web))
        self.row("established, from the LAN to an exposed qube", lan, web, FLOWS)
        self.row("new, to an exposed qube", lan, web, FLOWS)
        self.none.hide_web()
        self.row("new, to a qube that is not exposed (dropped)", lan, lambda side: [side.ip(side.lab["hidden"])])
        self.row("new, from a qube to the LAN", other, lan2, FLOWS)
        self.row(f"new, to {SAMPLE} of {COUNT} exposed addresses at random", lan, lambda _side: sample, 1, False, None)
        self.row(f"first packet of a flow, to all {COUNT} at random", lan, lambda _side: self.addresses[:COUNT - 1], 0,
                 False, None)
        self.row(f"new, to one of {EXTRA} addresses with rules of ports", lan, lambda _side: self.ports[:SAMPLE], 1,
                 False, None)
        self.row(f"new, to one of {EXTRA} addresses with rules of networks", lan,
                 lambda _side: self.networks[:SAMPLE], 1, False, None)


def measure(report, quick):
    report.part(f"Cost of a forwarded packet with {COUNT} exposures (CPU time of the whole path)")
    for version in (4, 6):
        flood = Flood(report, version, quick)
        try:
            flood.prepare()
            flood.measure()
        finally:
            flood.close()
