# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of the documents run in one sandbox (lab/sandbox.py); the worlds in places.py are made once for all of them."""

import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT]

# pylint: disable=wrong-import-position
from lab import sandbox


def pytest_configure(config):
    shares_out = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")
    if not sandbox.inside() and not shares_out:
        pytest.exit("these tests need the sandbox: python3 -m lab.sandbox python3 -m pytest tests/documents", returncode=4)
