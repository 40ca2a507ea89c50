# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the lab tests. All of them run in one sandbox (lab/sandbox.py), each test in a network of its own."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import router as lab_router
from lab import sandbox, topologies
from lab.node import wait_until as lab_wait_until

ROUTER = "src/router/qubes-routing-manager"


def pytest_configure(config):
    shares_out = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")
    if not sandbox.inside() and not shares_out:  # who shares the tests out runs none; each worker has a sandbox
        pytest.exit("these tests need the sandbox: python3 -m lab.sandbox python3 -m pytest tests/lab", returncode=4)
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture
def lab():
    """Makes labs: lab() builds the basic topology, lab(topology) another; all end with the test."""
    from lab.lab import Lab
    made = []

    def make(topology=topologies.BASIC, **options):
        made.append(Lab(topology, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def basic(lab):
    """The basic topology, built."""
    return lab()


@pytest.fixture
def dom0_lab(lab):
    """dom0_lab(flavour): two chains of net qubes and their dom0 (Dom0, with .lab); dom0_lab(flavour, topology) another.
    More options are Dom0's."""
    from lab.dom0 import Dom0, flavoured

    def make(flavour="4.3", topology=topologies.TWO_CHAINS, **options):
        return Dom0(lab(flavoured(topology, flavour)), flavour, **options)

    return make


@pytest.fixture
def need_router():
    if not lab_router.available(ROUTER):
        pytest.skip(f"{lab_router.program(ROUTER)} is not built")


@pytest.fixture
def wait_until():
    """wait_until(probe, timeout=5, what="..."): polls until probe() is true and returns its value."""
    return lab_wait_until
