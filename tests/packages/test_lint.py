# SPDX-License-Identifier: GPL-2.0-or-later
"""rpmlint and lintian have nothing to say that packaging/rpmlint.toml and debian/ do not answer. SLUICE_DEBS and SLUICE_RPMS
name the folders of the packages (default: dist)."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
DEBS = pathlib.Path(os.environ.get("SLUICE_DEBS", TOP / "dist")).resolve()
RPMS = pathlib.Path(os.environ.get("SLUICE_RPMS", TOP / "dist")).resolve()
VERSION = (TOP / "version").read_text(encoding="ascii").strip()
SPECS = ["sluice", "sluice-dom0"]

needs_rpmlint = pytest.mark.skipif(not shutil.which("rpmlint"), reason="rpmlint")


def write_spec(name, folder):
    """The spec as it is built."""
    text = (TOP / f"rpm_spec/{name}.spec.in").read_text(encoding="utf-8").replace("@VERSION@", VERSION)
    done = subprocess.run([TOP / "packaging/changelog.sh", TOP / "debian/changelog"], input=text, check=True,
                          capture_output=True, text=True)
    (folder / f"{name}.spec").write_text(done.stdout, encoding="utf-8")
    return folder / f"{name}.spec"


def rpmlint(*files):
    """What it finds, one line each."""
    done = subprocess.run(["rpmlint", "-c", TOP / "packaging/rpmlint.toml", *files], check=False, capture_output=True,
                          text=True)
    return re.findall(r"^\S+: [EW]: .*$", done.stdout, re.MULTILINE)


@needs_rpmlint
def test_specs(tmp_path):
    assert rpmlint(*(write_spec(name, tmp_path) for name in SPECS)) == []


@needs_rpmlint
def test_rpms():
    files = sorted(RPMS.glob("*.rpm"))
    if not files:
        pytest.skip(f"no RPMs in {RPMS}: make rpm")
    assert rpmlint(*files) == []


@needs_rpmlint
def test_rpmlint_sees_what_is_wrong(tmp_path):
    """The filters do not hide everything."""
    spec = write_spec("sluice", tmp_path)
    spec.write_text(spec.read_text(encoding="utf-8").replace("%prep\n", "%prep\n\trm -rf $RPM_BUILD_ROOT\n", 1)
                    .replace("Name:           sluice", "Name:\t\tsluice", 1), encoding="utf-8")
    assert rpmlint(spec) != []


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian")
def test_debs():
    changes = sorted(DEBS.glob("sluice_*.changes"))
    if len(changes) != 1:
        pytest.skip(f"no packages in {DEBS}: make deb")
    done = subprocess.run(["lintian", "--allow-root", "--suppress-tags", "bogus-mail-host,bogus-mail-host-in-debian-changelog",
                           "--display-info", "--pedantic", "--fail-on", "error,warning,info,pedantic", changes[0]],
                          check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_overrides_are_explained():
    """Each override stands below a comment."""
    for path in (TOP / "debian").glob("*.lintian-overrides"):
        before = ""
        for line in filter(None, path.read_text(encoding="utf-8").splitlines()):
            assert line.startswith("#") or before.startswith("#"), f"{path.name}: {line}"
            before = line if line.startswith("#") else before
    before = ""
    for line in (TOP / "packaging/rpmlint.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("    ") and not line.strip().startswith("#"):
            assert before.strip().startswith("#"), line
        before = line
