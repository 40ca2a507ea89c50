# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the dom0 side: by what a qube writes into its own QubesDB, what it answers, and what its owner mistypes."""

import os
import stat
import subprocess
import time

import pytest

from lab import topologies
from lab.doors import doors, expect
from lab.serverd import Expose, Serverd
from serverd_world import A, World


@pytest.fixture
def web():
    made = World("4.3")
    made.expose()
    made.exposed()
    yield made
    made.close()


def test_older_keys_do_not_flood_the_journal(web):
    """Every qube can write thousands of keys into its own QubesDB; of their removal a number is told."""
    web.serverd.stop()
    web.serverd.arguments = []
    web.serverd.start()
    before = len(web.serverd.log.splitlines())
    with web.dom0.qdb("web") as db:
        db.write_many([(f"/qubes-routing-method/10.9.{i >> 8}.{i & 255}", "forward") for i in range(3000)])
    web.wait(lambda: not web.dom0.keys("web", "/qubes-routing-method/"), "keys removed")
    assert len(web.serverd.log.splitlines()) - before < 60


def test_two_writers_of_one_block_come_to_rest(web):
    """beside runs at sys-net, and gets web's address by its next start: until then its block there is no reason to have
    qubesd and the daemon write against each other."""
    web.dom0.add("beside", netvm="sys-net", qid=9)
    web.dom0.start("beside")
    web.wait(web.calm, "calm")  # else its first reading would come after the change, and take the setting for what it has
    web.dom0.set_property("beside", "ip", A)
    web.dom0.set_firewall("beside", ["action=drop"])
    web.exposed()
    over = web.later(2)
    while not over():
        time.sleep(0.05)
    assert not web.dom0.reloads
    web.exposed()
    web.dom0.shutdown("beside")
    web.dom0.start("beside")
    web.settle()
    web.wait(lambda: "beside" in web.dom0.reloads or web.dom0.keys("sys-net", f"/qubes-firewall/{A}/")[
        f"/qubes-firewall/{A}/0000"] == "action=drop", "qubesd's block")


def test_block_without_an_address(web):
    """A block without an address could not be committed: QubesDB takes no path that ends in a slash. It is passed over,
    and holds up nothing."""
    with web.dom0.qdb("sys-net") as db:
        db.write("/qubes-firewall//policy", "accept")
        db.write("/network-server/1.1.1.1", "x")
        web.wait(lambda: "/network-server/1.1.1.1" not in web.dom0.keys("sys-net"), "stray record")
        db.rm("/qubes-firewall//policy")
    web.exposed()
    assert "/qubes-firewall//" not in web.serverd.log


# -- qvm-expose ----------------------------------------------------------------------------------------------------------

def test_drawing_touches_no_other_file(web):
    """Neither a file that is called nearly the same, nor what somebody else laid in the way."""
    svg, victim = f"{web.dom0.folder}/map.svg", f"{web.dom0.folder}/victim"
    with open(victim, "w", encoding="ascii") as file:
        file.write("precious")
    os.symlink(victim, f"{svg}.new")
    assert Expose(web.dom0)("--map", "--svg", svg).returncode == 0
    assert os.path.islink(f"{svg}.new")
    with open(victim, encoding="ascii") as file:
        assert file.read() == "precious"
    with open(svg, encoding="ascii") as file:
        assert file.read().endswith("</svg>\n")
    assert sorted(name for name in os.listdir(web.dom0.folder) if name.startswith("map.")) == ["map.svg", "map.svg.new"]


def test_drawing_goes_through_a_pipe(web):
    """What is no file is written to, and not replaced: /dev/stdout."""
    pipe = f"{web.dom0.folder}/pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert Expose(web.dom0)("--map", "--svg", pipe).returncode == 0
        assert reader.communicate(timeout=10)[0].endswith("</svg>\n")
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


# -- through all of it ---------------------------------------------------------------------------------------------------

@pytest.fixture
def chain(dom0_lab):
    dom0 = dom0_lab("4.3", topologies.CHAIN)
    for name in ("sys-net", "sys-firewall"):
        dom0.router(name)
    for name in ("web", "lan2", "internet"):
        dom0.lab[name].serve_tcp(80)
    dom0.daemon = Serverd(dom0, ["--verbose"])
    return dom0


def test_many_changes_of_rules_are_followed_at_once(web):
    """Rules of a net qube on the way are not held up as a local writer is, who is answered ever more slowly."""
    for number in range(60):
        web.dom0.set_firewall("sys-fw", [f"action=drop dst4=10.{number}.0.0/16", "action=accept"])
        time.sleep(0.05)
    web.wait(lambda: web.dom0.keys("sys-net", f"/qubes-firewall/{A}/") == {
        f"/qubes-firewall/{A}/0000": "action=drop dst4=10.59.0.0/16", f"/qubes-firewall/{A}/0001": "action=accept",
        f"/qubes-firewall/{A}/9999": "action=drop", f"/qubes-firewall/{A}/policy": "accept"}, "rules", timeout=1)
    assert "Somebody changed" not in web.serverd.log


@pytest.mark.usefixtures("need_router")
def test_no_way_round_the_rules_of_a_net_qube(chain):
    """What sys-firewall may not reach, by its own rules in sys-net, a qube behind it may not reach by its own address
    either; nor may sys-firewall itself, with that address."""
    web = chain.lab["web"]
    to = doors([web], ["192.168.16.11", "203.0.113.1"], ("tcp/80",))
    inward = doors([chain.lab["lan1"]], ["192.168.16.25"], ("tcp/80",))
    chain.set_firewall("sys-firewall", ["action=drop dst4=192.168.16.11/32", "action=accept"])
    expect(chain.lab, to + inward, to[1:])
    chain.set_feature("web", "routing-method", "forward")
    expect(chain.lab, to + inward, to[1:] + inward)
    chain.set_firewall("sys-firewall", ["action=accept"])
    expect(chain.lab, to + inward, to + inward)
    chain.set_firewall("sys-firewall", ["action=drop"])
    expect(chain.lab, to + inward, inward)
    chain.set_firewall("sys-firewall", ["action=drop dst4=192.168.16.11/32", "action=accept"])
    chain.remove_feature("web", "routing-method")
    expect(chain.lab, to + inward, to[1:])
    left = {"/qubes-firewall/192.168.16.25/policy": "drop"}
    assert chain.keys("sys-net", "/qubes-firewall/192.168.16.25/") == left, chain.daemon.log
