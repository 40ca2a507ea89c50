# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command that a document shows is run, or told apart in classes.py with the reason why not; output that is shown is
what comes; links and pictures exist."""

import fnmatch
import pathlib
import re
import subprocess

import classes
import shown
import places
import pytest
from lab.node import wait_until
from lab.router import SLOW, environment, program
from shown import ROOT

need_programs = pytest.mark.skipif(not places.built(), reason="not all programs are built")
DOCUMENTS = shown.documents()
SERVER_PLACES = {"dom0", "sys-net", "sys-firewall", "web", "box", "lan"}
VPN_PLACES = {"sys-vpn", "work", "below"}
SECRET = "name\npassword\n"
# Programs that end only when somebody ends them.
ENDLESS = re.compile(r"status --watch|journalctl -f")
SERVES = re.compile(r"http\.server .*?(\d+)$")
# A status that says something about the moment, where the document shows no output: 3 is "not connected", "not as wished".
TELLS = re.compile(r"(status|explain|--explain|--check|check)\b")


@pytest.fixture(scope="module")
def worlds():
    made = {}

    def world(name):
        if name not in made:
            made[name] = {"server": places.ServerWorld, "vpn": places.VpnWorld}[name]()
        return made[name]

    yield world
    for one in made.values():
        one.close()


def place_of(command):
    if command.place:
        return command.place
    name = classes.first(command.text)
    by_document = classes.DOCUMENT_PLACES.get(command.document)
    return by_document or classes.PLACES.get(name) or classes.DOCUMENT_ELSE.get(command.document, "")


def form_of(command):
    """(check, reason) where only the form is looked at, None where it is run, or a text: unknown."""
    if command.place in classes.FORM_PLACES:
        check, _reason = classes.FORM.get(classes.first(command.text), (classes.anything, ""))
        return check, classes.FORM_PLACES[command.place]
    name = classes.first(command.text)
    if name in classes.FORM:
        return classes.FORM[name]
    if "/" in name and (ROOT / name).is_file():
        return classes.IN_TREE
    if name not in classes.RUN:
        return f"{command}: no test knows {name!r}; see tests/documents/classes.py"
    place = place_of(command)
    if place not in SERVER_PLACES | VPN_PLACES:
        return f"{command}: where does it run? Fence the block with ```sh PLACE"
    return None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_known(document):
    wrong = []
    for command in shown.commands(document):
        form = form_of(command)
        if isinstance(form, str):
            wrong.append(form)
        elif form is not None:
            problem = form[0](classes.words_of(command.text))
            if problem:
                wrong.append(f"{command}: {problem}")
    assert not wrong, "\n".join(wrong)


def squeezed(text):
    return " ".join(text.split())


def missing_output(wished, real):
    """Lines of the document that are not in the output, where a long one may be wrapped."""
    lines = [squeezed(line) for line in real.splitlines()]
    for line in wished:
        wanted = re.compile(r".*".join(map(re.escape, squeezed(line).split("…"))))
        wrapped = len(line) > 60 and wanted.search(" ".join(lines))
        if not wrapped and not any(wanted.fullmatch(one) for one in lines):
            yield line


class Reader:
    """Follows a document from its first command to its last."""

    def __init__(self, worlds, document):
        self.worlds, self.document = worlds, document
        self.used, self.servers, self.wrong, self.said = set(), [], [], ""

    def world(self, place):
        name = "server" if place in SERVER_PLACES else "vpn"
        one = self.worlds(name)
        if name not in self.used:
            self.used.add(name)
            one.reset()
        return one

    def line(self, command, world, place):
        """As it is run: folders of the VPN qube and of /rw are those of the lab."""
        text = command.text
        if place == "sys-vpn":
            text = text.replace("/rw/config/qubes-vpn", world.supervisor.profiles)
            text = text.replace("/run/qubes-vpn", world.supervisor.runtime)
        return text.replace("/rw/config", f"{world.places[place].home}/rw")

    def prepare(self, command, world):
        """What the document supposes: profiles that it names, a tunnel that is up."""
        if dict(command.options).get("profile") == "up":
            world.have("provider.ovpn")
            world.supervisor.command.run("use", "provider.ovpn")
            assert world.supervisor.command.run("up", check=False).returncode == 0
        if "qubes-vpn " in command.text:
            for name in re.findall(r"\b(first\.ovpn|second(?!\.ovpn)|work\.ovpn)\b", command.text):
                world.have({"second": "second.conf"}.get(name, name), openvpn=name.endswith("ovpn"))
            if re.search(r"set-secret|use provider", command.text):
                world.have("provider.ovpn")
            if command.text.endswith("qubes-vpn up"):
                world.choose()

    def good(self, command, done):
        if command.status is not None:
            return done.returncode == command.status
        if command.output:
            if re.match(r"[a-z-]+: |Error: ", command.output[0]):
                return done.returncode not in (0, 126, 127)
            return done.returncode in (0, 3)
        return done.returncode in ((0, 3) if TELLS.search(command.text) else (0,))

    def run(self, command):
        place = place_of(command)
        world = self.world(place)
        where = world.places[place]
        if place == "sys-vpn":
            self.prepare(command, world)
        line = self.line(command, world, place)
        if command.group and command is command.group[0] or not command.group:
            self.said = ""
        if ENDLESS.search(line):
            alive, out = where.run_for(line.removeprefix("sudo "), 0.5)
            if not alive:
                self.wrong.append(f"{command}\n{out}")
            return
        if found := SERVES.search(line):
            self.servers.append(where.node.popen(["/bin/sh", "-c", f"exec {line}"], env=where.env, cwd=where.home,
                                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                                 stderr=subprocess.DEVNULL))
            wait_until(lambda: f":{found[1]} " in where.run("ss -tln").stdout, 20 * SLOW, "the document's server", 0.1)
            return
        done = where.run(line, SECRET if "set-secret" in line else None)
        if place in ("sys-vpn",) and " import " in line:
            world.settle_import()
        self.said += done.stdout + done.stderr
        if not self.good(command, done):
            self.wrong.append(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        elif command.group:
            self.wrong += [f"{command}: does not say {one!r}, but:\n{self.said}"
                           for one in missing_output(command.output, self.said)]

    def stand_for(self, command):
        """What systemd would do, where what follows needs it."""
        found = re.search(r"systemctl (stop|start|enable --now) qubes-network-serverd$", command.text)
        if found and place_of(command) in ("dom0", ""):
            serverd = self.world("dom0").serverd
            if found[1] == "stop" and serverd.running():
                serverd.stop()
            elif found[1] != "stop" and not serverd.running():
                serverd.start()

    def close(self):
        for server in self.servers:
            server.kill()
            server.wait()


@need_programs
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_do_what_the_document_says(worlds, document):
    told = shown.commands(document)
    if not any(form_of(one) is None for one in told):
        pytest.skip("shows no command that is run")
    reader = Reader(worlds, document)
    try:
        for command in told:
            if form_of(command) is None:
                reader.run(command)
            else:
                reader.stand_for(command)
    finally:
        reader.close()
    assert not reader.wrong, "\n\n".join(reader.wrong)


@pytest.mark.parametrize("document", [*DOCUMENTS, *shown.others()])
def test_links_and_pictures_exist(document):
    wrong = []
    for line, target in shown.links(document):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / document).parent / file).resolve() if file else ROOT / document
        if not path.exists():
            wrong.append(f"{document}:{line}: there is no {target}")
        elif anchor and path.suffix == ".md" and anchor not in shown.anchors(path):
            wrong.append(f"{document}:{line}: no heading for #{anchor} in {path.name}")
    assert not wrong, "\n".join(wrong)


def test_packages_are_named_as_they_are_built():
    """Names with * in a document, and what `make deb` and `make rpm` leave in dist/."""
    version = (ROOT / "version").read_text(encoding="utf-8").strip()
    names = re.findall(r"^Package: (\S+)", (ROOT / "debian/control").read_text(encoding="utf-8"), re.M)
    built = [name for one in names for name in (f"{one}_{version}_amd64.deb", f"{one}-dbgsym_{version}_amd64.deb",
                                                f"{one}-{version}-1.x86_64.rpm")]
    seen, wrong = 0, []
    for document in DOCUMENTS:
        for command in shown.commands(document):
            for pattern in re.findall(r"[\w/~.-]*\*[\w*.-]*\.(?:deb|rpm)\b", command.text):
                seen += 1
                if "dist" not in pattern and "QubesIncoming" not in pattern:
                    continue
                found = [name for name in built if fnmatch.fnmatch(name, pattern.rsplit("/", 1)[1]) and "dbgsym" not in name]
                # dist/ holds all of them: one package, one name.
                if not found or "dist" in pattern and len(found) > 1:
                    wrong.append(f"{command}: {pattern} is {found or 'no package'}")
    assert seen > 5 and not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def helps():
    """Options and verbs of our programs, by their own --help."""
    paths = {pathlib.PurePath(path).name: path for path in places.PROGRAMS}
    return {name: subprocess.run([program(paths[name]), "--help"], env=environment(), text=True, capture_output=True,
                                 check=True, stdin=subprocess.DEVNULL).stdout for name in classes.OURS}


@need_programs
@pytest.mark.parametrize("document", DOCUMENTS)
def test_programs_know_what_the_text_names(document, helps):
    """Inline code: options and verbs of ours exist."""
    wrong = []
    for line, text in shown.spans(document):
        words = classes.words_of(text)
        if len(words) < 2 or words[0] not in helps:
            continue
        help_text = helps[words[0]]
        for word in words[1:]:
            if word.startswith("--") and not re.search(rf"{re.escape(word.split('=')[0])}\b", help_text):
                if word not in ("--help", "--version"):
                    wrong.append(f"{document}:{line}: {words[0]} has no {word}")
        if words[0] in ("qubes-vpn", "qubes-vpn-forwarding") and words[1].islower() and not words[1].startswith("-"):
            if not re.search(rf"^\s+({words[0]} )?{re.escape(words[1])}\b", help_text, re.M) and "…" not in text:
                wrong.append(f"{document}:{line}: {words[0]} has no verb {words[1]}")
    assert not wrong, "\n".join(wrong)


def test_pictures_are_readable_in_light_and_dark():
    for path in (ROOT / "doc/images").glob("path-*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "prefers-color-scheme: dark" in text and "<title" in text and "<desc" in text, path.name
        assert not re.search(r"<script|xlink:href=.http|url\(.?http", text), path.name


# -- the test itself -----------------------------------------------------------------------------------------------------

def commands_of(tmp_path, monkeypatch, text):
    (tmp_path / "x.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr(shown, "ROOT", tmp_path)
    return shown.commands("x.md")


def test_an_unknown_command_is_noticed(tmp_path, monkeypatch):
    one, two = commands_of(tmp_path, monkeypatch, "```sh dom0\nqvm-expose web\nqvm-nonsense web\n```\n")
    assert form_of(one) is None and "no test knows 'qvm-nonsense'" in form_of(two)
    unit, = commands_of(tmp_path, monkeypatch, "text\n\n    systemctl status qubes-nonsense\n")
    assert "no such unit" in form_of(unit)[0](classes.words_of(unit.text))
    assert commands_of(tmp_path, monkeypatch, "text\n\n    LAN ── sys-net\n") == []


def test_output_that_does_not_come_is_noticed(tmp_path, monkeypatch):
    one, = commands_of(tmp_path, monkeypatch, "```sh dom0 status=3\nqvm-expose web\n```\n\n```text\nis … open\n  b\n```\n")
    assert one.status == 3 and one.output == ["is … open", "  b"]
    assert list(missing_output(one.output, "it\n  is now  open\nb\n")) == []
    assert list(missing_output(one.output, "is not open\nbb\n")) == ["  b"]
    assert list(missing_output(["a …"], "b a c\n")) == ["a …"]
