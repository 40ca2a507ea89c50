/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our tables, chains, rules and sets as a whole (data/nft/): is the platform's ruleset one that
 * they fit into, are they what we loaded, and load them. Elements are apply.c's business.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netlink/nl.h"
#include "router/model.h"

#define SKELETON_PARTS 40

struct skeleton_digest {
    uint64_t parts[SKELETON_PARTS];
    size_t n; /* 0: unknown */
};

/*
 * Is the platform's ruleset one that we know? *ret_missing: NULL when it is, else what was looked
 * for, as static text for people. 0 or -errno.
 */
int skeleton_find_platform(struct nl_sock *nft, enum family_index family, const char **ret_missing);

/* What is there of ours. -ENOENT: something is missing. */
int skeleton_read(struct nl_sock *nft, enum family_index family, struct skeleton_digest *ret);
bool skeleton_equal(const struct skeleton_digest *a, const struct skeleton_digest *b);

/* Loads the text with the nft program; err gets what nft said. Never creates the platform's table. */
int skeleton_load(const char *nft_program, enum family_index family, char *err, size_t err_size);
/* Both families in one transaction: starting nft costs more than what it does. */
int skeleton_load_all(const char *nft_program, char *err, size_t err_size);

/* Is the jump from custom-forward in place? And the seal of a VPN qube? 1, 0, -errno. */
int skeleton_has_jump(struct nl_sock *nft, enum family_index family);
int skeleton_vpn_seal_present(struct nl_sock *nft);
