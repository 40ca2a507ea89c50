/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A change: planned, tried on the tree as it was read, checked, and only then written to qubesd,
 * step by step; then what is open now is told.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/address.h"
#include "dom0/expose/attach.h"
#include "dom0/expose/change.h"
#include "dom0/expose/expose.h"
#include "dom0/expose/gather.h"
#include "dom0/expose/say.h"
#include "dom0/expose/show.h"

#define UNCHANGED "Nothing was changed."

/* ---- may it be ---- */

static int check_klass(const struct qube *q, const struct options *o)
{
    bool ip = o->ip[0].family != 0 || o->ip[1].family != 0;

    if (strcmp(q->klass, "AdminVM") == 0 || strcmp(q->klass, "RemoteVM") == 0) {
        say_failed(UNCHANGED, "%s has no network that could be exposed", q->name);
        return EXPOSE_REFUSED;
    }
    if (ip && strcmp(q->klass, "TemplateVM") == 0) {
        say_failed(UNCHANGED " Set it of the qubes that are based on it.",
                   "--ip: %s is a template, and an address is not inherited from a template",
                   q->name);
        return EXPOSE_REFUSED;
    }
    return EXPOSE_OK;
}

/* The net qube that faces the LAN for this qube, if it told anything. */
static const struct ask *edge_of(struct session *s, const struct qube *q, const struct gathered *g)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing = NULL;
    int n = tree_hops(s->tree, q, hops, &missing);

    for (size_t i = 0; n > 0 && i < g->n_asks; i++) {
        if (strcmp(g->asks[i].hop, hops[n - 1]->name) == 0)
            return &g->asks[i];
    }
    return NULL;
}

static int check_addresses(struct session *s, const struct qube *q)
{
    _cleanup_(gathered_done) struct gathered g = {0};
    const struct options *o = s->o;
    char why[ADDRESS_WHY_MAX], note[ADDRESS_WHY_MAX + 16];
    const struct ask *edge;

    if (o->ip[0].family == 0 && o->ip[1].family == 0)
        return EXPOSE_OK;
    if (gather_asks(s, q, &g) < 0)
        return EXPOSE_FAILED;
    edge = edge_of(s, q, &g);
    for (unsigned f = 0; f < 2; f++) {
        if (o->ip[f].family == 0)
            continue;
        switch (address_check(s->tree, q, &o->ip[f], edge, why)) {
        case ADDRESS_FINE:
            break;
        case ADDRESS_DOUBTFUL:
            (void)snprintf(note, sizeof(note), "Note: %s.", why);
            say_wrapped(note, 2);
            break;
        case ADDRESS_REFUSED:
            say_failed(UNCHANGED, "--ip: %s", why);
            return EXPOSE_REFUSED;
        }
    }
    return EXPOSE_OK;
}

/* ---- what a change must not bring ---- */

#define GRAVE_KINDS 32

struct grave { /* by kind: what is said first */
    char why[GRAVE_KINDS][WISH_WHY_MAX];
};

struct as_it_is {
    enum power power;
    struct attachment live;
};

static bool is_grave(enum problem_kind kind)
{
    return kind == PROBLEM_GRAMMAR || kind == PROBLEM_ADDRESS || kind == PROBLEM_DUPLICATE ||
           kind == PROBLEM_PORT || kind == PROBLEM_TOO_LONG;
}

/*
 * As it would be with all net qubes and all that is asked for running: what contradicts only then
 * would take somebody by surprise later.
 */
static int find_grave(struct session *s, const struct qube *q, struct grave *ret)
{
    _cleanup_(freep) struct as_it_is *saved = calloc(tree_count(s->tree) + 1, sizeof(*saved));
    _cleanup_(wishes_done) struct wishes w = {0};
    int r = saved != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < tree_count(s->tree); i++) {
        struct qube *one = tree_at(s->tree, i);

        saved[i] = (struct as_it_is){one->power, one->live};
        if (one == q || one->provides_network || wish_is_asked(s->tree, one)) {
            one->power = POWER_RUNNING;
            qube_attach(one);
        }
    }
    if (r == 0)
        r = wish_compute(s->tree, s->now, &w);
    for (size_t i = 0; saved != NULL && i < tree_count(s->tree); i++) {
        tree_at(s->tree, i)->power = saved[i].power;
        tree_at(s->tree, i)->live = saved[i].live;
    }
    for (size_t i = 0; i < w.n_problems; i++) {
        const struct problem *p = &w.problems[i];

        if (p->whose == q && is_grave(p->kind) && ret->why[p->kind][0] == '\0')
            memcpy(ret->why[p->kind], p->why, sizeof(p->why));
    }
    return r;
}

/* What stood against it before is only told: a change may be the way out of it. */
static int compare_grave(const struct grave *before, const struct grave *after)
{
    for (size_t kind = 0; kind < GRAVE_KINDS; kind++) {
        if (after->why[kind][0] != '\0' && before->why[kind][0] == '\0') {
            say_failed(UNCHANGED, "%s", after->why[kind]);
            return EXPOSE_REFUSED;
        }
    }
    return EXPOSE_OK;
}

static int try_change(struct session *s, struct qube *q, const struct change *c)
{
    _cleanup_(exposure_done) struct exposure e = {0};
    struct grave before = {0}, after = {0};
    char grammar[WISH_WHY_MAX];
    int r = find_grave(s, q, &before);

    for (size_t i = 0; i < c->n && r == 0; i++)
        r = change_apply(q, &c->steps[i]);
    if (r == 0)
        r = session_wish(s);
    if (r == 0)
        r = find_grave(s, q, &after);
    if (r < 0)
        return EXPOSE_FAILED;
    if (s->o->off)
        return EXPOSE_OK;
    if (exposure_of(s->tree, q, &e, grammar) < 0) {
        say_failed(UNCHANGED, "with this change nothing would open: %s", grammar);
        return EXPOSE_REFUSED;
    }
    return compare_grave(&before, &after);
}

/* ---- writing ---- */

static int write_step(struct session *s, const struct qube *q, const struct step *step)
{
    struct admin_request request = {.dest = q->name, .payload = {"", 0}};
    char text[3400], what[3600];

    switch (step->kind) {
    case STEP_SET:
        request.method = "admin.vm.feature.Set";
        request.arg = feature_name(step->feature);
        request.payload = str_from(step->value);
        break;
    case STEP_REMOVE:
        request.method = "admin.vm.feature.Remove";
        request.arg = feature_name(step->feature);
        break;
    case STEP_ADDRESS:
        request.method = "admin.vm.property.Set";
        request.arg = step->addr.family == AF_INET6 ? "ip6" : "ip";
        request.payload = str_from(addr_format(&step->addr, text));
        break;
    }
    if (step->kind == STEP_ADDRESS)
        return session_call(s, &request, "setting the address", NULL);
    (void)snprintf(what, sizeof(what), "%s of %s", change_format(step, text, sizeof(text)), q->name);
    return session_call(s, &request, what, NULL);
}

static int write_change(struct session *s, const struct qube *q, const struct change *c)
{
    char text[3400];

    for (size_t i = 0; i < c->n; i++) {
        if (write_step(s, q, &c->steps[i]) == 0)
            continue;
        for (size_t k = 0; k < i; k++)
            (void)fprintf(stderr, "Was done: %s\n", change_format(&c->steps[k], text, sizeof(text)));
        (void)fprintf(stderr, "%s See: qvm-expose %s\n",
                      i == 0 ? UNCHANGED : "The rest was not done.", q->name);
        return EXPOSE_FAILED;
    }
    return EXPOSE_OK;
}

/* ---- telling ---- */

static size_t count_based_on(const struct session *s, const struct qube *q, const char *klass)
{
    size_t n = 0;

    for (size_t i = 0; i < tree_count(s->tree); i++) {
        const struct qube *one = tree_at(s->tree, i);

        n += strcmp(one->template, q->name) == 0 &&
             (klass == NULL || strcmp(one->klass, klass) == 0);
    }
    return n;
}

static void note_heirs(const struct session *s, const struct qube *q)
{
    char text[400];
    size_t n;

    if (strcmp(q->klass, "TemplateVM") == 0) {
        n = count_based_on(s, q, NULL);
        (void)snprintf(text, sizeof(text),
                       "Note: %s is a template: this counts for the %zu qubes that are based on it, "
                       "but for those that have own values.",
                       q->name, n);
        say_wrapped(text, 2);
        return;
    }
    n = count_based_on(s, q, "DispVM");
    if (strcmp(q->klass, "AppVM") == 0 && n > 0) {
        (void)snprintf(text, sizeof(text),
                       "Note: disposables are made from %s. New ones begin with these features, and "
                       "with its address if it was set: with more than one of them at the same time "
                       "nobody would be reachable. The %zu that exist are not changed.",
                       q->name, n);
        say_wrapped(text, 2);
    }
    if (strcmp(q->klass, "DispVM") == 0)
        say_wrapped("Note: a disposable forgets it when it ends, unless it is a named one.", 2);
}

static void tell(const struct session *s, const struct qube *q, const struct change *c)
{
    char text[3400];

    if (s->o->dry_run) {
        printf("Would be done, in this order:\n");
        for (size_t i = 0; i < c->n; i++)
            printf("  %s\n", change_format(&c->steps[i], text, sizeof(text)));
        printf("Then:\n");
    } else if (c->n == 0) {
        printf("It is so already.\n");
    }
    show_qube(s, q);
    (void)show_problems(s, q);
    note_heirs(s, q);
}

static int change(struct session *s)
{
    _cleanup_(change_done) struct change c = {0};
    struct qube *q = session_qube(s);
    char why[OPTIONS_WHY_MAX];
    int r;

    if (q == NULL)
        return EXPOSE_FAILED;
    r = check_klass(q, s->o);
    if (r != EXPOSE_OK)
        return r;
    if (!q->complete) {
        say_failed(UNCHANGED, "qubesd has not told everything about %s", q->name);
        return EXPOSE_FAILED;
    }
    r = change_plan(s->tree, q, s->o, s->now, &c, why);
    if (r < 0) {
        say_failed(UNCHANGED, "%s", r == -EINVAL ? why : strerror(-r));
        return r == -EINVAL ? EXPOSE_USAGE : EXPOSE_FAILED;
    }
    r = check_addresses(s, q);
    if (r == EXPOSE_OK)
        r = try_change(s, q, &c);
    if (r == EXPOSE_OK && !s->o->dry_run)
        r = write_change(s, q, &c);
    if (r != EXPOSE_OK)
        return r;
    tell(s, q, &c);
    if (s->o->off)
        return EXPOSE_OK;
    if (s->o->dry_run) {
        if (attach_is_due(q))
            attach_note(q);
        return EXPOSE_OK;
    }
    if (attach_offer(s, q) < 0)
        return EXPOSE_FAILED;
    printf("Whether a packet arrives: qvm-expose --explain %s\n", q->name);
    return EXPOSE_OK;
}

int expose_change(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};

    return session_open(&s, o) < 0 ? EXPOSE_FAILED : change(&s);
}
