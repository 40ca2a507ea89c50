# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's commands as they stand, by somebody who has a Debian, git and make and nothing else. Outside of the sandbox,
with the network of this machine, as packages are installed; a quarter of an hour:

    python3 -m pytest tests/system/test_readme.py
"""

import os
import re
import shutil
import subprocess
import tempfile

import pytest

from lab import sandbox
from tests.system import machines

TOP = machines.TOP
# One file of the lab's tests; the rest of them is what `make check` takes its time for.
FEW = "tests/lab/test_inbound_whole.py"


@pytest.fixture
def newcomer():
    """run(command, timeout): in a root made just now, in a clone of the last commit."""
    folder = tempfile.mkdtemp(prefix="sluice-readme-", dir="/var/tmp")
    root = f"{folder}/root"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=make,git,ca-certificates,sudo,mount", "bookworm",
                    root], check=True)

    def run(command, timeout):
        done = subprocess.run(
            ["timeout", str(timeout), "systemd-nspawn", "-q", "-D", root, "--as-pid2", "--register=no", "--keep-unit",
             "--console=pipe", "--resolv-conf=copy-host", "--capability=all", "--system-call-filter=bpf perf_event_open",
             f"--bind-ro={TOP}:/mnt", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
             f"SLUICE_SLOW={os.environ.get('SLUICE_SLOW', '3')}", "sh", "-ec",
             "mount -o remount,bind,rw /proc/sys\n" + command],  # a machine may write there, a container may not
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        print(done.stdout[-4000:])
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}"
        return done.stdout

    run("git -c safe.directory='*' clone -q file:///mnt /root/sluice", 120)
    yield run
    shutil.rmtree(folder, ignore_errors=True)


def commands():
    """What the README says under "See it work"."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    part = re.search(r"^## See it work$(.*?)^## ", text, re.MULTILINE | re.DOTALL).group(1)
    return re.findall(r"^    (sudo make \w+)$", part, re.MULTILINE)


@pytest.mark.skipif(sandbox.inside(), reason="needs the network: outside of the sandbox, see the head of the file")
def test_readme(newcomer):
    """The demonstration ends with its verdict; `make check` builds and tests, of the lab's tests a few."""
    assert commands() == ["sudo make demo", "sudo make leaks", "sudo make check"]
    slow = int(10 * machines.SLOW)
    shown = newcomer("cd /root/sluice && sudo make demo", 60 * slow)
    assert "Installing:" in shown and "LEAKED" not in shown
    newcomer(f"cd /root/sluice && sudo make check TESTS={FEW}", 60 * slow)
