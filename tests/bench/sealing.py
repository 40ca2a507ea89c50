# SPDX-License-Identifier: GPL-2.0-or-later
"""The seal of a VPN qube: from the start of the program until everything is armed and read back, and what it costs to
stand there."""

import os
import subprocess
import time

import scale
from lab import platform
from lab.lab import Lab
from lab.node import Node
from lab.router import ReadySocket, environment, program
from lab.topology import Topology
from lab.vpn import CLIENT_USER, SEAL

VIFS = 10
GOAL_MS = 30
IP, GATEWAY = "10.137.0.20", "10.137.0.5"
IP6, GATEWAY6 = "fd09:24ef:4179::a89:14", "fd09:24ef:4179::a89:5"


class Fresh:
    """A VPN qube just before the seal: the platform's rules, an uplink, VIFS qubes, both families. Used once."""

    number = 0

    def __init__(self, lab):
        Fresh.number += 1
        self.lab, self.node = lab, Node(lab, None, f"fresh{Fresh.number}")
        far, outside = Fresh.number, os.path.basename(lab.switch.path)
        text = "link set lo up\n" + self._link("eth0", f"u{far}", outside, 1, IP, IP6)
        text += f"neigh replace {GATEWAY} lladdr {platform.BACKEND_MAC} nud permanent dev eth0\n"
        text += f"route add {GATEWAY} dev eth0 scope link\nroute add default via {GATEWAY} dev eth0 onlink\n"
        text += f"route add {GATEWAY6}/128 dev eth0\nroute add ::/0 via {GATEWAY6} dev eth0 onlink\n"
        for number in range(1, VIFS + 1):
            vif = f"vif{40 + number}.0"
            text += self._link(vif, f"q{far}x{number}", outside, 2, IP, IP6)
            text += f"route add 10.137.1.{number}/32 dev {vif} metric 32711\n"
            text += f"route add fd09:24ef:4179::1:{number}/128 dev {vif} metric 32711\n"
        self.node.nft(platform.antispoof_text() + platform.main_text())
        self.node.sysctl("net/ipv4/ip_forward", 1)
        self.node.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.node.sysctl("net/ipv6/conf/default/accept_dad", 0)
        self.node.batch(text)

    @staticmethod
    def _link(name, peer, outside, group, ip, ip6):
        return (f"link add {name} type veth peer name {peer} netns {outside}\n"
                f"link set {name} group {group} up\naddr add {ip}/32 dev {name}\naddr add {ip6}/128 dev {name} nodad\n")

    def close(self):
        self.node.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _words(verb, folder, *more):
    return [program(SEAL), verb, "--user", CLIENT_USER, "--supervisor-user", "0", "--socket", f"{folder}/seal.sock", *more]


def _timed(node, command):
    """Milliseconds from before the fork until the command has ended well."""
    begin = time.monotonic()
    node.run(command, env=environment())
    return (time.monotonic() - begin) * 1000


def _text(lab):
    """The rules as the program gives them to nft: two files, the tables before them."""
    folder = lab.work
    spy = f"{folder}/spy"
    with open(spy, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\ncat > {folder}/part\ncat {folder}/part >> {folder}/rules\nexec nft -f {folder}/part\n")
    os.chmod(spy, 0o755)
    with open(f"{folder}/rules", "w", encoding="ascii") as file:
        file.write("add table inet qubes-vpn\nadd table netdev qubes-vpn\n")
    with Fresh(lab) as fresh:
        fresh.node.run(_words("on", folder, "--nft", spy), env=environment())
        fresh.node.run(_words("check", folder), env=environment())
    return f"{folder}/rules"


def _owner_ms(lab, node):
    """Until the owner says READY=1; it is ended then."""
    ready = ReadySocket(f"{lab.work}/notify")
    begin = time.monotonic()
    process = node.popen(_words("run", lab.work), stderr=subprocess.DEVNULL,
                         env=environment(NOTIFY_SOCKET=ready.path))
    ready.wait(process, 10, "the owner", str)
    took = (time.monotonic() - begin) * 1000
    process.kill()
    process.wait()
    ready.close()
    return took


def measure(report, quick):
    report.part(f"The seal, one uplink and {VIFS} qubes")
    with Lab(Topology("bench", (), (), (), ())) as lab:
        rules = _text(lab)
        armed, again, owner, plain = [], [], [], []
        for _ in range(3 if quick else 25):
            with Fresh(lab) as fresh:
                armed.append(_timed(fresh.node, _words("on", lab.work)))
                again.append(_timed(fresh.node, _words("on", lab.work)))
            with Fresh(lab) as fresh:
                plain.append(_timed(fresh.node, ["nft", "-f", rules]))
            with Fresh(lab) as fresh:
                owner.append(_owner_ms(lab, fresh.node))
        name = "nft -f of the same rules"
        report.row("`on`: exec → armed, read back, ended", armed, "ms", GOAL_MS, plain, name)
        report.row("`run`: exec → armed, READY", owner, "ms", GOAL_MS, plain, name)
        report.row("`on` once more, everything armed already", again, "ms", None, plain, name)
        with Fresh(lab) as fresh:
            process = fresh.node.popen(_words("run", lab.work), stderr=subprocess.DEVNULL, env=environment())
            measure_rest(report, process.pid, "the seal's owner, armed", quick)


def measure_rest(report, pid, what, quick, goal=None):
    """Memory, and what it does when nothing happens."""
    process = scale.Process(pid)
    process.wait_quiet()
    report.row(f"{what}: resident memory", [process.rss_kib / 1024], "MiB", goal)
    report.row(f"{what}: of it not shared with other programs (proportional)", [process.pss_kib / 1024], "MiB")
    seconds = 12 if quick else 60
    before, cpu = process.wakeups, process.cpu_s
    time.sleep(seconds)
    report.row(f"{what}: wake-ups when idle", [(process.wakeups - before) * 60 / seconds], "a minute")
    report.row(f"{what}: CPU time when idle", [(process.cpu_s - cpu) * 60000 / seconds], "ms a minute")
