/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keys and values of one exposed qube. */
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dom0/tree/wish_steps.h"

#define MARKER_PATH     "/network-server"
#define MARKER_VALUE    "1"
#define RECORD_PREFIX   "/network-server/"
#define FIREWALL_PREFIX "/qubes-firewall/"
#define INBOUND_PATH    "/network-server-inbound"

struct text { /* one value; full: it does not fit */
    char buf[WISH_VALUE_MAX];
    size_t len;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *x, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(x->buf + x->len, sizeof(x->buf) - x->len, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(x->buf) - x->len)
        x->full = true;
    else
        x->len += (size_t)n;
    x->buf[x->len] = '\0';
}

static void add_feature(struct text *x, const struct work *w, const struct candidate *c,
                        const char *field, enum feature_id id)
{
    const char *value = tree_feature(w->t, c->q, id);

    add(x, "|%s=%s", field, value != NULL ? value : "");
}

static bool has_no_number(const struct qube *q)
{
    return q->power == POWER_STARTING || q->xid[0] == 0;
}

/* Somebody further in does not run yet, or has no number: prepare, open and answer nothing. */
static bool is_pending(const struct candidate *c, int hop)
{
    bool pending = has_no_number(c->q);

    for (int k = 0; k < hop; k++)
        pending = pending || has_no_number(c->hops[k]);
    return pending;
}

static void add_xid(struct text *x, const struct candidate *c, int hop, const struct qube *child)
{
    if (is_pending(c, hop))
        add(x, "|xid=pending");
    else if (child->xid[1] != 0 && child->xid[1] != child->xid[0])
        add(x, "|xid=%u,%u", child->xid[0], child->xid[1]);
    else
        add(x, "|xid=%u", child->xid[0]);
}

static void make_record(const struct work *w, const struct candidate *c, int hop, int family,
                        struct text *x)
{
    const struct qube *child = hop == 0 ? c->q : c->hops[hop - 1];
    char via[ADDR_STR_MAX] = "direct";

    if (hop > 0)
        (void)addr_format(&child->live.ip[family], via);
    add(x, "v=1|vm=%s", c->q->name);
    add_xid(x, c, hop, child);
    add(x, "|via=%s|edge=%d|mode=%s", via, hop == c->n_hops - 1,
        c->e.forward ? "forward" : "publish");
    if (c->e.forward && c->e.has_allow)
        add_feature(x, w, c, "allow", FEATURE_ALLOW);
    if (c->e.publish.n > 0)
        add_feature(x, w, c, "publish", FEATURE_PUBLISH);
    if (c->e.expires != 0)
        add_feature(x, w, c, "expires", FEATURE_EXPIRES);
    if (c->e.limit != 0)
        add(x, "|limit=%u", c->e.limit);
    if (c->e.log)
        add(x, "|log=1");
    if (c->e.keep)
        add(x, "|keep=1");
}

/* The ports inside that something published leads to, as rules. */
static void add_inside_ports(struct text *x, const struct publish *publish, const char *separator)
{
    for (size_t i = 0; i < publish->n; i++) {
        const struct publish_entry *e = &publish->entries[i];
        unsigned hi = e->inside_lo + (unsigned)(e->outside_hi - e->outside_lo);
        char net[PREFIX_STR_MAX];

        add(x, "%s%s/%u", separator, e->proto == ALLOW_PROTO_TCP ? "tcp" : "udp", e->inside_lo);
        if (hi != e->inside_lo)
            add(x, "-%u", hi);
        if (e->from.addr.family != 0)
            add(x, " from %s", prefix_format(&e->from, net));
        separator = "; ";
    }
}

static void make_inbound(const struct work *w, const struct candidate *c, struct text *x)
{
    const char *allow = c->e.has_allow ? tree_feature(w->t, c->q, FEATURE_ALLOW) : NULL;
    char addr[ADDR_STR_MAX];

    add(x, "v=1");
    for (unsigned f = 0; f < FAMILIES; f++) {
        if (!c->open[f])
            continue;
        add(x, "|%s allow=", addr_format(&c->q->live.ip[f], addr));
        if (c->e.forward && !c->e.has_allow) {
            add(x, "any");
            continue;
        }
        if (c->e.forward)
            add(x, "%s", allow != NULL && c->e.allow.n > 0 ? allow : "");
        add_inside_ports(x, &c->e.publish, c->e.forward && c->e.allow.n > 0 ? "; " : "");
    }
}

/* The next wish, all zero, counted only when the caller filled it. NULL: no memory. */
static struct wish *next_wish(struct work *w)
{
    struct wishes *out = w->out;

    if (out->n == out->capacity) {
        size_t capacity = out->capacity == 0 ? 32 : out->capacity * 2;
        struct wish *grown = reallocarray(out->wishes, capacity, sizeof(*grown));

        if (grown == NULL) {
            w->error = -ENOMEM;
            return NULL;
        }
        out->wishes = grown;
        out->capacity = capacity;
    }
    out->wishes[out->n] = (struct wish){.kind = WISH_MARKER};
    return &out->wishes[out->n];
}

__attribute__((format(printf, 5, 6))) static void append(struct work *w, const struct wish *what,
                                                         const char *value, bool *ret_fits,
                                                         const char *path, ...)
{
    struct wish *wish = next_wish(w);
    va_list args;
    int n;

    if (wish == NULL)
        return;
    *wish = *what;
    va_start(args, path);
    n = vsnprintf(wish->path, sizeof(wish->path), path, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(wish->path)) {
        *ret_fits = false;
        return;
    }
    if (value != NULL) {
        wish->value = strdup(value);
        if (wish->value == NULL) {
            w->error = -ENOMEM;
            return;
        }
    }
    w->out->n++;
}

void wish_append_marker(struct work *w, const struct qube *hop)
{
    bool fits = true;

    append(w, &(struct wish){.kind = WISH_MARKER, .where = hop}, MARKER_VALUE, &fits, MARKER_PATH);
}

/*
 * qubesd writes the firewall block of a qube into its own net qube, and only there. So this is never
 * wished for the hop that the property names, even if the vif is somewhere else at the moment.
 */
static bool wants_firewall(const struct candidate *c, int hop)
{
    return hop > 0 && c->e.forward && strcmp(c->q->netvm, c->hops[hop]->name) != 0;
}

static void append_family(struct work *w, const struct candidate *c, int family, bool *ret_fits)
{
    const struct addr *a = &c->q->live.ip[family];
    char addr[ADDR_STR_MAX];

    (void)addr_format(a, addr);
    for (int k = 0; k < c->n_hops && *ret_fits && w->error == 0; k++) {
        struct wish wish = {
            .kind = WISH_RECORD, .where = c->hops[k], .whose = c->q, .addr = *a};
        struct text x = {.len = 0};

        make_record(w, c, k, family, &x);
        *ret_fits = !x.full;
        if (x.full)
            return;
        append(w, &wish, x.buf, ret_fits, RECORD_PREFIX "%s", addr);
        wish.kind = WISH_FIREWALL;
        if (k > 0)
            wish.child = c->hops[k - 1]->live.ip[family];
        if (wants_firewall(c, k))
            append(w, &wish, NULL, ret_fits, FIREWALL_PREFIX "%s", addr);
    }
}

static void append_inbound(struct work *w, const struct candidate *c, bool *ret_fits)
{
    struct wish wish = {.kind = WISH_INBOUND, .where = c->q, .whose = c->q};
    struct text x = {.len = 0};

    make_inbound(w, c, &x);
    if (x.full || (c->e.forward && c->e.has_allow &&
                   c->e.allow.n + c->e.publish.n > ALLOW_MAX_ENTRIES))
        *ret_fits = false;
    else if (c->q->power != POWER_STARTING) /* its QubesDB belongs to nobody before */
        append(w, &wish, x.buf, ret_fits, INBOUND_PATH);
}

bool wish_append_candidate(struct work *w, const struct candidate *c)
{
    size_t before = w->out->n;
    bool fits = true;

    for (int f = 0; f < FAMILIES && fits; f++) {
        if (c->open[f])
            append_family(w, c, f, &fits);
    }
    if (fits)
        append_inbound(w, c, &fits);
    if (fits)
        return true;
    while (w->out->n > before)
        free(w->out->wishes[--w->out->n].value);
    wish_problem(w, PROBLEM_TOO_LONG, c->q, NULL, 0,
                 "the rules of %s are too long for QubesDB (%d characters for all of it, %d "
                 "combinations of ports and networks): use fewer rules, ranges of ports or larger "
                 "networks", c->q->name, WISH_VALUE_MAX - 1, ALLOW_MAX_ENTRIES);
    return false;
}
