/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links and addresses of our own making, by rtnetlink: look up by name with the kind, add, change,
 * delete. Reading every link is rt.h's task. Source: UAPI if_link.h, if_addr.h, rtnetlink.h.
 * A name may change hands between two calls, an index does not: look up once, then use the index.
 * Errors: -errno of the kernel, -EINVAL for an index or family that cannot be, -EBADMSG.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

#define LINK_KIND_MAX 16

struct link_facts {
    uint32_t index;
    char name[IFNAMSIZ];
    char kind[LINK_KIND_MAX]; /* "tun", "wireguard", "veth" ...; "": hardware, or not told */
    uint16_t arptype;         /* ARPHRD_* */
    uint32_t mtu, group, flags;
};

/* Pure. 0; 1: a message about something else; -EBADMSG. */
int link_parse(const struct nlmsghdr *nlh, struct link_facts *ret);
int link_find(struct nl_sock *s, const char *name, struct link_facts *ret); /* -ENODEV: none */

struct link_change { /* what is not to change stays zero */
    uint32_t flags, flags_mask; /* IFF_UP ... */
    uint32_t mtu;
    bool set_group, no_link_local; /* no_link_local: IPv6 makes no address of its own */
    uint32_t group;
};
int link_set(struct nl_sock *s, uint32_t index, const struct link_change *change);
/* -EOPNOTSUPP: the kernel does not know the kind. The kernel picks the index. */
int link_add(struct nl_sock *s, const char *name, const char *kind);
int link_delete(struct nl_sock *s, uint32_t index); /* 0 also when it was gone */

/*
 * An own address on a link without a route for its subnet; IPv6 without duplicate detection.
 * Adding an existing one and deleting a missing one are success.
 */
int link_add_address(struct nl_sock *s, uint32_t index, const struct prefix *own);
int link_delete_address(struct nl_sock *s, uint32_t index, const struct prefix *own);
