# SPDX-License-Identifier: GPL-2.0-or-later
"""The buses of a session, and who shows its notifications.

    bus = SessionBus(folder)                        # a dbus-daemon; bus.address, bus.env for programs
    system = SystemBus()                            # where everybody looks for it, with the product's policy
    popups = StandIn(bus, "body")                   # a daemon that tells what it is given: popups.shown, .last
    popups.order("hold")                            # it answers no more, as a dom0 that is asleep
    daemon = Daemon(bus, "dunst", DISPLAY=":1")     # a real one
    monitor = Monitor(bus)                          # every Notify on the bus, and the answers
    notifier = Notifier(node, bus, "--bus", vpnd.bus)   # qubes-vpn-notifier

All end with close() (or `with`); bus.restart() is a crash of the bus. Only inside a sandbox (lab/sandbox.py).
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading

from lab.node import wait_until
from lab.router import REPORT, ROOT, SLOW, environment, program

NOTIFIER = "src/desktop/notifier/qubes-vpn-notifier"
STAND_IN = "tests/unit/desktop-daemon-probe"
SERVICE = "/run/qubes-service/qubes-vpn"
SYSTEM_SOCKET = "/run/dbus/system_bus_socket"
DAEMONS = {  # what it takes to start them: some do not want to be started by hand
    "dunst": ["dunst"],
    "notification-daemon": ["/usr/lib/notification-daemon/notification-daemon"],
    "xfce4-notifyd": ["/usr/lib/x86_64-linux-gnu/xfce4/notifyd/xfce4-notifyd"],
}

_SESSION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{services}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""
SYSTEM_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
    <allow receive_type="signal"/><allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <policy user="root">
    <allow own="org.freedesktop.PolicyKit1"/><allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <include>{policy}</include>
</busconfig>
"""

__all__ = ["NOTIFIER", "STAND_IN", "DAEMONS", "SessionBus", "SystemBus", "StandIn", "Daemon", "Monitor", "Notifier",
           "service"]


def end(process, timeout=5.0):
    """SIGTERM, then SIGKILL; the exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(timeout * SLOW)


def service(on=True):
    """Whether dom0 has switched the service qubes-vpn on for this qube."""
    os.makedirs(os.path.dirname(SERVICE), exist_ok=True)
    if on:
        pathlib.Path(SERVICE).touch()
    else:
        pathlib.Path(SERVICE).unlink(missing_ok=True)


class Closing:
    def __enter__(self):
        return self

    def __exit__(self, *_failure):
        self.close()


class Bus(Closing):
    """A dbus-daemon on a socket."""

    def __init__(self, path, config):
        self.socket, self.address, self.process = str(path), f"unix:path={path}", None
        self._config = config
        self.start()

    def start(self):
        self.process = subprocess.Popen(["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nosyslog"],
                                        env=environment(), stdin=subprocess.DEVNULL)
        wait_until(self.alive, 10 * SLOW, "the bus")
        os.chmod(self.socket, 0o666)
        return self

    def alive(self):
        assert self.process.poll() is None, "the bus has ended"
        with socket.socket(socket.AF_UNIX) as one:
            return one.connect_ex(self.socket) == 0

    def stop(self):
        """As a crash: what it did for others is gone, its socket stays."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        self.stop()


class SessionBus(Bus):
    """env: what programs of the session need. services: a folder of D-Bus services that it may start."""

    def __init__(self, folder, name="session"):
        folder = pathlib.Path(folder)
        self.services = folder / f"{name}-services"
        self.services.mkdir(parents=True, exist_ok=True)
        path, config = folder / f"{name}-bus", folder / f"{name}.conf"
        config.write_text(_SESSION.format(socket=path, services=self.services), encoding="ascii")
        self.env = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={path}", "XDG_RUNTIME_DIR": str(folder)}
        super().__init__(path, config)


class SystemBus(Bus):
    """The system bus of the sandbox, where programs look for it."""

    def __init__(self):
        folder = pathlib.Path(SYSTEM_SOCKET).parent
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "system.conf"
        config.write_text(SYSTEM_CONFIG.format(socket=SYSTEM_SOCKET, policy=f"{ROOT}/data/dbus/org.qubes_os.Vpn1.conf"),
                          encoding="ascii")
        super().__init__(SYSTEM_SOCKET, config)


class Popup:
    """The arguments of one Notify."""

    def __init__(self, arguments):
        (self.program, self.replaces, self.icon, self.title, self.body, self.actions, self.hints,
         self.expires) = arguments

    def __repr__(self):
        return f"<{self.title!r}: {self.body!r}, replaces {self.replaces}>"


class _Lines(Closing):
    """A process whose lines are read as they come."""

    def __init__(self, words, env):
        self.lines = []
        self.process = subprocess.Popen(words, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.take(json.loads(line))

    def take(self, line):
        self.lines.append(line)

    def close(self):
        end(self.process)
        self._thread.join(5 * SLOW)


class StandIn(_Lines):
    """A notification daemon for tests. shown: every Popup it was given, answered or not."""

    def __init__(self, bus, *capabilities):
        self.shown = []
        super().__init__([program(STAND_IN), *capabilities], environment(**bus.env))
        wait_until(self._ready, 10 * SLOW, "the stand-in")

    def take(self, line):
        if isinstance(line, list):
            self.shown.append(Popup(line))
        else:
            self.lines.append(line)

    def _ready(self):
        assert self.process.poll() is None, "the stand-in has ended"
        return "ready" in self.lines

    def order(self, words):
        before = len(self.lines)
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        wait_until(lambda: len(self.lines) > before, 10 * SLOW, f"the stand-in does: {words}")

    @property
    def last(self):
        return self.shown[-1] if self.shown else None

    def wait(self, title, timeout=10.0, count=None):
        """Until the last one has this title (and it is the count-th); returns it."""
        def probe():
            return self.last and self.last.title == title and (count is None or len(self.shown) == count)
        try:
            wait_until(probe, timeout * SLOW, f"{title!r} shown")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; shown: {self.shown}") from None
        return self.last


class Daemon(Closing):
    """A real notification daemon; it has to have a display."""

    def __init__(self, bus, name, **env):
        self.log = open(f"{os.path.dirname(bus.socket)}/{name}.log", "a", encoding="utf-8")
        self.process = subprocess.Popen(DAEMONS[name], env=environment(**(bus.env | env)), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        self.bus = bus
        wait_until(self.owns, 20 * SLOW, f"{name} on the bus", 0.05)

    def owns(self):
        assert self.process.poll() is None, "the notification daemon has ended"
        return "org.freedesktop.Notifications" in subprocess.run(
            ["busctl", f"--address={self.bus.address}", "--acquired", "--no-legend", "list"], text=True,
            capture_output=True, check=False, env=environment()).stdout

    def close(self):
        end(self.process)
        self.log.close()


class Monitor(_Lines):
    """Everything that goes by the bus. shown: each Notify as a Popup, with .answer (the number) when it came."""

    def __init__(self, bus):
        self.shown, self._open = [], {}
        super().__init__(["busctl", f"--address={bus.address}", "--json=short", "monitor"], environment(**bus.env))
        wait_until(lambda: self._listens(bus), 10 * SLOW, "the monitor listens", 0.05)

    def _listens(self, bus):
        subprocess.run(["busctl", f"--address={bus.address}", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                        "org.freedesktop.DBus", "GetId"], check=True, capture_output=True, env=environment())
        return self.lines

    def take(self, line):
        self.lines.append(line)
        if line.get("member") == "Notify":
            popup = Popup(line["payload"]["data"])
            popup.answer = None
            self.shown.append(popup)
            self._open[(line["sender"], line["cookie"])] = popup
        popup = self._open.get((line.get("destination"), line.get("reply_cookie")))
        if popup and line["type"] == "method_return":
            popup.answer = line["payload"]["data"][0]


class Notifier(Closing):
    """qubes-vpn-notifier in a session."""

    def __init__(self, bus, *words, start=True, **env):
        self.bus, self.words, self.env, self.process = bus, words, env, None
        self.log_path = f"{os.path.dirname(bus.socket)}/notifier.log"
        if start:
            self.start()

    def start(self):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([program(NOTIFIER), "--verbose", *self.words],
                                            env=environment(**(self.bus.env | self.env)), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        return self

    @property
    def log(self):
        return pathlib.Path(self.log_path).read_text(encoding="utf-8")

    def close(self):
        if self.process and self.process.poll() is None:
            assert end(self.process) == 0, self.log
        found = REPORT.search(self.log)
        assert not found, f"{found[0]}\n{self.log}"
