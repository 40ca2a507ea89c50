/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/ways.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/words.h"

#define DAEMON "qubes-network-serverd"

const char *place_words(enum place p)
{
    switch (p) {
    case PLACE_NOT_WISHED:
        return "-";
    case PLACE_AS_WISHED:
        return "as wished";
    case PLACE_MISSING:
        return "missing";
    case PLACE_OTHER:
        return "another one";
    case PLACE_UNREADABLE:
        return "unreadable";
    }
    return "?";
}

static const struct look *find_look(const struct ways_input *in, const struct qube *q)
{
    for (size_t i = 0; i < in->n_looks; i++) {
        if (strcmp(in->looks[i].qube, q->name) == 0)
            return &in->looks[i];
    }
    return NULL;
}

static const struct ask *find_ask(const struct ways_input *in, const struct qube *q)
{
    for (size_t i = 0; i < in->n_asks; i++) {
        if (strcmp(in->asks[i].hop, q->name) == 0)
            return &in->asks[i];
    }
    return NULL;
}

static const struct wish *find_wish(const struct wishes *w, enum wish_kind kind,
                                    const struct qube *where, const struct addr *addr)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct wish *wish = &w->wishes[i];

        if (wish->kind == kind && wish->where == where &&
            (addr == NULL || addr_equal(&wish->addr, addr)))
            return wish;
    }
    return NULL;
}

static enum place compare(const struct look *look, const char *path, const char *wished,
                          const char **ret_present)
{
    const char *present = look != NULL ? look_value(look, path) : NULL;

    if (ret_present != NULL)
        *ret_present = present;
    if (wished == NULL)
        return PLACE_NOT_WISHED;
    if (look == NULL || look->error < 0)
        return PLACE_UNREADABLE;
    if (present == NULL)
        return PLACE_MISSING;
    return strcmp(present, wished) == 0 ? PLACE_AS_WISHED : PLACE_OTHER;
}

static void look_at_hop(const struct ways_input *in, const struct addr *addr, struct way_hop *h)
{
    char path[WISH_PATH_MAX + 16], text[ADDR_STR_MAX];
    const struct wish *firewall = find_wish(in->w, WISH_FIREWALL, h->hop, addr);

    h->look = find_look(in, h->hop);
    h->ask = find_ask(in, h->hop);
    h->wished = find_wish(in->w, WISH_RECORD, h->hop, addr);
    (void)snprintf(path, sizeof(path), "/network-server/%s", addr_format(addr, text));
    h->record = compare(h->look, path, h->wished != NULL ? h->wished->value : NULL, &h->present);
    if (firewall != NULL) {
        (void)snprintf(path, sizeof(path), "/qubes-firewall/%s/policy", text);
        h->firewall = compare(h->look, path, "accept", NULL);
    }
    h->reported = ask_address(h->ask, addr);
    h->cut = h->reported == NULL && ask_left_out(h->ask, "addresses_left_out") > 0;
}

/* ---- why not ---- */

__attribute__((format(printf, 2, 3))) static bool because(char *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, WAY_WHY_MAX, format, args);
    va_end(args);
    return true;
}

static bool why_wish(const struct wishes *w, const struct qube *q, int family, char *why)
{
    for (size_t i = 0; i < w->n_problems; i++) {
        const struct problem *p = &w->problems[i];

        if (p->whose == q && (p->family == 0 || family == 0 || p->family == family))
            return because(why, "%s", p->why);
    }
    return false;
}

static bool why_record(const struct way_hop *h, const char *addr, char *why)
{
    const char *name = h->hop->name;

    if (h->look == NULL)
        return because(why, "%s does not run, so nothing goes through it. Start it: qvm-start %s",
                       name, name);
    switch (h->record) {
    case PLACE_NOT_WISHED:
        return because(why, "nothing about %s is wished of %s", addr, name);
    case PLACE_AS_WISHED:
        break;
    case PLACE_MISSING:
        return because(why, "%s has no record of %s: " DAEMON " has not written it. "
                       "See: systemctl status " DAEMON, name, addr);
    case PLACE_OTHER:
        return because(why, "the record of %s in %s is not the one that is wished: " DAEMON
                       " has not written it anew, or somebody in %s changes it. "
                       "See: systemctl status " DAEMON, addr, name, name);
    case PLACE_UNREADABLE:
        return because(why, "the QubesDB of %s cannot be read: %s", name,
                       strerror(-h->look->error));
    }
    if (h->firewall != PLACE_NOT_WISHED && h->firewall != PLACE_AS_WISHED)
        return because(why, "%s lacks the firewall block that lets %s out under its own address: "
                       DAEMON " has not written it. See: systemctl status " DAEMON, name, addr);
    return false;
}

static bool why_reported(const struct way_hop *h, const char *addr, char *why)
{
    char reason[400], state[40];
    const char *name = h->hop->name;

    if (h->ask == NULL)
        return false;
    if (h->ask->answer == NULL)
        return because(why, "%s does not tell what it does: %s. In it, "
                       "systemctl status qubes-routing-manager says more", name, h->ask->why);
    if (h->cut)
        return because(why, "what %s does with %s is not known: the answer of %s was too long to "
                       "hold it. In it, qubes-routing-manager --status says more",
                       name, addr, name);
    if (h->reported == NULL)
        return because(why, "%s knows nothing of %s: its qubes-routing-manager has not taken the "
                       "record up (reported by %s)", name, addr, name);
    if (json_is_true(json_object_get(h->reported, "open")))
        return false;
    (void)ask_text(h->reported, "reason", reason, sizeof(reason));
    (void)ask_text(h->reported, "state", state, sizeof(state));
    return because(why, "%s keeps %s closed: %s%s%s (reported by %s)", name, addr, state,
                   reason[0] != '\0' ? ": " : "", reason, name);
}

static void judge(const struct ways_input *in, const struct qube *q, struct way *way)
{
    char addr[ADDR_STR_MAX];

    (void)addr_format(&way->addr, addr);
    way->wished = way->n_hops > 0;
    for (size_t i = 0; i < way->n_hops; i++)
        way->wished &= way->hops[i].wished != NULL;
    if (!way->wished && why_wish(in->w, q, way->addr.family, way->why))
        return;
    for (size_t i = 0; i < way->n_hops; i++) {
        if (why_record(&way->hops[i], addr, way->why) ||
            why_reported(&way->hops[i], addr, way->why))
            return;
    }
    /* what speaks against it although there are records: not yet running, about to end ... */
    (void)why_wish(in->w, q, way->addr.family, way->why);
}

static bool why_inbound(struct ways *ways, const struct look *look)
{
    const char *name = ways->q->name;

    switch (ways->inbound) {
    case PLACE_NOT_WISHED:
    case PLACE_AS_WISHED:
        return false;
    case PLACE_UNREADABLE:
        return because(ways->why, "the QubesDB of %s cannot be read: %s", name,
                       look != NULL ? strerror(-look->error) : "it does not run");
    case PLACE_MISSING:
    case PLACE_OTHER:
        return because(ways->why, "%s itself has not been told what to let in: " DAEMON
                       " has not written it. See: systemctl status " DAEMON, name);
    }
    return false;
}

void ways_find(const struct ways_input *in, const struct qube *q, struct ways *ret)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing = NULL;
    int n = tree_hops(in->t, q, hops, &missing);
    const struct wish *inbound = find_wish(in->w, WISH_INBOUND, q, NULL);
    const struct look *look = find_look(in, q);

    *ret = (struct ways){.q = q};
    ret->inbound = compare(look, "/network-server-inbound",
                           inbound != NULL ? inbound->value : NULL, NULL);
    for (unsigned f = 0; f < 2; f++) {
        struct way *way = &ret->ways[ret->n];

        if (words_address(q, f)->family == 0)
            continue;
        way->addr = *words_address(q, f);
        way->n_hops = n > 0 ? (size_t)n : 0;
        for (size_t i = 0; i < way->n_hops; i++) {
            way->hops[i].hop = hops[way->n_hops - 1 - i];
            look_at_hop(in, &way->addr, &way->hops[i]);
        }
        judge(in, q, way);
        ret->n++;
    }
    if (ret->n == 0 && !why_wish(in->w, q, 0, ret->why))
        (void)because(ret->why, "%s has no address", q->name);
    for (size_t i = 0; i < ret->n; i++) {
        if (ret->ways[i].why[0] == '\0')
            ret->why[0] = '\0';
        else if (i == 0)
            memcpy(ret->why, ret->ways[0].why, sizeof(ret->why));
        if (ret->ways[i].why[0] == '\0')
            break;
    }
    if (ret->why[0] == '\0')
        (void)why_inbound(ret, look);
}
