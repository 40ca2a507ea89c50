/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From wishes to writes: which connections there are, and what each gets. */
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

/* ---- one QubesDB ---- */

static int do_op(struct manager *m, struct hop *h, const struct op *op, const char *mover)
{
    int r = op->kind == OP_REMOVE ? hop_remove(h, op->path) : hop_write(h, op->path, op->value);

    if (r < 0)
        return r;
    m->written++;
    report_op(h->name, op, wished_whose(&m->wished, op->wish));
    if (op->what == OP_POLICY || op->what == OP_RULE || op->what == OP_COMMIT)
        changes_note_block(m, h, op->path, mover);
    return 0;
}

static bool is_rule(const struct op *op)
{
    return op->what == OP_RULE || op->what == OP_COMMIT;
}

size_t manager_apply(struct manager *m, struct hop *h, const char *mover)
{
    const struct wished_hop *w = wished_find(&m->wished, h->name);
    unsigned flags = (m->synced ? 0 : PLAN_REMOVE_ONLY) | (h->swept ? 0 : PLAN_FRESH);
    _cleanup_(plan_done) struct plan plan = {0};
    size_t done = 0, older = 0;
    bool rules_only = true;
    int r;

    if (!m->ever || h->state != HOP_READY)
        return 0;
    r = plan_make(&h->present, w ? &m->wished.all.wishes[w->from] : NULL, w ? w->n : 0, flags, &plan);
    if (r >= 0 && m->config.dry_run)
        return plan.n;
    while (r >= 0 && done < plan.n) {
        const struct op *op = &plan.ops[done];

        r = do_op(m, h, op, mover);
        if (r < 0)
            break;
        older += op->what == OP_OLDER;
        rules_only = rules_only && is_rule(op);
        done++;
    }
    if (older > 0)
        report_older(h->name, older);
    h->swept = h->swept || r >= 0;
    h->dirty = r < 0;
    h->rules_only = rules_only;
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
    if (r >= 0) {
        live_done(&m->live);
        m->live = live;
        live = (struct live){0};
    }
    if (r >= 0 && !m->config.dry_run)
        r = live_save(m->live_path, text, len);
    if (r < 0) {
        log_warning("Cannot write %s (%s): after a restart, qubes whose address was changed while "
                    "they ran are not exposed", m->live_path, strerror(-r));
        return;
    }
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
        if (q && h->blocks_unanswered > 0)
            reloads_note(m, mover, first);
        (void)manager_apply(m, h, mover);
    }
    follow_qubes(m);
    for (size_t i = 0; i < hops_count(m->hops); i++)
        (void)manager_apply(m, hops_at(m->hops, i), NULL);
    keep_live(m);
    sources_arm_expiry(m);
    reloads_try(m);
}
