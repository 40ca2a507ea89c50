/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/sources.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "netlink/rt.h"
#include "nft/nft.h"
#include "router/report.h"

#define VPN_SERVICE "qubes-vpn"
#define EXACT       1 /* microseconds; 0 would mean 250 ms to sd-event */
#define LAZY        1000000
/* How far in the future the cancelled-on-set timer is: it never fires, it is only cancelled. */
#define FAR_SECONDS (INT64_C(1) << 40)

static void look_at_everything(struct manager *m)
{
    m->need_network = m->need_rules = m->need_unnotified = true;
    manager_schedule(m);
}

static int on_reconcile(sd_event_source *s, void *user)
{
    (void)s;
    (void)manager_reconcile(user);
    return 0;
}

/* ---- kernel ---- */

static int on_rtnetlink(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;
    int change = rt_monitor_read(m->rt_monitor);

    (void)s;
    (void)fd;
    (void)revents;
    if (change < 0)
        change = RT_CHANGE_ALL;
    if (change == 0)
        return 0;
    if (change & (RT_CHANGE_LINK | RT_CHANGE_ADDR | RT_CHANGE_ROUTE))
        m->need_network = true;
    /* what goes silently goes with links and addresses: read back then */
    if (change & (RT_CHANGE_LINK | RT_CHANGE_ADDR | RT_CHANGE_CONF))
        m->need_unnotified = true;
    manager_schedule(m);
    return 0;
}

static int on_rules_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    m->need_rules = true;
    manager_schedule(m);
    return 0;
}

static void arm(sd_event_source *timer, uint64_t usec)
{
    (void)sd_event_source_set_time(timer, usec);
    (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* The first foreign change is looked at at once; a stream of them at most every 30 ms. */
static int on_nft(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;
    uint32_t generation = 0;
    uint64_t next = m->rules_read_us + ROUTER_NFT_SPACING_US;
    int r = nft_monitor_read(m->nft_monitor, &generation);

    (void)s;
    (void)fd;
    (void)revents;
    if (r == 0 || (r == 1 && generation == m->kernel.generation))
        return 0;
    if (clock_now_us() < next) {
        arm(m->rules_timer, next);
        return 0;
    }
    m->need_rules = true;
    manager_schedule(m);
    return 0;
}

/* ---- QubesDB ---- */

static void on_wishes(void *user)
{
    struct manager *m = user;

    if (!m->model->readable) {
        m->model->readable = true;
        m->model->adopting = false;
        (void)sd_event_source_set_enabled(m->adopt_timer, SD_EVENT_OFF);
        m->qubesdb_error = 0;
        if (m->said_lost)
            log_notice("QubesDB can be read again");
        m->said_lost = false;
        model_touch_all(m->model);
    }
    report_refusals(m->model);
    manager_schedule(m);
}

static void on_wishes_lost(int error, void *user)
{
    struct manager *m = user;

    m->qubesdb_error = error;
    m->model->readable = false;
    if (!m->said_lost)
        log_warning("QubesDB cannot be read (%s): what is open stays, nothing new opens",
                    strerror(-error));
    m->said_lost = true;
    manager_schedule(m);
}

static int on_adopt_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    if (!m->model->adopting)
        return 0;
    m->model->adopting = false;
    log_warning("QubesDB could not be read for a minute: what a predecessor left open is withdrawn");
    model_touch_all(m->model);
    manager_schedule(m);
    return 0;
}

/* ---- the LAN ---- */

static void on_conflict(const struct addr *addr, uint32_t index, const uint8_t *mac, void *user)
{
    struct manager *m = user;
    struct slot *slot = model_find(m->model, addr);

    if (slot == NULL) {
        watch_remove(m->watch, addr, index);
        return;
    }
    model_conflict_note(&slot->conflict, index, mac, clock_now_us());
    watch_remove(m->watch, addr, index);
    model_touch(m->model, slot);
    /* at once, not after other events: no answer of ours may follow that of the other host */
    manager_withdraw_now(m);
}

static void on_links(void *user)
{
    struct manager *m = user;

    m->need_network = true;
    manager_schedule(m);
}

static void on_clear(const struct addr *addr, uint32_t index, void *user)
{
    struct manager *m = user;
    struct slot *slot = model_find(m->model, addr);

    (void)index;
    if (slot == NULL || !slot->conflict.present)
        return;
    slot->conflict.present = false;
    model_touch(m->model, slot);
    manager_schedule(m);
}

struct conflicts {
    struct manager *m;
    uint64_t now, next;
};

static void ask_again(struct slot *slot, void *user)
{
    struct conflicts *c = user;

    if (!slot->conflict.present)
        return;
    if (slot->conflict.again_us <= c->now) {
        model_conflict_ask(&slot->conflict, c->now);
        /* a link that is gone has no other host either */
        if (watch_ask(c->m->watch, &slot->addr, slot->conflict.uplink_index) < 0) {
            slot->conflict.present = false;
            model_touch(c->m->model, slot);
        }
    }
    if (slot->conflict.present && slot->conflict.again_us < c->next)
        c->next = slot->conflict.again_us;
}

static int on_conflict_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct conflicts c = {.m = user, .now = clock_now_us(), .next = UINT64_MAX};

    (void)s;
    (void)usec;
    model_each(c.m->model, ask_again, &c);
    (void)watch_flush(c.m->watch);
    if (c.next != UINT64_MAX)
        arm(c.m->conflict_timer, c.next);
    manager_schedule(c.m);
    return 0;
}

static void find_next(struct slot *slot, void *user)
{
    uint64_t *next = user;

    if (slot->conflict.present && slot->conflict.again_us < *next)
        *next = slot->conflict.again_us;
}

static void ask_soon(struct slot *slot, void *user)
{
    (void)user;
    model_conflict_restart(&slot->conflict);
}

void sources_ask_conflicts(struct manager *m)
{
    model_each(m->model, ask_soon, NULL);
    sources_arm_conflicts(m);
}

void sources_arm_conflicts(struct manager *m)
{
    uint64_t next = UINT64_MAX;

    model_each(m->model, find_next, &next);
    if (next != UINT64_MAX)
        arm(m->conflict_timer, next);
    else
        (void)sd_event_source_set_enabled(m->conflict_timer, SD_EVENT_OFF);
}

/* ---- time ---- */

static void touch_expired(struct slot *slot, void *user)
{
    struct manager *m = user;

    for (const struct claim *c = slot->claims; c != NULL; c = c->next) {
        if (!c->valid || c->record.expires == 0)
            continue;
        model_touch(m->model, slot);
        if (c->record.publish.n > 0) /* a port may have become free for another one */
            m->model->publish_changed = true;
    }
}

static int on_expiry(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    m->next_expiry = INT64_MAX; /* the plan of those that are still open finds the next */
    model_each(m->model, touch_expired, m);
    manager_schedule(m);
    return 0;
}

void sources_arm_expiry(struct manager *m)
{
    if (m->next_expiry == INT64_MAX)
        (void)sd_event_source_set_enabled(m->expiry_timer, SD_EVENT_OFF);
    else
        arm(m->expiry_timer, (uint64_t)m->next_expiry * 1000000);
}

static void arm_clock(int fd)
{
    struct itimerspec far = {.it_value.tv_sec = FAR_SECONDS};

    (void)timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

/* The wall clock jumped: it was set, or the machine slept. The LAN may have forgotten us. */
static int on_clock(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;
    uint64_t ticks;

    (void)s;
    (void)revents;
    if (read(fd, &ticks, sizeof(ticks)) >= 0 || errno != ECANCELED) /* the news itself */
        return 0;
    arm_clock(fd);
    log_info("The clock was set or the machine slept: looking at everything again");
    watch_restart(m->watch);
    sources_ask_conflicts(m);
    (void)on_expiry(NULL, 0, m);
    look_at_everything(m);
    return 0;
}

static int on_tick(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)usec;
    (void)sd_notify(0, "WATCHDOG=1");
    if (m->model->n_slots > 0 || m->model->put_back.n > 0) {
        m->need_unnotified = true;
        manager_schedule(m);
    }
    (void)sd_event_source_set_time(s, clock_now_us() + ROUTER_TICK_US);
    return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    look_at_everything(user);
    return 0;
}

void sources_arm_retry(struct manager *m, uint64_t delay_us)
{
    arm(m->retry_timer, clock_now_us() + delay_us);
}

void sources_disarm_retry(struct manager *m)
{
    (void)sd_event_source_set_enabled(m->retry_timer, SD_EVENT_OFF);
}

/* ---- signals and the service folder ---- */

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    struct manager *m = user;

    (void)s;
    m->stop = si->ssi_signo != SIGUSR1; /* RestartKillSignal: a successor takes over */
    return sd_event_exit(m->event, 0);
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)si;
    log_info("Asked to look at everything again");
    (void)wishes_reread(m->wishes);
    watch_restart(m->watch);
    sources_ask_conflicts(m);
    look_at_everything(m);
    return 0;
}

bool sources_is_vpn_qube(const char *service_dir)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s", service_dir, VPN_SERVICE);
    return access(path, F_OK) == 0;
}

static int on_service(sd_event_source *s, const struct inotify_event *event, void *user)
{
    struct manager *m = user;
    bool now = sources_is_vpn_qube(m->config.service_dir);

    (void)s;
    (void)event;
    if (now == m->model->vpn_here)
        return 0;
    m->model->vpn_here = now;
    model_touch_all(m->model);
    manager_schedule(m);
    return 0;
}

static int add_service_source(struct manager *m)
{
    int r = sd_event_add_inotify(m->event, &m->service_source, m->config.service_dir,
                                 IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM, on_service, m);

    m->model->vpn_here = sources_is_vpn_qube(m->config.service_dir);
    return r == -ENOENT ? 0 : r; /* no such folder: a lab, or no Qubes at all */
}

static int add_signals(struct manager *m)
{
    static const int stops[] = {SIGTERM, SIGINT, SIGUSR1};
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

static int add_timers(struct manager *m)
{
    int r = add_timer(m, CLOCK_MONOTONIC, EXACT, &m->retry_timer, on_retry);

    if (r >= 0)
        r = add_timer(m, CLOCK_MONOTONIC, EXACT, &m->rules_timer, on_rules_timer);
    if (r >= 0)
        r = add_timer(m, CLOCK_MONOTONIC, ROUTER_CONFLICT_LEAST_US / 10, &m->conflict_timer,
                      on_conflict_timer);
    if (r >= 0)
        r = add_timer(m, CLOCK_REALTIME, EXACT, &m->expiry_timer, on_expiry);
    if (r >= 0)
        r = add_timer(m, CLOCK_MONOTONIC, LAZY, &m->adopt_timer, on_adopt_timer);
    if (r >= 0)
        r = add_timer(m, CLOCK_MONOTONIC, LAZY, &m->tick, on_tick);
    if (r < 0)
        return r;
    arm(m->adopt_timer, clock_now_us() + ROUTER_ADOPT_US);
    (void)sd_event_source_set_time(m->tick, clock_now_us() + ROUTER_TICK_US);
    return sd_event_source_set_enabled(m->tick, SD_EVENT_ON);
}

static int add_monitors(struct manager *m)
{
    int r = rt_monitor_open(&m->rt_monitor);

    if (r >= 0)
        r = nft_monitor_open(&m->nft_monitor);
    if (r >= 0)
        r = sd_event_add_io(m->event, NULL, rt_monitor_fd(m->rt_monitor), EPOLLIN, on_rtnetlink, m);
    if (r >= 0)
        r = sd_event_add_io(m->event, NULL, nft_monitor_fd(m->nft_monitor), EPOLLIN, on_nft, m);
    return r;
}

int sources_new(struct manager *m)
{
    struct watch_ops watch_ops = {on_conflict, on_clear, on_links, m};
    struct wishes_ops wishes_ops = {on_wishes, on_wishes_lost, m};
    int r = add_signals(m);

    if (r >= 0)
        r = add_monitors(m);
    if (r >= 0)
        r = sd_event_add_defer(m->event, &m->reconcile_source, on_reconcile, m);
    if (r >= 0)
        r = sd_event_source_set_enabled(m->reconcile_source, SD_EVENT_OFF);
    if (r >= 0)
        r = add_timers(m);
    if (r >= 0)
        r = add_clock(m);
    if (r >= 0)
        r = add_service_source(m);
    if (r >= 0)
        r = watch_new(m->event, &watch_ops, &m->watch);
    if (r >= 0)
        r = wishes_new(m->event, m->config.qubesdb, m->model, &wishes_ops, &m->wishes);
    return r;
}

void sources_done(struct manager *m)
{
    sd_event_source **all[] = {&m->reconcile_source, &m->tick,         &m->retry_timer,
                               &m->rules_timer,      &m->adopt_timer,  &m->expiry_timer,
                               &m->conflict_timer,   &m->clock_source, &m->service_source};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        *all[i] = sd_event_source_disable_unref(*all[i]);
}
