/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/seal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/ct.h"
#include "vpn/seal/apply.h"
#include "vpn/seal/elements.h"
#include "vpn/seal/kernel.h"
#include "vpn/seal/skeleton.h"
#include "vpn/seal/switches.h"

#define PASSES_MAX 8 /* a storm of foreign changes is met again at the next event */
#define STUCK_MAX  2 /* passes that bring nothing: once it may be that a link went meanwhile */

int seal_open(struct seal *s, const struct seal_config *config, const char *nft_program, int nft_fd)
{
    int r;

    *s = (struct seal){.config = *config, .nft_program = nft_program};
    r = nl_open(NETLINK_ROUTE, &s->rt);
    if (r == 0)
        r = nft_fd >= 0 ? nl_open_fd(nft_fd, &s->nft) : nl_open(NETLINK_NETFILTER, &s->nft);
    else if (nft_fd >= 0)
        (void)close_fd(nft_fd);
    return r;
}

void seal_close(struct seal *s)
{
    s->rt = nl_free(s->rt);
    s->nft = nl_free(s->nft);
    model_free(&s->model);
}

static int read_rules(struct nl_sock *nft, void *user)
{
    struct seal *s = user;
    int r = kernel_read_rules(nft, s->config.layers, &s->model);

    return r < 0 ? r : skeleton_read(nft, s->config.layers, &s->model);
}

/* Where somebody changes rules all the time, each set and chain of one moment must do. */
static int read_all(struct seal *s)
{
    int r = kernel_read_routes(s->rt, &s->model);

    if (r == 0)
        r = nft_read_whole(s->nft, read_rules, s);
    return r == -EINTR ? read_rules(s->nft, s) : r;
}

/* The kernel's sets are the memory: the first pass of a life begins with what they say. */
static void adopt_wish(struct seal *s)
{
    const char *why;
    struct wish w;

    if (s->adopted)
        return;
    s->adopted = true;
    elements_to_wish(&s->model.elements, &w);
    if (wish_check(&w, &why) == 0)
        s->wish = w;
}

static unsigned layers_of(const struct items *ops)
{
    unsigned layers = 0;

    for (size_t i = 0; i < ops->n; i++)
        layers |= ITEMS(ops, struct seal_op)[i].layer;
    return layers;
}

static unsigned unloaded(const struct seal *s)
{
    return s->config.layers & (LAYER_INET | LAYER_EGRESS) & ~s->model.loaded;
}

/* Left by an owner that died: anybody could change them now. Asked once; an old kernel cannot. */
static bool unowned(struct seal *s)
{
    unsigned layers = s->config.layers & (LAYER_INET | LAYER_EGRESS);

    if (s->asked_to_own || (layers & ~s->model.owned) == 0)
        return false;
    s->asked_to_own = true;
    return true;
}

/* Something of R was gone that is not there because of the wish or a new device. */
static bool lost_rules(const struct items *ops)
{
    for (size_t i = 0; i < ops->n; i++)
        if (ITEMS(ops, struct seal_op)[i].kind == OP_RULE_ADD)
            return true;
    return false;
}

/* Somebody's rule of policy routing that decided before ours: taken away, and told once. */
static void note_foreign(struct seal *s, const struct items *ops)
{
    for (size_t i = 0; i < ops->n && s->foreign[0] == '\0'; i++) {
        const struct seal_op *op = &ITEMS(ops, struct seal_op)[i];

        if (op->kind == OP_RULE_DEL)
            (void)plan_describe(op, &s->model, s->foreign);
    }
}

static int load(struct seal *s)
{
    char text[200] = "";
    int r;

    s->model.proved = 0;
    r = skeleton_load(s->nft, s->nft_program, s->config.layers, &s->model, text, sizeof(text));
    if (r == -EBUSY) { /* another version of this program loaded them */
        if (s->let_go != NULL)
            s->let_go(s->user);
        s->nft = nl_free(s->nft);
        r = nl_open(NETLINK_NETFILTER, &s->nft);
        if (r == 0)
            r = skeleton_load(s->nft, s->nft_program, s->config.layers, &s->model, text,
                              sizeof(text));
    }
    if (r < 0)
        (void)snprintf(s->why, sizeof(s->why), "the rules could not be loaded (%s)%s%s",
                       r == -EPERM ? "another owner holds the tables, or CAP_NET_ADMIN is missing"
                                   : strerror(-r),
                       text[0] != '\0' ? ": " : "", text);
    return r;
}

/*
 * Flows from before: those that go on by the way they had (offloaded ones pass no rule at all) are
 * forgotten once everything is in place, so that their next packet meets the rules. Flows of the
 * tunnel and carriers bear our marks.
 */
static int forget_flows(struct seal *s)
{
    bool fresh = s->wish.n_carriers == 0 && s->wish.tunnel[0] == '\0';

    return ct_forget_marked(s->nft, 0, fresh ? 0 : SEAL_MARK_MASK);
}

static int one_pass(struct seal *s, bool *ret_settled)
{
    _cleanup_(items_free) struct items ops = {0};
    struct apply_result result = {0};
    char missing[SWITCH_TEXT];
    unsigned switched;
    int r = read_all(s);

    if (r < 0)
        return r;
    adopt_wish(s);
    switches_set(&s->model, &switched, missing);
    r = plan_make(&s->model, &s->wish, &s->config, &ops);
    if (r < 0)
        return r;
    s->changed += (unsigned)ops.n + switched;
    s->broken = layers_of(&ops) | unloaded(s);
    s->why[0] = '\0';
    *ret_settled = s->broken == 0 && !unowned(s);
    if (*ret_settled) {
        if (missing[0] != '\0')
            (void)snprintf(s->why, sizeof(s->why), "%s", missing);
        return 0;
    }
    s->restored |= unloaded(s) != 0 || lost_rules(&ops);
    note_foreign(s, &ops);
    /* routes before rules: they need no other program, and close by themselves */
    apply_plan(s->rt, s->nft, &s->model, &ops, &result);
    s->stuck = result.failed > 0 && result.done == 0 ? s->stuck + 1 : 0;
    if ((unloaded(s) != 0 || s->broken == 0) && load(s) < 0)
        return 0;
    if (result.failed > 0)
        (void)snprintf(s->why, sizeof(s->why), "%u changes failed, the first: %s", result.failed,
                       result.first);
    return 0;
}

int seal_pass(struct seal *s)
{
    bool settled = false;
    int r = 0;

    s->changed = 0;
    s->restored = false;
    s->stuck = 0;
    s->foreign[0] = '\0';
    for (unsigned i = 0; i < PASSES_MAX && s->stuck < STUCK_MAX && !settled && r == 0; i++)
        r = one_pass(s, &settled);
    s->armed = r == 0 && settled && s->config.layers == LAYERS_ALL;
    if (r == 0 && settled && s->restored) {
        r = forget_flows(s);
        if (r < 0) {
            s->armed = false;
            (void)snprintf(s->why, sizeof(s->why), "flows from before could not be cut (%s)",
                           strerror(-r));
            r = 0;
        }
    }
    return r;
}

int seal_look(struct seal *s, struct items *ret_ops, char ret_switch[static 128])
{
    int r = read_all(s);

    if (r < 0)
        return r;
    adopt_wish(s);
    switches_check(&s->model, ret_switch);
    r = plan_make(&s->model, &s->wish, &s->config, ret_ops);
    s->broken = layers_of(ret_ops) | unloaded(s);
    return r;
}

/* Without its modules the kernel knows no netlink of that family. */
const char *seal_strerror(const struct seal *s, int r)
{
    if (r == -EPROTONOSUPPORT)
        return "the kernel has no nftables: module nf_tables or nfnetlink is missing";
    return r < 0 ? strerror(-r) : s->why;
}
