# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-network-serverd and the QubesDB of net qubes: foreign edits, lost daemons, daemons that stand still, and writes
that come later than qubesd's."""

import contextlib
import json
import os
import shutil
import signal
import socket
import threading

import pytest

from lab.qubesd import FLAVOURS
from lab.router import PLAIN, SLOW
from lab.serverd import Serverd
from serverd_world import A, B, World


@pytest.fixture(params=FLAVOURS)
def world(request):
    made = World(request.param)
    yield made
    made.close()


@pytest.fixture
def web(world):
    world.expose()
    world.exposed()
    return world


def test_replaced_daemon(web):
    """Its QubesDB is a new, empty one: everything is written again; qubesd knows nothing of it."""
    for name in ("sys-net", "sys-fw", "web"):
        web.dom0.replace_database(name)
        web.exposed()
    assert web.markers() == {"sys-net", "sys-fw", "sys-fw2"}
    web.dom0.shutdown("web")
    web.settle()


def test_killed_daemon(web):
    """Its socket stays behind, nobody listens; then one comes."""
    vm = web.dom0["sys-net"]
    vm.process.send_signal(signal.SIGKILL)
    vm.process.wait()
    web.dom0.set_feature("web", "network-server.allow", "tcp/80")
    web.wait(lambda: web.dom0.keys("sys-fw")[f"/network-server/{A}"].endswith("allow=tcp/80"), "the other hop")
    web.wait(lambda: web.serverd.call("--check").returncode == 1, "it is said")
    web.dom0.replace_database("sys-net")
    web.exposed()
    web.wait(lambda: web.records()["sys-net", A].get("allow") == "tcp/80", "allow")


def test_foreign_edits(web):
    with web.dom0.qdb("sys-net") as db:
        db.write(f"/network-server/{A}", "v=1|vm=web|xid=1|via=direct|edge=1|mode=forward")
        web.exposed()
        db.rm(f"/network-server/{A}")
        web.exposed()
        db.rm("/network-server/")
        web.exposed()
        db.rm("/network-server")
        web.wait(lambda: "sys-net" in web.markers(), "marker")
        db.write(f"/network-server/{B}", "v=1|vm=ghost|xid=1|via=direct|edge=1|mode=forward")
        web.exposed()
        db.write("/qubes-routing-method/10.137.0.9", "forward")
        web.wait(lambda: not web.dom0.keys("sys-net", "/qubes-routing-method"), "older key")
        db.write(f"/qubes-firewall/{A}/policy", "drop")
        web.exposed()
        db.write(f"/qubes-firewall/{B}/policy", "accept")
        web.exposed()
        db.rm("/")
        web.exposed()
    assert "Somebody changed the exposures in the QubesDB of sys-net" in web.serverd.log
    web.wait(lambda: json.loads(web.serverd.call("--status", "--json").stdout)["reloads_waiting"] == 0, "rest")


def test_fight(web):
    """Who writes again and again gets slower answers, and never the last word."""
    with web.dom0.qdb("sys-net") as db:
        over = web.later(3)
        while not over():
            db.write(f"/network-server/{A}", "mine")
    assert web.serverd.log.count("Somebody changed") < 15
    web.settle(("web", A, ["sys-fw", "sys-net"]), timeout=10)


def test_flood(web):
    """More keys than are followed."""
    with web.dom0.qdb("sys-net") as db:
        db.write_many([(f"/network-server/10.{i >> 16}.{i >> 8 & 255}.{i & 255}", "x") for i in range(18000)])
    web.settle(("web", A, ["sys-fw", "sys-net"]), timeout=30 * SLOW)
    if PLAIN:
        assert web.serverd.memory() < 16000


def test_hanging_daemon(web):
    """One that stands still holds up nobody else, and gets the truth when it goes on."""
    vm = web.dom0["sys-net"]
    vm.process.send_signal(signal.SIGSTOP)
    web.dom0.set_feature("web", "network-server.allow", "tcp/80")
    web.wait(lambda: web.dom0.keys("sys-fw")[f"/network-server/{A}"].endswith("allow=tcp/80"), "the other hop", timeout=1)
    web.wait(lambda: "QubesDB of sys-net cannot be reached" in web.serverd.log, "it is said", timeout=10)
    web.dom0.set_feature("web", "network-server.allow", "tcp/81")
    vm.process.send_signal(signal.SIGCONT)
    web.wait(lambda: web.records().get(("sys-net", A), {}).get("allow") == "tcp/81", "allow", timeout=10)
    web.exposed()


# -- a write of ours that comes later than qubesd's ----------------------------------------------------------------------

class Door:
    """Between the daemon and one QubesDB: closed, what the daemon sends waits; answers and events pass."""

    def __init__(self, path, target):
        self.target, self.open = target, threading.Event()
        self.open.set()
        self.held = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.target)
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source, sink, guarded):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if guarded:
                    self.held += not self.open.is_set()
                    self.open.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def doors(world):
    """web is exposed by a daemon that reaches every QubesDB through a door: {qube: Door}."""
    world.serverd.stop()
    folder = f"{world.dom0.folder}/doors"
    os.mkdir(folder)
    world.expose()
    made = {name: Door(f"{folder}/qubesdb.{name}.sock", world.dom0.database(name)) for name in world.running()}
    world.serverd = Serverd(world.dom0, ["--verbose", "--qubesdb-directory", folder])
    world.exposed()
    yield made
    for door in made.values():
        door.open.set()
    shutil.rmtree(folder)


RULES = ["action=drop dst4=10.0.0.0/8", "action=accept dst4=1.1.1.1/32", "action=drop"]
BLOCK = {"policy": "drop"} | {f"{number:04}": rule for number, rule in enumerate(RULES)}


def block(world, name="sys-net"):
    return {key.rsplit("/", 1)[1]: value for key, value in world.dom0.keys(name, f"/qubes-firewall/{A}/").items()}


def test_giving_up_comes_late(world, doors):
    """web moves to sys-net, where our block still says accept when qubesd writes its own."""
    world.dom0.set_firewall("web", RULES)
    doors["sys-net"].open.clear()
    world.dom0.set_netvm("web", "sys-net")
    world.wait(lambda: doors["sys-net"].held > 0, "our late write")
    assert block(world) == BLOCK
    doors["sys-net"].open.set()
    world.wait(lambda: "web" in world.dom0.reloads, "Reload")
    world.settle(("web", A, ["sys-net"]))
    world.wait(lambda: block(world) == BLOCK, "qubesd's block")


def test_accept_comes_late(world, doors):
    """Our accept for the upper hop is on its way when web moves to that hop itself."""
    world.dom0.set_firewall("web", RULES)
    world.dom0.set_netvm("web", "sys-net")
    world.settle(("web", A, ["sys-net"]))
    del world.dom0.reloads[:]
    doors["sys-net"].open.clear()
    world.dom0.set_netvm("web", "sys-fw")
    world.wait(lambda: world.serverd.log.count("policy = accept") == 2 and doors["sys-net"].held > 0, "our accept")
    world.dom0.set_netvm("web", "sys-net")
    assert block(world) == BLOCK
    doors["sys-net"].open.set()
    world.wait(lambda: "web" in world.dom0.reloads, "Reload")
    world.settle(("web", A, ["sys-net"]))
    world.wait(lambda: block(world) == BLOCK, "qubesd's block")


def test_late_at_a_start(world, doors):
    """web starts directly at sys-net while our accept for sys-net has not arrived."""
    world.dom0.set_firewall("web", RULES)
    world.dom0.shutdown("web")
    world.settle()
    doors["sys-net"].open.clear()
    with world.dom0.until("vif-online", world.dom0.start, "web", qube="web"):
        world.wait(lambda: world.serverd.log.count("policy = accept") == 2 and doors["sys-net"].held > 0, "our accept")
    world.dom0.shutdown("web")
    world.dom0.set_netvm("web", "sys-net")
    world.dom0.start("web")
    doors["sys-net"].open.set()
    os.symlink(world.dom0.database("web"), f"{world.dom0.folder}/doors/qubesdb.web.sock.new")
    os.rename(f"{world.dom0.folder}/doors/qubesdb.web.sock.new", f"{world.dom0.folder}/doors/qubesdb.web.sock")
    world.settle(("web", A, ["sys-net"]))
    world.wait(lambda: block(world) == BLOCK, "qubesd's block")


def test_late_default_netvm(world, doors):
    """No word before: the change is over when it is told."""
    world.dom0.set_firewall("web", RULES)
    world.dom0.model["web"].explicit.pop("netvm")
    doors["sys-net"].open.clear()
    world.dom0.set_feature("web", "network-server.allow", "tcp/1")
    world.dom0.set_default_netvm("sys-net")
    world.wait(lambda: doors["sys-net"].held > 0, "our late write")
    doors["sys-net"].open.set()
    world.settle(("web", A, ["sys-net"]))
    world.wait(lambda: block(world) == BLOCK, "qubesd's block")
