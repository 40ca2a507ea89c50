# SPDX-License-Identifier: GPL-2.0-or-later
"""The seal as an owner and its verbs: what arms, what refuses to, who may ask for what, and what a wish does."""

import array
import fcntl
import os
import signal
import socket
import subprocess

import pytest

from lab import topologies, vpn_frames as frames
from lab.flows import Ask
from lab.node import wait_until
from lab.router import SLOW, environment, program
from lab.vpn import CLIENT_USER, SEAL, Seal, Wish, available
from lab.vpn_flood import Flood
from lab.vpn_provider import VPN_ANSWER, VPN_DNS, NameServer, resolve, way
from lab.vpn_seal import CARRIER, TARGET, TARGET6, TUNNEL, Sealed

pytestmark = pytest.mark.skipif(not available(SEAL), reason="the seal is not built")

PROXY_USER = "991"
SECOND_DNS = "198.51.100.1"


@pytest.fixture
def box(lab):
    return Sealed(lab)


def as_user(node, uid, code):
    """Runs Python as another user; its output."""
    return node.run(["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "/usr/bin/python3", "-c", code],
                    check=False).stdout.strip()


# -- arming ------------------------------------------------------------------------------------------------------------

def test_unsealed_the_witness_sees_leaks(lab):
    """The control: what the other tests count as nothing is there without the seal."""
    box = Sealed(lab, seal=False)
    with box.oracle() as oracle, Flood(box.work, 2000):
        wait_until(lambda: oracle.report.qube_bytes() > 100, 5 * SLOW, "leaks are seen")


def test_sealed_nothing_leaves(box):
    with box.watched(), Flood(box.work, 3000) as flood:
        for address in (TARGET, TARGET6):
            for node in (box.work, box.play, box.vpn):
                assert way(node, address) is None
                assert way(node, address, "tcp") is None
        assert resolve(box.work, "secret.example", timeout=0.5) is None
        assert resolve(box.vpn, "secret.example", timeout=0.5) is None
    assert flood.sent > 1000
    assert not box.provider.clear.peers and not box.provider.clear_dns.queries
    status, told = box.seal.check()
    assert (status, told["sealed"], told["missing"]) == (0, True, [])
    assert [told["layers"][name]["whole"] for name in ("routes", "inet", "egress")] == [True] * 3
    assert told["layers"]["inet"]["owned"] and told["uplinks"] == ["eth0"]


def test_on_without_an_owner_arms_and_stays(lab):
    box = Sealed(lab, start=False)
    assert not box.sealed()
    assert box.seal.on() == 0
    assert box.sealed()
    assert box.seal.on() == 0
    assert way(box.work) is None
    box.seal.start()
    assert box.sealed()
    box.seal.stop()
    assert box.sealed() and way(box.work) is None


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL])
def test_whatever_ends_the_owner_all_stays(box, end):
    before = box.picture()
    status = box.seal.end(end)
    assert status == (-9 if end == signal.SIGKILL else 0)
    assert box.picture() == before
    assert box.sealed() and way(box.work) is None and way(box.vpn) is None


def test_there_is_no_off(box):
    done = box.seal.verb("off")
    assert done.returncode == 2 and "no \"off\"" in done.stderr
    assert box.sealed()


@pytest.mark.parametrize("words", [["check", "on"], [], ["run", "--json"], ["on", "--layers", "X"],
                                   ["on", "--nft", "nft"], ["on", "--what"]])
def test_wrong_use(box, words):
    assert box.vpn.run([program(SEAL), *words], check=False, env=environment()).returncode == 2


@pytest.mark.parametrize("user", ["root", "0", "nobody-of-this-name"])
def test_the_client_must_have_a_user_of_its_own(box, user):
    done = box.vpn.run([program(SEAL), "on", "--user", user], check=False, env=environment())
    assert done.returncode == 1 and "nothing was armed" in done.stderr
    assert box.vpn.sysctl("net/ipv4/ip_forward") == "0"


@pytest.mark.parametrize("verb", ["on", "run", "blackhole"])
@pytest.mark.parametrize("broken", ["nft", "capability"])
def test_a_failure_to_arm_switches_forwarding_off(lab, broken, verb):
    box = Sealed(lab, seal=False, provider=False)
    box.vpn.sysctl("net/ipv6/conf/all/forwarding", 1)
    words = [program(SEAL), verb, "--user", CLIENT_USER, "--socket", f"{box.vpn.folder}/s"]
    if broken == "nft":
        words += ["--nft", "/nonexistent/nft"]
    else:
        words = ["setpriv", "--bounding-set", "-net_admin", *words]
        # without it the kernel refuses to close, too: what was never opened stays closed
        assert "CANNOT BE SWITCHED OFF" in box.vpn.run(words, check=False, env=environment()).stderr
        box.vpn.sysctl("net/ipv4/ip_forward", 0)
        box.vpn.sysctl("net/ipv6/conf/all/forwarding", 0)
    done = box.vpn.run(words, check=False, env=environment())
    assert done.returncode == 1 and "Cannot seal" in done.stderr
    assert box.vpn.sysctl("net/ipv4/ip_forward") == "0"
    assert box.vpn.sysctl("net/ipv6/conf/all/forwarding") == "0"


@pytest.mark.parametrize("layers", ["R", "N", "G", "RN", "NG", "RG"])
def test_layers_alone_are_never_ready(lab, layers):
    box = Sealed(lab, provider=False, layers=layers)
    assert "READY=1" not in box.seal.notifications
    status, told = box.seal.check()
    whole = {name for name, key in zip("RNG", ("routes", "inet", "egress")) if told["layers"][key]["whole"]}
    assert (status, told["sealed"]) == (3, False) and set(layers) <= whole
    assert box.seal.on() in (0, 1)  # asks the owner, who is no liar: see the next line
    assert box.seal.check()[0] == 3
    box.seal.kill9()
    assert box.seal.on() == 3
    assert "READY=1" not in box.seal.notifications
    plain = Seal(box.vpn, start=False)
    assert plain.check()[0] == 1


def test_check_names_each_missing_piece(box):
    box.seal.kill9()
    # what is taken away, and the words that name it
    pieces = [(["ip", "rule", "del", "prio", "80"], "IPv4 rule 80"),
              (["ip", "-6", "rule", "del", "prio", "70"], "IPv6 rule 70"),
              (["ip", "route", "flush", "table", "78"], "table 78"),
              (["ip", "-6", "route", "flush", "table", "79"], "table 79"),
              (["nft", "add", "rule", "inet", "qubes-vpn", "forward", "accept"], "table inet"),
              (["nft", "add", "rule", "netdev", "qubes-vpn", "egress4", "accept"], "table netdev"),
              (["nft", "add", "element", "netdev", "qubes-vpn", "client", "{ 1000 }"], "element of set client"),
              (["sysctl", "-q", "-w", "net.ipv4.conf.all.arp_ignore=0"], "arp_ignore")]
    for command, words in pieces:
        box.vpn.run(command)
        status, told = box.seal.check()
        assert status == 1 and not told["sealed"]
        assert any(words in text for text in told["missing"]), (words, told["missing"])
        text = box.seal.verb("check")
        assert text.returncode == 1 and "NOT SEALED" in text.stdout and words in text.stdout
        assert box.seal.on() == 0
        assert box.sealed()


def test_a_second_owner_is_refused(box):
    before = box.picture()
    second = Seal(box.vpn, start=False)
    second.start(ready=False)
    assert second.process.wait(10 * SLOW) == 1
    assert "READY=1" not in second.notifications and "Another owner" in second.log
    assert box.seal.running() and Wish(box.seal).ask("on\n") == "ok"
    assert box.picture() == before and box.sealed()


def test_as_the_service_runs_it(lab, monkeypatch):
    """A user of its own, one capability, as data/systemd/qubes-vpn-forwarding.service.in has it."""
    box = Sealed(lab, start=False)
    os.chmod(box.vpn.folder, 0o777)
    os.chmod(f"{box.vpn.folder}/{box.seal.name}.notify", 0o777)
    box.vpn.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.accept_redirects=1", "net.ipv4.conf.eth0.send_redirects=1"])
    monkeypatch.setenv("SLUICE_WRAP", "setpriv --reuid 4990 --regid 4990 --clear-groups --no-new-privs "
                       "--inh-caps -all,+net_admin --ambient-caps -all,+net_admin --bounding-set -all,+net_admin")
    box.seal.start()
    monkeypatch.undo()
    with open(f"/proc/{box.seal.process.pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":\t", 1) for line in file.read().splitlines())
    assert fields["Uid"].split()[0] == "4990" and int(fields["CapBnd"], 16) == int(fields["CapEff"], 16) == 1 << 12
    assert box.sealed() and box.vpn.sysctl("net/ipv4/conf/eth0/send_redirects") == "0"
    box.connect()
    box.vpn.run(["ip", "rule", "del", "prio", "80"])
    wait_until(box.sealed, 3 * SLOW, "put back")


# -- ownership ---------------------------------------------------------------------------------------------------------

FOREIGN = ["delete table inet qubes-vpn", "delete table netdev qubes-vpn", "flush table inet qubes-vpn",
           "add rule inet qubes-vpn forward accept", "insert rule netdev qubes-vpn egress accept",
           "add element inet qubes-vpn client { 1000 }", "flush chain inet qubes-vpn output",
           "add table inet qubes-vpn { flags dormant; }", "delete element netdev qubes-vpn client { 4978 }"]


def test_nobody_else_changes_the_tables(box):
    before = box.picture()
    for text in FOREIGN:
        done = box.vpn.run(["nft", *text.split(" ")], check=False)
        assert done.returncode != 0 and "Operation not permitted" in done.stderr, (text, done.stderr)
    box.vpn.nft("flush ruleset")
    assert box.picture() == before
    assert box.sealed()


class Manager:
    """The service manager's part: what programs tell, and the descriptors they leave."""

    def __init__(self, box):
        self.box, self.path, self.kept, self.said = box, f"{box.vpn.folder}/manager", [], []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(10 * SLOW)

    def start(self):
        """The service starts with what is kept, as LISTEN_FDS."""
        seal, names = self.box.seal, "seal-nft"
        redirections = " ".join(f"{3 + number}<&{fd}" for number, fd in enumerate(self.kept))
        script = f"LISTEN_PID=$$ exec \"$@\" {redirections}" if self.kept else "exec \"$@\""
        listen = {"LISTEN_FDS": str(len(self.kept)), "LISTEN_FDNAMES": ":".join([names] * len(self.kept))}
        seal.process = self.box.vpn.popen(
            ["/bin/bash", "-c", script, "bash", program(SEAL), *seal._arguments()],  # pylint: disable=protected-access
            env=environment(NOTIFY_SOCKET=self.path) | (listen if self.kept else {}), pass_fds=self.kept,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(seal._log_path, "a", encoding="utf-8"))
        while "READY=1" not in self.read():
            assert seal.process.poll() is None, seal.log

    def read(self):
        data, ancillary, _flags, _ = self.socket.recvmsg(65536, 256)
        descriptors = array.array("i")
        for _level, _kind, content in ancillary:
            descriptors.frombytes(content)
        lines = data.decode().splitlines()
        self.said += lines
        if "FDSTORE=1" in lines:
            assert "FDNAME=seal-nft" in lines
            self.drop()
            self.kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in descriptors]
        if "FDSTOREREMOVE=1" in lines:
            self.drop()
        for fd in descriptors:
            os.close(fd)
        return lines

    def drop(self):
        for fd in self.kept:
            os.close(fd)
        self.kept = []

    def close(self):
        self.drop()
        self.socket.close()


def test_with_the_manager_s_store_tables_stay_owned(lab):
    box = Sealed(lab, start=False)
    manager = Manager(box)
    try:
        manager.start()
        before = box.picture()
        for _ in range(3):
            box.seal.kill9()
            box.vpn.nft("flush ruleset")  # the owner is dead, its socket lives
            assert box.vpn.run(["nft", "delete", "table", "inet", "qubes-vpn"], check=False).returncode != 0
            assert box.picture() == before
            manager.start()
            assert box.picture() == before and box.sealed()
            assert box.vpn.run(["nft", "flush", "table", "netdev", "qubes-vpn"], check=False).returncode != 0
        assert "put back" not in box.seal.log
    finally:
        manager.close()


def test_killed_at_any_moment_the_tunnel_goes_on(box):
    box.connect()
    flow = Ask(box.work, TARGET, 7)
    with box.watched():
        for number in range(12):
            box.seal.kill9()
            assert box.carried(1.0) and flow.moves(), number
            box.seal.start(ready=False)
            if number % 2:
                wait_until(lambda: _ran(box, number), 2 * SLOW, "a moment of the start")  # pylint: disable=cell-var-from-loop
            else:
                box.seal.wait_ready()
                assert "tunnel open" in "".join(box.seal.notifications)
        if not box.seal.running() or "READY=1" not in box.seal.notifications:
            box.seal.kill9()
            box.seal.start()
        assert box.carried(1.0) and flow.moves() and box.sealed()
    flow.close()


def _ran(box, number):
    """True once the new owner has used some processor time, more each time."""
    try:
        with open(f"/proc/{box.seal.process.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) > number * 500_000 or "READY=1" in box.seal.notifications
    except OSError:
        return True


# -- requests ----------------------------------------------------------------------------------------------------------

ASK = """
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(3)
s.connect({path!r})
try:
    s.sendall(b"set\\nproxy=1000\\n"); print(s.recv(100))
except OSError as e:
    print("refused", e.errno)
"""


def test_only_root_and_the_supervisor_may_ask(box):
    before = box.picture()
    for uid in ("1000", CLIENT_USER, "65534"):
        assert as_user(box.vpn, uid, ASK.format(path=box.seal.socket)) in ("b''", "refused 32", "refused 104")
    assert box.picture() == before
    assert "may not" in box.seal.log
    box.seal.stop()
    with_user = Seal(box.vpn, start=False)
    with_user.arguments = ("--supervisor-user", "4979")
    with_user.start()
    assert as_user(box.vpn, "4979", ASK.format(path=box.seal.socket)) == "b'ok\\n'"
    assert as_user(box.vpn, "4980", ASK.format(path=box.seal.socket)) in ("b''", "refused 32", "refused 104")


HOSTILE = ["", "\n", "set", "open\n", "off\n", "set\nset\n", "\0" * 100, "A" * 8192, "set\n" + "\n" * 100,
           "set\ntunnel=eth0\naddress=10.8.0.2\nmtu=1400\n", "set\ntunnel=lo\naddress=10.8.0.2\nmtu=1400\n",
           "set\ncarrier=udp 127.0.0.1 1194 uid\n", "set\ncarrier=udp ::1 1194 uid\n", "set\ncarrier=udp 0.0.0.0 1 uid\n",
           "set\ncarrier=udp 255.255.255.255 1194 uid\n", "set\ncarrier=udp 203.0.113.10 0 uid\n",
           "set\ncarrier=tcp 203.0.113.10 443 mark\n", "set\nproxy=0\n", "set\nproxy=4294967295\n",
           "set\n" + "carrier=udp 203.0.113.10 1194 uid\n" * 65, "set\ndns=10.139.1.1\n",
           "set\ncarrier=udp 203.0.113.10 1194 uid; nft flush ruleset\n"]


def test_hostile_requests_change_nothing(box):
    before = box.picture()
    wish = Wish(box.seal)
    for text in HOSTILE[1:]:
        answer = wish.ask(text)
        assert answer.startswith("error="), (text, answer)
    with pytest.raises(OSError):  # nothing as large fits, or it is told so
        assert wish.ask("set\n" + "x" * 300_000).startswith("error=")
        raise OSError
    assert wish.ask("set\n" + "x" * 20_000).startswith("error=")
    many = []
    for _ in range(40):  # more connections than there is room for
        many.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        many[-1].setblocking(False)
        try:
            many[-1].connect(box.seal.socket)
        except OSError:
            break
    assert wish.ask("on\n") == "ok"
    for sock in many:
        sock.close()
    assert box.picture() == before and box.sealed()
    wait_until(lambda: Wish(box.seal).ask("on\n") == "ok", 2 * SLOW, "room again")


def test_an_asker_that_reads_nothing_stops_nobody(box):
    deaf = Wish(box.seal)
    deaf._socket.setblocking(False)  # pylint: disable=protected-access
    try:
        for _ in range(3000):
            deaf._socket.send(b"check\n")  # pylint: disable=protected-access
    except OSError:
        pass
    assert Wish(box.seal).ask("on\n") == "ok"
    assert box.sealed()


ASK_ENDPOINT = """
import socket
s = socket.socket(socket.{family}, socket.SOCK_{kind}); s.settimeout(0.5)
try:
    s.connect(({endpoint!r}, {port})); s.send(b'x' * {size}); print('answer', len(s.recv(100)) > 0)
except OSError as e:
    print('none')
"""


# -- wishes ------------------------------------------------------------------------------------------------------------

def test_a_wish_opens_the_tunnel_and_another_closes_it(box):
    box.connect()
    for address in (TARGET, TARGET6):
        assert way(box.work, address) == "VPN" and way(box.play, address, "tcp") == "VPN"
        assert way(box.vpn, address) is None  # this qube's own traffic goes nowhere
    with box.watched():
        assert box.client.wish.set() == "ok"
        assert not box.carried() and way(box.work, TARGET6) is None
        assert box.client.wish.ask("on\n") == "ok"
        assert not box.carried()
    assert box.sealed()


def test_blackhole_closes_a_running_tunnel(box):
    box.connect()
    flow = Ask(box.work, TARGET, 7)
    with box.watched(), Flood(box.work, 3000):
        assert box.seal.blackhole() == 0
        assert not box.carried() and not flow.moves()
    assert box.sealed()
    box.seal.kill9()
    assert box.seal.blackhole() == 0 and not box.carried() and box.sealed()
    flow.close()


def test_another_endpoint_takes_the_place_of_the_first(box):
    box.connect()
    assert box.client.wish.set([("udp", "203.0.113.20", 1194, "uid")], tunnel=TUNNEL, addresses=["10.8.0.2"]) == "ok"
    assert not box.carried()  # its packets to the first endpoint are none of a carrier now
    with box.watched([("udp", "203.0.113.20", 1194)]), Flood(box.work, 3000):
        assert not box.carried()
    assert box.client.wish.set([CARRIER], tunnel=TUNNEL, addresses=["10.8.0.2"]) == "ok"
    box.wait_carried()


@pytest.mark.parametrize("endpoint, family", [("203.0.113.10", "AF_INET"), ("2001:db8:1::10", "AF_INET6")])
def test_the_endpoint_is_the_client_s_alone(box, endpoint, family):
    """Not for this qube's other users, not for qubes, not on another port or protocol; fragments go through."""
    server = box.lab["server"]
    server.serve_udp(1194, endpoint)
    server.serve_udp(1195, endpoint)
    server.serve_tcp(1194, endpoint)
    wish = Wish(box.seal)
    assert wish.set([("udp", endpoint, 1194, "uid")]) == "ok"

    def ask(uid, kind="DGRAM", port=1194, size=1):
        return as_user(box.vpn, uid, ASK_ENDPOINT.format(family=family, kind=kind, endpoint=endpoint, port=port, size=size))

    with box.watched([("udp", endpoint, 1194)]):
        assert ask(CLIENT_USER) == "answer True"
        assert ask("1000") == ask("0") == "none"
        assert ask(CLIENT_USER, port=1195) == "none"
        assert ask(CLIENT_USER, "STREAM") == "none"
        assert box.work.ask_udp(endpoint, 1194) is None
    assert ask(CLIENT_USER, size=3000) == "answer True"
    assert wish.set([]) == "ok"
    assert ask(CLIENT_USER) == "none"


@pytest.mark.parametrize("servers", [0, 1, 2])
def test_names_of_qubes_go_to_the_servers_in_the_tunnel(box, servers):
    NameServer(box.lab["inside"], SECOND_DNS, ["192.0.2.99"])
    box.connect()
    dns = [VPN_DNS, SECOND_DNS][:servers]
    assert box.client.wish.set([CARRIER], tunnel=TUNNEL, addresses=["10.8.0.2"], dns=dns) == "ok"
    expected = {0: (None, None), 1: ([VPN_ANSWER], [VPN_ANSWER]), 2: ([VPN_ANSWER], ["192.0.2.99"])}[servers]
    with box.watched():
        for number in (1, 2):
            for tcp in (False, True):
                told = resolve(box.work, "secret.example", f"10.139.1.{number}", tcp=tcp, timeout=0.7)
                assert told == expected[number - 1], (number, tcp)
        assert resolve(box.vpn, "secret.example", timeout=0.5) is None
    assert box.provider.clear_dns.queries == []
    assert resolve(box.work, "secret.example", VPN_DNS) == [VPN_ANSWER]  # asked by its own address: as any host


def test_own_look_ups_only_when_wished_and_to_those_servers(box):
    box.connect()
    ask = dict(tunnel=TUNNEL, addresses=["10.8.0.2"], dns=[VPN_DNS])
    assert resolve(box.vpn, "host.example", VPN_DNS, timeout=0.5) is None
    assert box.client.wish.set([CARRIER], more=["lookups=1"], **ask) == "ok"
    assert resolve(box.vpn, "host.example", VPN_DNS) == [VPN_ANSWER]
    assert resolve(box.vpn, "host.example", VPN_DNS, tcp=True) == [VPN_ANSWER]
    for virtual in ("10.139.1.1", "10.139.1.2"):  # as the qube's own resolver has them
        assert resolve(box.vpn, "host.example", virtual) == [VPN_ANSWER]
    assert way(box.vpn) is None
    assert box.client.wish.set([CARRIER], **ask) == "ok"
    assert resolve(box.vpn, "host.example", VPN_DNS, timeout=0.5) is None


def _mss(packet):
    """The MSS option of a TCP packet with SYN, by the bytes."""
    parsed = frames.parse(bytes(packet.data))
    options, place = parsed.body[20:(parsed.body[12] >> 4) * 4], 0
    while place < len(options) and options[place]:
        if options[place] == 1:
            place += 1
            continue
        if options[place] == 2:
            return int.from_bytes(options[place + 2:place + 4], "big")
        place += options[place + 1]
    return None


@pytest.mark.parametrize("address, head", [(TARGET, 40), (TARGET6, 60)])
@pytest.mark.parametrize("mtu", [1000, 1400])
def test_segments_fit_the_tunnel_both_ways(box, address, head, mtu):
    mtu = max(mtu, 1300) if head == 60 else mtu
    box.connect()
    assert box.client.wish.set([CARRIER], tunnel=TUNNEL, addresses=["10.8.0.2", "fd00:8::2"], mtu=mtu) == "ok"
    with box.lab["inside"].sniff("eth0") as far, box.work.sniff("eth0") as near:
        assert way(box.work, address, "tcp", timeout=1.0) == "VPN"

        def syn(packet, ack):
            parsed = frames.parse(bytes(packet.data))
            return (parsed.proto == frames.TCP and len(parsed.body) > 13 and
                    parsed.body[13] & (frames.SYN | frames.ACK) == (frames.SYN | (frames.ACK if ack else 0)))

        there = far.wait_for(lambda packet: syn(packet, False), what="SYN at the server")
        back = near.wait_for(lambda packet: syn(packet, True), what="SYN-ACK at the qube")
    assert (_mss(there), _mss(back)) == (mtu - head, mtu - head)


def test_without_ipv6_in_the_tunnel_programs_are_told_at_once(box):
    server = box.provider.openvpn("server")
    server.push(address6=None)
    box.server = server
    box.connect()
    with box.watched():
        assert way(box.work, TARGET) == "VPN"
        with box.work.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.settimeout(5 * SLOW)
            with pytest.raises(OSError) as told:
                sock.connect((TARGET6, 7))
            assert not isinstance(told.value, TimeoutError), "silence instead of an answer"


def known_flows(box):
    """Those to the targets that connection tracking has in the VPN qube."""
    lines = [line for family in ("ipv4", "ipv6")
             for line in box.vpn.run(["conntrack", "-L", "-f", family], check=False).stdout.splitlines()]
    return [line for line in lines if "dport=7 " in line and "ESTABLISHED" in line]


def test_flows_from_before_are_cut(lab):
    box = Sealed(lab, seal=False)
    flows = [Ask(box.work, address, 7) for address in (TARGET, TARGET6)]
    assert box.provider.clear.peers and len(known_flows(box)) == 2
    box.seal = Seal(box.vpn)
    assert not known_flows(box)  # an offloaded one would go on as long as it is known
    with box.watched():
        assert not any(flow.moves() for flow in flows)
    box.connect()
    with box.watched():
        assert not any(flow.moves() for flow in flows)  # nor do they go on in the tunnel
        assert box.carried()
    for flow in flows:
        flow.close()


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_reverse_path_filters_let_the_carrier_in(lab, rp_filter, proto):
    box = Sealed(lab, topologies.VPN.changed("vpn", rp_filter=rp_filter))
    box.connect(proto=proto, port=443 if proto == "tcp" else 1194)
    with box.watched([(proto, "203.0.113.10", 443 if proto == "tcp" else 1194)]):
        assert box.carried(1.0) and way(box.work, TARGET6, timeout=1.0) == "VPN"


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_look_ups_of_the_endpoint_by_mark(lab, rp_filter):
    box = Sealed(lab, topologies.VPN.changed("vpn", rp_filter=rp_filter))
    wish = Wish(box.seal)

    def ask(mark):
        with box.vpn.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK
            sock.settimeout(0.5 * SLOW)
            try:
                sock.connect(("10.139.1.1", 53))
                sock.send(b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\3vpn\7example\3net\0\0\1\0\1")
                return len(sock.recv(512)) > 12
            except OSError:
                return False

    assert not ask(0x79000000)
    assert wish.set(resolvers=["10.139.1.1"]) == "ok"
    with box.watched():
        assert ask(0x79000000) and ask(0x79000077)
        assert not ask(0) and not ask(0x78000000)
    assert wish.set() == "ok"
    assert not ask(0x79000000)


def test_disable_default_route(lab):
    """The platform's service: table main has no default, only the way to the gateway."""
    box = Sealed(lab, seal=False)
    box.vpn.batch("route del default\n")
    box.vpn.run(["ip", "-6", "route", "del", "default"])
    assert way(box.work) is None
    box.seal = Seal(box.vpn)
    box.connect()
    assert box.sealed() and way(box.work, TARGET6) == "VPN"
    assert not any(line.startswith("default") for line in box.vpn.run(["ip", "route"]).stdout.splitlines())


# -- the updates proxy -------------------------------------------------------------------------------------------------

FETCH = ("import socket\ns = socket.socket(); s.settimeout(0.5)\ntry:\n    s.connect(('203.0.113.1', {port}))\n"
         "    print('answer', len(s.recv(100)) > 0)\nexcept OSError as e:\n    print('none')\n")


def test_the_updates_proxy_by_its_user_only(box):
    internet = box.lab["internet"]
    for port in (22, 80, 443):
        internet.serve_tcp(port, "203.0.113.1")
    box.vpn.serve_tcp(8082)
    box.connect()
    tunnel = dict(tunnel=TUNNEL, addresses=["10.8.0.2"], dns=[VPN_DNS])
    assert as_user(box.vpn, PROXY_USER, FETCH.format(port=80)) == "none"
    assert box.client.wish.set([CARRIER], more=[f"proxy={PROXY_USER}"], **tunnel) == "ok"
    assert as_user(box.vpn, PROXY_USER, FETCH.format(port=80)) == "answer True"
    assert as_user(box.vpn, PROXY_USER, FETCH.format(port=443)) == "answer True"
    assert as_user(box.vpn, PROXY_USER, FETCH.format(port=22)) == "none"
    assert as_user(box.vpn, "1000", FETCH.format(port=80)) == "none"
    assert as_user(box.vpn, CLIENT_USER, FETCH.format(port=80)) == "none"
    # its own port is for the qube itself: not for qubes behind, not from the tunnel
    for node, address in ((box.work, "10.137.0.20"), (box.lab["inside"], "10.8.0.2"), (box.lab["sys-net"], "10.137.0.20"),
                          (box.work, "10.8.0.2")):
        assert not node.can_reach(address, 8082), (node.name, address)
    assert box.vpn.can_reach("127.0.0.1", 8082)
    assert box.carried()
    # qubes are not the proxy, whatever user they have
    assert not box.work.can_reach("203.0.113.1", 80, timeout=0.5)
    assert box.client.wish.set([CARRIER], **tunnel) == "ok"
    assert as_user(box.vpn, PROXY_USER, FETCH.format(port=80)) == "none"
