# SPDX-License-Identifier: GPL-2.0-or-later
"""A flood from a qube, in a process of its own so that nobody else's work slows it: UDP, TCP, ping and DNS of both
families, known flows and new ones, each packet tagged.

    flood = Flood(lab["work"], rate=4000)
    ...
    sent, seconds = flood.stop()
"""

import json
import signal
import socket
import subprocess
import sys
import time

if __name__ == "__main__":  # as a program of its own
    import os
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
from lab import vpn_frames as frames
from lab.platform import BACKEND_MAC
from lab.topologies import TARGET, TARGET6
from lab.vpn_provider import make_question

NUMBER = 1          # of the tags; letters: u UDP, v UDP over IPv6, d DNS, i ping, j ping over IPv6, s TCP
_FLOWS, _FRESH = 64, 512


def make_frames(ip, ip6, mac):
    """One round of the flood: kinds alternate, every eighth packet begins a flow that was not there before."""
    def build(port):
        text = {kind: frames.payload(NUMBER, kind) for kind in "uvijs"}
        query = make_question(f"{frames.tag(NUMBER, 'd').decode().lower()}.flood.example", number=port)
        yield frames.udp(ip, TARGET, port, 7, text["u"])
        yield frames.tcp(ip, TARGET, port, 7, text["s"], seq=port << 16)
        yield frames.udp(ip, "10.139.1.1", port, 53, query + frames.tag(NUMBER, "d"))
        yield frames.icmp(ip, TARGET, rest=port << 16 | 1, data=text["i"])
        if ip6:
            yield frames.udp(ip6, TARGET6, port, 7, text["v"])
            yield frames.icmp(ip6, TARGET6, rest=port << 16 | 1, data=text["j"])

    old = [packet for port in range(20000, 20000 + _FLOWS) for packet in build(port)]
    fresh = [packet for port in range(30000, 30000 + _FRESH) for packet in build(port)]
    round_, place = [], 0
    for number in range(8 * len(fresh) // 7):
        if number % 8 == 7:
            round_.append(fresh[(number // 8) % len(fresh)])
        else:
            round_.append(old[place % len(old)])
            place += 1
    return [frames.ether(BACKEND_MAC, mac, packet) for packet in round_]


def main():
    spec = json.loads(sys.argv[1])
    ready = make_frames(spec["ip"], spec["ip6"], spec["mac"])
    ended = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.append(1))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((spec["iface"], 0))
        sock.setsockopt(socket.SOL_SOCKET, 32, 4 << 20)  # SO_SNDBUFFORCE
        sent = refused = place = 0
        begun = time.monotonic()
        print("begun", flush=True)
        while not ended:
            due = int((time.monotonic() - begun) * spec["rate"]) - sent - refused
            for _ in range(min(due, 200)):
                try:
                    sock.send(ready[place])
                    sent += 1
                except OSError:  # the vif is gone for the moment
                    refused += 1
                place = place + 1 if place + 1 < len(ready) else 0
            if due < 8:
                time.sleep(0.002)
        print(json.dumps({"sent": sent, "refused": refused, "seconds": time.monotonic() - begun}), flush=True)


class Flood:
    """Runs from its making until stop(). The qube's eth0 must stay."""

    def __init__(self, node, rate=4000, iface="eth0"):
        self.node, self.rate = node, rate
        spec = {"ip": node.spec.ip, "ip6": node.spec.ip6, "mac": node.spec.mac, "iface": iface, "rate": rate}
        self.process = node.popen([sys.executable, "-m", "lab.vpn_flood", json.dumps(spec)], text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=_root())
        if self.process.stdout.readline() != "begun\n":
            raise RuntimeError("the flood did not begin")
        self.sent = self.seconds = 0

    @property
    def pps(self):
        return self.sent / self.seconds if self.seconds else 0

    def stop(self):
        """Ends it; returns packets sent and seconds."""
        if self.process.poll() is None:
            self.process.terminate()
            told = json.loads(self.process.stdout.readline())
            self.process.wait(5)
            self.sent, self.seconds = told["sent"], told["seconds"]
        return self.sent, self.seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _root():
    import os
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


if __name__ == "__main__":
    main()
