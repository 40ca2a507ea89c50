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

/* Kinds of problems that a change must not bring; what stood against it before is only told. */
static unsigned grave_problems(const struct session *s, const struct qube *q, const char **ret_why)
{
    static const unsigned grave = 1u << PROBLEM_GRAMMAR | 1u << PROBLEM_ADDRESS |
                                  1u << PROBLEM_DUPLICATE | 1u << PROBLEM_PORT |
                                  1u << PROBLEM_TOO_LONG;
    unsigned kinds = 0;

    for (size_t i = 0; i < s->wishes.n_problems; i++) {
        const struct problem *p = &s->wishes.problems[i];

        if (p->whose != q || !(grave & 1u << p->kind))
            continue;
        if (kinds == 0)
            *ret_why = p->why;
        kinds |= 1u << p->kind;
    }
    return kinds;
}

static int try_change(struct session *s, struct qube *q, const struct change *c)
{
    _cleanup_(exposure_done) struct exposure e = {0};
    const char *why = "";
    unsigned before = grave_problems(s, q, &why), after;
    char grammar[WISH_WHY_MAX];
    int r = 0;

    for (size_t i = 0; i < c->n && r == 0; i++)
        r = change_apply(q, &c->steps[i]);
    if (r == 0)
        r = session_wish(s);
    if (r < 0)
        return EXPOSE_FAILED;
    if (s->o->off)
        return EXPOSE_OK;
    if (exposure_of(s->tree, q, &e, grammar) < 0) {
        say_failed(UNCHANGED, "with this change nothing would open: %s", grammar);
        return EXPOSE_REFUSED;
    }
    after = grave_problems(s, q, &why);
    if (after & ~before) {
        say_failed(UNCHANGED, "%s", why);
        return EXPOSE_REFUSED;
    }
    return EXPOSE_OK;
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
    if (s->o->off || s->o->dry_run) {
        if (!s->o->off && attach_is_due(q))
            attach_note(q);
        return EXPOSE_OK;
    }
    return attach_offer(s, q) < 0 ? EXPOSE_FAILED : EXPOSE_OK;
}

int expose_change(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};

    return session_open(&s, o) < 0 ? EXPOSE_FAILED : change(&s);
}
