/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dom0/expose/when.h"

struct out {
    char *buf;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct out *o, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(o->buf + o->used, WORDS_MAX - o->used, format, args);
    va_end(args);
    if (n > 0)
        o->used += (size_t)n;
    if (o->used >= WORDS_MAX)
        o->used = WORDS_MAX - 1;
}

/* As its owner wrote it, in the grammar that the options take. */
static void put_feature(struct out *o, const struct tree *t, const struct qube *q,
                        enum feature_id id)
{
    const char *text = tree_feature(t, q, id);

    (void)str_escape(str_trim(str_from(text != NULL ? text : "")), o->buf, WORDS_MAX);
}

const char *words_allow(const struct tree *t, const struct qube *q, const struct exposure *e,
                        char buf[static WORDS_MAX])
{
    struct out o = {buf, 0};

    buf[0] = '\0';
    if (!e->has_allow)
        put(&o, "every port, for everybody");
    else if (e->allow.n == 0)
        put(&o, "nothing");
    else
        put_feature(&o, t, q, FEATURE_ALLOW);
    if (strcmp(buf, "any") == 0)
        put(&o, "every port, for everybody");
    return buf;
}

const char *words_publish(const struct tree *t, const struct qube *q, char buf[static WORDS_MAX])
{
    put_feature(&(struct out){buf, 0}, t, q, FEATURE_PUBLISH);
    return buf;
}

const char *words_rest(const struct exposure *e, int64_t now, char buf[static WORDS_MAX])
{
    struct out o = {buf, 0};
    char text[WHEN_STR_MAX];

    buf[0] = '\0';
    if (e->expires != 0)
        put(&o, "until %s", when_format(e->expires, now, text));
    if (e->limit != 0)
        put(&o, "%s%u new connections a second from each source", o.used > 0 ? ", " : "", e->limit);
    if (e->log)
        put(&o, "%snew peers are logged", o.used > 0 ? ", " : "");
    if (e->keep)
        put(&o, "%sconnections go on after the end", o.used > 0 ? ", " : "");
    return buf;
}

/* ---- qubes ---- */

static bool is_attached(const struct qube *q)
{
    return q->live.known && (q->power == POWER_RUNNING || q->power == POWER_PAUSED);
}

const struct addr *words_address(const struct qube *q, unsigned family_index)
{
    return is_attached(q) ? &q->live.ip[family_index] : &q->ip[family_index];
}

const char *words_addresses(const struct qube *q, char buf[static 2 * ADDR_STR_MAX + 4])
{
    char text[ADDR_STR_MAX];
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned f = 0; f < 2; f++) {
        const struct addr *a = words_address(q, f);

        if (a->family != 0)
            used += (size_t)snprintf(buf + used, 2 * ADDR_STR_MAX + 4 - used, "%s%s",
                                     used > 0 ? ", " : "", addr_format(a, text));
    }
    return buf;
}

const char *words_power(enum power power)
{
    switch (power) {
    case POWER_HALTED:
        return "halted";
    case POWER_STARTING:
        return "starting";
    case POWER_RUNNING:
        return "running";
    case POWER_PAUSED:
        return "paused";
    case POWER_OTHER:
        return "not running";
    }
    return "?";
}

const char *words_edge(const struct tree *t, const struct qube *q)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing = NULL;
    int n = tree_hops(t, q, hops, &missing);

    return n > 0 ? hops[n - 1]->name : "no net qube";
}
