# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0 of the lab: qubes with properties and features, and what qubesd does when something happens to them, in its order:
events, keys in QubesDB, vifs. Qubes that are machines of the lab really start, stop and move; all others are names that
cost nothing ("light"), so there may be hundreds.

    with Lab(topologies.TWO_CHAINS) as lab, Dom0(lab, flavour="4.3") as dom0:
        dom0.set_feature("web", "routing-method", "forward")
        dom0.set_netvm("web", "sys-fw2")
        with dom0.until("vif-online", dom0.start, "peer"):    # announced, keys written, no vif yet
            ...

Without a lab (None) every qube is light. Files: dom0.folder/qubesd.sock, dom0.folder/qubesdb.NAME.sock.
Steps that tests can wait for, or run something before: every event by its name, and netvm-keys, vif-online, vif-offline,
qubesdb, own-keys, unpause, boot, attach-clients, firewall-block, connected-ips.
"""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import replace

from lab.dom0_api import Api, slow
from lab.dom0_model import Model
from lab.qubesd import Qubesd, Refused
from lab.qubesdb import Disconnected, Error, QubesDB
from lab.router import environment, program

SERVER = "src/qubesdb/qubesdb-server"
CAPABLE = "supported-feature.network-server"


def _action(work):
    """One at a time, as far as a test can see."""
    @functools.wraps(work)
    def locked(self, *args, **kwargs):
        with self.acting:
            return work(self, *args, **kwargs)
    return locked


class Until:
    """An action that was stopped before a step; go_on() (or the end of the with) lets it run to its end."""

    def __init__(self, dom0, step, qube, action, args, kwargs):
        self._reached, self._go, self._error = threading.Event(), threading.Event(), None
        self._dom0, self._hook = dom0, dom0.at(step, self._stop, qube)

        def work():
            try:
                action(*args, **kwargs)
            except BaseException as error:  # pylint: disable=broad-except
                self._error = error
            self._reached.set()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        if not self._reached.wait(30):
            raise TimeoutError(f"{action.__name__} did not come to {step}")
        if self._error is not None:
            raise self._error

    def _stop(self, _qube):
        self._reached.set()
        self._go.wait(60)

    def go_on(self):
        self._go.set()
        self._dom0.forget(self._hook)
        self._thread.join(60)
        if self._error is not None:
            raise self._error

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.go_on()
        except BaseException:  # pylint: disable=broad-except
            if kind is None:
                raise


class Dom0:
    def __init__(self, lab=None, flavour="4.3", capable=True, default_netvm=None):
        """capable: the template says that its qubes have our agent. default_netvm: else the innermost net qube of the
        first chain."""
        self.lab, self.flavour = lab, flavour
        self.folder = f"{lab.work}/dom0" if lab else tempfile.mkdtemp(prefix="dom0-")
        os.makedirs(self.folder, exist_ok=True)
        self.model = Model(flavour)
        self.acting = threading.RLock()
        self.delays = {}               # step: seconds before it
        self.history = []              # (subject, event, {key: value})
        self.reloads = []              # qubes of admin.vm.firewall.Reload
        self.routers = {}              # net qube: its Router, started again at each boot
        self.on_boot = {}              # qube: called with its node when it begins to run
        self.save_cost = 0.0           # seconds that qubesd takes to write qubes.xml
        self.closers = []              # programs that talk to this dom0
        self._hooks = []
        self._xids = itertools.count(100, 2)
        self._disposables = itertools.count(2001)
        if capable:
            self.model["fedora"].features[CAPABLE] = "1"
        self.api = Api(self)
        self.qubesd = Qubesd(f"{self.folder}/qubesd.sock", self.api.serve, flavour, slow=slow)
        if lab is not None:
            lab.closers.append(self)
            self._adopt(lab, default_netvm)
        else:
            self.model.default_netvm = default_netvm
        self.qubesd.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getitem__(self, name):
        return self.model[name]

    @property
    def socket(self):
        return self.qubesd.path

    def database(self, name):
        """dom0's socket of a running qube's QubesDB."""
        return f"{self.folder}/qubesdb.{name}.sock"

    def qdb(self, name):
        """A new client of a running qube's QubesDB."""
        return QubesDB(self.database(name), wait=5)

    def keys(self, name, prefix="/network-server"):
        """{key: value} as text; {} where no QubesDB runs."""
        try:
            with QubesDB(self.database(name)) as db:
                return {key: value.decode() for key, value in db.multiread(prefix).items()}
        except Disconnected:
            return {}

    def close(self):
        while self.closers:
            self.closers.pop().close()
        if self.lab is not None and self in self.lab.closers:
            self.lab.closers.remove(self)
        self.qubesd.close()
        for vm in self.model.sorted():
            self._database_stop(vm)
        if self.lab is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- steps -----------------------------------------------------------------------------------------------------

    def at(self, step, work, qube=None):
        """work(name) is called each time before this step (of this qube, or of all); returns what forget() takes."""
        hook = (step, qube, work)
        self._hooks.append(hook)
        return hook

    def forget(self, hook):
        with contextlib.suppress(ValueError):
            self._hooks.remove(hook)

    def until(self, step, action, *args, qube=None, **kwargs):
        """Runs an action in a thread until it comes to this step: see Until."""
        return Until(self, step, qube, action, args, kwargs)

    def _step(self, step, name):
        if step in self.delays:
            time.sleep(self.delays[step])
        for wanted, qube, work in list(self._hooks):
            if wanted == step and qube in (None, name):
                work(name)

    def _emit(self, subject, event, **pairs):
        self._step(event, subject)
        self.history.append((subject, event, {key: str(value) for key, value in pairs.items()}))
        self.qubesd.emit(subject, event, pairs)

    def _changed(self, subject, verb, prop, **pairs):
        self._emit(subject, f"property-{verb}:{prop}", name=prop, **pairs)

    # -- QubesDB ---------------------------------------------------------------------------------------------------

    def _database_start(self, vm):
        if not vm.database:
            return
        path = self.database(vm.name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        vm.process = subprocess.Popen([program(SERVER), path], env=environment(), stdin=subprocess.DEVNULL)
        vm.qdb = QubesDB(path, wait=10)
        if vm.node is not None:
            vm.node.adopt_qubesdb(vm.process, path)

    def _database_stop(self, vm):
        if vm.firewall_daemon is not None:
            vm.firewall_daemon.close()
            vm.firewall_daemon = None
        if vm.qdb is not None:
            vm.qdb.close()
            vm.qdb = None
        if vm.process is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.database(vm.name))
            vm.process.kill()
            vm.process.wait()
            vm.process = None

    def replace_database(self, name):
        """The qube's daemon in dom0 died and an empty one took its place; qubesd knows nothing of it."""
        vm = self.model[name]
        self._database_stop(vm)
        self._database_start(vm)
        self._firewall_daemon(vm)

    def _write(self, vm, pairs):
        if vm is not None and vm.is_running and vm.qdb is not None:
            with self.qubesd.lock, contextlib.suppress(Disconnected):
                vm.qdb.write_many(pairs)

    def _write_connected(self, netvm):
        if netvm is not None and netvm.is_running:
            self._step("connected-ips", netvm.name)
            with contextlib.suppress(Error):  # hundreds of qubes at one net qube: more than a value may hold
                self._write(netvm, list(self.model.connected_keys(netvm)))

    def _write_firewall(self, vm, netvm):
        """qubesd's block of a qube in its net qube: everything below goes, entries come, the empty key says done."""
        if netvm is None or not netvm.is_running or netvm.qdb is None:
            return
        self._step("firewall-block", vm.name)
        with self.qubesd.lock, contextlib.suppress(Disconnected):
            for address, entries in self.model.firewall_blocks(vm):
                base = f"/qubes-firewall/{address}"
                netvm.qdb.rm(f"{base}/")
                netvm.qdb.write_many([(f"{base}/{key}", value) for key, value in entries])
                netvm.qdb.write(base, "")

    # -- vifs ------------------------------------------------------------------------------------------------------

    def _attach(self, vm):
        """The hypervisor makes the vif of a qube at its net qube, whose script runs; qubesd waits for it."""
        netvm = self.model.netvm(vm)
        if netvm is None or not netvm.is_running:
            return
        self._step("vif-online", vm.name)
        vm.live = (netvm.name, self.model.value(vm, "ip"), self.model.value(vm, "ip6"))
        vm.last_live, vm.configured = vm.live, False
        if vm.node is not None and netvm.node is not None:
            with self.qubesd.lock:
                vm.node.spec = replace(vm.node.spec, ip=vm.live[1], ip6=vm.live[2])
                self.lab.specs[vm.name] = vm.node.spec
                self.lab.netvm_of[vm.name] = netvm.name
                vm.node.plug(netvm.node, vm.xid)

    def _detach(self, vm):
        if vm.live is None:
            return
        self._step("vif-offline", vm.name)
        netvm = self.model.vms.get(vm.live[0])
        if vm.node is not None and netvm is not None and netvm.node is not None:
            with self.qubesd.lock:
                vm.node.unplug(alive=netvm.is_running)
        vm.live = None

    def _guest_network(self, vm):
        """The agent in the guest configures its interface, when there is one and the guest runs."""
        if vm.node is not None and vm.live is not None and vm.state != "Paused" and not vm.configured:
            vm.node.configure()
            vm.configured = True

    # -- life ------------------------------------------------------------------------------------------------------

    def state(self, vm):
        """As this version calls it."""
        return "Starting" if vm.state == "Transient" and self.flavour == "4.4" else vm.state

    def _no(self, kind, message):
        raise Refused(kind, message)

    @_action
    def start(self, name):
        """admin.vm.Start."""
        vm, model = self.model[name], self.model
        if vm.is_running:
            self._no("QubesVMNotHaltedError", f"Domain is running: {name}")
        guid = uuid.uuid4().hex
        self._emit(name, "domain-pre-start", start_guid=guid, mem_required=400 << 20)
        netvm = model.netvm(vm)
        if netvm is not None and not netvm.is_running:
            self.start(netvm.name)
        self._emit(name, "domain-pre-spawn", start_guid=guid)
        if netvm is not None:
            self._step("netvm-keys", name)
            self._write_connected(netvm)
            self._write(netvm, model.mapped_keys(vm))
            self._write_firewall(vm, netvm)
        self._create(vm)
        for prop in ("xid", "stubdom_xid", "start_time"):
            self._changed(name, "reset", prop)
        self._emit(name, "domain-spawn", start_guid=guid)
        self._step("qubesdb", name)
        self._database_start(vm)
        self._step("own-keys", name)
        self._write(vm, model.own_keys(vm))
        if model.value(vm, "provides_network"):
            self._write_connected(vm)
            for client in self._running_clients(vm):
                self._write(vm, model.mapped_keys(client))
                self._write_firewall(client, vm)
        self._emit(name, "domain-qdb-create")
        if self.flavour != "4.2":
            self._emit(name, "domain-pre-unpaused")
        self._step("unpause", name)
        vm.state = "Transient"
        if self.flavour != "4.2":
            self._emit(name, "domain-unpaused")
        self._boot(vm)
        vm.state = "Running"
        self._write_firewall(vm, netvm)
        if model.value(vm, "provides_network"):
            for client in self._running_clients(vm):
                self._step("attach-clients", name)
                self._write(vm, model.mapped_keys(client))
                self._attach(client)
                self._guest_network(client)
        self._emit(name, "domain-start", start_guid=guid)
        if self.flavour == "4.2":
            self._emit(name, "domain-unpaused")  # from libvirt, late

    def _running_clients(self, netvm):
        return [vm for vm in self.model.connected(netvm) if vm.is_running]

    def _create(self, vm):
        """libvirt's createWithFlags(PAUSED): the domain exists, the vif's script has run."""
        xid = next(self._xids)
        if vm.node is not None:
            vm.node.power_on(xid)
        vm.xid, vm.stubdom_xid = xid, xid + 1 if vm.hvm else -1
        vm.state = "Paused"
        self._attach(vm)

    def _boot(self, vm):
        """The guest comes up: its network, in a net qube the platform's tables, its firewall daemon and our router."""
        self._step("boot", vm.name)
        if vm.node is None:
            return
        if self.model.value(vm, "provides_network") and hasattr(vm.node, "boot"):
            vm.node.boot(self._firewall_daemon(vm))
        self._guest_network(vm)
        if vm.name in self.routers:
            self.routers[vm.name].start()
        if vm.name in self.on_boot:
            self.on_boot[vm.name](vm.node)

    def _firewall_daemon(self, vm):
        from lab.firewall_daemon import FirewallDaemon
        if vm.node is None or not hasattr(vm.node, "boot") or vm.qdb is None:
            return None
        vm.firewall_daemon = FirewallDaemon(vm.node, self.database(vm.name))
        return vm.firewall_daemon

    @_action
    def shutdown(self, name, force=False):
        """admin.vm.Shutdown. A net qube with running qubes refuses unless forced."""
        vm = self.model[name]
        if not vm.is_running:
            self._no("QubesVMNotStartedError", f"Domain is powered off: {name}")
        if not force and self._running_clients(vm):
            self._no("QubesVMInUseError", "Domain is in use: it has running network clients")
        self._emit(name, "domain-pre-shutdown", force=force)
        self._end(vm)

    @_action
    def kill(self, name):
        """admin.vm.Kill; also what a crash of the qube looks like."""
        vm = self.model[name]
        if not vm.is_running:
            self._no("QubesVMNotStartedError", f"Domain is powered off: {name}")
        self._end(vm)

    def _end(self, vm):
        self._die(vm)
        self._emit(vm.name, "domain-stopped")
        for client in self._running_clients(vm):
            self._detach(client)
        self._emit(vm.name, "domain-shutdown")
        if vm.auto_cleanup:
            self.remove(vm.name)

    def _die(self, vm):
        """The domain is gone, qubesd has not noticed yet."""
        for client in self.model.sorted():  # their vifs were devices of this one
            if client.live is not None and client.live[0] == vm.name and client.node is not None:
                client.node.unplug(alive=False)
        self._detach(vm)
        if vm.name in self.routers and self.routers[vm.name].running():
            self.routers[vm.name].kill9()
        self._database_stop(vm)
        vm.state, vm.xid, vm.stubdom_xid = "Halted", -1, -1
        if vm.node is not None:
            vm.node.power_off()

    def dies_unseen(self, name):
        """A qube ends while qubesd does not run: no event tells it."""
        self._die(self.model[name])

    @_action
    def pause(self, name):
        vm = self.model[name]
        if self.flavour != "4.2":
            self._emit(name, "domain-pre-paused")
        vm.state = "Paused"
        if vm.node is not None:
            vm.node.freeze(True)
        self._emit(name, "domain-paused")

    @_action
    def unpause(self, name):
        vm = self.model[name]
        if self.flavour != "4.2":
            self._emit(name, "domain-pre-unpaused")
            self._apply_deferred(vm)
        vm.state = "Running"
        if vm.node is not None:
            vm.node.freeze(False)
        self._guest_network(vm)
        self._emit(name, "domain-unpaused")

    # -- network ---------------------------------------------------------------------------------------------------

    def _may_attach(self, vm, new):
        if new is None:
            return
        netvm = self.model.vms.get(new)
        if netvm is None:
            self._no("QubesVMNotFoundError", f"No such domain: {new!r}")
        if not netvm.networked or not self.model.value(netvm, "provides_network"):
            self._no("QubesValueError", f"The {new!r} qube does not provide network")
        while netvm is not None:
            if netvm is vm:
                self._no("QubesValueError", "Loops in network are unsupported")
            netvm = self.model.netvm(netvm)
        if vm.is_running and not self.model[new].is_running:
            self._no("QubesVMNotRunningError", "Cannot dynamically attach to stopped qube")

    def _deferred(self, vm):
        return vm.state == "Paused" and self.flavour != "4.2"

    def _leave(self, vm):
        """Core's part of property-pre-set:netvm."""
        if vm.is_running and not self._deferred(vm):
            self._detach(vm)

    def _arrive(self, vm, old, new):
        """Core's part of property-set:netvm, told to streams before that event itself."""
        old, new = (self.model.vms.get(name) if name else None for name in (old, new))
        self._write_connected(old)
        if new is None:
            return
        self._write_connected(new)
        if not vm.is_running:
            return
        self._write(vm, self.model.own_keys(vm))
        self._emit(vm.name, "domain-qdb-create")
        self._write(new, self.model.mapped_keys(vm))
        if not self._deferred(vm):
            self._attach(vm)
            self._guest_network(vm)
        self._write_firewall(vm, new)
        self._emit(new.name, "net-domain-connect", vm=vm.name)

    def _defer(self, vm, old):
        """Of a paused qube, also when its vif ended with its net qube: qubesd does not look at vifs."""
        if self._deferred(vm) and "deferred-netvm-original" not in vm.features:
            self.set_feature(vm.name, "deferred-netvm-original", old or "")

    def _apply_deferred(self, vm):
        old = vm.features.get("deferred-netvm-original")
        if old is None:
            return
        new = self.model.value(vm, "netvm")
        vm.state = "Running"
        self._changed(vm.name, "pre-set", "netvm", newvalue=new, oldvalue=old or None)
        self._detach(vm)
        self._arrive(vm, old, new)
        self._changed(vm.name, "set", "netvm", newvalue=new, oldvalue=old or None)
        self.remove_feature(vm.name, "deferred-netvm-original")

    @_action
    def set_netvm(self, name, new):
        """admin.vm.property.Set+netvm; new None: no network."""
        vm = self.model[name]
        self._may_attach(vm, new)
        old = self.model.value(vm, "netvm")
        self._changed(name, "pre-set", "netvm", newvalue=new, oldvalue=old)
        self._defer(vm, old)
        self._leave(vm)
        vm.explicit["netvm"] = new
        self._arrive(vm, old, new)
        self._changed(name, "set", "netvm", newvalue=new, oldvalue=old)

    @_action
    def reset_netvm(self, name):
        """admin.vm.property.Reset+netvm: back to the system's default."""
        vm = self.model[name]
        new, old = self.model.default_netvm, self.model.value(vm, "netvm")
        self._may_attach(vm, new)
        self._changed(name, "pre-reset", "netvm", oldvalue=old)
        if new != old:
            self._changed(name, "pre-set", "netvm", newvalue=new, oldvalue=old)
            self._defer(vm, old)
            self._leave(vm)
        self._changed(name, "pre-del", "netvm", oldvalue=old)
        vm.explicit.pop("netvm", None)
        if new != old:
            self._arrive(vm, old, new)
            self._changed(name, "set", "netvm", newvalue=new, oldvalue=old)
        self._changed(name, "reset", "netvm", oldvalue=old)
        self._changed(name, "del", "netvm", oldvalue=old)

    @_action
    def set_default_netvm(self, new):
        """The system's property. Each qube that uses it moves, told by set and reset alone; net qubes are left out."""
        model, old = self.model, self.model.default_netvm
        movers = [vm for vm in model.sorted() if vm.networked and vm.klass != "TemplateVM"
                  and "netvm" not in vm.explicit and not model.value(vm, "provides_network")]
        for vm in movers:
            self._may_attach(vm, new)
        self._changed("", "pre-set", "default_netvm", newvalue=new, oldvalue=old)
        model.default_netvm = new
        if new != old:
            for vm in movers:
                self._defer(vm, old)
                self._leave(vm)
                self._arrive(vm, old, new)
                self._changed(vm.name, "set", "netvm", newvalue=new, oldvalue=old)
                self._changed(vm.name, "reset", "netvm", oldvalue=old)
        self._changed("", "set", "default_netvm", newvalue=new, oldvalue=old)

    # -- properties and features -----------------------------------------------------------------------------------

    @_action
    def set_property(self, name, prop, text):
        """admin.vm.property.Set, value as the API takes it."""
        vm, model = self.model[name], self.model
        try:
            value = model.checked(vm, prop, str(text))
        except TypeError:
            self._no("AttributeError", f"{prop} cannot be changed")
        except KeyError:
            self._no("QubesValueError", f"Invalid value: {text!r}")
        except ValueError:
            self._no("QubesValueError", f"Invalid value: {text!r}")
        if prop == "netvm":
            self.set_netvm(name, value)
            return
        if prop == "template" and vm.is_running:
            self._no("QubesVMNotHaltedError", "Cannot change template while qube is running")
        if prop == "provides_network" and not value and model.connected(vm):
            self._no("QubesValueError", "The qube provides network to others")
        old = model.value(vm, prop)
        self._changed(name, "pre-set", prop, newvalue=value, oldvalue=old)
        vm.explicit[prop] = value
        vm.hvm = model.value(vm, "virt_mode") == "hvm"
        if prop == "ip":
            self._changed(name, "reset", "visible_ip")
        self._changed(name, "set", prop, newvalue=value, oldvalue=old)
        self._save()

    @_action
    def reset_property(self, name, prop):
        if prop == "netvm":
            self.reset_netvm(name)
            return
        vm = self.model[name]
        old = self.model.value(vm, prop)
        for verb in ("pre-reset", "pre-del"):
            self._changed(name, verb, prop, oldvalue=old)
        vm.explicit.pop(prop, None)
        if prop == "ip":
            self._changed(name, "reset", "visible_ip")
        for verb in ("reset", "del"):
            self._changed(name, verb, prop, oldvalue=old)
        self._save()

    def _save(self):
        if self.save_cost:
            time.sleep(self.save_cost)

    def _feature_key(self, feature):
        for prefix, key in (("service.", "/qubes-service/"), ("vm-config.", "/vm-config/")):
            if feature.startswith(prefix):
                return key + feature[len(prefix):]
        return None

    @_action
    def set_feature(self, name, feature, value):
        vm = self.model[name]
        value = str(value)
        pairs = {"feature": feature, "value": value}
        if feature in vm.features:
            pairs["oldvalue"] = vm.features[feature]
        self._emit(name, f"domain-feature-pre-set:{feature}", **pairs)
        vm.features[feature] = value
        key = self._feature_key(feature)
        if key:
            self._write(vm, [(key, ("1" if value else "0") if key.startswith("/qubes-service") else value)])
        self._emit(name, f"domain-feature-set:{feature}", **pairs)
        self._save()

    @_action
    def remove_feature(self, name, feature):
        vm = self.model[name]
        self._emit(name, f"domain-feature-pre-delete:{feature}", feature=feature)
        vm.features.pop(feature, None)
        key = self._feature_key(feature)
        if key and vm.qdb is not None and vm.is_running:
            with contextlib.suppress(Disconnected):
                vm.qdb.rm(key)
        self._emit(name, f"domain-feature-delete:{feature}", feature=feature)
        self._save()

    @_action
    def set_firewall(self, name, rules):
        """The rules of qvm-firewall; the default is ("action=accept",)."""
        self.model[name].firewall = list(rules)
        self._write_firewall(self.model[name], self.model.netvm(self.model[name]))
        self._emit(name, "firewall-changed")
        self._save()

    @_action
    def reload_firewall(self, name):
        """admin.vm.firewall.Reload: the block is written again."""
        self.reloads.append(name)
        self._write_firewall(self.model[name], self.model.netvm(self.model[name]))
        self._emit(name, "firewall-changed")

    # -- qubes come and go -----------------------------------------------------------------------------------------

    def _node(self, vm, spec):
        """A machine of the lab for a qube that was made: a Qube or NetQube whose name, net qube and addresses are taken
        from here."""
        if spec is None:
            return
        from lab.topology import Qube
        spec = Qube(vm.name, None, 1, "10.137.0.99") if spec is True else spec
        spec = replace(spec, name=vm.name, netvm=None, running=False, ip=self.model.value(vm, "ip"),
                       ip6=self.model.value(vm, "ip6"))
        vm.node = self.lab.add(spec)

    @_action
    def add(self, name, klass="AppVM", node=None, features=(), database=True, qid=None, **properties):
        """A new qube, halted. node: True or a Qube for a machine of the lab. properties: template="fedora",
        netvm="sys-firewall", ip=..., provides_network=True, ..."""
        vm = self.model.make(name, klass, qid)
        if klass in ("AppVM", "DispVM"):
            vm.explicit["template"] = "fedora"
        vm.explicit |= properties
        vm.features |= dict(features)
        vm.hvm, vm.database = self.model.value(vm, "virt_mode") == "hvm", database
        self._node(vm, node)
        self._emit("", "domain-add", vm=name)
        self._save()
        return vm

    @_action
    def clone(self, source, name, node=None):
        """Explicit properties (a fixed ip too), features and firewall rules are copied; qid and uuid are not."""
        old = self.model[source]
        vm = self.model.make(name, old.klass)
        vm.explicit, vm.features = dict(old.explicit), dict(old.features)
        vm.firewall, vm.hvm = list(old.firewall), old.hvm
        vm.features.pop("deferred-netvm-original", None)
        self._node(vm, node)
        self._emit("", "domain-add", vm=name)
        self._save()
        return vm

    @_action
    def create_disposable(self, template, name=None, node=None):
        """A disposable of a disposable template; returns its name. Its features and a fixed address are those of now."""
        old, number = self.model[template], next(self._disposables)
        vm = self.model.make(name or f"disp{number}", "DispVM")
        vm.dispid, vm.auto_cleanup = number, True
        vm.explicit = {key: value for key, value in old.explicit.items() if key != "template_for_dispvms"}
        vm.explicit["template"] = template
        vm.features, vm.firewall = dict(old.features), list(old.firewall)
        vm.hvm = old.hvm
        self._node(vm, node)
        self._emit("", "domain-add", vm=vm.name)
        return vm.name

    @_action
    def remove(self, name):
        """The halted qube is gone, as is its machine in the lab."""
        vm = self.model[name]
        if vm.is_running:
            self._no("QubesVMNotHaltedError", f"Domain is running: {name}")
        if self.model.connected(vm):
            self._no("QubesVMInUseError", f"Domain is in use: {name}")
        self._emit("", "domain-pre-delete", vm=name)
        del self.model.vms[name]
        if vm.node is not None:
            self.lab.remove(name)
        self._emit("", "domain-delete", vm=name)

    # -- qubesd itself ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def qubesd_down(self, crash=False):
        """qubesd does not run; qubes go on, databases too."""
        self.qubesd.stop(crash)
        try:
            yield
        finally:
            self.qubesd.start()

    def restart_qubesd(self, crash=False):
        with self.qubesd_down(crash):
            pass

    def cut_stream(self, after=None):
        self.qubesd.cut_streams(after)

    def block_answers(self, seconds):
        self.qubesd.block_answers(seconds)

    # -- what is there at the beginning ----------------------------------------------------------------------------

    def _adopt(self, lab, default_netvm):
        """Every qube of the lab, as it is: names, addresses, who runs."""
        model, topology = self.model, lab.topology
        chain = next((spec for spec in reversed(topology.netqubes)
                      if spec.netvm == topology.netqubes[0].name), topology.netqubes[0])
        model.default_netvm = default_netvm or chain.name
        for spec in topology.netqubes + topology.qubes:
            provides = spec in topology.netqubes
            qid = int(spec.ip.rsplit(".", 1)[1]) if spec.ip.startswith("10.137.0.") else None
            vm = model.make(spec.name, "AppVM", qid)
            vm.explicit["template"] = "fedora"
            if provides:
                vm.explicit["provides_network"] = True
                if spec.ipv6:
                    vm.features["ipv6"] = "1"
            if provides or spec.netvm != model.default_netvm:
                vm.explicit["netvm"] = spec.netvm
            if spec.hvm:
                vm.explicit["virt_mode"], vm.hvm = "hvm", True
            if spec.rules is not None:
                vm.firewall = list(spec.rules)
            vm.node = lab[spec.name]
        for spec in topology.netqubes + topology.qubes:
            vm = model[spec.name]
            if model.value(vm, "ip") != spec.ip:
                vm.explicit["ip"] = spec.ip
            if model.value(vm, "ip6") != spec.ip6:
                vm.explicit["ip6"] = spec.ip6
            if spec.netvm and not spec.running:
                continue
            vm.state = "Running"
            vm.xid = vm.node.domid if spec.netvm else next(self._xids)
            vm.stubdom_xid = vm.xid + 1 if vm.hvm else -1
            vm.live, vm.configured = (spec.netvm, spec.ip, spec.ip6) if spec.netvm else None, True
            vm.last_live = vm.live
            self._database_start(vm)
            self._write(vm, model.own_keys(vm))
        for spec in topology.netqubes:
            netvm = model[spec.name]
            if not netvm.is_running:
                continue
            self._write_connected(netvm)
            for client in self._running_clients(netvm):
                self._write(netvm, model.mapped_keys(client))
                self._write_firewall(client, netvm)
            daemon = self._firewall_daemon(netvm)
            if daemon is not None:
                daemon.start(fresh=True)

    def settle_firewalls(self):
        """Until each hop's firewall daemon did what QubesDB says now (it may be some milliseconds late, as in life)."""
        for vm in self.model.sorted():
            if vm.firewall_daemon is not None:
                vm.firewall_daemon.settle()

    def router(self, name, **options):
        """Our routing manager in a net qube, now and at each boot of it."""
        self.routers[name] = self.model[name].node.router(**options)
        return self.routers[name]


def flavoured(topology, flavour):
    """The topology with net qubes of this release (4.4's are as 4.3's)."""
    for spec in topology.netqubes:
        topology = topology.changed(spec.name, flavour="4.2" if flavour == "4.2" else "4.3")
    return topology


__all__ = ["Dom0", "CAPABLE", "flavoured"]
