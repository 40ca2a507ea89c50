/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connection tracking by ctnetlink (UAPI nfnetlink_conntrack.h): find the flows of one address
 * and forget some of them. Deleting a flow also ends its offload.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

struct ct_tuple {
    struct addr src, dst;
    uint8_t protocol;          /* IPPROTO_* */
    uint16_t src_port, dst_port; /* host order; 0 where the protocol has none */
};

struct ct_flow {
    struct ct_tuple orig, reply;
    uint32_t id;
    uint16_t zone;
    uint32_t status; /* IPS_*; IPS_DST_NAT tells a published port */
};

int ct_flow_parse(const struct nlmsghdr *nlh, struct ct_flow *ret);

struct ct_forget_ops {
    /*
     * true: forget this flow. which: place in addrs of the address at one of its ends; a flow
     * between two of them is shown for both, one is enough to end it. Pure: no netlink from inside.
     */
    bool (*judge)(const struct ct_flow *flow, size_t which, void *user);
    /* Once for each family, when all were judged and none is deleted yet. May be NULL. */
    void (*ready)(void *user);
};

/*
 * Looks at every flow that one of addrs opened (source of the original tuple) or answers (source of
 * the reply: also where the destination was translated to it), and deletes those that judge names,
 * by original tuple, id and zone; one that is gone meanwhile is success.
 * s is a NETLINK_NETFILTER socket. Number deleted, or -errno.
 *
 * Each dump makes the kernel walk its whole table, milliseconds where that is big: one address
 * takes two (the kernel sends only its flows: CTA_FILTER, IPv4, kernel >= 5.8), any number of them
 * one for each family. So ask for all at once.
 */
int ct_forget(struct nl_sock *s, const struct addr *addrs, size_t n, const struct ct_forget_ops *ops,
              void *user);

/* Deletes every flow, of both families, whose mark under mask is mark; mask 0: every flow. */
int ct_forget_marked(struct nl_sock *s, uint32_t mark, uint32_t mask);
