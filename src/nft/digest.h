/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to nft: hashing what the kernel says of rules and sets, leaving out what changes by
 * itself (counters, consumed quota, time of last use) and what changes with every load (handles,
 * names the kernel makes for sets without a name). Pure, takes any bytes; 0 or -EBADMSG.
 * 64-bit FNV-1a: not against an adversary, who could as well change the rules back.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "netlink/attr.h"


/* Adds one piece with its length, so that pieces cannot run into each other. */
uint64_t digest_add(uint64_t h, const void *p, size_t len);

/* One rule on top of *h. Names of nameless sets (borrowed) go to name_fn, which may stop. */
typedef int (*digest_name_fn)(struct attr set, void *user);
int digest_add_rule(const struct nlmsghdr *nlh, uint64_t *h, digest_name_fn name_fn, void *user);
int digest_add_set(const struct nlmsghdr *nlh, uint64_t *h);
/* Elements come in any order: their hashes are added up. */
int digest_sum_elements(const struct nlmsghdr *nlh, uint64_t *sum);
