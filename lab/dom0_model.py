# SPDX-License-Identifier: GPL-2.0-or-later
"""The qubes as qubesd keeps them: properties with their defaults, features, what is written for them into QubesDB.

Nothing here acts: lab/dom0.py does. A property is explicit when it stands in Vm.explicit, else it has its default, which
may depend on other qubes (ip6 on the feature `ipv6` along the net qubes, netvm on the system's).
"""

import ipaddress
import itertools
import uuid

from lab.platform import VIRTUAL_DNS

CLASSES = ("AdminVM", "AppVM", "DispVM", "RemoteVM", "StandaloneVM", "TemplateVM")
_TYPES = {
    "audiovm": "vm", "autostart": "bool", "debug": "bool", "default_dispvm": "vm", "default_user": "str", "dns": "str",
    "gateway": "str", "gateway6": "str", "guivm": "vm", "icon": "str", "include_in_backups": "bool", "ip": "str",
    "ip6": "str", "kernel": "str", "kernelopts": "str", "klass": "str", "label": "label", "mac": "str",
    "maxmem": "int", "memory": "int", "name": "str", "netvm": "vm", "provides_network": "bool", "qid": "int",
    "qrexec_timeout": "int", "start_time": "str", "stubdom_xid": "int", "template": "vm",
    "template_for_dispvms": "bool", "updateable": "bool", "uuid": "str", "vcpus": "int", "virt_mode": "str",
    "visible_gateway": "str", "visible_gateway6": "str", "visible_ip": "str", "visible_ip6": "str",
    "visible_netmask": "str", "xid": "int",
}
_NETWORK = {"dns", "gateway", "gateway6", "ip", "ip6", "mac", "netvm", "provides_network", "visible_gateway",
            "visible_gateway6", "visible_ip", "visible_ip6", "visible_netmask"}
_WRITE_ONCE = {"name", "qid", "uuid", "klass", "xid", "stubdom_xid", "start_time", "gateway", "gateway6", "dns",
               "visible_ip", "visible_ip6", "visible_gateway", "visible_gateway6", "visible_netmask", "icon",
               "updateable"}
_STATELESS = _WRITE_ONCE - {"name", "qid", "uuid"}


class Vm:
    """One qube. state: what admin.vm.List tells. live: net qube and addresses of its vif, None without one. block: which
    addresses its start wrote."""

    def __init__(self, name, klass, qid):
        self.name, self.klass, self.qid = name, klass, qid
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.explicit, self.features = {}, {}
        self.firewall = ["action=accept"]
        self.state, self.xid, self.stubdom_xid = "Halted", -1, -1
        self.hvm, self.auto_cleanup, self.dispid = False, False, None
        self.live = None               # (netvm's name, ip, ip6)
        self.last_live = None          # the same, also when its net qube is off since
        self.configured = False        # the guest's end of the vif has its addresses
        self.node = None
        self.database = True           # a running one has a QubesDB
        self.process, self.qdb = None, None
        self.firewall_daemon = None

    def __repr__(self):
        return f"<Vm {self.name} {self.state}>"

    @property
    def networked(self):
        return self.klass not in ("AdminVM", "RemoteVM")

    @property
    def is_running(self):
        return self.state not in ("Halted", "Crashed", "Dying")


class Model:
    """All qubes of one computer, dom0 among them."""

    def __init__(self, flavour):
        self.flavour = flavour
        self.vms = {}
        self.default_netvm = None
        self._qids = itertools.count(30)
        dom0 = self.make("dom0", "AdminVM", qid=0)
        dom0.state, dom0.uuid = "Running", str(uuid.UUID(int=0))
        self.make("fedora", "TemplateVM")

    def __getitem__(self, name):
        return self.vms[name]

    def make(self, name, klass, qid=None):
        taken = {vm.qid for vm in self.vms.values()}
        if qid is None or qid in taken:
            qid = next(number for number in self._qids if number not in taken)
        vm = Vm(name, klass, qid)
        self.vms[name] = vm
        return vm

    def sorted(self):
        return [self.vms[name] for name in sorted(self.vms)]

    # -- features --------------------------------------------------------------------------------------------------

    def _up(self, vm, step):
        seen = set()
        while vm is not None and vm.name not in seen:
            seen.add(vm.name)
            yield vm
            vm = step(vm)

    def with_template(self, vm, feature):
        """features.check_with_template: an empty value counts as found. None: nowhere."""
        for one in self._up(vm, self.template):
            if feature in one.features:
                return one.features[feature]
        return None

    def with_netvm(self, vm, feature):
        for one in self._up(vm, self.netvm):
            if feature in one.features:
                return one.features[feature]
        return None

    # -- properties ------------------------------------------------------------------------------------------------

    def template(self, vm):
        name = vm.explicit.get("template")
        return self.vms.get(name) if name else None

    def netvm(self, vm):
        name = self.value(vm, "netvm") if vm.networked else None
        return self.vms.get(name) if name else None

    def connected(self, netvm):
        """Qubes whose netvm this is, running or not, in the order of their names."""
        return [vm for vm in self.sorted() if vm.networked and self.value(vm, "netvm") == netvm.name]

    def names(self, vm):
        """Properties that a qube of this class has."""
        missing = set() if vm.networked else _NETWORK
        if vm.klass in ("TemplateVM", "StandaloneVM", "AdminVM", "RemoteVM"):
            missing = missing | {"template"}
        return [name for name in sorted(_TYPES) if name not in missing]

    @staticmethod
    def kind(name):
        return _TYPES[name]

    def is_default(self, vm, name):
        if name in ("name", "qid", "uuid"):
            return False
        return name not in vm.explicit

    def value(self, vm, name):
        """The value as Python has it; None for none."""
        if name in vm.explicit and name not in _STATELESS:
            return vm.explicit[name]
        default = getattr(self, f"_default_{name}", None)
        if default is not None:
            return default(vm)
        return {"autostart": False, "debug": False, "default_user": "user", "include_in_backups": True,
                "kernel": "6.12.59-1.fc41", "kernelopts": "swiotlb=2048 note=a\\b\nc", "label": "red",
                "mac": "00:16:3e:5e:6c:00", "maxmem": 4000, "memory": 400, "provides_network": False,
                "qrexec_timeout": 60, "template_for_dispvms": False, "vcpus": 2, "virt_mode": "pvh",
                "dns": " ".join(VIRTUAL_DNS)}.get(name)

    def _default_name(self, vm):
        return vm.name

    def _default_klass(self, vm):
        return vm.klass

    def _default_qid(self, vm):
        return vm.qid

    def _default_uuid(self, vm):
        return vm.uuid

    def _default_xid(self, vm):
        return vm.xid

    def _default_stubdom_xid(self, vm):
        return vm.stubdom_xid

    def _default_icon(self, vm):
        return "servicevm-red" if self.value(vm, "provides_network") else "appvm-red"

    def _default_updateable(self, vm):
        return vm.klass in ("TemplateVM", "StandaloneVM", "AdminVM")

    def _default_netvm(self, vm):
        return None if vm.klass == "TemplateVM" else self.default_netvm

    def _default_ip(self, vm):
        if vm.dispid is not None:
            return f"10.138.{vm.dispid >> 8}.{vm.dispid & 255}"
        if vm.qid < 255:
            return f"10.137.{vm.qid >> 8}.{vm.qid & 255}"
        return f"10.137.{(vm.qid - 1) // 254}.{(vm.qid - 1) % 254 + 1}"

    def _default_ip6(self, vm):
        if not self.with_netvm(vm, "ipv6"):
            return None
        if vm.dispid is not None:
            return f"fd09:24ef:4179::a8a:{vm.dispid:x}"
        return f"fd09:24ef:4179::a89:{vm.qid:x}"

    def _default_visible_ip(self, vm):
        return self.with_template(vm, "net.fake-ip") or self.value(vm, "ip")

    def _default_visible_ip6(self, vm):
        return self.value(vm, "ip6")

    def _default_visible_netmask(self, vm):
        return self.with_template(vm, "net.fake-netmask") or "255.255.255.255"

    def _default_visible_gateway(self, vm):
        netvm = self.netvm(vm)
        return self.with_template(vm, "net.fake-gateway") or (self.value(netvm, "gateway") if netvm else None)

    def _default_visible_gateway6(self, vm):
        netvm = self.netvm(vm)
        return self.value(netvm, "gateway6") if netvm else None

    def _default_gateway(self, vm):
        return self.value(vm, "visible_ip") if self.value(vm, "provides_network") else None

    def _default_gateway6(self, vm):
        return self.value(vm, "visible_ip6") if self.value(vm, "provides_network") else None

    def told(self, vm, name):
        """"default=... type=... VALUE" of admin.vm.property.Get."""
        value = self.value(vm, name)
        return f"default={self.is_default(vm, name)} type={self.kind(name)} {'' if value is None else value}"

    def checked(self, vm, name, text):
        """A value as the API takes it, as Python has it. ValueError; TypeError for a property that cannot be set."""
        if name in _WRITE_ONCE:
            raise TypeError(name)
        kind = self.kind(name)
        if kind == "vm":
            if text in ("", "None"):
                return None
            return self.vms[text].name
        if name == "ip":
            return str(ipaddress.IPv4Address(text))
        if name == "ip6":
            return str(ipaddress.IPv6Address(text)) if text else None
        if kind == "bool":
            return {"True": True, "False": False, "1": True, "0": False, "yes": True, "no": False}[text]
        return int(text) if kind == "int" else text

    # -- what goes into QubesDB ------------------------------------------------------------------------------------

    def own_keys(self, vm):
        """create_qdb_entries()."""
        provides, netvm = self.value(vm, "provides_network"), self.netvm(vm)
        kind = ("ProxyVM" if netvm else "NetVM") if provides else "AppVM"
        keys = [("/name", vm.name), ("/type", vm.klass), ("/default-user", "user"), ("/qubes-vm-type", kind),
                ("/qubes-vm-persistence", "rw-only"), ("/qubes-base-template", self.value(vm, "template") or "")]
        keys += [(f"/qubes-service/{name[8:]}", "1" if value else "0")
                 for name, value in sorted(vm.features.items()) if name.startswith("service.")]
        keys += [(f"/vm-config/{name[10:]}", value) for name, value in sorted(vm.features.items())
                 if name.startswith("vm-config.")]
        if provides:
            gateway, gateway6 = self.value(vm, "gateway"), self.value(vm, "gateway6")
            keys += [("/qubes-netvm-network", gateway), ("/qubes-netvm-gateway", gateway),
                     ("/qubes-netvm-netmask", "255.255.255.255"), ("/qubes-netvm-primary-dns", VIRTUAL_DNS[0]),
                     ("/qubes-netvm-secondary-dns", VIRTUAL_DNS[1])]
            if gateway6:
                keys.append(("/qubes-netvm-gateway6", gateway6))
        if netvm is not None:
            keys += [("/qubes-mac", self.value(vm, "mac")), ("/qubes-ip", self.value(vm, "visible_ip")),
                     ("/qubes-netmask", self.value(vm, "visible_netmask")),
                     ("/qubes-gateway", self.value(vm, "visible_gateway")),
                     ("/qubes-primary-dns", VIRTUAL_DNS[0]), ("/qubes-secondary-dns", VIRTUAL_DNS[1])]
            for key, value in (("/qubes-ip6", self.value(vm, "visible_ip6")),
                               ("/qubes-gateway6", self.value(vm, "visible_gateway6"))):
                if value:
                    keys.append((key, value))
        return keys

    def connected_keys(self, netvm):
        """reload_connected_ips()."""
        for key, name in (("/connected-ips", "visible_ip"), ("/connected-ips6", "visible_ip6")):
            addresses = [self.value(vm, name) for vm in self.connected(netvm)]
            yield key, " ".join(address for address in addresses if address)

    def mapped_keys(self, vm):
        """set_mapped_ip_info_for_vm()."""
        ip = self.value(vm, "ip")
        return [(f"/mapped-ip/{ip}/visible-ip", self.value(vm, "visible_ip")),
                (f"/mapped-ip/{ip}/visible-gateway", self.value(vm, "visible_gateway"))]

    def firewall_blocks(self, vm):
        """reload_firewall_for_vm(): per family (address, entries below it)."""
        for version, name in ((4, "ip"), (6, "ip6")):
            address = self.value(vm, name)
            if address is None:
                continue
            entries = [("policy", "drop")]
            for number, rule in enumerate(vm.firewall):
                if f"dst{10 - version}=" not in rule:
                    entries.append((f"{number:04}", rule))
            yield address, entries
