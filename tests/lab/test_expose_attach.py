# SPDX-License-Identifier: GPL-2.0-or-later
"""qvm-expose attaches a network anew: whatever becomes of the detaching, the qube is not left without a network."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from lab.dom0 import Dom0
from lab.qubesd import Crashed, Refused
from lab.serverd import EXPOSE, Expose, available

pytestmark = pytest.mark.skipif(not available(EXPOSE), reason="qvm-expose is not built")

OK, FAILED = 0, 1
WORDS = ("web", "--ip", "192.168.16.25", "--allow", "tcp/22", "--yes")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


@pytest.fixture(params=("default", "named"))
def dom0(request):
    """web runs behind sys-net, which is its net qube by default or by name."""
    with Dom0(default_netvm="sys-net" if request.param == "default" else None) as made:
        made.add("sys-net", provides_network=True, netvm=None, qid=2)
        made.add("web", qid=4, **({} if request.param == "default" else {"netvm": "sys-net"}))
        made.start("web")
        yield made


@pytest.fixture
def by_default(request):
    return request.node.callspec.params["dom0"] == "default"


@contextlib.contextmanager
def changed(dom0, **hooks):
    """set_netvm, reset_netvm: called instead, with the original one first."""
    originals = {name: getattr(dom0, name) for name in hooks}
    for name, hook in hooks.items():
        setattr(dom0, name, lambda *args, hook=hook, original=originals[name]: hook(original, *args))
    yield
    for name, original in originals.items():
        setattr(dom0, name, original)


def attached(dom0, by_default):
    """As it was before, by property and by vif."""
    return (dom0.model.value(dom0["web"], "netvm") == "sys-net" and ("netvm" in dom0["web"].explicit) != by_default
            and dom0["web"].live is not None and dom0["web"].live[0] == "sys-net")


def command_of(done):
    """The command that is told, without which a person would not know how to go on."""
    return re.search(r"WITHOUT A NETWORK NOW\. To attach it again: (.*)", done.stderr)[1]


@pytest.mark.parametrize("error", (Refused("QubesVMError", "internal error: unable to execute"), Crashed()),
                         ids=("refused", "nothing"))
@pytest.mark.parametrize("before", (True, False), ids=("before", "after"))
def test_detaching_fails(dom0, by_default, error, before):
    """qubesd says that it failed: before anything was done, or after the qube had lost its network."""
    def fail(original, name, new):
        if new is None:
            if not before:
                original(name, new)
            raise error
        original(name, new)

    with changed(dom0, set_netvm=fail):
        done = Expose(dom0)(*WORDS)
    assert done.returncode == FAILED
    assert attached(dom0, by_default), done.stderr
    assert "detaching the network" in done.stderr and "has its network again, from sys-net" in done.stderr
    assert "was attached anew" not in done.stdout


def test_detaching_is_late(dom0, by_default):
    """qubesd stands still longer than the command waits for an answer; then it does what it was told, in that order."""
    begin = time.monotonic()
    once = []

    def wait(_vm):
        if not once:
            once.append(True)
            time.sleep(62)

    dom0.at("vif-offline", wait)
    done = Expose(dom0)(*WORDS, timeout=200)
    assert time.monotonic() - begin > 60
    assert done.returncode == FAILED and "timed out" in done.stderr.lower()
    assert attached(dom0, by_default), done.stderr
    assert "has its network again, from sys-net" in done.stderr


def test_late_detaching_overtakes(dom0, by_default):
    """The attaching was answered, and only then what was asked before is done: it is seen, and attached again."""
    detach, overtaken = dom0.set_netvm, []

    def attach(original, *args):
        original(*args)
        if not overtaken:
            overtaken.append(True)
            detach("web", None)

    def set_netvm(original, name, new):
        if new is None:
            raise Crashed
        attach(original, name, new)

    with changed(dom0, set_netvm=set_netvm, reset_netvm=attach):
        done = Expose(dom0)(*WORDS)
    assert overtaken and done.returncode == FAILED
    assert attached(dom0, by_default), done.stderr


@pytest.mark.parametrize("lost", (True, False), ids=("lost", "kept"))
def test_attaching_fails_too(dom0, by_default, lost):
    """Nothing more can be done: it is said loudly, with the command that a person has to run."""
    def no(*_):
        raise Refused("QubesVMNotRunningError", "Cannot dynamically attach to stopped qube")

    def fail(original, name, new):
        if new is not None:
            no()
        if lost:
            original(name, new)
        else:
            raise Crashed

    with changed(dom0, set_netvm=fail, reset_netvm=no):
        done = Expose(dom0)(*WORDS)
    assert done.returncode == FAILED
    assert ("web IS WITHOUT" if lost else "web MAY BE WITHOUT") in done.stderr
    assert command_of(done) == ("qvm-prefs --default web netvm" if by_default else "qvm-prefs web netvm sys-net")


def test_qubesd_restarts_in_between(dom0, by_default):
    """It goes right after it detached, and is back some seconds later."""
    def go(original, name, new):
        original(name, new)
        if new is None:
            threading.Thread(target=restart, daemon=True).start()
            gone.wait(20)

    def restart():
        with dom0.qubesd_down(crash=True):
            gone.set()
            time.sleep(2)  # it takes that long to be there again

    gone = threading.Event()
    with changed(dom0, set_netvm=go):
        done = Expose(dom0)(*WORDS, timeout=60)
    assert attached(dom0, by_default), done.stderr
    assert "WITHOUT" not in done.stderr


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_signals_wait(dom0, by_default, number):
    """Between detaching and attaching nothing that a person types, or the end of a session, leaves it half done."""
    reached, go_on, once = threading.Event(), threading.Event(), []

    def stop(_vm):
        if not once:
            once.append(True)
            reached.set()
            go_on.wait(30)

    expose = Expose(dom0)
    dom0.at("vif-offline", stop)
    env = dict(os.environ, QUBESD_SOCKET=dom0.socket, QUBESDB_DIRECTORY=dom0.folder)
    with subprocess.Popen(expose.command(*WORDS), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert reached.wait(30)
        process.send_signal(number)
        go_on.set()
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == OK, err
    assert attached(dom0, by_default) and "was attached anew" in out
