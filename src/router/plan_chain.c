/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way to an address. A qube attached here has a host route by a vif of its own, made by the
 * platform. One behind another net qube (via= in the record) is reached by that net qube's vif: its
 * host route tells which, and the address gets a route of ours beside it, and the right to be a
 * source on that net qube's vifs.
 */
#include <string.h>

#include "router/plan_steps.h"

static bool domid_fits(const struct record *r, uint32_t domid)
{
    return r->xid[0] == 0 || r->xid[0] == domid || (r->xid[1] != 0 && r->xid[1] == domid);
}

/*
 * The best route to `to` must leave by a vif of the record's qube; every other vif of it that carries
 * the address too (an HVM and its stub domain) is served as well, so that nothing breaks when one of
 * them leaves.
 */
static enum verdict judge_vifs(const struct model *m, const struct addr *to, struct planned *p,
                               struct ground *g)
{
    const struct record *record = &p->claim->record;
    const struct model_route *routes;
    const struct model_link *best;
    size_t n;

    routes = model_host_routes(m, to, &n);
    if (n == 0 && record->via.family != 0)
        return plan_say(p, VERDICT_NO_VIF, "the net qube it is behind is not attached: it opens when "
                                           "that one starts with this net qube");
    if (n == 0)
        return plan_say(p, VERDICT_NO_VIF, "no qube with this address is attached: it opens when the "
                                           "qube starts with this net qube");
    best = model_link_by_index(m, routes[0].oif);
    if (best == NULL || !best->vif)
        return plan_say(p, VERDICT_MISMATCH, "its route leaves by %s, which is no qube's interface",
                        best != NULL ? best->name : "an unknown interface");
    if (!domid_fits(record, best->domid))
        return plan_say(p, VERDICT_MISMATCH,
                        "its route leaves by %s, the record is for domain %u: another qube has the "
                        "address now, or the record is old",
                        best->name, record->xid[0]);
    if (routes[0].gateway.family != 0 && record->via.family != 0)
        return plan_say(p, VERDICT_MISMATCH,
                        "the net qube it is behind is itself reached by a gateway on %s", best->name);
    for (size_t i = 0; i < n && g->n_vifs < PLAN_MAX_VIFS; i++) {
        const struct model_link *link = model_link_by_index(m, routes[i].oif);

        if (link != NULL && link->vif && domid_fits(record, link->domid))
            g->vifs[g->n_vifs++] = link;
    }
    return VERDICT_OPEN;
}

enum verdict plan_judge_way(const struct model *m, const struct slot *slot, struct planned *p,
                            struct ground *g)
{
    const struct addr *via = &p->claim->record.via;
    const struct model_route *routes;
    const struct model_link *link;
    size_t n;

    if (via->family == 0)
        return judge_vifs(m, &slot->addr, p, g);
    if (addr_equal(via, &slot->addr) || addr_why_unusable(via) != NULL)
        return plan_say(p, VERDICT_REFUSED, "%s: via= names no net qube; the whole key is refused",
                        p->claim->path);
    routes = model_host_routes(m, &slot->addr, &n);
    if (n == 0)
        return judge_vifs(m, via, p, g);
    link = model_link_by_index(m, routes[0].oif);
    return plan_say(p, VERDICT_MISMATCH,
                    "it has a route of its own by %s, the record says it is behind another net qube: "
                    "a qube attached here has the address, or the record is old",
                    link != NULL ? link->name : "an unknown interface");
}

int plan_wish_way(struct plan *p, struct planned *planned, const struct ground *g)
{
    const struct record *record = &planned->claim->record;
    struct object o;
    int r = 0;

    if (record->via.family == 0)
        return 0;
    for (size_t i = 0; i < g->n_vifs && r == 0; i++) {
        o = (struct object){.kind = OBJECT_LENT};
        memcpy(o.vif, g->vifs[i]->name, sizeof(o.vif));
        r = plan_wish_object(p, planned, &o);
        o.kind = OBJECT_ALLOWED;
        if (r == 0)
            r = plan_wish_object(p, planned, &o);
    }
    o = (struct object){.kind = OBJECT_DOWNSTREAM};
    if (r == 0)
        r = plan_wish_object(p, planned, &o);
    o = (struct object){
        .kind = OBJECT_ROUTE,
        .uplink_index = g->vifs[0]->index,
        .metric = PLAN_WAY_METRIC,
        .src_lo = record->via,
    };
    return r < 0 ? r : plan_wish_object(p, planned, &o);
}

static const struct object *find_kind(const struct slot *slot, enum object_kind kind)
{
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (slot->actual[i].kind == kind)
            return &slot->actual[i];
    }
    return NULL;
}

/*
 * As the platform forgets the flows of an address that is attached: what was tracked before there
 * was this way was permitted by nobody, and was perhaps masqueraded on its way back to the LAN. A
 * route that somebody took away, or a ruleset that is loaded again, is no new way; where only the
 * interface changed, what is permitted goes on.
 */
void plan_note_way(struct planned *planned)
{
    planned->forget_in = true;
    if (find_kind(planned->slot, OBJECT_ROUTE) == NULL &&
        find_kind(planned->slot, OBJECT_LENT) == NULL)
        planned->forget_own = planned->forget_all = true;
}

/* ---- what was found at the start ---- */

static bool carried_by(const struct model *m, const struct addr *addr, const struct object *o)
{
    const struct model_route *routes;
    size_t n;

    routes = model_host_routes(m, addr, &n);
    for (size_t i = 0; i < n; i++) {
        const struct model_link *link = model_link_by_index(m, routes[i].oif);

        if (link == NULL || !link->vif)
            continue;
        if (o->kind == OBJECT_DOWNSTREAM ||
            (o->kind == OBJECT_ROUTE ? link->index == o->uplink_index
                                     : strcmp(link->name, o->vif) == 0))
            return true;
    }
    return false;
}

/* A route of ours that still leads to its net qube, where none is the platform's. */
static const struct object *found_way(const struct model *m, const struct slot *slot)
{
    size_t n;

    (void)model_host_routes(m, &slot->addr, &n);
    for (size_t i = 0; i < slot->n_actual && n == 0; i++) {
        const struct object *o = &slot->actual[i];

        if (o->kind == OBJECT_ROUTE && carried_by(m, &o->src_lo, o))
            return o;
    }
    return NULL;
}

bool plan_stays_as_found(const struct model *m, const struct slot *slot, const struct object *o,
                         bool access)
{
    const struct model_link *link = model_link_by_index(m, o->uplink_index);
    const struct object *way = found_way(m, slot);

    if (o->kind == OBJECT_PROXY)
        return access && link != NULL && link->uplink;
    if (OBJECT_IS_DNAT(o->kind) || (OBJECT_IS_WATCH(o->kind) && !access))
        return access;
    if (way != NULL)
        return carried_by(m, o->kind == OBJECT_ROUTE ? &o->src_lo : &way->src_lo, o);
    return o->kind != OBJECT_LENT && !OBJECT_IS_PLATFORMS(o->kind) && o->kind != OBJECT_ROUTE &&
           carried_by(m, &slot->addr, o);
}
