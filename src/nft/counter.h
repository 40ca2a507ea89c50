/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading what the elements of a set counted, for sets made with "counter".
 */
#pragma once

#include <stdint.h>

#include "nft/nft.h"

struct nft_count {
    struct nft_key key; /* not of an interval set */
    uint64_t packets, bytes;
};
typedef int (*nft_count_fn)(const struct nft_count *count, void *user);

/* As nft_dump_elements(), of every element that has a key. One that does not count has zeros. */
int nft_dump_counts(struct nl_sock *s, const struct nft_set *set, nft_begin_fn begin,
                    nft_count_fn fn, void *user);

/* Pure. fn's negative result ends the parse and is returned. */
int nft_counts_parse(const struct nlmsghdr *nlh, nft_count_fn fn, void *user);
