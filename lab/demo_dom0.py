# SPDX-License-Identifier: GPL-2.0-or-later
"""The dom0 act of the demo: python3 -m lab.demo_dom0 runs it alone.

Two chains of net qubes on one LAN, dom0 with its daemon, and a qube with its own firewall behind two of them. All that
is said is said in dom0, by qvm-expose; packets tell what came of it. qubesd is a stand-in (lab/dom0.py), everything
else is the product.
"""

import itertools
import select
import shlex
import socket
import sys
import threading
import time

from lab import sandbox, topologies
from lab.demo import SILENCE, SOON, WebServer, page, url
from lab.inbound import PROGRAM as INBOUND
from lab.inbound import Inbound
from lab.node import wait_until
from lab.router import SLOW, available, program
from lab.serverd import EXPOSE, SERVERD, Expose, Serverd

MOVED = 10.0 * SLOW   # a move, at most: most of it is the platform's
ROUTER = "src/router/qubes-routing-manager"
PROGRAMS = (ROUTER, SERVERD, EXPOSE, INBOUND)
WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
EDGE, EDGE2, PORT = "192.168.16.2", "192.168.16.3", 8443
LAN1 = "192.168.16.10"
NETQUBES = ("sys-net", "sys-firewall", "sys-net2", "sys-fw2")
# As Qubes makes it: an address of its own choice, and its own firewall.
TOPOLOGY = topologies.TWO_CHAINS.changed("web", ip="10.137.0.12", ip6="fd09:24ef:4179::a89:c", firewall=True)


def built():
    return all(map(available, PROGRAMS))


class Poller:
    """A client that connects every 5 ms without waiting for the last try, and remembers when which one succeeded."""

    PAUSE, PATIENCE = 0.005, 0.15

    def __init__(self, node, address, port):
        self.node, self.address, self.port = node, address, port
        self.tries, self.served = 0, []     # served: monotonic times of the tries that were answered
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _try(self):
        sock = self.node.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex((self.address, self.port))
        return sock

    def _work(self):
        pending, poll = {}, select.poll()
        due = time.monotonic()
        while not self._ended.is_set():
            now = time.monotonic()
            if now >= due:
                sock = self._try()
                pending[sock.fileno()] = (now, sock)
                poll.register(sock, select.POLLOUT)
                self.tries, due = self.tries + 1, now + self.PAUSE
            for number, _events in poll.poll(max(0, due - time.monotonic()) * 1000):
                began, sock = pending.pop(number)
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    self.served.append(began)
                poll.unregister(number)
                sock.close()
            for number in [n for n, (began, _sock) in pending.items() if began < now - self.PATIENCE * SLOW]:
                poll.unregister(number)
                pending.pop(number)[1].close()
        for _began, sock in pending.values():
            sock.close()

    def served_since(self, moment):
        return sum(one > moment for one in list(self.served))

    def longest_gap(self):
        """Seconds, and when it began."""
        moments = sorted(self.served)
        return max(((after - before, before) for before, after in itertools.pairwise(moments)), default=(None, None))

    def close(self):
        self._ended.set()
        self._thread.join(5)


class Act:
    def __init__(self, lab, say):
        from lab.dom0 import Dom0
        self.lab, self.say, self.poller = lab, say, None
        self.lan1, self.web, self.other = lab["lan1"], lab["web"], lab["other"]
        self.dom0 = Dom0(lab)
        for name in NETQUBES:
            self.dom0.router(name)
        self.serverd = Serverd(self.dom0)
        self.servers = [WebServer(self.web, port) for port in (80, 8080)]
        self.inbound = Inbound(self.web, ())
        self.expose = Expose(self.dom0, LC_ALL="C.UTF-8" if (sys.stdout.encoding or "").lower() == "utf-8" else "C",
                             COLUMNS="96")

    # -- telling ---------------------------------------------------------------------------------------------------

    def command(self, *words, status=0, show=True):
        """Runs qvm-expose in dom0, shows what it prints; a verdict on its exit status. Returns what it printed."""
        print("   dom0$ qvm-expose", shlex.join(words), flush=True)
        done = self.expose(*words)
        for line in (done.stdout + done.stderr).splitlines() if show else ():
            print(f"     {line}".rstrip())
        self.say.verdict(done.returncode == status, f"exit status {done.returncode}")
        return done.stdout + done.stderr

    def gets(self, node, address, port=80, since=None):
        try:
            wait_until(lambda: page(node, address, port), SOON)
            note = f", {(time.monotonic() - since) * 1000:.0f} ms after the command was given" if since else ""
            self.say.verdict(True, f"{node.name} gets {url(address, port)}{note}")
        except TimeoutError:
            self.say.verdict(False, f"{node.name} gets {url(address, port)}")

    def gets_nothing(self, node, address, port=80, wait=False):
        """wait: it may still be closing."""
        if wait:
            try:
                wait_until(lambda: not page(node, address, port), SOON)
            except TimeoutError:
                pass
        self.say.verdict(not page(node, address, port), f"{node.name} cannot reach {url(address, port)}")

    def saw(self, address):
        log = self.servers[0].log
        seen = log[-1] if log else "nobody"
        self.say.verdict(seen == address, f"web's log names {seen} as the client")

    def records(self):
        """{(qube, key)} below /network-server of all that run, without the marker."""
        return {(vm.name, key) for vm in self.dom0.model.sorted() if vm.is_running and vm.qdb is not None
                for key in self.dom0.keys(vm.name) if key != "/network-server"}

    # -- the story -------------------------------------------------------------------------------------------------

    def before(self):
        self.say.step("dom0: web is behind sys-firewall, which is behind sys-net; nobody reaches it")
        self.gets_nothing(self.lan1, self.web.spec.ip)
        self.gets_nothing(self.lan1, EDGE, PORT)

    def opened(self):
        self.say.step("one statement in dom0: an address of the LAN, port 80, and port 8443 of whoever faces the LAN")
        start = time.monotonic()
        self.command("web", "--ip", WEB, "--ip", WEB6, "--allow", "tcp/80", "--publish", f"tcp/{PORT}:80", "--yes")
        self.gets(self.lan1, WEB, since=start)
        self.saw(LAN1)
        self.gets(self.lan1, WEB6)
        self.gets(self.lan1, EDGE, PORT)
        self.saw(LAN1)
        self.gets(self.other, WEB)
        self.say.verdict({hop for hop, _key in self.records()} == {"sys-net", "sys-firewall", "web"},
                         "sys-net, sys-firewall and web itself were told")

    def closed_port(self):
        self.say.step("what was not named stays closed, and one command says why")
        self.gets_nothing(self.lan1, WEB, 8080)
        text = self.command("--explain", "web", "--from", LAN1, "--port", "8080", status=3)
        self.say.verdict("Would not arrive" in text and "tcp/8080" in text, "the rules are the reason")

    def moved(self):
        self.say.step("moved to another net qube, live, while lan1 keeps connecting")
        self.command("--map")
        self.poller = Poller(self.lan1, WEB, 80)
        try:
            begun = time.monotonic()
            wait_until(lambda: self.poller.served_since(begun) >= 40, SOON, "the poller")
            moments = {}
            hooks = [self.dom0.at(step, lambda _name, s=step: moments.setdefault(s, time.monotonic()), "web")
                     for step in ("vif-offline", "firewall-block")]
            print("   dom0$ qvm-prefs web netvm sys-fw2", flush=True)
            self.dom0.set_netvm("web", "sys-fw2")
            back = time.monotonic()
            wait_until(lambda: self.poller.served_since(back) >= 40, MOVED, "web at the other net qube")
        except TimeoutError as error:
            self.say.verdict(False, str(error))
            return
        finally:
            self.poller.close()
        for hook in hooks:
            self.dom0.forget(hook)
        gap, _since = self.poller.longest_gap()
        vif = moments["firewall-block"] - moments["vif-offline"]
        self.say.verdict(gap < MOVED, f"lan1 is served before and after; in between not for {gap * 1000:.0f} ms, "
                                      f"{vif * 1000:.0f} of which the platform had it without an interface")
        self.gets(self.lan1, WEB6)
        self.say.verdict(self.lan1.arping(WEB) and
                         {mac for mac, _delay in self.lan1.arping(WEB)} == {self.lab["sys-net2"].mac("ens6")},
                         f"sys-net2 alone answers ARP for {WEB}")
        self.gets(self.lan1, EDGE2, PORT)
        self.gets_nothing(self.lan1, EDGE, PORT)
        self.gets_nothing(self.lan1, WEB, 8080)
        self.say.verdict({hop for hop, _key in self.records()} == {"sys-net2", "sys-fw2", "web"},
                         "no record is left in sys-net and sys-firewall")
        self.command("--map")

    def off(self):
        self.say.step("and off")
        self.command("web", "--off")
        self.gets_nothing(self.lan1, WEB, wait=True)
        self.gets_nothing(self.lan1, WEB6)
        self.gets_nothing(self.lan1, EDGE2, PORT)
        try:
            wait_until(lambda: not self.records(), SOON)
        except TimeoutError:
            pass
        left = self.records()
        self.say.verdict(not left, f"no record is left{f', but {left}' if left else ''}")
        self.say.verdict(not self.lab["sys-net2"].proxies(), "nobody answers for its address any more")
        self.command("--check")

    def run(self):
        for step in (self.before, self.opened, self.closed_port, self.moved, self.off):
            step()
        for server in self.servers:
            server.ended.set()
        self.say.verdict(self.inbound.end() == 0, "qubes-inbound ends")
        self.say.verdict(self.serverd.stop() == 0, "qubes-network-serverd ends")

    def close(self):
        self.inbound.close()

    def logs(self):
        routers = "".join(f"--- qubes-routing-manager of {name}\n{one.log}" for name, one in self.dom0.routers.items())
        return f"--- qubes-network-serverd\n{self.serverd.log}--- qubes-inbound\n{self.inbound.log}{routers}"


def act(say):
    """Runs the act in a lab of its own. say: has step(title) and verdict(good, text), as lab.demo.Telling; returns the
    messages of the programs."""
    from lab.dom0 import flavoured
    from lab.lab import Lab
    with Lab(flavoured(TOPOLOGY, "4.3")) as lab:
        one = Act(lab, say)
        try:
            one.run()
        finally:
            logs = one.logs()
            one.close()
    return logs


def main():
    sandbox.enter()
    from lab.demo import Telling
    if not built():
        sys.exit(f"{', '.join(program(one) for one in PROGRAMS if not available(one))}: build it first (make)")
    say, started = Telling(), time.monotonic()
    logs = act(say)
    if say.failed:
        print(f"\nMessages of the programs:\n{logs}")
    print(f"\n{'All checks hold' if not say.failed else f'{say.failed} checks FAILED'} "
          f"({time.monotonic() - started:.1f} s).")
    return 1 if say.failed else 0


if __name__ == "__main__":
    sys.exit(main())
