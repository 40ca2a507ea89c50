# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-vpn, the user's command: beside a real supervisor and seal in a VPN qube, and on a D-Bus system bus of the
test's own, where it is decided who may do what."""

import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from lab import topologies
from lab.desktop import SYSTEM_CONFIG
from lab.node import wait_until
from lab.router import SLOW, environment, program
from lab.topologies import TARGET
from lab.vpn import COMMAND, SEAL, SUPERVISOR, Seal, Supervisor, available
from lab.vpn_provider import VPN_DNS, Provider

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROBE, POLKIT = "tests/unit/vpn-bus-probe", "tests/unit/vpn-polkit-probe"
UP, FAILED, USAGE, SEALED, OPEN = 0, 1, 2, 3, 4
SOMEBODY = "65534"          # a bus lets in only users that have an account

pytestmark = pytest.mark.skipif(not available(COMMAND), reason="qubes-vpn is not built")
need_seal = pytest.mark.skipif(not available(SEAL), reason="qubes-vpn-forwarding is not built")
need_all = pytest.mark.skipif(not (available(SEAL) and available(SUPERVISOR)),
                              reason="qubes-vpnd or qubes-vpn-forwarding is not built")


# -- in the VPN qube ---------------------------------------------------------------------------------------------------

class Qube:
    """The VPN qube with what runs in it, and the command as its user calls it."""

    def __init__(self, net):
        self.net, self.node = net, net["vpn"]
        self.seal = self.supervisor = None

    def arm(self, **options):
        self.seal = Seal(self.node, **options)
        return self

    def supervise(self):
        self.supervisor = Supervisor(self.node, self.seal)
        return self

    def words(self, *words):
        options = ["--seal", self.seal.socket] if self.seal else []
        options += ["--bus", self.supervisor.bus] if self.supervisor else ["--bus", f"{self.node.folder}/bus"]
        return [program(COMMAND), *options, *words]

    def call(self, *words, text=None, prefix=()):
        return self.node.run([*prefix, *self.words(*words)], check=False, env=environment(), timeout=60 * SLOW,
                             input=text)

    def json(self, *words):
        return json.loads(self.call("--json", *words).stdout)


@pytest.fixture
def net(lab):
    return lab(topologies.VPN)


@pytest.fixture
def qube(net):
    return Qube(net)


@pytest.fixture
def provider(net):
    return Provider(net)


def connected(qube, provider):
    """A tunnel by the command alone; returns the profile's file."""
    provider.openvpn("server")
    qube.arm().supervise()
    file = provider.openvpn_profile("one")
    assert qube.call("import", file).returncode == 0
    done = qube.call("up")
    assert done.returncode == UP, done.stderr + qube.supervisor.log
    return file


@need_all
def test_from_a_file_to_a_tunnel_and_down_again(qube, provider):
    connected(qube, provider)
    done = qube.call("status")
    assert done.returncode == UP
    assert "one.ovpn" in done.stdout and VPN_DNS in done.stdout and "Sealed: qubes reach the tunnel" in done.stdout
    status = qube.json("status")
    assert (status["state"], status["sealed"], status["dns"]) == ("up", True, [VPN_DNS])
    assert qube.json("list")[0] | {"problem": ""} == {
        "name": "one.ovpn", "kind": "openvpn", "usable": True, "chosen": True, "order": 0, "problem": "", "needs": [],
        "has": []}
    assert qube.call("down").returncode == 0
    done = qube.call("status")
    assert done.returncode == SEALED and "nothing of the qubes behind leaves" in done.stdout
    assert qube.call("up").returncode == UP


@need_all
def test_down_on_a_full_disk(qube, provider):
    """It is done, cannot be remembered, and both are said."""
    folder = f"{qube.node.folder}/profiles"
    os.mkdir(folder, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", folder], check=True)
    try:
        connected(qube, provider)
        filler = pathlib.Path(folder, ".filler")
        with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        done = qube.call("down")
        assert done.returncode == FAILED and "disk is full" in done.stderr and "It is down now" in done.stderr
        assert "connects again when the service starts" in done.stderr
        assert qube.call("status").returncode == SEALED
        os.utime(f"{folder}/one.ovpn")      # the folder is looked at anew, where it says "up"
        assert qube.call("import", f"{folder}/one.ovpn", "--name", "two").returncode == FAILED
        assert qube.call("status").returncode == SEALED
        assert qube.call("up").returncode == UP
        assert qube.call("down").returncode == FAILED
        os.unlink(filler)
        done = qube.call("down")
        assert done.returncode == 0, done.stderr
        assert qube.call("down").returncode == 0
        qube.supervisor.restart()
        assert qube.call("status").returncode == SEALED
    finally:
        if qube.supervisor is not None:
            qube.supervisor.stop()
        subprocess.run(["umount", "-l", folder], check=True)


@need_all
def test_profiles_are_named_ordered_and_deleted(qube, provider):
    file = connected(qube, provider)
    assert qube.call("import", file, "--name", "two").returncode == 0
    assert [p["name"] for p in qube.json("list")] == ["one.ovpn", "two.ovpn"]
    assert qube.call("use", "two").returncode == 0
    assert qube.call("order", "two.ovpn", "one.ovpn").returncode == 0
    assert {p["name"]: (p["chosen"], p["order"]) for p in qube.json("list")} == {
        "one.ovpn": (False, 2), "two.ovpn": (True, 1)}
    assert qube.call("order").returncode == 0
    assert qube.call("rename", "one.ovpn", "three").returncode == 0
    assert qube.call("delete", "three.ovpn").returncode == 0
    assert [p["name"] for p in qube.json("list")] == ["two.ovpn"]
    for words in (("use", "none"), ("delete", "none"), ("rename", "none", "a")):
        done = qube.call(*words)
        assert done.returncode == FAILED and "as sealed as they were" in done.stderr, done.stderr


@need_all
def test_import_shows_what_it_refuses_and_changes_nothing(qube, provider, tmp_path):
    qube.arm().supervise()
    good = pathlib.Path(provider.openvpn_profile("one")).read_text(encoding="ascii")
    bad = tmp_path / "bad.ovpn"
    bad.write_text(good + "\nup /bin/sh\nroute 10.0.0.0 255.0.0.0\n", encoding="ascii")
    done = qube.call("import", str(bad))
    assert done.returncode == FAILED
    assert re.search(r"^\d+ +up +refused ", done.stdout, re.M)
    assert re.search(r"^\d+ +route +left-out ", done.stdout, re.M)
    assert "as sealed as they were" in done.stderr
    assert qube.json("list") == [] and os.listdir(qube.supervisor.profiles) == []


@need_all
def test_import_takes_files_of_its_folder_only(qube, provider, tmp_path):
    qube.arm().supervise()
    text = pathlib.Path(provider.openvpn_profile("one")).read_text(encoding="ascii")
    inline = re.search(r"<ca>\n(.*?)</ca>\n", text, re.S)
    folder = tmp_path / "provider"
    folder.mkdir()
    (tmp_path / "secret.crt").write_text(inline[1], encoding="ascii")
    file = folder / "one.ovpn"
    file.write_text(text.replace(inline[0], "ca ca.crt\n"), encoding="ascii")
    (folder / "ca.crt").symlink_to("../secret.crt")
    done = qube.call("import", str(file))
    assert done.returncode == FAILED and "no links" in done.stderr
    (folder / "ca.crt").unlink()
    done = qube.call("import", str(file))
    assert done.returncode == FAILED and "refers to ca.crt: No such file" in done.stderr
    (folder / "ca.crt").write_text(inline[1], encoding="ascii")
    done = qube.call("import", str(file))
    assert done.returncode == 0 and "with the files it refers to" in done.stdout, done.stderr
    provider.openvpn("server")
    assert qube.call("up").returncode == UP


@need_all
def test_secret_is_asked_for_without_echo(qube, provider):
    qube.arm().supervise()
    file = provider.openvpn_profile("one")
    with open(file, "a", encoding="ascii") as text:
        text.write("auth-user-pass\n")
    assert qube.call("import", file).returncode == 0
    assert qube.json("list")[0]["needs"] == ["user-password"]
    assert qube.call("set-secret", "one", text="me\nhid den\n").returncode == 0
    wait_until(lambda: qube.json("list")[0]["has"] == ["user-password"], 5 * SLOW, "the secret is kept")
    assert qube.call("set-secret", "one", text="").returncode == FAILED
    assert "hid den" not in json.dumps(qube.json("status")) + qube.supervisor.log

    import pty  # pylint: disable=import-outside-toplevel
    main, side = pty.openpty()
    process = qube.node.popen(qube.words("set-secret", "one"), env=environment(), stdin=side, stdout=side, stderr=side,
                              start_new_session=True)
    os.close(side)
    said = b""
    for prompt, answer in ((b"User name: ", b"me\n"), (b"Password: ", b"typed in\n"), (b"Kept.", b"")):
        while prompt not in said:
            assert select.select([main], [], [], 5 * SLOW)[0], said
            said += os.read(main, 4096)
        os.write(main, answer)
    assert process.wait(10 * SLOW) == 0
    assert b"typed in" not in said and b"me" in said
    os.close(main)


@need_all
def test_watch_tells_changes_and_ends_with_the_supervisor(qube, provider):
    connected(qube, provider)
    process = qube.node.popen(qube.words("--json", "status", "--watch"), env=environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    assert json.loads(process.stdout.readline())["state"] == "up"
    assert qube.call("down").returncode == 0
    while json.loads(process.stdout.readline())["state"] != "sealed":
        pass
    qube.supervisor.kill9()
    process.stdout.read()
    assert process.wait(10 * SLOW) == FAILED


@need_seal
def test_status_without_a_supervisor_still_tells_of_the_seal(qube):
    qube.arm()
    done = qube.call("status")
    assert done.returncode == SEALED and "does not answer" in done.stdout and "Sealed: nothing" in done.stdout
    assert qube.json("status") | {"seal_report": None} == {"running": False, "sealed": True, "seal_report": None}
    assert qube.call("up").returncode == FAILED


@need_seal
def test_status_says_not_sealed(qube):
    """Whatever is missing: exit status 4, and what to do."""
    qube.arm()
    qube.seal.kill9()
    qube.node.run("ip rule del priority 80", check=False)
    done = qube.call("status")
    assert done.returncode in (OPEN, FAILED) and "Sealed: nothing" not in done.stdout


@need_all
def test_explain(qube, provider):
    connected(qube, provider)
    done = qube.call("explain", "10.137.0.21", f"{TARGET}:443")
    assert done.returncode == 0 and "It goes into the tunnel" in done.stdout
    assert qube.json("explain", "10.137.0.21", "10.139.1.1:53")["dns"] == VPN_DNS
    assert qube.json("explain", "10.137.0.21", "10.137.0.20")["way"] == "this-qube"
    assert qube.json("explain", "10.137.0.21", "10.137.0.22")["way"] == "another-qube"
    assert qube.json("explain", "fd09:24ef:4179::a89:15", "2001:db8:51::1")["way"] == "tunnel"
    assert qube.json("explain", "10.137.0.21", "www.example.org")["way"] == "tunnel"
    assert qube.call("down").returncode == 0
    answer = qube.json("explain", "10.137.0.21", TARGET)
    assert (answer["way"], answer["sealed"]) == ("nowhere", True)
    assert qube.call("explain", "10.137.0.99", TARGET).returncode == FAILED
    assert qube.call("explain", "work", TARGET).returncode == USAGE


def test_explain_sees_the_open_door(qube):
    done = qube.call("explain", "10.137.0.21", TARGET)
    assert done.returncode == OPEN and "WOULD LET IT OUT by eth0" in done.stdout


# -- the leak test -----------------------------------------------------------------------------------------------------

def traces(node):
    """What of a stand-in is in a qube."""
    return node.run("ip -o link show | grep vif327; ip route show table all | grep 10.137.255.2; "
                    "nft list ruleset | grep -E 'vif327|10\\.137\\.255|ff14|qubes-vpn test'", check=False).stdout


def test_leaks_are_seen_where_nothing_seals(qube):
    result = qube.json("test")
    leaked = {one["class"] for one in result["classes"] if one["leaked"]}
    assert result["verdict"] == "LEAKS" and result["control"] == 2 and result["lost"] == 0
    assert leaked >= {"connections (TCP)", "UDP", "pings (ICMP)", "names, asked as Qubes does", "IPv6",
                      "the uplink's gateway and LAN", "other protocols and tunnels", "programs of this qube"}
    assert qube.call("test").returncode == OPEN
    assert traces(qube.node) == ""


@need_seal
def test_sealed_qube_passes(qube):
    qube.arm()
    done = qube.call("test")
    assert done.returncode == 0 and "Sealed: nothing got out" in done.stdout, done.stdout + done.stderr
    assert traces(qube.node) == ""


@need_all
def test_tunnel_is_no_leak(qube, provider):
    connected(qube, provider)
    result = qube.json("test")
    by_class = {one["class"]: one for one in result["classes"]}
    assert result["verdict"] == "sealed" and not result["leak"] and result["identifying"] == 0
    assert by_class["connections (TCP)"]["tunnel"] == by_class["connections (TCP)"]["sent"]
    assert by_class["the VPN server's own address"]["sent"] >= 3
    assert by_class["programs of this qube"]["tunnel"] == 0


@need_seal
@pytest.mark.parametrize("layers", ["R", "N", "G"])
def test_each_layer_alone_stops_the_qube(qube, layers):
    """What it finds with one layer only can be no packet of a qube; programs of this qube need two."""
    qube.arm(layers=layers)
    leaked = [one["class"] for one in qube.json("test")["classes"] if one["leaked"]]
    assert set(leaked) <= {"programs of this qube"}


@need_seal
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_of_the_stand_in_stays(qube, number):
    qube.arm()
    process = qube.node.popen(qube.words("test"), env=environment(), stdout=subprocess.DEVNULL)
    wait_until(lambda: "qubes-vpn test" in traces(qube.node), 5 * SLOW, "the stand-in is there")
    process.send_signal(number)
    process.wait(5 * SLOW)
    wait_until(lambda: traces(qube.node) == "", 5 * SLOW, "it is gone")


@need_seal
def test_blind_test_says_so(qube):
    """Nobody takes "nothing was seen" for "nothing got out" when the platform may have dropped it all."""
    qube.arm()
    qube.node.nft("delete table ip qubes\n")
    result = qube.json("test")
    assert result["verdict"] == "not sure" and "firewall" in result["not_sure"]
    assert qube.call("test").returncode == FAILED


def test_needs_root(qube):
    done = qube.call("test", prefix=["setpriv", "--reuid", SOMEBODY, "--clear-groups"])
    assert done.returncode == FAILED and "sudo qubes-vpn test" in done.stderr


# -- the system bus ----------------------------------------------------------------------------------------------------

def line(process):
    """The next line of a probe."""
    text = b""
    while not text.endswith(b"\n"):
        assert select.select([process.stdout], [], [], 10 * SLOW)[0], f"the probe is silent: {text}"
        text += os.read(process.stdout.fileno(), 1)
    return text.decode()


class SystemBus:
    """A system bus as Qubes' templates have it, with the policy that is installed, and the object on it."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.socket = f"{folder}/system_bus_socket"
        config = folder / "system.conf"
        config.write_text(SYSTEM_CONFIG.format(socket=self.socket, policy=ROOT / "data/dbus/org.qubes_os.Vpn1.conf"),
                          encoding="ascii")
        self.env = environment(DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={self.socket}")
        self.config = str(config)
        folder.chmod(0o755)
        for parent in folder.parents:  # for callers who are not root
            if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        self.daemon = None
        self.restart()

    def restart(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
            os.unlink(self.socket)
        self.daemon = self.start(["dbus-daemon", f"--config-file={self.config}", "--nofork"])
        wait_until(lambda: os.path.exists(self.socket), 5 * SLOW, "the bus")
        os.chmod(self.socket, 0o666)

    def start(self, words, **options):
        process = subprocess.Popen(words, env=self.env, text=True, **options)  # pylint: disable=consider-using-with
        self.processes.append(process)
        return process

    def probe(self, path, *words):
        process = self.start([program(path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert line(process) == "ready\n"
        return process

    def call(self, *words, user=None):
        prefix = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if user else []
        return subprocess.run([*prefix, program(COMMAND), *words], env=self.env, text=True, capture_output=True,
                              timeout=30 * SLOW, check=False, stdin=subprocess.DEVNULL)

    def wait_served(self):
        wait_until(lambda: self.call("list").returncode == 0, 10 * SLOW, "the object on the bus", 0.05)

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def bus(tmp_path):
    if not shutil.which("dbus-daemon"):
        pytest.skip("dbus-daemon is not installed")
    if not available(PROBE):
        pytest.skip(f"{PROBE} is not built")
    one = SystemBus(tmp_path)
    yield one
    one.close()


@pytest.fixture
def served(bus):
    bus.object = bus.probe(PROBE)
    bus.wait_served()
    return bus


def test_root_needs_no_polkit_and_nobody_else_gets_in_without(served):
    assert served.call("down").returncode == 0
    assert served.call("list", user=SOMEBODY).returncode == 0  # reading is for everybody
    done = served.call("down", user=SOMEBODY)
    assert done.returncode == FAILED and "polkit does not answer" in done.stderr


@pytest.mark.parametrize("answer, status, words", [
    ("yes", 0, ""), ("no", FAILED, "not permitted to you"), ("ask", FAILED, "nobody could be asked")])
def test_polkit_decides_for_everybody_else(served, answer, status, words):
    polkit = served.probe(POLKIT, answer)
    done = served.call("down", user=SOMEBODY)
    assert done.returncode == status and words in done.stderr
    assert line(polkit) == "system-bus-name org.qubes_os.vpn1.control 0\n"
    assert served.call("delete", "none", user=SOMEBODY).returncode == FAILED
    assert line(polkit) == "system-bus-name org.qubes_os.vpn1.configure 0\n"
    assert served.call("down").returncode == 0  # root is not asked for
    served.object.stdin.write("last\n")
    served.object.stdin.flush()
    assert line(served.object).startswith("down|")


def test_who_waits_for_a_password_does_not_keep_root_out(served):
    polkit = served.probe(POLKIT, "mute")
    prefix = ["setpriv", "--reuid", SOMEBODY, "--regid", SOMEBODY, "--clear-groups"]
    waiting = [served.start([*prefix, program(COMMAND), "down"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
               for _ in range(64)]
    for _ in range(64):
        assert line(polkit).endswith("control 0\n")
    done = served.call("down")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: sum(one.poll() is not None for one in waiting) == 1, 5 * SLOW, "the oldest makes way")


def test_actions_are_those_of_the_policy():
    policy = ElementTree.parse(ROOT / "data/polkit/org.qubes_os.Vpn1.policy")
    source = (ROOT / "src/vpn/daemon/bus_call.c").read_text(encoding="ascii")
    used = set(re.findall(r'"(org\.qubes_os\.vpn1\.\w+)"', source))
    assert {action.get("id") for action in policy.iter("action")} == used


def test_bus_that_comes_later_or_again(bus):
    bus.daemon.kill()
    bus.daemon.wait()
    os.unlink(bus.socket)
    bus.probe(PROBE)
    bus.daemon = None
    bus.restart()
    bus.wait_served()
    bus.restart()
    bus.wait_served()


def test_name_that_somebody_else_has_is_taken_later(bus):
    first = bus.probe(PROBE)
    bus.wait_served()
    second = bus.probe(PROBE)
    assert bus.call("down").returncode == 0
    first.kill()
    first.wait()
    bus.wait_served()
    second.stdin.write("last\n")
    second.stdin.flush()
    assert line(second).startswith("|")


def members(interface):
    """Methods and signals with their types, properties with type and what is said of changes."""
    found = {}
    for kind in ("method", "signal"):
        for one in interface.findall(kind):
            found[kind, one.get("name")] = [(arg.get("direction", "out"), arg.get("type"))
                                            for arg in one.findall("arg")]
    for one in interface.findall("property"):
        notes = {note.get("name"): note.get("value") for note in one.findall("annotation")}
        found["property", one.get("name")] = (one.get("type"), one.get("access"), notes.get(
            "org.freedesktop.DBus.Property.EmitsChangedSignal", "true"))
    return found


def test_object_is_what_its_description_says(served):
    if not shutil.which("busctl"):
        pytest.skip("busctl is not installed")
    text = subprocess.run(["busctl", f"--address=unix:path={served.socket}", "call", "--json=short",
                           "org.qubes_os.Vpn1", "/org/qubes_os/Vpn1", "org.freedesktop.DBus.Introspectable",
                           "Introspect"], env=served.env, capture_output=True, text=True, check=True).stdout
    real = ElementTree.fromstring(json.loads(text)["data"][0])
    described = ElementTree.parse(ROOT / "data/dbus/org.qubes_os.Vpn1.xml").getroot()
    name = "interface[@name='org.qubes_os.Vpn1']"
    assert members(real.find(name)) == members(described.find(name))


def test_words_from_elsewhere_cannot_drive_the_terminal(served):
    served.object.stdin.write("phase \x1b[2Jx\x07\n")
    served.object.stdin.flush()
    wait_until(lambda: "x1b" in served.call("status").stdout, 5 * SLOW, "the phase")
    done = served.call("status")
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert "\x1b" not in served.call("delete", "\x1b[31m").stderr


# -- words -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [[], ["frob"], ["use"], ["use", "a", "b"], ["status", "x"], ["--frob", "status"],
                                   ["import"], ["explain", "10.137.0.21"], ["--bus"]])
def test_wrong_use(words):
    assert subprocess.run([program(COMMAND), *words], env=environment(), capture_output=True,
                          check=False).returncode == USAGE


def test_help_and_manual_name_every_verb():
    text = subprocess.run([program(COMMAND), "--help"], env=environment(), capture_output=True, text=True,
                          check=True).stdout
    verbs = re.findall(r"^  qubes-vpn ([a-z-]+)", text, re.M)
    manual = (ROOT / "data/man/qubes-vpn.1").read_text(encoding="ascii")
    completion = (ROOT / "data/completions/qubes-vpn").read_text(encoding="ascii")
    assert len(verbs) == 12
    for verb in verbs:
        assert re.search(rf"^\.It Cm {re.escape(verb)}\b", manual.replace("\\-", "-"), re.M), verb
        assert re.search(rf"\b{verb}\b", completion), verb
