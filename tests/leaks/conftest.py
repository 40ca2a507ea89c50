# SPDX-License-Identifier: GPL-2.0-or-later
"""The leak tests run in the lab's sandbox, as tests/lab does."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from lab import sandbox


def pytest_configure(config):
    if not sandbox.inside():
        pytest.exit("these tests need the sandbox: python3 -m lab.sandbox python3 -m pytest tests/leaks", returncode=4)
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
