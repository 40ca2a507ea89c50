/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/owner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "netlink/rt.h"
#include "nft/nft.h"
#include "vpn/seal/report.h"
#include "vpn/seal/seal.h"
#include "vpn/seal/server.h"
#include "vpn/seal/switches.h"

#define STORED_NAME "seal-nft"
#define TICK_US     UINT64_C(10000000)
#define RETRY_US    UINT64_C(100000)
#define RETRY_MAX   UINT64_C(10000000)
#define BARRIER_US  UINT64_C(2000000)
#define LAZY_US     UINT64_C(1000000)

struct owner {
    const struct owner_config *config;
    struct seal seal;
    sd_event *loop;
    sd_event_source *tick, *retry, *pass;
    struct rt_monitor *rt_monitor;
    struct nft_monitor *nft_monitor;
    struct server *server;
    int stored; /* the socket that the service manager holds, by its number here; -1: none */
    uint64_t retry_us;
    bool said_armed, said_broken, said_switch;
};

/* ---- the socket that owns the tables ---- */

/* The last of those that the manager kept is the one in use. */
static int take_stored(void)
{
    _cleanup_(freep) char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names), fd = -1;

    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], STORED_NAME) == 0) {
            fd = close_fd(fd);
            fd = SD_LISTEN_FDS_START + i;
        }
        free(names[i]);
    }
    return fd;
}

static void store(struct owner *o)
{
    int fd = nl_fd(o->seal.nft);

    if (fd == o->stored)
        return;
    (void)sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=" STORED_NAME "\nFDPOLL=0", &fd, 1);
    o->stored = fd;
}

/* Waits until the manager has closed its copy: only then do the tables lose their owner. */
static void let_go(void *user)
{
    struct owner *o = user;

    if (o->stored < 0)
        return;
    (void)sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" STORED_NAME);
    (void)sd_notify_barrier(0, BARRIER_US);
    o->stored = -1;
}

/* ---- the pass ---- */

static void tell(struct owner *o)
{
    const struct seal *s = &o->seal;

    if (s->armed && !o->said_armed) {
        log_notice("Sealed: nothing leaves by an uplink but the VPN's own connection");
        (void)sd_notifyf(0, "READY=1\nSTATUS=Sealed%s", s->wish.tunnel[0] ? ", tunnel open" : "");
        o->said_armed = true;
    } else if (s->armed && s->restored) {
        log_warning("Parts of the seal were gone and have been put back");
    }
    if (s->foreign[0] != '\0')
        log_warning("A routing rule before ours was removed (%s): in a VPN qube the ones up to "
                    "priority 80 are the seal's. Put yours behind",
                    s->foreign);
    if (s->armed && s->why[0] != '\0' && !o->said_switch)
        log_warning("Sealed, but a kernel switch could not be set: %s. The tunnel may not work",
                    s->why);
    o->said_switch = s->armed && s->why[0] != '\0';
    if (s->armed && o->said_broken)
        log_notice("Sealed again");
    if (!s->armed && !o->said_broken && s->why[0] != '\0') {
        log_error("The seal is not whole: %s. What is in place stays; it is tried again", s->why);
        (void)sd_notifyf(0, "STATUS=Not whole: %s", s->why);
    }
    o->said_broken = !s->armed && s->why[0] != '\0';
}

static void arm_retry(struct owner *o)
{
    o->retry_us = o->retry_us == 0 ? RETRY_US : o->retry_us * 2;
    if (o->retry_us > RETRY_MAX)
        o->retry_us = RETRY_MAX;
    (void)sd_event_source_set_time(o->retry, clock_now_us() + o->retry_us);
    (void)sd_event_source_set_enabled(o->retry, SD_EVENT_ONESHOT);
}

static int owner_pass(struct owner *o)
{
    int r = seal_pass(&o->seal);

    if (r < 0)
        (void)snprintf(o->seal.why, sizeof(o->seal.why), "the kernel could not be read (%s)",
                       strerror(-r));
    if (r < 0)
        o->seal.armed = false;
    store(o);
    tell(o);
    if (r < 0 || o->seal.broken != 0)
        arm_retry(o);
    else
        o->retry_us = 0;
    return r;
}

static void schedule(struct owner *o)
{
    (void)sd_event_source_set_enabled(o->pass, SD_EVENT_ONESHOT);
}

/* ---- sources ---- */

static int on_pass(sd_event_source *s, void *user)
{
    (void)s;
    (void)owner_pass(user);
    return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    (void)owner_pass(user);
    return 0;
}

static int on_tick(sd_event_source *s, uint64_t usec, void *user)
{
    struct owner *o = user;

    (void)usec;
    (void)sd_notify(0, "WATCHDOG=1");
    schedule(o);
    (void)sd_event_source_set_time(s, clock_now_us() + TICK_US);
    return 0;
}

static int on_rtnetlink(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct owner *o = user;

    (void)s;
    (void)fd;
    (void)revents;
    if (rt_monitor_read(o->rt_monitor) != 0)
        schedule(o);
    return 0;
}

static int on_nft(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct owner *o = user;
    uint32_t generation = 0;
    int r;

    (void)s;
    (void)fd;
    (void)revents;
    r = nft_monitor_read(o->nft_monitor, &generation);
    /* our own last change was read back already */
    if (r < 0 || (r == 1 && generation != o->seal.model.generation))
        schedule(o);
    return 0;
}

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    struct owner *o = user;

    (void)s;
    (void)si;
    log_notice("Ends; the seal stays as it is");
    return sd_event_exit(o->loop, 0);
}

/* ---- requests ---- */

static void check(struct owner *o, char **ret_answer, char *error, size_t error_size)
{
    _cleanup_(items_free) struct items ops = {0};
    char wrong[SWITCH_TEXT];
    json_t *report;
    int r = seal_look(&o->seal, &ops, wrong);

    if (r < 0) {
        (void)snprintf(error, error_size, "the kernel could not be read (%s)", strerror(-r));
        return;
    }
    report = report_json(&o->seal, &ops, wrong);
    *ret_answer = report == NULL ? NULL : json_dumps(report, JSON_COMPACT);
    json_decref(report);
    if (*ret_answer == NULL)
        (void)snprintf(error, error_size, "out of memory");
}

static void on_request(enum request_kind kind, const struct wish *wish, char **ret_answer,
                       char *error, size_t error_size, void *user)
{
    struct owner *o = user;
    int r;

    switch (kind) {
    case REQUEST_CHECK:
        check(o, ret_answer, error, error_size);
        return;
    case REQUEST_SET:
        o->seal.wish = *wish;
        break;
    case REQUEST_BLACKHOLE:
        o->seal.wish = (struct wish){0};
        break;
    case REQUEST_ON:
        break;
    }
    o->seal.adopted = true;
    r = owner_pass(o);
    if (r < 0 || o->seal.broken != 0 || o->seal.why[0] != '\0')
        (void)snprintf(error, error_size, "not everything could be done: %s",
                       o->seal.why[0] != '\0' ? o->seal.why : "the kernel keeps changing");
}

/* ---- life ---- */

static int add_signals(struct owner *o)
{
    static const int stops[] = {SIGTERM, SIGINT, SIGUSR1};
    sigset_t set;
    int r = 0;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
        (void)sigaddset(&set, stops[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    for (size_t i = 0; i < ARRAY_SIZE(stops) && r >= 0; i++)
        r = sd_event_add_signal(o->loop, NULL, stops[i], on_stop, o);
    return r;
}

static int add_timers(struct owner *o)
{
    int r = sd_event_add_time(o->loop, &o->tick, CLOCK_MONOTONIC, clock_now_us() + TICK_US, LAZY_US,
                              on_tick, o);

    if (r >= 0)
        r = sd_event_source_set_enabled(o->tick, SD_EVENT_ON);
    if (r >= 0)
        r = sd_event_add_time(o->loop, &o->retry, CLOCK_MONOTONIC, UINT64_MAX, 1, on_retry, o);
    if (r >= 0)
        r = sd_event_source_set_enabled(o->retry, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_defer(o->loop, &o->pass, on_pass, o);
    return r < 0 ? r : sd_event_source_set_enabled(o->pass, SD_EVENT_OFF);
}

/* The monitors first: what changes while we read is looked at again. */
static int add_monitors(struct owner *o)
{
    int r = rt_monitor_open(&o->rt_monitor);

    if (r == 0)
        r = rt_monitor_add_policy(o->rt_monitor);
    if (r == 0)
        r = nft_monitor_open(&o->nft_monitor);
    if (r == 0)
        r = sd_event_add_io(o->loop, NULL, rt_monitor_fd(o->rt_monitor), EPOLLIN, on_rtnetlink, o);
    if (r >= 0)
        r = sd_event_add_io(o->loop, NULL, nft_monitor_fd(o->nft_monitor), EPOLLIN, on_nft, o);
    return r;
}

static void owner_done(struct owner *o)
{
    o->server = server_free(o->server);
    o->tick = sd_event_source_disable_unref(o->tick);
    o->retry = sd_event_source_disable_unref(o->retry);
    o->pass = sd_event_source_disable_unref(o->pass);
    o->loop = sd_event_unref(o->loop);
    o->rt_monitor = rt_monitor_free(o->rt_monitor);
    o->nft_monitor = nft_monitor_free(o->nft_monitor);
    seal_close(&o->seal);
}

static int owner_start(struct owner *o)
{
    const struct server_ops ops = {on_request, o};
    int r = sd_event_new(&o->loop);

    if (r >= 0)
        r = add_signals(o);
    if (r >= 0)
        r = add_timers(o);
    if (r >= 0)
        r = server_new(o->loop, o->config->socket, o->config->supervisor, &ops, &o->server);
    if (r < 0)
        return r;
    o->stored = take_stored();
    r = seal_open(&o->seal, &o->config->seal, o->config->nft_program, o->stored);
    o->seal.let_go = let_go;
    o->seal.user = o;
    return r < 0 ? r : add_monitors(o);
}

int owner_run(const struct owner_config *config)
{
    _cleanup_(owner_done) struct owner o = {.config = config, .stored = -1};
    int r = owner_start(&o);

    if (r == -EADDRINUSE) {
        log_error("Another owner of the seal answers on %s: this one ends, the seal stays",
                  config->socket);
        return 1;
    }
    if (r >= 0)
        r = owner_pass(&o);
    if (r >= 0 && o.seal.model.foreign != 0) {
        log_error("Another process owns the seal's tables: this one ends, the seal stays");
        return 1;
    }
    if (r < 0 || o.seal.broken != 0 || (!o.seal.armed && config->seal.layers == LAYERS_ALL)) {
        log_error("Cannot seal (%s): forwarding %s. Needs root or CAP_NET_ADMIN, and nft at %s",
                  seal_strerror(&o.seal, r), switches_close_forwarding(),
                  config->nft_program);
        return 1;
    }
    if (!o.seal.armed)
        log_warning("Armed in part only, as --layers says: not ready");
    r = sd_event_loop(o.loop);
    return r < 0 ? 1 : 0;
}
