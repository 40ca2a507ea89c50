# SPDX-License-Identifier: GPL-2.0-or-later
"""The short form of the leak matrix (`make leaks` is the long one), and the witness's own tests."""

import subprocess
import time

import pytest

from lab import topologies
from lab import vpn_frames as frames
from lab.lab import Lab
from lab.node import wait_until
from lab.platform import BACKEND_MAC
from lab.topologies import TARGET
from lab.vpn import COMMAND, SEAL, SUPERVISOR, HandClient, available
from lab.vpn_flood import Flood
from lab.vpn_oracle import Oracle
from lab.vpn_provider import NAME, Provider, make_question, way
from tests.leaks import matrix

need_seal = pytest.mark.skipif(not available(SEAL), reason="qubes-vpn-forwarding is not built")
need_all = pytest.mark.skipif(not all(map(available, (SEAL, SUPERVISOR, COMMAND))), reason="the VPN half is not built")


def complaints(layers, mode, **options):
    run = matrix.execute(layers, mode, quick=True, **options)
    print(run.report)
    return "\n".join(matrix.judge(run) if layers else matrix.judge_control(run))


# -- the witness -------------------------------------------------------------------------------------------------------

def test_the_control_sees_every_class():
    assert complaints("", "none") == ""


def test_the_older_way_leaks_where_it_is_known_to():
    assert "\n".join(matrix.judge_older(matrix.execute("", "older", quick=True))) == ""


def test_the_witness_keeps_up_and_counts_right():
    with Lab(topologies.VPN) as lab:
        provider = Provider(lab)
        for _attempt in range(5):  # a busy machine has a bad second now and then
            with Oracle(lab) as oracle:
                with Flood(lab["work"], 4000) as flood:
                    time.sleep(1)
                time.sleep(0.2)
            if flood.pps >= 3000:
                break
        assert flood.pps >= 3000 and not oracle.blind()
        assert provider.clear.peers
        sent = sum(number for (_, place, _, tag), number in oracle.report.leak_counts.items()
                   if tag.startswith("LK001") and place == "uplink")
        assert sent >= 0.99 * flood.sent


MAC, UPLINK, GATEWAY, SERVER = "00:16:3e:5e:6c:00", "10.137.0.20", "10.137.0.5", "203.0.113.10"
FRAMES = {
    "carrier": (frames.udp(UPLINK, SERVER, 5, 1194, b"x"), None),
    "carrier with a tag": (frames.udp(UPLINK, SERVER, 5, 1194, frames.payload(83)), "content"),
    "carrier, other port": (frames.udp(UPLINK, SERVER, 5, 1195, b"x"), "local"),
    "carrier, a qube's address": (frames.udp("10.137.0.21", SERVER, 5, 1194, b"x"), "content"),
    "the tunnel's address": (frames.udp("10.8.0.2", "9.9.9.9", 5, 9, b"x"), "content"),
    "an error that quotes": (frames.icmp(UPLINK, "1.2.3.4", 11, 0, 0, frames.udp("1.2.3.4", "10.8.0.2", 7, 7, b"x")),
                             "content"),
    "to the target": (frames.udp(UPLINK, TARGET, 5, 7, b"x"), "content"),
    "look-up": (frames.udp(UPLINK, "10.139.1.1", 5, 53, make_question(NAME)), None),
    "another look-up": (frames.udp(UPLINK, "10.139.1.1", 5, 53, make_question("secret.example")), "local"),
    "ARP": (frames.arp(BACKEND_MAC, MAC, 1, UPLINK, GATEWAY), None),
    "ARP for somebody": (frames.arp(BACKEND_MAC, MAC, 1, UPLINK, "10.137.0.77"), "local"),
    "ARP tells the tunnel's address": (frames.arp(BACKEND_MAC, MAC, 2, "10.8.0.2", GATEWAY), "content"),
    "unknown": (frames.ether(BACKEND_MAC, MAC, b"hello", 0x88B5), "foreign"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_witness_judges_a_frame(name):
    frame, kind = FRAMES[name]
    if frame[0] >> 4 == 4:
        frame = frames.ether(BACKEND_MAC, MAC, frame)
    with Lab(topologies.VPN) as lab:
        with Oracle(lab, [("udp", SERVER, 1194)], watch_qubes=False) as oracle:
            oracle.mark("test")
            lab["vpn"].send_frame("eth0", frame)
        seen = [found for (state, place, found, _), number in oracle.report.leak_counts.items()
                if state == "test" and place == "uplink" and found != "noise"]
        assert seen == ([kind] if kind else []), oracle.report


# -- the product -------------------------------------------------------------------------------------------------------

@need_seal
@pytest.mark.parametrize("layers", "RNG")
def test_the_seal_alone(layers):
    assert complaints(layers, "seal") == ""


@need_all
def test_the_product():
    assert complaints("RNG", "product") == ""


@need_all
@pytest.mark.parametrize("rp_filter", (0, 1))
def test_the_product_under_each_reverse_path_filter(rp_filter):
    """Strict or none; 2 is what the other tests have."""
    assert complaints("RNG", "product", rp_filter=rp_filter, only="60a") == ""


@need_seal
def test_a_client_by_hand_is_sealed_and_one_without_a_seal_is_not():
    from lab.vpn import Seal
    for sealed in (True, False):
        with Lab(topologies.VPN) as lab:
            provider = Provider(lab)
            server = provider.openvpn()
            seal = Seal(lab["vpn"]) if sealed else None
            hand = HandClient(lab["vpn"], provider, seal).connect(server)
            wait_until(lambda net=lab: way(net["work"], timeout=0.1) == "VPN", 10, "the tunnel carries")
            hand.kill()
            lab["vpn"].run(["ip", "link", "del", "qubes-vpn"], check=False)
            assert way(lab["work"]) == (None if sealed else "CLEAR")
            assert isinstance(hand.process, subprocess.Popen)
