/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/elements.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define HEADERS4 40 /* IPv4 and TCP without options */
#define HEADERS6 60

static const struct {
    enum seal_layer layer;
    const char *name;
} sets[SEAL_SETS] = {
    [SET_CLIENT] = {LAYER_INET, "client"},
    [SET_PROXY] = {LAYER_INET, "proxy"},
    [SET_CARRIER4] = {LAYER_INET, "carrier4"},
    [SET_CARRIER6] = {LAYER_INET, "carrier6"},
    [SET_MARKED4] = {LAYER_INET, "marked4"},
    [SET_MARKED6] = {LAYER_INET, "marked6"},
    [SET_RESOLVER4] = {LAYER_INET, "resolver4"},
    [SET_RESOLVER6] = {LAYER_INET, "resolver6"},
    [SET_TUNNEL] = {LAYER_INET, "tunnel"},
    [SET_TUNNEL4] = {LAYER_INET, "tunnel4"},
    [SET_TUNNEL6] = {LAYER_INET, "tunnel6"},
    [SET_QUBE4] = {LAYER_INET, "qube4"},
    [SET_QUBE6] = {LAYER_INET, "qube6"},
    [SET_OWN4] = {LAYER_INET, "own4"},
    [SET_OWN6] = {LAYER_INET, "own6"},
    [SET_HERE4] = {LAYER_INET, "here4"},
    [SET_HERE6] = {LAYER_INET, "here6"},
    [SET_LOOKUP] = {LAYER_INET, "lookup"},
    [SET_DNS] = {LAYER_INET, "dns"},
    [SET_MSS4] = {LAYER_INET, "mss4"},
    [SET_MSS6] = {LAYER_INET, "mss6"},
    [SET_G_CLIENT] = {LAYER_EGRESS, "client"},
    [SET_G_PROXY] = {LAYER_EGRESS, "proxy"},
    [SET_G_CARRIER4] = {LAYER_EGRESS, "carrier4"},
    [SET_G_CARRIER6] = {LAYER_EGRESS, "carrier6"},
    [SET_G_MARKED4] = {LAYER_EGRESS, "marked4"},
    [SET_G_MARKED6] = {LAYER_EGRESS, "marked6"},
    [SET_G_RESOLVER4] = {LAYER_EGRESS, "resolver4"},
    [SET_G_RESOLVER6] = {LAYER_EGRESS, "resolver6"},
    [SET_G_OWN4] = {LAYER_EGRESS, "own4"},
    [SET_G_OWN6] = {LAYER_EGRESS, "own6"},
    [SET_G_FAR4] = {LAYER_EGRESS, "far4"},
    [SET_G_FAR6] = {LAYER_EGRESS, "far6"},
    [SET_G_NEAR4] = {LAYER_EGRESS, "near4"},
    [SET_G_NEAR6] = {LAYER_EGRESS, "near6"},
};

/* The platform's name servers for qubes; there are no others. */
static const uint8_t virtual_dns[2][4] = {{10, 139, 1, 1}, {10, 139, 1, 2}};

struct nft_set elements_set(enum seal_set set)
{
    uint8_t family = sets[set].layer == LAYER_INET ? NFPROTO_INET : NFPROTO_NETDEV;

    return (struct nft_set){family, SEAL_NFT_TABLE, sets[set].name};
}

enum seal_layer elements_layer(enum seal_set set)
{
    return sets[set].layer;
}

bool element_equal(const struct seal_element *a, const struct seal_element *b)
{
    return a->set == b->set && a->key.len == b->key.len && !a->key.has_end && !b->key.has_end &&
           memcmp(a->key.data, b->key.data, a->key.len) == 0 && a->data_len == b->data_len &&
           memcmp(a->data, b->data, a->data_len) == 0;
}

static int add(struct items *list, const struct seal_element *e)
{
    for (size_t i = 0; i < list->n; i++)
        if (element_equal(&ITEMS(list, struct seal_element)[i], e))
            return 0;
    return items_add(list, e, sizeof(*e));
}

static int add_key(struct items *list, enum seal_set set, const void *part, size_t len)
{
    struct seal_element e = {.set = set};
    int r = nft_key_add(&e.key, part, len);

    return r < 0 ? r : add(list, &e);
}

/* Both tables have the set; four is the one for IPv4, the next one is for IPv6. */
static int add_addr(struct items *list, enum seal_set four, const struct addr *a)
{
    enum seal_set set = (enum seal_set)(four + (a->family == AF_INET6));

    return a->family == 0 ? 0 : add_key(list, set, a->bytes, addr_size(a->family));
}

static int add_carrier(struct items *list, enum seal_set four, const struct carrier *c)
{
    struct seal_element e = {.set = (enum seal_set)(four + (c->addr.family == AF_INET6))};
    uint16_t port = htons(c->port);
    int r = nft_key_add(&e.key, &c->protocol, sizeof(c->protocol));

    if (r == 0)
        r = nft_key_add(&e.key, c->addr.bytes, addr_size(c->addr.family));
    if (r == 0)
        r = nft_key_add(&e.key, &port, sizeof(port));
    return r < 0 ? r : add(list, &e);
}

static int add_carriers(const struct wish *w, struct items *list)
{
    int r = 0;

    for (size_t i = 0; i < w->n_carriers && r == 0; i++) {
        const struct carrier *c = &w->carriers[i];

        r = add_carrier(list, c->marked ? SET_MARKED4 : SET_CARRIER4, c);
        if (r == 0)
            r = add_carrier(list, c->marked ? SET_G_MARKED4 : SET_G_CARRIER4, c);
        if (r == 0)
            r = add_addr(list, SET_G_FAR4, &c->addr);
    }
    for (size_t i = 0; i < w->n_resolvers && r == 0; i++) {
        r = add_addr(list, SET_RESOLVER4, &w->resolvers[i]);
        if (r == 0)
            r = add_addr(list, SET_G_RESOLVER4, &w->resolvers[i]);
    }
    return r;
}

static int add_user(struct items *list, enum seal_set one, enum seal_set other, uint32_t uid)
{
    int r = add_key(list, one, &uid, sizeof(uid));

    return r < 0 ? r : add_key(list, other, &uid, sizeof(uid));
}

static int add_mss(struct items *list, enum seal_set set, const char *name, int mss)
{
    struct seal_element e = {.set = set, .data_len = 2};
    char device[IFNAMSIZ] = {0};
    uint16_t value = htons((uint16_t)mss);
    int r;

    (void)snprintf(device, sizeof(device), "%s", name);
    memcpy(e.data, &value, sizeof(value));
    r = nft_key_add(&e.key, device, sizeof(device));
    return r < 0 ? r : add(list, &e);
}

static int add_dns(const struct wish *w, struct items *list)
{
    int r = 0;

    /* one server stands for both virtual ones: a resolver's first question must not wait */
    for (size_t i = 0; i < 2 && w->n_dns > 0 && r == 0; i++) {
        struct seal_element e = {.set = SET_DNS, .data_len = 4};

        memcpy(e.data, w->dns[i < w->n_dns ? i : 0].bytes, 4);
        r = nft_key_add(&e.key, virtual_dns[i], 4);
        if (r == 0)
            r = add(list, &e);
    }
    for (size_t i = 0; i < w->n_dns && w->lookups && r == 0; i++)
        r = add_key(list, SET_LOOKUP, w->dns[i].bytes, 4);
    return r;
}

/* Only while the device is there: rules go by its name, which another one could take meanwhile. */
static int add_tunnel(const struct wish *w, const struct seal_model *m, struct items *list)
{
    char device[IFNAMSIZ] = {0};
    int r;

    if (w->tunnel[0] == '\0' || model_tunnel(m) == NULL)
        return 0;
    (void)snprintf(device, sizeof(device), "%s", w->tunnel);
    r = add_key(list, SET_TUNNEL, device, sizeof(device));
    if (r == 0)
        r = add_addr(list, SET_TUNNEL4, &w->tunnel_addr[0]);
    if (r == 0)
        r = add_addr(list, SET_TUNNEL4, &w->tunnel_addr[1]);
    if (r == 0)
        r = add_mss(list, SET_MSS4, w->tunnel, w->mtu - HEADERS4);
    if (r == 0)
        r = add_mss(list, SET_MSS6, w->tunnel, w->mtu - HEADERS6);
    return r < 0 ? r : add_dns(w, list);
}

/*
 * Does the address belong to somebody else: to this qube (IPv6 has host routes to its own addresses
 * too), or behind another route? Of equal ones the kernel asks the first.
 */
static bool is_taken(const struct seal_model *m, size_t at)
{
    const struct path *paths = ITEMS(&m->paths, struct path), *p = &paths[at];

    for (size_t i = 0; i < m->addrs.n; i++)
        if (addr_equal(&ITEMS(&m->addrs, struct rt_addr)[i].prefix.addr, &p->dst.addr))
            return true;
    for (size_t i = 0; i < m->paths.n; i++) {
        bool first = i < at ? paths[i].metric <= p->metric : paths[i].metric < p->metric;

        if (first && addr_equal(&paths[i].dst.addr, &p->dst.addr) &&
            model_leads_to_qube(m, &paths[i]))
            return true;
    }
    return false;
}

/* An address is one vif's alone, also while another one still has a route to it. */
static int add_qubes(const struct seal_model *m, struct items *list)
{
    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];
        struct seal_element e = {.set = p->family == AF_INET6 ? SET_QUBE6 : SET_QUBE4};
        int r = 0;

        if (!model_leads_to_qube(m, p) || is_taken(m, i))
            continue;
        r = nft_key_add(&e.key, &p->oif, sizeof(p->oif));
        if (r == 0)
            r = nft_key_add(&e.key, p->dst.addr.bytes, addr_size(p->family));
        if (r == 0)
            r = add(list, &e);
        if (r == 0)
            r = add_addr(list, SET_HERE4, &p->dst.addr);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Addresses of this qube: all of them, and those by which an uplink may ask for it. */
static int add_addresses(const struct seal_model *m, struct items *list)
{
    for (size_t i = 0; i < m->addrs.n; i++) {
        const struct rt_addr *a = &ITEMS(&m->addrs, struct rt_addr)[i];
        const struct rt_link *link = model_link(m, a->index);
        int r = add_addr(list, SET_HERE4, &a->prefix.addr);

        if (r == 0 && link != NULL && link_kind(link) == LINK_UPLINK)
            r = add_addr(list, SET_OWN4, &a->prefix.addr);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What frames on an uplink may call their sender. */
static int add_own(const struct seal_model *m, struct items *list)
{
    for (size_t i = 0; i < m->addrs.n; i++) {
        const struct rt_addr *a = &ITEMS(&m->addrs, struct rt_addr)[i];
        const struct rt_link *link = model_link(m, a->index);
        int r;

        if (link == NULL || link_kind(link) != LINK_UPLINK)
            continue;
        r = add_addr(list, SET_G_OWN4, &a->prefix.addr);
        /* IPv6 asks for its own address first, whether somebody has it */
        if (r == 0 && a->prefix.addr.family == AF_INET6)
            r = add_addr(list, SET_G_NEAR4, &a->prefix.addr);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A gateway, or a host that has a route of its own without one, on an uplink. */
static int add_gateways(const struct seal_model *m, struct items *list)
{
    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];
        const struct rt_link *link = p->oif == 0 ? NULL : model_link(m, p->oif);
        int r = 0;

        if (p->table != SEAL_TABLE_MAIN || link == NULL || link_kind(link) != LINK_UPLINK)
            continue;
        if (p->gateway.family != 0)
            r = add_addr(list, SET_G_NEAR4, &p->gateway);
        else if (p->dst.len == addr_bits(p->family))
            r = add_addr(list, SET_G_NEAR4, &p->dst.addr);
        if (r < 0)
            return r;
    }
    return 0;
}

/*
 * Does a route lead to it without a gateway? Of others the kernel may not ask: it does so for any
 * process whose socket is bound to the uplink, whatever the rules and routes say.
 */
static bool is_on_link(const struct seal_model *m, const struct addr *a)
{
    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];
        const struct rt_link *link = p->oif == 0 ? NULL : model_link(m, p->oif);

        if (p->table == SEAL_TABLE_MAIN && p->type == RTN_UNICAST && !p->other &&
            p->gateway.family == 0 && link != NULL && link_kind(link) == LINK_UPLINK &&
            prefix_contains(&p->dst, a))
            return true;
    }
    return false;
}

/* Whom the kernel may look for on an uplink's link. */
static int add_near(const struct wish *w, const struct seal_model *m, struct items *list)
{
    int r = add_gateways(m, list);

    for (size_t i = 0; i < w->n_carriers && r == 0; i++)
        if (is_on_link(m, &w->carriers[i].addr))
            r = add_addr(list, SET_G_NEAR4, &w->carriers[i].addr);
    for (size_t i = 0; i < w->n_resolvers && r == 0; i++)
        if (is_on_link(m, &w->resolvers[i]))
            r = add_addr(list, SET_G_NEAR4, &w->resolvers[i]);
    return r;
}

int elements_of_wish(const struct wish *w, uint32_t uid, const struct seal_model *m,
                     struct items *ret)
{
    int r = add_user(ret, SET_CLIENT, SET_G_CLIENT, uid);

    if (r == 0 && w->proxy)
        r = add_user(ret, SET_PROXY, SET_G_PROXY, w->proxy_uid);
    if (r == 0)
        r = add_carriers(w, ret);
    if (r == 0)
        r = add_tunnel(w, m, ret);
    if (r == 0)
        r = add_qubes(m, ret);
    if (r == 0)
        r = add_addresses(m, ret);
    if (r == 0)
        r = add_own(m, ret);
    return r < 0 ? r : add_near(w, m, ret);
}

/* ---- back ---- */

static void take_carrier(const struct seal_element *e, bool marked, int family, struct wish *w)
{
    struct carrier *c = &w->carriers[w->n_carriers];
    size_t size = addr_size(family);
    uint16_t port;

    if (w->n_carriers >= WISH_CARRIERS_MAX || e->key.len != 4 + size + 4)
        return;
    memcpy(&port, e->key.data + 4 + size, sizeof(port));
    *c = (struct carrier){.protocol = e->key.data[0], .port = ntohs(port), .marked = marked};
    if (addr_from_bytes(family, e->key.data + 4, size, &c->addr) == 0)
        w->n_carriers++;
}

static void take_addr(const struct seal_element *e, int family, struct addr *list, size_t *n,
                      size_t max)
{
    if (*n < max && e->key.len == addr_size(family) &&
        addr_from_bytes(family, e->key.data, e->key.len, &list[*n]) == 0)
        (*n)++;
}

/* Both virtual servers may stand for one: told once. */
static void take_dns(const struct seal_element *e, struct addr found[2])
{
    for (size_t i = 0; i < 2; i++)
        if (e->key.len == 4 && e->data_len == 4 && memcmp(e->key.data, virtual_dns[i], 4) == 0)
            (void)addr_from_bytes(AF_INET, e->data, 4, &found[i]);
}

static void take(const struct seal_element *e, struct wish *w, struct addr dns[2])
{
    size_t n = 0;

    switch (e->set) {
    case SET_CARRIER4:
    case SET_MARKED4:
        take_carrier(e, e->set == SET_MARKED4, AF_INET, w);
        return;
    case SET_CARRIER6:
    case SET_MARKED6:
        take_carrier(e, e->set == SET_MARKED6, AF_INET6, w);
        return;
    case SET_RESOLVER4:
        take_addr(e, AF_INET, w->resolvers, &w->n_resolvers, WISH_RESOLVERS_MAX);
        return;
    case SET_RESOLVER6:
        take_addr(e, AF_INET6, w->resolvers, &w->n_resolvers, WISH_RESOLVERS_MAX);
        return;
    case SET_TUNNEL:
        if (e->key.len == IFNAMSIZ && e->key.data[IFNAMSIZ - 1] == '\0')
            memcpy(w->tunnel, e->key.data, IFNAMSIZ);
        return;
    case SET_TUNNEL4:
        take_addr(e, AF_INET, &w->tunnel_addr[0], &n, 1);
        return;
    case SET_TUNNEL6:
        take_addr(e, AF_INET6, &w->tunnel_addr[1], &n, 1);
        return;
    case SET_LOOKUP:
        w->lookups = true;
        return;
    case SET_DNS:
        take_dns(e, dns);
        return;
    case SET_MSS4:
        if (e->data_len == 2)
            w->mtu = (uint16_t)(e->data[0] << 8 | e->data[1]) + HEADERS4;
        return;
    case SET_PROXY:
        if (e->key.len == sizeof(w->proxy_uid)) {
            w->proxy = true;
            memcpy(&w->proxy_uid, e->key.data, sizeof(w->proxy_uid));
        }
        return;
    case SET_CLIENT:
    case SET_MSS6:
    case SET_QUBE4:
    case SET_QUBE6:
    case SET_OWN4:
    case SET_OWN6:
    case SET_HERE4:
    case SET_HERE6:
    case SET_G_CLIENT:
    case SET_G_PROXY:
    case SET_G_CARRIER4:
    case SET_G_CARRIER6:
    case SET_G_MARKED4:
    case SET_G_MARKED6:
    case SET_G_RESOLVER4:
    case SET_G_RESOLVER6:
    case SET_G_OWN4:
    case SET_G_OWN6:
    case SET_G_FAR4:
    case SET_G_FAR6:
    case SET_G_NEAR4:
    case SET_G_NEAR6:
    case SEAL_SETS:
        return;
    }
}

void elements_to_wish(const struct items *elements, struct wish *ret)
{
    struct addr dns[2] = {0};
    struct wish w = {0};

    for (size_t i = 0; i < elements->n; i++)
        take(&ITEMS(elements, struct seal_element)[i], &w, dns);
    for (size_t i = 0; i < 2; i++)
        if (dns[i].family != 0 && (w.n_dns == 0 || !addr_equal(&dns[i], &w.dns[0])))
            w.dns[w.n_dns++] = dns[i];
    *ret = w;
}
