/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only place with side effects on the kernel. Order: what answered goes first, then one nft
 * transaction, kernel switches, flows that are not permitted any more, and last what answers. So
 * an address is answered for only while it is open.
 */
#pragma once

#include <stdbool.h>

#include "router/kernel.h"
#include "router/plan.h"

struct apply_result {
    unsigned flows;     /* forgotten */
    bool elements_done; /* the slots of the plan have what they should, but those with an error */
    bool again_network; /* something was gone: read the network again */
    bool again_rules;   /* the ruleset changed under us: read the rules again */
    bool failed;        /* something that is of no single address: read everything, try later */
    int error;          /* first -errno of failed */
};

/*
 * Applies the plan and writes what the kernel has now into the slots. 0: done, or done in part as
 * ret_result and planned->error say (everything not done is still a difference, so the next plan has
 * it). -ENOMEM leaves the model's memory of the kernel doubtful: read everything again.
 */
int apply_plan(struct kernel *k, struct model *m, struct plan *p, struct apply_result *ret_result);
