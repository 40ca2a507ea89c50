# SPDX-License-Identifier: GPL-2.0-or-later
"""Very many exposures: start, stop, one change among them, memory."""

import socket
import struct
import time

import reach
import scale
from lab import platform
from lab.lab import Lab
from lab.router import Router

COUNTS = (0, 1000, 10000)


def stop_ms(router):
    begin = time.monotonic()
    router.stop(600)
    return (time.monotonic() - begin) * 1000


def measure_starts(report, net, router, owned, quick):
    """The counts in turns, so that a slow moment meets all of them. The last start stays."""
    starts, stops = {count: [] for count in COUNTS}, {count: [] for count in COUNTS}
    for _ in range(1 if quick else 7):
        for count in COUNTS:
            scale.write_records(net, owned[:count])
            if router.running():
                stop_ms(router)
            starts[count].append(scale.start_ms(router))
            stops[count].append(stop_ms(router))
            scale.remove_records(net, owned[:count])
    scale.write_records(net, owned)
    scale.start_ms(router)
    for count in COUNTS[1:]:
        report.row(f"start with {count} addresses: exec → READY", starts[count], "ms",
                   250 if count == COUNTS[-1] else None, starts[0], "with none")
    report.row(f"SIGTERM with {COUNTS[-1]} addresses → all withdrawn, ended", stops[COUNTS[-1]], "ms", None, stops[0],
               "with none")


def measure_takeover(report, router, quick):
    taken = []
    for _ in range(1 if quick else 5):
        router.kill9()
        taken.append(scale.start_ms(router))
    report.row(f"start after SIGKILL with {COUNTS[-1]} addresses in place", taken, "ms")


def measure_changes(report, lab, router, owned, quick):
    net, web = lab["sys-net"], lab["web"]
    key, value = f"/network-server/{web.spec.ip}", scale.record(web)
    process = scale.Process(router.process.pid)
    begin = time.monotonic()
    process.wait_quiet(timeout=180)
    report.row(f"probes and announcements of {COUNTS[-1]} addresses (3,200 frames a second at most)",
               [time.monotonic() - begin], "s")
    count = 10 if quick else 50
    cpu = process.cpu_s
    there, gone = reach.reaction(net, key, value, count)
    cpu = (process.cpu_s - cpu) * 1000 / (2 * count)
    report.row(f"one change among {COUNTS[-1]}: QubesDB write → rules in place", there, "ms", 5)
    report.row("the same, removal → rules gone", gone, "ms")
    report.row("CPU time of such a change, with what follows it", [cpu], "ms")
    report.row(f"one qube of {COUNTS[-1]} starts: route → rules in place", routes(net, owned[:5 if quick else 20]),
               "ms")
    report.row(f"resident memory with {COUNTS[-1]} addresses", [process.rss_kib / 1024], "MiB")
    report.row("at most since the start", [process.peak_kib / 1024], "MiB")
    cpu = process.cpu_s
    seconds = 12 if quick else 30
    time.sleep(seconds)
    report.row(f"CPU time when idle, {COUNTS[-1]} addresses", [(process.cpu_s - cpu) * 60000 / seconds], "ms a minute")


class Notifications:
    """What the kernel says of changed set elements in the net qube."""

    def __init__(self, net):
        self._socket = net.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)            # SO_RCVBUFFORCE
        self._socket.bind((0, 1 << 6))                                     # NFNLGRP_NFTABLES
        self._socket.settimeout(10)

    def wait(self, kind, name):
        """Until a message of this kind (NFT_MSG_*) about the set of this name has come."""
        wanted = name.encode() + b"\0"
        while True:
            data = self._socket.recv(1 << 20)
            while len(data) >= 16:
                length, number = struct.unpack_from("=IH", data)
                if number == 10 << 8 | kind and wanted in data[:length]:
                    return time.monotonic()
                data = data[length + 3 & ~3:]

    def close(self):
        self._socket.close()


def routes(net, owned):
    """Takes the route of a qube away and gives it back; milliseconds until the element is back."""
    heard, taken = Notifications(net), []
    for address, qube in owned:
        line = f"{address}/32 dev {qube.vif}"
        net.batch(f"route del {line}\n")
        heard.wait(14, "network-server-any")
        began = time.monotonic()
        net.batch(f"route add {line} metric {platform.MAX_DOMID - qube.domid}\n")
        taken.append((heard.wait(12, "network-server-any") - began) * 1000)
        time.sleep(0.1)
    heard.close()
    return taken


def measure(report, quick):
    report.part(f"{COUNTS[-1]} addresses")
    with Lab(scale.topology()) as lab:
        net = lab["sys-net"]
        owned = scale.attach(lab, scale.filler(4, COUNTS[-1]))
        router = Router(net, start=False)
        try:
            measure_starts(report, net, router, owned, quick)
            measure_takeover(report, router, quick)
            measure_changes(report, lab, router, owned, quick)
        finally:
            router.close()
