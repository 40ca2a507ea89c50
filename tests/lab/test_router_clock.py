# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a term is a time of the wall clock: an exposure closes also when the clock is set, or the machine slept. The
program runs under a clock of the test's own, which tells the program of a jump as the kernel does (TFD_TIMER_CANCEL_ON_SET)."""

import os
import subprocess
import time

import pytest

from lab.flows import Pull, serve_push
from lab.node import wait_until
from lab.router import GRACEFUL, SLOW

pytestmark = [pytest.mark.usefixtures("need_router"),
              pytest.mark.skipif(GRACEFUL, reason="a sanitizer wants to be the first library")]

WEB, HIDDEN = "192.168.16.25", "192.168.16.26"

# The descriptor of the timer that is only cancelled becomes the end of a pipe; a byte in it is the news of a jump.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int news = -1;

static long ahead(void)
{
    FILE *file = fopen(FOLDER "/jump", "re");
    long seconds = 0;

    if (file != NULL && fscanf(file, "%ld", &seconds) != 1)
        seconds = 0;
    if (file != NULL)
        fclose(file);
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(clock, ts);

    if (clock == CLOCK_REALTIME)
        ts->tv_sec += ahead();
    return r;
}

time_t time(time_t *ret)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    if (ret != NULL)
        *ret = ts.tv_sec;
    return ts.tv_sec;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    int (*real)(int, int, const struct itimerspec *, struct itimerspec *) = dlsym(RTLD_NEXT, "timerfd_settime");
    int pipe;

    if (!(flags & TFD_TIMER_CANCEL_ON_SET) || fd == news)
        return fd == news ? 0 : real(fd, flags, value, old);
    pipe = open(FOLDER "/news", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (pipe < 0 || dup3(pipe, fd, O_CLOEXEC) < 0)
        return -1;
    close(pipe);
    news = fd;
    return 0;
}

ssize_t read(int fd, void *buf, size_t size)
{
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    ssize_t r = real(fd, buf, size);

    if (fd != news || r <= 0)
        return r;
    errno = ECANCELED;
    return -1;
}
"""


def _utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@pytest.fixture
def net(lab):
    net = lab()
    folder = f"{net.work}/clock"
    os.mkdir(folder)
    os.mkfifo(f"{folder}/news")
    with open(f"{folder}/clock.c", "w", encoding="ascii") as file:
        file.write(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", f'-DFOLDER="{folder}"', "-o", f"{folder}/clock.so", f"{folder}/clock.c"],
                   check=True)
    net.clock = folder
    net.router = net["sys-net"].router(["--verbose"], LD_PRELOAD=f"{folder}/clock.so")
    for name in ("web", "hidden"):
        net[name].serve_tcp(80)
    return net


def jump(net, seconds, tell=True):
    """From now on the program's clock is so many seconds ahead of the true one."""
    with open(f"{net.clock}/jump.new", "w", encoding="ascii") as file:
        file.write(str(seconds))
    os.rename(f"{net.clock}/jump.new", f"{net.clock}/jump")
    if tell:
        with open(f"{net.clock}/news", "wb", buffering=0) as news:
            news.write(b"!")


def state(net, addr):
    for one in net.router.status()["addresses"]:
        if one["address"] == addr:
            return one["state"]
    return None


def wait_state(net, addr, wanted):
    wait_until(lambda: state(net, addr) == wanted, 3 * SLOW, f"{addr} {wanted}")


def test_clock_jumps_over_the_end(net):
    """An hour is left; the machine sleeps for two. What was open closes at once, with its connections; nothing else."""
    sys_net, lan1 = net["sys-net"], net["lan1"]
    serve_push(net["web"], 7999), serve_push(net["hidden"], 7999)
    at = int(time.time()) + 3600
    sys_net.expose("web", expires=_utc(at))
    sys_net.expose("hidden", expires=_utc(at + 7200))
    wait_state(net, WEB, "open"), wait_state(net, HIDDEN, "open")
    cut, kept = Pull(lan1, WEB, 7999), Pull(lan1, HIDDEN, 7999)
    try:
        jump(net, 1800)  # not enough
        wait_until(lambda: "The clock was set" in net.router.log, 3 * SLOW, "the news")
        assert state(net, WEB) == "open" and cut.moves()
        jump(net, 7200)
        wait_state(net, WEB, "expired")
        assert not lan1.can_reach(WEB, 80)
        assert cut.stopped()
        assert kept.moves() and lan1.can_reach(HIDDEN, 80)
    finally:
        cut.close(), kept.close()


def test_clock_is_set_back(net):
    """What is over by a wrong clock is open again by the right one; and it ends at its time."""
    sys_net, lan1 = net["sys-net"], net["lan1"]
    jump(net, 7200)
    at = int(time.time() + 6 * SLOW)
    sys_net.expose("web", expires=_utc(at))
    wait_state(net, WEB, "expired")
    assert not lan1.can_reach(WEB, 80)
    jump(net, 0)
    wait_state(net, WEB, "open")
    wait_until(lambda: lan1.can_reach(WEB, 80), 3 * SLOW, "reachable")
    wait_until(lambda: state(net, WEB) == "expired", 12 * SLOW, "the end of the term")
    assert at <= time.time() <= at + 1 + SLOW
    assert not lan1.can_reach(WEB, 80)


def test_two_ends_in_one_sleep(net):
    """The clock jumps over two ends at once, and again over a third that was written meanwhile."""
    sys_net = net["sys-net"]
    at = int(time.time())
    sys_net.expose("web", expires=_utc(at + 600))
    sys_net.expose("hidden", expires=_utc(at + 900))
    wait_state(net, WEB, "open"), wait_state(net, HIDDEN, "open")
    jump(net, 1000)
    wait_state(net, WEB, "expired"), wait_state(net, HIDDEN, "expired")
    sys_net.expose("web", expires=_utc(at + 2000))
    wait_state(net, WEB, "open")
    jump(net, 3000)
    wait_state(net, WEB, "expired")
