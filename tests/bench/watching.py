# SPDX-License-Identifier: GPL-2.0-or-later
"""What it costs a forwarded packet that exposures are counted, and that one is limited and names its peers. Networks side by
side, a batch of packets in each in turns: the program killed and its counting rules taken away; counting; limited and
named as well; and limited so low that nearly everything is dropped."""

import forward
import scale
from lab.router import Router, program

FLOWS = forward.FLOWS


class Side(forward.Side):
    def __init__(self, version, **fields):
        super().__init__(version, [])
        self.fields = fields

    def prepare(self):
        self.router = Router(self.net, start=False)
        scale.write_records(self.net, [(self.ip(self.web), self.web)], **self.fields)
        self.router.start()
        scale.Process(self.router.process.pid).wait_quiet(timeout=60)
        return self

    def stop_counting(self):
        self.router.kill9()
        table = "ip" if self.version == 4 else "ip6"
        self.net.nft(f"flush chain {table} qubes-network-server served\n"
                     f"delete chain {table} qubes-network-server served\n")
        return self


def _row(report, what, sides, ports, rounds):
    """Each of the sides against the first."""
    specs = [side.spec(side.lan, [side.ip(side.web)]) for _name, side in sides]
    out = sides[0][1].net.run([program("tests/bench/bench-flood"), str(rounds), str(ports), *specs], timeout=600).stdout
    ratios, costs = [1.0], []
    for line in out.splitlines():
        words = line.split()
        if words[0] == "ratio":
            ratios.append(float(words[1]))
        else:
            costs.append((float(words[1]), float(words[2])))
    for number, (name, _side) in enumerate(sides):
        if number > 0:
            report.ratio(f"{what}, {name}", costs[number], ratios[number], None, sides[0][0], costs[0])
    for _name, side in sides:
        side.net.run("conntrack -F; conntrack -F -f ipv6", check=False)


def measure(report, quick):
    report.part("Cost of a forwarded packet that is counted, limited, named (CPU time of the whole path)")
    for version in (4, 6):
        made = []
        try:
            for fields in ({}, {}, {"limit": "1000000", "log": "1"}, {"limit": "10"}):
                made.append(Side(version, **fields).prepare())
            bare, counting, watched, low = made
            bare.stop_counting()
            for side in made:
                side.establish(side.lan, side.web, side.ip(side.web))
            sides = [("nothing counted", bare), ("counted", counting), ("counted, limit, log", watched)]
            rounds = 100 if quick else 1500
            _row(report, f"IPv{version}: established, from the LAN to an exposed qube", sides, FLOWS, rounds)
            rounds = 100 if quick else 600
            _row(report, f"IPv{version}: first packet of a flow", sides + [("over the limit: dropped", low)], 0, rounds)
        finally:
            for side in made:
                side.close()
