# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the system test: machines with our packages. See README.md."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import sandbox
from tests.system import machines

DEBS = pathlib.Path(os.environ.get("SLUICE_DEBS", machines.TOP / "dist")).resolve()


def pytest_collection_modifyitems(items):
    reason = machines.missing()
    if not reason and not sandbox.inside():
        reason = "these tests need the sandbox: make system-test"
    if not reason and not list(DEBS.glob("qubes-vpn_*.deb")):
        reason = f"no packages in {DEBS}: make deb"
    if reason:
        for item in items:
            if item.path.name not in ("test_guest.py", "test_readme.py"):  # they need neither machines nor packages
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=os.environ.get("SLUICE_SUITES", "bookworm").split())
def suite(request):
    if not machines.has_root(request.param):
        pytest.skip(f"no root of {request.param} as it is made today: python3 -m tests.system.machines {request.param}")
    return request.param


@pytest.fixture
def world(suite):
    with machines.World(suite) as made:
        yield made


def files(*packages, folder=DEBS):
    """The files of packages."""
    found = []
    for package in packages:
        some = sorted(pathlib.Path(folder).glob(f"{package}_*.deb"))
        assert len(some) == 1, f"{package} in {folder}: {some}"
        found.append(some[0])
    return found


@pytest.fixture
def debs():
    return files


@pytest.fixture
def install():
    """install(machine, packages...): by apt, into a running machine."""
    def work(machine, *packages, folder=DEBS):
        return machines.apt_install(machine.root, files(*packages, folder=folder), machine.run)
    return work


@pytest.fixture(scope="session")
def later(tmp_path_factory):
    """A folder with the same packages as a later version."""
    folder = tmp_path_factory.mktemp("later")
    for deb in DEBS.glob("*.deb"):
        if "dbgsym" in deb.name:
            continue
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
        control = tree / "DEBIAN/control"
        text = control.read_text(encoding="utf-8")
        version = re.search(r"^Version: (.*)$", text, re.MULTILINE).group(1)
        text = text.replace(f"Version: {version}\n", f"Version: {version}+later\n").replace(f"(= {version})",
                                                                                         f"(= {version}+later)")
        control.write_text(text, encoding="utf-8")
        subprocess.run(["dpkg-deb", "-b", "-Znone", tree, folder / deb.name.replace(version, f"{version}+later")],
                       check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
    return folder
