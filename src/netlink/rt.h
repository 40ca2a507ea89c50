/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links, addresses, routes and neighbours by rtnetlink (UAPI if_link.h, if_addr.h,
 * rtnetlink.h, neighbour.h). The parsers are pure and take any bytes: attributes are checked for
 * type and size through a policy before use.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

struct rt_link {
    uint32_t index;
    char name[IFNAMSIZ];
    uint32_t group;
    uint32_t flags;   /* IFF_UP, IFF_NOARP, IFF_LOOPBACK, IFF_LOWER_UP ... */
    uint16_t arptype; /* ARPHRD_* */
    bool carrier;     /* IFF_UP and IFF_LOWER_UP */
    bool gone;        /* from a notification: RTM_DELLINK */
    uint8_t mac[6];   /* zero unless the link layer address has six bytes */
};

struct rt_addr {
    uint32_t index;
    struct prefix prefix; /* own address and its subnet's length; full length with a peer */
    bool gone;
};

/*
 * One next hop of one unicast route of table main; a multipath route gives several. Routes that
 * hold for some sources only, cached ones, and next hops without a device are left out.
 */
struct rt_route {
    struct prefix dst; /* len 0: default */
    struct addr gateway; /* family 0: none */
    uint32_t oif;
    uint32_t metric;
    uint8_t protocol; /* RTPROT_* of who made it */
    bool gone;
};

/*
 * 0: filled; 1: well-formed but none of our business (other table, type or family, a bridge's or
 * IPv6's own notice about a link); -EBADMSG.
 */
int rt_link_parse(const struct nlmsghdr *nlh, struct rt_link *ret);
int rt_addr_parse(const struct nlmsghdr *nlh, struct rt_addr *ret);
/* Calls fn for each next hop; its negative result ends the parse and is returned. */
typedef int (*rt_route_fn)(const struct rt_route *route, void *user);
int rt_route_parse(const struct nlmsghdr *nlh, rt_route_fn fn, void *user);

/* Whole tables. begin is called before each try, see nl_dump(). fn may stop with -errno. */
typedef void (*rt_begin_fn)(void *user);
typedef int (*rt_link_fn)(const struct rt_link *link, void *user);
typedef int (*rt_addr_fn)(const struct rt_addr *addr, void *user);
int rt_dump_links(struct nl_sock *s, rt_begin_fn begin, rt_link_fn fn, void *user);
int rt_dump_addrs(struct nl_sock *s, rt_begin_fn begin, rt_addr_fn fn, void *user);
int rt_dump_routes(struct nl_sock *s, rt_begin_fn begin, rt_route_fn fn, void *user);

/*
 * A route of table main to one address by a gateway that is taken to be on the link (RTNH_F_ONLINK),
 * made by protocol. Adding replaces the one of the same destination and metric; deleting what is
 * not there is success. The length of dst must be full.
 */
int rt_route_add(struct nl_sock *s, const struct rt_route *route);
int rt_route_del(struct nl_sock *s, const struct rt_route *route);

/*
 * Proxy neighbour entries (NTF_PROXY), both families in one call. The kernel sends no notification
 * when one comes or goes. Adding an existing one and deleting a missing one are success.
 */
struct rt_proxy {
    uint32_t index;
    struct addr addr;
    uint8_t protocol; /* RTPROT_* of who made it; NDA_PROTOCOL is kept since kernel 5.0, else 0 */
};
typedef int (*rt_proxy_fn)(const struct rt_proxy *proxy, void *user);
int rt_proxy_parse(const struct nlmsghdr *nlh, struct rt_proxy *ret);
int rt_dump_proxies(struct nl_sock *s, rt_begin_fn begin, rt_proxy_fn fn, void *user);
int rt_proxy_add(struct nl_sock *s, uint32_t index, const struct addr *addr, uint8_t protocol);
/* Several in one send, most a thousand: 0, or the first -errno (any of them may have been added). */
int rt_proxy_add_many(struct nl_sock *s, const struct rt_proxy *proxies, size_t n);
int rt_proxy_del(struct nl_sock *s, uint32_t index, const struct addr *addr);

/*
 * A neighbour that the kernel knows (no proxy entry), of any interface; both families. Only those
 * with a link layer address of six bytes that was right once (reachable, stale, delay, probe,
 * permanent).
 */
struct rt_neighbour {
    uint32_t index;
    struct addr addr;
    uint8_t mac[6];
    bool permanent; /* somebody wrote it down: it may never have been there */
    uint32_t age;   /* seconds since it was last heard of, as far as the kernel noted that */
};
typedef int (*rt_neighbour_fn)(const struct rt_neighbour *neighbour, void *user);
int rt_neighbour_parse(const struct nlmsghdr *nlh, struct rt_neighbour *ret);
int rt_dump_neighbours(struct nl_sock *s, rt_begin_fn begin, rt_neighbour_fn fn, void *user);

/*
 * The monitor: one non-blocking socket that only says "look again". Groups: link, addresses,
 * routes, netconf of both families.
 */
enum rt_change { /* bits */
    RT_CHANGE_LINK = 1,
    RT_CHANGE_ADDR = 2,
    RT_CHANGE_ROUTE = 4,
    RT_CHANGE_CONF = 8, /* forwarding, proxy_arp/proxy_ndp, rp_filter of some interface */
    RT_CHANGE_RULE = 16, /* of policy routing */
    RT_CHANGE_ALL = 31,  /* overrun: anything may have changed */
};
struct rt_monitor;
int rt_monitor_open(struct rt_monitor **ret);
/* From then on also rules, and routes of every table instead of table main alone. */
int rt_monitor_add_policy(struct rt_monitor *m);
struct rt_monitor *rt_monitor_free(struct rt_monitor *m);
int rt_monitor_fd(const struct rt_monitor *m);
/* Reads all that is queued, at most 256 messages. RT_CHANGE_* bits, 0: nothing, or -errno.
 * Overrun (ENOBUFS) and truncation give RT_CHANGE_ALL. */
int rt_monitor_read(struct rt_monitor *m);
