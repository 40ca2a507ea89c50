# SPDX-License-Identifier: GPL-2.0-or-later
"""Booted machines: a Debian made by mmdebstrap, started by systemd-nspawn with its own systemd, network and cgroup.

    with World() as world:                                  # inside lab.sandbox
        machine = world.machine("vpn", services=["qubes-vpn"], uplink="eth0")
        machine.boot()
        machine.run("systemctl", "is-active", "qubes-vpn.service")

Everything lives in the sandbox's namespaces and in its tmpfs: nothing is left, also after kill -9. The root is made once
and kept in SLUICE_CACHE (default: sluice-system below the system's temporary folder); a machine writes into an overlay.
A machine keeps what it wrote over stop() and boot(); /run is new at each boot, as on any machine.

What Qubes itself does is stood in for by the units of STAND_INS: the order among them is the platform's, their work is the
least that our programs can meet (tables, addresses, forwarding, a QubesDB).
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from lab import platform, sandbox
from lab.node import wait_until
from lab.qubesdb import QubesDB

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SLUICE_BUILD", TOP / "build")).resolve()
CGROUPS = [pathlib.Path("/sys/fs/cgroup", name) for name in ("systemd", "unified")]
SLOW = float(os.environ.get("SLUICE_SLOW", "3"))

# What any minimal template has, and what lets a machine be looked at. The libraries that our packages need are only
# downloaded: apt takes them from its cache, as the machines have no network.
PACKAGES = ("systemd,systemd-sysv,dbus,nftables,iproute2,iputils-ping,conntrack,openvpn,procps,mount,libpam-systemd,"
            "python3-minimal")
_MORE = (" libjansson4 libmnl0 libnftnl11 libsmartcols1 rpm wireguard-go faketime xvfb dunst dbus-user-session "
         "desktop-file-utils")
LIBRARIES = {
    "bookworm": "libgtk-3-0 libc-ares2 policykit-1" + _MORE,
    "trixie": "libgtk-3-0t64 libcares2 polkitd" + _MORE,
}

_UNIT = "[Unit]\nDescription={name} (stand-in)\n{unit}\n[Service]\n{service}\n[Install]\n{install}\n"
_ONESHOT = "Type=oneshot\nRemainAfterExit=yes\nExecStart="
STAND_INS = {
    "qubes-db": {
        "unit": "DefaultDependencies=no\nAfter=systemd-modules-load.service local-fs.target\nBefore=sysinit.target",
        "service": "Type=notify\nExecStartPre=/bin/mkdir -p /run/qubes\n"
                   "ExecStart=/usr/lib/qubes/qubesdb-server /run/qubes/qubesdb.sock",
        "install": "WantedBy=sysinit.target"},
    "qubes-sysinit": {
        "unit": "DefaultDependencies=no\nBefore=sysinit.target\nRequires=qubes-db.service\nAfter=qubes-db.service",
        "service": _ONESHOT + "/bin/sh -c 'mkdir -p /run/qubes-service /rw/config; "
                              "for name in $(cat /etc/qubes-stand-in/services); do : > /run/qubes-service/$name; done'",
        "install": "WantedBy=sysinit.target"},
    "qubes-antispoof": {
        "unit": "Before=network-pre.target\nWants=network-pre.target",
        "service": _ONESHOT + "/usr/sbin/nft -f /etc/qubes-stand-in/antispoof.nft",
        "install": "RequiredBy=network-pre.target"},
    "qubes-iptables": {
        "unit": "Requires=qubes-antispoof.service\nAfter=qubes-antispoof.service\nBefore=network-pre.target",
        "service": _ONESHOT + "/usr/sbin/nft -f /etc/qubes-stand-in/main.nft",
        "install": "RequiredBy=network-pre.target"},
    "qubes-network-uplink": {
        "unit": "Requires=network-pre.target\nAfter=network-pre.target\nBefore=network.target\nWants=network.target",
        "service": _ONESHOT + "/bin/sh /etc/qubes-stand-in/uplink",
        "install": "WantedBy=multi-user.target"},
    "qubes-firewall": {
        "unit": "ConditionPathExists=/run/qubes-service/qubes-firewall\nAfter=qubes-iptables.service\n"
                "Before=qubes-network.service",
        "service": _ONESHOT + "/usr/sbin/nft -f /etc/qubes-stand-in/firewall.nft\n"
                   "ExecStop=/usr/sbin/nft 'delete table ip qubes-firewall; delete table ip6 qubes-firewall'",
        "install": "WantedBy=multi-user.target"},
    "qubes-network": {
        "unit": "ConditionPathExists=/run/qubes-service/qubes-network\nBefore=network.target\n"
                "After=network-pre.target qubes-iptables.service",
        "service": _ONESHOT + "/bin/sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'\n"
                   "ExecStop=/bin/sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'",
        "install": "WantedBy=multi-user.target"},
}
# Boot is not about these.
MASKED = ["systemd-timesyncd.service", "systemd-modules-load.service", "apt-daily.timer", "apt-daily-upgrade.timer",
          "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "motd-news.timer", "systemd-networkd.service", "systemd-resolved.service",
          "openvpn.service"]


def missing():
    """Why machines cannot be made here, or None."""
    for tool in ("mmdebstrap", "systemd-nspawn", "nsenter", "tar"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    if os.getuid() != 0:
        return "not root"
    return None


def cache():
    folder = pathlib.Path(os.environ.get("SLUICE_CACHE", pathlib.Path(tempfile.gettempdir(), "sluice-system")))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_root(suite="bookworm", packages=PACKAGES, name=None):
    """An unpacked Debian in the cache, made once; needs the network, so outside of the sandbox."""
    root = cache() / (name or suite)
    with open(cache() / f"{root.name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = _recipe(suite, packages)
        if (root / ".complete").exists() and (root / ".complete").read_text(encoding="ascii") == recipe:
            return root
        shutil.rmtree(root, ignore_errors=True)
        download = "DEBIAN_FRONTEND=noninteractive apt-get -d -y --no-install-recommends install " + LIBRARIES[suite]
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--skip=cleanup/apt", f"--include={packages}",
                        f"--customize-hook=chroot \"$1\" sh -c '{download}' > /dev/null", suite, str(root)], check=True)
        (root / "etc/machine-id").write_text("", encoding="ascii")
        (root / ".complete").write_text(recipe, encoding="ascii")
    return root


def _recipe(suite, packages=PACKAGES):
    return f"{packages}\n{LIBRARIES[suite]}\n"


def has_root(suite):
    """A root of that suite is there, made as it is made today."""
    with contextlib.suppress(FileNotFoundError):
        return (cache() / suite / ".complete").read_text(encoding="ascii") == _recipe(suite)
    return False


def _children(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, task.read_text(encoding="ascii").split())


def _init_below(pid):
    """The process below pid that is process 1 of its own namespace, or None."""
    for child in _children(pid):
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{child}/status").read_text(encoding="utf-8")
            numbers = next(line for line in text.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(numbers) > 1 and numbers[-1] == "1":
                return child
            found = _init_below(child)
            if found:
                return found
    return None


def overlay(lower, folder):
    """A writable view of the folders `lower` (uppermost first) at folder/root, changes in folder/upper."""
    for part in ("upper", "work", "root"):
        (folder / part).mkdir(parents=True)
    subprocess.run(["mount", "-t", "overlay", folder.name, "-o", f"lowerdir={':'.join(map(str, lower))},"
                    f"upperdir={folder}/upper,workdir={folder}/work", str(folder / "root")], check=True)


def chroot(root, *words):
    """Output of a command in a root that is not booted, without network."""
    done = subprocess.run(["systemd-nspawn", "-q", "-D", str(root), "--as-pid2", "--register=no", "--keep-unit",
                           "--private-network", "--console=pipe", "env", "DEBIAN_FRONTEND=noninteractive", *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: {done.returncode}\n{done.stdout}")
    return done.stdout


def apt_install(root, files, run):
    """Installs package files, and Debian's packages by name, by apt: run(*words) is how a command is run there."""
    target = root / "var/tmp/debs"
    target.mkdir(parents=True, exist_ok=True)
    words = []
    for file in map(str, files):
        if "/" in file:
            shutil.copy(file, target)
        words.append(f"/var/tmp/debs/{pathlib.Path(file).name}" if "/" in file else file)
    text = run("apt-get", "install", "-y", "-q", "--no-install-recommends", *words)
    shutil.rmtree(target)
    return text


_layers = {}


def layer(suite, files):
    """What an installation of package files adds to a root, made once: for machines that have them from the start."""
    key = (suite, *map(str, files))
    if key not in _layers:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-layer-", dir=sandbox.WORK))
        subprocess.run(["mount", "-t", "tmpfs", "layer", str(folder)], check=True)
        folder = folder / "layer"
        overlay([cache() / suite], folder)
        apt_install(folder / "root", files, lambda *words: chroot(folder / "root", *words))
        (folder / "root/etc/machine-id").write_text("", encoding="ascii")
        subprocess.run(["umount", str(folder / "root")], check=True)
        _layers[key] = folder / "upper"
    return _layers[key]


def _own_sysfs():
    """The sandbox's own interfaces in /sys, read-only: else systemd-nspawn waits for udev, which does not run here."""
    if os.path.ismount("/run/sluice-cgroup"):
        return
    os.mkdir("/run/sluice-cgroup")
    for words in (["--rbind", "/sys/fs/cgroup", "/run/sluice-cgroup"], ["-t", "sysfs", "-o", "ro", "sysfs", "/sys"],
                  ["--rbind", "/run/sluice-cgroup", "/sys/fs/cgroup"]):
        subprocess.run(["mount", *words], check=True)


class World:
    """Machines and hosts of one test; leaving ends them all."""

    def __init__(self, suite="bookworm"):
        _own_sysfs()
        self.suite, self.machines, self._spaces = suite, [], []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-world-", dir=sandbox.WORK))
        subprocess.run(["mount", "-t", "tmpfs", "world", str(self.folder)], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.cut()
        for name in self._spaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        for machine in self.machines:
            machine.unmount()
        subprocess.run(["umount", "-l", str(self.folder)], check=False)

    def machine(self, name, **options):
        machine = Machine(self, name, **options)
        self.machines.append(machine)
        return machine

    def qube(self, machine, name, domid, address, gateway="10.137.0.6"):
        """A running qube behind machine: a namespace, a vif, and what the platform's hotplug script does for it."""
        if name not in self._spaces:
            subprocess.run(["ip", "netns", "add", name], check=True)
            self._spaces.append(name)
        vif = f"vif{domid}.0"
        ip("link", "add", vif, "netns", str(machine.pid), "type", "veth", "peer", "name", "eth0", "netns", name)
        batch = (f"addr add {address}/32 dev eth0\nlink set lo up\nlink set eth0 up\nroute add {gateway} dev eth0\n"
                 f"route add default via {gateway} dev eth0\n")
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=batch, text=True, check=True)
        machine.run("sh", "-ec", f"""
            echo 1 > /proc/sys/net/ipv4/conf/{vif}/proxy_arp
            nft 'add element ip qubes allowed {{ "{vif}" . {address} }}; add element ip qubes downstream {{ {address} }}'
            ip link set {vif} group 2
            ip link set {vif} up
            ip route add {address} dev {vif} metric {32752 - domid}
            ip addr add {gateway}/32 dev {vif}
            nft list chain ip qubes-firewall qubes-forward > /dev/null 2>&1 || exit 0
            nft add rule ip qubes-firewall qubes-forward ip saddr {address} accept""")
        return name


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Machine:
    """One machine. uplink: the name of its interface to the other end, interface `far` of the sandbox; files: packages
    that it has from the start."""

    def __init__(self, world, name, services=(), uplink="eth0", address="10.137.0.6/32", gateway="10.137.0.1", group=1,
                 stand_ins=True, files=()):
        self.world, self.name, self.uplink, self.gateway = world, name, uplink, gateway
        self.far = f"{name}-far"
        self.pid = self._nspawn = None
        self.folder = world.folder / name
        self.root = self.folder / "root"
        lower = [cache() / world.suite]
        overlay(([layer(world.suite, files)] if files else []) + lower, self.folder)
        self.cgroup = f"sluice-system-{os.path.basename(world.folder)}-{name}"
        self._prepare(list(services), address, group, stand_ins)

    def _prepare(self, services, address, group, stand_ins):
        self.write("/etc/hostname", self.name + "\n")
        for unit in MASKED:
            with contextlib.suppress(FileExistsError):
                (self.root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        self.write("/etc/qubes-stand-in/services", "\n".join(services) + "\n")
        if not stand_ins:
            return
        self.write("/etc/qubes-stand-in/antispoof.nft", platform.antispoof_text())
        self.write("/etc/qubes-stand-in/main.nft", platform.main_text().replace("ipv6-icmp", "icmpv6"))  # no /etc/protocols
        self.write("/etc/qubes-stand-in/firewall.nft", platform.firewall_text("4.3", []))
        plain = address.split("/", maxsplit=1)[0]
        onlink = "onlink" if address.endswith("/32") else ""
        self.write("/etc/qubes-stand-in/uplink", f"""set -e
[ -e /sys/class/net/{self.uplink} ] || exit 0
ip link set {self.uplink} group {group}
ip link set {self.uplink} up
ip addr replace {address} dev {self.uplink}
ip route replace {self.gateway} dev {self.uplink} scope link
ip route replace default via {self.gateway} dev {self.uplink} {onlink}
# A program of the qube that talks without end, from the first moment on.
[ ! -e /etc/qubes-stand-in/chatter ] || setsid ping -n -q -i 0.05 {self.gateway} -I {plain} > /dev/null 2>&1 &
""")
        shutil.copy(BUILD / "src/qubesdb/qubesdb-server", self._host("/usr/lib/qubes/qubesdb-server"))
        for name, parts in STAND_INS.items():
            self.write(f"/etc/systemd/system/{name}.service", _UNIT.format(name=name, **parts))
            how, target = parts["install"].split("=")
            folder = {"WantedBy": "wants", "RequiredBy": "requires"}[how]
            link = self._host(f"/etc/systemd/system/{target}.{folder}/{name}.service")
            link.symlink_to(f"/etc/systemd/system/{name}.service")

    def _host(self, path):
        """Where path of the machine is for us; its folder is made."""
        there = self.root / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        return there

    def write(self, path, text):
        self._host(path).write_text(text, encoding="utf-8")

    def wire(self):
        """The cable to the other end, before power-on: the machine finds its interface there, down."""
        ip("link", "add", self.far, "type", "veth", "peer", "name", self.uplink)
        ip("link", "set", self.far, "up")

    def boot(self, wait=True):
        if self.uplink and not os.path.exists(f"/sys/class/net/{self.far}"):
            self.wire()
        for base in CGROUPS:
            (base / self.cgroup).mkdir(exist_ok=True)
        join = "".join(f"echo $$ > {base}/{self.cgroup}/cgroup.procs; " for base in CGROUPS)
        interface = [f"--network-interface={self.uplink}"] if self.uplink else []
        self.console = open(self.folder / "console", "ab")  # pylint: disable=consider-using-with
        self._nspawn = subprocess.Popen(  # pylint: disable=consider-using-with
            ["sh", "-c", join + 'exec "$@"', "sh", "systemd-nspawn", "-q", "-D", str(self.root), "-M", self.name, "--boot",
             "--register=no", "--keep-unit", "--console=pipe", "--private-network", "--capability=all",
             "--system-call-filter=bpf perf_event_open", *interface],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        self.pid = wait_until(self._look_for_init, 20 * SLOW, f"{self.name}: process 1")
        if wait:
            self.wait_running()

    def _look_for_init(self):
        if self._nspawn.poll() is not None:
            raise AssertionError((self.folder / "console").read_text(errors="replace"))
        return _init_below(self._nspawn.pid)

    def wait_running(self, timeout=30):
        """Boot is over; returns `running` or `degraded`."""
        def over():
            state = self.run("systemctl", "is-system-running", check=False).strip()
            return state if state in ("running", "degraded") else None
        return wait_until(over, timeout * SLOW, f"{self.name} booted", 0.1)

    def command(self, *words):
        return ["nsenter", "-a", "-t", str(self.pid), "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", *words]

    def run(self, *words, check=True, timeout=60, **options):
        """Output (and error output) of a command inside."""
        done = subprocess.run(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout * SLOW, check=False, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {' '.join(words)}: {done.returncode}\n{done.stdout}")
        return done.stdout

    def status(self, *words):
        """Exit status of a command inside."""
        return subprocess.run(self.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              stdin=subprocess.DEVNULL, timeout=60 * SLOW, check=False).returncode

    def show(self, unit, name):
        return self.run("systemctl", "show", "-P", name, unit).strip()

    def active(self, unit):
        return self.show(unit, "ActiveState")

    def wait_active(self, unit, timeout=20):
        wait_until(lambda: self.active(unit) == "active", timeout * SLOW, f"{self.name}: {unit}", 0.05)

    def qubesdb(self):
        return QubesDB(f"/proc/{self.pid}/root/run/qubes/qubesdb.sock", wait=10 * SLOW)

    def stop(self):
        """Powers off in order."""
        os.kill(self.pid, signal.SIGRTMIN + 4)
        try:
            self._nspawn.wait(60 * SLOW)
        finally:
            self._ended()

    def cut(self):
        """Power cut."""
        if self._nspawn is None:
            return
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._nspawn.kill()
        self._nspawn.wait()
        self._ended()

    def _ended(self):
        self._nspawn = self.pid = None
        self.console.close()
        for base in CGROUPS:
            for folder in sorted((base / self.cgroup).glob("**/"), reverse=True):
                wait_until(lambda folder=folder: _remove(folder), 10 * SLOW, f"{folder} empty", 0.02)
        # systemd-nspawn gives the interface back; after a power cut the cable goes with the machine's network.
        subprocess.run(["ip", "link", "del", self.far], stderr=subprocess.DEVNULL, check=False)
        wait_until(lambda: not os.path.exists(f"/sys/class/net/{self.far}"), 20 * SLOW, "cable gone", 0.02)

    def unmount(self):
        subprocess.run(["umount", "-l", str(self.root)], check=False)


def _remove(folder):
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":  # makes the roots, outside of the sandbox
    import sys
    if missing():
        sys.exit(missing())
    for one in sys.argv[1:] or ["bookworm"]:
        print(make_root(one))
