/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the kernel into the model. Errors: -errno; the model is then half filled and not used. */
#pragma once

#include "netlink/nl.h"
#include "vpn/seal/model.h"

/* Links, addresses, rules, routes of tables main and ours. rt is a NETLINK_ROUTE socket. */
int kernel_read_routes(struct nl_sock *rt, struct seal_model *m);
/* Elements and chains of our tables, as far as layers say; a missing table has none. */
int kernel_read_rules(struct nl_sock *nft, unsigned layers, struct seal_model *m);
