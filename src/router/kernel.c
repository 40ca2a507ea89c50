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
#include "nft/nft.h"
#include "reconcile/reconcile.h"
#include "router/elements.h"
#include "router/sysctl.h"

#define VIF_GROUP     2 /* core-agent-linux vif-route-qubes 4.2-4.4 */
#define RULES_TRIES   8 /* somebody else commits while we read */
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

/* ---- rules ---- */

struct read_elements {
    struct model *m;
    enum object_kind kind;
    enum family_index family;
    bool lent; /* so far: something of OBJECT_LENT was read */
};

static int family_af(enum family_index family)
{
    return family == FAMILY_IP6 ? AF_INET6 : AF_INET;
}

static void begin_elements(void *user)
{
    struct read_elements *r = user;

    model_read_begin(r->m, 1u << r->kind, family_af(r->family));
}

static int take_element(const struct nft_element *e, void *user)
{
    struct read_elements *r = user;
    const struct model_link *link;
    struct object o;
    struct addr addr;

    /* what we would never write cannot be compared; it is not reachable by the rules either */
    if (elements_object(r->kind, r->family, e, &addr, &o) < 0)
        return 0;
    if (o.kind == OBJECT_OWN) {
        link = model_link_by_name(r->m, o.uplink);
        o.uplink_index = link != NULL ? link->index : 0;
    }
    r->lent = r->lent || o.kind == OBJECT_LENT;
    if (OBJECT_IS_PLATFORMS(o.kind))
        return model_add_shared(r->m, &addr, &o);
    return model_add_actual(r->m, &addr, &o);
}

static void begin_put_back(void *user)
{
    model_sysctl_list_done(user);
}

static int take_put_back(const struct nft_element *e, void *user)
{
    struct sysctl_value value;

    return elements_put_back_value(&e->key, &value) < 0 ? 0 : model_sysctl_set(user, &value);
}

static void begin_guard(void *user)
{
    *(bool *)user = false;
}

static int take_guard(const struct nft_element *e, void *user)
{
    (void)e;
    *(bool *)user = true;
    return 0;
}

/* Values that a predecessor stored; ours stay known when somebody flushed the set. */
static int merge_put_back(struct kernel *k, struct model *m)
{
    for (size_t i = 0; i < k->stored.n; i++) {
        uint32_t known;
        int r = 0;

        if (!model_sysctl_get(&m->put_back, k->stored.values[i].scope, k->stored.values[i].id,
                              &known))
            r = model_sysctl_set(&m->put_back, &k->stored.values[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int absent_is_empty(int r, void (*begin)(void *), void *user)
{
    if (r != -ENOENT)
        return r;
    begin(user);
    return 0;
}

static int read_elements(struct kernel *k, struct model *m, enum family_index family)
{
    struct nft_set put_back = elements_put_back_set(), guard = elements_guard_set();
    struct read_elements read = {.m = m, .family = family};
    int r = 0;

    for (unsigned kind = 0; kind < OBJECT_SETS && r == 0; kind++) {
        struct nft_set set = elements_set((enum object_kind)kind, family);

        read.kind = (enum object_kind)kind;
        /* where nothing is lent, all of the platform's is its own */
        r = OBJECT_IS_PLATFORMS(kind) && !read.lent
                ? -ENOENT
                : nft_dump_elements(k->nft, &set, begin_elements, take_element, &read);
        r = absent_is_empty(r, begin_elements, &read);
        if (r == 0)
            model_read_end(m, 1u << kind, family_af(family));
    }
    if (r == 0 && family == FAMILY_IP4) {
        r = nft_dump_elements(k->nft, &put_back, begin_put_back, take_put_back, &k->stored);
        r = absent_is_empty(r, begin_put_back, &k->stored);
    }
    if (r == 0 && family == FAMILY_IP6) {
        r = nft_dump_elements(k->nft, &guard, begin_guard, take_guard, &k->guard_stored);
        r = absent_is_empty(r, begin_guard, &k->guard_stored);
    }
    return r;
}

static int put_jump_back(struct kernel *k, enum family_index family)
{
    _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
    uint32_t generation;
    int r = nft_generation(k->nft, &generation);

    if (r == 0)
        r = nft_batch_new(generation, &batch);
    if (r == 0)
        r = nft_batch_add_jump(batch, elements_family(family), TABLE_PLATFORM, CHAIN_HOOK,
                               CHAIN_ENTRY);
    return r < 0 ? r : nft_batch_commit(batch, k->nft, &generation);
}

/*
 * What is read back after a load is ours only if nobody wrote in between: it is as at the load
 * before, or nothing but the load happened. Otherwise it is loaded once more.
 */
static int load_skeleton(struct kernel *k, enum family_index family)
{
    char *err = k->error[family];
    struct skeleton_digest now = {.n = 0};
    uint32_t before, after;
    bool known;
    int r = nft_generation(k->nft, &before);

    if (r == 0)
        r = skeleton_load(k->nft_program, family, err, sizeof(k->error[family]));
    if (r == 0)
        r = skeleton_read(k->nft, family, &now);
    if (r == 0)
        r = nft_generation(k->nft, &after);
    if (r < 0)
        return r;
    err[0] = '\0';
    known = skeleton_equal(&now, &k->skeleton[family]) || skeleton_equal(&now, &k->loaded[family]) ||
            after == before + 1;
    k->loaded[family] = now;
    if (!known)
        return -ERESTART;
    k->skeleton[family] = now;
    return 0;
}

/*
 * Our chains are what we loaded, or are loaded again: what a predecessor left is replaced once,
 * in one transaction, because nothing tells whether it was of this version.
 */
static int ensure_skeleton(struct kernel *k, enum family_index family)
{
    struct skeleton_digest now = {.n = 0};
    bool was_loaded = k->skeleton[family].n > 0;
    int r = skeleton_read(k->nft, family, &now);

    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT || !skeleton_equal(&now, &k->skeleton[family])) {
        r = load_skeleton(k, family);
        if (r < 0)
            return r;
        k->repairs += was_loaded;
    }
    r = skeleton_has_jump(k->nft, family);
    if (r != 0)
        return r < 0 ? r : 0;
    k->repairs += was_loaded;
    return put_jump_back(k, family);
}

static int read_family(struct kernel *k, struct model *m, enum family_index family)
{
    bool before = m->platform[family];
    const char *missing = NULL;
    int r = skeleton_find_platform(k->nft, family, &missing);

    if (r < 0)
        return r;
    if (missing == NULL && k->nft_program != NULL) {
        r = ensure_skeleton(k, family);
        if (r == -ERESTART || r == -EINTR)
            return r;
        if (r < 0) {
            missing = "our rules could not be loaded (see the log)";
            k->load_failed = true;
        }
        if (r < 0 && k->error[family][0] == '\0')
            (void)snprintf(k->error[family], sizeof(k->error[family]), "%s", strerror(-r));
    }
    m->missing[family] = missing;
    m->platform[family] = missing == NULL;
    if (m->platform[family] != before)
        model_touch_all(m);
    return read_elements(k, m, family);
}

/*
 * The first load, of both families at once. Whatever goes wrong here, and everything later, is the
 * business of ensure_skeleton(), one family at a time.
 */
static void load_both(struct kernel *k)
{
    struct skeleton_digest now[FAMILIES] = {{.n = 0}};
    const char *missing[FAMILIES] = {"", ""};
    uint32_t before, after;
    char err[64];

    for (unsigned f = 0; f < FAMILIES; f++) {
        if (k->skeleton[f].n > 0 || k->nft_program == NULL ||
            skeleton_find_platform(k->nft, (enum family_index)f, &missing[f]) < 0 ||
            missing[f] != NULL)
            return;
    }
    if (nft_generation(k->nft, &before) < 0 ||
        skeleton_load_all(k->nft_program, err, sizeof(err)) < 0)
        return;
    for (unsigned f = 0; f < FAMILIES; f++) {
        if (skeleton_read(k->nft, (enum family_index)f, &now[f]) < 0)
            return;
    }
    if (nft_generation(k->nft, &after) == 0 && after == before + 1)
        memcpy(k->skeleton, now, sizeof(now));
}

int kernel_read_rules(struct kernel *k, struct model *m)
{
    uint32_t before, after;
    int r, seal;

    k->load_failed = k->moving = false;
    load_both(k);
    for (int i = 0; i < RULES_TRIES; i++) {
        /* before all of it: a change between the families must not be taken for seen */
        r = nft_generation(k->nft, &before);
        for (unsigned f = 0; f < FAMILIES && r == 0; f++)
            r = read_family(k, m, (enum family_index)f);
        if (r == 0)
            r = merge_put_back(k, m);
        if (r == -ERESTART || r == -EINTR)
            continue;
        if (r < 0)
            return r;
        seal = skeleton_vpn_seal_present(k->nft);
        if (seal < 0)
            return seal;
        if (m->sealed != (seal == 1))
            model_touch_all(m);
        m->sealed = seal == 1;
        r = nft_generation(k->nft, &after);
        if (r < 0)
            return r;
        if (before == after) {
            k->generation = after;
            return 0;
        }
    }
    k->moving = true;
    return -EAGAIN;
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
