/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/wished.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void wished_done(struct wished *w)
{
    for (size_t i = 0; i < w->n_problems; i++)
        free(w->problems[i].why);
    free(w->problems);
    free(w->names);
    free(w->hops);
    wishes_done(&w->all);
    *w = (struct wished){0};
}

static void copy_name(char to[static QUBE_NAME_MAX], const struct qube *q)
{
    if (q)
        memcpy(to, q->name, QUBE_NAME_MAX);
}

static int take_problems(struct wished *w)
{
    struct wishes *all = &w->all;

    w->problems = calloc(all->n_problems + 1, sizeof(*w->problems));
    if (!w->problems)
        return -ENOMEM;
    for (size_t i = 0; i < all->n_problems; i++) {
        const struct problem *p = &all->problems[i];
        struct wished_problem *to = &w->problems[w->n_problems];

        to->kind = p->kind;
        to->family = p->family;
        copy_name(to->whose, p->whose);
        copy_name(to->hop, p->hop);
        to->why = strdup(p->why);
        if (!to->why)
            return -ENOMEM;
        w->n_problems++;
    }
    free(all->problems);
    all->problems = NULL;
    all->n_problems = all->problems_capacity = 0;
    return 0;
}

static int take_names(struct wished *w)
{
    struct wishes *all = &w->all;

    w->names = calloc(all->n + 1, sizeof(*w->names));
    w->hops = calloc(all->n + 1, sizeof(*w->hops));
    if (!w->names || !w->hops)
        return -ENOMEM;
    for (size_t i = 0; i < all->n; i++) {
        struct wish *wish = &all->wishes[i];

        if (w->n_hops == 0 || strcmp(w->hops[w->n_hops - 1].name, wish->where->name) != 0) {
            copy_name(w->hops[w->n_hops].name, wish->where);
            w->hops[w->n_hops++].from = i;
        }
        w->hops[w->n_hops - 1].n++;
        copy_name(w->names[i].whose, wish->whose);
        wish->where = wish->whose = NULL;
    }
    return 0;
}

int wished_compute(const struct tree *t, int64_t now, struct wished *ret)
{
    _cleanup_(wished_done) struct wished out = {0};
    int r = wish_compute(t, now, &out.all);

    if (r >= 0)
        r = take_problems(&out);
    if (r >= 0)
        r = take_names(&out);
    if (r < 0)
        return r;
    *ret = out;
    out = (struct wished){0};
    return 0;
}

const struct wished_hop *wished_find(const struct wished *w, const char *hop)
{
    size_t low = 0, high = w->n_hops;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = strcmp(hop, w->hops[middle].name);

        if (c == 0)
            return &w->hops[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *wished_whose(const struct wished *w, const struct wish *wish)
{
    return wish ? w->names[wish - w->all.wishes].whose : "";
}
