# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-network-serverd through what happens to qubes: after each event exactly the records with an owner stand."""

import pytest

from lab.qubesd import FLAVOURS
from serverd_world import A, B, World


@pytest.fixture(params=FLAVOURS)
def world(request):
    made = World(request.param)
    yield made
    made.close()


def test_expose_running(world):
    world.dom0.start("web")
    world.settle()
    assert world.markers() == {"sys-net", "sys-fw", "sys-fw2"}
    world.dom0.set_feature("web", "routing-method", "forward")
    world.exposed()
    world.dom0.set_feature("web", "network-server.allow", "tcp/22,443")
    world.dom0.remove_feature("web", "routing-method")
    world.settle()
