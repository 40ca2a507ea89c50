# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that has booted just now: nothing of nftables is loaded. The first use loads what is needed; where no module may
be loaded any more the seal cannot arm, says what is missing, and forwarding is off. Each wants a guest of its own."""

import json
import os
import subprocess

import pytest

from lab.router import available, program
from lab.vpn import CLIENT_USER, SEAL

pytestmark = pytest.mark.skipif(not available(SEAL), reason="the seal is not built")
FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


def loaded():
    with open("/proc/modules", encoding="ascii") as file:
        return {line.split()[0] for line in file}


def sysctl(name, value=None):
    with open(f"/proc/sys/{name}", "r" if value is None else "w", encoding="ascii") as file:
        return file.read().strip() if value is None else file.write(value)


def run(command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def seal(*words):
    return run([program(SEAL), *words, "--user", CLIENT_USER, "--supervisor-user", "0", "--socket", "/run/s"])


@pytest.fixture
def fresh():
    """This sandbox as a VPN qube: an uplink in group 1, a vif, forwarding on."""
    if "SLUICE_GUEST" not in os.environ:
        pytest.skip("only in a guest that has just booted")
    assert not loaded() & {"nf_tables", "nf_conntrack", "nfnetlink"}, "this guest is not fresh"
    run(["modprobe", "veth"])
    for device, group in (("eth0", "1"), ("vif9.0", "2")):
        assert run(["ip", "link", "add", device, "type", "veth", "peer", "name", f"far-{group}"]).returncode == 0
        run(["ip", "link", "set", device, "group", group, "up"])
    run(["ip", "addr", "add", "10.137.0.20/32", "dev", "eth0"])
    run(["ip", "route", "add", "default", "dev", "eth0"])
    for name in FORWARDING:
        sysctl(name, "1")


@pytest.mark.usefixtures("fresh")
def test_first_use_loads_what_is_needed():
    done = seal("on")
    assert done.returncode == 0, done.stderr
    report = json.loads(seal("check", "--json").stdout)
    assert report["sealed"] is True and "eth0" in report["uplinks"], report
    assert {"nf_tables", "nf_conntrack"} <= loaded()
    assert [sysctl(name) for name in FORWARDING][0] == "1"  # the platform's switch is left as it is


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("first", ["", "nf_tables", "nf_tables nft_ct nf_conntrack_netlink"],
                         ids=["nothing", "nf_tables", "conntrack"])
def test_without_modules_it_fails_closed(first):
    if first:
        assert run(["modprobe", "-a", *first.split()]).returncode == 0
    sysctl("kernel/modules_disabled", "1")
    done = seal("on")
    assert done.returncode == 1 and "Cannot seal" in done.stderr, done
    assert [sysctl(name) for name in FORWARDING] == ["0", "0"]
    assert loaded().isdisjoint({"nft_masq"})
    assert "no nftables: module" in done.stderr or "could not be loaded" in done.stderr, done.stderr
    check = seal("check")
    assert check.returncode not in (0, 3), check
