# SPDX-License-Identifier: GPL-2.0-or-later
"""qvm-expose stores wishes: which features, in which order, and what it refuses before it writes anything."""

import contextlib
import json
import os
import pty
import re
import subprocess
import threading
import time

import pytest

from lab.dom0 import Dom0
from lab.qubesd import FLAVOURS
from lab.serverd import EXPOSE, Expose, available

pytestmark = pytest.mark.skipif(not available(EXPOSE), reason="qvm-expose is not built")

OK, FAILED, USAGE, PROBLEM, REFUSED = range(5)
METHOD, ALLOW, PUBLISH, EXPIRES = ("routing-method", "network-server.allow", "network-server.publish",
                                   "network-server.expires")


@pytest.fixture(params=FLAVOURS)
def dom0(request):
    """sys-net, sys-fw behind it, web and db behind that; web runs."""
    with Dom0(flavour=request.param) as made:
        made.add("sys-net", provides_network=True, netvm=None, qid=2)
        made.add("sys-fw", provides_network=True, netvm="sys-net", qid=3)
        made.add("web", netvm="sys-fw", qid=4)
        made.add("db", netvm="sys-fw", qid=5)
        made.start("web")
        made.history.clear()
        yield made


@pytest.fixture
def expose(dom0):
    return Expose(dom0)


def written(dom0):
    """Features and addresses that were written, in their order."""
    names = [(event.split(":", 1)[1], pairs.get("value", pairs.get("newvalue"))) for _, event, pairs in dom0.history
             if event.startswith(("domain-feature-set:", "domain-feature-delete:", "property-set:ip"))]
    dom0.history.clear()
    return names


def test_new_exposure_opens_last(dom0, expose):
    done = expose("web", "--allow", "tcp/22", "--allow", "tcp/443 from 192.168.16.0/24", "--publish", "tcp/8443:443",
                  "--limit", "10", "--log", "--for", "2h")
    assert done.returncode == OK, done.stderr
    names = [name for name, _ in written(dom0)]
    assert names == [EXPIRES, "network-server.limit", "network-server.log", ALLOW, PUBLISH, METHOD]
    features = dom0["web"].features
    assert features[METHOD] == "forward"
    assert features[ALLOW] == "tcp/22;tcp/443 from 192.168.16.0/24"
    ends = time.strptime(features[EXPIRES], "%Y-%m-%dT%H:%M:%SZ")
    assert abs(__import__("calendar").timegm(ends) - time.time() - 7200) < 60
    assert "tcp/22;tcp/443 from 192.168.16.0/24" in done.stdout
    assert "tcp/8443:443" in done.stdout and "(in 1 h 59 min)" in done.stdout or "(in 2 h)" in done.stdout


def test_off_closes_first_and_removes_everything(dom0, expose):
    expose("web", "--allow", "any", "--publish", "tcp/80", "--until", "2036-01-01T00:00:00Z")
    written(dom0)
    assert expose("web", "--off").returncode == OK
    assert written(dom0)[:2] == [(METHOD, None), (PUBLISH, None)]
    assert dom0["web"].features == {}
    again = expose("web", "--off")
    assert again.returncode == OK and "It is so already" in again.stdout
    assert written(dom0) == []


def test_template_is_overruled(dom0, expose):
    dom0.set_feature("fedora", METHOD, "forward")
    dom0.set_feature("fedora", PUBLISH, "tcp/80")
    assert expose("web", "--off").returncode == OK
    assert dom0["web"].features == {METHOD: "masquerade", PUBLISH: ""}
    assert not expose.json("web")["asked"]
    note = expose("fedora", "--allow", "tcp/1").stdout
    assert "is a template" in note and "4 qubes" in note


def test_nothing_is_opened_without_being_named(dom0, expose):
    for words in (["web", "--log"], ["web", "--for", "2h"]):
        done = expose(*words)
        assert done.returncode == USAGE and "--allow any" in done.stderr
    shown = expose("web")
    assert shown.returncode == OK and "nothing of it is exposed" in shown.stdout
    assert written(dom0) == []


@pytest.mark.parametrize("words", [
    ["--allow", "tpc/22"], ["--allow", "tcp/22;"], ["--publish", "tcp/0:1"], ["--ip", "224.0.0.1"], ["--ip", "::1"],
    ["--for", "0s"], ["--until", "yesterday"], ["--limit", "-1"], ["--allow", "tcp/22\n"], ["--allow", "tcp/22|xid=1"],
    ["--publish", "tcp/80:1", "--publish", "tcp/80:2"], ["--allow", "tcp/22 from 192.168.1.1/24"], ["--nonsense"],
])
def test_nonsense_is_refused_with_its_option(dom0, expose, words):
    done = expose("web", *words)
    assert done.returncode == USAGE
    assert words[0] in done.stderr
    assert written(dom0) == []


def test_place_of_a_mistake_is_shown(expose):
    done = expose("web", "--allow", "tcp/22;tpc/443")
    assert "  tcp/22;tpc/443\n         ^^^\n" in done.stderr


def test_dry_run_writes_nothing(dom0, expose):
    done = expose("web", "--allow", "tcp/22", "--ip", "192.168.16.25", "--dry-run")
    assert done.returncode == OK
    order = [done.stdout.index(part) for part in ("set property ip to 192.168.16.25", ALLOW, METHOD)]
    assert order == sorted(order)
    assert written(dom0) == []


def test_addresses_of_others_are_refused(dom0, expose):
    dom0.set_property("db", "ip", "192.168.16.25")     # does not even run
    for address, owner in (("192.168.16.25", "db"), ("10.137.0.2", "sys-net")):
        done = expose("web", "--ip", address, "--allow", "tcp/22")
        assert done.returncode == REFUSED and f"{owner} has {address}" in done.stderr
    dom0.history.clear()
    dom0.set_property("web", "ip", "192.168.16.26")
    dom0.start("db")
    dom0.set_property("db", "ip", "192.168.16.27")
    written(dom0)
    done = expose("web", "--ip", "192.168.16.25", "--allow", "tcp/22")
    assert done.returncode == REFUSED and "db still runs with 192.168.16.25" in done.stderr
    assert written(dom0) == []


def test_address_on_the_lan_is_asked_of_the_edge(dom0, expose, tmp_path):
    report = {"program": "qubes-routing-manager", "addresses": [
        {"address": "192.168.16.40", "state": "conflict", "conflict": {"mac": "00:11:22:33:44:55"}}],
        "uplinks": [{"name": "ens5", "addresses": ["192.168.16.2/24"]}],
        "neighbours": [{"address": "192.168.16.10", "mac": "00:11:22:33:44:66"},
                       {"address": "192.168.16.12", "mac": "00:11:22:33:44:77", "seen": 300},
                       {"address": "192.168.16.13", "mac": "00:11:22:33:44:88", "seen": 7260},
                       {"address": "192.168.16.2", "mac": "00:11:22:33:44:99", "seen": 7260}]}
    status = tmp_path / "status"
    status.write_text(f"#!/bin/sh\n[ \"$1\" = sys-net ] && cat '{tmp_path}/report'\n")
    status.chmod(0o755)
    (tmp_path / "report").write_text(json.dumps(report))
    for address, word in (("192.168.16.40", "00:11:22:33:44:55"), ("192.168.16.10", "00:11:22:33:44:66"),
                          ("192.168.16.12", "00:11:22:33:44:77"),
                          ("192.168.16.2", "sys-net itself"), ("192.168.16.255", "broadcast")):
        done = expose("web", "--status-command", str(status), "--ip", address, "--allow", "tcp/22")
        assert done.returncode == REFUSED and word in done.stderr, done.stderr
    assert written(dom0) == []
    done = expose("web", "--status-command", str(status), "--ip", "192.168.99.1", "--allow", "tcp/22")
    assert done.returncode == OK and "in none of the subnets" in done.stdout.replace("\n    ", " ")
    done = expose("web", "--status-command", str(status), "--ip", "192.168.16.13", "--allow", "tcp/22")
    assert done.returncode == OK and "last heard of 121 min ago" in done.stdout.replace("\n    ", " ")
    for cut in ({"neighbours_left_out": 1, "addresses_left_out": 0}, {"neighbours_left_out": 0, "addresses_left_out": 1}):
        (tmp_path / "report").write_text(json.dumps(report | {"neighbours": [], "cut": cut}))
        done = expose("web", "--status-command", str(status), "--ip", "192.168.16.14", "--allow", "tcp/22")
        assert done.returncode == OK and "too long to hold its LAN's hosts" in done.stdout.replace("\n    ", " ")


def test_published_port_of_another_is_refused(dom0, expose):
    assert expose("db", "--publish", "tcp/8443:443").returncode == OK     # halted: would show only when it starts
    written(dom0)
    done = expose("web", "--publish", "tcp/8443:80")
    assert done.returncode == REFUSED and "8443" in done.stderr and "db" in done.stderr
    assert written(dom0) == []


def test_expired_exposure_needs_a_new_end(dom0, expose):
    for feature, value in ((METHOD, "forward"), (ALLOW, "any"), (EXPIRES, "2020-01-01T00:00:00Z")):
        dom0.set_feature("web", feature, value)
    written(dom0)
    assert expose("web", "--allow", "tcp/22").returncode == USAGE
    assert written(dom0) == []
    assert expose("web", "--allow", "tcp/22", "--for", "1h").returncode == OK
    assert [name for name, _ in written(dom0)] == [ALLOW, EXPIRES]     # never `any` again, not for a moment


def test_address_of_a_running_qube_waits(dom0, expose):
    done = expose("web", "--ip", "192.168.16.25", "--allow", "tcp/22")
    assert "attached anew" in done.stdout.replace("\n    ", " ")
    assert dom0["web"].live[1] == "10.137.0.4"
    assert expose.json("web")["addresses"] == ["10.137.0.4"]
    done = expose("web", "--allow", "tcp/22", "--no")
    assert dom0["web"].live[1] == "10.137.0.4" and done.returncode == OK
    done = expose("web", "--allow", "tcp/22", "--yes")
    assert "was attached anew" in done.stdout
    assert dom0["web"].live[1] == "192.168.16.25"
    assert expose.json("web")["addresses"] == ["192.168.16.25"]


@pytest.mark.parametrize("default", (True, False))
def test_attaching_anew_keeps_the_default(default):
    with Dom0(default_netvm="sys-net") as dom0:
        dom0.add("sys-net", provides_network=True, netvm=None, qid=2)
        dom0.add("web", **({} if default else {"netvm": "sys-net"}))
        dom0.start("web")
        assert Expose(dom0)("web", "--ip", "192.168.16.25", "--allow", "tcp/22", "--yes").returncode == OK
        assert dom0["web"].live[:2] == ("sys-net", "192.168.16.25")
        assert ("netvm" in dom0["web"].explicit) != default


def on_terminal(command, env, answer):
    """Runs it on a terminal of its own and answers its question."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    os.close(slave)
    text, answered = b"", False
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 4096):
            text += chunk
            if b"[y/N]" in text and not answered:
                os.write(master, answer)
                answered = True
    process.wait(20)
    os.close(master)
    return process.returncode, text.decode()


@pytest.mark.parametrize("answer, moved", ((b"y\n", True), (b"\n", False), (b"no\n", False)))
def test_question_on_a_terminal(dom0, expose, answer, moved):
    env = dict(os.environ, QUBESD_SOCKET=dom0.socket, QUBESDB_DIRECTORY=dom0.folder)
    status, text = on_terminal(expose.command("web", "--ip", "192.168.16.25", "--allow", "tcp/22"), env, answer)
    assert status == OK and "Its connections are cut" in text
    assert (dom0["web"].live[1] == "192.168.16.25") is moved


def test_hvm_has_to_be_restarted():
    with Dom0() as dom0:
        dom0.add("sys-net", provides_network=True, netvm=None, qid=2)
        dom0.add("win", klass="StandaloneVM", netvm="sys-net", virt_mode="hvm")
        dom0.start("win")
        done = Expose(dom0)("win", "--ip", "192.168.16.25", "--allow", "tcp/3389", "--yes")
        assert done.returncode == OK and "when it is restarted" in done.stdout.replace("\n    ", " ")
        assert "anew" not in done.stdout
        assert dom0["win"].live[1] != "192.168.16.25"


@pytest.mark.parametrize("method, done_before", (("admin.vm.List", "the qubes cannot be read"),
                                                 ("admin.vm.property.Get", "reading the net qube")))
def test_answer_that_is_too_large(dom0, expose, method, done_before):
    dom0.set_property("web", "ip", "192.168.16.25")
    dom0.api._methods[method] = lambda *_: "x" * (5 << 20)
    done = expose("web", "--allow", "tcp/22", "--yes")
    assert done.returncode == FAILED
    assert f"{done_before}: " in done.stderr and f"the answer to {method} is longer than 4 MiB" in done.stderr
    assert "Argument list" not in done.stderr


def test_too_many_qubes(dom0, expose):
    dom0.api._methods["admin.vm.List"] = lambda *_: "".join(f"far{i} class=RemoteVM state=NA\n" for i in range(10001))
    done = expose("web")
    assert done.returncode == FAILED and "there are more than 10000 qubes" in done.stderr


def test_qubesd_refuses_half_way(dom0, expose):
    """What is written last opens: when it fails before, nothing is open; and it is said what was done."""
    original = dom0.api.dom0.set_feature

    def refuse(name, feature, value):
        if feature == METHOD:
            from lab.qubesd import Refused
            raise Refused("QubesVMError", "no space left \x1b[31m")
        original(name, feature, value)

    dom0.set_feature = refuse
    done = expose("web", "--allow", "tcp/22")
    assert done.returncode == FAILED
    assert "refuses: no space left" in done.stderr and "\x1b" not in done.stderr
    assert f"Was done: set feature {ALLOW}" in done.stderr
    assert METHOD not in dom0["web"].features


def test_no_qubesd(tmp_path):
    with Dom0() as dom0:
        expose = Expose(dom0, QUBESD_SOCKET=str(tmp_path / "none"))
        for words in (["--list"], ["web", "--off"], ["--map"], ["--check"]):
            done = subprocess.run(expose.command(*words), env=dict(os.environ, QUBESD_SOCKET=str(tmp_path / "none")),
                                  capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == FAILED and "qubesd" in done.stderr and "dom0" in done.stderr


def test_unknown_qube_and_dom0(dom0, expose):
    assert expose("nobody", "--off").returncode == FAILED
    assert expose("dom0", "--allow", "any").returncode == REFUSED
    assert expose("fedora", "--ip", "192.168.16.9").returncode == REFUSED
    assert written(dom0) == []


@pytest.mark.parametrize("feature", (METHOD, ALLOW, PUBLISH, EXPIRES, "network-server.limit"))
def test_every_printable_character_is_shown_safely(dom0, expose, feature):
    """Whatever stands in a feature: shown as it is or escaped, JSON and SVG stay whole, and it can be put right."""
    text = "".join(map(chr, range(0x20, 0x7f)))
    dom0.set_feature("web", METHOD, "forward")
    dom0.set_feature("web", feature, text)
    for words in (["web"], ["--list"], ["--map"], ["--explain", "web"], ["--check"]):
        done = expose(*words)
        assert done.returncode in (OK, PROBLEM)
        assert feature in done.stdout or words == ["--map"]
        assert not re.search(r"[^\x20-\x7e\n]", done.stdout) or words == ["--map"]
    shown = expose.json("web")
    assert shown["features"][feature] == text.replace("\\", "\\x5c")
    svg = f"{dom0.folder}/map.svg"
    assert expose("--map", "--svg", svg).returncode == OK
    __import__("xml.etree.ElementTree").etree.ElementTree.parse(svg)
    assert expose("web", "--off").returncode == OK
    assert dom0["web"].features == {}


def test_many_qubes(wait_until):
    """500 qubes are read and listed in a blink; the terminal shows progress only after a second."""
    del wait_until
    with Dom0() as dom0:
        dom0.add("sys-net", provides_network=True, netvm=None, qid=2)
        for i in range(500):
            dom0.add(f"q{i:03}", netvm="sys-net", features={METHOD: "forward"} if i % 10 == 0 else ())
        expose = Expose(dom0)
        begin = time.monotonic()
        assert len(expose.json("--list")) == 50
        assert time.monotonic() - begin < 10
        env = dict(os.environ, QUBESD_SOCKET=dom0.socket, QUBESDB_DIRECTORY=dom0.folder)
        timer = threading.Timer(0, dom0.block_answers, (2.5,))
        timer.start()
        status, text = on_terminal(expose.command("--list"), env, b"")
        timer.join()
        assert status == OK and "reading the qubes" in text
