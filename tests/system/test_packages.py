# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages on booted machines: as a user installs them, in every state that systemd can bring them into."""

import os
import random
import re
import time

import pytest

from lab.node import wait_until
from tests.system import machines, older
from tests.system.machines import SLOW

ROUTER, INBOUND = "qubes-routing-manager.service", "qubes-inbound.service"
SEAL, VPN, SERVERD = "qubes-vpn-forwarding.service", "qubes-vpn.service", "qubes-network-serverd.service"
UNITS = [ROUTER, INBOUND, SEAL, VPN, SERVERD]
NET = ["qubes-network", "qubes-firewall"]
PACKAGES = ["qubes-network-server", "qubes-network-server-inbound", "qubes-vpn", "qubes-network-server-dom0"]


@pytest.fixture
def net(world, debs):
    """net(packages...): a net qube as sys-net, not booted, with what is named."""
    return lambda *packages: world.machine(
        "net", services=NET, uplink="ens6", group=0, address="192.168.16.2/24", gateway="192.168.16.10",
        files=debs(*packages))


@pytest.fixture
def vpn(world, debs):
    """vpn(packages...): a VPN qube, not booted."""
    return lambda *packages, **options: world.machine("vpn", services=[*NET, "qubes-vpn"], files=debs(*packages), **options)


def test_installed_by_apt_and_started(world, install):
    """Into a running machine: where the service is on, the unit runs at once, elsewhere it is enabled and skipped."""
    machine = world.machine("net", services=NET, uplink="ens6", group=0, address="192.168.16.2/24",
                            gateway="192.168.16.10")
    machine.boot()
    install(machine, "qubes-network-server", "qubes-vpn")
    assert machine.active(ROUTER) == "active"
    for unit in (ROUTER, SEAL, VPN):
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
    for unit in (SEAL, VPN):
        assert machine.active(unit) == "inactive"
        assert machine.show(unit, "ConditionResult") == "no"
        assert machine.show(unit, "Result") == "success"


def test_units_after_boot(net, vpn):
    """Every package in every qube: what has something to do there runs, nothing failed, no cycle was broken."""
    for make, running, skipped in ((net, [ROUTER, INBOUND], [SEAL, VPN]), (vpn, [SEAL, VPN, ROUTER], [INBOUND])):
        machine = make(*PACKAGES[:3])
        machine.boot()
        for unit in running:
            machine.wait_active(unit)
        for unit in skipped:
            assert (machine.active(unit), machine.show(unit, "ConditionResult")) == ("inactive", "no"), unit
        assert machine.run("systemctl", "--failed", "--no-legend", "--plain") == ""
        log = machine.run("journalctl", "-b", "-o", "cat")
        assert "ordering cycle" not in log and "cycle to break" not in log


def test_verify_and_sandbox(world, debs):
    """systemd finds nothing to say of our units, alone and among the platform's; each daemon is in a tight box."""
    machine = world.machine("all", files=debs(*PACKAGES))
    machine.boot()
    paths = [machine.show(unit, "FragmentPath") for unit in UNITS]
    assert all(paths), paths
    platform_units = [f"/etc/systemd/system/{name}.service" for name in ("qubes-network", "qubes-firewall",
                                                                         "qubes-iptables", "qubes-network-uplink")]
    said = machine.run("systemd-analyze", "verify", "--man=no", *paths, *platform_units, check=False)
    said = [line for line in said.splitlines() if "qubes-" in line or "cycle" in line]
    assert said == []
    table = machine.run("systemd-analyze", "security", "--no-pager")
    exposure = {line.split()[0]: float(line.split()[1]) for line in table.splitlines() if line.split()[0] in UNITS}
    missing = [unit for unit in UNITS if unit not in exposure]
    for unit in missing:  # those that do not run
        text = machine.run("systemd-analyze", "security", "--no-pager", unit)
        exposure[unit] = float(re.search(r"exposure level for \S+: ([\d.]+)", text).group(1))
    print(exposure)
    assert all(value <= 2.5 for value in exposure.values()), exposure


def test_supervisor_sees_one_device(vpn):
    """Its own /dev: the device that tunnels are made of is there and works, disks and terminals are not."""
    machine = vpn("qubes-vpn")
    machine.boot()
    machine.wait_active(VPN)
    inside = ["nsenter", "-m", "-t", machine.show(VPN, "MainPID"), "--"]
    machine.run(*inside, "ip", "tuntap", "add", "dev", "tried", "mode", "tun")
    assert "tried" in machine.run("ip", "-o", "link")
    machine.run("touch", "/dev/another")
    assert machine.status(*inside, "test", "-e", "/dev/another") != 0


def sealed(machine):
    """What is missing of the seal: the program's own word, and that of the kernel."""
    missing = []
    if machine.status("qubes-vpn-forwarding", "check") != 0:
        missing.append(machine.run("qubes-vpn-forwarding", "check", check=False))
    rules = machine.run("ip", "rule")
    if not re.search(r"^80:\tfrom all blackhole", rules, re.MULTILINE):
        missing.append(rules)
    for family in ("inet", "netdev"):
        if machine.status("nft", "list", "table", family, "qubes-vpn") != 0:
            missing.append(f"table {family}")
    return missing


def test_killed_and_hung(vpn, net):
    """kill -9 and a program that hangs: systemd brings each back, the seal is whole all the time."""
    for machine, units in ((vpn("qubes-vpn", "qubes-network-server"), [SEAL, VPN, ROUTER]),
                           (net("qubes-network-server-inbound"), [INBOUND])):
        machine.boot()
        for unit in units:
            machine.wait_active(unit)
        for hurt in ("KILL", "STOP"):
            before = {unit: machine.show(unit, "MainPID") for unit in units}
            machine.run("kill", f"-{hurt}", *before.values())
            if SEAL in units:
                tables = machine.run("nft", "list", "tables")
                assert "inet qubes-vpn" in tables and "netdev qubes-vpn" in tables
                assert "80:\tfrom all blackhole" in machine.run("ip", "rule")
            for unit in units:
                wait_until(lambda unit=unit, pid=before[unit]: machine.show(unit, "MainPID") not in ("0", pid),
                           60 * SLOW, f"{unit} has another process", 0.2)
                machine.wait_active(unit)
            if SEAL in units:
                wait_until(lambda: not sealed(machine), 10 * SLOW, "sealed", 0.2)
        results = machine.run("journalctl", "-b", "-o", "cat")
        assert "Watchdog timeout" in results


def test_any_order_stays_sealed(vpn):
    """Stops, starts, restarts, kills of ours and of the platform's units in any order: never an open moment."""
    machine = vpn("qubes-vpn", "qubes-network-server")
    machine.boot()
    machine.wait_active(SEAL)
    chance = random.Random(6)
    verbs = ("stop", "start", "restart", "kill")
    units = [SEAL, VPN, ROUTER, "qubes-firewall.service", "qubes-iptables.service", "qubes-network.service"]
    done = []
    pairs = [(verb, unit) for verb in verbs for unit in units]
    chance.shuffle(pairs)
    for verb, unit in pairs:
        done.append(f"{verb} {unit}")
        machine.run("systemctl", verb, unit, check=False)
        for family in ("inet", "netdev"):
            assert machine.status("nft", "list", "table", family, "qubes-vpn") == 0, done
        assert re.search(r"^80:\tfrom all blackhole", machine.run("ip", "rule"), re.MULTILINE), done
        wait_until(lambda: not sealed(machine), 10 * SLOW, f"sealed after {done}", 0.2)
    machine.run("systemctl", "start", SEAL, VPN)
    machine.wait_active(VPN)


def mentions(root):
    """Files with a name of ours, but for the user's own, logs and what package managers keep."""
    words = ("qubes-vpn", "qubes-routing", "qubes-inbound", "qubes-network-server", "network-server.Status", "sluice",
             "Vpn1", "qubes-vpn-seal")
    skipped = ("rw", "proc", "sys", "dev", "run/systemd", "run/log", "run/udev", "run/qubes-service", "var/log",
               "var/lib/dpkg", "var/lib/rpm", "var/cache", "var/tmp", "var/lib/apt", "tmp", "run/dbus")
    found = []
    for folder, folders, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        folders[:] = [one for one in folders if os.path.normpath(os.path.join(inside, one)) not in skipped]
        found += [os.path.normpath(os.path.join(inside, one)) for one in [*folders, *names] if any(w in one for w in words)]
    return found


def test_upgrade_from_older_packages(world, install, tmp_path):
    """Over the older packages, in a running VPN qube: what the user wrote is kept byte for byte, what the older ones were
    is gone, no file is fought over, the seal is up and forwarding waits for it; after purge nothing of either is left."""
    machine = world.machine("vpn", services=[*NET, "qubes-vpn"])
    before = mentions(machine.root)
    older.configure(machine)
    machine.boot()
    names = ["qubes-vpn", "qubes-network-server"]
    machines.apt_install(machine.root, [older.make_deb(tmp_path, name) for name in names], machine.run)
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "qubes-vpn") == "0.0.4-1"
    links = "/etc/systemd/system/"
    assert machine.status("test", "-L", f"{links}multi-user.service.wants/qubes-vpn-configuration.path") == 0
    assert machine.status("test", "-L", f"{links}qubes-network.service.wants/{ROUTER}") == 0
    assert machine.active(SEAL) == "active"
    # A changed file of its configuration: it would have given the client's user root.
    with open(machine.root / "etc/sudoers.d/qubes-vpn", "a", encoding="ascii") as file:
        file.write("# changed by the user\n")

    install(machine, "qubes-vpn", "qubes-vpn-desktop", "qubes-network-server")
    known = machine.run("dpkg", "-L", "qubes-vpn", "qubes-vpn-desktop", "qubes-network-server").split()
    known += [path.replace("/lib/systemd/", "/usr/lib/systemd/") for path in known if path.startswith("/lib/systemd")]
    assert older.left(machine, names, known) == []
    assert older.dangling(machine) == []
    for unit in (SEAL, VPN, ROUTER):
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
        machine.wait_active(unit)
    assert machine.status("test", "-L", f"{links}qubes-network.service.requires/{SEAL}") == 0
    wait_until(lambda: not sealed(machine), 10 * SLOW, "sealed", 0.2)
    assert older.kept(machine)
    assert machine.run("stat", "-c", "%U %a", "/rw/config/qubes-vpn").strip() == "qubes-vpnd 700"
    # The bus learns of our name's policy by itself; until then the supervisor asks for it again after 1, 2, 4 s.
    wait_until(lambda: machine.status("qubes-vpn", "list") == 0, 20 * SLOW, "the supervisor on the bus", 0.2)
    assert "qubes-vpn" in machine.run("qubes-vpn", "list")
    assert machine.status("test", "-e", "/etc/sudoers.d/qubes-vpn") != 0  # what it said lies in a file that sudo skips

    machine.run("apt-get", "purge", "-y", "-q", "qubes-vpn", "qubes-vpn-desktop", "qubes-network-server")
    assert [path for path in mentions(machine.root) if path not in before and not path.endswith(".dpkg-bak")] == []
    assert older.kept(machine)
    assert older.dangling(machine) == []


def test_dom0_package_replaces_the_older_extension(world, install, tmp_path):
    machine = world.machine("dom0", uplink=None)
    machine.boot()
    machine.run("groupadd", "-r", "qubes")
    machines.apt_install(machine.root, [older.make_deb(tmp_path, "qubes-core-admin-addon-network-server")], machine.run)
    install(machine, "qubes-network-server-dom0")
    assert older.left(machine, ["qubes-core-admin-addon-network-server"], []) == []
    text = machine.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "qubes-core-admin-addon-network-server", check=False)
    assert text.strip() != "installed"
    machine.wait_active(SERVERD)
