# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the desktop's tests: those of tests/lab, and a session."""

import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT]

# pylint: disable=wrong-import-position
from lab import desktop, sandbox
from lab.node import wait_until as lab_wait_until


def pytest_configure(config):
    shares_out = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")
    if not sandbox.inside() and not shares_out:
        pytest.exit("these tests need the sandbox: python3 -m lab.sandbox python3 -m pytest tests/desktop", returncode=4)


@pytest.fixture
def lab():
    """Makes labs: lab(topology); all end with the test."""
    from lab.lab import Lab
    made = []

    def make(topology, **options):
        made.append(Lab(topology, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def wait_until():
    return lab_wait_until


@pytest.fixture
def session(tmp_path):
    """A session's bus, in a qube where the service qubes-vpn is switched on."""
    desktop.service()
    with desktop.SessionBus(tmp_path) as bus:
        yield bus


@pytest.fixture
def system_bus():
    with desktop.SystemBus() as bus:
        yield bus
