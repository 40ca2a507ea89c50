# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-vpn-tray in a real dock, beside a real supervisor: what it shows, what its menu does, that it never waits."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess

import pytest

from lab import desktop, topologies
from lab.desktop import StandIn, end
from lab.node import wait_until
from lab.router import GRACEFUL, REPORT, SLOW, environment, program
from lab.screen import Screen, missing
from lab.vpn import COMMAND, SEAL, SUPERVISOR, Command, Seal, Supervisor, available
from lab.vpn_provider import Provider

TRAY = "src/desktop/tray/qubes-vpn-tray"
WINDOW = "src/desktop/configurator/qubes-vpn-configurator"
ICON = "qubes-vpn-tray"
PRIVATE_MB = 25
PICTURES = os.environ.get("SLUICE_PICTURES")  # a folder: each state is kept there as PNG
SANITIZED = "ASAN_OPTIONS" in os.environ or SLOW > 1

pytestmark = [
    pytest.mark.skipif(not all(map(available, (TRAY, SEAL, SUPERVISOR, COMMAND))), reason="the programs are not built"),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}"),
]


class Tray:
    """The program, and what a person does with it."""

    def __init__(self, screen, folder, *words, dock=None, **env):
        self.screen, self.dock, self.words, self.env = screen, dock, words, env
        self.started = pathlib.Path(folder) / "started"
        self.log_path = pathlib.Path(folder) / "tray.log"
        self.window_program = pathlib.Path(folder) / "configurator"
        self.window_program.write_text(f"#!/bin/sh\necho \"$@\" >> {self.started}\n", encoding="utf-8")
        self.window_program.chmod(0o755)
        self.process = None

    def start(self):
        self.process = self.screen.start([program(TRAY), "--configurator", self.window_program, *self.words],
                                         log=self.log_path, **self.env)
        return self

    @property
    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_title(self, title, timeout=15):
        """Until the docked icon says this, which a screen reader reads; returns the icon."""
        def probe():
            assert self.process.poll() is None, f"the tray has ended:\n{self.log}"
            icons = self.dock.icons(ICON)
            return icons[0] if icons and icons[0].title == f"Qubes VPN: {title}" else None
        try:
            return wait_until(probe, timeout * SLOW, f"an icon of the title {title}", 0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; docked: {self.dock.icons()}\n{self.log}") from None

    def picture(self):
        """The dots of the icon."""
        icon = self.dock.wait_icon(ICON)
        return self.screen.pixels((icon.x, icon.y, icon.width, icon.height))

    def keep(self, name):
        """A picture of dock and open menu, for the documentation."""
        if PICTURES:
            x, y, width, height = self.screen.wait_for("Qubes VPN", "menu", ICON)["box"]
            self.screen.shot(f"{PICTURES}/tray-{name}.png", area=(x, 0, width, y + height))

    def open(self, button=3):
        icon = self.dock.wait_icon(ICON)
        self.screen.mouse(icon.x + icon.width // 2, icon.y + icon.height // 2, button)
        self.screen.wait_for("Qubes VPN", "menu", ICON)
        return self

    def close(self):
        self.screen.key("Escape")
        self.screen.wait_gone("Qubes VPN", "menu", ICON)

    def choose(self, name, role="menu item"):
        self.open()
        self.screen.wait_for(name, role, ICON)
        self.screen.click_on(name, role, ICON)

    def items(self):
        """{name: (role, sensitive, checked)} of the open menu."""
        return {item["name"]: (item["role"], "sensitive" in item["states"], "checked" in item["states"])
                for item in self.screen.find(re.compile("."), None, ICON) if item["role"].endswith("menu item")}

    def status_line(self):
        return next(iter(self.items()))

    def end(self):
        if self.process and self.process.poll() is None:
            if GRACEFUL:
                assert end(self.process) == 0, self.log
            else:
                self.process.kill()
                self.process.wait()
        found = self.log_path.exists() and REPORT.search(self.log)
        assert not found, f"{found[0]}\n{self.log}"


class OnSystemBus(Supervisor):
    def _arguments(self):
        words = super()._arguments()
        at = words.index("--bus")
        return words[:at] + words[at + 2:]


class World:
    """A VPN qube with a screen; the supervisor is started by the test."""

    def __init__(self, net, session, screen, folder):
        self.net, self.node, self.session, self.screen, self.folder = net, net["vpn"], session, screen, folder
        self.bus = f"{self.node.folder}/bus"
        self.provider = Provider(net)
        self.command = Command(self.node, self.bus)
        self.seal = self.supervisor = None
        self._trays = []

    def supervise(self, *arguments):
        self.seal = Seal(self.node)
        self.supervisor = Supervisor(self.node, self.seal, arguments=arguments)
        return self.supervisor

    def tray(self, dock=None, words=None, **env):
        words = ("--bus", self.bus) if words is None else words
        self._trays.append(Tray(self.screen, self.folder, *words, dock=dock, **env))
        return self._trays[-1]

    def up(self, *more):
        """A tunnel; more are names of other profiles."""
        server = self.provider.openvpn()
        supervisor = self.supervise()
        supervisor.install(self.provider.openvpn_profile("home"))
        supervisor.wait_state("up")
        for name in more:
            supervisor.install(self.provider.openvpn_profile(name))
        wait_until(lambda: len(supervisor.status()["profiles"]) == len(more) + 1, 10 * SLOW, "all profiles")
        return server

    def close(self):
        for tray in self._trays:
            tray.end()


@pytest.fixture
def world(lab, session, tmp_path):
    with Screen(tmp_path / "screen") as screen:
        screen.accessible(session.address)
        one = World(lab(topologies.VPN), session, screen, tmp_path)
        yield one
        one.close()


def differ(one, other):
    """How many dots of two pictures are not alike."""
    return sum(a != b for row, row2 in zip(one, other) for a, b in zip(row, row2))


# -- what it shows -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_four_states_that_look_different(world, dark):
    """From "nobody answers" to "blocked", each with a picture of its own on this panel."""
    dock = world.screen.dock(dark=dark)
    tray = world.tray(dock).start()
    tray.wait_title("Needs attention")  # nobody answers
    seen = {"attention": tray.picture()}
    server = world.up()
    tray.wait_title("Connected")
    seen["up"] = tray.picture()
    server.freeze()
    world.supervisor.kill_client()
    tray.wait_title("Connecting")
    seen["connecting"] = tray.picture()
    world.command.run("down")
    tray.wait_title("Blocked")
    seen["blocked"] = tray.picture()
    for name, picture in seen.items():
        assert len({dot for row in picture for dot in row}) > 3, f"{name}: nothing is drawn"
        for other, picture2 in seen.items():
            assert name == other or differ(picture, picture2) > 40, f"{name} looks like {other}"
    # Told apart by what is light and what is dark, too: a panel may tint all icons in the colour of the qube.
    grey = {name: [[(sum(dot) // 3 > 140,) for dot in row] for row in picture] for name, picture in seen.items()}
    for name, picture in grey.items():
        for other, picture2 in grey.items():
            assert name == other or differ(picture, picture2) > 25, f"{name} has the outline of {other}"


def test_says_what_to_do_when_nothing_is_set_up(world):
    dock = world.screen.dock()
    world.supervise()
    tray = world.tray(dock).start()
    tray.wait_title("Needs attention")
    tray.open()
    assert "No VPN is set up yet" in tray.status_line() and "Add the file" in tray.status_line()
    items = tray.items()
    assert not items["Connect"][1] and not items["Block"][1] and items["Configure…"][1]
    tray.keep("unconfigured")
    tray.close()


def test_names_of_others_are_text(world):
    """A server's name and its error in front of a person: no markup, no mnemonics, no second line of theirs."""
    world.supervise().install(world.provider.openvpn_profile("a_b", remotes=["_x_.example 1194 udp"]))
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    world.supervisor.wait_state("resolving", "sealed", "connecting")
    tray.wait_title("Connecting")
    tray.open()
    assert "a_b" in tray.status_line() and "a_b.ovpn" in tray.items()
    tray.keep("connecting")
    tray.close()


@pytest.mark.parametrize("look", [{"GTK_THEME": "Adwaita:dark"}, {"GDK_DPI_SCALE": "2"}, {"GTK_THEME": "HighContrast"}],
                         ids=lambda look: next(iter(look.values())))
def test_menu_can_be_read_in_every_theme_and_size(world, look):
    """The line of the state, too, though nobody can choose it; and all of it is on the screen."""
    world.supervise()
    tray = world.tray(world.screen.dock(), **look).start()
    tray.wait_title("Needs attention")
    tray.open()
    x, y, width, height = world.screen.wait_for("Qubes VPN", "menu", ICON)["box"]
    assert x >= 0 and y >= 0 and x + width <= 1024 and y + height <= 768
    line = world.screen.wait_for(tray.status_line(), "menu item", ICON)["box"]
    tray.screen.key("Down")  # nothing else is lit up under the mouse
    light = [sum(dot) / 3 for row in world.screen.pixels(line) for dot in row]
    assert max(light) - min(light) > 150, "the text stands out too little"


# -- what the menu does ------------------------------------------------------------------------------------------------

def test_menu_blocks_connects_and_changes_over(world):
    world.up("second")
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    tray.open(button=1)  # any button
    items = tray.items()
    assert items["home.ovpn"] == ("radio menu item", True, world.supervisor.status()["profile"] == "home.ovpn")
    assert not items[tray.status_line()][1] and not items["Connect"][1] and items["Block"][1]
    assert "goes through the tunnel" in tray.status_line()
    tray.keep("up")
    tray.close()

    tray.choose("Block")
    tray.wait_title("Blocked")
    assert world.supervisor.wait_state("sealed")
    tray.open()
    assert tray.items()["Connect"][1] and not tray.items()["Block"][1]
    tray.keep("blocked")
    tray.close()
    tray.choose("Connect")
    tray.wait_title("Connected")

    before = world.supervisor.status()["profile"]
    other = {"home.ovpn": "second.ovpn", "second.ovpn": "home.ovpn"}[before]
    tray.choose(other, "radio menu item")
    wait_until(lambda: world.supervisor.status()["profile"] == other, 15 * SLOW, "the other profile", 0.05)
    def marked():
        tray.open()
        items = tray.items()
        tray.close()
        return items[other][2] and not items[before][2]

    wait_until(marked, 15 * SLOW, "the other profile marked", 0.1)
    tray.wait_title("Connected")


def test_menu_by_keyboard_alone(world):
    world.up()
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    tray.open()
    world.screen.key("b")  # the mnemonic of Block
    tray.wait_title("Blocked")
    tray.open()
    world.screen.key("c")
    tray.wait_title("Connected")


def test_open_menu_follows_the_state(world):
    world.up()
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    tray.open()
    world.command.run("down")
    wait_until(lambda: "as asked" in tray.status_line(), 10 * SLOW, "the line in the open menu", 0.05)
    wait_until(lambda: tray.items()["Connect"][1] and not tray.items()["Block"][1], 10 * SLOW, "what is offered", 0.05)


def test_leak_test_and_its_verdict(world):
    world.up()
    with StandIn(world.session, "body", "body-markup") as popups:
        dock = world.screen.dock()
        tray = world.tray(dock).start()
        tray.wait_title("Connected")
        tray.choose("Leak test")
        wait_until(lambda: popups.last, 15 * SLOW, "a notification", 0.05)
        assert popups.last.title.startswith("Leak test passed") and popups.last.body == ""
        assert popups.last.icon == "qubes-vpn-up"
        tray.open()
        assert "Leak test passed" in tray.status_line()
        tray.keep("tested")
        tray.close()

        world.seal.kill9()
        wait_until(lambda: world.supervisor.status()["seal"] == "absent", 10 * SLOW, "no seal", 0.05)
        tray.wait_title("Needs attention")
        tray.choose("Leak test")
        wait_until(lambda: len(popups.shown) == 2, 30 * SLOW, "another notification", 0.05)
        assert "passed" not in popups.last.title
        assert popups.last.icon == "qubes-vpn-attention" and popups.last.replaces == 1


def test_leak_test_that_fails(world):
    """A seal that lacks one of its layers."""
    seal = Seal(world.node, layers="RN")
    Supervisor(world.node, seal)
    with StandIn(world.session, "body") as popups:
        tray = world.tray(world.screen.dock()).start()
        tray.wait_title("Needs attention")
        tray.choose("Leak test")
        wait_until(lambda: popups.last, 15 * SLOW, "a notification", 0.05)
        assert popups.last.title.startswith("Leak test FAILED") and popups.last.icon == "qubes-vpn-attention"


def test_window_is_opened_on_its_pages(world):
    world.up()
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    tray.choose("Configure…")
    wait_until(lambda: tray.started.exists() and tray.started.read_text(), 10 * SLOW, "the window", 0.05)
    tray.choose("Details…")
    wait_until(lambda: tray.started.read_text().count("\n") == 2, 10 * SLOW, "the window again", 0.05)
    asked = [f"--bus {world.bus} --page {page}" for page in ("profiles", "state")]
    assert tray.started.read_text().splitlines() == asked
    children = pathlib.Path(f"/proc/{tray.process.pid}/task/{tray.process.pid}/children")
    assert not children.read_text(encoding="ascii").split(), "a window that has ended is collected"
    tray.window_program.unlink()
    tray.choose("Details…")
    tray.open()
    assert "did not work" in tray.status_line()
    tray.close()


@pytest.mark.skipif(not available(WINDOW), reason="qubes-vpn-configurator is not built")
def test_details_are_those_of_the_window(world):
    world.up()
    tray = world.tray(world.screen.dock(), ("--bus", world.bus, "--configurator", program(WINDOW))).start()
    tray.wait_title("Connected")
    tray.choose("Details…")
    world.screen.wait_for(None, "frame", "qubes-vpn-configurator", timeout=20)
    world.screen.wait_for(re.compile("goes through the tunnel"), None, "qubes-vpn-configurator")
    tray.choose("Block")
    world.screen.wait_for(re.compile("as asked"), None, "qubes-vpn-configurator")


# -- docks, buses, troubles --------------------------------------------------------------------------------------------

def test_waits_for_a_dock_and_docks_again(world):
    world.up()
    tray = world.tray().start()
    with pytest.raises(subprocess.TimeoutExpired):
        tray.process.wait(1)
    tray.dock = world.screen.dock()
    tray.wait_title("Connected")
    for _ in range(3):
        tray.dock.stop()
        tray.dock.start()
        tray.wait_title("Connected")
    tray.choose("Block")
    tray.wait_title("Blocked")


def test_never_waits_for_the_supervisor(world):
    """One that is stopped: the menu opens and answers as always, and when it goes on, so does what was asked."""
    world.up()
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    world.supervisor.process.send_signal(signal.SIGSTOP)
    try:
        tray.choose("Block")
        tray.open()
        assert "Connected" in tray.status_line()
        tray.close()
    finally:
        world.supervisor.process.send_signal(signal.SIGCONT)
    tray.wait_title("Blocked")


def test_never_waits_for_a_notification_daemon(world):
    world.up()
    with StandIn(world.session, "body") as popups:
        popups.order("hold")
        dock = world.screen.dock()
        tray = world.tray(dock).start()
        tray.wait_title("Connected")
        tray.choose("Leak test")
        wait_until(lambda: popups.last, 15 * SLOW, "a notification", 0.05)
        tray.choose("Block")
        tray.wait_title("Blocked")


def test_supervisor_goes_and_comes(world):
    world.up()
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    world.supervisor.kill9()
    tray.wait_title("Needs attention")
    tray.open()
    assert "does not answer" in tray.status_line()
    assert not any(tray.items()[name][1] for name in ("Connect", "Block", "Leak test"))
    tray.close()
    world.supervisor.start()
    tray.wait_title("Connected", timeout=90)


def test_on_the_system_bus(world, system_bus):
    """As installed: by name, with the product's policy, only where the service is switched on."""
    desktop.service(False)
    dock = world.screen.dock()
    tray = world.tray(dock, words=()).start()
    assert tray.process.wait(10 * SLOW) == 0
    desktop.service()
    tray.start()
    tray.wait_title("Needs attention")
    world.provider.openvpn()
    supervisor = OnSystemBus(world.node, Seal(world.node), start=False)
    supervisor.install(world.provider.openvpn_profile("home"))
    supervisor.start()
    tray.wait_title("Connected", timeout=30)
    tray.choose("Block")
    tray.wait_title("Blocked")
    system_bus.restart()
    tray.wait_title("Needs attention")


@pytest.mark.skipif(SANITIZED, reason="measured with the program as it is shipped")
def test_costs_little_and_sleeps(world):
    world.up()
    dock = world.screen.dock()
    tray = world.tray(dock).start()
    tray.wait_title("Connected")
    tray.open()
    tray.close()
    assert private_kb(tray.process.pid) <= PRIVATE_MB * 1024
    wait_until(lambda: wakes(tray.process.pid, 1.0) == 0, 20 * SLOW, "a second without a wake-up")


def private_kb(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(kb) for kb in re.findall(r"^Private_\w+: +(\d+) kB", text, re.M))


def wakes(pid, seconds):
    """How often the program went on during this time, all its threads together."""
    def count():
        total = 0
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                text = (task / "status").read_text(encoding="ascii")
                total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", text)))
        return total
    before = count()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", str(seconds)], check=True)
    return count() - before


# -- the command line --------------------------------------------------------------------------------------------------

def test_options():
    def run(*words, **env):
        return subprocess.run([program(TRAY), *words], env=environment(**env), capture_output=True, text=True,
                              check=False, timeout=20 * SLOW)
    assert "usage" in run("--help").stdout and run("--help").returncode == 0
    assert run("--version").stdout.startswith("qubes-vpn-tray ")
    assert run("--nonsense").returncode == 2 and run("extra").returncode == 2
    done = run("--bus", "/nowhere", DISPLAY=":77")
    assert done.returncode == 1 and "no display" in done.stderr
