/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys that name no address that can be served: they open nothing, and the status shows them. */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/model_strays.h"

static int compare_stray(const void *a, const void *b)
{
    const struct stray *x = a, *y = b;

    return strcmp(x->path, y->path);
}

static struct stray *find(struct model *m, const char *path)
{
    struct stray key, **hit;

    (void)snprintf(key.path, sizeof(key.path), "%s", path);
    hit = tfind(&key, &m->strays, compare_stray);
    return hit != NULL ? *hit : NULL;
}

/* Without memory, or beyond the limit, it is not remembered: it opens nothing all the same. */
static void add(struct model *m, const char *path, const char *why)
{
    struct stray *s = m->n_strays < ROUTER_MAX_STRAYS ? calloc(1, sizeof(*s)) : NULL;

    if (s == NULL)
        return;
    (void)snprintf(s->path, sizeof(s->path), "%s", path);
    s->why = why;
    s->reading = m->reading;
    if (tsearch(s, &m->strays, compare_stray) == NULL)
        free(s);
    else
        m->n_strays++;
}

static void drop(struct model *m, struct stray *s)
{
    (void)tdelete(s, &m->strays, compare_stray);
    free(s);
    m->n_strays--;
}

void model_stray_set(struct model *m, const char *path, const char *why, bool present)
{
    struct stray *s = find(m, path);

    if (present && s != NULL)
        s->reading = m->reading;
    else if (present)
        add(m, path, why);
    else if (s != NULL)
        drop(m, s);
}

struct visit {
    model_stray_fn fn;
    void *user;
};

static void visit_node(const void *node, VISIT which, void *closure)
{
    struct visit *v = closure;

    if (which == postorder || which == leaf)
        v->fn(*(struct stray *const *)node, v->user);
}

void model_each_stray(const struct model *m, model_stray_fn fn, void *user)
{
    struct visit v = {fn, user};

    twalk_r(m->strays, visit_node, &v);
}

/* The tree must not change while it is walked: what is gone is collected first. */
struct gone {
    unsigned reading;
    struct stray *list[64];
    size_t n;
};

static void collect_gone(struct stray *s, void *user)
{
    struct gone *g = user;

    if (s->reading != g->reading && g->n < sizeof(g->list) / sizeof(g->list[0]))
        g->list[g->n++] = s;
}

void model_strays_sweep(struct model *m)
{
    struct gone g;

    do {
        g = (struct gone){.reading = m->reading};
        model_each_stray(m, collect_gone, &g);
        for (size_t i = 0; i < g.n; i++)
            drop(m, g.list[i]);
    } while (g.n == sizeof(g.list) / sizeof(g.list[0]));
}

void model_strays_done(struct model *m)
{
    tdestroy(m->strays, free);
    m->strays = NULL;
    m->n_strays = 0;
}
