/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may make the supervisor look again: uplinks, the clock, the services of the qube. And the
 * tick that tells systemd it lives.
 */
#include "vpn/daemon/manager_private.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/netfilter.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "nft/nft.h"

#define SETTLE_US   200000 /* an uplink comes in many small steps */
#define TICK_US     10000000
#define JUMP_US     5000000 /* less is a clock that was set right, not a machine that slept */
#define SLEPT_US    1000000
#define FAR_SECONDS (INT64_C(1) << 40)

/* ---- uplinks ---- */

void manager_check_way_out(struct manager *m)
{
    int r = network_read(m->route, SEAL_TUNNEL, &m->network);

    if (r < 0) {
        log_debug("The network cannot be read (%s)", strerror(-r));
        manager_arm(m->uplink_timer, SETTLE_US * 5);
        return;
    }
    manager_check_device(m);
    if (m->network.way_out == 0) {
        if (!m->way_lost && m->way_out != 0)
            log_info("No uplink has a way out");
        m->way_lost = true;
        return;
    }
    if (m->network.way_out == m->way_out && !m->way_lost)
        return;
    if (m->way_out != 0 || m->way_lost)
        log_info("The uplink is %s", m->network.way_out == m->way_out ? "back" : "another one");
    m->way_out = m->network.way_out;
    m->way_lost = false;
    manager_post(m, EVENT_UPLINK);
    if (m->machine.state == STATE_SEALED && m->profile != NULL && manager_wants_up(m))
        manager_post(m, EVENT_RETRY);
}

static int on_uplink_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    manager_check_way_out(user);
    return 0;
}

/* Looked at once when it has been quiet for a moment, or in the end of a stream of changes. */
static int on_rtnetlink(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;
    int change = rt_monitor_read(m->rt_monitor), enabled = SD_EVENT_OFF;

    (void)s;
    (void)fd;
    (void)revents;
    if (change < 0) /* something was missed */
        change = RT_CHANGE_ALL;
    if (!(change & (RT_CHANGE_LINK | RT_CHANGE_ADDR | RT_CHANGE_ROUTE)))
        return 0;
    (void)sd_event_source_get_enabled(m->uplink_timer, &enabled);
    if (enabled == SD_EVENT_OFF)
        manager_arm(m->uplink_timer, SETTLE_US);
    return 0;
}

/* ---- the clock ---- */

static int64_t offset_us(clockid_t clock)
{
    struct timespec one, other;

    (void)clock_gettime(clock, &one);
    (void)clock_gettime(CLOCK_MONOTONIC, &other);
    return ((int64_t)one.tv_sec - other.tv_sec) * 1000000 + (one.tv_nsec - other.tv_nsec) / 1000;
}

static void arm_clock(int fd)
{
    struct itimerspec far = {.it_value.tv_sec = FAR_SECONDS};

    (void)timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

static void look_at_clock(struct manager *m)
{
    int64_t real = offset_us(CLOCK_REALTIME), boot = offset_us(CLOCK_BOOTTIME);
    int64_t jump = real - m->clock_offset_us, slept = boot - m->boot_offset_us;

    m->clock_offset_us = real;
    m->boot_offset_us = boot;
    if (llabs(jump) < JUMP_US && slept < SLEPT_US)
        return;
    log_info("The machine slept or the clock was set (by %" PRId64 " s): a new connection",
             jump / 1000000);
    manager_post(m, EVENT_RESUMED);
    if (m->machine.state == STATE_SEALED && m->profile != NULL && manager_wants_up(m))
        manager_post(m, EVENT_RETRY);
}

static int on_clock(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    uint64_t ticks;

    (void)s;
    (void)revents;
    if (read(fd, &ticks, sizeof(ticks)) >= 0 || errno != ECANCELED) /* the news itself */
        return 0;
    arm_clock(fd);
    look_at_clock(user);
    return 0;
}

static int add_clock(struct manager *m)
{
    _cleanup_(closep) int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int r;

    if (fd < 0)
        return -errno;
    m->clock_offset_us = offset_us(CLOCK_REALTIME);
    m->boot_offset_us = offset_us(CLOCK_BOOTTIME);
    arm_clock(fd);
    r = sd_event_add_io(m->loop, &m->clock_source, fd, EPOLLIN, on_clock, m);
    if (r >= 0)
        r = sd_event_source_set_io_fd_own(m->clock_source, true);
    if (r >= 0)
        (void)TAKE_FD(fd);
    return r;
}

/* A sleep that set no clock is found here. */
static int on_tick(sd_event_source *s, uint64_t usec, void *user)
{
    (void)usec;
    (void)sd_notify(0, "WATCHDOG=1");
    look_at_clock(user);
    manager_check_client(user);
    (void)sd_event_source_set_time(s, clock_now_us() + TICK_US);
    return 0;
}

/* ---- services ---- */

static bool has_service(const struct manager *m, const char *name)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s", m->config.services, name);
    return access(path, F_OK) == 0;
}

/* Both in one qube: the network server holds back by itself; here it is only said. */
static void look_at_router(struct manager *m)
{
    bool here = nft_has_table(m->netfilter, NFPROTO_IPV4, "qubes-network-server") == 1;

    if (here && !m->router_here)
        log_warning(
            "qubes-routing-manager runs in this qube too: it exposes nothing here, because a "
            "VPN qube lets nothing in");
    m->router_here = here;
}

void manager_look_at_services(struct manager *m)
{
    bool proxy = has_service(m, "qubes-updates-proxy");
    const struct passwd *account = NULL;

    look_at_router(m);
    if (proxy) {
        account = getpwnam(m->config.proxy_user);
        if (account == NULL || account->pw_uid == 0) {
            log_error("Service qubes-updates-proxy is on, but there is no user %s: it stays closed",
                      m->config.proxy_user);
            proxy = false;
        }
    }
    if (proxy == m->proxy_wanted && (!proxy || account->pw_uid == m->proxy_uid))
        return;
    m->proxy_wanted = proxy;
    m->proxy_uid = proxy ? account->pw_uid : 0;
    if (proxy)
        log_notice("Service qubes-updates-proxy is on: user %s may use the uplink, outside of the "
                   "tunnel",
                   m->config.proxy_user);
    else
        log_notice(
            "Service qubes-updates-proxy is off: nothing but the VPN client uses the uplink");
    if (m->begun && !m->adopting)
        manager_send_wish(m, m->door);
}

static int on_services(sd_event_source *s, const struct inotify_event *event, void *user)
{
    (void)s;
    (void)event;
    manager_look_at_services(user);
    return 0;
}

/* ---- all of them ---- */

int manager_sources_new(struct manager *m)
{
    int r = rt_monitor_open(&m->rt_monitor);

    if (r >= 0)
        r = sd_event_add_io(m->loop, &m->rt_source, rt_monitor_fd(m->rt_monitor), EPOLLIN,
                            on_rtnetlink, m);
    if (r >= 0)
        r = sd_event_add_time(m->loop, &m->uplink_timer, CLOCK_MONOTONIC, UINT64_MAX, EXACT,
                              on_uplink_timer, m);
    if (r >= 0)
        r = sd_event_source_set_enabled(m->uplink_timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time(m->loop, &m->tick, CLOCK_MONOTONIC, clock_now_us() + TICK_US, LAZY,
                              on_tick, m);
    if (r >= 0)
        r = sd_event_source_set_enabled(m->tick, SD_EVENT_ON);
    if (r >= 0)
        r = add_clock(m);
    if (r < 0)
        return r;
    r = sd_event_add_inotify(m->loop, &m->services_source, m->config.services,
                             IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM, on_services, m);
    return r == -ENOENT ? 0 : r; /* no such folder: a lab, or no Qubes at all */
}

void manager_sources_done(struct manager *m)
{
    sd_event_source **all[] = {
        &m->state_timer,  &m->retry_timer,     &m->uplink_timer, &m->adopt_timer,
        &m->stop_timer,   &m->reset_timer,     &m->tick,         &m->publish_source,
        &m->clock_source, &m->services_source, &m->rt_source,    &m->resolve_timer};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        *all[i] = sd_event_source_disable_unref(*all[i]);
    m->rt_monitor = rt_monitor_free(m->rt_monitor);
}
