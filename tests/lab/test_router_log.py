# SPDX-License-Identifier: GPL-2.0-or-later
"""log=1: each new peer has one line; no flood has more than a few."""

import re
import socket

import pytest

from lab.node import wait_until
from lab.router import SLOW

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
LINE = re.compile(r"(\S+) of (\S+): new peer (\S+), (.*)")


@pytest.fixture
def net(lab):
    net = lab()
    net.router = net["sys-net"].router(["--verbose"])
    for name in ("web", "hidden"):
        net[name].serve_tcp(80), net[name].serve_tcp(443), net[name].serve_udp(53)
    return net


def lines(net):
    return LINE.findall(net.router.log)


def expose(net, name, family=4, **fields):
    net["sys-net"].expose(name, family, **fields)
    spec = net[name].spec
    addr = spec.ip if family == 4 else spec.ip6
    log = fields.get("log") == "1"

    def there():
        return any(one["address"] == addr and one["in_place"] and one["log"] == log
                   for one in net.router.status()["addresses"])
    wait_until(there, 3 * SLOW, f"{addr} open")
    return addr


def test_each_new_peer_once(net):
    expose(net, "web", log="1"), expose(net, "web", 6, log="1"), expose(net, "hidden")
    net["lan1"].connect_tcp(WEB, 80).close()
    wait_until(lambda: lines(net) == [(WEB, "web", "192.168.16.10", "tcp port 80")], 3 * SLOW, "the first peer")
    net["lan1"].connect_tcp(WEB, 80).close()  # known
    net["lan1"].connect_tcp(WEB, 443).close()
    net["lan1"].connect_tcp("192.168.16.26", 80).close()  # not logged
    net["lan2"].ask_udp(WEB, 53)
    wait_until(lambda: len(lines(net)) >= 2, 3 * SLOW, "the second peer")
    net["lan1"].connect_tcp(WEB6, 443).close()
    net["lan2"].ping(WEB6)
    wait_until(lambda: len(lines(net)) >= 4, 3 * SLOW, "two of IPv6")
    assert lines(net) == [(WEB, "web", "192.168.16.10", "tcp port 80"), (WEB, "web", "192.168.16.11", "udp port 53"),
                          (WEB6, "web", "2001:db8:16::10", "tcp port 443"), (WEB6, "web", "2001:db8:16::11", "icmp")]


def test_only_who_gets_in(net):
    """Closed ports and other exposures name nobody; own connections neither."""
    net["lan1"].serve_tcp(80)
    expose(net, "web", log="1", allow="tcp/443")
    assert not net["lan1"].can_reach(WEB, 80)
    net["web"].connect_tcp("192.168.16.10", 80).close()
    net["lan2"].connect_tcp(WEB, 443).close()
    wait_until(lambda: lines(net), 3 * SLOW, "a peer")
    assert lines(net) == [(WEB, "web", "192.168.16.11", "tcp port 443")]


def test_published(net):
    expose(net, "web", mode="publish", publish="tcp/8080:80", log="1")
    net["lan1"].connect_tcp("192.168.16.2", 8080).close()
    wait_until(lambda: lines(net) == [(WEB, "web", "192.168.16.10", "tcp port 80")], 3 * SLOW, "the peer")


def test_log_can_be_switched(net):
    """Off: nobody is named. On again, also by a successor: who was named in this hour is known."""
    expose(net, "web", log="1")
    net["lan1"].connect_tcp(WEB, 80).close()
    wait_until(lambda: len(lines(net)) == 1, 3 * SLOW, "the first peer")
    expose(net, "web", log="0")
    net["lan2"].connect_tcp(WEB, 80).close()
    net.router.restart()
    expose(net, "web", log="1")
    net["lan1"].connect_tcp(WEB, 80).close()
    net["lan2"].connect_tcp(WEB, 80).close()
    wait_until(lambda: len(lines(net)) == 2, 3 * SLOW, "the second peer")
    assert [line[2] for line in lines(net)] == ["192.168.16.10", "192.168.16.11"]


def test_flood_of_made_up_sources(net):
    """Thousands of sources: some fifty lines at once and ten a second; everybody is served, and who was not named is
    named later."""
    sys_net = net["sys-net"]
    expose(net, "web", log="1")
    net["web"].nft("add table inet mute; add chain inet mute in { type filter hook input priority -1; }; "
                   "add rule inet mute in udp dport 9 drop")
    net["lan1"].run("ip addr add 172.20.0.0/16 dev lo")
    sys_net.batch("route add 172.20.0.0/16 via 192.168.16.10 dev ens6\n")
    with net["lan1"].ns:
        for i in range(3000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.bind((f"172.20.{i >> 8}.{i & 255}", 0))
                one.sendto(b"new", (WEB, 9))
    counters = next(one["counters"] for one in net.router.status()["addresses"] if one["address"] == WEB)
    assert counters["connections"] >= 3000
    assert 10 <= len(lines(net)) <= 50 + 10 * 10 * SLOW
    net["lan2"].connect_tcp(WEB, 80).close()

    def named():
        net["lan2"].connect_tcp(WEB, 80).close()
        return any(line[2] == "192.168.16.11" for line in lines(net))
    wait_until(named, 5 * SLOW, "a peer is named after the flood")


def test_somebody_else_listens(net):
    """Another program has the group: said once, and the exposure is open."""
    sys_net = net["sys-net"]
    with sys_net.ns:
        taken = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    with taken:
        taken.bind((0, 0))
        # NFULNL_MSG_CONFIG of group 78: NFULNL_CFG_CMD_BIND
        body = b"\x00\x00" + (78).to_bytes(2, "big") + b"\x05\x00\x01\x00\x01\x00\x00\x00"
        taken.send((16 + len(body)).to_bytes(4, "little") + b"\x01\x04\x05\x00" + bytes(8) + body)
        taken.recv(1000)
        expose(net, "web", log="1")
        net["lan1"].connect_tcp(WEB, 80).close()
        expose(net, "web", log="1", allow="tcp/80")
        assert net.router.log.count("Cannot listen for new peers") == 1
        assert not lines(net)
    expose(net, "hidden", log="1")
    net["lan2"].connect_tcp("192.168.16.26", 80).close()
    wait_until(lambda: len(lines(net)) == 1, 3 * SLOW, "the peer")
