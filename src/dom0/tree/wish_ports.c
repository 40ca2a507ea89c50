/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Outside ports at one edge: each leads to one qube or to none. A port stands for all sources and
 * belongs to the addresses of one family, as the router sees it; ranges that overlap are found by a
 * sweep over all of them in order, so that many publishers cost no more than sorting.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/tree/wish_steps.h"

struct range {
    const struct qube *edge;
    int family;
    enum allow_proto proto;
    uint16_t lo, hi;
    struct candidate *c;
};

static int compare_range(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    int c = strcmp(x->edge->name, y->edge->name);

    if (c != 0)
        return c;
    if (x->family != y->family)
        return x->family - y->family;
    if (x->proto != y->proto)
        return x->proto < y->proto ? -1 : 1;
    if (x->lo != y->lo)
        return (int)x->lo - (int)y->lo;
    c = strcmp(x->c->q->name, y->c->q->name);
    return c != 0 ? c : (int)x->hi - (int)y->hi;
}

static bool same_ports(const struct range *a, const struct range *b)
{
    return a->edge == b->edge && a->family == b->family && a->proto == b->proto;
}

static size_t collect(struct work *w, struct range *ranges)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_candidates; i++) {
        struct candidate *c = &w->candidates[i];

        for (int f = 0; f < FAMILIES; f++) {
            for (size_t k = 0; c->open[f] && k < c->e.publish.n; k++) {
                const struct publish_entry *e = &c->e.publish.entries[k];

                if (ranges != NULL)
                    ranges[n] = (struct range){c->hops[c->n_hops - 1], f, e->proto, e->outside_lo,
                                               e->outside_hi, c};
                n++;
            }
        }
    }
    return n;
}

static void close_one(struct work *w, struct candidate *c, const struct candidate *other,
                      const struct range *at, uint16_t port)
{
    if (c->closed)
        return;
    c->closed = true;
    wish_problem(w, PROBLEM_PORT, c->q, at->edge, at->family == 0 ? AF_INET : AF_INET6,
                 "port %s/%u of %s is to be published for %s and for %s, so neither is exposed: "
                 "change feature %s of one of them",
                 at->proto == ALLOW_PROTO_TCP ? "tcp" : "udp", port, at->edge->name, c->q->name,
                 other->q->name, feature_name(FEATURE_PUBLISH));
}

/*
 * reach: of all ranges before, the one that ends last. A range of another qube that reaches this one
 * too but ends earlier overlaps with reach as well, so both were closed when the later one came.
 */
static void sweep(struct work *w, const struct range *ranges, size_t n)
{
    const struct range *reach = NULL;

    for (size_t i = 0; i < n; i++) {
        const struct range *r = &ranges[i];

        if (reach != NULL && !same_ports(reach, r))
            reach = NULL;
        if (reach != NULL && reach->c != r->c && reach->hi >= r->lo) {
            close_one(w, reach->c, r->c, r, r->lo);
            close_one(w, r->c, reach->c, r, r->lo);
        }
        if (reach == NULL || r->hi > reach->hi)
            reach = r;
    }
}

void wish_judge_ports(struct work *w)
{
    size_t n = collect(w, NULL);
    _cleanup_(freep) struct range *ranges = n > 0 ? calloc(n, sizeof(*ranges)) : NULL;

    if (n == 0)
        return;
    if (ranges == NULL) {
        w->error = -ENOMEM;
        return;
    }
    (void)collect(w, ranges);
    qsort(ranges, n, sizeof(*ranges), compare_range);
    sweep(w, ranges, n);
}
