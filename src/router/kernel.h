/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the kernel into the model. Three readings, each whole: the network (links, addresses,
 * routes), the rules (platform, our skeleton, our elements), and what the kernel does not notify
 * (proxy neighbours, sysctls). Blocks only for the kernel's own answers, and for nft when the
 * skeleton has to be put back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "netlink/nl.h"
#include "router/model.h"
#include "router/skeleton.h"

/* Who made a route or proxy entry (RTPROT_*): ours are told from an administrator's by it. */
#define KERNEL_PROTOCOL 78

struct kernel {
    struct nl_sock *route, *nft, *conntrack, *diag; /* owned */
    const char *nft_program;                 /* borrowed; NULL: read only, never load */
    uint32_t generation; /* of the ruleset that the model knows; 0: not read */
    struct skeleton_digest skeleton[FAMILIES]; /* as it is when nobody else wrote */
    struct skeleton_digest loaded[FAMILIES];   /* as read after the last load */
    struct sysctl_list stored; /* put-back values that are in the kernel's set */
    bool guard_stored;         /* so is the element that closes uplink-to-uplink forwarding */
    char error[FAMILIES][320]; /* why the skeleton cannot be loaded; "" */
    bool moving;               /* others changed the ruleset as fast as it was read */
    bool load_failed;          /* some skeleton could not be loaded: try again later */
    unsigned repairs;          /* how often a skeleton was loaded or a jump put back */
};

int kernel_open(struct kernel *k, const char *nft_program);
void kernel_done(struct kernel *k);

int kernel_read_network(struct kernel *k, struct model *m);
int kernel_read_rules(struct kernel *k, struct model *m);
int kernel_read_unnotified(struct kernel *k, struct model *m);
/* The ports that programs of this net qube have open, for published ports. */
int kernel_read_listeners(struct kernel *k, struct model *m);
