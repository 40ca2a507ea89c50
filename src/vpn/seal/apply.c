/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/apply.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/nft.h"
#include "vpn/seal/elements.h"
#include "vpn/seal/skeleton.h"

static void fail(struct apply_result *result, const struct seal_op *op, const struct seal_model *m,
                 int error)
{
    char text[SEAL_OP_TEXT];

    result->failed++;
    result->failed_layers |= op->layer;
    if (result->first[0] == '\0')
        (void)snprintf(result->first, sizeof(result->first), "%s (%s)", plan_describe(op, m, text),
                       strerror(-error));
}

static int apply_route(struct nl_sock *rt, const struct seal_op *op)
{
    switch (op->kind) {
    case OP_RULE_ADD:
        return rule_add(rt, &op->rule);
    case OP_RULE_DEL:
        return rule_del(rt, &op->rule);
    case OP_PATH_ADD:
        return path_add(rt, &op->path);
    case OP_PATH_DEL:
        return path_del(rt, &op->path);
    case OP_ELEMENT_ADD:
    case OP_ELEMENT_DEL:
    case OP_CHAIN_ADD:
    case OP_CHAIN_DEL:
        return 0;
    }
    return 0;
}

static int batch_op(struct nft_batch *b, const struct seal_op *op)
{
    struct nft_set set;
    int r;

    switch (op->kind) {
    case OP_ELEMENT_ADD:
        set = elements_set(op->element.set);
        if (op->element.data_len > 0)
            return nft_batch_add_mapping(b, &set, &op->element.key, op->element.data,
                                         op->element.data_len);
        return nft_batch_add_element(b, &set, &op->element.key);
    case OP_ELEMENT_DEL:
        set = elements_set(op->element.set);
        return nft_batch_del_element(b, &set, &op->element.key);
    case OP_CHAIN_DEL:
        return nft_batch_del_chain(b, NFPROTO_NETDEV, op->chain.table, op->chain.name);
    case OP_CHAIN_ADD:
        r = nft_batch_add_device_chain(b, &op->chain);
        return r < 0 ? r
                     : nft_batch_add_jump(b, NFPROTO_NETDEV, op->chain.table, op->chain.name,
                                          SKELETON_EGRESS);
    case OP_RULE_ADD:
    case OP_RULE_DEL:
    case OP_PATH_ADD:
    case OP_PATH_DEL:
        return 0;
    }
    return 0;
}

static bool is_element(const struct seal_op *op)
{
    return op->kind == OP_ELEMENT_ADD || op->kind == OP_ELEMENT_DEL;
}

static bool is_removal(const struct seal_op *op)
{
    return op->kind == OP_ELEMENT_DEL;
}

static bool is_chain(const struct seal_op *op)
{
    return op->kind == OP_CHAIN_ADD || op->kind == OP_CHAIN_DEL;
}

/* All of one kind in one transaction. False: the kernel refused it. */
static bool apply_batch(struct nl_sock *nft, const struct seal_model *m, const struct items *ops,
                        bool (*wanted)(const struct seal_op *op), uint32_t *generation,
                        struct apply_result *result)
{
    _cleanup_(nft_batch_freep) struct nft_batch *b = NULL;
    const struct seal_op *first = NULL;
    unsigned n = 0;
    int r = nft_batch_new(*generation, &b);

    for (size_t i = 0; i < ops->n; i++) {
        const struct seal_op *op = &ITEMS(ops, struct seal_op)[i];

        /* nothing to put it into yet: the rules are loaded next */
        if (!wanted(op) || (m->loaded & op->layer) == 0)
            continue;
        if (first == NULL)
            first = op;
        n++;
        if (r == 0)
            r = batch_op(b, op);
    }
    if (first == NULL)
        return true;
    if (r == 0)
        r = nft_batch_commit(b, nft, generation);
    if (r == -ERESTART)
        return true; /* somebody changed rules since we read them: the next pass reads again */
    if (r < 0)
        fail(result, first, m, r);
    else
        result->done += n;
    return r >= 0;
}

void apply_plan(struct nl_sock *rt, struct nl_sock *nft, const struct seal_model *m,
                const struct items *ops, struct apply_result *ret)
{
    uint32_t generation = m->generation;

    *ret = (struct apply_result){0};
    for (size_t i = 0; i < ops->n; i++) {
        const struct seal_op *op = &ITEMS(ops, struct seal_op)[i];
        int r;

        if (is_element(op) || is_chain(op))
            continue;
        r = apply_route(rt, op);
        if (r < 0)
            fail(ret, op, m, r);
        else
            ret->done++;
    }
    /* what cannot be added (a set is full) must not keep open what is to be closed */
    if (!apply_batch(nft, m, ops, is_element, &generation, ret))
        (void)apply_batch(nft, m, ops, is_removal, &generation, ret);
    (void)apply_batch(nft, m, ops, is_chain, &generation, ret);
}
