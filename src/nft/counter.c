/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nft/counter.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/message.h"

static const struct attr_rule element_policy[] = {
    [NFTA_SET_ELEM_KEY] = {4, ATTR_LEN_ANY},
    [NFTA_SET_ELEM_EXPR] = {4, ATTR_LEN_ANY},
};
static const struct attr_rule data_policy[] = {[NFTA_DATA_VALUE] = {1, NFT_KEY_MAX}};
static const struct attr_rule expression_policy[] = {
    [NFTA_EXPR_NAME] = {1, 64},
    [NFTA_EXPR_DATA] = {0, ATTR_LEN_ANY},
};
static const struct attr_rule counter_policy[] = {
    [NFTA_COUNTER_BYTES] = {8, 8},
    [NFTA_COUNTER_PACKETS] = {8, 8},
};

/* Expressions of other kinds do not concern us. */
static int counter_parse(struct attr expression, struct nft_count *count)
{
    struct attr tb[ARRAY_SIZE(expression_policy)], counter[ARRAY_SIZE(counter_policy)];
    int r = attr_parse(expression, expression_policy, ARRAY_SIZE(expression_policy), tb);

    if (r < 0 || !attr_is_name(tb[NFTA_EXPR_NAME], "counter"))
        return r;
    r = attr_parse(tb[NFTA_EXPR_DATA], counter_policy, ARRAY_SIZE(counter_policy), counter);
    if (r < 0)
        return r;
    count->packets = attr_u64be(counter[NFTA_COUNTER_PACKETS]);
    count->bytes = attr_u64be(counter[NFTA_COUNTER_BYTES]);
    return 0;
}

struct counts {
    const struct nft_set *set;
    nft_begin_fn begin;
    nft_count_fn fn;
    void *user;
};

static int take_member(struct attr member, void *user)
{
    const struct counts *c = user;
    struct attr tb[ARRAY_SIZE(element_policy)], key[ARRAY_SIZE(data_policy)];
    struct nft_count count = {.packets = 0};
    int r = attr_parse(member, element_policy, ARRAY_SIZE(element_policy), tb);

    if (r < 0 || tb[NFTA_SET_ELEM_KEY].p == NULL)
        return r;
    r = attr_parse(tb[NFTA_SET_ELEM_KEY], data_policy, ARRAY_SIZE(data_policy), key);
    if (r < 0 || key[NFTA_DATA_VALUE].p == NULL)
        return -EBADMSG;
    memcpy(count.key.data, key[NFTA_DATA_VALUE].p, key[NFTA_DATA_VALUE].len);
    count.key.len = (uint8_t)key[NFTA_DATA_VALUE].len;
    if (tb[NFTA_SET_ELEM_EXPR].p != NULL) {
        r = counter_parse(tb[NFTA_SET_ELEM_EXPR], &count);
        if (r < 0)
            return r;
    }
    return c->fn(&count, c->user);
}

int nft_counts_parse(const struct nlmsghdr *nlh, nft_count_fn fn, void *user)
{
    struct counts c = {.fn = fn, .user = user};

    return nft_elements_each(nlh, take_member, &c);
}

static void dump_begin(void *user)
{
    const struct counts *c = user;

    if (c->begin != NULL)
        c->begin(c->user);
}

static int dump_entry(const struct nlmsghdr *nlh, void *user)
{
    const struct counts *c = user;

    return nft_counts_parse(nlh, c->fn, c->user);
}

static int dump(struct nl_sock *s, void *user)
{
    static const struct nl_dump_ops ops = {.begin = dump_begin, .entry = dump_entry};
    const struct nft_set *set = ((const struct counts *)user)->set;
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETSETELEM, set->family);
    int r = nft_request_put_names(nlh, NFTA_SET_ELEM_LIST_TABLE, set->table,
                                  NFTA_SET_ELEM_LIST_SET, set->name);

    return r < 0 ? r : nl_dump(s, nlh, &ops, user);
}

int nft_dump_counts(struct nl_sock *s, const struct nft_set *set, nft_begin_fn begin,
                    nft_count_fn fn, void *user)
{
    struct counts c = {.set = set, .begin = begin, .fn = fn, .user = user};

    return nft_read_whole(s, dump, &c);
}
