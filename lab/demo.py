# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m lab.demo: a qube becomes a server of the LAN and stops being one, step by step, each step checked.

A real kernel, the platform's firewall rules, the real router and a real QubesDB server, in namespaces that end with the
program. Exit status 0 when every check holds.
"""

import http.client
import http.server
import itertools
import socket
import sys
import threading
import time

from lab import drawing, sandbox, topologies
from lab.node import plain, wait_until
from lab.router import SLOW, available, program

ROUTER = "src/router/qubes-routing-manager"
PAGE = b"hello from a qube\n"
SOON = 3.0 * SLOW    # until something opens or closes, at most
SILENCE = 0.4 * SLOW  # this long without an answer counts as closed


class Handler(http.server.BaseHTTPRequestHandler):
    """Any path gives a page; /slow gives one line every 20 ms, for as long as somebody listens."""

    def do_GET(self):
        self.server.log.append(plain(self.client_address[0]))
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(PAGE)
            while self.path == "/slow" and not self.server.ended.wait(0.02):
                self.wfile.write(PAGE)
        except OSError:
            pass

    def log_message(self, *_arguments):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, node, port):
        super().__init__(("::", port), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = node.socket(socket.AF_INET6, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(("::", port))
        self.socket.listen(64)
        self.log, self.ended = [], threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()


def request(node, address, port=80, path="/", timeout=SILENCE):
    """A request of node; the answer, still to be read. OSError when there is none."""
    connection = http.client.HTTPConnection(address, port, timeout)
    connection.sock = node.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    connection.sock.settimeout(timeout)
    connection.sock.connect((address, port))
    connection.request("GET", path)
    return connection.getresponse()


def page(node, address, port=80):
    try:
        return request(node, address, port).read(len(PAGE)) == PAGE
    except (OSError, http.client.HTTPException):
        return False


def url(address, port=80):
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}{'' if port == 80 else f':{port}'}/"


class Telling:
    """Numbered steps, and checks that hold or fail."""

    def __init__(self):
        self.failed, self._numbers = 0, itertools.count(1)

    def step(self, title):
        print(f"\n{next(self._numbers)}. {title}", flush=True)

    def verdict(self, good, text):
        self.failed += not good
        print(f"   {'ok     ' if good else 'FAILED '}{text}", flush=True)


class Demo(Telling):
    def __init__(self, lab):
        super().__init__()
        self.lab = lab
        self.lan1, self.netqube = lab["lan1"], lab["sys-net"]
        self.web, self.other, self.hidden = lab["web"], lab["other"], lab["hidden"]
        self.servers = {node.name: WebServer(node, 80) for node in (self.web, self.hidden)}
        self.admin_page = WebServer(self.web, 8080)
        self.router = None

    # -- telling ---------------------------------------------------------------------------------------------------

    @staticmethod
    def record(sign, key, value=""):
        print(f"     QubesDB of sys-net: {sign} {key}" + (f"\n       {value}" if value else ""))

    def gets(self, node, address, since=None):
        """node gets the page of address soon; since: when the cause happened (monotonic)."""
        try:
            wait_until(lambda: page(node, address), SOON)
            note = f", {(time.monotonic() - since) * 1000:.0f} ms after the record" if since else ""
            self.verdict(True, f"{node.name} gets {url(address)}{note}")
        except TimeoutError:
            self.verdict(False, f"{node.name} gets {url(address)}")

    def gets_nothing(self, node, address, port=80):
        self.verdict(not page(node, address, port), f"{node.name} cannot reach {url(address, port)}")

    def saw(self, address):
        log = self.servers["web"].log
        self.verdict(bool(log) and log[-1] == address, f"web's log names {log[-1] if log else 'nobody'} as the client")

    # -- the story -------------------------------------------------------------------------------------------------

    def before(self):
        self.step("Qubes as it is: qubes are clients, nobody reaches them")
        spec = self.web.spec
        self.gets_nothing(self.lan1, spec.ip)
        self.gets_nothing(self.lan1, spec.ip6)
        self.gets_nothing(self.other, spec.ip)

    def expose(self):
        self.step("web is exposed: its own address, every port")
        start = time.monotonic()
        self.record("write", *self.netqube.expose("web"))
        self.gets(self.lan1, self.web.spec.ip, start)
        self.saw(self.lan1.spec.links[0].addresses[0].split("/")[0])

    def other_qubes(self):
        self.step("other qubes of the same net qube reach it too")
        self.gets(self.other, self.web.spec.ip)
        self.saw(self.other.spec.ip)

    def not_exposed(self):
        self.step("what is not exposed stays closed, though its address is of the LAN and a server runs")
        self.gets_nothing(self.lan1, self.hidden.spec.ip)
        self.verdict(not self.lan1.arping(self.hidden.spec.ip), f"nobody answers ARP for {self.hidden.spec.ip}")

    def ipv6(self):
        self.step("its IPv6 address, the same way")
        start = time.monotonic()
        self.record("write", *self.netqube.expose("web", 6))
        self.gets(self.lan1, self.web.spec.ip6, start)
        self.saw(self.lan1.spec.links[0].addresses[1].split("/")[0])

    def narrow(self):
        address = self.web.spec.ip
        self.step("only port 80 from now on")
        self.verdict(page(self.lan1, address, 8080), f"before: lan1 gets {url(address, 8080)}")
        self.verdict(self.lan1.ping(address, SILENCE), f"before: lan1 pings {address}")
        self.record("write", *self.netqube.expose("web", allow="tcp/80"))
        try:
            wait_until(lambda: not page(self.lan1, address, 8080), SOON)
        except TimeoutError:
            pass
        self.gets_nothing(self.lan1, address, 8080)
        self.verdict(not self.lan1.ping(address, SILENCE), f"lan1 no longer pings {address}")
        self.gets(self.lan1, address)

    def withdraw(self):
        self.step("withdrawn: gone at once, and an open download with it")
        address = self.web.spec.ip
        try:
            download = request(self.lan1, address, path="/slow", timeout=SOON)
            download.read(10 * len(PAGE))
        except (OSError, http.client.HTTPException) as error:
            self.verdict(False, f"lan1 downloads {url(address)}slow ({error})")
            return
        self.verdict(True, f"lan1 downloads {url(address)}slow")
        for family in (4, 6):
            self.record("remove", self.netqube.withdraw("web", family))
        self.verdict(self._breaks(download), "the download stops")
        self.gets_nothing(self.lan1, address)
        self.gets_nothing(self.lan1, self.web.spec.ip6)
        self.verdict(not self.lan1.arping(address), f"nobody answers ARP for {address}")

    @staticmethod
    def _breaks(download):
        """Within the time allowed nothing comes any more for SILENCE (or the connection ends)."""
        deadline = time.monotonic() + SOON
        stream = download.fp.raw._sock
        stream.settimeout(SILENCE)
        while time.monotonic() < deadline:
            try:
                if not stream.recv(65536):
                    return True
            except OSError:
                return True
        return False

    def run(self):
        self.router = self.netqube.router()
        for step in (self.before, self.expose, self.other_qubes, self.not_exposed, self.ipv6, self.narrow,
                     self.withdraw):
            step()
        for server in (*self.servers.values(), self.admin_page):
            server.ended.set()
        self.step("the router ends and leaves nothing")
        self.verdict(self.router.stop() == 0, "exit status 0")
        self.verdict(not self.netqube.proxies(), "no proxy entry is left")
        return self.failed


def main():
    sandbox.enter()
    from lab.lab import Lab
    if not available(ROUTER):
        sys.exit(f"{program(ROUTER)} is not there: build it first (make)")
    started = time.monotonic()
    with Lab(topologies.BASIC) as lab:
        print("A net qube, three qubes behind it, a LAN: namespaces of this kernel, with Qubes' own rules.\n")
        print(drawing.draw(lab.topology))
        demo = Demo(lab)
        try:
            failed = demo.run()
        finally:
            log = demo.router.log if demo.router else ""
        if failed:
            print(f"\nMessages of the router:\n{log}")
    from lab import demo_dom0, demo_vpn
    for one, title, topology in (
            (demo_dom0, "Another network: two chains of net qubes on one LAN, and a dom0 that is told what to expose.",
             demo_dom0.TOPOLOGY),
            (demo_vpn, "Another network: a VPN qube behind a net qube, two qubes behind it, a provider.",
             topologies.VPN)):
        if not one.built():
            print(f"\n\nLeft out, because not everything is built: {one.__name__}")
            continue
        print(f"\n\n{title}\n\n{drawing.draw(topology)}")
        telling = Telling()
        logs = one.act(telling)
        failed += telling.failed
        if telling.failed:
            print(f"\nMessages of the programs:\n{logs}")
    seconds = time.monotonic() - started
    print(f"\n{'All checks hold' if not failed else f'{failed} checks FAILED'} ({seconds:.1f} s).")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
