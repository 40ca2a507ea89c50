# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine runs out of, and what others do to it: full disks, no memory, a clock that jumps, the platform's rules
loaded anew. With traffic all the time, judged from the other side."""

import re
import time

import pytest

from lab.node import wait_until
from tests.system.machines import SLOW
from tests.system.test_life import WEB, Flow, Steady, exposed
from tests.system.test_packages import INBOUND, NET, ROUTER, SEAL, VPN, net, sealed  # noqa: F401, a fixture
from tests.system.test_tunnel import PORTS, PROFILES, leaks, machine, power_on, provider, start_server, state  # noqa: F401

FULL = ("/rw", "/var", "/run", "/tmp")
UNITS_OF_VPN = (SEAL, VPN)


def fill(machine):  # noqa: F811
    """Not a byte is left where programs may write."""
    for place in FULL:
        machine.run("sh", "-c", f"mount -o remount,size=2M {place} 2> /dev/null; "
                                f"cat /dev/zero > {place}/.filler 2> /dev/null; ! echo more > {place}/.more 2> /dev/null")


def drain(machine):  # noqa: F811
    for place in FULL:
        machine.run("sh", "-c", f"rm -f {place}/.filler {place}/.more; mount -o remount,size=64M {place}")


def small_disks(machine):  # noqa: F811
    machine.write("/etc/fstab", "rw /rw tmpfs mode=755,size=2M 0 0\nvar /var tmpfs mode=755,size=64M 0 0\n"
                                "tmp /tmp tmpfs mode=1777,size=2M 0 0\n")


def kill(machine, *units):  # noqa: F811
    """As the kernel does when memory is short; each is back with another process."""
    before = {unit: machine.show(unit, "MainPID") for unit in units}
    machine.run("kill", "-KILL", *before.values())
    back(machine, before)


def back(machine, before):  # noqa: F811
    for unit, pid in before.items():
        try:
            wait_until(lambda unit=unit, pid=pid: machine.show(unit, "MainPID") not in ("0", pid) and
                       machine.active(unit) == "active", 40 * SLOW, f"{unit} is back", 0.1)
        except TimeoutError as error:
            raise AssertionError(machine.run("systemctl", "status", "--no-pager", "-n", "30", unit, check=False)) from error


def test_disk_full_vpn(machine, provider):  # noqa: F811
    """Every writable place is full: what runs goes on, what is killed comes back, the tunnel too; an import says what is
    wrong and leaves nothing behind; with room again it works."""
    _server, (name, text) = start_server(provider, "openvpn")
    small_disks(machine)
    wire, asker = power_on(machine)
    machine.run("mkdir", "-p", "/root/in")
    machine.write(f"/root/in/{name}", text)
    machine.write("/root/in/other.ovpn", text)
    machine.run("qubes-vpn", "import", f"/root/in/{name}")
    assert asker.wait_answer(60) == "VPN"
    before = machine.run("find", PROFILES, "-type", "f", "-printf", "%p %s\n")
    fill(machine)
    done = machine.run("qubes-vpn", "import", "/root/in/other.ovpn", "--name", "other", check=False)
    print(done)
    assert re.search("no space|full", done, re.IGNORECASE), done
    assert machine.run("find", PROFILES, "-type", "f", "-printf", "%p %s\n") == before
    for units in ((VPN,), (SEAL,), UNITS_OF_VPN):
        kill(machine, *units)
        assert sealed(machine) == []
        assert asker.wait_answer(60) == "VPN", state(machine)
    done = machine.run("qubes-vpn", "down", check=False)
    assert "disk is full" in done and "It is down now" in done, "it cannot be remembered"
    assert not re.match("VPN: up", state(machine)), "but it is done"
    drain(machine)
    machine.run("qubes-vpn", "up")
    assert asker.wait_answer(60) == "VPN", state(machine)
    machine.run("qubes-vpn", "import", "/root/in/other.ovpn", "--name", "other")
    assert "other.ovpn" in machine.run("ls", PROFILES)
    assert asker.wait_answer(60) == "VPN"
    assert sealed(machine) == [] and asker.stop() == {"VPN"}
    assert leaks(wire.stop(), PORTS["openvpn"])[0] == {}


def test_disk_full_net(net):  # noqa: F811
    """The same in a net qube: what is exposed stays, also over a kill; what is said meanwhile is done."""
    machine = net("qubes-network-server", "qubes-network-server-inbound")
    small_disks(machine)
    with exposed(machine) as flow, machine.qubesdb() as qdb:
        fill(machine)
        assert flow.once(3)
        kill(machine, ROUTER, INBOUND)
        assert wait_until(lambda: flow.once(0.3), 20 * SLOW, "answers with a full disk")
        qdb.rm(f"/network-server/{WEB}")
        wait_until(lambda: not flow.once(0.3), 20 * SLOW, "withdrawn with a full disk")
        qdb.write(f"/network-server/{WEB}", "v=1|vm=web|xid=11|via=direct|edge=1|mode=forward|allow=udp/7")
        wait_until(lambda: flow.once(0.3), 20 * SLOW, "exposed with a full disk")
        drain(machine)
        kill(machine, ROUTER, INBOUND)
        assert wait_until(lambda: flow.once(0.3), 20 * SLOW, "answers")
        assert machine.run("systemctl", "--failed", "--no-legend", "--plain") == ""


def starve(machine, *units):  # noqa: F811
    """No page more for these processes: each allocation that needs one fails from now on."""
    pids = {unit: machine.show(unit, "MainPID") for unit in units}
    for pid in pids.values():
        limit(machine, pid, "4096:")
    return pids


def limit(machine, pid, size):  # noqa: F811
    """As the process' own user: root needs a right for it that no container has."""
    who = machine.run("stat", "-c", "--reuid=%u --regid=%g", f"/proc/{pid}").split()
    machine.run("setpriv", *who, "--clear-groups", "prlimit", "--pid", pid, f"--as={size}", f"--data={size}")


def test_no_memory_vpn(machine, provider):  # noqa: F811
    """Allocations fail in the middle of work: whatever the programs do then, nothing leaks, and once there is memory
    again the tunnel is back with nobody's help. What the kernel is told of them for the day it has to choose."""
    _server, (name, text) = start_server(provider, "openvpn")
    machine.write(f"{PROFILES}/{name}", text)
    wire, asker = power_on(machine)
    assert asker.wait_answer(60) == "VPN"
    assert machine.show(VPN, "OOMPolicy") == "continue"
    assert machine.show(SEAL, "OOMScoreAdjust") == "-900"  # no container may really set it
    for domid, units in ((40, (VPN,)), (41, (SEAL,)), (42, UNITS_OF_VPN)):
        before = starve(machine, *units)
        machine.run("pkill", "-KILL", "-x", "openvpn")
        machine.run("systemctl", "reload", VPN, check=False)
        machine.world.qube(machine, f"more{domid}", domid, f"10.137.0.{domid}")
        for _ in range(5):
            machine.run("qubes-vpn", "status", check=False)
            rules = machine.run("sh", "-c", "ip rule; nft list chain inet qubes-vpn forward; "
                                            "nft list chain netdev qubes-vpn egress", check=False)
            assert "80:\tfrom all blackhole" in rules and rules.count("chain ") == 2, rules
        print(units, {unit: (pid, machine.show(unit, "MainPID")) for unit, pid in before.items()})
        for unit, pid in before.items():
            if machine.show(unit, "MainPID") == pid:  # it lives on: give it its memory back
                limit(machine, pid, "unlimited:")
        assert asker.wait_answer(60) == "VPN", state(machine)
        wait_until(lambda: not sealed(machine), 20 * SLOW, "sealed", 0.1)
    assert asker.stop() == {"VPN"}
    assert leaks(wire.stop(), PORTS["openvpn"])[0] == {}


@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_platform_restarts_vpn(machine, provider, kind):  # noqa: F811
    """The platform's units start anew, its rules are lost, while a qube talks: sealed at each look, nothing in clear, and
    the qube is answered."""
    _server, (name, text) = start_server(provider, kind)
    machine.write(f"{PROFILES}/{name}", text)
    wire, asker = power_on(machine)
    assert asker.wait_answer(60) == "VPN"
    for words in (("systemctl", "restart", "qubes-firewall"), ("systemctl", "restart", "qubes-iptables"),
                  ("systemctl", "restart", "qubes-antispoof"), ("systemctl", "restart", "qubes-network"),
                  ("systemctl", "stop", "qubes-firewall"), ("systemctl", "start", "qubes-firewall"),
                  ("nft", "flush", "ruleset")):
        machine.run(*words, check=False)
        assert sealed(machine) == [], words
        if words[1:] in (("restart", "qubes-firewall"), ("start", "qubes-firewall")):  # it reads its rules of each qube
            machine.run("nft", "add rule ip qubes-firewall qubes-forward ip saddr 10.137.0.21 accept")
        assert asker.wait_answer(60) == "VPN", (words, state(machine))
    assert asker.stop() == {"VPN"}
    other, carried = leaks(wire.stop(), PORTS[kind])
    assert other == {} and carried > 3


def test_platform_restarts_net(net):  # noqa: F811
    """The same in a net qube: the exposed qube answers all the time, and is closed again when that is wished."""
    machine = net("qubes-network-server")
    with exposed(machine) as flow, machine.qubesdb() as qdb:
        for unit in ("qubes-firewall", "qubes-iptables", "qubes-antispoof"):
            steady = Steady(flow)
            steady.start()
            machine.run("systemctl", "restart", unit)
            wait_until(lambda flow=flow: flow.once(0.3), 10 * SLOW, f"answers after {unit}")
            lost = steady.stop()
            print(unit, flow.sent, "lost", len(lost))
            assert len(lost) == 0
            flow = Flow()
        machine.run("nft", "delete table ip qubes")  # and what a person may do
        machine.run("systemctl", "restart", "qubes-antispoof", "qubes-iptables")
        machine.run("nft", f'add element ip qubes allowed {{ "vif11.0" . {WEB} }}; '
                           f'add element ip qubes downstream {{ {WEB} }}')
        wait_until(lambda: Flow().once(0.3), 20 * SLOW, "answers with tables that are new")
        qdb.rm(f"/network-server/{WEB}")
        wait_until(lambda: not Flow().once(0.3), 20 * SLOW, "closed")


FAKE = "/etc/faketime"


def fake_clock(machine, unit):  # noqa: F811
    """A clock for one unit that clock_of() sets: of the real time only; what the kernel counts stays as it is."""
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    machine.write(f"/etc/systemd/system/{unit}.d/clock.conf",
                  f"[Service]\nEnvironment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={FAKE} FAKETIME_NO_CACHE=1 "
                  "FAKETIME_DONT_FAKE_MONOTONIC=1\n")
    machine.write(FAKE, "+0\n")


def after(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def check_clock(set_clock, write, rm, answered):
    """Exposures that end at a time, on a machine whose clock jumps. set_clock(seconds): by how much it is wrong from now
    on; write(expires), rm(): the record; answered(): the exposed qube answers. A machine may be any."""
    write(after(7200))
    wait_until(answered, 40 * SLOW, "open before its time")
    set_clock(3 * 3600)
    wait_until(lambda: not answered(), 40 * SLOW, "closed when the clock is beyond it")
    set_clock(0)
    wait_until(answered, 40 * SLOW, "open when the clock is right again")
    set_clock(-3 * 3600)
    assert answered(), "an earlier clock closes nothing"
    write(after(-3600))
    wait_until(answered, 40 * SLOW, "an hour ago is to come, by this clock")
    set_clock(0)
    wait_until(lambda: not answered(), 40 * SLOW, "closed when the clock is right")
    write(after(3))
    wait_until(answered, 3, "open for three seconds")
    wait_until(lambda: not answered(), 40 * SLOW, "closed in time")
    rm()


def test_clock_jumps(world, debs):
    """Hours forward and back, as it happens when a qube is resumed or its clock is set. Its clock is this machine's, so
    the router has one of its own; check_clock() is for a guest with a clock of its own, too."""
    machine = world.machine("net", services=NET, uplink="ens6", group=0, address="192.168.16.2/24",  # noqa: F811
                            gateway="192.168.16.10", files=[*debs("qubes-network-server"), "libfaketime"])
    fake_clock(machine, ROUTER)

    key, fields = f"/network-server/{WEB}", "v=1|vm=web|xid=11|via=direct|edge=1|mode=forward|allow=udp/7|expires="
    with exposed(machine), machine.qubesdb() as qdb:
        clock = [0]

        def set_clock(seconds):
            machine.write(FAKE, f"{seconds:+d}\n")
            if seconds < clock[-1]:  # the kernel says so of a clock that is really set back; of this one nobody
                machine.run("systemctl", "restart", ROUTER)
            clock.append(seconds)

        check_clock(set_clock, lambda expires: qdb.write(key, fields + expires), lambda: qdb.rm(key),
                    lambda: Flow().once(0.2))
