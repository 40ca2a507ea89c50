# SPDX-License-Identifier: GPL-2.0-or-later
"""The Salt formula: what it renders to, and what that does in dom0. Salt's renderer and its states have stand-ins here
(renderer.py, minion.py); qvm-expose and qubes-network-serverd are the real ones, qubesd is the lab's."""

import copy
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

pytest.importorskip("jinja2")
yaml = pytest.importorskip("yaml")

# pylint: disable=wrong-import-position
from lab.dom0 import Dom0
from lab.node import wait_until
from lab.router import SLOW
from lab.serverd import EXPOSE, SERVERD, Expose, Serverd, available

from minion import Minion, Unknown
from renderer import ROOT, STATES, RenderError, Renderer, _state, pillar_of

pytestmark = pytest.mark.skipif(not (available(EXPOSE) and available(SERVERD)), reason="programs of dom0 are not built")

VPN = {"sys-vpn": {"template": "debian-12-xfce", "netvm": "sys-net", "clients": ["work"], "autostart": True}}
QVM = ("qvm-prefs", "qvm-features", "qvm-service", "qvm-start", "qvm-ls", "qvm-check")
UNTIL = time.strftime("%Y-%m-%dT18:00:00Z", time.gmtime(time.time() + 300 * 86400))
WEB = {"ip": "192.168.16.25", "allow": ["tcp/80,443", "tcp/22 from 192.168.16.10"]}
FULL = WEB | {"ip6": "2001:DB8:16:0::25", "publish": ["tcp/8443:443"], "until": UNTIL, "limit": 20,
              "log": True, "keep": True}


class World:
    """dom0 with a chain of net qubes, web and work behind it; its commands, and the minion that performs states there."""

    def __init__(self, dom0, folder):
        self.dom0, self.bin = dom0, folder / "bin"
        self.bin.mkdir()
        dom0.add("debian-12-xfce", "TemplateVM", database=False)
        dom0.add("sys-net", provides_network=True, netvm=None, qid=2)
        dom0.add("sys-firewall", provides_network=True, netvm="sys-net", qid=3)
        for qid, name in enumerate(("web", "db", "work"), 4):
            dom0.add(name, netvm="sys-firewall", qid=qid)
        dom0["sys-firewall"].features["ipv6"] = "1"
        dom0.start("web")
        self.serverd = Serverd(dom0, start=False)
        self.expose = Expose(dom0)
        for name in QVM:
            shutil.copy(ROOT / "tests/documents/qvm", self.bin / name)
        self._script("qvm-expose", f'exec {" ".join(self.expose.command())} "$@"')
        self.minion = Minion(dom0, os.environ | {
            "PATH": f"{self.bin}:/usr/bin:/bin", "QUBESD_SOCKET": dom0.socket, "QUBESDB_DIRECTORY": dom0.folder,
            "RUNTIME_DIRECTORY": f"{dom0.folder}/run"}, self.serverd)

    def _script(self, name, text):
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def render(self, pillar, sls="sluice"):
        return Renderer({"sluice": pillar}, run=lambda command: self.minion.sh(command).stdout).states(sls)

    def apply(self, pillar, test=False, sls="sluice"):
        return self.minion.apply(self.render(pillar, sls), test)

    def everything(self):
        """Features and set properties of all qubes, and who runs."""
        return {vm.name: (dict(vm.features), dict(vm.explicit), vm.state) for vm in self.dom0.model.sorted()}

    def records(self):
        """What the daemon wrote into the net qubes and the exposed qube, when it has settled; without the xid of web."""
        assert self.serverd.running()
        wait_until(lambda: self.serverd.call("--check").returncode == 0, 20 * SLOW, "records as wished", 0.05)
        return {name: self.dom0.keys(name) for name in ("sys-net", "sys-firewall", "web")}


@pytest.fixture
def world(tmp_path):
    with Dom0() as dom0:
        yield World(dom0, tmp_path)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """For what changes nothing."""
    with Dom0() as dom0:
        yield World(dom0, tmp_path_factory.mktemp("untouched"))


def failures(results):
    return [(one.id, one.comment) for one in results if one.result is False]


def changed(results):
    return [one.id for one in results if one.changes]


def by_hand(world):
    done = world.expose("web", "--ip", "192.168.16.25", "--ip", "2001:db8:16::25", "--allow", "tcp/80,443", "--allow",
                        "tcp/22 from 192.168.16.10", "--publish", "tcp/8443:443", "--until", UNTIL,
                        "--limit", "20", "--log", "--keep", "--no")
    assert done.returncode == 0, done.stderr


def test_an_exposure_is_what_qvm_expose_makes(world, tmp_path):
    results = world.apply({"expose": {"web": FULL}})
    assert not failures(results)
    assert changed(results) == ["sluice-daemon", "sluice-expose-web"]
    made, records = world.everything(), world.records()
    assert any("192.168.16.25" in key or "10.137.0.4" in key for key in records["sys-net"]), records
    with Dom0() as other:
        (tmp_path / "other").mkdir()
        beside = World(other, tmp_path / "other")
        beside.serverd.start()
        by_hand(beside)
        assert beside.everything() == made
        assert beside.records() == records


def test_the_second_time_changes_nothing(world):
    world.apply({"expose": {"web": FULL, "db": {"publish": "udp/53"}}})
    before, count = world.everything(), len(world.minion.commands)
    world.dom0.history.clear()
    results = world.apply({"expose": {"web": FULL, "db": {"publish": "udp/53"}}})
    assert not failures(results) and not changed(results)
    assert world.everything() == before and len(world.minion.commands) == count
    assert not [event for _, event, _ in world.dom0.history if "set" in event or "delete" in event]


def test_a_dry_run_changes_nothing(world):
    pillar = {"expose": {"web": FULL}, "vpn": VPN}
    before = world.everything()
    results = world.apply(pillar, test=True)
    assert world.everything() == before and not world.minion.commands and not world.serverd.running()
    told = {one.id: one.result for one in results}
    assert told["sluice-vpn-sys-vpn"] is None and told["sluice-expose-web"] is None
    assert told["sluice-vpn-sys-vpn-service"] is False, "it is not there yet"
    # Also when all that a VPN qube needs differs, and the qube is there.
    world.dom0.add("sys-vpn", template="debian-12-xfce", netvm="sys-firewall")
    before = world.everything()
    results = world.apply(pillar, test=True)
    assert world.everything() == before and not world.minion.commands
    assert not failures(results) and all(one.result is None for one in results if one.id != "sluice-vpn-sys-vpn")


def test_what_is_gone_from_the_pillar_is_taken_back(world):
    world.apply({"expose": {"web": FULL}})
    assert not failures(world.apply({"expose": {"web": {"publish": "tcp/8443:443"}}}))
    features = world.dom0["web"].features
    assert features == {"network-server.publish": "tcp/8443:443"}
    assert not failures(world.apply({"expose": {"web": {"closed": True}}}))
    assert not world.dom0["web"].features
    assert not changed(world.apply({"expose": {"web": {"closed": True}}}))
    assert not [key for key in world.records()["sys-net"] if "10.137.0.4" in key]


def test_what_a_template_gives_is_overruled_once(world):
    world.dom0.set_feature("fedora", "network-server.limit", "5")
    pillar = {"expose": {"web": WEB}}
    assert changed(world.apply(pillar)) == ["sluice-daemon", "sluice-expose-web"]
    assert world.dom0["web"].features["network-server.limit"] == ""
    assert not changed(world.apply(pillar))


def test_what_somebody_changed_by_hand_is_put_right(world):
    world.apply({"expose": {"web": WEB}})
    world.dom0.set_feature("web", "network-server.allow", "any")
    assert changed(world.apply({"expose": {"web": WEB}})) == ["sluice-expose-web"]
    assert world.dom0["web"].features["network-server.allow"] == "tcp/80,443;tcp/22 from 192.168.16.10"


def test_a_changed_address_is_attached_when_told(world):
    world.apply({"expose": {"web": WEB}})
    assert world.dom0["web"].live[1] == "10.137.0.4"
    world.dom0.set_property("web", "ip", "10.137.0.4")
    world.apply({"expose": {"web": WEB | {"attach": True}}})
    assert world.dom0["web"].live[1] == "192.168.16.25"


def test_a_refusal_fails_its_state_and_no_other(world):
    """Sound as text, and wrong beside what is there."""
    world.dom0.set_property("work", "ip", "192.168.16.25")
    before = dict(world.dom0["web"].features)
    results = world.apply({"expose": {"web": WEB, "db": {"publish": "tcp/8080"}}})
    assert [one for one, _ in failures(results)] == ["sluice-expose-web"]
    assert "192.168.16.25" in dict(failures(results))["sluice-expose-web"]
    assert world.dom0["web"].features == before
    assert world.dom0["db"].features["network-server.publish"] == "tcp/8080"


def test_without_the_daemon_nothing_is_exposed(world):
    world.minion.serverd = None   # not installed
    results = world.apply({"expose": {"web": WEB}})
    assert {one for one, _ in failures(results)} == {"sluice-daemon", "sluice-expose-web"}
    assert not world.dom0["web"].features


def test_a_vpn_qube_is_made(world):
    world.dom0.history.clear()
    results = world.apply({"vpn": VPN})
    assert not failures(results)
    vm = world.dom0["sys-vpn"]
    assert vm.features == {"service.qubes-vpn": "1"}
    told = {name: world.dom0.model.value(vm, name) for name in ("provides_network", "netvm", "autostart", "label", "template")}
    assert told == {"provides_network": True, "netvm": "sys-net", "autostart": True, "label": "blue",
                    "template": "debian-12-xfce"}
    assert world.dom0.model.value(world.dom0["work"], "netvm") == "sys-vpn"
    # Sealed before anybody is behind it.
    events = [(who, event) for who, event, _ in world.dom0.history]
    assert events.index(("sys-vpn", "domain-feature-set:service.qubes-vpn")) < events.index(("work", "property-set:netvm"))
    before = world.everything()
    assert not changed(world.apply({"vpn": VPN})) and world.everything() == before


def test_a_qube_becomes_a_vpn_qube_with_a_running_client(world):
    """It exists, wrongly set up, and is off; its client runs."""
    world.dom0.add("sys-vpn", template="debian-12-xfce", netvm="sys-firewall")
    world.dom0.start("work")
    results = world.apply({"vpn": {"sys-vpn": {"template": "debian-12-xfce", "clients": "work"}}})
    assert not failures(results)
    assert world.dom0["sys-vpn"].is_running and world.dom0["work"].live[0] == "sys-vpn"


def test_clients_stay_where_they_are_when_the_vpn_qube_cannot_be(world):
    """sys-vpn cannot have sys-firewall as its net qube: that one is behind it."""
    world.dom0.add("sys-vpn", template="debian-12-xfce", netvm="sys-net", provides_network=True)
    world.dom0.start("sys-vpn")
    world.dom0.set_property("sys-firewall", "netvm", "sys-vpn")
    results = world.apply({"vpn": {"sys-vpn": VPN["sys-vpn"] | {"netvm": "sys-firewall"}}})
    assert {one for one, _ in failures(results)} == {"sluice-vpn-sys-vpn-netvm", "sluice-vpn-sys-vpn-client-work"}
    assert world.dom0.model.value(world.dom0["work"], "netvm") == "sys-firewall"


WRONG = {
    "ip": ({"expose": {"web": WEB | {"ip": "192.168.16.256"}}}, 'expose: web: ip: "192.168.16.256" is no IPv4 address'),
    "ip-short": ({"expose": {"web": WEB | {"ip": "192.168.16"}}}, "is no IPv4 address"),
    "ip-newline": ({"expose": {"web": WEB | {"ip": "192.168.16.25\n"}}}, "is no IPv4 address"),
    "ip-net": ({"expose": {"web": WEB | {"ip": "192.168.16.25/24"}}}, "is no IPv4 address"),
    "ip6": ({"expose": {"web": WEB | {"ip6": "192.168.16.25"}}}, "is no IPv6 address"),
    "ip6-scope": ({"expose": {"web": WEB | {"ip6": "fe80::1%eth0"}}}, "is no IPv6 address"),
    "qube": ({"expose": {"wbe": WEB}}, "expose: wbe: there is no qube wbe"),
    "qube-name": ({"expose": {"web; reboot": WEB}}, "is no qube, like web"),
    "option": ({"expose": {"--off": WEB}}, "is no qube, like web"),
    "dom0": ({"expose": {"dom0": WEB}}, "there is no qube dom0"),
    "quote": ({"expose": {"web": {"allow": ["tcp/80'; reboot; '"]}}}, "expose: web: allow: "),
    "dollar": ({"expose": {"web": {"allow": "tcp/80 from $(reboot)"}}}, "is no rule, like tcp/22 from"),
    "rule-newline": ({"expose": {"web": {"allow": "tcp/80\nreboot"}}}, "is no rule"),
    "rule-joined": ({"expose": {"web": {"allow": "tcp/80;tcp/81"}}}, "is no rule"),
    "number": ({"expose": {"web": {"allow": 80}}}, "is no list of one rule or more"),
    "rules-empty": ({"expose": {"web": {"allow": []}}}, "is no list of one rule or more"),
    "map": ({"expose": {"web": {"publish": "icmp"}}}, "is no map, like tcp/8443:443"),
    "none": ({"expose": {"web": {}}}, "nothing says what to open"),
    "null": ({"expose": {"web": None}}, "expose: web: is no mapping"),
    "only-ip": ({"expose": {"web": {"ip": "192.168.16.25"}}}, "nothing says what to open"),
    "misspelt": ({"expose": {"web": WEB | {"untill": UNTIL}}}, "untill: there is no such key; known are"),
    "until": ({"expose": {"web": WEB | {"until": "tomorrow"}}}, "is no time, like"),
    "until-number": ({"expose": {"web": WEB | {"until": 2099}}}, "is no time, like"),
    "limit": ({"expose": {"web": WEB | {"limit": 0}}}, "limit: is no number from 1 to 1000000"),
    "limit-true": ({"expose": {"web": WEB | {"limit": True}}}, "limit: is no number"),
    "limit-text": ({"expose": {"web": WEB | {"limit": "20"}}}, "limit: is no number"),
    "flag": ({"expose": {"web": WEB | {"log": "yes please"}}}, "log: is neither true nor false"),
    "flag-none": ({"expose": {"web": WEB | {"closed": None}}}, "closed: is neither true nor false"),
    "closed": ({"expose": {"web": WEB | {"closed": True}}}, "closed: true goes with nothing else"),
    "twice": ({"expose": {"web": WEB, "db": WEB}}, "web: db has 192.168.16.25 as well"),
    "section": ({"exposed": {"web": WEB}}, "exposed: there is no such key; known are expose and vpn"),
    "no-mapping": ({"expose": ["web"]}, "expose: is no mapping of qubes"),
    "template": ({"vpn": {"sys-vpn": {"template": "debian-99"}}}, "vpn: sys-vpn: template: there is no qube debian-99"),
    "no-template": ({"vpn": {"sys-vpn": {}}}, "vpn: sys-vpn: template: "),
    "netvm": ({"vpn": {"sys-vpn": {"template": "debian-12-xfce", "netvm": "sys-nte"}}}, "netvm: there is no qube sys-nte"),
    "client": ({"vpn": {"sys-vpn": {"template": "debian-12-xfce", "clients": ["wrok"]}}}, "there is no qube wrok"),
    "itself": ({"vpn": {"sys-vpn": {"template": "debian-12-xfce", "clients": "sys-vpn"}}}, "cannot be behind itself"),
    "label": ({"vpn": {"sys-vpn": {"template": "debian-12-xfce", "label": "$(id)"}}}, "is no label, like blue"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pillar_is_told_before_anything_happens(untouched, name):
    world = untouched
    pillar, says = WRONG[name]
    good = {"vpn": VPN, "expose": {"db": {"publish": "tcp/8080"}}}
    before = world.everything()
    with pytest.raises(RenderError) as told:
        world.apply({key: good.get(key, {}) | pillar[key] if isinstance(pillar.get(key, {}), dict) and key in pillar
                     else pillar.get(key, value) for key, value in (good | pillar).items()})
    assert "Rendering SLS 'sluice" in str(told.value) and says in str(told.value)
    assert world.everything() == before and not world.minion.commands


def test_what_qvm_expose_takes_the_pillar_takes(world):
    for rule in ("any", "icmp", "tcp", "udp/53", "tcp/80,443", "tcp/6000-6010,22 from 10.0.0.0/8,192.168.0.1",
                 "any from 2001:db8::/32", "icmp from ::1", "tcp/22 from 192.168.16.10,2001:db8:16::/64"):
        results = world.apply({"expose": {"web": {"allow": rule}}})
        assert not failures(results)
        assert world.dom0["web"].features["network-server.allow"] == rule


def test_the_pillar_beside_it_is_one_that_works(world):
    pillar = pillar_of()["sluice"]
    assert not failures(world.apply(pillar))
    assert not changed(world.apply(pillar))
    assert not failures(world.apply({})), "without a pillar there is nothing to do but to run the daemon"


def test_the_pillar_names_every_key(world):
    """The comment shows what else may stand there; uncommented, it works."""
    text = (ROOT / "salt/pillar/sluice/init.sls").read_text(encoding="utf-8")
    macro = (STATES / "sluice/map.jinja").read_text(encoding="utf-8")
    for known in re.findall(r"check_keys\(where, entry, \[(.*?)\]\)", macro):
        for key in re.findall(r"'(\w+)'", known):
            assert re.search(rf"\b{key}:", text), key
    more = [line.replace("# ", "", 1) for line in re.findall(r"^    #   (?!closed).*$", text, re.M)]
    entry = yaml.safe_load("\n".join(line[6:] for line in more))
    assert len(entry) == 7
    assert not failures(world.apply({"expose": {"web": WEB | entry | {"until": UNTIL}}}))


def test_what_the_guide_shows_works(world):
    """Its pillars in their order, and the message that it quotes."""
    guide = (ROOT / "doc/guides/salt.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```yaml\n(.*?)^```", guide, re.M | re.S)
    assert len(shown) == 3
    for text in shown:
        pillar = yaml.safe_load(text)["sluice"]
        assert not failures(world.apply(pillar))
        assert not changed(world.apply(pillar))
    assert not world.dom0["web"].features
    pillar["expose"] = {"web": WEB | {"ip": "192.168.16.256"}}
    with pytest.raises(RenderError) as told:
        world.apply(pillar)
    assert str(told.value).split("sluice: ", 1)[1].split(",")[0] in guide


# -- templates ---------------------------------------------------------------------------------------------------------

ROLES = ("net", "server", "vpn")


def template_states(role, family="Debian"):
    return Renderer({}, grains={"os_family": family}).states(f"sluice.template.{role}")


@pytest.mark.parametrize("family", ["Debian", "RedHat"])
@pytest.mark.parametrize("role", ROLES)
def test_templates_get_packages_and_units_that_exist(role, family):
    control = (ROOT / "debian/control").read_text(encoding="utf-8")
    spec = (ROOT / "rpm_spec/sluice.spec.in").read_text(encoding="utf-8")
    packages = set(re.findall(r"^Package: (\S+)", control, re.M) if family == "Debian"
                   else re.findall(r"^%(?:package|files) -n (\S+)", spec, re.M))
    states = template_states(role, family)
    files = [state.arguments["source"] for state in states if state.function == "file.managed"]
    suffix = {"Debian": "deb", "RedHat": "rpm"}[family]
    assert files and all(re.fullmatch(rf"salt://sluice/packages/(\S+)\.{suffix}", one)[1] in packages for one in files)
    units = [state.name for state in states if state.function == "service.enabled"]
    assert units and all((ROOT / f"data/systemd/{unit}.service.in").is_file() for unit in units)
    assert not [state for state in states if state.function == "service.running"], "a template serves nobody"


def test_other_systems_are_refused():
    with pytest.raises(RenderError, match="packages are made for Debian and Fedora"):
        template_states("net", "Arch")


@pytest.fixture
def template(tmp_path):
    """A template of Debian: dpkg's real reader of packages, and an apt that notes what it installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {"apt-get": f'shift 3; for f in "$@"; do dpkg-deb -f "$f" Version > {tmp_path}/"$(dpkg-deb -f "$f" Package)"; '
                          f'done; echo "$@" >> {tmp_path}/log',
               "dpkg-query": f'cat {tmp_path}/"$4"', "test-pkg-install": "true"}
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return Minion(None, os.environ | {"PATH": f"{folder}:/usr/bin:/bin"}, root="")


def deb(folder, name, version):
    tree = pathlib.Path(folder) / f"{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody "
                                         "<nobody@localhost>\nDescription: test\n", encoding="ascii")
    subprocess.run(["dpkg-deb", "-b", str(tree), f"{tree}.deb"], check=True, capture_output=True)
    return pathlib.Path(f"{tree}.deb").read_bytes()


def test_a_template_gets_each_version_once(template, tmp_path):
    states = template_states("vpn")
    # The place of the files is that of the sandbox.
    for state in states:
        state.arguments |= {key: value.replace("/var/cache/sluice", str(tmp_path / "cache"))
                            for key, value in state.arguments.items() if key == "name"}
        state.unless[:] = [text.replace("/var/cache/sluice", str(tmp_path / "cache")) for text in state.unless]
    assert failures(template.apply(states)), "there are no packages yet"
    assert not (tmp_path / "log").exists()
    for version in ("1", "2"):
        template.fetch = {f"salt://sluice/packages/{name}.deb": deb(tmp_path, name, version)
                          for name in ("qubes-vpn", "qubes-vpn-desktop")}
        dry = template.apply(states, test=True)
        assert not failures(dry) and {one.id: one.result for one in dry}["sluice-file-qubes-vpn"] is None
        assert "sluice-packages" in changed(template.apply(states))
        assert (tmp_path / "qubes-vpn-desktop").read_text(encoding="ascii").strip() == version
        assert not changed(template.apply(states)) and not failures(template.apply(states))
    assert template.enabled == {"qubes-vpn-forwarding", "qubes-vpn"}
    assert len((tmp_path / "log").read_text(encoding="ascii").splitlines()) == 2


# -- the stand-ins -----------------------------------------------------------------------------------------------------

def test_the_stand_in_writes_properties_in_a_dry_run_as_the_real_one_does(world):
    """What test_a_dry_run_changes_nothing would notice."""
    state = _state("x", "qvm.prefs", [{"name": "work"}, {"netvm": "sys-net"}])
    world.minion.apply([state], test=True)
    assert world.dom0.model.value(world.dom0["work"], "netvm") == "sys-net"


def test_the_stand_in_knows_no_other_states(world):
    with pytest.raises(Unknown):
        world.minion.apply([_state("x", "qvm.expose", [{"name": "web"}])])
    with pytest.raises(Unknown):
        world.minion.apply([_state("x", "qvm.present", [{"name": "new"}, {"colour": "red"}])])
    with pytest.raises(Unknown):
        world.minion.apply([_state("x", "cmd.run", [{"name": "true"}, {"require": [{"cmd": "nothing"}]}])])


def test_top_files_name_what_exists():
    for folder, top in ((STATES, "sluice/init.top"), (ROOT / "salt/pillar", "sluice/init.top")):
        told = yaml.safe_load((folder / top).read_text(encoding="utf-8"))
        assert list(told) == ["base"] and list(told["base"]) == ["dom0"]
        named = [one for one in copy.deepcopy(told["base"]["dom0"]) if isinstance(one, str)]
        assert named and all((folder / f"{one}/init.sls").is_file() for one in named)
