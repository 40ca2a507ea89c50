# SPDX-License-Identifier: GPL-2.0-or-later
"""The older package's way of sealing, rebuilt from its description as a control of the leak tests: packets that enter by a
vif get a mark, the mark leads to table 78, and everything else goes where the main table says. IPv4 only, as it was.

It speaks enough of the seal's socket for a client driven by hand. What it is known to leak, the witness must see.
"""

import contextlib
import os
import socket
import threading

from lab.vpn import TUNNEL

_MARKS = """
table ip older {
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        iifname "vif*" meta mark set 0x78
    }
    chain dns {
        type nat hook prerouting priority -110; policy accept;
        iifname "vif*" udp dport 53 dnat to 10.64.0.53
    }
}
"""


class OlderSeal:
    name, log = "older", ""

    def __init__(self, node, _layers=None):
        self.node, self.socket = node, f"{node.folder}/older.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        self._listener.bind(self.socket)
        self._listener.listen(4)
        threading.Thread(target=self._serve, daemon=True).start()
        node._closers.append(self)  # pylint: disable=protected-access
        self.on()

    def on(self):
        self.node.run(["nft", "delete", "table", "ip", "older"], check=False)
        self.node.nft(_MARKS)
        self.node.run(["ip", "rule", "del", "fwmark", "0x78"], check=False)
        self.node.batch("rule add fwmark 0x78 lookup 78\nroute replace blackhole default metric 1000 table 78\n")

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with contextlib.suppress(OSError), connection:
            while text := connection.recv(8192).decode():
                verb = "replace" if "tunnel=" in text else "del"
                self.node.run(["ip", "route", verb, "default", "dev", TUNNEL, "table", "78"], check=False)
                connection.sendall(b"ok\n")

    def running(self):
        return True

    def restart(self):
        """A restart of its unit: off, then on."""
        self.node.run(["nft", "delete", "table", "ip", "older"], check=False)
        self.node.run(["ip", "rule", "del", "fwmark", "0x78"], check=False)
        self.on()

    def kill9(self):
        pass

    stop = close = kill9
    start = blackhole = on
