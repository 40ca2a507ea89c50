/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plan of one address goes through three questions, each in a function of its own: which claim
 * counts (choose_claim), may it be open (judge), and what does the kernel need for it (wish).
 * Every way out that is not VERDICT_OPEN wishes nothing: closed is what is left when nobody said
 * otherwise.
 */
#include "router/plan.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "reconcile/reconcile.h"
#include "router/plan_steps.h"

void plan_done(struct plan *p)
{
    for (size_t i = 0; i < p->n_planned; i++)
        access_done(&p->planned[i].access);
    p->ports = plan_free_ports(p->ports);
    free(p->planned);
    free(p->objects);
    free(p->ops);
    *p = (struct plan){0};
}

/* Makes room for one more of size bytes in a growing array. */
static int reserve(void *array, size_t n, size_t *capacity, size_t size)
{
    void **at = array, *grown;
    size_t want = *capacity > 0 ? *capacity * 2 : 16;

    if (n < *capacity)
        return 0;
    grown = reallocarray(*at, want, size);
    if (grown == NULL)
        return -ENOMEM;
    *at = grown;
    *capacity = want;
    return 0;
}

int plan_add_op(struct plan *p, const struct op *op)
{
    int r = reserve(&p->ops, p->n_ops, &p->ops_capacity, sizeof(*op));

    if (r == 0)
        p->ops[p->n_ops++] = *op;
    return r;
}

int plan_wish_object(struct plan *p, struct planned *planned, const struct object *o)
{
    int r;

    if (planned->n_objects >= ROUTER_MAX_OBJECTS)
        return -E2BIG;
    r = reserve(&p->objects, p->n_objects, &p->objects_capacity, sizeof(*o));
    if (r < 0)
        return r;
    p->objects[p->n_objects++] = *o;
    planned->n_objects++;
    return 0;
}

enum verdict plan_say(struct planned *p, enum verdict verdict, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(p->reason, sizeof(p->reason), format, args);
    va_end(args);
    return verdict;
}

const char *plan_verdict_name(enum verdict v)
{
    static const char *const names[] = {
        [VERDICT_NONE] = "none",
        [VERDICT_OPEN] = "open",
        [VERDICT_ADOPTED] = "adopted",
        [VERDICT_REFUSED] = "refused",
        [VERDICT_DUPLICATE] = "duplicate",
        [VERDICT_SUPERSEDED] = "superseded",
        [VERDICT_UNUSABLE] = "unusable",
        [VERDICT_EXPIRED] = "expired",
        [VERDICT_PENDING] = "pending",
        [VERDICT_NO_VIF] = "no-vif",
        [VERDICT_MISMATCH] = "mismatch",
        [VERDICT_CONFLICT] = "conflict",
        [VERDICT_PLATFORM] = "platform",
        [VERDICT_VPN_HERE] = "vpn-here",
        [VERDICT_UNREADABLE] = "unreadable",
        [VERDICT_FAILED] = "failed",
    };

    return (size_t)v < ARRAY_SIZE(names) ? names[v] : "?";
}

/* ---- which claim counts ---- */

struct count {
    const struct claim *first, *second;
};

static struct count count_claims(const struct slot *slot, enum claim_source source)
{
    struct count c = {0};

    for (const struct claim *at = slot->claims; at != NULL; at = at->next) {
        if (at->source != source)
            continue;
        if (c.first == NULL)
            c.first = at;
        else
            c.second = at;
    }
    return c;
}

static enum verdict say_duplicate(struct planned *p, const struct claim *a, const struct claim *b)
{
    return plan_say(p, VERDICT_DUPLICATE,
               "%s and %s both claim this address, so nobody gets it: remove one of the keys",
               a->path, b->path);
}

/* VERDICT_OPEN: planned->claim decides. */
enum verdict plan_choose_claim(const struct model *m, const struct slot *slot, struct planned *p)
{
    struct count record = count_claims(slot, CLAIM_RECORD);
    struct count config = count_claims(slot, CLAIM_VM_CONFIG);
    struct count method = count_claims(slot, CLAIM_METHOD);

    if (slot->crowded != 0)
        return plan_say(p, VERDICT_DUPLICATE,
                        "more than %d keys claim this address, so nobody gets it: remove them",
                        ROUTER_MAX_SPELLINGS);
    if (record.second != NULL)
        return say_duplicate(p, record.first, record.second);
    if (record.first != NULL && config.first != NULL && !m->marker)
        return say_duplicate(p, record.first, config.first);
    p->claim = record.first;
    if (p->claim != NULL)
        return VERDICT_OPEN;
    if (m->marker && (config.first != NULL || method.first != NULL))
        return plan_say(p, VERDICT_SUPERSEDED,
                   "%s is not looked at: dom0's daemon is in charge here (key /network-server) and "
                   "wrote no record for this address",
                   config.first != NULL ? config.first->path : method.first->path);
    if (config.second != NULL)
        return say_duplicate(p, config.first, config.second);
    p->claim = config.first;
    if (p->claim != NULL)
        return VERDICT_OPEN;
    if (method.second != NULL)
        return say_duplicate(p, method.first, method.second);
    p->claim = method.first;
    return p->claim != NULL && !p->claim->off ? VERDICT_OPEN : VERDICT_NONE;
}

/* ---- may it be open ---- */

static bool is_network_edge(const struct prefix *subnet, const struct addr *addr)
{
    struct addr first, last;

    if (addr->family != AF_INET || subnet->addr.family != AF_INET || subnet->len >= 31)
        return false;
    prefix_range(subnet, &first, &last);
    return addr_equal(addr, &first) || addr_equal(addr, &last);
}

/* An address that this machine, its gateway or the network itself has cannot be a qube's. */
static enum verdict judge_address(const struct model *m, const struct slot *slot, struct planned *p)
{
    for (size_t i = 0; i < m->n_subnets; i++) {
        if (addr_equal(&m->subnets[i].prefix.addr, &slot->addr))
            return plan_say(p, VERDICT_UNUSABLE, "this net qube has the address itself: give the qube "
                                            "another one");
        if (is_network_edge(&m->subnets[i].prefix, &slot->addr))
            return plan_say(p, VERDICT_UNUSABLE, "it is the network or broadcast address of a subnet "
                                            "here: give the qube another one");
    }
    for (size_t i = 0; i < m->n_wide; i++) {
        if (addr_equal(&m->wide[i].gateway, &slot->addr))
            return plan_say(p, VERDICT_UNUSABLE, "it is the address of a gateway: give the qube another "
                                            "one");
    }
    return VERDICT_OPEN;
}

static enum verdict judge_record(const struct model *m, struct planned *p)
{
    const struct claim *c = p->claim;

    if (!c->valid)
        return plan_say(p, VERDICT_REFUSED, "%s: %s; the whole key is refused", c->path,
                   c->why != NULL ? c->why : "not understood");
    if (c->record.pending)
        return plan_say(p, VERDICT_PENDING, "the qube is starting");
    if (c->record.expires != 0 && c->record.expires <= m->now)
        return plan_say(p, VERDICT_EXPIRED, "the time this was opened for is over");
    return VERDICT_OPEN;
}

static enum verdict judge_surroundings(const struct model *m, const struct slot *slot,
                                       struct planned *p)
{
    enum family_index family = model_family(&slot->addr);

    if (m->vpn_here || m->sealed)
        return plan_say(p, VERDICT_VPN_HERE, "this qube is a VPN qube: nothing is exposed through it");
    if (!m->platform[family])
        return plan_say(p, VERDICT_PLATFORM, "%s: nothing is exposed until it is there",
                   m->missing[family] != NULL ? m->missing[family]
                                              : "the platform's rules were not read yet");
    if (slot->conflict.present) {
        const uint8_t *mac = slot->conflict.mac;
        const struct model_link *link = model_link_by_index(m, slot->conflict.uplink_index);

        return plan_say(p, VERDICT_CONFLICT,
                   "%02x:%02x:%02x:%02x:%02x:%02x on %s has this address: withdrawn, tried again "
                   "later; give the qube or that host another address",
                   mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
                   link != NULL ? link->name : "an uplink that is gone");
    }
    return VERDICT_OPEN;
}

static enum verdict judge(const struct model *m, const struct plan *plan, const struct slot *slot,
                          struct planned *p, struct ground *g)
{
    enum verdict v = plan_choose_claim(m, slot, p);

    if (m->stopping)
        return VERDICT_NONE;
    if (v == VERDICT_OPEN)
        v = judge_record(m, p);
    if (v == VERDICT_OPEN)
        v = judge_address(m, slot, p);
    if (v == VERDICT_OPEN)
        v = judge_surroundings(m, slot, p);
    if (v == VERDICT_OPEN)
        v = plan_judge_publish(m, plan->ports, slot, p);
    if (v == VERDICT_OPEN)
        v = plan_judge_way(m, slot, p, g);
    if (v == VERDICT_OPEN && !m->readable && slot->n_actual == 0 && slot->verdict != VERDICT_OPEN)
        v = plan_say(p, VERDICT_UNREADABLE, "QubesDB cannot be read: nothing new opens until it can");
    return v;
}

/* ---- the difference ---- */

/*
 * What is there is left alone, as far as it still leaves by a vif that carries the address; and
 * answered for only while somebody gets in.
 */
static int wish_as_found(const struct model *m, struct plan *p, struct planned *planned)
{
    const struct slot *slot = planned->slot;
    bool access = false;
    int r = 0;

    for (size_t i = 0; i < slot->n_actual && r == 0; i++) { /* sorted: access first, proxies last */
        const struct object *o = &slot->actual[i];

        if (!plan_stays_as_found(m, slot, o, access))
            continue;
        access = access || OBJECT_IS_ACCESS(o->kind);
        r = plan_wish_object(p, planned, o);
    }
    return r;
}

struct differ {
    struct plan *plan;
    struct planned *planned;
};

static int differ_op(struct differ *d, enum op_kind kind, const struct object *o)
{
    struct op op = {.kind = kind, .addr = d->planned->slot->addr, .object = *o};

    d->planned->changed = true;
    d->planned->way_changed = d->planned->way_changed || o->kind == OBJECT_ROUTE;
    if (o->kind == OBJECT_PROXY)
        d->plan->proxies_changed = true;
    return plan_add_op(d->plan, &op);
}

static int on_add(const void *wished, void *user)
{
    const struct object *o = wished;
    struct differ *d = user;

    if (o->kind == OBJECT_ROUTE)
        plan_note_way(d->planned);
    return differ_op(d, OP_ADD, o);
}

/* A renamed uplink is still the same one: what goes out by it need not end. */
static bool own_stays(const struct differ *d, uint32_t uplink_index)
{
    const struct object *wished = d->plan->objects + d->planned->objects;

    for (size_t i = 0; i < d->planned->n_objects; i++) {
        if (wished[i].kind == OBJECT_OWN && wished[i].uplink_index == uplink_index)
            return true;
    }
    return false;
}

static int on_remove(const void *actual, void *user)
{
    const struct object *o = actual;
    struct differ *d = user;

    if (OBJECT_IS_ACCESS(o->kind) || OBJECT_IS_DNAT(o->kind))
        d->planned->forget_in = true;
    else if (o->kind == OBJECT_OWN && !own_stays(d, o->uplink_index))
        d->planned->forget_own = true;
    if (o->kind == OBJECT_DOWNSTREAM && d->planned->slot->attached)
        return 0; /* the platform needs it now */
    return differ_op(d, OP_REMOVE, o);
}

static bool lets_in(const struct object *objects, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (OBJECT_IS_ACCESS(objects[i].kind))
            return true;
    }
    return false;
}

/*
 * Without the platform's rules nothing keeps a forgotten flow from beginning anew; before QubesDB was
 * read nobody knows what is permitted. Both are waited for.
 */
static bool may_judge_flows(const struct model *m, const struct slot *slot)
{
    return m->platform[model_family(&slot->addr)] && (!m->adopting || m->stopping);
}

/*
 * Its rules may have gone before the wish did, so that no difference tells that flows were let in.
 * A ruleset that is loaded again costs nobody a permitted connection.
 */
static void judge_flows(const struct model *m, const struct plan *p, struct planned *planned)
{
    const struct slot *slot = planned->slot;
    bool back = !lets_in(slot->actual, slot->n_actual) &&
                lets_in(p->objects + planned->objects, planned->n_objects);
    bool open = planned->verdict == VERDICT_OPEN || planned->verdict == VERDICT_ADOPTED;

    if (!may_judge_flows(m, slot))
        return;
    if (slot->owes || (slot->lent && (!open || back)))
        planned->forget_in = true;
    if ((slot->owes || slot->lent) && !open)
        planned->forget_own = true;
}

static int diff(const struct model *m, struct plan *p, struct planned *planned)
{
    static const struct reconcile_ops ops = {
        .size = sizeof(struct object),
        .compare = object_compare,
        .add = on_add,
        .remove = on_remove,
    };
    const struct slot *slot = planned->slot;
    struct differ d = {p, planned};
    struct op forget = {.kind = OP_FORGET, .addr = slot->addr};
    bool keeps;
    int r;

    planned->n_objects =
        reconcile_sort(p->objects + planned->objects, planned->n_objects, sizeof(*p->objects),
                       object_compare);
    p->n_objects = planned->objects + planned->n_objects;
    r = reconcile_diff(p->objects + planned->objects, planned->n_objects, slot->actual,
                       slot->n_actual, &ops, &d);
    judge_flows(m, p, planned);
    /* `keep` speaks of a wish that ended or shrank; what has no way any more is cut all the same */
    keeps = planned->keep && !planned->way_changed &&
            (planned->verdict == VERDICT_NONE || planned->verdict == VERDICT_EXPIRED ||
             planned->verdict == VERDICT_OPEN);
    if (keeps)
        planned->forget_in = planned->forget_own = false;
    if (r == 0 && (planned->forget_in || planned->forget_own))
        r = plan_add_op(p, &forget);
    return r;
}

static bool may_adopt(const struct model *m, const struct slot *slot, struct planned *planned)
{
    return m->adopting && !m->stopping && slot->claims == NULL && slot->n_actual > 0 &&
           judge_surroundings(m, slot, planned) == VERDICT_OPEN;
}

static int plan_slot(const struct model *m, struct slot *slot, struct plan *p)
{
    struct planned *planned;
    struct ground ground = {0};
    int r = reserve(&p->planned, p->n_planned, &p->planned_capacity, sizeof(*planned));

    if (r < 0)
        return r;
    planned = &p->planned[p->n_planned];
    *planned = (struct planned){.slot = slot, .objects = p->n_objects};
    planned->verdict = judge(m, p, slot, planned, &ground);
    planned->keep = slot->keep;
    if (planned->verdict == VERDICT_OPEN) {
        planned->keep = planned->claim->record.keep;
        r = model_claim_access(planned->claim, slot->addr.family, &planned->access);
        if (r == 0)
            r = plan_wish(m, p, planned, &ground);
    } else if (may_adopt(m, slot, planned)) {
        planned->verdict =
            plan_say(planned, VERDICT_ADOPTED, "QubesDB was not read yet: left as it was found");
        r = wish_as_found(m, p, planned);
        if (planned->n_objects == 0)
            planned->verdict = plan_say(planned, VERDICT_NONE, "%s", "");
    }
    if (r == -E2BIG) {
        p->n_objects = planned->objects;
        planned->n_objects = 0;
        planned->verdict = plan_say(planned, VERDICT_REFUSED, "it needs more than %d rules",
                               ROUTER_MAX_OBJECTS);
        r = 0;
    }
    p->n_planned++; /* plan_done() frees what it owns */
    return r < 0 ? r : diff(m, p, planned);
}

int plan_slots(const struct model *m, struct slot *list, struct plan *p)
{
    int r = m->has_publish ? plan_index_ports(m, &p->ports) : 0;

    if (r == 0) /* never NULL: places in it are computed before there is anything */
        r = reserve(&p->objects, p->n_objects, &p->objects_capacity, sizeof(*p->objects));
    for (; list != NULL && r == 0; list = list->next_dirty)
        r = plan_slot(m, list, p);
    return r;
}

/* ---- established flows ---- */

bool plan_inbound_stays(const struct planned *p, const struct access_flow *flow)
{
    if (!p->forget_in || p->verdict == VERDICT_ADOPTED)
        return true;
    if (p->forget_all)
        return false;
    return p->verdict == VERDICT_OPEN && p->claim != NULL &&
           access_accepts(&p->access, &p->claim->record, p->slot->addr.family, flow);
}

bool plan_outbound_stays(const struct model *m, const struct planned *p, const struct addr *to)
{
    size_t n;

    if (!p->forget_own)
        return true;
    if (p->forget_all)
        return false;
    /* to another qube or to this machine: no uplink was involved */
    if (model_host_routes(m, to, &n) != NULL)
        return true;
    for (size_t i = 0; i < m->n_subnets; i++) {
        if (addr_equal(&m->subnets[i].prefix.addr, to))
            return true;
    }
    return false;
}

void plan_note_flows(const struct model *m, const struct planned *p)
{
    if (p->verdict == VERDICT_OPEN || p->verdict == VERDICT_ADOPTED)
        p->slot->lent = true;
    else if (p->error == 0 && may_judge_flows(m, p->slot))
        p->slot->lent = false;
    p->slot->owes = p->cut_failed;
}
