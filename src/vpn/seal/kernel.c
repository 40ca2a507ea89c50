/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/kernel.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "vpn/seal/elements.h"
#include "vpn/seal/skeleton.h"

static void links_begin(void *user)
{
    ((struct seal_model *)user)->links.n = 0;
}

static int links_add(const struct rt_link *link, void *user)
{
    return items_add(&((struct seal_model *)user)->links, link, sizeof(*link));
}

static void addrs_begin(void *user)
{
    ((struct seal_model *)user)->addrs.n = 0;
}

static int addrs_add(const struct rt_addr *addr, void *user)
{
    return items_add(&((struct seal_model *)user)->addrs, addr, sizeof(*addr));
}

static void rules_begin(void *user)
{
    ((struct seal_model *)user)->rules.n = 0;
}

static int rules_add(const struct rule *rule, void *user)
{
    return items_add(&((struct seal_model *)user)->rules, rule, sizeof(*rule));
}

struct paths {
    struct seal_model *m;
    size_t from; /* the other family's stay when this dump begins again */
};

static void paths_begin(void *user)
{
    struct paths *p = user;

    p->m->paths.n = p->from;
}

static int paths_add(const struct path *path, void *user)
{
    struct paths *p = user;

    if (path->table != SEAL_TABLE_MAIN &&
        (path->table < SEAL_TABLE_VIFS || path->table > SEAL_TABLE_UPLINK))
        return 0;
    return items_add(&p->m->paths, path, sizeof(*path));
}

int kernel_read_routes(struct nl_sock *rt, struct seal_model *m)
{
    struct paths paths = {m, 0};
    int r = rt_dump_links(rt, links_begin, links_add, m);

    if (r == 0)
        r = rt_dump_addrs(rt, addrs_begin, addrs_add, m);
    if (r == 0)
        r = rule_dump(rt, rules_begin, rules_add, m);
    if (r == 0)
        r = path_dump(rt, AF_INET, paths_begin, paths_add, &paths);
    paths.from = m->paths.n;
    if (r == 0)
        r = path_dump(rt, AF_INET6, paths_begin, paths_add, &paths);
    return r;
}

struct elements {
    struct seal_model *m;
    enum seal_set set;
    size_t from;
};

static void elements_begin(void *user)
{
    struct elements *e = user;

    e->m->elements.n = e->from;
}

static int elements_add(const struct nft_element *e, void *user)
{
    const struct elements *u = user;
    struct seal_element element = {.set = u->set, .key = e->key, .data_len = e->data_len};

    if (e->data_len > sizeof(element.data))
        return -EBADMSG;
    memcpy(element.data, e->data, e->data_len);
    return items_add(&u->m->elements, &element, sizeof(element));
}

static void chains_begin(void *user)
{
    ((struct seal_model *)user)->chains.n = 0;
}

static int chains_add(const struct nft_device_chain *chain, void *user)
{
    struct seal_chain c = {.chain = *chain};

    return items_add(&((struct seal_model *)user)->chains, &c, sizeof(c));
}

static int read_chains(struct nl_sock *nft, struct seal_model *m)
{
    int r = nft_dump_device_chains(nft, SEAL_NFT_TABLE, chains_begin, chains_add, m);

    for (size_t i = 0; i < m->chains.n && r == 0; i++) {
        struct seal_chain *c = &ITEMS(&m->chains, struct seal_chain)[i];
        int n = nft_is_just_jump(nft, NFPROTO_NETDEV, SEAL_NFT_TABLE, c->chain.name,
                                 SKELETON_EGRESS);

        if (n < 0)
            r = n;
        c->whole = n == 1;
    }
    return r;
}

int kernel_read_rules(struct nl_sock *nft, unsigned layers, struct seal_model *m)
{
    int r = nft_generation(nft, &m->generation);

    m->elements.n = m->chains.n = 0;
    for (unsigned set = 0; set < SEAL_SETS && r == 0; set++) {
        struct elements e = {m, (enum seal_set)set, m->elements.n};
        struct nft_set name = elements_set(e.set);

        if ((layers & elements_layer(e.set)) == 0)
            continue;
        r = nft_dump_elements(nft, &name, elements_begin, elements_add, &e);
        if (r == -ENOENT)
            r = 0;
    }
    if (r == 0 && (layers & LAYER_EGRESS) != 0)
        r = read_chains(nft, m);
    return r;
}
