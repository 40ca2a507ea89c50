# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody does who wants more open than was wished, wants it to stay open, or wants the router to stand still."""

import contextlib
import socket
import subprocess
import time

import pytest
from scapy.layers.l2 import ARP, Ether

from lab import platform, topologies
from lab.node import wait_until
from lab.router import SLOW

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
IP4_DELAY, IP6_FORWARDING = "net/ipv4/neigh/ens6/proxy_delay", "net/ipv6/conf/all/forwarding"


def state(router, addr):
    return next((one["state"] for one in router.status()["addresses"] if one["address"] == addr), None)


def wait_state(router, addr, wanted, timeout=5.0):
    wait_until(lambda: state(router, addr) == wanted, timeout * SLOW, f"{addr} {wanted}")


def record(**fields):
    fields = {"v": "1", "vm": "x", "xid": "99", "via": "direct", "edge": "1", "mode": "forward"} | fields
    return "|".join(f"{name}={value}" for name, value in fields.items())


def element(node):
    return WEB in node.run(["nft", "list", "set", "ip", "qubes", "network-server-any"], check=False).stdout


def memory(router):
    with open(f"/proc/{router.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS"))


def junk(count, value):
    return [(f"/network-server/10.{i >> 8}.{i & 255}.9", value) for i in range(count)]


# ---- withdrawal ----------------------------------------------------------------------------------------------------


def test_withdrawn_while_the_rules_are_gone(basic):
    """Somebody flushes everything; before the platform's rules are back, the wish ends. So do its connections."""
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = sys_net.router()
    sys_net.expose("web")
    wait_state(router, WEB, "open")
    with lan1.connect_tcp(WEB, 80) as connection:
        assert connection.alive()
        platform.flush(sys_net)
        wait_state(router, WEB, "platform")
        sys_net.withdraw("web")
        wait_state(router, WEB, None)
        platform.flush_and_reload(sys_net)
        wait_until(lambda: router.status()["platform"]["ip"]["recognised"], 5.0 * SLOW, "rules are back")
        assert not lan1.can_reach(WEB, 80)
        assert not connection.alive()


def test_an_address_that_fails_does_not_hurt_others(basic):
    """An uplink with a small MTU (a DHCP server of the LAN may set it) has no IPv6, and an entry for it is refused."""
    sys_net, lan1, lan2 = basic["sys-net"], basic["lan1"], basic["lan2"]
    basic["web"].serve_tcp(80)
    router = sys_net.router()
    sys_net.batch("link set ens6 mtu 1200\n")
    sys_net.expose("web", 6)
    wait_until(lambda: "refused a change" in router.log, 5.0 * SLOW, "the kernel refuses")
    sys_net.expose("web")
    wait_until(lambda: lan1.can_reach(WEB, 80), 5.0 * SLOW, "reachable")
    wait_state(router, WEB, "open", 1.0)
    mac = lan2.mac()
    lan2.send_frame("eth0", Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=2, hwsrc=mac, psrc=WEB, pdst=WEB))
    wait_until(lambda: not sys_net.proxies(), 1.0 * SLOW, "withdrawn: another host has it")
    assert state(router, WEB) == "conflict"


def test_too_many_keys_do_not_hold_an_address_open(basic):
    sys_net, lan1 = basic["sys-net"], basic["lan1"]
    basic["web"].serve_tcp(80)
    router = sys_net.router()
    sys_net.expose("web")
    wait_state(router, WEB, "open")
    sys_net.qdb.write_many([(f"/qubes-routing-method/junk{i}", "x") for i in range(20100)])
    wait_until(lambda: router.status()["refused_keys_total"] >= 20000, 10.0 * SLOW, "all of them read")
    sys_net.withdraw("web")
    wait_until(lambda: not element(sys_net), 5.0 * SLOW, "closed")
    assert not lan1.can_reach(WEB, 80)


# ---- kernel switches -----------------------------------------------------------------------------------------------


def test_switches_come_back_while_the_ruleset_changes(lab):
    """The old values and the guard are given up before the switches are back: a race, so it is tried many times."""
    sys_net = lab(topologies.BASIC.changed("sys-net", ipv6=False))["sys-net"]
    sys_net.router()
    before = sys_net.sysctl(IP4_DELAY)
    sys_net.nft("add table ip churn\nadd set ip churn s { type ipv4_addr; }\n")
    sys_net.popen(["sh", "-c", "while :; do nft add element ip churn s { 1.2.3.4 }; nft flush set ip churn s; done"],
                  stderr=subprocess.DEVNULL)
    for _ in range(40):
        sys_net.expose("web", 6), sys_net.expose("web", 4)
        wait_until(lambda: len(sys_net.proxies()) == 2 and sys_net.sysctl(IP6_FORWARDING) == "1", 6.0 * SLOW, "open")
        sys_net.withdraw("web", 6), sys_net.withdraw("web", 4)
        wait_until(lambda: not sys_net.proxies(), 3.0 * SLOW, "closed")
        wait_until(lambda: (sys_net.sysctl(IP6_FORWARDING), sys_net.sysctl(IP4_DELAY)) == ("0", before), 2.0 * SLOW,
                   "switches are back")


def test_switches_of_a_renamed_uplink_come_back(basic):
    def switches(name):
        return [sys_net.sysctl(f"net/{path}") for path in (
            f"ipv4/neigh/{name}/proxy_delay", f"ipv6/neigh/{name}/proxy_delay", f"ipv6/conf/{name}/proxy_ndp")]

    sys_net = basic["sys-net"]
    router = sys_net.router()
    before = switches("ens6")
    sys_net.expose("web"), sys_net.expose("web", 6)
    wait_until(lambda: len(sys_net.proxies()) == 2, 5.0 * SLOW, "open")
    sys_net.rename_uplink("ens6", "ens9")
    wait_until(lambda: sys_net.proxies() == {(WEB, "ens9"), (WEB6, "ens9")}, 5.0 * SLOW, "open on the new name")
    wait_state(router, WEB6, "open")
    sys_net.withdraw("web"), sys_net.withdraw("web", 6)
    wait_until(lambda: not sys_net.proxies(), 5.0 * SLOW, "closed")
    wait_until(lambda: switches("ens9") == before, 2.0 * SLOW, "switches are back")


# ---- standing still ------------------------------------------------------------------------------------------------


def test_many_publishers_do_not_delay_a_withdrawal(basic):
    sys_net = basic["sys-net"]
    router = sys_net.router()
    sys_net.expose("web")
    wait_state(router, WEB, "open")
    ports = [";".join(f"{proto}/{1024 + (64 * i + k) % 60000}" for k in range(64))
             for proto in ("tcp", "udp") for i in range(450)]
    sys_net.qdb.write_many([(key, record(mode="publish", publish=text)) for (key, _), text
                            in zip(junk(900, ""), ports)])
    started = time.monotonic()
    sys_net.withdraw("web")
    wait_until(lambda: not element(sys_net), 60.0, "closed")
    assert time.monotonic() - started < 1.0 * SLOW


def test_long_records_are_read_in_time_and_memory(basic):
    """Keys that the limit of addresses admits, each as expensive as 3,071 bytes can be."""
    sys_net = basic["sys-net"]
    router = sys_net.router()
    ranges = [",".join(f"{p}-{p + 1}" for p in range(1000 + 400 * k, 1240 + 400 * k, 4)) for k in range(4)]
    value = record(allow=";".join(f"tcp/{text}" for text in ranges))
    sys_net.qdb.write_many(junk(11000, value))
    started = time.monotonic()
    sys_net.expose("web")
    wait_until(lambda: element(sys_net), 60.0, "open")
    assert time.monotonic() - started < 1.0 * SLOW and memory(router) < 100 * SLOW


def test_a_rewritten_stray_key_does_not_fill_the_log(basic):
    sys_net = basic["sys-net"]
    router = sys_net.router()
    sys_net.qdb.write_many([(f"/network-server/x{i}", "x") for i in range(300)])
    wait_until(lambda: router.status()["refused_keys_total"] >= 300, 5.0 * SLOW, "counted")
    lines = len(router.log.splitlines())
    for i in range(100):
        seen = router.status()["reconciliations"]
        sys_net.qdb.write("/network-server/x99", str(i))
        wait_until(lambda n=seen: router.status()["reconciliations"] > n, 5.0 * SLOW, "seen")
    assert router.status()["refused_keys_total"] == 300
    assert len(router.log.splitlines()) - lines < 50


def test_silent_peers_do_not_hide_the_status(basic):
    router = basic["sys-net"].router()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.connect(router.control)
            peer.sendall(b"s")
        assert router.call("--status", check=False).returncode == 0
