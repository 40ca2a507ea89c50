# SPDX-License-Identifier: GPL-2.0-or-later
"""Every program, unit, D-Bus interface, qrexec service and file format has a manual page, which is installed with it, is
sound, and tells all of it: each member of the interface, each path and key of the sources."""

import fnmatch
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from shown import ROOT

PAGES = ROOT / "data/man"
# What is no matter of a user: said why.
UNTOLD = {
    "/run/qubes/qubesdb.sock": "the platform's own; an option names another",
    "/network-server/%s": "a format of the first",
}


def pages():
    return sorted(path for path in PAGES.iterdir() if path.suffix[1:].isdigit())


def read(path):
    """The text, of the page that it leads to where it is a link."""
    text = path.read_text(encoding="utf-8")
    found = re.fullmatch(r"\.so man\d/(\S+)\n", text)
    return read(PAGES / found[1]) if found else text


def words(path):
    """As a person reads it: without macros' names and escapes."""
    text = re.sub(r"^\.\\\".*$", "", read(path), flags=re.M)
    text = re.sub(r"^\.[A-Z][a-z]\b", "", text, flags=re.M).replace("\\-", "-").replace("\\&", "")
    return re.sub(r"\s+", " ", re.sub(r" (Ns|No|Ar|Pa|Sy|Op|Oo|Oc|Li|Cm) ", " ", text))


LISTS = [(path.name, line) for path in sorted((ROOT / "debian").glob("*.install"))
         for line in path.read_text(encoding="utf-8").splitlines()]


PROGRAMS = {line.rsplit("/", 1)[1]: package for package, line in LISTS if line.startswith("usr/bin/")}
UNITS = sorted(path.name.removesuffix(".in") for path in (ROOT / "data/systemd").glob("*.service.in"))
INTERFACES = sorted((ROOT / "data/dbus").glob("*.xml"))
SERVICES = sorted(path.name.removesuffix(".in") for path in (ROOT / "data/qubes-rpc").glob("*.in"))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_has_a_page(name):
    found = [path for path in pages() if path.stem == name and path.suffix in (".1", ".8")]
    assert len(found) == 1 and not found[0].read_text(encoding="utf-8").startswith(".so")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_has_a_page_and_names_it(name):
    assert name in words(PAGES / f"{name}.8"), "the page says which unit starts the program"
    unit = (ROOT / f"data/systemd/{name}.in").read_text(encoding="utf-8")
    program = re.search(r"^ExecStart=@BINDIR@/(\S+)", unit, re.M)[1]
    told = re.search(r"^Documentation=(.*)$", unit, re.M)[1].split()
    assert f"man:{program}(8)" in told
    for one in told:
        page, section = re.fullmatch(r"man:(\S+)\((\d)\)", one).groups()
        assert (PAGES / f"{page}.{section}").is_file(), one


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.stem)
def test_a_bus_interface_has_a_page_with_every_member(path):
    page = (PAGES / f"{path.stem}.5").read_text(encoding="utf-8")
    interface = ET.parse(path).getroot().find("interface")
    assert interface.get("name") == path.stem
    missing = []
    for member in interface:
        name = member.get("name")
        if member.tag in ("method", "signal"):
            said = re.search(rf"^\.It Fn {name}(?: (.*))?$", page, re.M)
            wanted = ["-> " * (index > 0 and arg.get("direction") == "out" and
                               [one.get("direction") for one in member.findall("arg")].index("out") == index)
                      + f"{arg.get('type')} {arg.get('name')}" for index, arg in enumerate(member.findall("arg"))]
            if said is None or re.findall(r'"(.*?)"', said[1] or "") != wanted:
                missing.append((name, wanted))
        elif member.tag == "property":
            said = re.search(rf"^\.It Sy (?:\w+ , )*{name}(?: , \w+)* No \((.*)\)$", page, re.M)
            if said is None or said[1] != member.get("type"):
                missing.append((name, member.get("type")))
    assert not missing
    policy = ET.parse(ROOT / f"data/polkit/{path.stem}.policy").getroot()
    assert all(f".It Sy {action.get('id')}\n" in page for action in policy.iter("action"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_qrexec_service_has_a_page(name):
    assert f"/etc/qubes-rpc/{name}" in words(PAGES / f"{name}.8")


def literals(pattern):
    """Paths and keys in the programs' sources."""
    found = set()
    for path in (ROOT / "src").rglob("*.[ch]"):
        found |= set(re.findall(rf'"({pattern}[^"]*)"', path.read_text(encoding="utf-8")))
    return sorted(found)


KEYS = literals("/(?:network-server|qubes-routing-method|vm-config)")
PATHS = literals("/(?:run|rw|var)/")


@pytest.mark.parametrize("name", KEYS + PATHS)
def test_a_key_or_path_is_on_a_page(name):
    if name in UNTOLD:
        return
    sections = (".5",) if name in KEYS else (".1", ".5", ".8")
    assert any(name in words(path) for path in pages() if path.suffix in sections)


def test_the_sources_are_really_read():
    assert len(PROGRAMS) >= 9 and len(UNITS) >= 5 and INTERFACES and SERVICES
    assert "/vm-config/expose-inbound" in KEYS and "/rw/config/qubes-vpn" in PATHS
    assert set(UNTOLD) <= set(KEYS + PATHS)


def place(path):
    return f"man{path.suffix[1:]}/{path.name}"


def test_pages_are_installed_with_what_they_tell():
    build = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "data").rglob("meson.build"))
    built = [path.name for path in pages() if f"'man/{path.name}'" not in build and f"'../man/{path.name}'" not in build]
    owners = {path.name: {package for package, line in LISTS if fnmatch.fnmatch(f"usr/share/man/{place(path)}", line)}
              for path in pages()}
    specs = [(ROOT / f"rpm_spec/{name}").read_text(encoding="utf-8") for name in ("sluice.spec.in", "sluice-dom0.spec.in")]
    listed = [one for spec in specs for one in re.findall(r"^%\{_mandir\}/(man\d/\S+)$", spec, re.M)]
    missed = [path.name for path in pages() if not any(fnmatch.fnmatch(place(path), one) for one in listed)]
    assert not built and not missed and all(len(packages) == 1 for packages in owners.values()), owners
    # A page comes with the package of its program.
    for path in pages():
        program = path.stem.removesuffix(".service")
        if program in PROGRAMS:
            assert owners[path.name] == {PROGRAMS[program]}, path.name


def test_pages_refer_to_pages_that_exist():
    ours = {(path.stem, path.suffix[1:]) for path in pages()}
    names = {name for name, _section in ours}
    wrong = [(path.name, found) for path in pages() for found in re.findall(r"^\.Xr (\S+) (\d)", read(path), re.M)
             if found not in ours and (found[0] in names or found[0].startswith(("qubes-vpn", "qubes-network", "network-server")))]
    assert not wrong


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    for path in pages():
        (folder / f"man{path.suffix[1:]}").mkdir(exist_ok=True)
        shutil.copy(path, folder / f"man{path.suffix[1:]}")
    return folder


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("name", [path.name for path in pages()])
def test_a_page_is_formatted_without_a_warning(tree, name):
    stem, _, section = name.rpartition(".")
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat"}
    done = subprocess.run(["man", "--warnings=w", "-M", str(tree), section, stem], env=environment, text=True,
                          capture_output=True, check=False)
    title = re.search(r"^\.Dt (\S+) (\d)$", read(PAGES / name), re.M)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(f"{title[1]}({title[2]})")


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_nothing(tree):
    real = [str(path) for path in sorted(tree.rglob("*.?")) if not path.read_text(encoding="utf-8").startswith(".so")]
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *real], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
