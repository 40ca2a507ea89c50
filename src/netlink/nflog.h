/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that a rule says "log group N" of, by nfnetlink_log (UAPI nfnetlink_log.h): each comes as
 * a message with its first bytes from the IP header on. One process per network namespace and group
 * may listen. The kernel's rule has to hold the rate down; what does not fit is lost.
 */
#pragma once

#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

struct nflog_packet { /* numbers in host order */
    struct addr src, dst;
    uint32_t out_index;          /* interface it leaves by; 0: none */
    uint8_t protocol;            /* IPPROTO_*, behind the extension headers of IPv6 */
    uint16_t src_port, dst_port; /* 0 where the protocol has none, or they are not in the bytes */
};

struct nflog;
/* bytes: how much of each packet is sent. 0 or -errno; -EBUSY: somebody else listens to the group. */
int nflog_open(uint16_t group, uint32_t bytes, struct nflog **ret);
struct nflog *nflog_free(struct nflog *l);
int nflog_fd(const struct nflog *l);

typedef void (*nflog_fn)(const struct nflog_packet *packet, void *user);
/* Reads what waits, at most 64 messages; the rest wakes the caller again. 0 or -errno. */
int nflog_read(struct nflog *l, nflog_fn fn, void *user);

/* Pure. 1: *ret is filled; 0: no packet of IP; -EBADMSG. */
int nflog_parse(const struct nlmsghdr *nlh, struct nflog_packet *ret);
