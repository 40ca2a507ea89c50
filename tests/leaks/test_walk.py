# SPDX-License-Identifier: GPL-2.0-or-later
"""A few random walks (tests/leaks/walk.py has as many as one likes), always the same ones."""

import pytest

from lab.vpn import COMMAND, SEAL, SUPERVISOR, available
from tests.leaks import walk

need_all = pytest.mark.skipif(not all(map(available, (SEAL, SUPERVISOR, COMMAND))), reason="the VPN half is not built")


def test_without_a_seal_the_witness_sees_the_qube():
    assert walk.control() > 100


@need_all
@pytest.mark.slow
@pytest.mark.parametrize("seed", (1, 8, 9))
def test_walk(seed):
    result = walk.run(seed)
    if not result.wrong and result.blind:
        pytest.skip("; ".join(result.blind))
    assert not result.wrong, "\n".join([*result.wrong, f'--seed {seed} --steps "{result.text()}"', result.logs])
