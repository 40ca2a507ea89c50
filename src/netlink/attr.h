/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink attributes of any origin. A list of attributes is a run of bytes; it is cut up with
 * bounds checks and each attribute is held against a policy (payload bytes, by attribute type)
 * before anybody looks at it. Nothing here needs alignment, allocates or keeps state; an attribute
 * borrows from the message. Errors: -EBADMSG.
 * Source: UAPI netlink.h (struct nlattr: host order u16 length with header, u16 type; padded to 4).
 */
#pragma once

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

struct attr {
    const uint8_t *p; /* payload, borrowed; NULL: absent */
    size_t len;
};

/* Least and most payload bytes. max 0: not wanted, skipped unseen. */
struct attr_rule {
    uint16_t min, max;
};
#define ATTR_LEN_ANY UINT16_MAX

/* The next attribute of a list. 1: filled, 0: end, -EBADMSG. The type is without its flag bits. */
int attr_next(struct cursor *list, uint16_t *ret_type, struct attr *ret);

/*
 * Fills ret[type] for each wanted type below count; the last of a repeated type wins, as in the
 * kernel. ret is untouched on error.
 */
int attr_parse(struct attr list, const struct attr_rule *policy, size_t count, struct attr *ret);

/* The attributes of a message behind its fixed header, which is copied to ret_header. */
int attr_parse_message(const struct nlmsghdr *nlh, void *ret_header, size_t header_size,
                       const struct attr_rule *policy, size_t count, struct attr *ret);

/* Numbers; zero where the attribute is absent or shorter. */
uint8_t attr_u8(struct attr a);
uint16_t attr_u16be(struct attr a);
uint32_t attr_u32(struct attr a);
uint32_t attr_u32be(struct attr a);
uint64_t attr_u64be(struct attr a);

/* Copies a name: 1 to size - 1 bytes, no NUL within, one NUL at the end allowed. -EBADMSG. */
int attr_name(struct attr a, char *ret, size_t size);
bool attr_is_name(struct attr a, const char *name);
