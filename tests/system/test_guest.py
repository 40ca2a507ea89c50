# SPDX-License-Identifier: GPL-2.0-or-later
"""What needs Debian's own kernel: each test of tests/guest in a virtual machine (guest.py), and those of tests/lab that use
the kernel's WireGuard where there is one. One machine for all that may share it; who needs a kernel that has not loaded
anything yet has one of his own."""

import pathlib
import re
import shlex
import shutil

import pytest

from tests.system import guest
from tests.system.machines import BUILD

# All that the shared machine's tests use, at once: as a kernel has it that has been running for a while.
MODULES = ("wireguard nf_tables nft_ct nft_fib_inet nft_masq nft_nat nft_limit nft_log nft_reject_inet nft_flow_offload "
           "nf_flow_table_inet tun veth bridge dummy sch_netem nf_conntrack_netlink nfnetlink_log")
WIREGUARD = "tests/lab/test_vpn_wireguard_client.py::"
VPN, SERVER, NETEM, LIMITS = (f"tests/guest/test_{name}.py::" for name in ("flowtable_vpn", "flowtable_server", "netem",
                                                                            "limits"))
SHARED = [
    "tests/guest/test_wireguard.py::test_supervisor_killed_and_replaced",
    WIREGUARD + "test_carrier_can_be_told", WIREGUARD + "test_supervisor_is_killed_and_adopts",
    WIREGUARD + "test_device_is_taken_away",
    VPN + "test_rules_alone_do_not_stop_an_offloaded_flow", *(f"{VPN}test_arming_cuts_offloaded_flows[{how}]"
                                                               for how in ("run", "on", "N")),
    VPN + "test_the_tunnel_is_never_offloaded",
    SERVER + "test_counters_tell_the_truth", SERVER + "test_what_is_not_offloaded_is_counted",
    *(f"{SERVER}test_withdrawal_cuts_offloaded_flows[{how}]" for how in ("withdraw", "narrow", "kill")),
    SERVER + "test_limit_and_log_hold",
    *(f"{NETEM}test_the_tunnel_gets_up_and_stays[{proto}]" for proto in ("udp", "wireguard")),
    NETEM + "test_an_exposure_answers",
    LIMITS + "test_life_within_the_limits_of_the_units", LIMITS + "test_client_killed_for_want_of_memory",
    LIMITS + "test_no_process_may_be_started",
]
MODULES_TEST = "tests/guest/test_modules.py::"
FRESH = [MODULES_TEST + "test_first_use_loads_what_is_needed",
         *(f"{MODULES_TEST}test_without_modules_it_fails_closed[{first}]"
           for first in ("nothing", "nf_tables", "conntrack"))]


@pytest.fixture(scope="module")
def base():
    reason = guest.missing()
    if not reason and not (BUILD / "src/vpn/daemon/qubes-vpnd").exists():
        reason = f"nothing is built in {BUILD}"
    if not reason and not (guest.cache() / "bookworm").is_dir():
        reason = "no root: python3 -m tests.system.guest --make"
    if reason:
        pytest.skip(reason)
    return guest.make_base()


class Shared:
    """The one machine; another takes its place when it failed."""

    def __init__(self, base, folder):
        self._base, self._folder, self._machine, self._number = base, folder, None, 0

    def get(self):
        if self._machine is None:
            self._number += 1
            folder = self._folder / str(self._number)
            folder.mkdir()
            self._machine = guest.Guest(self._base, BUILD, folder)
            self._machine.must(f"modprobe -a {MODULES}")
        return self._machine

    def drop(self):
        if self._machine is not None:
            self._machine.close()
            self._machine = None


@pytest.fixture(scope="module")
def shared(base, tmp_path_factory):
    made = Shared(base, tmp_path_factory.mktemp("guest"))
    yield made
    made.drop()


def judge(machine, case, keep):
    """Runs one test in there; it must have run, and passed. The console is kept when it did not."""
    status, text = machine.run(f"python3 -m lab.sandbox python3 -m pytest -q -p no:cacheprovider --tb=short {shlex.quote(case)}",
                               900)
    if status == 0 and re.search(r"^1 passed", text, re.MULTILINE):
        return
    place = pathlib.Path(keep, "console")
    shutil.copy(machine.console, place)
    pytest.fail(f"{case}: status {status}\n{text}\nthe whole console: {place}", pytrace=False)


@pytest.mark.parametrize("case", SHARED, ids=[case.rsplit("/", 1)[1] for case in SHARED])
def test_kernel(shared, case, tmp_path):
    try:
        judge(shared.get(), case, tmp_path)
    except guest.GuestError:
        shared.drop()
        raise


@pytest.mark.parametrize("case", FRESH, ids=[case.rsplit("/", 1)[1] for case in FRESH])
def test_fresh_kernel(base, case, tmp_path):
    with guest.Guest(base, BUILD) as machine:
        judge(machine, case, tmp_path)


def test_nothing_is_left_out():
    """Every test of tests/guest is among the cases."""
    named = {case.split("::")[1].split("[")[0] for case in SHARED + FRESH}
    written = {name for path in (guest.TOP / "tests/guest").glob("test_*.py")
               for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert written and written <= named, written - named
