/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "nft/message.h"
#include "nft/nft.h"

#define READ_TRIES 8

static int generation_entry(const struct nlmsghdr *nlh, void *user)
{
    uint32_t *generation = user;

    return nft_generation_parse(nlh, generation);
}

int nft_generation(struct nl_sock *s, uint32_t *ret)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETGEN, NFPROTO_UNSPEC);
    uint32_t generation = 0;
    int r;

    r = nl_query(s, nlh, generation_entry, &generation);
    if (r < 0)
        return r;
    if (generation == 0)
        return -EBADMSG;
    *ret = generation;
    return 0;
}

static int query_exists(struct nl_sock *s, struct nlmsghdr *nlh)
{
    int r = nl_request(s, nlh);

    if (r == -ENOENT)
        return 0;
    return r < 0 ? r : 1;
}

int nft_has_table(struct nl_sock *s, uint8_t family, const char *table)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETTABLE, family);
    int r = nft_request_put_names(nlh, NFTA_TABLE_NAME, table, 0, NULL);

    return r < 0 ? r : query_exists(s, nlh);
}

int nft_has_set(struct nl_sock *s, const struct nft_set *set)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETSET, set->family);
    int r = nft_request_put_names(nlh, NFTA_SET_TABLE, set->table, NFTA_SET_NAME, set->name);

    return r < 0 ? r : query_exists(s, nlh);
}

int nft_has_chain(struct nl_sock *s, uint8_t family, const char *table, const char *chain)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETCHAIN, family);
    int r = nft_request_put_names(nlh, NFTA_CHAIN_TABLE, table, NFTA_CHAIN_NAME, chain);

    return r < 0 ? r : query_exists(s, nlh);
}

static int hook_entry(const struct nlmsghdr *nlh, void *user)
{
    struct nft_chain_facts facts;
    int64_t *hook = user;
    int r;

    r = nft_chain_parse(nlh, &facts);
    if (r < 0)
        return r;
    *hook = facts.hook_number;
    return 0;
}

int nft_is_base_chain(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                      uint32_t hook)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETCHAIN, family);
    int64_t found = -1;
    int r;

    r = nft_request_put_names(nlh, NFTA_CHAIN_TABLE, table, NFTA_CHAIN_NAME, chain);
    if (r < 0)
        return r;
    r = nl_query(s, nlh, hook_entry, &found);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    return found == (int64_t)hook ? 1 : 0;
}

int nft_read_whole(struct nl_sock *s, nft_read_fn fn, void *user)
{
    uint32_t before, after;
    int r;

    if (*nl_whole(s) > 0)
        return fn(s, user);
    r = nft_generation(s, &before);
    for (unsigned i = 0; r == 0 && i < READ_TRIES; i++) {
        int result;

        ++*nl_whole(s);
        result = fn(s, user);
        --*nl_whole(s);
        r = nft_generation(s, &after);
        if (r == 0 && after == before)
            return result;
        before = after;
    }
    return r < 0 ? r : -EINTR;
}

struct elements_user {
    const struct nft_set *set;
    nft_begin_fn begin;
    nft_element_fn fn;
    void *user;
};

static void elements_begin(void *user)
{
    const struct elements_user *u = user;

    if (u->begin != NULL)
        u->begin(u->user);
}

static int elements_entry(const struct nlmsghdr *nlh, void *user)
{
    const struct elements_user *u = user;

    return nft_elements_parse(nlh, u->fn, u->user);
}

static int elements_dump(struct nl_sock *s, void *user)
{
    static const struct nl_dump_ops ops = {.begin = elements_begin, .entry = elements_entry};
    const struct nft_set *set = ((const struct elements_user *)user)->set;
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETSETELEM, set->family);
    int r;

    r = nft_request_put_names(nlh, NFTA_SET_ELEM_LIST_TABLE, set->table, NFTA_SET_ELEM_LIST_SET,
                              set->name);
    return r < 0 ? r : nl_dump(s, nlh, &ops, user);
}

int nft_dump_elements(struct nl_sock *s, const struct nft_set *set, nft_begin_fn begin,
                      nft_element_fn fn, void *user)
{
    struct elements_user u = {.set = set, .begin = begin, .fn = fn, .user = user};

    return nft_read_whole(s, elements_dump, &u);
}

struct jumps {
    const char *target;
    int count, rules;
    bool found, conditional; /* the present rule */
};

static void jumps_begin(void *user)
{
    struct jumps *j = user;

    j->count = j->rules = 0;
}

static int jumps_expression(const struct nft_expression *e, void *user)
{
    struct jumps *j = user;

    if (nft_expression_is_jump(e, j->target))
        j->found = true;
    else if (!attr_is_name(e->name, "counter"))
        j->conditional = true;
    return 0;
}

static int jumps_entry(const struct nlmsghdr *nlh, void *user)
{
    struct jumps *j = user;
    int r;

    j->found = j->conditional = false;
    r = nft_rule_parse(nlh, jumps_expression, j);
    if (r < 0)
        return r;
    j->rules++;
    if (j->found && !j->conditional)
        j->count++;
    return 0;
}

static int jumps_read(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                      struct jumps *j)
{
    static const struct nl_dump_ops ops = {.begin = jumps_begin, .entry = jumps_entry};
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETRULE, family);
    int r;

    r = nft_request_put_names(nlh, NFTA_RULE_TABLE, table, NFTA_RULE_CHAIN, chain);
    if (r < 0)
        return r;
    r = nl_dump(s, nlh, &ops, j);
    return r == -ENOENT ? 0 : r;
}

int nft_count_jumps(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                    const char *target)
{
    struct jumps j = {.target = target};
    int r = jumps_read(s, family, table, chain, &j);

    return r < 0 ? r : j.count;
}

int nft_is_just_jump(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                     const char *target)
{
    struct jumps j = {.target = target};
    int r = jumps_read(s, family, table, chain, &j);

    return r < 0 ? r : j.count == 1 && j.rules == 1;
}
