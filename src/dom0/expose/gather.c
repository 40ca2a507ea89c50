/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dom0/expose/say.h"

void gathered_done(struct gathered *g)
{
    for (size_t i = 0; i < g->n_asks; i++)
        ask_done(&g->asks[i]);
    free(g->asks);
    *g = (struct gathered){0};
}

static bool is_listed(const struct gathered *g, const char *name)
{
    for (size_t i = 0; i < g->n_asks; i++) {
        if (strcmp(g->asks[i].hop, name) == 0)
            return true;
    }
    return false;
}

/* A name that begins with a dash would be an option of the program. qubesd permits none. */
static bool may_be_asked(const struct qube *hop)
{
    return hop->power == POWER_RUNNING && hop->name[0] != '-';
}

static void add_hops(struct session *s, const struct qube *q, struct gathered *g)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing = NULL;
    int n = tree_hops(s->tree, q, hops, &missing);

    for (int i = 0; i < n; i++) {
        if (may_be_asked(hops[i]) && !is_listed(g, hops[i]->name))
            memcpy(g->asks[g->n_asks++].hop, hops[i]->name, sizeof(hops[i]->name));
    }
}

int gather_asks(struct session *s, const struct qube *q, struct gathered *ret)
{
    int r;

    ret->asks = calloc(tree_count(s->tree) + 1, sizeof(*ret->asks));
    if (ret->asks == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(s->tree); i++) {
        const struct qube *one = tree_at(s->tree, i);

        if (one == q || (q == NULL && wish_is_asked(s->tree, one)))
            add_hops(s, one, ret);
    }
    r = ask_all(s->event, s->o->status_command, ret->asks, ret->n_asks, clock_now_us());
    if (r < 0)
        say_failed(NULL, "net qubes cannot be asked: %s", strerror(-r));
    return r;
}

static int look_again(struct session *s)
{
    _cleanup_(freep) struct addr *policies = calloc(s->wishes.n + 1, sizeof(*policies));
    size_t n = 0;
    int r;

    if (policies == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < s->wishes.n; i++) {
        const struct wish *w = &s->wishes.wishes[i];
        bool known = false;

        for (size_t k = 0; k < n && !known; k++)
            known = addr_equal(&policies[k], &w->addr);
        if (w->kind == WISH_FIREWALL && !known)
            policies[n++] = w->addr;
    }
    for (size_t i = 0; i < s->n_looks; i++) {
        char name[QUBE_NAME_MAX];

        memcpy(name, s->looks[i].qube, sizeof(name));
        look_done(&s->looks[i]);
        memcpy(s->looks[i].qube, name, sizeof(name));
    }
    r = look_all(s->event, s->o->qubesdb, s->looks, s->n_looks, policies, n);
    if (r < 0)
        say_failed(NULL, "QubesDB: %s", strerror(-r));
    return r;
}

int gather(struct session *s, const struct qube *q, struct gathered *ret)
{
    int r = gather_asks(s, q, ret);

    if (r == 0)
        r = look_again(s);
    ret->input = (struct ways_input){.t = s->tree,
                                     .w = &s->wishes,
                                     .looks = s->looks,
                                     .n_looks = s->n_looks,
                                     .asks = ret->asks,
                                     .n_asks = ret->n_asks};
    return r;
}
