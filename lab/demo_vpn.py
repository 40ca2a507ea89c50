# SPDX-License-Identifier: GPL-2.0-or-later
"""The VPN act of the demo: python3 -m lab.demo_vpn runs it alone.

A VPN qube between a net qube and two qubes, a provider with real OpenVPN and WireGuard servers. The page exists twice, before
the tunnel and behind it, and says which one was reached. A flood runs through everything; what is counted are packets on
the uplink that must not be there, by a witness at its far end (lab/vpn_oracle.py).
"""

import sys
import time

from lab import platform, sandbox, topologies
from lab.demo import WebServer, page
from lab.lab import Lab
from lab.node import wait_until
from lab.router import SLOW, program
from lab.topologies import TARGET, TARGET6
from lab.vpn import COMMAND, SEAL, SUPERVISOR, TUNNEL, HandClient, Seal, Supervisor, available
from lab.vpn_flood import Flood
from lab.vpn_oracle import Oracle
from lab.vpn_provider import VPN_DNS, Provider, resolve

NAME = "www.example.org"
SOON = 20.0 * SLOW
HOLD = 0.6
RATE = 4000


def built():
    return all(map(available, (SEAL, SUPERVISOR, COMMAND)))


class Act:
    def __init__(self, lab, say):
        self.lab, self.say = lab, say
        self.vpn, self.work, self.play = lab["vpn"], lab["work"], lab["play"]
        self.provider = Provider(lab)
        for server in (self.provider.clear_dns, self.provider.dns):
            server.names[NAME] = [TARGET]
        self.inside, self.outside = WebServer(lab["inside"], 80), WebServer(lab["internet"], 80)
        self.openvpn, self.wireguard = self.provider.openvpn(), self.provider.wireguard()
        self.oracle = Oracle(lab, [("udp", "203.0.113.10", 1194), ("udp", "203.0.113.10", 51820)], watch_qubes=False)
        self.seal = self.supervisor = None

    def leaked(self, state):
        time.sleep(0.05)
        return self.oracle.report.count(state=state)

    def browses(self, node=None):
        """The qube looks the page's name up and gets the page; both through the tunnel."""
        node = node or self.work
        found = resolve(node, NAME, timeout=0.2)
        seen = len(self.inside.log)
        return bool(found) and page(node, found[0]) and len(self.inside.log) > seen

    def comes(self, what, begun=None, probe=None):
        """Waits until the qube browses and says so; returns the milliseconds, None when that never was."""
        begun = begun or time.monotonic()
        try:
            wait_until(probe or self.browses, SOON, what, 0.02)
        except TimeoutError:
            self.say.verdict(False, what)
            return None
        took = (time.monotonic() - begun) * 1000
        if what:
            self.say.verdict(True, f"{what} ({took:.0f} ms)")
        return took

    def under_flood(self, title, harm, back=True, settle=None):
        """Something happens while the flood runs; nothing may get out, before and after, and (back) the tunnel comes
        again."""
        self.oracle.mark(title)
        with Flood(self.work, RATE) as flood:
            time.sleep(HOLD / 2)
            begun = time.monotonic()
            harm()
            if settle:
                time.sleep(HOLD)
                settle()
            took = self.comes("", begun) if back else 0
            time.sleep(max(0, begun + HOLD - time.monotonic()))
        count = self.leaked(title)
        again = f"; {took:.0f} ms later work browses" if took else ""
        self.say.verdict(count == 0 and took is not None,
                         f"{title}: {count} packets leaked, of {flood.sent} sent ({flood.pps:.0f} a second){again}")

    def _page_inside(self):
        seen = len(self.inside.log)
        return page(self.work, TARGET) and len(self.inside.log) > seen

    # -- the story -------------------------------------------------------------------------------------------------

    def control(self):
        self.say.step("Without a seal, an ordinary client: what the witness sees when the client dies")
        hand = HandClient(self.vpn, self.provider).connect(self.openvpn)
        self.comes("work gets the page by the tunnel", probe=self._page_inside)
        self.oracle.mark("control")
        with Flood(self.work, RATE):
            time.sleep(HOLD / 2)
            hand.kill()
            self.vpn.run(["ip", "link", "del", TUNNEL], check=False)
            time.sleep(HOLD)
        count = self.leaked("control")
        self.say.verdict(count > 1000, f"{count} packets of the qube leave in clear: the witness is not blind")

    def armed(self):
        self.say.step("The seal is armed: nothing leaves by the uplink")
        begun = time.monotonic()
        self.seal = Seal(self.vpn)
        self.say.verdict(self.seal.check()[0] == 0, f"armed and read back in {(time.monotonic() - begun) * 1000:.0f} ms")
        self.oracle.mark("armed")
        with Flood(self.work, RATE) as flood:
            time.sleep(HOLD)
            self.say.verdict(not page(self.work, TARGET), "work reaches nothing")
        count = self.leaked("armed")
        self.say.verdict(count == 0, f"{count} packets leaked, of {flood.sent} sent")

    def up(self):
        self.say.step("The provider's file is put into the folder: the VPN connects by itself")
        self.supervisor = Supervisor(self.vpn, self.seal)
        self.oracle.mark("connecting")
        begun = time.monotonic()
        self.supervisor.install(self.provider.openvpn_profile("home"))
        self.comes("work gets the page, name and all, by the tunnel", begun)
        self.say.verdict(self.browses(self.play), "play gets it too")
        self.say.verdict(page(self.work, TARGET6), "and by IPv6")
        self.say.verdict(NAME in self.provider.dns.queries and NAME not in self.provider.clear_dns.queries[self._asked:],
                         f"only the VPN's name server ({VPN_DNS}) was asked for {NAME}")

    def harm(self):
        self.say.step("What may go wrong, under a flood")
        self.under_flood("the client is killed", self.supervisor.kill_client)
        self.under_flood("the server goes silent", self.openvpn.freeze, settle=lambda: self.openvpn.freeze(False))
        self.under_flood("nft flush ruleset", lambda: platform.flush(self.vpn),
                         settle=lambda: platform.flush_and_reload(self.vpn))
        self.under_flood("ip rules and routes flushed", self._flush_routes)
        self.under_flood("the net qube is replaced by another", lambda: self.vpn.move_to("sys-other"))
        self.under_flood("the supervisor is killed", self.supervisor.kill9, settle=self.supervisor.start)

    def _flush_routes(self):
        for line in ("rule flush", "rule add prio 32766 lookup main", "-6 rule flush", "-6 rule add prio 32766 lookup main",
                     "route flush table 77", "route flush table 78", "route flush table 79"):
            self.vpn.run(["ip", *line.split()], check=False)

    def wire(self):
        self.say.step("The same with WireGuard")
        self.supervisor.install(self.provider.wireguard_profile("wire"))
        self.oracle.mark("wireguard")
        begun = time.monotonic()
        wait_until(lambda: "wire.conf" in str(self.supervisor.status()["profiles"]), SOON, "the new profile")
        self.supervisor.command.run("use", "wire")
        wait_until(lambda: self.supervisor.state() == "up", SOON, "up")
        self.comes("work gets the page by the other tunnel", begun)
        self.say.verdict(self.inside.log[-1].startswith("10.66.0."), f"the page's log names {self.inside.log[-1]}")
        self.under_flood("the client is killed", self.supervisor.kill_client)

    def down(self):
        self.say.step("qubes-vpn down: disconnected, and still sealed")
        self.under_flood("down", lambda: self.supervisor.command.run("down"), back=False)
        self.say.verdict(not page(self.work, TARGET), "work reaches nothing")
        self.under_flood("shutdown", lambda: (self.supervisor.stop(), self.seal.stop()), back=False)

    def run(self):
        self.control()
        self._asked = len(self.provider.clear_dns.queries)
        for step in (self.armed, self.up, self.harm, self.wire, self.down):
            step()
        report = self.oracle.close()
        self.say.verdict(report.lost == 0, f"the witness saw {sum(report.frames.values())} lawful frames and missed none")
        for server in (self.inside, self.outside):
            server.ended.set()

    def logs(self):
        return "".join(f"--- {one.name}\n{one.log}" for one in (self.seal, self.supervisor) if one)


def act(say):
    """Runs the act in a lab of its own. say: has step(title) and verdict(good, text), as lab.demo.Demo; returns the
    messages of the programs."""
    with Lab(topologies.VPN) as lab:
        one = Act(lab, say)
        try:
            one.run()
        finally:
            logs = one.logs()
    return logs


def main():
    sandbox.enter()
    from lab.demo import Telling
    if not built():
        sys.exit(f"{program(SEAL)} and the others are not there: build them first (make)")
    say = Telling()
    logs = act(say)
    if say.failed:
        print(f"\nMessages of the programs:\n{logs}")
    print(f"\n{'All checks hold' if not say.failed else f'{say.failed} checks FAILED'}.")
    return 1 if say.failed else 0


if __name__ == "__main__":
    sys.exit(main())
