# SPDX-License-Identifier: GPL-2.0-or-later
"""A few random sequences (tests/lab/exposure_walk.py has as many as one likes), always the same ones; and the oracle that
judges them, by hand."""

import pytest

from lab import topologies
from lab.dom0 import Dom0, flavoured
from lab.serverd import SERVERD, available
from tests.lab import exposure_oracle, exposure_walk

LAN = "192.168.16.10"

need_all = pytest.mark.skipif(not available(SERVERD), reason="dom0's half is not built")


@pytest.fixture
def asked(lab):
    """asked(source, address, proto, port): what the oracle says of a tree without a record anywhere."""
    dom0 = Dom0(lab(flavoured(topologies.TWO_CHAINS, "4.3")), "4.3")

    def ask(source, address, proto="tcp", port=80):
        where = source if source[0].isdigit() else dom0[source]
        return exposure_oracle.Oracle(dom0).reaches(where, address, proto, port)

    ask.dom0 = dom0
    return ask


def test_oracle(asked):
    dom0, web = asked.dom0, "192.168.16.25"
    everybody = (LAN, "other", "hidden", "peer")
    assert not any(asked(source, web) for source in everybody)
    dom0.set_feature("web", "routing-method", "forward")
    assert all(asked(source, web) for source in everybody) and asked("web", web) is None
    assert asked("2001:db8:16::10", "2001:db8:16::25", "udp", 53)
    dom0.set_feature("web", "network-server.allow", "tcp/80 from 192.168.16.0/24; icmp")
    # peer is masked as its net qube, other and hidden come by vifs with their own
    assert [asked(source, web) for source in everybody] == [True, False, True, True]
    assert asked("other", web, "icmp", 0) and not asked(LAN, web, "tcp", 81)
    dom0.set_feature("web", "network-server.allow", "nonsense")
    assert not asked(LAN, web)
    dom0.set_feature("web", "network-server.allow", "")
    dom0.set_feature("web", "network-server.publish", "tcp/8080:80")
    assert asked(LAN, "192.168.16.2", "tcp", 8080) and asked("hidden", "192.168.16.2", "tcp", 8080)
    assert not asked(LAN, web) and not asked(LAN, "192.168.16.3", "tcp", 8080) and not asked("hidden", web)
    assert asked("other", web), "the port inside is open to who is beside it at an inner hop"
    dom0.set_feature("web", "network-server.allow", "tcp/80")
    dom0.set_feature("web", "network-server.publish", "tcp/8080:80 from 192.168.16.11; tcp/8080:80 from 192.168.16.26")
    assert asked(LAN, web) and not asked(LAN, "192.168.16.2", "tcp", 8080), "who may ask the qube may not ask there"
    assert asked("hidden", "192.168.16.2", "tcp", 8080) and asked("192.168.16.11", "192.168.16.2", "tcp", 8080)
    dom0.set_feature("web", "network-server.allow", "")
    dom0.set_feature("web", "network-server.publish", "tcp/8080:80")
    dom0.set_feature("hidden", "network-server.publish", "tcp/8000-8100")
    assert not asked(LAN, "192.168.16.2", "tcp", 8080) and not exposure_oracle.exposures(dom0)
    dom0.set_netvm("hidden", "sys-net2")
    assert asked(LAN, "192.168.16.2", "tcp", 8080) and asked(LAN, "192.168.16.3", "tcp", 8080)


def test_oracle_follows_what_is_live(asked):
    dom0, web = asked.dom0, "192.168.16.25"
    dom0.set_feature("web", "routing-method", "forward")
    assert exposure_oracle.Oracle(dom0).records()["sys-net", web] == {
        "v": "1", "vm": "web", "xid": "4", "via": "10.137.0.6", "edge": "1", "mode": "forward"}
    dom0.set_property("web", "ip", "192.168.16.27")
    assert asked(LAN, web) and not asked(LAN, "192.168.16.27")
    dom0.set_netvm("web", None)
    dom0.set_netvm("web", "sys-fw2")
    assert asked(LAN, "192.168.16.27") and not asked(LAN, web)
    dom0.pause("web")
    assert not asked(LAN, "192.168.16.27")
    dom0.unpause("web")
    dom0.set_property("hidden", "ip", "192.168.16.27")
    assert asked(LAN, "192.168.16.27")
    dom0.set_netvm("hidden", None)
    dom0.set_netvm("hidden", "sys-net")
    assert not asked(LAN, "192.168.16.27"), "two of them run with it"
    dom0.kill("hidden")
    assert asked(LAN, "192.168.16.27")
    dom0.set_feature("sys-fw2", "supported-feature.network-server", "")
    assert not asked(LAN, "192.168.16.27")


def test_oracle_of_outgoing_rules(asked):
    dom0, web = asked.dom0, "192.168.16.25"
    dom0.set_feature("web", "routing-method", "forward")
    oracle = exposure_oracle.Oracle(dom0)
    assert oracle.seen_by_lan(dom0["web"], 4) == web and oracle.seen_by_lan(dom0["other"], 4) == "192.168.16.2"
    assert oracle.opened_blocks() == {("sys-net", web), ("sys-net", "2001:db8:16::25")}
    dom0.set_firewall("other", ["action=drop"])
    assert not asked("other", web) and asked(LAN, web)


@need_all
@pytest.mark.slow
@pytest.mark.parametrize("seed", (1, 2, 9))
def test_walk(seed):
    result = exposure_walk.run(seed)
    assert not result.wrong, "\n".join([*result.wrong, f'--seed {seed} --steps "{result.text()}"', result.logs])
    assert result.opened > 2 * len(result.steps)


@need_all
@pytest.mark.slow
def test_the_walk_sees_a_false_address():
    """Without the platform's check of sources a qube beside it gets out in the name of the exposed one."""
    walk = exposure_walk.Walk(1)
    try:
        walk.dom0.set_feature("web", "routing-method", "forward")
        assert not walk.settle()
        for hop in ("sys-firewall", "sys-net"):
            walk.lab[hop].nft("flush chain ip qubes prerouting\n")
        assert "got out to the LAN: other as 192.168.16.25 of web" in walk.wrong()
    finally:
        walk.close()


@need_all
@pytest.mark.slow
def test_the_walk_sees_a_daemon_that_does_nothing(monkeypatch):
    """With records that nobody takes back, a sequence fails."""
    monkeypatch.setattr(exposure_walk, "SETTLE", 0.5)
    steps = [("forward", number) for number in range(6)]
    walk = exposure_walk.Walk(1)
    try:
        for name, number in steps:
            walk.do(name, number)
        walk.dom0.set_feature("web", "routing-method", "forward")
        exposure_walk.wait_until(lambda: not walk.wrong(), 10, "web exposed")
        walk.serverd.kill9()
        walk.dom0.remove_feature("web", "routing-method")
        assert any("without an owner" in text for text in walk.settle())
    finally:
        walk.close()
