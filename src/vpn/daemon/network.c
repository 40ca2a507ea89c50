/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/network.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "netlink/rt.h"

#define GROUP_VIF  2

struct reading {
    struct network *n;
    const char *tunnel;
};

static uint64_t hash_addr(uint64_t h, const struct addr *a)
{
    h = hash_bytes(h, &a->family, sizeof(a->family));
    return hash_bytes(h, a->bytes, sizeof(a->bytes));
}

void network_add_taken(struct network *n, const struct addr *a)
{
    if (n->n_taken < NETWORK_TAKEN_MAX)
        n->taken[n->n_taken++] = *a;
    else
        n->is_full = true;
}

static void add_uplink(struct network *n, const struct prefix *p)
{
    if (n->n_uplinks < NETWORK_UPLINKS_MAX)
        n->uplinks[n->n_uplinks++] = *p;
    else
        n->is_full = true;
}

static const struct network_link *find_link(const struct network *n, uint32_t index)
{
    for (size_t i = 0; i < n->n_links; i++)
        if (n->links[i].index == index)
            return &n->links[i];
    return NULL;
}

static int take_link(const struct rt_link *link, void *user)
{
    const struct reading *r = user;
    struct network *n = r->n;
    bool vif = link->group == GROUP_VIF && strncmp(link->name, "vif", 3) == 0;

    if (link->gone || (link->flags & IFF_LOOPBACK) || strcmp(link->name, r->tunnel) == 0)
        return 0;
    if (n->n_links == NETWORK_LINKS_MAX) {
        n->is_full = true;
        return 0;
    }
    n->links[n->n_links++] = (struct network_link){
        .index = link->index,
        .uplink = !vif && link->carrier,
        .vif = vif,
        .name_hash = hash_bytes(HASH_START, link->name, strlen(link->name)),
    };
    return 0;
}

static int take_addr(const struct rt_addr *addr, void *user)
{
    const struct reading *r = user;
    struct network *n = r->n;
    const struct network_link *link = find_link(n, addr->index);
    const struct addr *a = &addr->prefix.addr;

    if (link == NULL || addr->gone)
        return 0;
    network_add_taken(n, a);
    if (link->vif)
        return 0;
    if (addr->prefix.len > 0 && addr->prefix.len < addr_bits(a->family))
        add_uplink(n, &addr->prefix);
    /* a sum: the order of a dump means nothing; IPv6 addresses change by themselves (RFC 8981) */
    if (link->uplink && a->family == AF_INET)
        n->addr_hash += hash_addr(link->name_hash ^ link->index, a);
    return 0;
}

static int take_route(const struct rt_route *route, void *user)
{
    const struct reading *r = user;
    struct network *n = r->n;
    const struct network_link *link = find_link(n, route->oif);
    uint8_t full = addr_bits(route->dst.addr.family);

    if (link == NULL || route->gone)
        return 0;
    if (link->vif) {
        if (route->dst.len == full)
            network_add_taken(n, &route->dst.addr);
        return 0;
    }
    if (route->gateway.family != 0)
        network_add_taken(n, &route->gateway);
    if (route->dst.len == full)
        network_add_taken(n, &route->dst.addr);
    else if (route->dst.len > 0 && route->gateway.family == 0)
        add_uplink(n, &route->dst);
    if (route->dst.len == 0 && link->uplink) {
        uint64_t h = hash_addr(link->name_hash ^ link->index, &route->gateway);

        n->default_hash += hash_bytes(h, &route->metric, sizeof(route->metric));
        n->way4 |= route->dst.addr.family == AF_INET;
        n->way6 |= route->dst.addr.family == AF_INET6;
    }
    return 0;
}

static void begin_links(void *user)
{
    struct reading *r = user;

    memset(r->n, 0, sizeof(*r->n));
}

static void begin_addrs(void *user)
{
    struct network *n = ((struct reading *)user)->n;

    n->n_taken = n->n_uplinks = 0;
    n->addr_hash = 0;
}

/*
 * A second try of the routes cannot forget what the addresses gave: it adds entries twice, which
 * does no harm in lists. The mark of the way out must not count twice.
 */
static void begin_routes(void *user)
{
    struct network *n = ((struct reading *)user)->n;

    n->default_hash = 0;
    n->way4 = n->way6 = false;
}

int network_read(struct nl_sock *s, const char *tunnel, struct network *ret)
{
    struct reading r = {ret, tunnel};
    int e = rt_dump_links(s, begin_links, take_link, &r);

    if (e >= 0)
        e = rt_dump_addrs(s, begin_addrs, take_addr, &r);
    if (e >= 0)
        e = rt_dump_routes(s, begin_routes, take_route, &r);
    if (e < 0)
        return e;
    /* addresses alone are no way out: a link that waits for its route counts when it has one */
    ret->way_out = ret->default_hash == 0 ? 0 : ret->default_hash ^ (ret->addr_hash | 1);
    return 0;
}
