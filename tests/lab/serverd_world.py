# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of qubes-network-serverd look at: what stands in every QubesDB, and what should.

`web` (10.137.0.4, or what the test gives it) is behind sys-fw behind sys-net; sys-fw2 is beside sys-fw; all run.
"""

import time

import pytest

from lab.dom0 import Dom0
from lab.node import wait_until
from lab.serverd import SERVERD, Serverd, available

A = "192.168.16.25"
B = "192.168.16.26"


def make(flavour):
    dom0 = Dom0(flavour=flavour)
    dom0.add("sys-net", provides_network=True, netvm=None, qid=2)
    dom0.add("sys-fw", provides_network=True, netvm="sys-net", qid=3)
    dom0.add("sys-fw2", provides_network=True, netvm="sys-net", qid=5)
    dom0.add("web", netvm="sys-fw", qid=4, ip=A)
    dom0.add("other", netvm="sys-fw", qid=6)
    for name in ("sys-net", "sys-fw", "sys-fw2"):
        dom0.start(name)
    dom0.model.default_netvm = "sys-fw"
    return dom0


class World:
    def __init__(self, flavour, start=True):
        if not available(SERVERD):
            pytest.skip(f"{SERVERD} is not built")
        self.dom0 = make(flavour)
        self.flavour = flavour
        self.serverd = Serverd(self.dom0, ["--verbose"], start=start)

    def close(self):
        self.dom0.close()

    # -- what stands ---------------------------------------------------------------------------------------------------

    def running(self):
        return [vm.name for vm in self.dom0.model.sorted() if vm.is_running and vm.qdb is not None]

    def records(self):
        """{(qube, address): {field: value}} of all that run."""
        found = {}
        for name in self.running():
            for key, value in self.dom0.keys(name, "/network-server/").items():
                found[name, key.rsplit("/", 1)[1]] = {
                    "vm": None, "xid": None, "via": None, "edge": None,
                    **dict(part.partition("=")[::2] for part in value.split("|"))}
        return found

    def accepts(self):
        """{(qube, address)} of firewall blocks with policy accept."""
        return {(name, key.split("/")[2]) for name in self.running()
                for key, value in self.dom0.keys(name, "/qubes-firewall/").items()
                if key.endswith("/policy") and value == "accept"}

    def inbound(self):
        found = {}
        for name in self.running():
            value = self.dom0.keys(name, "/network-server-inbound").get("/network-server-inbound")
            if value is not None:
                found[name] = value
        return found

    def markers(self):
        return {name for name in self.running() if self.dom0.keys(name, "/network-server").get("/network-server") == "1"}

    def wait(self, probe, what, timeout=5):
        try:
            return wait_until(probe, timeout, what=what)
        except TimeoutError as error:
            raise AssertionError(f"{error}; found {self.actual()}\n{self.serverd.log}") from error

    @staticmethod
    def later(seconds):
        """A probe that is true from then on, for what must not happen meanwhile."""
        end = time.monotonic() + seconds
        return lambda: time.monotonic() >= end

    def switches(self):
        """How often the daemon has woken up."""
        with open(f"/proc/{self.serverd.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))

    def calm(self):
        """It slept for 0.3 s."""
        before, over = self.switches(), self.later(0.3)
        while not over():
            time.sleep(0.01)
        return self.switches() == before

    @staticmethod
    def in_seconds(seconds):
        """A time as features have it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))

    # -- what should ---------------------------------------------------------------------------------------------------

    def xid(self, name):
        return str(self.dom0[name].xid)

    def address(self, name, family):
        """Of its vif; of a net qube whose own net qube is about to attach it, what it is going to have."""
        vm = self.dom0[name]
        return vm.live[family] if vm.live else self.dom0.model.value(vm, "ip" if family == 1 else "ip6")

    def expected(self, *exposed):
        """Records and accepts of these (qube, address, [hops from the next one outward]) and nothing else."""
        records, accepts, inbound = {}, set(), set()
        for name, address, hops in exposed:
            child = name
            for index, hop in enumerate(hops):
                family = 2 if ":" in address else 1
                records[hop, address] = (name, self.xid(child),
                                         self.address(child, family) if index else "direct",
                                         "1" if index == len(hops) - 1 else "0")
                if index:
                    accepts.add((hop, address))
                child = hop
            inbound.add(name)
        return records, accepts, inbound

    def actual(self):
        records = {key: (fields["vm"], fields["xid"], fields["via"], fields["edge"])
                   for key, fields in self.records().items()}
        return records, self.accepts(), set(self.inbound())

    def settle(self, *exposed, timeout=5):
        """Waits until exactly these are in place: no record without its owner, none missing."""
        try:
            wait_until(lambda: self.actual() == self.expected(*exposed), timeout, what="records")
        except Exception as error:
            raise AssertionError(f"wanted {self.expected(*exposed)}\nfound  {self.actual()}\n{self.serverd.log}") from error

    def exposed(self, address=A, name="web"):
        """web by its whole way."""
        self.settle((name, address, ["sys-fw", "sys-net"]))

    def expose(self, name="web", start=True):
        self.dom0.set_feature(name, "routing-method", "forward")
        if start:
            self.dom0.start(name)
