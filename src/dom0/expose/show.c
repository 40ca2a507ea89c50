/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/show.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/attach.h"
#include "dom0/expose/expose.h"
#include "dom0/expose/say.h"
#include "dom0/expose/when.h"
#include "dom0/expose/words.h"

/* "sys-firewall, sys-net" */
static const char *way_out(const struct session *s, const struct qube *q, char *buf, size_t size)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing = NULL;
    int n = tree_hops(s->tree, q, hops, &missing);
    size_t used = 0;

    buf[0] = '\0';
    for (int i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i > 0 ? ", " : "", hops[i]->name);
    return buf;
}

static void show_exposure(const struct session *s, const struct qube *q)
{
    _cleanup_(exposure_done) struct exposure e = {0};
    char why[WISH_WHY_MAX], text[WORDS_MAX];

    if (exposure_of(s->tree, q, &e, why) < 0) {
        say_wrapped(why, 2);
        return;
    }
    if (e.forward)
        printf("  open under its own address: %s\n", words_allow(s->tree, q, &e, text));
    if (e.publish.n > 0)
        printf("  ports of %s published: %s\n", words_edge(s->tree, q),
               words_publish(s->tree, q, text));
    if (words_rest(&e, s->now, text)[0] != '\0')
        printf("  %s\n", text);
}

void show_qube(const struct session *s, const struct qube *q)
{
    char addresses[2 * ADDR_STR_MAX + 4], way[600];

    printf("%s (%s): %s", q->name, words_power(q->power), words_addresses(q, addresses));
    if (way_out(s, q, way, sizeof(way))[0] != '\0')
        printf(" behind %s", way);
    printf("\n");
    if (wish_is_asked(s->tree, q))
        show_exposure(s, q);
    else
        printf("  nothing of it is exposed\n");
}

size_t show_problems(const struct session *s, const struct qube *q)
{
    size_t n = 0;

    for (size_t i = 0; i < s->wishes.n_problems; i++) {
        const struct problem *p = &s->wishes.problems[i];
        char text[WISH_WHY_MAX + 16];

        if (p->whose != q)
            continue;
        (void)snprintf(text, sizeof(text), "%s %s", p->kind == PROBLEM_HALTED ? "Note:" : "Not open:",
                       p->why);
        say_wrapped(text, 2);
        n++;
    }
    return n;
}

/* ---- JSON ---- */

static json_t *addresses_json(const struct qube *q)
{
    json_t *array = json_array();
    char text[ADDR_STR_MAX];

    for (unsigned f = 0; f < 2; f++) {
        const struct addr *a = words_address(q, f);

        if (a->family != 0)
            (void)json_array_append_new(array, json_string(addr_format(a, text)));
    }
    return array;
}

static json_t *hops_json(const struct session *s, const struct qube *q)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing = NULL;
    int n = tree_hops(s->tree, q, hops, &missing);
    json_t *array = json_array();

    for (int i = 0; i < n; i++)
        (void)json_array_append_new(array, json_string(hops[i]->name));
    return array;
}

static json_t *problems_json(const struct session *s, const struct qube *q)
{
    json_t *array = json_array();

    for (size_t i = 0; i < s->wishes.n_problems; i++) {
        const struct problem *p = &s->wishes.problems[i];
        json_t *one;

        if (p->whose != q)
            continue;
        one = json_pack("{s:s, s:o}", "kind", problem_name(p->kind), "why",
                        say_json_text(p->why));
        if (p->hop != NULL)
            (void)json_object_set_new(one, "hop", json_string(p->hop->name));
        if (p->family != 0)
            (void)json_object_set_new(one, "family", json_integer(p->family == AF_INET6 ? 6 : 4));
        (void)json_array_append_new(array, one);
    }
    return array;
}

/* The features that count, whether they parse or not. */
static json_t *features_json(const struct session *s, const struct qube *q)
{
    static const enum feature_id ids[] = {FEATURE_METHOD, FEATURE_ALLOW, FEATURE_PUBLISH,
                                          FEATURE_EXPIRES, FEATURE_LIMIT, FEATURE_LOG, FEATURE_KEEP};
    json_t *o = json_object();

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        const char *value = tree_feature(s->tree, q, ids[i]);

        if (value != NULL)
            (void)json_object_set_new(o, feature_name(ids[i]), say_json_text(value));
    }
    return o;
}

json_t *show_qube_json(const struct session *s, const struct qube *q)
{
    json_t *o = json_object();
    bool wished = false;

    for (size_t i = 0; i < s->wishes.n; i++)
        wished |= s->wishes.wishes[i].kind == WISH_RECORD && s->wishes.wishes[i].whose == q;
    (void)json_object_set_new(o, "qube", json_string(q->name));
    (void)json_object_set_new(o, "state", json_string(words_power(q->power)));
    (void)json_object_set_new(o, "addresses", addresses_json(q));
    (void)json_object_set_new(o, "behind", hops_json(s, q));
    (void)json_object_set_new(o, "asked", json_boolean(wish_is_asked(s->tree, q)));
    (void)json_object_set_new(o, "wished", json_boolean(wished));
    (void)json_object_set_new(o, "features", features_json(s, q));
    (void)json_object_set_new(o, "problems", problems_json(s, q));
    return o;
}

/* ---- a qube alone ---- */

int expose_show(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};
    const struct qube *q;
    json_t *root;
    int r;

    if (session_open(&s, o) < 0)
        return EXPOSE_FAILED;
    q = session_qube(&s);
    if (q == NULL)
        return EXPOSE_FAILED;
    if (o->json) {
        root = show_qube_json(&s, q);
        r = say_json(root);
        json_decref(root);
        return r < 0 ? EXPOSE_FAILED : EXPOSE_OK;
    }
    show_qube(&s, q);
    (void)show_problems(&s, q);
    if (attach_is_due(q))
        attach_note(q);
    if (!wish_is_asked(s.tree, q))
        printf("To open a port of it: qvm-expose %s --allow tcp/443\n", q->name);
    return EXPOSE_OK;
}
