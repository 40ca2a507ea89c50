/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The addresses that are reached by another net qube, by that net qube's address: when its route
 * changes, they are looked at, and no others.
 */
#include <errno.h>
#include <search.h>
#include <stdlib.h>

#include "router/model.h"

struct via {
    struct addr addr;
    LIST_HEAD(, claim) claims;
};

static int compare_via(const void *a, const void *b)
{
    const struct via *x = a, *y = b;

    return addr_compare(&x->addr, &y->addr);
}

static struct via *find(const struct model *m, const struct addr *addr)
{
    struct via key = {.addr = *addr};
    struct via *const *hit = tfind(&key, &m->vias, compare_via);

    return hit != NULL ? *hit : NULL;
}

static struct via *add(struct model *m, const struct addr *addr)
{
    struct via *v = calloc(1, sizeof(*v));

    if (v == NULL)
        return NULL;
    v->addr = *addr;
    LIST_INIT(&v->claims);
    if (tsearch(v, &m->vias, compare_via) == NULL) {
        free(v);
        return NULL;
    }
    return v;
}

int model_via_set(struct model *m, struct claim *c)
{
    struct via *v;

    if (!c->valid || c->record.via.family == 0)
        return 0;
    v = find(m, &c->record.via);
    if (v == NULL)
        v = add(m, &c->record.via);
    if (v == NULL)
        return -ENOMEM;
    c->via = v;
    LIST_INSERT_HEAD(&v->claims, c, same_via);
    return 0;
}

void model_via_unset(struct model *m, struct claim *c)
{
    struct via *v = c->via;

    if (v == NULL)
        return;
    c->via = NULL;
    LIST_REMOVE(c, same_via);
    if (!LIST_EMPTY(&v->claims))
        return;
    (void)tdelete(v, &m->vias, compare_via);
    free(v);
}

void model_touch_via(struct model *m, const struct addr *via)
{
    const struct via *v = find(m, via);
    const struct claim *c;

    if (v == NULL)
        return;
    LIST_FOREACH(c, &v->claims, same_via)
        model_touch(m, c->slot);
}

void model_vias_done(struct model *m)
{
    tdestroy(m->vias, free);
    m->vias = NULL;
}
