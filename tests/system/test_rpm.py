# SPDX-License-Identifier: GPL-2.0-or-later
"""The RPM packages in a Debian root, which has their scriptlets really run: installed, booted, erased."""

import os
import pathlib
import shutil

import pytest

from tests.system import machines, older
from tests.system.test_packages import INBOUND, NET, ROUTER, SEAL, SERVERD, VPN, sealed

RPMS = pathlib.Path(os.environ.get("SLUICE_RPMS", machines.TOP / "dist")).resolve()
VERSION = (machines.TOP / "version").read_text(encoding="ascii").strip()
RPM = ["rpm", "--dbpath", "/var/lib/rpm"]


def rpm_files(*names):
    found = []
    for name in names:
        some = [file for file in RPMS.glob(f"{name}-*.rpm") if file.name[len(name) + 1].isdigit()]
        if len(some) != 1:
            pytest.skip(f"{name} in {RPMS}: {some}; make rpm")
        found.append(some[0])
    return found


@pytest.fixture
def install_rpms(debs):
    """install_rpms(machine, names...): with the libraries that apt brings for our own packages."""
    def work(machine, *names, verb="-i"):
        machine.run("apt-get", "install", "-y", "-q", "--no-install-recommends", "rpm",
                    *machines.LIBRARIES[machine.world.suite].split()[1:-2])
        target = machine.root / "var/tmp/rpms"
        target.mkdir(parents=True)
        for file in rpm_files(*names):
            shutil.copy(file, target)
        machine.run(*RPM, "--initdb")
        # Fedora's dependencies are not here; users come by a trigger of Fedora's systemd.
        machine.run("sh", "-ec", f"{' '.join(RPM)} {verb} --nodeps --excludedocs /var/tmp/rpms/*.rpm; systemd-sysusers; "
                                 "systemctl daemon-reload")
        shutil.rmtree(target)
    return work


def test_rpms_install_boot_erase(world, install_rpms):
    names = ["qubes-network-server", "qubes-network-server-inbound", "qubes-vpn", "qubes-network-server-dom0"]
    rpm_files(*names)
    machine = world.machine("vpn", services=[*NET, "qubes-vpn"])
    # Presets of Fedora: all is off that no preset names.
    machine.write("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n")
    machine.boot()
    machine.run("groupadd", "-r", "qubes")
    install_rpms(machine, *names)
    for unit in (ROUTER, INBOUND, SEAL, VPN, SERVERD):
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
    machine.stop()
    machine.boot()
    for unit in (SEAL, VPN, ROUTER, SERVERD):
        machine.wait_active(unit)
    assert machine.show(INBOUND, "ConditionResult") == "no"
    assert sealed(machine) == []
    # The same files again: an upgrade to the same version restarts what runs.
    before = machine.show(SEAL, "MainPID")
    target = machine.root / "var/tmp/rpms"
    target.mkdir()
    shutil.copy(rpm_files("qubes-vpn")[0], target)
    machine.run("sh", "-ec", f"{' '.join(RPM)} -U --force --nodeps --excludedocs /var/tmp/rpms/*.rpm")
    machine.wait_active(VPN)
    assert machine.show(SEAL, "MainPID") != before
    shutil.rmtree(target)
    files = machine.run(*RPM, "-qal").split()
    machine.run(*RPM, "-e", *names)
    left = [file for file in files if (machine.root / file.lstrip("/")).is_file()]
    assert left == []
    for unit in (SEAL, VPN, ROUTER, SERVERD):
        assert machine.active(unit) in ("inactive", "failed")
    assert machine.status("test", "-e", "/run/qubes-vpn") != 0
    # What was armed is armed.
    assert "80:\tfrom all blackhole" in machine.run("ip", "rule")
    machine.run("nft", "list", "table", "inet", "qubes-vpn")
    machine.run("nft", "list", "table", "netdev", "qubes-vpn")


def test_rpms_over_older_packages(world, install_rpms, tmp_path):
    """Upgrade in one transaction: the user's files are kept byte for byte, a unit he changed is ours again with his beside it,
    what the older packages had is gone, and forwarding waits for the seal from then on."""
    names = ["qubes-vpn", "qubes-network-server"]
    rpm_files(*names, "qubes-network-server-dom0")
    older_rpms = [older.make_rpm(tmp_path, name) for name in [*names, "qubes-core-admin-addon-network-server"]]
    machine = world.machine("vpn", services=[*NET, "qubes-vpn"])
    machine.write("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n")
    older.configure(machine)
    machine.boot()
    machine.run("groupadd", "-r", "qubes")
    machine.run("apt-get", "install", "-y", "-q", "--no-install-recommends", "rpm")
    machine.run(*RPM, "--initdb")
    for file in older_rpms:
        shutil.copy(file, machine.root / "var/tmp")
    machine.run("sh", "-ec", f"{' '.join(RPM)} -i --nodeps /var/tmp/*.rpm; rm /var/tmp/*.rpm")
    links = machine.root / "etc/systemd/system"
    assert (links / f"qubes-network.service.wants/{ROUTER}").is_symlink()
    assert (links / "multi-user.service.wants/qubes-vpn-configuration.path").is_symlink()
    assert machine.active(SEAL) == "active"
    with open(machine.root / older.CONFIG.lstrip("/"), "a", encoding="ascii") as file:
        file.write("# changed by the user\n")

    install_rpms(machine, *names, "qubes-network-server-dom0", verb="-U")
    assert machine.run(*RPM, "-q", "--qf", "%{NAME} %{VERSION}\n", *names).split("\n")[:-1] == \
        [f"{name} {VERSION}" for name in names]
    assert machine.status(*RPM, "-q", "qubes-core-admin-addon-network-server") != 0
    known = machine.run(*RPM, "-qal").split()
    assert older.left(machine, older.ALL, known) == []
    assert older.dangling(machine) == []
    assert older.kept(machine)
    # No unit of ours is a file of configuration: the user's is beside it, and not used.
    assert "qubes-routing-manager" in machine.run("cat", older.CONFIG)
    assert "# changed by the user" not in machine.run("cat", older.CONFIG)
    for unit in (SEAL, VPN, ROUTER):
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
    assert (links / f"qubes-network.service.requires/{SEAL}").is_symlink()
    assert not (links / f"qubes-network.service.wants/{ROUTER}").exists()
    machine.run("systemctl", "restart", SEAL, VPN)
    machine.wait_active(VPN)
    assert sealed(machine) == []
    assert older.kept(machine)
