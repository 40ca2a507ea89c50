# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-vpn-notifier in a session: beside a supervisor that does as it is told, and beside a real one with a real server;
with a notification daemon that tells what it was given, and with those that people have."""

import gettext
import os
import re
import shutil
import subprocess
import time

import pytest

from lab import desktop, screen, topologies
from lab.desktop import DAEMONS, NOTIFIER, STAND_IN, Daemon, Monitor, Notifier, SessionBus, StandIn
from lab.router import PLAIN, SLOW, available, environment, program
from lab.vpn import COMMAND, SEAL, SUPERVISOR, Seal, Supervisor
from lab.vpn_provider import VPN_DNS, Provider

PROBE = "tests/unit/vpn-bus-probe"
LONG = 15                           # seconds until an interruption is told
CONNECTED, DOWN, LOST = "VPN connected", "VPN disconnected", "VPN connection lost"
TRUTH = "All traffic of the qubes behind goes through the tunnel."
need_all = pytest.mark.skipif(not all(map(available, (SEAL, SUPERVISOR, COMMAND))), reason="the VPN's programs are not built")

pytestmark = [pytest.mark.skipif(not all(map(available, (NOTIFIER, STAND_IN, PROBE))), reason="the notifier is not built"),
              pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="dbus-daemon is not installed")]


class Fake:
    """A supervisor that says what a test wants, on a socket of its own (system False) or on the system bus."""

    def __init__(self, folder, system=False):
        self.socket = f"{folder}/vpn-bus"
        self.options = [] if system else ["--bus", self.socket]
        self._words = [program(PROBE), *([] if system else [self.socket])]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._words, env=environment(), text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "ready\n"
        return self

    def order(self, *lines):
        self.process.stdin.write("\n".join(lines) + "\n")
        self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.communicate()
        if os.path.exists(self.socket):
            os.unlink(self.socket)


@pytest.fixture
def fake(tmp_path):
    one = Fake(tmp_path)
    yield one
    one.stop()


@pytest.fixture
def popups(session):
    with StandIn(session, "body", "actions", "persistence") as one:  # as the proxy of Qubes 4.3
        yield one


@pytest.fixture
def notifier(session, fake):
    with Notifier(session, *fake.options) as one:
        yield one


def settle(session, popups):
    """Until what the notifier has sent would have come: it answers on its connection, and so does the daemon."""
    for _ in range(2):
        subprocess.run(["busctl", f"--address={session.address}", "call", "org.qubes_os.VpnNotifier", "/",
                        "org.freedesktop.DBus.Peer", "Ping"], check=True, env=environment(), timeout=20 * SLOW)
    popups.order("nothing")


# -- what is told ------------------------------------------------------------------------------------------------------

def test_one_notification_is_replaced_in_place(fake, popups, notifier):
    assert popups.wait("VPN is not set up yet").replaces == 0
    assert "import FILE" in popups.last.body
    fake.order("profile home.ovpn", "state up")
    shown = popups.wait(CONNECTED)
    assert shown.body.splitlines() == ["Server: vpn.example.net (203.0.113.10:1194/udp), by OpenVPN",
                                       "Name servers: 10.64.0.53", TRUTH]
    assert (shown.program, shown.icon, shown.hints["urgency"], shown.expires) == ("Qubes VPN", "qubes-vpn-up", 1, -1)
    fake.order("state sealed\nwanted no")
    assert "is blocked" in popups.wait(DOWN).body
    assert [one.replaces for one in popups.shown] == [0, 1, 1]
    popups.order("close 1")             # somebody has dismissed it
    fake.order("state up")
    assert popups.wait(CONNECTED, count=4).replaces == 0
    assert notifier.process.poll() is None


def test_interruption_is_told_when_it_lasts(fake, popups, notifier):
    fake.order("profile home.ovpn", "state up")
    popups.wait(CONNECTED, count=1)
    begun = time.monotonic()
    fake.order("state sealed", "error the server does not answer")
    fake.order("state connecting")
    popups.wait(LOST, timeout=LONG + 10)
    assert time.monotonic() - begun > LONG - 1
    assert "is blocked" in popups.last.body and "the server does not answer" in popups.last.body
    assert notifier.process.poll() is None


def test_missing_password_stays_until_it_is_given(fake, popups, notifier):  # pylint: disable=unused-argument
    fake.order("profile home.ovpn", "state connecting", "missing")
    shown = popups.wait("VPN needs a password or code")
    assert shown.expires == 0 and "Give the user name and password for “home.ovpn”." in shown.body


def test_refused_pushes_are_told(fake, popups, notifier):  # pylint: disable=unused-argument
    fake.order("profile home.ovpn", "pushed leads around the tunnel", "state up")
    assert "route is not used: leads around the tunnel." in popups.wait(CONNECTED).body


HOSTILE = "<b>x</b><img src=//h> \u202eevil\u200b\u2066 \x1b[31m" + "A" * 3000


@pytest.mark.parametrize("markup", [False, True])
def test_hostile_names_are_plain_text(session, fake, markup):
    with StandIn(session, "body", *(["body-markup"] if markup else [])) as popups, Notifier(session, *fake.options):
        fake.order("profile " + HOSTILE[:60], "error " + HOSTILE[:200], "state failed")
        shown = popups.wait("VPN needs attention")
        text = shown.title + shown.body
        assert ("&lt;b&gt;x&lt;/b&gt;" in text) == markup and ("<b>x</b>" in text) != markup
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
        assert "is blocked" in text and len(text) < 2000
        assert all(len(line) < 600 for line in text.splitlines())


# -- daemons, buses and sessions that come and go ----------------------------------------------------------------------

def test_late_session_hears_what_is(session, fake):
    """No daemon yet: nothing is lost, and only the newest is told."""
    with Notifier(session, *fake.options) as notifier:
        fake.order("profile home.ovpn", "state up")
        desktop.wait_until(lambda: CONNECTED in notifier.log, 10 * SLOW, "it is due")
        fake.order("state sealed\nwanted no")
        desktop.wait_until(lambda: DOWN in notifier.log, 10 * SLOW, "it is due")
        with StandIn(session, "body") as popups:
            popups.wait(DOWN)
            assert len(popups.shown) == 1


def test_daemon_is_started_by_the_bus(session, fake, tmp_path):
    """Where nobody shows notifications yet, the first one starts who does, and is told once."""
    log = tmp_path / "shown"
    script = tmp_path / "daemon"
    script.write_text(f"#!/bin/sh\nsleep 1000 | {program(STAND_IN)} body > {log}\n", encoding="ascii")
    script.chmod(0o755)
    (session.services / "n.service").write_text(
        f"[D-BUS Service]\nName=org.freedesktop.Notifications\nExec={script}\n", encoding="ascii")
    session.restart()
    with Notifier(session, *fake.options):
        fake.order("profile home.ovpn", "state up")
        desktop.wait_until(lambda: log.exists() and CONNECTED in log.read_text(), 20 * SLOW, "started and told")
        fake.order("state sealed\nwanted no")
        desktop.wait_until(lambda: DOWN in log.read_text(), 20 * SLOW, "told again")
        assert log.read_text().count(CONNECTED) == 1


def test_daemon_that_does_not_answer_holds_up_nothing(session, fake, popups):
    with Notifier(session, *fake.options) as notifier:
        popups.wait("VPN is not set up yet")
        popups.order("hold")
        fake.order("profile home.ovpn", "state up")
        popups.wait(CONNECTED, count=2)
        fake.order("state sealed\nwanted no")
        desktop.wait_until(lambda: notifier.log.splitlines()[-1].endswith(DOWN), 10 * SLOW, "it goes on")
        settle(session, popups)
        assert len(popups.shown) == 2    # one call at a time
        assert notifier.process.poll() is None
        popups.order("release")
        popups.wait(DOWN, count=3)


def test_daemon_that_ends_while_it_has_not_answered(session, fake):
    with Notifier(session, *fake.options):
        with StandIn(session, "body") as first:
            first.wait("VPN is not set up yet")
            first.order("hold")
            fake.order("profile home.ovpn", "state up")
            first.wait(CONNECTED)
        with StandIn(session, "body", "body-markup") as second:
            assert second.wait(CONNECTED).replaces == 0


def test_restarted_daemon_gets_a_new_notification(session, fake, notifier):  # pylint: disable=unused-argument
    with StandIn(session, "body") as first:
        first.wait("VPN is not set up yet")
    with StandIn(session, "body", "body-markup") as second:
        fake.order("profile <home>", "state failed")
        shown = second.wait("VPN needs attention")
        assert len(second.shown) == 1 and shown.replaces == 0  # what the first one showed is not told again
        assert "&lt;home&gt;" in shown.body                  # asked anew what it can


def test_refusing_daemon_is_asked_again(session, fake, popups):
    popups.order("refuse")
    with Notifier(session, *fake.options):
        popups.wait("VPN is not set up yet", count=2)
        popups.order("accept")
        popups.wait("VPN is not set up yet", count=3)
        fake.order("profile home.ovpn", "state up")
        assert popups.wait(CONNECTED, count=4).replaces == 1


def test_session_bus_restarts(session, fake):
    with Notifier(session, *fake.options) as notifier:
        with StandIn(session, "body") as popups:
            popups.wait("VPN is not set up yet")
        session.stop()
        fake.order("profile home.ovpn", "state up")
        desktop.wait_until(lambda: CONNECTED in notifier.log, 10 * SLOW, "it is due")
        session.start()
        with StandIn(session, "body") as popups:
            assert popups.wait(CONNECTED, timeout=30).replaces == 0
        assert notifier.process.poll() is None


def test_session_without_a_bus_yet(tmp_path, fake):
    desktop.service()
    bus = SessionBus(tmp_path)
    bus.stop()
    with Notifier(bus, *fake.options) as notifier:
        fake.order("profile home.ovpn", "state up")
        desktop.wait_until(lambda: CONNECTED in notifier.log, 10 * SLOW, "it is due")
        with bus.start(), StandIn(bus, "body") as popups:
            popups.wait(CONNECTED, timeout=30)


def test_supervisor_restarts_on_its_socket(fake, popups, notifier):  # pylint: disable=unused-argument
    fake.order("profile home.ovpn", "state up")
    popups.wait(CONNECTED)
    fake.stop()
    fake.start().order("profile home.ovpn", "state sealed\nwanted no")
    popups.wait(DOWN, timeout=30)


def test_system_bus_restarts(system_bus, session, popups, tmp_path):
    fake = Fake(tmp_path, system=True)
    try:
        with Notifier(session):
            fake.order("profile home.ovpn", "state up")
            popups.wait(CONNECTED, count=1)
            fake.stop()                  # the supervisor alone: its name comes back, and is seen at once
            fake.start().order("profile home.ovpn", "state sealed\nwanted no")
            popups.wait(DOWN, timeout=5, count=2)
            system_bus.restart()         # all of it
            fake.order("state up")
            popups.wait(CONNECTED, timeout=90, count=3)
    finally:
        fake.stop()


def test_foreign_signals_are_not_believed(system_bus, session, popups, tmp_path):
    """Anybody may send a signal of this name; only the owner of the supervisor's name is heard."""
    fake = Fake(tmp_path, system=True)
    forged = ["busctl", f"--address={system_bus.address}", "emit"]
    try:
        with Notifier(session):
            fake.order("profile home.ovpn", "state sealed\nwanted no")
            popups.wait(DOWN, count=1)
            names = subprocess.run([*forged[:2], "--unique", "--no-legend", "list"], text=True, capture_output=True,
                                   check=True, env=environment()).stdout
            for name in re.findall(r"^:\S+", names, re.M):
                subprocess.run([*forged, f"--destination={name}", "/org/qubes_os/Vpn1", "org.freedesktop.DBus.Properties",
                                "PropertiesChanged", "sa{sv}as", "org.qubes_os.Vpn1", "2", "State", "s", "up", "Seal", "s",
                                "tunnel", "0"], check=True, env=environment())
                subprocess.run([*forged, f"--destination={name}", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                "NameOwnerChanged", "sss", "org.qubes_os.Vpn1", "", ":1.77"], check=True, env=environment())
            for name in re.findall(r"^:\S+", names, re.M):  # answered after what came before
                subprocess.run([*forged[:2], "call", name, "/", "org.freedesktop.DBus.Peer", "Ping"], check=False,
                               capture_output=True, env=environment(), timeout=40 * SLOW)
            settle(session, popups)
            assert len(popups.shown) == 1
            fake.order("state up")       # the control: from the owner it is believed
            popups.wait(CONNECTED, count=2)
    finally:
        fake.stop()


# -- life --------------------------------------------------------------------------------------------------------------

def test_only_where_the_service_is_on(session, fake, popups):
    desktop.service(False)
    with Notifier(session, *fake.options) as notifier:
        assert notifier.process.wait(10 * SLOW) == 0
    desktop.service()
    with Notifier(session, *fake.options):
        popups.wait("VPN is not set up yet")


def test_one_in_a_session(session, fake, popups, tmp_path):
    with Notifier(session, *fake.options) as first:
        popups.wait("VPN is not set up yet")
        with Notifier(session, *fake.options) as second:
            assert second.process.wait(10 * SLOW) == 0
        assert first.process.poll() is None and len(popups.shown) == 1
        with SessionBus(tmp_path / "other", "other") as other, StandIn(other, "body") as elsewhere:
            with Notifier(other, *fake.options):
                elsewhere.wait("VPN is not set up yet")


def test_links_no_toolkit():
    libraries = subprocess.run(["ldd", program(NOTIFIER)], text=True, capture_output=True, check=True).stdout
    assert "libsystemd" in libraries and not re.search("libgtk|libgdk|libglib|libX11|libdbus", libraries)


@pytest.mark.skipif(not PLAIN, reason="memory and wake-ups are those of the program alone")
def test_small_and_asleep(fake, popups, notifier):
    fake.order("profile home.ovpn", "state up")
    popups.wait(CONNECTED)
    pid = notifier.process.pid

    def switches():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)

    def settled():
        before = switches()
        time.sleep(0.3)
        return switches() == before

    desktop.wait_until(settled, 10 * SLOW, "it sleeps", 0.05)
    before = switches()
    time.sleep(5)                        # what is looked for is that nothing happens
    assert switches() == before
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        private = sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    assert private <= 6 * 1024, f"{private} KiB"
    fake.order("state sealed\nwanted no")  # the control: it wakes up when there is something
    popups.wait(DOWN)
    assert switches() > before


@pytest.mark.skipif(not shutil.which("msgfmt"), reason="gettext is not installed")
def test_speaks_the_language_of_the_session(session, fake, popups, tmp_path):
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    subprocess.run(["msgfmt", "-o", str(folder / "sluice.mo"), f"{desktop.ROOT}/po/de.po"], check=True)
    said = gettext.translation("sluice", str(tmp_path), ["de"]).gettext
    assert said(CONNECTED) != CONNECTED
    with Notifier(session, *fake.options, SLUICE_LOCALE=str(tmp_path), LC_ALL="C.UTF-8", LANGUAGE="de"):
        fake.order("profile home.ovpn", "state up")
        assert said(TRUTH) in popups.wait(said(CONNECTED)).body


def test_wrong_use():
    for words, status in ((["--no-such"], 2), (["word"], 2), (["--help"], 0), (["--version"], 0)):
        done = subprocess.run([program(NOTIFIER), *words], capture_output=True, check=False, timeout=20 * SLOW)
        assert done.returncode == status


# -- real ones ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def display(tmp_path):
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed")
    with screen.Screen(tmp_path) as one:
        yield one


@pytest.mark.parametrize("name", sorted(DAEMONS))
def test_real_daemons(session, fake, display, name, tmp_path):
    if not shutil.which(DAEMONS[name][0]):
        pytest.skip(f"{name} is not installed")
    with Monitor(session) as monitor, Daemon(session, name, DISPLAY=display.display, HOME=str(tmp_path)):
        with Notifier(session, *fake.options):
            for title, orders in (("VPN is not set up yet", []), (CONNECTED, ["profile <home>", "state up"]),
                                  ("VPN needs attention", ["error a <b>&</b>", "state failed"])):
                if orders:
                    fake.order(*orders)
                desktop.wait_until(lambda t=title: [p for p in monitor.shown if p.title == t and p.answer],
                                   20 * SLOW, f"{title!r} taken by {name}")
            assert len(monitor.shown) == 3
            first = monitor.shown[0].answer
            assert [p.replaces for p in monitor.shown[1:]] == [first, first]
            assert {p.answer for p in monitor.shown} == {first}
            assert "a &lt;b&gt;&amp;&lt;/b&gt;" in monitor.shown[-1].body  # all three read markup


class OnSystemBus(Supervisor):
    """The supervisor as its unit starts it: on the system bus."""

    def _arguments(self):
        words = super()._arguments()
        at = words.index("--bus")
        return words[:at] + words[at + 2:]

    def call(self, *words):
        return self.node.run([program(COMMAND), *words], check=False, env=environment(), timeout=60 * SLOW)


@need_all
@pytest.mark.parametrize("way", ["system bus", "socket"])
def test_beside_a_real_supervisor(lab, session, system_bus, popups, way):  # pylint: disable=unused-argument
    net = lab(topologies.VPN)
    provider, seal = Provider(net), Seal(net["vpn"])
    server = provider.openvpn("server")
    vpnd = OnSystemBus(net["vpn"], seal) if way == "system bus" else Supervisor(net["vpn"], seal)
    options = [] if way == "system bus" else ["--bus", vpnd.bus]
    with Notifier(session, *options):
        popups.wait("VPN is not set up yet", timeout=20)
        vpnd.install(provider.openvpn_profile("home"))
        shown = popups.wait(CONNECTED, timeout=60)
        assert "203.0.113.10:1194/udp" in shown.body and f"Name servers: {VPN_DNS}" in shown.body
        server.stop()
        shown = popups.wait(LOST, timeout=120)
        assert "is blocked" in shown.body or "reach nothing" in shown.body
        server.start()
        popups.wait(CONNECTED, timeout=120)
        (vpnd.call if way == "system bus" else lambda *words: vpnd.command.run(*words, check=False))("down")
        assert "as asked" in popups.wait(DOWN, timeout=20).body
