/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/tree/wish.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/tree/wish_steps.h"

const char *problem_name(enum problem_kind kind)
{
    switch (kind) {
    case PROBLEM_GRAMMAR:
        return "grammar";
    case PROBLEM_ADDRESS:
        return "address";
    case PROBLEM_DUPLICATE:
        return "duplicate";
    case PROBLEM_PORT:
        return "port";
    case PROBLEM_NO_NETVM:
        return "no-netvm";
    case PROBLEM_HOP_HALTED:
        return "hop-halted";
    case PROBLEM_HOP_LACKS:
        return "hop-lacks";
    case PROBLEM_HOP_VPN:
        return "hop-vpn";
    case PROBLEM_HOP_CHANGING:
        return "hop-changing";
    case PROBLEM_TOO_LONG:
        return "too-long";
    case PROBLEM_EXPIRED:
        return "expired";
    case PROBLEM_HALTED:
        return "halted";
    case PROBLEM_INCOMPLETE:
        return "incomplete";
    }
    return "unknown";
}

static int compare_wish(const void *a, const void *b)
{
    const struct wish *x = a, *y = b;
    int c = strcmp(x->where->name, y->where->name);

    return c != 0 ? c : strcmp(x->path, y->path);
}

static int compare_problem(const void *a, const void *b)
{
    const struct problem *x = a, *y = b;
    int c = strcmp(x->whose->name, y->whose->name);

    if (c == 0 && x->kind != y->kind)
        c = x->kind < y->kind ? -1 : 1;
    if (c == 0)
        c = strcmp(x->hop != NULL ? x->hop->name : "", y->hop != NULL ? y->hop->name : "");
    return c != 0 ? c : x->family - y->family;
}

void wish_problem(struct work *w, enum problem_kind kind, const struct qube *whose,
                  const struct qube *hop, int family, const char *format, ...)
{
    struct wishes *out = w->out;
    struct problem *p;
    va_list args;

    if (out->n_problems == out->problems_capacity) {
        size_t capacity = out->problems_capacity == 0 ? 8 : out->problems_capacity * 2;

        p = reallocarray(out->problems, capacity, sizeof(*p));
        if (p == NULL) {
            w->error = -ENOMEM;
            return;
        }
        out->problems = p;
        out->problems_capacity = capacity;
    }
    p = &out->problems[out->n_problems++];
    *p = (struct problem){.kind = kind, .whose = whose, .hop = hop, .family = family};
    va_start(args, format);
    (void)vsnprintf(p->why, sizeof(p->why), format, args);
    va_end(args);
}

static int push_candidate(struct work *w, struct candidate *c)
{
    if (w->n_candidates == w->candidates_capacity) {
        size_t capacity = w->candidates_capacity == 0 ? 8 : w->candidates_capacity * 2;
        struct candidate *grown = reallocarray(w->candidates, capacity, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        w->candidates = grown;
        w->candidates_capacity = capacity;
    }
    w->candidates[w->n_candidates++] = *c;
    c->e = (struct exposure){0};
    return 0;
}

/* A Sluice dom0 is in charge there, whether somebody is exposed or not. */
static bool wants_marker(const struct tree *t, const struct qube *q)
{
    const char *capable = tree_feature(t, q, FEATURE_CAPABLE);

    return q->complete && q->provides_network && qube_is_alive(q) && capable != NULL &&
           strcmp(capable, "1") == 0;
}

static void judge_one(struct work *w, const struct qube *q)
{
    struct candidate c = {.q = q};

    if (wish_judge(w, &c) && w->error == 0 && wish_append_candidate(w, &c) && w->error == 0)
        w->error = push_candidate(w, &c);
    exposure_done(&c.e);
}

/* candidates are in the order of the tree, by name */
static bool is_closed(const struct work *w, const struct qube *q)
{
    size_t lo = 0, hi = w->n_candidates;

    while (q != NULL && lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(q->name, w->candidates[mid].q->name);

        if (c == 0)
            return w->candidates[mid].closed;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return false;
}

static void drop_closed(struct work *w)
{
    struct wishes *out = w->out;
    size_t kept = 0;

    for (size_t i = 0; i < out->n; i++) {
        if (is_closed(w, out->wishes[i].whose))
            free(out->wishes[i].value);
        else
            out->wishes[kept++] = out->wishes[i];
    }
    out->n = kept;
}

/* A hop that says it provides no network cannot be; but if it is, its records need the marker. */
static void mark_hops(struct work *w)
{
    for (size_t i = 0; i < w->n_candidates; i++) {
        for (int k = 0; !w->candidates[i].closed && k < w->candidates[i].n_hops; k++) {
            if (!w->candidates[i].hops[k]->provides_network)
                wish_append_marker(w, w->candidates[i].hops[k]);
        }
    }
}

static void sort_wishes(struct wishes *out)
{
    size_t kept = 0;

    if (out->n > 0)
        qsort(out->wishes, out->n, sizeof(*out->wishes), compare_wish);
    for (size_t i = 0; i < out->n; i++) {
        if (kept > 0 && compare_wish(&out->wishes[kept - 1], &out->wishes[i]) == 0)
            free(out->wishes[i].value);
        else
            out->wishes[kept++] = out->wishes[i];
    }
    out->n = kept;
    if (out->n_problems > 0)
        qsort(out->problems, out->n_problems, sizeof(*out->problems), compare_problem);
}

static void work_done(struct work *w)
{
    for (size_t i = 0; i < w->n_candidates; i++)
        exposure_done(&w->candidates[i].e);
    free(w->candidates);
    free(w->owners);
}

int wish_compute(const struct tree *t, int64_t now, struct wishes *ret)
{
    _cleanup_(wishes_done) struct wishes out = {0};
    _cleanup_(work_done) struct work w = {.t = t, .now = now, .out = &out};

    wish_index_owners(&w);
    for (size_t i = 0; i < tree_count(t) && w.error == 0; i++) {
        const struct qube *q = tree_at(t, i);

        if (wants_marker(t, q))
            wish_append_marker(&w, q);
        if (wish_is_asked(t, q))
            judge_one(&w, q);
    }
    if (w.error == 0)
        wish_judge_ports(&w);
    if (w.error < 0)
        return w.error;
    drop_closed(&w);
    mark_hops(&w);
    if (w.error < 0)
        return w.error;
    sort_wishes(&out);
    *ret = out;
    out = (struct wishes){0};
    return 0;
}

void wishes_done(struct wishes *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->wishes[i].value);
    free(w->wishes);
    free(w->problems);
    *w = (struct wishes){0};
}
