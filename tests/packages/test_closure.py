# SPDX-License-Identifier: GPL-2.0-or-later
"""What the packages bring along. SLUICE_DEBS names their folder (default: dist)."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
DEBS = pathlib.Path(os.environ.get("SLUICE_DEBS", TOP / "dist")).resolve()
sys.path.insert(0, str(TOP / "packaging"))
import closure  # noqa: E402  pylint: disable=wrong-import-position

pytestmark = pytest.mark.skipif(not list(DEBS.glob("qubes-vpn_*.deb")) or not shutil.which("apt-cache")
                                or not any(pathlib.Path("/var/lib/apt/lists").glob("*_Packages*")),
                                reason=f"packages in {DEBS} (make deb) and apt's lists")

# In net qubes, exposed qubes and VPN qubes.
LEAN = ["qubes-network-server", "qubes-network-server-inbound", "qubes-vpn"]


def excess(folder, names=LEAN):
    """{package: what it wants or brings beyond what design and base allow}"""
    new, wanted = closure.brings(folder), closure.describe(folder)
    found = {}
    for name in names:
        also = {"dbus"} if name == "qubes-vpn" else set()
        more = ({one for one, _ in new[name]} - closure.LIBRARIES) | (wanted[name][2] - closure.ALLOWED - also)
        if more:
            found[name] = more
    return found


def test_nothing_but_the_libraries():
    assert excess(DEBS) == {}


def test_net_qube_gets_no_new_package():
    """The base has all that the two packages of net qubes need."""
    new = closure.brings(DEBS)
    assert new["qubes-network-server"] == new["qubes-network-server-inbound"] == []


def test_one_dependency_more_is_seen(tmp_path):
    """The same packages, one of which wants another program."""
    for deb in DEBS.glob("*.deb"):
        if "dbgsym" in deb.name:
            continue
        if not deb.name.startswith("qubes-network-server_"):
            (tmp_path / deb.name).symlink_to(deb)
            continue
        subprocess.run(["dpkg-deb", "-R", deb, tmp_path / "tree"], check=True)
        control = tmp_path / "tree/DEBIAN/control"
        control.write_text(control.read_text(encoding="utf-8").replace("Depends: ", "Depends: dnsmasq-base, ", 1),
                           encoding="utf-8")
        subprocess.run(["dpkg-deb", "-Znone", "-b", tmp_path / "tree", tmp_path / deb.name], check=True,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(tmp_path / "tree")
    assert "dnsmasq-base" in excess(tmp_path)["qubes-network-server"]


def test_page_has_the_tables():
    """doc/packages.md names the packages as they are; sizes are of the day they were written."""
    page = closure.PAGE.read_text(encoding="utf-8")
    table = page[page.index(closure.BEGIN):page.index(closure.END)]
    rows = {line.split("|")[1].strip(" `"): line.split("|")[4:] for line in closure.tables(DEBS).splitlines()[2:]}
    written = {line.split("|")[1].strip(" `"): line.split("|")[4:] for line in table.splitlines() if line.startswith("| `")}
    assert {name: cells[0] for name, cells in written.items()} == {name: cells[0] for name, cells in rows.items()}
