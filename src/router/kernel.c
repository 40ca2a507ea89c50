/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/kernel.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/diag.h"
#include "netlink/rt.h"
#include "reconcile/reconcile.h"
#include "router/sysctl.h"

#define VIF_GROUP     2 /* core-agent-linux vif-route-qubes 4.2-4.4 */
#define INITIAL_ITEMS 16

int kernel_open(struct kernel *k, const char *nft_program)
{
    int r;

    *k = (struct kernel){.nft_program = nft_program};
    r = nl_open(NETLINK_ROUTE, &k->route);
    if (r == 0)
        r = nl_open(NETLINK_NETFILTER, &k->nft);
    if (r == 0)
        r = nl_open(NETLINK_NETFILTER, &k->conntrack);
    if (r == 0)
        r = nl_open(NETLINK_SOCK_DIAG, &k->diag);
    if (r < 0)
        kernel_done(k);
    return r;
}

void kernel_done(struct kernel *k)
{
    k->route = nl_free(k->route);
    k->nft = nl_free(k->nft);
    k->conntrack = nl_free(k->conntrack);
    k->diag = nl_free(k->diag);
    model_sysctl_list_done(&k->stored);
}

/* ---- network ---- */

/* Room for one more in an array that doubles. n is what is in it. */
static int grow(void *array, size_t n, size_t size)
{
    void **at = array, *grown;

    if (n > 0 && (n < INITIAL_ITEMS || (n & (n - 1)) != 0))
        return 0;
    grown = reallocarray(*at, n < INITIAL_ITEMS ? INITIAL_ITEMS : 2 * n, size);
    if (grown == NULL)
        return -ENOMEM;
    *at = grown;
    return 0;
}

static void begin_links(void *user)
{
    ((struct model_kernel *)user)->n_links = 0;
}

static int take_link(const struct rt_link *link, void *user)
{
    struct model_kernel *k = user;
    struct model_link *to;
    int r = grow(&k->links, k->n_links, sizeof(*k->links));

    if (r < 0)
        return r;
    to = &k->links[k->n_links++];
    (void)memset(to, 0, sizeof(*to)); /* compared by bytes */
    to->index = link->index;
    memcpy(to->name, link->name, sizeof(to->name));
    memcpy(to->mac, link->mac, sizeof(to->mac));
    to->carrier = link->carrier;
    to->vif = link->group == VIF_GROUP && model_parse_vif(link->name, &to->domid);
    to->uplink = link->group != VIF_GROUP && link->arptype == ARPHRD_ETHER &&
                 !(link->flags & (IFF_LOOPBACK | IFF_NOARP)) && (link->flags & IFF_UP) &&
                 strncmp(link->name, "vif", 3) != 0;
    return 0;
}

static void begin_subnets(void *user)
{
    ((struct model_kernel *)user)->n_subnets = 0;
}

static int take_subnet(const struct rt_addr *addr, void *user)
{
    struct model_kernel *k = user;
    int r = grow(&k->subnets, k->n_subnets, sizeof(*k->subnets));

    if (r < 0)
        return r;
    (void)memset(&k->subnets[k->n_subnets], 0, sizeof(*k->subnets));
    k->subnets[k->n_subnets].index = addr->index;
    k->subnets[k->n_subnets].prefix = addr->prefix;
    k->n_subnets++;
    return 0;
}

static void begin_routes(void *user)
{
    ((struct model_kernel *)user)->n_routes = 0;
    ((struct model_kernel *)user)->n_own = 0;
}

static int take_route(const struct rt_route *route, void *user)
{
    struct model_kernel *k = user;
    bool own = route->protocol == KERNEL_PROTOCOL &&
               route->dst.len == addr_bits(route->dst.addr.family);
    struct model_route *to;
    int r = own ? grow(&k->own, k->n_own, sizeof(*k->own))
                : grow(&k->routes, k->n_routes, sizeof(*k->routes));

    if (r < 0)
        return r;
    to = own ? &k->own[k->n_own++] : &k->routes[k->n_routes++];
    (void)memset(to, 0, sizeof(*to));
    to->dst = route->dst;
    to->gateway = route->gateway;
    to->oif = route->oif;
    to->metric = route->metric;
    return 0;
}

int kernel_read_network(struct kernel *k, struct model *m)
{
    _cleanup_(model_kernel_done) struct model_kernel staged = {0};
    int r = rt_dump_links(k->route, begin_links, take_link, &staged);

    if (r == 0)
        r = rt_dump_addrs(k->route, begin_subnets, take_subnet, &staged);
    if (r == 0)
        r = rt_dump_routes(k->route, begin_routes, take_route, &staged);
    return r < 0 ? r : model_kernel_take(m, &staged);
}

/* ---- what is not notified ---- */

static void begin_proxies(void *user)
{
    model_read_begin(user, 1u << OBJECT_PROXY, AF_INET);
    model_read_begin(user, 1u << OBJECT_PROXY, AF_INET6);
}

static int take_proxy(const struct rt_proxy *proxy, void *user)
{
    struct object o = {.kind = OBJECT_PROXY, .uplink_index = proxy->index};

    if (proxy->protocol != KERNEL_PROTOCOL)
        return 0;
    return model_add_actual(user, &proxy->addr, &o);
}

static int read_switch(struct model *m, enum sysctl_id id, const char *scope)
{
    struct sysctl_value v = {.id = id};
    int r = sysctl_read(id, scope, &v.value);

    if (r == -ENOENT) /* the link is gone, or there is no IPv6 */
        return 0;
    if (r < 0)
        return r;
    (void)memccpy(v.scope, scope, '\0', sizeof(v.scope) - 1);
    return model_sysctl_set(&m->sysctls, &v);
}

static int read_switches(struct model *m)
{
    static const enum sysctl_id of_link[] = {SYSCTL_IP6_FORWARDING, SYSCTL_IP6_PROXY_NDP,
                                             SYSCTL_IP6_ACCEPT_RA, SYSCTL_IP4_PROXY_DELAY,
                                             SYSCTL_IP6_PROXY_DELAY};
    int r;

    model_sysctl_list_done(&m->sysctls);
    r = read_switch(m, SYSCTL_IP6_FORWARDING, "all");
    for (size_t i = 0; i < m->n_links && r == 0; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(of_link) && r == 0 && !m->links[i].vif; k++)
            r = read_switch(m, of_link[k], m->links[i].name);
    }
    return r;
}

int kernel_read_unnotified(struct kernel *k, struct model *m)
{
    int r;

    r = rt_dump_proxies(k->route, begin_proxies, take_proxy, m);
    if (r < 0)
        return r;
    model_read_end(m, 1u << OBJECT_PROXY, AF_INET);
    model_read_end(m, 1u << OBJECT_PROXY, AF_INET6);
    return read_switches(m);
}

/* ---- listeners ---- */

struct listeners {
    struct model_listener *items;
    size_t n;
};

/* Nobody reaches a loopback address by an uplink: such a port is free outside. */
static bool is_loopback(const struct addr *a)
{
    static const uint8_t loopback6[16] = {[15] = 1};

    return a->family == AF_INET ? a->bytes[0] == 127 : memcmp(a->bytes, loopback6, 16) == 0;
}

static int take_listener(const struct diag_listener *listener, void *user)
{
    struct listeners *l = user;
    int r = is_loopback(&listener->local) ? 1 : grow(&l->items, l->n, sizeof(*l->items));

    if (r != 0)
        return r < 0 ? r : 0;
    (void)memset(&l->items[l->n], 0, sizeof(*l->items));
    l->items[l->n].family = listener->local.family;
    l->items[l->n].proto = listener->proto;
    l->items[l->n].port = listener->port;
    l->n++;
    return 0;
}

static int compare_listener(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct model_listener));
}

int kernel_read_listeners(struct kernel *k, struct model *m)
{
    struct listeners l = {0};
    int r = diag_dump_listeners(k->diag, take_listener, &l);

    if (r < 0) {
        free(l.items);
        return r;
    }
    l.n = reconcile_sort(l.items, l.n, sizeof(*l.items), compare_listener);
    if (l.n != m->n_listeners ||
        (l.n > 0 && memcmp(l.items, m->listeners, l.n * sizeof(*l.items)) != 0))
        m->publish_changed = true;
    free(m->listeners);
    m->listeners = l.items;
    m->n_listeners = l.n;
    return 0;
}
