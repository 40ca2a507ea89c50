# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the system test: machines with our packages. See README.md."""

import os
import pathlib
import shutil
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
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=os.environ.get("SLUICE_SUITES", "bookworm").split())
def suite(request):
    if not (machines.cache() / request.param / ".complete").exists():
        pytest.skip(f"no root of {request.param}: python3 -m tests.system.machines {request.param}")
    return request.param


@pytest.fixture
def world(suite):
    with machines.World(suite) as made:
        yield made


@pytest.fixture
def install():
    """install(machine, packages..., folder=DEBS): by apt, from the built files, without a network."""
    def work(machine, *packages, folder=DEBS):
        folder = pathlib.Path(folder)
        target = machine.root / "var/tmp/debs"
        target.mkdir(parents=True, exist_ok=True)
        names = []
        for package in packages:
            found = sorted(folder.glob(f"{package}_*.deb"))
            assert len(found) == 1, f"{package} in {folder}: {found}"
            shutil.copy(found[0], target)
            names.append(f"/var/tmp/debs/{found[0].name}")
        words = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *names)
        text = machine.run(*words) if machine.pid else chroot(machine, *words)
        shutil.rmtree(target)
        return text
    return work


def chroot(machine, *words):
    import subprocess
    done = subprocess.run(["systemd-nspawn", "-q", "-D", str(machine.root), "--as-pid2", "--register=no", "--keep-unit",
                           "--private-network", "--console=pipe", "env", "DEBIAN_FRONTEND=noninteractive", *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout
