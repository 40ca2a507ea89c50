/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h> /* libnftnl/expr.h needs FILE */

#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/message.h"
#include "nft/nft.h"

/*
 * A list of elements is one attribute, and its length is 16 bits; libnftnl does not look when it
 * fills one. So a message ends well before.
 */
#define BATCH_MESSAGE_MAX 32768
#define BATCH_ELEMENT_MAX 512  /* three values of NFT_KEY_MAX with their headers, and some */
#define BATCH_RULE_MAX    2048 /* three names of NFT_NAME_MAXLEN with their headers, and some */
#define BATCH_END_MAX     64
#define BATCH_BYTES_MAX   (7 * 1024 * 1024) /* less than the socket takes */

struct nft_batch {
    uint8_t *bytes; /* owned; whole messages up to len, without the batch's end */
    size_t len, room;
    size_t first, last; /* offsets of the first and the last operation's message */
    size_t count;
    uint32_t guard;
    struct nftnl_set_elem *element; /* owned; used again for each */
    /* message that takes more elements of the same set, and the list in it; 0: none */
    size_t open, list;
    uint16_t open_message;
    uint8_t open_family;
    char open_table[NFT_NAME_MAXLEN], open_set[NFT_NAME_MAXLEN];
};

static int batch_reserve(struct nft_batch *b, size_t more)
{
    size_t room = b->room;
    uint8_t *bytes;

    if (b->len + more <= b->room)
        return 0;
    while (room < b->len + more)
        room *= 2;
    if (b->len + more > BATCH_BYTES_MAX)
        return -E2BIG;
    bytes = realloc(b->bytes, room);
    if (bytes == NULL)
        return -ENOMEM;
    memset(bytes + b->room, 0, room - b->room); /* not every padding is written */
    b->bytes = bytes;
    b->room = room;
    return 0;
}

static struct nlmsghdr *batch_message(struct nft_batch *b, size_t offset)
{
    return (struct nlmsghdr *)(void *)(b->bytes + offset);
}

/* The message at offset is complete up to now. */
static void batch_account(struct nft_batch *b, size_t offset)
{
    b->len = offset + (batch_message(b, offset)->nlmsg_len + 3) / 4 * 4;
    if (b->count == 0)
        b->first = offset;
    b->last = offset;
    b->count++;
}

static bool batch_is_open(const struct nft_batch *b, uint16_t message, const struct nft_set *set)
{
    /* the kernel echoes the first message (see nft_batch_commit), so it stays short */
    return b->open != 0 && b->count > 1 && b->open_message == message &&
           b->open_family == set->family && strcmp(b->open_table, set->table) == 0 &&
           strcmp(b->open_set, set->name) == 0 &&
           b->len - b->open + BATCH_ELEMENT_MAX <= BATCH_MESSAGE_MAX;
}

static int batch_open(struct nft_batch *b, uint16_t message, const struct nft_set *set)
{
    struct nlmsghdr *nlh;
    struct nlattr *list;
    int r;

    if (nft_check_name(set->table) < 0 || nft_check_name(set->name) < 0)
        return -EINVAL;
    r = batch_reserve(b, BATCH_MESSAGE_MAX + BATCH_END_MAX);
    if (r < 0 || batch_is_open(b, message, set))
        return r;

    nlh = nftnl_nlmsg_build_hdr((char *)b->bytes + b->len, message, set->family,
                                message == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0, 0);
    mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, set->table);
    mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set->name);
    list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
    b->open = b->len;
    b->list = (size_t)((uint8_t *)list - b->bytes);
    b->open_message = message;
    b->open_family = set->family;
    memcpy(b->open_table, set->table, strlen(set->table) + 1);
    memcpy(b->open_set, set->name, strlen(set->name) + 1);
    return 0;
}

static int batch_put_element(struct nft_batch *b, uint16_t message, const struct nft_set *set,
                             const struct nft_key *key, const void *data, size_t data_len)
{
    struct nftnl_set_elem *e = b->element;
    struct nlmsghdr *nlh;
    int r;

    if (key->len == 0 || key->len > NFT_KEY_MAX || data_len > NFT_KEY_MAX)
        return -EINVAL;
    if (nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key->data, key->len) < 0)
        return -ENOMEM;
    nftnl_set_elem_unset(e, NFTNL_SET_ELEM_KEY_END);
    nftnl_set_elem_unset(e, NFTNL_SET_ELEM_DATA);
    if (key->has_end && nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY_END, key->end, key->len) < 0)
        return -ENOMEM;
    if (data_len > 0 &&
        nftnl_set_elem_set(e, NFTNL_SET_ELEM_DATA, data, (uint32_t)data_len) < 0)
        return -ENOMEM;

    r = batch_open(b, message, set);
    if (r < 0)
        return r;
    nlh = batch_message(b, b->open);
    if (nftnl_set_elem_nlmsg_build(nlh, e, NFTA_LIST_ELEM) == NULL)
        return -EINVAL;
    mnl_attr_nest_end(nlh, (struct nlattr *)(void *)(b->bytes + b->list));
    batch_account(b, b->open);
    return 0;
}

int nft_batch_add_element(struct nft_batch *b, const struct nft_set *set, const struct nft_key *key)
{
    return batch_put_element(b, NFT_MSG_NEWSETELEM, set, key, NULL, 0);
}

int nft_batch_add_mapping(struct nft_batch *b, const struct nft_set *set, const struct nft_key *key,
                          const void *data, size_t data_len)
{
    if (data_len == 0)
        return -EINVAL;
    return batch_put_element(b, NFT_MSG_NEWSETELEM, set, key, data, data_len);
}

int nft_batch_del_element(struct nft_batch *b, const struct nft_set *set, const struct nft_key *key)
{
    return batch_put_element(b, NFT_MSG_DELSETELEM, set, key, NULL, 0);
}

static void rule_freep(struct nftnl_rule **rule)
{
    if (*rule != NULL)
        nftnl_rule_free(*rule);
}

int nft_batch_add_jump(struct nft_batch *b, uint8_t family, const char *table, const char *chain,
                       const char *target)
{
    _cleanup_(rule_freep) struct nftnl_rule *rule = NULL;
    struct nftnl_expr *e;
    struct nlmsghdr *nlh;
    size_t begin;
    int r;

    if (nft_check_name(table) < 0 || nft_check_name(chain) < 0 || nft_check_name(target) < 0)
        return -EINVAL;
    r = batch_reserve(b, BATCH_RULE_MAX + BATCH_END_MAX);
    if (r < 0)
        return r;
    rule = nftnl_rule_alloc();
    e = nftnl_expr_alloc("immediate");
    if (rule == NULL || e == NULL) {
        if (e != NULL)
            nftnl_expr_free(e);
        return -ENOMEM;
    }
    nftnl_rule_add_expr(rule, e); /* owns it now */
    if (nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, table) < 0 ||
        nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain) < 0 ||
        nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, target) < 0)
        return -ENOMEM;
    nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, family);
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)NFT_JUMP);

    begin = b->len;
    nlh = nftnl_nlmsg_build_hdr((char *)b->bytes + begin, NFT_MSG_NEWRULE, family,
                                NLM_F_CREATE | NLM_F_APPEND, 0);
    nftnl_rule_nlmsg_build_payload(nlh, rule);
    b->open = 0;
    batch_account(b, begin);
    return 0;
}

static void chain_freep(struct nftnl_chain **chain)
{
    if (*chain != NULL)
        nftnl_chain_free(*chain);
}

static int batch_put_chain(struct nft_batch *b, uint16_t message, uint16_t flags, uint8_t family,
                           struct nftnl_chain *chain)
{
    size_t begin = b->len;
    struct nlmsghdr *nlh;
    int r = batch_reserve(b, BATCH_RULE_MAX + BATCH_END_MAX);

    if (r < 0)
        return r;
    nlh = nftnl_nlmsg_build_hdr((char *)b->bytes + begin, message, family, flags, 0);
    nftnl_chain_nlmsg_build_payload(nlh, chain);
    b->open = 0;
    batch_account(b, begin);
    return 0;
}

int nft_batch_add_device_chain(struct nft_batch *b, const struct nft_device_chain *chain)
{
    _cleanup_(chain_freep) struct nftnl_chain *c = nftnl_chain_alloc();

    if (c == NULL)
        return -ENOMEM;
    if (chain->device[0] == '\0')
        return -EINVAL;
    if (nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, chain->table) < 0 ||
        nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, chain->name) < 0 ||
        nftnl_chain_set_str(c, NFTNL_CHAIN_DEV, chain->device) < 0 ||
        nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter") < 0)
        return -ENOMEM;
    nftnl_chain_set_u32(c, NFTNL_CHAIN_FAMILY, NFPROTO_NETDEV);
    nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, chain->hook);
    nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, chain->priority);
    nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, chain->drops ? NF_DROP : NF_ACCEPT);
    return batch_put_chain(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE, NFPROTO_NETDEV, c);
}

int nft_batch_del_chain(struct nft_batch *b, uint8_t family, const char *table, const char *chain)
{
    _cleanup_(chain_freep) struct nftnl_chain *c = nftnl_chain_alloc();

    if (c == NULL)
        return -ENOMEM;
    if (nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, table) < 0 ||
        nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, chain) < 0)
        return -ENOMEM;
    return batch_put_chain(b, NFT_MSG_DELCHAIN, 0, family, c);
}

size_t nft_batch_count(const struct nft_batch *b)
{
    return b->count;
}

static int commit_entry(const struct nlmsghdr *nlh, void *user)
{
    uint32_t *generation = user;

    /* beside the new generation the first operation itself is echoed */
    if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN))
        return 0;
    return nft_generation_parse(nlh, generation);
}

/*
 * The new generation is not guessed: a transaction that turns out to change nothing makes none, and
 * somebody else's next one would then be taken for ours. NLM_F_ECHO on the first message behind
 * the batch's begin makes the kernel send us what our commit made (nf_tables_gen_notify() looks
 * at the first header left after nfnetlink took the begin off).
 */
int nft_batch_commit(struct nft_batch *b, struct nl_sock *s, uint32_t *ret_generation)
{
    uint32_t generation = b->guard;
    struct nlmsghdr *end;
    int r;

    if (b->count == 0) {
        r = nft_generation(s, &generation);
        if (r < 0)
            return r;
        if (generation != b->guard)
            return -ERESTART;
        *ret_generation = generation;
        return 0;
    }
    batch_message(b, b->first)->nlmsg_flags |= NLM_F_ECHO;
    batch_message(b, b->last)->nlmsg_flags |= NLM_F_ACK;
    end = nftnl_batch_end((char *)b->bytes + b->len, 0);
    r = nl_batch(s, b->bytes, b->len + end->nlmsg_len, commit_entry, &generation);
    if (r < 0)
        return r;
    *ret_generation = generation;
    return 0;
}

struct nft_batch *nft_batch_free(struct nft_batch *b)
{
    if (b == NULL)
        return NULL;
    if (b->element != NULL)
        nftnl_set_elem_free(b->element);
    free(b->bytes);
    free(b);
    return NULL;
}

void nft_batch_freep(struct nft_batch **b)
{
    *b = nft_batch_free(*b);
}

int nft_batch_new(uint32_t guard, struct nft_batch **ret)
{
    _cleanup_(nft_batch_freep) struct nft_batch *b = NULL;
    struct nlmsghdr *nlh;

    if (guard == 0)
        return -EINVAL; /* the kernel takes 0 for "no guard" */
    b = calloc(1, sizeof(*b));
    if (b == NULL)
        return -ENOMEM;
    b->guard = guard;
    b->room = 4096;
    b->bytes = calloc(1, b->room);
    b->element = nftnl_set_elem_alloc();
    if (b->bytes == NULL || b->element == NULL)
        return -ENOMEM;
    nlh = nftnl_batch_begin((char *)b->bytes, 0);
    mnl_attr_put_u32(nlh, NFNL_BATCH_GENID, htonl(guard));
    b->len = nlh->nlmsg_len;
    *ret = TAKE_PTR(b);
    return 0;
}
