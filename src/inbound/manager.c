/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inbound/manager.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "inbound/kernel.h"
#include "nft/nft.h"
#include "qubesdb/mirror.h"
#include "reconcile/reconcile.h"

#define EXACT          1 /* microseconds; 0 would mean 250 ms to sd-event */
#define LAZY           1000000
#define PASS_TRIES     8
#define NFT_SPACING_US UINT64_C(30000)
#define ADOPT_US       UINT64_C(60000000)

struct manager {
    struct manager_config config;
    sd_event *event;
    sd_event_source *pass_source, *retry_timer, *spacing_timer, *adopt_timer;
    struct qdb_mirror *mirror;
    struct nft_monitor *monitor;
    struct kernel kernel;
    struct reconcile_retry retry;
    struct keys keys, reading; /* known; of the reading under way */
    struct door_element *wished; /* owned; sorted */
    size_t n_wished;
    bool known; /* the wish: read, or given up */
    bool ready, said_lost, said_failed, stop;
    uint64_t pass_us;     /* when the last one began */
    char *said_value;     /* owned; the value that was logged last */
    unsigned said_put_back;
    const char *said_missing[DOOR_FAMILIES];
};

/* ---- the wish ---- */

/* Something of the value has to be said once, not at each pass. */
static bool is_news(struct manager *m, const char *value)
{
    if (m->said_value != NULL && value != NULL && strcmp(m->said_value, value) == 0)
        return false;
    if (m->said_value == NULL && value == NULL)
        return false;
    free(m->said_value);
    m->said_value = value != NULL ? strdup(value) : NULL;
    return true;
}

static void say_wish(const char *path, const char *value, int error, const char *why)
{
    char shown[512];

    if (path == NULL)
        log_notice("Nothing is exposed: the door is shut");
    else if (error < 0)
        log_warning("%s is refused, the door is shut: %s", path, why);
    else
        log_notice("%s: open at %s", path, str_escape(str_from(value), shown, sizeof(shown)));
}

/* What is refused opens nothing; only without memory does the last wish stand. */
static int settle_wish(struct manager *m)
{
    _cleanup_(freep) struct door_element *elements = NULL;
    _cleanup_(door_done) struct door door = {.n = 0};
    char why[DOOR_WHY_MAX] = "";
    const char *value, *path = keys_choose(&m->keys, &value);
    size_t n = 0;
    int r = path != NULL ? door_parse(str_from(value), &door, why) : 0;

    if (r == 0)
        r = door_elements(&door, &elements, &n);
    if (r == -E2BIG)
        (void)snprintf(why, sizeof(why), "too many combinations of ports and networks");
    if (r == -ENOMEM)
        return r;
    if (is_news(m, value))
        say_wish(path, value, r, why);
    free(m->wished);
    m->wished = TAKE_PTR(elements);
    m->n_wished = n;
    m->known = true;
    return 0;
}

/* ---- passes ---- */

static void schedule(struct manager *m)
{
    (void)sd_event_source_set_enabled(m->pass_source, SD_EVENT_ONESHOT);
}

static void arm(sd_event_source *timer, uint64_t usec)
{
    (void)sd_event_source_set_time(timer, usec);
    (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static void say_missing(struct manager *m)
{
    for (unsigned f = 0; f < DOOR_FAMILIES; f++) {
        if (m->kernel.missing[f] == m->said_missing[f])
            continue;
        m->said_missing[f] = m->kernel.missing[f];
        if (m->said_missing[f] != NULL)
            log_warning("%s: nothing can be opened for this family until the platform's rules are "
                        "there", m->said_missing[f]);
        else
            log_notice("The platform's rules of %s are there again", f == 0 ? "IPv4" : "IPv6");
    }
}

static void say_changes(struct manager *m, const struct kernel_changes *changes)
{
    char text[DOOR_ELEMENT_STR_MAX];

    if (m->kernel.n_put_back != m->said_put_back)
        log_notice("Somebody changed our rules: put back");
    m->said_put_back = m->kernel.n_put_back;
    for (size_t i = 0; i < changes->n; i++) {
        const struct kernel_change *c = &changes->items[i];

        log_debug("%s %s", c->add ? "added" : "removed",
                  c->jump ? "the jump from custom-input" : door_format(&c->element, text));
    }
}

static int pass(struct manager *m, const struct door_element *wished, size_t n)
{
    _cleanup_(kernel_changes_done) struct kernel_changes changes = {0};
    int r = -ERESTART;

    m->pass_us = clock_now_us();
    for (unsigned i = 0; i < PASS_TRIES && (r == -ERESTART || r == -EINTR); i++)
        r = kernel_pass(&m->kernel, wished, n, &changes);
    if (r == 0) {
        say_changes(m, &changes);
        say_missing(m);
    }
    return r;
}

static int on_pass(sd_event_source *s, void *user)
{
    struct manager *m = user;
    int r;

    (void)s;
    if (!m->known)
        return 0;
    r = pass(m, m->wished, m->n_wished);
    if (r == 0) {
        reconcile_retry_reset(&m->retry);
        m->said_failed = false;
        (void)sd_event_source_set_enabled(m->retry_timer, SD_EVENT_OFF);
        return 0;
    }
    if (r != -ERESTART && r != -EINTR && !m->said_failed) {
        log_error("The rules could not be changed (%s%s%s): tried again", strerror(-r),
                  m->kernel.error[0] != '\0' ? ": " : "", m->kernel.error);
        m->said_failed = true;
    }
    arm(m->retry_timer, clock_now_us() + reconcile_retry_delay_us(&m->retry));
    return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    schedule(user);
    return 0;
}

/* The first foreign change is looked at at once; a stream of them at most every 30 ms. */
static int on_nft(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;
    uint32_t generation = 0;
    uint64_t next = m->pass_us + NFT_SPACING_US;
    int r = nft_monitor_read(m->monitor, &generation);

    (void)s;
    (void)fd;
    (void)revents;
    if (r == 0 || (r == 1 && generation == m->kernel.generation))
        return 0;
    if (clock_now_us() < next)
        arm(m->spacing_timer, next);
    else
        schedule(m);
    return 0;
}

/* ---- QubesDB ---- */

static void get_ready(struct manager *m)
{
    if (!m->ready)
        (void)sd_notify(0, "READY=1");
    m->ready = true;
}

static void on_begin(void *user)
{
    keys_done(&((struct manager *)user)->reading);
}

static void settle_and_schedule(struct manager *m)
{
    if (settle_wish(m) < 0)
        (void)qdb_mirror_reread(m->mirror);
    else
        schedule(m);
}

static void on_entry(const char *path, struct str value, void *user)
{
    struct manager *m = user;

    if (keys_set(&m->reading, path, &value) < 0)
        (void)qdb_mirror_reread(m->mirror);
}

static void on_end(void *user)
{
    struct manager *m = user;

    keys_done(&m->keys);
    m->keys = m->reading;
    m->reading = (struct keys){{NULL, NULL}};
    (void)sd_event_source_set_enabled(m->adopt_timer, SD_EVENT_OFF);
    if (m->said_lost)
        log_notice("QubesDB can be read again");
    m->said_lost = false;
    settle_and_schedule(m);
    get_ready(m);
}

static void on_changed(const char *path, const struct str *value, void *user)
{
    struct manager *m = user;

    if (keys_set(&m->keys, path, value) < 0)
        (void)qdb_mirror_reread(m->mirror);
    else
        settle_and_schedule(m);
}

static void on_lost(int error, void *user)
{
    struct manager *m = user;

    if (!m->said_lost)
        log_warning("QubesDB cannot be read (%s): what is open stays, nothing new opens",
                    strerror(-error));
    m->said_lost = true;
    get_ready(m);
}

static int on_adopt(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    if (m->known)
        return 0;
    log_warning("QubesDB could not be read for a minute: the door is shut");
    m->known = true;
    schedule(m);
    return 0;
}

/* ---- life ---- */

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
    (void)qdb_mirror_reread(m->mirror);
    schedule(m);
    return 0;
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

static int add_timer(struct manager *m, uint64_t accuracy, sd_event_source **ret,
                     sd_event_time_handler_t fn)
{
    int r = sd_event_add_time(m->event, ret, CLOCK_MONOTONIC, UINT64_MAX, accuracy, fn, m);

    return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_sources(struct manager *m)
{
    int r = add_signals(m);

    if (r >= 0)
        r = sd_event_add_defer(m->event, &m->pass_source, on_pass, m);
    if (r >= 0)
        r = sd_event_source_set_enabled(m->pass_source, SD_EVENT_OFF);
    if (r >= 0)
        r = add_timer(m, EXACT, &m->retry_timer, on_timer);
    if (r >= 0)
        r = add_timer(m, EXACT, &m->spacing_timer, on_timer);
    if (r >= 0)
        r = add_timer(m, LAZY, &m->adopt_timer, on_adopt);
    if (r < 0)
        return r;
    arm(m->adopt_timer, clock_now_us() + ADOPT_US);
    r = nft_monitor_open(&m->monitor);
    if (r >= 0)
        r = sd_event_add_io(m->event, NULL, nft_monitor_fd(m->monitor), EPOLLIN, on_nft, m);
    return r < 0 ? r : sd_event_set_watchdog(m->event, true);
}

int manager_new(const struct manager_config *config, struct manager **ret)
{
    _cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
    struct qdb_mirror_config mirror = {.socket = config->qubesdb, .prefixes = keys_prefixes,
                                       .wants = keys_want, .begin = on_begin, .entry = on_entry,
                                       .end = on_end, .changed = on_changed, .lost = on_lost,
                                       .user = m};
    int r;

    if (m == NULL)
        return -ENOMEM;
    m->config = *config;
    r = sd_event_new(&m->event);
    if (r >= 0)
        r = kernel_open(&m->kernel, config->nft_program);
    if (r >= 0)
        r = add_sources(m);
    if (r >= 0)
        r = qdb_mirror_new(m->event, &mirror, &m->mirror);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

struct manager *manager_free(struct manager *m)
{
    if (m == NULL)
        return NULL;
    m->pass_source = sd_event_source_disable_unref(m->pass_source);
    m->retry_timer = sd_event_source_disable_unref(m->retry_timer);
    m->spacing_timer = sd_event_source_disable_unref(m->spacing_timer);
    m->adopt_timer = sd_event_source_disable_unref(m->adopt_timer);
    m->mirror = qdb_mirror_free(m->mirror);
    m->event = sd_event_unref(m->event);
    m->monitor = nft_monitor_free(m->monitor);
    kernel_done(&m->kernel);
    keys_done(&m->keys);
    keys_done(&m->reading);
    free(m->wished);
    free(m->said_value);
    free(m);
    return NULL;
}

void manager_freep(struct manager **m)
{
    *m = manager_free(*m);
}

int manager_run(struct manager *m)
{
    int r = sd_event_loop(m->event);

    if (r < 0 || !m->stop)
        return r;
    r = pass(m, NULL, 0);
    if (r < 0)
        log_error("The door could not be shut (%s)", strerror(-r));
    else
        log_notice("Asked to stop: the door is shut");
    return r;
}
