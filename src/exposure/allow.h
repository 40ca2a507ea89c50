/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may reach an exposed qube, and at what: the grammar of `allow` and `publish`, shared by the
 * router, the exposed qube and dom0.
 *
 *     allow    := rule (';' rule)*     rule := proto[/ports] ['from' net(,net)*]
 *     publish  := map  (';' map)*      map  := proto/outside[:inside] ['from' net(,net)*]
 *     proto    := tcp | udp | icmp | any       ports := n | n-m, separated by ','
 *
 * One rule is flattened into one entry per port range and network. A text of blanks has no entry:
 * it opens nothing. Whatever does not parse is an error for the whole text: fail closed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"

#define ALLOW_MAX_ENTRIES   256 /* after flattening; more is refused */
#define PUBLISH_MAX_ENTRIES 64
#define ALLOW_WHY_MAX       160 /* bytes of a message about a refused text */

enum allow_proto {
    ALLOW_PROTO_ANY,
    ALLOW_PROTO_TCP,
    ALLOW_PROTO_UDP,
    ALLOW_PROTO_ICMP, /* ICMP or ICMPv6, by the family of the address */
};

struct allow_entry {
    enum allow_proto proto;
    uint16_t port_lo, port_hi; /* 0 and 65535: every port, or a protocol without ports */
    struct prefix from;        /* family 0: from anybody */
};

struct allow {
    struct allow_entry *entries; /* owned */
    size_t n;
};

/* why gets a phrase for people when the result is -EINVAL or -E2BIG; -ENOMEM else. */
int allow_parse(struct str text, struct allow *ret, char why[static ALLOW_WHY_MAX]);
void allow_done(struct allow *allow);

/* Does an entry let this through? proto: IPPROTO_*; port: destination, 0 where there is none. */
bool allow_accepts(const struct allow *allow, int family, uint8_t proto, uint16_t port,
                   const struct addr *from);

/*
 * The same permission as a smallest list of entries of one family that do not overlap within
 * one protocol: as interval sets of nftables need it. Entries that name networks of the other
 * family only are left out. *ret owns its entries. 0, -ENOMEM, or -E2BIG beyond the limit.
 */
int allow_disjoint(const struct allow *allow, int family, struct allow *ret);

/* The entries of both. *ret owns its entries. 0, -ENOMEM, -E2BIG. */
int allow_join(const struct allow *a, const struct allow *b, struct allow *ret);

struct publish_entry {
    enum allow_proto proto; /* TCP or UDP */
    uint16_t outside_lo, outside_hi;
    uint16_t inside_lo; /* inside range is as long as the outside one */
    struct prefix from; /* family 0: from anybody */
};

struct publish {
    struct publish_entry *entries; /* owned */
    size_t n;
};

int publish_parse(struct str text, struct publish *ret, char why[static ALLOW_WHY_MAX]);
void publish_done(struct publish *publish);

/* Does the port outside lead to this port inside, for this source? */
bool publish_leads(const struct publish *publish, uint8_t proto, uint16_t outside, uint16_t inside,
                   const struct addr *from);
