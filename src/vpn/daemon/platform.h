/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the platform says to the VPN qube, by QubesDB: the name servers of the uplink
 * (/qubes-primary-dns, /qubes-secondary-dns), whether the service qubes-vpn was switched off while
 * the qube runs (/qubes-service/qubes-vpn), and whether a rule of a qube behind names a host
 * ("dsthost=NAME" in /qubes-firewall/ADDR/NNNN), which this qube then has to look up. Without
 * QubesDB the name servers are those of resolv.conf.
 * Everybody in the qube may be able to write QubesDB: values are checked, and none opens more than
 * a look-up at a name server. Source: Qubes core-admin (net.py, firewall.py), qubes-db.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/addr.h"
#include "base/str.h"

#define PLATFORM_SERVERS_MAX 4

struct platform;

/* qubesdb: NULL: the usual place. changed: from the loop; also once when it is known first. */
int platform_new(sd_event *loop, const char *qubesdb, const char *resolv_conf,
                 void (*changed)(void *user), void *user, struct platform **ret);
struct platform *platform_free(struct platform *p); /* NULL is fine; not from changed() */
void platform_freep(struct platform **p);

/* Has QubesDB been read, or been found missing? Before that nothing below is of worth. */
bool platform_is_known(const struct platform *p);
/* Number of servers that can be asked; reads resolv.conf when QubesDB names none. */
size_t platform_servers(const struct platform *p, struct addr ret[static PLATFORM_SERVERS_MAX]);
bool platform_switched_off(const struct platform *p);
bool platform_names_hosts(const struct platform *p);

/* Pure: the "nameserver ADDRESS" lines of a resolv.conf, without what no uplink leads to. */
size_t platform_parse_resolv_conf(struct str text, struct addr ret[static PLATFORM_SERVERS_MAX]);
/* Pure: does the rule of a qube name a host, as a name? */
bool platform_rule_names_host(struct str rule);
