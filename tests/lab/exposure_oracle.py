# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may reach what, computed from features and attachments alone: what the whole of the product is measured by.

Shares no code with it and does not look at records, rules or routes: qubesd's properties and features, where vifs are,
which blocks of the platform's firewall there are. A packet is followed from its source up through the net qubes (where its
address is masked unless its qube keeps it), maybe over the LAN, and down to its target, and each hop is asked.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass, field

from lab import platform
from lab.dom0 import CAPABLE

LAN = tuple(map(ipaddress.ip_network, ("192.168.16.0/24", "2001:db8:16::/64", "fd00:16::/64")))
_RULE = re.compile(r"(tcp|udp|icmp|any)(?:/([0-9,-]+))?(?: from ([0-9a-f.:/,]+))?\Z")
_MAP = re.compile(r"(tcp|udp)/([0-9]+)(?:-([0-9]+))?(?::([0-9]+)(?:-([0-9]+))?)?(?: from ([0-9a-f.:/,]+))?\Z")


class Malformed(ValueError):
    pass


@dataclass(frozen=True)
class Rule:
    proto: str
    lo: int = 0
    hi: int = 65535
    nets: tuple = ()
    inside: int = 0                     # of a map: where lo leads

    def takes(self, proto, port, source):
        return (self.proto in (proto, "any") and self.lo <= port <= self.hi and
                (not self.nets or any(ipaddress.ip_address(source) in net for net in self.nets)))


def _nets(text):
    return tuple(ipaddress.ip_network(net, strict=False) for net in text.split(",")) if text else ()


@functools.cache
def parse_allow(text):
    """Rules; None means every port (an absent feature)."""
    if text is None:
        return (Rule("any"),)
    if not text.strip():
        return ()
    rules = []
    for part in text.split(";"):
        match = _RULE.match(part.strip())
        if not match:
            raise Malformed(part)
        for ports in (match[2] or "0-65535").split(","):
            lo, _, hi = ports.partition("-")
            rules.append(Rule(match[1], int(lo), int(hi or lo), _nets(match[3])))
    return tuple(rules)


@functools.cache
def parse_publish(text):
    rules = []
    for part in (text or "").split(";") if (text or "").strip() else ():
        match = _MAP.match(part.strip())
        if not match:
            raise Malformed(part)
        lo, inside = int(match[2]), int(match[4] or match[2])
        hi, inside_hi = int(match[3] or lo), int(match[5] or (inside if match[4] else match[3] or lo))
        if hi - lo != inside_hi - inside:
            raise Malformed(part)
        rules.append(Rule(match[1], lo, hi, _nets(match[6]), inside))
    return tuple(rules)


@dataclass
class Exposure:
    """What is wished for one running qube, and over which hops (the first is its own net qube)."""
    vm: object
    hops: list
    forward: bool
    allow: tuple
    publish: tuple
    open: set = field(default_factory=set)      # families

    def address(self, family):
        return self.vm.live[1 if family == 4 else 2]

    def accepts(self, hop, proto, port, source):
        """At one of its hops, of a packet that goes to its own address."""
        if self.forward and any(rule.takes(proto, port, source) for rule in self.allow):
            return True
        if hop is self.hops[-1]:
            return False                # a port inside is for what was published outside
        return any(rule.takes(proto, port - rule.inside + rule.lo, source) for rule in self.publish)


def family_of(address):
    return 6 if ":" in address else 4


def on_lan(address):
    """Do hosts of the LAN take it for one of theirs?"""
    return any(ipaddress.ip_address(address) in net for net in LAN)


def runs(vm):
    return vm.is_running


def hops_of(dom0, vm):
    """Net qubes from the next one to the outermost; None when the way is broken or a hop cannot do it."""
    hops, name = [], vm.live[0] if vm.live else None
    while name:
        hop = dom0.model.vms.get(name)
        if hop is None or hop in hops or not runs(hop):
            return None
        hops.append(hop)
        if dom0.model.with_template(hop, CAPABLE) != "1":
            return None
        if hop.live is None and dom0.model.netvm(hop) is not None:
            return None                 # its own vif is gone
        name = hop.live[0] if hop.live else None
    return hops or None


def _duplicates(dom0):
    """address: names of those that have it: what runs, and net qubes always."""
    owners = {}
    for vm in dom0.model.sorted():
        if not vm.networked:
            continue
        if runs(vm) and (vm.live or dom0.model.netvm(vm) and vm.last_live):
            for address in (vm.live or vm.last_live)[1:]:  # it will be there again when its net qube is
                owners.setdefault(address, set()).add(vm.name)
        if dom0.model.value(vm, "provides_network"):
            for name in ("ip", "ip6"):
                owners.setdefault(dom0.model.value(vm, name), set()).add(vm.name)
    return owners


def exposures(dom0):
    """Every exposure that must be in place now."""
    found, owners, feature = [], _duplicates(dom0), dom0.model.with_template
    for vm in dom0.model.sorted():
        if not vm.networked or not runs(vm) or not vm.live:
            continue
        forward = feature(vm, "routing-method") == "forward"
        try:
            publish = parse_publish(feature(vm, "network-server.publish"))
            allow = parse_allow(feature(vm, "network-server.allow"))
        except Malformed:
            continue
        expires = feature(vm, "network-server.expires")
        if not (forward or publish) or expires and expires < "2020":
            continue
        hops = hops_of(dom0, vm)
        if hops is None:
            continue
        one = Exposure(vm, hops, forward, allow if forward else (), publish)
        for family, address in ((4, vm.live[1]), (6, vm.live[2])):
            if address and len(owners[address]) == 1:
                one.open.add(family)
        if one.open:
            found.append(one)
    return [one for one in found if not any(_clash(one, other) for other in found if other is not one)]


def _clash(one, other):
    return (one.hops[-1] is other.hops[-1] and one.open & other.open and
            any(a.proto == b.proto and a.lo <= b.hi and b.lo <= a.hi for a in one.publish for b in other.publish))


# -- packets -------------------------------------------------------------------------------------------------------------

class Oracle:
    def __init__(self, dom0):
        self.dom0, self.lab, self.model = dom0, dom0.lab, dom0.model
        self.exposures = exposures(dom0)
        self.by_address = {one.address(family): one for one in self.exposures for family in one.open}
        self.connected = {vm.name: set(" ".join(dom0.keys(vm.name, "/connected-ips").values()).split())
                          for vm in self.model.sorted() if vm.firewall_daemon}
        self.blocks = {vm.name: dom0.keys(vm.name, "/qubes-firewall/") for vm in self.model.sorted()
                       if vm.firewall_daemon}
        # Where the platform's script for a vif failed half way, its net qube goes on dropping the address by other ways.
        self.left = {vm.name: vm.node.left_behind & platform.downstream(vm.node) for vm in self.model.sorted()
                     if vm.firewall_daemon and vm.node.left_behind}
        self.edges, self.ways = self._edges(), {}

    def lan_address(self, hop, family):
        """The address that a net qube without netvm masks others with."""
        return next(address.split("/")[0] for link in hop.node.uplinks.values() for address in link.addresses
                    if family_of(address) == family)

    def way(self, vm):
        """Live net qubes of any qube, outwards; [] without network."""
        if vm.name not in self.ways:
            self.ways[vm.name] = self._way(vm)
        return self.ways[vm.name]

    def _way(self, vm):
        hops, name = [], vm.live[0] if vm.live else None
        while name:
            hop = self.model[name]
            if not runs(hop):
                return []
            hops.append(hop)
            name = hop.live[0] if hop.live else None
        return hops

    def gets_out(self, vm, address):
        """Do the rules of its own net qube let it start connections?"""
        block = self.blocks.get(vm.live[0], {})
        return block.get(f"/qubes-firewall/{address}/0000") == "action=accept"

    def keeps(self, vm, address):
        """Its own address outwards, on every hop."""
        one = self.by_address.get(address)
        return one is not None and one.vm is vm and one.forward

    def mask(self, vm, address, hops, position):
        """The source as what comes behind hop number position sees it, of a packet that left hops by uplinks."""
        if self.keeps(vm, address) or position < 0:
            return address
        hop, family = hops[position], family_of(address)
        return hop.live[1 if family == 4 else 2] if hop.live else self.lan_address(hop, family)

    def seen_by_lan(self, vm, family):
        """The address that a host of the LAN sees of a qube, None when it does not get there."""
        hops, address = self.way(vm), vm.live[1 if family == 4 else 2] if vm.live else None
        if not hops or not address or not self.leaves(vm, address, hops, len(hops)):
            return None
        return self.mask(vm, address, hops, len(hops) - 1)

    def leaves(self, vm, address, hops, count, target=None):
        """Does a packet pass its first count hops outwards?"""
        if not runs(vm) or vm.state == "Paused" or not self.gets_out(vm, address):
            return False
        if count == len(hops) and (hops[-1].live is None and self.model.netvm(hops[-1]) is not None):
            return False
        return not any(self._is_shut(hop, target) for hop in hops[:count])  # nor would answers come back

    def down(self, one, start, source, proto, port):
        """From hop number start of an exposure, where it came by a vif, down to its qube."""
        if one.vm.state == "Paused" or not self._enters(one.hops[:start], source):
            return False
        return all(one.accepts(hop, proto, port, source) for hop in one.hops[:start + 1])

    def _enters(self, hops, source):
        """By their uplinks: addresses of a hop's own qubes do not come from there."""
        return not any(self._is_shut(hop, source) for hop in hops)

    def _is_shut(self, hop, address):
        """Does the platform let nothing of that address through by the hop's uplinks?"""
        return address in self.connected[hop.name] or address in self.left.get(hop.name, ())

    def reaches(self, source, address, proto, port):
        """Does a connection from source (a Vm, or the address of a LAN host) arrive? None: not looked at."""
        family = family_of(address)
        if isinstance(source, str):
            return self._from_lan(source, address, proto, port)
        own = source.live[1 if family == 4 else 2] if source.live else None
        if own is None or source.state == "Paused" or not runs(source):
            return False
        if address in source.live:
            return None                 # itself
        hops, one = self.way(source), self.by_address.get(address)
        if not hops:
            return False
        edge = self.edges.get(address)
        if edge is not None:
            return self._published_from_within(source, own, hops, edge, address, proto, port)
        if one is None:
            return False
        for position, hop in enumerate(hops):
            if hop in one.hops:
                if not self.leaves(source, own, hops, position, address):
                    return False
                return self.down(one, one.hops.index(hop), self.mask(source, own, hops, position - 1), proto, port)
        if not on_lan(address):
            return False
        if not self.leaves(source, own, hops, len(hops), address):
            return False
        seen = self.mask(source, own, hops, len(hops) - 1)
        if not on_lan(seen):
            return None                 # an address of its own that nobody on the LAN answers
        return self._from_lan(seen, address, proto, port)

    def _from_lan(self, source, address, proto, port):
        edge = self.edges.get(address)
        if edge is not None:
            return self._published(edge, source, family_of(address), proto, port)
        one = self.by_address.get(address)
        if one is None or not one.forward or not on_lan(address):
            return False
        return self._enters(one.hops[-1:], source) and self.down(one, len(one.hops) - 1, source, proto, port)

    def _edges(self):
        """{address on an uplink: the net qube that runs with it}"""
        return {text.split("/")[0]: vm for vm in reversed(self.model.sorted())
                if vm.node is not None and hasattr(vm.node, "uplinks") and runs(vm)
                for link in vm.node.uplinks.values() for text in link.addresses}

    def _leads(self, edge, source, family, proto, port):
        for one in self.exposures:
            if one.hops[-1] is edge and family in one.open:
                rules = [rule for rule in one.publish if rule.proto == proto and rule.lo <= port <= rule.hi]
                if rules:
                    return one, rules[0].inside + port - rules[0].lo, any(rule.takes(proto, port, source) for rule in rules)
        return None, None, False

    def _published(self, edge, source, family, proto, port, within=False):
        one, inside, taken = self._leads(edge, source, family, proto, port)
        if one is None or one.vm.state == "Paused":
            return False
        if not taken:
            return False
        return (self._enters(one.hops[:-1] if within else one.hops, source) and
                all(one.accepts(hop, proto, inside, source) for hop in one.hops[:-1]))

    def _published_from_within(self, source, own, hops, edge, address, proto, port):
        if edge not in hops:
            if not self.leaves(source, own, hops, len(hops), address):
                return False
            seen = self.mask(source, own, hops, len(hops) - 1)
            if not on_lan(seen):
                return None
            return self._published(edge, seen, family_of(address), proto, port)
        position = hops.index(edge)
        if not self.leaves(source, own, hops, position, address):
            return False
        seen = self.mask(source, own, hops, position - 1)
        one, _inside, taken = self._leads(edge, seen, family_of(address), proto, port)
        if one is None or not taken:
            return False
        if one.vm is source or set(one.hops[:-1]) & set(hops[:position]):
            return None                 # in and out by one vif: from itself, or a hop's own address comes back to it
        return self._published(edge, seen, family_of(address), proto, port, within=True)

    # -- keys ------------------------------------------------------------------------------------------------------

    def records(self):
        """{(hop, address): fields} that QubesDB must hold, exactly; texts of rules left out."""
        wanted = {}
        for one in self.exposures:
            for family in one.open:
                child = one.vm
                for hop in one.hops:
                    xid = str(child.xid) + (f",{child.stubdom_xid}" if child.stubdom_xid > 0 else "")
                    via = "direct" if child is one.vm else child.live[1 if family == 4 else 2]
                    wanted[hop.name, one.address(family)] = {
                        "v": "1", "vm": one.vm.name, "xid": xid, "via": via, "edge": str(int(hop is one.hops[-1])),
                        "mode": "forward" if one.forward else "publish"}
                    child = hop
        return wanted

    def opened_blocks(self):
        """{(hop, address)} of the upper hops that must let an exposed qube out."""
        return {(hop.name, one.address(family)) for one in self.exposures if one.forward for family in one.open
                for hop in one.hops[1:] if self.model.value(one.vm, "netvm") != hop.name}

    def doors_inside(self):
        """Names of qubes that must have a record for their own door."""
        return {one.vm.name for one in self.exposures}


def records(dom0):
    """What QubesDB holds, as Oracle.records() wants it."""
    found = {}
    for vm in dom0.model.sorted():
        for key, value in dom0.keys(vm.name, "/network-server/").items():
            fields = dict(part.partition("=")[::2] for part in value.split("|"))
            found[vm.name, key.split("/")[2]] = {name: fields.get(name) for name in
                                                 ("v", "vm", "xid", "via", "edge", "mode")}
    return found


def opened_blocks(dom0):
    """Blocks with policy accept: qubesd itself never writes one."""
    return {(vm.name, key.split("/")[2]) for vm in dom0.model.sorted()
            for key, value in dom0.keys(vm.name, "/qubes-firewall/").items()
            if key.endswith("/policy") and value == "accept"}


def doors_inside(dom0):
    return {vm.name for vm in dom0.model.sorted() if dom0.keys(vm.name, "/network-server-inbound")}
