#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random walks: sequences of things that happen to a VPN qube, in any order, under a flood and before the witness. At the
end of each the world is put in order as systemd, the platform and the user do it; then the tunnel must carry everything
again within 30 s, and nothing may have leaked.

    tests/leaks/walk.py [--count 25] [--seed FIRST] [--events 20]     each seed is one sequence; --seed N --count 1 replays it
    tests/leaks/walk.py --steps "kill-client:17 flush:4"              these events only (as a failure prints them)

A sequence that fails is shortened by leaving events out until no shorter one fails (--no-shrink: not).
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import sandbox
from lab.router import SLOW, environment, program
from lab.vpn import COMMAND

BACK = 30.0                                    # seconds until the tunnel carries again
RATE = 3600                                    # packets of the flood a second
HOLDS = (0.02, 0.1, 0.1, 0.3, 0.3, 0.6, 0.6, 1.2, 2.5)
SHRINK_RUNS = 24


@dataclass
class Result:
    seed: int
    setting: str
    steps: list = field(default_factory=list)   # (name, number)
    wrong: list = field(default_factory=list)
    blind: list = field(default_factory=list)   # the run says nothing: frames lost, flood too slow
    seconds: float = 0.0
    back: float = 0.0
    logs: str = ""

    def text(self):
        return " ".join(f"{name}:{number}" for name, number in self.steps)


class Walk:
    """One sequence. What stands is kept here, so that an event is chosen only where it makes sense: the same seed chooses
    the same events."""

    def __init__(self, seed):
        from tests.leaks.world import World
        self.random = random.Random(seed)
        proto, rp_filter = self.random.choice(("udp", "udp", "tcp")), self.random.choice((0, 1, 2, 2))
        self.setting = f"{proto}, rp_filter {rp_filter}"
        self.w = World("product", rp_filter=rp_filter, proto=proto)
        self.owner = self.supervisor = self.platform = self.vif = self.link = True
        self.up = True                         # the user's wish
        self.forced = set()                    # layers taken away while nobody puts them back
        self.links_changed = False             # since the owner died
        self.iface, self.other, self.first, self.wire = "eth0", None, False, None
        self.situation = ""
        self.frozen, self.stopped, self.bad, self.pushed = set(), set(), {}, set()
        try:
            self._begin()
        except BaseException:
            self.w.close()
            raise

    def _begin(self):
        w = self.w
        w.vpn.qubesdb_start()
        w.arm()
        w.mark("armed")
        self.wire = w.provider.wireguard("server")
        w.oracle.admit("udp", self.wire.site.ip, self.wire.port)
        # wireguard-go names the interface when it sends: without a route the kernel then looks for the server on the link.
        w.oracle._gateways.add(self.wire.site.ip)  # pylint: disable=protected-access
        w.connect()
        w.supervisor.install(w.provider.wireguard_profile("wire"))
        self.servers = dict(w.servers, wire=self.wire)
        self.current = "server"

    # -- choosing --------------------------------------------------------------------------------------------------

    def choose(self):
        names = [name for name, event in EVENTS.items() for _ in range(event.weight) if event.may(self)]
        return self.random.choice(names), self.random.randrange(1000)

    def do(self, place, name, number):
        event, chance = EVENTS[name], random.Random(number)
        hold = chance.choice(HOLDS)
        self.mark(f"{place} {name}:{number}")
        if event.may(self):
            event.do(self, chance)
        self.mark(f"{place} {name}:{number}")  # what was taken away may be there again
        time.sleep(hold)
        return self.alive()

    def mark(self, text):
        self.situation = text
        self.w.mark(text + (" (R alone)" if "N" in self.forced else ""))

    def alive(self):
        """Programs that ended though nobody ended them."""
        found = []
        for name, wanted, program in (("owner", self.owner, self.w.seal), ("supervisor", self.supervisor,
                                                                           self.w.supervisor)):
            if wanted and not program.running():
                found.append(f"the {name} ended by itself ({program.process.returncode})")
        return found

    # -- in order again --------------------------------------------------------------------------------------------

    def heal(self):
        from lab import platform
        from tests.leaks import events
        w = self.w
        self.mark("healing")
        if not self.owner:
            start_owner(self)
        for name in list(self.frozen):
            thaw(self, name)
        for name in list(self.stopped):
            start_server(self, name)
        if self.other is not None:
            unplug(self, None)
        if self.first:
            main_not_first(self, None)
        if self.iface != "eth0" or not self.link:
            recreate(self, None)
        events.setup_ip(w)
        if not self.platform:
            platform.flush_and_reload(w.vpn)
            self.platform = True
        if not self.vif:
            start_vif(self, None)
        for name in list(self.bad):
            restore_profile(self, name)
        if not self.supervisor:
            start_supervisor(self, None)
        if not self.up:
            _command(self, "up")

    def finish(self, result):
        w = self.w
        try:
            self.heal()
        except Exception as error:  # pylint: disable=broad-except
            result.wrong.append(f"healing: {_short(error)}")
            return
        begun = time.monotonic()
        try:
            w.wait_up(BACK)
            result.back = time.monotonic() - begun
        except TimeoutError:
            state = w.supervisor.state()
            result.wrong.append(f"not up after {BACK * SLOW:.0f} s (state {state}, profile {self.current})")

    def works(self, result):
        """After the flood, which a client starved of time would throw the probes away with."""
        w = self.w
        missing = [] if result.wrong else w.works()
        if missing:
            result.wrong.append(f"afterwards there is no {', '.join(missing)}")
        result.wrong += self.alive()
        self.sealed(result)

    def sealed(self, result):
        """The check tells a moment, and a change of the tunnel may be in it; what stands is whole within a second."""
        end = time.monotonic() + 1.0 * SLOW
        while True:
            status, said = self.w.seal.check()
            if status == 0:
                return
            if time.monotonic() > end:
                result.wrong.append(f"the seal's check: {status}: {said.get('missing', said)}")
                return


# -- events ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Event:
    do: object
    may: object = lambda walk: True
    weight: int = 2


EVENTS = {}


def event(name, may=lambda walk: True, weight=2):
    def keep(function):
        EVENTS[name] = Event(function, may, weight)
        return function
    return keep


def _links_may_change(walk):
    """Uplinks that come while the owner is dead are held by two layers; not also by fewer."""
    return walk.owner or not walk.forced


def _may_force(layers):
    def may(walk):
        return walk.owner or not walk.links_changed and not walk.forced - set(layers)
    return may


def _command(walk, *words):
    """qubes-vpn, which waits for the tunnel: for a moment at most. Was it refused?"""
    supervisor = walk.w.supervisor
    with contextlib.suppress(subprocess.TimeoutExpired):
        return supervisor.node.run([program(COMMAND), "--bus", supervisor.bus, *words], check=False, env=environment(),
                                   timeout=1.0 * SLOW).returncode == 1
    return False


def _force(walk, layers):
    """Said before it is done: from now on fewer layers are there."""
    if not walk.owner:
        walk.forced |= set(layers)
        walk.mark(walk.situation)


def _link_changed(walk):
    if not walk.owner:
        walk.links_changed = True


def _eth0(walk):
    return walk.iface == "eth0" and _links_may_change(walk)


# the programs

@event("kill-client", weight=4)
def kill_client(walk, chance):
    walk.w.supervisor.kill_client(chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)))


@event("kill-supervisor", lambda walk: walk.supervisor, 3)
def kill_supervisor(walk, _chance):
    walk.w.supervisor.kill9()
    walk.supervisor = False


@event("stop-supervisor", lambda walk: walk.supervisor, 1)
def stop_supervisor(walk, _chance):
    walk.w.supervisor.stop()
    walk.supervisor = False


@event("start-supervisor", lambda walk: not walk.supervisor, 16)
def start_supervisor(walk, _chance):
    walk.w.supervisor.start()
    walk.supervisor = True


@event("restart-supervisor", lambda walk: walk.supervisor, 1)
def restart_supervisor(walk, _chance):
    walk.w.supervisor.stop()
    walk.w.supervisor.start()


@event("kill-owner", lambda walk: walk.owner, 3)
def kill_owner(walk, _chance):
    walk.w.seal.kill9()
    walk.owner, walk.links_changed = False, False


@event("start-owner", lambda walk: not walk.owner, 20)
def start_owner(walk, _chance=None):
    walk.w.seal.start()
    walk.owner, walk.links_changed = True, False
    walk.forced.clear()


@event("restart-owner", lambda walk: walk.owner, 1)
def restart_owner(walk, _chance):
    walk.w.seal.restart()


@event("verb", lambda walk: walk.owner)
def verb(walk, chance):
    walk.w.seal.verb(chance.choice(("on", "check", "blackhole")))


@event("suspend", lambda walk: _eth0(walk) and walk.owner)
def suspend(walk, chance):
    """Everything of ours sleeps, maybe while the uplink becomes another one."""
    w = walk.w
    pids = [one.process.pid for one in (w.seal, w.supervisor) if one.running()] + w.supervisor.clients()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    if chance.random() < 0.5:
        recreate(walk, chance)
    time.sleep(chance.choice((0.1, 0.5, 2.0)))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@event("qubesdb-restart", weight=1)
def qubesdb_restart(walk, chance):
    walk.w.vpn.qubesdb_stop()
    time.sleep(chance.choice((0.0, 0.2)))
    walk.w.vpn.qubesdb_start()


@event("down", lambda walk: walk.supervisor and walk.up)
def down(walk, _chance):
    _command(walk, "down")
    walk.up = False


@event("up", lambda walk: walk.supervisor and not walk.up, 6)
def up(walk, _chance):
    _command(walk, "up")
    walk.up = True


@event("debug", weight=1)
def debug(walk, _chance):
    path = f"{walk.w.supervisor.runtime}/debug"
    if os.path.exists(path):
        os.unlink(path)
    else:
        open(path, "w", encoding="ascii").close()


# rules and routes

@event("flush", _may_force("NG"), 3)
def flush(walk, _chance):
    from lab import platform
    _force(walk, "NG")
    platform.flush(walk.w.vpn)
    walk.platform = False


@event("flush-reload", _may_force("NG"), 3)
def flush_reload(walk, _chance):
    from lab import platform
    _force(walk, "NG")
    platform.flush_and_reload(walk.w.vpn)
    walk.platform = True


@event("platform-restart", lambda walk: walk.platform)
def platform_restart(walk, chance):
    from lab import platform
    platform.reload(walk.w.vpn, chance.random() < 0.5)


@event("firewall-restart", lambda walk: walk.platform, 1)
def firewall_restart(walk, chance):
    from lab import platform
    platform.firewall_stop(walk.w.vpn)
    time.sleep(chance.choice((0.0, 0.2)))
    platform.firewall_start(walk.w.vpn)


@event("delete-tables", _may_force("NG"), 1)
def delete_tables(walk, _chance):
    from tests.leaks import events
    _force(walk, "NG")
    events.delete_tables(walk.w)


@event("rules-flush", _may_force("R"))
def rules_flush(walk, _chance):
    from tests.leaks import events
    _force(walk, "R")
    events.flush_rules(walk.w)


@event("rule-delete", _may_force("R"))
def rule_delete(walk, chance):
    _force(walk, "R")
    family = chance.choice(("-4", "-6"))
    lines = walk.w.vpn.run(["ip", family, "rule", "show"]).stdout.splitlines()
    places = [line.split(":")[0] for line in lines if 0 < int(line.split(":")[0]) < 32766]
    if places:
        walk.w.vpn.run(["ip", family, "rule", "del", "prio", chance.choice(places)], check=False)


@event("routes-flush", _may_force("R"))
def routes_flush(walk, chance):
    _force(walk, "R")
    for table in chance.sample(("77", "78", "79"), chance.randint(1, 3)):
        for family in ("-4", "-6"):
            walk.w.vpn.run(["ip", family, "route", "flush", "table", table], check=False)


@event("main-first", lambda walk: not walk.first and _may_force("R")(walk), 1)
def main_first(walk, _chance):
    from tests.leaks import events
    _force(walk, "R")
    events.main_first(walk.w)
    walk.first = True


@event("main-not-first", lambda walk: walk.first, 8)
def main_not_first(walk, _chance):
    from tests.leaks import events
    events.main_not_first(walk.w)
    walk.first = False


# the tunnel's device

@event("tunnel-harm")
def tunnel_harm(walk, chance):
    from tests.leaks import events
    from lab.vpn import TUNNEL
    events.ip(walk.w, chance.choice((f"link del {TUNNEL}", f"link set {TUNNEL} down", f"addr flush dev {TUNNEL}",
                                     f"link set {TUNNEL} group 1", f"link set {TUNNEL} mtu 1280",
                                     f"link set {TUNNEL} down\nlink set {TUNNEL} up",
                                     f"route flush table 78\nroute flush dev {TUNNEL}" if walk.owner else "link show")))


# uplinks

@event("uplink-down", lambda walk: walk.link and _eth0(walk))
def uplink_down(walk, _chance):
    from tests.leaks import events
    events.ip(walk.w, "link set eth0 down")
    walk.link = False


@event("uplink-up", lambda walk: not walk.link and _eth0(walk), 10)
def uplink_up(walk, _chance):
    from tests.leaks import events
    events.ip(walk.w, "link set eth0 up")
    walk.w.vpn.wait_running("eth0")
    events.setup_ip(walk.w)
    walk.link = True


@event("flap", lambda walk: walk.link and _eth0(walk))
def flap(walk, _chance):
    from tests.leaks import events
    events.flap(walk.w)


@event("configure-again", lambda walk: walk.link and _eth0(walk), 1)
def configure_again(walk, _chance):
    from tests.leaks import events
    events.setup_ip(walk.w)


@event("recreate", _links_may_change)
def recreate(walk, _chance):
    walk.w.vpn.stop()
    walk.w.vpn.start()
    walk.iface, walk.link = "eth0", True
    _link_changed(walk)


@event("move", lambda walk: walk.platform and _links_may_change(walk), 3)
def move(walk, _chance):
    w = walk.w
    w.netvm = "sys-other" if w.netvm == "sys-net" else "sys-net"
    w.vpn.move_to(w.netvm)
    w.gw, w.gw6 = w.lab[w.netvm].spec.ip, w.lab[w.netvm].spec.ip6
    walk.iface, walk.link = "eth0", True
    _link_changed(walk)


@event("rename", lambda walk: walk.vif and walk.link and _eth0(walk), 1)
def rename(walk, chance):
    from tests.leaks import events
    walk.iface = chance.choice(("enX0", "net0", "vif7.0"))
    events.rename(walk.w, "eth0", walk.iface)
    _link_changed(walk)


@event("rename-back", lambda walk: walk.vif and walk.iface != "eth0" and _links_may_change(walk), 6)
def rename_back(walk, _chance):
    from tests.leaks import events
    events.rename(walk.w, walk.iface, "eth0")
    walk.iface = "eth0"
    _link_changed(walk)


@event("plug", lambda walk: walk.vif and walk.other is None and _links_may_change(walk))
def plug(walk, chance):
    from tests.leaks import events
    walk.other = chance.randint(0, 2)
    events.another_uplink(walk.other)(walk.w)
    _link_changed(walk)


@event("unplug", lambda walk: walk.other is not None, 6)
def unplug(walk, _chance):
    walk.w.vpn.remove_uplink("wls7")
    walk.other = None


@event("link-storm", weight=1)
def link_storm(walk, _chance):
    text = "".join(f"link add s{number} type veth peer name t{number}\nlink set s{number} up\nlink del s{number}\n"
                   for number in range(100))
    walk.w.vpn.run(["ip", "-batch", "-"], input=text, check=False)


# servers

def _running(walk, but=()):
    return [name for name in walk.servers if name not in walk.stopped | walk.frozen | set(but)]


@event("server-kill", lambda walk: walk.current in _running(walk))
def server_kill(walk, _chance):
    walk.servers[walk.current].stop()
    walk.stopped.add(walk.current)


@event("server-start", lambda walk: bool(walk.stopped), 8)
def server_start(walk, chance):
    start_server(walk, chance.choice(sorted(walk.stopped)))


def start_server(walk, name):
    walk.servers[name].start()
    walk.stopped.discard(name)


@event("server-restart", lambda walk: walk.current in _running(walk))
def server_restart(walk, _chance):
    walk.servers[walk.current].restart()


@event("server-freeze", lambda walk: walk.current in _running(walk))
def server_freeze(walk, _chance):
    walk.servers[walk.current].freeze()
    walk.frozen.add(walk.current)


@event("server-thaw", lambda walk: bool(walk.frozen), 8)
def server_thaw(walk, chance):
    thaw(walk, chance.choice(sorted(walk.frozen)))


def thaw(walk, name):
    walk.servers[name].freeze(False)
    walk.frozen.discard(name)


@event("server-kick", lambda walk: walk.current in _running(walk, ["wire"]))
def server_kick(walk, _chance):
    walk.servers[walk.current].kick()


@event("server-pushes", lambda walk: walk.current in _running(walk, ["wire"]))
def server_pushes(walk, chance):
    """Another address, or the first one again, from the next connection on, which is soon."""
    server = walk.servers[walk.current]
    site, number = server.site, chance.choice((2, 77, 78))
    walk.w.oracle.tunnel_addresses |= {f"{site.net}.{number}", f"{site.net6}:{number}"}
    server.push(address=f"{site.net}.{number}", address6=f"{site.net6}:{number}")
    server.kick()


# profiles

@event("use", lambda walk: walk.supervisor, 4)
def use(walk, chance):
    name = chance.choice(sorted(walk.servers))
    if not _command(walk, "use", name):
        walk.current, walk.up = name, True
        walk.w.server = walk.servers[name if name != "wire" else "server"]


def _profile(name):
    return f"{name}.conf" if name == "wire" else f"{name}.ovpn"


@event("profile-touch")
def profile_touch(walk, chance):
    """Written again, whole or in two halves."""
    if walk.current in walk.bad:
        return
    path = f"{walk.w.supervisor.profiles}/{_profile(walk.current)}"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    kind = chance.choice(("times", "rename", "halves"))
    if kind == "times":
        os.utime(path)
    elif kind == "rename":
        restore_profile(walk, walk.current)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text[:len(text) // 2])
            file.flush()
            time.sleep(chance.choice((0.0, 0.1)))
            file.write(text[len(text) // 2:])


@event("profile-break", lambda walk: not walk.bad)
def profile_break(walk, chance):
    name = chance.choice((walk.current, walk.current, *sorted(walk.servers)))
    path = f"{walk.w.supervisor.profiles}/{_profile(name)}"
    kind = chance.choice(("remove", "empty", "noise", "cut"))
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if kind == "remove":
        os.unlink(path)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write({"empty": "", "noise": "up /bin/true\n\x01\x02\n", "cut": text[:len(text) // 3]}[kind])
    walk.bad[name] = kind


@event("profile-restore", lambda walk: bool(walk.bad), 8)
def profile_restore(walk, chance):
    restore_profile(walk, chance.choice(sorted(walk.bad)))


def restore_profile(walk, name):
    walk.w.supervisor.install(f"{walk.w.provider.folder}/{_profile(name)}")
    walk.bad.pop(name, None)


# qubes

@event("vif-stop", lambda walk: walk.vif and walk.platform)
def stop_vif(walk, chance):
    walk.w.lab["play"].stop(offline=chance.random() < 0.7)
    walk.vif = False


@event("vif-start", lambda walk: not walk.vif and walk.platform, 8)
def start_vif(walk, _chance):
    walk.w.lab["play"].start()
    walk.vif = True


@event("vif-restart", lambda walk: walk.vif and walk.platform)
def restart_vif(walk, _chance):
    walk.w.lab["play"].restart()


@event("hit", lambda walk: walk.vif)
def hit(walk, _chance):
    """Packets of another qube than the flooding one."""
    from tests.leaks import events
    events.hit(walk.w, 43, "a", 40)


@event("catalogue", lambda walk: walk.vif and walk.link and walk.iface == "eth0" and walk.other is None, 1)
def catalogue(walk, chance):
    """Every crafted packet of some actors."""
    from tests.leaks import vectors
    vectors.shoot(walk.w, actors=chance.choice(("Q", "PD", "L")))


# -- running -----------------------------------------------------------------------------------------------------------

def _short(error):
    return f"{type(error).__name__}: {error}" + "".join(f"\n      {note[-400:]}" for note in
                                                        getattr(error, "__notes__", []))


def judge(report, result):
    for (state, place, kind, tag), number in sorted(report.leak_counts.items()):
        if state == "before":  # the uplink was there before the seal
            continue
        if "(R alone)" in state and (place != "uplink" or kind not in ("content", "foreign")):
            continue
        result.wrong.append(f"{number} leaked: [{state}] {place} {kind} {tag}")
    if result.wrong:
        result.wrong += [f"  {leak}" for leak in report.leaks[:8]]
    if report.lost:
        result.blind.append(f"the witness lost {report.lost} frames")
    if not report.seen("carrier"):
        result.blind.append("the witness saw no carrier")


def run(seed, events=20, steps=None, told=lambda text: None, rate=RATE):
    """One sequence: of a seed, or these steps. Returns a Result."""
    from lab.vpn_flood import Flood
    result, begun = Result(seed, ""), time.monotonic()
    walk = Walk(seed)
    result.setting = walk.setting
    try:
        with Flood(walk.w.lab["work"], rate) as flood:
            for place in range(events if steps is None else len(steps)):
                step = walk.choose() if steps is None else steps[place]
                result.steps.append(step)
                told(f"{step[0]}:{step[1]}")
                try:
                    wrong = walk.do(place + 1, *step)
                except Exception as error:  # pylint: disable=broad-except
                    wrong = [_short(error)]
                if wrong:
                    result.wrong += [f"{place + 1} {step[0]}:{step[1]}: {line}" for line in wrong]
                    break
            walk.finish(result)
        walk.works(result)
        if flood.pps < rate * 5 / 6:
            result.blind.append(f"the flood had {flood.pps:.0f} packets a second")
        result.logs = walk.w.logs() if result.wrong else ""
    finally:
        try:
            report = walk.w.close()
        except AssertionError as error:  # a sanitizer's report
            result.wrong.append(str(error)[:4000])
            report = walk.w.oracle.report
    judge(report, result)
    result.seconds = time.monotonic() - begun
    return result


def shrink(failed, told=print, rate=RATE):
    """The shortest sequence found that fails too: leaves out halves, then quarters, then single events."""
    best, runs, size = failed, 0, max(len(failed.steps) // 2, 1)
    while runs < SHRINK_RUNS:
        place, shorter = 0, False
        while place < len(best.steps) and runs < SHRINK_RUNS:
            steps = best.steps[:place] + best.steps[place + size:]
            if not steps:
                break
            runs += 1
            tried = run(failed.seed, steps=steps, rate=rate)
            if tried.wrong:
                best, shorter = tried, True
                told(f"    {len(best.steps)} events fail too")
            else:
                place += size
        if size == 1 and not shorter:
            break
        size = max(size // 2, 1)
    return best


def control():
    """Without a seal the witness must see the qube's packets when the client dies. Returns how many."""
    from lab.vpn import TUNNEL
    from lab.vpn_flood import Flood
    from tests.leaks.world import World
    with World("none") as world:
        world.connect()
        with Flood(world.lab["work"], RATE):
            time.sleep(0.2)
            world.kill_client()
            world.vpn.run(["ip", "link", "del", TUNNEL], check=False)
            time.sleep(0.3)
        return world.close().qube_bytes()


def _parse_steps(text):
    return [(name, int(number)) for name, number in (word.rsplit(":", 1) for word in text.split())]


def tell(result):
    verdict = "FAILED" if result.wrong else "says nothing" if result.blind else "ok"
    print(f"seed {result.seed} ({result.setting}): {verdict}, {len(result.steps)} events, {result.seconds:.1f} s, up again "
          f"after {result.back:.1f} s", flush=True)
    for line in result.wrong + result.blind:
        print(f"    {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=25, help="sequences")
    parser.add_argument("--seed", type=int, help="of the first one (default: by the clock)")
    parser.add_argument("--events", type=int, default=20, help="of each sequence")
    parser.add_argument("--steps", help="these events instead, with the seed's setting")
    parser.add_argument("--rate", type=int, default=RATE, help="packets of the flood a second; fewer let more walks run side by "
                        "side")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    sandbox.enter()
    seed = int(time.time()) % 1000000 if arguments.seed is None else arguments.seed
    steps = _parse_steps(arguments.steps) if arguments.steps else None
    told = (lambda text: print(f"    {text}", flush=True)) if arguments.verbose else lambda text: None
    if not arguments.no_control:
        seen = control()
        print(f"control: {seen} packets leaked without a seal", flush=True)
        if seen < 100:
            sys.exit("the witness is blind")
    failed, blind = [], 0
    for number in range(1 if steps else arguments.count):
        result = run(seed + number, arguments.events, steps, told, arguments.rate)
        tell(result)
        blind += bool(result.blind and not result.wrong)
        if result.wrong:
            print(f"    --steps \"{result.text()}\"", flush=True)
            failed.append(result.seed)
            if not arguments.no_shrink and len(result.steps) > 1:
                result = shrink(result, rate=arguments.rate)
                tell(result)
                print(f"    shortest: --seed {result.seed} --steps \"{result.text()}\"", flush=True)
            print(result.logs, flush=True)
    print(f"{len(failed)} failed" + (f": seeds {' '.join(map(str, failed))}" if failed else "") +
          f", {blind} say nothing (a machine too slow for the witness)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
