/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps the door as QubesDB says: follows two keys, hears of every change of the ruleset, and makes
 * passes (kernel.h). What cannot be read stays as it was; a start without QubesDB leaves what a
 * predecessor opened for a minute. SIGTERM shuts the door, SIGUSR1 leaves it to a successor.
 * One thread; logs.
 */
#pragma once

#include <stdbool.h>

#include "inbound/door.h"

struct manager_config {
    const char *qubesdb;     /* NULL: $QUBESDB_SOCKET, else the usual place */
    const char *nft_program; /* absolute path */
};

struct manager;
int manager_new(const struct manager_config *config, struct manager **ret);
struct manager *manager_free(struct manager *m);
void manager_freep(struct manager **m);
int manager_run(struct manager *m);

/* The values of the two keys, and what they say together. */
struct keys {
    char *value[2]; /* owned; NULL: not there; [0] dom0's daemon's, which counts alone if it is there */
};
bool keys_want(const char *path, void *user); /* for qdb_mirror_config.wants */
/* 0 or -ENOMEM. value NULL: gone. Other paths than the two are passed over. */
int keys_set(struct keys *k, const char *path, const struct str *value);
void keys_done(struct keys *k);
/* The path that counts; NULL: none is there. *ret_value: borrowed. */
const char *keys_choose(const struct keys *k, const char **ret_value);
extern const char *const keys_prefixes[]; /* for qdb_mirror_config.prefixes */
