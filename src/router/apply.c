/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/rt.h"
#include "nft/nft.h"
#include "router/elements.h"
#include "router/flows.h"
#include "router/sysctl.h"

#define PROXY_CHUNK 256

struct work {
    struct kernel *k;
    struct model *m;
    struct plan *p;
    struct apply_result result;
};

/* Something that is of no single address. */
static void fail(struct work *w, int error)
{
    if (!w->result.failed)
        w->result.error = error;
    w->result.failed = true;
}

static struct planned *planned_of(struct work *w, const struct addr *addr)
{
    for (size_t i = 0; i < w->p->n_planned; i++) {
        if (addr_equal(&w->p->planned[i].slot->addr, addr))
            return &w->p->planned[i];
    }
    return NULL;
}

/* ---- proxy neighbours ---- */

/* An address whose entry is refused must not keep the others from theirs. */
static void change_proxy(struct work *w, struct op *op)
{
    struct planned *planned;
    int r = op->kind == OP_ADD
                ? rt_proxy_add(w->k->route, op->object.uplink_index, &op->addr, KERNEL_PROTOCOL)
                : rt_proxy_del(w->k->route, op->object.uplink_index, &op->addr);
    bool gone = r == -ENODEV || r == -ENXIO;

    if (r == 0 || (op->kind == OP_REMOVE && gone))
        return; /* entries of a link that is gone went with it */
    op->failed = true;
    planned = planned_of(w, &op->addr);
    if (planned != NULL && op->kind == OP_ADD)
        model_remove_actual(planned->slot, &op->object);
    if (gone)
        w->result.again_network = true;
    else if (planned != NULL)
        planned->error = r;
}

static bool is_proxy_op(const struct op *op, enum op_kind kind)
{
    return op->kind == kind && op->object.kind == OBJECT_PROXY;
}

/* Many at once; false: not all could be added, so each has to be tried alone. */
static bool add_proxies_at_once(struct work *w)
{
    struct rt_proxy chunk[PROXY_CHUNK];
    size_t n = 0;

    for (size_t i = 0; i < w->p->n_ops; i++) {
        const struct op *op = &w->p->ops[i];

        if (!is_proxy_op(op, OP_ADD))
            continue;
        chunk[n++] = (struct rt_proxy){op->object.uplink_index, op->addr, KERNEL_PROTOCOL};
        if (n < PROXY_CHUNK)
            continue;
        if (rt_proxy_add_many(w->k->route, chunk, n) < 0)
            return false;
        n = 0;
    }
    return rt_proxy_add_many(w->k->route, chunk, n) == 0;
}

static void change_proxies(struct work *w, enum op_kind kind)
{
    if (kind == OP_ADD && add_proxies_at_once(w))
        return;
    for (size_t i = 0; i < w->p->n_ops; i++) {
        if (is_proxy_op(&w->p->ops[i], kind))
            change_proxy(w, &w->p->ops[i]);
    }
}

/* ---- routes by another net qube ---- */

static void change_route(struct work *w, struct op *op)
{
    struct rt_route route = {
        .dst = {op->addr, addr_bits(op->addr.family)},
        .gateway = op->object.src_lo,
        .oif = op->object.uplink_index,
        .metric = op->object.metric,
        .protocol = KERNEL_PROTOCOL,
    };
    struct planned *planned;
    int r = op->kind == OP_ADD ? rt_route_add(w->k->route, &route)
                               : rt_route_del(w->k->route, &route);

    if (r == 0)
        return;
    op->failed = true;
    planned = planned_of(w, &op->addr);
    if (planned != NULL && planned->error == 0)
        planned->error = r;
    if (planned != NULL && op->kind == OP_ADD)
        model_remove_actual(planned->slot, &op->object);
    /* the vif may be gone, or another one leads to the gateway by now */
    w->result.again_network = true;
}

/* What is done to one address stands together. */
static bool replaced(const struct plan *p, size_t at)
{
    const struct op *op = &p->ops[at];
    size_t from = at;

    while (from > 0 && addr_equal(&p->ops[from - 1].addr, &op->addr))
        from--;
    for (size_t i = from; i < p->n_ops && addr_equal(&p->ops[i].addr, &op->addr); i++) {
        if (p->ops[i].kind == OP_ADD && p->ops[i].object.kind == OBJECT_ROUTE &&
            p->ops[i].object.metric == op->object.metric)
            return true;
    }
    return false;
}

/* Adding replaces: a way that changes is never gone in between. */
static void change_routes(struct work *w)
{
    for (size_t i = 0; i < w->p->n_ops; i++) {
        struct op *op = &w->p->ops[i];

        if (op->object.kind == OBJECT_ROUTE &&
            (op->kind == OP_ADD || (op->kind == OP_REMOVE && !replaced(w->p, i))))
            change_route(w, op);
    }
}

/* ---- the nft transaction ---- */

static int add_element_op(struct nft_batch *batch, const struct op *op)
{
    struct nft_set set = elements_set(op->object.kind, model_family(&op->addr));
    uint8_t data[NFT_KEY_MAX];
    struct nft_key key;
    size_t len;
    int r = elements_key(&op->addr, &op->object, &key);

    if (r < 0)
        return r;
    if (op->kind == OP_REMOVE)
        return nft_batch_del_element(batch, &set, &key);
    len = elements_data(&op->addr, &op->object, data);
    if (len == 0)
        return nft_batch_add_element(batch, &set, &key);
    return nft_batch_add_mapping(batch, &set, &key, data, len);
}

/* only: NULL for all addresses */
static int add_element_ops(struct nft_batch *batch, const struct plan *p, enum op_kind kind,
                           const struct addr *only)
{
    int r = 0;

    for (size_t i = 0; i < p->n_ops && r == 0; i++) {
        const struct op *op = &p->ops[i];

        if (op->kind == kind && op->object.kind < OBJECT_SETS &&
            (only == NULL || addr_equal(only, &op->addr)))
            r = add_element_op(batch, op);
    }
    return r;
}

static int sync_value(struct nft_batch *batch, const struct sysctl_value *value, bool add)
{
    struct nft_set set = elements_put_back_set();
    struct nft_key key;
    int r = elements_put_back_key(value, &key);

    if (r < 0)
        return r;
    return add ? nft_batch_add_element(batch, &set, &key) : nft_batch_del_element(batch, &set, &key);
}

static bool holds_value(const struct sysctl_list *list, const struct sysctl_value *value)
{
    uint32_t known;

    return model_sysctl_get(list, value->scope, value->id, &known) && known == value->value;
}

/* The kernel's copy of the put-back values follows the model's. */
static int sync_put_back(struct nft_batch *batch, const struct kernel *k, const struct model *m)
{
    int r = 0;

    for (size_t i = 0; i < k->stored.n && r == 0; i++) {
        if (!holds_value(&m->put_back, &k->stored.values[i]))
            r = sync_value(batch, &k->stored.values[i], false);
    }
    for (size_t i = 0; i < m->put_back.n && r == 0; i++) {
        if (!holds_value(&k->stored, &m->put_back.values[i]))
            r = sync_value(batch, &m->put_back.values[i], true);
    }
    return r;
}

static bool wants_guard(const struct model *m)
{
    uint32_t before;

    return model_sysctl_get(&m->put_back, "all", SYSCTL_IP6_FORWARDING, &before);
}

static int sync_guard(struct nft_batch *batch, const struct kernel *k, const struct model *m)
{
    struct nft_set set = elements_guard_set();
    struct nft_key key;
    int r = elements_guard_key(&key);

    if (r < 0 || k->guard_stored == wants_guard(m))
        return r;
    return k->guard_stored ? nft_batch_del_element(batch, &set, &key)
                           : nft_batch_add_element(batch, &set, &key);
}

static int copy_put_back(struct kernel *k, const struct model *m)
{
    int r = 0;

    model_sysctl_list_done(&k->stored);
    for (size_t i = 0; i < m->put_back.n && r == 0; i++)
        r = model_sysctl_set(&k->stored, &m->put_back.values[i]);
    k->guard_stored = wants_guard(m);
    return r;
}

static int commit(struct work *w, struct nft_batch *batch)
{
    uint32_t generation;
    int r;

    if (nft_batch_count(batch) == 0)
        return 0;
    r = nft_batch_commit(batch, w->k->nft, &generation);
    if (r == 0)
        w->k->generation = generation;
    return r;
}

static int commit_switches(struct work *w)
{
    _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
    int r = nft_batch_new(w->k->generation, &batch);

    if (r == 0 && w->m->platform[FAMILY_IP4])
        r = sync_put_back(batch, w->k, w->m);
    if (r == 0 && w->m->platform[FAMILY_IP6])
        r = sync_guard(batch, w->k, w->m);
    if (r == 0)
        r = commit(w, batch);
    return r < 0 ? r : copy_put_back(w->k, w->m);
}

static int commit_elements(struct work *w, const struct addr *only)
{
    _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
    int r = nft_batch_new(w->k->generation, &batch);

    if (r == 0)
        r = add_element_ops(batch, w->p, OP_REMOVE, only);
    if (r == 0)
        r = add_element_ops(batch, w->p, OP_ADD, only);
    return r < 0 ? r : commit(w, batch);
}

static int note_done(struct work *w, const struct planned *planned)
{
    return model_set_actual(w->m, planned->slot, w->p->objects + planned->objects,
                            planned->n_objects);
}

/* One address whose elements the kernel refuses must not keep the others from their change. */
static int commit_one_by_one(struct work *w)
{
    for (size_t i = 0; i < w->p->n_planned; i++) {
        struct planned *planned = &w->p->planned[i];
        int r = commit_elements(w, &planned->slot->addr);

        if (r == -ERESTART || r == -ENOMEM)
            return r;
        planned->error = r;
        r = r == 0 ? note_done(w, planned) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int commit_all(struct work *w)
{
    int r = commit_elements(w, NULL);

    if (r == -ERESTART || r == -ENOMEM)
        return r;
    if (r < 0)
        return commit_one_by_one(w);
    for (size_t i = 0; i < w->p->n_planned && r == 0; i++)
        r = note_done(w, &w->p->planned[i]);
    return r;
}

/* ---- kernel switches ---- */

static void drop_value(struct sysctl_list *list, const struct sysctl_value *value)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->values[i].id == value->id && strcmp(list->values[i].scope, value->scope) == 0) {
            list->values[i] = list->values[--list->n];
            return;
        }
    }
}

static int remember_switches(struct work *w, enum op_kind kind)
{
    int r = 0;

    for (size_t i = 0; i < w->p->n_ops && r == 0; i++) {
        const struct op *op = &w->p->ops[i];

        if (op->kind != kind)
            continue;
        if (kind == OP_SAVE_SYSCTL)
            r = model_sysctl_set(&w->m->put_back, &op->sysctl);
        else
            drop_value(&w->m->put_back, &op->sysctl);
    }
    return r;
}

static bool write_switches(struct work *w)
{
    bool all = true;

    for (size_t i = 0; i < w->p->n_ops; i++) {
        const struct op *op = &w->p->ops[i];
        int r;

        if (op->kind != OP_WRITE_SYSCTL)
            continue;
        r = sysctl_write(&op->sysctl);
        if (r == 0)
            r = model_sysctl_set(&w->m->sysctls, &op->sysctl);
        else if (r == -ENOENT) /* the link is gone, or has another name: the next look tells */
            w->result.again_network = true;
        else
            fail(w, r);
        all = all && r == 0;
    }
    return all;
}

/* An old value is given up only when it is back in its place; till then a successor needs it. */
static int change_switches(struct work *w)
{
    if (!write_switches(w))
        return 0;
    (void)remember_switches(w, OP_UNSAVE_SYSCTL);
    return commit_switches(w);
}

static void forget_flows(struct work *w)
{
    int n = flows_forget(w->k, w->m, w->p);

    for (size_t i = 0; i < w->p->n_planned; i++)
        w->p->planned[i].cut_failed =
            n < 0 && (w->p->planned[i].forget_in || w->p->planned[i].forget_own);
    if (n < 0)
        fail(w, n);
    else
        w->result.flows += (unsigned)n;
}

static int apply_rest(struct work *w, bool switches)
{
    int r = switches ? change_switches(w) : 0;

    forget_flows(w);
    change_routes(w);
    change_proxies(w, OP_ADD);
    return r;
}

int apply_plan(struct kernel *k, struct model *m, struct plan *p, struct apply_result *ret_result)
{
    struct work w = {.k = k, .m = m, .p = p};
    bool switches;
    int r;

    change_proxies(&w, OP_REMOVE);
    r = remember_switches(&w, OP_SAVE_SYSCTL);
    if (r == 0)
        r = commit_switches(&w);
    /*
     * Without the old values and the guard in the kernel no switch is touched; but what has to be
     * withdrawn is withdrawn all the same.
     */
    switches = r == 0;
    if (r < 0 && r != -ERESTART && r != -ENOMEM) {
        fail(&w, r);
        r = 0;
    }
    if (r == 0)
        r = commit_all(&w);
    w.result.elements_done = r == 0;
    if (r == 0)
        r = apply_rest(&w, switches);
    if (r == -ENOMEM)
        return r;
    if (r == -ERESTART)
        w.result.again_rules = true;
    else if (r < 0)
        fail(&w, r);
    *ret_result = w.result;
    return 0;
}
