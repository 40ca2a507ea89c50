# SPDX-License-Identifier: GPL-2.0-or-later
"""A screen for the programs of the desktop: a real X server, a real dock, a keyboard, a mouse, a screen reader.

    with Screen(folder) as screen:                      # Xvfb; the display is reachable in this sandbox alone
        bus = screen.accessible(session_address)        # AT-SPI on a session bus that runs; before the programs start
        program = screen.start(["qubes-vpn-configurator", "--bus", path], DBUS_SESSION_BUS_ADDRESS=session_address)
        screen.wait_window("Qubes VPN")                 # the number of the window, when it is seen
        screen.click_on("Import", role="push button")   # what a screen reader finds and does
        screen.fill("User name", "me")
        screen.key("alt+c"); screen.type("text"); screen.mouse(20, 12, button=3)
        screen.shot("doc/images/one.png", window)       # PNG
        dock = screen.dock()                            # an XEmbed tray; dock.icons(), dock.stop(), dock.start()

Widgets are told by their accessible name and role as Atspi spells them ("push button", "label", "menu item", "entry",
"text", "password text", "check box", "radio menu item", "page tab", "table cell"); a name may be a compiled pattern.
Every wait has a bound; SLUICE_SLOW stretches it. There is no window manager: a window is where it put itself, and the
one that is to have the keyboard is told by focus(). Programs must run where the screen was made (the same network
namespace); the supervisor is reached by a path and may be elsewhere.
"""

import collections
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile

from lab import sandbox
from lab.node import wait_until
from lab.router import ROOT, SLOW, environment

NEEDED = ("Xvfb", "xdotool", "xwininfo", "trayer", "dbus-daemon")
_LAUNCHER = ("/usr/libexec/at-spi-bus-launcher", "/usr/lib/at-spi2-core/at-spi-bus-launcher")
# The X server gets a /tmp of its own, so that its lock and socket meet nobody's; clients come by the abstract socket.
_PRIVATE = "mount -t tmpfs -o mode=1777 screen /tmp && exec \"$@\""
_CHILD = re.compile(r'^ +(0x[0-9a-f]+) (.*): \("([^"]*)" "[^"]*"\) +(\d+)x(\d+)\S+ +\+(-?\d+)\+(-?\d+)$', re.M)

__all__ = ["NEEDED", "Screen", "Dock", "missing"]


def missing():
    """What has to be installed for a screen, or an empty list."""
    lacking = [name for name in NEEDED if not shutil.which(name)]
    lacking += [] if any(map(os.path.exists, _LAUNCHER)) else ["at-spi2-core"]
    probe = "import gi; [gi.require_version(*one) for one in (('Atspi', '2.0'), ('Gdk', '3.0'), ('GdkX11', '3.0'))]"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False)
    return lacking + (["gir1.2-atspi-2.0, gir1.2-gtk-3.0"] if done.returncode else [])


def _end(process):
    if process and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3 * SLOW)
            return
        process.kill()
        process.wait()


class _Helper:
    """lab/screen_helper.py in a process of its own: the libraries it needs keep one display and one bus for good."""

    def __init__(self, variables, log):
        self._log = log
        self._process = subprocess.Popen([sys.executable, "-m", "lab.screen_helper"], cwd=ROOT, env=variables,
                                         text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def ask(self, what, **more):
        self._process.stdin.write(json.dumps({"ask": what} | more) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], 20 * SLOW)[0]:
            raise TimeoutError(f"the helper does not answer: {what} {more}")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the helper ended with {self._process.wait()} at: {what} {more}; see screen.log")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{what} {more}: {answer['error']}")
        return answer["answer"]

    def close(self):
        _end(self._process)
        for end in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                end.close()


Icon = collections.namedtuple("Icon", "window x y width height title")


class Dock:
    """trayer: a panel that icons are docked into by the XEmbed protocol, as in Qubes' dom0. dark: its colour."""

    def __init__(self, screen, dark=False, size=24):
        self.screen, self.dark, self.size, self.process = screen, dark, size, None
        self.start()

    def start(self):
        colour = "0x202020" if self.dark else "0xe8e8e8"
        self.process = self.screen.start(
            ["trayer", "--edge", "top", "--align", "right", "--widthtype", "pixel", "--width", str(self.size * 6),
             "--heighttype", "pixel", "--height", str(self.size), "--transparent", "true", "--alpha", "0",
             "--tint", colour, "--SetDockType", "false", "--expand", "false"])
        self._panel = self.screen.wait_window("^panel$")

    def stop(self):
        _end(self.process)

    def icons(self, pattern="."):
        """The icons docked whose name fits, from the left: each has window, x, y, width, height and title (what a
        screen reader says). Docked is a program's window below the dock's."""
        done = subprocess.run(["xwininfo", "-tree", "-id", str(self._panel)], env=self.screen.variables(), check=False,
                              capture_output=True, text=True, timeout=20 * SLOW)
        found = []
        for number, title, name, width, height, x, y in _CHILD.findall(done.stdout):
            if re.search(pattern, name) and int(width) > 1:
                found.append(Icon(int(number, 16), int(x), int(y), int(width), int(height), title.strip('"')))
        return sorted(found, key=lambda icon: icon.x)

    def wait_icon(self, pattern=".", timeout=10):
        return wait_until(lambda: self.icons(pattern), timeout * SLOW, f"an icon in the dock ({pattern})", 0.05)[0]


class Screen:
    """folder: of this screen alone; logs and the home of its programs are in it."""

    def __init__(self, folder, size="1024x768", dpi=96):
        self.folder, self._programs, self._helper, self._session = str(folder), [], None, None
        self._atspi, self._readable = None, False
        os.makedirs(f"{self.folder}/home", mode=0o700, exist_ok=True)
        # Sockets are in here, whose paths have 107 characters: not where a test's name is part of the path.
        self._runtime = tempfile.mkdtemp(prefix="screen-", dir=sandbox.WORK)
        self._log = open(f"{self.folder}/screen.log", "w", encoding="utf-8")
        read, write = os.pipe()
        try:
            self._server = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PRIVATE, "sh",
                 "Xvfb", "-displayfd", str(write), "-screen", "0", f"{size}x24", "-dpi", str(dpi),
                 "-nolisten", "tcp", "-noreset", "-nocursor", "-ac"],
                pass_fds=(write,), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
            os.close(write)
            number = ""
            while not number.endswith("\n"):
                if not select.select([read], [], [], 20 * SLOW)[0]:
                    raise TimeoutError("Xvfb does not start")
                more = os.read(read, 16).decode()
                if not more:
                    raise RuntimeError(f"Xvfb ended:\n{self.log}")
                number += more
        finally:
            os.close(read)
        self.display = f":{number.strip()}"

    @property
    def log(self):
        """Messages of the X server, the dock and the programs that were started without a log of their own."""
        with open(f"{self.folder}/screen.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def variables(self, **more):
        """What a program on this screen finds in its environment. Nothing of the tester's desktop gets in."""
        return environment(**{
            "DISPLAY": self.display, "GDK_BACKEND": "x11", "HOME": f"{self.folder}/home", "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": self._runtime, "XDG_DATA_DIRS": f"{ROOT}/data:/usr/local/share:/usr/share",
            "GTK_THEME": "Adwaita", "NO_AT_BRIDGE": "0" if self._readable else "1", "GSETTINGS_BACKEND": "memory",
            # whole stacks, through libraries without frame pointers: else nobody is named whose memory it was
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":fast_unwind_on_malloc=0",
            "LSAN_OPTIONS": f"suppressions={ROOT}/lab/screen_leaks.txt:print_suppressions=0",
        } | ({"DBUS_SESSION_BUS_ADDRESS": self._session} if self._session else {}) | more)

    def start(self, command, log=None, **more):
        """Starts a program on this screen; more are variables. It ends with the screen."""
        output = open(log, "a", encoding="utf-8") if log else self._log
        try:
            process = subprocess.Popen(command, env=self.variables(**more), stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, start_new_session=True)
        finally:
            if log:
                output.close()
        self._programs.append(process)
        return process

    def use(self, session):
        """Programs started from now on have this session bus (an address)."""
        self._session = session

    def accessible(self, session):
        """use() with AT-SPI started there. Programs started from now on can be read."""
        self.use(session)
        self._readable = True
        if self._helper:
            self._helper.close()
            self._helper = None
        launcher = next(path for path in _LAUNCHER if os.path.exists(path))
        self._atspi = self.start([launcher, "--launch-immediately", "--a11y=1", "--screen-reader=1"])
        wait_until(lambda: self.helper.ask("atspi"), 10 * SLOW, "AT-SPI on the session bus", 0.05)
        return self

    @property
    def helper(self):
        if not self._helper:
            self._helper = _Helper(self.variables(PYTHONDONTWRITEBYTECODE="1"), self._log)
        return self._helper

    def dock(self, **options):
        return Dock(self, **options)

    def close(self):
        if self._helper:
            self._helper.close()
        for process in reversed(self._programs):
            _end(process)
        _end(self._server)
        self._log.close()
        shutil.rmtree(self._runtime, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- keyboard, mouse, windows, pictures --------------------------------------------------------------------------

    def _tool(self, *words, check=True):
        done = subprocess.run(["xdotool", *map(str, words)], env=self.variables(), capture_output=True, text=True,
                              timeout=20 * SLOW, check=False)
        if check and done.returncode:
            raise RuntimeError(f"xdotool {words}: {done.stderr}")
        return done.stdout

    def key(self, *keys):
        """"Return", "alt+s", "shift+Tab" ... to what has the keyboard."""
        self._tool("key", "--delay", "20", *keys)

    def type(self, text):
        self._tool("type", "--delay", "5", text)

    def mouse(self, x, y, button=1):
        self._tool("mousemove", x, y, "click", button)  # --sync never returns where the mouse is there already

    def windows(self, title="."):
        """Numbers of the windows seen whose title fits the pattern, the newest last."""
        return [int(number) for number in self._tool("search", "--onlyvisible", "--name", title, check=False).split()]

    def wait_window(self, title, timeout=10):
        return wait_until(lambda: self.windows(title), timeout * SLOW, f"window {title}", 0.05)[-1]

    def focus(self, window):
        self._tool("windowfocus", "--sync", window)

    def resize(self, window, width, height):
        self._tool("windowsize", window, width, height)

    def shot(self, path, window=None, area=None):
        """A picture of the screen, of a window, or of an area (x, y, width, height), as PNG."""
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self.helper.ask("shot", path=os.path.abspath(path), window=window, area=area)
        return path

    def pixels(self, area):
        """Rows of (red, green, blue) of an area (x, y, width, height)."""
        return [[tuple(dot) for dot in row] for row in self.helper.ask("pixels", area=area)]

    # -- what a screen reader has --------------------------------------------------------------------------------------

    @staticmethod
    def _wish(name, role, app):
        pattern = name.pattern if isinstance(name, re.Pattern) else None if name is None else f"^{re.escape(name)}$"
        return {"name": pattern, "role": role, "app": app}

    def find(self, name=None, role=None, app=None):
        """Everything seen with this name and role: dicts of app, name, role, description, text, states, actions and
        box."""
        return self.helper.ask("find", **self._wish(name, role, app))

    def wait_for(self, name=None, role=None, app=None, timeout=10):
        """The first of find(), when there is one."""
        try:
            return wait_until(lambda: self.find(name, role, app), timeout * SLOW, f"{role or 'widget'} {name!r}",
                              0.05)[0]
        except TimeoutError as error:
            error.add_note(self.tree(app))
            raise

    def wait_gone(self, name=None, role=None, app=None, timeout=10):
        wait_until(lambda: not self.find(name, role, app), timeout * SLOW, f"no {role or 'widget'} {name!r} any more",
                   0.05)

    def click_on(self, name=None, role=None, app=None, timeout=10):
        """Does the first action of a widget (press a button, toggle, activate a menu item), when it is sensitive."""
        wish = self._wish(name, role, app)
        wait_until(lambda: self.helper.ask("act", **wish), timeout * SLOW, f"sensitive {role or 'widget'} {name!r}",
                   0.05)

    def fill(self, name, text, role=None, app=None, timeout=10):
        """Puts text into an entry, in place of what is in it."""
        wish = self._wish(name, role, app)
        wait_until(lambda: self.helper.ask("fill", text=text, **wish), timeout * SLOW, f"entry {name!r}", 0.05)

    def grab(self, name=None, role=None, app=None):
        """Gives a widget the keyboard inside its window."""
        return self.helper.ask("grab", **self._wish(name, role, app))

    def select(self, name, index, role=None, app=None):
        """Selects a child (row of a list, entry of a combo box, tab) by its number."""
        return self.helper.ask("select", index=index, **self._wish(name, role, app))

    def tree(self, app=None):
        """All widgets seen, one a line, indented: for the message of a failed test."""
        return self.helper.ask("tree", app=app)


def main():
    """python3 -m lab.screen PNG COMMAND...: what a program shows after it has a window, for a look."""
    sandbox.enter()
    folder = f"{sandbox.WORK}/screen"
    with Screen(folder) as screen:
        screen.dock()
        process = screen.start(sys.argv[2:])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2 * SLOW)
        screen.shot(sys.argv[1])
        process.send_signal(signal.SIGTERM)
        sys.stderr.write(screen.log)


if __name__ == "__main__":
    main()
