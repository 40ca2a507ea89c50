/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `qubes-vpn-forwarding run`: the one process that holds the seal. It listens to the kernel, puts
 * back what somebody took, and answers on its socket. READY is said after everything was read back.
 * Whatever ends it leaves the seal as it is; its netfilter socket lies in the service manager's
 * store, so the tables stay owned.
 */
#pragma once

#include "vpn/seal/plan.h"

struct owner_config {
    struct seal_config seal;
    const char *nft_program;
    const char *socket;
    uint32_t supervisor; /* user that may ask, beside root */
};

/* Exit status: 0 after a signal; 1 could not arm (forwarding is off); 3 armed in part (tests). */
int owner_run(const struct owner_config *config);
