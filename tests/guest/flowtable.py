# SPDX-License-Identifier: GPL-2.0-or-later
"""The platform's flow table, and what there is to see of it."""

import os
import re

from lab.flows import Ask

PACE = 0.05  # seconds between packets of a flow: the guest has not much of a processor

_TEXT = """add table inet qubes-nat-accel
delete table inet qubes-nat-accel
table inet qubes-nat-accel {{
    flowtable qubes-accel {{
        hook ingress priority filter
        devices = {{ {devices} }}
    }}
    chain qubes-accel {{
        type filter hook forward priority filter + 5; policy accept;
        meta l4proto {{ tcp, udp }} iifgroup 2 oifgroup 1 flow add @qubes-accel
        counter
    }}
}}
"""
_WATCH = """add table inet slow-path
delete table inet slow-path
table inet slow-path {{
    chain forward {{ type filter hook forward priority -200; policy accept;
        iifname "{iface}" counter
    }}
}}
"""


def accelerate(node):
    """What the platform does when a vif comes: the table anew, over all interfaces with plain names."""
    with node.ns:
        names = sorted(os.listdir("/proc/sys/net/ipv4/conf"))
    devices = [name for name in names if name not in ("all", "default") and re.fullmatch(r"[A-Za-z0-9._]+", name)]
    node.nft(_TEXT.format(devices=", ".join(devices)))


def offloaded(node):
    """Lines of connection tracking about flows that the flow table carries."""
    return [line for family in ("ipv4", "ipv6")
            for line in node.run(["conntrack", "-L", "-f", family], check=False).stdout.splitlines() if "OFFLOAD" in line]


def watch(node, iface):
    """Begins to count what comes by this interface and is forwarded by the rules."""
    node.nft(_WATCH.format(iface=iface))


def by_rules(node):
    """Packets since watch()."""
    return int(re.search(r"packets (\d+)", node.run(["nft", "list", "table", "inet", "slow-path"]).stdout)[1])


class Talk(Ask):
    """Takes its time."""

    pace = PACE
