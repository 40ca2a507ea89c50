/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/message.h"
#include "nft/nft.h"

static const struct attr_rule table_policy[] = {
    [NFTA_TABLE_FLAGS] = {4, 4},
    [NFTA_TABLE_OWNER] = {4, 4},
};
static const struct attr_rule chain_policy[] = {
    [NFTA_CHAIN_TABLE] = {1, NFT_NAME_MAXLEN},
    [NFTA_CHAIN_NAME] = {1, NFT_NAME_MAXLEN},
    [NFTA_CHAIN_HOOK] = {0, ATTR_LEN_ANY},
    [NFTA_CHAIN_POLICY] = {4, 4},
};
static const struct attr_rule hook_policy[] = {
    [NFTA_HOOK_HOOKNUM] = {4, 4},
    [NFTA_HOOK_PRIORITY] = {4, 4},
    [NFTA_HOOK_DEV] = {1, 16},
    [NFTA_HOOK_DEVS] = {0, ATTR_LEN_ANY},
};

/* ---- tables ---- */

static int table_entry(const struct nlmsghdr *nlh, void *user)
{
    struct attr tb[ARRAY_SIZE(table_policy)];
    struct nft_table *table = user;
    struct nfgenmsg nfg;
    int r = attr_parse_message(nlh, &nfg, sizeof(nfg), table_policy, ARRAY_SIZE(table_policy), tb);

    if (r < 0)
        return r;
    table->flags = attr_u32be(tb[NFTA_TABLE_FLAGS]);
    table->owner = attr_u32be(tb[NFTA_TABLE_OWNER]);
    return 0;
}

int nft_table_read(struct nl_sock *s, uint8_t family, const char *table, struct nft_table *ret)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETTABLE, family);
    struct nft_table found = {0};
    int r = nft_request_put_names(nlh, NFTA_TABLE_NAME, table, 0, NULL);

    if (r < 0)
        return r;
    r = nl_query(s, nlh, table_entry, &found);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    *ret = found;
    return 1;
}

/* One message between the batch's begin and end. */
static int table_change(struct nl_sock *s, unsigned message, uint16_t flags, uint8_t family,
                        const char *table, const uint32_t *table_flags)
{
    _Alignas(struct nlmsghdr) uint8_t bytes[1024] = {0};
    const uint16_t kinds[3] = {NFNL_MSG_BATCH_BEGIN,
                               (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | message),
                               NFNL_MSG_BATCH_END};
    size_t len = 0;

    if (nft_check_name(table) < 0)
        return -EINVAL;
    for (unsigned i = 0; i < 3; i++) {
        struct nlmsghdr *nlh = mnl_nlmsg_put_header(bytes + len);
        struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

        nlh->nlmsg_type = kinds[i];
        nlh->nlmsg_flags = NLM_F_REQUEST;
        nfg->version = NFNETLINK_V0;
        nfg->res_id = htons(NFNL_SUBSYS_NFTABLES);
        if (i == 1) {
            nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
            nfg->nfgen_family = family;
            nfg->res_id = 0;
            mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
            if (table_flags != NULL)
                mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(*table_flags));
        }
        len += (nlh->nlmsg_len + 3) / 4 * 4;
    }
    return nl_batch(s, bytes, len, NULL, NULL);
}

int nft_table_write(struct nl_sock *s, uint8_t family, const char *table, unsigned flags)
{
    uint32_t value = flags;

    return table_change(s, NFT_MSG_NEWTABLE, NLM_F_CREATE, family, table, &value);
}

int nft_table_remove(struct nl_sock *s, uint8_t family, const char *table)
{
    int r = table_change(s, NFT_MSG_DELTABLE, 0, family, table, NULL);

    return r == -ENOENT ? 0 : r;
}

/* ---- chains on devices ---- */

struct chains {
    const char *table;
    nft_begin_fn begin;
    nft_device_chain_fn fn;
    void *user;
};

static void chains_begin(void *user)
{
    const struct chains *c = user;

    if (c->begin != NULL)
        c->begin(c->user);
}

/* The devices of a hook; more than one is told by a count. */
static int devices_parse(struct attr hook, struct nft_device_chain *chain, unsigned *ret_count)
{
    struct attr tb[ARRAY_SIZE(hook_policy)] = {0}, device;
    struct cursor list;
    uint16_t type;
    int r = attr_parse(hook, hook_policy, ARRAY_SIZE(hook_policy), tb);

    if (r < 0)
        return r;
    *ret_count = 0;
    chain->hook = attr_u32be(tb[NFTA_HOOK_HOOKNUM]);
    chain->priority = (int32_t)attr_u32be(tb[NFTA_HOOK_PRIORITY]);
    if (tb[NFTA_HOOK_DEV].p != NULL) {
        *ret_count = 1;
        return attr_name(tb[NFTA_HOOK_DEV], chain->device, sizeof(chain->device));
    }
    list = cursor_from(tb[NFTA_HOOK_DEVS].p, tb[NFTA_HOOK_DEVS].len);
    while ((r = attr_next(&list, &type, &device)) == 1) {
        if (type != NFTA_DEVICE_NAME)
            (*ret_count)++; /* a prefix: as good as several */
        else if (attr_name(device, chain->device, sizeof(chain->device)) < 0)
            return -EBADMSG;
        (*ret_count)++;
    }
    return r;
}

static int chains_entry(const struct nlmsghdr *nlh, void *user)
{
    struct attr tb[ARRAY_SIZE(chain_policy)];
    const struct chains *c = user;
    struct nft_device_chain chain = {0};
    struct nfgenmsg nfg;
    unsigned count;
    int r = attr_parse_message(nlh, &nfg, sizeof(nfg), chain_policy, ARRAY_SIZE(chain_policy), tb);

    if (r < 0)
        return r;
    if (!attr_is_name(tb[NFTA_CHAIN_TABLE], c->table) || tb[NFTA_CHAIN_HOOK].p == NULL)
        return 0;
    if (attr_name(tb[NFTA_CHAIN_NAME], chain.name, sizeof(chain.name)) < 0)
        return 0; /* longer than any of ours */
    r = devices_parse(tb[NFTA_CHAIN_HOOK], &chain, &count);
    if (r < 0)
        return r;
    if (count > 1)
        return 0;
    (void)attr_name(tb[NFTA_CHAIN_TABLE], chain.table, sizeof(chain.table));
    chain.drops = attr_u32be(tb[NFTA_CHAIN_POLICY]) == NF_DROP && tb[NFTA_CHAIN_POLICY].p != NULL;
    return c->fn(&chain, c->user);
}

int nft_dump_device_chains(struct nl_sock *s, const char *table, nft_begin_fn begin,
                           nft_device_chain_fn fn, void *user)
{
    static const struct nl_dump_ops ops = {.begin = chains_begin, .entry = chains_entry};
    struct chains c = {table, begin, fn, user};
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETCHAIN, NFPROTO_NETDEV);

    return nl_dump(s, nlh, &ops, &c);
}
