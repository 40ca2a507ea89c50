/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --explain: one qube, each hop on the way to it, and the first reason why a packet would not
 * arrive.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/expose.h"
#include "dom0/expose/gather.h"
#include "dom0/expose/reach.h"
#include "dom0/expose/say.h"
#include "dom0/expose/show.h"
#include "dom0/expose/words.h"

#define TOO_LONG "the answer of %s was too long to hold it"
#define NOTHING "nothing stands in the way as far as the qubes report"

struct explanation {
    const struct session *s;
    const struct qube *q;
    struct ways ways;
    bool asked;
    struct exposure exposure;
    char grammar[WISH_WHY_MAX];
    bool parsed;
    struct reach reach;
    char why[WAY_WHY_MAX]; /* first reason why not; "" */
};

static void explanation_done(struct explanation *e)
{
    exposure_done(&e->exposure);
}

/* The way that the question is about: of its family. */
static const struct way *way_of(const struct explanation *e)
{
    for (size_t i = 0; i < e->ways.n; i++) {
        if (!e->s->o->has_question || e->ways.ways[i].addr.family == e->s->o->from.family)
            return &e->ways.ways[i];
    }
    return NULL;
}

static void find_why(struct explanation *e)
{
    const struct options *o = e->s->o;
    const struct way *way = way_of(e);

    if (!e->asked)
        (void)snprintf(e->why, sizeof(e->why),
                       "nobody asked for %s to be exposed. For example: qvm-expose %s --allow tcp/443",
                       e->q->name, e->q->name);
    else if (!e->parsed)
        (void)snprintf(e->why, sizeof(e->why), "%s", e->grammar);
    else if (o->has_question && way == NULL)
        (void)snprintf(e->why, sizeof(e->why), "%s has no %s address", e->q->name,
                       o->from.family == AF_INET6 ? "IPv6" : "IPv4");
    else if (o->has_question && way->why[0] != '\0')
        (void)snprintf(e->why, sizeof(e->why), "%s", way->why);
    else if (e->ways.why[0] != '\0')
        (void)snprintf(e->why, sizeof(e->why), "%s", e->ways.why);
    else if (o->has_question && !e->reach.own && !e->reach.published)
        (void)snprintf(e->why, sizeof(e->why), "%s", e->reach.why);
}

/* ---- text ---- */

static int print_hops(const struct way *way)
{
    static const char *const columns[] = {"HOP", "RUNS", "RECORD", "REPORTS", "COUNTED", "WHY", NULL};
    struct say_table *t = say_table_new(columns);
    int r = t != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < way->n_hops && r == 0; i++) {
        const struct way_hop *h = &way->hops[i];
        char state[40], reason[400], counters[80];
        const char *record = place_words(h->record);

        (void)ask_text(h->reported, "state", state, sizeof(state));
        (void)ask_text(h->reported, "reason", reason, sizeof(reason));
        if (h->cut)
            (void)snprintf(reason, sizeof(reason), TOO_LONG, h->hop->name);
        if (h->record == PLACE_AS_WISHED && h->firewall != PLACE_NOT_WISHED &&
            h->firewall != PLACE_AS_WISHED)
            record = "no firewall block";
        r = say_table_add(t, (const char *const[]){
                                 h->hop->name, words_power(h->hop->power), record,
                                 h->reported != NULL ? state
                                 : h->ask == NULL         ? "not asked"
                                 : h->cut                 ? "not known"
                                 : h->ask->answer != NULL ? "nothing of it"
                                                          : "no answer",
                                 ask_counters(h->reported, counters, sizeof(counters)),
                                 h->ask != NULL && h->ask->answer == NULL ? h->ask->why : reason});
    }
    if (r == 0)
        return say_table_print(t);
    (void)say_table_print(t);
    return r;
}

/* With two ways the reason of each is told; of one it is the last line anyway. */
static int print_way(const struct way *way, bool alone)
{
    char text[ADDR_STR_MAX], closed[WAY_WHY_MAX + 16];
    int r;

    printf("\nTo %s, from the LAN inwards (as each qube reports of itself):\n",
           addr_format(&way->addr, text));
    if (way->n_hops == 0) {
        printf("  There is no net qube on the way.\n");
        return 0;
    }
    r = print_hops(way);
    if (r == 0 && !alone && way->why[0] != '\0') {
        (void)snprintf(closed, sizeof(closed), "Closed: %s", way->why);
        say_wrapped(closed, 2);
    }
    return r;
}

static int print_text(const struct explanation *e)
{
    int r = 0;

    show_qube(e->s, e->q);
    for (size_t i = 0; e->asked && i < e->ways.n && r == 0; i++)
        r = print_way(&e->ways.ways[i], e->ways.n == 1);
    printf("\n");
    if (e->s->o->has_question && e->parsed && e->asked) {
        printf("By the rules:\n");
        say_wrapped(e->reach.how[0] != '\0' ? e->reach.how : e->reach.why, 2);
    }
    if (e->why[0] == '\0') {
        say_wrapped("Would arrive: " NOTHING ".", 0);
        return r;
    }
    printf("Would not arrive:\n");
    say_wrapped(e->why, 2);
    return r;
}

/* ---- JSON ---- */

static json_t *hop_json(const struct way_hop *h)
{
    json_t *o = json_object(), *reported = NULL;
    char text[400];

    (void)json_object_set_new(o, "name", json_string(h->hop->name));
    (void)json_object_set_new(o, "state", json_string(words_power(h->hop->power)));
    (void)json_object_set_new(o, "wished",
                              h->wished != NULL ? say_json_text(h->wished->value) : json_null());
    (void)json_object_set_new(o, "present",
                              h->present != NULL ? say_json_text(h->present) : json_null());
    (void)json_object_set_new(o, "record", json_string(place_words(h->record)));
    (void)json_object_set_new(o, "firewall", json_string(place_words(h->firewall)));
    if (h->reported != NULL) {
        const json_t *counters = json_object_get(h->reported, "counters");

        reported = json_object();
        (void)json_object_set_new(reported, "state",
                                  json_string(ask_text(h->reported, "state", text, sizeof(text))));
        (void)json_object_set_new(reported, "open",
                                  json_boolean(json_is_true(json_object_get(h->reported, "open"))));
        (void)json_object_set_new(reported, "reason",
                                  json_string(ask_text(h->reported, "reason", text, sizeof(text))));
        for (size_t i = 0; i < 3; i++) {
            static const char *const keys[] = {"connections", "packets", "bytes"};
            const json_t *n = json_object_get(counters, keys[i]);

            if (json_is_integer(n))
                (void)json_object_set_new(reported, keys[i], json_integer(json_integer_value(n)));
        }
    }
    (void)json_object_set_new(o, "reported", reported != NULL ? reported : json_null());
    (void)snprintf(text, sizeof(text), TOO_LONG, h->hop->name);
    if (h->ask != NULL && (h->cut || h->ask->answer == NULL))
        (void)json_object_set_new(o, "no_answer", json_string(h->cut ? text : h->ask->why));
    return o;
}

static json_t *way_json(const struct way *way)
{
    json_t *o = json_object(), *hops = json_array();
    char text[ADDR_STR_MAX];

    for (size_t i = 0; i < way->n_hops; i++)
        (void)json_array_append_new(hops, hop_json(&way->hops[i]));
    (void)json_object_set_new(o, "address", json_string(addr_format(&way->addr, text)));
    (void)json_object_set_new(o, "hops", hops);
    (void)json_object_set_new(o, "why_not",
                              way->why[0] != '\0' ? say_json_text(way->why) : json_null());
    return o;
}

static int print_json(const struct explanation *e)
{
    json_t *root = show_qube_json(e->s, e->q), *ways = json_array();
    int r;

    for (size_t i = 0; i < e->ways.n; i++)
        (void)json_array_append_new(ways, way_json(&e->ways.ways[i]));
    (void)json_object_set_new(root, "ways", ways);
    (void)json_object_set_new(root, "inbound", json_string(place_words(e->ways.inbound)));
    if (e->s->o->has_question && e->parsed) {
        (void)json_object_set_new(root, "by_own_address", json_boolean(e->reach.own));
        (void)json_object_set_new(root, "by_published_port", json_boolean(e->reach.published));
        (void)json_object_set_new(root, "by_the_rules",
                                  say_json_text(e->reach.how[0] != '\0' ? e->reach.how
                                                                        : e->reach.why));
    }
    (void)json_object_set_new(root, "would_arrive", json_boolean(e->why[0] == '\0'));
    (void)json_object_set_new(root, "why_not",
                              e->why[0] != '\0' ? say_json_text(e->why) : json_null());
    r = root != NULL ? say_json(root) : -ENOMEM;
    json_decref(root);
    return r;
}

/* ---- all of it ---- */

static int explain(struct session *s)
{
    _cleanup_(explanation_done) struct explanation e = {.s = s};
    _cleanup_(gathered_done) struct gathered g = {0};
    int r;

    e.q = session_qube(s);
    if (e.q == NULL)
        return EXPOSE_FAILED;
    e.asked = wish_is_asked(s->tree, e.q);
    r = gather(s, e.q, &g);
    if (r < 0)
        return EXPOSE_FAILED;
    ways_find(&g.input, e.q, &e.ways);
    e.parsed = exposure_of(s->tree, e.q, &e.exposure, e.grammar) == 0;
    if (e.parsed && s->o->has_question) {
        struct question question = {s->o->from, s->o->proto, s->o->port};

        reach_judge(s->tree, e.q, &e.exposure, &question, &e.reach);
    }
    find_why(&e);
    r = s->o->json ? print_json(&e) : print_text(&e);
    if (r < 0)
        return EXPOSE_FAILED;
    return e.why[0] == '\0' ? EXPOSE_OK : EXPOSE_PROBLEM;
}

int expose_explain(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};

    return session_open(&s, o) < 0 ? EXPOSE_FAILED : explain(&s);
}
