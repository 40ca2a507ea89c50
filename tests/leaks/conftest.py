# SPDX-License-Identifier: GPL-2.0-or-later
"""The leak tests run in the lab's sandbox, as tests/lab does."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import sandbox


def pytest_configure(config):
    shares_out = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")
    if not sandbox.inside() and not shares_out:  # who shares the tests out runs none; each worker has a sandbox
        pytest.exit("these tests need the sandbox: python3 -m lab.sandbox python3 -m pytest tests/leaks", returncode=4)
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
