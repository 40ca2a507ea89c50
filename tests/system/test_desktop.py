# SPDX-License-Identifier: GPL-2.0-or-later
"""The desktop package on a booted machine: a person's session with its own bus and display, a real notification daemon."""

import re
import subprocess

import pytest

from lab.node import wait_until
from tests.system.machines import SLOW
from tests.system.test_packages import NET, VPN
from tests.system.test_tunnel import PROFILES, power_on, provider, start_server  # noqa: F401, a fixture

PROGRAMS = ("qubes-vpn-notifier", "qubes-vpn-tray")
SESSION = ("XDG_RUNTIME_DIR=/run/user/1000", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus", "DISPLAY=:0")
DISPLAY = ("xvfb", "libgl1", "libglx0", "libglvnd0", "libfontenc1", "libpixman-1-0", "libunwind8", "libxau6", "libxdmcp6",
           "libxfont2", "libxkbfile1", "x11-xkb-utils", "xkb-data")
UNITS = {
    "xvfb": "ExecStart=/usr/bin/Xvfb :0 -screen 0 800x600x24 -nolisten tcp",
    "dunst": "Type=dbus\nBusName=org.freedesktop.Notifications\nEnvironment=DISPLAY=:0\nExecStart=/usr/bin/dunst\n"
             "Restart=on-failure\nRestartSec=200ms",
    # As the session manager starts what is in /etc/xdg/autostart.
    "notifier": "Environment=DISPLAY=:0\nExecStart=/usr/bin/qubes-vpn-notifier --verbose",
}


@pytest.fixture
def desktop(world, debs):
    """A VPN qube with everything, and a user whose session starts with the machine."""
    machine = world.machine("vpn", services=[*NET, "qubes-vpn"],
                            files=[*debs("qubes-vpn", "qubes-vpn-desktop"), "dunst", "dbus-user-session",
                                   "desktop-file-utils"])
    # The display is none of ours: unpacked, without the 100 MB of OpenGL that apt would want beside it.
    for package in DISPLAY:
        found, = (machine.root / "var/cache/apt/archives").glob(f"{package}_*.deb")
        subprocess.run(f"dpkg-deb --fsys-tarfile '{found}' | tar -x -C '{machine.root}' --keep-directory-symlink",
                       shell=True, check=True)
    for name, line in (("passwd", "user:x:1000:1000:user:/home/user:/bin/sh"), ("group", "user:x:1000:"),
                       ("shadow", "user:*:20000::::::")):
        with open(machine.root / "etc" / name, "a", encoding="ascii") as file:
            file.write(line + "\n")
    machine.write("/var/lib/systemd/linger/user", "")
    for name, text in UNITS.items():
        machine.write(f"/etc/systemd/user/{name}.service", f"[Service]\n{text}\n[Install]\nWantedBy=default.target\n")
    return machine


def as_user(machine, *words, **options):
    return machine.run("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "env", "HOME=/home/user", *SESSION,
                       *words, **options)


def shown(machine):
    """All that the notification daemon has shown since it started, as text."""
    as_user(machine, "dunstctl", "close-all", check=False)
    return as_user(machine, "dunstctl", "history", check=False)


def wait_popup(machine, title):
    try:
        wait_until(lambda: title in shown(machine), 40 * SLOW, title, 0.1)
    except TimeoutError as error:
        raise AssertionError(shown(machine) + machine.run("journalctl", "-b", "-n", "40", "-o", "cat")) from error


def test_files(desktop):
    """What a session starts and a menu shows is as the specification wants it, and names programs that are there."""
    desktop.boot()
    for name in PROGRAMS:
        path = f"/etc/xdg/autostart/{name}.desktop"
        text = desktop.run("cat", path)
        wrong = desktop.run("desktop-file-validate", path, check=False).splitlines()
        # A path of the whole system is meant: the switch of dom0 is not in the user's folder.
        assert [line for line in wrong if 'for key "AutostartCondition"' not in line] == []
        desktop.run("which", re.search(r"^Exec=(\S+)", text, re.MULTILINE).group(1))
        assert "AutostartCondition=if-exists /run/qubes-service/qubes-vpn" in text
    path = "/usr/share/applications/qubes-vpn-configurator.desktop"
    assert desktop.run("desktop-file-validate", path, check=False) == ""
    desktop.run("which", re.search(r"^Exec=(\S+)", desktop.run("cat", path), re.MULTILINE).group(1))
    icon = re.search(r"^Icon=(\S+)", desktop.run("cat", path), re.MULTILINE).group(1)
    assert icon in desktop.run("find", "/usr/share/icons/hicolor", "-name", f"{icon}.*")
    # Control: the tool does complain.
    desktop.write("/root/wrong.desktop", "[Desktop Entry]\nType=Application\n")
    assert "wrong.desktop" in desktop.run("desktop-file-validate", "/root/wrong.desktop", check=False)


def test_notifications(desktop, provider):  # noqa: F811
    """In the session of a machine that boots: told when the VPN connects and when it is cut off, over a restart of the
    supervisor and of the notification daemon too."""
    server, (name, text) = start_server(provider, "openvpn")
    _wire, asker = power_on(desktop)
    desktop.run("install", "-d", "-o", "1000", "-g", "1000", "/home/user")
    wait_until(lambda: desktop.status("test", "-S", "/run/user/1000/bus") == 0, 20 * SLOW, "the bus of a session")
    as_user(desktop, "systemctl", "--user", "restart", "xvfb")
    wait_until(lambda: desktop.status("test", "-S", "/tmp/.X11-unix/X0") == 0, 20 * SLOW, "a display")
    as_user(desktop, "systemctl", "--user", "restart", "dunst", "notifier")
    wait_popup(desktop, "VPN is not set up yet")
    desktop.write(f"/root/{name}", text)
    desktop.run("qubes-vpn", "import", f"/root/{name}")
    assert asker.wait_answer(60) == "VPN"
    wait_popup(desktop, "VPN connected")
    server.stop()
    desktop.run("pkill", "-KILL", "-x", "openvpn")
    wait_popup(desktop, "VPN connection lost")
    server.start()
    as_user(desktop, "systemctl", "--user", "restart", "dunst")
    desktop.run("systemctl", "restart", VPN)
    assert asker.wait_answer(60) == "VPN"
    wait_popup(desktop, "VPN connected")
    assert as_user(desktop, "systemctl", "--user", "is-active", "notifier").strip() == "active"
    assert PROFILES  # the folder is the supervisor's alone
    assert as_user(desktop, "ls", PROFILES, check=False).startswith("ls: cannot open")
    asker.stop()
