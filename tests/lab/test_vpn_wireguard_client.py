# SPDX-License-Identifier: GPL-2.0-or-later
"""The WireGuard driver with a real server, through the probe that prints its events. Where the kernel has WireGuard the
driver uses it and the tests of wireguard-go are skipped, and the other way round; the rest runs with either."""

import os
import signal

import pytest

from lab.node import wait_until
from lab.router import SLOW, available
from lab.vpn_provider import VPN_DNS, way
from test_vpn_client import PROBE, UID, alive, device, net, networks  # noqa: F401  pylint: disable=unused-import

pytestmark = pytest.mark.skipif(not available(PROBE), reason="vpn-client-probe is not built")

UP = f"UP 10.66.0.2 fd00:66::2 server 203.0.113.10 mtu 1420 dns {VPN_DNS}"


@pytest.fixture
def in_kernel(net):
    node = net["vpn"]
    found = node.run(["ip", "link", "add", "wgtest", "type", "wireguard"], check=False).returncode == 0
    if found:
        node.run(["ip", "link", "del", "wgtest"])
    return found


@pytest.fixture
def go(in_kernel):
    if in_kernel:
        pytest.skip("the kernel has WireGuard: wireguard-go is not used")


def configure(net, probe):
    """What the supervisor does after CLIENT_UP, without the seal: addresses, and a route for the targets."""
    probe.say("configure")
    probe.wait("configured 0")
    net["vpn"].batch("route add 198.51.100.0/24 dev qubes-vpn\n")


def test_connects_and_ends(net):
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    assert probe.wait("CONNECTING") == "CONNECTING asking 203.0.113.10 port 51820"
    assert probe.wait("UP ") == UP
    configure(net, probe)
    text = device(net)
    assert "inet 10.66.0.2/32" in text and "inet6 fd00:66::2/128" in text and "fe80" not in text
    wait_until(lambda: way(net["vpn"], timeout=0.2, source="10.66.0.2") == "VPN", 5 * SLOW, "the tunnel carries")
    probe.say("poll")
    received, sent = (int(word) for word in probe.wait("ALIVE").split()[1:])
    assert received > 92 and sent > 148
    probe.end()
    assert probe.process.returncode == 0, probe.lines
    assert device(net) == "" and not os.path.exists(f"{probe.runtime}/client/wireguard.sock")


def test_carrier_can_be_told(net, in_kernel):
    """Every packet to the server is known for what it is: by its mark or by its user, as the seal wants it."""
    told = "meta mark & 0xff000000 == 0x79000000" if in_kernel else f"meta skuid {UID} meta mark 0"
    net["vpn"].run(["nft", f"table inet t {{ chain c {{ type filter hook output priority 0; "
                           f"udp dport 51820 {told} counter accept; udp dport 51820 counter drop; }}; }}"])
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("UP ")
    probe.say("restart")
    probe.wait("UP ", count=2)
    assert "counter packets 0 bytes 0 drop" in net["vpn"].run(["nft", "list", "ruleset"]).stdout


def test_client_has_no_rights(net, go):
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("UP ")
    pid = probe.client()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == [str(UID)] * 4 and status["Groups"].split() == []
    assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert status["NoNewPrivs"] == "1" and status["Seccomp"].strip() == "2"
    with open(f"/proc/{pid}/environ", "rb") as file:
        assert sorted(line.split(b"=")[0] for line in file.read().split(b"\0") if line) == [
            b"LOG_LEVEL", b"WG_PROCESS_FOREGROUND", b"WG_TUN_FD", b"WG_UAPI_FD"]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        assert file.read() == b"wireguard-go\0-f\0qubes-vpn\0"
    names = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0].split(" ")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
    assert names <= {"/dev/null", "/memfd", "/dev/net/tun", "socket", "pipe", "anon_inode"}
    assert os.readlink(f"/proc/{pid}/fd/1").startswith("/memfd:wireguard-go")
    control = f"{probe.runtime}/client/wireguard.sock"
    assert oct(os.stat(control).st_mode) == "0o140600" and os.stat(control).st_uid == 0


def test_silent_server_is_found_and_lost(net):
    """No server: the driver goes on asking. One comes: up, without a packet of any qube."""
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("CONNECTING no answer from 203.0.113.10 port 51820, asking 203.0.113.10 port 51820", timeout=14)
    assert "UP" not in str(probe.lines)
    net.provider.wireguard()
    probe.wait("UP ", timeout=8)


def test_next_target(net):
    """The second of two addresses answers."""
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile(), "targets=203.0.113.99,203.0.113.10")
    assert probe.wait("CONNECTING") == "CONNECTING asking 203.0.113.99 port 51820"
    probe.wait("CONNECTING no answer from 203.0.113.99 port 51820, asking 203.0.113.10 port 51820", timeout=14)
    assert probe.wait("UP ") == UP


def test_server_restarts(net):
    """A new server process knows no session: asked anew it answers at once."""
    server = net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("UP ")
    server.restart()
    probe.say("restart")
    assert probe.wait("UP ", count=2) == UP


def test_client_is_killed(net, go):
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("UP ")
    os.kill(probe.client(), signal.SIGKILL)
    assert probe.wait("ENDED") == "ENDED wireguard-go ended (killed by signal 9)"
    assert "tun type tun" in device(net)
    probe.say("poll")
    probe.wait("error No such process")
    probe.end()
    assert device(net) == ""


def test_device_is_taken_away(net):
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("UP ")
    net["vpn"].run(["ip", "link", "del", "qubes-vpn"])
    probe.say("poll")
    probe.wait("ENDED")


def test_supervisor_is_killed_and_adopts(net):
    net.provider.wireguard()
    profile = net.provider.wireguard_profile()
    first = net.probe(profile)
    assert first.wait("UP ") == UP
    configure(net, first)
    first.close()
    assert way(net["vpn"], source="10.66.0.2") == "VPN"  # it carries on
    second = net.probe(profile, "adopt")
    assert second.wait("UP ") == UP
    second.say("restart")
    assert second.wait("UP ", count=2) == UP
    second.end("leave")
    assert way(net["vpn"], source="10.66.0.2") == "VPN"
    third = net.probe(profile, "adopt")
    third.wait("UP ")
    third.end()
    assert device(net) == ""


def test_another_profile_is_not_adopted(net):
    net.provider.wireguard()
    first = net.probe(net.provider.wireguard_profile())
    first.wait("UP ")
    first.close()
    other = net.provider.wireguard_profile("other", owner="other")
    assert net.probe(other, "adopt").wait("failed") == "failed No such file or directory"
    elsewhere = net.provider.wireguard_profile("elsewhere", endpoint="203.0.113.20:51820")
    assert net.probe(elsewhere, "adopt").wait("failed") == "failed No such file or directory"
    assert device(net) != ""
    again = net.probe(net.provider.wireguard_profile())  # a start sweeps
    again.wait("UP ")
    again.end()
    assert device(net) == ""


def test_client_is_stopped(net, go):
    """A client that hangs is noticed when it is asked something."""
    net.provider.wireguard()
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("UP ")
    os.kill(probe.client(), signal.SIGSTOP)
    probe.say("poll")
    assert probe.wait("ENDED", timeout=8) == "ENDED wireguard-go does not answer: Connection timed out"
    pid = probe.client()
    probe.end()
    assert not alive(pid) and device(net) == ""


def test_many_requests_at_once(net):
    """Settings and questions in a row: wireguard-go forgets what comes right behind settings, so they must wait."""
    probe = net.probe(net.provider.wireguard_profile())
    probe.wait("CONNECTING")
    for count in range(1, 11):
        probe.say("restart")
        probe.say("poll")
        probe.wait("ALIVE", timeout=4, count=count)
    assert "ENDED" not in str(probe.lines)


def asks(net, probe, start):
    """Its lines that begin so, after one more packet of traffic."""
    way(net["vpn"], source="10.66.0.2", timeout=0.2)
    return [line for line in probe.lines if line.startswith(start)]


@pytest.mark.slow
def test_stalls(networks):
    """Two servers go silent under traffic: stalled. One speaks again: alive, and no handshake is needed for that. Of the
    other the address in use is dead: the next one, here of IPv6, takes over. Both at once, because the protocol takes
    half a minute to be sure."""
    silent, dead = networks(), networks()
    server = silent.provider.wireguard()
    dead.provider.wireguard()
    first = silent.probe(silent.provider.wireguard_profile())
    second = dead.probe(dead.provider.wireguard_profile(), "targets=203.0.113.10,2001:db8:1::10")
    for net, probe in ((silent, first), (dead, second)):
        assert probe.wait("UP ") == UP
        configure(net, probe)
        assert way(net["vpn"], source="10.66.0.2") == "VPN"
    server.freeze()
    dead["server"].run(["nft", "table ip t { chain c { type filter hook input priority 0; udp dport 51820 drop; }; }"])
    # asked every time: a silent one without traffic is no stall
    wait_until(lambda: [asks(silent, first, "STALLED"), asks(dead, second, "STALLED")][0], 90 * SLOW, "the first stalled")
    assert "RECONNECTING" not in str(first.lines)
    server.freeze(False)
    wait_until(lambda: asks(silent, first, ("ALIVE", "UP 1", "UP f"))[1:], 30 * SLOW, "alive again")
    wait_until(lambda: asks(dead, second, "STALLED"), 30 * SLOW, "the second stalled")
    moved = wait_until(lambda: asks(dead, second, "RECONNECTING"), 20 * SLOW, "reconnecting")
    assert moved == ["RECONNECTING no answer from 203.0.113.10 port 51820, asking 2001:db8:1::10 port 51820"]
    assert second.wait("UP ", count=2) == UP.replace("203.0.113.10", "2001:db8:1::10")
    wait_until(lambda: way(dead["vpn"], source="10.66.0.2", timeout=0.3) == "VPN", 5 * SLOW, "the tunnel carries")
