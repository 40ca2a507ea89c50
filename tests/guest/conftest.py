# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests for a kernel that has what the platform's kernels have. tests/system/test_guest.py runs each of them in a guest;
by hand they run on any machine whose kernel has it all (python3 -m lab.sandbox python3 -m pytest tests/guest)."""

import functools
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position,unused-import
from lab.node import Node
from lab.router import SLOW
from tests.lab.conftest import lab, pytest_configure  # noqa: F401


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A command that takes a moment elsewhere takes its time in a machine without a processor of its own."""
    monkeypatch.setattr(Node, "run", functools.partialmethod(Node.run, timeout=20 * SLOW))


@pytest.fixture
def kernel():
    """kernel("wireguard", ...): kinds of links, qdiscs ("netem") and "flowtable" that a test needs. A kernel without
    them skips it, but not in the guest, which is there to have them."""
    trials = {"netem": "tc qdisc add dev lo root netem && tc qdisc del dev lo root",
              "flowtable": "nft add table inet try-flow && nft 'add flowtable inet try-flow f { hook ingress priority 0; "
                           "devices = { lo }; }'; r=$?; nft delete table inet try-flow; exit $r"}

    def need(*names):
        for name in names:
            trial = trials.get(name, f"ip link add try-{name} type {name} && ip link del try-{name}")
            if subprocess.run(trial, shell=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode != 0:
                assert "SLUICE_GUEST" not in os.environ, f"the guest's kernel has no {name}"
                pytest.skip(f"this kernel has no {name}")
    return need
