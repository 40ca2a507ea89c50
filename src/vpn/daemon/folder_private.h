/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the folder share: reading and writing beneath a directory, and the signature.
 * Names are single components unless it is said otherwise. All give 0 (or an fd) or -errno.
 */
#pragma once

#include <sys/types.h>

#include "vpn/daemon/folder.h"

#define FOLDER_TEMPORARY ".new-" /* how names of half-written files begin */
#define FOLDER_NAME_MAX  255

struct folder {
    char *path;
    /* sum of the hashes of what counts: see folder_changed_fn */
    uint64_t signature;
    struct folder_watcher *watcher; /* NULL: not watched */
};

/* The folder, or a directory in it ("secrets"); make: it is made when it is missing, mode 0700. */
int folder_dir(const struct folder *f);
int folder_subdir(const struct folder *f, const char *name, bool make);

/*
 * A regular file beneath dir (name may be a path), no link on the way, at most max bytes; *ret is
 * malloc()ed and NUL-ended. -EBUSY: it grew meanwhile. ret_mode may be NULL.
 */
int folder_read_beneath(int dir, const char *name, size_t max, char **ret, size_t *ret_len,
                        mode_t *ret_mode);
/* New or in place of the old one, mode 0600, whole. */
int folder_write_beneath(int dir, const char *name, const char *text, size_t len);
/* A directory with files and no directories in it. */
int folder_remove_dir(int dir, const char *name);
/* Name in files/PROFILE/ of a file that a profile refers to: '/' and '%' as "%2F" and "%25". */
int folder_encode(const char *name, char ret[static FOLDER_NAME_MAX + 1]);
void folder_wipe(char *text, size_t len); /* and frees it */

/*
 * Our own writing, removing, renaming in the folder or in one of its directories (sub, or NULL for
 * the folder itself): the signature follows, so that nobody is called for it.
 */
int folder_put(struct folder *f, const char *sub, const char *name, const char *text, size_t len);
int folder_unlink(struct folder *f, const char *sub, const char *name);
int folder_move(struct folder *f, const char *sub, const char *name, const char *new_name);

uint64_t folder_signature(const struct folder *f);
/* NULL is fine. */
struct folder_watcher *folder_watcher_free(struct folder_watcher *w);
