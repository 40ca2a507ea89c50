/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of the seal's plan: a kernel that is a struct seal_model. Random worlds, the effect of
 * operations, and where a packet would go. Links have fixed indexes, see enum.
 */
#pragma once

#include "test_random.h"
#include "vpn/seal/plan.h"

enum world_link {
    WORLD_LO = 1,
    WORLD_ETH0,   /* the platform's uplink, group 1 */
    WORLD_WLAN,   /* another uplink, group 0 */
    WORLD_FALSE,  /* named like a vif, but in no vif's group */
    WORLD_GROUP2, /* in the vifs' group, but not named like one */
    WORLD_VIF1,
    WORLD_VIF2,
    WORLD_TUNNEL, /* may be missing or down */
    WORLD_FALSE_TUNNEL, /* an Ethernet device of that name: an uplink like any other */
};

struct world_packet {
    struct addr dst;
    uint32_t mark;
    uint32_t uid; /* UINT32_MAX: forwarded, nobody's */
};

/* Everything that a careless or hostile root could have left. Free with model_free(). */
void world_random(struct rnd *r, struct seal_model *m);
/* As the platform makes it: addresses, routes, vifs, and nothing of ours. */
void world_plain(struct seal_model *m);
void world_copy(const struct seal_model *from, struct seal_model *ret);

struct wish world_wish(struct rnd *r);
struct addr world_addr(struct rnd *r, bool six);

/* What the kernel makes of one operation. False: it refuses it. */
bool world_apply(struct seal_model *m, const struct seal_op *op);

/* Index of the link by which the packet leaves; 0: nowhere. */
uint32_t world_lookup(const struct seal_model *m, const struct world_packet *packet);
/* The same, and the link is an uplink. */
bool world_leaks(const struct seal_model *m, const struct world_packet *packet);
