#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sequences of what happens to a network tree: qubes and net qubes start, stop, move, change address, are cloned and
removed, features come and go, daemons are restarted. After each event the doors that are open from the LAN, from sibling
qubes and from the other chain must be those that tests/lab/exposure_oracle.py computes from the features, and QubesDB must
hold exactly their records.

    tests/lab/exposure_walk.py [--count 25] [--seed FIRST] [--events 30]     each seed is one sequence; --count 1 replays it
    tests/lab/exposure_walk.py --seed N --steps "netvm:17 kill-hop:4"        these events only (as a failure prints them)

A sequence that fails is shortened by leaving events out until no shorter one fails (--no-shrink: not). With --reference
records are written by the oracle instead of the daemon: then it is the routers alone that are tried.
"""

import argparse
import contextlib
import itertools
import os
import random
import select
import socket
import sys
import time
from dataclasses import dataclass, field

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import sandbox
from lab.node import wait_until
from lab.router import SLOW
from tests.lab import exposure_oracle

SHRINK_RUNS = 24
SETTLE = 8.0
HOPS = ("sys-net", "sys-firewall", "sys-net2", "sys-fw2")
ADDRESSES = tuple(f"192.168.16.{number}" for number in (25, 26, 27, 28)) + (None,)
ADDRESSES6 = tuple(f"2001:db8:16::{number}" for number in (25, 26, 27, 28)) + (None,)
ALLOW = (None, None, "", "any", "tcp/80", "tcp/80", "tcp/81; udp/90", "tcp/80 from 192.168.16.10",
         "tcp/80 from 192.168.16.0/24", "udp/90;icmp", "tcp/80;tcp/81 from 10.137.0.0/16", "tcp/nonsense")
PUBLISH = (None, "tcp/8080:80", "tcp/8080:80", "tcp/8081:81; udp/8090:90", "tcp/8080-8081:80-81",
           "tcp/8081:80 from 192.168.16.10", "tcp/8080:80 from 192.168.16.11,10.137.0.0/16;udp/8090:90", "tcp/8080:", "")
EXPIRES = (None, "2099-01-01T00:00:00Z", "2001-01-01T00:00:00Z")
INSIDE = ("tcp/80", "tcp/81", "udp/90", "icmp")
OUTSIDE = ("tcp/80", "tcp/8080", "tcp/8081", "udp/8090")
_TRANSPARENT, _TRANSPARENT6 = 19, 75           # linux/in.h, linux/in6.h
MOST = 7                                       # qubes that are no net qubes


@dataclass
class Result:
    seed: int
    setting: str = ""
    steps: list = field(default_factory=list)
    wrong: list = field(default_factory=list)
    seconds: float = 0.0
    opened: int = 0                            # doors that were open, of all events
    asked: int = 0
    logs: str = ""

    def text(self):
        return " ".join(f"{name}:{number}" for name, number in self.steps)


class ReferenceWriter:
    """In the place of the daemon: writes what the oracle wants."""

    def __init__(self, dom0):
        self.dom0 = dom0

    def sync(self, oracle):
        dom0, features = self.dom0, self.dom0.model.with_template
        wanted, blocks = oracle.records(), oracle.opened_blocks()
        for hop, address in set(exposure_oracle.records(dom0)) - set(wanted):
            with dom0.qdb(hop) as db:
                db.rm(f"/network-server/{address}")
            node = dom0.lab[hop]  # the daemon takes back long before the qube is elsewhere
            wait_until(lambda n=node, a=address: a not in {proxy for proxy, _iface in n.proxies()}, 3, "withdrawn")
        for (hop, address), fields in wanted.items():
            vm = dom0[fields["vm"]]
            for name in ("allow", "publish"):
                value = features(vm, f"network-server.{name}")
                if value is not None and (name == "allow" or value.strip()):
                    fields[name] = value
            if fields["mode"] == "publish":
                fields.pop("allow", None)
            with dom0.qdb(hop) as db:
                db.write(f"/network-server/{address}", "|".join(f"{key}={value}" for key, value in fields.items()))
        for hop, address in exposure_oracle.opened_blocks(dom0) ^ blocks:
            policy = "accept" if (hop, address) in blocks else "drop"
            with dom0.qdb(hop) as db:
                for key in db.list(f"/qubes-firewall/{address}/0"):
                    db.rm(key)
                db.write(f"/qubes-firewall/{address}/policy", policy)
                db.write(f"/qubes-firewall/{address}", "")
        for vm in dom0.model.sorted():
            if not vm.is_running or vm.qdb is None:
                continue
            with dom0.qdb(vm.name) as db:
                if vm.name in oracle.doors_inside():
                    db.write("/network-server-inbound", "v=1")
                else:
                    db.rm("/network-server-inbound")


class Walk:
    """One sequence. An event is chosen only where it makes sense; the same seed chooses the same events."""

    def __init__(self, seed, reference=False):
        from lab import topologies
        from lab.dom0 import Dom0, flavoured
        from lab.lab import Lab
        from lab.serverd import Serverd
        self.random = random.Random(seed)
        self.flavour = self.random.choice(("4.2", "4.3", "4.3", "4.4"))
        self.hvm = self.random.choice((None, None, "web", "hidden"))
        topology = flavoured(topologies.TWO_CHAINS, self.flavour)
        self.lab = Lab(topology.changed(self.hvm, hvm=True, domid=40) if self.hvm else topology)
        try:
            self.dom0 = Dom0(self.lab, self.flavour)
            self.model = self.dom0.model
            self.names = 0
            for name in ("web-template", "blank"):
                self.dom0.add(name, "TemplateVM")
            self.dom0.add("dvm", template_for_dispvms=True, netvm="sys-firewall", template="web-template")
            self.model["web"].explicit["template"] = "web-template"
            for name in HOPS:
                self.dom0.router(name)
            for name in self.plain():
                self.serve(self.lab[name])
            for name in ("lan1", "lan2"):
                self.lab[name].serve_tcp(80)
            self._listen()
            self.serverd = None if reference else Serverd(self.dom0)
            self.writer = ReferenceWriter(self.dom0) if reference else None
        except BaseException:
            self.lab.close()
            raise

    @staticmethod
    def serve(node):
        node.serve_tcp(80), node.serve_tcp(81), node.serve_udp(90)

    def _listen(self):
        self.witness = self.lab["lan1"].socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.witness.bind(("::", 9999))
        self.witness.setblocking(False)

    def close(self):
        self.witness.close()
        self.lab.close()

    # -- who is there ----------------------------------------------------------------------------------------------

    def plain(self, running=None):
        return [vm.name for vm in self.model.sorted() if vm.node is not None and vm.name not in HOPS
                and running in (None, vm.is_running)]

    def hops(self, running=None):
        return [name for name in HOPS if running in (None, self.model[name].is_running)]

    def choose(self):
        names = [name for name, event in EVENTS.items() for _ in range(event.weight) if event.may(self)]
        return self.random.choice(names), self.random.randrange(1000)

    def do(self, name, number):
        event = EVENTS[name]
        if event.may(self):
            event.do(self, random.Random(number))

    # -- what must be ----------------------------------------------------------------------------------------------

    def questions(self, oracle):
        """{Door: must it be open}."""
        from lab.doors import door
        asked = {}
        targets = {(address, INSIDE) for name in self.plain() for vm in (self.model[name],)
                   for address in (self.model.value(vm, "ip"), self.model.value(vm, "ip6"), *(vm.live or ())[1:]) if address}
        targets |= {(text.split("/")[0], OUTSIDE) for name in HOPS for link in self.lab[name].uplinks.values()
                    for text in link.addresses}
        running = [self.model[name] for name in self.plain(True)]
        addresses = [address for vm in running if vm.live for address in vm.live[1:]]
        lan1 = self.lab["lan1"]
        own = {4: "192.168.16.10", 6: None}
        for address, whats in targets:
            for what in whats:
                proto, _, port = what.partition("/")
                own[6] = "fd00:16::10" if address.startswith("fd00:16:") else "2001:db8:16::10"
                must = oracle.reaches(own[6 if ":" in address else 4], address, proto, int(port or 0))
                if must is not None:
                    asked[door(lan1, address, what)] = must
                for vm in running:
                    mine = vm.live[2 if ":" in address else 1] if vm.live else None
                    if addresses.count(mine) > 1:
                        continue            # two qubes with one address: answers go to either
                    must = oracle.reaches(vm, address, proto, int(port or 0))
                    if must is not None:
                        asked[door(vm.node, address, what)] = must
        asked[door(lan1, "192.168.16.11", "tcp/80")] = True  # so that silence means something
        return asked

    def wrong(self):
        """What is not as it must be now; [] when all is."""
        from lab.doors import reached
        oracle = exposure_oracle.Oracle(self.dom0)
        if self.writer is not None:
            self.writer.sync(oracle)
            self.dom0.settle_firewalls()
            oracle = exposure_oracle.Oracle(self.dom0)
        found = []
        for what, is_now, must in (("records", exposure_oracle.records(self.dom0), oracle.records()),
                                   ("opened blocks", exposure_oracle.opened_blocks(self.dom0), oracle.opened_blocks()),
                                   ("doors inside", exposure_oracle.doors_inside(self.dom0), oracle.doors_inside())):
            if is_now != must:
                if isinstance(must, dict):
                    is_now, must = ({f"{key}: {value}" for key, value in some.items()} for some in (is_now, must))
                found.append(f"{what}: without an owner {sorted(is_now - must)}; missing {sorted(must - is_now)}")
        if found:
            return found
        asked = self.questions(oracle)
        self.dom0.settle_firewalls()
        got = reached(self.lab, list(asked))
        expected = {question for question, must in asked.items() if must}
        self.asked, self.open = len(asked), len(expected)
        if got - expected:
            found.append(f"open but must be closed: {sorted(map(tuple, got - expected))}")
        if expected - got:
            found.append(f"closed but must be open: {sorted(map(tuple, expected - got))}")
        return found or self._masks(oracle) + self._spoof(oracle)

    def _masks(self, oracle):
        """Qubes keep their own address outwards when they are exposed, else it is masked; their own rules hold."""
        found = []
        live = [address for name in self.plain(True) for address in (self.model[name].live or ())[1:]]
        for name in self.plain(True):
            vm = self.model[name]
            for family, server in ((4, "192.168.16.10"), (6, "2001:db8:16::10")):
                own = vm.live[1 if family == 4 else 2] if vm.live else None
                if own is None or live.count(own) > 1 or vm.state == "Paused":
                    continue
                must = oracle.seen_by_lan(vm, family)
                if must is None and oracle.gets_out(vm, own) or must is not None and not exposure_oracle.on_lan(must):
                    continue                # its way is broken, or nobody answers that address
                try:
                    with vm.node.connect_tcp(server, 80, timeout=0.3 * SLOW) as connection:
                        seen = connection.peer
                except OSError:
                    seen = None
                if seen != must:
                    found.append(f"{name} is seen by the LAN as {seen}, not as {must}")
        return found

    def _spoof(self, oracle):
        """Nobody gets out to the LAN in the name of an exposed qube."""
        for (address, one), name in itertools.product(oracle.by_address.items(), self.plain(True)):
            if address in (self.model[name].live or ()):
                continue
            six = ":" in address
            with self.lab[name].socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.IPPROTO_IPV6 if six else socket.SOL_IP, _TRANSPARENT6 if six else _TRANSPARENT, 1)
                with contextlib.suppress(OSError):
                    sock.bind((address, 0))
                    sock.sendto(f"{name} as {address} of {one.vm.name}".encode(),
                                ("2001:db8:16::10" if six else "192.168.16.10", 9999))
        with self.lab["lan2"].socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"control", ("192.168.16.10", 9999))
        heard, end = set(), time.monotonic() + 2 * SLOW
        while "control" not in heard and time.monotonic() < end:
            if select.select([self.witness], [], [], 0.1)[0]:
                heard.add(self.witness.recv(1000).decode())
        if "control" not in heard:
            return ["the witness of the LAN hears nothing"]
        return [f"got out to the LAN: {text}" for text in sorted(heard - {"control"})]

    def settle(self):
        """Waits until all is as it must be; what still is not after some seconds."""
        end = time.monotonic() + SETTLE * SLOW
        while True:
            found = self.wrong()
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.02)

    def alive(self):
        found = []
        if self.serverd is not None and not self.serverd.running():
            found.append(f"the daemon ended by itself ({self.serverd.process.returncode})")
        for name in self.hops(True):
            if not self.dom0.routers[name].running():
                found.append(f"the router of {name} ended by itself")
        return found

    def logs(self):
        text = "" if self.serverd is None else f"-- daemon\n{self.serverd.log[-6000:]}"
        for name in HOPS:
            text += f"\n-- router of {name}\n{self.dom0.routers[name].log[-2000:]}"
        events = "\n".join(f"{who} {event} {pairs}" for who, event, pairs in self.dom0.history[-40:])
        return text + f"\n-- qubesd\n{events}"


# -- events --------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Event:
    do: object                          # (walk, chance)
    weight: int = 2
    may: object = lambda walk: True


EVENTS = {}


def event(name, weight=2, may=lambda walk: True):
    def put(work):
        EVENTS[name] = Event(work, weight, may)
        return work
    return put


def _plain(running=None):
    return lambda walk: bool(walk.plain(running))


@event("start", 4, _plain(False))
def _start(walk, chance):
    walk.dom0.start(chance.choice(walk.plain(False)))


@event("stop", 3, _plain(True))
def _stop(walk, chance):
    name = chance.choice(walk.plain(True))
    (walk.dom0.shutdown if chance.random() < 0.5 else walk.dom0.kill)(name)


@event("restart", 2, _plain(True))
def _restart(walk, chance):
    names = [name for name in walk.plain(True) if not walk.model[name].auto_cleanup]
    if names:
        name = chance.choice(names)
        walk.dom0.kill(name)
        walk.dom0.start(name)


@event("kill-hop", 2, lambda walk: bool(walk.hops(True)))
def _kill_hop(walk, chance):
    walk.dom0.kill(chance.choice(walk.hops(True)))


@event("start-hop", 6, lambda walk: bool(walk.hops(False)))
def _start_hop(walk, chance):
    walk.dom0.start(chance.choice(walk.hops(False)))


@event("restart-hop", 2, lambda walk: bool(walk.hops(True)))
def _restart_hop(walk, chance):
    name = chance.choice(walk.hops(True))
    walk.dom0.kill(name)
    walk.dom0.start(name)


def _netvms(walk, name, none=True):
    vm = walk.model[name]
    return [hop for hop in HOPS if walk.model[hop].is_running or not vm.is_running] + ([None] if none else [])


@event("netvm", 6, _plain())
def _netvm(walk, chance):
    name = chance.choice(walk.plain())
    walk.dom0.set_netvm(name, chance.choice(_netvms(walk, name)))


@event("netvm-reset", 2, lambda walk: walk.model[walk.model.default_netvm].is_running)
def _netvm_reset(walk, chance):
    walk.dom0.reset_netvm(chance.choice(walk.plain()))


@event("default-netvm", 1, lambda walk: bool(walk.hops(True)))
def _default_netvm(walk, chance):
    walk.dom0.set_default_netvm(chance.choice(walk.hops(True)))


@event("reattach", 2, _plain(True))
def _reattach(walk, chance):
    name = chance.choice(walk.plain(True))
    netvm = walk.model.netvm(walk.model[name])
    if netvm is not None and netvm.is_running:
        walk.dom0.set_netvm(name, None)
        walk.dom0.set_netvm(name, netvm.name)


@event("hop-netvm", 2)
def _hop_netvm(walk, chance):
    name, netvm = chance.choice(("sys-firewall", "sys-fw2")), chance.choice(("sys-net", "sys-net2"))
    if walk.model[netvm].is_running or not walk.model[name].is_running:
        walk.dom0.set_netvm(name, netvm)


@event("pause", 1, _plain(True))
def _pause(walk, chance):
    names = [name for name in walk.plain(True) if walk.model[name].state == "Running"]
    if names:
        walk.dom0.pause(chance.choice(names))


def _paused(walk):
    return [name for name in walk.plain(True) if walk.model[name].state == "Paused"]


@event("unpause", 6, lambda walk: bool(_paused(walk)))
def _unpause(walk, chance):
    walk.dom0.unpause(chance.choice(_paused(walk)))


@event("ip", 3, _plain())
def _ip(walk, chance):
    name, prop = chance.choice(walk.plain()), chance.choice(("ip", "ip6"))
    address = chance.choice(ADDRESSES if prop == "ip" else ADDRESSES6)
    if address is None:
        walk.dom0.reset_property(name, prop)
    else:
        walk.dom0.set_property(name, prop, address)


def _set(walk, name, feature, value):
    if value is not None:
        walk.dom0.set_feature(name, feature, value)
    elif feature in walk.model[name].features:
        walk.dom0.remove_feature(name, feature)


@event("forward", 10)
def _forward(walk, chance):
    where = chance.choice(walk.plain() * 3 + ["web-template", "dvm"])
    _set(walk, where, "routing-method", chance.choice(("forward",) * 6 + ("masquerade", "", None)))


@event("allow", 4)
def _allow(walk, chance):
    _set(walk, chance.choice(walk.plain() * 3 + ["web-template", "dvm"]), "network-server.allow", chance.choice(ALLOW))


@event("publish", 4)
def _publish(walk, chance):
    _set(walk, chance.choice(walk.plain() * 3 + ["web-template"]), "network-server.publish", chance.choice(PUBLISH))


@event("expires", 1)
def _expires(walk, chance):
    _set(walk, chance.choice(walk.plain()), "network-server.expires", chance.choice(EXPIRES))


@event("capable", 1)
def _capable(walk, chance):
    _set(walk, chance.choice(HOPS), "supported-feature.network-server", chance.choice(("", None, None)))


@event("firewall", 2, _plain())
def _firewall(walk, chance):
    walk.dom0.set_firewall(chance.choice(walk.plain()), [chance.choice(("action=accept", "action=accept", "action=drop"))])


def _room(walk):
    return len(walk.plain()) < MOST


@event("clone", 1, _room)
def _clone(walk, chance):
    walk.names += 1
    old, new = chance.choice(walk.plain()), f"copy{walk.names}"
    walk.dom0.clone(old, new, node=True)
    walk.serve(walk.lab[new])
    if walk.model[new].auto_cleanup or chance.random() < 0.5:
        return
    walk.dom0.start(new)


@event("rename", 1, _plain())
def _rename(walk, chance):
    """As the settings' window does it: a clone, and the old one is removed."""
    names = [name for name in walk.plain(False) if not walk.model[name].auto_cleanup]
    if names and walk.model.netvm(walk.model[names[0]]) is not None:
        walk.names += 1
        old, new = chance.choice(names), f"new{walk.names}"
        walk.dom0.clone(old, new, node=True)
        walk.serve(walk.lab[new])
        walk.dom0.remove(old)
        walk.dom0.start(new)


@event("disposable", 2, _room)
def _disposable(walk, chance):
    name = walk.dom0.create_disposable("dvm", node=True)
    walk.serve(walk.lab[name])
    walk.dom0.start(name)


@event("remove", 1, lambda walk: len(walk.plain(False)) > 0 and len(walk.plain()) > 3)
def _remove(walk, chance):
    walk.dom0.remove(chance.choice(walk.plain(False)))


@event("dvm-ip", 1)
def _dvm_ip(walk, chance):
    walk.dom0.set_property("dvm", "ip", chance.choice(ADDRESSES[:2]))


@event("template", 1, _plain(False))
def _template(walk, chance):
    walk.dom0.set_property(chance.choice(walk.plain(False)), "template", chance.choice(("fedora", "web-template")))


@event("qubesd-restart", 1)
def _qubesd_restart(walk, chance):
    walk.dom0.restart_qubesd(crash=chance.random() < 0.5)


@event("died-unseen", 1, _plain(True))
def _died_unseen(walk, chance):
    names = [name for name in walk.plain(True) if not walk.model[name].auto_cleanup]
    with walk.dom0.qubesd_down(crash=True):
        if names:
            walk.dom0.dies_unseen(chance.choice(names))


@event("cut", 1)
def _cut(walk, chance):
    walk.dom0.cut_stream(after=chance.randrange(1, 40))
    _forward(walk, chance)


@event("blocked", 1, _plain())
def _blocked(walk, chance):
    walk.dom0.block_answers(0.3)
    _netvm(walk, chance)


@event("daemon-restart", 1, lambda walk: walk.serverd is not None)
def _daemon_restart(walk, chance):
    if chance.random() < 0.5:
        walk.serverd.restart()
        return
    walk.serverd.kill9()
    if walk.plain(True) and chance.random() < 0.5:
        _stop(walk, chance)
    walk.serverd.start()


@event("router-restart", 1, lambda walk: bool(walk.hops(True)))
def _router_restart(walk, chance):
    router = walk.dom0.routers[chance.choice(walk.hops(True))]
    if chance.random() < 0.5:
        router.restart()
    else:
        router.kill9()
        router.start()


# -- runs ----------------------------------------------------------------------------------------------------------------

def run(seed, events=30, steps=None, told=lambda text: None, reference=False):
    """One sequence: the seed's own, or these steps in the seed's setting."""
    begun, result = time.monotonic(), Result(seed)
    walk = Walk(seed, reference)
    result.setting = walk.flavour + (f", {walk.hvm} is an HVM" if walk.hvm else "")
    try:
        result.wrong = walk.settle()
        number = 0
        while not result.wrong and number < (events if steps is None else len(steps)):
            name, chance = walk.choose() if steps is None else steps[number]
            number += 1
            result.steps.append((name, chance))
            walk.do(name, chance)
            wrong = walk.settle() + walk.alive()
            result.asked += walk.asked
            result.opened += walk.open
            result.wrong = [f"after {number} {name}:{chance}: {text}" for text in wrong]
            told(f"{number} {name}:{chance} {walk.open} of {walk.asked} open {time.monotonic() - begun:.1f} s")
        if result.wrong:
            result.logs = walk.logs()
    except Exception as error:  # pylint: disable=broad-except
        import traceback
        result.wrong.append(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        result.logs = walk.logs()
    try:
        walk.close()
    except AssertionError as error:  # a sanitizer's report
        result.wrong.append(str(error)[:4000])
    result.seconds = time.monotonic() - begun
    return result


def shrink(failed, told=print, reference=False):
    """The shortest sequence found that fails too: leaves out halves, then quarters, then single events."""
    best, runs, size = failed, 0, max(len(failed.steps) // 2, 1)
    while runs < SHRINK_RUNS:
        place, shorter = 0, False
        while place < len(best.steps) and runs < SHRINK_RUNS:
            steps = best.steps[:place] + best.steps[place + size:]
            if not steps:
                break
            runs += 1
            tried = run(failed.seed, steps=steps, reference=reference)
            if tried.wrong:
                best, shorter = tried, True
                told(f"    {len(best.steps)} events fail too")
            else:
                place += size
        if size == 1 and not shorter:
            break
        size = max(size // 2, 1)
    return best


def _parse_steps(text):
    return [(name, int(number)) for name, number in (word.rsplit(":", 1) for word in text.split())]


def tell(result):
    print(f"seed {result.seed} ({result.setting}): {'FAILED' if result.wrong else 'ok'}, {len(result.steps)} events, "
          f"{result.opened} of {result.asked} doors open, {result.seconds:.1f} s", flush=True)
    for line in result.wrong:
        print(f"    {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=25, help="sequences")
    parser.add_argument("--seed", type=int, help="of the first one (default: by the clock)")
    parser.add_argument("--events", type=int, default=30, help="of each sequence")
    parser.add_argument("--steps", help="these events instead, with the seed's setting")
    parser.add_argument("--reference", action="store_true", help="records by the oracle, not by the daemon")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--stop", action="store_true", help="end with the first sequence that fails")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    sandbox.enter()
    seed = int(time.time()) % 1000000 if arguments.seed is None else arguments.seed
    steps = _parse_steps(arguments.steps) if arguments.steps else None
    told = (lambda text: print(f"    {text}", flush=True)) if arguments.verbose else lambda text: None
    failed = []
    for number in range(1 if steps else arguments.count):
        result = run(seed + number, arguments.events, steps, told, arguments.reference)
        tell(result)
        if result.wrong:
            print(f"    --seed {result.seed} --steps \"{result.text()}\"", flush=True)
            failed.append(result.seed)
            print(result.logs, flush=True)
            if not arguments.no_shrink and len(result.steps) > 1:
                result = shrink(result, reference=arguments.reference)
                tell(result)
                print(f"    shortest: --seed {result.seed} --steps \"{result.text()}\"", flush=True)
            if arguments.stop:
                break
    print(f"{len(failed)} failed" + (f": seeds {' '.join(map(str, failed))}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
