# SPDX-License-Identifier: GPL-2.0-or-later
"""Published ports: a port of the net qube leads to a port of a qube, and to nothing else."""

import pytest

from lab import topologies

NET, NET6 = "192.168.16.2", "2001:db8:16::2"
WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"


def record(vm, xid, rest, mode="publish", edge=1):
    return f"v=1|vm={vm}|xid={xid}|via=direct|edge={edge}|mode={mode}|{rest}"


def state(router, address):
    for entry in router.status()["addresses"]:
        if entry["address"] == address:
            return entry
    return {}


@pytest.fixture
def net(lab, need_router):
    net = lab(topologies.BASIC)
    web, hidden = net["web"], net["hidden"]
    for port in (80, 81, 443):
        web.serve_tcp(port)
    web.serve_udp(53)
    hidden.serve_tcp(443)
    net.router = net["sys-net"].router()
    net.qdb = net["sys-net"].qdb
    return net


def publish(net, wait_until, address, value, expect="open"):
    net.qdb.write(f"/network-server/{address}", value)
    wait_until(lambda: state(net.router, address).get("state") == expect, what=f"{address} {expect}")


def test_port_leads_to_the_qube_and_nothing_else_opens(net, wait_until):
    lan1 = net["lan1"]
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/8443:443;udp/5353:53"))
    assert lan1.connect_tcp(NET, 8443).peer == "192.168.16.10"
    assert lan1.can_reach(NET, 5353, proto="udp")
    assert not lan1.can_reach(NET, 443)
    assert not lan1.can_reach(NET, 8444)
    assert not lan1.can_reach(NET, 8443, proto="udp")
    assert lan1.arping(WEB) == []
    net["gw"].run(["ip", "route", "add", f"{WEB}/32", "via", NET])
    assert not net["gw"].can_reach(WEB, 443), "the port inside is open to those who come to it directly"


def test_over_ipv6(net, wait_until):
    publish(net, wait_until, WEB6, record("web", 11, "publish=tcp/8443:443"))
    assert net["lan1"].connect_tcp(NET6, 8443).peer == "2001:db8:16::10"
    assert not net["lan1"].can_reach(NET6, 443)


def test_ranges_and_the_same_port(net, wait_until):
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/9000-9001:80-81;tcp/443"))
    lan1 = net["lan1"]
    assert lan1.can_reach(NET, 9000) and lan1.can_reach(NET, 9001) and lan1.can_reach(NET, 443)
    assert not lan1.can_reach(NET, 9002)


def test_sources_count_by_the_port_outside(net, wait_until):
    """Two ports lead to one inside, open to different hosts: each is as open as it was told."""
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/9000:80;tcp/81:80 from 192.168.16.11"))
    lan1, lan2 = net["lan1"], net["lan2"]
    assert lan1.can_reach(NET, 9000) and lan2.can_reach(NET, 9000)
    assert lan2.can_reach(NET, 81)
    assert not lan1.can_reach(NET, 81)


def test_the_qube_goes_out_masqueraded(net, wait_until):
    """Only its port is published: its own connections do not carry its address."""
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/8443:443"))
    net["lan1"].serve_tcp(7000)
    assert net["web"].connect_tcp("192.168.16.10", 7000).peer == NET


def test_beside_its_own_address(net, wait_until):
    publish(net, wait_until, WEB, record("web", 11, "allow=tcp/80|publish=tcp/8443:443", mode="forward"))
    lan1 = net["lan1"]
    assert lan1.can_reach(WEB, 80) and lan1.can_reach(NET, 8443)
    assert not lan1.can_reach(WEB, 443)


def test_wanted_twice_opens_for_neither(net, wait_until):
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/8443:443"))
    stream = net["lan1"].connect_tcp(NET, 8443)
    publish(net, wait_until, "192.168.16.26", record("hidden", 13, "publish=tcp/8440-8445:440-445"), "duplicate")
    wait_until(lambda: state(net.router, WEB)["state"] == "duplicate", what="the first one closed too")
    assert "192.168.16.26" in state(net.router, WEB)["reason"]
    assert not net["lan1"].can_reach(NET, 8443)
    stream.close()
    net.qdb.rm("/network-server/192.168.16.26")
    wait_until(lambda: state(net.router, WEB)["state"] == "open", what="open again")
    assert net["lan1"].can_reach(NET, 8443)


def test_a_port_of_the_net_qube_itself_is_refused(net, wait_until):
    sys_net = net["sys-net"]
    sys_net.serve_tcp(8443)
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/8443:443"), "unusable")
    assert "tcp/8443" in state(net.router, WEB)["reason"]
    sys_net.serve_tcp(9999, addr="127.0.0.1")
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/9999:443"), "open")
    assert net["lan1"].can_reach(NET, 9999), "a loopback service is no obstacle"


def test_withdrawal_and_change_end_connections(net, wait_until):
    lan1 = net["lan1"]
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/8443:443;tcp/8080:80"))
    kept, cut = lan1.connect_tcp(NET, 8080), lan1.connect_tcp(NET, 8443)
    net.qdb.write(f"/network-server/{WEB}", record("web", 11, "publish=tcp/8444:443;tcp/8080:80"))
    wait_until(lambda: lan1.can_reach(NET, 8444), what="the new port")
    assert not lan1.can_reach(NET, 8443)
    assert kept.echo("still here") == "still here"
    with pytest.raises(OSError):
        cut.echo("gone", timeout=1)
    net.qdb.rm(f"/network-server/{WEB}")
    wait_until(lambda: not state(net.router, WEB), what="withdrawn")
    with pytest.raises(OSError):
        kept.echo("gone", timeout=1)
    assert not lan1.can_reach(NET, 8080)


@pytest.mark.parametrize("bad", [
    "publish=tcp/8443", "publish=icmp/8:8", "publish=tcp/1-3:1-2", "publish=tcp/0:1", "publish=tcp/80:80;tcp/80:81",
    "publish=", "publish=tcp/80:80;;tcp/81:81", "publish=tcp/80:80 from nowhere", "publish=tcp/1-65535",
    "publish=tcp/80:80 from 192.168.16.10;tcp/80:81 from 192.168.16.11"])
def test_what_does_not_parse_or_fit_is_refused(net, wait_until, bad):
    expect = "open" if bad == "publish=tcp/8443" else "refused"
    publish(net, wait_until, WEB, record("web", 11, bad), expect)
    if expect == "refused":
        assert not net["lan1"].can_reach(NET, 80)


def test_an_inner_hop_accepts_the_port_inside(net, wait_until):
    """edge=0: the port was translated further out; here it is a rule for the port inside."""
    publish(net, wait_until, WEB, record("web", 11, "publish=tcp/8443:443", edge=0))
    net["gw"].run(["ip", "route", "add", f"{WEB}/32", "via", NET])
    assert net["gw"].can_reach(WEB, 443)
    assert not net["gw"].can_reach(WEB, 80)
    assert not net["lan1"].can_reach(NET, 8443)
