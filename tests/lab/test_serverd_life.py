# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-network-serverd through what happens to qubes: after each event exactly the records with an owner stand."""

import json
import os
import signal
import threading
from contextlib import contextmanager

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
    """web runs and is exposed."""
    world.expose()
    world.exposed()
    return world


def late_answers(world, name):
    """qubesd's server, and what to set before it tells of this qube."""
    serve, event = world.dom0.qubesd.serve, threading.Event()

    def late(method, arg, dest, payload):
        if dest == name and method.endswith("GetAll"):
            event.wait(10)
        return serve(method, arg, dest, payload)
    return late, event


def test_expose_running(world):
    world.dom0.start("web")
    world.settle()
    assert world.markers() == {"sys-net", "sys-fw", "sys-fw2"}
    world.dom0.set_feature("web", "routing-method", "forward")
    world.exposed()
    assert world.inbound() == {"web": f"v=1|{A} allow=any"}
    world.dom0.set_feature("web", "network-server.allow", "tcp/22,443")
    world.wait(lambda: world.records()["sys-net", A].get("allow") == "tcp/22,443", "allow")
    world.wait(lambda: world.inbound() == {"web": f"v=1|{A} allow=tcp/22,443"}, "inbound")
    world.dom0.set_feature("web", "network-server.allow", "tcp/nonsense")
    world.settle()
    assert "network-server.allow" in world.serverd.log
    world.dom0.remove_feature("web", "network-server.allow")
    world.exposed()
    world.dom0.remove_feature("web", "routing-method")
    world.settle()


def test_start_order(world):
    """The records are there before the vif, without a number; the number is there before the guest runs."""
    world.dom0.set_feature("web", "routing-method", "forward")
    with world.dom0.until("vif-online", world.dom0.start, "web", qube="web"):
        world.wait(lambda: {key: fields["xid"] for key, fields in world.records().items()} ==
                   {("sys-fw", A): "pending", ("sys-net", A): "pending"}, "records without a number")
        assert world.accepts() == {("sys-net", A)}
    world.exposed()
    world.dom0.shutdown("web")
    world.settle()
    with world.dom0.until("unpause", world.dom0.start, "web", qube="web"):
        world.exposed()
    world.exposed()


def test_read_while_announced(web):
    """qubesd goes on saying Halted between domain-pre-spawn and the creation of the domain: no reason to take it back."""
    web.dom0.shutdown("web")
    web.settle()
    with web.dom0.until("netvm-keys", web.dom0.start, "web", qube="web"):
        asked = web.dom0.qubesd.calls["admin.vm.property.GetAll"]
        web.wait(lambda: web.dom0.qubesd.calls["admin.vm.property.GetAll"] > asked, "reading")
        web.wait(web.calm, "calm")
        assert {key: fields["xid"] for key, fields in web.records().items()} == \
            {("sys-fw", A): "pending", ("sys-net", A): "pending"}
    web.exposed()
    web.dom0.shutdown("web")
    web.settle()
    with web.dom0.until("netvm-keys", web.dom0.start, "web", qube="web"):
        web.wait(web.records, "records")
        web.dom0.qubesd.emit("web", "domain-start-failed", {"reason": "no memory"})
        web.settle()


def test_whole_chain_starts(world):
    """Starting web starts its halted net qubes; at every moment only what runs is told."""
    world.dom0.set_feature("web", "routing-method", "forward")
    for name in ("sys-fw", "sys-fw2", "sys-net"):
        world.dom0.shutdown(name)
    world.settle()
    world.dom0.start("web")
    world.exposed()


@pytest.mark.parametrize("how", ["shutdown", "kill"])
def test_end(web, how):
    getattr(web.dom0, how)("web")
    web.settle()
    assert web.markers() == {"sys-net", "sys-fw", "sys-fw2"}
    web.dom0.start("web")
    web.exposed()


def test_another_takes_the_address(web):
    """Who gets the address next is exposed only by his own feature."""
    web.dom0.shutdown("web")
    web.dom0.set_property("other", "ip", A)
    web.dom0.start("other")
    web.settle()


@pytest.mark.parametrize("victim", ["sys-fw", "sys-net"])
def test_net_qube_killed(web, victim):
    web.dom0.kill(victim)
    web.settle()
    with web.dom0.until("boot", web.dom0.start, victim, qube=victim):
        web.settle(("web", A, ["sys-fw", "sys-net"]))  # all is told before the net qube itself runs
    web.exposed()


def test_net_qube_killed_with_another_address_in_wait(web):
    """A restarted net qube attaches its clients anew, with the address that they have by then."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    web.dom0.kill("sys-fw")
    web.settle()
    web.dom0.start("sys-fw")
    web.exposed(B)


def test_netvm_changed(web):
    with web.dom0.until("vif-offline", web.dom0.set_netvm, "web", "sys-fw2", qube="web"):
        web.settle()  # before the vif moves nothing stands anywhere
    web.settle(("web", A, ["sys-fw2", "sys-net"]))
    web.dom0.reset_netvm("web")
    web.exposed()
    web.dom0.set_netvm("web", None)
    web.settle()
    web.dom0.set_netvm("web", "sys-fw")
    web.exposed()


def test_netvm_is_the_upper_hop(web):
    """The block of the upper hop becomes qubesd's own, with its rules, and back."""
    web.dom0.set_firewall("web", ["action=drop dst4=10.0.0.0/8", "action=accept"])
    web.dom0.set_netvm("web", "sys-net")
    web.settle(("web", A, ["sys-net"]))
    block = web.dom0.keys("sys-net", f"/qubes-firewall/{A}/")
    assert block == {f"/qubes-firewall/{A}/policy": "drop",
                     f"/qubes-firewall/{A}/0000": "action=drop dst4=10.0.0.0/8",
                     f"/qubes-firewall/{A}/0001": "action=accept"}
    web.dom0.set_netvm("web", "sys-fw")
    web.exposed()
    assert web.dom0.keys("sys-net", f"/qubes-firewall/{A}/") == {f"/qubes-firewall/{A}/policy": "accept"}


def test_hop_is_moved(web):
    """sys-fw itself gets another net qube."""
    web.dom0.add("sys-net2", provides_network=True, netvm=None, qid=7)
    web.dom0.start("sys-net2")
    with web.dom0.until("vif-offline", web.dom0.set_netvm, "sys-fw", "sys-net2", qube="sys-fw"):
        web.settle()
    web.settle(("web", A, ["sys-fw", "sys-net2"]))


def test_refused_change_of_netvm(web):
    """qubesd says that it is going to, and then does not."""
    web.dom0.qubesd.emit("web", "property-pre-set:netvm", {"name": "netvm", "newvalue": "sys-fw2", "oldvalue": "sys-fw"})
    web.wait(lambda: "not exposed" in web.serverd.log, "it was taken back")
    web.exposed()


def test_paused(web):
    web.dom0.pause("web")
    web.exposed()
    web.dom0.set_netvm("web", "sys-fw2")
    if web.flavour == "4.2":  # the vif is moved at once
        web.settle(("web", A, ["sys-fw2", "sys-net"]))
    else:  # it stays where it is
        web.exposed()
    web.dom0.unpause("web")
    web.settle(("web", A, ["sys-fw2", "sys-net"]))
    web.dom0.pause("web")
    web.dom0.set_netvm("web", "sys-net")
    web.dom0.unpause("web")
    web.settle(("web", A, ["sys-net"]))
    assert ("sys-net", A) not in web.accepts()


def test_paused_back_again(web):
    """To another net qube and back to the default one while it is paused."""
    web.dom0.pause("web")
    web.dom0.set_netvm("web", "sys-fw2")
    web.dom0.reset_netvm("web")
    web.dom0.unpause("web")
    web.exposed()


def test_paused_and_killed(web):
    """It was to be moved when it goes on, and is killed instead: the next life begins at its new net qube."""
    web.dom0.pause("web")
    web.dom0.set_netvm("web", "sys-fw2")
    web.dom0.kill("web")
    web.settle()
    web.dom0.start("web")
    web.settle(("web", A, ["sys-fw2", "sys-net"]))
    web.serverd.restart()
    web.settle(("web", A, ["sys-fw2", "sys-net"]))


def test_ip_changed(web):
    """A running qube keeps the address it has: that of its vif."""
    web.dom0.set_property("web", "ip", B)
    web.wait(lambda: "property-set:ip" in web.serverd.log, "event")
    web.exposed(A)
    web.serverd.restart()
    web.exposed(A)
    web.dom0.set_netvm("web", None)
    web.settle()
    web.dom0.set_netvm("web", "sys-fw")
    web.exposed(B)
    web.dom0.reset_property("web", "ip")
    web.exposed(B)
    web.dom0.shutdown("web")
    web.dom0.start("web")
    web.exposed("10.137.0.4")


def test_ip_changed_before_the_number_is_known(world):
    """The vif was made before; what is read of the new domain comes late, and says the address that comes next."""
    world.dom0.set_feature("web", "routing-method", "forward")
    world.settle()
    world.dom0.qubesd.serve, answer = late_answers(world, "web")
    world.dom0.qubesd.slow = lambda method, arg: True
    world.dom0.start("web")
    world.dom0.set_property("web", "ip", B)
    answer.set()
    world.exposed(A)
    read_again(world)
    world.exposed(A)


def test_netvm_reset_to_what_it_is(web):
    """Nothing moves: the vif keeps the address that it has, whatever the property says by then."""
    web.dom0.set_property("web", "ip", B)
    web.dom0.reset_netvm("web")
    web.wait(lambda: "property-del:netvm" in web.serverd.log, "event")
    web.exposed(A)
    web.dom0.set_netvm("web", "sys-fw2")
    web.dom0.reset_netvm("web")
    web.exposed(B)


def test_ip_changed_and_restarted_unseen(web):
    """The kept address is of an earlier life: the domain id tells."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    web.serverd.stop()
    web.dom0.kill("web")
    web.dom0.start("web")
    web.serverd.start()
    web.exposed(B)


def readings(web):
    return json.loads(web.serverd.call("--status", "--json").stdout)["full_readings"]


def read_again(web):
    """Everything, and what follows from it."""
    before = readings(web)
    web.serverd.process.send_signal(signal.SIGHUP)
    web.wait(lambda: readings(web) > before, "reading")
    web.wait(web.later(0.3), "time to pass")


@contextmanager
def stream_lost(web):
    """The daemon hears nothing of what happens here, and begins to listen again after it."""
    web.serverd.process.send_signal(signal.SIGSTOP)
    try:
        web.dom0.cut_stream()
        yield
    finally:
        web.serverd.process.send_signal(signal.SIGCONT)


@contextmanager
def stopped(web):
    web.serverd.stop()
    yield
    web.serverd.start()


@pytest.mark.parametrize("unheard", [stream_lost, stopped])
def test_ip_changed_and_attached_unheard(web, unheard):
    """Same life, same net qube: only its own QubesDB tells that it has got the new address."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    with unheard(web):
        web.dom0.set_netvm("web", None)
        web.dom0.set_netvm("web", "sys-fw")
    web.exposed(B)
    web.serverd.restart()
    web.exposed(B)


@pytest.mark.parametrize("unheard", [stream_lost, stopped])
def test_ip_changed_and_net_qube_restarted_unheard(web, unheard):
    """Its clients are attached anew, and nothing is written into their QubesDB."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    with unheard(web):
        web.dom0.kill("sys-fw")
        web.dom0.start("sys-fw")
    web.exposed(B)


@pytest.mark.parametrize("unheard", [stream_lost, stopped])
def test_net_qube_restarted_and_ip_changed_unheard(web, unheard):
    """The other way round: by then the vif was there."""
    with unheard(web):
        web.dom0.kill("sys-fw")
        web.dom0.start("sys-fw")
        web.dom0.set_property("web", "ip", B)
    read_again(web)
    web.exposed(A)


@pytest.mark.parametrize("unheard", [stream_lost, stopped])
@pytest.mark.parametrize("first", [A, B])
def test_moved_and_ip_changed_unheard(web, unheard, first):
    with unheard(web):
        if first == B:
            web.dom0.set_property("web", "ip", B)
        web.dom0.set_netvm("web", "sys-fw2")
        web.dom0.set_property("web", "ip", B)
    web.settle(("web", first, ["sys-fw2", "sys-net"]))
    read_again(web)
    web.settle(("web", first, ["sys-fw2", "sys-net"]))


def test_moved_unheard_to_where_no_ipv6_is(world):
    world.dom0.set_feature("sys-net", "ipv6", "1")
    for name in ("sys-net", "sys-fw", "sys-fw2"):
        world.dom0.kill(name)
    for name in ("sys-net", "sys-fw", "sys-fw2"):
        world.dom0.start(name)
    world.expose()
    ip6 = world.dom0["web"].live[2]
    world.settle(("web", A, ["sys-fw", "sys-net"]), ("web", ip6, ["sys-fw", "sys-net"]))
    world.dom0.set_feature("sys-fw2", "ipv6", "")
    with stream_lost(world):
        world.dom0.set_netvm("web", "sys-fw2")
    world.settle(("web", A, ["sys-fw2", "sys-net"]))


def test_what_would_be_written_after_an_unheard_attachment(web):
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    web.serverd.stop()
    web.dom0.set_netvm("web", None)
    web.dom0.set_netvm("web", "sys-fw")
    assert f"/network-server/{B} = " in web.serverd.call("--dry-run").stdout


def test_addresses_that_cannot_be_kept_are_known_all_the_same(web):
    """The file cannot be replaced: only a successor does not know."""
    path = f"{web.dom0.folder}/run/live"
    os.unlink(path)
    os.makedirs(f"{path}/full")
    web.dom0.shutdown("web")
    web.dom0.start("web")
    web.exposed(A)
    web.dom0.set_property("web", "ip", B)
    read_again(web)
    web.exposed(A)
    web.dom0.kill("web")
    web.dom0.start("web")
    web.exposed(B)


@pytest.mark.parametrize("unheard", [stream_lost, stopped])
def test_ip_changed_and_attached_unheard_behind_another_address(web, unheard):
    """/qubes-ip is what the qube itself believes (net.fake-ip)."""
    web.dom0.set_feature("web", "net.fake-ip", "192.168.1.128")
    web.dom0.set_property("web", "ip", B)
    with unheard(web):
        web.dom0.kill("sys-fw")
        web.dom0.start("sys-fw")
    web.exposed(B)


@pytest.mark.parametrize("state", ["Dying", "Crashed", "NA", "Suspended"])
def test_net_qube_in_a_strange_state_for_a_while(web, state):
    """It goes on in the same life, so nobody was attached anew."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    web.dom0["sys-fw"].state = state
    read_again(web)
    web.dom0["sys-fw"].state = "Running"
    read_again(web)
    web.exposed(A)


@pytest.mark.parametrize("told", [B, "10.137.0.6", "", "10.137.0.99/32"])
def test_ip_changed_and_the_qube_tells_tales(web, told):
    """It was never attached with another address, whatever it says."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    web.dom0.qdb("web").write("/qubes-ip", told)
    read_again(web)
    web.exposed(A)


def test_a_liar_takes_nothing_from_another(web):
    web.dom0.start("other")
    web.dom0.set_property("web", "ip", B)
    web.dom0.set_property("other", "ip", A)
    web.exposed(A)
    web.dom0.qdb("other").write("/qubes-ip", A)
    read_again(web)
    web.exposed(A)


@pytest.mark.parametrize("who", ["web", "sys-fw"])
def test_dies_before_its_questions_are_answered(web, who):
    """Its QubesDB, or its net qube's, answers late; by then a reading has found it halted, and goes on."""
    web.dom0.set_property("web", "ip", B)
    web.exposed(A)
    before = readings(web)
    with stream_lost(web):
        web.dom0.set_netvm("web", None)
        web.dom0.set_netvm("web", "sys-fw")
        server = web.dom0[who].process.pid
        os.kill(server, signal.SIGSTOP)
    web.wait(lambda: readings(web) > before, "reading")
    web.dom0["web"].state = "Halted"
    web.dom0.qubesd.serve, answer = late_answers(web, "other")
    web.dom0.qubesd.slow = lambda method, arg: True
    web.serverd.process.send_signal(signal.SIGHUP)
    web.wait(web.later(1), "the reading to come past web")
    os.kill(server, signal.SIGCONT)
    web.wait(web.later(0.5), "the answers")
    answer.set()
    web.settle()
    web.dom0["web"].state = "Running"
    read_again(web)
    web.exposed(B)


@pytest.mark.parametrize("text", ["", "v=1\n", "v=2\nweb 1 - - -\n", "nonsense", "v=1\nweb x sys-fw 1.2.3.4 -\n",
                                  "v=1\nweb 1 sys-fw 1.2.3.4 -", "v=1\n\n", "v=1\nweb 1 sys-fw 1.2.3.4 - -\n"])
def test_kept_addresses_are_nonsense(web, text):
    web.serverd.stop()
    with open(f"{web.dom0.folder}/run/live", "w", encoding="ascii") as file:
        file.write(text)
    web.serverd.start()
    web.exposed()


def test_template(world):
    world.dom0.add("apps", "TemplateVM")
    for name in ("web", "other"):
        world.dom0.set_property(name, "template", "apps")
    world.dom0.start("web")
    world.dom0.set_feature("apps", "routing-method", "forward")
    world.exposed()
    world.dom0.start("other")
    world.settle(("web", A, ["sys-fw", "sys-net"]), ("other", "10.137.0.6", ["sys-fw", "sys-net"]))
    world.dom0.set_feature("other", "routing-method", "")
    world.exposed()
    world.dom0.remove_feature("apps", "routing-method")
    world.settle()
    world.dom0.set_feature("web", "routing-method", "forward")
    world.dom0.shutdown("web")
    world.dom0.add("debian", "TemplateVM")
    world.dom0.set_feature("debian", "network-server.allow", "tcp/80")
    world.dom0.set_property("web", "template", "debian")
    world.dom0.start("web")
    world.wait(lambda: world.records().get(("sys-net", A), {}).get("allow") == "tcp/80", "allow of the new template")
    world.exposed()


def test_disposables(world):
    """Several with one fixed address: nobody, both are named; one alone: exposed."""
    world.dom0.add("dvm", netvm="sys-fw", ip=B, template_for_dispvms=True, features={"routing-method": "forward"}.items())
    first = world.dom0.create_disposable("dvm")
    world.dom0.start(first)
    world.settle((first, B, ["sys-fw", "sys-net"]))
    second = world.dom0.create_disposable("dvm")
    world.dom0.start(second)
    world.settle()
    assert f"{first} and {second}" in world.serverd.log and B in world.serverd.log
    world.dom0.kill(first)
    world.settle((second, B, ["sys-fw", "sys-net"]))
    world.dom0.set_feature("dvm", "routing-method", "")  # does not reach who has it copied
    world.settle((second, B, ["sys-fw", "sys-net"]))
    world.dom0.kill(second)
    world.settle()


def test_clone(web):
    """"Renaming" is a clone and a removal."""
    web.dom0.clone("web", "web2")
    web.exposed()
    web.dom0.start("web2")
    web.settle()
    assert "web and web2" in web.serverd.log
    web.dom0.shutdown("web")
    web.dom0.remove("web")
    web.settle(("web2", A, ["sys-fw", "sys-net"]))


def test_ipv6(web):
    """Switching it on gives addresses to all behind, and no vif has them yet."""
    web.dom0.set_feature("sys-net", "ipv6", "1")
    web.exposed()
    web.dom0.set_netvm("sys-fw", None)
    web.settle(("web", A, ["sys-fw"]))
    web.dom0.set_netvm("sys-fw", "sys-net")
    web.exposed()
    web.dom0.shutdown("web")
    web.dom0.start("web")
    ip6 = web.dom0["web"].live[2]
    web.settle(("web", A, ["sys-fw", "sys-net"]), ("web", ip6, ["sys-fw", "sys-net"]))
    web.dom0.remove_feature("sys-net", "ipv6")
    web.settle(("web", A, ["sys-fw", "sys-net"]), ("web", ip6, ["sys-fw", "sys-net"]))
    web.dom0.kill("web")
    web.settle()
    web.dom0.start("web")
    web.exposed()


def test_default_netvm(world):
    world.dom0.add("app", ip=B)
    world.dom0.set_feature("app", "routing-method", "forward")
    world.dom0.start("app")
    world.settle(("app", B, ["sys-fw", "sys-net"]))
    world.dom0.set_default_netvm("sys-fw2")
    world.settle(("app", B, ["sys-fw2", "sys-net"]))
    world.dom0.set_default_netvm("sys-net")
    world.settle(("app", B, ["sys-net"]))
    world.dom0.set_default_netvm("sys-fw")
    world.settle(("app", B, ["sys-fw", "sys-net"]))


def test_lacking_hop(web):
    web.dom0.set_feature("sys-fw", "supported-feature.network-server", "")
    web.settle()
    assert "sys-fw" in web.serverd.log.rsplit("is not exposed:", 1)[1]
    web.dom0.remove_feature("sys-fw", "supported-feature.network-server")
    web.exposed()
    web.dom0.set_feature("sys-net", "service.qubes-vpn", "1")
    web.settle()


def test_qube_called_none(world):
    """"None" in an event is no net qube, or this one: the reading tells."""
    world.dom0.add("None", provides_network=True, netvm="sys-net", qid=8)
    world.dom0.start("None")
    world.expose()
    world.exposed()
    world.dom0.set_netvm("web", "None")
    world.settle(("web", A, ["None", "sys-net"]))
    world.dom0.set_netvm("web", None)
    world.settle()


def test_removed(web):
    web.dom0.shutdown("web")
    web.dom0.remove("web")
    web.settle()
    web.dom0.add("web", netvm="sys-fw2", ip=A)
    web.expose()
    web.settle(("web", A, ["sys-fw2", "sys-net"]))


def test_hvm(world):
    world.dom0.set_property("web", "virt_mode", "hvm")
    world.expose()
    world.wait(lambda: world.records().get(("sys-fw", A), {}).get("xid") ==
               f"{world.xid('web')},{world.dom0['web'].stubdom_xid}", "both numbers")


def test_expires(web):
    web.dom0.set_feature("web", "network-server.expires", web.in_seconds(2))
    web.wait(lambda: "expires" in web.records().get(("sys-net", A), {}), "expires")
    web.settle(timeout=10)
    web.dom0.set_feature("web", "network-server.expires", web.in_seconds(3600))
    web.exposed()
