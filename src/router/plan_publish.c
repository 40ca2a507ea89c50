/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Published ports: a port of this net qube leads to one qube or to none, and never away from the net
 * qube's own programs. The index is made once for a plan, so that many publishers cost no more than
 * their ports.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "router/plan_steps.h"

#define PORTS 65536

struct owners { /* of one port */
    const struct slot *first, *second;
};

struct port_index {
    struct owners *owners[FAMILIES][2]; /* by family and protocol; owned, NULL: nobody */
};

struct port_index *plan_free_ports(struct port_index *index)
{
    for (unsigned f = 0; index != NULL && f < FAMILIES; f++) {
        free(index->owners[f][0]);
        free(index->owners[f][1]);
    }
    free(index);
    return NULL;
}

struct collect {
    const struct model *m;
    struct port_index *index;
    int error;
};

static int add_entry(struct port_index *index, const struct slot *slot,
                     const struct publish_entry *e)
{
    struct owners **owners =
        &index->owners[model_family(&slot->addr)][e->proto == ALLOW_PROTO_UDP];

    if (*owners == NULL)
        *owners = calloc(PORTS, sizeof(**owners));
    if (*owners == NULL)
        return -ENOMEM;
    for (unsigned port = e->outside_lo; port <= e->outside_hi; port++) {
        struct owners *o = &(*owners)[port];

        if (o->first == NULL)
            o->first = slot;
        else if (o->first != slot && o->second == NULL)
            o->second = slot;
    }
    return 0;
}

/* A record that is refused for its size anyway wants nothing: it could want everything. */
static bool fits(const struct publish *publish)
{
    unsigned n = 0;

    for (size_t i = 0; i < publish->n; i++)
        n += publish->entries[i].outside_hi - publish->entries[i].outside_lo + 1u;
    return n <= ROUTER_MAX_OBJECTS;
}

static void collect_slot(struct slot *slot, void *user)
{
    struct collect *c = user;
    struct planned p = {.slot = slot};
    const struct record *record;

    if (slot->claims == NULL || plan_choose_claim(c->m, slot, &p) != VERDICT_OPEN || !p.claim->valid)
        return;
    record = &p.claim->record;
    if (!record->edge || record->pending || !fits(&record->publish) ||
        (record->expires != 0 && record->expires <= c->m->now))
        return;
    for (size_t i = 0; i < record->publish.n && c->error == 0; i++)
        c->error = add_entry(c->index, slot, &record->publish.entries[i]);
}

int plan_index_ports(const struct model *m, struct port_index **ret)
{
    struct collect c = {.m = m, .index = calloc(1, sizeof(*c.index))};

    if (c.index == NULL)
        return -ENOMEM;
    model_each(m, collect_slot, &c);
    if (c.error < 0) {
        (void)plan_free_ports(c.index);
        return c.error;
    }
    *ret = c.index;
    return 0;
}

static const char *entry_proto(const struct publish_entry *e)
{
    return e->proto == ALLOW_PROTO_TCP ? "tcp" : "udp";
}

static enum verdict judge_rivals(const struct port_index *index, const struct slot *slot,
                                 const struct publish_entry *e, struct planned *p)
{
    const struct owners *owners =
        index->owners[model_family(&slot->addr)][e->proto == ALLOW_PROTO_UDP];
    char other[ADDR_STR_MAX];

    for (unsigned port = e->outside_lo; owners != NULL && port <= e->outside_hi; port++) {
        const struct owners *o = &owners[port];

        if (o->second != NULL)
            return plan_say(p, VERDICT_DUPLICATE,
                            "port %s/%u is to be published for %s too, so neither gets it: change "
                            "one of the two",
                            entry_proto(e), port,
                            addr_format(o->first != slot ? &o->first->addr : &o->second->addr,
                                        other));
    }
    return VERDICT_OPEN;
}

static enum verdict judge_listeners(const struct model *m, const struct publish_entry *e,
                                    struct planned *p)
{
    uint8_t proto = e->proto == ALLOW_PROTO_TCP ? IPPROTO_TCP : IPPROTO_UDP;

    for (size_t i = 0; i < m->n_listeners; i++) {
        if (m->listeners[i].proto == proto && m->listeners[i].port >= e->outside_lo &&
            m->listeners[i].port <= e->outside_hi)
            return plan_say(p, VERDICT_UNUSABLE,
                            "port %s/%u is used by this net qube itself: publish another one",
                            entry_proto(e), m->listeners[i].port);
    }
    return VERDICT_OPEN;
}

enum verdict plan_judge_publish(const struct model *m, const struct port_index *index,
                                const struct slot *slot, struct planned *p)
{
    const struct record *record = &p->claim->record;
    enum verdict v = VERDICT_OPEN;

    if (!record->edge || record->publish.n == 0)
        return VERDICT_OPEN;
    if (!fits(&record->publish))
        return plan_say(p, VERDICT_REFUSED, "%s: more than %d published ports", p->claim->path,
                        ROUTER_MAX_OBJECTS);
    for (size_t i = 0; i < record->publish.n && v == VERDICT_OPEN; i++) {
        v = index != NULL ? judge_rivals(index, slot, &record->publish.entries[i], p) : v;
        if (v == VERDICT_OPEN)
            v = judge_listeners(m, &record->publish.entries[i], p);
    }
    return v;
}
