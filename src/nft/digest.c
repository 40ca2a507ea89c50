/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nft/digest.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "nft/message.h"
#include "nft/nft.h"

#define DIGEST_NAMES_MAX 1024

static const struct attr_rule set_policy[] = {
    [NFTA_SET_FLAGS] = {4, 4},    [NFTA_SET_KEY_TYPE] = {4, 4},
    [NFTA_SET_KEY_LEN] = {4, 4},  [NFTA_SET_DATA_TYPE] = {4, 4},
    [NFTA_SET_DATA_LEN] = {4, 4}, [NFTA_SET_DESC] = {0, ATTR_LEN_ANY},
    [NFTA_SET_TIMEOUT] = {8, 8},
};
static const struct attr_rule desc_policy[] = {[NFTA_SET_DESC_CONCAT] = {0, ATTR_LEN_ANY}};
static const struct attr_rule element_policy[] = {
    [NFTA_SET_ELEM_KEY] = {4, ATTR_LEN_ANY},
    [NFTA_SET_ELEM_DATA] = {4, ATTR_LEN_ANY},
    [NFTA_SET_ELEM_FLAGS] = {4, 4},
    [NFTA_SET_ELEM_KEY_END] = {4, ATTR_LEN_ANY},
};

uint64_t digest_add(uint64_t h, const void *p, size_t len)
{
    h = hash_bytes(h, &len, sizeof(len));
    return hash_bytes(h, p, len);
}

static uint64_t add_attr(uint64_t h, struct attr a)
{
    return digest_add(h, a.p, a.len);
}

/* How to read an expression's data. 0: no such attribute. */
struct expression_kind {
    const char *name;
    bool whole;         /* everything in it comes and goes by itself */
    uint16_t skip;      /* attribute that does */
    uint16_t set_name;  /* attribute with the name of a set */
};

static const struct expression_kind kinds[] = {
    {.name = "counter", .whole = true},
    {.name = "last", .whole = true},
    {.name = "quota", .skip = NFTA_QUOTA_CONSUMED},
    {.name = "lookup", .set_name = NFTA_LOOKUP_SET},
    {.name = "objref", .set_name = NFTA_OBJREF_SET_NAME},
};

struct rule_user {
    uint64_t h;
    digest_name_fn name_fn;
    void *user;
};

static bool name_is_made_up(struct attr name)
{
    return name.len >= 5 &&
           (memcmp(name.p, "__set", 5) == 0 || memcmp(name.p, "__map", 5) == 0);
}

static int rule_expression(const struct nft_expression *e, void *user)
{
    const struct expression_kind *kind = NULL;
    struct cursor c = cursor_from(e->data.p, e->data.len);
    struct rule_user *u = user;
    struct attr a;
    uint16_t type;
    int r;

    u->h = add_attr(u->h, e->name);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (attr_is_name(e->name, kinds[i].name))
            kind = &kinds[i];
    if (kind == NULL) {
        u->h = add_attr(u->h, e->data);
        return 0;
    }
    if (kind->whole)
        return 0;
    while ((r = attr_next(&c, &type, &a)) > 0) {
        if (type == kind->skip)
            continue;
        u->h = digest_add(u->h, &type, sizeof(type));
        if (type != kind->set_name || !name_is_made_up(a)) {
            u->h = add_attr(u->h, a);
            continue;
        }
        r = u->name_fn(a, u->user);
        if (r < 0)
            return r;
    }
    return r;
}

int digest_add_rule(const struct nlmsghdr *nlh, uint64_t *h, digest_name_fn name_fn, void *user)
{
    struct rule_user u = {.h = *h, .name_fn = name_fn, .user = user};
    int r;

    u.h = digest_add(u.h, "rule", 4);
    r = nft_rule_parse(nlh, rule_expression, &u);
    if (r < 0)
        return r;
    *h = u.h;
    return 0;
}

int digest_add_set(const struct nlmsghdr *nlh, uint64_t *h)
{
    struct attr tb[ARRAY_SIZE(set_policy)], desc[ARRAY_SIZE(desc_policy)];
    struct nfgenmsg nfg;
    int r;

    if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSET))
        return -EBADMSG;
    r = attr_parse_message(nlh, &nfg, sizeof(nfg), set_policy, ARRAY_SIZE(set_policy), tb);
    if (r < 0)
        return r;
    /* of the description only the parts of a concatenation: the number of elements is in it too */
    r = attr_parse(tb[NFTA_SET_DESC], desc_policy, ARRAY_SIZE(desc_policy), desc);
    if (r < 0)
        return r;
    tb[NFTA_SET_DESC] = desc[NFTA_SET_DESC_CONCAT];
    for (size_t i = 0; i < ARRAY_SIZE(tb); i++)
        *h = add_attr(*h, tb[i]);
    return 0;
}

static int element_sum(struct attr member, void *user)
{
    struct attr tb[ARRAY_SIZE(element_policy)];
    uint64_t h = HASH_START, *sum = user;
    int r;

    r = attr_parse(member, element_policy, ARRAY_SIZE(element_policy), tb);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(tb); i++)
        h = add_attr(h, tb[i]);
    *sum += h;
    return 0;
}

int digest_sum_elements(const struct nlmsghdr *nlh, uint64_t *sum)
{
    return nft_elements_each(nlh, element_sum, sum);
}

struct set_name {
    char text[NFT_NAME_MAXLEN];
};

struct digest {
    uint8_t family;
    const char *table, *name; /* the chain's */
    uint64_t chain, h;
    struct set_name *names; /* owned; nameless sets in the order of their rules */
    size_t count, room;
    uint64_t sum; /* of one set's elements */
};

static void digest_done(struct digest *d)
{
    free(d->names);
}

static int digest_chain_entry(const struct nlmsghdr *nlh, void *user)
{
    struct nft_chain_facts f;
    struct digest *d = user;
    int r;

    r = nft_chain_parse(nlh, &f);
    if (r < 0)
        return r;
    d->chain = add_attr(d->chain, f.hook);
    d->chain = add_attr(d->chain, f.policy);
    d->chain = add_attr(d->chain, f.type);
    d->chain = add_attr(d->chain, f.flags);
    return 0;
}

static int digest_take_name(struct attr name, void *user)
{
    struct digest *d = user;

    if (d->count == d->room) {
        size_t room = d->room == 0 ? 16 : d->room * 2;
        struct set_name *more;

        if (room > DIGEST_NAMES_MAX)
            return -E2BIG;
        more = reallocarray(d->names, room, sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        d->names = more;
        d->room = room;
    }
    if (attr_name(name, d->names[d->count].text, sizeof(d->names[0].text)) < 0)
        return -EBADMSG;
    d->count++;
    return 0;
}

static void digest_rules_begin(void *user)
{
    struct digest *d = user;

    d->h = d->chain;
    d->count = 0;
}

static int digest_rules_entry(const struct nlmsghdr *nlh, void *user)
{
    struct digest *d = user;

    return digest_add_rule(nlh, &d->h, digest_take_name, d);
}

static void digest_elements_begin(void *user)
{
    struct digest *d = user;

    d->sum = 0;
}

static int digest_elements_entry(const struct nlmsghdr *nlh, void *user)
{
    struct digest *d = user;

    return digest_sum_elements(nlh, &d->sum);
}

static int digest_nameless_set(struct nl_sock *s, const struct nft_set *set, struct digest *d)
{
    static const struct nl_dump_ops ops = {.begin = digest_elements_begin,
                                           .entry = digest_elements_entry};
    struct nft_request q;
    struct nlmsghdr *nlh;
    uint64_t own;
    int r;

    r = nft_digest_set(s, set, &own);
    if (r < 0)
        return r;
    nlh = nft_request_init(&q, NFT_MSG_GETSETELEM, set->family);
    r = nft_request_put_names(nlh, NFTA_SET_ELEM_LIST_TABLE, set->table, NFTA_SET_ELEM_LIST_SET,
                              set->name);
    if (r < 0)
        return r;
    r = nl_dump(s, nlh, &ops, d);
    if (r < 0)
        return r;
    d->h = digest_add(d->h, &own, sizeof(own));
    d->h = digest_add(d->h, &d->sum, sizeof(d->sum));
    return 0;
}

static int digest_read(struct nl_sock *s, void *user)
{
    static const struct nl_dump_ops ops = {.begin = digest_rules_begin,
                                           .entry = digest_rules_entry};
    struct digest *d = user;
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETCHAIN, d->family);
    int r;

    d->chain = HASH_START;
    r = nft_request_put_names(nlh, NFTA_CHAIN_TABLE, d->table, NFTA_CHAIN_NAME, d->name);
    if (r < 0)
        return r;
    r = nl_query(s, nlh, digest_chain_entry, d);
    if (r < 0)
        return r;

    nlh = nft_request_init(&q, NFT_MSG_GETRULE, d->family);
    r = nft_request_put_names(nlh, NFTA_RULE_TABLE, d->table, NFTA_RULE_CHAIN, d->name);
    if (r < 0)
        return r;
    r = nl_dump(s, nlh, &ops, d);
    for (size_t i = 0; r == 0 && i < d->count; i++) {
        const struct nft_set set = {
            .family = d->family, .table = d->table, .name = d->names[i].text};

        r = digest_nameless_set(s, &set, d);
    }
    return r;
}

int nft_digest_chain(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                     uint64_t *ret)
{
    _cleanup_(digest_done) struct digest d = {.family = family, .table = table, .name = chain};
    int r = nft_read_whole(s, digest_read, &d);

    if (r < 0)
        return r;
    *ret = d.h;
    return 0;
}

static int digest_set_entry(const struct nlmsghdr *nlh, void *user)
{
    uint64_t *h = user;

    return digest_add_set(nlh, h);
}

int nft_digest_set(struct nl_sock *s, const struct nft_set *set, uint64_t *ret)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETSET, set->family);
    uint64_t h = HASH_START;
    int r;

    r = nft_request_put_names(nlh, NFTA_SET_TABLE, set->table, NFTA_SET_NAME, set->name);
    if (r < 0)
        return r;
    r = nl_query(s, nlh, digest_set_entry, &h);
    if (r < 0)
        return r;
    *ret = h;
    return 0;
}

struct digest_sets {
    const char *table, *const *names;
    size_t n, found;
    uint64_t *digests; /* 0: not met yet */
};

static void digest_sets_begin(void *user)
{
    struct digest_sets *d = user;

    d->found = 0;
    (void)memset(d->digests, 0, d->n * sizeof(*d->digests));
}

static int digest_sets_entry(const struct nlmsghdr *nlh, void *user)
{
    static const struct attr_rule policy[] = {
        [NFTA_SET_TABLE] = {1, ATTR_LEN_ANY}, [NFTA_SET_NAME] = {1, ATTR_LEN_ANY}};
    struct attr tb[ARRAY_SIZE(policy)];
    struct digest_sets *d = user;
    struct nfgenmsg nfg;
    int r = attr_parse_message(nlh, &nfg, sizeof(nfg), policy, ARRAY_SIZE(policy), tb);

    if (r < 0)
        return r;
    for (size_t i = 0; i < d->n && attr_is_name(tb[NFTA_SET_TABLE], d->table); i++) {
        uint64_t h = HASH_START;

        if (!attr_is_name(tb[NFTA_SET_NAME], d->names[i]))
            continue;
        r = digest_add_set(nlh, &h);
        if (r < 0)
            return r;
        d->found += d->digests[i] == 0;
        d->digests[i] = h;
        break;
    }
    return 0;
}

int nft_digest_sets(struct nl_sock *s, uint8_t family, const char *table, const char *const *names,
                    size_t n, uint64_t *ret)
{
    static const struct nl_dump_ops ops = {.begin = digest_sets_begin, .entry = digest_sets_entry};
    _cleanup_(freep) uint64_t *digests = calloc(n + 1, sizeof(*digests));
    struct digest_sets d = {.table = table, .names = names, .n = n, .digests = digests};
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETSET, family);
    int r = digests != NULL ? nft_request_put_names(nlh, NFTA_SET_TABLE, table, 0, NULL) : -ENOMEM;

    if (r == 0)
        r = nl_dump(s, nlh, &ops, &d);
    if (r == 0 && d.found != n)
        r = -ENOENT;
    if (r == 0)
        memcpy(ret, digests, n * sizeof(*ret));
    return r;
}
