/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nft/message.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "base/cleanup.h"

#define MESSAGE_TYPE(m) (NFNL_SUBSYS_NFTABLES << 8 | (m))

static const struct attr_rule generation_policy[] = {[NFTA_GEN_ID] = {4, 4}};
static const struct attr_rule list_policy[] = {
    [NFTA_SET_ELEM_LIST_ELEMENTS] = {0, ATTR_LEN_ANY}};
static const struct attr_rule element_policy[] = {
    [NFTA_SET_ELEM_KEY] = {4, ATTR_LEN_ANY},
    [NFTA_SET_ELEM_DATA] = {4, ATTR_LEN_ANY},
    [NFTA_SET_ELEM_FLAGS] = {4, 4},
    [NFTA_SET_ELEM_KEY_END] = {4, ATTR_LEN_ANY},
};
static const struct attr_rule data_policy[] = {
    [NFTA_DATA_VALUE] = {1, NFT_KEY_MAX},
    [NFTA_DATA_VERDICT] = {4, ATTR_LEN_ANY},
};
static const struct attr_rule verdict_policy[] = {
    [NFTA_VERDICT_CODE] = {4, 4},
    [NFTA_VERDICT_CHAIN] = {1, NFT_NAME_MAXLEN},
};
static const struct attr_rule rule_policy[] = {[NFTA_RULE_EXPRESSIONS] = {0, ATTR_LEN_ANY}};
static const struct attr_rule expression_policy[] = {
    [NFTA_EXPR_NAME] = {1, 64},
    [NFTA_EXPR_DATA] = {0, ATTR_LEN_ANY},
};
static const struct attr_rule immediate_policy[] = {
    [NFTA_IMMEDIATE_DREG] = {4, 4},
    [NFTA_IMMEDIATE_DATA] = {4, ATTR_LEN_ANY},
};
static const struct attr_rule chain_policy[] = {
    [NFTA_CHAIN_HOOK] = {0, ATTR_LEN_ANY},
    [NFTA_CHAIN_POLICY] = {4, 4},
    [NFTA_CHAIN_TYPE] = {1, 64},
    [NFTA_CHAIN_FLAGS] = {4, 4},
};
static const struct attr_rule hook_policy[] = {[NFTA_HOOK_HOOKNUM] = {4, 4}};

struct nlmsghdr *nft_request_init(struct nft_request *q, unsigned message, uint8_t family)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(q->bytes);
    struct nfgenmsg *nfg;

    nlh->nlmsg_type = (uint16_t)MESSAGE_TYPE(message);
    nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
    nfg->nfgen_family = family;
    nfg->version = NFNETLINK_V0;
    return nlh;
}

int nft_check_name(const char *name)
{
    size_t len = strnlen(name, NFT_NAME_MAXLEN);

    return len > 0 && len < NFT_NAME_MAXLEN ? 0 : -EINVAL;
}

int nft_request_put_names(struct nlmsghdr *nlh, uint16_t type1, const char *name1, uint16_t type2,
                          const char *name2)
{
    if (nft_check_name(name1) < 0 || (name2 != NULL && nft_check_name(name2) < 0))
        return -EINVAL;
    mnl_attr_put_strz(nlh, type1, name1);
    if (name2 != NULL)
        mnl_attr_put_strz(nlh, type2, name2);
    return 0;
}

static int message_parse(const struct nlmsghdr *nlh, unsigned message,
                         const struct attr_rule *policy, size_t count, struct attr *ret)
{
    struct nfgenmsg nfg;

    if (nlh->nlmsg_type != MESSAGE_TYPE(message))
        return -EBADMSG;
    return attr_parse_message(nlh, &nfg, sizeof(nfg), policy, count, ret);
}

int nft_generation_parse(const struct nlmsghdr *nlh, uint32_t *ret)
{
    struct attr tb[ARRAY_SIZE(generation_policy)];
    int r;

    r = message_parse(nlh, NFT_MSG_NEWGEN, generation_policy, ARRAY_SIZE(generation_policy), tb);
    if (r < 0)
        return r;
    if (tb[NFTA_GEN_ID].p == NULL)
        return -EBADMSG;
    *ret = attr_u32be(tb[NFTA_GEN_ID]);
    return 0;
}

int nft_list_each(struct attr list, nft_member_fn fn, void *user)
{
    struct cursor c = cursor_from(list.p, list.len);
    struct attr member;
    uint16_t type;
    int r;

    while ((r = attr_next(&c, &type, &member)) > 0) {
        if (type != NFTA_LIST_ELEM)
            continue;
        r = fn(member, user);
        if (r < 0)
            return r;
    }
    return r;
}

int nft_elements_each(const struct nlmsghdr *nlh, nft_member_fn fn, void *user)
{
    struct attr tb[ARRAY_SIZE(list_policy)];
    int r;

    r = message_parse(nlh, NFT_MSG_NEWSETELEM, list_policy, ARRAY_SIZE(list_policy), tb);
    if (r < 0 || tb[NFTA_SET_ELEM_LIST_ELEMENTS].p == NULL)
        return r;
    return nft_list_each(tb[NFTA_SET_ELEM_LIST_ELEMENTS], fn, user);
}

/* A value of at most NFT_KEY_MAX bytes; *ret_len 0 for a verdict. */
static int data_parse(struct attr nest, uint8_t *ret, uint8_t *ret_len)
{
    struct attr tb[ARRAY_SIZE(data_policy)];
    int r;

    r = attr_parse(nest, data_policy, ARRAY_SIZE(data_policy), tb);
    if (r < 0)
        return r;
    if (tb[NFTA_DATA_VALUE].p != NULL)
        memcpy(ret, tb[NFTA_DATA_VALUE].p, tb[NFTA_DATA_VALUE].len);
    *ret_len = (uint8_t)tb[NFTA_DATA_VALUE].len;
    return 0;
}

struct element_user {
    nft_element_fn fn;
    void *user;
};

static int element_parse(struct attr member, void *user)
{
    const struct element_user *u = user;
    struct attr tb[ARRAY_SIZE(element_policy)];
    struct nft_element e = {0};
    uint8_t end_len;
    int r;

    r = attr_parse(member, element_policy, ARRAY_SIZE(element_policy), tb);
    if (r < 0)
        return r;
    /* the element for everything else, and ends of plain intervals, are no keys */
    if ((attr_u32be(tb[NFTA_SET_ELEM_FLAGS]) &
         (NFT_SET_ELEM_CATCHALL | NFT_SET_ELEM_INTERVAL_END)) != 0)
        return 0;
    if (tb[NFTA_SET_ELEM_KEY].p == NULL)
        return -EBADMSG;
    r = data_parse(tb[NFTA_SET_ELEM_KEY], e.key.data, &e.key.len);
    if (r < 0 || e.key.len == 0)
        return -EBADMSG;
    if (tb[NFTA_SET_ELEM_KEY_END].p != NULL) {
        r = data_parse(tb[NFTA_SET_ELEM_KEY_END], e.key.end, &end_len);
        if (r < 0 || end_len != e.key.len)
            return -EBADMSG;
        e.key.has_end = true;
    }
    if (tb[NFTA_SET_ELEM_DATA].p != NULL) {
        r = data_parse(tb[NFTA_SET_ELEM_DATA], e.data, &e.data_len);
        if (r < 0)
            return r;
    }
    return u->fn(&e, u->user);
}

int nft_elements_parse(const struct nlmsghdr *nlh, nft_element_fn fn, void *user)
{
    struct element_user u = {.fn = fn, .user = user};

    return nft_elements_each(nlh, element_parse, &u);
}

struct expression_user {
    nft_expression_fn fn;
    void *user;
};

static int expression_parse(struct attr member, void *user)
{
    const struct expression_user *u = user;
    struct attr tb[ARRAY_SIZE(expression_policy)];
    struct nft_expression e;
    int r;

    r = attr_parse(member, expression_policy, ARRAY_SIZE(expression_policy), tb);
    if (r < 0)
        return r;
    if (tb[NFTA_EXPR_NAME].p == NULL)
        return -EBADMSG;
    e = (struct nft_expression){.name = tb[NFTA_EXPR_NAME], .data = tb[NFTA_EXPR_DATA]};
    return u->fn(&e, u->user);
}

int nft_rule_parse(const struct nlmsghdr *nlh, nft_expression_fn fn, void *user)
{
    struct expression_user u = {.fn = fn, .user = user};
    struct attr tb[ARRAY_SIZE(rule_policy)];
    int r;

    r = message_parse(nlh, NFT_MSG_NEWRULE, rule_policy, ARRAY_SIZE(rule_policy), tb);
    if (r < 0 || tb[NFTA_RULE_EXPRESSIONS].p == NULL)
        return r;
    return nft_list_each(tb[NFTA_RULE_EXPRESSIONS], expression_parse, &u);
}

bool nft_expression_is_jump(const struct nft_expression *e, const char *target)
{
    struct attr imm[ARRAY_SIZE(immediate_policy)], data[ARRAY_SIZE(data_policy)];
    struct attr verdict[ARRAY_SIZE(verdict_policy)];

    if (!attr_is_name(e->name, "immediate") ||
        attr_parse(e->data, immediate_policy, ARRAY_SIZE(immediate_policy), imm) < 0 ||
        attr_u32be(imm[NFTA_IMMEDIATE_DREG]) != NFT_REG_VERDICT ||
        attr_parse(imm[NFTA_IMMEDIATE_DATA], data_policy, ARRAY_SIZE(data_policy), data) < 0 ||
        attr_parse(data[NFTA_DATA_VERDICT], verdict_policy, ARRAY_SIZE(verdict_policy),
                   verdict) < 0)
        return false;
    return attr_u32be(verdict[NFTA_VERDICT_CODE]) == (uint32_t)NFT_JUMP &&
           attr_is_name(verdict[NFTA_VERDICT_CHAIN], target);
}

int nft_chain_parse(const struct nlmsghdr *nlh, struct nft_chain_facts *ret)
{
    struct attr tb[ARRAY_SIZE(chain_policy)], hook[ARRAY_SIZE(hook_policy)];
    struct nft_chain_facts f = {.hook_number = -1};
    int r;

    r = message_parse(nlh, NFT_MSG_NEWCHAIN, chain_policy, ARRAY_SIZE(chain_policy), tb);
    if (r < 0)
        return r;
    if (tb[NFTA_CHAIN_HOOK].p != NULL) {
        r = attr_parse(tb[NFTA_CHAIN_HOOK], hook_policy, ARRAY_SIZE(hook_policy), hook);
        if (r < 0)
            return r;
        if (hook[NFTA_HOOK_HOOKNUM].p != NULL)
            f.hook_number = attr_u32be(hook[NFTA_HOOK_HOOKNUM]);
    }
    f.hook = tb[NFTA_CHAIN_HOOK];
    f.policy = tb[NFTA_CHAIN_POLICY];
    f.type = tb[NFTA_CHAIN_TYPE];
    f.flags = tb[NFTA_CHAIN_FLAGS];
    *ret = f;
    return 0;
}
