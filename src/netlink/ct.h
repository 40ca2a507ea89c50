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

/* true: forget this flow. Pure: no netlink from inside. */
typedef bool (*ct_judge_fn)(const struct ct_flow *flow, void *user);

/*
 * Looks at every flow of the family of which one of the four addresses is addr (the kernel filters
 * by tuple where it can: CTA_FILTER, IPv4, kernel >= 5.8; else we do) and deletes those that judge
 * names, by original tuple, id and zone; one that is gone meanwhile is success.
 * s is a NETLINK_NETFILTER socket. Number deleted, or -errno.
 */
int ct_forget(struct nl_sock *s, const struct addr *addr, ct_judge_fn judge, void *user);
