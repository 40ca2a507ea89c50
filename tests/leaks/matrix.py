# SPDX-License-Identifier: GPL-2.0-or-later
"""The leak matrix: states and events, times packets, times layers; under a flood, beside a control without any layer.

    python3 -m tests.leaks.matrix [--mode product|seal] [--layers RNG,RN,...] [--quick] [--only NAME] [--json FILE]
                                  [--write] [--rp-filter N] [--proto udp,tcp,wireguard]

Exit status 1 when something leaked that must not, when the witness was blind, or when the control saw too little.
--write puts the table into doc/leaks.md.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import sandbox

SETS = ("RNG", "RN", "RG", "NG", "R", "N", "G")
MIN_PPS = 3000
# Without any layer the witness must see each of these, or it is blind.
CONTROL_EVENTS = ("20a", "20b", "21a", "22a", "28a", "61a", "62a", "62b", "62c")
CONTROL_VECTORS = (3, 14, 15, 19, 73, 74, 78, 83, 84, 85, 86, 87, 88, 93, 94, 96, 98, 100, 101, 107, 117, 118, 120, 125,
                   126)
# The older package's way must be seen leaking here: what it is known for.
OLDER_EVENTS = ("2a", "38a", "38b", "43a", "43b", "45a", "46a", "56a", "66a")
OLDER_VECTORS = (1, 3, 4, 78, 117, 118, 125)
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"


@dataclass
class Run:
    layers: str
    mode: str
    proto: str = "udp"
    report: object = None
    pps: float = 0.0
    seconds: float = 0.0
    failures: list = field(default_factory=list)     # of the product: no connection, an exception
    verdicts: dict = field(default_factory=dict)     # situation -> kinds that must be 0, or None
    kills: dict = field(default_factory=dict)        # situation -> layers that it took away
    packets: Counter = field(default_factory=Counter)

    @property
    def head(self):
        return f"{self.layers or self.mode}" + ("" if self.proto == "udp" else f" {self.proto}")

    def leaks(self, situation):
        """Frames on the uplinks per kind, healing included, exceptions not."""
        found = Counter()
        for (state, place, kind, tag), number in self.report.leak_counts.items():
            if place == "uplink" and state.split(" / ")[0] == situation and not self.excepted(tag, situation):
                found[kind] += number
        return found

    def excepted(self, tag, situation):
        """No layer that is left can see this packet."""
        from tests.leaks.events import EXCEPTIONS
        needed = EXCEPTIONS.get(int(tag[2:5]))[0] if tag and int(tag[2:5]) in EXCEPTIONS else None
        return bool(self.layers and needed and not set(needed) & set(self.layers) - set(self.kills.get(situation, "")))

    def forbidden(self):
        """(situation, kind, frames) of all leaks that must not be."""
        found = []
        for situation, kinds in self.verdicts.items():
            found += [(situation, kind, number) for kind, number in self.leaks(situation).items()
                      if kinds and kind in kinds]
        # What goes into the tunnel and to the qubes is the business of N.
        if "N" in self.layers and len(self.layers) == 3:
            for (state, place, kind, tag), number in self.report.leak_counts.items():
                situation = state.split(" / ")[0]
                if place != "uplink" and self.verdicts.get(situation) and "N" not in self.kills.get(situation, ""):
                    found.append((f"{state} ({place} {tag})", kind, number))
        return found


def _situation(world, run, name, verdict, enter, shoot, hold):
    from tests.leaks import vectors
    run.verdicts[name] = verdict
    world.mark(name)
    try:
        enter(world)
        time.sleep(hold)
        if shoot:
            run.packets[name] += vectors.shoot(world)
            time.sleep(0.05)
    except Exception as error:  # pylint: disable=broad-except
        run.failures.append(f"{name}: {_short(error)}")
        return False
    return True


def _short(error):
    notes = getattr(error, "__notes__", [])
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})" + \
        "".join("\n          " + "\n          ".join(note.rstrip().splitlines()[-4:]) for note in notes)


def execute(layers, mode="product", quick=False, only=None, rp_filter=2, proto="udp", states=True, world_class=None,
            told=lambda text: None):
    """One run with these layers ("" is the control); returns a Run."""
    from lab.vpn_flood import Flood
    from tests.leaks import events
    from tests.leaks.world import World
    if not layers:
        mode = mode if mode == "older" else "none"
    elif len(layers) < 3:
        mode = "seal"  # the supervisor has the whole seal or is not ready
        if "N" not in layers:
            rp_filter = 0  # it is N that marks the carrier's answers for the kernel's reverse path check
    run, begun = Run(layers, mode, proto), time.monotonic()
    world = (world_class or World)(mode, layers or "RNG", rp_filter=rp_filter, proto=proto, running=False)
    try:
        world.arm()
        flood = Flood(world.lab["work"], 3600)

        def state(one):
            if mode in one.modes and (not quick or one.name in events.QUICK_STATES) and \
                    (one.wireguard or not world.wireguard):
                told(one.name)
                return _situation(world, run, one.name, events.expected(layers, needs=one.needs), one.enter, True,
                                  events.HOLD / 2)
            return True

        for one in events.STATES:
            if one.name in ("boot", "armed", "connecting", "up") or states:
                if not state(one):
                    break
        for one in events.EVENTS:
            if mode not in one.modes or quick and one.key not in events.QUICK or only and not one.name.startswith(only):
                continue
            if world.wireguard and not one.wireguard:
                continue
            told(one.name)
            verdict = events.expected(layers, one.kills, one.needs, one.alone)
            run.kills[one.name] = one.kills
            fine = _situation(world, run, one.name, verdict, one.do, False, one.hold)
            world.mark(f"{one.name} / healing")
            try:
                if one.undo:
                    one.undo(world)
                world.wait_up(40)
                missing = world.works() if fine else []
                if missing:
                    run.failures.append(f"{one.name}: afterwards there is no {', '.join(missing)}")
            except Exception as error:  # pylint: disable=broad-except
                run.failures.append(f"{one.name}, healing: {_short(error)}")
                if not _recover(world):
                    run.failures.append("gave up")
                    break
        if states:
            for one in events.LAST_STATES:
                if not state(one):
                    break
        world.mark("end")
        flood.stop()
        run.pps = flood.pps
    finally:
        run.report = world.close()
    run.seconds = time.monotonic() - begun
    return run


def _recover(world):
    """Back to a working tunnel after something failed to heal, so that the rest of the matrix still says something."""
    from lab import platform
    from tests.leaks import events
    for step in (world.revive_owner, lambda: platform.flush_and_reload(world.vpn), lambda: events.rearm(world),
                 lambda: events.setup_ip(world), world.kill_client, world.revive):
        try:
            step()
        except Exception:  # pylint: disable=broad-except
            continue
    return world.is_up()


def judge(run):
    """Lines that say what is wrong with a run; none when all is well."""
    wrong = []
    for situation, kind, number in run.forbidden():
        frames = "".join(f"\n          {frame}" for frame in run.report.told(situation, kind))
        wrong.append(f"{situation}: {number} frames ({kind}){frames}")
    wrong += run.failures
    if run.report.lost:
        wrong.append(f"the witness lost {run.report.lost} frames")
    if run.pps < MIN_PPS:
        wrong.append(f"the flood had {run.pps:.0f} packets a second, not {MIN_PPS}")
    return wrong


def judge_older(run):
    return judge_control(run, True, OLDER_EVENTS, OLDER_VECTORS)


def judge_control(run, whole=True, events=CONTROL_EVENTS, vectors=CONTROL_VECTORS):
    """The same of the control: what it failed to see."""
    leaking = {situation.split()[0] for situation in run.verdicts if run.leaks(situation)["content"]}
    seen = {int(tag[2:5]) for tag in run.report.tags()} | {int(tag[2:5]) for tag in run.report.tags("tunnel")}
    wanted = [name for name in events if any(one.startswith(f"{name} ") for one in run.verdicts)]
    wrong = [f"control: no leak seen at {name}" for name in wanted if name not in leaking]
    if whole:
        wrong += [f"control: no packet {number} seen" for number in vectors if number not in seen]
    if run.report.lost:
        wrong.append(f"control: the witness lost {run.report.lost} frames")
    return wrong + [f"control: {failure}" for failure in run.failures]


# -- telling -----------------------------------------------------------------------------------------------------------

def as_json(run):
    return {"layers": run.layers, "mode": run.mode, "proto": run.proto, "pps": round(run.pps), "seconds": round(run.seconds, 1),
            "lost": run.report.lost, "failures": run.failures,
            "situations": {name: {"must_be_0": kinds, "leaks": dict(run.leaks(name)), "packets": run.packets[name]}
                           for name, kinds in run.verdicts.items()},
            "tags": {place: dict(_by_tag(run, place)) for place in ("uplink", "tunnel", "qube")},
            "frames": {f"{state}|{place}|{what}": number for (state, place, what), number in run.report.frames.items()}}


def _by_tag(run, place="uplink", judged=False):
    found = Counter()
    for (state, at, kind, tag), number in run.report.leak_counts.items():
        kinds = run.verdicts.get(state.split(" / ")[0])
        if tag and at == place and not tag.startswith("LK001") and (not judged or kinds and kind in kinds):
            found[tag] += number
    return found


def _cell(run, name):
    if name not in run.verdicts:
        return ""
    found, kinds = run.leaks(name), run.verdicts[name]
    qube, other = found["content"] + found["foreign"], found["local"] + found["noise"]
    text = str(qube) + (f"+{other}" if other else "")
    if kinds is None:
        return f"({text})"
    bad = any(found[kind] for kind in kinds)
    return f"**{text}**" if bad else ("0" if not other else f"0 (+{other})")


def table(runs, controls):
    """The result as Markdown."""
    from tests.leaks import vectors
    columns = runs + controls
    heads = [run.head for run in columns]
    lines = ["Frames on the uplinks that must not be there. First figure: bytes of qubes or of the tunnel (I2, I3); after",
             "the +: the VPN qube's own packets and the kernel's (I1). Bold: more than the layers must keep; in brackets:",
             "more than these layers are asked to hold. The last columns are controls, so that nobody trusts a blind",
             "witness: an ordinary client with no layer at all, and the older package's way.", "",
             "| Situation | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    names = list(dict.fromkeys(name for run in columns for name in run.verdicts))
    for name in names:
        cells = []
        for run in columns:
            if run in controls:
                found = run.leaks(name) if name in run.verdicts else Counter()
                cells.append(str(sum(found.values())) if name in run.verdicts else "")
            else:
                cells.append(_cell(run, name))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Packets of the catalogue, in all states together (those that the layers must keep).", "",
              "| Vector | Actor | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for one in vectors.ALL:
        cells = [str(_by_tag(run, judged=run not in controls)[one.tag]) for run in columns]
        lines.append(f"| {one.number}{one.letter} {one.title} | {one.actor} | " + " | ".join(cells) + " |")
    lines += ["", "| Run | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|",
              "| flood, packets a second | " + " | ".join(f"{run.pps:.0f}" for run in columns) + " |",
              "| carrier frames seen | " + " | ".join(str(run.report.seen("carrier")) for run in columns) + " |",
              "| frames the witness lost | " + " | ".join(str(run.report.lost) for run in columns) + " |",
              "| crafted packets sent | " + " | ".join(str(sum(run.packets.values())) for run in columns) + " |"]
    return "\n".join(lines) + "\n"


def write(text, path="doc/leaks.md"):
    """Replaces the part of the page between the marks; makes the page when there is none."""
    whole = f"# Leaks: what was tried, what got out\n\n{BEGIN}\n{END}\n"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            whole = file.read()
    if BEGIN not in whole:
        whole += f"\n{BEGIN}\n{END}\n"
    head, rest = whole.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}\n{text}{END}{tail}")


def _wanted(arguments):
    """(layers, mode, protocol) of each run, what matters most first."""
    first, *others = arguments.proto.split(",")
    sets = [one for one in arguments.layers.split(",") if one]
    wanted = [(one, arguments.mode, first) for one in sets]
    whole = [(SETS[0], "product", proto) for proto in others] if sets[:1] == [SETS[0]] and arguments.mode == "product" else []
    controls = [] if arguments.no_control else [("", "none", first), ("", "older", first)]
    return wanted[:1] + whole + controls + wanted[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", default="product", choices=("product", "seal"))
    parser.add_argument("--layers", default=",".join(SETS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="only events whose name begins so")
    parser.add_argument("--no-states", action="store_true")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--rp-filter", type=int, default=2)
    parser.add_argument("--proto", default="udp,tcp,wireguard", help="all but the first with all layers only")
    parser.add_argument("--json")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    sandbox.enter()
    options = {"quick": arguments.quick, "only": arguments.only, "rp_filter": arguments.rp_filter,
               "states": not arguments.no_states}
    if arguments.verbose:
        options["told"] = lambda text: print(f"    {text}", flush=True)
    runs, controls, wrong = [], [], []
    for layers, mode, proto in _wanted(arguments):
        run = execute(layers, mode, proto=proto, **options)
        if layers:
            complaints = judge(run)
        else:
            complaints = judge_older(run) if mode == "older" else judge_control(run, not arguments.no_states)
        print(f"{run.head:13} {run.seconds:6.1f} s  {run.pps:5.0f} pps  leaked: {run.report.qube_bytes()} of qubes, "
              f"{run.report.count('local', 'noise')} other; {len(complaints)} complaints", flush=True)
        for complaint in complaints:
            print(f"     {complaint}", flush=True)
        if arguments.verbose and layers:
            print(run.report)
        wrong += complaints
        (runs if layers else controls).append(run)
        if arguments.json:
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump([as_json(run) for run in runs + controls], file, indent=1)
        if arguments.write:
            write(table(runs, controls))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
