# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of dom0 as a test drives them, beside a Dom0 (lab/dom0.py).

    serverd = Serverd(dom0)                          # qubes-network-serverd in the foreground, ready
    done = Expose(dom0)("web", "--allow", "tcp/80")  # qvm-expose: returncode, stdout, stderr

The variables of lab/router.py hold here too (SLUICE_BUILD, SLUICE_WRAP, SLUICE_SLOW, SLUICE_GRACEFUL).
"""

import json
import os
import shlex
import signal
import subprocess

from lab.router import GRACEFUL, REPORT, SLOW, ReadySocket, available, environment, program

SERVERD = "src/dom0/serverd/qubes-network-serverd"
EXPOSE = "src/dom0/expose/qvm-expose"

__all__ = ["SERVERD", "EXPOSE", "Serverd", "Expose", "available"]


def _environment(dom0, **more):
    return environment(QUBESD_SOCKET=dom0.socket, QUBESDB_DIRECTORY=dom0.folder,
                       RUNTIME_DIRECTORY=f"{dom0.folder}/run", **more)


class Serverd:
    """The running daemon. Text of stderr: .log; what it told the service manager: .notifications."""

    def __init__(self, dom0, arguments=(), start=True, **env):
        self.dom0, self.arguments, self.env, self.process = dom0, list(arguments), env, None
        os.makedirs(f"{dom0.folder}/run", exist_ok=True)
        self._log_path = f"{dom0.folder}/serverd.log"
        open(self._log_path, "w", encoding="utf-8").close()
        self._ready = ReadySocket(f"{dom0.folder}/serverd.notify")
        dom0.closers.append(self)
        if start:
            self.start()

    def command(self, *arguments):
        return [*shlex.split(os.environ.get("SLUICE_WRAP", "")), program(SERVERD), *arguments]

    def start(self, ready=True, timeout=10.0):
        """Starts it; with ready waits until it says so."""
        self._ready.messages.clear()
        with open(self._log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                self.command(*self.arguments), env=_environment(self.dom0, NOTIFY_SOCKET=self._ready.path, **self.env),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if ready:
            self._ready.wait(self.process, timeout * SLOW, "qubes-network-serverd", lambda: self.log)
        return self

    def call(self, *arguments):
        """The program once more with other arguments, beside the running one."""
        return subprocess.run([program(SERVERD), *arguments], env=_environment(self.dom0, **self.env), text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOW, check=False)

    @property
    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def notifications(self):
        return list(self._ready.messages)

    def memory(self):
        """Resident kB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def running(self):
        return self.process is not None and self.process.poll() is None

    def end(self, number=signal.SIGTERM, timeout=10.0):
        if self.running():
            self.process.send_signal(number)
        return self.process.wait(timeout * SLOW)

    def stop(self):
        return self.end(signal.SIGTERM)

    def kill9(self):
        return self.end(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        if self.process is not None and self.running():
            if GRACEFUL:
                self.stop()
            else:
                self.kill9()
        self._ready.close()
        found = REPORT.search(self.log)
        if found:
            raise AssertionError(f"qubes-network-serverd: {found[0]}\n{self.log}")


class Expose:
    """qvm-expose. status(hop) of a hop is asked by a script that runs its router's --status."""

    def __init__(self, dom0, **env):
        self.dom0, self.env = dom0, env

    def status_command(self):
        """Path of a script: SCRIPT HOP prints what the network-server.Status service of this hop would."""
        path = f"{self.dom0.folder}/status"
        lines = ["#!/bin/sh", 'case "$1" in']
        for name, router in self.dom0.routers.items():
            lines.append(f"{shlex.quote(name)}) exec {shlex.join(router.command('--status', '--json'))} "
                         f"--control {shlex.quote(router.control)} ;;")
        lines += ['*) echo "no such service" >&2; exit 126 ;;', "esac"]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.chmod(path, 0o755)
        return path

    def command(self, *arguments):
        return [program(EXPOSE), "--status-command", self.status_command(), *arguments]

    def __call__(self, *arguments, timeout=30, stdin=None, wrap=(), **env):
        """Runs it; stdin: text for its questions."""
        more = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run([*wrap, *self.command(*arguments)], env=_environment(self.dom0, **self.env, **env),
                              text=True, capture_output=True, timeout=timeout * SLOW, check=False, **more)

    def json(self, *arguments):
        done = self(*arguments, "--json")
        if done.returncode != 0:
            raise AssertionError(f"qvm-expose ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)
