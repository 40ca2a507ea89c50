# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages on booted machines: as a user installs them, in every state that systemd can bring them into."""

import pytest

ROUTER, INBOUND = "qubes-routing-manager.service", "qubes-inbound.service"
SEAL, VPN, SERVERD = "qubes-vpn-forwarding.service", "qubes-vpn.service", "qubes-network-serverd.service"
NET = ["qubes-network", "qubes-firewall"]


def test_installed_by_apt_and_started(world, install):
    """Into running machines: where the service is on, the unit runs at once, elsewhere it is enabled and skipped."""
    net = world.machine("net", services=NET, uplink="ens6", group=0, address="192.168.16.2/24", gateway="192.168.16.1")
    net.boot()
    install(net, "qubes-network-server", "qubes-vpn")
    assert net.active(ROUTER) == "active"
    for unit in (ROUTER, SEAL, VPN):
        assert net.run("systemctl", "is-enabled", unit).strip() == "enabled"
    for unit in (SEAL, VPN):
        assert net.active(unit) == "inactive"
        assert net.show(unit, "ConditionResult") == "no"
        assert net.show(unit, "Result") == "success"
