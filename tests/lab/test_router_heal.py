# SPDX-License-Identifier: GPL-2.0-or-later
"""What others break is put right at once, what others made stays theirs; all of it as packets see it.

The router is stopped for a moment (SIGSTOP) while a test damages something: so the damage is certain to have an effect,
which is looked at, and the time until everything is as before is counted from the moment when the router runs again.
"""

import contextlib
import json
import os
import re
import signal
import threading
import time

import pytest

from lab import platform, topologies
from lab.doors import door, expect, reached, until_open
from lab.flows import Ask
from lab.lab import Lab
from lab.nftlib import Nft
from lab.node import wait_until
from lab.router import PLAIN, SLOW

pytestmark = pytest.mark.usefixtures("need_router")

HEALED = 0.1 * SLOW  # seconds
IN_A_STORM = 1.5 * SLOW  # readings that others' changes made worthless are tried again ever later
TRIES = 6            # a busy machine may be late more than once
WEB, WEB6 = "192.168.16.25", "2001:db8:16::25"
HIDDEN, HIDDEN6 = "192.168.16.26", "2001:db8:16::26"
OTHER = "10.137.0.13"
LAN = {("lan1", "ip"): "192.168.16.10", ("lan2", "ip"): "192.168.16.11",
       ("lan1", "ip6"): "2001:db8:16::10", ("lan2", "ip6"): "2001:db8:16::11"}
SYS = {"ip": "192.168.16.2", "ip6": "2001:db8:16::2"}
ADDRESS = {"ip": {"web": WEB, "hidden": HIDDEN}, "ip6": {"web": WEB6, "hidden": HIDDEN6}}
ALLOW = "icmp;udp/53;any from {lan2};tcp/22 from {lan1}"
PUBLISH = "tcp/8443:443;tcp/8444:444 from {lan1}"
OURS, PLATFORM = "qubes-network-server", "qubes"
FAMILIES = ("ip", "ip6")


class Flows(contextlib.ExitStack):
    """Connections, closed at the end."""

    def ask(self, *arguments):
        flow = Ask(*arguments)
        self.callback(flow.close)
        return flow


class Net:
    """The basic network: web serves everything, hidden a bit of every kind of rule, in both families."""

    def __init__(self, lab):
        self.lab, self.sys_net = lab, lab["sys-net"]
        for name in ("web", "hidden", "other"):
            for port in (22, 53, 80, 443, 444):
                lab[name].serve_tcp(port)
            lab[name].serve_udp(53)
        lab["lan1"].serve_tcp(80)
        self.router = self.sys_net.router(["--verbose"])
        self.nft = Nft(self.sys_net)
        self.records()
        wait_until(lambda: self.router.status()["open"] == 4, 3 * SLOW, "everything open")
        # hosts know the way without ARP: what is closed is closed by the rules
        lab["lan2"].batch(f"route add {OTHER} via {SYS['ip']}\n")
        self.questions = [question for family in FAMILIES for question in self._questions(family)]
        expect(lab, self.questions, self.questions)
        self.intact = self.rules()
        self.flows = [Ask(lab["lan1"], ADDRESS[family]["web"], 80) for family in FAMILIES]

    def records(self):
        for family in FAMILIES:
            version = 4 if family == "ip" else 6
            words = {host: LAN[host, family] for host in ("lan1", "lan2")}
            self.sys_net.expose("web", version)
            self.sys_net.expose("hidden", version, allow=ALLOW.format(**words), publish=PUBLISH.format(**words),
                                limit="1000", log="1")

    def _questions(self, family):
        lan1, lan2 = self.lab["lan1"], self.lab["lan2"]
        web, hidden = (ADDRESS[family][name] for name in ("web", "hidden"))
        return [door(lan1, web, "tcp/80"), door(lan1, hidden, "icmp"), door(lan1, hidden, "udp/53"),
                door(lan2, hidden, "tcp/80"), door(lan1, hidden, "tcp/22"), door(lan1, SYS[family], "tcp/8443"),
                door(lan1, SYS[family], "tcp/8444")]

    def question(self, family, number):
        return self.questions[(FAMILIES.index(family)) * len(self.questions) // 2 + number]

    # -- the rules ------------------------------------------------------------------------------------------------

    def objects(self):
        """Our objects in the ruleset, and the jump to them."""
        return [(kind, item) for kind, item in self.nft.objects()
                if item["family"] in FAMILIES and (
                    item.get("table") == OURS or kind == "table" and item["name"] == OURS or
                    kind == "rule" and item["table"] == PLATFORM and _is_jump(item) or
                    item.get("table") == PLATFORM and
                    (item.get("name") or item.get("chain")).startswith("network-server"))]

    def rules(self):
        """The same as text to compare, by family: order of rules counts, that of chains, sets and elements does not."""
        texts = {family: [] for family in FAMILIES}
        rules = {}
        for kind, item in self.objects():
            item = {name: value for name, value in item.items() if name != "handle"}
            if item.get("name") in ("cut", "buckets", "peers", "offloaded"):  # entries of its own time
                item.pop("elem", None)
            if "elem" in item:
                item["elem"] = sorted(map(json.dumps, item["elem"]))
            if kind == "rule":
                rules.setdefault((item["family"], item["table"], item["chain"]), []).append(item["expr"])
            else:
                texts[item["family"]].append(json.dumps([kind, item], sort_keys=True))
        for place, expressions in rules.items():
            texts[place[0]].append(json.dumps([place, expressions]))
        return {family: sorted(text) for family, text in texts.items()}

    def healthy(self):
        self.intact_again(0)
        expect(self.lab, self.questions, self.questions)
        assert all(flow.moves() for flow in self.flows), "an established connection was lost"

    # -- damage ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def stopped(self):
        """The router does not run meanwhile."""
        self.router.process.send_signal(signal.SIGSTOP)
        stat = f"/proc/{self.router.process.pid}/stat"
        try:
            wait_until(lambda: open(stat, encoding="ascii").read().rsplit(")", 1)[1].split()[0] == "T")
            yield
        finally:
            self.router.process.send_signal(signal.SIGCONT)

    def damage(self, make, heal, what="", limit=HEALED):
        """make() while the router is stopped and heal(timeout), which waits until it is healed. The best of TRIES is in
        time."""
        took = []
        for _ in range(TRIES):
            self.router.status()  # it answers: it is at rest
            with self.stopped():
                make()
            started = time.monotonic()
            heal(5 * SLOW)
            took.append(time.monotonic() - started)
            if took[-1] < limit:
                return
        raise AssertionError(f"{what}: healed after {took} s")

    def intact_again(self, timeout):
        with contextlib.suppress(TimeoutError):
            return wait_until(lambda: self.rules() == self.intact, timeout)
        now = self.rules()
        raise AssertionError("\n".join(f"{sign} {line}" for family in FAMILIES for sign, lines, others in
                                       (("lost", self.intact, now), ("new", now, self.intact))
                                       for line in lines[family] if line not in others[family]))

    def close(self):
        for flow in self.flows:
            flow.close()


def _is_jump(rule):
    return any(expression.get("jump", {}).get("target") == "network-server" for expression in rule["expr"])


class Keeper:
    """One network for the whole file; a test that leaves it damaged costs the next one a new network."""

    def __init__(self):
        self.net, self._stack = None, contextlib.ExitStack()

    def get(self):
        if self.net is None:
            self.net = Net(self._stack.enter_context(Lab(topologies.BASIC)))
            self._stack.callback(self.net.close)
        return self.net

    def drop(self):
        self.net = None
        self._stack.close()


@pytest.fixture(scope="module")
def keeper():
    keeper = Keeper()
    yield keeper
    keeper.drop()


@pytest.fixture
def net(keeper, need_router):
    """The network of the file, whole before and after each test."""
    net = keeper.get()
    yield net
    try:
        net.healthy()
    except BaseException:
        keeper.drop()
        raise


@pytest.fixture(params=FAMILIES, ids=("ipv4", "ipv6"))
def family(request):
    return request.param


# ---- each single thing ----------------------------------------------------------------------------------------------


def _value(value):
    if isinstance(value, dict):
        if "prefix" in value:
            return f"{value['prefix']['addr']}/{value['prefix']['len']}"
        if "elem" in value:  # one that counts
            return _value(value["elem"]["val"])
        if "range" in value:
            return "-".join(map(str, value["range"]))
        return " . ".join(map(_value, value["concat"]))
    if isinstance(value, str) and re.match(r"(vif|ens)\d", value):
        return f'"{value}"'
    return str(value)


def _key(element):
    return _value(element[0] if isinstance(element, list) else element)


def _refers(rule, names):
    text = json.dumps(rule["expr"])
    return any(f'"@{name}"' in text or f'"target": "{name}"' in text for name in names)


def damages(objects, family):
    """(what, nft text) of everything of ours that one may remove or change."""
    objects = [(kind, item) for kind, item in objects if item["family"] == family]
    rules = [item for kind, item in objects if kind == "rule"]

    def remove(chosen):
        return "".join(f"delete rule {family} {rule['table']} {rule['chain']} handle {rule['handle']}\n"
                       for rule in chosen)

    for rule in rules:
        yield f"rule {rule['chain']} {rule['handle']}", remove([rule])
        at = f"{family} {rule['table']} {rule['chain']}"
        if not _is_jump(rule):
            yield f"rule {at} changed", f"replace rule {at} handle {rule['handle']} counter\n"
    for kind, item in objects:
        if kind == "table":
            yield "own table", f"delete table {family} {item['name']}\n"
            yield "own table's rules", f"flush table {family} {item['name']}\n"
        if kind == "chain":
            at = f"{family} {item['table']} {item['name']}"
            yield f"chain {at} flushed", f"flush chain {at}\n"
            yield f"chain {at} opened", f"insert rule {at} accept\n"
            yield f"chain {at} longer", f"add rule {at} counter\n"
            yield f"chain {at}", (remove(rule for rule in rules if _refers(rule, [item["name"]])) +
                                  f"flush chain {at}\ndelete chain {at}\n")
        if kind in ("set", "map"):
            at = f"{family} {item['table']} {item['name']}"
            if item["name"] not in ("cut", "buckets", "peers", "offloaded"):  # what packets write
                for element in item.get("elem", ()):
                    yield f"{at} {_key(element)}", f"delete element {at} {{ {_key(element)} }}\n"
                if "elem" in item:
                    yield f"set {at} flushed", f"flush {kind} {at}\n"
            yield f"set {at}", (remove(rule for rule in rules if _refers(rule, [item["name"]])) +
                                f"delete {kind} {at}\n")
    yield "custom-forward", f"flush chain {family} {PLATFORM} custom-forward\n"


def _pairs(objects):
    """Every damage of one family together with another one of the other family."""
    four, six = (list(damages(objects, family)) for family in FAMILIES)
    pairs = [(four[number % len(four)], six[(number + 7) % len(six)]) for number in range(max(len(four), len(six)))]
    return [(f"ip {one[0]}, ip6 {other[0]}", one[1] + other[1]) for one, other in pairs]


def test_each_of_our_objects_is_put_back(net):
    """Rules, chains, sets, elements, tables. Our rules are listed and compared for it; that they matter to packets is
    for the next tests."""
    for number, (name, _text) in enumerate(_pairs(net.objects())):
        def make(number=number):
            net.nft(_pairs(net.objects())[number][1])  # handles are new after each
            now = net.rules()
            assert all(now[family] != net.intact[family] for family in FAMILIES), f"no effect: {name}"

        net.damage(make, net.intact_again, name)
    assert net.router.status()["healed"] > 0


EFFECTS = {
    "jump": (0, "flush chain {f} qubes custom-forward"),
    "any": (0, "flush set {f} qubes network-server-any"),
    "some": (1, "flush set {f} qubes network-server-some"),
    "proto": (1, "flush set {f} qubes network-server-proto"),
    "port": (2, "flush set {f} qubes network-server-port"),
    "from": (3, "flush set {f} qubes network-server-from"),
    "rule": (4, "flush set {f} qubes network-server-rule"),
    "published": (5, "flush set {f} qubes network-server-published"),
    "published-from": (6, "flush set {f} qubes network-server-published-from"),
    "published map": (5, "flush map {f} qubes-network-server published"),
    "published-from map": (6, "flush map {f} qubes-network-server published-from"),
    "entry": (0, "flush chain {f} qubes network-server"),
    "some chain": (2, "flush chain {f} qubes network-server-some"),
    "published chain": (5, "flush chain {f} qubes network-server-published"),
    "own table": (6, "delete table {f} qubes-network-server"),
}


def test_reachable_again_at_once(net, family):
    for name, (number, text) in EFFECTS.items():
        question = net.question(family, number)

        def make(text=text, question=question):
            net.nft(text.format(f=family))
            assert not reached(net.lab, [question], 0.03), "the damage did nothing"

        net.damage(make, lambda timeout, question=question: until_open(net.lab, question, timeout), name)


def test_own_address_again_at_once(net, family):
    """Outwards: what the platform masquerades meanwhile."""
    web, lan1 = net.lab["web"], LAN["lan1", family]

    def seen():
        return web.connect_tcp(lan1, 80).peer

    for text in ("flush set {f} {t} own-address", "flush chain {f} {t} postrouting", "delete table {f} {t}"):
        def make(text=text):
            net.nft(text.format(f=family, t=OURS))
            assert seen() == SYS[family]

        net.damage(make, lambda timeout: wait_until(lambda: seen() == ADDRESS[family]["web"], timeout), text)


def test_what_others_open_in_our_name_is_closed(net, family):
    """Elements and rules that we did not write open nothing for long, and what came in by them ends."""
    hidden = ADDRESS[family]["hidden"]
    question = door(net.lab["lan1"], hidden, "tcp/444")
    for text in (f'add element {family} qubes network-server-any {{ "vif13.0" . {hidden} }}',
                 f'add element {family} qubes network-server-port {{ "vif13.0" . {hidden} . tcp . 444 }}',
                 f"insert rule {family} qubes network-server accept"):
        with Flows() as flows:
            with net.stopped():
                net.nft(text)
                assert reached(net.lab, [question]) == {question}
                inside = flows.ask(net.lab["lan1"], hidden, 444)
            wait_until(lambda: net.rules() == net.intact, 2 * SLOW, text)
            expect(net.lab, [question, net.question(family, 1)], [net.question(family, 1)])
            if text.startswith("add element"):
                assert inside.stopped(), text


def test_an_address_that_nobody_exposed(net):
    """The same with an address for which no key speaks."""
    question, control = door(net.lab["lan2"], OTHER, "tcp/80"), net.question("ip", 3)
    for kind, key in (("any", f'"vif12.0" . {OTHER}'), ("some", f'"vif12.0" . {OTHER}')):
        with net.stopped():
            net.nft(f"add element ip qubes network-server-{kind} {{ {key} }}")
            if kind == "any":
                assert reached(net.lab, [question]) == {question}
        net.intact_again(2 * SLOW)
        expect(net.lab, [question, control], [control])


# ---- what is not ours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ("insert", "add"))
def test_rules_of_the_user_stay(net, family, place):
    """Before and behind our jump; none is moved, doubled or lost by anything that we put back."""
    word = family
    at = f"{family} qubes custom-forward"
    lan1, lan2, web, hidden = net.lab["lan1"], net.lab["lan2"], *ADDRESS[family].values()
    theirs = door(lan1, hidden, "tcp/443")
    blocked = door(lan2, web, "tcp/80")

    def mine():
        return [item for kind, item in net.nft.objects(f"chain {at}") if kind == "rule" and not _is_jump(item)]

    net.nft(f'{place} rule {at} {word} daddr {hidden} tcp dport 443 accept comment "mine"\n'
            f'{place} rule {at} {word} saddr {LAN["lan2", family]} {word} daddr {web} drop comment "mine too"\n')
    before = mine()
    assert len(before) == 2
    control = net.question(family, 0)
    questions = [theirs, blocked, control]
    opened = [theirs, control] if place == "insert" else questions
    try:
        expect(net.lab, questions, opened)
        for text in (f"flush chain {family} qubes network-server", f"delete table {family} {OURS}",
                     f"flush set {family} qubes network-server-any"):
            net.damage(lambda text=text: net.nft(text), net.intact_again, text)
            assert mine() == before
        expect(net.lab, questions, opened)

        def no_jump():
            net.nft("".join(f"delete rule {at} handle {item['handle']}\n"
                            for kind, item in net.objects() if kind == "rule" and item["family"] == family and
                            item["chain"] == "custom-forward"))

        net.damage(no_jump, net.intact_again, "jump")
        assert mine() == before  # and the jump comes behind: rules of the user have the first word
        expect(net.lab, questions, [theirs, control])
    finally:
        net.nft("".join(f"delete rule {at} handle {item['handle']}\n" for item in mine()))


def test_the_user_empties_the_chain_and_fills_it(net, family):
    """As a script that is run again does: flush, then its rules. Ours comes back, theirs stay."""
    at = f"{family} qubes custom-forward"
    for _ in range(5):
        net.nft(f"flush chain {at}\nadd rule {at} counter comment \"script\"\n")
        until_open(net.lab, net.question(family, 0), 2 * SLOW)
    net.intact_again(2 * SLOW)
    rules = [item for kind, item in net.nft.objects(f"chain {at}") if kind == "rule"]
    assert [item.get("comment") for item in rules] == ["script", None]
    net.nft(f"delete rule {at} handle {rules[0]['handle']}")


def test_changes_of_other_tables_are_none_of_ours(net):
    """The platform's firewall restarts, names servers change, rules of a qube change, a table of somebody comes and
    goes: nothing is written and no connection notices."""
    healed = net.router.status()["healed"]
    lan1 = net.lab["lan1"]
    with Flows() as flows:
        inside = flows.ask(lan1, HIDDEN, 22)
        platform.firewall_stop(net.sys_net)
        platform.firewall_start(net.sys_net)
        platform.firewall_connected(net.sys_net)
        net.lab["other"].set_rules(("action=accept proto=tcp dstports=80-80",))
        net.lab["other"].set_rules(None)
        net.nft(platform.dns_text(["192.168.16.1"]))
        net.nft("add table inet somebody\nadd chain inet somebody c { type filter hook forward priority 5; }")
        net.nft("delete table inet somebody")
        assert all(flow.moves() for flow in (inside, *net.flows))
        net.healthy()
        status = net.router.status()
        assert status["healed"] == healed and status["open"] == 4
        net.nft(platform.dns_text(net.sys_net.spec.dns))


def test_platform_rules_loaded_again(net):
    """The platform's files flush nothing: every rule of its own is there twice then, the jump to custom-forward too."""
    healed = net.router.status()["healed"]
    platform.reload(net.sys_net)
    platform.reload(net.sys_net, antispoof=True)
    net.healthy()
    wait_until(lambda: net.router.status()["open"] == 4, 2 * SLOW)
    assert net.router.status()["healed"] == healed
    # the second copy of the jump keeps us reachable when the first goes
    jumps = [item for kind, item in net.nft.objects("chain ip qubes forward")
             if kind == "rule" and "custom-forward" in json.dumps(item)]
    assert len(jumps) == 3
    net.nft("".join(f"delete rule ip qubes forward handle {item['handle']}\n" for item in jumps[1:]))
    net.healthy()


# ---- the platform's rules are gone or strange -----------------------------------------------------------------------


def _silent(net, family):
    """Nobody on the LAN gets an answer for web; the control is the net qube itself."""
    ask = net.lab["lan2"].arping if family == "ip" else net.lab["lan2"].ndisc
    return not ask(ADDRESS[family]["web"], timeout=0.04, count=1) and ask(SYS[family], count=1)


def _missing(net, family):
    return net.router.status()["platform"][family].get("missing", "")


def _restart_flows(net):
    for flow in net.flows:
        flow.close()
    net.flows = [Ask(net.lab["lan1"], ADDRESS[family]["web"], 80) for family in FAMILIES]


def _is_withdrawn(net, family, said):
    def closed():
        states = {one["address"]: one for one in net.router.status()["addresses"]}
        return all(states[addr]["state"] == "platform" and not states[addr]["open"]
                   for addr in ADDRESS[family].values())

    wait_until(closed, 2 * SLOW, "withdrawn")
    assert said in _missing(net, family)
    assert not {addr for addr, _iface in net.sys_net.proxies()} & set(ADDRESS[family].values())
    assert _silent(net, family)
    one = net.router.call("--check", check=False)
    assert said in one.stdout + one.stderr + net.router.log


STRANGE = {
    "no jump to custom-forward": (
        "flush chain {f} qubes forward\nadd rule {f} qubes forward ct state established,related accept\n"
        "add rule {f} qubes forward oifgroup 2 drop\n",
        'no jump from "forward" to "custom-forward" in table "{f} qubes"',
        "insert rule {f} qubes forward jump custom-forward\n"),
    "no custom-forward": (
        "flush chain {f} qubes forward\nadd rule {f} qubes forward ct state established,related accept\n"
        "add rule {f} qubes forward oifgroup 2 drop\n"
        "flush chain {f} qubes custom-forward\ndelete chain {f} qubes custom-forward\n",
        'no chain "custom-forward" in table "{f} qubes"',
        "add chain {f} qubes custom-forward\ninsert rule {f} qubes forward jump custom-forward\n"),
    "forward on no hook": (
        "flush chain {f} qubes forward\ndelete chain {f} qubes forward\nadd chain {f} qubes forward\n"
        "add rule {f} qubes forward jump custom-forward\n"
        "add chain {f} qubes elsewhere {{ type filter hook forward priority filter; policy accept; }}\n"
        "add rule {f} qubes elsewhere ct state established,related accept\n"
        "add rule {f} qubes elsewhere oifgroup 2 drop\n",
        'no chain "forward" on the forward hook in table "{f} qubes"',
        "flush chain {f} qubes elsewhere\ndelete chain {f} qubes elsewhere\n"
        "flush chain {f} qubes forward\ndelete chain {f} qubes forward\n"
        "add chain {f} qubes forward {{ type filter hook forward priority filter; policy accept; }}\n"
        "add rule {f} qubes forward jump custom-forward\n"
        "add rule {f} qubes forward ct state established,related accept\n"
        "add rule {f} qubes forward oifgroup 2 counter drop\n"),
}


@pytest.mark.parametrize("how", STRANGE)
def test_platform_rules_of_another_shape(net, family, how):
    damage, said, repair = (text.format(f=family) for text in STRANGE[how])
    alike = FAMILIES[1 - FAMILIES.index(family)]
    net.nft(damage)
    _is_withdrawn(net, family, said)
    here, there = FAMILIES.index(family), FAMILIES.index(alike)
    questions = [net.question(family, 0), net.question(alike, 0)]
    expect(net.lab, questions, questions[1:])
    assert net.flows[here].stopped(), "a connection goes on although nothing is exposed"
    assert net.flows[there].moves(), "the other family was interrupted"
    started = time.monotonic()
    net.nft(repair)
    until_open(net.lab, questions[0], 5 * SLOW)
    took = time.monotonic() - started
    net.intact_again(2 * SLOW)
    assert not _missing(net, family)
    _restart_flows(net)
    assert took < 2 * HEALED


def _of_family(text, family):
    """The table of one family in a text of the platform."""
    return "".join(part for part in re.split(r"(?m)^(?=table )", text) if part.startswith(f"table {family} "))


def test_platform_table_renamed(net, family):
    """Another name for the same rules: not known, so nothing is exposed; known again when the name is."""
    main, antispoof = (_of_family(text, family) for text in (platform.main_text(), platform.antispoof_text()))
    net.nft(f"delete table {family} qubes\n" + main.replace(" qubes ", " cubes "))
    _is_withdrawn(net, family, f'no table "{family} qubes"')
    expect(net.lab, net.questions, [one for one in net.questions
                                    if one.addr not in (*ADDRESS[family].values(), SYS[family])])
    net.nft(f"delete table {family} cubes\n" + main + antispoof)
    for vif, addresses in net.sys_net.vifs.items():
        for addr in addresses:
            if (":" in addr) == (family == "ip6"):
                net.nft(platform.elements_text("add", vif, addr))
    if family == "ip":
        net.nft(platform.dns_text(net.sys_net.spec.dns))
    until_open(net.lab, net.question(family, 0), 2 * SLOW)
    net.intact_again(2 * SLOW)
    _restart_flows(net)


def test_flush_of_everything(net):
    """`nft flush ruleset`: the kernel forwards everything then, but nobody is called to it. Loaded again: open at once,
    with what we had to remember."""
    platform.flush(net.sys_net)
    for family in FAMILIES:
        _is_withdrawn(net, family, f'no table "{family} qubes"')
    platform.flush_and_reload(net.sys_net)
    started = time.monotonic()
    for family in FAMILIES:
        until_open(net.lab, net.question(family, 0), 2 * SLOW)
    took = time.monotonic() - started
    net.intact_again(2 * SLOW)
    _restart_flows(net)
    assert took < 2 * HEALED
    # without a pause in between, as `systemctl restart` of the units does it, in one transaction even
    with net.stopped():
        platform.flush_and_reload(net.sys_net)
        assert not reached(net.lab, [net.question(family, 0) for family in FAMILIES], 0.03)
    net.intact_again(2 * SLOW)
    assert all(flow.moves(2) for flow in net.flows), "a connection was cut although nothing was withdrawn"
    # the sets of vifs stay empty until a vif comes: not our business, and no reason to withdraw
    platform.flush_and_reload(net.sys_net, elements=False)
    net.intact_again(2 * SLOW)
    assert net.router.status()["open"] == 4
    assert not reached(net.lab, [net.question("ip", 0)], 0.03)
    for vif, addresses in net.sys_net.vifs.items():
        for addr in addresses:
            net.nft(platform.elements_text("add", vif, addr))
    assert all(flow.moves(2) for flow in net.flows)


# ---- what the kernel does not tell ----------------------------------------------------------------------------------

ALL6 = "net/ipv6/conf/all/forwarding"
SILENT = {
    "proxy entry": lambda net: net.sys_net.batch(f"neigh del proxy {WEB} dev ens6\n"),
    "proxy entry ipv6": lambda net: net.sys_net.batch(f"neigh del proxy {WEB6} dev ens6\n"),
    "proxy_delay": lambda net: net.sys_net.sysctl("net/ipv4/neigh/ens6/proxy_delay", 80),
    "proxy_delay ipv6": lambda net: net.sys_net.sysctl("net/ipv6/neigh/ens6/proxy_delay", 80),
}
ADDRESS_EVENT = "addr add 198.51.100.1/32 dev ens6\naddr del 198.51.100.1/32 dev ens6\n"


def _answers(net):
    lan2 = net.lab["lan2"]
    return {addr: [mac for mac, _delay in ask(addr, timeout=0.06 * SLOW, count=1)]
            for addr, ask in ((WEB, lan2.arping), (WEB6, lan2.ndisc))}


def _all_answered(net):
    return all(_answers(net).values())


def _delays(net):
    return [net.sys_net.sysctl(f"net/{version}/neigh/ens6/proxy_delay") for version in ("ipv4", "ipv6")] == ["0", "0"]


def test_silent_changes_are_found_at_the_next_event(net):
    proxies = net.sys_net.proxies()
    assert _all_answered(net) and _delays(net)
    for what, break_ in SILENT.items():
        for event in (lambda: net.sys_net.batch(ADDRESS_EVENT), net.router.hup):
            break_(net)
            assert net.sys_net.proxies() != proxies or not _delays(net), what
            started = time.monotonic()
            event()
            wait_until(lambda: net.sys_net.proxies() == proxies and _delays(net), 2 * SLOW, what)
            assert time.monotonic() - started < 2 * HEALED, what
    assert _all_answered(net)


def test_a_foreign_proxy_entry_is_left_alone(net):
    net.sys_net.batch(f"neigh add proxy {OTHER} dev ens6\n")
    net.router.hup()
    net.sys_net.batch(f"neigh del proxy {WEB} dev ens6\n")
    net.router.hup()
    wait_until(lambda: (WEB, "ens6") in net.sys_net.proxies(), 2 * SLOW)
    assert (OTHER, "ens6") in net.sys_net.proxies()
    net.sys_net.batch(f"neigh del proxy {OTHER} dev ens6\n")


@pytest.mark.parametrize("name", (ALL6, "net/ipv6/conf/ens6/proxy_ndp", "net/ipv6/conf/ens6/forwarding"))
def test_switches_that_the_kernel_tells_of(net, name):
    """Forwarding and proxy_ndp: as soon as they are switched off they are on again. (Only conf.all decides what is
    forwarded; an interface without forwarding does not answer for others.)"""
    assert net.sys_net.sysctl(name) == "1"

    def heal(timeout):
        wait_until(lambda: net.sys_net.sysctl(name) == "1", timeout, name)

    def make():
        net.sys_net.sysctl(name, 0)
        assert not net.lab["lan2"].ndisc(WEB6, timeout=0.03, count=1) or name != "net/ipv6/conf/ens6/proxy_ndp"

    net.damage(make, heal, name)
    now = net.rules()
    if now != net.intact:  # what the other wrote counts as the value from before us
        assert all("put-back" in line for line in set(now["ip"]) ^ set(net.intact["ip"]))
        net.intact = now
    until_open(net.lab, net.question("ip6", 0), 2 * SLOW)
    wait_until(lambda: net.lab["lan2"].ndisc(WEB6, timeout=0.06 * SLOW, count=1), 2 * SLOW)


def _cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / 100


# ---- floods ---------------------------------------------------------------------------------------------------------


def test_foreign_changes_without_end_and_the_tick(net):
    """More than 1,000 foreign transactions, as fast as nft makes them, until the tick came: keys are followed and
    damage is healed meanwhile, what the kernel does not tell is found at the tick, and the CPU is not burnt."""
    done, made = threading.Event(), []

    def storm():
        with Nft(net.sys_net) as nft:
            nft("add table ip foreign\nadd set ip foreign s { type ipv4_addr; }")
            while not done.is_set():
                nft("add element ip foreign s { 10.1.1.1 }")
                nft("delete element ip foreign s { 10.1.1.1 }")
                made.append(2)
            nft("delete table ip foreign")

    proxies = net.sys_net.proxies()
    net.sys_net.batch(f"neigh del proxy {WEB} dev ens6\nneigh del proxy {WEB6} dev ens6\n")
    net.sys_net.sysctl("net/ipv4/neigh/ens6/proxy_delay", 80)
    started, used = time.monotonic(), _cpu_seconds(net.router.process)
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        reconciliations = net.router.status()["reconciliations"]
        wait_until(lambda: len(made) > 15, 2 * SLOW, "a storm")
        question = door(net.lab["lan2"], OTHER, "tcp/80")
        for _ in range(3):
            at = time.monotonic()
            net.sys_net.expose("other")
            until_open(net.lab, question, 2 * SLOW)
            opened = time.monotonic()
            net.sys_net.withdraw("other")
            wait_until(lambda: not reached(net.lab, [question], 0.01), 2 * SLOW, "closed")
            closed = time.monotonic()
            net.damage(lambda: net.nft("flush chain ip qubes network-server"), net.intact_again, "in the storm",
                       IN_A_STORM)
            assert max(opened - at, closed - opened) < IN_A_STORM, (opened - at, closed - opened)
        wait_until(lambda: net.sys_net.proxies() >= proxies and _delays(net), 11.5 * SLOW, "the tick", 0.05)
        wait_until(lambda: len(made) > 500, 10 * SLOW, "the whole storm", 0.01)
    finally:
        done.set()
        thread.join()
    seconds = time.monotonic() - started
    used = _cpu_seconds(net.router.process) - used
    assert not PLAIN or used < 0.6 * seconds, f"{used} s of CPU in {seconds} s"
    assert net.router.status()["reconciliations"] - reconciliations < 35 * seconds + 50
    _restart_flows(net)


def _drops(net):
    """Messages that the kernel could not queue for the router."""
    with net.sys_net.ns, open("/proc/thread-self/net/netlink", encoding="ascii") as file:
        head, *lines = (line.split() for line in file)
    inodes, drops = head.index("Inode"), head.index("Drops")
    fds = f"/proc/{net.router.process.pid}/fd"
    own = {os.readlink(f"{fds}/{number}") for number in os.listdir(fds)}
    return sum(int(line[drops]) for line in lines if f"socket:[{line[inodes]}]" in own)


def test_overrun_of_the_monitors(net):
    """The kernel throws messages away: the router looks at everything and is right in the end."""
    lines = "".join(f"addr add 10.99.{n // 250}.{n % 250 + 1}/32 dev ens6\n" for n in range(500))
    flood = lines + lines.replace("addr add", "addr del")

    def overrun(step, most):
        before = _drops(net)
        for number in range(most):
            step(number)
            if _drops(net) > before:
                return
        raise AssertionError("no overrun")

    net.nft("add table ip foreign\nadd set ip foreign s { type ipv4_addr; }")
    with net.stopped():
        overrun(lambda n: net.nft(f"{'delete' if n % 2 else 'add'} element ip foreign s {{ 10.1.1.1 }}"), 6000)
        net.nft("flush chain ip qubes network-server\nflush set ip6 qubes network-server-any")
        overrun(lambda _n: net.sys_net.batch(flood), 10)
        net.lab["hidden"].stop()
    for family in FAMILIES:
        until_open(net.lab, net.question(family, 0), 2 * SLOW)

    def state(name):
        return next(one["state"] for one in net.router.status()["addresses"] if one["address"] == name)

    wait_until(lambda: state(HIDDEN) == state(HIDDEN6) == "no-vif", 2 * SLOW, "the vif that went in the flood")
    assert not {HIDDEN, HIDDEN6} & {addr for addr, _iface in net.sys_net.proxies()}
    net.nft("delete table ip foreign")
    net.lab["hidden"].start()
    wait_until(lambda: net.rules() == net.intact, 2 * SLOW, "the rules as before")


def test_links_and_addresses_in_great_number(net):
    """3,000 changes of addresses and some links while it runs and serves; damage in the middle of them."""
    lines = "".join(f"addr add 10.99.{n // 250}.{n % 250 + 1}/32 dev ens6\n" for n in range(500))
    lines += lines.replace("addr add", "addr del")
    lines += "".join(f"link add x{n} type veth peer name y{n}\nlink set x{n} up\nlink set y{n} up\n"
                     for n in range(4))
    lines += "".join(f"link del x{n}\n" for n in range(4))
    used, started = _cpu_seconds(net.router.process), time.monotonic()
    for number in range(3):
        net.sys_net.batch(lines)
        if number == 1:
            net.nft("flush chain ip qubes custom-forward")
            net.sys_net.batch(f"neigh del proxy {WEB} dev ens6\n")
    seconds = time.monotonic() - started
    net.intact_again(2 * SLOW)
    wait_until(lambda: (WEB, "ens6") in net.sys_net.proxies(), 2 * SLOW, "proxy entry")
    used = _cpu_seconds(net.router.process) - used
    assert not PLAIN or used < 0.9 * seconds, f"{used} s of CPU in {seconds} s"
    assert net.router.status()["open"] == 4


# ---- damage while it looks ------------------------------------------------------------------------------------------


def test_damage_in_the_middle_of_a_reading(net):
    """A foreign change makes the router read; it is stopped at many moments of that reading, and then comes the damage:
    in what was read already, is being read, will be read."""
    element = f'ip qubes network-server-any {{ "vif11.0" . {WEB} }}'
    net.nft("add table ip foreign")
    for number in range(60):
        time.sleep(0.031)  # so long no second look follows the first
        net.router.process.send_signal(signal.SIGSTOP)
        net.nft(f"add chain ip foreign c{number}")
        at = time.perf_counter() + number * 0.00005 * SLOW
        net.router.process.send_signal(signal.SIGCONT)
        while time.perf_counter() < at:
            pass
        with net.stopped():
            net.nft(f"delete element {element}")
        wait_until(lambda: WEB in net.nft("list set ip qubes network-server-any"), 5 * HEALED,
                   f"the element deleted {number * 0.05:.2f} ms after the reading began")
    net.nft("delete table ip foreign")


def test_damage_right_after_our_rules_were_loaded(net, family):
    """Somebody removes more of our rules while we put the first ones back."""
    at = f"{family} qubes network-server-some"

    def rules():
        return [item["handle"] for kind, item in net.nft.objects(f"chain {at}") if kind == "rule"]

    whole = len(rules())
    for _ in range(10):
        net.nft(f"delete rule {at} handle {rules()[0]}")
        wait_until(lambda: len(rules()) == whole, 2 * SLOW, "the rules")
        net.nft(f"delete rule {at} handle {rules()[1]}")
        wait_until(lambda: len(rules()) == whole, 5 * HEALED, "the rules damaged again")
