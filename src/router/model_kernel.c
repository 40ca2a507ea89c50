/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel half of the model: links, subnets and routes of one reading replace those of the
 * last; only addresses that this can matter to are planned again.
 */
#include "router/model.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

void model_kernel_done(struct model_kernel *k)
{
    free(k->links);
    free(k->subnets);
    free(k->routes);
    free(k->own);
    *k = (struct model_kernel){0};
}

bool model_parse_vif(const char *name, uint32_t *ret_domid)
{
    struct str rest, domid;
    uint32_t devid;

    if (strncmp(name, "vif", 3) != 0)
        return false;
    rest = str_from(name + 3);
    return str_next(&rest, '.', &domid) && rest.p != NULL &&
           str_to_u32(domid, XID_MAX, ret_domid) == 0 && str_to_u32(rest, 65535, &devid) == 0;
}

static int compare_link(const void *a, const void *b)
{
    const struct model_link *x = a, *y = b;

    return x->index < y->index ? -1 : x->index > y->index;
}

static int compare_subnet(const void *a, const void *b)
{
    const struct model_subnet *x = a, *y = b;
    int r = addr_compare(&x->prefix.addr, &y->prefix.addr);

    if (r == 0)
        r = x->index < y->index ? -1 : x->index > y->index;
    return r != 0 ? r : (int)x->prefix.len - (int)y->prefix.len;
}

static int compare_route(const void *a, const void *b)
{
    const struct model_route *x = a, *y = b;
    int r = addr_compare(&x->dst.addr, &y->dst.addr);

    if (r == 0)
        r = (int)y->dst.len - (int)x->dst.len;
    if (r == 0)
        r = x->metric < y->metric ? -1 : x->metric > y->metric;
    if (r == 0)
        r = x->oif < y->oif ? -1 : x->oif > y->oif;
    return r != 0 ? r : addr_compare(&x->gateway, &y->gateway);
}

const struct model_link *model_link_by_index(const struct model *m, uint32_t index)
{
    struct model_link key = {.index = index};

    return m->n_links > 0 ? bsearch(&key, m->links, m->n_links, sizeof(key), compare_link) : NULL;
}

const struct model_link *model_link_by_name(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_links; i++) {
        if (strcmp(m->links[i].name, name) == 0)
            return &m->links[i];
    }
    return NULL;
}

const struct model_route *model_host_routes(const struct model *m, const struct addr *addr,
                                            size_t *ret_n)
{
    size_t lo = 0, hi = m->n_hosts, n = 0;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (addr_compare(&m->hosts[mid].dst.addr, addr) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    while (lo + n < m->n_hosts && addr_equal(&m->hosts[lo + n].dst.addr, addr))
        n++;
    *ret_n = n;
    return n > 0 ? &m->hosts[lo] : NULL;
}

static bool is_link_local(const struct addr *a)
{
    return a->family == AF_INET6 && a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

/* A default route or a configured subnet: what makes an interface face a network. */
static bool has_network(const struct model_kernel *k, uint32_t index)
{
    for (size_t i = 0; i < k->n_routes; i++) {
        if (k->routes[i].oif == index && k->routes[i].dst.len == 0)
            return true;
    }
    for (size_t i = 0; i < k->n_subnets; i++) {
        const struct prefix *p = &k->subnets[i].prefix;

        if (k->subnets[i].index == index && p->len < addr_bits(p->addr.family) &&
            !is_link_local(&p->addr))
            return true;
    }
    return false;
}

static bool was_uplink(const struct model *m, uint32_t index)
{
    for (size_t i = 0; i < m->n_ever_uplink; i++) {
        if (m->ever_uplink[i] == index)
            return true;
    }
    return false;
}

/*
 * A link that once held a network stays an uplink while it exists, so that a DHCP lease that is
 * being renewed does not take the exposures down. An index that is gone is forgotten.
 */
static int mark_uplinks(struct model *m, struct model_kernel *k)
{
    uint32_t *ever = k->n_links > 0 ? reallocarray(NULL, k->n_links, sizeof(*ever)) : NULL;
    size_t n = 0;

    if (k->n_links > 0 && ever == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < k->n_links; i++) {
        struct model_link *link = &k->links[i];

        link->uplink = link->uplink &&
                       (has_network(k, link->index) || was_uplink(m, link->index));
        if (link->uplink)
            ever[n++] = link->index;
    }
    free(m->ever_uplink);
    m->ever_uplink = ever;
    m->n_ever_uplink = n;
    return 0;
}

/* Moves the full-length routes to the front. Returns their number. */
static size_t split_routes(struct model_kernel *k)
{
    size_t n = 0;

    for (size_t i = 0; i < k->n_routes; i++) {
        struct model_route r = k->routes[i];

        if (r.dst.len != addr_bits(r.dst.addr.family))
            continue;
        k->routes[i] = k->routes[n];
        k->routes[n++] = r;
    }
    return n;
}

static void touch_routed(struct model *m, const struct model_route *route)
{
    struct slot *slot = model_find(m, &route->dst.addr);

    if (slot != NULL)
        model_touch(m, slot);
    model_touch_via(m, &route->dst.addr);
}

/* Both sorted: touches the address of each route that is in one of them only. */
static void touch_changed(struct model *m, const struct model_route *old, size_t n_old,
                          const struct model_route *new, size_t n_new)
{
    size_t i = 0, k = 0;

    while (i < n_old || k < n_new) {
        int order = i == n_old ? 1 : k == n_new ? -1 : compare_route(&old[i], &new[k]);

        if (order < 0)
            touch_routed(m, &old[i]);
        else if (order > 0)
            touch_routed(m, &new[k]);
        i += order <= 0;
        k += order >= 0;
    }
}

static bool same(const void *a, size_t n_a, const void *b, size_t n_b, size_t size)
{
    return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * size) == 0);
}

static void sort(void *items, size_t n, size_t size, int (*compare)(const void *, const void *))
{
    if (n > 0)
        qsort(items, n, size, compare);
}

/* Old values are kept by name; a renamed interface is still the same one. */
static void follow_renames(struct model *m, const struct model_kernel *k)
{
    for (size_t i = 0; i < k->n_links; i++) {
        const struct model_link *new = &k->links[i];
        const struct model_link *old = model_link_by_index(m, new->index);

        if (old == NULL || strcmp(old->name, new->name) == 0 ||
            memcmp(old->mac, new->mac, sizeof(old->mac)) != 0)
            continue;
        for (size_t v = 0; v < m->put_back.n; v++) {
            if (strcmp(m->put_back.values[v].scope, old->name) == 0)
                memcpy(m->put_back.values[v].scope, new->name, sizeof(new->name));
        }
    }
}

/* Routes of ours are no fact about the network: they are what the plan compares with. */
static int take_own(struct model *m, const struct model_kernel *k)
{
    int r = 0;

    model_read_begin(m, 1u << OBJECT_ROUTE, AF_INET);
    model_read_begin(m, 1u << OBJECT_ROUTE, AF_INET6);
    for (size_t i = 0; i < k->n_own && r == 0; i++) {
        struct object o = {
            .kind = OBJECT_ROUTE,
            .uplink_index = k->own[i].oif,
            .metric = k->own[i].metric,
            .src_lo = k->own[i].gateway,
        };

        r = model_add_actual(m, &k->own[i].dst.addr, &o);
    }
    if (r < 0)
        return r;
    model_read_end(m, 1u << OBJECT_ROUTE, AF_INET);
    model_read_end(m, 1u << OBJECT_ROUTE, AF_INET6);
    return 0;
}

int model_kernel_take(struct model *m, struct model_kernel *k)
{
    struct model_route *hosts = NULL, *wide = NULL;
    size_t n_hosts, n_wide;
    int r = mark_uplinks(m, k);

    if (r == 0)
        r = take_own(m, k);
    if (r < 0)
        return r;
    follow_renames(m, k);
    n_hosts = split_routes(k);
    n_wide = k->n_routes - n_hosts;
    if (n_hosts > 0)
        hosts = reallocarray(NULL, n_hosts, sizeof(*hosts));
    if (n_wide > 0)
        wide = reallocarray(NULL, n_wide, sizeof(*wide));
    if ((n_hosts > 0 && hosts == NULL) || (n_wide > 0 && wide == NULL)) {
        free(hosts);
        free(wide);
        return -ENOMEM;
    }
    if (n_hosts > 0)
        memcpy(hosts, k->routes, n_hosts * sizeof(*hosts));
    if (n_wide > 0)
        memcpy(wide, k->routes + n_hosts, n_wide * sizeof(*wide));
    sort(k->links, k->n_links, sizeof(*k->links), compare_link);
    sort(k->subnets, k->n_subnets, sizeof(*k->subnets), compare_subnet);
    sort(hosts, n_hosts, sizeof(*hosts), compare_route);
    sort(wide, n_wide, sizeof(*wide), compare_route);

    if (!same(m->links, m->n_links, k->links, k->n_links, sizeof(*k->links)) ||
        !same(m->subnets, m->n_subnets, k->subnets, k->n_subnets, sizeof(*k->subnets)) ||
        !same(m->wide, m->n_wide, wide, n_wide, sizeof(*wide)))
        model_touch_all(m);
    else
        touch_changed(m, m->hosts, m->n_hosts, hosts, n_hosts);

    free(m->links);
    free(m->subnets);
    free(m->hosts);
    free(m->wide);
    m->links = TAKE_PTR(k->links);
    m->n_links = k->n_links;
    m->subnets = TAKE_PTR(k->subnets);
    m->n_subnets = k->n_subnets;
    m->hosts = hosts;
    m->n_hosts = n_hosts;
    m->wide = wide;
    m->n_wide = n_wide;
    return 0;
}
