/* SPDX-License-Identifier: GPL-2.0-or-later */
/* May this qube be exposed at all, and under which of its addresses? All reasons against it are told. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "dom0/tree/wish_steps.h"

static int compare_owner(const void *a, const void *b)
{
    const struct owner *x = a, *y = b;
    int c = addr_compare(&x->addr, &y->addr);

    return c != 0 ? c : strcmp(x->q->name, y->q->name);
}

static void add_owner(struct work *w, const struct qube *q, const struct addr *a)
{
    if (a->family != 0)
        w->owners[w->n_owners++] = (struct owner){*a, q};
}

/*
 * What runs has its live addresses, unless it is attached nowhere: then nothing reaches it by them. A
 * net qube keeps its own also while it is off.
 */
void wish_index_owners(struct work *w)
{
    size_t n = tree_count(w->t);

    w->owners = calloc(n * 2 * FAMILIES + 1, sizeof(*w->owners));
    if (w->owners == NULL) {
        w->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct qube *q = tree_at(w->t, i);

        for (unsigned f = 0; f < FAMILIES; f++) {
            bool alive = qube_is_alive(q) && q->live.known &&
                         (q->live.netvm[0] != '\0' || q->provides_network);

            if (alive)
                add_owner(w, q, &q->live.ip[f]);
            if (q->provides_network && !(alive && addr_equal(&q->ip[f], &q->live.ip[f])))
                add_owner(w, q, &q->ip[f]);
        }
    }
    qsort(w->owners, w->n_owners, sizeof(*w->owners), compare_owner);
}

/* Another qube that has the address; a net qube before others, then the first by name. */
static const struct qube *find_other(const struct work *w, const struct qube *q,
                                     const struct addr *a)
{
    const struct qube *other = NULL;
    size_t lo = 0, hi = w->n_owners;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (addr_compare(&w->owners[mid].addr, a) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < w->n_owners && addr_equal(&w->owners[lo].addr, a); lo++) {
        const struct qube *o = w->owners[lo].q;

        if (o != q && (other == NULL || (o->provides_network && !other->provides_network)))
            other = o;
    }
    return other;
}

static bool has_vpn(const struct tree *t, const struct qube *q)
{
    const char *value = tree_feature(t, q, FEATURE_VPN);

    /* core-admin's ext/services.py takes every text but the empty one for yes */
    return value != NULL && value[0] != '\0';
}

static bool is_capable(const struct tree *t, const struct qube *q)
{
    const char *value = tree_feature(t, q, FEATURE_CAPABLE);

    return value != NULL && strcmp(value, "1") == 0;
}

static bool judge_features(struct work *w, struct candidate *c)
{
    char why[WISH_WHY_MAX];
    int r = exposure_of(w->t, c->q, &c->e, why);

    if (r == -EINVAL)
        wish_problem(w, PROBLEM_GRAMMAR, c->q, NULL, 0, "%s", why);
    else if (r < 0)
        w->error = r;
    if (r < 0)
        return false;
    if (c->e.expires != 0 && c->e.expires <= w->now) {
        wish_problem(w, PROBLEM_EXPIRED, c->q, NULL, 0,
                     "the exposure of %s ended at %s: give it more time, or end it, with "
                     "qvm-expose %s --for 2h, or --off",
                     c->q->name, tree_feature(w->t, c->q, FEATURE_EXPIRES), c->q->name);
        return false;
    }
    if (c->e.expires != 0 && (w->out->next_expiry == 0 || c->e.expires < w->out->next_expiry))
        w->out->next_expiry = c->e.expires;
    return true;
}

/* The qube itself, but for its addresses. */
static bool judge_qube(struct work *w, struct candidate *c)
{
    const struct qube *q = c->q;

    if (!q->complete) {
        wish_problem(w, PROBLEM_INCOMPLETE, q, NULL, 0,
                     "qubesd has not told everything about %s, or something that makes no sense: "
                     "look at its settings", q->name);
        return false;
    }
    if (!judge_features(w, c))
        return false;
    if (!qube_is_alive(q)) {
        wish_problem(w, PROBLEM_HALTED, q, NULL, 0,
                     "%s does not run: it is exposed as soon as it is started", q->name);
        return false;
    }
    if (!q->live.known) {
        wish_problem(w, PROBLEM_INCOMPLETE, q, NULL, 0,
                     "it is not known yet where %s is attached", q->name);
        return false;
    }
    if (q->changing) {
        wish_problem(w, PROBLEM_HOP_CHANGING, q, NULL, 0,
                     "%s is being attached to another net qube: it is exposed again when that is "
                     "done", q->name);
        return false;
    }
    if (has_vpn(w->t, q)) {
        wish_problem(w, PROBLEM_HOP_VPN, q, NULL, 0,
                     "%s is a VPN qube (service qubes-vpn), which nothing may enter: expose another "
                     "qube", q->name);
        return false;
    }
    return true;
}

static bool judge_hop(struct work *w, const struct candidate *c, const struct qube *hop)
{
    const char *name = c->q->name;

    if (!hop->complete || (qube_is_alive(hop) && !hop->live.known))
        wish_problem(w, PROBLEM_INCOMPLETE, c->q, hop, 0,
                     "qubesd has not told everything about the net qube %s on the way of %s: look "
                     "at its settings", hop->name, name);
    else if (!qube_is_alive(hop))
        wish_problem(w, PROBLEM_HOP_HALTED, c->q, hop, 0,
                     "the net qube %s on the way of %s does not run: start %s", hop->name, name,
                     hop->name);
    else if (hop->changing)
        wish_problem(w, PROBLEM_HOP_CHANGING, c->q, hop, 0,
                     "the net qube %s on the way of %s is being attached to another one: %s is "
                     "exposed again when that is done", hop->name, name, name);
    else if (has_vpn(w->t, hop))
        wish_problem(w, PROBLEM_HOP_VPN, c->q, hop, 0,
                     "the net qube %s on the way of %s is a VPN qube (service qubes-vpn), which "
                     "nothing may enter: attach %s to another net qube", hop->name, name, name);
    else if (!is_capable(w->t, hop))
        wish_problem(w, PROBLEM_HOP_LACKS, c->q, hop, 0,
                     "the net qube %s on the way of %s cannot do it: install the network server in "
                     "its template and restart it, or attach %s to a net qube that has it",
                     hop->name, name, name);
    else
        return true;
    return false;
}

static bool judge_hops(struct work *w, struct candidate *c)
{
    const char *missing = "";
    bool ok = true;
    int n = tree_hops(w->t, c->q, c->hops, &missing);

    if (n == -ENOENT)
        wish_problem(w, PROBLEM_INCOMPLETE, c->q, NULL, 0,
                     "the net qube %s on the way of %s is not known: look at the net qubes of %s",
                     missing, c->q->name, c->q->name);
    else if (n < 0)
        wish_problem(w, PROBLEM_TOO_LONG, c->q, NULL, 0,
                     "there are more than %d net qubes on the way of %s: attach it nearer to the "
                     "LAN", TREE_HOPS_MAX, c->q->name);
    else if (n == 0)
        wish_problem(w, PROBLEM_NO_NETVM, c->q, NULL, 0,
                     "%s has no net qube, so nobody can reach it: give it one", c->q->name);
    for (int k = 0; k < n; k++)
        ok = judge_hop(w, c, c->hops[k]) && ok;
    c->n_hops = n;
    return n > 0 && ok;
}

static int af(int family)
{
    return family == 0 ? AF_INET : AF_INET6;
}

static bool judge_owner(struct work *w, const struct candidate *c, int family, const char *addr)
{
    const struct qube *q = c->q, *other = find_other(w, q, &q->live.ip[family]);

    if (other == NULL)
        return true;
    if (other->provides_network)
        wish_problem(w, PROBLEM_ADDRESS, q, other, af(family),
                     "%s, the address of %s, is also that of the net qube %s: give %s another one",
                     addr, q->name, other->name, q->name);
    else
        wish_problem(w, PROBLEM_DUPLICATE, q, NULL, af(family),
                     "%s and %s run with the same address %s, so neither is exposed under it: give "
                     "one of them another one, and restart it", q->name, other->name, addr);
    return false;
}

/* The upper hops send what is for the qube to the address of the next net qube. */
static bool judge_ways(struct work *w, const struct candidate *c, int family, const char *addr)
{
    bool ok = true;

    for (int k = 0; k + 1 < c->n_hops; k++) {
        const struct addr *via = &c->hops[k]->live.ip[family];

        if (addr_why_unusable(via) == NULL)
            continue;
        wish_problem(w, PROBLEM_ADDRESS, c->q, c->hops[k], af(family),
                     "%s of %s cannot be reached: the net qube %s on the way has no usable %s "
                     "address", addr, c->q->name, c->hops[k]->name, family == 0 ? "IPv4" : "IPv6");
        ok = false;
    }
    return ok;
}

static bool judge_address(struct work *w, const struct candidate *c, int family)
{
    const struct addr *a = &c->q->live.ip[family];
    char addr[ADDR_STR_MAX];
    const char *why;

    if (a->family == 0)
        return false;
    (void)addr_format(a, addr);
    why = addr_why_unusable(a);
    if (why != NULL) {
        wish_problem(w, PROBLEM_ADDRESS, c->q, NULL, af(family),
                     "%s, the address of %s, %s: give it another one", addr, c->q->name, why);
        return false;
    }
    return judge_owner(w, c, family, addr) && judge_ways(w, c, family, addr);
}

bool wish_judge(struct work *w, struct candidate *c)
{
    bool qube = judge_qube(w, c);

    if (!qube || !judge_hops(w, c))
        return false;
    if (c->q->live.ip[0].family == 0 && c->q->live.ip[1].family == 0)
        wish_problem(w, PROBLEM_ADDRESS, c->q, NULL, 0, "%s has no address: give it one",
                     c->q->name);
    for (int f = 0; f < FAMILIES; f++)
        c->open[f] = judge_address(w, c, f);
    return c->open[0] || c->open[1];
}
