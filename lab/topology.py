# SPDX-License-Identifier: GPL-2.0-or-later
"""A network as data: segments, hosts, net qubes, qubes. lab/topologies.py has ready ones, lab/lab.py builds them.

Addresses are text as `ip` takes them, with prefix length where an interface gets them ("192.168.16.10/24"), without
where a qube gets them (a qube always has /32 and /128). Names are those of network namespaces.
"""

from dataclasses import dataclass, field, replace
from typing import Optional


@dataclass(frozen=True)
class Segment:
    """One link layer: a switch, or one wireless network."""
    name: str


@dataclass(frozen=True)
class Link:
    """One interface of a host or net qube on a segment. mac None: made from the position, the same in every run."""
    iface: str
    segment: str
    addresses: tuple = ()
    mac: Optional[str] = None


@dataclass(frozen=True)
class Route:
    to: str                         # "default", "203.0.113.0/24", "::/0"
    via: Optional[str] = None
    dev: Optional[str] = None
    metric: Optional[int] = None


@dataclass(frozen=True)
class Host:
    """A machine that is no part of Qubes: LAN host, router, server in the Internet."""
    name: str
    links: tuple
    routes: tuple = ()
    forward: bool = False


@dataclass(frozen=True)
class Qube:
    """A qube attached to a net qube. The vif in the net qube is vif<domid>.0; with hvm a stub domain of the next id has
    another one for the same addresses. firewall: the qube has the platform's own tables (input: policy drop).
    rules: what its firewall lets out, None for everything, else lines as the platform writes them
    ("action=accept proto=tcp dst4=192.168.16.0/24 dstports=80-80"); after the last one everything is refused."""
    name: str
    netvm: Optional[str]
    domid: int
    ip: str
    ip6: Optional[str] = None
    mac: str = "00:16:3e:5e:6c:00"
    hvm: bool = False
    firewall: bool = False
    rules: Optional[tuple] = None
    running: bool = True

    @property
    def vif(self):
        return f"vif{self.domid}.0"

    @property
    def stub_vif(self):
        return f"vif{self.domid + 1}.0"

    @property
    def addresses(self):
        return tuple(address for address in (self.ip, self.ip6) if address)


@dataclass(frozen=True)
class NetQube(Qube):
    """A qube that serves others. netvm None: it owns network devices (sys-net), given as uplinks; with a netvm it is a
    link of a chain and its uplink is eth0. flavour: the firewall daemon's layout, "4.3" or "4.2". domid and MAC of a
    net qube without netvm mean nothing."""
    netvm: Optional[str] = None
    domid: int = 1
    ip: str = "10.137.0.5"
    ip6: Optional[str] = "fd09:24ef:4179::a89:5"
    uplinks: tuple = ()
    routes: tuple = ()
    flavour: str = "4.3"
    ipv6: bool = True
    rp_filter: int = 2              # 2 as Fedora sets it; Debian 12 leaves 0
    dns: tuple = ("203.0.113.1",)


@dataclass(frozen=True)
class Topology:
    name: str
    segments: tuple
    hosts: tuple
    netqubes: tuple                 # in the order of the chain, outermost first
    qubes: tuple = field(default=())

    def machine(self, name):
        for machine in self.hosts + self.netqubes + self.qubes:
            if machine.name == name:
                return machine
        raise KeyError(name)

    def changed(self, name, **changes):
        """The same topology with fields of one machine changed."""
        def swap(machines):
            return tuple(replace(machine, **changes) if machine.name == name else machine for machine in machines)
        self.machine(name)
        return replace(self, hosts=swap(self.hosts), netqubes=swap(self.netqubes), qubes=swap(self.qubes))

    def plus(self, *machines):
        """The same topology with more hosts, net qubes or qubes."""
        def more(kind, wanted):
            return kind + tuple(machine for machine in machines if wanted(machine))
        return replace(self, hosts=more(self.hosts, lambda m: isinstance(m, Host)),
                       netqubes=more(self.netqubes, lambda m: isinstance(m, NetQube)),
                       qubes=more(self.qubes, lambda m: isinstance(m, Qube) and not isinstance(m, NetQube)))
