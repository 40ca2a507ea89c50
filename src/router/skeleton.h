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

/* What is there of one family, at one moment. */
struct skeleton_look {
    const char *missing; /* of the platform's ruleset, as static text; NULL: it is one that we know */
    struct skeleton_digest ours; /* n 0: something is missing */
    bool jump;                   /* from custom-forward */
};
int skeleton_look(struct nl_sock *nft, struct skeleton_look ret[static FAMILIES]);

/* What is there of ours. -ENOENT: something is missing. */
int skeleton_read(struct nl_sock *nft, enum family_index family, struct skeleton_digest *ret);
bool skeleton_equal(const struct skeleton_digest *a, const struct skeleton_digest *b);

/*
 * Loads the text of some families (bits, 1 << family) with the nft program, in one transaction:
 * starting nft costs more than what it does. err gets what nft said. Never creates the platform's
 * tables.
 */
int skeleton_load(const char *nft_program, unsigned families, char *err, size_t err_size);

/* Is the seal of a VPN qube there? 1, 0, -errno. */
int skeleton_vpn_seal_present(struct nl_sock *nft);
