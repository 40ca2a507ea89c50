# SPDX-License-Identifier: GPL-2.0-or-later
"""Stand-ins for the older packages: their names, versions, places of files, units and scripts, as far as an upgrade meets
them. What the programs did is not here."""

import pathlib
import subprocess
import textwrap

_SCRIPT = "#!/bin/sh\n# older\nexit 0\n"
_DESKTOP = "[Desktop Entry]\nType=Application\nName=older\nExec=/usr/bin/true\n"
PRESETS = "/usr/lib/systemd/system-preset"
UNITS = "/usr/lib/systemd/system"

VPN = {
    "/usr/sbin/qubes-vpn-forwarding": _SCRIPT,
    "/usr/sbin/qubes-vpn-interface-control": _SCRIPT,
    "/usr/bin/qubes-vpn-configurator": _SCRIPT,
    "/usr/libexec/qubes-vpn-notifier": _SCRIPT,
    "/usr/libexec/qubes-vpn-config-change-detector": _SCRIPT,
    f"{UNITS}/qubes-vpn.service":
        "[Unit]\nConditionPathExists=/rw/config/qubes-vpn/qubes-vpn.conf\nAfter=qubes-vpn-forwarding.service\n"
        "[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    f"{UNITS}/qubes-vpn-forwarding.service":
        "[Unit]\nConditionPathExists=/var/run/qubes-service/qubes-vpn\nBefore=qubes-network.service\n"
        "After=qubes-iptables.service\nPartOf=qubes-iptables.service\n"
        "[Service]\nType=oneshot\nRemainAfterExit=true\nExecStart=/usr/sbin/qubes-vpn-forwarding on\n"
        "ExecStop=/bin/sh -c 'echo off >> /run/older-said'\n[Install]\nWantedBy=multi-user.target\n",
    f"{UNITS}/qubes-vpn-configuration.service": "[Service]\nType=oneshot\nExecStart=/usr/bin/true\n",
    f"{UNITS}/qubes-vpn-configuration.path":
        "[Path]\nPathChanged=/rw/config/qubes-vpn\n[Install]\nWantedBy=multi-user.service\n",
    f"{PRESETS}/78-qubes-vpn.preset":
        "enable qubes-vpn.service\nenable qubes-vpn-forwarding.service\nenable qubes-vpn-configuration.path\n",
    "/etc/sudoers.d/qubes-vpn": "qubes-vpn ALL = NOPASSWD:/usr/sbin/qubes-vpn-interface-control\n",
    "/etc/xdg/autostart/qubes-vpn-notifier.desktop": _DESKTOP,
    "/usr/share/applications/qubes-vpn-configurator.desktop": _DESKTOP,
    "/usr/share/icons/hicolor/48x48/apps/qubes-vpn.png": "older\n",
}
SERVER = {
    "/usr/sbin/qubes-routing-manager": _SCRIPT,
    "/usr/lib/python3/dist-packages/qubesroutingmanager/__init__.py": "# older\n",
    f"{UNITS}/qubes-routing-manager.service":
        "[Unit]\nAfter=qubes-network.service qubes-iptables.service\nBindsTo=qubes-iptables.service\n"
        "ConditionPathExists=/var/run/qubes-service/qubes-network\n"
        "[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=qubes-network.service\n",
    f"{PRESETS}/75-qubes-network-server.preset": "enable qubes-routing-manager.service\n",
}
DOM0 = {"/usr/lib/python3/dist-packages/qubesnetworkserver/__init__.py": "# older\n"}

ALL = {"qubes-vpn": ("0.0.4", VPN, ["qubes-vpn.service", "qubes-vpn-forwarding.service", "qubes-vpn-configuration.path"]),
       "qubes-network-server": ("0.1.6", SERVER, ["qubes-routing-manager.service"]),
       "qubes-core-admin-addon-network-server": ("0.1.6", DOM0, [])}
# A unit that its package marked as configuration, so that users changed it.
CONFIG = f"{UNITS}/qubes-routing-manager.service"


def _mode(path):
    return "0440" if "sudoers" in path else "0755" if "bin/" in path or "libexec/" in path else "0644"


def _write(tree, files):
    for path, text in files.items():
        there = tree / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text, encoding="utf-8")
        there.chmod(int(_mode(path), 8))


def make_deb(folder, name):
    version, files, units = ALL[name]
    tree = pathlib.Path(folder) / name
    # Debian's own place of units, where the root is merged or not.
    _write(tree, {path.replace("/usr/lib/systemd/system/", "/lib/systemd/system/"): text for path, text in files.items()})
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}-1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n"
        "Description: stand-in for an older package\n", encoding="ascii")
    (tree / "DEBIAN/conffiles").write_text("".join(f"{path}\n" for path in files if path.startswith("/etc/")),
                                           encoding="ascii")
    start = "".join(f"systemctl enable {unit}; systemctl start {unit} || :\n" for unit in units)
    scripts = {"postinst": f'#!/bin/sh\n[ "$1" = configure ] || exit 0\nid qubes-vpn > /dev/null 2>&1 || '
                           f'useradd -r -d /var/empty/qubes-vpn qubes-vpn || :\n{start}exit 0\n'}
    for script, text in scripts.items():
        (tree / "DEBIAN" / script).write_text(text, encoding="ascii")
        (tree / "DEBIAN" / script).chmod(0o755)
    deb = pathlib.Path(folder) / f"{name}_{version}-1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, deb], check=True, stdout=subprocess.DEVNULL)
    return deb


def make_rpm(folder, name):
    version, files, units = ALL[name]
    folder = pathlib.Path(folder) / f"rpm-{name}"
    _write(folder / "tree", files)
    listed = "\n".join(f"{'%config ' if path == CONFIG else ''}%attr({_mode(path)}, root, root) {path}" for path in files)
    names = " ".join(units)
    post = textwrap.dedent(f"""
        %pre
        id qubes-vpn > /dev/null 2>&1 || useradd -r -d /var/empty/qubes-vpn qubes-vpn || :
        %post
        if [ $1 -eq 1 ]; then systemctl --no-reload preset {names}; systemctl daemon-reload; systemctl start {names}; fi || :
        %preun
        if [ $1 -eq 0 ]; then systemctl --no-reload disable --now {names}; fi || :
        %postun
        if [ $1 -ge 1 ]; then systemctl daemon-reload; systemctl try-restart {names}; fi || :
        """) if units else ""
    spec = folder / "older.spec"
    spec.write_text(f"Name: {name}\nVersion: {version}\nRelease: 1\nSummary: stand-in for an older package\n"
                    f"License: none\nBuildArch: noarch\n%description\nStand-in.\n%install\n"
                    f"cp -a {folder}/tree/. %{{buildroot}}/\n{post}\n%files\n{listed}\n", encoding="ascii")
    subprocess.run(["rpmbuild", "--nodeps", "-bb", "-D", f"_topdir {folder}/build", "-D", f"_rpmdir {folder}",
                    "-D", "_build_name_fmt %%{NAME}-%%{VERSION}.rpm", "-D", "__os_install_post %{nil}",
                    "-D", "__brp_mangle_shebangs %{nil}", str(spec)], check=True, capture_output=True)
    return folder / f"{name}-{version}.rpm"


# What the user made, in the qube.
PROFILE = (b"client\nremote 192.0.2.7 1194 udp\n# mine, with a strange end: \xe4\t \r\ndev tun\nremote-cert-tls server\n"
           b"ca ca.crt\nauth-user-pass qubes-vpn.creds\n")
SECRET = b"somebody\nhush\n"


def configure(machine):
    """The user's own files, and a changed unit."""
    folder = machine.root / "rw/config/qubes-vpn"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qubes-vpn.conf").write_bytes(PROFILE)
    (folder / "qubes-vpn.creds").write_bytes(SECRET)
    (folder / "ca.crt").write_bytes(b"no certificate\n")


def kept(machine):
    folder = machine.root / "rw/config/qubes-vpn"
    return ((folder / "qubes-vpn.conf").read_bytes(), (folder / "qubes-vpn.creds").read_bytes()) == (PROFILE, SECRET)


def left(machine, names, known):
    """Files of older packages that are there and are not of the new ones."""
    found = []
    for name in names:
        for path in ALL[name][1]:
            place = machine.root / path.lstrip("/")
            if path not in known and place.exists():
                found.append(path)
            found += [f"{path}: older" for text in [ALL[name][1][path]]
                      if place.is_file() and place.read_bytes() == text.encode()]
    return found


def dangling(machine):
    """Links of units to files that are not there."""
    links = [path for path in (machine.root / "etc/systemd/system").glob("**/*") if path.is_symlink()]
    gone = []
    for link in links:
        target = link.readlink()
        if str(target) != "/dev/null" and not (machine.root / str(target).lstrip("/")).exists():
            gone.append(str(link))
    return gone
