# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to a VPN qube while a flood runs: its life from boot to shutdown (STATES), and everything that breaks it or
that others do to it (EVENTS). Numbers are those of doc/leaks.md.

kills: layers that the event takes away by force; what is expected is judged by those that remain. needs: how many layers
must remain for the bytes of qubes to stay in; alone: layers that must manage by themselves though needs is 2.
"""

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Callable, Optional

from lab import platform, topologies
from lab import vpn_frames as frames
from lab.node import wait_until
from lab.platform import BACKEND_MAC
from lab.router import SLOW
from lab.topologies import TARGET, TARGET6
from lab.vpn import TUNNEL
from tests.leaks import vectors
from tests.leaks.world import FLOW

HOLD = 0.4        # seconds of flood in each situation


@dataclass(frozen=True)
class Event:
    number: int
    letter: str
    title: str
    do: Callable
    undo: Optional[Callable] = None
    kills: str = ""
    needs: int = 1
    alone: str = ""
    modes: tuple = ("product", "seal", "none", "older")
    hold: float = HOLD
    wireguard: bool = True

    @property
    def key(self):
        return f"{self.number}{self.letter}"

    @property
    def name(self):
        return f"{self.key} {self.title}"


# Kernel reasons why fewer layers than the rule says cannot hold a packet: number -> (layers, reason).
EXCEPTIONS = {
    73: ("G", "a packet socket hands its frames to the device: neither routing nor the inet hooks see them"),
}


def expected(layers, kills="", needs=1, alone=""):
    """Kinds of frames that must not be on an uplink with these layers; None: anything may happen."""
    left = set(layers) - set(kills)
    if len(left) >= 2:
        return ("content", "foreign", "local", "noise")
    if left and (needs == 1 or left <= set(alone)):
        return ("content", "foreign")
    return None


# -- helpers -----------------------------------------------------------------------------------------------------------

def revive(w):
    w.revive()


def ip(w, text, check=False):
    """Lines for `ip`, each by itself: what is not there does not stop the next."""
    for line in text.strip().splitlines():
        w.vpn.run(["ip", *line.split()], check=check)


def rearm(w):
    if w.seal and w.seal.running():
        w.seal.on()


def setup_ip(w):
    """The platform configures eth0 once more."""
    lines = platform.qube_uplink(w.vpn, "eth0", w.gw, w.gw6)
    for line in lines.splitlines():
        w.vpn.run(["ip", *line.replace("route add", "route replace").replace("addr add", "addr replace").split()],
                  check=False)


def reload_platform(w):
    platform.flush_and_reload(w.vpn)
    if w.mode == "older":
        w.seal.on()  # nothing else brings its marks back


def hit(w, number, letter, count=20, node="play", iface="eth0", src=None):
    """Tagged packets of a qube (not the flooding one), to the target by both families."""
    spec = w.lab[node].spec
    data = frames.payload(number, letter)
    with w.sender(node, iface) as sender:
        for port in range(count):
            with contextlib.suppress(OSError):
                sender.frame(frames.ether(BACKEND_MAC, spec.mac, frames.udp(src or spec.ip, TARGET, 8000 + port, 7, data)))
                sender.frame(frames.ether(BACKEND_MAC, spec.mac, frames.udp(spec.ip6, TARGET6, 8000 + port, 7, data)))


class Stream:
    """Packets out of the tunnel towards a qube's known flow, as of a server that goes on sending."""

    def __init__(self, w, number, letter, port):
        self._packets = [frames.udp(TARGET, w.t, 7, port, frames.payload(number, letter, "T")),
                         frames.udp(TARGET6, w.t6, 7, port, frames.payload(number, letter, "T"))]
        self._sender, self._stop = w.sender(w.server.node.name, w.server.device), False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._stop:
            for packet in self._packets:
                with contextlib.suppress(OSError):
                    self._sender.packet(packet)
            time.sleep(0.002)

    def close(self):
        self._stop = True
        self._thread.join()
        self._sender.__exit__()


# -- the life of a VPN qube --------------------------------------------------------------------------------------------

def connecting(w):
    w.server.freeze()
    w.connect(wait=False)


def up(w):
    w.server.freeze(False)
    if w.mode != "product":
        w.connect()
    w.wait_up(40)


def rekey(w):
    seen = w.server.log.count("Control Channel:") + w.server.log.count("VERIFY OK")
    wait_until(lambda: w.server.log.count("Control Channel:") + w.server.log.count("VERIFY OK") > seen, 10 * SLOW,
               "new keys")


def reconnect(w):
    w.server.kick()
    if w.mode == "product":
        time.sleep(0.3)
    w.revive()


def server_change(w):
    w.use("server2")


def server_back(w):
    w.use("server")


def uplink_change(w):
    w.vpn.move_to("sys-other")
    w.netvm = "sys-other"
    w.revive()


def uplink_back(w):
    w.vpn.move_to("sys-net")
    w.netvm = "sys-net"
    w.revive()


@dataclass(frozen=True)
class State:
    name: str
    enter: Callable
    needs: int = 1
    modes: tuple = ("product", "seal", "none", "older")
    wireguard: bool = True     # has it; new keys come there each two minutes, unasked and unannounced


def supervisor_killed(w):
    w.kill_supervisor()


def shutdown(w):
    if w.supervisor and w.supervisor.running():
        w.supervisor.stop()
    if w.hand:
        w.hand.kill()
    if w.seal:
        w.seal.stop()


STATES = (
    State("boot", lambda w: None),
    State("armed", lambda w: w.boot_uplink()),
    State("connecting", connecting),
    State("up", up),
    State("rekey", rekey, wireguard=False),
    State("reconnect", reconnect),
    State("server change", server_change),
    State("server change back", server_back),
    State("uplink change", uplink_change, needs=2),
    State("uplink change back", uplink_back, needs=2),
    State("down", lambda w: w.down()),
    State("up again", lambda w: w.connect()),
)
LAST_STATES = (
    State("client killed", lambda w: w.kill_client()),
    State("client back", revive),
    State("supervisor killed", supervisor_killed, modes=("product", "seal")),
    State("supervisor back", lambda w: w.revive_supervisor(), modes=("product", "seal")),
    State("shutdown", shutdown),
)

# -- 4.1, 4.2: the tunnel ----------------------------------------------------------------------------------------------


def vanish(w):
    play = w.lab["play"]
    for address, source in ((TARGET, w.p), (TARGET6, w.p6)):
        with play.socket(*((10, 2) if ":" in address else (2, 2))) as sock:
            sock.bind((source, FLOW + 1))
            sock.sendto(b"a flow", (address, 7))
    time.sleep(0.05)
    w.stream = Stream(w, 2, "a", FLOW + 1)
    time.sleep(0.1)
    # Not in the list of attached qubes either: that the platform drops what is addressed to those hides the leak.
    for table in ("ip", "ip6"):
        w.vpn.run(["nft", "flush", "chain", table, "qubes-firewall", "postrouting"], check=False)
    play.stop(offline=False)


def unvanish(w):
    w.stream.close()
    w.lab["play"].start()
    platform.firewall_connected(w.vpn)


def kill_client(w):
    w.open_flow()
    w.stream = Stream(w, 12, "a", FLOW)
    w.kill_client()


def after_kill(w):
    w.stream.close()
    w.revive()


def no_routes(w):
    ip(w, f"""route flush table 78
              route flush dev {TUNNEL}
              -6 route flush table 78
              -6 route flush dev {TUNNEL}""")


def new_address(w):
    site = w.server.site
    w.oracle.tunnel_addresses |= {f"{site.net}.77", f"{site.net6}:77"}
    w.server.push(address=f"{site.net}.77", address6=f"{site.net6}:77")
    reconnect(w)


def old_address(w):
    w.server.push(address=w.server.site.client, address6=w.server.site.client6)
    reconnect(w)


def impostor(w):
    """A foreign device takes the tunnel's name; its other end is outside."""
    w.kill_client()
    ip(w, f"link del {TUNNEL}")
    ip(w, f"link add {TUNNEL} type veth peer name impostor netns {os.path.basename(w.lab['wild'].path)}")
    ip(w, f"addr add 10.8.0.2/24 dev {TUNNEL}\nlink set {TUNNEL} up")
    w.lab["wild"].run(["ip", "link", "set", "impostor", "up"], check=False)
    ip(w, f"route replace default dev {TUNNEL}")


def no_impostor(w):
    ip(w, f"link del {TUNNEL}")
    setup_ip(w)
    w.revive()


TUNNEL_EVENTS = (
    Event(2, "a", "a qube vanishes, its server goes on sending", vanish, unvanish),
    Event(20, "a", "client killed, its server goes on sending", kill_client, after_kill),
    Event(20, "b", "tunnel device deleted", lambda w: ip(w, f"link del {TUNNEL}"), revive),
    Event(21, "a", "tunnel device down", lambda w: ip(w, f"link set {TUNNEL} down"), revive),
    Event(22, "a", "routes into the tunnel removed", no_routes, revive),
    Event(24, "a", "tunnel's addresses removed", lambda w: ip(w, f"addr flush dev {TUNNEL}"), revive),
    Event(26, "a", "another address at reconnect", new_address, old_address, wireguard=False),
    Event(28, "a", "a foreign device takes the tunnel's name", impostor, no_impostor, needs=2),
    Event(29, "a", "the server sends the client away", lambda w: w.server.kick(), revive),
    Event(31, "a", "the server goes silent", lambda w: w.server.freeze(), lambda w: w.server.freeze(False)),
    Event(12, "b", "the server's program ends", lambda w: w.server.stop(),
          lambda w: (w.server.start(), w.revive())),
)

# -- 4.3: rules and routes are taken away ------------------------------------------------------------------------------


def delete_tables(w):
    for table in ("inet qubes-vpn", "netdev qubes-vpn", "ip qubes-vpn", "ip6 qubes-vpn"):
        w.vpn.run(["nft", "delete", "table", *table.split()], check=False)
        w.vpn.run(["nft", "flush", "table", *table.split()], check=False)


def flush_and_shoot(w):
    platform.flush(w.vpn)
    vectors.shoot(w)


def delete_rules(w, low=0, high=32765):
    for family in ("-4", "-6"):
        for line in w.vpn.run(["ip", family, "rule", "show"]).stdout.splitlines():
            if low < int(line.split(":")[0]) <= high:
                w.vpn.run(["ip", family, "rule", "del", "prio", line.split(":")[0]], check=False)


def flush_rules(w):
    """As a tool does that knows only the three of the system."""
    ip(w, """rule flush
             rule add prio 32766 lookup main
             rule add prio 32767 lookup default
             -6 rule flush
             -6 rule add prio 32766 lookup main""")


def flush_tables_of_routes(w):
    for table in ("77", "78", "79"):
        ip(w, f"route flush table {table}\n-6 route flush table {table}")


def main_first(w):
    ip(w, "rule add prio 10 lookup main\n-6 rule add prio 10 lookup main")


def main_not_first(w):
    ip(w, "rule del prio 10\n-6 rule del prio 10")


def rearm_often(w):
    for _ in range(20):
        rearm(w)


def owner_killed_and_flushed(w):
    w.kill_owner()
    platform.flush(w.vpn)


def owner_killed_and_rules(w):
    w.kill_owner()
    flush_rules(w)


def heal_rules(w):
    """The owner first: what it left can be flushed while nobody owns it."""
    w.revive_owner()
    rearm(w)


def heal_owner(w):
    platform.flush_and_reload(w.vpn)
    w.revive_owner()
    rearm(w)


def broken_routes(w):
    """Left-overs that point at the uplink, and the seal armed over them."""
    ip(w, f"""route replace default via {w.gw} dev eth0 onlink table 78 metric 1
              route replace {TARGET} via {w.gw} dev eth0 onlink table 78
              -6 route replace default via {w.gw6} dev eth0 table 78 metric 1""")
    rearm(w)


def heal_routes(w):
    ip(w, f"""route del default via {w.gw} table 78 metric 1
              route del {TARGET} table 78
              -6 route del default via {w.gw6} table 78 metric 1""")
    rearm(w)


SEALED = ("product", "seal", "older")
OWNED = ("product", "seal")
RULE_EVENTS = (
    Event(38, "a", "nft flush ruleset", lambda w: platform.flush(w.vpn), reload_platform),
    Event(38, "b", "nft flush ruleset, then every packet of the catalogue", flush_and_shoot, reload_platform),
    Event(55, "a", "our tables deleted and flushed by name", delete_tables, rearm, modes=OWNED),
    Event(39, "a", "qubes-iptables restarted", lambda w: platform.reload(w.vpn, True), reload_platform),
    Event(40, "a", "qubes-firewall stopped", lambda w: platform.firewall_stop(w.vpn),
          lambda w: platform.firewall_start(w.vpn)),
    Event(43, "a", "ip rules flushed", flush_rules, rearm, kills="R", modes=SEALED),
    Event(43, "b", "ip rules deleted one by one", delete_rules, rearm, kills="R", modes=SEALED),
    Event(45, "a", "routing tables flushed", flush_tables_of_routes, lambda w: (rearm(w), w.revive()), modes=SEALED),
    Event(46, "a", "a rule before all: lookup main", main_first, main_not_first, kills="R"),
    Event(47, "a", "the uplink configured again", setup_ip, None),
    Event(48, "a", "table 78 points at the uplink", broken_routes, heal_routes, kills="R", modes=OWNED),
    Event(42, "a", "armed again 20 times", rearm_often, None, modes=OWNED),
    Event(57, "a", "blackhole asked for", lambda w: w.seal.blackhole(), revive, modes=OWNED),
    Event(53, "a", "the seal's owner killed", lambda w: w.kill_owner(), lambda w: w.revive_owner(), modes=OWNED),
    Event(54, "a", "the owner killed, then nft flush ruleset", owner_killed_and_flushed, heal_owner, kills="NG",
          modes=OWNED),
    Event(54, "b", "the owner killed, then ip rules flushed", owner_killed_and_rules, heal_rules, kills="R",
          modes=OWNED),
    Event(56, "a", "the owner restarted", lambda w: w.restart_owner(), lambda w: w.wait_up(), modes=SEALED),
)

# -- 4.4: interfaces ---------------------------------------------------------------------------------------------------


def recreate(w):
    w.vpn.stop()
    w.vpn.start()


def rename(w, old="eth0", new="enX0"):
    ip(w, f"link set {old} down\nlink set {old} name {new}\nlink set {new} group 1")
    for line in platform.qube_uplink(w.vpn, new, w.gw, w.gw6).splitlines():
        w.vpn.run(["ip", *line.replace("route add", "route replace").replace("addr add", "addr replace").split()],
                  check=False)
    hit(w, 61, "a")


def rename_back(w):
    rename(w, "enX0", "eth0")
    w.revive()


def another_uplink(group):
    def do(w):
        w.vpn.add_uplink(topologies.Link("wls7", "wild", ("172.31.7.2/24", "2001:db8:77::2/64")))
        ip(w, f"""link set wls7 group {group}
                  route add {TARGET}/32 via 172.31.7.1 dev wls7
                  route add default via 172.31.7.1 dev wls7 metric 1
                  route replace 0.0.0.0/1 via 172.31.7.1 dev wls7
                  -6 route add {TARGET6}/128 via 2001:db8:77::1 dev wls7
                  -6 route add default via 2001:db8:77::1 dev wls7 metric 1""")
        hit(w, 62, "abc"[group])
        vectors.shoot(w, actors="PD")
    return do


def no_other_uplink(w):
    w.vpn.remove_uplink("wls7")
    w.revive()  # an ordinary client's routes were replaced


def early_vif(w):
    play = w.lab["play"]
    play.stop()
    play.start(online=False)
    ip(w, f"link set {play.vif} up\nroute add {w.p}/32 dev {play.vif}\n-6 route add {w.p6}/128 dev {play.vif}")
    hit(w, 63, "a")


def late_vif(w):
    play = w.lab["play"]
    ip(w, f"route del {w.p}/32 dev {play.vif}\n-6 route del {w.p6}/128 dev {play.vif}")
    play.online()


def container(w):
    """Another network behind the VPN qube, that is no vif."""
    inside = w.lab["inside"]
    ip(w, f"link add docker0 type veth peer name box0 netns {os.path.basename(inside.path)}")
    ip(w, "addr add 172.17.0.1/16 dev docker0\nlink set docker0 up")
    inside.batch("link set box0 up\n")
    inside.wait_running("box0")
    mac = w.vpn.mac("docker0")
    with w.sender("inside", "box0") as sender:
        for port in range(20):
            sender.frame(frames.ether(mac, "02:00:00:00:00:01", frames.udp(
                "172.17.0.2", "203.0.113.1", 8100 + port, 9, frames.payload(66, "a"))))


def macvlan(w):
    ip(w, f"""link add mv0 link eth0 type macvlan mode bridge
              addr add {w.u}/32 dev mv0
              link set mv0 up
              neigh replace {w.gw} lladdr {BACKEND_MAC} nud permanent dev mv0
              route replace {w.gw} dev mv0
              route add default via {w.gw} dev mv0 onlink metric 1
              route replace {TARGET} via {w.gw} dev mv0 onlink""")
    hit(w, 66, "b")
    vectors.shoot(w, actors="PD")


def no_macvlan(w):
    ip(w, "link del mv0")
    setup_ip(w)
    w.wait_up()


def suspend(w):
    """Everything of ours sleeps while the uplink becomes another one."""
    pids = [process.process.pid for process in (w.seal, w.supervisor) if process and process.running()]
    pids += w.supervisor.clients() if w.supervisor else [w.hand.process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    recreate(w)
    time.sleep(0.5)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def flap(w):
    ip(w, "link set eth0 down\nlink set eth0 up")
    w.vpn.wait_running("eth0")
    setup_ip(w)


def storm(w):
    """More news of links than a monitor can read, and an uplink among them."""
    text = "".join(f"link add s{number} type veth peer name t{number}\nlink set s{number} up\nlink del s{number}\n"
                   for number in range(300))
    w.vpn.run(["ip", "-batch", "-"], input=text, check=False)
    another_uplink(0)(w)


LINK_EVENTS = (
    Event(60, "a", "the uplink made anew", recreate, revive, needs=2),
    Event(61, "a", "the uplink renamed", rename, rename_back, needs=2),
    Event(62, "a", "another uplink, group 0", another_uplink(0), no_other_uplink, needs=2, alone="R"),
    Event(62, "b", "another uplink, group 1", another_uplink(1), no_other_uplink, needs=2, alone="R"),
    Event(62, "c", "another uplink, group 2", another_uplink(2), no_other_uplink, needs=2, alone="R"),
    Event(77, "a", "another uplink in a storm of links", storm, no_other_uplink, needs=2, alone="R"),
    Event(63, "a", "a vif before the platform knows it", early_vif, late_vif),
    Event(66, "a", "a container's network", container, lambda w: ip(w, "link del docker0")),
    Event(66, "b", "a second device on the uplink", macvlan, no_macvlan, needs=2, alone="R"),
    Event(75, "a", "suspended while the uplink changes", suspend, lambda w: w.revive(), needs=2,
          modes=("product", "seal", "none")),
    Event(121, "a", "the uplink goes down and up", flap, revive),
)

EVENTS = TUNNEL_EVENTS + RULE_EVENTS + LINK_EVENTS
# The short form: what no other event or state implies.
QUICK = ("2a", "20a", "20b", "21a", "22a", "28a", "38b", "43a", "45a", "46a", "54a", "56a", "60a", "61a", "62a", "62c", "63a",
         "66a")
QUICK_STATES = ("boot", "armed", "connecting", "up", "reconnect", "down", "up again", "supervisor killed",
                "supervisor back", "shutdown")
