# SPDX-License-Identifier: GPL-2.0-or-later
"""limit=N: what each source may open in a second, told by packets that came through to the qube's own interface."""

import re
import socket
import time

import pytest

from lab.node import wait_until
from lab.router import SLOW

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6, HIDDEN = "192.168.16.25", "2001:db8:16::25", "192.168.16.26"
OF = {4: WEB, 6: WEB6}


@pytest.fixture(params=(4, 6), ids=("ipv4", "ipv6"))
def family(request):
    return request.param


@pytest.fixture
def net(lab):
    net = lab()
    net.router = net["sys-net"].router(["--verbose"])
    for name in ("web", "hidden"):
        net[name].serve_udp(53), net[name].serve_tcp(80)
        net[name].nft("add table inet mute; add chain inet mute in { type filter hook input priority -1; }; "
                      "add rule inet mute in udp dport 9 drop")
    return net


def status(net, addr):
    for one in net.router.status()["addresses"]:
        if one["address"] == addr:
            return one
    return {}


def expose(net, name, family=4, **fields):
    net["sys-net"].expose(name, family, **fields)
    spec = net[name].spec
    addr = spec.ip if family == 4 else spec.ip6
    limit = int(fields["limit"]) if fields.get("limit") else None
    wait_until(lambda: status(net, addr).get("in_place") and status(net, addr).get("limit") == limit, 3 * SLOW,
               f"{addr} open")
    return addr


def connections(net, addr):
    return status(net, addr)["counters"]["connections"]


class Opener:
    """Opens connections (each a datagram from a port of its own to a port that says nothing) as fast as it is told."""

    def __init__(self, node, addr):
        self.node, self.addr, self.sent, self.sockets = node, addr, 0, []

    def open(self, n):
        for _ in range(n):
            with self.node.ns:
                one = socket.socket(socket.AF_INET6 if ":" in self.addr else socket.AF_INET, socket.SOCK_DGRAM)
            self.sockets.append(one)  # kept: no port twice
            one.sendto(b"new", (self.addr, 9))
            self.sent += 1

    def close(self):
        for one in self.sockets:
            one.close()


@pytest.fixture
def opener(request):
    def make(node, addr):
        one = Opener(node, addr)
        request.addfinalizer(one.close)
        return one
    return make


def test_over_the_limit_is_dropped(net, family, opener):
    """At once as many as the limit, from each source; the other source and the other qube do not notice."""
    addr = expose(net, "web", family, limit="20")
    first, second = opener(net["lan1"], addr), opener(net["lan2"], addr)
    begin = time.monotonic()
    first.open(200)
    took = time.monotonic() - begin
    got = connections(net, addr)
    assert 20 <= got <= 20 + 20 * took + 1, (got, took)
    second.open(15)
    assert connections(net, addr) - got == 15
    free = expose(net, "hidden", family)
    opener(net["lan1"], free).open(200)
    assert connections(net, free) == 200


def test_the_rate_is_kept(net, opener):
    """Over two seconds of asking all the time: the burst and what the rate gives, neither more nor less."""
    for limit in (7, 25, 100):
        addr = expose(net, "web", limit=str(limit))
        before = connections(net, addr)
        one = opener(net["lan1"], addr)
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < 2.0:
            one.open(1 if one.sent < min(399, 50 + now * 170) else 0)
        got, took = connections(net, addr) - before, time.monotonic() - begin
        most = limit + limit * took + 1
        assert 0.8 * min(one.sent, limit + 2 * limit) - 1 <= got <= most, (limit, got, most)
        wait_until(lambda: "elements" not in net["sys-net"].nft("list set ip qubes-network-server buckets").stdout,
                   6 * SLOW, "the source forgotten")


def test_limit_of_one_and_of_a_million(net, opener):
    addr = expose(net, "web", limit="1")
    opener(net["lan1"], addr).open(50)
    assert 1 <= connections(net, addr) <= 2
    addr = expose(net, "hidden", limit="1000000")
    opener(net["lan1"], addr).open(300)
    assert connections(net, addr) == 300


def test_established_are_not_limited(net):
    """One flow, many datagrams."""
    addr = expose(net, "web", limit="2")
    with net["lan1"].ns:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with udp:
        udp.settimeout(2 * SLOW)
        udp.connect((addr, 53))
        for number in range(100):
            udp.send(b"%d" % number)
            udp.recv(100)


def test_another_rate_counts_at_once(net, opener):
    addr = expose(net, "web", limit="3")
    one = opener(net["lan1"], addr)
    one.open(100)
    got = connections(net, addr)
    assert got <= 4
    expose(net, "web", limit="64")
    one.open(100)
    more = connections(net, addr) - got
    assert 64 <= more <= 66 + 64 * SLOW / 10, more
    expose(net, "web")
    one.open(100)
    assert connections(net, addr) - got - more == 100


def test_published_ports_are_limited(net, opener):
    addr = expose(net, "web", mode="publish", publish="udp/9", limit="5")
    opener(net["lan1"], "192.168.16.2").open(100)
    assert 5 <= connections(net, addr) <= 7


def test_a_full_table_refuses_new_sources(net, opener):
    """Made-up sources fill the table of buckets: who has none gets no connection there. Exposures without a limit,
    connections that exist, and everybody once the flood is over, do not notice."""
    sys_net, addr = net["sys-net"], expose(net, "web", limit="10")
    free = expose(net, "hidden")
    vif = net["web"].vif
    sys_net.nft("flush set ip qubes-network-server buckets")
    made_up = [f'"{vif}" . {addr} . 10.{i >> 16}.{i >> 8 & 255}.{i & 255} . 0x8 timeout 5s' for i in range(65536)]
    sys_net.run(["nft", "-f", "-"], input="".join(
        f"add element ip qubes-network-server buckets {{ {', '.join(made_up[i:i + 4096])} }}\n"
        for i in range(0, len(made_up), 4096)))
    before = connections(net, addr)
    opener(net["lan1"], addr).open(5)
    assert connections(net, addr) == before
    opener(net["lan1"], free).open(5)
    assert connections(net, free) == 5

    later = opener(net["lan2"], addr)

    def again():
        later.open(1)
        return connections(net, addr) > before
    wait_until(again, 15 * SLOW, "the flood forgotten", interval=0.1)


def test_rules_do_not_grow(net):
    """Cost: exposures with a hundred different limits have the same rules as one."""
    def chains():
        text = net["sys-net"].run(["nft", "-s", "list", "table", "ip", "qubes-network-server"]).stdout
        return re.sub(r"elements = {[^}]*}", "", text)
    expose(net, "web", limit="1")
    before = chains()
    for limit in range(2, 60):
        expose(net, "web", limit=str(limit * limit))
    assert chains() == before


def test_the_limit_is_put_back(net, opener):
    sys_net, addr = net["sys-net"], expose(net, "web", limit="4")
    healed = net.router.status()["healed"]
    sys_net.nft("flush chain ip qubes-network-server rate-limit; flush map ip qubes-network-server rates")
    wait_until(lambda: net.router.status()["healed"] > healed, 3 * SLOW, "healed")
    wait_until(lambda: addr in sys_net.nft("list map ip qubes-network-server rates").stdout, 3 * SLOW, "the element")
    opener(net["lan1"], addr).open(100)
    assert 4 <= connections(net, addr) <= 6
