/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/map.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/words.h"

#define OTHERS_SHOWN 40

struct builder {
    const struct tree *t;
    const struct wishes *w;
    int64_t now;
    struct map *map;
    int error;
};

void map_done(struct map *m)
{
    for (size_t i = 0; i < m->n; i++) {
        for (size_t k = 0; k < m->rows[i].n_lines; k++)
            free(m->rows[i].lines[k]);
    }
    free(m->rows);
    *m = (struct map){0};
}

/* ---- rows ---- */

/* Index, for the rows move when there are more of them. */
static size_t add_row(struct builder *b, enum map_kind kind, unsigned depth)
{
    struct map *m = b->map;

    if (m->n == m->capacity) {
        size_t capacity = m->capacity == 0 ? 32 : m->capacity * 2;
        struct map_row *grown = reallocarray(m->rows, capacity, sizeof(*grown));

        if (grown == NULL) {
            b->error = -ENOMEM;
            return 0;
        }
        m->rows = grown;
        m->capacity = capacity;
    }
    m->rows[m->n] = (struct map_row){.kind = kind, .depth = depth};
    return m->n++;
}

__attribute__((format(printf, 3, 4))) static void add_line(struct builder *b, size_t row,
                                                           const char *format, ...)
{
    struct map_row *r;
    char *line = NULL;
    va_list args;
    int n;

    if (b->error < 0 || b->map->rows[row].n_lines == MAP_LINES_MAX)
        return;
    va_start(args, format);
    n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0) {
        b->error = -ENOMEM;
        return;
    }
    r = &b->map->rows[row];
    r->lines[r->n_lines++] = line;
}

/* ---- one qube ---- */

static enum map_mark mark_of(const struct builder *b, const struct qube *q)
{
    bool halted = false, blocked = false;

    if (!wish_is_asked(b->t, q))
        return MAP_PLAIN;
    for (size_t i = 0; i < b->w->n; i++) {
        if (b->w->wishes[i].kind == WISH_RECORD && b->w->wishes[i].whose == q &&
            q->power == POWER_RUNNING)
            return MAP_OPEN;
    }
    for (size_t i = 0; i < b->w->n_problems; i++) {
        const struct problem *p = &b->w->problems[i];

        halted |= p->whose == q && p->kind == PROBLEM_HALTED;
        blocked |= p->whose == q && p->kind != PROBLEM_HALTED;
    }
    return halted && !blocked ? MAP_WAITING : MAP_BLOCKED;
}

static void add_exposure(struct builder *b, size_t row, const struct qube *q)
{
    static const char *const families[] = {"", " (IPv4)", " (IPv6)"};
    _cleanup_(exposure_done) struct exposure e = {0};
    char why[WISH_WHY_MAX], text[WORDS_MAX];
    bool open = b->map->rows[row].mark == MAP_OPEN;

    if (exposure_of(b->t, q, &e, why) == 0) {
        if (e.forward)
            add_line(b, row, "%s: %s", open ? "open" : "to be open", words_allow(b->t, q, &e, text));
        if (e.publish.n > 0)
            add_line(b, row, "%s by %s: %s", open ? "published" : "to be published", words_edge(b->t, q),
                     words_publish(b->t, q, text));
        if (words_rest(&e, b->now, text)[0] != '\0')
            add_line(b, row, "%s", text);
    }
    for (size_t i = 0; i < b->w->n_problems; i++) {
        const struct problem *p = &b->w->problems[i];

        if (p->whose == q && p->kind != PROBLEM_HALTED)
            add_line(b, row, "not open%s: %s", families[(p->family == AF_INET) + 2 * (p->family == AF_INET6)],
                     str_escape(str_from(p->why), text, sizeof(text)));
    }
}

static void name_row(struct builder *b, size_t row, const struct qube *q)
{
    struct map_row *r = &b->map->rows[row];
    char addresses[2 * ADDR_STR_MAX + 4];

    (void)snprintf(r->name, sizeof(r->name), "%s  %s%s%s", q->name, words_addresses(q, addresses),
                   q->power == POWER_RUNNING ? "" : "  ",
                   q->power == POWER_RUNNING ? "" : words_power(q->power));
}

static size_t add_qube(struct builder *b, const struct qube *q, unsigned depth)
{
    size_t row = add_row(b, q->provides_network ? MAP_NET : MAP_QUBE, depth);

    if (b->error < 0)
        return row;
    name_row(b, row, q);
    b->map->rows[row].mark = mark_of(b, q);
    b->map->rows[row].on_way = b->map->rows[row].mark == MAP_OPEN;
    if (b->map->rows[row].mark != MAP_PLAIN)
        add_exposure(b, row, q);
    return row;
}

/* ---- the tree ---- */

static bool is_child(const struct qube *q, const char *netvm)
{
    const char *at = qube_netvm(q);

    return strcmp(q->klass, "AdminVM") != 0 && strcmp(at, netvm) == 0;
}

/* A row of its own, or one among the others? */
static bool has_row(const struct builder *b, const struct qube *q)
{
    return q->provides_network || wish_is_asked(b->t, q);
}

static void add_others(struct builder *b, const char *netvm, unsigned depth)
{
    _cleanup_(freep) char *names = NULL;
    size_t n = 0, row, used = 0, size = OTHERS_SHOWN * (QUBE_NAME_MAX + 2) + 64;

    names = calloc(1, size);
    if (names == NULL) {
        b->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < tree_count(b->t); i++) {
        const struct qube *q = tree_at(b->t, i);

        if (!is_child(q, netvm) || has_row(b, q))
            continue;
        if (n++ < OTHERS_SHOWN)
            used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "",
                                     q->name);
    }
    if (n > OTHERS_SHOWN)
        (void)snprintf(names + used, size - used, " and %zu more", n - OTHERS_SHOWN);
    if (n == 0)
        return;
    row = add_row(b, MAP_OTHERS, depth);
    if (b->error < 0)
        return;
    (void)snprintf(b->map->rows[row].name, MAP_NAME_MAX, "%zu %s not exposed", n,
                   n == 1 ? "qube" : "qubes");
    add_line(b, row, "%s", names);
}

static void add_children(struct builder *b, const char *netvm, unsigned depth);

static void add_with_children(struct builder *b, const struct qube *q, unsigned depth)
{
    size_t row = add_qube(b, q, depth);

    if (b->error < 0)
        return;
    if (q->provides_network && depth < TREE_HOPS_MAX)
        add_children(b, q->name, depth + 1);
    for (size_t i = row + 1; i < b->map->n && b->error == 0; i++)
        b->map->rows[row].on_way |= b->map->rows[i].on_way;
}

static void add_children(struct builder *b, const char *netvm, unsigned depth)
{
    for (size_t i = 0; i < tree_count(b->t) && b->error == 0; i++) {
        const struct qube *q = tree_at(b->t, i);

        if (is_child(q, netvm) && has_row(b, q))
            add_with_children(b, q, depth);
    }
    if (b->error == 0)
        add_others(b, netvm, depth);
}

/* Qubes without a net qube: those that give network face the LAN, the rest has none. */
static void add_roots(struct builder *b)
{
    size_t lan = add_row(b, MAP_ROOT, 0), none;

    if (b->error < 0)
        return;
    (void)snprintf(b->map->rows[lan].name, MAP_NAME_MAX, "LAN");
    for (size_t i = 0; i < tree_count(b->t) && b->error == 0; i++) {
        const struct qube *q = tree_at(b->t, i);

        if (is_child(q, "") && q->provides_network)
            add_with_children(b, q, 1);
    }
    for (size_t i = lan + 1; i < b->map->n && b->error == 0; i++)
        b->map->rows[lan].on_way |= b->map->rows[i].on_way;
    none = b->map->n;
    for (size_t i = 0; i < tree_count(b->t) && b->error == 0; i++) {
        const struct qube *q = tree_at(b->t, i);

        if (!is_child(q, "") || q->provides_network || !wish_is_asked(b->t, q))
            continue;
        if (none == b->map->n)
            (void)snprintf(b->map->rows[add_row(b, MAP_ROOT, 0)].name, MAP_NAME_MAX, "no network");
        if (b->error == 0)
            (void)add_qube(b, q, 1);
    }
}

static void note_last(struct map *m)
{
    for (size_t i = 0; i < m->n; i++) {
        bool last = true;

        for (size_t k = i + 1; k < m->n && m->rows[k].depth >= m->rows[i].depth && last; k++)
            last = m->rows[k].depth != m->rows[i].depth;
        m->rows[i].last = last;
    }
}

int map_build(const struct tree *t, const struct wishes *w, int64_t now, struct map *ret)
{
    _cleanup_(map_done) struct map map = {0};
    struct builder b = {.t = t, .w = w, .now = now, .map = &map};

    add_roots(&b);
    if (b.error < 0)
        return b.error;
    note_last(&map);
    *ret = map;
    map = (struct map){0};
    return 0;
}
