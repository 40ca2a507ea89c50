#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs commands on Debian's own kernel in a virtual machine: for what this machine's kernel may not have (WireGuard, flow
tables, netem), for what it must not lose (modules), and for kernels of another age.

    tests/system/guest.py [--keep DIR] [--suite bookworm|trixie] [--build DIR] COMMAND...
    tests/system/guest.py --keep DIR --make            only what takes its time: the root and the state

    with guest.Guest(guest.make_base(folder), build) as machine:
        status, text = machine.run("uname -r")

The machine is made from nothing by mmdebstrap and boots from its initial RAM file system: no disk, no network, no init
system, only the agent (tests/guest/agent.py). After its first boot it is written into a file; whoever comes next goes on
from there, two seconds later. This tree is /sluice in it, the build directory /sluice/build. The folder (--keep) is where
root and state stay for the next run. Needs root for the root, mmdebstrap, cpio, qemu-system-x86_64. Without KVM the first
boot takes about half a minute.
"""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
AGENT = TOP / "tests/guest/agent.py"
QEMU = "qemu-system-x86_64"
PACKAGES = ("linux-image-cloud-amd64,busybox-static,python3,python3-pytest,python3-scapy,iproute2,iputils-ping,nftables,"
            "conntrack,tcpdump,openvpn,wireguard-tools,wireguard-go,libmnl0,libnftnl11,libsystemd0,libjansson4,"
            "libsmartcols1,{cares},openssl,mount,kmod,libcmocka0,procps,util-linux,iperf3,dbus")
CARES = {"bookworm": "libc-ares2", "trixie": "libcares2"}
MEMORY = "2048"
PAYLOAD = 256 << 20  # the machine knows the size of its disk: always the same
PATIENCE = 3 * float(os.environ.get("SLUICE_SLOW", "1"))

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
modprobe -a virtio_pci virtio_console
echo 0 > /proc/sys/kernel/hung_task_timeout_secs 2>/dev/null
ip link set lo up
python3 /agent.py
echo o > /proc/sysrq-trigger
sleep 60
"""
# The disk's driver comes now, so that the kernel has not seen an earlier one's content.
UNPACK = ("modprobe -a virtio_blk && mkdir -p /sluice && dd if=/dev/vda iflag=direct bs=1M 2>/dev/null | "
          "tar -x -C /sluice 2>/dev/null; test -f /sluice/Makefile")


class GuestError(RuntimeError):
    """The machine itself failed, not what ran in it."""


def missing():
    """Why there can be no guest here, or None."""
    for tool in ("mmdebstrap", "cpio", "git", "strip", QEMU):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    return "not root" if os.getuid() != 0 else None


def cache():
    """Where root and state are kept."""
    return pathlib.Path(os.environ.get("SLUICE_CACHE", pathlib.Path(tempfile.gettempdir(), "sluice-system"))) / "guest"


# -- the base: kernel, initial RAM file system, state ------------------------------------------------------------------

def make_root(folder, suite):
    """An unpacked Debian in folder/suite, made once; needs the network."""
    root = folder / suite
    if (root / "boot").is_dir():
        return root
    print(f"guest: making a Debian {suite} (about a minute)", flush=True)
    new = folder / f"{suite}.new"
    shutil.rmtree(new, ignore_errors=True)
    subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", "--aptopt=APT::Install-Recommends \"false\"",
                    "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
                    "--dpkgopt=path-exclude=/usr/share/doc/*", "--include=" + PACKAGES.format(cares=CARES[suite]),
                    suite, str(new)], check=True)
    shutil.rmtree(new / "var/lib/apt/lists", ignore_errors=True)
    shutil.rmtree(new / "var/cache/apt", ignore_errors=True)
    new.rename(root)
    return root


def make_initrd(root, target):
    """The root with our init and agent as one uncompressed archive."""
    (root / "init").write_text(INIT, encoding="utf-8")
    (root / "init").chmod(0o755)
    shutil.copy(AGENT, root / "agent.py")
    with open(target, "wb") as out:
        subprocess.run("find . -path ./boot -prune -o -print0 | cpio --quiet -0 -H newc -o", shell=True, cwd=root,
                       stdout=out, check=True)


class Base:
    """What guests start from: kernel, initrd, and the state of a machine that has booted."""

    def __init__(self, folder, suite):
        root = make_root(folder, suite)
        self.kernel = sorted((root / "boot").glob("vmlinuz-*"))[-1]
        version = subprocess.run([QEMU, "--version"], check=True, stdout=subprocess.PIPE).stdout
        known = hashlib.sha256(b"\0".join([version, INIT.encode(), AGENT.read_bytes(), repr(machine_words()).encode(),
                                          self.kernel.name.encode()])).hexdigest()[:12]
        self.initrd, self.state = (folder / f"{suite}-{known}.{kind}" for kind in ("initrd", "state"))
        if self.state.exists():
            return
        for old in [*folder.glob(f"{suite}-*.initrd"), *folder.glob(f"{suite}-*.state")]:
            old.unlink()
        make_initrd(root, self.initrd)
        print("guest: booting it once", flush=True)
        with Guest(self) as machine:
            machine.save(self.state)


def make_base(folder=None, suite="bookworm"):
    """A Base, made when there is none yet; one process at a time."""
    folder = folder or cache()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{suite}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Base(folder, suite)


# -- what is brought along ---------------------------------------------------------------------------------------------

def make_payload(build, target):
    """This tree and the programs of the build directory as a disk that holds a tar archive."""
    with tempfile.TemporaryDirectory(prefix="sluice-guest-") as work:
        listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard"], cwd=TOP, stdout=subprocess.PIPE, check=True).stdout.decode()
        names = [name for name in listed.split("\0") if name and (TOP / name).is_file() and
                 not name.startswith("tests/fuzz/corpus")]
        programs = []
        for folder, _folders, files in os.walk(build):
            for path in (pathlib.Path(folder, name) for name in files):
                if os.access(path, os.X_OK) and path.stat().st_size > 4096 and path.suffix not in (".so", ".a"):
                    place = pathlib.Path(work, "build", path.relative_to(build))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    subprocess.run(["strip", "-o", str(place), str(path)], check=False, stderr=subprocess.DEVNULL)
                    if place.exists():
                        place.chmod(0o755)
                        programs.append(str(place.relative_to(work)))
        for folder, chosen in ((TOP, names), (work, programs)):
            subprocess.run(["tar", "-r", "-f", str(target), "-C", str(folder), "--owner=0", "--group=0", "--null", "-T",
                            "-"], input="\0".join(chosen).encode(), check=True)
    if target.stat().st_size > PAYLOAD:
        raise GuestError(f"the tree and {build} do not fit")
    os.truncate(target, PAYLOAD)


# -- the machine -------------------------------------------------------------------------------------------------------

def machine_words():
    """The machine; a state fits only the one it was written by. Its time is that of its instructions, a nanosecond each,
    and jumps ahead when it waits: no load of this machine makes anything in there late, and nobody waits for sleepers."""
    return [QEMU, "-M", "q35", "-cpu", "max,la57=off", "-smp", "1", "-m", MEMORY, "-nodefaults", "-display", "none",
            "-icount", "shift=0,sleep=off", "-rtc", "clock=vm",
            "-no-reboot", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=sluice",
            "-device", "virtio-blk-pci,drive=payload", "-append",
            "console=ttyS0 quiet mitigations=off panic=-1 rdinit=/init random.trust_cpu=on"]


class Guest:
    """A running machine; build None: without our tree. It ends with close(). console: the file with what its kernel and
    its commands wrote."""

    def __init__(self, base, build=None, folder=None):
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="sluice-guest-")
        self.folder = pathlib.Path(folder or self._temporary.name)
        self.console = self.folder / "console"
        self._sockets, self._data = {}, b""
        payload = self.folder / "payload"
        if build is None:
            payload.touch()
            os.truncate(payload, PAYLOAD)
        else:
            make_payload(pathlib.Path(build).resolve(), payload)
        words = [*machine_words(), "-kernel", str(base.kernel), "-initrd", str(base.initrd), "-serial",
                 f"file:{self.console}", "-drive", f"file={payload},format=raw,if=none,id=payload,readonly=on"]
        for name, option in (("agent", "-chardev"), ("qmp", "-chardev")):
            words += [option, f"socket,id={name},path={self.folder}/{name},server=on,wait=off"]
        words += ["-mon", "chardev=qmp,mode=control"]
        if base.state.exists():
            words += ["-incoming", f"exec:cat {shlex.quote(str(base.state))}"]
        self._log = open(self.folder / "qemu.log", "w", encoding="utf-8")  # pylint: disable=consider-using-with
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        try:
            self._begin(base.state.exists(), build is not None)
        except BaseException:
            self.close()
            raise

    def _begin(self, again, unpack):
        for name in ("qmp", "agent"):
            self._sockets[name] = self._connect(self.folder / name)
        self._qmp("qmp_capabilities")
        if again:
            self._wait_qmp("query-status", "status", ("paused", "running"), ("inmigrate",))
            self._qmp("cont")
        self.must("true", 300)
        if unpack:
            self.must(UNPACK, 120)

    def _died(self):
        if self._process.poll() is None:
            return ""
        self._log.flush()
        return f"the machine ended with {self._process.returncode}: {(self.folder / 'qemu.log').read_text()}"

    def _connect(self, path):
        end = time.monotonic() + 20 * PATIENCE
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
                return sock
            except OSError as error:
                sock.close()
                if self._died() or time.monotonic() > end:
                    raise GuestError(self._died() or f"{path.name}: {error}") from error
                time.sleep(0.02)

    # -- QEMU's own words ----------------------------------------------------------------------------------------------

    def _qmp(self, command, **arguments):
        sock = self._sockets["qmp"]
        sock.settimeout(60 * PATIENCE)
        sock.sendall(json.dumps({"execute": command} | ({"arguments": arguments} if arguments else {})).encode() + b"\n")
        while True:
            while b"\n" not in self._data:
                part = sock.recv(65536)
                if not part:
                    raise GuestError(self._died() or "the monitor closed")
                self._data += part
            line, self._data = self._data.split(b"\n", 1)
            answer = json.loads(line)
            if "error" in answer:
                raise GuestError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _wait_qmp(self, command, field, good, meanwhile):
        end = time.monotonic() + 120 * PATIENCE
        while (found := self._qmp(command).get(field)) not in good:
            if found not in (None, *meanwhile) or time.monotonic() > end:
                raise GuestError(f"{command}: {found}")
            time.sleep(0.05)

    def save(self, target):
        """Writes the state into a file; the machine stands still then."""
        self.must("sync; echo 3 > /proc/sys/vm/drop_caches")
        self._sockets.pop("agent").close()
        self._qmp("stop")
        self._qmp("migrate-set-parameters", **{"max-bandwidth": 16 << 30})
        self._qmp("migrate", uri=f"exec:cat > {shlex.quote(str(target) + '.new')}")
        self._wait_qmp("query-migrate", "status", ("completed",), ("setup", "active", "device"))
        os.rename(f"{target}.new", target)

    # -- commands --------------------------------------------------------------------------------------------------

    def run(self, command, seconds=300, show=None):
        """A command (text for the shell, with the tree as its folder where there is one); returns its status and what it
        wrote. show: called with each piece of that."""
        sock, data, text = self._sockets["agent"], b"", ""
        asked = {"now": time.time(), "seconds": seconds,
                 "command": "cd /sluice 2>/dev/null; export SLUICE_BUILD=/sluice/build SLUICE_SLOW=3 SLUICE_GUEST=1 "
                            f"PYTHONDONTWRITEBYTECODE=1\n{command}"}
        sock.sendall(json.dumps(asked).encode() + b"\n")
        sock.settimeout(seconds + 20 * PATIENCE)
        while True:
            try:
                part = sock.recv(65536)
            except TimeoutError as error:
                raise GuestError(f"no answer; {self.last()}") from error
            if not part:
                raise GuestError(f"{self._died() or 'the agent ended'}; {self.last()}")
            data += part
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                answer = json.loads(line)
                if "status" in answer:
                    return answer["status"], text
                text += answer["text"]
                if show:
                    show(answer["text"])

    def must(self, command, seconds=300):
        status, text = self.run(command, seconds)
        if status != 0:
            raise GuestError(f"{command}: status {status}\n{text}")
        return text

    def last(self, size=4000):
        """The end of the console."""
        text = self.console.read_text(encoding="utf-8", errors="replace") if self.console.exists() else ""
        return f"console:\n{text[-size:]}"

    def close(self):
        for sock in self._sockets.values():
            sock.close()
        self._process.kill()  # it keeps nothing
        self._process.wait()
        self._log.close()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--keep", type=pathlib.Path, help="the folder of root and state (default: a temporary one)")
    parser.add_argument("--suite", choices=sorted(CARES), default="bookworm")
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--seconds", type=int, default=900, help="at most this long (default %(default)s)")
    parser.add_argument("--make", action="store_true", help="only make root and state")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    with tempfile.TemporaryDirectory(prefix="sluice-guest-", dir="/var/tmp") as work:
        base = make_base(options.keep or (cache() if options.make else pathlib.Path(work)), options.suite)
        if options.make:
            return
        try:
            with Guest(base, options.build) as machine:
                status, _ = machine.run(shlex.join(command), options.seconds,
                                        show=lambda text: print(text, end="", flush=True))
        except GuestError as error:
            sys.exit(f"guest: {error}")
    sys.exit(status)


if __name__ == "__main__":
    main()
