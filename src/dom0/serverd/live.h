/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where running qubes are attached, kept in a file of the runtime folder, for a restart of the
 * daemon: qubesd tells what the address of a running qube is going to be, not what it is. The file
 * is replaced as a whole, and believed only as long as the domain id is the same. Lines:
 *
 *     v=1
 *     NAME XID NETVM or - IPV4 or - IPV6 or -
 *
 * Anything else in it, and nothing of it is used.
 */
#pragma once

#include <stddef.h>

#include "dom0/tree/tree.h"

struct live_entry {
    char name[QUBE_NAME_MAX];
    uint16_t xid;
    struct attachment at;
};

struct live {
    struct live_entry *entries; /* owned; sorted by name */
    size_t n;
};

void live_done(struct live *l);

/* 0, -EBADMSG (nothing is believed), -ENOMEM. */
int live_parse(struct str text, struct live *ret);
/* -ENOENT: there is none; -errno; the above. */
int live_load(const char *path, struct live *ret);
/* NULL: not in it. Its xid may be that of an earlier life. */
const struct live_entry *live_find(const struct live *l, const char *name);

/* What of the tree belongs into the file. 0 or -ENOMEM; the caller owns *ret. */
int live_format(const struct tree *t, char **ret, size_t *ret_len);
/* Replaces the file. */
int live_save(const char *path, const char *text, size_t len);
