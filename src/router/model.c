/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/model.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "router/limits.h"
#include "router/model_strays.h"

static int compare_slot(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;

    return addr_compare(&x->addr, &y->addr);
}

struct model *model_new(void)
{
    return calloc(1, sizeof(struct model));
}

static void slot_free(void *p)
{
    struct slot *s = p;

    while (s->claims != NULL) {
        struct claim *next = s->claims->next;

        (void)model_claim_free(s->claims);
        s->claims = next;
    }
    free(s->actual);
    free(s->reason);
    free(s->qube);
    free(s);
}

struct model *model_free(struct model *m)
{
    if (m == NULL)
        return NULL;
    tdestroy(m->slots, slot_free);
    model_vias_done(m);
    model_strays_done(m);
    free(m->links);
    free(m->subnets);
    free(m->hosts);
    free(m->wide);
    free(m->listeners);
    free(m->ever_uplink);
    model_sysctl_list_done(&m->sysctls);
    model_sysctl_list_done(&m->put_back);
    free(m);
    return NULL;
}

void model_freep(struct model **m)
{
    *m = model_free(*m);
}

enum family_index model_family(const struct addr *addr)
{
    return addr->family == AF_INET6 ? FAMILY_IP6 : FAMILY_IP4;
}

struct slot *model_find(const struct model *m, const struct addr *addr)
{
    struct slot key = {.addr = *addr};
    struct slot *const *hit = tfind(&key, &m->slots, compare_slot);

    return hit != NULL ? *hit : NULL;
}

static struct slot *add_slot(struct model *m, const struct addr *addr)
{
    struct slot *s = calloc(1, sizeof(*s));

    if (s != NULL)
        s->addr = *addr;
    if (s == NULL || tsearch(s, &m->slots, compare_slot) == NULL) {
        free(s);
        return NULL;
    }
    m->n_slots++;
    return s;
}

struct slot *model_get(struct model *m, const struct addr *addr, int *ret_error)
{
    struct slot *s = model_find(m, addr);

    if (s == NULL && m->n_slots >= ROUTER_MAX_ADDRESSES) {
        *ret_error = -E2BIG;
        return NULL;
    }
    if (s == NULL) {
        s = add_slot(m, addr);
        *ret_error = -ENOMEM;
    }
    return s;
}

void model_touch(struct model *m, struct slot *slot)
{
    if (slot->dirty)
        return;
    slot->dirty = true;
    slot->next_dirty = m->dirty;
    m->dirty = slot;
}

struct visit {
    model_visit_fn fn;
    void *user;
};

static void visit_node(const void *node, VISIT which, void *closure)
{
    struct visit *v = closure;

    if (which == postorder || which == leaf)
        v->fn(*(struct slot *const *)node, v->user);
}

void model_each(const struct model *m, model_visit_fn fn, void *user)
{
    struct visit v = {fn, user};

    twalk_r(m->slots, visit_node, &v);
}

static void touch_one(struct slot *slot, void *user)
{
    model_touch(user, slot);
}

void model_touch_all(struct model *m)
{
    model_each(m, touch_one, m);
}

static void touch_publisher(struct slot *slot, void *user)
{
    struct model *m = user;

    for (const struct claim *c = slot->claims; c != NULL; c = c->next) {
        if (c->record.publish.n > 0) {
            m->has_publish = true;
            model_touch(m, slot);
        }
    }
}

struct slot *model_take_dirty(struct model *m)
{
    struct slot *list;

    if (m->publish_changed) {
        m->publish_changed = false;
        m->has_publish = false;
        model_each(m, touch_publisher, m);
    }
    list = m->dirty;
    m->dirty = NULL;
    return list;
}

bool model_drop_idle(struct model *m, struct slot *slot)
{
    if (slot->claims != NULL || slot->n_actual > 0 || slot->dirty || slot->lent || slot->owes)
        return false;
    (void)tdelete(slot, &m->slots, compare_slot);
    slot_free(slot);
    m->n_slots--;
    return true;
}

/* ---- conflicts ---- */

void model_conflict_note(struct conflict *c, uint32_t uplink_index, const uint8_t mac[static 6],
                         uint64_t now_us)
{
    bool first = c->wait_us == 0 || (!c->present && now_us >= c->again_us);

    c->wait_us = first ? ROUTER_CONFLICT_LEAST_US : 2 * c->wait_us;
    if (c->wait_us > ROUTER_CONFLICT_MOST_US)
        c->wait_us = ROUTER_CONFLICT_MOST_US;
    c->present = true;
    memcpy(c->mac, mac, sizeof(c->mac));
    c->uplink_index = uplink_index;
    c->again_us = now_us + c->wait_us;
}

void model_conflict_ask(struct conflict *c, uint64_t now_us)
{
    c->again_us = now_us + ROUTER_CONFLICT_MOST_US;
}

void model_conflict_restart(struct conflict *c)
{
    c->again_us = c->wait_us = 0;
}

/* ---- what the kernel has of ours ---- */

int model_set_actual(struct model *m, struct slot *slot, const struct object *objects, size_t n)
{
    struct object *copy = NULL;

    (void)m;
    if (n > 0) {
        copy = reallocarray(NULL, n, sizeof(*copy));
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, objects, n * sizeof(*copy));
    }
    free(slot->actual);
    slot->actual = copy;
    slot->n_actual = n;
    return 0;
}

int model_add_actual(struct model *m, const struct addr *addr, const struct object *object)
{
    struct slot *slot = model_find(m, addr);
    struct object *grown;
    size_t at;
    int r = 0;

    /* no limit here: what the kernel has must be seen to be taken away, however many keys there are */
    if (slot == NULL)
        slot = add_slot(m, addr);
    if (slot == NULL)
        return -ENOMEM;
    slot->lent = true;
    for (at = 0; at < slot->n_actual; at++) {
        r = object_compare(&slot->actual[at], object);
        if (r == 0)
            slot->actual[at].seen = true;
        if (r >= 0)
            break;
    }
    if (at < slot->n_actual && r == 0)
        return 0;
    grown = reallocarray(slot->actual, slot->n_actual + 1, sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    memmove(&grown[at + 1], &grown[at], (slot->n_actual - at) * sizeof(*grown));
    grown[at] = *object;
    grown[at].seen = true;
    slot->actual = grown;
    slot->n_actual++;
    model_touch(m, slot);
    return 0;
}

static bool is_lent(const struct slot *slot, const struct object *o)
{
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (slot->actual[i].kind == OBJECT_LENT &&
            (o->kind != OBJECT_ALLOWED || strcmp(slot->actual[i].vif, o->vif) == 0))
            return true;
    }
    return false;
}

int model_add_shared(struct model *m, const struct addr *addr, const struct object *object)
{
    struct slot *slot = model_find(m, addr);

    if (slot == NULL)
        return 0;
    if (is_lent(slot, object))
        return model_add_actual(m, addr, object);
    if (object->kind == OBJECT_ALLOWED)
        slot->attached = true;
    return 0;
}

void model_remove_actual(struct slot *slot, const struct object *object)
{
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (object_compare(&slot->actual[i], object) != 0)
            continue;
        memmove(&slot->actual[i], &slot->actual[i + 1],
                (slot->n_actual - i - 1) * sizeof(*slot->actual));
        slot->n_actual--;
        return;
    }
}

struct reading {
    struct model *m;
    unsigned kinds;
    int family;
};

static bool concerns(const struct reading *r, const struct slot *slot, const struct object *o)
{
    return slot->addr.family == r->family && (r->kinds & 1u << o->kind);
}

static void begin_one(struct slot *slot, void *user)
{
    const struct reading *r = user;

    if (slot->addr.family == r->family && (r->kinds & 1u << OBJECT_ALLOWED))
        slot->attached = false;
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (concerns(user, slot, &slot->actual[i]))
            slot->actual[i].seen = false;
    }
}

void model_read_begin(struct model *m, unsigned kinds, int family)
{
    struct reading r = {m, kinds, family};

    model_each(m, begin_one, &r);
}

static void end_one(struct slot *slot, void *user)
{
    const struct reading *r = user;
    size_t kept = 0;

    for (size_t i = 0; i < slot->n_actual; i++) {
        if (!concerns(r, slot, &slot->actual[i]) || slot->actual[i].seen)
            slot->actual[kept++] = slot->actual[i];
    }
    if (kept != slot->n_actual)
        model_touch(r->m, slot);
    slot->n_actual = kept;
}

void model_read_end(struct model *m, unsigned kinds, int family)
{
    struct reading r = {m, kinds, family};

    model_each(m, end_one, &r);
}

/* ---- sysctls ---- */

void model_sysctl_list_done(struct sysctl_list *list)
{
    free(list->values);
    *list = (struct sysctl_list){0};
}

static struct sysctl_value *sysctl_find(const struct sysctl_list *list, const char *scope,
                                        enum sysctl_id id)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->values[i].id == id && strcmp(list->values[i].scope, scope) == 0)
            return &list->values[i];
    }
    return NULL;
}

int model_sysctl_set(struct sysctl_list *list, const struct sysctl_value *value)
{
    struct sysctl_value *hit = sysctl_find(list, value->scope, value->id);

    if (hit == NULL) {
        struct sysctl_value *grown = reallocarray(list->values, list->n + 1, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        list->values = grown;
        hit = &grown[list->n++];
    }
    *hit = *value;
    return 0;
}

bool model_sysctl_get(const struct sysctl_list *list, const char *scope, enum sysctl_id id,
                      uint32_t *ret)
{
    const struct sysctl_value *hit = sysctl_find(list, scope, id);

    if (hit != NULL)
        *ret = hit->value;
    return hit != NULL;
}
