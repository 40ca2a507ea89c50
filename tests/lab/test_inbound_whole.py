# SPDX-License-Identifier: GPL-2.0-or-later
"""From a feature in dom0 to the last door: dom0's daemon, the routers of both hops, and qubes-inbound in the qube."""

import pytest

from lab import topologies
from lab.doors import door, doors, expect
from lab.inbound import PROGRAM, Inbound
from lab.router import available
from lab.serverd import SERVERD, Serverd

pytestmark = [pytest.mark.usefixtures("need_router"),
              pytest.mark.skipif(not (available(PROGRAM) and available(SERVERD)), reason="not built")]

WEB, WEB6, EDGE, EDGE6 = "192.168.16.25", "2001:db8:16::25", "192.168.16.2", "2001:db8:16::2"
TCP = ("tcp/22", "tcp/80", "tcp/443")


@pytest.fixture
def dom0(dom0_lab):
    dom0 = dom0_lab("4.3", topologies.CHAIN.changed("web", firewall=True))
    for name in ("sys-net", "sys-firewall"):
        dom0.router(name)
    for port in (22, 80, 443):
        dom0.lab["web"].serve_tcp(port)
    Serverd(dom0)
    dom0.inbound = Inbound(dom0.lab["web"])
    yield dom0
    dom0.inbound.close()


def test_one_statement_in_dom0(dom0):
    lan1 = dom0.lab["lan1"]
    inside = doors([lan1], [WEB, WEB6], TCP)
    outside = doors([lan1], [EDGE, EDGE6], ("tcp/8443",))
    everything = inside + outside
    expect(dom0.lab, everything, [])
    dom0.set_feature("web", "routing-method", "forward")
    expect(dom0.lab, everything, inside)
    dom0.set_feature("web", "network-server.allow", "tcp/80 from 192.168.16.0/24,2001:db8:16::/64")
    expect(dom0.lab, everything, doors([lan1], [WEB, WEB6], ("tcp/80",)))
    dom0.set_feature("web", "network-server.publish", "tcp/8443:443")
    expect(dom0.lab, everything, doors([lan1], [WEB, WEB6], ("tcp/80",)) + outside)
    dom0.set_feature("web", "network-server.allow", "tcp/80; tcp/nonsense")
    expect(dom0.lab, everything, [])
    dom0.set_feature("web", "network-server.allow", "")
    expect(dom0.lab, everything, outside)
    dom0.remove_feature("web", "network-server.allow")
    dom0.remove_feature("web", "routing-method")
    expect(dom0.lab, everything, outside)
    dom0.remove_feature("web", "network-server.publish")
    expect(dom0.lab, everything, [])


def test_the_door_is_shut_also_if_hops_were_open(dom0):
    """Each of the doors closes alone: with the qube's shut, open hops let nobody in."""
    lan1 = dom0.lab["lan1"]
    dom0.set_feature("web", "routing-method", "forward")
    expect(dom0.lab, doors([lan1], [WEB], TCP), doors([lan1], [WEB], TCP))
    assert dom0.inbound.end() == 0
    expect(dom0.lab, doors([lan1], [WEB], TCP), [])
    dom0.inbound.start()
    expect(dom0.lab, [door(lan1, WEB, "tcp/80")], [door(lan1, WEB, "tcp/80")])
