# SPDX-License-Identifier: GPL-2.0-or-later
"""A net qube with very many addresses behind few vifs, and how long things take there."""

import ipaddress
import json
import time

from lab import platform, topologies
from lab.node import wait_until
from lab.topology import Qube

VIFS = 4
FIRST4, FIRST6 = "10.200.0.0", "2001:db8:200::"


def filler(version, count):
    """count addresses that are not in the LAN's own network, so that the uplink is chosen by no prefix."""
    first = int(ipaddress.ip_address(FIRST4 if version == 4 else FIRST6)) + 1
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return [str(kind(first + i)) for i in range(count)]


def topology():
    """The basic network and VIFS qubes that take the many addresses."""
    return topologies.BASIC.plus(*(Qube(f"many{i}", "sys-net", 100 + i, f"10.137.1.{i + 1}") for i in range(VIFS)))


def many(lab):
    return [lab[f"many{i}"] for i in range(VIFS)]


def attach(lab, addresses):
    """What the platform's script does for each address, at once for all: neighbour, elements, route. Each VIFS-th
    address belongs to the same qube; returns (address, qube) pairs."""
    net, qubes = lab["sys-net"], many(lab)
    owned = [(address, qubes[i % VIFS]) for i, address in enumerate(addresses)]
    net.batch("".join(f"neigh replace to {address} dev {qube.vif} lladdr {qube.spec.mac} nud permanent\n"
                      for address, qube in owned))
    for version in (4, 6):
        mine = [(address, qube) for address, qube in owned if platform.family(address) == version]
        if mine:
            table = "ip" if version == 4 else "ip6"
            allowed = ", ".join(f'"{qube.vif}" . {address}' for address, qube in mine)
            net.nft(f"add element {table} qubes allowed {{ {allowed} }}\n"
                    f"add element {table} qubes downstream {{ {', '.join(a for a, _qube in mine)} }}\n")
    net.batch("".join(f"route add {address}/{32 if ':' not in address else 128} dev {qube.vif} "
                      f"metric {platform.MAX_DOMID - qube.domid}\n" for address, qube in owned))
    return owned


def record(qube, **fields):
    text = {"v": "1", "vm": qube.name, "xid": qube.xid, "via": "direct", "edge": "1", "mode": "forward"} | fields
    return "|".join(f"{name}={value}" for name, value in text.items())


def write_records(net, owned, **fields):
    net.qdb.write_many((f"/network-server/{address}", record(qube, **fields)) for address, qube in owned)


def remove_records(net, owned):
    net.qdb.rm_many(f"/network-server/{address}" for address, _qube in owned)


class Process:
    """Numbers of a running process."""

    def __init__(self, pid):
        self.pid = pid

    def _status(self, name):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
        raise KeyError(name)

    @property
    def rss_kib(self):
        return self._status("VmRSS")

    @property
    def peak_kib(self):
        return self._status("VmHWM")

    @property
    def pss_kib(self):
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

    @property
    def wakeups(self):
        return self._status("voluntary_ctxt_switches")

    @property
    def cpu_s(self):
        with open(f"/proc/{self.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    def wait_quiet(self, seconds=2.6, timeout=120.0):
        """Until it did nothing for as long as the longest pause between two announcements."""
        deadline = time.monotonic() + timeout
        last, since = self.wakeups, time.monotonic()
        while time.monotonic() - since < seconds:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} never rests")
            time.sleep(0.05)
            now = self.wakeups
            if now != last:
                last, since = now, time.monotonic()


def start_ms(router):
    """Milliseconds from exec to READY."""
    begin = time.monotonic()
    router.start()
    return (time.monotonic() - begin) * 1000


def elements(net, name, table="ip qubes"):
    """How many elements a set has."""
    text = net.run(["nft", "--json", "list", "set", *table.split(), name]).stdout
    return len(json.loads(text)["nftables"][1]["set"].get("elem", []))
