#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs pytest with two workers, each in a sandbox of its own, for most tests wait most of the time.

    tests/side_by_side.py [PYTEST ARGUMENT...] TEST...

Two at once take time from each other, so a few that failed are run once more, alone: what the neighbour did to them passes
then, and is named; what is wrong fails again. More than ALONE failures are no accident and are final at once. The exit
status is pytest's last one.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ALONE = 8
ROOT = pathlib.Path(__file__).resolve().parents[1]
SANDBOX = [sys.executable, "-m", "lab.sandbox", sys.executable]


def pytest(python, arguments):
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run([*python, "-m", "pytest", "-q", *arguments], cwd=ROOT, env=environment, check=False).returncode


def failed(cache):
    try:
        return sorted(json.loads((cache / "v/cache/lastfailed").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def main(arguments):
    with tempfile.TemporaryDirectory() as folder:
        cache = ["-o", f"cache_dir={folder}"]
        workers = ["--dist", "loadfile", "--tx", "2*popen//python=" + " ".join(SANDBOX)]
        status = pytest([sys.executable], [*cache, *workers, *arguments])
        names = failed(pathlib.Path(folder))
        if status != 1 or not 0 < len(names) <= ALONE:
            return status
        print(f"\nAll passed but {', '.join(names)}. These once more, alone:", flush=True)
        return pytest(SANDBOX, [*cache, "--last-failed", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
