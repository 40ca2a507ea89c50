/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From wishes to writes: which connections there are, what each gets, and qubesd's block after ours. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dom0/serverd/manager.h"
#include "dom0/serverd/report.h"

#define RETRY_USEC 100000

/* ---- firewall blocks that qubesd has to write again ---- */

void reloads_note(struct manager *m, const char *qube, const char *hop)
{
    struct reload *n;

    for (size_t i = 0; i < m->n_reloads; i++)
        if (strcmp(m->reloads[i].qube, qube) == 0 && strcmp(m->reloads[i].hop, hop) == 0)
            return;
    if (m->n_reloads == m->reloads_capacity) {
        size_t capacity = m->reloads_capacity ? m->reloads_capacity * 2 : 8;

        n = reallocarray(m->reloads, capacity, sizeof(*n));
        if (!n) {
            log_error("Out of memory: the firewall rules of %s are not written again", qube);
            return;
        }
        m->reloads = n;
        m->reloads_capacity = capacity;
    }
    n = &m->reloads[m->n_reloads++];
    *n = (struct reload){0};
    (void)stpncpy(n->qube, qube, sizeof(n->qube) - 1);
    (void)stpncpy(n->hop, hop, sizeof(n->hop) - 1);
}

static void on_reloaded(int error, const struct admin_answer *a, void *user)
{
    (void)user;
    if (error < 0 || a->status != ADMIN_OK)
        log_warning("qubesd did not write the firewall rules of a qube again (%s); set any rule of "
                    "it to have them written", error < 0 ? strerror(-error) : "refused");
}

/* 1: asked, or not needed any more; 0: not yet. */
static int reload_try(struct manager *m, const struct reload *r)
{
    const struct qube *q = tree_find(m->tree, str_from(r->qube));
    const struct hop *h = hops_find(m->hops, r->hop);
    struct admin_request request = {.method = "admin.vm.firewall.Reload", .dest = r->qube};

    if (!q || !qube_is_alive(q))
        return 1;
    if (q->changing || q->power == POWER_STARTING || (h && h->unanswered > 0) || !m->connected)
        return 0;
    if (m->config.dry_run)
        return 1;
    log_debug("Asking qubesd to write the firewall rules of %s into %s again", r->qube, r->hop);
    return admin_call(m->client, &request, on_reloaded, m) < 0 ? 0 : 1;
}

void reloads_try(struct manager *m)
{
    size_t kept = 0;

    for (size_t i = 0; i < m->n_reloads; i++)
        if (reload_try(m, &m->reloads[i]) == 0)
            m->reloads[kept++] = m->reloads[i];
    m->n_reloads = kept;
}

/* The address in /qubes-firewall/ADDR or below. */
static bool address_of(const char *path, struct addr *ret)
{
    const char *begin = path + strlen(PRESENT_FIREWALL), *end = strchr(begin, '/');

    return addr_parse((struct str){begin, end ? (size_t)(end - begin) : strlen(begin)}, ret) == 0;
}

static bool has_address(const struct qube *q, const struct addr *a)
{
    return addr_equal(&q->ip[0], a) || addr_equal(&q->ip[1], a) ||
           (q->live.known && (addr_equal(&q->live.ip[0], a) || addr_equal(&q->live.ip[1], a)));
}

/* Is this block qubesd's own, or going to be? */
static void note_block(struct manager *m, const struct hop *h, const char *path, const char *mover)
{
    struct addr a;

    if (!address_of(path, &a))
        return;
    for (size_t i = 0; i < tree_count(m->tree); i++) {
        const struct qube *q = tree_at(m->tree, i);

        if (qube_is_alive(q) && has_address(q, &a) &&
            (strcmp(q->netvm, h->name) == 0 || (mover && strcmp(q->name, mover) == 0)))
            reloads_note(m, q->name, h->name);
    }
}

/* ---- one QubesDB ---- */

static int do_op(struct manager *m, struct hop *h, const struct op *op, const char *mover)
{
    int r = op->kind == OP_REMOVE ? hop_remove(h, op->path) : hop_write(h, op->path, op->value);

    if (r < 0)
        return r;
    m->written++;
    report_op(h->name, op, wished_whose(&m->wished, op->wish));
    if (op->what == OP_POLICY || op->what == OP_RULE || op->what == OP_COMMIT)
        note_block(m, h, op->path, mover);
    return 0;
}

size_t manager_apply(struct manager *m, struct hop *h, const char *mover)
{
    const struct wished_hop *w = wished_find(&m->wished, h->name);
    unsigned flags = (m->synced ? 0 : PLAN_REMOVE_ONLY) | (h->swept ? 0 : PLAN_FRESH);
    _cleanup_(plan_done) struct plan plan = {0};
    size_t done = 0;
    int r;

    if (!m->ever || h->state != HOP_READY)
        return 0;
    r = plan_make(&h->present, w ? &m->wished.all.wishes[w->from] : NULL, w ? w->n : 0, flags, &plan);
    if (r >= 0 && m->config.dry_run)
        return plan.n;
    while (r >= 0 && done < plan.n) {
        r = do_op(m, h, &plan.ops[done], mover);
        if (r >= 0)
            done++;
    }
    h->swept = h->swept || r >= 0;
    h->dirty = r < 0;
    if (r < 0 && r != -ENOBUFS && r != -ENOTCONN) {
        h->repair_due = clock_now_us() + RETRY_USEC;
        sources_arm_repair(m, h->repair_due);
    }
    return done;
}

/* ---- all of them ---- */

static bool has_database(const struct qube *q)
{
    return qube_is_alive(q) && strcmp(q->klass, "AdminVM") != 0 && strcmp(q->klass, "RemoteVM") != 0;
}

static void follow_qubes(struct manager *m)
{
    struct hop *h;

    for (size_t i = hops_count(m->hops); i > 0; i--) {
        const struct qube *q;

        h = hops_at(m->hops, i - 1);
        q = tree_find(m->tree, str_from(h->name));
        if ((!q || !has_database(q)) && m->synced)
            hops_close(m->hops, h);
    }
    for (size_t i = 0; i < tree_count(m->tree); i++) {
        const struct qube *q = tree_at(m->tree, i);
        int r = has_database(q) ? hops_open(m->hops, q->name, &h) : 0;

        if (r < 0)
            log_error("Cannot follow the QubesDB of %s: %s", q->name, strerror(-r));
    }
}

/* A qube that has a number was created, whatever qubesd calls its state. */
static void settle_power(struct manager *m)
{
    for (size_t i = 0; i < tree_count(m->tree); i++) {
        struct qube *q = tree_at(m->tree, i);

        if (q->power == POWER_STARTING && q->xid[0] != 0)
            q->power = POWER_RUNNING;
    }
}

static void keep_live(struct manager *m)
{
    _cleanup_(live_done) struct live live = {0};
    _cleanup_(freep) char *text = NULL;
    size_t len = 0;
    int r = live_format(m->tree, &text, &len);

    if (r >= 0 && m->live_text && strcmp(m->live_text, text) == 0)
        return;
    if (r >= 0)
        r = live_parse((struct str){text, len}, &live);
    if (r >= 0 && !m->config.dry_run)
        r = live_save(m->live_path, text, len);
    if (r < 0) {
        log_warning("Cannot write %s (%s): after a restart, qubes whose address was changed while "
                    "they ran are not exposed", m->live_path, strerror(-r));
        return;
    }
    live_done(&m->live);
    m->live = live;
    live = (struct live){0};
    free(m->live_text);
    m->live_text = TAKE_PTR(text);
}

void manager_compute(struct manager *m, const struct qube *q, const char *first)
{
    char mover[QUBE_NAME_MAX] = "";
    struct wished fresh = {0};
    struct hop *h;
    int r;

    if (!m->ever)
        return;
    if (q)
        memcpy(mover, q->name, sizeof(mover));
    settle_power(m);
    r = wished_compute(m->tree, (int64_t)time(NULL), &fresh);
    if (r < 0) {
        log_error("Out of memory: nothing new is exposed");
        m->recompute = true;
        sources_arm_repair(m, clock_now_us() + 1000000);
        return;
    }
    m->computed++;
    report_changes(&m->wished, &fresh);
    wished_done(&m->wished);
    m->wished = fresh;
    h = first ? hops_find(m->hops, first) : NULL;
    if (h) {
        if (q && h->unanswered > 0)
            reloads_note(m, mover, first);
        (void)manager_apply(m, h, mover);
    }
    follow_qubes(m);
    for (size_t i = 0; i < hops_count(m->hops); i++)
        (void)manager_apply(m, hops_at(m->hops, i), mover);
    keep_live(m);
    sources_arm_expiry(m);
    reloads_try(m);
}
