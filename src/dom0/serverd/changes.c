/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Qubes whose net qube is being changed, and the firewall blocks that qubesd has to write after us. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "dom0/serverd/manager.h"

#define RELOAD_METHOD "admin.vm.firewall.Reload"
#define REFUSED_USEC  1000000 /* a change that has not ended by then was refused */

/* ---- changes of net qubes ---- */

static struct mover *find_mover(struct manager *m, const char *qube)
{
    for (size_t i = 0; i < m->n_movers; i++)
        if (strcmp(m->movers[i].qube, qube) == 0)
            return &m->movers[i];
    return NULL;
}

void changes_begin(struct manager *m, const char *qube)
{
    struct mover *mover = find_mover(m, qube);

    if (!mover && m->n_movers == MOVERS_MAX)
        return; /* the next reading ends it */
    if (!mover)
        mover = &m->movers[m->n_movers++];
    *mover = (struct mover){.until = clock_now_us() + REFUSED_USEC};
    (void)stpncpy(mover->qube, qube, sizeof(mover->qube) - 1);
    sources_arm_repair(m, mover->until);
}

void changes_end(struct manager *m, const char *qube)
{
    struct mover *mover = find_mover(m, qube);

    if (mover)
        *mover = m->movers[--m->n_movers];
}

bool changes_go_on(struct manager *m, const char *qube)
{
    return find_mover(m, qube) != NULL;
}

uint64_t changes_check(struct manager *m, uint64_t now)
{
    uint64_t next = 0;

    for (size_t i = m->n_movers; i > 0; i--) {
        struct mover *mover = &m->movers[i - 1];

        if (mover->until <= now) {
            reads_mark(m->reads, mover->qube, true);
            *mover = m->movers[--m->n_movers];
        } else if (next == 0 || mover->until < next) {
            next = mover->until;
        }
    }
    return next;
}

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
    char text[ADMIN_ERROR_MAX];
    const char *why = error < 0 ? admin_strerror(error, RELOAD_METHOD, text) : "refused";

    (void)user;
    if (error < 0 || a->status != ADMIN_OK)
        log_warning("qubesd did not write the firewall rules of a qube again (%s); set any rule of "
                    "it to have them written", why);
}

/* 1: asked, or not needed any more; 0: not yet. */
static int reload_try(struct manager *m, const struct reload *r)
{
    const struct qube *q = tree_find(m->tree, str_from(r->qube));
    const struct hop *h = hops_find(m->hops, r->hop);
    struct admin_request request = {.method = RELOAD_METHOD, .dest = r->qube};

    if (!q || !qube_is_alive(q))
        return 1;
    if (q->changing || q->power == POWER_STARTING || (h && h->blocks_unanswered > 0) || !m->connected)
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

/*
 * The one it runs with; while that is about to change, also the one that it is going to have. A mere
 * setting that waits for a restart does not count: two qubes could have qubesd and us write one block
 * against each other without end.
 */
static bool has_address(const struct qube *q, const struct addr *a)
{
    bool settled = q->live.known && !q->changing;

    return (!settled && (addr_equal(&q->ip[0], a) || addr_equal(&q->ip[1], a))) ||
           (q->live.known && (addr_equal(&q->live.ip[0], a) || addr_equal(&q->live.ip[1], a)));
}

/* Is this block qubesd's own, or going to be? */
void changes_note_block(struct manager *m, const struct hop *h, const char *path,
                        const char *mover)
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
