# SPDX-License-Identifier: GPL-2.0-or-later
"""The stand-in qubesd itself: frames, answers, the order of events and of what is written into QubesDB, as captured from
the real one. The programs of dom0 are tested against it, so it must not be kinder than that."""

import os
import socket
import time

import pytest

from lab import topologies
from lab.dom0 import Dom0
from lab.lab import NetQubeNode, QubeNode
from lab.node import wait_until as lab_wait_until
from lab.qubesd import FLAVOURS, Listener, call, parse_events
from lab.qubesdb import Disconnected, QubesDB

NEW = ("4.3", "4.4")


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param


@pytest.fixture
def light(flavour):
    """sys-net, sys-fw behind it, testvm behind that, no machines."""
    with Dom0(flavour=flavour) as dom0:
        dom0.add("sys-net", provides_network=True, netvm=None, qid=2)
        dom0.add("sys-fw", provides_network=True, netvm="sys-net", qid=3)
        dom0.add("testvm", netvm="sys-fw", qid=4)
        yield dom0


@pytest.fixture
def running(light):
    light.start("testvm")
    return light


@pytest.fixture
def listen(light, wait_until):
    """listen() opens a stream; .until(EVENT) waits for one and gives all names so far."""
    made = []

    def make(dest="dom0"):
        listener = Listener(light.socket, dest)
        made.append(listener)

        def until(name):
            wait_until(lambda: name in listener.names(), what=f"event {name} in {listener.names()}")
            return listener.names()

        listener.until = until
        listener.clear()
        return listener

    yield make
    for listener in made:
        listener.close()


def ask(dom0, method, dest="dom0", arg="", payload=b""):
    return call(dom0.socket, method, dest, payload, arg)


def refusal(answer):
    kind, name, trace, message, rest = answer.split(b"\0")
    assert kind == b"2" and trace == b"" and rest == b""
    return name.decode(), message.decode()


# -- frames --------------------------------------------------------------------------------------------------------------

def test_captured_property(light):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(light.socket)
        sock.sendall(bytes.fromhex(
            "61 64 6d 69 6e 2e 76 6d 2e 70 72 6f 70 65 72 74 79 2e 47 65 74 2b 69 70 20 64 6f 6d 30 20 6e 61 6d 65 20"
            "74 65 73 74 76 6d 00"))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(4096) == bytes.fromhex(
            "30 00 64 65 66 61 75 6c 74 3d 54 72 75 65 20 74 79 70 65 3d 73 74 72 20 31 30 2e 31 33 37 2e 30 2e 34")
        assert sock.recv(4096) == b""


def test_captured_feature(light):
    assert ask(light, "admin.vm.feature.Get", "testvm", "routing-method") == \
        b"2\0QubesFeatureNotFoundError\0\0Feature not set for domain testvm: routing-method\0"
    assert ask(light, "admin.vm.feature.Set", "testvm", "routing-method", b"forward") == b"\x30\x00"
    assert ask(light, "admin.vm.feature.Get", "testvm", "routing-method") == b"0\0forward"
    assert ask(light, "admin.vm.feature.List", "testvm") == b"0\0routing-method\n"


def test_captured_events(light, wait_until):
    light.set_feature("testvm", "routing-method", "forward")
    listener = Listener(light.socket, "testvm")
    assert listener.raw == b"\x31\x00" b"\x00" b"connection-established\x00" b"\x00"
    light.set_feature("testvm", "routing-method", "masquerade")
    frame = bytes.fromhex(
        "31 00 74 65 73 74 76 6d 00 64 6f 6d 61 69 6e 2d 66 65 61 74 75 72 65 2d 73 65 74 3a 72 6f 75 74 69 6e 67 2d 6d"
        "65 74 68 6f 64 00 66 65 61 74 75 72 65 00 72 6f 75 74 69 6e 67 2d 6d 65 74 68 6f 64 00 76 61 6c 75 65 00 6d 61"
        "73 71 75 65 72 61 64 65 00 6f 6c 64 76 61 6c 75 65 00 66 6f 72 77 61 72 64 00 00")
    wait_until(lambda: listener.raw.endswith(frame), what="the frame")
    assert len(listener.events) == 3
    listener.close()


def test_header_forms(light):
    def raw(data, end=True):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(0.2)
            sock.connect(light.socket)
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
            got = b""
            while more := sock.recv(4096):
                got += more
            return got

    plain = raw(b"admin.vm.List+ dom0 name dom0\0")
    assert plain.startswith(b"0\0dom0 class=AdminVM state=Running")
    assert raw(b"admin.vm.List dom0 name dom0\0") == raw(b"admin.vm.List+ dom0 keyword adminvm\0") == plain
    for wrong in (b"", b"admin.vm.List+ dom0 name dom0", b"admin.vm.List+ dom0 dom0\0", b"\0",
                  b"admin.vm.List+ dom0 name dom0\0" + b"x" * 65536):
        assert raw(wrong) == b"", wrong[:40]
    whole = b"admin.vm.feature.Set+a dom0 name testvm\0"
    assert raw(whole + b"x" * (65536 - len(whole))) == b"0\0"
    with pytest.raises(TimeoutError):  # without the end of the request nothing is answered
        raw(b"admin.vm.List+ dom0 name dom0\0", end=False)


def test_what_has_no_answer(light, flavour):
    for answer, kind in ((ask(light, "admin.nonsense"), "ProtocolError"),
                         (ask(light, "admin.vm.List", payload=b"x"), "ProtocolError"),
                         (ask(light, "admin.vm.List", arg="x"), "ProtocolError"),
                         (ask(light, "admin.vm.feature.Set", "testvm", "no/slash", b"1"), "ProtocolError"),
                         (ask(light, "admin.vm.feature.Set", "testvm", "a", b"\x07"), "ProtocolError")):
        assert refusal(answer)[0] == kind if flavour == "4.4" else answer == b""
    kept = ask(light, "admin.vm.feature.Set", "testvm", "deferred-netvm-original", b"x")
    assert {"4.2": kept == b"0\0", "4.3": kept == b"", "4.4": kept.startswith(b"2\0PermissionDenied\0")}[flavour]
    assert refusal(ask(light, "admin.vm.List", "nobody"))[0] == "QubesVMNotFoundError"
    assert refusal(ask(light, "admin.vm.property.Get", "testvm", "nothing"))[0] == "QubesNoSuchPropertyError"


def test_list_and_state(light, flavour):
    def line():
        return [line for line in ask(light, "admin.vm.List").decode()[2:].splitlines() if line.startswith("testvm")][0]

    assert line().startswith("testvm class=AppVM state=Halted")
    assert ("uuid=" in line()) == (flavour in NEW)
    states = {}
    for step in ("vif-online", "domain-spawn", "boot", "domain-start"):
        light.at(step, lambda name, step=step: states.setdefault(step, line().split()[2]) if name == "testvm" else None)
    light.start("testvm")
    starting = "state=Starting" if flavour == "4.4" else "state=Transient"
    assert states == {"vif-online": "state=Paused", "domain-spawn": "state=Paused", "boot": starting,
                      "domain-start": "state=Running"}
    assert b"power_state=Running" in ask(light, "admin.vm.CurrentState", "testvm")
    if flavour in NEW:
        number = line().split("uuid=")[1]
        assert ask(light, "admin.vm.property.Get", f"uuid:{number}", "ip") == b"0\0default=True type=str 10.137.0.4"


def test_get_all(light):
    lines = ask(light, "admin.vm.property.GetAll", "testvm").decode()[2:].splitlines()
    assert lines == sorted(lines)
    told = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines}
    assert told["netvm"] == "default=False type=vm sys-fw"
    assert told["ip"] == "default=True type=str 10.137.0.4"
    assert told["ip6"] == "default=True type=str "
    assert told["provides_network"] == "default=True type=bool False"
    assert told["kernelopts"] == r"default=True type=str swiotlb=2048 note=a\\b\nc"
    assert told["template"] == "default=False type=vm fedora" and told["xid"] == "default=True type=int -1"
    light.set_netvm("testvm", None)
    assert ask(light, "admin.vm.property.Get", "testvm", "netvm") == b"0\0default=False type=vm "
    assert b"netvm" not in ask(light, "admin.vm.property.GetAll", "dom0")


def test_any_address_is_taken(light):
    for text in ("192.168.16.26", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.137.0.3"):
        assert ask(light, "admin.vm.property.Set", "testvm", "ip", text.encode()) == b"0\0"
    light.add("twin", netvm="sys-fw")
    assert ask(light, "admin.vm.property.Set", "twin", "ip", b"10.137.0.3") == b"0\0"  # nobody looks for duplicates
    for text in ("::1", "fe80::1", "fe80::1%eth0"):
        assert ask(light, "admin.vm.property.Set", "testvm", "ip6", text.encode()) == b"0\0"
    for text in ("1.2.3.04", " 1.2.3.4", "1.2.3", ""):
        assert refusal(ask(light, "admin.vm.property.Set", "testvm", "ip", text.encode()))[0] == "QubesValueError"


def test_inherited_features(light):
    light.add("dvm", template_for_dispvms=True, netvm="sys-fw")
    disposable = light.create_disposable("dvm")
    light.set_feature("fedora", "routing-method", "forward")
    assert ask(light, "admin.vm.feature.CheckWithTemplate", disposable, "routing-method") == b"0\0forward"
    light.set_feature("dvm", "routing-method", "")
    assert ask(light, "admin.vm.feature.CheckWithTemplate", disposable, "routing-method") == b"0\0"
    assert ask(light, "admin.vm.feature.Get", disposable, "routing-method").startswith(b"2\0")
    light.set_feature("sys-net", "ipv6", "1")
    assert ask(light, "admin.vm.feature.CheckWithNetvm", "testvm", "ipv6") == b"0\x001"
    assert ask(light, "admin.vm.property.Get", "testvm", "ip6") == b"0\0default=True type=str fd09:24ef:4179::a89:4"


# -- events --------------------------------------------------------------------------------------------------------------

def start_order(flavour, name="testvm"):
    order = ["domain-pre-spawn", "property-reset:xid", "property-reset:stubdom_xid", "property-reset:start_time",
             "domain-spawn", "domain-qdb-create", "domain-pre-unpaused", "domain-unpaused", "domain-start"]
    if flavour == "4.2":
        order.remove("domain-pre-unpaused")
        order[-2:] = ["domain-start", "domain-unpaused"]
    return [f"{name} {event}" for event in order]


def test_start(light, listen, flavour):
    stream = listen()
    light.start("testvm")
    last = start_order(flavour)[-1]
    assert stream.until(last) == (
        ["testvm domain-pre-start", "sys-fw domain-pre-start", "sys-net domain-pre-start"] +
        start_order(flavour, "sys-net") + start_order(flavour, "sys-fw") + start_order(flavour))
    guids = {pairs["start_guid"] for who, event, pairs in stream.events if who == "testvm" and "start_guid" in pairs}
    assert len(guids) == 1


def test_start_writes_before_the_vif(light, listen, wait_until):
    light.start("sys-fw")
    stream, seen = listen(), {}

    def look(_name):
        seen["keys"] = light.keys("sys-fw", "")
        seen["socket"] = os.path.exists(light.database("testvm"))

    def told(_name):
        wait_until(lambda: "testvm domain-pre-spawn" in stream.names(), what="told before anything is written")
        seen["before"] = [key for key in light.keys("sys-fw", "") if "10.137.0.4" in key]

    light.at("netvm-keys", told, "testvm")
    light.at("vif-online", look, "testvm")
    light.at("domain-qdb-create", lambda name: seen.update(own=light.keys("testvm", "")), "testvm")
    light.at("domain-spawn", lambda name: seen.update(early=os.path.exists(light.database("testvm"))), "testvm")
    light.start("testvm")
    keys = seen["keys"]
    assert seen["before"] == [] and not seen["socket"] and not seen["early"]
    assert keys["/connected-ips"] == "10.137.0.4" and keys["/connected-ips6"] == ""
    assert keys["/mapped-ip/10.137.0.4/visible-ip"] == "10.137.0.4"
    assert keys["/mapped-ip/10.137.0.4/visible-gateway"] == "10.137.0.3"
    assert keys["/qubes-firewall/10.137.0.4/policy"] == "drop"
    assert keys["/qubes-firewall/10.137.0.4/0000"] == "action=accept"
    assert keys["/qubes-firewall/10.137.0.4"] == ""
    assert seen["own"]["/qubes-ip"] == "10.137.0.4" and seen["own"]["/qubes-gateway"] == "10.137.0.3"


def test_firewall_block(running):
    light = running
    with QubesDB(light.database("sys-fw")) as db:
        db.watch("/qubes-firewall/")
        light.set_firewall("testvm", ["action=accept dst4=1.2.3.0/24 proto=tcp dstports=22-22",
                                      "action=accept dst6=2001:db8::/32", "action=drop"])
        base = "/qubes-firewall/10.137.0.4"
        events = []
        while not events or events[-1] != base:
            events.append(db.next_event(2))
        # the rule of the other family leaves a gap
        assert events == [f"{base}/", f"{base}/policy", f"{base}/0000", f"{base}/0002", base]
        count = light.qubesd.calls.get("admin.vm.firewall.Reload", 0)
        assert ask(light, "admin.vm.firewall.Reload", "testvm") == b"0\0"
        assert light.qubesd.calls["admin.vm.firewall.Reload"] == count + 1 and light.reloads == ["testvm"]
        assert db.next_event(2) == f"{base}/"


def test_stop_writes_nothing(running, listen):
    stream = listen()
    before = running.keys("sys-fw", "")
    running.shutdown("testvm")
    assert stream.until("testvm domain-shutdown") == [
        "testvm domain-pre-shutdown", "testvm domain-stopped", "testvm domain-shutdown"]
    assert running.keys("sys-fw", "") == before and before
    assert not os.path.exists(running.database("testvm"))


def test_net_qube_killed_and_started_again(running, listen, flavour):
    stream = listen()
    running.kill("sys-fw")
    assert running["testvm"].live is None and not os.path.exists(running.database("sys-fw"))
    assert stream.until("sys-fw domain-shutdown") == ["sys-fw domain-stopped", "sys-fw domain-shutdown"]
    stream.clear()
    seen = {}
    running.at("domain-qdb-create", lambda name: seen.update(keys=running.keys("sys-fw", "")), "sys-fw")
    running.at("boot", lambda name: seen.update(live=running["testvm"].live), "sys-fw")
    running.start("sys-fw")
    names = stream.until(start_order(flavour, "sys-fw")[-1])
    assert not any(name.startswith("testvm") or "net-domain" in name for name in names)
    assert seen["keys"]["/qubes-firewall/10.137.0.4/policy"] == "drop" and seen["live"] is None
    assert running["testvm"].live[0] == "sys-fw"


def test_net_qube_in_use_is_not_shut_down(running):
    assert refusal(ask(running, "admin.vm.Shutdown", "sys-fw"))[0] == "QubesVMInUseError"
    assert ask(running, "admin.vm.Shutdown", "sys-fw", "force") == b"0\0"


def change_order(netvm, more=()):
    return ["testvm property-pre-set:netvm", "testvm domain-qdb-create", f"{netvm} net-domain-connect",
            "testvm property-set:netvm"]


def test_netvm_changed_live(running, listen):
    stream, seen = listen(), {}
    running.at("vif-offline", lambda name: seen.update(old=running.keys("sys-fw", "/connected")), "testvm")
    running.at("vif-online", lambda name: seen.update(
        blocked="/qubes-firewall/10.137.0.4" in running.keys("sys-net", ""),
        mapped="/mapped-ip/10.137.0.4/visible-ip" in running.keys("sys-net", ""),
        connected=running.keys("sys-fw", "/connected")["/connected-ips"]), "testvm")
    running.at("net-domain-connect", lambda name: seen.update(late="/qubes-firewall/10.137.0.4" in running.keys("sys-net", "")))
    running.set_netvm("testvm", "sys-net")
    assert stream.until("testvm property-set:netvm") == change_order("sys-net")
    pairs = stream.events[-1][2]
    assert pairs == {"name": "netvm", "newvalue": "sys-net", "oldvalue": "sys-fw"}
    assert stream.events[-2][2] == {"vm": "testvm"}
    assert seen == {"old": {"/connected-ips": "10.137.0.4", "/connected-ips6": ""}, "blocked": False, "mapped": True,
                    "connected": "", "late": True}
    # nothing was taken away in the old one
    assert "/qubes-firewall/10.137.0.4/policy" in running.keys("sys-fw", "")


def test_netvm_none_and_back_to_default(running, listen):
    running.model.default_netvm = "sys-net"
    stream = listen()
    running.set_netvm("testvm", None)
    assert stream.until("testvm property-set:netvm") == ["testvm property-pre-set:netvm", "testvm property-set:netvm"]
    assert stream.events[-1][2]["newvalue"] == "None" and running["testvm"].live is None
    stream.clear()
    assert ask(running, "admin.vm.property.Reset", "testvm", "netvm") == b"0\0"
    assert stream.until("testvm property-del:netvm") == [
        "testvm property-pre-reset:netvm", "testvm property-pre-set:netvm", "testvm property-pre-del:netvm",
        "testvm domain-qdb-create", "sys-net net-domain-connect", "testvm property-set:netvm",
        "testvm property-reset:netvm", "testvm property-del:netvm"]
    assert running["testvm"].live[0] == "sys-net"


def test_netvm_refusals(running):
    running.shutdown("testvm")
    running.shutdown("sys-fw")
    assert ask(running, "admin.vm.property.Set", "testvm", "netvm", b"sys-net") == b"0\0"
    running.start("testvm")
    assert refusal(ask(running, "admin.vm.property.Set", "testvm", "netvm", b"sys-fw")) == \
        ("QubesVMNotRunningError", "Cannot dynamically attach to stopped qube")
    assert refusal(ask(running, "admin.vm.property.Set", "sys-net", "netvm", b"sys-fw"))[0] == "QubesValueError"
    assert refusal(ask(running, "admin.vm.property.Set", "testvm", "netvm", b"testvm"))[0] == "QubesValueError"


def test_default_netvm(running, listen):
    running.model.default_netvm = "sys-fw"
    del running["testvm"].explicit["netvm"]
    stream = listen()
    assert ask(running, "admin.property.Set", arg="default_netvm", payload=b"sys-net") == b"0\0"
    assert stream.until("property-set:default_netvm") == [
        "property-pre-set:default_netvm", "testvm domain-qdb-create", "sys-net net-domain-connect",
        "testvm property-set:netvm", "testvm property-reset:netvm", "property-set:default_netvm"]
    assert stream.events[-1][2] == {"name": "default_netvm", "newvalue": "sys-net", "oldvalue": "sys-fw"}
    assert ask(running, "admin.property.Get", arg="default_netvm") == b"0\0default=False type=vm sys-net"


def test_paused(running, listen, flavour):
    stream = listen()
    running.pause("testvm")
    before = (["testvm domain-pre-paused"] if flavour in NEW else []) + ["testvm domain-paused"]
    assert stream.until("testvm domain-paused") == before
    stream.clear()
    running.set_netvm("testvm", "sys-net")
    deferred = [f"testvm domain-feature-{verb}:deferred-netvm-original" for verb in ("pre-set", "set")]
    names = stream.until("testvm property-set:netvm")
    assert [name for name in names if "deferred" not in name] == change_order("sys-net")
    assert [name for name in names if "deferred" in name] == (deferred if flavour in NEW else [])
    assert running["testvm"].live[0] == ("sys-fw" if flavour in NEW else "sys-net")
    assert "/qubes-firewall/10.137.0.4" in running.keys("sys-net", "")
    assert running.keys("sys-fw", "/connected")["/connected-ips"] == ""
    stream.clear()
    running.unpause("testvm")
    names = stream.until("testvm domain-unpaused")
    assert running["testvm"].live[0] == "sys-net" and running["testvm"].features == {}
    if flavour == "4.2":
        assert names == ["testvm domain-unpaused"]
    else:
        assert names == ["testvm domain-pre-unpaused"] + change_order("sys-net") + [
            "testvm domain-feature-pre-delete:deferred-netvm-original",
            "testvm domain-feature-delete:deferred-netvm-original", "testvm domain-unpaused"]


def test_address_changed_while_running(running, listen):
    stream = listen()
    before = running.keys("sys-fw", ""), running.keys("testvm", "")
    running.set_property("testvm", "ip", "192.168.16.77")
    assert stream.until("testvm property-set:ip") == [
        "testvm property-pre-set:ip", "testvm property-reset:visible_ip", "testvm property-set:ip"]
    assert (running.keys("sys-fw", ""), running.keys("testvm", "")) == before
    assert running["testvm"].live[1] == "10.137.0.4"
    running.add("second", netvm="sys-fw")
    running.start("second")  # any start writes the list with the new address
    assert "192.168.16.77" in running.keys("sys-fw", "/connected")["/connected-ips"]
    running.set_netvm("testvm", None)
    running.set_netvm("testvm", "sys-fw")
    assert running["testvm"].live[1] == "192.168.16.77"
    assert running.keys("testvm", "")["/qubes-ip"] == "192.168.16.77"
    assert "/qubes-firewall/10.137.0.4/policy" in running.keys("sys-fw", "")  # for ever


def test_features_tell_of_one_qube(light, listen):
    stream = listen()
    light.set_feature("fedora", "routing-method", "forward")
    light.set_feature("fedora", "routing-method", "forward")
    light.remove_feature("fedora", "routing-method")
    assert stream.until("fedora domain-feature-delete:routing-method") == [
        f"fedora domain-feature-{verb}:routing-method"
        for verb in ("pre-set", "set", "pre-set", "set", "pre-delete", "delete")]
    assert stream.events[1][2] == {"feature": "routing-method", "value": "forward"}
    assert stream.events[3][2] == {"feature": "routing-method", "value": "forward", "oldvalue": "forward"}
    assert stream.events[5][2] == {"feature": "routing-method"}


def test_feature_to_qubesdb(running):
    running.set_feature("testvm", "vm-config.expose", "x")
    running.set_feature("testvm", "service.qubes-vpn", "")
    assert running.keys("testvm", "/vm-config") == {"/vm-config/expose": "x"}
    assert running.keys("testvm", "/qubes-service") == {"/qubes-service/qubes-vpn": "0"}
    running.remove_feature("testvm", "vm-config.expose")
    assert running.keys("testvm", "/vm-config") == {}


def test_clone_disposable_remove(light, listen):
    light.set_property("testvm", "ip", "192.168.16.25")
    light.set_property("testvm", "template_for_dispvms", "True")
    light.set_feature("testvm", "routing-method", "forward")
    stream = listen()
    light.clone("testvm", "renamed")
    assert stream.until("domain-add") == ["domain-add"]
    assert stream.events[0][2] == {"vm": "renamed"}
    for copy in ("renamed", light.create_disposable("testvm")):
        assert ask(light, "admin.vm.property.Get", copy, "ip") == b"0\0default=False type=str 192.168.16.25"
        assert ask(light, "admin.vm.feature.Get", copy, "routing-method") == b"0\0forward"
    light.remove_feature("testvm", "routing-method")
    assert ask(light, "admin.vm.feature.Get", copy, "routing-method") == b"0\0forward"  # copied at its making
    light.start(copy)
    stream.until(f"{copy} domain-start")
    stream.until(f"{copy} domain-unpaused")
    stream.clear()
    light.kill(copy)
    assert stream.until("domain-delete") == [f"{copy} domain-stopped", f"{copy} domain-shutdown", "domain-pre-delete",
                                             "domain-delete"]
    assert refusal(ask(light, "admin.vm.List", copy))[0] == "QubesVMNotFoundError"


def test_template_only_while_halted(running):
    running.add("other-template", "TemplateVM")
    assert refusal(ask(running, "admin.vm.property.Set", "testvm", "template", b"other-template"))[0] == \
        "QubesVMNotHaltedError"


def test_stream_of_one_qube(light, listen):
    stream = listen("testvm")
    light.set_feature("sys-net", "a", "1")
    light.set_feature("testvm", "b", "1")
    assert stream.until("testvm domain-feature-set:b") == ["testvm domain-feature-pre-set:b", "testvm domain-feature-set:b"]


# -- troubles ------------------------------------------------------------------------------------------------------------

def test_events_while_answers_are_blocked(light, listen):
    stream = listen()
    light.block_answers(0.4)
    began = time.monotonic()
    light.set_feature("testvm", "a", "1")
    stream.until("testvm domain-feature-set:a")
    assert time.monotonic() - began < 0.3
    assert ask(light, "admin.vm.feature.Get", "testvm", "a") == b"0\x001"
    assert time.monotonic() - began >= 0.4


def test_start_blocks_answers_not_events(light, listen):
    light.start("sys-fw")
    stream = listen()
    with light.until("vif-online", light.start, "testvm"):
        assert "testvm domain-pre-spawn" in stream.until("testvm domain-pre-spawn")
        assert light["testvm"].live is None
        assert ask(light, "admin.vm.List").startswith(b"0\0")
    assert light["testvm"].live[0] == "sys-fw"


def test_unread_events_are_kept(light):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(light.socket)
        sock.sendall(b"admin.Events+ dom0 name dom0\0")
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while not got.endswith(b"connection-established\0\0"):  # in pieces, as 4.2 writes it
            got += sock.recv(4096)
        for _number in range(40):
            light.set_feature("testvm", "big", "x" * 60000)
        assert light.qubesd.buffered() > 2000000
        got = b""
        while got.count(b"domain-feature-set:big") < 40 or not got.endswith(b"\0\0"):
            got += sock.recv(1 << 20)
        assert len(parse_events(got)[0]) == 80 and light.qubesd.buffered() == 0


def test_split_events(light, flavour, wait_until):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(light.socket)
        sock.sendall(b"admin.Events+ dom0 name dom0\0")
        sock.shutdown(socket.SHUT_WR)
        time_limit = time.monotonic() + 2
        while light.qubesd.streams() == 0 and time.monotonic() < time_limit:
            time.sleep(0.001)
        assert light.qubesd.split == (flavour == "4.2")
        light.qubesd.dribble = True
        light.set_feature("testvm", "a", "1")
        rest, events = b"", []
        while len(events) < 3:
            new, rest = parse_events(rest + sock.recv(7))
            events += new
        assert events[-1] == ("testvm", "domain-feature-set:a", {"feature": "a", "value": "1"})


def test_cut_in_the_middle_of_a_frame(light, listen):
    stream = listen()
    light.cut_stream(after=11)
    light.set_feature("testvm", "a", "1")
    assert stream.ended.wait(5) and stream.names() == [] and stream.rest == b"1\0testvm\0do"
    again = listen()
    light.cut_stream()
    assert again.ended.wait(5)


def test_restart(running, listen, flavour):
    stream = listen()
    with running.qubesd_down(crash=False):
        assert stream.ended.wait(5)
        with pytest.raises(ConnectionRefusedError if flavour == "4.2" else FileNotFoundError):
            ask(running, "admin.vm.List")
        assert running.keys("testvm", "/name") == {"/name": "testvm"}  # databases go on
        running.dies_unseen("testvm")
    assert b"testvm class=AppVM state=Halted" in ask(running, "admin.vm.List")
    with running.qubesd_down(crash=True), pytest.raises(ConnectionRefusedError):
        ask(running, "admin.vm.List")
    assert listen().names() == []


def test_replaced_database(running):
    with QubesDB(running.database("sys-fw")) as old:
        running.replace_database("sys-fw")
        with pytest.raises(Disconnected):
            old.read("/name")
    assert running.keys("sys-fw", "") == {}


# -- with machines -------------------------------------------------------------------------------------------------------

def out(dom0, *names):
    """Do these qubes, and no other, get out to the LAN, soon?"""
    def now():
        dom0.settle_firewalls()
        return {vm.name for vm in dom0.model.sorted() if vm.is_running and isinstance(vm.node, QubeNode)
                and not isinstance(vm.node, NetQubeNode) and vm.node.can_reach("192.168.16.10", 80)}

    lab_wait_until(lambda: now() == set(names), 5, f"{names} reach the LAN")


def test_machines(dom0_lab, flavour):
    dom0 = dom0_lab(flavour)
    net = dom0.lab
    net["lan1"].serve_tcp(80)
    chains = net["sys-firewall"].run(["nft", "list", "table", "ip", "qubes-firewall"]).stdout
    assert ("qubes-forward" in chains) == (flavour in NEW)
    out(dom0, "web", "other", "hidden", "peer")
    dom0.shutdown("web")
    dom0.start("web")
    assert net["web"].vif == f"vif{dom0['web'].xid}.0"
    out(dom0, "web", "other", "hidden", "peer")
    dom0.set_netvm("web", "sys-fw2")
    assert net["web"].netvm.name == "sys-fw2"
    out(dom0, "web", "other", "hidden", "peer")
    dom0.set_netvm("web", None)
    out(dom0, "other", "hidden", "peer")
    dom0.reset_netvm("web")
    dom0.kill("sys-firewall")
    out(dom0, "hidden", "peer")
    dom0.start("sys-firewall")
    out(dom0, "web", "other", "hidden", "peer")
    dom0.kill("sys-net")
    out(dom0, "peer")
    dom0.start("sys-net")
    out(dom0, "web", "other", "hidden", "peer")
    dom0.pause("web")
    out(dom0, "other", "hidden", "peer")
    dom0.set_netvm("web", "sys-fw2")
    assert net["web"].netvm.name == ("sys-firewall" if flavour in NEW else "sys-fw2")
    dom0.unpause("web")
    assert net["web"].netvm.name == "sys-fw2"
    out(dom0, "web", "other", "hidden", "peer")
    dom0.clone("hidden", "copy", node=True)
    dom0.kill("hidden")
    dom0.remove("hidden")
    dom0.start("copy")
    assert net["copy"].spec.ip == "192.168.16.26"
    out(dom0, "web", "other", "copy", "peer")


def test_firewall_daemon(dom0_lab, flavour):
    """Blocks are applied when they are committed; without a policy nothing gets out; a removed one stays applied."""
    dom0 = dom0_lab(flavour, topologies.CHAIN)
    net = dom0.lab
    net["lan1"].serve_tcp(80)
    net["lan1"].serve_tcp(81)

    def ports():
        dom0.settle_firewalls()
        return [port for port in (80, 81) if net["web"].can_reach("192.168.16.10", port)]

    assert ports() == [80, 81]
    dom0.set_firewall("web", ["action=accept dst4=192.168.16.10/32 proto=tcp dstports=81-81", "action=drop"])
    assert ports() == [81]
    base = "/qubes-firewall/192.168.16.25"
    with dom0.qdb("sys-firewall") as db:
        db.write(f"{base}/policy", "accept")
        assert ports() == [81]  # not committed
        db.rm(f"{base}/0001")
        db.write(base, "")
        assert ports() == [80, 81]
        db.rm(f"{base}/")
        assert ports() == [80, 81]
        db.write(base, "")
        assert ports() == [] and "192.168.16.25: no policy" in dom0["sys-firewall"].firewall_daemon.problems
        assert int(db.read("/qubes-firewall-handled/192.168.16.25")) >= 3
    dom0.reload_firewall("web")
    assert ports() == [81]
