/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a plan: routes one by one, elements in one transaction, chains in another. What could not be
 * done is counted, told by the caller, and tried again; the rest is done all the same.
 */
#pragma once

#include "netlink/nl.h"
#include "vpn/seal/plan.h"

struct apply_result {
    unsigned done, failed;
    unsigned failed_layers;       /* bits */
    char first[SEAL_OP_TEXT + 80]; /* the first failure in words */
};

void apply_plan(struct nl_sock *rt, struct nl_sock *nft, const struct seal_model *m,
                const struct items *ops, struct apply_result *ret);
