/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/manager.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dom0/serverd/report.h"
#include "dom0/serverd/status.h"
#include "dom0/tree/reader.h"

#define REPAIR_FIRST_USEC 20000   /* several keys are changed in one go */
#define REPAIR_MAX_USEC   5000000
#define REPAIR_RULES_USEC 200000  /* most of these are qubesd's, and somebody waits for them */
#define REPAIR_CALM_USEC  10000000

/* ---- readiness ---- */

static bool is_settled(const struct manager *m)
{
    if (!m->synced)
        return m->said_lost && !m->connected;
    if (m->recompute)
        return false;
    for (size_t i = 0; i < hops_count(m->hops); i++) {
        const struct hop *h = hops_at(m->hops, i);

        if (h->state == HOP_READING || (h->state == HOP_DOWN && !h->told) || h->unanswered > 0)
            return false;
    }
    return true;
}

/* Type=notify: ready means that what can be in place is, or that qubesd is not there. */
static void tell_ready(struct manager *m)
{
    if (m->ready || !is_settled(m))
        return;
    m->ready = true;
    if (m->config.dry_run)
        (void)sd_event_exit(m->event, 0);
    else
        (void)sd_notify(0, "READY=1");
}

/* ---- what readings tell ---- */

/*
 * Read first since its start was heard, when the vif was made with what was known by then. No event
 * tells of another IPv6 address (feature ipv6 of a net qube), nor what an address was reset to.
 */
static void complete_start(struct qube *q)
{
    q->live.ip[1] = q->ip[1];
    if (q->live.ip[0].family == 0)
        q->live.ip[0] = q->ip[0];
}

/*
 * Where a qube is attached that was just read: as it was when it was read first in this life, or
 * after the last change of its net qube. A kept attachment of another domain id is of another life.
 */
static void settle_attachment(struct manager *m, struct qube *q)
{
    const struct live_entry *e = live_find(&m->live, q->name);

    if (!qube_is_alive(q)) {
        qube_detach(q);
        q->changing = q->doubted = false;
        return;
    }
    if (q->changing && changes_go_on(m, q->name))
        return;
    if (e && e->xid != q->xid[0])
        qube_detach(q);
    else if (e && !q->live.known)
        q->live = e->at;
    else if (!e && q->live.known)
        complete_start(q);
    if (!q->live.known || q->changing)
        qube_attach(q);
    q->changing = false;
    doubts_raise(m, q);
}

static void on_one(struct qube *q, const char *name, void *user)
{
    struct manager *m = user;

    (void)name;
    if (q)
        settle_attachment(m, q);
    manager_compute(m, NULL, NULL);
    tell_ready(m);
}

static void on_whole(int error, void *user)
{
    struct manager *m = user;
    char text[ADMIN_ERROR_MAX];

    m->qubesd_error = error;
    if (error < 0) {
        log_warning("qubesd could not be asked about all qubes (%s): what is exposed stays, nothing "
                    "new opens until it answers", reader_strerror(error, text));
        if (m->connected)
            sources_arm_full(m, REPAIR_MAX_USEC);
        return;
    }
    for (size_t i = 0; i < tree_count(m->tree); i++)
        settle_attachment(m, tree_at(m->tree, i));
    m->synced = m->ever = true;
    m->full_readings++;
    sources_arm_full(m, MANAGER_FULL_USEC);
    manager_compute(m, NULL, NULL);
    tell_ready(m);
}

/* ---- qubesd ---- */

static void on_connected(void *user)
{
    struct manager *m = user;

    if (m->said_lost)
        log_notice("qubesd is there again: reading everything");
    m->connected = true;
    m->said_lost = false;
    m->qubesd_error = 0;
    reads_mark_all(m->reads, true);
}

static void on_qubesd_lost(int error, void *user)
{
    struct manager *m = user;
    char text[ADMIN_ERROR_MAX];

    m->connected = m->synced = false;
    m->qubesd_error = error;
    reads_stop(m->reads);
    if (!m->said_lost)
        log_warning("qubesd is not there (%s): what is exposed stays, what stops is taken back, "
                    "nothing new opens", admin_strerror(error, NULL, text));
    m->said_lost = true;
    if (m->config.dry_run)
        (void)sd_event_exit(m->event, error);
    tell_ready(m);
}

static void look_at_database(struct manager *m, const char *name)
{
    struct hop *h = hops_find(m->hops, name);

    if (h)
        hop_check(h);
}

static void end_life(struct manager *m, const char *name)
{
    struct hop *h = hops_find(m->hops, name);

    if (h)
        hops_close(m->hops, h); /* opened again by manager_compute(), if it is about to start */
}

static void on_event(const struct admin_event *e, void *user)
{
    struct manager *m = user;
    struct effects fx;

    events_apply(m->tree, e, &fx);
    if (fx.what == 0)
        return;
    report_event(e);
    if (fx.qube[0])
        reads_heard(m->reads, fx.qube);
    if (fx.what & EFFECT_LIFE_ENDS)
        end_life(m, fx.qube);
    if (fx.what & EFFECT_LOOK)
        look_at_database(m, fx.qube);
    if (fx.what & EFFECT_CHANGE_BEGINS)
        changes_begin(m, fx.qube);
    if (fx.what & (EFFECT_MOVED | EFFECT_LIFE_ENDS))
        changes_end(m, fx.qube);
    if (fx.what & EFFECT_COMPUTE) {
        bool moves = fx.what & (EFFECT_MOVES | EFFECT_MOVED);

        manager_compute(m, moves ? tree_find(m->tree, str_from(fx.qube)) : NULL,
                        moves && fx.netvm[0] ? fx.netvm : NULL);
    }
    if (fx.what & (EFFECT_READ | EFFECT_READ_NOW))
        reads_mark(m->reads, fx.qube, fx.what & EFFECT_READ_NOW);
    if (fx.what & EFFECT_READ_ALL)
        reads_mark_all(m->reads, false);
}

/* ---- QubesDB ---- */

/* qubesd does not say what happened, but a qube whose QubesDB has gone does not run. */
static void take_for_dead(struct manager *m, const char *name)
{
    struct qube *q = tree_find(m->tree, str_from(name));

    if (m->connected || !q || !qube_is_alive(q))
        return;
    log_notice("The QubesDB of %s has gone while qubesd is not there: %s is taken for stopped", name,
               name);
    q->power = POWER_HALTED;
    manager_compute(m, NULL, NULL);
}

static void on_hop_ready(struct hop *h, void *user)
{
    struct manager *m = user;

    report_hop_ready(h);
    (void)manager_apply(m, h, NULL);
    doubts_settle(m, h);
    tell_ready(m);
}

static void on_hop_changed(struct hop *h, void *user)
{
    struct manager *m = user;
    uint64_t now = clock_now_us();

    if (h->repair_due != 0)
        return;
    if (now - h->repaired_at > REPAIR_CALM_USEC)
        h->repair_pause = 0;
    h->repair_due = now + (h->repair_pause > 0 ? h->repair_pause : REPAIR_FIRST_USEC);
    sources_arm_repair(m, h->repair_due);
}

static void on_hop_settled(struct hop *h, void *user)
{
    struct manager *m = user;

    if (h->dirty) {
        (void)manager_apply(m, h, NULL);
    } else if (h->present.overflow) {
        on_hop_changed(h, m); /* what there was room for is swept: look at the rest, in time */
    }
    reloads_try(m);
    tell_ready(m);
}

static void on_hop_lost(struct hop *h, int error, void *user)
{
    struct manager *m = user;

    report_hop_lost(h, error);
    if (!hop_has_socket(h))
        take_for_dead(m, h->name);
    tell_ready(m);
}

static void on_hop_vanished(struct hop *h, void *user)
{
    take_for_dead(user, h->name);
}

void manager_repair(struct manager *m)
{
    uint64_t now = clock_now_us(), next = changes_check(m, now);

    if (m->recompute) {
        m->recompute = false;
        manager_compute(m, NULL, NULL);
        tell_ready(m);
    }
    for (size_t i = 0; i < hops_count(m->hops); i++) {
        struct hop *h = hops_at(m->hops, i);

        if (h->repair_due != 0 && h->repair_due <= now) {
            h->repair_due = 0;
            if (manager_apply(m, h, NULL) > 0) {
                uint64_t limit = h->rules_only ? REPAIR_RULES_USEC : REPAIR_MAX_USEC;

                h->repair_pause = h->repair_pause == 0 ? REPAIR_FIRST_USEC : h->repair_pause * 2;
                if (h->repair_pause > limit)
                    h->repair_pause = limit;
                h->repaired_at = now;
                if (!h->rules_only)
                    report_repair(h);
            }
            if (h->present.overflow && h->unanswered == 0)
                hop_reread(h);
        }
        if (h->repair_due != 0 && (next == 0 || h->repair_due < next))
            next = h->repair_due;
    }
    if (next != 0)
        sources_arm_repair(m, next);
}

/* ---- life ---- */

int manager_run(struct manager *m)
{
    int r = sd_event_loop(m->event);

    if (!m->config.dry_run) {
        (void)sd_notify(0, "STOPPING=1");
        if (r >= 0)
            log_info("Stopped: what is exposed stays; --withdraw takes it back");
    }
    return r;
}

struct manager *manager_free(struct manager *m)
{
    if (!m)
        return NULL;
    m->control = control_server_free(m->control);
    m->reads = reads_free(m->reads);
    m->client = admin_client_free(m->client);
    m->hops = hops_free(m->hops);
    sources_done(m);
    wished_done(&m->wished);
    live_done(&m->live);
    m->tree = tree_free(m->tree);
    free(m->live_path);
    free(m->live_text);
    free(m->control_path);
    free(m->reloads);
    m->event = sd_event_unref(m->event);
    free(m);
    return NULL;
}

void manager_freep(struct manager **m)
{
    *m = manager_free(*m);
}

static int make_paths(struct manager *m)
{
    if (asprintf(&m->live_path, "%s/live", m->config.runtime) < 0) {
        m->live_path = NULL;
        return -ENOMEM;
    }
    if (asprintf(&m->control_path, "%s/control.sock", m->config.runtime) < 0) {
        m->control_path = NULL;
        return -ENOMEM;
    }
    return 0;
}

static int load_live(struct manager *m)
{
    int r = live_load(m->live_path, &m->live);

    if (r == -ENOMEM)
        return r;
    if (r < 0 && r != -ENOENT)
        log_warning("%s cannot be used (%s): qubes whose address was changed while they run are not "
                    "exposed until they are restarted", m->live_path, strerror(-r));
    return 0;
}

static int connect_all(struct manager *m)
{
    struct admin_client_config client = {
        .socket = m->config.qubesd,
        .event = on_event,
        .connected = on_connected,
        .lost = on_qubesd_lost,
        .user = m,
    };
    struct hops_config hops = {
        .directory = m->config.qubesdb_directory,
        .ready = on_hop_ready,
        .changed = on_hop_changed,
        .settled = on_hop_settled,
        .lost = on_hop_lost,
        .vanished = on_hop_vanished,
        .user = m,
    };
    struct reads_config reads = {.one = on_one, .whole = on_whole, .user = m};
    int r = hops_new(m->event, &hops, &m->hops);

    if (r >= 0)
        r = admin_client_new(m->event, &client, &m->client);
    if (r >= 0)
        r = reads_new(m->event, m->client, m->tree, &reads, &m->reads);
    return r;
}

int manager_new(const struct manager_config *config, struct manager **ret)
{
    _cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
    int r;

    if (!m)
        return -ENOMEM;
    m->config = *config;
    m->tree = tree_new();
    if (!m->tree)
        return -ENOMEM;
    r = make_paths(m);
    if (r >= 0)
        r = load_live(m);
    if (r >= 0)
        r = sd_event_default(&m->event);
    if (r >= 0)
        r = sources_new(m);
    if (r >= 0)
        r = connect_all(m);
    if (r >= 0 && !config->dry_run)
        r = status_serve(m, m->control_path, &m->control);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}
