# SPDX-License-Identifier: GPL-2.0-or-later
"""The node /dev/net/tun as udev makes it (mode 0666), in the sandbox's own view of /dev.

Machines without udev, containers above all, often keep it for root alone, and then a VPN client that runs as a user of
its own cannot open it."""

import os
import stat
import tempfile

from lab import sandbox

NODE = "/dev/net/tun"


def ensure():
    """Makes the node usable for everybody; nothing is done where it is."""
    if not sandbox.inside():
        raise RuntimeError("only in a sandbox")
    if os.path.exists(NODE) and stat.S_IMODE(os.stat(NODE).st_mode) & 0o6 == 0o6:
        return
    folder = tempfile.mkdtemp(dir=sandbox.WORK)
    sandbox.mount("devices", folder, "tmpfs", 0, "mode=755")
    node = f"{folder}/tun"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod(node, 0o666)
    sandbox.mount(node, NODE, None, 4096)  # MS_BIND
