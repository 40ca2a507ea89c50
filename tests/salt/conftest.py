# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of the Salt formula start programs and databases of their own: in a sandbox, as those of the lab."""

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [ROOT, HERE]

# pylint: disable=wrong-import-position
from lab import sandbox


def pytest_configure(config):
    shares_out = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")
    if not sandbox.inside() and not shares_out:
        pytest.exit("these tests need the sandbox: python3 -m lab.sandbox python3 -m pytest tests/salt", returncode=4)
