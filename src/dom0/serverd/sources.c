/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals, the clock and timers. */
#include <errno.h>
#include <signal.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dom0/serverd/manager.h"

#define EXACT 1        /* microseconds; 0 would mean 250 ms to sd-event */
#define LAZY  30000000
/* How far in the future the cancelled-on-set timer is: it never fires, it is only cancelled. */
#define FAR_SECONDS (INT64_C(1) << 40)

static void arm(sd_event_source *timer, uint64_t usec)
{
    (void)sd_event_source_set_time(timer, usec);
    (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

void sources_arm_full(struct manager *m, uint64_t usec)
{
    arm(m->full_timer, clock_now_us() + usec);
}

void sources_arm_expiry(struct manager *m)
{
    if (m->wished.all.next_expiry == 0)
        (void)sd_event_source_set_enabled(m->expiry_timer, SD_EVENT_OFF);
    else
        arm(m->expiry_timer, (uint64_t)m->wished.all.next_expiry * 1000000);
}

void sources_arm_repair(struct manager *m, uint64_t usec)
{
    int enabled = SD_EVENT_OFF;
    uint64_t at = 0;

    (void)sd_event_source_get_enabled(m->repair_timer, &enabled);
    (void)sd_event_source_get_time(m->repair_timer, &at);
    if (enabled == SD_EVENT_OFF || usec < at)
        arm(m->repair_timer, usec);
}

static int on_full(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    if (!m->connected)
        return 0;
    for (size_t i = 0; i < hops_count(m->hops); i++)
        hop_reread(hops_at(m->hops, i));
    reads_mark_all(m->reads, true);
    return 0;
}

static int on_expiry(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    manager_compute(user, NULL, NULL);
    return 0;
}

static int on_repair(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    manager_repair(user);
    return 0;
}

static void arm_clock(int fd)
{
    struct itimerspec far = {.it_value.tv_sec = FAR_SECONDS};

    (void)timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

/* The wall clock was set, or the machine slept: something may have expired. */
static int on_clock(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;
    uint64_t ticks;

    (void)s;
    (void)revents;
    if (read(fd, &ticks, sizeof(ticks)) >= 0 || errno != ECANCELED) /* the news itself */
        return 0;
    arm_clock(fd);
    manager_compute(m, NULL, NULL);
    if (m->connected)
        reads_mark_all(m->reads, false);
    return 0;
}

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)si;
    return sd_event_exit(m->event, 0);
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    (void)si;
    log_info("Asked to look at everything again");
    return on_full(s, 0, user);
}

static int add_signals(struct manager *m)
{
    static const int stops[] = {SIGTERM, SIGINT};
    sigset_t set;
    int r = 0;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGHUP);
    for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
        (void)sigaddset(&set, stops[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    for (size_t i = 0; i < ARRAY_SIZE(stops) && r >= 0; i++)
        r = sd_event_add_signal(m->event, NULL, stops[i], on_stop, m);
    return r < 0 ? r : sd_event_add_signal(m->event, NULL, SIGHUP, on_reload, m);
}

static int add_clock(struct manager *m)
{
    _cleanup_(closep) int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int r;

    if (fd < 0)
        return -errno;
    arm_clock(fd);
    r = sd_event_add_io(m->event, &m->clock_source, fd, EPOLLIN, on_clock, m);
    if (r >= 0)
        r = sd_event_source_set_io_fd_own(m->clock_source, true);
    if (r >= 0)
        (void)TAKE_FD(fd);
    return r;
}

static int add_timer(struct manager *m, clockid_t clock, uint64_t accuracy, sd_event_source **ret,
                     sd_event_time_handler_t fn)
{
    int r = sd_event_add_time(m->event, ret, clock, UINT64_MAX, accuracy, fn, m);

    return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int sources_new(struct manager *m)
{
    int r = add_signals(m);

    if (r >= 0)
        r = add_clock(m);
    if (r >= 0)
        r = add_timer(m, CLOCK_MONOTONIC, LAZY, &m->full_timer, on_full);
    if (r >= 0)
        r = add_timer(m, CLOCK_REALTIME, EXACT, &m->expiry_timer, on_expiry);
    if (r >= 0)
        r = add_timer(m, CLOCK_MONOTONIC, EXACT, &m->repair_timer, on_repair);
    /* Only where systemd asks for it; else there is no timer for it. */
    return r < 0 || m->config.dry_run ? r : sd_event_set_watchdog(m->event, 1);
}

void sources_done(struct manager *m)
{
    sd_event_source **all[] = {&m->full_timer, &m->expiry_timer, &m->repair_timer,
                               &m->clock_source};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        *all[i] = sd_event_source_disable_unref(*all[i]);
}
