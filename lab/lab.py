# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds a topology in network namespaces and lets things happen to it. Only inside lab/sandbox.py.

    with Lab(topologies.BASIC) as lab:
        lab["lan1"].ping("192.168.16.2")
        lab["sys-net"].uplink_down("ens6")
"""

import ipaddress
import itertools
import os
import shutil
import subprocess
import time
from dataclasses import replace

from lab import platform, sandbox
from lab.node import Node, wait_until
from lab.qubesdb import QubesDB
from lab.router import ReadySocket, Router, environment, program
from lab.topology import Host, NetQube, Qube

_numbers = itertools.count(1)


def _route_line(route, verb="replace"):
    words = ["route", verb, route.to]
    for name in ("via", "dev", "metric"):
        value = getattr(route, name)
        if value is not None:
            words += [name, str(value)]
    return " ".join(words) + "\n"


def _address_lines(link, verb="replace"):
    return "".join(f"addr {verb} {address} dev {link.iface}" + (" nodad" if ":" in address else "") + "\n"
                   for address in link.addresses)


class HostNode(Node):
    """A machine outside of Qubes."""

    def setup(self):
        self.sysctl("net/ipv4/ip_forward", int(self.spec.forward))
        self.sysctl("net/ipv6/conf/all/forwarding", int(self.spec.forward))
        text = "link set lo up\n"
        for link in self.spec.links:
            text += f"link set {link.iface} up\n" + _address_lines(link)
        self.batch(text + "".join(map(_route_line, self.spec.routes)))


class QubeNode(Node):
    """A qube attached to a net qube. A restart gives it a new vif and eth0; its sockets and tables stay."""

    def __init__(self, lab, spec):
        super().__init__(lab, spec)
        self.domid, self.netvm, self.is_running = spec.domid, None, False
        self.qubesdb_socket = None
        self.batch("link set lo up\n")
        if spec.firewall and not isinstance(spec, NetQube):
            platform.boot_qube(self)

    @property
    def vif(self):
        return f"vif{self.domid}.0"

    @property
    def stub_vif(self):
        return f"vif{self.domid + 1}.0"

    @property
    def xid(self):
        """The field of a record: the domain id, with that of the stub domain where there is one."""
        return f"{self.domid},{self.domid + 1}" if self.spec.hvm else str(self.domid)

    def _plug(self, vif, iface):
        self.netvm.batch(f"link add {vif} address {platform.BACKEND_MAC} type veth peer name {iface} "
                         f"netns {os.path.basename(self.path)} address {self.spec.mac}\n")

    def start(self, domid=None, online=True):
        """Starts the qube (with another domain id if given): vif, the platform's script, its own interface. online
        False leaves the vif as the hypervisor made it."""
        if domid is not None:
            self.domid = domid
        self.netvm = self.lab[self.lab.netvm_of[self.name]]
        self.is_running = True
        self._plug(self.vif, "eth0")
        gateway = self.netvm.spec
        self.batch(platform.qube_uplink(self, "eth0", gateway.ip, gateway.ip6 if gateway.ipv6 else None))
        if online:
            self.online()
        if self.spec.hvm:
            self._plug(self.stub_vif, "emu0")
            self.batch(f"link set emu0 group {platform.UPLINK_GROUP} up\n")
            if online:
                self.stub_online()
        if online:
            self.netvm.wait_running(self.vif)
            self.wait_running("eth0")
        return self

    def online(self):
        platform.vif_online(self.netvm, self.vif, self.spec.addresses, self.spec.mac, self.domid)

    def offline(self):
        platform.vif_offline(self.netvm, self.vif, self.spec.addresses, self.domid)

    def stub_online(self):
        platform.vif_online(self.netvm, self.stub_vif, self.spec.addresses, self.spec.mac, self.domid + 1)

    def stub_offline(self):
        platform.vif_offline(self.netvm, self.stub_vif, self.spec.addresses, self.domid + 1)

    def stop(self, offline=True):
        """The qube ends: the platform's script, then the vif is gone. offline False: the script did not run (a crash of
        the tool stack), so its elements stay behind."""
        if offline:
            for step in (self.offline, self.stub_offline) if self.spec.hvm else (self.offline,):
                try:
                    step()
                except subprocess.CalledProcessError:
                    if not self.spec.hvm:  # known defect: the second vif of one address
                        raise
        vifs = [self.vif, self.stub_vif] if self.spec.hvm else [self.vif]
        for vif in vifs:
            self.netvm.batch(f"link del {vif}\n")
            self.netvm.vifs.pop(vif, None)
        self.is_running = False
        return self

    def restart(self, domid=None):
        """A stop and a start; the domain id grows as in real life."""
        self.stop()
        return self.start(self.domid + 10 if domid is None else domid)

    def move_to(self, netvm):
        """Another net qube (its name), while the qube runs."""
        self.stop()
        self.lab.netvm_of[self.name] = netvm
        for node in self.lab.netqubes:
            platform.firewall_connected(node)
        for address in self.spec.addresses:
            platform.firewall_apply(self.lab[netvm], address, self.spec.rules)
        return self.start()

    # -- for a lab with a dom0 (lab/dom0.py): the same in the steps that qubesd takes --------------------------------

    def adopt_qubesdb(self, _process, path):
        """dom0 runs this qube's database."""
        self.qubesdb_socket = path

    def power_on(self, domid):
        self.domid, self.is_running = domid, True

    def power_off(self):
        self.freeze(False)
        self.is_running = False

    def plug(self, netvm, domid):
        """The vif appears in a net qube (its node), and the platform's script runs there."""
        self.domid, self.netvm, self.is_running = domid, netvm, True
        self._plug(self.vif, "eth0")
        if self.spec.hvm:
            self._plug(self.stub_vif, "emu0")
            self.batch(f"link set emu0 group {platform.UPLINK_GROUP} up\n")
        self.online()
        if self.spec.hvm:
            self.stub_online()

    def configure(self):
        """The guest's part: its interface gets its addresses."""
        gateway = self.netvm.spec
        self.batch(platform.qube_uplink(self, "eth0", gateway.ip, gateway.ip6 if gateway.ipv6 else None))
        self.netvm.wait_running(self.vif)
        self.wait_running("eth0")

    def unplug(self, alive=True):
        """The vif goes: the platform's script, then the device. alive False: the net qube is gone, with all in it."""
        if self.netvm is None:
            return
        if alive:
            for vif, step in ((self.vif, self.offline), (self.stub_vif, self.stub_offline))[:2 if self.spec.hvm else 1]:
                # Known defect: of two vifs with one address the second one's script fails half way.
                try:
                    step()
                except subprocess.CalledProcessError:
                    self.netvm.left_behind.update(self.spec.addresses)
                self.netvm.batch(f"link del {vif}\n")
                self.netvm.vifs.pop(vif, None)
        else:
            for iface in ("eth0", "emu0") if self.spec.hvm else ("eth0",):
                self.run(["ip", "link", "del", iface], check=False)
        self.netvm = None

    def freeze(self, on):
        """A paused qube: it neither takes nor sends packets, its vif stays."""
        table = "table inet lab-paused"
        text = f"add {table}\ndelete {table}\n"
        if on:
            text += f"{table} {{\n" + "".join(
                f"    chain {hook} {{ type filter hook {hook} priority -500; policy drop; }}\n"
                for hook in ("prerouting", "output")) + "}\n"
        self.nft(text)

    def set_rules(self, rules):
        """Changes what the qube's firewall lets out (Qube.rules)."""
        for address in self.spec.addresses:
            platform.firewall_apply(self.netvm, address, rules)


class NetQubeNode(QubeNode):
    """A qube that serves others: uplinks, the platform's tables, a QubesDB, our router."""

    def __init__(self, lab, spec):
        super().__init__(lab, spec)
        self.folder = f"{lab.work}/{spec.name}"
        os.makedirs(self.folder)
        self.uplinks = {link.iface: link for link in spec.uplinks}
        self.routes = list(spec.routes)
        self.vifs, self.firewall_chains, self._unplugged = {}, set(), set()
        self.left_behind = set()       # addresses of vifs whose script failed when they went
        self.qubesdb_socket = f"{self.folder}/qubesdb.sock"
        self._qubesdb, self._qdb = None, None
        self.dom0_owns, self.firewall_view = False, None
        self._sysctls()

    def _sysctls(self):
        for name in ("all", "default"):
            self.sysctl(f"net/ipv4/conf/{name}/rp_filter", self.spec.rp_filter)

    def setup(self):
        platform.boot(self)
        text = "link set lo up\n"
        for link in self.uplinks.values():
            text += f"link set {link.iface} up\n" + _address_lines(link)
        self.batch(text + "".join(map(_route_line, self.routes)))

    # -- what the platform asks (lab/platform.py) ------------------------------------------------------------------

    def _children(self):
        return [self.lab.specs[name] for name, netvm in self.lab.netvm_of.items() if netvm == self.name]

    @property
    def connected(self):
        """Addresses of all qubes attached here, running or not."""
        if self.firewall_view is not None:
            return self.firewall_view.connected()
        return [address for child in self._children() for address in child.addresses]

    def firewall_wishes(self):
        if self.firewall_view is not None:
            return self.firewall_view.wishes()
        return [(address, child.rules) for child in self._children() for address in child.addresses]

    # -- QubesDB and router ----------------------------------------------------------------------------------------

    def qubesdb_start(self, pairs=()):
        """Starts this qube's QubesDB unless it runs. Nobody finds it before the platform's keys and pairs (key, value)
        are in it."""
        if self.dom0_owns or self._qubesdb is not None and self._qubesdb.poll() is None:
            return
        hidden = f"{self.qubesdb_socket}.new"
        ready = ReadySocket(f"{self.folder}/qubesdb.notify")
        self._qubesdb = self.popen([program("src/qubesdb/qubesdb-server"), hidden],
                                   env=environment(NOTIFY_SOCKET=ready.path), stdin=subprocess.DEVNULL)
        ready.wait(self._qubesdb, 10, "qubesdb-server", str)
        ready.close()
        self._qdb = QubesDB(hidden)
        self._platform_keys()
        self._qdb.write_many(list(pairs))
        os.rename(hidden, self.qubesdb_socket)

    def qubesdb_stop(self):
        """The database is gone (all its keys too); qubesdb_start brings an empty one."""
        if self._qubesdb is not None and self._qubesdb.poll() is None:
            self._qubesdb.kill()
            self._qubesdb.wait()
        self._qdb = None

    def _platform_keys(self):
        pairs = [("/name", self.name), ("/type", "AppVM"),
                 ("/qubes-vm-type", "NetVM" if self.uplinks else "ProxyVM"),
                 ("/qubes-netvm-network", self.spec.ip), ("/qubes-netvm-gateway", self.spec.ip),
                 ("/qubes-netvm-netmask", "255.255.255.255"),
                 ("/qubes-netvm-primary-dns", platform.VIRTUAL_DNS[0]),
                 ("/qubes-netvm-secondary-dns", platform.VIRTUAL_DNS[1])]
        if self.spec.ip6 and self.spec.ipv6:
            pairs.append(("/qubes-netvm-gateway6", self.spec.ip6))
        for key, version in (("/connected-ips", 4), ("/connected-ips6", 6)):
            pairs.append((key, " ".join(a for a in self.connected if platform.family(a) == version)))
        self._qdb.write_many(pairs)

    @property
    def qdb(self):
        """Client of this qube's QubesDB (lab/qubesdb.py); starts the database at the first use."""
        if self._qdb is None:
            if self.dom0_owns:
                self._qdb = QubesDB(self.qubesdb_socket)
            else:
                self.qubesdb_start()
        return self._qdb

    # -- for a lab with a dom0 -------------------------------------------------------------------------------------

    def adopt_qubesdb(self, process, path):
        self._qubesdb, self._qdb, self.qubesdb_socket, self.dom0_owns = process, None, path, True

    def power_off(self):
        """Nothing of the machine stays: its namespace is another one at the next boot."""
        self.lab.unwire(self)
        self.renew()
        self._sysctls()
        self.vifs.clear()
        self.left_behind.clear()
        self.firewall_chains.clear()
        self.is_running, self._qdb = False, None

    def boot(self, daemon=None):
        """The guest comes up: tables, firewall daemon, forwarding, uplinks."""
        self.lab.connect(self, self.uplinks.values())
        self.setup()
        if daemon is not None:
            daemon.start()
        if self.uplinks:
            self.lab.wait_running(self.name)

    def router(self, extra_args=(), **env):
        """Starts our routing manager here and waits until it is ready: see lab/router.py."""
        router = Router(self, extra_args, **env)
        self._closers.append(router)
        return router

    def expose(self, qube, family=4, **fields):
        """Writes the record of an exposed qube (its name) as dom0 does; returns key and value. A field given as None is
        left out, `from_` and the like lose their underscore."""
        node = self.lab[qube]
        address = node.spec.ip if family == 4 else node.spec.ip6
        record = {"v": "1", "vm": qube, "xid": node.xid, "via": "direct", "edge": "1", "mode": "forward"}
        record |= {name.rstrip("_"): value for name, value in fields.items()}
        value = "|".join(f"{name}={text}" for name, text in record.items() if text is not None)
        self.qdb.write(f"/network-server/{address}", value)
        return f"/network-server/{address}", value

    def withdraw(self, qube, family=4):
        """Removes the record; returns its key."""
        spec = self.lab[qube].spec
        key = f"/network-server/{spec.ip if family == 4 else spec.ip6}"
        self.qdb.rm(key)
        return key

    # -- uplinks ---------------------------------------------------------------------------------------------------

    def _configure(self, iface):
        """What a network manager does when an uplink comes: addresses and the routes that leave by it."""
        link = self.uplinks[iface]
        nets = [ipaddress.ip_interface(address).network for address in link.addresses]
        text = f"link set {iface} up\n" + _address_lines(link)
        for route in self.routes:
            if route.dev == iface or route.dev is None and any(ipaddress.ip_address(route.via) in net for net in nets):
                text += _route_line(route)
        self.batch(text)
        if iface not in self._unplugged:
            self.wait_running(iface)

    def uplink_down(self, iface):
        self.batch(f"link set {iface} down\n")

    def uplink_up(self, iface):
        self._configure(iface)

    def carrier(self, iface, on):
        """Cable pulled or put back: the other end goes down or up, nobody reconfigures anything."""
        self.lab.switch.batch(f"link set {self.lab.ports[self.name, iface]} {'up' if on else 'down'}\n")
        (self._unplugged.discard if on else self._unplugged.add)(iface)

    def rename_uplink(self, iface, new):
        """As udev does it, with the interface down meanwhile; addresses and routes come back."""
        self.batch(f"link set {iface} down\nlink set {iface} name {new}\n")
        self.uplinks[new] = replace(self.uplinks.pop(iface), iface=new)
        self.routes = [replace(route, dev=new) if route.dev == iface else route for route in self.routes]
        self.lab.ports[self.name, new] = self.lab.ports.pop((self.name, iface))
        self._configure(new)

    def new_mac(self, iface, mac):
        """Another MAC on a running interface (randomised addresses, a replaced net qube)."""
        self.batch(f"link set {iface} address {mac}\n")

    def add_uplink(self, link, routes=()):
        """A new interface (a Link) with its routes appears."""
        self.uplinks[link.iface] = link
        self.routes += routes
        self.lab.connect(self, (link,))
        self._configure(link.iface)

    def remove_uplink(self, iface):
        self.batch(f"link del {iface}\n")
        del self.uplinks[iface], self.lab.ports[self.name, iface]
        self.routes = [route for route in self.routes if route.dev != iface]


class Lab:
    def __init__(self, topology, firewall=True):
        if not sandbox.inside():
            raise RuntimeError("the lab needs its sandbox: python3 -m lab.sandbox COMMAND")
        started = time.monotonic()
        number = next(_numbers)
        # The first lab of a sandbox has plain names, for people who look with `ip netns exec`.
        self.prefix = "" if not os.listdir("/run/netns") else f"l{number}-"
        self.work = f"{sandbox.WORK}/{number}"
        os.mkdir(self.work)
        self.topology, self.firewall = topology, firewall
        self.nodes, self.ports, self.specs, self.netvm_of = {}, {}, {}, {}
        self._port_numbers, self._mac_numbers, self._macs = itertools.count(1), itertools.count(1), {}
        self.closers = []              # what ends before the machines do (lab/dom0.py)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        self.build_seconds = time.monotonic() - started

    def __getitem__(self, name):
        return self.nodes[name]

    def __iter__(self):
        return iter(self.nodes.values())

    @property
    def netqubes(self):
        return [node for node in self.nodes.values() if isinstance(node, NetQubeNode)]

    def _build(self):
        topology = self.topology
        self.switch = Node(self, None, "switch")
        self.switch.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
        self.switch.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        self.switch.batch("".join(f"link add {segment.name} type bridge mcast_snooping 0\nlink set {segment.name} up\n"
                                  for segment in topology.segments))
        machines = topology.hosts + topology.netqubes + topology.qubes
        for spec in machines:
            self._register(spec)
        wires = [(self._node(spec), spec.links if isinstance(spec, Host) else getattr(spec, "uplinks", ()))
                 for spec in machines]
        self._wire(wires)
        for spec in machines:
            self._begin(spec)
        for name in self.nodes:
            self.wait_running(name)

    def wait_running(self, name):
        """Until the interfaces of a machine on segments really carry."""
        ports = {iface: port for (owner, iface), port in self.ports.items() if owner == name}
        self.switch.wait_running(*ports.values())
        self[name].wait_running(*ports)

    def _register(self, spec):
        self.specs[spec.name] = spec
        if isinstance(spec, Qube) and spec.netvm:
            self.netvm_of[spec.name] = spec.netvm

    def _node(self, spec):
        kind = {Host: HostNode, NetQube: NetQubeNode, Qube: QubeNode}[type(spec)]
        node = kind(self, spec)
        self.nodes[spec.name] = node
        node.sysctl("net/ipv6/conf/default/accept_dad", 0)  # addresses are usable at once
        return node

    def _wire(self, wires):
        text = ""
        for node, links in wires:
            for link in links:
                port = f"p{next(self._port_numbers)}"
                self.ports[node.name, link.iface] = port
                mac = link.mac or self._macs.get((node.name, link.iface))
                if mac is None:
                    number = next(self._mac_numbers)
                    mac = f"52:54:00:16:{number // 256:02x}:{number % 256:02x}"
                    self._macs[node.name, link.iface] = mac
                text += (f"link add {port} type veth peer name {link.iface} netns {os.path.basename(node.path)} "
                         f"address {mac}\nlink set {port} master {link.segment} up\n")
        self.switch.batch(text)

    def connect(self, node, links):
        """Puts more interfaces (Links) of a node on their segments; they are down."""
        self._wire([(node, links)])

    def unwire(self, node):
        """Its interfaces on segments are gone."""
        for key in [key for key in self.ports if key[0] == node.name]:
            self.switch.batch(f"link del {self.ports.pop(key)}\n")

    def _begin(self, spec):
        node = self.nodes[spec.name]
        if isinstance(spec, Host):
            node.setup()
            return
        if isinstance(spec, NetQube):
            node.setup()
        if spec.netvm and spec.running:
            node.start()

    def add(self, spec):
        """A machine that comes later (a Host, Qube or NetQube); returns its node."""
        self._register(spec)
        node = self._node(spec)
        self._wire([(node, spec.links if isinstance(spec, Host) else getattr(spec, "uplinks", ()))])
        if isinstance(spec, Qube) and spec.netvm:
            netvm = self[spec.netvm]
            platform.firewall_connected(netvm)
            for address in spec.addresses:
                platform.firewall_apply(netvm, address, spec.rules)
        self._begin(spec)
        self.wait_running(spec.name)
        return node

    def remove(self, name):
        """The machine is gone."""
        node = self.nodes.pop(name)
        self.unwire(node)
        self.specs.pop(name)
        self.netvm_of.pop(name, None)
        node.close()

    def close(self):
        while self.closers:
            self.closers.pop().close()
        for node in reversed(list(self.nodes.values())):
            self.nodes.pop(node.name)
            try:
                node.close()
            except AssertionError:  # of a router: told when everything else is closed
                self.close()
                raise
        if hasattr(self, "switch"):
            self.switch.close()
            del self.switch
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


__all__ = ["Lab", "wait_until"]
