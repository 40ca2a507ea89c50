/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/reach.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "dom0/expose/words.h"

/* "tcp/22" or "icmp" */
static const char *wanted(const struct question *q, char *buf, size_t size)
{
    if (q->proto == IPPROTO_TCP || q->proto == IPPROTO_UDP)
        (void)snprintf(buf, size, "%s/%u", q->proto == IPPROTO_TCP ? "tcp" : "udp", q->port);
    else
        (void)snprintf(buf, size, "icmp");
    return buf;
}

/* The port is open to some, only not to this host. */
static bool open_to_others(const struct exposure *e, const struct question *q)
{
    for (size_t i = 0; i < e->allow.n; i++) {
        struct allow one = {&e->allow.entries[i], 1};
        struct addr from, last;

        if (e->allow.entries[i].from.addr.family != q->from.family)
            continue;
        prefix_range(&e->allow.entries[i].from, &from, &last);
        if (allow_accepts(&one, q->from.family, q->proto, q->port, &from))
            return true;
    }
    return false;
}

static const struct publish_entry *published(const struct exposure *e, const struct question *q,
                                             bool any_source)
{
    for (size_t i = 0; i < e->publish.n; i++) {
        const struct publish_entry *m = &e->publish.entries[i];
        bool proto = m->proto == (q->proto == IPPROTO_UDP ? ALLOW_PROTO_UDP : ALLOW_PROTO_TCP);
        bool port = q->port >= m->outside_lo && q->port <= m->outside_hi;
        bool from = m->from.addr.family == 0 || prefix_contains(&m->from, &q->from);

        if (proto && port && q->proto != IPPROTO_ICMP && (from || any_source))
            return m;
    }
    return NULL;
}

static void say_why(const struct tree *t, const struct qube *q, const struct exposure *e,
                    const struct question *question, struct reach *r)
{
    char port[24], from[ADDR_STR_MAX], rules[400], full[WORDS_MAX];

    (void)wanted(question, port, sizeof(port));
    (void)addr_format(&question->from, from);
    (void)str_escape(str_from(words_allow(t, q, e, full)), rules, sizeof(rules));
    if (e->forward && open_to_others(e, question))
        (void)snprintf(r->why, sizeof(r->why),
                       "%s is open, but not from %s. The rules are: %s", port, from, rules);
    else if (published(e, question, true) != NULL)
        (void)snprintf(r->why, sizeof(r->why), "%s is published, but not for %s. The maps are: %.400s",
                       port, from, words_publish(t, q, full));
    else if (e->forward)
        (void)snprintf(r->why, sizeof(r->why),
                       "%s is not among what is open: %s. To add it, name all rules again: "
                       "qvm-expose %s --allow '%.200s%s%s'",
                       port, rules, q->name, e->allow.n > 0 ? rules : "",
                       e->allow.n > 0 ? ";" : "", port);
    else
        (void)snprintf(r->why, sizeof(r->why),
                       "%s is not published, and nothing is open under the qube's own address. "
                       "The maps are: %.400s", port, words_publish(t, q, full));
}

void reach_judge(const struct tree *t, const struct qube *q, const struct exposure *e,
                 const struct question *question, struct reach *ret)
{
    const struct publish_entry *m = published(e, question, false);
    char text[40], own[120] = "", by[120] = "";

    *ret = (struct reach){0};
    (void)wanted(question, text, sizeof(text));
    ret->own = e->forward && (!e->has_allow ||
                              allow_accepts(&e->allow, question->from.family, question->proto,
                                            question->port, &question->from));
    if (ret->own)
        (void)snprintf(own, sizeof(own), "%s of %s is open to it under the qube's own address", text,
                       q->name);
    if (m != NULL) {
        ret->published = true;
        ret->inside = (uint16_t)(m->inside_lo + (question->port - m->outside_lo));
        (void)snprintf(by, sizeof(by), "%s of %s leads to port %u of %s", text, words_edge(t, q),
                       ret->inside, q->name);
    }
    (void)snprintf(ret->how, sizeof(ret->how), "%s%s%s", own, own[0] != '\0' && by[0] != '\0' ? "; " : "",
                   by);
    if (!ret->own && !ret->published)
        say_why(t, q, e, question, ret);
}
