/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's side of the door: our chain, sets and jump in the platform's table, read and put
 * right. A pass is: is the platform's ruleset one we know, is the skeleton what we loaded (else nft
 * loads it again), then one transaction with the difference of the elements and the jump, valid only
 * for the ruleset that was read. Nothing is touched in a qube that never had anything open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inbound/door.h"
#include "netlink/nl.h"

#define KERNEL_SKELETON_PARTS (1 + DOOR_SETS) /* chain and sets */

struct kernel {
    struct nl_sock *nft;
    const char *nft_program; /* NULL: read only; borrowed */
    bool loaded[DOOR_FAMILIES];
    uint64_t digest[DOOR_FAMILIES][KERNEL_SKELETON_PARTS]; /* of what was loaded */
    const char *missing[DOOR_FAMILIES]; /* of the platform's ruleset, static text; NULL: nothing */
    char error[256];     /* what nft said last */
    unsigned n_put_back; /* skeletons that somebody had changed */
    uint32_t generation; /* of the last pass; notifications of it are our own */
};

int kernel_open(struct kernel *k, const char *nft_program);
void kernel_done(struct kernel *k);

struct kernel_change {
    bool add;
    bool jump; /* else element */
    uint8_t family;
    struct door_element element;
};

struct kernel_changes {
    struct kernel_change *items; /* owned */
    size_t n, capacity;
};
void kernel_changes_done(struct kernel_changes *c);

/*
 * One pass; wished is sorted (door_elements()). Read only: tells what would be done. *ret: what was
 * done. -ERESTART: somebody changed the ruleset meanwhile, try again; -EBADMSG: nft refused (error);
 * other -errno. After a failure nothing of the transaction happened.
 */
int kernel_pass(struct kernel *k, const struct door_element *wished, size_t n,
                struct kernel_changes *ret);
