/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is around the tunnel, read from the kernel by rtnetlink in three dumps: addresses that the
 * tunnel must not take, subnets of the uplinks, and a mark of the way out that changes when the
 * uplink is another one. A vif is a link named vif* in group 2; an uplink is whatever is neither
 * that, loopback, nor the tunnel.
 * Fixed lists: beyond their ends nothing is known, and is_full says so: then the judge must let
 * nothing pass. Errors: -errno. Source: Qubes vif-route-qubes, setup-ip.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

#define NETWORK_TAKEN_MAX   1024
#define NETWORK_UPLINKS_MAX 64
#define NETWORK_LINKS_MAX   512

struct network_link {
    uint32_t index;
    bool uplink, vif;
    uint64_t name_hash;
};

struct network {
    struct addr taken[NETWORK_TAKEN_MAX]; /* of qubes behind, own ones, gateways */
    size_t n_taken;
    struct prefix uplinks[NETWORK_UPLINKS_MAX];
    size_t n_uplinks;
    bool is_full;
    /* Of the default routes by uplinks with carrier: link, gateway, own addresses. 0: none. */
    uint64_t way_out;
    bool way4, way6; /* an uplink has a default route of the family */

    struct network_link links[NETWORK_LINKS_MAX];
    size_t n_links;
    uint64_t default_hash, addr_hash;
};

/* s: NETLINK_ROUTE. tunnel: name of the device that is left out. */
int network_read(struct nl_sock *s, const char *tunnel, struct network *ret);
/* One more address that the tunnel must not have (an endpoint, a resolver). */
void network_add_taken(struct network *n, const struct addr *a);
