# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-network-serverd and a qubesd that restarts, crashes, stands still, is cut off in the middle of a word; and the
daemon's own restarts."""

import json
import os
import signal

import pytest

from lab.qubesd import FLAVOURS
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


def status(world):
    return json.loads(world.serverd.call("--status", "--json").stdout)


@pytest.mark.parametrize("crash", [False, True])
def test_restart_of_qubesd(web, crash):
    with web.dom0.qubesd_down(crash):
        web.wait(lambda: "qubesd is not there" in web.serverd.log, "loss")
        web.exposed()
    web.wait(lambda: "qubesd is there again" in web.serverd.log, "return")
    web.wait(lambda: status(web)["qubesd"]["read"], "reading")
    web.exposed()
    assert "not exposed" not in web.serverd.log.split("qubesd is not there")[1]
    web.dom0.shutdown("web")
    web.settle()


def test_changes_while_away(web):
    """Features and starts of that time are found at the return; nothing opens before."""
    with web.dom0.qubesd_down():
        web.wait(lambda: "qubesd is not there" in web.serverd.log, "loss")
        web.dom0.start("other")
        web.dom0.set_feature("other", "routing-method", "forward")
        web.dom0.set_feature("web", "network-server.allow", "tcp/80")
        web.exposed()
        assert "allow" not in web.records()["sys-net", A]
    web.settle(("web", A, ["sys-fw", "sys-net"]), ("other", "10.137.0.6", ["sys-fw", "sys-net"]))
    web.wait(lambda: web.records()["sys-net", A].get("allow") == "tcp/80", "allow")


@pytest.mark.parametrize("victim", ["web", "sys-fw", "sys-net"])
def test_dies_unseen(web, victim):
    """Its QubesDB goes with it, and that is enough."""
    with web.dom0.qubesd_down():
        web.wait(lambda: "qubesd is not there" in web.serverd.log, "loss")
        web.dom0.dies_unseen(victim)
        web.settle()
    web.settle()
    web.dom0.start(victim)
    web.exposed()


def test_another_life_unseen(web):
    """It stopped, its address was given to another, and that one started: the record had another's number."""
    web.dom0.cut_stream()
    with web.dom0.qubesd_down():
        web.wait(lambda: "qubesd is not there" in web.serverd.log, "loss")
        web.dom0.dies_unseen("web")
        web.dom0.set_property("web", "ip", B)
        web.dom0.start("web")
        web.settle()
    web.exposed(B)


def test_stream_cut_in_a_frame(web):
    """The rest of the sentence never comes: everything is read again."""
    for after in (1, 2, 7, 20, 40):
        web.dom0.cut_stream(after)
        web.dom0.set_feature("web", "network-server.allow", f"tcp/{after}")
        web.wait(lambda: web.records().get(("sys-net", A), {}).get("allow") == f"tcp/{after}", "allow", timeout=10)
        web.exposed()


def test_single_bytes(web):
    web.dom0.qubesd.dribble = True
    web.dom0.set_feature("web", "network-server.allow", "tcp/81")
    web.wait(lambda: web.records().get(("sys-net", A), {}).get("allow") == "tcp/81", "allow")
    web.dom0.shutdown("web")
    web.settle()


def test_qubesd_stands_still(web):
    """Three seconds without an answer: events are taken at once and acted on."""
    web.dom0.block_answers(3)
    for port in range(1000):
        web.dom0.set_feature("web", "network-server.allow", f"tcp/{port + 1}")
    web.wait(lambda: web.records().get(("sys-net", A), {}).get("allow") == "tcp/1000", "allow", timeout=2)
    assert web.dom0.qubesd.buffered() == 0
    web.dom0.qubesd.emit("web", "domain-stopped")
    web.wait(lambda: not web.records() and not web.accepts(), "withdrawal", timeout=1)
    web.exposed()  # it still runs, as qubesd says at last


def test_storm_of_starts(web):
    """Readings are not piled up while qubesd stands still."""
    web.dom0.block_answers(1)
    for _ in range(200):
        web.dom0.qubesd.emit("other", "domain-qdb-create")
    before = len(web.dom0.qubesd.call_log)
    web.dom0.set_feature("web", "network-server.allow", "tcp/9")
    web.wait(lambda: web.records().get(("sys-net", A), {}).get("allow") == "tcp/9", "allow")
    web.wait(lambda: len(web.dom0.qubesd.call_log) > before, "reading")
    assert len(web.dom0.qubesd.call_log) - before < 50


def test_silent_when_idle(web):
    """Nothing to do: no call, no write, no wake-up."""
    web.wait(lambda: status(web)["reloads_waiting"] == 0, "rest")
    web.wait(web.calm, "rest")
    calls, switches = len(web.dom0.qubesd.call_log), web.switches()
    web.wait(web.later(1.5), "time to pass")
    assert len(web.dom0.qubesd.call_log) == calls
    assert web.switches() - switches <= 1


# -- the daemon itself ---------------------------------------------------------------------------------------------------

def test_sigterm_leaves_everything(web):
    before = web.actual()
    assert web.serverd.stop() == 0
    assert web.actual() == before
    web.serverd.start()
    assert web.actual() == before
    web.dom0.shutdown("web")
    web.settle()


def test_killed(web):
    """Nobody notices: not one key is written for a successor that finds what it wishes."""
    web.serverd.kill9()
    with web.dom0.qdb("sys-net") as watch:
        watch.watch("/network-server/")
        web.serverd.start()
        web.exposed()
        assert watch.next_event(0) is None


def test_strays_of_the_time_between(web):
    """Whatever happened while nobody looked, and what was never ours."""
    web.serverd.kill9()
    web.dom0.shutdown("web")
    with web.dom0.qdb("sys-fw2") as db:
        db.write("/network-server/10.9.9.9", "v=1|vm=ghost|xid=1|via=direct|edge=1|mode=forward")
        db.write("/network-server/nonsense", "x")
        db.write("/qubes-routing-method/10.137.0.9", "forward")
        db.write("/qubes-firewall/10.9.9.9/policy", "accept")
        db.write("/network-server-inbound", "v=1|10.9.9.9 allow=any")
    web.serverd.start()
    web.settle()
    assert web.dom0.keys("sys-fw2", "/qubes-routing-method") == {}
    assert web.dom0.keys("sys-fw2", "/qubes-firewall/10.9.9.9") == {
        "/qubes-firewall/10.9.9.9": "", "/qubes-firewall/10.9.9.9/policy": "drop"}
    assert web.markers() == {"sys-net", "sys-fw", "sys-fw2"}


def test_starts_without_qubesd(web):
    """It is ready, touches nothing, and begins when qubesd comes."""
    web.serverd.stop()
    with web.dom0.qubesd_down():
        web.serverd.start()
        web.exposed()
        assert web.serverd.call("--check").returncode == 1
    web.wait(lambda: status(web)["qubesd"]["read"], "reading")
    web.exposed()
    assert web.serverd.call("--check").returncode == 0


def test_dry_run(web):
    web.serverd.stop()
    assert web.serverd.call("--dry-run").stdout == "nothing to do\n"
    with web.dom0.qdb("sys-net") as db:
        db.write(f"/network-server/{A}", "v=1")
        db.write(f"/network-server/{B}", "v=1")
    told = web.serverd.call("--dry-run")
    assert told.returncode == 0
    assert f"sys-net: would remove /network-server/{B}" in told.stdout
    assert f"sys-net: would write /network-server/{A} = v=1|vm=web" in told.stdout
    assert web.dom0.keys("sys-net")[f"/network-server/{B}"] == "v=1"
    ops = json.loads(web.serverd.call("--dry-run", "--json").stdout)
    assert {op["where"] for op in ops} == {"sys-net"}


def test_withdraw(web):
    refused = web.serverd.call("--withdraw")
    assert refused.returncode == 1 and "systemctl stop" in refused.stderr
    web.exposed()
    web.serverd.stop()
    with web.dom0.qubesd_down():
        done = web.serverd.call("--withdraw")
    assert done.returncode == 0, done.stderr
    web.settle()
    assert web.markers() == set()
    web.serverd.start()
    web.exposed()


def test_status(web):
    told = status(web)
    assert told["missing"] == 0 and told["qubesd"]["connected"] and not told["problems"]
    assert {w["where"] for w in told["wishes"] if w["what"] == "record"} == {"sys-fw", "sys-net"}
    text = web.serverd.call("--status").stdout
    assert "web" in text and A in text and "sys-net" in text
    web.dom0.set_feature("other", "routing-method", "forward")
    web.wait(lambda: [p["kind"] for p in status(web)["problems"]] == ["halted"], "problem")
    assert web.serverd.call("--check").returncode == 0
    web.dom0.set_property("other", "ip", A)
    web.dom0.start("other")
    web.wait(lambda: {p["kind"] for p in status(web)["problems"]} == {"duplicate"}, "duplicate")
    assert web.serverd.call("--check").returncode == 1
    assert web.serverd.call("--nonsense").returncode == 2


def test_list_that_is_too_long(web):
    """It is said which call and which limit; what stands stays, and the next reading is as if nothing had been."""
    methods = web.dom0.api._methods
    original = methods["admin.vm.List"]
    for told, answer in (("the answer to admin.vm.List is longer than 4 MiB", "x" * (5 << 20)),
                         ("there are more than 10000 qubes",
                          "".join(f"far{i} class=RemoteVM state=NA\n" for i in range(10001)))):
        methods["admin.vm.List"] = lambda *_, answer=answer: answer
        web.dom0.restart_qubesd()
        web.wait(lambda told=told: told in web.serverd.log, "complaint")
        web.wait(lambda told=told: status(web)["qubesd"]["error"] == told, "status")
        assert told in web.serverd.call("--check").stdout
        web.exposed()
    methods["admin.vm.List"] = original
    web.serverd.process.send_signal(signal.SIGHUP)
    web.wait(lambda: status(web)["qubesd"]["read"] and not status(web)["qubesd"]["error"], "reading")
    web.exposed()


def test_hup_reads_everything(web):
    readings = status(web)["full_readings"]
    web.serverd.process.send_signal(signal.SIGHUP)
    web.wait(lambda: status(web)["full_readings"] > readings, "reading")
    web.exposed()
    assert os.path.exists(f"{web.dom0.folder}/run/live")


def test_nothing_opens_while_away(web):
    """The other one with this address has died; whether that is so, only qubesd can say."""
    web.dom0.set_property("other", "ip", A)
    web.dom0.set_feature("other", "routing-method", "forward")
    web.dom0.start("other")
    web.settle()
    with web.dom0.qubesd_down():
        web.wait(lambda: "qubesd is not there" in web.serverd.log, "loss")
        web.dom0.dies_unseen("other")
        web.wait(lambda: "other is taken for stopped" in web.serverd.log, "its end")
        web.dom0.replace_database("sys-fw2")
        web.wait(web.later(0.3), "time to pass")
        web.settle()
        assert web.markers() == {"sys-net", "sys-fw"}
    web.exposed()
    web.wait(lambda: "sys-fw2" in web.markers(), "marker")
