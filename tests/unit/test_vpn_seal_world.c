/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_vpn_seal_world.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <linux/netfilter.h> /* after netinet/in.h, which does not like to come second */
#include <string.h>

#include "base/cleanup.h"
#include "vpn/seal/elements.h"

static void need(bool holds)
{
    if (!holds)
        abort();
}

static void put(struct items *list, const void *item, size_t size)
{
    need(items_add(list, item, size) == 0);
}

static void take_out(struct items *list, size_t at, size_t size)
{
    memmove((uint8_t *)list->p + at * size, (uint8_t *)list->p + (at + 1) * size,
            (list->n - at - 1) * size);
    list->n--;
}

struct addr world_addr(struct rnd *r, bool six)
{
    struct addr a = {.family = six ? AF_INET6 : AF_INET};

    random_fill(r, a.bytes, addr_size(a.family));
    a.bytes[0] = six ? 0x20 : (uint8_t)(1 + random_below(r, 120));
    return a;
}

/* Few different ones, so that things meet. */
static struct addr near_addr(struct rnd *r, bool six)
{
    struct addr a = {.family = six ? AF_INET6 : AF_INET};

    a.bytes[0] = six ? 0xfd : 10;
    a.bytes[addr_size(a.family) - 1] = (uint8_t)(1 + random_below(r, 6));
    return a;
}

/* ---- making ---- */

static void add_link(struct seal_model *m, uint32_t index, const char *name, uint32_t group,
                     uint32_t flags)
{
    struct rt_link link = {.index = index, .group = group, .flags = flags, .carrier = true,
                           .arptype = index == WORLD_TUNNEL ? ARPHRD_NONE : ARPHRD_ETHER};

    memcpy(link.name, name, strlen(name));
    put(&m->links, &link, sizeof(link));
}

static void add_path(struct seal_model *m, const struct path *path)
{
    put(&m->paths, path, sizeof(*path));
}

static void add_rule(struct seal_model *m, uint8_t family, uint32_t priority, uint32_t table)
{
    struct rule rule = {.family = family, .action = FR_ACT_TO_TBL, .protocol = RTPROT_KERNEL,
                        .priority = priority, .table = table};

    put(&m->rules, &rule, sizeof(rule));
}

static void add_platform_routes(struct seal_model *m, uint8_t family, bool has_default)
{
    bool six = family == AF_INET6;
    struct path path = {.family = family, .type = RTN_UNICAST, .protocol = RTPROT_BOOT,
                        .table = SEAL_TABLE_MAIN, .metric = six ? 1024 : 0, .oif = WORLD_ETH0,
                        .dst = {.addr = {.family = family}, .len = addr_bits(family)}};

    path.dst.addr.bytes[0] = six ? 0xfd : 10;
    path.dst.addr.bytes[addr_size(family) - 1] = 200;
    add_path(m, &path);
    if (has_default) {
        struct path out = path;

        out.gateway = path.dst.addr;
        out.dst = (struct prefix){.addr = {.family = family}};
        add_path(m, &out);
    }
    for (uint32_t vif = WORLD_VIF1; vif <= WORLD_VIF2; vif++) {
        path.oif = vif;
        path.metric = 32752 - vif;
        path.dst.addr.bytes[addr_size(family) - 1] = (uint8_t)(20 + vif);
        add_path(m, &path);
    }
}

static void add_common(struct seal_model *m, uint32_t up, bool has_default)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};

    add_link(m, WORLD_LO, "lo", 0, IFF_LOOPBACK | IFF_UP);
    add_link(m, WORLD_ETH0, "eth0", 1, IFF_UP);
    add_link(m, WORLD_VIF1, "vif1.0", 2, IFF_UP);
    add_link(m, WORLD_VIF2, "vif2.0", 2, up);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        add_rule(m, families[i], 0, SEAL_TABLE_LOCAL);
        add_rule(m, families[i], 32766, SEAL_TABLE_MAIN);
        add_platform_routes(m, families[i], has_default);
    }
    m->loaded = LAYER_INET | LAYER_EGRESS;
}

void world_plain(struct seal_model *m)
{
    *m = (struct seal_model){0};
    add_common(m, IFF_UP, true);
}

static struct path random_path(struct rnd *r)
{
    static const uint8_t types[] = {RTN_UNICAST, RTN_UNICAST, RTN_UNICAST, RTN_BLACKHOLE,
                                    RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW};
    static const uint32_t tables[] = {SEAL_TABLE_MAIN, SEAL_TABLE_VIFS, SEAL_TABLE_TUNNEL,
                                      SEAL_TABLE_UPLINK};
    static const uint32_t metrics[] = {0, 1, 50, 1024, UINT32_MAX};
    bool six = random_below(r, 2);
    struct path path = {.family = six ? AF_INET6 : AF_INET, .protocol = RTPROT_STATIC};

    path.type = types[random_below(r, ARRAY_SIZE(types))];
    path.table = tables[random_below(r, ARRAY_SIZE(tables))];
    path.metric = metrics[random_below(r, ARRAY_SIZE(metrics))];
    path.dst.addr.family = path.family;
    if (random_below(r, 2)) {
        path.dst.addr = near_addr(r, six);
        path.dst.len = addr_bits(path.family);
    }
    if (path.type == RTN_UNICAST) {
        path.oif = WORLD_LO + random_below(r, WORLD_FALSE_TUNNEL);
        path.other = random_below(r, 8) == 0;
        if (random_below(r, 2))
            path.gateway = near_addr(r, six);
    }
    return path;
}

static struct rule random_rule(struct rnd *r)
{
    static const uint32_t tables[] = {SEAL_TABLE_MAIN, SEAL_TABLE_VIFS, SEAL_TABLE_TUNNEL,
                                      SEAL_TABLE_UPLINK, SEAL_TABLE_LOCAL};
    static const uint32_t near[] = {0, 49, 50, 51, 52, 60, 70, 80, 81};
    struct rule rule = {.family = random_below(r, 2) ? AF_INET6 : AF_INET,
                        .action = FR_ACT_TO_TBL,
                        .protocol = random_below(r, 2) ? RTPROT_KERNEL : RTPROT_BOOT};

    rule.priority = random_below(r, 2) ? near[random_below(r, ARRAY_SIZE(near))]
                                       : random_below(r, 100);
    if (random_below(r, 4) == 0)
        rule.action = FR_ACT_BLACKHOLE;
    else
        rule.table = tables[random_below(r, ARRAY_SIZE(tables))];
    if (random_below(r, 4) == 0) {
        rule.mark = random_below(r, 2) ? SEAL_MARK : 5;
        rule.mask = random_below(r, 2) ? SEAL_MARK_MASK : 0xff;
    }
    if (random_below(r, 4) == 0) {
        rule.has_uid = true;
        rule.uid = random_below(r, 2) ? 4978 : 1000;
    }
    rule.other = random_below(r, 4) == 0;
    return rule;
}

static bool rule_same(const struct rule *a, const struct rule *b)
{
    return a->family == b->family && a->action == b->action && a->protocol == b->protocol &&
           a->other == b->other && a->has_uid == b->has_uid && a->uid == b->uid &&
           a->priority == b->priority && a->table == b->table && a->mark == b->mark &&
           a->mask == b->mask;
}

static bool path_same(const struct path *a, const struct path *b)
{
    return a->family == b->family && a->type == b->type && a->table == b->table &&
           a->metric == b->metric && a->oif == b->oif && a->other == b->other &&
           a->dst.len == b->dst.len && addr_equal(&a->dst.addr, &b->dst.addr) &&
           addr_equal(&a->gateway, &b->gateway);
}

static bool apply_rule(struct seal_model *m, const struct rule *rule, bool added)
{
    size_t at = 0;

    for (size_t i = 0; i < m->rules.n; i++)
        if (rule_same(&ITEMS(&m->rules, struct rule)[i], rule)) {
            if (!added)
                take_out(&m->rules, i, sizeof(*rule));
            return !added;
        }
    if (!added)
        return false;
    put(&m->rules, rule, sizeof(*rule));
    /* behind those of the same priority */
    while (at < m->rules.n - 1 && ITEMS(&m->rules, struct rule)[at].priority <= rule->priority)
        at++;
    memmove(&ITEMS(&m->rules, struct rule)[at + 1], &ITEMS(&m->rules, struct rule)[at],
            (m->rules.n - 1 - at) * sizeof(*rule));
    ITEMS(&m->rules, struct rule)[at] = *rule;
    return true;
}

static void add_random_elements(struct rnd *r, struct seal_model *m)
{
    struct wish w = world_wish(r);
    struct items list = {0};

    need(elements_of_wish(&w, random_below(r, 2) ? 4978 : 7, m, &list) == 0);
    for (size_t i = 0; i < list.n; i++)
        if (random_below(r, 3) > 0)
            put(&m->elements, &ITEMS(&list, struct seal_element)[i], sizeof(struct seal_element));
    items_free(&list);
}

static void add_random_chains(struct rnd *r, struct seal_model *m)
{
    for (size_t i = 0; i < m->links.n; i++) {
        const struct rt_link *link = &ITEMS(&m->links, struct rt_link)[i];
        struct seal_chain c = {.chain = {.table = SEAL_NFT_TABLE, .hook = NF_NETDEV_EGRESS,
                                         .drops = random_below(r, 4) > 0},
                               .whole = random_below(r, 4) > 0};

        if (random_below(r, 2))
            continue;
        (void)snprintf(c.chain.name, sizeof(c.chain.name), "uplink-%u", link->index);
        if (random_below(r, 4) > 0)
            memcpy(c.chain.device, link->name, sizeof(c.chain.device));
        c.chain.priority = random_below(r, 8) == 0 ? 5 : 0;
        put(&m->chains, &c, sizeof(c));
    }
}

void world_random(struct rnd *r, struct seal_model *m)
{
    unsigned n = random_below(r, 24);

    *m = (struct seal_model){0};
    add_common(m, random_below(r, 2) ? IFF_UP : 0, random_below(r, 4) > 0);
    if (random_below(r, 2))
        add_link(m, WORLD_WLAN, "wlan0", random_below(r, 2) ? 0 : 7, IFF_UP);
    if (random_below(r, 2))
        add_link(m, WORLD_FALSE, "vif9.0", random_below(r, 2), IFF_UP);
    if (random_below(r, 2))
        add_link(m, WORLD_GROUP2, "usb0", 2, IFF_UP);
    if (random_below(r, 3) > 0)
        add_link(m, WORLD_TUNNEL, SEAL_TUNNEL, random_below(r, 3), random_below(r, 4) ? IFF_UP : 0);
    else if (random_below(r, 2))
        add_link(m, WORLD_FALSE_TUNNEL, SEAL_TUNNEL, random_below(r, 3), IFF_UP);
    for (unsigned i = 0; i < n; i++) {
        struct path path = random_path(r);
        bool there = false;

        for (size_t k = 0; k < m->paths.n; k++)
            there |= path_same(&ITEMS(&m->paths, struct path)[k], &path);
        if (!there && (path.oif == 0 || model_link(m, path.oif) != NULL))
            add_path(m, &path);
    }
    n = random_below(r, 12);
    for (unsigned i = 0; i < n; i++) {
        struct rule rule = random_rule(r);
        bool there = false;

        for (size_t k = 0; k < m->rules.n; k++)
            there |= rule_same(&ITEMS(&m->rules, struct rule)[k], &rule);
        if (!there)
            need(apply_rule(m, &rule, true));
    }
    for (unsigned i = random_below(r, 4); i > 0; i--) {
        struct rt_addr a = {.index = random_below(r, 2) ? WORLD_ETH0 : WORLD_VIF1};

        a.prefix.addr = near_addr(r, random_below(r, 2));
        put(&m->addrs, &a, sizeof(a));
    }
    add_random_elements(r, m);
    add_random_chains(r, m);
}

static void copy_list(const struct items *from, size_t size, struct items *ret)
{
    *ret = (struct items){0};
    for (size_t i = 0; i < from->n; i++)
        put(ret, (const uint8_t *)from->p + i * size, size);
}

void world_copy(const struct seal_model *from, struct seal_model *ret)
{
    *ret = *from;
    copy_list(&from->links, sizeof(struct rt_link), &ret->links);
    copy_list(&from->addrs, sizeof(struct rt_addr), &ret->addrs);
    copy_list(&from->paths, sizeof(struct path), &ret->paths);
    copy_list(&from->rules, sizeof(struct rule), &ret->rules);
    copy_list(&from->elements, sizeof(struct seal_element), &ret->elements);
    copy_list(&from->chains, sizeof(struct seal_chain), &ret->chains);
}

struct wish world_wish(struct rnd *r)
{
    struct wish w = {0};

    w.n_carriers = random_below(r, 8);
    for (size_t i = 0; i < w.n_carriers; i++) {
        struct carrier *c = &w.carriers[i];

        c->addr = random_below(r, 4) ? world_addr(r, random_below(r, 2))
                                     : near_addr(r, random_below(r, 2));
        c->port = (uint16_t)(1 + random_below(r, 65535));
        c->protocol = random_below(r, 2) ? IPPROTO_TCP : IPPROTO_UDP;
        c->marked = c->protocol == IPPROTO_UDP && random_below(r, 2);
    }
    w.n_resolvers = random_below(r, WISH_RESOLVERS_MAX + 1);
    for (size_t i = 0; i < w.n_resolvers; i++)
        w.resolvers[i] = world_addr(r, random_below(r, 2));
    w.proxy = random_below(r, 2);
    w.proxy_uid = w.proxy ? 1 + random_below(r, 70000) : 0;
    if (random_below(r, 4) == 0)
        return w;
    memcpy(w.tunnel, SEAL_TUNNEL, sizeof(SEAL_TUNNEL));
    w.mtu = (uint16_t)(WISH_MTU_MIN + random_below(r, WISH_MTU_MAX - WISH_MTU_MIN + 1));
    if (random_below(r, 4) > 0)
        w.tunnel_addr[0] = world_addr(r, false);
    if (w.tunnel_addr[0].family == 0 || random_below(r, 2))
        w.tunnel_addr[1] = world_addr(r, true);
    w.n_dns = w.tunnel_addr[0].family == 0 ? 0 : random_below(r, WISH_DNS_MAX + 1);
    for (size_t i = 0; i < w.n_dns; i++)
        w.dns[i] = world_addr(r, false);
    w.lookups = w.n_dns > 0 && random_below(r, 2);
    return w;
}

/* ---- operations ---- */

static bool apply_path(struct seal_model *m, const struct path *path, bool added)
{
    for (size_t i = 0; i < m->paths.n; i++)
        if (path_same(&ITEMS(&m->paths, struct path)[i], path)) {
            if (!added)
                take_out(&m->paths, i, sizeof(*path));
            return !added;
        }
    if (added)
        put(&m->paths, path, sizeof(*path));
    return added;
}

static bool apply_element(struct seal_model *m, const struct seal_element *e, bool added)
{
    for (size_t i = 0; i < m->elements.n; i++) {
        const struct seal_element *have = &ITEMS(&m->elements, struct seal_element)[i];

        if (have->set != e->set || have->key.len != e->key.len ||
            memcmp(have->key.data, e->key.data, e->key.len) != 0)
            continue;
        if (!added)
            take_out(&m->elements, i, sizeof(*e));
        return !added;
    }
    if (added)
        put(&m->elements, e, sizeof(*e));
    return added;
}

static bool apply_chain(struct seal_model *m, const struct nft_device_chain *chain, bool added)
{
    struct seal_chain c = {.chain = *chain, .whole = true};

    for (size_t i = 0; i < m->chains.n; i++)
        if (strcmp(ITEMS(&m->chains, struct seal_chain)[i].chain.name, chain->name) == 0) {
            if (!added)
                take_out(&m->chains, i, sizeof(c));
            return !added;
        }
    if (added)
        put(&m->chains, &c, sizeof(c));
    return added;
}

bool world_apply(struct seal_model *m, const struct seal_op *op)
{
    switch (op->kind) {
    case OP_RULE_ADD:
    case OP_RULE_DEL:
        return apply_rule(m, &op->rule, op->kind == OP_RULE_ADD);
    case OP_PATH_ADD:
    case OP_PATH_DEL:
        return apply_path(m, &op->path, op->kind == OP_PATH_ADD);
    case OP_ELEMENT_ADD:
    case OP_ELEMENT_DEL:
        return apply_element(m, &op->element, op->kind == OP_ELEMENT_ADD);
    case OP_CHAIN_ADD:
    case OP_CHAIN_DEL:
        return apply_chain(m, &op->chain, op->kind == OP_CHAIN_ADD);
    }
    return false;
}

/* ---- packets ---- */

/* Longest prefix, then the lowest metric. NULL: the table says nothing. */
static const struct path *table_lookup(const struct seal_model *m, uint32_t table,
                                       const struct addr *dst)
{
    const struct path *best = NULL;

    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];

        if (p->table != table || p->family != dst->family ||
            (p->dst.len > 0 && !prefix_contains(&p->dst, dst)))
            continue;
        if (best == NULL || p->dst.len > best->dst.len ||
            (p->dst.len == best->dst.len && p->metric < best->metric))
            best = p;
    }
    return best != NULL && best->type == RTN_THROW ? NULL : best;
}

/* A rule with conditions that are not modelled is met by everybody: the worst case. */
static bool rule_meets(const struct rule *rule, const struct world_packet *p)
{
    return rule->family == p->dst.family && (p->mark & rule->mask) == rule->mark &&
           (!rule->has_uid || rule->uid == p->uid);
}

/* By the smallest priority not yet looked at; the list may be unsorted. */
static uint32_t lookup_from(const struct seal_model *m, const struct world_packet *packet,
                            int64_t after)
{
    int64_t next = INT64_MAX;

    for (size_t i = 0; i < m->rules.n; i++) {
        int64_t priority = ITEMS(&m->rules, struct rule)[i].priority;

        if (priority > after && priority < next)
            next = priority;
    }
    for (size_t i = 0; i < m->rules.n; i++) {
        const struct rule *rule = &ITEMS(&m->rules, struct rule)[i];
        const struct path *path;

        if (rule->priority != next || !rule_meets(rule, packet))
            continue;
        if (rule->action != FR_ACT_TO_TBL) {
            if (rule->other)
                continue; /* may not be met: the worst case again */
            return 0;
        }
        path = table_lookup(m, rule->table, &packet->dst);
        if (path == NULL || (rule->other && path->type != RTN_UNICAST))
            continue;
        return path->type == RTN_UNICAST ? path->oif : 0;
    }
    return next == INT64_MAX ? 0 : lookup_from(m, packet, next);
}

uint32_t world_lookup(const struct seal_model *m, const struct world_packet *packet)
{
    return lookup_from(m, packet, -1);
}

bool world_leaks(const struct seal_model *m, const struct world_packet *packet)
{
    const struct rt_link *link = model_link(m, world_lookup(m, packet));

    return link != NULL && link_kind(link) == LINK_UPLINK;
}
