# SPDX-License-Identifier: GPL-2.0-or-later
"""qvm-expose tells: the list, the drawing, each hop with what it reports, and the first reason why not, against the whole
of it (daemon, routers, packets) and against net qubes that lie."""

import json
import time

import pytest

from lab import topologies
from lab.dom0 import Dom0, flavoured
from lab.doors import door, expect
from lab.node import wait_until
from lab.router import SLOW
from lab.serverd import EXPOSE, SERVERD, Expose, Serverd, available

pytestmark = [pytest.mark.skipif(not available(EXPOSE), reason="qvm-expose is not built"),
              pytest.mark.usefixtures("need_router")]

OK, FAILED, USAGE, PROBLEM, REFUSED = range(5)
WEB = "192.168.16.25"


@pytest.fixture
def dom0():
    """sys-net, sys-fw behind it, web behind that; all of them run, nobody serves them."""
    with Dom0() as made:
        made.add("sys-net", provides_network=True, netvm=None, qid=2)
        made.add("sys-fw", provides_network=True, netvm="sys-net", qid=3)
        made.add("web", netvm="sys-fw", qid=4, ip=WEB)
        made.add("db", netvm="sys-fw", qid=5)
        made.start("web")
        yield made


@pytest.fixture
def expose(dom0):
    return Expose(dom0)


@pytest.fixture
def serverd(dom0):
    if not available(SERVERD):
        pytest.skip("qubes-network-serverd is not built")
    return Serverd(dom0)


def report(*addresses, **more):
    return json.dumps({"program": "qubes-routing-manager", "addresses": list(addresses)} | more)


class Status:
    """Answers of net qubes: a program that prints the file of the hop."""

    def __init__(self, folder):
        self.folder, self.path = folder, str(folder / "status")
        (folder / "status").write_text(f"#!/bin/sh\nexec 2>&1\nexec sh '{folder}'/run-\"$1\"\n")
        (folder / "status").chmod(0o755)

    def answers(self, hop, text):
        (self.folder / f"answer-{hop}").write_bytes(text if isinstance(text, bytes) else text.encode())
        (self.folder / f"run-{hop}").write_text(f"cat '{self.folder}/answer-{hop}'\n")

    def does(self, hop, script):
        (self.folder / f"run-{hop}").write_text(script)


@pytest.fixture
def status(tmp_path):
    made = Status(tmp_path)
    for hop in ("sys-net", "sys-fw"):
        made.answers(hop, report({"address": WEB, "state": "open", "open": True,
                                  "counters": {"connections": 3, "packets": 40, "bytes": 12300, "offloaded": False}}))
    return made


@pytest.fixture
def ask(expose, status):
    """ask(options) gives the JSON and checks the exit status against it."""
    def run(*words):
        done = expose("--status-command", status.path, "--explain", "web", "--json", *words)
        assert done.returncode in (OK, PROBLEM), done.stderr
        answer = json.loads(done.stdout)
        assert answer["would_arrive"] is (done.returncode == OK)
        return answer
    return run


def settle(ask):
    return wait_until(lambda: ask()["would_arrive"], 5 * SLOW, what="records")


def test_free_way(dom0, serverd, ask, expose, status):
    del serverd
    dom0.set_feature("web", "network-server.allow", "tcp/443 from 192.168.16.0/24")
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    answer = ask("--from", "192.168.16.10", "--port", "443")
    hops = answer["ways"][0]["hops"]
    assert [hop["name"] for hop in hops] == ["sys-net", "sys-fw"]
    assert all(hop["record"] == "as wished" for hop in hops) and hops[0]["firewall"] == "as wished"
    assert hops[1]["reported"] == {"state": "open", "open": True, "reason": "", "connections": 3, "packets": 40,
                                   "bytes": 12300}
    assert answer["by_own_address"] and answer["inbound"] == "as wished"
    text = expose("--status-command", status.path, "--explain", "web").stdout
    assert "nothing stands in the way as far as the qubes report" in text and "3 new, 12.3 kB" in text
    checked = expose("--status-command", status.path, "--check")
    assert checked.returncode == OK and "1 open as far as the qubes report" in checked.stdout


@pytest.mark.parametrize("source, port, reason", (
    ("192.168.16.10", "80", "tcp/80 is not among what is open"),
    ("192.168.17.10", "443", "tcp/443 is open, but not from 192.168.17.10"),
    ("192.168.16.10", "443/udp", "udp/443 is not among what is open"),
    ("192.168.17.10", "8443", "tcp/8443 is published, but not for 192.168.17.10"),
    ("2001:db8::1", "443", "web has no IPv6 address"),
))
def test_rules_say_no(dom0, serverd, ask, source, port, reason):
    del serverd
    dom0.set_feature("web", "network-server.allow", "tcp/443 from 192.168.16.0/24")
    dom0.set_feature("web", "network-server.publish", "tcp/8443:443 from 192.168.16.0/24")
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    assert reason in ask("--from", source, "--port", port)["why_not"]


def test_published_port(dom0, serverd, ask):
    del serverd
    dom0.set_feature("web", "network-server.publish", "tcp/8443-8444:443-444")
    settle(ask)
    answer = ask("--from", "192.168.16.10", "--port", "8444")
    assert answer["by_published_port"] and not answer["by_own_address"]
    assert "leads to port 444 of web" in answer["by_the_rules"]


def test_reasons_in_their_order(dom0, ask, status):
    """From what was asked for, to the net qube, to its records, to what it reports, inwards."""
    assert "nobody asked" in ask()["why_not"]
    dom0.set_feature("web", "routing-method", "forward")
    assert "sys-net has no record" in ask()["why_not"]
    if not available(SERVERD):
        pytest.skip("qubes-network-serverd is not built")
    serverd = Serverd(dom0)
    settle(ask)
    status.answers("sys-fw", report({"address": WEB, "state": "no-vif", "open": False, "reason": "nobody has it"}))
    assert "sys-fw keeps 192.168.16.25 closed: no-vif: nobody has it (reported by sys-fw)" in ask()["why_not"]
    status.answers("sys-net", report())
    assert "sys-net knows nothing of 192.168.16.25" in ask()["why_not"]
    serverd.kill9()
    with dom0.qdb("sys-net") as db:
        db.write(f"/network-server/{WEB}", "v=1|nonsense")
    assert "not the one that is wished" in ask()["why_not"]
    dom0.set_feature("web", "network-server.allow", "nonsense")
    assert "network-server.allow of web" in ask()["why_not"]
    dom0.set_feature("web", "network-server.allow", "any")
    dom0.remove_feature("fedora", "supported-feature.network-server")
    assert "sys-fw" in ask()["why_not"]


@pytest.mark.parametrize("answer, reason", (
    (b"", "does not tell"),
    (b"{", "no JSON"),
    (b"[]", "not one of qubes-routing-manager"),
    (b'{"program":"qubes-routing-manager","addresses":{}}', "not one of"),
    (b'{"program":"qubes-routing-manager","program":"x","addresses":[]}', "no JSON"),
    (b'{"program":"qubes-routing-manager","addresses":[{"address":7},{"address":"\\u001b[2J"},[],null]}', "knows nothing"),
    (b"[" * 100000, "no JSON"),
    (b" " * (1 << 20) + b"{}", "longer than 1 MiB"),
    (b'\xff\xfe\x00', "no JSON"),
))
def test_answers_that_make_no_sense(dom0, serverd, ask, status, answer, reason):
    del serverd
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    status.answers("sys-net", answer)
    assert reason in ask()["why_not"]


def test_hostile_text_is_escaped(dom0, serverd, ask, status, expose):
    del serverd
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    status.answers("sys-net", report({"address": WEB, "state": "x\x1b[2J", "open": False,
                                      "reason": "\x1b]0;owned\x07\u202e\n\nWould arrive"}))
    done = expose("--status-command", status.path, "--explain", "web")
    assert done.returncode == PROBLEM
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout and "\u202e" not in done.stdout
    assert "\nWould arrive:" not in done.stdout and "\\x0a\\x0aWould arrive" in done.stdout.replace("\n    ", "")


def test_silent_hops_are_not_waited_for(dom0, serverd, ask, status):
    """Both at the same time, 5 s at most, with all that they started."""
    del serverd
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    for hop in ("sys-net", "sys-fw"):
        status.does(hop, "sleep 1000 & sleep 1000\n")
    begin = time.monotonic()
    answer = ask()
    assert 4.5 < time.monotonic() - begin < 8 * SLOW
    assert "within 5 s" in answer["why_not"]
    assert all("within 5 s" in hop["no_answer"] for hop in answer["ways"][0]["hops"])


def test_check_names_strays(dom0, serverd, expose, ask):
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    serverd.kill9()
    with dom0.qdb("sys-fw") as db:
        db.write("/network-server/192.168.16.99", "v=1|vm=gone\x1b[2J")
    done = expose("--check", "--json")
    assert done.returncode == PROBLEM
    found = [one for one in json.loads(done.stdout)["findings"] if one["kind"] == "stray"]
    assert len(found) == 1 and found[0]["qube"] == "sys-fw" and "192.168.16.99" in found[0]["what"]


def test_check_with_nothing_to_check(expose):
    done = expose("--check")
    assert done.returncode == OK and done.stdout.startswith("0 asked for")


def test_check_tells_once_what_a_hop_lacks():
    """What is wrong at a hop is so for both families."""
    if not available(SERVERD):
        pytest.skip("qubes-network-serverd is not built")
    with Dom0() as dom0:
        dom0.add("sys-net", provides_network=True, netvm=None, qid=2, features=(("ipv6", "1"),))
        dom0.add("web", netvm="sys-net", qid=4, ip=WEB)
        dom0.start("web")
        dom0.set_feature("web", "routing-method", "forward")
        Serverd(dom0)
        expose = Expose(dom0)

        def told():
            return json.loads(expose("--check", "--json").stdout)["findings"]

        wait_until(lambda: all("does not tell what it does" in one["what"] for one in told()), 5 * SLOW, what="records")
        assert len(json.loads(expose("--explain", "web", "--json").stdout)["ways"]) == 2
        assert [one["qube"] for one in told()] == ["web"], told()
        text = expose("--check").stdout
        assert text.count("does not tell") == 1 and "1 asked for: 0 open" in text and "1 findings" in text


def test_map(dom0, expose):
    expose("web", "--allow", "tcp/443")
    expose("db", "--publish", "tcp/8443:443")
    drawn = expose("--map", LC_ALL="C.UTF-8").stdout
    assert ("LAN\n└── sys-net  10.137.0.2\n    └── sys-fw  10.137.0.3\n        ├── ◌ db  10.137.0.5  halted\n"
            "        │       to be published by sys-net: tcp/8443:443\n        └── ● web  192.168.16.25\n"
            "                open: tcp/443\n") in drawn
    assert "`-- * web" in expose("--map", LC_ALL="C").stdout


def test_an_answer_that_was_cut(dom0, serverd, expose, ask, status):
    """What is not in an answer that is not whole is not known to be nothing."""
    del serverd
    dom0.set_feature("web", "routing-method", "forward")
    settle(ask)
    other = {"address": "192.168.16.77", "state": "open", "open": True}
    cut = {"values_left_out": True, "neighbours_left_out": 0, "addresses_left_out": 1}
    status.answers("sys-net", report(other, cut=cut))
    answer = ask()
    assert "the answer of sys-net was too long to hold it" in answer["why_not"]
    assert [hop.get("no_answer") for hop in answer["ways"][0]["hops"]] == [
        "the answer of sys-net was too long to hold it", None]
    text = expose("--status-command", status.path, "--explain", "web").stdout
    assert "not known" in text and "nothing of it" not in text and "too long to hold it" in text
    # it has a place in what is left of it, and an answer without its values is whole
    for whole in (report(other, {"address": WEB, "state": "open", "open": True}, cut=cut),
                  report({"address": WEB, "state": "open", "open": True}, cut=cut | {"addresses_left_out": 0})):
        status.answers("sys-net", whole)
        assert ask()["would_arrive"]
    for nothing in ({}, {"addresses_left_out": 0}, {"addresses_left_out": "1"}, [1], None, {"addresses_left_out": -1}):
        status.answers("sys-net", report(other, cut=nothing))
        assert "knows nothing of 192.168.16.25" in ask()["why_not"]


# ---- all of it, with machines ----

@pytest.fixture
def whole(lab):
    if not available(SERVERD):
        pytest.skip("qubes-network-serverd is not built")
    net = lab(flavoured(topologies.TWO_CHAINS, "4.3"))
    dom0 = Dom0(net)
    for name in ("sys-net", "sys-firewall"):
        dom0.router(name)
    Serverd(dom0)
    yield net, dom0, Expose(dom0)
    dom0.close()


def test_with_packets(whole):
    """What explain says is what packets find."""
    net, _, expose = whole

    def told(*words):
        done = expose("--explain", "web", "--json", *words)
        assert done.returncode in (OK, PROBLEM), done.stderr
        return json.loads(done.stdout)

    web = [door(net["lan1"], WEB, f"tcp/{port}") for port in (22, 443)] + [door(net["lan1"], "192.168.16.2", "tcp/8443")]
    for port in (22, 80, 443):
        net["web"].serve_tcp(port)
    assert expose("web", "--allow", "tcp/443", "--publish", "tcp/8443:80").returncode == OK
    wait_until(lambda: told()["would_arrive"], 10 * SLOW, what=f"a free way: {told()['why_not']}")
    assert [hop["reported"]["state"] for hop in told()["ways"][0]["hops"]] == ["open", "open"]
    assert told("--from", "192.168.16.10", "--port", "443")["would_arrive"]
    assert not told("--from", "192.168.16.10", "--port", "22")["would_arrive"]
    assert told("--from", "192.168.16.10", "--port", "8443")["by_published_port"]
    expect(net, web, web[1:])
    assert expose("--check").returncode == OK
    assert expose("web", "--off").returncode == OK
    expect(net, web, [])
    assert "nobody asked" in told()["why_not"]


def test_hosts_of_the_lan_are_known(whole):
    """The real router names whom sys-net has spoken with, in both families, and nobody else; and the command heeds it."""
    net, dom0, expose = whole
    lan1, lan2, sys_net = net["lan1"], net["lan2"], net["sys-net"]
    router = dom0.routers["sys-net"]
    before = dict(dom0["web"].explicit)

    def known():
        return {one["address"]: one for one in router.status()["neighbours"]}

    assert sys_net.ping("192.168.16.10") and sys_net.ping("2001:db8:16::10")
    host = known()["192.168.16.10"]
    assert host["mac"] == lan1.mac("eth0") and host["interface"] == "ens6" and host["seen"] < 30 * SLOW
    assert known()["2001:db8:16::10"]["mac"] == lan1.mac("eth0")
    assert "192.168.16.11" not in known() and not any(address.startswith("10.137.") for address in known())
    assert not any(address.startswith("fe80") for address in known())
    done = expose("web", "--ip", "192.168.16.10", "--allow", "tcp/22")
    assert done.returncode == REFUSED and lan1.mac("eth0") in done.stderr and dict(dom0["web"].explicit) == before
    assert expose("web", "--ip", "192.168.16.11", "--allow", "tcp/22", "--dry-run").returncode == OK
    # of what was only asked for, and of what somebody else answers for, nothing is said
    sys_net.run(["ip", "neigh", "add", "proxy", "192.168.16.99", "dev", "ens6"])
    assert not sys_net.ping("192.168.16.98") and not {"192.168.16.98", "192.168.16.99"} & set(known())
    sys_net.run(["ip", "neigh", "add", "192.168.16.97", "dev", "ens6", "lladdr", lan2.mac("eth0"), "nud", "permanent"])
    assert "seen" not in known()["192.168.16.97"]
    sys_net.run(["ip", "neigh", "add", "192.168.16.96", "dev", "ens6", "lladdr", sys_net.mac("ens6"), "nud", "permanent"])
    assert "192.168.16.96" not in known()  # ourselves
    batch = "".join(f"neigh add 192.168.16.{100 + n % 100} dev ens6 lladdr {lan2.mac('eth0')} nud stale\n" for n in range(100))
    batch += "".join(f"neigh add 2001:db8:16::{n + 256:x} dev ens6 lladdr {lan2.mac('eth0')} nud stale\n" for n in range(300))
    sys_net.batch(batch)
    assert len(known()) == 256


def test_counters_of_real_routers(whole):
    """Each hop counts the same connections, to the packet what its router says; and says where a flow passes it by."""
    net, dom0, expose = whole
    net["web"].serve_tcp(443)
    assert expose("web", "--allow", "tcp/443", "--publish", "tcp/8443:443").returncode == OK

    def reported():
        done = expose("--explain", "web", "--json")
        assert done.returncode in (OK, PROBLEM), done.stderr
        return [hop["reported"] or {} for hop in json.loads(done.stdout)["ways"][0]["hops"]]

    def text():
        return expose("--explain", "web").stdout

    wait_until(lambda: [hop.get("connections") for hop in reported()] == [0, 0], 10 * SLOW, "both hops open")
    assert text().count("0 new, 0 B") == 4  # two families
    for target, port in ((WEB, 443), (WEB, 443), ("192.168.16.2", 8443)):
        flow = net["lan1"].connect_tcp(target, port)
        flow.echo("x" * 3000)
        flow.close()
    assert not net["lan1"].can_reach(WEB, 22)
    for hop, name in zip(reported(), ("sys-net", "sys-firewall")):
        own = next(one for one in dom0.routers[name].status()["addresses"] if one["address"] == WEB)["counters"]
        assert hop["connections"] == own["connections"] == 3
        assert hop["packets"] >= 24 and hop["bytes"] > 9000, hop
    assert text().count("3 new, ") == 2 and "kB" in text()
    # no flowtable here: the element that its rule adds is added by hand
    vif = next(one for one in dom0.routers["sys-firewall"].status()["addresses"] if one["address"] == WEB)["vifs"][0]
    net["sys-firewall"].nft(f'add element ip qubes-network-server offloaded {{ "{vif}" . {WEB} }}')
    outer, inner = reported()
    assert "packets" in outer and inner["connections"] == 3 and "packets" not in inner and "bytes" not in inner
    assert text().count("3 new, not counted (offloaded)") == 1
