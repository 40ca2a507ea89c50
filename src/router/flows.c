/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/flows.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "netlink/ct.h"
#include "nft/nft.h"
#include "router/elements.h"

#define CUT_MAX     16384 /* noted in one pass; what is beyond is forgotten without */
#define COMMIT_TRIES 4

struct work {
    struct kernel *k;
    const struct model *m;
    const struct planned **planned; /* by place in the list of addresses */
    struct cut_flow *cuts;          /* owned */
    size_t n_cuts;
};

static void note_cut(struct work *w, const struct ct_flow *flow)
{
    struct cut_flow *grown;
    uint8_t proto = flow->reply.protocol;

    /* only these can be picked up in the middle; an ICMP answer is nothing without its question */
    if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) || w->n_cuts >= CUT_MAX)
        return;
    if ((w->n_cuts & (w->n_cuts - 1)) == 0) { /* grow at each power of two */
        grown = reallocarray(w->cuts, w->n_cuts == 0 ? 1 : 2 * w->n_cuts, sizeof(*grown));
        if (grown == NULL)
            return; /* forgotten all the same: most flows end by that alone */
        w->cuts = grown;
    }
    w->cuts[w->n_cuts++] = (struct cut_flow){
        .qube = flow->reply.src,
        .client = flow->reply.dst,
        .proto = proto,
        .qube_port = flow->reply.src_port,
        .client_port = flow->reply.dst_port,
    };
}

/* Inbound: somebody opened it to the address. Outbound: the qube did, and kept its address. */
static bool judge_flow(const struct ct_flow *flow, size_t which, void *user)
{
    struct work *w = user;
    const struct planned *planned = w->planned[which];
    const struct addr *addr = &planned->slot->addr;

    if (addr_equal(&flow->orig.dst, addr) || addr_equal(&flow->reply.src, addr)) {
        struct access_flow asked = {
            .proto = flow->reply.protocol,
            .outside = addr_equal(&flow->orig.dst, addr) ? 0 : flow->orig.dst_port,
            .port = flow->reply.src_port,
            .from = &flow->orig.src,
        };

        if (plan_inbound_stays(planned, &asked))
            return false;
        note_cut(w, flow);
        return true;
    }
    if (addr_equal(&flow->orig.src, addr) && addr_equal(&flow->reply.dst, addr))
        return !plan_outbound_stays(w->m, planned, &flow->orig.dst);
    return false;
}

static int commit_cuts(struct work *w, uint32_t generation, uint32_t *ret_generation)
{
    _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
    int r = nft_batch_new(generation, &batch);

    for (size_t i = 0; i < w->n_cuts && r == 0; i++) {
        struct nft_set set = elements_cut_set(model_family(&w->cuts[i].qube));
        struct nft_key key;

        if (!w->m->platform[model_family(&w->cuts[i].qube)])
            continue;
        r = elements_cut_key(&w->cuts[i], &key);
        if (r == 0)
            r = nft_batch_add_element(batch, &set, &key);
    }
    return r < 0 ? r : nft_batch_commit(batch, w->k->nft, ret_generation);
}

/*
 * All of one family were judged, none is gone yet. These elements depend on nothing that the model
 * knows, so a foreign change in between is no obstacle; but then the model's generation stays what
 * it was, and that change is still looked at.
 */
static void write_cuts(void *user)
{
    struct work *w = user;
    int r = -ERESTART;

    for (int i = 0; i < COMMIT_TRIES && r == -ERESTART && w->n_cuts > 0; i++) {
        uint32_t before, after;

        r = nft_generation(w->k->nft, &before);
        if (r == 0)
            r = commit_cuts(w, before, &after);
        if (r == 0 && before == w->k->generation)
            w->k->generation = after;
    }
    w->n_cuts = 0;
}

int flows_forget(struct kernel *k, const struct model *m, const struct plan *p)
{
    static const struct ct_forget_ops ops = {judge_flow, write_cuts};
    _cleanup_(freep) struct addr *addrs = NULL;
    _cleanup_(freep) const struct planned **planned = NULL;
    struct work w = {.k = k, .m = m};
    size_t n = 0;
    int r;

    for (size_t i = 0; i < p->n_planned; i++)
        n += p->planned[i].forget_in || p->planned[i].forget_own;
    if (n == 0)
        return 0;
    addrs = reallocarray(NULL, n, sizeof(*addrs));
    planned = reallocarray(NULL, n, sizeof(*planned));
    if (addrs == NULL || planned == NULL)
        return -ENOMEM;
    n = 0;
    for (size_t i = 0; i < p->n_planned; i++) {
        if (!p->planned[i].forget_in && !p->planned[i].forget_own)
            continue;
        planned[n] = &p->planned[i];
        addrs[n++] = p->planned[i].slot->addr;
    }
    w.planned = planned;
    r = ct_forget(k->conntrack, addrs, n, &ops, &w);
    free(w.cuts);
    return r;
}
