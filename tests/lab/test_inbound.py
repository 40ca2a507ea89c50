# SPDX-License-Identifier: GPL-2.0-or-later
"""The exposed qube's own door: open exactly where the record says, seen with packets that came through a router."""

import json
import os
import shutil
import signal
import time

import pytest

from lab import platform, topologies
from lab.doors import door, doors, expect, reached, until_open
from lab.inbound import PROGRAM, VM_CONFIG, Inbound
from lab.node import wait_until
from lab.router import SLOW, available, program

pytestmark = [pytest.mark.usefixtures("need_router"),
              pytest.mark.skipif(not available(PROGRAM), reason=f"{program(PROGRAM)} is not built")]

WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
CHAIN = "network-server-inbound"
NOBODY = 65534
TCP = ("tcp/22", "tcp/80", "tcp/7999", "tcp/8000", "tcp/8002", "tcp/8003")
EVERYTHING = TCP + ("udp/53", "udp/54", "icmp")


@pytest.fixture
def net(lab):
    """web has the platform's own input rules; sys-net lets everybody through to it."""
    net = lab(topologies.BASIC.changed("web", firewall=True))
    net.router = net["sys-net"].router()
    for family in (4, 6):
        net["sys-net"].expose("web", family)
    for what in EVERYTHING:
        proto, _, port = what.partition("/")
        if port:
            getattr(net["web"], f"serve_{proto}")(int(port))
    wait_until(lambda: net.router.status()["open"] == 2, 5 * SLOW, "both addresses open in sys-net")
    yield net
    if getattr(net, "inbound", None) is not None:
        net.inbound.close()


@pytest.fixture
def inbound(net):
    net.inbound = Inbound(net["web"])
    return net.inbound


def every_door(net, names=("lan1", "lan2")):
    """ICMPv6 is always open: the platform accepts it from everywhere."""
    hosts = [net[name] for name in names]
    return doors(hosts, [WEB], EVERYTHING) + doors(hosts, [WEB6], EVERYTHING[:-1])


def rules(node, version=4):
    return node.run(["nft", "-j", "list", "chain", "ip6" if version == 6 else "ip", "qubes", CHAIN],
                    check=False).stdout


def jumps(node, version=4):
    text = node.run(["nft", "list", "chain", "ip6" if version == 6 else "ip", "qubes", "custom-input"]).stdout
    return text.count(f"jump {CHAIN}\n")


def test_exactly_the_ports_while_the_record_stands(net, inbound):
    lan1, lan2 = net["lan1"], net["lan2"]
    everything = every_door(net)
    expect(net, everything, [])
    inbound.write(f"v=1|{WEB} allow=tcp/80; tcp/8000-8002 from 192.168.16.10; icmp|{WEB6} allow=udp/53")
    expect(net, everything, doors([lan1, lan2], [WEB], ("tcp/80", "icmp")) +
           doors([lan1], [WEB], ("tcp/8000", "tcp/8002")) + doors([lan1, lan2], [WEB6], ("udp/53",)))
    inbound.write(f"v=1|{WEB6} allow=any from 2001:db8:16::11")
    expect(net, everything, doors([lan2], [WEB6], EVERYTHING[:-1]))
    inbound.write(f"v=1|{WEB} allow=any|{WEB6} allow=")
    expect(net, everything, doors([lan1, lan2], [WEB], EVERYTHING))
    inbound.write("v=1")
    expect(net, everything, [])
    inbound.write(f"v=1|{WEB} allow=any; tcp/80 from 192.168.16.0/24; tcp; icmp|{WEB6} allow=tcp/80-65535,1-79;udp")
    expect(net, everything, everything)
    inbound.remove()
    expect(net, everything, [])
    assert inbound.call("--status")[0] == 0


def test_net_qube_has_the_last_word(net, inbound):
    """A whole slice: both doors have to be open, in the qube and in the net qube."""
    lan1 = net["lan1"]
    inbound.write(f"v=1|{WEB} allow=tcp/22,80")
    questions = doors([lan1], [WEB], TCP)
    expect(net, questions, doors([lan1], [WEB], ("tcp/22", "tcp/80")))
    net["sys-net"].expose("web", allow="tcp/80,8000")
    expect(net, questions, doors([lan1], [WEB], ("tcp/80",)))
    net["sys-net"].expose("web", mode="publish", publish="tcp/8443:22")
    expect(net, questions + doors([lan1], ["192.168.16.2"], ["tcp/8443"]), doors([lan1], ["192.168.16.2"], ["tcp/8443"]))
    net["sys-net"].withdraw("web")
    expect(net, questions + doors([lan1], ["192.168.16.2"], ["tcp/8443"]), [])


@pytest.mark.parametrize("value", ["", "v=2", "v=1|", f"v=1|{WEB}", f"v=1|{WEB} allow=tcp/0", f"v=1|{WEB} allow=tcp/80|x=1",
                                   f"v=1|{WEB} allow=any|{WEB} allow=any", "v=1|127.0.0.1 allow=any",
                                   "v=1|0.0.0.0/0 allow=any", f"v=1|{WEB}  allow=any", f"v=1|{WEB} allow=any\n",
                                   "v=1|fe80::1 allow=any", f"v=1|{WEB} allow=tcp/80\xff", f"v=1|{WEB} deny=any"])
def test_malformed_closes_and_is_said(net, inbound, value):
    questions = doors([net["lan1"]], [WEB], EVERYTHING)
    inbound.write(f"v=1|{WEB} allow=any")
    expect(net, questions, questions)
    inbound.write(value.encode("latin-1"))
    wait_until(lambda: "is refused, the door is shut" in inbound.log, 2 * SLOW, "the refusal said")
    expect(net, questions, [])
    status, text = inbound.call("--status")
    assert status == 1 and "is refused" in text, text
    assert inbound.status()["refused"]


def test_stock_dom0_and_whose_key_counts(net, inbound):
    lan1 = net["lan1"]
    questions = doors([lan1], [WEB], TCP)
    inbound.write(f"v=1|{WEB} allow=tcp/80", VM_CONFIG)
    expect(net, questions, [door(lan1, WEB, "tcp/80")])
    inbound.write(f"v=1|{WEB} allow=tcp/22")
    expect(net, questions, [door(lan1, WEB, "tcp/22")])
    inbound.write("nonsense")  # the daemon's key is there: the other one does not count
    expect(net, questions, [])
    inbound.remove()
    expect(net, questions, [door(lan1, WEB, "tcp/80")])
    inbound.remove(VM_CONFIG)
    expect(net, questions, [])


HARM = {
    "jump": "flush chain ip qubes custom-input\n",
    "chain": f"flush chain ip qubes {CHAIN}\n",
    "foreign rule": f"insert rule ip qubes {CHAIN} drop\n",
    "element": f"flush set ip qubes {CHAIN}-rule\n",
    "all of it": f"flush chain ip qubes custom-input\nflush chain ip qubes {CHAIN}\ndelete chain ip qubes {CHAIN}\n"
                 f"delete set ip qubes {CHAIN}-rule\ndelete set ip qubes {CHAIN}-from\n",
}


@pytest.mark.parametrize("harm", HARM)
def test_healed(net, inbound, harm):
    lan1, web = net["lan1"], net["web"]
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    question = door(lan1, WEB, "tcp/80")
    expect(net, doors([lan1], [WEB], EVERYTHING), [question])
    web.nft(HARM[harm])
    before = time.monotonic()
    until_open(net, question, 2 * SLOW)
    assert time.monotonic() - before < 0.1 * SLOW
    expect(net, doors([lan1], [WEB], EVERYTHING), [question])
    assert jumps(web) == 1


def test_what_others_opened_in_our_sets_is_closed(net, inbound):
    lan1, web = net["lan1"], net["web"]
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    expect(net, doors([lan1], [WEB], TCP), [door(lan1, WEB, "tcp/80")])
    web.nft(f"add element ip qubes {CHAIN}-from {{ {WEB} . 0.0.0.0/0 }}\n"
            f"add element ip qubes {CHAIN}-rule {{ {WEB} . 6 . 22 . 192.168.16.10 }}\n"
            f"insert rule ip qubes {CHAIN} accept\n")
    expect(net, doors([lan1], [WEB], TCP), [door(lan1, WEB, "tcp/80")], timeout=0.2)


def test_rules_of_the_user_stay(net, inbound):
    web, lan1 = net["web"], net["lan1"]
    web.nft("add rule ip qubes custom-input tcp dport 8003 ct state new accept\n")
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    both = doors([lan1], [WEB], ("tcp/80", "tcp/8003"))
    expect(net, doors([lan1], [WEB], TCP), both)
    inbound.end()
    expect(net, doors([lan1], [WEB], TCP), both[1:])


def test_flushed_and_loaded_again(net, inbound):
    web, lan1 = net["web"], net["lan1"]
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    question = door(lan1, WEB, "tcp/80")
    expect(net, doors([lan1], [WEB], TCP), [question])
    web.nft("flush ruleset\n")
    wait_until(lambda: 'no table "ip qubes"' in inbound.log, 2 * SLOW, "the missing table said")
    assert "no table" in inbound.call("--status")[1]
    platform.boot_qube(web)
    expect(net, doors([lan1], [WEB], TCP), [question])
    platform.reload(web)
    expect(net, doors([lan1], [WEB], TCP), [question])
    assert inbound.call("--status")[0] == 0


def test_life(net, inbound):
    lan1 = net["lan1"]
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    question = door(lan1, WEB, "tcp/80")
    everything = doors([lan1], [WEB], TCP)
    expect(net, everything, [question])
    assert inbound.end() == 0
    expect(net, everything, [])
    inbound.start()
    expect(net, everything, [question])
    for number in (signal.SIGUSR1, signal.SIGKILL):
        inbound.end(number)
        assert reached(net, everything) == {question}
        inbound.write(f"v=1|{WEB} allow=tcp/22")  # a successor finds another wish, and what was left
        inbound.start()
        expect(net, everything, [door(lan1, WEB, "tcp/22")])
        inbound.write(f"v=1|{WEB} allow=tcp/80")
        expect(net, everything, [question])


def test_without_qubesdb(net, inbound):
    lan1, web = net["lan1"], net["web"]
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    question = door(lan1, WEB, "tcp/80")
    everything = doors([lan1], [WEB], TCP)
    expect(net, everything, [question])
    inbound.qubesdb_stop()
    wait_until(lambda: "cannot be read" in inbound.log, 2 * SLOW, "the loss said")
    web.nft(HARM["all of it"])
    expect(net, everything, [question])  # what is open stays, also against others
    inbound.end(signal.SIGUSR1)
    inbound.start()  # ready without a database; what is there is not touched
    for name in ("one", "two", "three"):  # also when the rules change
        web.nft(f"add chain ip qubes {name}\n")
        assert reached(net, everything) == {question}
    inbound.qubesdb_start()  # empty
    expect(net, everything, [])


def test_a_qube_without_a_record_is_not_touched(net, inbound):
    web = net["web"]
    wait_until(lambda: inbound.process.poll() is None and inbound.call("--status")[0] == 0, 2 * SLOW, "a first look")
    inbound.write("v=1")
    wait_until(lambda: "open at v=1" in inbound.log, 2 * SLOW, "an empty record read")
    assert CHAIN not in web.run(["nft", "list", "ruleset"]).stdout
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    wait_until(lambda: rules(web), 2 * SLOW, "rules")
    assert CHAIN not in web.run(["nft", "list", "table", "ip6", "qubes"]).stdout


def test_no_process_on_an_event(net):
    """nft starts once for the skeleton of a family, however many records come."""
    web, lan1 = net["web"], net["lan1"]
    count, nft = f"{net.work}/count", f"{net.work}/nft"
    with open(nft, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\necho >>{count}\nexec /usr/sbin/nft \"$@\"\n")
    os.chmod(nft, 0o755)
    net.inbound = inbound = Inbound(web, ["--nft", nft])
    question = doors([lan1], [WEB, WEB6], ["tcp/80"])
    for _ in range(5):
        inbound.write(f"v=1|{WEB} allow=tcp/80|{WEB6} allow=tcp/80")
        expect(net, question, question)
        inbound.write("v=1")
        expect(net, question, [])
    with open(count, encoding="ascii") as file:
        assert len(file.read()) == 2


def test_an_ordinary_user_with_one_right(net):
    web, lan1 = net["web"], net["lan1"]
    with open("/proc/self/uid_map", encoding="ascii") as file:
        if not any(int(words[0]) <= NOBODY < int(words[0]) + int(words[2]) for words in map(str.split, file)):
            pytest.skip("no other user in this sandbox")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    rights = "-all,+net_admin"
    net.inbound = inbound = Inbound(web, start=False, prefix=[
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
        f"--bounding-set={rights}", f"--inh-caps={rights}", f"--ambient-caps={rights}"])
    os.chmod(f"{inbound.folder}/notify", 0o666)
    os.chmod(inbound.socket, 0o666)
    inbound.start()
    with open(f"/proc/{inbound.process.pid}/status", encoding="ascii") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines())
    assert status["Uid"].split() == 4 * [str(NOBODY)]
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12
    inbound.write(f"v=1|{WEB} allow=tcp/80")
    expect(net, doors([lan1], [WEB], TCP), [door(lan1, WEB, "tcp/80")])
    web.nft(HARM["all of it"])
    expect(net, doors([lan1], [WEB], TCP), [door(lan1, WEB, "tcp/80")])
    assert inbound.end() == 0
    expect(net, doors([lan1], [WEB], TCP), [])


def test_status_and_dry_run(net):
    web = net["web"]
    net.inbound = inbound = Inbound(web, start=False)
    inbound.write(f"v=1|{WEB} allow=tcp/80 from 192.168.16.0/24")
    status, text = inbound.call("--dry-run")
    assert status == 0 and f"would open {WEB}: protocol 6, ports 80-80 from 192.168.16.0-192.168.16.255" in text
    assert CHAIN not in web.run(["nft", "list", "ruleset"]).stdout
    assert inbound.call("--status")[0] == 1
    inbound.start()
    wait_until(lambda: inbound.call("--status")[0] == 0, 2 * SLOW, "everything in place")
    said = inbound.status()
    assert said["key"] == "/network-server-inbound" and said["differences"] == []
    assert said["addresses"] == [{"address": WEB, "allow": "tcp/80 from 192.168.16.0/24", "missing": None}]
    assert inbound.call("--dry-run") == (0, "nothing to do\n")
    assert json.loads(inbound.call("--dry-run", "--json")[1])["refused"] is None
    assert inbound.call("--status", "--dry-run")[0] == 2


def test_a_stream_of_changes_ends_as_the_last_says(net, inbound):
    lan1 = net["lan1"]
    with inbound.qdb as db:
        for number in range(1, 300):
            db.write("/network-server-inbound", f"v=1|{WEB} allow=tcp/{number}; udp/{number}-{number + 300}")
        db.write("/network-server-inbound", f"v=1|{WEB} allow=tcp/22")
    expect(net, doors([lan1], [WEB], EVERYTHING), [door(lan1, WEB, "tcp/22")])
    assert inbound.call("--status")[0] == 0
