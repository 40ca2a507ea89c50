# SPDX-License-Identifier: GPL-2.0-or-later
"""What the LAN sees of an exposed address: answers, probes, announcements, conflicts; the kernel switches for it."""

import socket
import threading
import time

import pytest

from lab import topologies
from lab.router import SLOW
from lan_frames import (ADVERT, ALL_NODES, ANSWER_SECONDS, CONFLICT_SECONDS, NOBODY, OVERRIDE, REPLY, REQUEST,
                        SOLICITED, Asker, Nd, advert, announce, arp, entry, flood, icmp6, is6, is_announcement,
                        is_answer, is_probe, probe, question, read, router_advert, solicit, state, wire)

WEB4, WEB6 = "192.168.16.25", "2001:db8:16::25"
HIDDEN4, HIDDEN6 = "192.168.16.26", "2001:db8:16::26"
LAN1 = {4: "192.168.16.10", 6: "2001:db8:16::10"}
STRANGER = "52:54:00:99:00:01"

both = pytest.mark.parametrize("address", [WEB4, WEB6], ids=["ip4", "ip6"])
pytestmark = pytest.mark.usefixtures("need_router")


def version(address):
    return 6 if is6(address) else 4


class Net:
    """The basic network with a router, and what nearly every test here wants of it."""

    def __init__(self, lab):
        self.lab = lab
        self.sys_net, self.web, self.lan1, self.lan2 = (lab[name] for name in ("sys-net", "web", "lan1", "lan2"))
        self.mac = self.sys_net.mac("ens6")
        self.router = self.sys_net.router()
        self.web.serve_tcp(80)
        self.wire = wire(lab)

    def expose(self, *addresses, qube="web", **fields):
        for address in addresses:
            self.sys_net.expose(qube, version(address), **fields)

    def asked(self, address, pause=0.002):
        """lan1 asks for the address all the time."""
        return Asker(self.lan1, [question(self.lan1.mac(), address, LAN1[version(address)])], pause=pause)

    def answers(self, address):
        return [p for p in self.wire.packets if not p.outgoing and is_answer(p, address, self.mac)]

    def announcements(self, address):
        return [p for p in self.wire.packets if not p.outgoing and is_announcement(p, address, self.mac)]

    def probed(self, address):
        return self.wire.wait_for(lambda p: is_probe(p, address, self.mac), 2 * SLOW, f"a probe for {address}")

    def announced(self, address, timeout=2.0):
        return self.wire.wait_for(lambda p: not p.outgoing and is_announcement(p, address, self.mac), timeout * SLOW,
                                  f"the announcement of {address}")

    def last_word(self, address, since):
        """Seconds from `since` to our last answer for the address; negative when there was none after it."""
        times = [p.time for p in self.answers(address)]
        return max(times) - since if times else float("-inf")


@pytest.fixture(name="net")
def fixture_net(basic):
    return Net(basic)


def test_answers_for_exposed_addresses_only(net, wait_until):
    sys_net, lan1, other = net.sys_net, net.lan1, net.lab["other"]
    sys_net.batch("link add dum0 type veth peer name dum1\nlink set dum0 up\nlink set dum1 up\n"
                  "addr add 172.30.0.1/24 dev dum0\nroute add 192.168.16.99 dev dum0\n"
                  "route add 2001:db8:16::99 dev dum0\n")

    def from_a_qube():
        return other.ndisc(HIDDEN6, timeout=0.05), other.ndisc("2001:db8:16::200", timeout=0.05)

    before = from_a_qube()
    net.expose(WEB4, WEB6)
    wait_until(lambda: {(WEB4, "ens6"), (WEB6, "ens6")} <= sys_net.proxies(), what="both answered for")
    strangers = [HIDDEN4, "10.137.0.13", "10.137.0.5", "172.30.0.77", "192.168.16.99", "192.168.16.200",
                 "203.0.113.1", HIDDEN6, "2001:db8:16::99", "2001:db8:16::200", "fd09:24ef:4179::a89:d"]
    seen = lan1.sniff("eth0", "arp or icmp6")
    for address in strangers + [WEB4, WEB6]:
        asker = LAN1[version(address)]
        lan1.send_frame("eth0", question(lan1.mac(), address, asker))
    for address in (WEB4, WEB6):  # asked last, so the others would have been answered by then
        seen.wait_for(lambda p, a=address: is_answer(p, a, net.mac), what=f"an answer for {address}")
    answered = {address for address in strangers for p in seen.packets if is_answer(p, address, net.mac)}
    assert answered <= {"10.137.0.5"}  # the net qube's own address, by the kernel as ever
    net.announced(WEB4), net.announced(WEB6)  # not to be taken for answers
    assert len(lan1.arping(WEB4)) == 1 and len(lan1.ndisc(WEB6)) == 1
    assert sys_net.proxies() == {(WEB4, "ens6"), (WEB6, "ens6")}
    # towards the qubes nothing is different, and nothing is set for interfaces to come
    assert from_a_qube() == before
    for name in ("ens6", "default", "all"):
        assert sys_net.sysctl(f"net/ipv4/conf/{name}/proxy_arp") == "0"
    for name in ("default", "all"):
        assert sys_net.sysctl(f"net/ipv6/conf/{name}/proxy_ndp") == "0"
    assert sys_net.sysctl("net/ipv6/conf/ens6/proxy_ndp") == "1"


def test_first_answer_without_proxy_delay(net, wait_until):
    net.expose(WEB4, WEB6)
    for address in (WEB4, WEB6):
        wait_until(lambda a=address: (a, "ens6") in net.sys_net.proxies(), what="answered for")
        net.lan1.neighbour_forget(address)
        assert net.lan1.can_reach(address, 80, timeout=1.0)
        asks = [p for p in net.wire.packets if p.outgoing and (f := read(p)) and f.target == address
                and f.source_mac == net.lan1.mac()]
        reply = net.wire.wait_for(lambda p, a=address: is_answer(p, a, net.mac) and not is_announcement(p, a, net.mac))
        assert reply.time - asks[0].time < ANSWER_SECONDS


def test_probes_then_two_announcements(net, wait_until):
    """And answers from the first moment on: nobody waits for the question whether another host has the address."""
    with net.asked(WEB4) as asker, net.asked(WEB6):
        net.expose(WEB4, WEB6)
        for address in (WEB4, WEB6):
            wait_until(lambda a=address: len(net.announcements(a)) >= 2, 5 * SLOW, "two announcements", 0.1)
    for address in (WEB4, WEB6):
        probes = [p for p in net.wire.packets if is_probe(p, address, net.mac)]
        first, second = net.announcements(address)
        times = [p.time for p in probes]
        late = asker.stall + 0.1 * SLOW
        assert len(probes) == 3
        assert all(0.15 < b - a < 0.2 + late for a, b in zip(times, times[1:]))
        assert 0.15 < first.time - times[-1] < 0.2 + late and 1.8 < second.time - first.time < 2.0 + late
        assert net.answers(address)[0].time < first.time - 0.4
        if is6(address):
            assert read(first) == Nd(ADVERT, address, ALL_NODES, address, read(first).flags, net.mac, net.mac)
            assert read(first).flags & OVERRIDE
        else:
            assert read(first).op == REQUEST and read(first).target_mac == NOBODY
        assert probes[0].data[:6] == (b"\x33\x33\xff" + socket.inet_pton(socket.AF_INET6, address)[13:]
                                      if is6(address) else b"\xff" * 6)


def test_host_that_has_the_address_keeps_it(net, wait_until):
    router, lan1, lan2 = net.router, net.lan1, net.lan2
    lan2.batch(f"addr add {WEB4}/24 dev eth0\naddr add {WEB6}/64 dev eth0 nodad\n")
    theirs = {address: lan2.serve_tcp(80, address) for address in (WEB4, WEB6)}
    for address in (WEB4, WEB6):
        with net.asked(address) as asker:
            net.expose(address)
            # what lan2 sends this way is its answer to the probe, those for lan1 do not come by here
            answer = net.wire.wait_for(lambda p, a=address: p.outgoing and is_answer(p, a, lan2.mac()), 5 * SLOW)
            wait_until(lambda a=address: state(router, a) == "conflict", what="the conflict in the status")
            sent = asker.sent
            wait_until(lambda n=sent, one=asker: one.sent > n + 10, what="more questions")
        assert net.last_word(address, answer.time) < CONFLICT_SECONDS + asker.stall
    for address in (WEB4, WEB6):
        told = entry(router, address)
        assert told["conflict"] == {"mac": lan2.mac(), "interface": "ens6"}
        assert lan2.mac() in told["reason"] and "ens6" in told["reason"] and not told["open"]
        assert lan2.mac() in router.log
        lan1.neighbour_forget(address)
        assert lan1.can_reach(address, 80, timeout=1.0) and len(theirs[address].peers) == 1
        assert net.announcements(address) == []
    assert not net.sys_net.proxies()
    # also nobody gets in who believed the first answer
    lan1.batch(f"neigh replace {WEB4} lladdr {net.mac} dev eth0 nud permanent\n")
    assert not lan1.can_reach(WEB4, 80, timeout=0.2)
    lan1.batch(f"neigh del {WEB4} dev eth0\n")
    # the other host leaves
    lan2.batch(f"addr del {WEB4}/24 dev eth0\naddr del {WEB6}/64 dev eth0\n")
    for address in (WEB4, WEB6):
        wait_until(lambda a=address: state(router, a) == "open", 40 * SLOW, f"{address} open again", 0.1)
        lan1.neighbour_forget(address)
        assert lan1.connect_tcp(address, 80).peer == LAN1[version(address)]
        net.announced(address)


@both
def test_host_that_takes_the_address_later(net, wait_until, address):
    net.expose(address)
    net.announced(address)
    sock = net.lan1.socket(socket.AF_INET6 if is6(address) else socket.AF_INET, socket.SOCK_DGRAM)
    net.lan1.batch(f"neigh replace {address} lladdr {net.mac} dev eth0 nud permanent\n")
    inside = net.web.sniff("eth0", "udp port 9")
    stop = threading.Event()

    def stream():
        while not stop.wait(0.001):
            sock.sendto(b"x", (address, 9))

    thread = threading.Thread(target=stream, daemon=True)
    thread.start()
    with net.asked(address) as asker:
        inside.wait_for(lambda p: True, what="the stream in the qube")
        net.wire.wait_for(lambda p: is_answer(p, address, net.mac), what="an answer")
        net.lan2.send_frame("eth0", announce(net.lan2.mac(), address))
        claim = net.wire.wait_for(lambda p: p.outgoing and is_answer(p, address, net.lan2.mac()))
        wait_until(lambda: state(net.router, address) == "conflict", what="the conflict in the status")
    stop.set()
    thread.join()
    sock.close()
    assert net.last_word(address, claim.time) < CONFLICT_SECONDS + asker.stall
    assert inside.packets[-1].time - claim.time < CONFLICT_SECONDS + asker.stall
    assert entry(net.router, address)["conflict"] == {"mac": net.lan2.mac(), "interface": "ens6"}


@both
def test_other_address_is_not_hurt_by_a_conflict(net, wait_until, address):
    other = WEB4 if is6(address) else WEB6
    net.expose(address, other)
    net.announced(address)
    with net.lan1.connect_tcp(other, 80) as connection:
        net.lan2.send_frame("eth0", announce(STRANGER, address))
        wait_until(lambda: state(net.router, address) == "conflict", what="the conflict")
        assert connection.alive() and state(net.router, other) == "open"


def test_established_address_is_defended_against_a_probe(net):
    net.expose(WEB4, WEB6)
    net.announced(WEB4), net.announced(WEB6)
    for address in (WEB4, WEB6):
        net.wire.clear()
        net.lan2.send_frame("eth0", probe(STRANGER, address))
        answer = net.wire.wait_for(lambda p, a=address: not p.outgoing and is_answer(p, a, net.mac), what="the defence")
        asked = net.wire.wait_for(lambda p, a=address: p.outgoing and is_probe(p, a, STRANGER))
        assert answer.time - asked.time < ANSWER_SECONDS
        if not is6(address):
            f = read(answer)
            assert (f.op, f.target_mac, f.target) == (REPLY, STRANGER, "0.0.0.0")
            assert answer.data[:6] == bytes.fromhex(STRANGER.replace(":", ""))
        assert state(net.router, address) == "open" and net.lan1.can_reach(address, 80)


def test_probing_at_the_same_time_is_a_conflict(net, wait_until):
    net.expose(WEB4, WEB6)
    for address in (WEB4, WEB6):
        net.probed(address)
        net.lan2.send_frame("eth0", probe(net.lan2.mac(), address))
    for address in (WEB4, WEB6):
        wait_until(lambda a=address: state(net.router, a) == "conflict", what="the conflict")
        assert entry(net.router, address)["conflict"]["mac"] == net.lan2.mac()
        # the kernel answers that probe of IPv6 to all, which is no announcement of ours
        assert net.announcements(address) == [] or is6(address)


def test_own_other_uplink_is_no_conflict(lab, wait_until):
    net = Net(lab(topologies.TWO_UPLINKS_ONE_LAN))
    own = net.sys_net.mac("wls7")

    def came_back(address, number):  # it did come in by ens6
        net.wire.wait_for(lambda p: number <= len(
            [q for q in net.wire.packets if q.outgoing and is_answer(q, address, own)]), what="our own claim")

    net.expose(WEB4, WEB6)
    for address in (WEB4, WEB6):
        net.probed(address)
        for frame in (announce(own, address), probe(own, address)):
            net.sys_net.send_frame("wls7", frame)
        came_back(address, 1)
    for address in (WEB4, WEB6):
        net.announced(address)
        net.sys_net.send_frame("wls7", announce(own, address))
        came_back(address, 2)
        assert state(net.router, address) == "open"
        net.sys_net.send_frame("wls7", announce(STRANGER, address))
        wait_until(lambda a=address: state(net.router, a) == "conflict", what="the conflict with a stranger")


@pytest.mark.parametrize("event", ["SIGHUP", "another network"])
def test_conflict_is_looked_at_again(net, wait_until, event):
    """Somebody set the other host right and says so; or the uplink is in another network now."""
    net.expose(WEB4, WEB6)
    for address in (WEB4, WEB6):
        net.probed(address)
        net.lan2.send_frame("eth0", announce(net.lan2.mac(), address))
        wait_until(lambda a=address: state(net.router, a) == "conflict", what="the conflict")
    if event == "SIGHUP":
        net.router.hup()
    else:
        net.sys_net.carrier("ens6", False)
        wait_until(lambda: not net.router.status()["uplinks"][0]["carrier"], what="the router to see it")
        net.sys_net.carrier("ens6", True)
    for address in (WEB4, WEB6):
        wait_until(lambda a=address: state(net.router, a) == "open", 3 * SLOW, f"{address} open again")
        net.lan1.neighbour_forget(address)
        assert net.lan1.can_reach(address, 80)


def test_a_conflict_that_passes_costs_a_moment(net, wait_until):
    """Who had the address answers once more and goes, as another net qube does that hears a moment later that the qube
    is gone; nobody says anything."""
    net.expose(WEB4, WEB6)
    for address in (WEB4, WEB6):
        net.probed(address)
        net.lan2.send_frame("eth0", announce(net.lan2.mac(), address))
        wait_until(lambda a=address: state(net.router, a) == "conflict", what="the conflict")
    start = time.monotonic()
    for address in (WEB4, WEB6):
        wait_until(lambda a=address: state(net.router, a) == "open", 5 * SLOW, f"{address} open again")
        net.lan1.neighbour_forget(address)
        assert net.lan1.can_reach(address, 80)
    assert time.monotonic() - start < 4 * SLOW


@both
def test_a_conflict_that_stays_is_asked_for_less_and_less(net, wait_until, address):
    net.expose(address)
    net.probed(address)
    net.lan2.send_frame("eth0", announce(net.lan2.mac(), address))
    wait_until(lambda: state(net.router, address) == "conflict", what="the conflict")
    asked = [time.monotonic()]
    for _ in range(2):  # it answers each question
        seen = len(net.wire.packets)
        probe_ = wait_until(lambda s=seen: next((p for p in net.wire.packets[s:] if not p.outgoing and
                                                 is_probe(p, address, net.mac)), None), 5 * SLOW, "the next question")
        asked.append(time.monotonic())
        assert probe_ and state(net.router, address) == "conflict"
        net.lan2.send_frame("eth0", announce(net.lan2.mac(), address))
    assert asked[1] - asked[0] < 1.5 * SLOW and 1.5 < asked[2] - asked[1] < 3 * SLOW


def malformed(mac):
    """Frames that claim both addresses, each with one thing wrong."""
    good = arp(REPLY, mac, WEB4, WEB4)
    multicast, zero = "01:00:5e:00:00:01", NOBODY
    yield from (good[:length] for length in (14, 15, 20, 28, 32, 41))
    for shape in ((6, 0x0800, 6, 4), (1, 0x86DD, 6, 4), (1, 0x0800, 8, 4), (1, 0x0800, 6, 16), (1, 0x0800, 0, 0)):
        yield arp(REQUEST, mac, WEB4, WEB4, shape=shape)
    for op in (0, 3, 8, 0xFFFF):
        yield arp(op, mac, WEB4, WEB4)
    for sender in (multicast, "ff:ff:ff:ff:ff:ff", zero):
        frame = arp(REQUEST, sender, WEB4, WEB4)
        yield frame[:6] + bytes.fromhex(mac.replace(":", "")) + frame[12:]
    good = advert(mac, WEB6)
    yield from (good[:length] for length in (15, 54, 55, 60, 70, 77, 79, 85))
    for hops in (0, 1, 64, 254):
        yield advert(mac, WEB6, hops=hops)
    yield advert(mac, WEB6, spoil=1)
    yield advert(mac, WEB6, spoil=0x8000)
    yield advert(mac, WEB6, code=1)
    yield advert(mac, WEB6, length=16)
    yield advert(mac, WEB6, length=65535)
    yield advert(mac, WEB6, next_header=17)
    yield advert(mac, WEB6, next_header=0)
    yield advert(mac, WEB6, option=b"\x02\x00" + bytes(6))
    yield advert(mac, WEB6, option=b"\x02\x01" + bytes(6) + b"\x01\x00" + bytes(6))
    yield advert(mac, WEB6, option=b"\x02\x02" + bytes(6))
    yield advert(mac, WEB6, option=b"\x02\xff" + bytes(6))
    yield advert(mac, WEB6, option=b"\x02\x01")
    yield advert(mac, ALL_NODES, source=WEB6)
    yield advert(mac, WEB6, flags=SOLICITED | OVERRIDE)  # answers to questions claim nothing
    frame = advert(mac, WEB6)
    yield frame[:14] + b"\x40" + frame[15:]  # IP version 4
    # questions, as everybody asks them
    yield arp(REQUEST, mac, "192.168.16.77", WEB4)
    yield solicit(mac, WEB6, "2001:db8:16::77")
    # right, for somebody else
    yield announce(mac, "192.168.17.25")
    yield announce(mac, "192.168.16.24")
    yield announce(mac, "2001:db8:17::25")  # the same last bytes
    yield icmp6(mac, "2001:db8:16::77", ALL_NODES, bytes([200, 0, 0, 0]) + bytes(60))


def test_malformed_frames_are_ignored(net, wait_until):
    net.expose(WEB4, WEB6)
    with net.asked(WEB4), net.asked(WEB6):  # while the probes are out, and afterwards
        net.probed(WEB4), net.probed(WEB6)
        for _round in range(2):
            for frame in malformed(STRANGER):
                net.lan2.send_frame("eth0", frame)
            net.announced(WEB4), net.announced(WEB6)
    assert state(net.router, WEB4) == state(net.router, WEB6) == "open"
    assert net.lan1.can_reach(WEB4, 80) and net.lan1.can_reach(WEB6, 80)
    for address in (WEB4, WEB6):
        net.lan2.send_frame("eth0", announce(STRANGER, address))
        wait_until(lambda a=address: state(net.router, a) == "conflict", what=f"the real claim of {address}")


def padded(frame):
    return frame + bytes(60 - len(frame)) if len(frame) < 60 else frame


def test_padded_frames_are_understood(net, wait_until):
    net.expose(WEB4, WEB6)
    net.probed(WEB4), net.probed(WEB6)
    for address in (WEB4, WEB6):
        net.lan2.send_frame("eth0", padded(announce(STRANGER, address)) + bytes(8))
        wait_until(lambda a=address: state(net.router, a) == "conflict", what="the conflict")


def wakeups(router):
    with open(f"/proc/{router.process.pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("voluntary_ctxt_switches")).split()[1])


def test_unrelated_frames_do_not_wake_the_router(net, wait_until):
    net.expose(WEB4, WEB6)
    wait_until(lambda: len(net.announcements(WEB4)) >= 2 and len(net.announcements(WEB6)) >= 2, 5 * SLOW,
               "silence after the announcements")
    assert net.lan1.can_reach(WEB4, 80) and net.lan1.can_reach(WEB6, 80)  # what these bring is over too
    mac = STRANGER
    frames = [arp(REQUEST, mac, "192.168.16.77", WEB4), arp(REPLY, mac, "192.168.16.78", WEB4),
              announce(mac, "192.168.16.79"), probe(mac, "192.168.16.80"), solicit(mac, WEB6, "2001:db8:16::77"),
              advert(mac, "2001:db8:16::78"), probe(mac, "2001:db8:16::79"),
              advert(mac, WEB6, flags=SOLICITED | OVERRIDE), icmp6(mac, "2001:db8:16::77", ALL_NODES, bytes(8))]
    arrived = net.wire.packets
    before = wakeups(net.router)
    flood(net.lan2, frames, 5000, 5000)
    net.wire.wait_for(lambda p: len(net.wire.packets) > len(arrived) + 4900, 2 * SLOW, "all of them on the wire")
    assert wakeups(net.router) - before <= 3  # the tick may fall in
    before = wakeups(net.router)
    net.lan2.send_frame("eth0", probe(mac, WEB4))
    wait_until(lambda: wakeups(net.router) > before, what="the router awake for a probe")


def test_flood_of_claims_hurts_only_what_is_claimed(net, wait_until):
    net.lab["hidden"].serve_tcp(80)
    net.expose(WEB4, WEB6)
    net.expose(HIDDEN4, HIDDEN6, qube="hidden")
    for address in (WEB4, WEB6, HIDDEN4, HIDDEN6):
        net.announced(address)
    with net.lan1.connect_tcp(HIDDEN4, 80) as four, net.lan1.connect_tcp(HIDDEN6, 80) as six:
        claims = [announce(STRANGER, WEB4), announce(STRANGER, WEB6), probe(STRANGER, WEB4), probe(STRANGER, WEB6),
                  arp(REPLY, STRANGER, WEB4, "192.168.16.2")]
        flood(net.lan2, claims, 5000, 5000)
        assert four.alive(SLOW) and six.alive(SLOW)
        assert net.lan1.can_reach(HIDDEN4, 80) and net.lan1.can_reach(HIDDEN6, 80)
        assert state(net.router, WEB4) == state(net.router, WEB6) == "conflict"
        assert state(net.router, HIDDEN4) == state(net.router, HIDDEN6) == "open"
    # probes of an address that is held are answered, each by one frame, and change nothing
    flood(net.lan2, [probe(STRANGER, HIDDEN4), probe(STRANGER, HIDDEN6)], 2000, 5000)
    wait_until(lambda: net.lan1.can_reach(HIDDEN4, 80), what="still open")
    assert state(net.router, HIDDEN4) == state(net.router, HIDDEN6) == "open"


def test_announced_again_when_the_lan_may_have_forgotten(net):
    """Asked first, as at the start: another host may have taken the address meanwhile."""
    def again(what, mac=net.mac):
        for address in (WEB4, WEB6):
            asked = net.wire.wait_for(lambda p, a=address: is_probe(p, a, mac), 2 * SLOW, f"a probe after {what}")
            net.wire.wait_for(lambda p, a=address, t=asked.time: not p.outgoing and p.time > t and
                              is_announcement(p, a, mac), 2 * SLOW, f"{address} announced after {what}")
        net.wire.clear()

    net.expose(WEB4, WEB6)
    again("the exposure")
    net.sys_net.carrier("ens6", False)
    net.sys_net.carrier("ens6", True)
    again("return of the carrier")
    net.router.hup()
    again("SIGHUP")
    net.sys_net.new_mac("ens6", "52:54:00:aa:bb:cc")
    again("a new MAC", "52:54:00:aa:bb:cc")
    net.lan1.neighbour_forget(WEB4)
    assert net.lan1.arping(WEB4)[0][0] == "52:54:00:aa:bb:cc" and net.lan1.can_reach(WEB4, 80)


def test_nothing_is_answered_after_the_vif_is_gone(net, wait_until):
    """The kernel would go on answering for an IPv6 proxy entry without a route behind it."""
    net.expose(WEB4, WEB6)
    net.announced(WEB4), net.announced(WEB6)
    for crash in (False, True):
        with net.asked(WEB4), net.asked(WEB6):
            for address in (WEB4, WEB6):
                net.wire.wait_for(lambda p, a=address: is_answer(p, a, net.mac), what="an answer")
            net.web.stop(offline=not crash)
            gone = time.time()
            wait_until(lambda: not net.sys_net.proxies(), SLOW, "no entry left", 0.001)
            asked = len(net.wire.packets)
            net.wire.wait_for(lambda p: len(net.wire.packets) > asked + 40, what="more questions")
        assert net.last_word(WEB4, gone) < 0.1 * SLOW and net.last_word(WEB6, gone) < 0.1 * SLOW
        assert state(net.router, WEB6) == "no-vif"
        if not crash:
            net.web.start()
            net.wire.clear()
            wait_until(lambda: net.lan1.can_reach(WEB6, 80), what="back")


# ---- IPv6 switches -------------------------------------------------------------------------------------------------

SWITCHES = ("net/ipv6/conf/{}/forwarding", "net/ipv6/conf/{}/accept_ra", "net/ipv6/conf/{}/proxy_ndp",
            "net/ipv6/neigh/{}/proxy_delay", "net/ipv4/neigh/{}/proxy_delay")


def switches(node, *names):
    return {text.format(name): node.sysctl(text.format(name)) for name in names for text in SWITCHES
            if not (name in ("all", "default") and "neigh" in text)}


def without_ip6(topology):
    """The platform left IPv6 forwarding off in the net qube, and it configures itself by router advertisements."""
    netqube = topology.machine("sys-net")
    return topology.changed("sys-net", ipv6=False, routes=tuple(r for r in netqube.routes if r.to != "::/0"))


def default_routes(node):
    return {words[words.index("dev") + 1] for line in
            node.run(["ip", "-6", "route", "show", "default"]).stdout.splitlines() if (words := line.split())}


def offer(lab, host, iface="eth0"):
    """A router of that segment advertises itself."""
    node = lab[host]
    local = next(line.split()[3].split("/")[0] for line in
                 node.run(["ip", "-o", "-6", "addr", "show", "dev", iface, "scope", "link"]).stdout.splitlines())
    node.send_frame(iface, router_advert(node.mac(iface), local))


def test_ip6_forwarding_is_switched_on_only_while_needed(lab, wait_until):
    """Router advertisements go on being taken on every uplink, and all values come back."""
    built = lab(without_ip6(topologies.TWO_UPLINKS))
    sys_net, lan1 = built["sys-net"], built["lan1"]
    offer(built, "gw")
    offer(built, "wifi1")
    wait_until(lambda: default_routes(sys_net) == {"ens6", "wls7"}, what="default routes by router advertisements")
    names = ("all", "default", "ens6", "wls7", "lo")
    before = switches(sys_net, *names)
    assert before["net/ipv6/conf/all/forwarding"] == "0" and before["net/ipv6/conf/ens6/accept_ra"] == "1"
    router = sys_net.router()
    assert switches(sys_net, *names) == before
    sys_net.expose("web", 4)
    wait_until(lambda: state(router, WEB4) == "open", what="IPv4 open")
    assert sys_net.sysctl("net/ipv6/conf/all/forwarding") == "0"  # nothing of IPv6 is needed for that
    before_six = switches(sys_net, *names)
    sys_net.expose("web", 6)
    wait_until(lambda: lan1.ndisc(WEB6, count=1), what="IPv6 answered for")
    web6_on_wire = built["web"].sniff("eth0", "icmp6 and ip6[40] == 128")
    lan1.ping(WEB6, 0.2)
    web6_on_wire.wait_for(lambda p: True, what="an echo request in the qube")
    now = switches(sys_net, *names)
    assert now["net/ipv6/conf/all/forwarding"] == "1" and now["net/ipv6/conf/default/forwarding"] == "0"
    assert now["net/ipv6/conf/ens6/proxy_ndp"] == "1" and now["net/ipv6/conf/wls7/proxy_ndp"] == "0"
    assert now["net/ipv6/conf/wls7/forwarding"] == "0"
    assert default_routes(sys_net) == {"ens6", "wls7"}
    # news of both routers are still taken: a route that was lost comes back with the next advertisement
    sys_net.run(["ip", "-6", "route", "flush", "proto", "ra"])
    assert default_routes(sys_net) == set()
    offer(built, "gw")
    offer(built, "wifi1")
    wait_until(lambda: default_routes(sys_net) == {"ens6", "wls7"}, what="default routes again")
    sys_net.withdraw("web", 6)
    wait_until(lambda: switches(sys_net, *names) == before_six, what="all values of IPv6 back")
    assert default_routes(sys_net) == {"ens6", "wls7"}
    sys_net.withdraw("web", 4)
    wait_until(lambda: switches(sys_net, *names) == before, what="all values back")


def test_ip6_switches_come_back_at_a_stop(lab, wait_until):
    built = lab(without_ip6(topologies.TWO_UPLINKS))
    sys_net = built["sys-net"]
    names = ("all", "default", "ens6", "wls7", "lo", "vif11.0", "vif12.0")
    before = switches(sys_net, *names)
    router = sys_net.router()
    sys_net.expose("web", 4)
    sys_net.expose("web", 6)
    wait_until(lambda: state(router, WEB6) == "open", what="IPv6 open")
    assert switches(sys_net, *names) != before
    router.kill9()  # the successor knows the values from before
    router.start()
    wait_until(lambda: state(router, WEB6) == "open", what="IPv6 open under the successor")
    router.stop()
    assert switches(sys_net, *names) == before


def test_nobody_forwards_ip6_between_uplinks_for_our_sake(lab, wait_until):
    built = lab(without_ip6(topologies.TWO_UPLINKS))
    sys_net, lan1, wifi1 = built["sys-net"], built["lan1"], built["wifi1"]
    lan1.batch("route replace 2001:db8:17::/64 via 2001:db8:16::2\n")
    lan1.serve_udp(7)
    seen = lan1.sniff("eth0", "udp port 7")
    router = sys_net.router()
    sys_net.expose("web", 6)
    wait_until(lambda: state(router, WEB6) == "open", what="IPv6 open")
    assert sys_net.sysctl("net/ipv6/conf/all/forwarding") == "1"
    assert wifi1.ask_udp("2001:db8:16::10", 7, 0.3) is None and not seen.packets
    # the way is there: without our guard it works
    router.usr1()
    sys_net.run("nft flush chain ip6 qubes-network-server forward")
    assert wifi1.ask_udp("2001:db8:16::10", 7, 1.0) is not None
