/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to nft: making requests and reading messages of nf_tables. The readers are pure and take
 * any bytes. Rules are read here and not by libnftnl, which refuses a whole rule for one kind of
 * expression it does not know; other people's rules may hold any.
 * Source: UAPI nf_tables.h, numbers are big-endian. Errors: 0 or -errno, -EBADMSG for bad bytes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "netlink/attr.h"
#include "nft/nft.h"

struct nft_request {
    _Alignas(struct nlmsghdr) uint8_t bytes[1024];
};

/* message: NFT_MSG_* */
struct nlmsghdr *nft_request_init(struct nft_request *q, unsigned message, uint8_t family);
/* 1 to 255 bytes, else -EINVAL. */
int nft_check_name(const char *name);
/* Two names fit; a NULL one is left out. */
int nft_request_put_names(struct nlmsghdr *nlh, uint16_t type1, const char *name1, uint16_t type2,
                          const char *name2);

int nft_generation_parse(const struct nlmsghdr *nlh, uint32_t *ret);
/* Calls fn for each element; its negative result ends the parse and is returned. */
int nft_elements_parse(const struct nlmsghdr *nlh, nft_element_fn fn, void *user);

/* The members of a list, whole: elements of a set, expressions of a rule. */
typedef int (*nft_member_fn)(struct attr member, void *user);
int nft_list_each(struct attr list, nft_member_fn fn, void *user);
int nft_elements_each(const struct nlmsghdr *nlh, nft_member_fn fn, void *user);

/* An expression of a rule; data may be absent. */
struct nft_expression {
    struct attr name, data;
};
typedef int (*nft_expression_fn)(const struct nft_expression *e, void *user);
int nft_rule_parse(const struct nlmsghdr *nlh, nft_expression_fn fn, void *user);
bool nft_expression_is_jump(const struct nft_expression *e, const char *target);

/* What a chain is. hook_number is -1 for a chain without a hook. */
struct nft_chain_facts {
    int64_t hook_number;
    struct attr hook, policy, type, flags; /* whole attributes, borrowed */
};
int nft_chain_parse(const struct nlmsghdr *nlh, struct nft_chain_facts *ret);

