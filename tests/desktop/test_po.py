# SPDX-License-Identifier: GPL-2.0-or-later
"""Translations: nothing of the sources is missing in a catalogue, nothing is left untranslated, formats fit, and what a
person sees is really in that language."""

import pathlib
import re
import shutil
import subprocess

import pytest

from lab import topologies
from lab.router import SLOW, environment, program
from lab.vpn import SEAL, SUPERVISOR, Seal, Supervisor, available
from lab.vpn_provider import Provider

ROOT = pathlib.Path(__file__).resolve().parents[2]
PO = ROOT / "po"
CONFIGURATOR = "src/desktop/configurator/qubes-vpn-configurator"
LANGUAGES = (PO / "LINGUAS").read_text(encoding="ascii").split()
MARKED = re.compile(r"\b(?:_|N_|ngettext)\(")

need_gettext = pytest.mark.skipif(not shutil.which("xgettext"), reason="gettext is not installed")


def attributes(path, *which):
    """How many messages of a catalogue are such."""
    text = subprocess.run(["msgattrib", "--no-wrap", *which, path], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^msgid (?!\"\"\n(?!\")).*$", text, re.M)


def test_every_marked_source_is_listed():
    listed = (PO / "POTFILES").read_text(encoding="ascii").split()
    marked = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "src/desktop").rglob("*.c"))
              if MARKED.search(path.read_text(encoding="utf-8"))]
    assert listed == marked, "grep -lE '\\b(_|N_|ngettext)\\(' -r src/desktop --include=*.c | sort > po/POTFILES"


@need_gettext
def test_template_is_that_of_the_sources(tmp_path):
    subprocess.run([PO / "update.sh", "--pot", tmp_path / "sluice.pot"], check=True)
    assert (tmp_path / "sluice.pot").read_text(encoding="utf-8") == (PO / "sluice.pot").read_text(encoding="utf-8"), \
        "run po/update.sh"


@need_gettext
@pytest.mark.parametrize("language", LANGUAGES)
def test_translation_is_whole(language):
    path = PO / f"{language}.po"
    done = subprocess.run(["msgfmt", "--check", "--output-file=/dev/null", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert attributes(path, "--untranslated") == [] and attributes(path, "--only-fuzzy") == []
    done = subprocess.run(["msgcmp", path, PO / "sluice.pot"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@need_gettext
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_control_characters_and_the_same_ends(language):
    """A translation keeps line ends, outer blanks and the dots that a sentence is put together by."""
    text = subprocess.run(["msgcat", "--no-wrap", PO / f"{language}.po"], capture_output=True, text=True, check=True).stdout
    for one, other in re.findall(r'^msgid "(.+)"\nmsgstr "(.+)"$', text, re.M):
        for end in ("\\n", " ", "."):
            assert one.endswith(end) == other.endswith(end), (one, other)
        assert one.startswith(" ") == other.startswith(" "), (one, other)
        assert one.count("_") == other.count("_") or "NAME" in one or "DNS" in one, (one, other)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", other), (one, other)


def test_german_is_polite():
    text = (PO / "de.po").read_text(encoding="utf-8")
    said = " ".join(re.findall(r'^(?:msgstr(?:\[\d\])? )?"(.*)"$', text, re.M))
    assert not re.search(r"\b(?:du|dein\w*|dir|dich|kannst|musst|willst)\b", said)


@pytest.mark.skipif(not (available(CONFIGURATOR) and available(SEAL) and available(SUPERVISOR)),
                    reason="the configurator or the VPN's programs are not built")
@need_gettext
def test_terminal_speaks_german(lab, tmp_path):
    net = lab(topologies.VPN)
    node, provider = net["vpn"], Provider(net)
    supervisor = Supervisor(node, Seal(node))
    place = tmp_path / "de/LC_MESSAGES"
    place.mkdir(parents=True)
    subprocess.run(["msgfmt", f"--output-file={place}/sluice.mo", PO / "de.po"], check=True)
    file = provider.openvpn_profile("arbeit", extra=["up /etc/openvpn/update-resolv-conf"])
    done = node.run([program(CONFIGURATOR), "--bus", supervisor.bus, "--terminal"], input=f"{file}\n\nn\n0\n", check=False,
                    env=environment(LANG="C.UTF-8", LC_ALL="C.UTF-8", LANGUAGE="de", SLUICE_LOCALE=str(tmp_path)),
                    timeout=60 * SLOW)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("Noch ist kein VPN eingerichtet", "Ein Profil für OpenVPN", "Ein Zertifikat und ein privater Schlüssel",
                  "(up) wird nicht benutzt: seine Aufgabe, die Nameserver, wird ohne es erledigt", "Jetzt verbinden?",
                  "Das Siegel prüfen"):
        assert words in said, said
    assert not re.search(r"\b(?:the|and|is|not|your)\b", said), said
