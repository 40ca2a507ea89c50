# SPDX-License-Identifier: GPL-2.0-or-later
"""What a session pays: the window's way to its first frame, the memory of notifier and tray, their wake-ups at rest."""

import os
import re
import time

import scale
from lab import topologies
from lab.desktop import NOTIFIER, Notifier, SessionBus, StandIn, end, service
from lab.lab import Lab
from lab.router import available, program
from lab.screen import Screen, missing
from lab.vpn import Seal, Supervisor
from lab.vpn_provider import Provider

WINDOW = "src/desktop/configurator/qubes-vpn-configurator"
TRAY = "src/desktop/tray/qubes-vpn-tray"
EMPTY = "tests/bench/bench-window"
GOAL_FRAME_MS, GOAL_NOTIFIER_MB, GOAL_TRAY_MB, GOAL_WAKEUPS = 400, 6, 25, 0
SPOT = (16, 16, 8, 8)  # in the upper left, where a window without a window manager begins


def _private_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(kb) for kb in re.findall(r"^Private_\w+: +(\d+) kB", file.read(), re.M)) / 1024


def _first_frame_ms(screen, words):
    """From before the fork until the screen is not black any more where the window is."""
    black = screen.pixels(SPOT)
    begin = time.monotonic()
    process = screen.start(words)
    while screen.pixels(SPOT) == black:
        if process.poll() is not None:
            raise RuntimeError(f"it has ended:\n{screen.log}")
        if time.monotonic() - begin > 30:
            raise TimeoutError("no window")
    took = (time.monotonic() - begin) * 1000
    end(process)
    while screen.pixels(SPOT) != black:
        time.sleep(0.02)
    return took


def _rest(report, what, pid, goal, quick):
    """Memory of its own, and what it does when nothing happens."""
    process = scale.Process(pid)
    process.wait_quiet()
    report.row(f"{what}: private memory", [_private_mib(pid)], "MiB", goal)
    report.row(f"{what}: proportional share", [process.pss_kib / 1024], "MiB")
    seconds = 10 if quick else 60
    before = process.wakeups
    time.sleep(seconds)
    report.row(f"{what}: wake-ups when idle", [(process.wakeups - before) * 60 / seconds], "a minute", GOAL_WAKEUPS)


def _measure(report, quick, lab, session, screen):
    provider = Provider(lab)
    provider.openvpn()
    node = lab["vpn"]
    supervisor = Supervisor(node, Seal(node))
    supervisor.install(provider.openvpn_profile("home"))
    supervisor.wait_state("up")
    # The first run reads the libraries from disk, and is no measure of the program.
    words = [program(WINDOW), "--bus", supervisor.bus]
    frames, empty = [], []
    for _ in range(4 if quick else 21):
        frames.append(_first_frame_ms(screen, words))
        empty.append(_first_frame_ms(screen, [program(EMPTY)]))
    report.row("the window: exec → first frame", frames[1:], "ms", GOAL_FRAME_MS, empty[1:], "a window with one label")
    with StandIn(session, "body"):
        dock = screen.dock()
        tray = screen.start([program(TRAY), "--bus", supervisor.bus])
        icon = dock.wait_icon("qubes-vpn-tray")
        screen.mouse(icon.x + 8, icon.y + 8, 3)  # the menu has been seen once
        time.sleep(0.5)
        screen.key("Escape")
        _rest(report, "tray, connected", tray.pid, GOAL_TRAY_MB, quick)
        if available(NOTIFIER):
            with Notifier(session, "--bus", supervisor.bus) as notifier:
                _rest(report, "notifier, connected", notifier.process.pid, GOAL_NOTIFIER_MB, quick)


def measure(report, quick):
    lacking = [name for name in (WINDOW, TRAY, EMPTY) if not available(name)] + missing()
    if lacking:
        print(f"\nThe desktop is not measured, missing: {', '.join(lacking)}")
        return
    report.part("The desktop")
    service()
    with Lab(topologies.VPN) as lab:
        folder = f"{lab.work}/desktop"
        os.makedirs(folder)
        with SessionBus(folder) as session, Screen(f"{folder}/screen") as screen:
            screen.use(session.address)
            _measure(report, quick, lab, session, screen)
