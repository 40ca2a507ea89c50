/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server (OpenVPN: pushed) or a file (WireGuard) says about the tunnel, and the judge of it.
 * The judge takes what may be used and names the rest: an address that is also a vif's, an
 * uplink's, an endpoint's, a virtual name server's, loopback, multicast, broadcast ...; name
 * servers that would not be asked through the tunnel; an MTU out of bounds. Routes are counted and
 * not used: everything goes into the tunnel anyway. Pure.
 */
#pragma once

#include "vpn/profile/profile.h"
#include "vpn/wish/wish.h"

#define PUSHED_DNS_MAX 32

struct pushed {
    struct prefix addr4, addr6; /* addr.family 0: none; host bits kept */
    struct addr peer4;          /* net30 and p2p: the other end, else family 0 */
    uint32_t mtu;               /* 0: not said */
    struct addr dns[PUSHED_DNS_MAX]; /* by priority, each once */
    uint32_t dns_order[PUSHED_DNS_MAX]; /* their places; OpenVPN's lines come in any order */
    size_t n_dns, more_dns;
    size_t n_routes;  /* pushed routes and such, not used */
    size_t n_unknown; /* options nobody asked for */
};

/* What the tunnel must not collide with; borrowed lists. */
struct surroundings {
    const struct addr *taken; /* qubes behind, own on vifs and uplinks, endpoints, resolvers */
    size_t n_taken;
    const struct prefix *uplinks; /* subnets of uplinks, longer than /0 */
    size_t n_uplinks;
};

/*
 * One line "name=value" of OpenVPN's management notification ">UPDOWN:ENV,": ifconfig_local,
 * ifconfig_netmask, ifconfig_remote, ifconfig_ipv6_local, ifconfig_ipv6_netbits, tun_mtu,
 * foreign_option_N (dhcp-option DNS, DNS6), dns_server_N_address_M (2.6 and 2.7), route_*.
 * Malformed values become findings and are not taken. A line of another name is passed over.
 */
void pushed_add_openvpn(struct pushed *p, struct str line, struct findings *findings);
void pushed_from_wireguard(struct pushed *p, const struct profile *profile);

/* The tunnel as it may be set up. */
struct tunnel_facts {
    struct prefix addr4, addr6; /* family 0: not carried; always a whole address, /32 or /128 */
    struct addr peer4;          /* family 0: none */
    uint16_t mtu;
    struct addr dns[WISH_DNS_MAX]; /* IPv4 only: the platform's qubes ask by IPv4 */
    size_t n_dns;
};
/*
 * 0, or -EINVAL when no address is left to use (a refusal); every other value that is not taken is
 * left out, and named. What comes out passes wish_check() and is nothing of the surroundings.
 */
int pushed_judge(const struct pushed *p, const struct surroundings *around,
                 struct findings *findings, struct tunnel_facts *ret);
