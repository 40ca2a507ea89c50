/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames of the leak test: made byte by byte, each with a tag that is searched for on the uplinks.
 * A tag is printable and tells its class, so that it survives as a name in a DNS query and in what
 * an ICMP error quotes. Pure. Sources: RFC 791, 768, 9293, 792, 8200, 4443, 1035.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define TAG_RANDOM 12 /* characters of one run */
#define TAG_LEN    (2 + TAG_RANDOM + 2)
#define FRAME_MAX  1514
#define FRAME_SEEN 256 /* bytes of a frame that are looked at */

enum shape {
    SHAPE_PLAIN,
    SHAPE_DNS,       /* the payload is a query whose name holds the tag */
    SHAPE_FIRST,     /* first fragment, nothing follows */
    SHAPE_LATER,     /* a fragment without its first */
    SHAPE_OPTIONS,   /* IPv4 record route; IPv6 hop-by-hop options */
    SHAPE_BIG,       /* as long as a frame can be, and not to be cut up */
    SHAPE_BROADCAST, /* a unicast packet in a broadcast frame */
    SHAPE_VLAN,
};

struct shot {
    uint8_t to_mac[6], from_mac[6];
    struct addr src, dst; /* of one family */
    uint8_t protocol; /* IPPROTO_*; any other than UDP, TCP, ICMP(v6) carries the tag as it is */
    uint16_t sport, dport;
    uint8_t ttl;
    enum shape shape;
    char tag[TAG_LEN];
};

struct frame {
    uint8_t bytes[FRAME_MAX];
    size_t len;
};

/* -EINVAL: families differ, or the shape is not for that family. */
int frame_build(const struct shot *s, struct frame *ret);
/* random: TAG_RANDOM characters of [a-z0-9]. number: 0 to 255. */
void tag_make(const char *random, unsigned number, char ret[static TAG_LEN]);
/* The number of a tag of this run somewhere in the bytes, or -ENOENT. */
int tag_find(const char *random, const uint8_t *bytes, size_t len);
