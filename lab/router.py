# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-routing-manager as a test drives it: in the foreground, in a net qube of the lab.

SLUICE_BUILD names the build directory (default: build beside lab/), SLUICE_WRAP a command to run the program under
(valgrind), SLUICE_SLOW a factor for waits (sanitizers, valgrind, other tests beside); SLUICE_GRACEFUL=1 ends it by
SIGTERM, so that leaks are reported.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GRACEFUL = os.environ.get("SLUICE_GRACEFUL") == "1"
SLOW = float(os.environ.get("SLUICE_SLOW", "1"))
PLAIN = not GRACEFUL and "SLUICE_WRAP" not in os.environ  # memory and CPU are the program's own
_KEPT = ("PATH", "HOME", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "GCOV_PREFIX", "LD_LIBRARY_PATH")
REPORT = re.compile(r"ERROR: \w+Sanitizer.*|runtime error: .*|Invalid (read|write) of size.*|definitely lost: [1-9].*")


def program(path):
    """A program of the build directory, by its path there ("src/router/qubes-routing-manager")."""
    return os.path.join(os.path.abspath(os.environ.get("SLUICE_BUILD", os.path.join(ROOT, "build"))), path)


def available(path):
    return os.access(program(path), os.X_OK)


def environment(**more):
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | more


class ReadySocket:
    """Where a started program says READY=1; keeps everything that was said. It is read at once, as the service manager
    does: a program blocks when ten messages wait."""

    def __init__(self, path):
        self.path, self.messages = path, []
        if os.path.exists(path):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            try:
                # Descriptors for the service manager's store come along and are dropped (closed) here.
                data, descriptors, _flags, _address = socket.recv_fds(self._socket, 65536, 16)
            except OSError:
                return
            for descriptor in descriptors:
                os.close(descriptor)
            if not data:
                return
            self.messages += data.decode(errors="replace").splitlines()

    def read(self, timeout=0.0):
        """Waits until something was said, at most that long; True when something was."""
        deadline = time.monotonic() + timeout
        while not self.messages and time.monotonic() < deadline:
            time.sleep(0.002)
        return bool(self.messages)

    def wait(self, process, timeout, name, log):
        deadline = time.monotonic() + timeout
        while "READY=1" not in self.messages:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode} before it was ready:\n{log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not ready after {timeout} s:\n{log()}")
            time.sleep(0.002)

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Router:
    """The running program. Text of stderr: .log; state as the program tells it: .status(). prefix: words before its
    command at the next start (another user, fewer rights)."""

    def __init__(self, netqube, arguments=(), start=True, **env):
        self.node = netqube
        self.arguments, self.env, self.prefix = list(arguments), env, []
        folder = netqube.folder
        self.control = f"{folder}/router.sock"
        self.service_dir = f"{folder}/service"
        self._log_path = f"{folder}/router.log"
        self._ready = ReadySocket(f"{folder}/notify")
        os.makedirs(self.service_dir, exist_ok=True)
        open(self._log_path, "w", encoding="utf-8").close()
        self.process = None
        if start:
            self.start()

    def command(self, *arguments):
        wrap = shlex.split(os.environ.get("SLUICE_WRAP", "")) if "--status" not in arguments else []
        return [*wrap, program("src/router/qubes-routing-manager"), *arguments]

    def _environment(self):
        return environment(QUBESDB_SOCKET=self.node.qubesdb_socket, **self.env)

    def start(self, ready=True, timeout=10.0, qubesdb=True):
        """Starts the program; with ready waits until it says so. qubesdb False: a database that does not run is left
        alone."""
        if qubesdb:
            self.node.qubesdb_start()
        self._ready.messages.clear()
        with open(self._log_path, "a", encoding="utf-8") as log:
            self.process = self.node.popen(
                self.prefix + self.command("--control", self.control, "--service-dir", self.service_dir,
                                           *self.arguments),
                env=self._environment() | {"NOTIFY_SOCKET": self._ready.path}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
        if ready:
            self._ready.wait(self.process, timeout * SLOW, "qubes-routing-manager", lambda: self.log)
        return self

    @property
    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def notifications(self):
        """Lines sent to the service manager since the start (READY=1, STATUS=...)."""
        return list(self._ready.messages)

    def status(self):
        """The program's own account, parsed."""
        return json.loads(self.node.run(self.command("--status", "--json", "--control", self.control),
                                        env=self._environment()).stdout)

    def call(self, *arguments, check=True):
        """The program once more with other arguments (--check, --dry-run, --status) beside the running one."""
        return self.node.run(self.command("--control", self.control, "--service-dir", self.service_dir, *arguments),
                             env=self._environment(), check=check)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def _end(self, number, timeout):
        if self.running():
            self.process.send_signal(number)
        return self.process.wait(timeout * SLOW)

    def stop(self, timeout=5.0):
        """SIGTERM: withdraws everything. Returns the exit status."""
        return self._end(signal.SIGTERM, timeout)

    def usr1(self, timeout=5.0):
        """SIGUSR1: ends and leaves everything to the successor, as a restart or upgrade does."""
        return self._end(signal.SIGUSR1, timeout)

    def kill9(self):
        return self._end(signal.SIGKILL, 20.0)  # a transaction of the kernel it is in ends first

    def restart(self):
        self.usr1()
        return self.start()

    def hup(self):
        self.process.send_signal(signal.SIGHUP)

    def close(self):
        """End of the test. What a sanitizer wrote into the log is a failure of the test that ran the program."""
        if self.running():
            if GRACEFUL:  # leaks are looked for at a normal end only
                self.stop(10.0)
            else:
                self.process.kill()
                self.process.wait()
        self._ready.close()
        found = REPORT.search(self.log)
        if found:
            raise AssertionError(f"qubes-routing-manager: {found[0]}\n{self.log}")
