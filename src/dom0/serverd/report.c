/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

/* ---- exposures ---- */

/* The record of an exposure that its own net qube gets: there is one for each address. */
static bool is_first_record(const struct wish *w)
{
    return w->kind == WISH_RECORD && strstr(w->value, "|via=direct|") != NULL;
}

static bool is_pending(const struct wish *w)
{
    return strstr(w->value, "|xid=pending|") != NULL;
}

/* The same exposure in another computation. */
static const struct wish *find_same(const struct wished *in, const char *whose, const struct addr *a)
{
    for (size_t i = 0; i < in->all.n; i++) {
        const struct wish *w = &in->all.wishes[i];

        if (is_first_record(w) && addr_equal(&w->addr, a) && strcmp(in->names[i].whose, whose) == 0)
            return w;
    }
    return NULL;
}

static const char *hop_of(const struct wished *in, size_t wish)
{
    for (size_t i = 0; i < in->n_hops; i++)
        if (wish >= in->hops[i].from && wish < in->hops[i].from + in->hops[i].n)
            return in->hops[i].name;
    return "";
}

static bool has_problem(const struct wished *in, const struct wished_problem *p)
{
    for (size_t i = 0; i < in->n_problems; i++) {
        const struct wished_problem *o = &in->problems[i];

        if (o->kind == p->kind && o->family == p->family && strcmp(o->whose, p->whose) == 0 &&
            strcmp(o->hop, p->hop) == 0 && strcmp(o->why, p->why) == 0)
            return true;
    }
    return false;
}

static int priority_of(enum problem_kind kind)
{
    switch (kind) {
    case PROBLEM_HALTED:
        return LOG_DEBUG;
    case PROBLEM_EXPIRED:
    case PROBLEM_HOP_CHANGING:
    case PROBLEM_HOP_HALTED:
        return LOG_INFO;
    case PROBLEM_GRAMMAR:
    case PROBLEM_ADDRESS:
    case PROBLEM_DUPLICATE:
    case PROBLEM_PORT:
    case PROBLEM_NO_NETVM:
    case PROBLEM_HOP_LACKS:
    case PROBLEM_HOP_VPN:
    case PROBLEM_TOO_LONG:
    case PROBLEM_INCOMPLETE:
        return LOG_WARNING;
    }
    return LOG_WARNING;
}

static void report_opened(const struct wished *before, const struct wished *after)
{
    for (size_t i = 0; i < after->all.n; i++) {
        const struct wish *w = &after->all.wishes[i], *old;
        char addr[ADDR_STR_MAX];
        struct log_fields fields = {.qube = after->names[i].whose, .address = addr};

        if (!is_first_record(w))
            continue;
        (void)addr_format(&w->addr, addr);
        old = find_same(before, fields.qube, &w->addr);
        if (old && strcmp(old->value, w->value) == 0)
            continue;
        fields.action = is_pending(w) ? "prepare" : "expose";
        if (is_pending(w))
            log_event(LOG_INFO, &fields, "%s is about to be exposed as %s behind %s", fields.qube,
                      addr, hop_of(after, i));
        else
            log_event(LOG_INFO, &fields, "%s is exposed as %s behind %s%s", fields.qube, addr,
                      hop_of(after, i), old && !is_pending(old) ? " (changed)" : "");
    }
}

static void report_closed(const struct wished *before, const struct wished *after)
{
    for (size_t i = 0; i < before->all.n; i++) {
        const struct wish *w = &before->all.wishes[i];
        char addr[ADDR_STR_MAX];
        struct log_fields fields = {
            .qube = before->names[i].whose, .address = addr, .action = "withdraw"};

        if (!is_first_record(w) || find_same(after, fields.qube, &w->addr))
            continue;
        (void)addr_format(&w->addr, addr);
        log_event(LOG_INFO, &fields, "%s is not exposed as %s any more", fields.qube, addr);
    }
}

void report_changes(const struct wished *before, const struct wished *after)
{
    report_closed(before, after);
    report_opened(before, after);
    for (size_t i = 0; i < after->n_problems; i++) {
        const struct wished_problem *p = &after->problems[i];
        struct log_fields fields = {.qube = p->whose, .action = problem_name(p->kind)};

        if (!has_problem(before, p))
            log_event(priority_of(p->kind), &fields, "%s%s%s", p->whose,
                      p->kind == PROBLEM_HALTED ? ": " : " is not exposed: ", p->why);
    }
}

/* ---- writes ---- */

void report_op(const char *hop, const struct op *op, const char *whose)
{
    char text[PLAN_TEXT_MAX], safe[512];
    struct log_fields fields = {.qube = whose[0] ? whose : hop,
                                .action = op->kind == OP_REMOVE ? "remove" : "write"};

    (void)str_escape(str_from(plan_format(op, text)), safe, sizeof(safe));
    log_event(LOG_DEBUG, &fields, "QubesDB of %s: %s", hop, safe);
}

/* A number, not the keys: any qube can write thousands of them into its own QubesDB. */
void report_older(const char *hop, size_t n)
{
    struct log_fields fields = {.qube = hop, .action = "remove"};

    log_event(LOG_NOTICE, &fields,
              "QubesDB of %s: %zu keys of the older package removed, which this one replaces", hop, n);
}

void report_event(const struct admin_event *e)
{
    char subject[64], name[128];

    log_debug("Event of %s: %s",
              e->subject.len > 0 ? str_escape(e->subject, subject, sizeof(subject)) : "the system",
              str_escape(e->name, name, sizeof(name)));
}

/* ---- QubesDB ---- */

void report_repair(const struct hop *h)
{
    struct log_fields fields = {.qube = h->name, .action = "repair"};

    log_event(LOG_WARNING, &fields,
              "Somebody changed the exposures in the QubesDB of %s; put right. If it was not you, "
              "look at what runs in %s", h->name, h->name);
}

void report_hop_ready(const struct hop *h)
{
    log_debug("QubesDB of %s is connected, %zu keys", h->name, h->present.n);
    if (h->present.overflow)
        log_warning("The QubesDB of %s is full of keys that concern us: look at what runs in %s",
                    h->name, h->name);
}

/* That it is not there (yet) is no news: it comes and goes with the qube. */
void report_hop_lost(const struct hop *h, int error)
{
    struct log_fields fields = {.qube = h->name, .action = "lost"};
    bool coming = error == -ENOENT || error == -ECONNRESET ||
                  (error == -ECONNREFUSED && h->retry_usec < UINT64_C(5000000));

    if (coming)
        log_debug("QubesDB of %s: %s", h->name, strerror(-error));
    else
        log_event(LOG_WARNING, &fields,
                  "The QubesDB of %s cannot be reached (%s): exposures by way of it stay as they are, "
                  "new ones wait. Restarting %s helps if it stays so", h->name, strerror(-error),
                  h->name);
}
