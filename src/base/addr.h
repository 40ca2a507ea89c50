/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IPv4 and IPv6 addresses and prefixes as values: no allocation, no name look-up, no scope id.
 * Bytes are in network order; bytes beyond the family's size are zero, so values compare bytewise.
 */
#pragma once

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct addr {
    uint8_t family; /* AF_INET, AF_INET6; 0: no address */
    uint8_t bytes[16];
};

struct prefix {
    struct addr addr; /* host bits may be set (an interface address) */
    uint8_t len;      /* bits */
};

#define ADDR_STR_MAX   INET6_ADDRSTRLEN
#define PREFIX_STR_MAX (INET6_ADDRSTRLEN + 4)

/* Bytes of an address of this family; 0 for any other family. */
size_t addr_size(int family);
uint8_t addr_bits(int family);

/* Exactly one address and nothing else. -EINVAL. The family is told by the text. */
int addr_parse(struct str text, struct addr *ret);
int addr_from_bytes(int family, const void *bytes, size_t len, struct addr *ret);
const char *addr_format(const struct addr *a, char buf[static ADDR_STR_MAX]);

bool addr_equal(const struct addr *a, const struct addr *b);
int addr_compare(const struct addr *a, const struct addr *b);

/*
 * Why no qube can be served under this address on any machine (unspecified, loopback, multicast,
 * link-local, mapped IPv4, ...), as a phrase for a message; NULL when nothing speaks against it.
 * Sources: RFC 6890 and RFC 4291 2.4, 2.5.5; Qubes' virtual name servers 10.139.1.1 and .2.
 */
const char *addr_why_unusable(const struct addr *a);

/* "ADDR/LEN" or "ADDR" (full length). Host bits set is -EINVAL: it is most often a slip. */
int prefix_parse(struct str text, struct prefix *ret);
const char *prefix_format(const struct prefix *p, char buf[static PREFIX_STR_MAX]);
bool prefix_contains(const struct prefix *p, const struct addr *a);
/* First and last address of the prefix. */
void prefix_range(const struct prefix *p, struct addr *ret_first, struct addr *ret_last);
