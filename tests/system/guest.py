#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command on Debian's own kernel in a virtual machine: for what this machine's kernel has not (WireGuard, flow
tables), and for kernels of another age.

    tests/system/guest.py [--keep DIR] [--suite bookworm|trixie] [--build DIR] COMMAND...

The machine is made from nothing by mmdebstrap, boots from its initial RAM file system (no disk, no network, no init
system: COMMAND is its first process), and sees this tree as /sluice and the build directory as /sluice/build. Its console
goes to standard output, its exit status is the command's. --keep names a folder where the made root stays for the next
run. Needs root, mmdebstrap, qemu-system-x86_64. Without KVM a boot takes about half a minute.
"""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("linux-image-cloud-amd64,busybox-static,python3,python3-pytest,python3-scapy,iproute2,iputils-ping,nftables,"
            "conntrack,tcpdump,openvpn,wireguard-tools,wireguard-go,libmnl0,libnftnl11,libsystemd0,libjansson4,"
            "libsmartcols1,{cares},openssl,mount,kmod,libcmocka0,procps,util-linux,iperf3,dbus")
CARES = {"bookworm": "libc-ares2", "trixie": "libcares2"}
MODULES = "wireguard nf_tables nft_ct nft_fib_inet nft_masq nft_nat nft_limit nft_log nft_reject_inet nft_flow_offload " \
          "nf_flow_table_inet tun veth bridge dummy sch_netem nf_conntrack_netlink"
EXIT = re.compile(r"^sluice-guest-exit (\d+)\s*$", re.MULTILINE)

INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in {modules}; do modprobe -q $module || echo "guest: no module $module"; done
[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
echo {seconds} > /proc/sys/kernel/hung_task_timeout_secs 2>/dev/null
ip link set lo up
cd /sluice
export SLUICE_BUILD=/sluice/build SLUICE_SLOW=10
{command}
echo "sluice-guest-exit $?"
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


def make_root(folder, suite):
    """An unpacked Debian in folder/suite, made once."""
    root = folder / suite
    if (root / "boot").is_dir():
        return root
    print(f"guest: making a Debian {suite} (about a minute)", flush=True)
    subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", "--aptopt=APT::Install-Recommends \"false\"",
                    "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
                    "--dpkgopt=path-exclude=/usr/share/doc/*", "--include=" + PACKAGES.format(cares=CARES[suite]),
                    suite, str(root)], check=True)
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    return root


def make_initrd(root, build, command, target):
    """The root, this tree and the command as one uncompressed archive."""
    init = root / "init"
    init.write_text(INIT.format(modules=MODULES, seconds=0, command=command), encoding="utf-8")
    init.chmod(0o755)
    with open(target, "wb") as out:
        pack = "find . -path ./boot -prune -o -path ./sluice -prune -o -print0 | cpio --quiet -0 -H newc -o"
        subprocess.run(pack, shell=True, cwd=root, stdout=out, check=True)
    with tempfile.TemporaryDirectory() as work, open(target, "ab") as out:
        os.chmod(work, 0o755)  # becomes the mode of the guest's root folder
        tree = pathlib.Path(work) / "sluice"
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")
        for name in filter(None, listed):
            if (ROOT / name).is_file() and not name.startswith("tests/fuzz/corpus"):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        for folder, _folders, files in os.walk(build):
            for name in files:
                path = pathlib.Path(folder) / name
                if os.access(path, os.X_OK) and path.stat().st_size > 4096 and not name.endswith((".so", ".a")):
                    place = tree / "build" / path.relative_to(build)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    subprocess.run(["strip", "-o", str(place), str(path)], check=False, stderr=subprocess.DEVNULL)
                    if place.exists():
                        place.chmod(0o755)
        subprocess.run("find . -print0 | cpio --quiet -0 -H newc -o", shell=True, cwd=work, stdout=out, check=True)


def boot(kernel, initrd, seconds):
    """Runs the machine; its console is shown and returned."""
    command = ["qemu-system-x86_64", "-M", "q35", "-cpu", "max,la57=off", "-smp", "1", "-m", "2560", "-nographic",
               "-no-reboot", "-net", "none", "-kernel", str(kernel), "-initrd", str(initrd), "-append",
               "console=ttyS0 quiet mitigations=off panic=-1 rdinit=/init random.trust_cpu=on"]
    text = ""
    with subprocess.Popen(["timeout", "-k", "5", str(seconds), *command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as machine:
        for line in machine.stdout:
            line = line.decode(errors="replace").replace("\r", "")
            sys.stdout.write(line)
            sys.stdout.flush()
            text += line
            if EXIT.match(line):
                machine.terminate()
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--suite", choices=sorted(CARES), default="bookworm")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--seconds", type=int, default=900, help="at most this long (default %(default)s)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-guest-", dir="/var/tmp") as work:
        folder = options.keep or pathlib.Path(work)
        folder.mkdir(parents=True, exist_ok=True)
        root = make_root(folder, options.suite)
        kernel = sorted((root / "boot").glob("vmlinuz-*"))[-1]
        initrd = pathlib.Path(work) / "initrd"
        make_initrd(root, options.build.resolve(), shlex.join(options.command), initrd)
        text = boot(kernel, initrd, options.seconds)
    found = EXIT.search(text)
    if not found:
        sys.exit("guest: the machine ended without a result")
    sys.exit(int(found[1]))


if __name__ == "__main__":
    main()
