/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/wishes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qubesdb/mirror.h"

struct item {
    char path[CLAIM_PATH_MAX];
    size_t len;
    char value[]; /* len bytes */
};

struct wishes {
    struct model *model;
    struct wishes_ops ops;
    struct qdb_mirror *mirror;
    struct item **items; /* of the reading under way */
    size_t n, capacity;
    size_t n_new; /* values kept for addresses that were not known before */
    int error; /* the reading cannot be used */
};

/* "/network-server" is the marker and, as a raw prefix, all records. */
static const char *const prefixes[] = {"/network-server", "/vm-config/expose.",
                                       "/qubes-routing-method/", "/qubes-netvm-gateway6", NULL};

static void clear(struct wishes *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->items[i]);
    w->n = w->n_new = 0;
    w->error = 0;
}

static bool wants(const char *path, void *user)
{
    (void)user;
    return model_wants_path(path);
}

static void on_begin(void *user)
{
    clear(user);
}

/*
 * Anybody in the qube may write long values under many keys: only what can count is kept. Addresses
 * that are known come first; of new ones, no more than the limit.
 */
static struct str value_to_keep(struct wishes *w, const char *path, struct str value)
{
    struct addr addr;

    if (!model_wants_value(path, &addr))
        return (struct str){value.p, 0};
    if (addr.family == 0 || model_find(w->model, &addr) != NULL)
        return value;
    return w->n_new++ < ROUTER_MAX_ADDRESSES ? value : (struct str){value.p, 0};
}

static int collect(struct wishes *w, const char *path, struct str value)
{
    struct item *item;

    value = value_to_keep(w, path, value);
    if (strlen(path) >= sizeof(item->path))
        return 0; /* QubesDB has no longer ones */
    if (w->n == w->capacity) {
        size_t capacity = w->capacity > 0 ? 2 * w->capacity : 64;
        struct item **grown = reallocarray(w->items, capacity, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        w->items = grown;
        w->capacity = capacity;
    }
    item = malloc(sizeof(*item) + value.len);
    if (item == NULL)
        return -ENOMEM;
    (void)snprintf(item->path, sizeof(item->path), "%s", path);
    item->len = value.len;
    if (value.len > 0)
        memcpy(item->value, value.p, value.len);
    w->items[w->n++] = item;
    return 0;
}

static void on_entry(const char *path, struct str value, void *user)
{
    struct wishes *w = user;
    int r = collect(w, path, value);

    if (r < 0)
        w->error = r;
}

static void on_end(void *user)
{
    struct wishes *w = user;
    int r = w->error;

    if (r == 0) {
        model_claims_begin(w->model);
        for (size_t i = 0; i < w->n && r == 0; i++) {
            struct str value = {w->items[i]->value, w->items[i]->len};

            r = model_claim(w->model, w->items[i]->path, &value);
        }
        /* half a reading must not sweep what it did not reach */
        if (r == 0)
            model_claims_end(w->model);
    }
    clear(w);
    free(w->items);
    w->items = NULL;
    w->capacity = 0;
    if (r < 0)
        w->ops.lost(r, w->ops.user);
    else
        w->ops.changed(w->ops.user);
}

static void on_changed(const char *path, const struct str *value, void *user)
{
    struct wishes *w = user;

    /* room may have come for a key that was beyond the limit */
    if (model_claim(w->model, path, value) < 0 || (value == NULL && w->model->n_over_limit > 0))
        (void)qdb_mirror_reread(w->mirror);
    w->ops.changed(w->ops.user);
}

static void on_lost(int error, void *user)
{
    struct wishes *w = user;

    w->ops.lost(error, w->ops.user);
}

int wishes_reread(struct wishes *w)
{
    return qdb_mirror_reread(w->mirror);
}

struct wishes *wishes_free(struct wishes *w)
{
    if (w == NULL)
        return NULL;
    (void)qdb_mirror_free(w->mirror);
    clear(w);
    free(w->items);
    free(w);
    return NULL;
}

void wishes_freep(struct wishes **w)
{
    *w = wishes_free(*w);
}

int wishes_new(sd_event *event, const char *socket, struct model *m, const struct wishes_ops *ops,
               struct wishes **ret)
{
    _cleanup_(wishes_freep) struct wishes *w = calloc(1, sizeof(*w));
    struct qdb_mirror_config config = {
        .socket = socket,
        .prefixes = prefixes,
        .wants = wants,
        .begin = on_begin,
        .entry = on_entry,
        .end = on_end,
        .changed = on_changed,
        .lost = on_lost,
        .user = w,
    };
    int r;

    if (w == NULL)
        return -ENOMEM;
    w->model = m;
    w->ops = *ops;
    r = qdb_mirror_new(event, &config, &w->mirror);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(w);
    return 0;
}
