# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself, without our router but for the demo: the platform's stand-in behaves as the platform does, and nothing
is left over."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from lab import demo, platform, topologies
from lab.lab import Lab
from lab.topology import Host, Link

WEB, WEB6, OTHER, HIDDEN = "192.168.16.25", "2001:db8:16::25", "10.137.0.13", "192.168.16.26"
LAN1, LAN1_6 = "192.168.16.10", "2001:db8:16::10"


def serve_everywhere(lab):
    for node in lab:
        node.serve_tcp(80)


def test_build_is_quick(lab, capsys):
    lab().close()  # imports and caches are warm
    seconds = min(lab().build_seconds for _ in range(2))
    with capsys.disabled():
        print(f" [basic topology built in {seconds:.2f} s]", end="")
    assert seconds < 3.0


@pytest.mark.parametrize("name", [name for name in topologies.ALL if name != "vpn"])
def test_every_topology_has_a_working_lan_and_way_out(lab, name):
    net = lab(topologies.ALL[name])
    net["internet"].serve_tcp(80)
    for qube in ("web", "other"):
        assert net[qube].connect_tcp("203.0.113.1", 80).peer == "192.168.16.2"
        assert net[qube].connect_tcp("2001:db8:1::1", 80).peer in ("2001:db8:16::2", "fd00:16::2")
    assert net["lan1"].ping("192.168.16.11")


def test_lan_cannot_reach_a_qube_even_with_a_route(basic):
    serve_everywhere(basic)
    lan1 = basic["lan1"]
    for address in (WEB, HIDDEN, WEB6):
        assert not lan1.can_reach(address, 80, timeout=0.2)
    lan1.batch(f"route add {WEB}/32 via 192.168.16.2\nroute add {WEB6}/128 via 2001:db8:16::2\n")
    assert not lan1.can_reach(WEB, 80, timeout=0.2)
    assert not lan1.can_reach(WEB6, 80, timeout=0.2)
    # The one rule that stops it is the one a routing manager has to get in front of.
    basic["sys-net"].nft(f"add rule ip qubes custom-forward ip daddr {WEB} ct state new accept\n"
                         f"add rule ip6 qubes custom-forward ip6 daddr {WEB6} ct state new accept\n")
    assert lan1.connect_tcp(WEB, 80).peer == LAN1
    assert lan1.connect_tcp(WEB6, 80).peer == LAN1_6


def test_an_accept_in_another_table_does_not_open(basic):
    serve_everywhere(basic)
    basic["lan1"].batch(f"route add {WEB}/32 via 192.168.16.2\n")
    basic["sys-net"].nft("table ip own {\n chain forward {\n type filter hook forward priority -10; policy accept;\n"
                         f"ip daddr {WEB} accept\n }}\n}}\n")
    assert not basic["lan1"].can_reach(WEB, 80, timeout=0.2)


def test_qubes_leave_masqueraded(basic):
    server = basic["lan1"].serve_tcp(80)
    basic["lan1"].serve_udp(53)
    assert basic["web"].connect_tcp(LAN1, 80).peer == "192.168.16.2"
    assert basic["other"].ask_udp(LAN1, 53) == "192.168.16.2"
    assert basic["web"].connect_tcp(LAN1_6, 80).peer == "2001:db8:16::2"
    assert len(server.peers) == 2


def test_identity_snat_before_srcnat_keeps_the_address(basic):
    basic["lan1"].serve_tcp(80)
    basic["lan1"].batch(f"route add {WEB}/32 via 192.168.16.2\n")
    basic["sys-net"].nft("table ip own {\n chain post {\n"
                         "type nat hook postrouting priority srcnat - 1; policy accept;\n"
                         f"ip saddr {WEB} snat to {WEB}\n }}\n}}\n")
    assert basic["web"].connect_tcp(LAN1, 80).peer == WEB


def test_qubes_are_kept_apart(basic):
    serve_everywhere(basic)
    assert not basic["other"].can_reach(WEB, 80, timeout=0.2)
    assert not basic["web"].can_reach(OTHER, 80, timeout=0.2)


def test_antispoof(basic):
    netqube, web = basic["sys-net"], basic["web"]
    web.batch("addr add 10.137.0.99/32 dev eth0\naddr add 2001:db8:16::99/128 dev eth0 nodad\n")
    spoofed = "host 10.137.0.99 or host 2001:db8:16::99"
    with netqube.sniff("ens6", spoofed) as uplink, netqube.sniff("vif11.0", "icmp") as vif:
        assert not web.ping(LAN1, 0.2, source="10.137.0.99")
        assert not web.ping(LAN1_6, 0.2, source="2001:db8:16::99")
        vif.wait_for(lambda packet: packet.scapy.src == web.spec.mac)
    assert not uplink.packets
    # The other direction: nobody on the LAN can speak with a qube's address.
    basic["lan1"].batch(f"addr add {OTHER}/32 dev eth0\n")
    platform.firewall_stop(netqube)  # its list of connected addresses drops them too, with no counter
    assert not basic["lan1"].ping("192.168.16.1", 0.2, source=OTHER)
    basic["lan1"].run(["ping", "-c1", "-W0.1", "-I", OTHER, "192.168.16.2"], check=False)
    rule = netqube.run(["nft", "list", "chain", "ip", "qubes", "prerouting"]).stdout
    assert "saddr @downstream counter packets 1 " in rule


def test_nothing_answers_arp_for_a_qube(basic):
    lan1, mac = basic["lan1"], basic["sys-net"].mac("ens6")
    assert [answer[0] for answer in lan1.arping("192.168.16.2", count=1)] == [mac]
    assert [answer[0] for answer in lan1.ndisc("2001:db8:16::2", count=1)] == [mac]
    for address in (WEB, OTHER, HIDDEN, "192.168.16.200"):
        assert lan1.arping(address, timeout=0.15) == []
    assert lan1.ndisc(WEB6, timeout=0.15) == []


def test_proxy_entries_are_answered_as_the_platform_allows(basic):
    lan1, netqube = basic["lan1"], basic["sys-net"]
    netqube.sysctl("net/ipv4/neigh/ens6/proxy_delay", 0)
    netqube.batch(f"neigh add proxy {WEB} dev ens6\n")
    assert netqube.proxies() == {(WEB, "ens6")}
    assert lan1.arping(WEB, count=1)
    basic["web"].stop()
    assert lan1.arping(WEB, timeout=0.15) == []  # the route is gone


def test_second_online_fails(basic):
    with pytest.raises(subprocess.CalledProcessError) as error:
        basic["web"].online()
    assert error.value.returncode == 2 and "File exists" in error.value.stderr


def test_stop_and_restart_with_another_domid(basic):
    netqube, web = basic["sys-net"], basic["web"]
    web.restart()
    assert web.vif == "vif21.0"
    routes = netqube.run(["ip", "route", "show", WEB]).stdout
    assert "vif21.0" in routes and "metric 32731" in routes and "vif11.0" not in routes
    assert '"vif11.0"' not in netqube.run(["nft", "list", "set", "ip", "qubes", "allowed"]).stdout
    assert web.ping(LAN1)


@pytest.fixture
def two_vifs(lab):
    topology = topologies.BASIC.changed("web", hvm=True, ip6=None)
    return lab(replace(topology, qubes=topology.qubes[:1]))


def test_two_vifs_of_one_address(two_vifs):
    routes = two_vifs["sys-net"].run(["ip", "route", "show", WEB]).stdout.splitlines()
    # The later domain id has the better metric.
    assert [line.split()[2] for line in routes] == ["vif12.0", "vif11.0"]
    assert two_vifs["web"].ping(LAN1)


def test_two_vifs_offline_defect(two_vifs):
    netqube, web = two_vifs["sys-net"], two_vifs["web"]

    def elements(name):
        return netqube.run(["nft", "list", "set", "ip", "qubes", name]).stdout

    assert WEB in elements("downstream")
    web.offline()
    assert WEB not in elements("downstream") and '"vif11.0"' not in elements("allowed")
    with pytest.raises(subprocess.CalledProcessError) as error:
        web.stub_offline()
    assert error.value.returncode == 1
    assert f'"vif12.0" . {WEB}' in elements("allowed")
    assert "vif12.0" in netqube.run(["ip", "route", "show", WEB]).stdout


def _count(netqube, text, chain="ip qubes forward"):
    return netqube.run(["nft", "list", "chain", *chain.split()]).stdout.count(text)


def test_reload_appends_and_flush_leaves_forwarding(basic):
    netqube = basic["sys-net"]
    platform.reload(netqube)
    assert _count(netqube, "oifgroup 2 counter") == 2
    assert basic["web"].ping(LAN1)
    platform.flush(netqube)
    assert netqube.run(["nft", "list", "ruleset"]).stdout == "" and netqube.sysctl("net/ipv4/ip_forward") == "1"
    with pytest.raises(subprocess.CalledProcessError) as error:
        basic["web"].restart()
    assert error.value.returncode == 1
    platform.flush_and_reload(netqube)
    assert _count(netqube, "oifgroup 2 counter") == 1
    assert basic["other"].ping(LAN1)


@pytest.mark.parametrize("flavour", ("4.2", "4.3"))
def test_firewall_rules_of_a_qube(lab, flavour):
    topology = topologies.BASIC.changed("sys-net", flavour=flavour).changed("other", rules=(
        "action=accept specialtarget=dns", f"action=accept proto=tcp dst4={LAN1}/32 dstports=80-80"))
    net = lab(topology)
    serve_everywhere(net)
    net["lan1"].serve_tcp(81)
    net["internet"].serve_udp(53)
    other = net["other"]
    assert other.can_reach(LAN1, 80)
    assert not other.can_reach(LAN1, 81, timeout=0.2) and not other.ping(LAN1, 0.2)
    assert not other.can_reach("192.168.16.11", 80, timeout=0.2)
    assert other.ask_udp("10.139.1.1", 53) == "192.168.16.2"
    chains = net["sys-net"].run(["nft", "list", "table", "ip", "qubes-firewall"]).stdout
    assert ("chain qubes-forward" in chains) == (flavour == "4.3") == ("set dns-addr" in chains)
    other.set_rules(None)
    assert other.can_reach(LAN1, 81)


def test_an_unknown_source_meets_policy_drop(basic):
    netqube = basic["sys-net"]
    netqube.nft("flush chain ip qubes-firewall qubes-forward\n")
    assert not basic["web"].ping(LAN1, 0.2)
    platform.firewall_stop(netqube)  # a clean stop fails open
    assert basic["web"].ping(LAN1)


def test_chain_masquerades_at_each_hop_and_stops_foreign_addresses(lab):
    net = lab(topologies.CHAIN)
    sys_net = net["sys-net"]
    with sys_net.sniff("vif4.0", "icmp") as inner:
        assert net["web"].ping(LAN1)
        packet = inner.wait_for(lambda packet: not packet.outgoing)
    assert packet.scapy["IP"].src == "10.137.0.6"
    assert not net["sys-firewall"].can_reach(HIDDEN, 80, timeout=0.1)


def test_qube_with_own_firewall(lab):
    net = lab(topologies.BASIC.changed("web", firewall=True))
    net["web"].serve_tcp(80)
    net["lan1"].batch(f"route add {WEB}/32 via 192.168.16.2\n")
    net["sys-net"].nft(f"add rule ip qubes custom-forward ip daddr {WEB} ct state new accept\n")
    assert not net["lan1"].can_reach(WEB, 80, timeout=0.2)
    net["web"].nft("add rule ip qubes custom-input tcp dport 80 ct state new accept\n")
    assert net["lan1"].can_reach(WEB, 80)


def test_uplink_events(lab, wait_until):
    net = lab()
    netqube, lan2 = net["sys-net"], net["lan2"]

    def out():
        return net["web"].ping("192.168.16.11", 0.2)

    assert out()
    netqube.uplink_down("ens6")
    assert not out()
    netqube.uplink_up("ens6")
    assert out()
    netqube.carrier("ens6", False)
    wait_until(lambda: "NO-CARRIER" in netqube.run(["ip", "link", "show", "ens6"]).stdout, what="carrier lost")
    netqube.carrier("ens6", True)
    wait_until(out, what="carrier back")
    netqube.new_mac("ens6", "02:00:00:00:00:77")
    lan2.neighbour_forget("192.168.16.2")
    wait_until(out, what="answers to the new MAC")
    assert lan2.arping("192.168.16.2", count=1)[0][0] == "02:00:00:00:00:77"
    netqube.rename_uplink("ens6", "enp0s6")
    wait_until(out, what="renamed uplink")
    netqube.remove_uplink("enp0s6")
    assert not out()
    netqube.add_uplink(Link("usb0", "lan", ("192.168.16.4/24",)))
    wait_until(out, what="new uplink")


def test_machines_can_come_later(basic):
    basic.add(Host("lan3", (Link("eth0", "lan", ("192.168.16.12/24",)),)))
    assert basic["lan1"].ping("192.168.16.12")
    late = basic.add(replace(topologies.BASIC.qubes[1], name="late", domid=40, ip="10.137.0.40", ip6=None))
    assert late.ping(LAN1)


def test_capture_has_kernel_times_and_filter(basic):
    with basic["lan1"].sniff("eth0", "icmp[0] == 8") as taken:
        start = time.time()
        assert basic["web"].ping(LAN1)
        packet = taken.wait_for(lambda packet: True)
    assert start <= packet.time <= time.time() and not packet.outgoing
    assert len(taken.packets) == 1 and packet.scapy["IP"].src == "192.168.16.2"


_HOLD = """
import os, sys
from lab import sandbox, topologies
from lab.lab import Lab
net = Lab(topologies.BASIC)
net["lan1"].popen(["sleep", "1234"])
os.write(1, b"ready\\n")
sys.stdin.read()
"""


def _sandbox(text):
    env = {name: value for name, value in os.environ.items() if name != "SLUICE_SANDBOX"}
    return subprocess.Popen([sys.executable, "-m", "lab.sandbox", sys.executable, "-c", text], env=env, bufsize=0,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _processes(word):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if word in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def _mounts():
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGTERM))
def test_nothing_is_left_over(wait_until, number):
    namespaces, before, mounts = set(os.listdir("/run/netns")), os.listdir("/run"), _mounts()
    with _sandbox(_HOLD) as process:
        assert process.stdout.readline() == b"ready\n"
        wait_until(lambda: _processes(b"1234"), what="its process")
        assert set(os.listdir("/run/netns")) == namespaces
        process.send_signal(number)
        process.wait(5)
        # Standard input is still open: the sandbox does not end by itself.
        wait_until(lambda: not _processes(b"1234"), what="every process of the sandbox gone")
    assert _mounts() == mounts
    assert set(os.listdir("/run/netns")) == namespaces and os.listdir("/run") == before


def test_two_sandboxes_do_not_meet():
    with _sandbox(_HOLD) as one, _sandbox(_HOLD) as two:
        for process in (one, two):
            assert process.stdout.readline() == b"ready\n"
        for process in (one, two):
            process.stdin.close()
            assert process.wait(5) == 0


@pytest.mark.usefixtures("need_router")
def test_demo(basic, capsys):
    assert demo.Demo(basic).run() == 0, capsys.readouterr().out


def test_a_lab_outside_of_the_sandbox_refuses(monkeypatch):
    monkeypatch.delenv("SLUICE_SANDBOX")
    with pytest.raises(RuntimeError, match="sandbox"):
        Lab(topologies.BASIC)
