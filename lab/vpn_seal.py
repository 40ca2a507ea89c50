# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of the seal share: a VPN qube that is sealed and connected, and what the kernel has of the seal as text.

    box = Sealed(lab)                  # topologies.VPN (or a variant), sealed
    box.connect()                      # a client by hand, the tunnel carries
    before = box.picture()             # rules, routes, tables
    ... somebody breaks something ...
    wait_until(lambda: box.picture() == before)
"""

import contextlib
import json
import re

from lab import topologies
from lab.node import wait_until
from lab.router import SLOW
from lab.topologies import TARGET, TARGET6
from lab.vpn import TUNNEL, HandClient, Seal
from lab.vpn_oracle import Oracle
from lab.vpn_provider import SITES, VPN_DNS, Provider, way

TABLE, TABLES = "qubes-vpn", ("inet", "netdev")
ENDPOINTS = [("udp", site.ip, 1194) for site in SITES.values()]
CARRIER = ("udp", SITES["server"].ip, 1194, "uid")
_GATE = re.compile(r'chain (\S+) {\s+type filter hook egress device "?([^"\s]+)"? priority filter; policy drop;')
_VOLATILE = ("handle", "index", "packets", "bytes", "comment")


def _steady(item):
    """Without what changes by itself."""
    if isinstance(item, dict):
        return {name: _steady(value) for name, value in item.items() if name not in _VOLATILE}
    return [_steady(value) for value in item] if isinstance(item, list) else item


class Sealed:
    def __init__(self, lab, topology=topologies.VPN, seal=True, provider=True, **options):
        self.lab = lab(topology)
        self.vpn, self.work, self.play = (self.lab[name] for name in ("vpn", "work", "play"))
        self.provider = Provider(self.lab) if provider else None
        self.seal = Seal(self.vpn, **options) if seal else None
        self.client = self.server = None

    def connect(self, server="server", **options):
        """OpenVPN by hand through the seal; waits until the qube's packets go by it."""
        if self.server is None:
            self.server = self.provider.openvpn(server, **options)
        self.client = HandClient(self.vpn, self.provider, self.seal)
        self.client.connect(self.server)
        self.wait_carried()
        return self

    def wait_carried(self, timeout=5.0):
        wait_until(self.carried, timeout * SLOW, "the tunnel carries the qube's packets")

    def carried(self, timeout=0.3):
        return way(self.work, timeout=timeout) == "VPN"

    def oracle(self, carriers=None, **options):
        return Oracle(self.lab, ENDPOINTS if carriers is None else carriers, **options)

    def tunnel_device(self, addresses=("10.8.0.2",)):
        """A tun device of the tunnel's name that nobody reads: for tests of the seal's own state."""
        self.vpn.batch(f"tuntap add dev {TUNNEL} mode tun\n")
        self.vpn.sysctl(f"net/ipv6/conf/{TUNNEL}/addr_gen_mode", 1)
        self.vpn.batch("".join(f"addr add {address} dev {TUNNEL}\n" for address in addresses) +
                       f"link set {TUNNEL} up\n")

    def open(self, wish, dns=(VPN_DNS,), addresses=("10.8.0.2",), mtu=1400, **options):
        """Asks by a Wish for a tunnel as tunnel_device() made it."""
        return wish.set([CARRIER], tunnel=TUNNEL, addresses=addresses, mtu=mtu, dns=dns, **options)

    # -- the kernel ------------------------------------------------------------------------------------------------

    def objects(self, families=TABLES):
        """nft's objects of our tables: (kind, object)."""
        found = []
        for family in families:
            done = self.vpn.run(["nft", "-j", "list", "table", family, TABLE], check=False)
            if done.returncode == 0:
                found += [next(iter(entry.items())) for entry in json.loads(done.stdout)["nftables"] if
                          "metainfo" not in entry]
        return found

    def picture(self):
        """Everything of the seal, so that it can be compared: order of rules counts, that of other things does not."""
        lines, chains = [], {}
        for kind, item in self.objects():
            item = _steady(item)
            if kind == "table":
                item.pop("flags", None)  # who owns it
            if kind == "rule":
                chains.setdefault((item["family"], item["chain"]), []).append(item["expr"])
                continue
            if "elem" in item:
                item["elem"] = sorted(map(json.dumps, item["elem"]))
            lines.append(json.dumps([kind, item], sort_keys=True))
        lines += [json.dumps([place, rules]) for place, rules in chains.items()]
        return sorted(lines) + self.routing()

    def rules(self):
        """Policy rules as `ip` tells them, those of the kernel included."""
        return [f"{version} {line}" for version in ("-4", "-6")
                for line in self.vpn.run(["ip", version, "rule"]).stdout.splitlines()]

    def routes(self):
        found = []
        for version in ("-4", "-6"):
            for table in (77, 78, 79):
                done = self.vpn.run(["ip", version, "route", "show", "table", str(table)], check=False)
                found += [f"{version} {table} {line.strip()}" for line in done.stdout.splitlines()]
        return sorted(found)

    def routing(self):
        return self.rules() + self.routes()

    def gates(self):
        """Devices that layer G is on, with the names of its chains (nft 1.0.6 leaves the device out of JSON)."""
        text = self.vpn.run(["nft", "list", "chains", "netdev"], check=False).stdout
        return {device: chain for chain, device in _GATE.findall(text)}

    def gate(self, device):
        return device in self.gates()

    def sealed(self):
        return self.seal.check()[0] == 0

    @contextlib.contextmanager
    def watched(self, carriers=None, allow=(), **options):
        """No frame may leave meanwhile that must not. allow: kinds of leaks that are told apart elsewhere."""
        with self.oracle(carriers, **options) as oracle:
            yield oracle
        assert not oracle.blind(), "the witness lost frames"
        report = oracle.report
        bad = [key for key in report.leak_counts if key[1] == "uplink" and key[2] not in allow]
        assert not bad, report


__all__ = ["Sealed", "TARGET", "TARGET6", "TUNNEL", "TABLE", "TABLES", "CARRIER", "ENDPOINTS"]
