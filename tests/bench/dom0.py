# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0 with very many qubes: how soon what qubesd says stands in every net qube, what the daemon needs, how long
qvm-expose takes; and in a chain of real net qubes, how soon a record lets packets through."""

import contextlib
import os
import select
import signal
import subprocess
import time

import reach
import scale
from lab import platform, topologies
from lab.dom0 import Dom0
from lab.lab import Lab
from lab.node import wait_until
from lab.qubesd import call
from lab.router import environment, program
from lab.serverd import Expose, Serverd

QUBES, EXPOSED = 500, 50
HOPS = ["hop1", "hop2", "hop3"]                # from the LAN inwards; beside is beside hop3
APPS = [f"app{i:03}" for i in range(QUBES - len(HOPS) - 2)]
EXPOSED_APPS = APPS[:EXPOSED]
AT_ONCE = 8                                    # connections to qubesd that daemon and command open at once
PIECE, PIECES, BLOCK = 60000, 300, 3.0
ALLOW = "tcp/22,80,443 from 192.168.16.0/24"
DOOR = "/network-server-inbound"


class Watch:
    """Events of several QubesDBs with the time that a program of its own saw them: no thread of ours is waited for."""

    def __init__(self, dom0, names):
        self.names, self._text, self._seen = list(names), b"", []
        self._process = subprocess.Popen(
            [program("tests/bench/bench-watch"), "/network-server", *(dom0.database(name) for name in self.names)],
            env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self._line(10) != "ready":
            raise RuntimeError("bench-watch is not ready")

    def _line(self, timeout):
        while b"\n" not in self._text:
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                return None
            more = os.read(self._process.stdout.fileno(), 65536)
            if not more:
                raise RuntimeError("bench-watch ended")
            self._text += more
        line, self._text = self._text.split(b"\n", 1)
        return line.decode()

    def drain(self):
        """Forgets everything until nothing has come for 50 ms."""
        while self._line(0.05) is not None:
            continue

    def all_of(self, wanted, timeout=30.0):
        """{(name, path): seconds of its first event since drain()}, when the last of them has come."""
        seen, wanted = {}, set(wanted)
        deadline = time.monotonic() + timeout
        while not wanted <= seen.keys():
            line = self._line(max(deadline - time.monotonic(), 0))
            if line is None:
                raise TimeoutError(f"no event of {sorted(wanted - seen.keys())[:3]}")
            when, number, path = line.split(" ")
            seen.setdefault((self.names[int(number)], path), int(when) / 1e9)
        return seen

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class World:
    """500 qubes: three net qubes in a chain and one beside the last, 50 exposed qubes, all of which run; the others are
    off."""

    def __init__(self):
        self.dom0 = dom0 = Dom0()
        for qid, (name, netvm) in enumerate(zip(HOPS, (None, *HOPS)), 2):
            dom0.add(name, provides_network=True, netvm=netvm, qid=qid)
        dom0.add("beside", provides_network=True, netvm=HOPS[1], qid=9)
        for i, name in enumerate(APPS):
            netvm = HOPS[2] if i < EXPOSED else (*HOPS[:2], "beside", None)[i % 4]
            dom0.add(name, netvm=netvm, ip=f"192.168.{17 + i // 200}.{1 + i % 200}")
        for name in EXPOSED_APPS:
            dom0[name].features |= {"routing-method": "forward", "network-server.allow": ALLOW}
        for name in (*HOPS, "beside", *EXPOSED_APPS):
            dom0.start(name)
        self.watch = Watch(dom0, [*HOPS, "beside", *EXPOSED_APPS])
        self.serverd = Serverd(dom0, start=False, WATCHDOG_USEC="120000000")  # as its unit has it

    def close(self):
        self.watch.close()
        self.dom0.close()

    def key(self, name):
        return f"/network-server/{self.dom0.model.value(self.dom0[name], 'ip')}"

    def records(self, name):
        return {(hop, self.key(name)) for hop in HOPS}

    def everything(self):
        keys = {(name, DOOR) for name in EXPOSED_APPS}
        return keys.union(*(self.records(name) for name in EXPOSED_APPS))

    def value(self, hop, name):
        return self.dom0.keys(hop, self.key(name)).get(self.key(name), "")

    def forget_all(self):
        """Nobody has ever run here."""
        self.serverd.call("--withdraw")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.dom0.folder}/run/live")
        for name in (*HOPS, *EXPOSED_APPS):
            if self.dom0.keys(name):
                raise RuntimeError(f"something was left in the QubesDB of {name}")
        self.watch.drain()

    def calls_since(self, number):
        """As bench-admin takes them."""
        return [f"{method}+{arg} {dest}" for method, arg, dest in self.dom0.qubesd.call_log[number:]
                if method != "admin.Events"]

    def replay(self, calls):
        """Milliseconds that qubesd takes for these calls from a client that does nothing else."""
        done = subprocess.run([program("tests/bench/bench-admin"), self.dom0.socket, str(AT_ONCE)], env=environment(),
                              input="\n".join(calls) + "\n", text=True, capture_output=True, check=True, timeout=120)
        return int(done.stdout) / 1e6


def _ms(begin, seen, wanted):
    """Until the last of them."""
    return (max(seen[one] for one in wanted) - begin) * 1000


def measure_starts(report, world, quick):
    whole, beyond, ready, cpu, answers, again = [], [], [], [], [], []
    for _ in range(2 if quick else 7):
        world.forget_all()
        calls, begin = len(world.dom0.qubesd.call_log), time.monotonic()
        world.serverd.start(timeout=60)
        ready.append((time.monotonic() - begin) * 1000)
        wanted = world.everything()
        whole.append(_ms(begin, world.watch.all_of(wanted), wanted))
        cpu.append(scale.Process(world.serverd.process.pid).cpu_s * 1000)
        calls = world.calls_since(calls)
        answers.append(world.replay(calls))
        beyond.append(whole[-1] - answers[-1])
        world.serverd.stop()
        begin = time.monotonic()
        world.serverd.start(timeout=60)
        again.append((time.monotonic() - begin) * 1000)
        world.serverd.stop()
    name = f"qubesd alone, the same {len(calls)} calls"
    report.row(f"from nothing: exec → the last of {len(wanted)} records", whole, "ms", 1000, answers, name)
    report.row("the same, beyond qubesd's own time", beyond, "ms")
    report.row("the same, CPU time of the daemon", cpu, "ms")
    report.row("from nothing: exec → READY", ready, "ms", None, answers, name)
    report.row("started again, all records in place: exec → READY", again, "ms", None, answers, name)
    world.serverd.start(timeout=60)


def _begun(dom0, event, times):
    """Notes when qubesd is about to send this event; returns what forget() takes."""
    return dom0.at(event, lambda _name: times.append(time.monotonic()))


def measure_changes(report, world, quick):
    """One feature, as qvm-features sets it."""
    dom0, sent = world.dom0, []
    hook = _begun(dom0, "domain-feature-set:network-server.allow", sent)
    hops, door, whole, answered = [], [], [], []
    for i in range(10 if quick else 75):
        name = EXPOSED_APPS[i * 7 % EXPOSED]
        value = f"tcp/{1000 + i}"
        records = world.records(name)
        world.watch.drain()
        begin = time.monotonic()
        answer = call(dom0.socket, "admin.vm.feature.Set", name, value.encode(), "network-server.allow")
        answered.append((time.monotonic() - begin) * 1000)
        seen = world.watch.all_of(records | {(name, DOOR)})
        hops.append(_ms(sent[-1], seen, records))
        door.append((seen[name, DOOR] - sent[-1]) * 1000)
        whole.append(_ms(begin, seen, records))
        if answer != b"0\0" or not all(f"allow={value}" in world.value(hop, name) for hop in HOPS):
            raise RuntimeError(f"{name}: {answer}, {[world.value(hop, name) for hop in HOPS]}")
    dom0.forget(hook)
    report.row("a feature is set: event sent → the record in every hop", hops, "ms", 20)
    report.row("the same, the slowest of all", [max(hops)], "ms")
    report.row("the same, until it stands in the exposed qube too", door, "ms")
    report.row("admin.vm.feature.Set begun → the record in every hop", whole, "ms", None, answered,
               "begun → qubesd has answered")


def measure_life(report, world, quick):
    """An exposed qube is started; its net qube is changed while it runs."""
    dom0, watch = world.dom0, world.watch
    starts, numbers, leaves, arrives = [], [], [], []
    times = {event: [] for event in ("domain-pre-spawn", "domain-spawn", "property-pre-set:netvm",
                                     "property-set:netvm")}
    hooks = [_begun(dom0, event, list_) for event, list_ in times.items()]
    for i in range(4 if quick else 25):
        name = EXPOSED_APPS[i]
        records = world.records(name)
        dom0.kill(name)
        wait_until(lambda: not any(world.value(hop, name) for hop in HOPS), what="withdrawal")
        watch.drain()
        with dom0.until("netvm-keys", dom0.start, name, qube=name):  # qubesd would create the domain now
            starts.append(_ms(times["domain-pre-spawn"][-1], watch.all_of(records), records))
            if not all("xid=pending" in world.value(hop, name) for hop in HOPS):
                raise RuntimeError(world.value(HOPS[2], name))
            watch.drain()
        numbers.append(_ms(times["domain-spawn"][-1], watch.all_of(records), records))
        wait_until(lambda: f"xid={dom0[name].xid}|" in world.value(HOPS[2], name), what="number")
        for netvm in ("beside", HOPS[2]):
            other = HOPS[2] if netvm == "beside" else "beside"
            old = {(hop, world.key(name)) for hop in (*HOPS[:2], other)}
            watch.drain()
            with dom0.until("vif-offline", dom0.set_netvm, name, netvm, qube=name):  # the vif stands still
                leaves.append(_ms(times["property-pre-set:netvm"][-1], watch.all_of(old), old))
                watch.drain()
            new = {(hop, world.key(name)) for hop in (*HOPS[:2], netvm)}
            arrives.append(_ms(times["property-set:netvm"][-1], watch.all_of(new), new))
            wait_until(lambda: f"xid={dom0[name].xid}|" in world.value(netvm, name), what="new record")
    for hook in hooks:
        dom0.forget(hook)
    report.row("domain-pre-spawn → the record (pending) in every hop", starts, "ms", 20)
    report.row("domain-spawn → the number in every hop, qubesd is asked for it", numbers, "ms")
    report.row("net qube changed: property-pre-set:netvm → gone from every hop", leaves, "ms", 20)
    report.row("property-set:netvm → in every new hop, qubesd is asked before", arrives, "ms")


def measure_drain(report, world):
    """qubesd answers nothing, a full reading waits for it, and events go on."""
    dom0, most, rounds = world.dom0, 0, []
    text = "x" * PIECE
    calls = len(dom0.qubesd.call_log)
    dom0.block_answers(BLOCK)
    begin = time.monotonic()
    world.serverd.process.send_signal(signal.SIGHUP)
    for i in range(PIECES):
        dom0.qubesd.emit("", "something-else", {"text": text})
        most = max(most, dom0.qubesd.buffered())
        time.sleep(max(0.0, begin + (i + 1) * (BLOCK - 0.2) / PIECES - time.monotonic()))
    rounds.append(dom0.qubesd.buffered() / 1024)
    if time.monotonic() - begin > BLOCK or dom0.qubesd.streams() != 1:
        raise RuntimeError("the block was too short, or the stream was lost")
    what = f"qubesd stands still for {BLOCK:g} s and sends {PIECES} events of {PIECE // 1000} kB"
    report.row(f"{what}: waiting in qubesd at the end", rounds, "KiB", 0)
    report.row("the same, at most at any moment (right after a send)", [most / 1024], "KiB")
    wait_until(lambda: len(dom0.qubesd.call_log) > calls + QUBES, 30, what="full reading after it")


def measure_needs(report, world, quick):
    process = scale.Process(world.serverd.process.pid)
    process.wait_quiet()
    report.row("resident memory of the daemon", [process.rss_kib / 1024], "MiB", 8)
    report.row("of it not shared with other programs (proportional)", [process.pss_kib / 1024], "MiB")
    report.row("at most since its start", [process.peak_kib / 1024], "MiB", 8)
    seconds = 12 if quick else 60
    before, cpu = process.wakeups, process.cpu_s
    time.sleep(seconds)
    report.row("wake-ups when idle", [(process.wakeups - before) * 60 / seconds], "a minute", 6)
    report.row("CPU time when idle", [(process.cpu_s - cpu) * 60000 / seconds], "ms a minute")


def measure_expose(report, world, quick):
    expose = Expose(world.dom0)
    for arguments in (("--list",), ("--check",)):
        taken, answers = [], []
        for _ in range(2 if quick else 7):
            calls, begin = len(world.dom0.qubesd.call_log), time.monotonic()
            done = expose(*arguments)
            taken.append((time.monotonic() - begin) * 1000)
            if done.stdout.count("app0") < EXPOSED and arguments == ("--list",):
                raise RuntimeError(done.stdout + done.stderr)
            calls = world.calls_since(calls)
            answers.append(world.replay(calls))
        report.row(f"`qvm-expose {' '.join(arguments)}`: exec → end", taken, "ms", None, answers,
                   f"qubesd alone, the same {len(calls)} calls")


def _expose(qube, hops):
    """A record at each hop but the first, and the block that lets the qube out there; {hop: (key, value)}."""
    child, found = qube, {}
    for hop in hops:
        found[hop] = (f"/network-server/{qube.spec.ip}",
                      scale.record(qube, xid=child.xid, via="direct" if child is qube else child.spec.ip,
                                   edge="1" if hop is hops[-1] else "0"))
        if child is not qube:
            platform.firewall_apply(hop, qube.spec.ip, None)
        child = hop
    return found


def _open_others(hops, records, but):
    for hop in hops:
        if hop is not but:
            hop.qdb.write(*records[hop])
            wait_until(lambda: scale.elements(hop, "network-server-any") == 1, what="open")


def _close(hops, records):
    for hop in hops:
        hop.qdb.rm(records[hop][0])
        wait_until(lambda: scale.elements(hop, "network-server-any") == 0, what="closed")


def _look_at_flows(net, address, count):
    """Milliseconds that the kernel takes to say which connections an address has: it walks the whole table."""
    taken = []
    for _ in range(count):
        begin = time.monotonic()
        net.run(["conntrack", "-L", "-s", address])
        taken.append((time.monotonic() - begin) * 1000)
    return taken


def measure_chain(report, quick):
    """Real net qubes: the record of one hop is written, that of the other stands."""
    report.part("A chain of net qubes")
    count = 5 if quick else 25
    with Lab(topologies.CHAIN) as lab:
        lan, outer, inner = lab["lan1"], lab["sys-net"], lab["sys-firewall"]
        for net in (outer, inner):
            net.router()
        for name, hops, hop, what in (
                ("hidden", [outer], outer, "qube attached to the net qube"),
                ("web", [inner, outer], inner, "through two net qubes, the inner one's record"),
                ("web", [inner, outer], outer, "through two net qubes, the outer one's record")):
            qube = lab[name]
            if hop is hops[0]:
                qube.serve_tcp(80)
            records = _expose(qube, hops)
            _open_others(hops, records, hop)
            taken = reach.contact(lan, qube.spec.ip, outer.mac("ens6"), count, 200, (hop.qubesdb_socket, *records[hop]))
            # the new way is opened when what was tracked before it has been looked for, by source and by answerer
            new_way = hop is outer and len(hops) > 1
            report.row(f"record written → first SYN answered: {what}", taken, "ms", None if new_way else 5,
                       _look_at_flows(outer, qube.spec.ip, count) if new_way else None,
                       "conntrack -L, one walk of the table" if new_way else "")
            _close(hops, records)


def measure(report, quick):
    report.part(f"{QUBES} qubes, {EXPOSED} of them exposed through {len(HOPS)} net qubes")
    world = World()
    try:
        measure_starts(report, world, quick)
        measure_changes(report, world, quick)
        measure_life(report, world, quick)
        measure_drain(report, world)
        measure_needs(report, world, quick)
        measure_expose(report, world, quick)
    finally:
        world.close()
    measure_chain(report, quick)
