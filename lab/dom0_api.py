# SPDX-License-Identifier: GPL-2.0-or-later
"""The calls of the Admin API that the stand-in qubesd knows: text in, text out, over lab/dom0.py."""

import re

from lab.qubesd import NotPermitted, Refused

_FEATURE = re.compile(r"[a-zA-Z0-9_.-]+\Z")
_VALUE = re.compile(r"[\x20-\x7e]*\Z")
_KEPT_FEATURES = re.compile(r"(deferred-netvm-original|preload-dispvm.*)\Z")
_SLOW = {"admin.vm.Start", "admin.vm.Shutdown", "admin.vm.Kill", "admin.vm.Pause", "admin.vm.Unpause",
         "admin.vm.Remove", "admin.vm.CreateDisposable", "admin.property.Set", "admin.vm.firewall.Reload",
         "admin.vm.property.Set+netvm", "admin.vm.property.Reset+netvm"}


def slow(method, arg):
    """Calls that qubesd works on while it answers others."""
    return method in _SLOW or f"{method}+{arg}" in _SLOW


def _escaped(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n")


class Api:
    def __init__(self, dom0):
        self.dom0, self.model = dom0, dom0.model
        self._methods = {name.replace("_", "."): getattr(self, name)
                         for name in dir(self) if name.startswith("admin_")}

    def serve(self, method, arg, dest, payload):
        """The content of an answer."""
        work = self._methods.get(method)
        if work is None:
            raise NotPermitted("ProtocolError", f"no such method: {method!r}")
        vm = self._dest(dest)
        try:
            text = payload.decode("ascii")
        except UnicodeDecodeError as error:
            raise NotPermitted("ProtocolError", "payload is not ASCII") from error
        return (work(vm, arg, text) or "").encode()

    def _dest(self, dest):
        if dest.startswith("uuid:") and self.model.flavour != "4.2":
            for vm in self.model.sorted():
                if vm.uuid == dest[5:]:
                    return vm
        elif dest in self.model.vms:
            return self.model[dest]
        raise Refused("QubesVMNotFoundError", f"No such domain: {dest!r}")

    @staticmethod
    def _bare(arg, payload, dom0=None):
        if arg or payload or dom0 not in (None, "dom0"):
            raise NotPermitted("ProtocolError", "unexpected argument, payload or destination")

    # -- all of it -------------------------------------------------------------------------------------------------

    def admin_vm_List(self, vm, arg, payload):
        self._bare(arg, payload)
        more = self.model.flavour != "4.2"
        return "".join(f"{one.name} class={one.klass} state={self.dom0.state(one)}{f' uuid={one.uuid}' if more else ''}\n"
                       for one in (self.model.sorted() if vm.name == "dom0" else [vm]))

    def admin_vm_CurrentState(self, vm, arg, payload):
        self._bare(arg, payload)
        running = vm.is_running
        return (f"mem={409600 if running else 0} mem_static_max={4096000 if running else 0} "
                f"cputime={1234 if running else 0} power_state={self.dom0.state(vm)}")

    # -- properties ------------------------------------------------------------------------------------------------

    def _property(self, vm, name):
        if name not in self.model.names(vm):
            raise Refused("QubesNoSuchPropertyError", f"Invalid property {name!r} of {vm.name}")

    def admin_vm_property_List(self, vm, arg, payload):
        self._bare(arg, payload)
        return "".join(f"{name}\n" for name in self.model.names(vm))

    def admin_vm_property_GetAll(self, vm, arg, payload):
        self._bare(arg, payload)
        return "".join(f"{name} {_escaped(self.model.told(vm, name))}\n" for name in self.model.names(vm))

    def admin_vm_property_Get(self, vm, arg, payload):
        self._bare("", payload)
        self._property(vm, arg)
        return self.model.told(vm, arg)

    def admin_vm_property_Set(self, vm, arg, payload):
        self._property(vm, arg)
        self.dom0.set_property(vm.name, arg, payload)

    def admin_vm_property_Reset(self, vm, arg, payload):
        self._bare("", payload)
        self._property(vm, arg)
        self.dom0.reset_property(vm.name, arg)

    def admin_property_Get(self, vm, arg, payload):
        self._bare("", payload, vm.name)
        if arg != "default_netvm":
            raise Refused("QubesNoSuchPropertyError", f"Invalid property {arg!r} of dom0")
        return f"default=False type=vm {self.model.default_netvm or ''}"

    def admin_property_Set(self, vm, arg, payload):
        self.admin_property_Get(vm, arg, "")
        self.dom0.set_default_netvm(payload or None)

    # -- features --------------------------------------------------------------------------------------------------

    def admin_vm_feature_List(self, vm, arg, payload):
        self._bare(arg, payload)
        return "".join(f"{name}\n" for name in sorted(vm.features))

    @staticmethod
    def _found(vm, arg, value):
        if value is None:
            raise Refused("QubesFeatureNotFoundError", f"Feature not set for domain {vm.name}: {arg}")
        return value

    def admin_vm_feature_Get(self, vm, arg, payload):
        self._bare("", payload)
        return self._found(vm, arg, vm.features.get(arg))

    def admin_vm_feature_CheckWithTemplate(self, vm, arg, payload):
        self._bare("", payload)
        return self._found(vm, arg, self.model.with_template(vm, arg))

    def admin_vm_feature_CheckWithNetvm(self, vm, arg, payload):
        self._bare("", payload)
        return self._found(vm, arg, self.model.with_netvm(vm, arg))

    def _may_change(self, name):
        if not _FEATURE.match(name):
            raise NotPermitted("ProtocolError", "Invalid feature name")
        if self.model.flavour != "4.2" and _KEPT_FEATURES.match(name):
            raise NotPermitted("PermissionDenied", "changing this feature is prohibited by admin.vm.feature.Set")

    def admin_vm_feature_Set(self, vm, arg, payload):
        self._may_change(arg)
        if not _VALUE.match(payload):
            raise NotPermitted("ProtocolError", "Invalid feature value")
        self.dom0.set_feature(vm.name, arg, payload)

    def admin_vm_feature_Remove(self, vm, arg, payload):
        self._bare("", payload)
        self._may_change(arg)
        self._found(vm, arg, vm.features.get(arg))
        self.dom0.remove_feature(vm.name, arg)

    # -- firewall --------------------------------------------------------------------------------------------------

    def admin_vm_firewall_Get(self, vm, arg, payload):
        self._bare(arg, payload)
        return "".join(f"{rule}\n" for rule in vm.firewall)

    def admin_vm_firewall_Set(self, vm, arg, payload):
        self._bare(arg, "")
        self.dom0.set_firewall(vm.name, payload.splitlines())

    def admin_vm_firewall_Reload(self, vm, arg, payload):
        self._bare(arg, payload)
        self.dom0.reload_firewall(vm.name)

    # -- life ------------------------------------------------------------------------------------------------------

    def admin_vm_Start(self, vm, arg, payload):
        self._bare(arg, payload)
        self.dom0.start(vm.name)

    def admin_vm_Shutdown(self, vm, arg, payload):
        self._bare("", payload)
        self.dom0.shutdown(vm.name, force="force" in arg.split("+"))

    def admin_vm_Kill(self, vm, arg, payload):
        self._bare(arg, payload)
        self.dom0.kill(vm.name)

    def admin_vm_Pause(self, vm, arg, payload):
        self._bare(arg, payload)
        self.dom0.pause(vm.name)

    def admin_vm_Unpause(self, vm, arg, payload):
        self._bare(arg, payload)
        self.dom0.unpause(vm.name)

    def admin_vm_Remove(self, vm, arg, payload):
        self._bare(arg, payload)
        self.dom0.remove(vm.name)

    def admin_vm_CreateDisposable(self, vm, arg, payload):
        self._bare("", "" if payload == "uuid" else payload)
        return self.dom0.create_disposable(vm.name)
