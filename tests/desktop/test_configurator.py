# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-vpn-configurator's window, used as a person does it: by keyboard, by a screen reader's means, and looked at.

A real supervisor and seal in a VPN qube, real OpenVPN and WireGuard servers. SLUICE_PICTURES=FOLDER keeps a picture of
each state (those of doc/images are made so).
"""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from lab import topologies
from lab.desktop import end
from lab.node import wait_until
from lab.router import GRACEFUL, REPORT, SLOW, environment, program
from lab.screen import Screen, missing
from lab.vpn import COMMAND, SEAL, SUPERVISOR, Command, Seal, Supervisor, available
from lab.vpn_provider import Provider, way

WINDOW = "src/desktop/configurator/qubes-vpn-configurator"
APP = "qubes-vpn-configurator"
TITLE = "Qubes VPN"
PICTURES = os.environ.get("SLUICE_PICTURES")
PAGES = {"state": "State", "profiles": "Profiles", "add": "Add a profile", "test": "Leak test", "guide": "In dom0"}
# What a person may act on has to have a name.
ACTIVE = {"push button", "radio button", "check box", "toggle button", "text", "password text", "list item", "combo box",
          "drawing area", "image", "icon", "list", "list box"}
# GTK 3.24's file chooser says it of its own search entry when keys come without a window manager.
KNOWN = "gtk_widget_event: assertion 'WIDGET_REALIZED_FOR_EVENT (widget, event)' failed"
CLIPBOARD = """
import sys, gi
gi.require_version("Gtk", "3.0")
from gi.repository import Gtk, Gdk
Gtk.Clipboard.get(Gdk.SELECTION_CLIPBOARD).set_text(open(sys.argv[1], encoding="utf-8").read(), -1)
print("set", flush=True)
Gtk.main()
"""
PASTE = """
import gi
gi.require_version("Gtk", "3.0")
from gi.repository import Gtk, Gdk
print(Gtk.Clipboard.get(Gdk.SELECTION_CLIPBOARD).wait_for_text(), end="")
"""
DRAG = """
import sys, gi
gi.require_version("Gtk", "3.0")
from gi.repository import Gtk, Gdk, GLib
window = Gtk.Window(title="Files", default_width=120, default_height=80)
label = Gtk.EventBox()
label.drag_source_set(Gdk.ModifierType.BUTTON1_MASK, [], Gdk.DragAction.COPY)
label.drag_source_add_uri_targets()
uris = [GLib.filename_to_uri(path) for path in sys.argv[1:]]
label.connect("drag-data-get", lambda _w, _c, data, _i, _t: data.set_uris(uris))
window.add(label)
window.show_all()
window.move(880, 660)
Gtk.main()
"""

pytestmark = [
    pytest.mark.skipif(not all(map(available, (WINDOW, SEAL, SUPERVISOR, COMMAND))), reason="the programs are not built"),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}"),
]


class OnSystemBus(Supervisor):
    def _arguments(self):
        words = super()._arguments()
        at = words.index("--bus")
        return words[:at] + words[at + 2:]


class Window:
    """The window and what a person does with it."""

    def __init__(self, screen, folder, *words, **env):
        self.screen, self.log_path = screen, pathlib.Path(folder) / "window.log"
        self.process = screen.start([program(WINDOW), *words], log=self.log_path, **env)
        self.number = screen.wait_window(f"^{TITLE}$")
        self.focus()

    @property
    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def focus(self, number=None, role="frame"):
        """Without a window manager the keyboard goes where it is told to."""
        def probe():
            self.screen.focus(number or self.number)
            return any("active" in one["states"] for one in self.screen.find(None, role, APP))
        wait_until(probe, 10 * SLOW, f"{role} has the keyboard", 0.1)

    def key(self, *keys):
        self.screen.key(*keys)

    def see(self, name, role=None, timeout=15):
        return self.screen.wait_for(name, role, APP, timeout)

    def gone(self, name, role=None):
        self.screen.wait_gone(name, role, APP)

    def click(self, name, role="push button"):
        self.screen.click_on(name, role, APP)

    def shows(self, name, role=None):
        return bool(self.screen.find(name, role, APP))

    def texts(self):
        """All that can be read."""
        return [one["text"] or one["name"] for one in self.screen.find(re.compile(""), None, APP)]

    def page(self, name, by_key=None):
        if by_key:
            self.key(by_key)
        else:
            self.click(PAGES[name], "radio button")
        wait_until(lambda: "checked" in self.see(PAGES[name], "radio button")["states"], 10 * SLOW, name, 0.05)

    def title(self, text, timeout=20):
        """Until the head says this."""
        return self.see(text, "icon", timeout)

    def choose(self, *paths):
        """The file chooser: by keyboard to it, then its location entry."""
        self.key("alt+f")
        self.see(None, "file chooser")
        self.focus(self.screen.wait_window("^Files of the provider$"), "file chooser")
        self.key("slash")
        self.screen.fill(re.compile(""), paths[0], "text", APP)
        self.click("Open")
        self.gone(None, "file chooser")
        self.focus()

    def focused(self):
        return [one["name"] for one in self.screen.find(None, None, APP) if "focused" in one["states"]]

    def walk_to(self, pattern):
        """By Tab, as far as it takes; what has the keyboard is scrolled into view."""
        for _ in range(60):
            if any(map(pattern.search, self.focused())):
                return
            self.key("Tab")
        raise AssertionError(f"Tab does not reach {pattern}")

    def picture(self, name):
        if PICTURES:
            last = None

            def calm():  # two pictures alike: nothing moves any more
                nonlocal last
                path = self.screen.shot(f"{PICTURES}/vpn-{name}.png", self.number)
                before, last = last, pathlib.Path(path).read_bytes()
                return before == last
            with contextlib.suppress(TimeoutError):
                wait_until(calm, 5 * SLOW, "a calm picture", 0.3)

    def end(self):
        if self.process.poll() is None:
            if GRACEFUL:
                self.focus()
                self.key("ctrl+q")
                self.process.wait(10 * SLOW)
            end(self.process)
        found = REPORT.search(self.log)
        assert not found, f"{found[0]}\n{self.log}"
        loud = [line for line in self.log.splitlines()
                if re.search("CRITICAL|WARNING|ERROR", line) and KNOWN not in line and "a11y" not in line]
        assert not loud, loud


class World:
    """A VPN qube with a screen."""

    def __init__(self, net, screen, folder):
        self.net, self.node, self.screen, self.folder = net, net["vpn"], screen, pathlib.Path(folder)
        self.bus = f"{self.node.folder}/bus"
        self.provider = Provider(net)
        self.command = Command(self.node, self.bus)
        self.seal = self.supervisor = None
        self._windows, self._processes = [], []

    def supervise(self):
        self.seal = Seal(self.node)
        self.supervisor = Supervisor(self.node, self.seal)
        return self

    def window(self, *words, bus=True, **env):
        words = (["--bus", self.bus] if bus else []) + list(words)
        self._windows.append(Window(self.screen, self.folder, *words, **env))
        return self._windows[-1]

    def install(self, *paths):
        for path in paths:
            self.supervisor.install(path)
        wait_until(lambda: len(self.supervisor.status()["profiles"]) == len(paths), 10 * SLOW, "all profiles")

    def copy(self, text):
        """Puts a text into the clipboard, as another program does."""
        (self.folder / "copied").write_text(text, encoding="utf-8")
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, "-c", CLIPBOARD, str(self.folder / "copied")], env=self.screen.variables(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._processes.append(process)
        assert process.stdout.readline() == "set\n"

    def copied(self):
        """The text in the clipboard, as another program gets it."""
        return subprocess.run([sys.executable, "-c", PASTE], env=self.screen.variables(), capture_output=True, text=True,
                              timeout=20 * SLOW, check=True).stdout

    def works(self):
        return way(self.net["work"]) == "VPN"

    def close(self):
        for window in self._windows:
            window.end()
        for process in self._processes:
            end(process)
            process.stdout.close()


@pytest.fixture
def world(lab, session, tmp_path):
    with Screen(tmp_path / "screen") as screen:
        screen.accessible(session.address)
        one = World(lab(topologies.VPN), screen, tmp_path)
        yield one
        one.close()


# -- the whole path ----------------------------------------------------------------------------------------------------

def test_from_nothing_to_a_tunnel_and_on(world):
    """A person who has read nothing: begin, choose, import, connect; then the server dies; then WireGuard."""
    server = world.provider.openvpn()
    world.provider.wireguard()
    window = world.supervise().window()
    window.title("Needs attention")
    window.see(re.compile("^To begin, get a configuration file"))
    assert window.focused() == ["Choose files…"]
    window.picture("begin")
    assert not world.works()

    window.choose(world.provider.openvpn_profile("home", extra=["script-security 2"]))
    window.see("This OpenVPN file can be used.")
    window.see("203.0.113.10:1194/udp")
    window.see(re.compile(r"script-security.*no script is run"))
    window.picture("found")
    window.key("Return")                                # the keyboard is at "Import"
    window.see("The profile home.ovpn is in this qube now.")
    window.picture("imported")
    window.key("Return")                                # and at "Connect now"
    window.see("Connected by home.ovpn.")
    window.title("Connected")
    wait_until(world.works, 10 * SLOW, "work is in the tunnel")
    window.picture("connected")

    window.page("state", "alt+s")
    for text in ("home.ovpn", "203.0.113.10:1194/udp", "10.64.0.53", "10.8.0.2, fd00:8::2", "closed but for the tunnel"):
        window.see(text, "label")
    traffic(world, window)
    window.picture("state")

    server.stop()
    window.title("Connecting", 60)
    window.see(re.compile("blocked|behind"), "label")
    window.picture("server-gone")
    assert not world.works()
    server.start()
    window.title("Connected", 60)

    world.copy(world.provider.wireguard_text())
    window.page("add", "alt+a")
    window.click("Add another")
    window.focus()
    window.key("ctrl+v")
    window.see("This WireGuard file can be used.")
    window.see("203.0.113.10:51820/udp")
    window.screen.fill("Name of the profile", "wire", "text", APP)
    window.picture("found-wireguard")
    window.click("Import")
    window.see("The profile wire.conf is in this qube now.")
    window.page("profiles", "alt+p")
    window.see(re.compile("^wire.conf: WireGuard$"), "list item")
    window.picture("profiles")
    window.screen.select("Profiles", 1, "list box", APP)
    window.key("alt+u")                                  # use it
    window.see(re.compile("^wire.conf: WireGuard · in use"), "list item")
    window.title("Connected")
    wait_until(lambda: world.supervisor.status()["profile"] == "wire.conf" and world.works(), 20 * SLOW, "by WireGuard")
    window.key("alt+b")
    window.title("Blocked")
    window.picture("blocked")
    assert not world.works()
    window.key("alt+c")
    window.title("Connected")


def traffic(world, window):
    """Some, so that the plot has a line; the numbers follow it."""
    for i in range(50 if PICTURES else 1):
        for _ in range(i * 5 % 13 + 10):
            way(world.net["work"])
        if PICTURES:
            time.sleep(0.3)  # for the eye alone
    window.see(re.compile(r"^received: .*, (?!0 B)\S+ .* in all"), "label")


def test_name_and_password_are_asked_for(world, tmp_path):
    """Stored where they belong, never in what a screen reader gets, a picture's text, or a log."""
    check = tmp_path / "check"
    check.write_text('#!/bin/sh\n[ "$(cat "$1")" = "$(printf "me\\nhid den-42")" ]\n', encoding="ascii")
    check.chmod(0o755)
    os.chmod(tmp_path, 0o755)
    world.provider.openvpn("server", options=["--script-security", "2", "--auth-user-pass-verify", str(check), "via-file"])
    window = world.supervise().window()
    window.choose(world.provider.openvpn_profile("home", extra=["auth-user-pass"]))
    window.see("Import", "push button")
    window.key("Return")
    window.see(re.compile("^The profile home.ovpn needs: "))
    window.key("m", "e", "Tab")
    window.screen.type("wrong")
    window.picture("password")
    window.key("Return")
    window.see("Connect now", "push button")
    window.key("Return")
    window.see("Password", "password text", 40)         # refused by the server: asked again
    window.picture("password-again")
    window.screen.fill("User name", "me", "text", APP)
    window.screen.fill("Password", "hid den-42", "password text", APP)
    assert "hid den-42" not in "\n".join(window.texts())
    window.click("Save")
    window.click("Connect now")
    window.see("Connected by home.ovpn.", timeout=40)
    wait_until(world.works, 10 * SLOW, "work is in the tunnel")
    assert "hid den-42" not in window.log + world.supervisor.log + world.screen.log
    assert "hid den-42" not in "\n".join(window.texts())


def test_files_that_are_refused_or_incomplete(world, tmp_path):
    text = pathlib.Path(world.provider.openvpn_profile("one")).read_text(encoding="ascii")
    inline = re.search(r"<ca>\n(.*?)</ca>\n", text, re.S)
    folder = tmp_path / "provider"
    folder.mkdir()
    (folder / "bad.ovpn").write_text(text + "up /bin/sh\nroute 10.0.0.0 255.0.0.0\n", encoding="ascii")
    (folder / "part.ovpn").write_text(text.replace(inline[0], "ca ca.crt\n"), encoding="ascii")
    (tmp_path / "ca.crt").write_text(inline[1], encoding="ascii")
    (folder / "nothing.txt").write_text("hello\n", encoding="ascii")
    window = world.supervise().window()
    window.choose(f"{folder}/bad.ovpn")
    window.see("This file cannot be used as it is.")
    window.see("Refused: with this it cannot be taken", "heading")
    assert not window.shows("Import", "push button")
    window.picture("refused")
    window.click("Start over")
    window.focus()
    window.choose(f"{folder}/part.ovpn")
    window.see("Missing: files that it names", "heading")
    window.picture("missing")
    window.choose(f"{tmp_path}/ca.crt")
    window.see("This OpenVPN file can be used.")
    window.screen.fill("Name of the profile", "../etc", "text", APP)
    window.click("Import")
    window.see(re.compile("A name has letters"))
    window.screen.fill("Name of the profile", "good", "text", APP)
    window.click("Import")
    window.see("The profile good.ovpn is in this qube now.")
    window.click("Add another")
    window.focus()
    window.choose(f"{folder}/nothing.txt")
    window.see(re.compile("as sealed as they were|cannot be used"))


HOSTILE = "<b>bold<b>&amp;\u202egnp.\u2066\u200b" + "x" * 120


def test_hostile_files_stay_plain_and_short(world, tmp_path):
    """Neither markup nor control characters nor endless text reach the person."""
    text = pathlib.Path(world.provider.openvpn_profile("one")).read_text(encoding="ascii")
    lines = "".join(f"<b>&evil{i}\u202e</b> \x1b[31m{'y' * 1000}\n" for i in range(300))
    path = tmp_path / f"{HOSTILE}.ovpn"
    path.write_text(text + "remote <i>host</i>\u202e 1194\n" + lines, encoding="utf-8")
    window = world.supervise().window()
    window.choose(str(path))
    window.see("This file cannot be used as it is.")
    check_texts(window)
    window.see(re.compile(r"remote.*<i>host</i>"), "label")  # as it stands there, not in italics
    assert window.shows(re.compile("and [0-9]+ more"))
    window.picture("hostile")
    window.click("Start over")
    world.copy("\u202e<b>" + "z" * 20000 + "\x07\n[Interface]\nPrivateKey = <u>no</u>\n")
    window.click("Paste text")
    window.see(re.compile("cannot be used|as sealed as they were"))
    check_texts(window)
    assert window.process.poll() is None


def check_texts(window):
    for text in window.texts():
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text), ascii(text)
        assert len(text) < 1300, text


# -- profiles ----------------------------------------------------------------------------------------------------------

def rows(window):
    return [one["name"] for one in window.screen.find(re.compile(r"^\S+: (OpenVPN|WireGuard)"), "list item", APP)]


def wait_rows(window, *patterns):
    def probe():
        found = rows(window)
        return len(found) == len(patterns) and all(map(re.search, patterns, found))
    try:
        wait_until(probe, 15 * SLOW, f"rows {patterns}", 0.1)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; seen: {rows(window)}") from None


def test_profiles_are_ordered_renamed_and_deleted(world):
    world.provider.openvpn()
    world.supervise()
    world.install(*(world.provider.openvpn_profile(name) for name in ("a", "b")), world.provider.wireguard_profile("c"))
    world.command.run("use", "a.ovpn")
    window = world.window("--page", "profiles")
    wait_rows(window, "^a.ovpn: OpenVPN · in use", "^b.ovpn: OpenVPN$", "^c.conf: WireGuard$")
    fail_over = "Try this profile in its turn when another does not connect (fail-over)"
    for index in (1, 2):                                  # b stays, then c, which an ordered b goes before
        window.screen.select("Profiles", index, "list box", APP)
        window.click(fail_over, "check box")
        wait_until(lambda: len([row for row in rows(window) if "of the order" in row]) == index, 10 * SLOW, "ordered", 0.1)
        if index == 1:
            wait_rows(window, "^b.ovpn.*number 1", "^a.ovpn", "^c.conf")
    wait_rows(window, "^b.ovpn.*number 1", "^c.conf.*number 2", "^a.ovpn: OpenVPN · in use")
    window.key("alt+i")                                   # c earlier
    wait_rows(window, "^c.conf.*number 1", "^b.ovpn.*number 2", "^a.ovpn")
    window.picture("order")
    window.click("Try them in random order", "check box")
    wait_until(lambda: world.supervisor.status()["random_order"], 10 * SLOW, "random")
    assert "checked" in window.see("Try them in random order", "check box")["states"]
    window.key("alt+m")
    window.see("Rename the profile", "dialog")
    window.focus(window.screen.wait_window("^Rename the profile$"), "dialog")
    window.screen.fill("New name", "holiday", "text", APP)
    window.picture("rename")
    window.key("Return")
    window.gone("Rename the profile", "dialog")
    window.focus()
    wait_rows(window, "^holiday.conf.*number 1", "^b.ovpn.*number 2", "^a.ovpn")
    window.key("alt+e")
    window.see("Delete the profile", "alert")
    window.click("Keep")
    window.gone("Delete the profile", "alert")
    window.focus()
    wait_rows(window, "^holiday.conf", "^b.ovpn", "^a.ovpn")
    window.key("alt+e")
    window.see("Delete the profile", "alert")
    window.click("Delete")
    wait_rows(window, "^b.ovpn", "^a.ovpn")
    assert sorted(one["name"] for one in world.supervisor.status()["profiles"]) == ["a.ovpn", "b.ovpn"]


def test_what_goes_wrong_is_told(world):
    """A name that is taken: the supervisor's sentence, until it is closed."""
    world.supervise()
    world.install(*(world.provider.openvpn_profile(name) for name in ("a", "b")))
    window = world.window("--page", "profiles")
    wait_rows(window, "^a.ovpn", "^b.ovpn")
    window.screen.select("Profiles", 0, "list box", APP)
    window.key("alt+m")
    window.see("Rename the profile", "dialog")
    window.screen.fill("New name", "b", "text", APP)
    window.click("Rename")
    window.see(re.compile("^Not done: "))
    window.picture("not-done")
    wait_rows(window, "^a.ovpn", "^b.ovpn")


# -- the seal, dom0, nobody there --------------------------------------------------------------------------------------

def test_leak_test_and_guide(world):
    world.provider.openvpn()
    world.supervise()
    world.install(world.provider.openvpn_profile("home", remotes=["203.0.113.10 1194 udp", "203.0.113.10 443 tcp"]))
    world.supervisor.wait_state("up")
    window = world.window("--page", "test")
    window.title("Connected")
    window.key("alt+r")
    window.see("✔ Sealed: nothing leaves but the VPN's own connection.", timeout=30)
    assert len(window.screen.find("✔ whole", "label", APP)) == 3
    window.see("The qubes behind, into the tunnel", "list item")
    window.picture("leak-test")
    window.page("guide", "alt+d")
    window.walk_to(re.compile("^Copy: Close the VPN qube"))
    window.see(re.compile(r"qvm-firewall \S+ add accept dsthost=203.0.113.10 proto=udp dstports=1194\n"
                          r"qvm-firewall \S+ add accept dsthost=203.0.113.10 proto=tcp dstports=443\n"), "label")
    window.picture("dom0")
    window.key("space")
    assert "add accept dsthost=203.0.113.10 proto=tcp dstports=443\n" in world.copied()
    window.page("test", "alt+l")
    world.seal.kill9()
    wait_until(lambda: world.supervisor.status()["seal"] == "absent", 10 * SLOW, "the supervisor knows")
    window.key("alt+r")
    window.see(re.compile("^Not known: the seal's service did not answer|^Not done: "), timeout=30)


def test_broken_layer_is_named(world):
    world.supervise()
    window = world.window("--page", "test")
    world.seal.kill9()
    world.node.run("ip rule del priority 80", check=False)
    world.seal.layers = "RN"
    world.seal.start()
    window.title(re.compile("."))
    window.click("Run the test")
    window.see(re.compile("^✘ NOT SEALED"), timeout=30)
    window.see("✘ broken", "label")
    window.see("What is missing", "heading")
    window.picture("not-sealed")


def test_supervisor_goes_and_comes(world):
    window = world.window()
    window.see(re.compile("does not answer"), "label")
    assert "sensitive" not in window.see("Connect", "push button")["states"]
    window.picture("no-service")
    world.supervise()
    window.title("Needs attention")
    window.see("No VPN is set up yet. All traffic of the qubes behind is blocked.", timeout=20)
    world.supervisor.kill9()
    window.see(re.compile("does not answer"), "label", 20)
    world.provider.openvpn()
    world.supervisor.install(world.provider.openvpn_profile("home"))
    world.supervisor.start()
    window.title("Connected", 40)


def test_one_window_on_the_system_bus(world, system_bus):  # pylint: disable=unused-argument
    """Where it is installed: the system bus, and a second start only shows the page that it names."""
    world.provider.openvpn()
    supervisor = OnSystemBus(world.node, Seal(world.node), start=False)
    supervisor.install(world.provider.openvpn_profile("home"))
    supervisor.start()
    window = world.window(bus=False)
    window.title("Connected")
    assert "checked" in window.see("State", "radio button")["states"]
    second = world.screen.start([program(WINDOW), "--page", "guide"], log=window.log_path)
    assert second.wait(10 * SLOW) == 0
    wait_until(lambda: "checked" in window.see("In dom0", "radio button")["states"], 10 * SLOW, "the page")
    third = world.screen.start([program(WINDOW), world.provider.wireguard_profile("-other")], log=window.log_path)
    assert third.wait(10 * SLOW) == 0
    window.see("This WireGuard file can be used.")
    assert len(world.screen.windows(f"^{TITLE}$")) == 1


def test_files_are_dropped(world):
    """From a file manager's window, which is beside this one, on any page."""
    window = world.supervise().window("--page", "guide")
    screen = world.screen
    screen.start([sys.executable, "-c", DRAG, world.provider.openvpn_profile("home")])
    screen.wait_window("^Files$")

    def drop():
        words = "mousemove 940 700 mousedown 1 mousemove 900 600 sleep 0.1 mousemove 600 450 sleep 0.1 mousemove 500 400 " \
                "sleep 0.3 mousemove 502 402 sleep 0.3 mouseup 1"
        subprocess.run(["xdotool", *words.split()], env=screen.variables(), check=True, timeout=20 * SLOW)
        return window.shows("This OpenVPN file can be used.")
    wait_until(drop, 20 * SLOW, "dropped", 0.5)


def test_file_by_command_line(world):
    """As a file manager starts it."""
    window = world.supervise().window(world.provider.openvpn_profile("home"))
    window.see("This OpenVPN file can be used.")
    assert "checked" in window.see("Add a profile", "radio button")["states"]


# -- for everybody -----------------------------------------------------------------------------------------------------

def each_page(window):
    for name in PAGES:
        window.page(name)
        yield name


def test_everything_has_a_name_and_is_reached_by_keyboard(world):
    world.provider.openvpn()
    world.supervise()
    world.install(*(world.provider.openvpn_profile(name) for name in ("a", "b")))
    window = world.window()
    for name in each_page(window):
        found = [one for one in window.screen.find(None, None, APP) if one["role"] in ACTIVE]
        assert not [one for one in found if not one["name"]], name
        wanted = {one["name"] for one in found
                  if one["role"] in ("push button", "check box", "text") and "sensitive" in one["states"]}
        seen = set()
        for _ in range(60):
            window.key("Tab")
            seen |= set(window.focused())
            if wanted <= seen:
                break
        assert wanted <= seen, f"{name}: Tab does not reach {wanted - seen}"


@pytest.mark.parametrize("theme", ["Adwaita", "Adwaita:dark"], ids=["light", "dark"])
def test_large_text_is_not_cut(world, theme):
    """200 %: the window fits a small screen, and no text is wider than what it stands in."""
    world.provider.openvpn()
    world.supervise()
    world.install(world.provider.openvpn_profile("home"), world.provider.wireguard_profile("wire"))
    world.command.run("use", "home.ovpn")
    world.supervisor.wait_state("up")
    window = world.window(GDK_DPI_SCALE="2", GTK_THEME=theme)
    window.screen.resize(window.number, 1024, 740)
    for name in each_page(window):
        window.picture(f"large-{name}-{theme[8:] or 'light'}")
        frame = window.see(TITLE, "frame")["box"]
        assert frame[2] <= 1024 and frame[3] <= 768, f"{name}: {frame}"
        for one in window.screen.find(re.compile("."), None, APP):
            box = one["box"]
            if one["role"] in ("label", "push button", "radio button", "check box", "heading", "list item") and box:
                assert box[0] >= frame[0] and box[0] + box[2] <= frame[0] + frame[2], f"{name}: {one}"
                assert "…" not in (one["text"] or "")[-1:] or "button" in one["role"] or "files" in one["text"], one
    corner = window.screen.pixels([500, 730, 1, 1])[0][0]
    assert (sum(corner) < 300) == theme.endswith("dark"), corner


@pytest.mark.parametrize("words", [["--page", "nowhere"], ["--frob"], ["--terminal", "file"], ["--terminal", "--edit", "x"]])
def test_wrong_use(words):
    done = subprocess.run([program(WINDOW), *words], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Usage" in done.stderr


def test_without_a_display_it_says_what_to_do():
    done = subprocess.run([program(WINDOW)], env=environment(DISPLAY="", WAYLAND_DISPLAY=""), capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "--terminal" in done.stderr
