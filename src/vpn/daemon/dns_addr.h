/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The platform's firewall of the qubes behind knows what a name server is by the set `dns-addr` in
 * its table `ip qubes-firewall` (Qubes 4.3 and later). "DNS only" is held against the address that
 * a query was translated to, so the VPN's servers have to be in that set; any change of a
 * qube's rules, and a reload, empties it. This keeps our elements in it, told by nft's monitor, and
 * takes them out again when they are not wished for any more.
 * Qubes 4.2 has no set: its rules carry addresses, and nothing can be added without opening more
 * than the qube's rules say. There a qube with a rule "DNS only" has no names; DNS_ADDR_NO_SET.
 * Needs CAP_NET_ADMIN. One thread, callbacks from the loop.
 */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/addr.h"

#define DNS_ADDR_MAX 2

enum dns_addr_state {
    DNS_ADDR_UNUSED, /* nothing is wished for, or the platform's firewall does not run */
    DNS_ADDR_KEPT,
    DNS_ADDR_NO_SET,
    DNS_ADDR_FAILED,
};

struct dns_addr;

/* changed: the state is another one. */
int dns_addr_new(sd_event *loop, void (*changed)(enum dns_addr_state state, int error, void *user),
                 void *user, struct dns_addr **ret);
struct dns_addr *dns_addr_free(struct dns_addr *d); /* leaves the elements; NULL is fine */
/* The servers, IPv4; at once. n 0: none. */
void dns_addr_set(struct dns_addr *d, const struct addr *servers, size_t n);
