# SPDX-License-Identifier: GPL-2.0-or-later
"""Start in any order, stop, restart, crash, life without QubesDB, the VPN switch, and the verbs that look at it all."""

import contextlib
import itertools
import os
import shutil
import signal
import time

import pytest

from lab import platform, topologies
from lab.doors import door, doors, expect, reached
from lab.flows import Ask, Datagrams, Pull, serve_push
from lab.lab import Lab
from lab.node import wait_until
from lab.router import SLOW, program
from lab.topology import Link, Qube

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
HIDDEN, OTHER, GUEST = "192.168.16.26", "10.137.0.13", "192.168.16.27"
LAN1, LAN1_6 = "192.168.16.10", "2001:db8:16::10"
SYS, SYS6, GATEWAY = "192.168.16.2", "2001:db8:16::2", "192.168.16.1"
PUSH = 8080
NOBODY = 65534


@pytest.fixture
def net(lab):
    """The basic network, servers in `web`, no router yet."""
    net = lab(topologies.BASIC.plus(Qube("guest", "sys-net", 21, GUEST)))
    net.router = net["sys-net"].router(start=False)
    for name in ("web", "hidden", "other", "guest"):
        net[name].serve_tcp(80), serve_push(net[name], PUSH)
    for addr in (WEB, WEB6):
        net["web"].serve_udp(53, addr)
    net["lan1"].serve_tcp(80)
    return net


@pytest.fixture
def flows():
    """flows(flow) closes it with the test and returns it."""
    with contextlib.ExitStack() as stack:
        yield lambda flow: stack.enter_context(contextlib.closing(flow))


def state(net, addr):
    for one in net.router.status()["addresses"]:
        if one["address"] == addr:
            return one["state"], one["open"]
    return None


def wait_state(net, addr, wanted, timeout=3.0):
    wait_until(lambda: state(net, addr) == wanted, timeout * SLOW, f"{addr} {wanted}, is {state(net, addr)}")


def expose_web(net, **fields):
    return [net["sys-net"].expose("web", family, **fields) for family in (4, 6)]


def web_doors(net):
    return doors([net["lan1"]], (WEB, WEB6), ("tcp/80", "udp/53", "icmp"))


def going(*flows_):
    counts = [flow.count for flow in flows_]
    wait_until(lambda: all(flow.count > count for flow, count in zip(flows_, counts)), 1.0 * SLOW,
               f"all flows going on: {[(flow.count, count) for flow, count in zip(flows_, counts)]}")


def ended(*flows_, still=0.1):
    """They stop soon and for good. still: seconds; longer where a pause of TCP could be taken for the end."""
    def silent():
        counts = [flow.count for flow in flows_]
        end = time.monotonic() + still * SLOW
        while time.monotonic() < end:
            if [flow.count for flow in flows_] != counts:
                return False
            time.sleep(0.005)
        return True
    wait_until(silent, 2.0 * SLOW, "an end of the flows")


def switches(node):
    """Every kernel switch of addresses and neighbours in a machine: path and value."""
    found = {}
    with node.ns:
        for folder in ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh"):
            for scope in os.listdir(f"/proc/sys/net/{folder}"):
                for name in os.listdir(f"/proc/sys/net/{folder}/{scope}"):
                    path = f"{folder}/{scope}/{name}"
                    with contextlib.suppress(OSError), open(f"/proc/sys/net/{path}", encoding="ascii") as file:
                        found[path] = file.read().strip()
    return found


# ---- start ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts():
    """A network whose net qube comes in pieces, again and again."""
    topology = topologies.BASIC.changed("web", running=False).changed("sys-net", uplinks=(), routes=())
    with Lab(topology) as net:
        net.router = net["sys-net"].router(start=False)
        net["web"].serve_tcp(80)
        yield net


# The platform's own script for a vif fails without the platform's tables, so they come before it.
ORDERS = [order for order in itertools.permutations(("platform", "qubesdb", "uplink", "qube"))
          if order.index("platform") < order.index("qube")]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_start_before_everything_else(parts, order):
    net, sys_net, web = parts, parts["sys-net"], parts["web"]
    sys_net.qubesdb_stop()
    if ORDERS.index(order) % 2:  # a socket that nobody listens on, or none
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sys_net.qubesdb_socket)
    platform.flush(sys_net)
    net.router.start(qubesdb=False)
    records = [(f"/network-server/{addr}", f"v=1|vm=web|xid={web.domid}|via=direct|edge=1|mode=forward|allow=tcp/80")
               for addr in (WEB, WEB6)]
    come = {"platform": lambda: platform.flush_and_reload(sys_net),
            "qubesdb": lambda: sys_net.qubesdb_start(records),
            "uplink": lambda: sys_net.add_uplink(Link("ens6", "lan", (f"{SYS}/24", f"{SYS6}/64"), "52:54:00:16:00:77")),
            "qube": lambda: web.start(web.spec.domid)}
    questions = doors([net["lan1"]], [WEB, WEB6], ["tcp/80"])
    try:
        for what in order:
            assert not reached(net, questions)
            come[what]()
        expect(net, questions, questions)
        assert [net["lan1"].connect_tcp(addr, 80).peer for addr in (WEB, WEB6)] == [LAN1, LAN1_6]
        assert net.router.call("--check").returncode == 0
    finally:
        assert net.router.stop() == 0
        if web.is_running:
            web.stop()
        if "ens6" in sys_net.uplinks:
            sys_net.remove_uplink("ens6")


def test_ready_means_open(net):
    expose_web(net)
    net.router.start()
    assert reached(net, web_doors(net)) == set(web_doors(net))
    assert "READY=1" in net.router.notifications


# ---- stop -----------------------------------------------------------------------------------------------------------


def _as_the_platform_does(_sys_net):
    pass


def _host_on_the_uplink(sys_net):
    """IPv6 is not forwarded and the uplink listens to router advertisements."""
    sys_net.qdb.rm("/qubes-netvm-gateway6")
    sys_net.sysctl("net/ipv6/conf/all/forwarding", 0)
    sys_net.sysctl("net/ipv6/conf/ens6/accept_ra", 1)


def _somebody_likes_other_values(sys_net):
    for path, value in (("ipv4/neigh/ens6/proxy_delay", 33), ("ipv6/neigh/ens6/proxy_delay", 44),
                        ("ipv6/conf/ens6/forwarding", 0), ("ipv6/conf/ens6/accept_ra", 2)):
        sys_net.sysctl(f"net/{path}", value)


def _nothing(_net):
    pass


def _crash(net):
    net.router.kill9()
    net.router.start()


def _restart(net):
    net.router.restart()


def _flush(net):
    platform.flush(net["sys-net"])


@pytest.mark.parametrize("prepare, meanwhile, number", (
    (_as_the_platform_does, _nothing, signal.SIGTERM), (_host_on_the_uplink, _nothing, signal.SIGTERM),
    (_host_on_the_uplink, _crash, signal.SIGTERM),
    (_somebody_likes_other_values, _restart, signal.SIGINT),
    (_host_on_the_uplink, _flush, signal.SIGTERM)))
def test_stop_withdraws_everything(net, flows, prepare, meanwhile, number):
    sys_net, lan1, web = net["sys-net"], net["lan1"], net["web"]
    prepare(sys_net)
    before = switches(sys_net)
    expose_web(net)
    net.router.start()
    expect(net, web_doors(net), web_doors(net))
    mine = [flows(flow) for flow in (Pull(lan1, WEB, PUSH), Pull(lan1, WEB6, PUSH), Ask(net["hidden"], WEB, 80),
                                     Ask(web, LAN1, 80), Ask(web, LAN1_6, 80))]
    assert [flow.peer for flow in mine[3:]] == [WEB, WEB6]
    others = flows(Ask(net["hidden"], LAN1, 80))
    during = switches(sys_net)
    assert during["ipv4/neigh/ens6/proxy_delay"] == during["ipv6/neigh/ens6/proxy_delay"] == "0"
    assert during["ipv6/conf/ens6/proxy_ndp"] == during["ipv6/conf/all/forwarding"] == "1"
    meanwhile(net)
    net.router.process.send_signal(number)
    assert net.router.process.wait(5 * SLOW) == 0
    assert "STOPPING=1" in net.router.notifications
    after = switches(sys_net)
    assert {path: (value, after[path]) for path, value in before.items() if after[path] != value} == {}
    assert not sys_net.proxies()
    if meanwhile is not _flush:  # there the platform's masquerading is gone, and nothing rejects
        ended(*mine)
        going(others)
        expect(net, web_doors(net) + [door(lan1, GATEWAY, "icmp")], [door(lan1, GATEWAY, "icmp")])
    lan1.neighbour_forget(WEB), lan1.neighbour_forget(WEB6)
    assert not lan1.arping(WEB, timeout=0.1 * SLOW) and not lan1.ndisc(WEB6, timeout=0.1 * SLOW)
    assert lan1.arping(SYS, count=1)


# ---- a successor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ("usr1", "kill9"))
def test_a_successor_takes_over_without_a_gap(net, flows, end):
    """Numbered datagrams all the while: not one is lost, neither while nobody runs nor when the next one starts."""
    lan1, web, router = net["lan1"], net["web"], net.router
    expose_web(net)
    router.start()
    expect(net, web_doors(net), web_doors(net))
    numbered = [flows(Datagrams(lan1, addr, 53)) for addr in (WEB, WEB6)]
    streams = [flows(flow) for flow in (Pull(lan1, WEB, PUSH), Pull(lan1, WEB6, PUSH), Ask(web, LAN1, 80),
                                        Ask(web, LAN1_6, 80))]
    for _ in range(2):
        status = getattr(router, end)()
        assert status == (0 if end == "usr1" else -signal.SIGKILL)
        assert reached(net, web_doors(net)) == set(web_doors(net))  # new ones too, while nobody runs
        router.start()
        assert state(net, WEB) == state(net, WEB6) == ("open", True)
        going(*streams)
        assert router.call("--check").returncode == 0
    assert [flow.finish() for flow in numbered] == [0, 0]
    assert min(len(flow.answered) for flow in numbered) > 20
    assert net["web"].connect_tcp(LAN1, 80).peer == WEB
    net["sys-net"].withdraw("web")
    ended(streams[0], streams[2])
    going(streams[1], streams[3])


def test_what_changed_while_nobody_ran(net, flows):
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    for name in ("web", "hidden", "other", "guest"):
        sys_net.expose(name)
    sys_net.expose("web", 6)
    router.start()
    lan1.batch(f"route add {OTHER} via {SYS}\n")
    cut = [flows(flow) for flow in (Ask(lan1, WEB, 80), Pull(lan1, WEB, PUSH), Pull(lan1, HIDDEN, PUSH),
                                    Ask(net["other"], GUEST, 80), Ask(lan1, GUEST, 80))]
    narrowed = flows(Ask(lan1, WEB6, 80)), flows(Datagrams(lan1, WEB6, 53))
    kept = flows(Ask(lan1, OTHER, 80)), flows(Ask(net["web"], OTHER, 80))
    router.kill9()
    going(*cut, *narrowed, *kept)
    sys_net.withdraw("web")
    sys_net.expose("web", 6, allow="tcp/80")
    net["hidden"].stop()
    sys_net.expose("guest", expires="2026-01-01T00:00:00Z")
    router.start()
    ended(*cut, narrowed[1])
    going(narrowed[0], *kept)
    assert {addr for addr, _iface in sys_net.proxies()} == {WEB6, OTHER}
    expect(net, doors([lan1], [WEB, WEB6, HIDDEN, OTHER, GUEST], ["tcp/80"]),
           doors([lan1], [WEB6, OTHER], ["tcp/80"]))


def test_rules_and_key_went_while_nobody_ran(net, flows):
    """All rules were loaded anew, so nothing in them tells that the address was open; the key is gone too."""
    sys_net, lan1 = net["sys-net"], net["lan1"]
    expose_web(net), sys_net.expose("hidden")
    net.router.start()
    cut = flows(Pull(lan1, WEB, PUSH)), flows(Ask(lan1, WEB, 80))
    kept = flows(Pull(lan1, WEB6, PUSH)), flows(Ask(lan1, WEB6, 80)), flows(Pull(lan1, HIDDEN, PUSH))
    net.router.kill9()
    platform.flush_and_reload(sys_net)
    sys_net.withdraw("web")
    net.router.start()
    going(*kept)
    ended(*cut, still=0.6)
    going(*kept)
    assert {addr for addr, _iface in sys_net.proxies()} == {WEB6, HIDDEN}


def test_a_key_that_goes_while_the_rules_are_away(net, flows):
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    expose_web(net), sys_net.expose("hidden")
    router.start()
    cut = flows(Pull(lan1, WEB, PUSH)), flows(Ask(lan1, WEB, 80))
    kept = flows(Pull(lan1, WEB6, PUSH)), flows(Ask(lan1, WEB6, 80)), flows(Pull(lan1, HIDDEN, PUSH))
    platform.flush(sys_net)
    wait_state(net, WEB, ("platform", False))
    sys_net.withdraw("web")
    wait_until(lambda: state(net, WEB) in (None, ("none", False)), 2 * SLOW, "the key noticed")
    platform.flush_and_reload(sys_net)
    wait_state(net, WEB6, ("open", True))
    going(*kept)
    ended(*cut, still=0.6)
    going(*kept)


def test_the_directory_of_keys_is_gone_while_nobody_ran(net, flows):
    """The whole database was replaced; a compatible key that was, is not any more."""
    sys_net, lan1 = net["sys-net"], net["lan1"]
    sys_net.qdb.write(f"/qubes-routing-method/{WEB}", "forward")
    net.router.start()
    flow = flows(Pull(lan1, WEB, PUSH))
    net.router.kill9()
    sys_net.qubesdb_stop()
    net.router.start()
    ended(flow)
    assert not sys_net.proxies()


# ---- without QubesDB ------------------------------------------------------------------------------------------------


def _utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_life_without_qubesdb(net, flows):
    """What is open stays and nothing new opens; the loss of a vif and the end of a term still close."""
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    lan1.batch(f"route add {OTHER} via {SYS}\n")
    net["hidden"].stop()
    at = int(time.time()) + 2
    kept = expose_web(net) + [sys_net.expose("hidden"), sys_net.expose("guest")]
    sys_net.expose("other", expires=_utc(at))
    router.start()
    questions = doors([lan1], [WEB, WEB6, HIDDEN, OTHER, GUEST], ["tcp/80"])
    web = doors([lan1], [WEB, WEB6], ["tcp/80"])
    expect(net, questions, web + doors([lan1], [OTHER, GUEST], ["tcp/80"]))
    numbered = [flows(Datagrams(lan1, addr, 53)) for addr in (WEB, WEB6)]
    streams = [flows(flow) for flow in (Pull(lan1, WEB, PUSH), Ask(net["web"], LAN1, 80))]
    term, guest = flows(Pull(lan1, OTHER, PUSH)), flows(Pull(lan1, GUEST, PUSH))
    assert time.time() < at, "too slow to see it open"

    sys_net.qubesdb_stop()
    wait_until(lambda: not router.status()["qubesdb"]["readable"], 2 * SLOW, "the loss noticed")
    assert "QubesDB cannot be read" in router.call("--status").stdout
    net["hidden"].start()
    wait_state(net, HIDDEN, ("unreadable", False))
    net["guest"].stop()
    wait_state(net, GUEST, ("no-vif", False))
    ended(guest)
    net["guest"].start()  # the same vif as before
    wait_state(net, GUEST, ("unreadable", False))
    wait_until(lambda: state(net, OTHER) == ("expired", False), 4 * SLOW, "the end of the term")
    assert time.time() >= at
    ended(term)
    expect(net, questions, web)
    assert router.call("--check").returncode == 0
    going(*streams)

    sys_net.qubesdb_start(kept)  # the same again: nothing is interrupted
    expect(net, questions, web + doors([lan1], [HIDDEN, GUEST], ["tcp/80"]))
    going(*streams)
    assert [flow.finish() for flow in numbered] == [0, 0]
    assert router.status()["qubesdb"]["readable"]

    sys_net.qubesdb_stop()
    sys_net.qubesdb_start()  # and nothing
    expect(net, questions + doors([lan1], [GATEWAY], ["icmp"]), doors([lan1], [GATEWAY], ["icmp"]))
    ended(*streams)
    assert not sys_net.proxies()


def test_what_is_open_is_put_right_without_qubesdb_too(net, flows):
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    expose_web(net)
    router.start()
    expect(net, web_doors(net), web_doors(net))
    streams = [flows(flow) for flow in (Pull(lan1, WEB, PUSH), Ask(net["web"], LAN1, 80))]
    sys_net.qubesdb_stop()
    wait_until(lambda: not router.status()["qubesdb"]["readable"], 2 * SLOW, "the loss noticed")
    for damage in ("flush chain ip qubes custom-forward", "flush set ip qubes network-server-any",
                   "delete table ip qubes-network-server\ndelete table ip6 qubes-network-server"):
        sys_net.nft(damage + "\n")
        expect(net, web_doors(net), web_doors(net))
        assert state(net, WEB) == state(net, WEB6) == ("open", True)
    sys_net.batch(f"neigh del proxy {WEB} dev ens6\n")
    router.hup()
    wait_until(lambda: {addr for addr, _iface in sys_net.proxies()} == {WEB, WEB6}, 1 * SLOW, "answers again")
    assert net["web"].connect_tcp(LAN1, 80).peer == WEB
    going(*streams)


def test_a_start_without_qubesdb_adopts(net, flows):
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    web = expose_web(net)
    sys_net.expose("hidden")
    router.start()
    expect(net, web_doors(net), web_doors(net))
    numbered = [flows(Datagrams(lan1, addr, 53)) for addr in (WEB, WEB6)]
    streams = [flows(flow) for flow in (Pull(lan1, WEB, PUSH), Ask(net["web"], LAN1, 80))]
    other, hidden = flows(Pull(lan1, WEB6, PUSH)), flows(Pull(lan1, HIDDEN, PUSH))
    router.kill9()
    sys_net.qubesdb_stop()
    router.start(qubesdb=False)
    assert [state(net, addr) for addr in (WEB, WEB6, HIDDEN)] == 3 * [("adopted", True)]  # nobody wished it yet
    assert reached(net, web_doors(net)) == set(web_doors(net))
    going(*streams, other, hidden)
    net["hidden"].stop()
    wait_until(lambda: HIDDEN not in {addr for addr, _iface in sys_net.proxies()}, 1 * SLOW, "no answer for it")
    ended(hidden)
    assert [flow.finish() for flow in numbered] == [0, 0]
    sys_net.qubesdb_start(web[:1])
    ended(other)
    going(*streams)
    expect(net, web_doors(net), doors([lan1], [WEB], ["tcp/80", "udp/53", "icmp"]))
    assert state(net, WEB) == ("open", True)


def test_a_stop_withdraws_what_was_adopted(net, flows):
    sys_net, router = net["sys-net"], net.router
    before = switches(sys_net)
    expose_web(net)
    router.start()
    flow = flows(Pull(net["lan1"], WEB, PUSH))
    router.usr1()
    sys_net.qubesdb_stop()
    router.start(qubesdb=False)
    assert state(net, WEB)[0] == "adopted" and flow.moves()
    assert router.stop() == 0
    ended(flow)
    assert not sys_net.proxies() and switches(sys_net) == before


# ---- a VPN qube -----------------------------------------------------------------------------------------------------


def _service_on(net):
    with open(f"{net.router.service_dir}/qubes-vpn", "w", encoding="ascii"):
        pass


def _service_off(net):
    os.unlink(f"{net.router.service_dir}/qubes-vpn")


def _seal_on(net):
    net["sys-net"].nft("add table inet qubes-vpn\n")


def _seal_off(net):
    net["sys-net"].nft("delete table inet qubes-vpn\n")


@pytest.fixture(params=((_service_on, _service_off), (_seal_on, _seal_off)),
                ids=("service", "table"))
def vpn(request):
    return request.param


def test_in_a_vpn_qube_nothing_is_exposed(net, flows, vpn):
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    turn_on, turn_off = vpn
    before = switches(sys_net)
    expose_web(net)
    router.start()
    expect(net, web_doors(net), web_doors(net))
    mine = [flows(Pull(lan1, addr, PUSH)) for addr in (WEB, WEB6)]
    others = flows(Ask(net["hidden"], LAN1, 80))
    alive = door(lan1, GATEWAY, "icmp")
    for _ in range(2):
        turn_on(net)
        expect(net, web_doors(net) + [alive], [alive])
        ended(*mine)
        assert state(net, WEB) == state(net, WEB6) == ("vpn-here", False)
        assert router.status()["vpn_qube"] and "VPN qube" in router.call("--status").stdout
        assert not sys_net.proxies() and switches(sys_net) == before
        sys_net.expose("hidden")  # nor what comes now
        wait_state(net, HIDDEN, ("vpn-here", False))
        turn_off(net)
        expect(net, web_doors(net) + doors([lan1], [HIDDEN], ["tcp/80"]),
               web_doors(net) + doors([lan1], [HIDDEN], ["tcp/80"]))
        sys_net.withdraw("hidden")
        wait_until(lambda: state(net, HIDDEN) is None, 2 * SLOW, "hidden withdrawn")
    going(others)


def test_it_became_a_vpn_qube_while_nobody_ran(net, flows, vpn):
    turn_on, turn_off = vpn
    expose_web(net)
    net.router.start()
    flow = flows(Pull(net["lan1"], WEB, PUSH))
    net.router.kill9()
    turn_on(net)
    net.router.start()
    ended(flow)
    assert state(net, WEB) == ("vpn-here", False) and not net["sys-net"].proxies()
    turn_off(net)
    expect(net, web_doors(net), web_doors(net))


# ---- the verbs ------------------------------------------------------------------------------------------------------


def test_check(net):
    sys_net, router = net["sys-net"], net.router
    expose_web(net)
    router.start()
    expect(net, web_doors(net), web_doors(net))
    assert router.call("--check").returncode == 0
    for damage, named in ((f"neigh del proxy {WEB} dev ens6", WEB), (f"neigh del proxy {WEB6} dev ens6", WEB6)):
        sys_net.batch(damage + "\n")
        done = router.call("--check", check=False)
        assert done.returncode == 1 and named in done.stdout, done.stdout
        assert {addr for addr, _iface in sys_net.proxies()} == {WEB, WEB6}
        assert router.call("--check").returncode == 0
    sys_net.sysctl("net/ipv4/neigh/ens6/proxy_delay", 80)
    done = router.call("--check", "--json", check=False)
    assert done.returncode == 1 and "proxy" in done.stdout.split('"differences"')[1]
    assert sys_net.sysctl("net/ipv4/neigh/ens6/proxy_delay") == "0"
    assert router.call("--check").returncode == 0
    router.kill9()
    done = router.call("--check", check=False)
    assert done.returncode == 1 and router.control in done.stderr


def _everything(sys_net):
    return sys_net.run(["nft", "-s", "list", "ruleset"]).stdout, sys_net.proxies(), switches(sys_net)


def test_dry_run_changes_nothing(net):
    sys_net, router = net["sys-net"], net.router
    expose_web(net)
    sys_net.qdb.write(f"/network-server/{HIDDEN}", "v=9")
    before = _everything(sys_net)
    plan = router.call("--dry-run").stdout
    assert _everything(sys_net) == before
    for addr in (WEB, WEB6):
        assert f"{addr}: open" in plan and [line for line in plan.splitlines() if line.startswith("would ") and addr in line]
    assert f"{HIDDEN}: refused" in plan
    router.start()
    assert _everything(sys_net) != before
    before = _everything(sys_net)
    assert "nothing to do" in router.call("--dry-run").stdout
    sys_net.qubesdb_stop()
    done = router.call("--dry-run", check=False)
    assert done.returncode == 1 and "Nothing was changed" in done.stderr
    assert _everything(sys_net) == before


def test_dry_run_in_a_vpn_qube(net):
    expose_web(net)
    _service_on(net)
    plan = net.router.call("--dry-run").stdout
    assert f"{WEB}: vpn-here" in plan and "would add" not in plan


def test_dry_run_with_a_port_in_use(net):
    net["sys-net"].serve_tcp(8443)
    net["sys-net"].expose("web", mode="publish", publish="tcp/8443:443")
    plan = net.router.call("--dry-run").stdout
    assert f"{WEB}: unusable" in plan and "would add" not in plan


def test_wrong_use(net):
    call = net.router.call
    for words in (("--status", "--check"), ("--json",), ("--status", "more"), ("--nft", "nft"), ("--nothing",)):
        done = call(*words, check=False)
        assert done.returncode == 2 and "--help" in done.stderr
    assert "--dry-run" in call("--help").stdout and call("--version").stdout.startswith("qubes-routing-manager ")
    done = call("--control", "/nowhere/router.sock", check=False)
    assert done.returncode == 1 and "/nowhere/router.sock" in done.stderr


def test_status_is_a_table(net):
    sys_net, router = net["sys-net"], net.router
    done = router.call("--status", check=False)
    assert done.returncode == 1 and "nobody" not in done.stdout and router.control in done.stderr
    expose_web(net)
    net["hidden"].stop()
    sys_net.expose("hidden")
    sys_net.qdb.write("/network-server/192.168.16.300", "v=1")
    router.start()
    lines = router.call("--status").stdout.splitlines()
    assert "2 of 3 addresses are served; uplinks: ens6" in lines[0]
    rows = {line.split()[0]: line for line in lines[1:] if line.strip()}
    assert rows["ADDRESS"].split() == ["ADDRESS", "QUBE", "STATE", "VIF", "ANSWERED", "ON", "CONNECTIONS",
                                      "WHY"]
    for addr in (WEB, WEB6):
        assert rows[addr].split() == [addr, "web", "open", "vif11.0", "ens6", "0,", "0", "B"]
    assert rows[HIDDEN].split()[:3] == [HIDDEN, "hidden", "no-vif"] and "attached" in rows[HIDDEN]
    assert "192.168.16.300" in rows["refused:"]
    for column in ("STATE", "VIF"):
        at = rows["ADDRESS"].index(column)
        assert all(rows[addr][at - 1] == " " != rows[addr][at] for addr in (WEB, WEB6))


# ---- rights and children --------------------------------------------------------------------------------------------


def _ordinary_user(net):
    """Prefix of a command that runs as nobody with the two rights of the unit, and what it may write to."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        if not any(int(words[0]) <= NOBODY < int(words[0]) + int(words[2]) for words in map(str.split, file)):
            pytest.skip("no other user in this sandbox")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    folder = net["sys-net"].folder
    os.chown(folder, NOBODY, NOBODY)
    rights = "-all,+net_admin,+net_raw"
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
            f"--bounding-set={rights}", f"--inh-caps={rights}", f"--ambient-caps={rights}"]


def test_an_ordinary_user_with_two_rights(net, flows):
    sys_net, lan1, router = net["sys-net"], net["lan1"], net.router
    _host_on_the_uplink(sys_net)
    before = switches(sys_net)
    expose_web(net)
    for path in (sys_net.qubesdb_socket, f"{sys_net.folder}/notify"):
        os.chmod(path, 0o666)
    router.prefix = _ordinary_user(net)
    if not os.access(program("src/router/qubes-routing-manager"), os.X_OK):
        pytest.skip("not built")
    router.start()
    with open(f"/proc/{router.process.pid}/status", encoding="ascii") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines())
    assert status["Uid"].split() == 4 * [str(NOBODY)]
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12 | 1 << 13
    expect(net, web_doors(net), web_doors(net))
    flow = flows(Pull(lan1, WEB, PUSH))
    platform.flush_and_reload(sys_net)  # nft loads the chains again
    expect(net, web_doors(net), web_doors(net))
    router.restart()
    assert flow.moves()
    lan1.send_frame("eth0", _claim(lan1.mac(), WEB))  # frames: another host has the address
    wait_state(net, WEB, ("conflict", False))
    ended(flow)
    assert router.stop() == 0
    assert not sys_net.proxies() and switches(sys_net) == before


def _claim(mac, addr):
    from scapy.layers.l2 import ARP, Ether
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=addr, pdst=addr)


def _faults_of_children(router):
    """Minor page faults of children that ended: grows with every program that was run."""
    with open(f"/proc/{router.process.pid}/stat", encoding="ascii") as file:
        return int(file.read().rsplit(")", 1)[1].split()[8])


def _children(router):
    with open(f"/proc/{router.process.pid}/task/{router.process.pid}/children", encoding="ascii") as file:
        return file.read().split()


def test_no_program_is_run_for_an_event(lab, wait_until):
    count = 50
    topology = topologies.BASIC
    net = lab(topology)
    sys_net, web = net["sys-net"], net["web"]
    router = sys_net.router()
    for number in range(count):
        sys_net.batch(f"route add 192.168.16.{100 + number} dev {web.vif}\n")
    before = _faults_of_children(router)
    assert before > 0  # the start loaded the chains by nft
    value = "v=1|vm=web|xid=11|via=direct|edge=1|mode=forward|allow=tcp/22,80-90 from 192.168.16.0/24;icmp"
    for number in range(count):
        sys_net.qdb.write(f"/network-server/192.168.16.{100 + number}", value)
    wait_until(lambda: router.status()["open"] == count, 5 * SLOW, "all open")
    sys_net.new_mac("ens6", "52:54:00:16:00:99")
    sys_net.nft("flush set ip qubes network-server-rule\n")
    router.call("--check", check=False)
    web.stop()
    wait_until(lambda: router.status()["open"] == 0 and not sys_net.proxies(), 5 * SLOW, "all closed")
    sys_net.qdb.rm("/network-server/")
    wait_until(lambda: not router.status()["addresses"], 5 * SLOW, "all forgotten")
    assert _faults_of_children(router) == before and not _children(router)
    sys_net.nft("flush chain ip qubes network-server\n")  # that is what nft is for
    wait_until(lambda: _faults_of_children(router) > before, 2 * SLOW, "a program run")
