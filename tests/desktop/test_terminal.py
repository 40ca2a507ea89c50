# SPDX-License-Identifier: GPL-2.0-or-later
"""qubes-vpn-configurator without a window: on a pseudo terminal that can do nothing, beside a real supervisor with real
VPN servers; and its --edit."""

import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import termios

import pytest

from lab import topologies
from lab.node import wait_until
from lab.router import SLOW, environment, program
from lab.vpn import CLIENT_USER, SEAL, SUPERVISOR, Seal, Supervisor, available
from lab.vpn_provider import VPN_DNS, Provider

CONFIGURATOR = "src/desktop/configurator/qubes-vpn-configurator"
PASSWORD = "hid den"
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
CHECK_USER = """#!/bin/sh
read -r user < "$1"
password=$(sed -n 2p "$1")
[ "$user" = me ] && [ "$password" = "hid den" ]
"""

pytestmark = pytest.mark.skipif(not (available(CONFIGURATOR) and available(SEAL) and available(SUPERVISOR)),
                                reason="the configurator or the VPN's programs are not built")


class Terminal:
    """A person at a terminal: hears until a text comes, types an answer. said: everything, as bytes."""

    def __init__(self, node, words, env=None):
        self.main, side = pty.openpty()
        os.set_blocking(self.main, False)
        self.said, self.at = b"", 0
        self.process = node.popen(words, env=environment(TERM="dumb", LANG="C.UTF-8", LC_ALL="C.UTF-8") | (env or {}),
                                  stdin=side, stdout=side, stderr=side, start_new_session=True)
        self.side = side

    def hear(self, text, timeout=15):
        """Until text comes behind what was heard last."""
        wanted = re.compile(rb"\s+".join(re.escape(word.encode()) for word in text.split()))

        def heard():
            self._read(0.05)
            found = wanted.search(self.said, self.at)
            self.at = found.end() if found else self.at
            return found

        try:
            wait_until(heard, timeout * SLOW, text, 0.01)
        except TimeoutError as error:
            error.add_note(self.said.decode(errors="replace"))
            raise
        return self

    def _read(self, wait):
        if select.select([self.main], [], [], wait)[0]:
            try:
                self.said += os.read(self.main, 65536)
            except OSError:
                pass

    def type(self, text):
        os.write(self.main, text.encode() + b"\n")
        return self

    def echoes(self):
        return bool(termios.tcgetattr(self.side)[3] & termios.ECHO)

    def has_read(self):
        """Nothing of what was typed is left."""
        return fcntl.ioctl(self.side, termios.FIONREAD, b"\0" * 4) == b"\0" * 4

    def end(self, timeout=15):
        """The exit status; nothing that was said holds a control character."""
        def ended():
            self._read(0.05)
            return self.process.poll() is not None

        try:
            wait_until(ended, timeout * SLOW, "the program ends", 0.01)
        except TimeoutError as error:
            error.add_note(self.said.decode(errors="replace"))
            raise
        self._read(0)
        assert not CONTROL.search(self.said), self.said
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.main)
        os.close(self.side)


class OnSystemBus(Supervisor):
    """The supervisor as its unit starts it."""

    def _arguments(self):
        words = super()._arguments()
        at = words.index("--bus")
        return words[:at] + words[at + 2:]


class Qube:
    def __init__(self, net, supervisor=Supervisor):
        self.net, self.node = net, net["vpn"]
        self.provider = Provider(net)
        self.seal = Seal(self.node)
        self.supervisor = supervisor(self.node, self.seal)
        self.bus = ["--bus", self.supervisor.bus] if supervisor is Supervisor else []
        self.terminals = []

    def words(self, *words):
        return [program(CONFIGURATOR), *self.bus, *words]

    def terminal(self, *words, env=None):
        one = Terminal(self.node, self.words(*(words or ("--terminal",))), env)
        self.terminals.append(one)
        return one

    def pipe(self, text, *words, env=None):
        return self.node.run(self.words(*(words or ("--terminal",))), check=False, input=text,
                             env=environment(LANG="C.UTF-8", LC_ALL="C.UTF-8") | (env or {}), timeout=60 * SLOW)

    def profiles(self):
        return {one["name"]: one for one in self.supervisor.command.json("list")}


@pytest.fixture
def qube(lab):
    one = Qube(lab(topologies.VPN))
    yield one
    for terminal in one.terminals:
        terminal.close()


def server_with_passwords(qube, tmp_path):
    check = tmp_path / "check"
    check.write_text(CHECK_USER, encoding="ascii")
    check.chmod(0o755)
    return qube.provider.openvpn("server", options=["--script-security", "2", "--auth-user-pass-verify", str(check),
                                                    "via-file", "--username-as-common-name"])


def test_from_nothing_to_a_tunnel_with_a_password(qube, tmp_path):
    """Not configured, imported, asked for the password without echo, connected."""
    server_with_passwords(qube, tmp_path)
    file = qube.provider.openvpn_profile("work", extra=["auth-user-pass", "up /etc/openvpn/update-resolv-conf",
                                                        "script-security 2"])
    terminal = qube.terminal()
    terminal.hear("No VPN is set up yet").hear("File:").type(file)
    terminal.hear("A profile for OpenVPN.").hear("203.0.113.10:1194/udp").hear("A certificate and a private key of yours")
    terminal.hear("(up) is not used").hear("You will be asked for: user name and password").hear("Name it (Enter: work.ovpn")
    terminal.type("").hear("User name").type("me").hear("Password:")
    assert not terminal.echoes()
    terminal.type("wrong one").hear("Connect now?")
    assert terminal.echoes()
    terminal.type("").hear("the server refused the log-in").hear("User name").type("me").hear("Password:").type(PASSWORD)
    terminal.hear("Connect now?").type("").hear("Connected.", 40).hear("Number:")
    assert b"Name servers: " + VPN_DNS.encode() in terminal.said
    assert qube.supervisor.state() == "up"
    assert terminal.type("0").end() == 0
    assert b"wrong one" not in terminal.said and PASSWORD.encode() not in terminal.said
    assert PASSWORD not in qube.supervisor.log


def test_wireguard_then_another_profile_then_blocked(qube):
    qube.provider.wireguard("server")
    qube.provider.openvpn("server")
    terminal = qube.terminal()
    terminal.hear("File:").type(qube.provider.wireguard_profile("wire")).hear("A profile for WireGuard.")
    terminal.hear("Your private key").hear(f"Name servers: {VPN_DNS}").hear("Name it (Enter: wire.conf").type("tunnel")
    terminal.hear("The profile tunnel.conf is here").type("").hear("Connected.", 40)
    terminal.hear("Number:").type("1").hear("File:").type(f"'{qube.provider.openvpn_profile('work')}'")
    terminal.hear("Name it (Enter: work.ovpn").type("tunnel.conf").hear("A profile of that name is there already")
    terminal.hear("Name it").type("../x").hear("A name has letters").hear("Name it").type("")
    terminal.hear("Connect now?").type("n").hear("Number:")
    assert set(qube.profiles()) == {"tunnel.conf", "work.ovpn"}
    terminal.type("2").hear("tunnel.conf (WireGuard, chosen)").hear("Connect with").type("2").hear("Number:")
    qube.supervisor.wait_state("up")
    wait_until(lambda: qube.supervisor.status()["profile"] == "work.ovpn", 20 * SLOW, "the other one")
    terminal.type("4").hear("All traffic of the qubes behind is blocked").hear("Number:")
    qube.supervisor.wait_state("sealed")
    terminal.type("6").hear("Order:").type("2 1").hear("Number:")
    assert [qube.profiles()[name]["order"] for name in ("work.ovpn", "tunnel.conf")] == [1, 2]
    terminal.type("7").hear("Rename").type("tunnel.conf").hear("New name:").type("second").hear("Number:")
    terminal.type("8").hear("Delete (number):").type("1").hear('Type "delete"').type("delete").hear("Number:")
    assert set(qube.profiles()) == {"work.ovpn"}
    terminal.type("9").hear("Sealed: every part of the seal").hear("Number:")
    terminal.type("99").hear("That is not in the list").hear("Number:").type("0")
    assert terminal.end() == 0


def test_by_the_system_bus(lab, system_bus):  # pylint: disable=unused-argument
    qube = Qube(lab(topologies.VPN), OnSystemBus)
    qube.provider.wireguard("server")
    terminal = qube.terminal()
    try:
        terminal.hear("File:").type(qube.provider.wireguard_profile("wire")).hear("Name it").type("").hear("Connect now?")
        terminal.type("").hear("Connected.", 40).hear("Number:").type("0")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_guide_has_a_rule_for_every_server(qube):
    file = qube.provider.openvpn_profile("work", remotes=["203.0.113.10 1194 udp", "vpn.example.net 443 tcp",
                                                          "203.0.113.10 1194 udp"])
    assert qube.supervisor.command.run("import", file).returncode == 0
    terminal = qube.terminal()
    terminal.hear("Number:").type("10").hear("Number:").type("0")
    assert terminal.end() == 0
    name = re.escape(socket.gethostname()) if re.fullmatch(r"[A-Za-z][\w-]{0,30}", socket.gethostname()) else "sys-vpn"
    said = terminal.said.decode().replace("\r", "")
    rules = re.findall(rf"^    qvm-firewall {name} (.*)$", said, re.M)
    assert rules[:7] == ["reset", "add accept dsthost=203.0.113.10 proto=udp dstports=1194",
                         "add accept dsthost=vpn.example.net proto=tcp dstports=443", "add accept specialtarget=dns",
                         "add drop", "del --rule-no 0", "list"]


def test_a_number_is_that_of_the_list_that_was_shown(qube):
    """Somebody else imports a profile between the list and the answer: nothing is done to another one."""
    def add(name):
        assert qube.supervisor.command.run("import", qube.provider.wireguard_profile(name)).returncode == 0

    add("m")
    add("n")
    terminal = qube.terminal()
    terminal.hear("Number:").type("7").hear("Rename (number):")
    add("b")
    terminal.type("2").hear("New name:").type("new").hear("Number:")
    assert set(qube.profiles()) == {"b.conf", "m.conf", "new.conf"}
    terminal.type("6").hear("Order:")
    add("a")
    terminal.type("3 2").hear("Number:").type("0")
    assert terminal.end() == 0
    order = {name: one["order"] for name, one in qube.profiles().items()}
    assert order == {"new.conf": 1, "m.conf": 2, "a.conf": 0, "b.conf": 0}


def test_guide_while_a_late_answer_comes(qube):
    """The state that was asked for before comes first, and takes the place of the one whose profile is looked up."""
    name = "a-name-that-is-long-enough.conf"
    assert qube.supervisor.command.run("import", qube.provider.wireguard_profile(name[:-5])).returncode == 0
    qube.supervisor.command.run("use", name)
    terminal = qube.terminal()
    terminal.hear("Number:")
    qube.supervisor.process.send_signal(signal.SIGSTOP)
    try:
        terminal.type("").hear("Number:").type("10")
        wait_until(terminal.has_read, 5 * SLOW, "the number is read", 0.01)
    finally:
        qube.supervisor.process.send_signal(signal.SIGCONT)
    terminal.hear(f"only the servers of the profile {name} can be reached").hear("Number:").type("0")
    assert terminal.end() == 0


def test_memory_is_not_dumped(qube):
    terminal = qube.terminal()
    terminal.hear("File:")
    limits = pathlib.Path(f"/proc/{terminal.process.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M), limits


def test_pasted_text_and_a_file_that_is_missing(qube, tmp_path):
    text = qube.provider.openvpn_text()
    inline = re.search(r"<ca>\n(.*?)</ca>\n", text, re.S)
    (tmp_path / "ca.crt").write_text(inline[1], encoding="ascii")
    terminal = qube.terminal()
    terminal.hear("File:").type("-").hear("a line that has only a dot")
    wait_until(lambda: not terminal.echoes(), 5 * SLOW, "the echo is off")
    for line in text.replace(inline[0], "ca keys/ca.crt\n").splitlines():
        terminal.type(line)
    terminal.type(".").hear("keys/ca.crt: not there").hear("Path of a missing file").type(str(tmp_path / "ca.crt"))
    terminal.hear("found: keys/ca.crt").hear("Name it (Enter: 203.0.113.10.ovpn").type("pasted").hear("Connect now?")
    terminal.type("n").hear("Number:").type("0")
    assert terminal.end() == 0
    assert qube.profiles()["pasted.ovpn"]["usable"]
    assert b"BEGIN" not in terminal.said


def test_through_a_pipe_no_secret_is_asked_for(qube, tmp_path):
    server_with_passwords(qube, tmp_path)
    file = qube.provider.openvpn_profile("work", extra=["auth-user-pass"])
    done = qube.pipe(f"{file}\n\nme\n{PASSWORD}\nn\n0\n")
    assert "on a terminal only" in " ".join(done.stdout.split()), done.stdout
    assert PASSWORD not in done.stdout
    assert qube.profiles()["work.ovpn"]["has"] == []
    assert not CONTROL.search(done.stdout.encode())
    done = qube.pipe("")
    assert done.returncode == 0 and "Number:" in done.stdout


def test_hostile_file_puts_nothing_on_the_terminal(qube, tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202etxt.exe\u009b31m"
    text = qube.provider.openvpn_text(extra=[f"up {evil}", f"{evil} 1", f"ca {evil}.crt"])
    file = tmp_path / f"{evil}.ovpn"
    file.write_text(text + "a\n" * 300, encoding="utf-8")
    other = tmp_path / "many.ovpn"
    other.write_text("\n".join(f"frob{i} {evil}" for i in range(1000)), encoding="utf-8")
    good = tmp_path / f"good{evil}.ovpn"
    good.write_text(qube.provider.openvpn_text(), encoding="utf-8")
    done = qube.pipe(f"{file}\n{other}\n{good}\n-\n0\n")
    for bad in ("\x1b", "\x07", "\u202e", "\u009b"):
        assert bad not in done.stdout
    assert len(done.stdout) < 20000 and "more" in done.stdout
    assert "Why it cannot be taken:" in done.stdout
    assert qube.profiles() == {}


def test_ctrl_c_gives_the_echo_back(qube, tmp_path):
    file = qube.provider.openvpn_profile("work", extra=["auth-user-pass"])
    terminal = qube.terminal()
    terminal.hear("File:").type(file).hear("Name it").type("").hear("User name").type("me").hear("Password:")
    assert not terminal.echoes()
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == -signal.SIGINT
    assert terminal.echoes()


def test_nobody_answers(qube):
    qube.supervisor.kill9()
    done = qube.pipe("")
    assert done.returncode == 1 and "does not answer" in done.stdout


def test_ascii_where_the_locale_has_no_more(qube):
    done = qube.pipe("0\n", env={"LANG": "C", "LC_ALL": "C"})
    assert done.returncode == 0 and done.stdout.isascii()


# -- --edit ------------------------------------------------------------------------------------------------------------

def editor(tmp_path, script):
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    path.chmod(0o755)
    return {"EDITOR": str(path), "VISUAL": "", "XDG_RUNTIME_DIR": str(tmp_path)}


def edit(qube, env, name, text=""):
    return qube.pipe(text, "--edit", name, env=env | {"SLUICE_VPN_FOLDER": qube.supervisor.profiles})


def test_edit_brings_a_good_text_back_whole(qube, tmp_path):
    assert qube.supervisor.command.run("import", qube.provider.openvpn_profile("work")).returncode == 0
    kept = pathlib.Path(qube.supervisor.profiles, "work.ovpn")
    before = kept.stat()
    env = editor(tmp_path, f'cp "$1" {tmp_path}/seen; stat -c %a "$1" > {tmp_path}/mode; echo "verb 4" >> "$1"; '
                           'touch "$1~"')
    done = edit(qube, env, "work")
    assert done.returncode == 0 and "It is in its place" in done.stdout, done.stdout + done.stderr
    assert kept.read_text(encoding="ascii").endswith("verb 4\n")
    after = kept.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, 0o600)
    assert (tmp_path / "mode").read_text(encoding="ascii") == "600\n"
    assert not list(tmp_path.glob("qubes-vpn-*"))
    assert os.listdir(qube.supervisor.profiles).count("work.ovpn.new~") == 0


def test_edit_asks_again_for_what_belonged_to_the_old_file(qube, tmp_path):
    server_with_passwords(qube, tmp_path)
    file = qube.provider.openvpn_profile("work", extra=["auth-user-pass"])
    assert qube.supervisor.command.run("import", file).returncode == 0
    assert qube.supervisor.command.run("set-secret", "work", input=f"me\n{PASSWORD}\n").returncode == 0
    env = editor(tmp_path, 'echo "verb 4" >> "$1"') | {"SLUICE_VPN_FOLDER": qube.supervisor.profiles}
    terminal = qube.terminal("--edit", "work.ovpn", env=env)
    terminal.hear("is not used for another one").hear("User name").type("me").hear("Password:").type(PASSWORD)
    terminal.hear("Kept")
    assert terminal.end() == 0
    qube.supervisor.wait_state("up", timeout=30)


def test_edit_refuses_what_the_supervisor_would(qube, tmp_path):
    assert qube.supervisor.command.run("import", qube.provider.openvpn_profile("work")).returncode == 0
    kept = pathlib.Path(qube.supervisor.profiles, "work.ovpn")
    before = kept.read_bytes()
    done = edit(qube, editor(tmp_path, 'echo "plugin /x" >> "$1"'), "work", "n\n")
    assert done.returncode == 1 and "(plugin) is refused" in done.stdout, done.stdout
    assert kept.read_bytes() == before
    done = edit(qube, editor(tmp_path, "exit 3"), "work")
    assert done.returncode == 1 and "The editor failed" in done.stdout
    done = edit(qube, editor(tmp_path, "true"), "work")
    assert done.returncode == 0 and "Nothing was changed" in done.stdout
    assert edit(qube, editor(tmp_path, "true"), "none").returncode == 1
    assert kept.read_bytes() == before and not list(tmp_path.glob("qubes-vpn-*"))


def test_edit_is_done_as_the_owner_of_the_folder(qube, tmp_path):
    """Not as root, who would write wherever a supervisor that was taken over has put a link."""
    assert qube.supervisor.command.run("import", qube.provider.openvpn_profile("work")).returncode == 0
    tools = pathlib.Path(qube.node.folder, "tools")
    tools.mkdir(mode=0o755)
    (tools / "log").touch()
    (tools / "log").chmod(0o666)
    for name in ("head", "cat", "mv"):
        (tools / name).write_text(f'#!/bin/sh\nid -u >> {tools}/log\nexec {shutil.which(name)} "$@"\n',
                                  encoding="ascii")
        (tools / name).chmod(0o755)
    kept = pathlib.Path(qube.supervisor.profiles, "work.ovpn")
    owner = int(CLIENT_USER)
    try:
        os.chown(qube.supervisor.profiles, owner, owner)
        os.chown(kept, owner, owner)
    except OSError:
        pytest.skip("there is only one user here")
    env = editor(tmp_path, 'echo "verb 4" >> "$1"') | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = edit(qube, env, "work")
    assert done.returncode == 0 and "It is in its place" in done.stdout, done.stdout + done.stderr
    assert set((tools / "log").read_text(encoding="ascii").split()) == {CLIENT_USER}
    assert kept.read_text(encoding="ascii").endswith("verb 4\n") and kept.stat().st_uid == owner


@pytest.mark.parametrize("number", ["HUP", "TERM", "KILL"])
def test_edit_that_is_killed_leaves_no_copy(qube, tmp_path, number):
    assert qube.supervisor.command.run("import", qube.provider.openvpn_profile("work")).returncode == 0
    env = editor(tmp_path, f'touch "$1~"; cp "$1" {tmp_path}/seen; kill -{number} $PPID; exec sleep 0.2')
    done = edit(qube, env, "work")
    assert done.returncode < 0 and (tmp_path / "seen").exists(), done.stdout + done.stderr
    wait_until(lambda: not list(tmp_path.glob("qubes-vpn-*")), 5 * SLOW, "the copy is removed", 0.02)


def test_edit_without_the_right_says_how(qube, tmp_path):
    assert qube.supervisor.command.run("import", qube.provider.openvpn_profile("work")).returncode == 0
    sudo = tmp_path / "bin"
    sudo.mkdir()
    (sudo / "sudo").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    (sudo / "sudo").chmod(0o755)
    os.chmod(qube.supervisor.bus, 0o666)
    env = editor(tmp_path, "true") | {"PATH": f"{sudo}:{os.environ['PATH']}", "SLUICE_VPN_FOLDER": "/nowhere",
                                      "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(qube.words("--edit", "work"), env=environment() | env, capture_output=True, text=True,
                          check=False, timeout=30 * SLOW, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "Nothing was changed" in done.stdout, done.stdout + done.stderr
