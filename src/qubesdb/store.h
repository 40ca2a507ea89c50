/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keys and values of a server: a sorted array (strcmp order, as the daemon lists them), so
 * that a look-up is a binary search and a prefix is one range. Owns copies of everything.
 * Paths are checked by the caller; values are opaque bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct qdb_entry {
    struct str value; /* into the same allocation */
    char path[];
};

struct qdb_store {
    struct qdb_entry **entries;
    size_t count, room;
};

void qdb_store_clear(struct qdb_store *s); /* frees everything; the store may be used again */
const struct qdb_entry *qdb_store_get(const struct qdb_store *s, const char *path);
int qdb_store_put(struct qdb_store *s, const char *path, struct str value); /* 0 or -ENOMEM */

/* Entries [*ret_first, *ret_end) are those whose path begins with prefix. */
void qdb_store_range(const struct qdb_store *s, const char *prefix, size_t *ret_first,
                     size_t *ret_end);

/* Removes path, or everything that begins with it when it ends in '/'. False: nothing was there. */
bool qdb_store_remove(struct qdb_store *s, const char *path);
