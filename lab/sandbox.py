# SPDX-License-Identifier: GPL-2.0-or-later
"""Own namespaces (net, mount, pid) for everything the lab does.

    python3 -m lab.sandbox COMMAND [ARG...]

Network namespaces, processes and files of the lab live only in there: /run is a tmpfs of the sandbox, its first process
dies with the command, and with it all others, also after kill -9. Nothing of the machine is touched, so two sandboxes
never meet. Without root a user namespace gives the same rights inside.
"""

import ctypes
import os
import select
import signal
import stat
import sys

MARK = "SLUICE_SANDBOX"
WORK = "/run/sluice-lab"

_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def inside():
    """True in a sandbox. The mark alone could be inherited by a process that left it: the tmpfs is looked at too."""
    return os.environ.get(MARK) == "1" and os.path.isdir(WORK)


def mount(source, target, kind, flags=0, data=None):
    _check(_libc.mount(source.encode() if source else None, target.encode(), kind.encode() if kind else None,
                       ctypes.c_ulong(flags), data.encode() if data else None), f"mount {target}")


def _status(status):
    return os.waitstatus_to_exitcode(status) if not os.WIFSIGNALED(status) else 128 + os.WTERMSIG(status)


def _become_user_root():
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEWUSER), "unshare user namespace (run as root?)")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _name_servers():
    """The sandbox's resolv.conf is that of every qube: the platform's virtual name servers."""
    path = f"{WORK}/resolv.conf"
    with open(path, "w", encoding="ascii") as file:
        file.write("nameserver 10.139.1.1\nnameserver 10.139.1.2\noptions timeout:1\n")
    if os.path.exists("/etc/resolv.conf"):
        mount(path, os.path.realpath("/etc/resolv.conf"), None, 4096)  # MS_BIND


def _tun_device():
    """/dev/net/tun as udev leaves it: for every user. Some machines keep it for root."""
    if not os.path.exists("/dev/net/tun") or os.stat("/dev/net/tun").st_mode & 0o006 == 0o006:
        return
    try:
        mount("sandbox", "/dev/net", "tmpfs", _MS_NOSUID, "mode=755")
        os.mknod("/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        os.chmod("/dev/net/tun", 0o666)
    except OSError as error:  # in a user namespace; clients that are not root will say what they miss
        print(f"sandbox: /dev/net/tun: {error.strerror}", file=sys.stderr)


def _first_process(command, alive):
    """Runs as process 1: mounts, starts the command, collects orphans until the command ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if select.select([alive], [], [], 0)[0]:  # the outer process was gone before prctl
        os._exit(1)
    mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    mount("sandbox", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    for path in ("/run/netns", "/run/lock", "/run/qubes", "/run/qubes-service", WORK):
        os.mkdir(path)
    _name_servers()
    _tun_device()
    os.environ[MARK] = "1"
    child = os.fork()
    if child == 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command itself
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(_status(status))


def run(command):
    """Runs command (a list) in a new sandbox and returns its exit status."""
    if os.getuid() != 0:
        _become_user_root()
    _check(_libc.unshare(_NEWNS | _NEWPID | _NEWNET), "unshare (run as root?)")
    alive, keep = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(keep)
        try:
            _first_process(command, alive)
        except OSError as error:
            print(f"sandbox: {error}", file=sys.stderr)
        os._exit(125)
    os.close(alive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: os.kill(first, received))
    _, status = os.waitpid(first, 0)
    return _status(status)


def enter(argv=None):
    """Returns inside a sandbox: at once when there, else by running argv (default: this program again) in a new one."""
    if inside():
        return
    os.environ.pop(MARK, None)
    sys.stdout.flush()
    sys.exit(run(argv or sys.orig_argv))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python3 -m lab.sandbox COMMAND [ARG...]")
    if inside():
        os.execvp(sys.argv[1], sys.argv[1:])
    os.environ.pop(MARK, None)
    sys.exit(run(sys.argv[1:]))
