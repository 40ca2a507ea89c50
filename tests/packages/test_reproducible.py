# SPDX-License-Identifier: GPL-2.0-or-later
"""Two builds give the same bytes. Minutes of compiling: only where SLUICE_REPRODUCIBLE names what to build (deb, rpm)."""

import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
KINDS = os.environ.get("SLUICE_REPRODUCIBLE", "").split()


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_same_bytes(kind):
    if kind not in KINDS:
        pytest.skip("SLUICE_REPRODUCIBLE='deb rpm' builds everything twice; make reproducible")
    done = subprocess.run([TOP / "packaging/reproducible.sh", kind], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bytes" in done.stdout


def test_compare_sees_one_byte(tmp_path):
    """The script, with builders that differ in one byte."""
    for name, text in (("reproducible.sh", (TOP / "packaging/reproducible.sh").read_text(encoding="utf-8")),
                       ("deb.sh", "#!/bin/sh\nmkdir -p \"$1\"\necho ${TZ:-here} > \"$1/a.deb\"\necho same > \"$1/b.deb\"\n"),
                       ("rpm.sh", "#!/bin/sh\nmkdir -p \"$1\"\necho same > \"$1/a.rpm\"\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "TZ"}
    differs = subprocess.run([tmp_path / "reproducible.sh"], check=False, capture_output=True, text=True, env=environment)
    assert differs.returncode == 1 and "differ" in differs.stderr
    equal = subprocess.run([tmp_path / "reproducible.sh", "rpm"], check=False, capture_output=True, text=True, env=environment)
    assert equal.returncode == 0 and "the same bytes" in equal.stdout, equal.stderr
