# SPDX-License-Identifier: GPL-2.0-or-later
"""What a desktop reads of us: menu entries, autostart, metadata, icons."""

import configparser
import os
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
ENTRIES = sorted((DATA / "desktop").glob("*.desktop"))
METADATA = DATA / "desktop/org.qubes_os.sluice.metainfo.xml"
ICONS = DATA / "icons/hicolor"
DRAWINGS = sorted(ICONS.glob("scalable/*/*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def need(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


def entry(path):
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read(path, encoding="utf-8")
    return parser["Desktop Entry"]


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_desktop_entry_is_valid(path):
    need("desktop-file-validate")
    done = subprocess.run(["desktop-file-validate", path], capture_output=True, text=True, check=False)
    # Qubes' session and systemd take a path from the root here, GNOME would read it below ~/.config.
    told = [line for line in done.stdout.splitlines() if '"if-exists /run/qubes-service/qubes-vpn"' not in line]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_desktop_entry_has_its_icon_and_is_translated(path):
    one = entry(path)
    assert (ICONS / f"scalable/apps/{one['Icon']}.svg").exists()
    assert one["Exec"].split()[0] == path.stem
    assert one.get("Name[de]") or one["Name"] == "Qubes VPN"
    assert one.get("Comment[de]")


@pytest.mark.parametrize("name", ["qubes-vpn-tray", "qubes-vpn-notifier"])
def test_starts_with_the_session_of_vpn_qubes_alone(name):
    one = entry(DATA / f"desktop/{name}.desktop")
    assert one["OnlyShowIn"] == "X-QUBES;"
    assert one["AutostartCondition"] == "if-exists /run/qubes-service/qubes-vpn"
    assert one["NoDisplay"] == "true"


def test_metadata_is_valid():
    need("appstreamcli")
    done = subprocess.run(["appstreamcli", "validate", "--no-net", METADATA], capture_output=True, text=True,
                          check=False, env=os.environ | {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/tmp"})
    assert done.returncode == 0, done.stdout


def test_metadata_names_what_is_there():
    root = ElementTree.parse(METADATA).getroot()
    assert (DATA / "desktop" / root.findtext("launchable")).exists()
    assert (ICONS / f"scalable/apps/{root.findtext('icon')}.svg").exists()
    told = len(root.findall("description//*[@{http://www.w3.org/XML/1998/namespace}lang='de']"))
    assert told * 2 == len(root.findall("description//p") + root.findall("description//li"))


def test_every_state_has_an_icon():
    words = (DATA.parent / "src/desktop/words/words.c").read_text(encoding="utf-8")
    named = set(re.findall(r'"(qubes-vpn-[a-z]+)"', words))
    assert len(named) == 4
    assert named == {path.stem for path in ICONS.glob("scalable/status/*.svg")}


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_drawing_is_plain(path):
    """No scripts, no references to elsewhere, nothing of an editor; small."""
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "path", "rect", "circle", "g", "defs", "clipPath"}
    assert "href" not in text and len(text) < 4096
    assert root.get("width") == root.get("height")


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_picture_is_that_of_the_drawing(path, tmp_path):
    """The 48 px pictures are made by data/icons/make-png.sh and kept; another rsvg may shade an edge otherwise."""
    need("rsvg-convert")
    gi = pytest.importorskip("gi")
    gi.require_version("GdkPixbuf", "2.0")
    from gi.repository import GdkPixbuf  # pylint: disable=import-outside-toplevel
    made = tmp_path / "made.png"
    subprocess.run(["rsvg-convert", "--width", "48", "--height", "48", path, "--output", made], check=True)
    kept = ICONS / "48x48" / path.parent.name / f"{path.stem}.png"
    one, other = (GdkPixbuf.Pixbuf.new_from_file(str(file)) for file in (made, kept))
    assert (other.get_width(), other.get_height()) == (48, 48)
    far = sum(abs(a - b) > 48 for a, b in zip(one.get_pixels(), other.get_pixels()))
    assert far < 200, f"{far} values differ: run data/icons/make-png.sh"
