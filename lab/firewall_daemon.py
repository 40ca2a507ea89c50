# SPDX-License-Identifier: GPL-2.0-or-later
"""The platform's qubes-firewall in a net qube of the lab: applies what stands below /qubes-firewall/ in its QubesDB.

As the real one: an empty write to /qubes-firewall/ADDR says that a block is complete; a block without policy, or one that
does not parse, lets nothing out; /qubes-firewall-handled/ADDR counts; what is removed is not noticed. The rules of every
block are read again at the start.
"""

import contextlib
import ipaddress
import subprocess
import threading

from lab import platform
from lab.node import wait_until
from lab.qubesdb import Disconnected, Error, QubesDB

NOTHING = ()
_MARK = "/lab-mark"


class FirewallDaemon:
    """One net qube's. Its thread ends with close(), or with the QubesDB."""

    def __init__(self, node, path):
        self.node, self.problems, self._thread = node, [], None
        self._events, self._db = QubesDB(path, wait=10), QubesDB(path, wait=10)
        for watched in ("/qubes-firewall/", "/connected-ips", "/connected-ips6", _MARK):
            self._events.watch(watched)
        self._mutex, self._marks, self._seen = threading.Lock(), 0, 0
        node.firewall_view = self

    # -- what platform.py asks through the node --------------------------------------------------------------------

    def connected(self):
        addresses = []
        for key in ("/connected-ips", "/connected-ips6"):
            addresses += (self._db.read(key) or b"").decode().split()
        return list(dict.fromkeys(addresses))

    def wishes(self):
        """(address, rules as platform.py takes them) of every block."""
        targets = sorted({key.split("/")[2] for key in self._db.list("/qubes-firewall/")})
        return [(target, self._rules(target)) for target in targets if self._valid(target)]

    def _valid(self, target):
        try:
            ipaddress.ip_address(target)
            return True
        except ValueError:
            self.problems.append(f"not an address: {target}")
            return False

    def _rules(self, address):
        prefix = f"/qubes-firewall/{address}/"
        block = {key[len(prefix):]: value.decode() for key, value in self._db.multiread(prefix).items()}
        policy = block.pop("policy", None)
        if policy not in ("accept", "drop"):
            self.problems.append(f"{address}: no policy")
            return NOTHING
        rules = tuple(rule for _number, rule in sorted(block.items()))
        if policy == "accept":
            return rules + ("action=accept",) if rules else None
        return rules

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, fresh=False):
        """fresh: the tables are there from an earlier life and are made anew; else the node's boot made them."""
        if fresh:
            with contextlib.suppress(subprocess.CalledProcessError):
                platform.firewall_stop(self.node)
            platform.firewall_start(self.node)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        with contextlib.suppress(Disconnected, OSError):
            while True:
                path = self._events.next_event(timeout=3600)
                if path is not None:
                    with self._mutex:
                        self._handle(path)

    def _handle(self, path):
        if path == _MARK:
            self._seen += 1
            return
        if path in ("/connected-ips", "/connected-ips6"):
            platform.firewall_connected(self.node)
            return
        parts = path.split("/")
        if len(parts) != 3 or not self._valid(parts[2]):
            return
        address = parts[2]
        rules = self._rules(address)
        try:
            platform.firewall_apply(self.node, address, rules)
        except (subprocess.CalledProcessError, KeyError, ValueError) as error:
            self.problems.append(f"{address}: {error}")
            rules = NOTHING
            platform.firewall_apply(self.node, address, rules)
        if rules == NOTHING:  # flows that the new rules forbid
            self.node.run(["conntrack", "-D", "-s", address], check=False)
        key = f"/qubes-firewall-handled/{address}"
        with contextlib.suppress(Error):
            self._db.write(key, str(int(self._db.read(key) or b"0") + 1))

    def settle(self, timeout=10.0):
        """Until everything that was written so far is applied."""
        self._marks += 1
        wanted = self._marks
        with self._mutex:
            self._db.write(_MARK, "")
        wait_until(lambda: self._seen >= wanted, timeout, f"firewall daemon of {self.node.name}")

    def handled(self, address):
        """How often this source was looked at."""
        with self._mutex:
            return int(self._db.read(f"/qubes-firewall-handled/{address}") or b"0")

    def close(self):
        """Ends when what it is doing is done; its tables stay, as after a kill."""
        with self._mutex:
            for db in (self._events, self._db):
                with contextlib.suppress(OSError):
                    db.sock.shutdown(2)
        if self._thread is not None:
            self._thread.join(10)
        self._events.close()
        self._db.close()
        if self.node.firewall_view is self:
            self.node.firewall_view = None
