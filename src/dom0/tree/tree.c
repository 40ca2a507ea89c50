/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/tree/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define TEMPLATES_MAX 8 /* DispVM, its AppVM, its TemplateVM; more is a loop */

struct tree {
    struct qube **qubes; /* sorted by name; owned */
    size_t n, capacity;
};

static const char *const feature_names[FEATURES] = {
    [FEATURE_METHOD] = "routing-method",
    [FEATURE_ALLOW] = "network-server.allow",
    [FEATURE_PUBLISH] = "network-server.publish",
    [FEATURE_EXPIRES] = "network-server.expires",
    [FEATURE_LIMIT] = "network-server.limit",
    [FEATURE_LOG] = "network-server.log",
    [FEATURE_KEEP] = "network-server.keep",
    [FEATURE_CAPABLE] = "supported-feature.network-server",
    [FEATURE_VPN] = "service.qubes-vpn",
    [FEATURE_DEFERRED] = "deferred-netvm-original",
};

const char *feature_name(enum feature_id id)
{
    return id < FEATURES ? feature_names[id] : "";
}

enum feature_id feature_by_name(struct str name)
{
    for (unsigned i = 0; i < FEATURES; i++) {
        if (str_is(name, feature_names[i]))
            return (enum feature_id)i;
    }
    return FEATURES;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

bool tree_valid_name(struct str name)
{
    bool ok = name.len > 0 && name.len < QUBE_NAME_MAX;

    for (size_t i = 0; ok && i < name.len; i++)
        ok = name_char(name.p[i]);
    return ok;
}

struct tree *tree_new(void)
{
    return calloc(1, sizeof(struct tree));
}

static struct qube *qube_free(struct qube *q)
{
    for (unsigned i = 0; q != NULL && i < FEATURES; i++)
        free(q->feature[i]);
    free(q);
    return NULL;
}

struct tree *tree_free(struct tree *t)
{
    for (size_t i = 0; t != NULL && i < t->n; i++)
        (void)qube_free(t->qubes[i]);
    if (t != NULL)
        free(t->qubes);
    free(t);
    return NULL;
}

void tree_freep(struct tree **t)
{
    *t = tree_free(*t);
}

static int compare_name(struct str name, const char *other)
{
    size_t len = strlen(other);
    int c = memcmp(name.p, other, name.len < len ? name.len : len);

    return c != 0 ? c : name.len < len ? -1 : name.len > len;
}

/* Where the name is, or where it would have to be. */
static size_t search(const struct tree *t, struct str name, bool *ret_found)
{
    size_t lo = 0, hi = t->n;

    *ret_found = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_name(name, t->qubes[mid]->name);

        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct qube *tree_find(const struct tree *t, struct str name)
{
    bool found = false;
    size_t i = tree_valid_name(name) ? search(t, name, &found) : 0;

    return found ? t->qubes[i] : NULL;
}

static int tree_grow(struct tree *t)
{
    size_t capacity = t->capacity == 0 ? 64 : t->capacity * 2;
    struct qube **grown;

    if (t->n < t->capacity)
        return 0;
    grown = reallocarray(t->qubes, capacity, sizeof(struct qube *));
    if (grown == NULL)
        return -ENOMEM;
    t->qubes = grown;
    t->capacity = capacity;
    return 0;
}

static int tree_insert(struct tree *t, size_t at, struct str name)
{
    struct qube *q;
    int r = t->n < TREE_QUBES_MAX ? tree_grow(t) : -ENOSPC;

    if (r < 0)
        return r;
    q = calloc(1, sizeof(*q));
    if (q == NULL)
        return -ENOMEM;
    memcpy(q->name, name.p, name.len);
    memmove(&t->qubes[at + 1], &t->qubes[at], (t->n - at) * sizeof(struct qube *));
    t->qubes[at] = q;
    t->n++;
    return 0;
}

struct qube *tree_get(struct tree *t, struct str name, int *ret_error)
{
    bool found;
    size_t at;
    int r;

    if (!tree_valid_name(name)) {
        *ret_error = -EINVAL;
        return NULL;
    }
    at = search(t, name, &found);
    r = found ? 0 : tree_insert(t, at, name);
    if (r < 0) {
        *ret_error = r;
        return NULL;
    }
    return t->qubes[at];
}

void tree_remove(struct tree *t, struct qube *q)
{
    bool found;
    size_t at = search(t, str_from(q->name), &found);

    if (!found || t->qubes[at] != q)
        return;
    t->n--;
    memmove(&t->qubes[at], &t->qubes[at + 1], (t->n - at) * sizeof(struct qube *));
    (void)qube_free(q);
}

size_t tree_count(const struct tree *t)
{
    return t->n;
}

struct qube *tree_at(const struct tree *t, size_t i)
{
    return i < t->n ? t->qubes[i] : NULL;
}

const char *tree_feature(const struct tree *t, const struct qube *q, enum feature_id id)
{
    for (unsigned depth = 0; q != NULL && depth < TEMPLATES_MAX; depth++) {
        if (q->feature[id] != NULL)
            return q->feature[id];
        q = q->template[0] != '\0' ? tree_find(t, str_from(q->template)) : NULL;
    }
    return NULL;
}

int tree_hops(const struct tree *t, const struct qube *q, struct qube *ret[static TREE_HOPS_MAX],
              const char **ret_missing)
{
    int n = 0;

    for (const char *next = qube_netvm(q); next[0] != '\0'; next = qube_netvm(q)) {
        struct qube *hop = tree_find(t, str_from(next));

        if (hop == NULL) {
            *ret_missing = next;
            return -ENOENT;
        }
        if (n == TREE_HOPS_MAX)
            return -ELOOP;
        ret[n++] = hop;
        q = hop;
    }
    return n;
}
