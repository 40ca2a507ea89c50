# SPDX-License-Identifier: GPL-2.0-or-later
"""Performs rendered states in dom0 of the lab (lab/dom0.py) as Salt and Qubes' modules for it do: what a state changes, what it
skips, what it says in a dry run (test=True: result None), and that a state whose requisite failed does not run.

qvm.* follow the modules of qubes-mgmt-salt-dom0-qvm: present skips a qube that exists; service writes features only where
they differ, and none in a dry run; prefs compares as it does there (a default is never equal) and **writes in a dry run
too**. Which is why the formula does not use it."""

import dataclasses
import os
import subprocess

from lab.qubesd import Refused
from lab.router import SLOW


@dataclasses.dataclass
class Result:
    id: str
    result: bool | None
    changes: dict
    comment: str = ""


class Unknown(Exception):
    """A state or argument that the real module does not have either."""


def _only(arguments, *known):
    wrong = set(arguments) - {"name", *known}
    if wrong:
        raise Unknown(f"unknown arguments {sorted(wrong)}")


class Minion:
    def __init__(self, dom0, environment, serverd=None, root="/"):
        """environment: of commands. serverd: what service.running looks after. root: of files."""
        self.dom0, self.environment, self.serverd, self.root = dom0, environment, serverd, root
        self.fetch = {}                # salt://...: bytes
        self.enabled = set()
        self.commands = []             # that cmd.run ran, without those of unless

    def sh(self, command):
        return subprocess.run(["/bin/sh", "-c", command], env=self.environment, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=60 * SLOW, check=False)

    def apply(self, states, test=False):
        """[Result], one for each state."""
        done, made = {}, []
        for state in states:
            failed = [name for kind, name in state.require if not self._held(done, kind, name)]
            if failed:
                result = Result(state.id, False, {}, f"One or more requisite failed: {failed}")
            elif state.unless and all(self.sh(command).returncode == 0 for command in state.unless):
                result = Result(state.id, True, {}, "unless condition is true")
            elif any(self.sh(command).returncode != 0 for command in state.onlyif):
                result = Result(state.id, True, {}, "onlyif condition is false")
            else:
                work = getattr(self, state.function.replace(".", "_"), None)
                if work is None:
                    raise Unknown(f"State '{state.function}' was not found")
                result = work(state, test)
            done[state.function.split(".")[0], state.id] = result
            made.append(result)
        return made

    @staticmethod
    def _held(done, kind, name):
        if (kind, name) not in done:
            raise Unknown(f"the requisite {kind}: {name} was not found before")
        return done[kind, name].result is not False

    # -- Salt's own ------------------------------------------------------------------------------------------------

    def cmd_run(self, state, test):
        _only(state.arguments)
        if test:
            return Result(state.id, None, {}, f'Command "{state.name}" would have been executed')
        self.commands.append(state.name)
        done = self.sh(state.name)
        return Result(state.id, done.returncode == 0, {"retcode": done.returncode, "stdout": done.stdout,
                                                       "stderr": done.stderr}, done.stderr)

    def service_running(self, state, test):
        _only(state.arguments, "enable")
        if self.serverd is None or state.name != "qubes-network-serverd":
            return Result(state.id, False, {}, f"The named service {state.name} is not available")
        if self.serverd.running():
            return Result(state.id, True, {})
        if not test:
            self.serverd.start()
        return Result(state.id, None if test else True, {} if test else {state.name: True})

    def service_enabled(self, state, test):
        _only(state.arguments)
        if state.name in self.enabled:
            return Result(state.id, True, {})
        if not test:
            self.enabled.add(state.name)
        return Result(state.id, None if test else True, {} if test else {state.name: True})

    def pkg_installed(self, state, test):
        _only(state.arguments, "pkgs")
        command = f"test-pkg-install {' '.join(state.arguments['pkgs'])}"
        if test:
            return Result(state.id, None, {})
        done = self.sh(command)
        return Result(state.id, done.returncode == 0, {"installed": done.stdout.split()} if done.stdout else {}, done.stderr)

    def file_managed(self, state, test):
        _only(state.arguments, "source", "makedirs", "mode")
        wanted, path = self.fetch.get(state.arguments["source"]), self.root + state.name
        if wanted is None:
            return Result(state.id, False, {}, f"Source file {state.arguments['source']} not found")
        if os.path.exists(path):
            with open(path, "rb") as file:
                if file.read() == wanted:
                    return Result(state.id, True, {})
        if test:
            return Result(state.id, None, {"newfile": path})
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(wanted)
        os.chmod(path, int(state.arguments["mode"], 8))
        return Result(state.id, True, {"diff": path})

    # -- those of Qubes --------------------------------------------------------------------------------------------

    def qvm_present(self, state, test):
        _only(state.arguments, "template", "label", "mem", "vcpus", "flags")
        if state.name in self.dom0.model.vms:
            return Result(state.id, True, {}, f"[SKIP] A VM with the name '{state.name}' already exists.")
        if test:
            return Result(state.id, None, {})
        flags = set(state.arguments.get("flags", ()))
        if not flags <= {"proxy", "net", "hvm", "hvm-template", "standalone", "quiet"}:
            raise Unknown(f"flags {flags}")
        options = {"provides_network": True} if flags & {"proxy", "net"} else {}
        if "net" in flags:
            options["netvm"] = None
        if state.arguments["template"] not in self.dom0.model.vms:
            return Result(state.id, False, {}, "no such template")
        self.dom0.add(state.name, template=state.arguments["template"], label=state.arguments["label"], **options)
        return Result(state.id, True, {"qvm-create": state.name})

    def _qube(self, state):
        return self.dom0.model.vms.get(state.name)

    def qvm_service(self, state, test):
        _only(state.arguments, "enable", "disable", "default", "list")
        vm = self._qube(state)
        if vm is None:
            return Result(state.id, False, {}, "Virtual Machine does not exist!")
        changes = {}
        for action, value in (("enable", "1"), ("disable", ""), ("default", None)):
            for service in state.arguments.get(action, ()):
                feature = f"service.{service}"
                if vm.features.get(feature) == value:
                    continue
                changes[service] = {"old": vm.features.get(feature), "new": value}
                if test:
                    continue
                if value is None:
                    self.dom0.remove_feature(state.name, feature)
                else:
                    self.dom0.set_feature(state.name, feature, value)
        return Result(state.id, None if test and changes else True, changes)

    def qvm_prefs(self, state, test):
        vm = self._qube(state)
        if vm is None:
            return Result(state.id, False, {}, "Virtual Machine does not exist!")
        changes = {}
        for key, value in state.arguments.items():
            key = key.replace("-", "_")
            if key == "name":
                continue
            old = "*default*" if self.dom0.model.is_default(vm, key) else self.dom0.model.value(vm, key)
            if old == value:
                continue
            try:
                self.dom0.set_property(state.name, key, str(value))  # whatever test says
            except Refused as error:
                return Result(state.id, False, changes, str(error))
            changes[key] = {"old": old, "new": value}
        return Result(state.id, None if test and changes else True, changes)
