/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/policy.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/attr.h"

/* Any attribute that is neither here nor of no consequence makes a rule "other". */
static const struct attr_rule rule_policy[] = {
    [FRA_PRIORITY] = {4, 4}, [FRA_FWMARK] = {4, 4},   [FRA_FWMASK] = {4, 4},
    [FRA_TABLE] = {4, 4},    [FRA_PROTOCOL] = {1, 1}, [FRA_UID_RANGE] = {8, 8},
    [FRA_SUPPRESS_PREFIXLEN] = {4, 4}, [FRA_SUPPRESS_IFGROUP] = {4, 4},
    [FRA_FLOW] = {4, 4}, [FRA_GOTO] = {4, 4}, [FRA_TUN_ID] = {8, 8},
    [FRA_DST] = {4, 16}, [FRA_SRC] = {4, 16}, [FRA_IIFNAME] = {1, IFNAMSIZ},
    [FRA_OIFNAME] = {1, IFNAMSIZ}, [FRA_L3MDEV] = {1, 1}, [FRA_IP_PROTO] = {1, 1},
    [FRA_SPORT_RANGE] = {4, 4}, [FRA_DPORT_RANGE] = {4, 4},
};

static const struct attr_rule path_policy[] = {
    [RTA_DST] = {4, 16},      [RTA_OIF] = {4, 4},   [RTA_GATEWAY] = {4, 16},
    [RTA_PRIORITY] = {4, 4},  [RTA_TABLE] = {4, 4}, [RTA_MULTIPATH] = {8, ATTR_LEN_ANY},
    [RTA_VIA] = {6, 18},      [RTA_ENCAP] = {0, ATTR_LEN_ANY},
    [RTA_NH_ID] = {4, 4},
};

static const uint16_t rule_foreign[] = {FRA_FLOW,    FRA_GOTO,    FRA_TUN_ID, FRA_DST,
                                        FRA_SRC,     FRA_IIFNAME, FRA_OIFNAME, FRA_L3MDEV,
                                        FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE};

/* "Suppress nothing" is said as -1 in every dump. */
static bool suppresses(struct attr a)
{
    return a.p != NULL && attr_u32(a) != UINT32_MAX;
}

/* An attribute of a newer kernel is a condition as well. */
static bool says_more(const struct nlmsghdr *nlh)
{
    const uint8_t *payload = mnl_nlmsg_get_payload(nlh);
    const size_t begin = sizeof(struct fib_rule_hdr); /* 12: needs no padding */
    struct cursor list = cursor_from(payload + begin, mnl_nlmsg_get_payload_len(nlh) - begin);
    struct attr a;
    uint16_t type;

    while (attr_next(&list, &type, &a) > 0)
        if (type >= ARRAY_SIZE(rule_policy))
            return true;
    return false;
}

static void keep_said(const struct nlmsghdr *nlh, struct rule *rule)
{
    size_t len = mnl_nlmsg_get_payload_len(nlh);

    if (len > sizeof(rule->said))
        return;
    memcpy(rule->said, mnl_nlmsg_get_payload(nlh), len);
    rule->said_len = (uint16_t)len;
}

int rule_parse(const struct nlmsghdr *nlh, struct rule *ret)
{
    struct attr tb[ARRAY_SIZE(rule_policy)];
    struct fib_rule_hdr h;
    struct rule rule = {0};
    int r;

    if (nlh->nlmsg_type != RTM_NEWRULE && nlh->nlmsg_type != RTM_DELRULE)
        return -EBADMSG;
    r = attr_parse_message(nlh, &h, sizeof(h), rule_policy, ARRAY_SIZE(rule_policy), tb);
    if (r < 0)
        return r;
    rule.family = h.family;
    rule.action = h.action;
    rule.priority = attr_u32(tb[FRA_PRIORITY]);
    rule.table = tb[FRA_TABLE].p != NULL ? attr_u32(tb[FRA_TABLE]) : h.table;
    if (h.action != FR_ACT_TO_TBL)
        rule.table = 0;
    rule.mark = attr_u32(tb[FRA_FWMARK]);
    rule.mask = tb[FRA_FWMASK].p != NULL ? attr_u32(tb[FRA_FWMASK]) : 0;
    rule.protocol = attr_u8(tb[FRA_PROTOCOL]);
    if (tb[FRA_UID_RANGE].p != NULL) {
        struct fib_rule_uid_range range;

        memcpy(&range, tb[FRA_UID_RANGE].p, sizeof(range));
        rule.has_uid = true;
        rule.uid = range.start;
        rule.other = range.start != range.end;
    }
    for (size_t i = 0; i < ARRAY_SIZE(rule_foreign); i++)
        rule.other |= tb[rule_foreign[i]].p != NULL;
    rule.other |= suppresses(tb[FRA_SUPPRESS_PREFIXLEN]) || suppresses(tb[FRA_SUPPRESS_IFGROUP]);
    rule.other |= (h.flags & FIB_RULE_INVERT) != 0 || h.tos != 0 || says_more(nlh);
    if (rule.other)
        keep_said(nlh, &rule);
    *ret = rule;
    return 0;
}

int path_parse(const struct nlmsghdr *nlh, struct path *ret)
{
    struct attr tb[ARRAY_SIZE(path_policy)];
    struct path path = {0};
    struct rtmsg h;
    int r;

    if (nlh->nlmsg_type != RTM_NEWROUTE && nlh->nlmsg_type != RTM_DELROUTE)
        return -EBADMSG;
    r = attr_parse_message(nlh, &h, sizeof(h), path_policy, ARRAY_SIZE(path_policy), tb);
    if (r < 0)
        return r;
    if ((h.rtm_family != AF_INET && h.rtm_family != AF_INET6) || (h.rtm_flags & RTM_F_CLONED) != 0)
        return 1;
    path.family = h.rtm_family;
    path.type = h.rtm_type;
    path.protocol = h.rtm_protocol;
    path.scope = h.rtm_family == AF_INET ? h.rtm_scope : 0;
    path.onlink = (h.rtm_flags & RTNH_F_ONLINK) != 0;
    path.table = tb[RTA_TABLE].p != NULL ? attr_u32(tb[RTA_TABLE]) : h.rtm_table;
    path.metric = attr_u32(tb[RTA_PRIORITY]);
    /* IPv6 names lo for a route that leads nowhere */
    path.oif = path.type == RTN_UNICAST ? attr_u32(tb[RTA_OIF]) : 0;
    path.dst.addr.family = h.rtm_family;
    path.dst.len = h.rtm_dst_len;
    if (path.dst.len > addr_bits(h.rtm_family))
        return -EBADMSG;
    if (tb[RTA_DST].p != NULL &&
        addr_from_bytes(h.rtm_family, tb[RTA_DST].p, tb[RTA_DST].len, &path.dst.addr) < 0)
        return -EBADMSG;
    if (tb[RTA_GATEWAY].p != NULL &&
        addr_from_bytes(h.rtm_family, tb[RTA_GATEWAY].p, tb[RTA_GATEWAY].len, &path.gateway) < 0)
        return -EBADMSG;
    path.other = tb[RTA_MULTIPATH].p != NULL || tb[RTA_VIA].p != NULL ||
                 tb[RTA_ENCAP].p != NULL || h.rtm_tos != 0;
    *ret = path;
    return 0;
}

bool rule_equal(const struct rule *a, const struct rule *b)
{
    return a->family == b->family && a->action == b->action && a->protocol == b->protocol &&
           !a->other && !b->other && a->has_uid == b->has_uid && a->priority == b->priority &&
           a->table == b->table && a->mark == b->mark && a->mask == b->mask && a->uid == b->uid;
}

bool path_equal(const struct path *a, const struct path *b)
{
    return a->family == b->family && a->type == b->type && !a->other && !b->other &&
           a->table == b->table && a->metric == b->metric && a->oif == b->oif &&
           a->dst.len == b->dst.len && addr_equal(&a->dst.addr, &b->dst.addr) &&
           addr_equal(&a->gateway, &b->gateway);
}

/* ---- dumps ---- */

struct rule_dump {
    rt_begin_fn begin;
    rule_fn fn;
    void *user;
};

static void rules_begin(void *user)
{
    const struct rule_dump *d = user;

    if (d->begin != NULL)
        d->begin(d->user);
}

static int rules_entry(const struct nlmsghdr *nlh, void *user)
{
    const struct rule_dump *d = user;
    struct rule rule;
    int r;

    if (nlh->nlmsg_type != RTM_NEWRULE)
        return 0;
    r = rule_parse(nlh, &rule);
    if (r < 0 || (rule.family != AF_INET && rule.family != AF_INET6))
        return r;
    return d->fn(&rule, d->user);
}

int rule_dump(struct nl_sock *s, rt_begin_fn begin, rule_fn fn, void *user)
{
    const struct nl_dump_ops ops = {.begin = rules_begin, .entry = rules_entry};
    struct rule_dump d = {begin, fn, user};
    char buf[256];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct fib_rule_hdr *h;

    nlh->nlmsg_type = RTM_GETRULE;
    h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
    h->family = AF_UNSPEC;
    return nl_dump(s, nlh, &ops, &d);
}

struct path_dump {
    rt_begin_fn begin;
    path_fn fn;
    void *user;
};

static void paths_begin(void *user)
{
    const struct path_dump *d = user;

    if (d->begin != NULL)
        d->begin(d->user);
}

static int paths_entry(const struct nlmsghdr *nlh, void *user)
{
    const struct path_dump *d = user;
    struct path path;
    int r;

    if (nlh->nlmsg_type != RTM_NEWROUTE)
        return 0;
    r = path_parse(nlh, &path);
    if (r != 0)
        return r < 0 ? r : 0;
    return d->fn(&path, d->user);
}

int path_dump(struct nl_sock *s, uint8_t family, rt_begin_fn begin, path_fn fn, void *user)
{
    const struct nl_dump_ops ops = {.begin = paths_begin, .entry = paths_entry};
    struct path_dump d = {begin, fn, user};
    char buf[256];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct rtmsg *h;

    nlh->nlmsg_type = RTM_GETROUTE;
    h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
    h->rtm_family = family;
    return nl_dump(s, nlh, &ops, &d);
}

/* ---- requests ---- */

static struct nlmsghdr *rule_message(const struct rule *rule, uint16_t type, char *buf)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct fib_rule_hdr *h;

    nlh->nlmsg_type = type;
    h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
    h->family = rule->family;
    h->action = rule->action;
    mnl_attr_put_u32(nlh, FRA_PRIORITY, rule->priority);
    mnl_attr_put_u8(nlh, FRA_PROTOCOL, rule->protocol);
    if (rule->action == FR_ACT_TO_TBL)
        mnl_attr_put_u32(nlh, FRA_TABLE, rule->table);
    if (rule->mask != 0) {
        mnl_attr_put_u32(nlh, FRA_FWMARK, rule->mark);
        mnl_attr_put_u32(nlh, FRA_FWMASK, rule->mask);
    }
    if (rule->has_uid) {
        struct fib_rule_uid_range range = {.start = rule->uid, .end = rule->uid};

        mnl_attr_put(nlh, FRA_UID_RANGE, sizeof(range), &range);
    }
    return nlh;
}

int rule_add(struct nl_sock *s, const struct rule *rule)
{
    char buf[512];
    struct nlmsghdr *nlh = rule_message(rule, RTM_NEWRULE, buf);
    int r;

    nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    r = nl_request(s, nlh);
    return r == -EEXIST ? 0 : r;
}

int rule_del(struct nl_sock *s, const struct rule *rule)
{
    char buf[512];
    struct nlmsghdr *nlh;
    int r;

    if (rule->said_len > 0) {
        nlh = mnl_nlmsg_put_header(buf);
        nlh->nlmsg_type = RTM_DELRULE;
        memcpy(mnl_nlmsg_put_extra_header(nlh, rule->said_len), rule->said, rule->said_len);
    } else {
        nlh = rule_message(rule, RTM_DELRULE, buf);
    }
    r = nl_request(s, nlh);
    return r == -ENOENT ? 0 : r;
}

static struct nlmsghdr *path_message(const struct path *path, uint16_t type, char *buf)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct rtmsg *h;

    nlh->nlmsg_type = type;
    h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
    h->rtm_family = path->family;
    h->rtm_dst_len = path->dst.len;
    h->rtm_type = path->type;
    h->rtm_protocol = path->protocol;
    h->rtm_scope = path->scope;
    h->rtm_flags = path->onlink ? RTNH_F_ONLINK : 0;
    mnl_attr_put_u32(nlh, RTA_TABLE, path->table);
    if (path->metric != 0)
        mnl_attr_put_u32(nlh, RTA_PRIORITY, path->metric);
    if (path->dst.len > 0)
        mnl_attr_put(nlh, RTA_DST, addr_size(path->family), path->dst.addr.bytes);
    if (path->gateway.family == path->family)
        mnl_attr_put(nlh, RTA_GATEWAY, addr_size(path->family), path->gateway.bytes);
    if (path->oif != 0)
        mnl_attr_put_u32(nlh, RTA_OIF, path->oif);
    return nlh;
}

int path_add(struct nl_sock *s, const struct path *path)
{
    char buf[512];
    struct nlmsghdr *nlh = path_message(path, RTM_NEWROUTE, buf);
    int r;

    nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_APPEND;
    r = nl_request(s, nlh);
    return r == -EEXIST ? 0 : r;
}

int path_del(struct nl_sock *s, const struct path *path)
{
    char buf[512];
    int r = nl_request(s, path_message(path, RTM_DELROUTE, buf));

    return r == -ESRCH || r == -ENOENT ? 0 : r;
}
