/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel needs for an address that is open: where it is answered for, and who gets in. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "router/plan_steps.h"

#define MAX_UPLINKS 16

/* How well an uplink holds an address: 0 not at all; else its prefix length, and the metric. */
static uint8_t holds(const struct model *m, uint32_t index, const struct addr *addr,
                     uint32_t *ret_metric)
{
    uint8_t len = 0;

    *ret_metric = UINT32_MAX;
    for (size_t i = 0; i < m->n_wide; i++) {
        const struct model_route *r = &m->wide[i];

        if (r->oif != index || r->dst.len < len || !prefix_contains(&r->dst, addr))
            continue;
        if (r->dst.len > len || r->metric < *ret_metric)
            *ret_metric = r->metric;
        len = r->dst.len; /* a default route has 0: it holds nothing */
    }
    for (size_t i = 0; i < m->n_subnets; i++) {
        const struct prefix *s = &m->subnets[i].prefix;

        if (m->subnets[i].index == index && s->len > len && s->len < addr_bits(s->addr.family) &&
            prefix_contains(s, addr))
            len = s->len;
    }
    return len;
}

struct candidate {
    const struct model_link *link;
    uint8_t len;
    uint32_t metric;
};

static bool better(const struct candidate *a, const struct candidate *b)
{
    if (a->link->carrier != b->link->carrier)
        return a->link->carrier;
    if (a->len != b->len)
        return a->len > b->len;
    return a->metric != b->metric ? a->metric < b->metric : a->link->index < b->link->index;
}

/*
 * One uplink holds the address: by the longest prefix, then by the kernel's own preference. One
 * that lost its carrier keeps it when no other holds it: nobody can ask there, and nothing has to
 * be undone when the cable comes back. When none holds it, all with a carrier stand for it.
 */
size_t plan_uplinks(const struct model *m, const struct addr *addr, uint32_t *ret, size_t max,
                    bool *ret_held)
{
    struct candidate best = {0};
    size_t n = 0;

    for (size_t i = 0; i < m->n_links; i++) {
        struct candidate c = {.link = &m->links[i]};

        if (!c.link->uplink)
            continue;
        c.len = holds(m, c.link->index, addr, &c.metric);
        if (c.len > 0 && (best.link == NULL || better(&c, &best)))
            best = c;
    }
    *ret_held = best.link != NULL;
    if (best.link != NULL && max > 0) {
        ret[0] = best.link->index;
        return 1;
    }
    for (size_t i = 0; i < m->n_links && n < max; i++) {
        if (m->links[i].uplink && m->links[i].carrier)
            ret[n++] = m->links[i].index;
    }
    return n;
}

static uint8_t ip_proto(enum allow_proto proto, int family)
{
    switch (proto) {
    case ALLOW_PROTO_TCP:
        return IPPROTO_TCP;
    case ALLOW_PROTO_UDP:
        return IPPROTO_UDP;
    case ALLOW_PROTO_ICMP:
        return family == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    case ALLOW_PROTO_ANY:
        return 0;
    }
    return 0;
}

/* The cheapest set that can say it: exact ones cost the same however many elements there are. */
static struct object object_of_entry(const struct allow_entry *e, int family, const char *vif)
{
    struct object o = {0};
    bool every_port = e->port_lo == 0 && e->port_hi == UINT16_MAX;
    bool anybody = e->from.addr.family == 0;
    struct prefix from = e->from;

    (void)snprintf(o.vif, sizeof(o.vif), "%s", vif);
    if (!anybody)
        prefix_range(&from, &o.src_lo, &o.src_hi);
    if (e->proto == ALLOW_PROTO_ANY) {
        o.kind = anybody ? OBJECT_ANY : OBJECT_FROM;
        return o;
    }
    o.proto = ip_proto(e->proto, family);
    if (anybody && every_port) {
        o.kind = OBJECT_PROTO;
        return o;
    }
    o.port_lo = e->port_lo;
    o.port_hi = e->port_hi;
    o.kind = anybody && e->port_lo == e->port_hi ? OBJECT_PORT : OBJECT_RULE;
    if (o.kind == OBJECT_RULE && anybody) {
        from = (struct prefix){.addr.family = (uint8_t)family};
        prefix_range(&from, &o.src_lo, &o.src_hi);
    }
    return o;
}

/* Somebody gets in by each of these entries. published: only to a port published outside. */
static int wish_entries(struct plan *p, struct planned *planned, const struct allow *allow,
                        const struct model_link *vif, bool published)
{
    int r = 0;

    for (size_t i = 0; i < allow->n && r == 0; i++) {
        struct object o =
            object_of_entry(&allow->entries[i], planned->slot->addr.family, vif->name);

        if (published)
            o.kind = o.kind == OBJECT_PORT ? OBJECT_PUBLISHED : OBJECT_PUBLISHED_FROM;
        r = plan_wish_object(p, planned, &o);
    }
    return r;
}

static int wish_access(struct plan *p, struct planned *planned, const struct model_link *vif)
{
    const struct access *a = &planned->access;
    struct object o = {.kind = a->everything ? OBJECT_ANY : OBJECT_SOME};
    int r = 0;

    (void)snprintf(o.vif, sizeof(o.vif), "%s", vif->name);
    if (a->everything || a->permitted.n > 0)
        r = plan_wish_object(p, planned, &o);
    if (r == 0)
        r = wish_entries(p, planned, &a->permitted, vif, false);
    return r < 0 ? r : wish_entries(p, planned, &a->outside, vif, true);
}

/* What is counted, limited and named of those who get in by this vif. */
static int wish_watch(struct plan *p, struct planned *planned, const struct model_link *vif)
{
    const struct record *record = &planned->claim->record;
    struct object o = {.kind = OBJECT_CONNECTIONS};
    int r;

    (void)snprintf(o.vif, sizeof(o.vif), "%s", vif->name);
    r = plan_wish_object(p, planned, &o);
    o.kind = OBJECT_TRAFFIC;
    if (r == 0)
        r = plan_wish_object(p, planned, &o);
    o.kind = OBJECT_LOGGED;
    if (r == 0 && record->log)
        r = plan_wish_object(p, planned, &o);
    o.kind = OBJECT_RATE;
    o.rate = record->limit;
    return r == 0 && record->limit > 0 ? plan_wish_object(p, planned, &o) : r;
}

/* Where a published port leads: to one port inside, whoever asks (publish_parse()). */
static uint16_t port_inside(const struct publish *publish, enum allow_proto proto, uint16_t outside)
{
    for (size_t i = 0; i < publish->n; i++) {
        const struct publish_entry *e = &publish->entries[i];

        if (e->proto == proto && outside >= e->outside_lo && outside <= e->outside_hi)
            return (uint16_t)(e->inside_lo + (outside - e->outside_lo));
    }
    return 0;
}

/* Only for whom it is published: for others the port stays the net qube's own, which is closed. */
static int wish_dnat(struct plan *p, struct planned *planned, const struct allow_entry *e)
{
    const struct publish *publish = &planned->claim->record.publish;
    struct object o = {.kind = OBJECT_DNAT,
                       .proto = ip_proto(e->proto, planned->slot->addr.family)};
    int r = 0;

    if (e->from.addr.family != 0) {
        o.kind = OBJECT_DNAT_FROM;
        prefix_range(&e->from, &o.src_lo, &o.src_hi);
    }
    for (unsigned port = e->port_lo; port <= e->port_hi && r == 0; port++) {
        o.port_lo = (uint16_t)port;
        o.port_hi = port_inside(publish, e->proto, o.port_lo);
        r = plan_wish_object(p, planned, &o);
    }
    return r;
}

static int wish_ports(struct plan *p, struct planned *planned, const struct ground *g)
{
    const struct publish *publish = &planned->claim->record.publish;
    const struct allow *outside = &planned->access.outside;
    int r = 0;

    for (size_t i = 0; i < g->n_vifs && publish->n > 0 && r == 0; i++) {
        struct object o = {.kind = OBJECT_HAIRPIN};

        memcpy(o.vif, g->vifs[i]->name, sizeof(o.vif));
        r = plan_wish_object(p, planned, &o);
    }
    for (size_t i = 0; i < outside->n && r == 0; i++)
        r = wish_dnat(p, planned, &outside->entries[i]);
    return r;
}

static int wish_uplink(struct plan *p, struct planned *planned, const struct ground *g,
                       const struct model_link *uplink)
{
    struct object o = {.kind = OBJECT_OWN, .uplink_index = uplink->index};
    int r = 0;

    (void)snprintf(o.uplink, sizeof(o.uplink), "%s", uplink->name);
    for (size_t i = 0; i < g->n_vifs && r == 0; i++) {
        (void)memset(o.vif, 0, sizeof(o.vif));
        (void)snprintf(o.vif, sizeof(o.vif), "%s", g->vifs[i]->name);
        r = plan_wish_object(p, planned, &o);
    }
    if (r == 0 && planned->claim->record.edge) {
        o = (struct object){.kind = OBJECT_PROXY, .uplink_index = uplink->index};
        r = plan_wish_object(p, planned, &o);
    }
    return r;
}

static int wish_uplinks(const struct model *m, struct plan *p, struct planned *planned,
                        const struct ground *g)
{
    uint32_t uplinks[MAX_UPLINKS];
    bool held;
    size_t n = plan_uplinks(m, &planned->slot->addr, uplinks, MAX_UPLINKS, &held);
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++)
        r = wish_uplink(p, planned, g, model_link_by_index(m, uplinks[i]));
    if (!planned->claim->record.edge)
        return r;
    if (r == 0 && n == 0)
        (void)plan_say(planned, VERDICT_OPEN, "no uplink is there: reachable by other qubes only");
    else if (r == 0 && !held)
        (void)plan_say(planned, VERDICT_OPEN,
                       "no uplink's subnet or route holds this address: answered for on every "
                       "uplink; other hosts need a route to it, and the qube's own connections "
                       "may get no answers");
    return r;
}

int plan_wish(const struct model *m, struct plan *p, struct planned *planned,
              const struct ground *g)
{
    const struct record *record = &planned->claim->record;
    int r = 0;

    for (size_t i = 0; i < g->n_vifs && r == 0; i++) {
        size_t before = planned->n_objects;

        r = wish_access(p, planned, g->vifs[i]);
        if (r == 0 && planned->n_objects > before) /* somebody gets in */
            r = wish_watch(p, planned, g->vifs[i]);
    }
    if (r == 0)
        r = plan_wish_way(p, planned, g);
    if (r == 0 && record->forward)
        r = wish_uplinks(m, p, planned, g);
    return r == 0 && record->edge ? wish_ports(p, planned, g) : r;
}
