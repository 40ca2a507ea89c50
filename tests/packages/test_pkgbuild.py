# SPDX-License-Identifier: GPL-2.0-or-later
"""The PKGBUILD, as far as bash alone can tell: what makepkg does with it is done by a stand-in, in a folder."""

import pathlib
import re
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
VERSION = (TOP / "version").read_text(encoding="ascii").strip()
FIELDS = ["pkgbase", "pkgname", "pkgver", "arch", "license", "makedepends", "source", "sha256sums"]
# Names there of what Meson wants.
LIBRARIES = {"libmnl": "libmnl", "libnftnl": "libnftnl", "libsystemd": "systemd-libs", "jansson": "jansson",
             "smartcols": "util-linux-libs", "libcares": "c-ares", "gtk+-3.0": "gtk3"}

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="bash")


@pytest.fixture
def pkgbuild(tmp_path):
    text = (TOP / "archlinux/PKGBUILD.in").read_text(encoding="utf-8")
    assert text.count("@VERSION@") == 1
    path = tmp_path / "PKGBUILD"
    path.write_text(text.replace("@VERSION@", VERSION), encoding="utf-8")
    return path


def bash(script, *words, **options):
    done = subprocess.run(["bash", "-euc", script, "bash", *words], check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields(path):
    text = bash('source "$1"; for name in "${@:2}"; do declare -n list=$name; printf "%s:%s\\n" "$name" "${list[*]}"; done',
                str(path), *FIELDS)
    return {name: value.split() for name, value in (line.split(":", 1) for line in text.splitlines())}


def test_fields(pkgbuild):
    subprocess.run(["bash", "-n", pkgbuild], check=True)
    found = fields(pkgbuild)
    assert found["pkgver"] == [VERSION]
    assert re.fullmatch(r"[\w.]+", VERSION)  # makepkg takes no dash in it
    assert len(found["source"]) == len(found["sha256sums"])
    packages = re.findall(r"^package_([\w-]+)\(\)", pkgbuild.read_text(encoding="utf-8"), re.MULTILINE)
    assert found["pkgname"] == packages
    # Each of Debian's packages but dom0's has one here.
    lists = {path.stem for path in (TOP / "debian").glob("*.install")}
    assert set(packages) == lists - {"qubes-network-server-dom0"}


def test_what_meson_wants_is_listed(pkgbuild):
    found = fields(pkgbuild)
    text = "".join(path.read_text(encoding="utf-8") for path in [TOP / "meson.build", *TOP.glob("src/**/meson.build")])
    wanted = set(re.findall(r"dependency\('([^']+)'", text)) - {"cmocka", "threads"}
    unknown = {name for name in wanted if name not in LIBRARIES and not name.startswith(("gio", "glib"))}
    assert unknown == set()
    missing = {LIBRARIES[name] for name in wanted & set(LIBRARIES)} - set(found["makedepends"])
    assert missing == set()


def test_packages_take_their_files(pkgbuild, tmp_path):
    """package_*() run over what an installation would have: each gets the files of its list, none is nobody's but dom0's."""
    source = tmp_path / "src"
    archive = source / f"sluice-{VERSION}"
    archive.mkdir(parents=True)
    shutil.copytree(TOP / "debian", archive / "debian")
    everything = source / "all"
    lists = {path.stem: path.read_text(encoding="utf-8").split() for path in (TOP / "debian").glob("*.install")}
    for patterns in lists.values():
        for pattern in patterns:
            place = everything / re.sub(r"\*", "x", pattern)
            place.parent.mkdir(parents=True, exist_ok=True)
            if "." in place.name or "/bin/" in pattern or "completions" in pattern or place.parent.name in (
                    "qubes-rpc", "rpc-config"):
                place.write_text(pattern, encoding="ascii")
                place.chmod(0o755 if "/bin/" in pattern else 0o644)
            else:
                place.mkdir(exist_ok=True)
                (place / "file").write_text(pattern, encoding="ascii")
    taken = {}
    for name in fields(pkgbuild)["pkgname"]:
        target = tmp_path / "pkg" / name
        target.mkdir(parents=True)
        bash('source "$1"; srcdir=$2 pkgdir=$3 pkgname=$4; "package_$4"; [ "${#depends[@]}" -gt 0 ]; [ -n "$pkgdesc" ]',
             str(pkgbuild), str(source), str(target), name)
        taken[name] = {str(path.relative_to(target)) for path in target.glob("**/*") if path.is_file()}
        for path in taken[name]:
            assert (target / path).stat().st_mode & 0o777 == (0o755 if "/bin/" in path else 0o644), path
        assert taken[name], name
    for one in taken:
        for other in taken:
            assert one == other or not taken[one] & taken[other]
    files = {str(path.relative_to(everything)) for path in everything.glob("**/*") if path.is_file()}
    rest = files - set().union(*taken.values())
    dom0 = lists["qubes-network-server-dom0"]
    assert {path for path in rest if not any(pathlib.PurePath(path).match(pattern) for pattern in dom0)} == set()
