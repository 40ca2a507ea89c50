# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine of the lab: one network namespace, and what a test does in it.

Commands and sockets work in the namespace, files are the sandbox's. Nothing here waits longer than it says.
"""

import contextlib
import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
import threading
import time

from lab import capture

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
_libc = ctypes.CDLL(None, use_errno=True)


def wait_until(probe, timeout=5.0, what="condition", interval=0.002):
    """Calls probe until it returns something true and returns that; TimeoutError names `what`."""
    deadline = time.monotonic() + timeout
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout} s for: {what}")
        time.sleep(interval)


def _setns(descriptor):
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def make_namespace(path):
    """A new network namespace, kept by the file at path, as `ip netns` does it."""
    from lab.sandbox import mount  # only usable there
    old = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444))
        mount("/proc/thread-self/ns/net", path, None, 4096)  # MS_BIND
    finally:
        _setns(old)
        os.close(old)


def remove_namespace(path):
    _libc.umount2(path.encode(), 2)  # MNT_DETACH
    with contextlib.suppress(OSError):
        os.unlink(path)


def plain(address):
    """An address as one writes it: mapped IPv4 unwrapped, no zone."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


class Server:
    """Threads behind a listening socket; .peers has the client addresses seen so far, in order."""

    def __init__(self, sock, work):
        self.socket, self.peers = sock, []
        self.port = sock.getsockname()[1]
        self._thread = threading.Thread(target=self._guard, args=(work,), daemon=True)
        self._thread.start()

    def _guard(self, work):
        with contextlib.suppress(OSError):
            work(self)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _echo_connection(connection, peer):
    with contextlib.suppress(OSError), connection:
        connection.sendall(f"peer {peer}\n".encode())
        while data := connection.recv(65536):
            connection.sendall(data)


def _tcp_work(server):
    while True:
        connection, address = server.socket.accept()
        peer = plain(address[0])
        server.peers.append(peer)
        threading.Thread(target=_echo_connection, args=(connection, peer), daemon=True).start()


def _udp_work(server):
    while True:
        data, address = server.socket.recvfrom(65536)
        if address is None:  # shut down
            return
        peer = plain(address[0])
        server.peers.append(peer)
        with contextlib.suppress(OSError):
            server.socket.sendto(f"peer {peer}\n".encode() + data, address)


class Connection:
    """A TCP connection to an echo server. peer: the address of this side as the server saw it."""

    def __init__(self, sock):
        self.socket = sock
        self._buffer = b""
        line = self._line()
        self.peer = line.removeprefix("peer ") if line.startswith("peer ") else None

    def _line(self):
        while b"\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed by the other side")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def echo(self, text="hello", timeout=None):
        """Sends a line and returns the answer; OSError (TimeoutError included) when the connection is dead."""
        if timeout is not None:
            self.socket.settimeout(timeout)
        self.socket.sendall(text.encode() + b"\n")
        return self._line()

    def alive(self, timeout=0.5):
        try:
            return self.echo("alive?", timeout) == "alive?"
        except OSError:
            return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Node:
    def __init__(self, lab, spec, name=None):
        self.lab, self.spec = lab, spec
        self.name = name or spec.name
        self.path = f"/run/netns/{lab.prefix}{self.name}"
        make_namespace(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._closers, self._processes = [], []

    def __repr__(self):
        return f"<{type(self).__name__} {self.name}>"

    # -- the namespace --------------------------------------------------------------------------------------------

    @property
    @contextlib.contextmanager
    def ns(self):
        """With it, this thread is in the namespace (new threads too: start none that outlive it)."""
        old = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _setns(self._fd)
        try:
            yield self
        finally:
            _setns(old)
            os.close(old)

    def run(self, command, check=True, timeout=20, **options):
        """Runs a command (list, or text for the shell) and returns the CompletedProcess with text output."""
        options.setdefault("text", True)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        with self.ns:
            done = subprocess.run(command, shell=isinstance(command, str), timeout=timeout, check=False, **options)
        if check and done.returncode != 0:
            error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            error.add_note(f"in {self.name}: {done.stderr or done.stdout}")
            raise error
        return done

    def popen(self, command, **options):
        """Starts a command; it is killed with the lab at the latest."""
        with self.ns:
            process = subprocess.Popen(command, shell=isinstance(command, str), **options)
        self._processes.append(process)
        return process

    def batch(self, text):
        """Lines for one `ip -batch`; IPv6 lines begin like IPv4 ones, `ip` tells them apart by the address."""
        if text:
            self.run(["ip", "-batch", "-"], input=text)

    def nft(self, text):
        return self.run(["nft", "-f", "-"], input=text)

    def sysctl(self, name, value=None):
        """Reads or writes /proc/sys/NAME of the namespace."""
        with self.ns:
            with open(f"/proc/sys/{name}", "r" if value is None else "w", encoding="ascii") as file:
                if value is None:
                    return file.read().strip()
                file.write(f"{value}\n")
        return None

    def pids(self):
        """Processes whose network this machine is."""
        mine, found = os.fstat(self._fd).st_ino, []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/net").st_ino == mine:
                    found.append(int(pid))
        return found

    # -- sockets --------------------------------------------------------------------------------------------------

    def socket(self, *arguments, **options):
        """A socket of the namespace; use it from anywhere."""
        with self.ns:
            return socket.socket(*arguments, **options)

    def listen(self, kind, port, addr, work):
        """A Server on both families (or one address) whose thread runs work(server)."""
        inet = socket.AF_INET if addr and ":" not in addr else socket.AF_INET6
        sock = self.socket(inet, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if inet == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if addr else 0)
        sock.bind((addr or "::", port))
        if kind == socket.SOCK_STREAM:
            sock.listen(512)
        server = Server(sock, work)
        self._closers.append(server)
        return server

    def serve_tcp(self, port, addr=None):
        """Echo server on both families (or one address): first line "peer ADDRESS-OF-CLIENT", then everything back."""
        return self.listen(socket.SOCK_STREAM, port, addr, _tcp_work)

    def serve_udp(self, port, addr=None):
        """Each datagram comes back with the line "peer ADDRESS-OF-CLIENT" before it. Bind an address where the machine
        has several: answers leave from the one that routing prefers."""
        return self.listen(socket.SOCK_DGRAM, port, addr, _udp_work)

    def connect_tcp(self, addr, port, timeout=1.0, source=None):
        """Connects to an echo server and returns a Connection; OSError otherwise."""
        sock = self.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            if source:
                sock.bind((source, 0))
            sock.connect((addr, port))
            return Connection(sock)
        except BaseException:
            sock.close()
            raise

    def ask_udp(self, addr, port, timeout=0.5, data=b"?", source=None):
        """One datagram to serve_udp; returns the address it saw, or None without an answer."""
        with self.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            try:
                if source:
                    sock.bind((source, 0))
                sock.connect((addr, port))
                sock.send(data)
                return sock.recv(65536).split(b"\n")[0].decode().removeprefix("peer ")
            except OSError:
                return None

    def can_reach(self, addr, port=None, proto="tcp", timeout=0.5):
        """True when an echo server (or with proto "icmp" the machine itself) answers within timeout."""
        if proto == "icmp":
            return self.ping(addr, timeout)
        if proto == "udp":
            return self.ask_udp(addr, port, timeout) is not None
        try:
            self.connect_tcp(addr, port, timeout).close()
            return True
        except OSError:
            return False

    def ping(self, addr, timeout=0.5, source=None):
        """One echo request; True when answered within timeout seconds."""
        command = ["ping", "-n", "-q", "-c", "1", "-W", str(timeout), addr]
        if source:
            command[1:1] = ["-I", source]
        return self.run(command, check=False, timeout=timeout + 5).returncode == 0

    # -- frames ---------------------------------------------------------------------------------------------------

    def sniff(self, iface=None, expression=None):
        """Captures frames of one interface (None: of all) that match a tcpdump expression: see lab/capture.py."""
        taken = capture.Capture(self, iface, expression)
        self._closers.append(taken)
        return taken

    def arping(self, addr, iface="eth0", timeout=0.3, source=None, count=None):
        """Asks by ARP on iface who has addr; list of (mac, seconds until the answer). Ends at timeout or with count."""
        return capture.arping(self, addr, iface, timeout, source, count)

    def ndisc(self, addr, iface="eth0", timeout=0.3, count=None):
        """The same by neighbour solicitation."""
        return capture.ndisc(self, addr, iface, timeout, count)

    def send_frame(self, iface, frame):
        """Sends one raw Ethernet frame (bytes, or a scapy packet)."""
        with self.ns, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((iface, 0))
            sock.send(bytes(frame))

    # -- facts ----------------------------------------------------------------------------------------------------

    def mac(self, iface="eth0"):
        words = self.run(["ip", "-o", "link", "show", "dev", iface]).stdout.split()
        return words[words.index("link/ether") + 1]

    def addresses(self, iface):
        """Addresses of an interface with prefix length, link-local ones left out."""
        lines = self.run(["ip", "-o", "addr", "show", "dev", iface]).stdout.splitlines()
        return [line.split()[3] for line in lines if "scope link" not in line]

    def proxies(self):
        """Set of (address, interface) that the kernel answers for by proxy ARP and proxy NDP entries."""
        entries = set()
        for version in ("-4", "-6"):
            for line in self.run(["ip", version, "neigh", "show", "proxy"]).stdout.splitlines():
                words = line.split()
                entries.add((words[0], words[words.index("dev") + 1]))
        return entries

    def wait_running(self, *ifaces):
        """Until the kernel really sends by these interfaces: shortly after `up` it still drops everything."""
        def running(sock, iface):
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", iface.encode()))
            return struct.unpack_from("16xH", answer)[0] & _IFF_RUNNING

        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for iface in ifaces:
                wait_until(lambda name=iface: running(sock, name), 5.0, f"{self.name} {iface} running", 0.001)

    def neighbour_forget(self, addr, iface="eth0"):
        """Drops addr from the ARP or NDP cache."""
        self.run(["ip", "neigh", "del", addr, "dev", iface], check=False)

    # -- end ------------------------------------------------------------------------------------------------------

    def renew(self):
        """Another, empty namespace of the same name takes the place of this one. Programs and sockets in the old one
        must be gone; what is left of it goes with it."""
        os.close(self._fd)
        remove_namespace(self.path)
        make_namespace(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.sysctl("net/ipv6/conf/default/accept_dad", 0)
        self.batch("link set lo up\n")

    def close(self):
        try:
            while self._closers:
                self._closers.pop().close()
        finally:
            self._end()

    def _end(self):
        for closer in self._closers:
            closer.close()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        os.close(self._fd)
        remove_namespace(self.path)
