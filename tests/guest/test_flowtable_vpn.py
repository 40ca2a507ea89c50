# SPDX-License-Identifier: GPL-2.0-or-later
"""The VPN qube beside the platform's flow table: what it carries passes no rule at all, only its end stops it."""

import pytest

from lab.flows import Datagrams
from lab.node import wait_until
from lab.router import SLOW, available
from lab.topologies import TARGET, TARGET6
from lab.vpn import SEAL, Seal
from lab.vpn_seal import Sealed
from tests.guest.flowtable import PACE, Talk, accelerate, by_rules, offloaded, watch

pytestmark = pytest.mark.skipif(not available(SEAL), reason="the seal is not built")


@pytest.fixture
def box(lab, kernel):
    kernel("flowtable")
    box = Sealed(lab, seal=False)
    accelerate(box.vpn)
    return box


@pytest.fixture
def flows(box):
    """One that asks and waits, two that send whatever happens; all of them offloaded."""
    made = [Talk(box.work, TARGET, 7)] + [Datagrams(box.work, address, 7, PACE) for address in (TARGET, TARGET6)]
    wait_until(lambda: len(offloaded(box.vpn)) == len(made), 5 * SLOW, "all flows offloaded")
    yield made
    for flow in made:
        flow.close()


def sends(flow, packets):
    """Until the flow has sent as many more."""
    before = flow.sent
    wait_until(lambda: flow.sent >= before + packets, 20 * SLOW, "datagrams sent")


def test_rules_alone_do_not_stop_an_offloaded_flow(box, flows):
    """The control: all of it goes by the flow table, and a drop in front of everything changes nothing."""
    watch(box.vpn, box.work.vif)
    box.vpn.nft("add rule inet slow-path forward drop")
    assert all([flow.moves() for flow in flows])
    assert by_rules(box.vpn) < sum(flow.count for flow in flows) / 20
    assert len(offloaded(box.vpn)) == len(flows)


@pytest.mark.parametrize("how", ["run", "on", "N"])
def test_arming_cuts_offloaded_flows(box, flows, how):
    """Not one packet leaves from the moment on that it says to be armed; also with layer N alone, which an offloaded flow
    does not meet: only its end can be what stops it."""
    assert all([flow.moves() for flow in flows])
    with box.oracle(state="before") as oracle:
        sends(flows[2], 10)
        if how == "on":
            box.seal = Seal(box.vpn, start=False)
            assert box.seal.on() == 0
        else:
            box.seal = Seal(box.vpn, layers="RNG" if how == "run" else how)
        oracle.mark("armed")
        assert not offloaded(box.vpn)
        for flow in flows[1:]:
            sends(flow, 20)
        assert not any(flow.moves() for flow in flows)
        accelerate(box.vpn)  # another vif comes
        oracle.mark("again")
        for flow in flows[1:]:
            sends(flow, 20)
        assert not any(flow.moves() for flow in flows) and not offloaded(box.vpn)
    assert not oracle.blind(), "the witness lost frames"
    report = oracle.report
    assert report.count("content", state="before") > 5, report  # it would have seen them
    kinds = () if how in ("run", "on") else ("content", "foreign")
    assert report.count(*kinds, state="armed") == report.count(*kinds, state="again") == 0, report


def test_the_tunnel_is_never_offloaded(box):
    """Up, and carrying for a while: every packet meets the rules, and the end of the tunnel is the end of the flow."""
    box.seal = Seal(box.vpn)
    box.connect()
    accelerate(box.vpn)
    flow = Datagrams(box.work, TARGET, 7, PACE)
    try:
        with box.watched():
            watch(box.vpn, box.work.vif)
            sent = flow.sent
            sends(flow, 50)
            assert flow.moves() and not offloaded(box.vpn)
            assert by_rules(box.vpn) >= 0.8 * (flow.sent - sent)
            box.client.kill()
            sends(flow, 20)
            assert not flow.moves() and not offloaded(box.vpn)
    finally:
        flow.close()
