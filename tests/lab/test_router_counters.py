# SPDX-License-Identifier: GPL-2.0-or-later
"""What is counted for each exposure, held against what was sent; and the answer that dom0 gets."""

import json
import socket
import subprocess

import pytest

from lab.node import wait_until
from lab.router import SLOW, program

pytestmark = pytest.mark.usefixtures("need_router")

WEB, WEB6, HIDDEN = "192.168.16.25", "2001:db8:16::25", "192.168.16.26"
OF = {4: WEB, 6: WEB6}


@pytest.fixture(params=(4, 6), ids=("ipv4", "ipv6"))
def family(request):
    return request.param


@pytest.fixture
def net(lab):
    net = lab()
    net.router = net["sys-net"].router(["--verbose"])
    for name in ("web", "hidden"):
        net[name].serve_tcp(80), net[name].serve_udp(53)
    net["lan1"].serve_tcp(80)
    return net


def entry(net, addr):
    for one in net.router.status()["addresses"]:
        if one["address"] == addr:
            return one
    return None


def wait_open(net, addr):
    wait_until(lambda: (entry(net, addr) or {}).get("in_place"), 3 * SLOW, f"{addr} open")


def connections(net, addr):
    return entry(net, addr)["counters"]["connections"]


def connect(net, addr, n=1, name="lan1"):
    for _ in range(n):
        net[name].connect_tcp(addr, 80).close()


def silent_datagrams(net, addr, n, port=54):
    """Datagrams of one flow that nobody answers: one connection."""
    with net["lan1"].ns:
        sock = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((addr, port))
        for _ in range(n):
            try:
                sock.send(b"anybody there")
            except ConnectionRefusedError:
                pass


def test_connections_exactly(net, family):
    """One for each flow, whatever it sends; own connections and what is not permitted are none."""
    addr = OF[family]
    net["sys-net"].expose("web", family, allow="tcp/80;udp/54")
    wait_open(net, addr)
    assert connections(net, addr) == 0
    connect(net, addr, 7)
    assert connections(net, addr) == 7
    assert not net["lan1"].can_reach(addr, 81)
    assert connections(net, addr) == 7
    # nobody answers: conntrack calls each of the packets new
    net["web"].nft(f"add table inet mute; add chain inet mute in {{ type filter hook input priority 0; }}; "
                   "add rule inet mute in udp dport 54 drop; add rule inet mute in tcp dport 8888 drop")
    silent_datagrams(net, addr, 20)
    assert connections(net, addr) == 8
    net["web"].connect_tcp("192.168.16.10" if family == 4 else "2001:db8:16::10", 80).close()
    assert connections(net, addr) == 8


def test_packets_and_bytes(net, family):
    addr = OF[family]
    net["sys-net"].expose("web", family)
    wait_open(net, addr)
    with net["sys-net"].sniff("ens6", f"{'ip6' if family == 6 else 'ip'} and tcp port 80 and host {addr}") as seen:
        with net["lan1"].ns:
            sock = socket.create_connection((addr, 80), 3)
        with sock:
            for _ in range(30):
                sock.sendall(b"x" * 1000)
                sock.recv(65536)
        wait_until(lambda: sum("F" in str(p.scapy["TCP"].flags) for p in seen.packets) >= 2, 3 * SLOW, "the end")

        def agree():
            packets = list(seen.packets)
            c = entry(net, addr)["counters"]
            return c["packets"] == len(packets) and c["bytes"] == sum(len(p.data) - 14 for p in packets)
        wait_until(agree, 3 * SLOW, "the counters are what was on the wire")
    counters = entry(net, addr)["counters"]
    assert counters["bytes"] > 30000 and counters["offloaded"] is False
    # the qube's own connections are none of the exposure's
    before = counters["packets"]
    net["web"].connect_tcp("192.168.16.10" if family == 4 else "2001:db8:16::10", 80).close()
    assert entry(net, addr)["counters"]["packets"] == before


def test_counters_survive(net):
    """A change of another exposure, a skeleton that is loaded again, a restart, other rules: all of them go on counting."""
    sys_net, router = net["sys-net"], net.router
    sys_net.expose("web")
    wait_open(net, WEB)
    connect(net, WEB, 3)
    sys_net.expose("hidden", allow="tcp/80")
    wait_open(net, HIDDEN)
    connect(net, HIDDEN, 2)
    assert (connections(net, WEB), connections(net, HIDDEN)) == (3, 2)
    sys_net.expose("web", allow="tcp/80-90", log="1", limit="1000")
    wait_until(lambda: entry(net, WEB).get("limit") == 1000, 3 * SLOW, "the other record")
    connect(net, WEB)
    assert connections(net, WEB) == 4
    healed = router.status()["healed"]
    sys_net.nft("flush chain ip qubes-network-server served; flush chain ip qubes-network-server first")
    wait_until(lambda: router.status()["healed"] > healed, 3 * SLOW, "healed")
    connect(net, WEB)
    assert (connections(net, WEB), connections(net, HIDDEN)) == (5, 2)
    router.restart()
    wait_open(net, WEB)
    connect(net, WEB)
    assert (connections(net, WEB), connections(net, HIDDEN)) == (6, 2)
    router.kill9()
    connect(net, WEB)  # counted while nobody runs
    router.start()
    wait_open(net, WEB)
    assert connections(net, WEB) == 7
    sys_net.withdraw("web")
    wait_until(lambda: entry(net, WEB) is None, 3 * SLOW, "gone")
    sys_net.expose("web")
    wait_open(net, WEB)
    assert connections(net, WEB) == 0  # another exposure


def test_published_ports_count(net):
    sys_net = net["sys-net"]
    sys_net.expose("web", mode="publish", publish="tcp/8080:80")
    wait_open(net, WEB)
    for _ in range(3):
        net["lan1"].connect_tcp("192.168.16.2", 8080).close()
    assert connections(net, WEB) == 3


def test_foreign_counters_go(net):
    """An element that is not wished is taken away, and what it counted with it."""
    net["sys-net"].expose("web")
    wait_open(net, WEB)
    connect(net, WEB, 2)
    vif = net["web"].vif
    net["sys-net"].nft(f'add element ip qubes-network-server connections {{ "vif999.0" . {WEB} counter packets 40 bytes 1 }}')
    wait_until(lambda: "vif999" not in net["sys-net"].nft("list set ip qubes-network-server connections").stdout, 3 * SLOW,
               "the foreign element gone")
    assert connections(net, WEB) == 2 and vif in net["sys-net"].nft("list set ip qubes-network-server connections").stdout


def test_offloaded_is_said(net):
    """No flowtable here: the element that the rule would add is added by hand."""
    sys_net = net["sys-net"]
    sys_net.expose("web")
    wait_open(net, WEB)
    connect(net, WEB)
    vif = net["web"].vif
    assert "not counted" not in net.router.call("--status").stdout
    sys_net.nft(f'add element ip qubes-network-server offloaded {{ "{vif}" . {WEB} }}')
    counters = entry(net, WEB)["counters"]
    assert counters == {"connections": 1, "offloaded": True}
    assert "1, not counted (offloaded)" in net.router.call("--status").stdout


def test_status_says_what_dom0_asks(net):
    sys_net = net["sys-net"]
    sys_net.expose("web", limit="20", log="1", expires="2999-01-01T00:00:00Z")
    sys_net.expose("hidden", xid="77")
    wait_open(net, WEB)
    wait_until(lambda: (entry(net, HIDDEN) or {}).get("state") == "mismatch", 3 * SLOW, "hidden refused")
    web, hidden = entry(net, WEB), entry(net, HIDDEN)
    assert web["qube"] == "web" and web["state"] == "open" and web["in_place"] is True and web["via"] == "direct"
    assert web["vifs"] == [net["web"].vif] and web["limit"] == 20 and web["log"] is True
    assert web["keys"][0]["key"] == f"/network-server/{WEB}" and web["changed"].endswith("Z")
    assert hidden["in_place"] is False and hidden["reason"] and "counters" not in hidden
    uplink = net.router.status()["uplinks"][0]
    assert uplink["name"] == "ens6" and uplink["carrier"] is True
    assert {"192.168.16.2/24", "2001:db8:16::2/64"} <= set(uplink["addresses"])


def service(net, size="1048576"):
    """What the qrexec service runs."""
    done = net["sys-net"].run([program("src/router/qubes-routing-manager"), "--status", "--json", "--control",
                               net.router.control, "--max-size", size])
    return done.stdout


def test_service_answers_a_megabyte_at_most(net):
    """A thousand exposures with long rules: one line, cut, and it says so. Ten of them are not cut."""
    qdb = net["sys-net"].qdb
    allow = ";".join(f"tcp/{port} from 192.168.{port % 256}.0/24,10.{port % 256}.0.0/16" for port in range(1, 60))
    fields = f"v=1|vm=a-qube-with-a-long-name|xid=9|via=direct|edge=1|mode=forward|limit=1000000|allow={allow}"
    for i in range(10):
        qdb.write(f"/network-server/10.55.0.{i + 1}", fields)
    wait_until(lambda: len(net.router.status()["addresses"]) == 10, 10 * SLOW, "ten")
    text = service(net)
    assert text.count("\n") == 1 and len(text) < 1 << 20 and "cut" not in json.loads(text)
    for i in range(1000):
        qdb.write(f"/network-server/10.56.{i // 250}.{i % 250 + 1}", fields)
    wait_until(lambda: len(net.router.status()["addresses"]) == 1010, 30 * SLOW, "all of them")
    assert net["sys-net"].ping("192.168.16.10") and net.router.status()["neighbours"]
    answer = json.loads(service(net))
    known = answer["cut"].pop("neighbours_left_out")
    assert answer["cut"] == {"values_left_out": True, "addresses_left_out": 0}
    assert len(answer["addresses"]) == 1010 and answer["neighbours"] == [] and known >= 1
    text = service(net, "65536")
    answer = json.loads(text)
    assert 60000 < len(text) <= 65536 and text.count("\n") == 1
    assert answer["cut"]["addresses_left_out"] + len(answer["addresses"]) == 1010
    assert len(net.router.status()["addresses"]) == 1010
    for wrong in (["--max-size", "65536"], ["--status", "--max-size", "65536"],
                  ["--status", "--json", "--max-size", "5"], ["--status", "--json", "--max-size", "x"]):
        done = subprocess.run([program("src/router/qubes-routing-manager"), *wrong], capture_output=True, check=False)
        assert done.returncode == 2, wrong
