/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which kernel switches the exposures need, and how each gets its old value back. A value from
 * before us is stored in the kernel itself (the put-back set), so that a successor knows it too.
 *
 * What the kernel does (6.12, 6.18): proxy NDP answers only on an interface with proxy_ndp and
 * forwarding; forwarding between interfaces looks at conf.all.forwarding alone, and writing that
 * one overwrites every interface's own; when forwarding comes on, routes from router
 * advertisements are thrown away on interfaces whose accept_ra is not 2. So where the platform
 * left IPv6 forwarding off: accept_ra 2 first, then all, then the others get theirs back.
 */
#include "router/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct use { /* of one link */
    bool proxy4, proxy6; /* answers for an address there */
    bool open6;          /* a vif with an open IPv6 exposure */
};

struct uses {
    const struct model *m;
    const struct plan *p;
    struct use *links; /* as m->links */
    bool open6;        /* any */
};

static struct use *use_of(struct uses *u, const struct model_link *link)
{
    return link != NULL ? &u->links[link - u->m->links] : NULL;
}

static void count_object(struct uses *u, int family, const struct object *o)
{
    struct use *use;

    if (o->kind == OBJECT_PROXY) {
        use = use_of(u, model_link_by_index(u->m, o->uplink_index));
        if (use != NULL && family == AF_INET6)
            use->proxy6 = true;
        else if (use != NULL)
            use->proxy4 = true;
    } else if (family == AF_INET6 && OBJECT_IS_ACCESS(o->kind)) {
        u->open6 = true;
        use = use_of(u, model_link_by_name(u->m, o->vif));
        if (use != NULL)
            use->open6 = true;
    }
}

static void count_objects(struct uses *u, const struct slot *slot, const struct object *objects,
                          size_t n)
{
    for (size_t i = 0; i < n; i++)
        count_object(u, slot->addr.family, &objects[i]);
}

/* A touched slot is in the plan: what it will have counts, not what it has. */
static void count_slot(struct slot *slot, void *user)
{
    if (!slot->dirty)
        count_objects(user, slot, slot->actual, slot->n_actual);
}

static int add_sysctl_op(struct plan *p, enum op_kind kind, enum sysctl_id id, const char *scope,
                         uint32_t value)
{
    struct op op = {.kind = kind, .sysctl = {.id = id, .value = value}};

    (void)memccpy(op.sysctl.scope, scope, '\0', sizeof(op.sysctl.scope) - 1);
    return plan_add_op(p, &op);
}

/* Wants a value: remembers the old one once, writes when it differs. */
static int want(const struct model *m, struct plan *p, enum sysctl_id id, const char *scope,
                uint32_t value)
{
    uint32_t now = 0, before;
    int r = 0;

    if (!model_sysctl_get(&m->sysctls, scope, id, &now) || now == value)
        return 0;
    if (!model_sysctl_get(&m->put_back, scope, id, &before))
        r = add_sysctl_op(p, OP_SAVE_SYSCTL, id, scope, now);
    return r < 0 ? r : add_sysctl_op(p, OP_WRITE_SYSCTL, id, scope, value);
}

/* Needed no more: the old value comes back, if there is one and the link still exists. */
static int give_back(const struct model *m, struct plan *p, enum sysctl_id id, const char *scope,
                     bool leave_as_is)
{
    uint32_t now = 0, before;
    int r = 0;

    if (!model_sysctl_get(&m->put_back, scope, id, &before))
        return 0;
    /* not readable: the link is being renamed, or is gone; the next look tells which */
    if (!leave_as_is && !model_sysctl_get(&m->sysctls, scope, id, &now))
        return 0;
    if (!leave_as_is && now != before)
        r = add_sysctl_op(p, OP_WRITE_SYSCTL, id, scope, before);
    return r < 0 ? r : add_sysctl_op(p, OP_UNSAVE_SYSCTL, id, scope, before);
}

static int either(const struct model *m, struct plan *p, bool wanted, enum sysctl_id id,
                  const char *scope, uint32_t value)
{
    return wanted ? want(m, p, id, scope, value) : give_back(m, p, id, scope, false);
}

static int plan_link(const struct model *m, struct plan *p, const struct model_link *link,
                     const struct use *use)
{
    int r;

    if (link->vif)
        return 0;
    r = either(m, p, use->proxy4, SYSCTL_IP4_PROXY_DELAY, link->name, 0);
    if (r == 0)
        r = either(m, p, use->proxy6, SYSCTL_IP6_PROXY_DELAY, link->name, 0);
    if (r == 0)
        r = either(m, p, use->proxy6, SYSCTL_IP6_PROXY_NDP, link->name, 1);
    return r;
}

/* A link that is a host again takes router advertisements as before. */
static int take_ra_again(const struct model *m, struct plan *p, const struct model_link *link)
{
    uint32_t now = 0, before;
    int r;

    if (!model_sysctl_get(&m->sysctls, link->name, SYSCTL_IP6_ACCEPT_RA, &now) || now != 1)
        return give_back(m, p, SYSCTL_IP6_ACCEPT_RA, link->name, false);
    /* changed by this very plan, whether it was saved now or by one that failed: undone by it too */
    if (!model_sysctl_get(&m->put_back, link->name, SYSCTL_IP6_ACCEPT_RA, &before))
        before = now;
    r = add_sysctl_op(p, OP_WRITE_SYSCTL, SYSCTL_IP6_ACCEPT_RA, link->name, before);
    return r < 0 ? r : add_sysctl_op(p, OP_UNSAVE_SYSCTL, SYSCTL_IP6_ACCEPT_RA, link->name, before);
}

/* Router advertisements go on being taken on every link while all.forwarding is switched. */
static int open_forwarding(const struct model *m, struct plan *p, const struct uses *u)
{
    uint32_t value;
    int r = 0;

    for (size_t i = 0; i < m->n_links && r == 0; i++) {
        if (model_sysctl_get(&m->sysctls, m->links[i].name, SYSCTL_IP6_ACCEPT_RA, &value) &&
            value == 1)
            r = want(m, p, SYSCTL_IP6_ACCEPT_RA, m->links[i].name, 2);
    }
    if (r == 0)
        r = want(m, p, SYSCTL_IP6_FORWARDING, "all", 1);
    /* ... which made routers of them all: those that need not be are hosts again */
    if (r == 0)
        r = add_sysctl_op(p, OP_WRITE_SYSCTL, SYSCTL_IP6_FORWARDING, "default", 0);
    for (size_t i = 0; i < m->n_links && r == 0; i++) {
        const struct model_link *link = &m->links[i];

        if (u->links[i].proxy6 || u->links[i].open6)
            continue;
        /* a vif's own is not read: it is off where all is off */
        if (link->vif || (model_sysctl_get(&m->sysctls, link->name, SYSCTL_IP6_FORWARDING, &value) &&
                          value == 0))
            r = add_sysctl_op(p, OP_WRITE_SYSCTL, SYSCTL_IP6_FORWARDING, link->name, 0);
        if (r == 0)
            r = take_ra_again(m, p, link);
    }
    return r;
}

/* This link's own forwarding is, or is about to be, on by our doing. */
static bool switched_by_us(const struct model *m, const char *name)
{
    uint32_t value;

    return model_sysctl_get(&m->put_back, name, SYSCTL_IP6_FORWARDING, &value) ||
           (model_sysctl_get(&m->sysctls, name, SYSCTL_IP6_FORWARDING, &value) && value == 0);
}

/* all is on, by the platform or by us; the links that answer need it for themselves too. */
static int keep_forwarding(const struct model *m, struct plan *p, const struct uses *u, bool ours)
{
    uint32_t value;
    int r = 0;

    for (size_t i = 0; i < m->n_links && r == 0; i++) {
        const char *name = m->links[i].name;

        if (u->links[i].proxy6) {
            if ((ours || switched_by_us(m, name)) &&
                model_sysctl_get(&m->sysctls, name, SYSCTL_IP6_ACCEPT_RA, &value) && value == 1)
                r = want(m, p, SYSCTL_IP6_ACCEPT_RA, name, 2);
            if (r == 0)
                r = want(m, p, SYSCTL_IP6_FORWARDING, name, 1);
        } else {
            r = give_back(m, p, SYSCTL_IP6_FORWARDING, name, false);
            if (r == 0)
                r = give_back(m, p, SYSCTL_IP6_ACCEPT_RA, name, false);
        }
    }
    return r;
}

/*
 * What we switched on for all stays on when the platform wants it by now, and with it accept_ra 2:
 * a router whose accept_ra is 1 would lose its own way out. A link's own goes back.
 */
static int close_forwarding(const struct model *m, struct plan *p, bool ours)
{
    bool leave = ours && m->wants_ip6;
    int r;

    r = give_back(m, p, SYSCTL_IP6_FORWARDING, "all", leave);
    for (size_t i = 0; i < m->n_links && r == 0; i++) {
        r = give_back(m, p, SYSCTL_IP6_FORWARDING, m->links[i].name, leave);
        if (r == 0)
            r = give_back(m, p, SYSCTL_IP6_ACCEPT_RA, m->links[i].name, leave);
    }
    return r;
}

/* Values of links that are gone went with them. */
static int drop_orphans(const struct model *m, struct plan *p)
{
    int r = 0;

    for (size_t i = 0; i < m->put_back.n && r == 0; i++) {
        const struct sysctl_value *v = &m->put_back.values[i];

        if (strcmp(v->scope, "all") != 0 && model_link_by_name(m, v->scope) == NULL)
            r = add_sysctl_op(p, OP_UNSAVE_SYSCTL, v->id, v->scope, v->value);
    }
    return r;
}

int plan_sysctls(const struct model *m, struct plan *p)
{
    _cleanup_(freep) struct use *links = calloc(m->n_links + 1, sizeof(*links));
    struct uses u = {.m = m, .p = p, .links = links};
    uint32_t all = 0, before;
    bool ours;
    int r = 0;

    if (links == NULL)
        return -ENOMEM;
    model_each(m, count_slot, &u);
    for (size_t i = 0; i < p->n_planned; i++)
        count_objects(&u, p->planned[i].slot, p->objects + p->planned[i].objects,
                      p->planned[i].n_objects);
    for (size_t i = 0; i < m->n_links && r == 0; i++)
        r = plan_link(m, p, &m->links[i], &links[i]);
    if (r < 0)
        return r;
    ours = model_sysctl_get(&m->put_back, "all", SYSCTL_IP6_FORWARDING, &before);
    if (!u.open6)
        r = close_forwarding(m, p, ours);
    else if (model_sysctl_get(&m->sysctls, "all", SYSCTL_IP6_FORWARDING, &all) && all == 0)
        r = open_forwarding(m, p, &u);
    else
        r = keep_forwarding(m, p, &u, ours);
    return r < 0 ? r : drop_orphans(m, p);
}
