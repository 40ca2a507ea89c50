/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --check: every exposure that somebody asked for, and whatever stands in a net qube's QubesDB
 * without being wished.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/expose.h"
#include "dom0/expose/gather.h"
#include "dom0/expose/say.h"
#include "dom0/expose/words.h"

/* A qube that writes junk beside its records must not fill the screen. */
#define FINDINGS_MAX 1000

struct check {
    struct session *s;
    struct gathered gathered;
    json_t *findings; /* {qube, kind, what} */
    size_t asked, free_ways, waiting;
};

static void check_done(struct check *c)
{
    gathered_done(&c->gathered);
    json_decref(c->findings);
}

static void find(struct check *c, const struct qube *q, const char *kind, const char *what)
{
    if (json_array_size(c->findings) < FINDINGS_MAX)
        (void)json_array_append_new(c->findings,
                                    json_pack("{s:s, s:s, s:o}", "qube", q != NULL ? q->name : "",
                                              "kind", kind, "what", say_json_text(what)));
}

/* That a qube does not run, or that its time is over, is no fault. */
static bool is_waiting(const struct session *s, const struct qube *q)
{
    bool waiting = false;

    for (size_t i = 0; i < s->wishes.n_problems; i++) {
        const struct problem *p = &s->wishes.problems[i];

        if (p->whose != q)
            continue;
        if (p->kind != PROBLEM_HALTED && p->kind != PROBLEM_EXPIRED)
            return false;
        waiting = true;
    }
    return waiting;
}

static void check_qube(struct check *c, const struct qube *q)
{
    struct ways ways;
    size_t before = json_array_size(c->findings);

    c->asked++;
    if (is_waiting(c->s, q)) {
        c->waiting++;
        return;
    }
    ways_find(&c->gathered.input, q, &ways);
    for (size_t i = 0; i < ways.n; i++) {
        const char *why = ways.ways[i].why;

        /* what is wrong at a hop is so for both families */
        if (why[0] != '\0' && (i == 0 || strcmp(why, ways.ways[0].why) != 0))
            find(c, q, "closed", why);
    }
    if (ways.why[0] != '\0' && json_array_size(c->findings) == before)
        find(c, q, "closed", ways.why);
    c->free_ways += json_array_size(c->findings) == before;
}

static bool is_wished(const struct check *c, const struct qube *where, const char *path)
{
    for (size_t i = 0; i < c->s->wishes.n; i++) {
        const struct wish *w = &c->s->wishes.wishes[i];

        if (w->where == where && strcmp(w->path, path) == 0)
            return true;
    }
    return false;
}

static void check_strays(struct check *c, const struct look *look)
{
    const struct qube *where = tree_find(c->s->tree, str_from(look->qube));
    char what[WISH_PATH_MAX + 600], value[300];

    for (size_t i = 0; where != NULL && i < look->n; i++) {
        const struct look_key *key = &look->keys[i];

        if (strncmp(key->path, "/network-server", 15) != 0 || is_wished(c, where, key->path) ||
            strcmp(key->path, "/network-server") == 0)
            continue;
        (void)snprintf(what, sizeof(what),
                       "%s stands in the QubesDB of %s, and nobody wishes it: %s. "
                       "See: systemctl status qubes-network-serverd",
                       key->path, look->qube,
                       str_escape((struct str){key->value, key->len}, value, sizeof(value)));
        find(c, where, "stray", what);
    }
}

static int print_text(const struct check *c)
{
    json_t *one;
    size_t i;

    json_array_foreach(c->findings, i, one) {
        printf("%s:\n", json_string_value(json_object_get(one, "qube")));
        say_wrapped(json_string_value(json_object_get(one, "what")), 2);
    }
    printf("%zu asked for: %zu open as far as the qubes report, %zu not running or ended, %zu findings\n",
           c->asked, c->free_ways, c->waiting, json_array_size(c->findings));
    return 0;
}

static int print_json(const struct check *c)
{
    json_t *root = json_pack("{s:I, s:I, s:I, s:O}", "asked", (json_int_t)c->asked, "open",
                             (json_int_t)c->free_ways, "waiting", (json_int_t)c->waiting, "findings",
                             c->findings);
    int r = root != NULL ? say_json(root) : -ENOMEM;

    json_decref(root);
    return r;
}

static int check(struct check *c)
{
    int r = gather(c->s, NULL, &c->gathered);

    if (r < 0)
        return EXPOSE_FAILED;
    for (size_t i = 0; i < tree_count(c->s->tree); i++) {
        const struct qube *q = tree_at(c->s->tree, i);

        if (wish_is_asked(c->s->tree, q))
            check_qube(c, q);
    }
    for (size_t i = 0; i < c->s->n_looks; i++)
        check_strays(c, &c->s->looks[i]);
    r = c->s->o->json ? print_json(c) : print_text(c);
    if (r < 0)
        return EXPOSE_FAILED;
    return json_array_size(c->findings) == 0 ? EXPOSE_OK : EXPOSE_PROBLEM;
}

int expose_check(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};
    _cleanup_(check_done) struct check c = {.s = &s, .findings = json_array()};

    if (c.findings == NULL || session_open(&s, o) < 0)
        return EXPOSE_FAILED;
    return check(&c);
}
