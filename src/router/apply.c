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

struct work {
    struct kernel *k;
    struct model *m;
    const struct plan *p;
    struct apply_result result;
};

static void fail(struct work *w, int error, const struct addr *addr)
{
    if (!w->result.failed) {
        w->result.error = error;
        if (addr != NULL)
            w->result.addr = *addr;
    }
    w->result.failed = true;
}

/* ---- proxy neighbours ---- */

static void change_proxy(struct work *w, const struct op *op)
{
    int r = op->kind == OP_ADD
                ? rt_proxy_add(w->k->route, op->object.uplink_index, &op->addr, KERNEL_PROTOCOL)
                : rt_proxy_del(w->k->route, op->object.uplink_index, &op->addr);

    if (r == 0 || (op->kind == OP_REMOVE && (r == -ENODEV || r == -ENXIO)))
        return; /* entries of a link that is gone went with it */
    if (r == -ENODEV || r == -ENXIO)
        w->result.again_network = true;
    else
        fail(w, r, &op->addr);
}

static void change_proxies(struct work *w, enum op_kind kind)
{
    for (size_t i = 0; i < w->p->n_ops; i++) {
        if (w->p->ops[i].kind == kind && w->p->ops[i].object.kind == OBJECT_PROXY)
            change_proxy(w, &w->p->ops[i]);
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
    if (op->object.kind != OBJECT_DNAT)
        return nft_batch_add_element(batch, &set, &key);
    len = elements_data(&op->addr, &op->object, data);
    return nft_batch_add_mapping(batch, &set, &key, data, len);
}

/* only: NULL for all addresses */
static int add_element_ops(struct nft_batch *batch, const struct plan *p, enum op_kind kind,
                           const struct addr *only)
{
    int r = 0;

    for (size_t i = 0; i < p->n_ops && r == 0; i++) {
        const struct op *op = &p->ops[i];

        if (op->kind == kind && op->object.kind != OBJECT_PROXY &&
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
        const struct planned *planned = &w->p->planned[i];
        int r = commit_elements(w, &planned->slot->addr);

        if (r == -ERESTART || r == -ENOMEM)
            return r;
        if (r < 0)
            fail(w, r, &planned->slot->addr);
        else if ((r = note_done(w, planned)) < 0)
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

static int remember_switches(struct work *w)
{
    int r = 0;

    for (size_t i = 0; i < w->p->n_ops && r == 0; i++) {
        const struct op *op = &w->p->ops[i];
        struct sysctl_list *list = &w->m->put_back;

        if (op->kind == OP_SAVE_SYSCTL) {
            r = model_sysctl_set(list, &op->sysctl);
        } else if (op->kind == OP_UNSAVE_SYSCTL) {
            for (size_t k = 0; k < list->n; k++) {
                if (list->values[k].id == op->sysctl.id &&
                    strcmp(list->values[k].scope, op->sysctl.scope) == 0)
                    list->values[k--] = list->values[--list->n];
            }
        }
    }
    return r;
}

static void write_switches(struct work *w)
{
    for (size_t i = 0; i < w->p->n_ops; i++) {
        const struct op *op = &w->p->ops[i];
        int r;

        if (op->kind != OP_WRITE_SYSCTL)
            continue;
        r = sysctl_write(&op->sysctl);
        if (r == 0)
            r = model_sysctl_set(&w->m->sysctls, &op->sysctl);
        else if (r == -ENOENT)
            w->result.again_network = true;
        if (r < 0 && r != -ENOENT)
            fail(w, r, NULL);
    }
}

static void forget_flows(struct work *w)
{
    int n = flows_forget(w->k, w->m, w->p);

    if (n < 0)
        fail(w, n, NULL);
    else
        w->result.flows += (unsigned)n;
}

int apply_plan(struct kernel *k, struct model *m, const struct plan *p,
               struct apply_result *ret_result)
{
    struct work w = {.k = k, .m = m, .p = p};
    int r;

    change_proxies(&w, OP_REMOVE);
    r = remember_switches(&w);
    if (r == 0)
        r = commit_switches(&w);
    if (r == 0)
        r = commit_all(&w);
    if (r == -ENOMEM)
        return r;
    if (r == -ERESTART) {
        w.result.again_rules = true;
    } else if (r < 0) {
        fail(&w, r, NULL);
    } else {
        write_switches(&w);
        forget_flows(&w);
        change_proxies(&w, OP_ADD);
    }
    *ret_result = w.result;
    return 0;
}
