# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-inbound as a test drives it: in the foreground, in an exposed qube of the lab (Qube(firewall=True)).

A qube of a lab without a dom0 has no QubesDB; here it gets one.
"""

import contextlib
import json
import os
import signal
import subprocess

from lab.node import wait_until
from lab.qubesdb import QubesDB
from lab.router import GRACEFUL, REPORT, SLOW, ReadySocket, environment, program

RECORD, VM_CONFIG = "/network-server-inbound", "/vm-config/expose-inbound"
PROGRAM = "src/inbound/qubes-inbound"


class Inbound:
    """The running program. Text of stderr: .log."""

    def __init__(self, qube, arguments=("--verbose",), start=True, prefix=()):
        self.node, self.arguments, self.prefix = qube, list(arguments), list(prefix)
        self.folder = f"{qube.lab.work}/inbound-{qube.name}"
        os.makedirs(self.folder, exist_ok=True)
        self._log_path = f"{self.folder}/log"
        open(self._log_path, "w", encoding="utf-8").close()
        self._ready = ReadySocket(f"{self.folder}/notify")
        self._own, self.process = None, None
        self.socket = qube.qubesdb_socket
        if self.socket is None:
            self.socket = f"{self.folder}/qubesdb.sock"
            self.qubesdb_start()
        if start:
            self.start()

    def qubesdb_start(self):
        self._own = self.node.popen([program("src/qubesdb/qubesdb-server"), self.socket], stdin=subprocess.DEVNULL,
                                    env=environment())
        wait_until(lambda: os.path.exists(self.socket), 5 * SLOW, "QubesDB of the qube")

    def qubesdb_stop(self):
        self._own.kill()
        self._own.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)

    @property
    def qdb(self):
        return QubesDB(self.socket, wait=5)

    def write(self, value, path=RECORD):
        with self.qdb as db:
            db.write(path, value)

    def remove(self, path=RECORD):
        with self.qdb as db:
            db.rm(path)

    def start(self, timeout=10.0):
        self._ready.messages.clear()
        with open(self._log_path, "a", encoding="utf-8") as log:
            self.process = self.node.popen(
                [*self.prefix, program(PROGRAM), *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment(QUBESDB_SOCKET=self.socket, NOTIFY_SOCKET=self._ready.path))
        self._ready.wait(self.process, timeout * SLOW, "qubes-inbound", lambda: self.log)
        return self

    @property
    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def call(self, *arguments):
        """The program once more, with --status or --dry-run: (exit status, text)."""
        done = self.node.run([program(PROGRAM), *arguments], env=environment(QUBESDB_SOCKET=self.socket), check=False)
        return done.returncode, done.stdout + done.stderr

    def status(self):
        return json.loads(self.call("--status", "--json")[1])

    def end(self, number=signal.SIGTERM, timeout=5.0):
        """SIGTERM shuts the door, SIGUSR1 and SIGKILL leave it. Returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout * SLOW)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            if GRACEFUL:  # leaks are looked for at a normal end only
                self.end(timeout=10.0)
            else:
                self.process.kill()
                self.process.wait()
        if self._own is not None and self._own.poll() is None:
            self._own.kill()
            self._own.wait()
        self._ready.close()
        found = REPORT.search(self.log)
        if found:
            raise AssertionError(f"qubes-inbound: {found[0]}\n{self.log}")
