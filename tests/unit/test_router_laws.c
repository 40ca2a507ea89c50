/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_router_laws.h"

#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"
#include "exposure/allow.h"

#define STEPS 6

static const struct object *objects_of(const struct plan *p, const struct planned *planned)
{
    return p->objects + planned->objects;
}

/* ---- what is wished, by itself ---- */

static bool is_open(const struct planned *planned)
{
    return planned->verdict == VERDICT_OPEN || planned->verdict == VERDICT_ADOPTED;
}

/* Nothing is wished unless the verdict says so, and each object once and in order. */
static void law_closed_is_nothing(const struct plan *p, const struct planned *planned)
{
    const struct object *o = objects_of(p, planned);

    REQUIRE(is_open(planned) || planned->n_objects == 0);
    REQUIRE(planned->n_objects <= ROUTER_MAX_OBJECTS);
    for (size_t i = 1; i < planned->n_objects; i++)
        REQUIRE(object_compare(&o[i - 1], &o[i]) < 0);
    REQUIRE(memchr(planned->reason, '\0', sizeof(planned->reason)) != NULL);
    REQUIRE(planned->verdict == VERDICT_NONE || planned->verdict == VERDICT_OPEN ||
            planned->reason[0] != '\0');
}

static size_t count_valid(const struct slot *slot, enum claim_source source)
{
    size_t n = 0;

    for (const struct claim *c = slot->claims; c != NULL; c = c->next)
        n += c->source == source;
    return n;
}

/* An open address has one claim that says so, now, and nothing speaks against it. */
static void law_open_is_wished(const struct model *m, const struct planned *planned)
{
    const struct slot *slot = planned->slot;
    const struct claim *c = planned->claim;
    size_t records = count_valid(slot, CLAIM_RECORD), others;

    REQUIRE(!m->stopping && !m->vpn_here && !m->sealed && m->platform[model_family(&slot->addr)]);
    REQUIRE(!slot->conflict.present);
    if (planned->verdict == VERDICT_ADOPTED) {
        REQUIRE(m->adopting && slot->claims == NULL);
        return;
    }
    REQUIRE(c != NULL && c->valid && !c->off && !c->record.pending);
    REQUIRE(c->record.expires == 0 || c->record.expires > m->now);
    REQUIRE(count_valid(slot, c->source) == 1);
    others = count_valid(slot, CLAIM_VM_CONFIG) + count_valid(slot, CLAIM_METHOD);
    REQUIRE(c->source == CLAIM_RECORD || (!m->marker && records == 0));
    REQUIRE(c->source != CLAIM_METHOD || others == 1);
    for (size_t i = 0; i < m->n_subnets; i++)
        REQUIRE(!addr_equal(&m->subnets[i].prefix.addr, &slot->addr));
}

/* The address whose route tells the vif: its own, or that of the net qube it is behind. */
static const struct addr *carrier_of(const struct planned *planned)
{
    const struct slot *slot = planned->slot;

    if (planned->verdict == VERDICT_OPEN)
        return planned->claim->record.via.family != 0 ? &planned->claim->record.via : &slot->addr;
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (slot->actual[i].kind == OBJECT_ROUTE)
            return &slot->actual[i].src_lo;
    }
    return &slot->addr;
}

static bool carries(const struct model *m, const struct addr *addr, const char *vif)
{
    const struct model_link *l = model_link_by_name(m, vif);
    const struct model_route *routes;
    size_t n;

    if (l == NULL || !l->vif)
        return false;
    routes = model_host_routes(m, addr, &n);
    for (size_t i = 0; i < n; i++) {
        if (routes[i].oif == l->index)
            return true;
    }
    return false;
}

/* Access leads to a vif that carries the address, and of the record's qube. */
static void law_access_by_its_vif(const struct model *m, const struct plan *p,
                                  const struct planned *planned)
{
    const struct object *o = objects_of(p, planned);

    for (size_t i = 0; i < planned->n_objects; i++) {
        const struct record *r = planned->claim != NULL ? &planned->claim->record : NULL;
        const struct model_link *l;

        if (!object_has_vif(o[i].kind))
            continue;
        REQUIRE(carries(m, carrier_of(planned), o[i].vif) ||
                carries(m, &planned->slot->addr, o[i].vif));
        if (planned->verdict == VERDICT_OPEN)
            REQUIRE(carries(m, carrier_of(planned), o[i].vif));
        l = model_link_by_name(m, o[i].vif);
        if (planned->verdict == VERDICT_OPEN && r->xid[0] != 0)
            REQUIRE(l->domid == r->xid[0] || l->domid == r->xid[1]);
    }
}

static size_t count_of(const struct plan *p, const struct planned *planned, enum object_kind kind)
{
    const struct object *o = objects_of(p, planned);
    size_t n = 0;

    for (size_t i = 0; i < planned->n_objects; i++)
        n += o[i].kind == kind;
    return n;
}

/*
 * Behind another net qube is only what its record says, while nothing of the address's own is here,
 * and by the very vif that leads to that net qube, which is the record's.
 */
static void law_way(const struct model *m, const struct plan *p, const struct planned *planned)
{
    const struct object *o = objects_of(p, planned);
    const struct record *r = planned->claim != NULL ? &planned->claim->record : NULL;
    const struct model_route *to;
    const struct model_link *l;
    size_t n, own, routes = count_of(p, planned, OBJECT_ROUTE);

    REQUIRE(count_of(p, planned, OBJECT_DOWNSTREAM) <= 1);
    REQUIRE(count_of(p, planned, OBJECT_LENT) == count_of(p, planned, OBJECT_ALLOWED) ||
            planned->verdict == VERDICT_ADOPTED);
    if (planned->verdict != VERDICT_OPEN)
        return;
    REQUIRE((r->via.family != 0) == (routes == 1) && routes <= 1);
    REQUIRE(routes == count_of(p, planned, OBJECT_DOWNSTREAM));
    REQUIRE((routes == 1) == (count_of(p, planned, OBJECT_LENT) > 0));
    if (routes == 0)
        return;
    (void)model_host_routes(m, &planned->slot->addr, &own);
    to = model_host_routes(m, &r->via, &n);
    REQUIRE(own == 0 && n > 0);
    l = model_link_by_index(m, to[0].oif);
    REQUIRE(l != NULL && l->vif && (l->domid == r->xid[0] || l->domid == r->xid[1]));
    for (size_t i = 0; i < planned->n_objects; i++) {
        if (o[i].kind == OBJECT_ROUTE)
            REQUIRE(o[i].uplink_index == l->index && addr_equal(&o[i].src_lo, &r->via));
    }
}

static size_t count_kinds(const struct plan *p, const struct planned *planned, bool access,
                          enum object_kind or_kind)
{
    const struct object *o = objects_of(p, planned);
    size_t n = 0;

    for (size_t i = 0; i < planned->n_objects; i++)
        n += (access && OBJECT_IS_ACCESS(o[i].kind)) || o[i].kind == or_kind;
    return n;
}

/*
 * Answered for on uplinks only, where the record faces the LAN with its own address; and not
 * without letting somebody in or the qube out under it.
 */
static void law_proxies(const struct model *m, const struct plan *p, const struct planned *planned)
{
    const struct object *o = objects_of(p, planned);

    for (size_t i = 0; i < planned->n_objects; i++) {
        const struct model_link *l;

        if (o[i].kind != OBJECT_PROXY)
            continue;
        l = model_link_by_index(m, o[i].uplink_index);
        REQUIRE(count_kinds(p, planned, true, OBJECT_OWN) > 0);
        if (planned->verdict == VERDICT_ADOPTED) /* test_router_plan.c, known */
            continue;
        REQUIRE(l != NULL && l->uplink && !l->vif);
        REQUIRE(planned->claim->record.edge && planned->claim->record.forward);
    }
}

/* Adopted: nothing that was not there. */
static void law_adopted_adds_nothing(const struct plan *p, const struct planned *planned)
{
    for (size_t i = 0; i < p->n_ops; i++)
        REQUIRE(planned->verdict != VERDICT_ADOPTED || p->ops[i].kind != OP_ADD ||
                !addr_equal(&p->ops[i].addr, &planned->slot->addr));
}

static bool within(const struct addr *a, const struct addr *lo, const struct addr *hi)
{
    return addr_compare(a, lo) >= 0 && addr_compare(a, hi) <= 0;
}

/* What the rules of data/nft/network-server.nft.in do with a connection to the address itself. */
static bool rules_accept(const struct object *o, size_t n, const char *vif, uint8_t proto,
                         uint16_t port, const struct addr *from)
{
    bool some = false, hit = false;

    for (size_t i = 0; i < n; i++) {
        bool same_proto = o[i].proto == proto;
        bool port_fits = port >= o[i].port_lo && port <= o[i].port_hi;

        if (strcmp(o[i].vif, vif) != 0)
            continue;
        if (o[i].kind == OBJECT_ANY)
            return true;
        some = some || o[i].kind == OBJECT_SOME;
        hit = hit || (o[i].kind == OBJECT_PROTO && same_proto) ||
              (o[i].kind == OBJECT_PORT && same_proto && port == o[i].port_lo) ||
              (o[i].kind == OBJECT_FROM && within(from, &o[i].src_lo, &o[i].src_hi)) ||
              (o[i].kind == OBJECT_RULE && same_proto && port_fits &&
               within(from, &o[i].src_lo, &o[i].src_hi));
    }
    return some && hit;
}

/* What gets in at the address itself is what allow= says, and at inner hops publish= inside. */
static bool record_accepts(const struct record *r, uint8_t proto, uint16_t port,
                           const struct addr *from)
{
    if (r->forward && (!r->has_allow || allow_accepts(&r->allow, from->family, proto, port, from)))
        return true;
    for (size_t i = 0; i < r->publish.n && !r->edge; i++) {
        const struct publish_entry *e = &r->publish.entries[i];

        if (publish_leads(&r->publish, proto, (uint16_t)(port - e->inside_lo + e->outside_lo), port,
                          from))
            return true;
    }
    return false;
}

/* The claim's text once more: the model keeps its records without the entries of allow. */
static struct record whole_record(const struct claim *c)
{
    enum record_form form = c->source == CLAIM_RECORD ? RECORD_FORM_DOM0 : RECORD_FORM_VM_CONFIG;
    struct record record = c->record;
    char why[RECORD_WHY_MAX];

    if (c->source == CLAIM_METHOD)
        return (struct record){.edge = true, .forward = true};
    REQUIRE(record_parse((struct str){c->value, c->value_len}, form, &record, why) == 0);
    return record;
}

static void law_rules_are_the_record(const struct plan *p, const struct planned *planned)
{
    _cleanup_(record_done) struct record record = whole_record(planned->claim);
    static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, 132};
    static const uint16_t ports[] = {1, 22, 53, 79, 80, 81, 83, 443, 1024, 1025, 8080, 8083, 65535};
    static const char *const sources[] = {"10.1.2.3", "192.168.1.7", "192.168.2.1", "8.8.8.8",
                                          "fd00::1", "fd01::1", "2001:db8::1"};

    for (size_t i = 0; i < ARRAY_SIZE(protos) * ARRAY_SIZE(ports) * ARRAY_SIZE(sources); i++) {
        uint8_t proto = protos[i % ARRAY_SIZE(protos)];
        bool has_ports = proto == IPPROTO_TCP || proto == IPPROTO_UDP;
        uint16_t port = ports[i / ARRAY_SIZE(protos) % ARRAY_SIZE(ports)];
        const struct object *o = objects_of(p, planned);
        struct addr from;

        REQUIRE(addr_parse(str_from(sources[i / ARRAY_SIZE(protos) / ARRAY_SIZE(ports)]), &from) ==
                0);
        if (from.family != planned->slot->addr.family)
            continue;
        for (size_t k = 0; k < planned->n_objects; k++) {
            if (OBJECT_IS_ACCESS(o[k].kind) || o[k].kind == OBJECT_OWN)
                REQUIRE(rules_accept(o, planned->n_objects, o[k].vif, proto,
                                     has_ports ? port : 0, &from) ==
                        record_accepts(&record, proto, has_ports ? port : 0, &from));
        }
    }
}

static bool leads(const struct object *o, uint8_t proto, uint16_t port, const struct addr *from)
{
    return o->proto == proto && o->port_lo == port &&
           (o->kind == OBJECT_DNAT || within(from, &o->src_lo, &o->src_hi));
}

/* A port outside leads to exactly those ports inside, for exactly the sources, that publish= says. */
static void law_ports_lead_whom_they_name(const struct plan *p, const struct planned *planned)
{
    const struct record *record = &planned->claim->record;
    static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP};
    static const uint16_t ports[] = {53, 80, 8079, 8080, 8081, 8082, 8083, 8084, 8085};
    static const char *const sources[] = {"10.1.2.3", "10.2.0.1", "192.168.1.7", "8.8.8.8",
                                          "fd00::1", "2001:db8::1"};

    for (size_t i = 0; i < ARRAY_SIZE(protos) * ARRAY_SIZE(ports) * ARRAY_SIZE(sources); i++) {
        uint8_t proto = protos[i % ARRAY_SIZE(protos)];
        uint16_t port = ports[i / ARRAY_SIZE(protos) % ARRAY_SIZE(ports)];
        const struct object *o = objects_of(p, planned);
        struct addr from;
        bool may = false;
        size_t n = 0;

        REQUIRE(addr_parse(str_from(sources[i / ARRAY_SIZE(protos) / ARRAY_SIZE(ports)]), &from) ==
                0);
        if (from.family != planned->slot->addr.family)
            continue;
        for (size_t k = 0; k < record->publish.n && record->edge; k++) {
            const struct publish_entry *e = &record->publish.entries[k];

            may = may || publish_leads(&record->publish, proto, port,
                                       (uint16_t)(e->inside_lo + (port - e->outside_lo)), &from);
        }
        for (size_t k = 0; k < planned->n_objects; k++) {
            if (!OBJECT_IS_DNAT(o[k].kind) || !leads(&o[k], proto, port, &from))
                continue;
            n++; /* two would be ambiguous, and the kernel refuses them */
            REQUIRE(publish_leads(&record->publish, proto, port, o[k].port_hi, &from));
        }
        REQUIRE(n == may);
    }
}

static bool same_door(const struct object *a, const struct object *b)
{
    return a->proto == b->proto && a->port_lo == b->port_lo &&
           (a->kind == OBJECT_DNAT || b->kind == OBJECT_DNAT ||
            (addr_compare(&a->src_lo, &b->src_hi) <= 0 && addr_compare(&b->src_lo, &a->src_hi) <= 0));
}

/* A port of the net qube leads to one address and port, by a record at the edge that says so. */
static void law_ports_lead_once(const struct model *m, const struct plan *p)
{
    for (size_t i = 0; i < p->n_planned; i++) {
        const struct planned *a = &p->planned[i];
        const struct object *o = objects_of(p, a);

        for (size_t k = 0; k < a->n_objects && a->verdict == VERDICT_OPEN; k++) {
            if (!OBJECT_IS_DNAT(o[k].kind))
                continue;
            REQUIRE(a->claim->record.edge && a->claim->record.publish.n > 0);
            for (size_t n = 0; n < m->n_listeners; n++)
                REQUIRE(m->listeners[n].proto != o[k].proto ||
                        m->listeners[n].port != o[k].port_lo);
            for (size_t n = 0; n < p->n_planned; n++) {
                const struct planned *b = &p->planned[n];
                const struct object *q = objects_of(p, b);

                for (size_t j = 0; j < b->n_objects && b->verdict == VERDICT_OPEN; j++)
                    REQUIRE(!OBJECT_IS_DNAT(q[j].kind) || &q[j] == &o[k] ||
                            a->slot->addr.family != b->slot->addr.family ||
                            !same_door(&q[j], &o[k]));
            }
        }
    }
}

/* ---- the difference ---- */

static bool has_object(const struct object *objects, size_t n, const struct object *o)
{
    for (size_t i = 0; i < n; i++) {
        if (object_compare(&objects[i], o) == 0)
            return true;
    }
    return false;
}

static bool has_forget(const struct plan *p, const struct addr *addr)
{
    for (size_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_FORGET && addr_equal(&p->ops[i].addr, addr))
            return true;
    }
    return false;
}

/* Flows end when access shrank, unless the record said keep and it is the wish that shrank. */
static void law_forgets(const struct plan *p, const struct planned *planned)
{
    const struct slot *slot = planned->slot;
    bool shrank = false, may_keep = planned->verdict == VERDICT_NONE ||
                                    planned->verdict == VERDICT_EXPIRED ||
                                    planned->verdict == VERDICT_OPEN;
    bool keep = planned->verdict == VERDICT_OPEN ? planned->claim->record.keep : slot->keep;

    for (size_t i = 0; i < slot->n_actual; i++)
        shrank = shrank || (OBJECT_IS_ACCESS(slot->actual[i].kind) &&
                            !has_object(objects_of(p, planned), planned->n_objects,
                                        &slot->actual[i]));
    may_keep = may_keep && !planned->way_changed;
    if (shrank && !(keep && may_keep))
        REQUIRE(has_forget(p, &slot->addr) && planned->forget_in);
    if (keep && may_keep)
        REQUIRE(!has_forget(p, &slot->addr));
}

/* The operations, done one by one, make what is there into what is wished, and none is in vain. */
static void apply_objects(struct world *w, const struct plan *p)
{
    for (size_t i = 0; i < p->n_ops; i++) {
        const struct op *op = &p->ops[i];
        struct slot *slot = model_find(w->m, &op->addr);
        size_t kept = 0;

        if (op->kind == OP_ADD) {
            REQUIRE(slot != NULL && !has_object(slot->actual, slot->n_actual, &op->object));
            REQUIRE(model_add_actual(w->m, &op->addr, &op->object) == 0);
        } else if (op->kind == OP_REMOVE) {
            REQUIRE(slot != NULL && has_object(slot->actual, slot->n_actual, &op->object));
            for (size_t k = 0; k < slot->n_actual; k++) {
                if (object_compare(&slot->actual[k], &op->object) != 0)
                    slot->actual[kept++] = slot->actual[k];
            }
            slot->n_actual = kept;
        }
    }
    for (size_t i = 0; i < p->n_planned; i++) {
        const struct planned *planned = &p->planned[i];
        const struct object *wished = objects_of(p, planned);

        REQUIRE(planned->slot->n_actual == planned->n_objects);
        for (size_t k = 0; k < planned->n_objects; k++)
            REQUIRE(object_compare(&planned->slot->actual[k], &wished[k]) == 0);
    }
}

static void unsave(struct sysctl_list *list, const struct sysctl_value *v)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->values[i].id == v->id && strcmp(list->values[i].scope, v->scope) == 0) {
            list->values[i] = list->values[--list->n];
            return;
        }
    }
    REQUIRE(v == NULL); /* what is not stored is not to be forgotten */
}

/* Saved before it is written; a value that is saved is never saved over. */
static void apply_switches(struct world *w, const struct plan *p)
{
    uint32_t v;

    for (size_t i = 0; i < p->n_ops; i++) {
        const struct op *op = &p->ops[i];

        if (op->kind == OP_SAVE_SYSCTL) {
            REQUIRE(!model_sysctl_get(&w->m->put_back, op->sysctl.scope, op->sysctl.id, &v));
            REQUIRE(model_sysctl_set(&w->m->put_back, &op->sysctl) == 0);
        } else if (op->kind == OP_UNSAVE_SYSCTL) {
            unsave(&w->m->put_back, &op->sysctl);
        }
    }
    for (size_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_WRITE_SYSCTL)
            world_write_switch(w, &p->ops[i].sysctl);
    }
}

/* ---- one look ---- */

static void clear_dirty(struct slot *list)
{
    while (list != NULL) {
        struct slot *next = list->next_dirty;

        list->dirty = false;
        list->next_dirty = NULL;
        list = next;
    }
}

static void make_plan(struct world *w, bool switches, struct plan *p)
{
    struct slot *list;

    model_touch_all(w->m);
    list = model_take_dirty(w->m);
    if (switches)
        world_read_switches(w);
    REQUIRE(plan_slots(w->m, list, p) == 0);
    if (switches)
        REQUIRE(plan_sysctls(w->m, p) == 0);
    clear_dirty(list);
    REQUIRE(p->n_planned == w->m->n_slots);
}

static void note(const struct model *m, struct plan *p)
{
    for (size_t i = 0; i < p->n_planned; i++) {
        struct planned *planned = &p->planned[i];

        plan_note_flows(m, planned);
        planned->slot->verdict = planned->verdict;
        if (planned->verdict == VERDICT_OPEN)
            planned->slot->keep = planned->claim->record.keep;
    }
}

void laws_check(struct world *w, bool switches)
{
    _cleanup_(plan_done) struct plan plan = {0}, again = {0};

    make_plan(w, switches, &plan);
    for (size_t i = 0; i < plan.n_planned; i++) {
        const struct planned *planned = &plan.planned[i];

        law_closed_is_nothing(&plan, planned);
        law_access_by_its_vif(w->m, &plan, planned);
        law_way(w->m, &plan, planned);
        law_proxies(w->m, &plan, planned);
        law_adopted_adds_nothing(&plan, planned);
        law_forgets(&plan, planned);
        if (is_open(planned))
            law_open_is_wished(w->m, planned);
        if (planned->verdict == VERDICT_OPEN) {
            law_rules_are_the_record(&plan, planned);
            law_ports_lead_whom_they_name(&plan, planned);
        }
    }
    law_ports_lead_once(w->m, &plan);
    apply_objects(w, &plan);
    apply_switches(w, &plan);
    note(w->m, &plan);
    make_plan(w, switches, &again);
    REQUIRE(again.n_ops == 0);
    REQUIRE(!switches || !w->ra_lost);
}

void laws_run(const uint8_t *bytes, size_t len)
{
    struct world *w = world_new(bytes, len);
    uint32_t forwarding = w->all_forwarding;

    for (int i = 0; i < STEPS && w->left > 0; i++) {
        world_step(w);
        laws_check(w, true);
    }
    w->m->stopping = true;
    w->m->adopting = false;
    laws_check(w, true);
    /* every switch is as before, unless its link is away or the platform wants forwarding */
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        if (w->links[i].present && world_links[i].candidate && !w->m->wants_ip6)
            REQUIRE(memcmp(w->before[i].of, w->links[i].of, sizeof(w->before[i].of)) == 0);
    }
    REQUIRE(w->m->wants_ip6 || w->all_forwarding == forwarding);
    w = world_free(w);
}
