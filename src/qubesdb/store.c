/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first entry that is not below key; with len, one that does not begin with key either. */
static size_t find(const struct qdb_store *s, const char *key, size_t skip_prefix_len)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const char *path = s->entries[mid]->path;
        int order = skip_prefix_len > 0 ? strncmp(path, key, skip_prefix_len) : strcmp(path, key);

        if (order < 0 || (order == 0 && skip_prefix_len > 0))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool is_at(const struct qdb_store *s, size_t i, const char *path)
{
    return i < s->count && strcmp(s->entries[i]->path, path) == 0;
}

static struct qdb_entry *entry_new(const char *path, struct str value)
{
    size_t path_size = strlen(path) + 1;
    struct qdb_entry *e = malloc(sizeof(*e) + path_size + value.len);

    if (!e)
        return NULL;
    memcpy(e->path, path, path_size);
    if (value.len > 0)
        memcpy(e->path + path_size, value.p, value.len);
    e->value = (struct str){e->path + path_size, value.len};
    return e;
}

static int make_room(struct qdb_store *s)
{
    size_t room = s->room ? s->room * 2 : 64;
    struct qdb_entry **more;

    if (s->count < s->room)
        return 0;
    more = reallocarray(s->entries, room, sizeof(*more));
    if (!more)
        return -ENOMEM;
    s->entries = more;
    s->room = room;
    return 0;
}

void qdb_store_clear(struct qdb_store *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->entries[i]);
    free(s->entries);
    *s = (struct qdb_store){0};
}

const struct qdb_entry *qdb_store_get(const struct qdb_store *s, const char *path)
{
    size_t i = find(s, path, 0);

    return is_at(s, i, path) ? s->entries[i] : NULL;
}

int qdb_store_put(struct qdb_store *s, const char *path, struct str value)
{
    size_t i = find(s, path, 0);
    struct qdb_entry *e = entry_new(path, value);

    if (!e)
        return -ENOMEM;
    if (is_at(s, i, path)) {
        free(s->entries[i]);
        s->entries[i] = e;
        return 0;
    }
    if (make_room(s) < 0) {
        free(e);
        return -ENOMEM;
    }
    memmove(s->entries + i + 1, s->entries + i, (s->count - i) * sizeof(*s->entries));
    s->entries[i] = e;
    s->count++;
    return 0;
}

void qdb_store_range(const struct qdb_store *s, const char *prefix, size_t *ret_first,
                     size_t *ret_end)
{
    size_t len = strlen(prefix);

    *ret_first = find(s, prefix, 0);
    *ret_end = len > 0 ? find(s, prefix, len) : s->count;
}

bool qdb_store_remove(struct qdb_store *s, const char *path)
{
    size_t len = strlen(path), first, end;

    if (len > 0 && path[len - 1] == '/') {
        qdb_store_range(s, path, &first, &end);
    } else {
        first = find(s, path, 0);
        end = is_at(s, first, path) ? first + 1 : first;
    }
    if (first == end)
        return false;
    for (size_t i = first; i < end; i++)
        free(s->entries[i]);
    memmove(s->entries + first, s->entries + end, (s->count - end) * sizeof(*s->entries));
    s->count -= end - first;
    return true;
}
