# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy module for Fedora's templates: it is compiled, linked with the reference policy that Debian has, its neverallow
rules checked by the linker, and then the linked policy is asked who may do what.

What this cannot show: that nothing the daemons need is missing (no kernel here enforces), and how it links with Fedora's."""

import pathlib
import re
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
DEVEL = pathlib.Path("/usr/share/selinux/devel/Makefile")
STORE = pathlib.Path("/var/lib/selinux/default")
DAEMONS = {"qubes_routing_manager_t": "qubes-routing-manager", "qubes_inbound_t": "qubes-inbound",
           "qubes_vpn_seal_t": "qubes-vpn-forwarding", "qubes_vpnd_t": "qubes-vpn"}
CLIENT = "qubes_vpn_client_t"
DOMAINS = [*DAEMONS, CLIENT]

setools = pytest.importorskip("setools", reason="python3-setools")
pytestmark = pytest.mark.skipif(not DEVEL.exists() or not STORE.exists() or not shutil.which("semodule"),
                                reason="selinux-policy-dev, selinux-policy-default, policycoreutils")

# The two modules that Qubes itself has, as far as ours names what is in them.
QUBES = """policy_module(qubes_stand_in, 1.0)
type qubes_var_run_t;
files_runtime_file(qubes_var_run_t)
type qubes_qubesdb_socket_t;
files_runtime_file(qubes_qubesdb_socket_t)
type qubes_qubesdb_daemon_t;
type qubes_qubesdb_daemon_exec_t;
init_daemon_domain(qubes_qubesdb_daemon_t, qubes_qubesdb_daemon_exec_t)
"""


def build(folder, te=None, name="sluice"):
    """The .pp of a module."""
    folder.mkdir(parents=True, exist_ok=True)
    if te is None:
        subprocess.run([TOP / "selinux/build.sh", folder], check=True, capture_output=True)
        return folder / f"{name}.pp"
    (folder / f"{name}.te").write_text(te, encoding="ascii")
    subprocess.run(["make", "-s", "-C", folder, "-f", DEVEL, f"{name}.pp"], check=True, capture_output=True)
    return folder / f"{name}.pp"


class Store:
    """A copy of the machine's modules that nobody else uses; what does not concern us is left out, for time."""

    def __init__(self, root):
        self.root = root
        (root / "var/lib/selinux").mkdir(parents=True)
        shutil.copytree(STORE, root / "var/lib/selinux/default", symlinks=True)
        shutil.copytree("/etc/selinux", root / "etc/selinux", symlinks=True)
        text = (root / "etc/selinux/semanage.conf").read_text(encoding="ascii")
        # This makes the linker check neverallow rules.
        text = re.sub(r"^expand-check.*\n", "", text, flags=re.MULTILINE) + "\nexpand-check=1\n"
        (root / "etc/selinux/semanage.conf").write_text(text, encoding="ascii")

    def install(self, *modules):
        return subprocess.run(["semodule", "-p", self.root, "-s", "default", "-N", "-i", *modules], check=False,
                              capture_output=True, text=True)

    def policy(self):
        return setools.SELinuxPolicy(str(next((self.root / "etc/selinux/default/policy").glob("policy.*"))))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selinux")
    made = Store(folder / "root")
    done = made.install(build(folder / "qubes", QUBES, "qubes_stand_in"), build(folder / "sluice"))
    assert done.returncode == 0, done.stderr
    yield made
    shutil.rmtree(folder)


class Policy:
    """The allow rules of our domains and of who starts them; one pass over all rules, for each takes its time."""

    def __init__(self, policy):
        self.policy = policy
        self.names = {str(one): {str(one), *map(str, one.attributes())} for one in policy.types()}
        ours = set().union(*(self.names[domain] for domain in [*DOMAINS, "init_t"]))
        self.rules = [(str(rule.source), str(rule.target), str(rule.tclass), set(rule.perms)) for rule in policy.terules()
                      if rule.ruletype == setools.TERuletype.allow and str(rule.source) in ours]
        self.classes = [str(one) for one in policy.classes()]

    def transitions(self):
        return {(str(rule.source), str(rule.target)): str(rule.default) for rule in self.policy.terules()
                if rule.ruletype == setools.TERuletype.type_transition and str(rule.tclass) == "process"
                and str(rule.default) in DOMAINS}


@pytest.fixture(scope="module")
def policy(store):
    return Policy(store.policy())


def allowed(policy, source, target=None, tclass=None, perms=()):
    """(target, perms) of what is allowed, also by attributes."""
    return [(to, given) for who, to, kind, given in policy.rules
            if who in policy.names[source] and (tclass is None or kind == tclass) and (not perms or given & set(perms))
            and (target is None or to in policy.names[target] or (to == "self" and target == source))]


def capabilities(policy, domain):
    return {perm for tclass in ("capability", "capability2", "cap_userns")
            for _, perms in allowed(policy, domain, domain, tclass) for perm in perms}


def sockets(policy, domain):
    """Kinds of sockets that a domain may make."""
    return {name for name in policy.classes if name.endswith("socket") and allowed(policy, domain, domain, name, ["create"])}


def test_module_versions_and_labels():
    """Each program that a unit starts has a label of its own; so has each folder that a unit gives it."""
    labels = (TOP / "selinux/sluice.fc").read_text(encoding="ascii")
    for unit in DAEMONS.values():
        text = (TOP / f"data/systemd/{unit}.service.in").read_text(encoding="utf-8")
        program = re.search(r"^ExecStart=@BINDIR@/(\S+)", text, re.MULTILINE).group(1)
        assert re.search(rf"^/usr/bin/{program}\s+--", labels, re.MULTILINE), program
        for folder in re.findall(r"^(?:RuntimeDirectory=|ExecStartPre=.*/install -d .*/run/)(\S+)$", text, re.MULTILINE):
            assert re.search(rf"^/run/{folder}\(/\.\*\)\?", labels, re.MULTILINE), folder


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_shell_and_no_other_domain(policy, domain):
    """What a domain may run is a closed list: itself and the loader, nft, the client. None is a shell, and nobody gets into a
    domain that was not made for it."""
    runs = {target for target, _ in allowed(policy, domain, None, "file", ["execute", "execute_no_trans"])}
    libraries = {"lib_t", "ld_so_t", "textrel_shlib_t"}
    own = {"qubes_routing_manager_t": {"qubes_routing_manager_exec_t", "iptables_exec_t"},
           "qubes_inbound_t": {"qubes_inbound_exec_t", "iptables_exec_t"},
           "qubes_vpn_seal_t": {"qubes_vpn_seal_exec_t", "iptables_exec_t"},
           "qubes_vpnd_t": {"qubes_vpnd_exec_t", "openvpn_exec_t", "bin_t"},
           CLIENT: {"openvpn_exec_t", "bin_t"}}[domain]
    assert runs - libraries == own
    goes = {target for target, _ in allowed(policy, domain, None, "process", ["transition", "dyntransition"])}
    assert goes == ({CLIENT} if domain == "qubes_vpnd_t" else set())
    # In the client's domain nothing is started again, not even itself.
    if domain == CLIENT:
        assert allowed(policy, domain, None, "file", ["execute_no_trans"]) == []


def test_rights_are_those_of_the_units(policy):
    """Capabilities: what the unit bounds, no more and no less; the client has none."""
    for domain, unit in DAEMONS.items():
        text = (TOP / f"data/systemd/{unit}.service.in").read_text(encoding="utf-8")
        bound = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE).group(1).lower().replace("cap_", "").split()
        assert capabilities(policy, domain) == set(bound), domain
    assert capabilities(policy, CLIENT) == set()


def test_kinds_of_sockets(policy):
    local = {"unix_stream_socket", "unix_dgram_socket"}
    assert sockets(policy, "qubes_routing_manager_t") == local | {"netlink_route_socket", "netlink_netfilter_socket",
                                                                  "netlink_tcpdiag_socket", "packet_socket"}
    assert sockets(policy, "qubes_inbound_t") == local | {"netlink_netfilter_socket"}
    assert sockets(policy, "qubes_vpn_seal_t") == local | {"netlink_route_socket", "netlink_netfilter_socket"}
    assert sockets(policy, "qubes_vpnd_t") == local | {"netlink_route_socket", "netlink_netfilter_socket",
                                                       "netlink_generic_socket", "udp_socket", "tcp_socket", "tun_socket"}
    assert sockets(policy, CLIENT) == local | {"udp_socket", "tcp_socket"}


def test_client_touches_neither_seal_nor_profiles(policy):
    for target in ("qubes_vpn_seal_socket_t", "qubes_routing_manager_run_t", "qubes_qubesdb_socket_t"):
        assert allowed(policy, CLIENT, target, "sock_file", ["write", "create", "unlink", "rename"]) == []
    for peer in ("qubes_vpn_seal_t", "qubes_vpnd_t", "qubes_qubesdb_daemon_t", "qubes_routing_manager_t", "init_t"):
        assert allowed(policy, CLIENT, peer, "unix_stream_socket", ["connectto"]) == []
    assert allowed(policy, CLIENT, "qubes_vpn_conf_t", "file") == []
    assert allowed(policy, CLIENT, "qubes_vpn_run_t", "file", ["open", "create", "unlink", "write"]) == []
    # The supervisor asks the seal; nobody of ours makes, moves or removes its socket but its owner.
    assert allowed(policy, "qubes_vpnd_t", "qubes_vpn_seal_t", "unix_stream_socket", ["connectto"])
    for domain in DOMAINS:
        rules = allowed(policy, domain, "qubes_vpn_seal_socket_t", "sock_file", ["create", "unlink", "rename"])
        assert bool(rules) == (domain == "qubes_vpn_seal_t"), domain


def test_nobody_changes_qubesdb(policy):
    """Its socket is spoken to; its folder, its socket's name and its process are left alone, by all."""
    writes = ["create", "unlink", "rename", "add_name", "remove_name", "setattr", "relabelto", "relabelfrom"]
    for domain in DOMAINS:
        for tclass in ("dir", "sock_file", "file"):
            for target in ("qubes_var_run_t", "qubes_qubesdb_socket_t"):
                assert allowed(policy, domain, target, tclass, writes) == [], (domain, tclass, target)
        assert allowed(policy, domain, "qubes_qubesdb_daemon_t", "process") == []
        talks = allowed(policy, domain, "qubes_qubesdb_daemon_t", "unix_stream_socket", ["connectto"])
        assert bool(talks) == (domain != CLIENT), domain


def test_started_by_systemd_under_no_new_privileges(policy):
    """NoNewPrivileges in a unit would keep the daemon in systemd's own domain without these rights."""
    pairs = [("init_t", domain) for domain in DAEMONS] + [("qubes_vpnd_t", CLIENT)]
    for source, target in pairs:
        perms = set().union(*(given for _, given in allowed(policy, source, target, "process2")))
        assert "nnp_transition" in perms, (source, target)
    goes = policy.transitions()
    for domain in DAEMONS:
        assert goes[("init_t", domain[:-2] + "_exec_t")] == domain
    assert goes[("qubes_vpnd_t", "openvpn_exec_t")] == CLIENT
    # The socket that owns the tables, kept by systemd.
    assert allowed(policy, "init_t", "qubes_vpn_seal_t", "netlink_netfilter_socket", ["read"])


BROKEN = {
    "netlink": "allow qubes_vpn_client_t self:netlink_route_socket create;",
    "seal": "allow qubes_vpn_client_t qubes_vpn_seal_socket_t:sock_file write;",
    "shell": "corecmd_exec_shell(qubes_vpnd_t)",
    "frames": "allow qubes_vpnd_t self:packet_socket create;",
    "root": "allow qubes_vpn_seal_t self:capability sys_admin;",
}


@pytest.mark.parametrize("what", BROKEN)
def test_linker_refuses_what_must_never_be(store, tmp_path, what):
    """Another module that gives it is refused when it is installed."""
    words = set(re.findall(r"\bqubes_\w+_t\b", BROKEN[what]))
    more = build(tmp_path, f"policy_module(more, 1.0)\ngen_require(`\n\ttype {', '.join(sorted(words))};\n')\n{BROKEN[what]}\n",
                 "more")
    done = store.install(more)
    assert done.returncode != 0
    assert "neverallow" in done.stderr
