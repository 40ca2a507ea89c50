/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/ct.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "netlink/attr.h"

/* Kernel net/netfilter/nf_internals.h, not in the UAPI headers: which parts of a tuple count. */
#define FILTER_IP_SRC 1U

#define TUPLE_MAX 128 /* bytes of a CTA_TUPLE_ORIG; the biggest known is 68 */
#define FLOWS_MAX (1U << 20)

static const struct attr_rule flow_policy[] = {
    [CTA_TUPLE_ORIG] = {4, ATTR_LEN_ANY},
    [CTA_TUPLE_REPLY] = {4, ATTR_LEN_ANY},
    [CTA_STATUS] = {4, 4},
    [CTA_ID] = {4, 4},
    [CTA_ZONE] = {2, 2},
};

static const struct attr_rule tuple_policy[] = {
    [CTA_TUPLE_IP] = {4, ATTR_LEN_ANY},
    [CTA_TUPLE_PROTO] = {4, ATTR_LEN_ANY},
};

static const struct attr_rule ip_policy[] = {
    [CTA_IP_V4_SRC] = {4, 4},
    [CTA_IP_V4_DST] = {4, 4},
    [CTA_IP_V6_SRC] = {16, 16},
    [CTA_IP_V6_DST] = {16, 16},
};

static const struct attr_rule proto_policy[] = {
    [CTA_PROTO_NUM] = {1, 1},
    [CTA_PROTO_SRC_PORT] = {2, 2},
    [CTA_PROTO_DST_PORT] = {2, 2},
};

/* A flow to judge, with its original tuple as the kernel wrote it: every protocol's own numbers. */
struct found {
    struct ct_flow flow;
    bool condemned;
    uint16_t tuple_len;
    uint8_t tuple[TUPLE_MAX];
};

/* One address of those to look for, and its place in the caller's list. */
struct wanted {
    const struct addr *addr;
    size_t which;
};

struct search {
    uint8_t family;
    const struct wanted *wanted; /* of that family, sorted by address */
    size_t n_wanted;
    struct found *flows; /* owned */
    size_t count, room;
    size_t keep; /* results of the dumps before the present one */
};

static int tuple_parse(struct attr nest, uint8_t family, struct ct_tuple *ret)
{
    struct attr tb[ARRAY_SIZE(tuple_policy)], ip[ARRAY_SIZE(ip_policy)];
    struct attr proto[ARRAY_SIZE(proto_policy)], src, dst;

    if (attr_parse(nest, tuple_policy, ARRAY_SIZE(tuple_policy), tb) < 0 ||
        tb[CTA_TUPLE_IP].p == NULL || tb[CTA_TUPLE_PROTO].p == NULL ||
        attr_parse(tb[CTA_TUPLE_IP], ip_policy, ARRAY_SIZE(ip_policy), ip) < 0 ||
        attr_parse(tb[CTA_TUPLE_PROTO], proto_policy, ARRAY_SIZE(proto_policy), proto) < 0)
        return -EBADMSG;

    src = family == AF_INET ? ip[CTA_IP_V4_SRC] : ip[CTA_IP_V6_SRC];
    dst = family == AF_INET ? ip[CTA_IP_V4_DST] : ip[CTA_IP_V6_DST];
    if (src.p == NULL || dst.p == NULL || proto[CTA_PROTO_NUM].p == NULL ||
        addr_from_bytes(family, src.p, src.len, &ret->src) < 0 ||
        addr_from_bytes(family, dst.p, dst.len, &ret->dst) < 0)
        return -EBADMSG;
    ret->protocol = attr_u8(proto[CTA_PROTO_NUM]);
    ret->src_port = attr_u16be(proto[CTA_PROTO_SRC_PORT]);
    ret->dst_port = attr_u16be(proto[CTA_PROTO_DST_PORT]);
    return 0;
}

static int flow_parse(const struct nlmsghdr *nlh, struct ct_flow *ret, struct attr *ret_tuple)
{
    struct attr tb[ARRAY_SIZE(flow_policy)];
    struct ct_flow flow = {0};
    struct nfgenmsg nfg;
    int r;

    if (nlh->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) &&
        nlh->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE))
        return -EBADMSG;
    r = attr_parse_message(nlh, &nfg, sizeof(nfg), flow_policy, ARRAY_SIZE(flow_policy), tb);
    if (r < 0)
        return r;
    if ((nfg.nfgen_family != AF_INET && nfg.nfgen_family != AF_INET6) ||
        tb[CTA_TUPLE_ORIG].p == NULL || tb[CTA_TUPLE_REPLY].p == NULL || tb[CTA_ID].p == NULL)
        return -EBADMSG;
    r = tuple_parse(tb[CTA_TUPLE_ORIG], nfg.nfgen_family, &flow.orig);
    if (r < 0)
        return r;
    r = tuple_parse(tb[CTA_TUPLE_REPLY], nfg.nfgen_family, &flow.reply);
    if (r < 0)
        return r;
    flow.id = attr_u32be(tb[CTA_ID]);
    flow.zone = attr_u16be(tb[CTA_ZONE]);
    flow.status = attr_u32be(tb[CTA_STATUS]);
    *ret = flow;
    *ret_tuple = tb[CTA_TUPLE_ORIG];
    return 0;
}

int ct_flow_parse(const struct nlmsghdr *nlh, struct ct_flow *ret)
{
    struct attr tuple;

    return flow_parse(nlh, ret, &tuple);
}

static int wanted_compare(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    return addr_compare(x->addr, y->addr);
}

static const struct wanted *wanted_find(const struct search *s, const struct addr *addr)
{
    struct wanted key = {.addr = addr};

    return bsearch(&key, s->wanted, s->n_wanted, sizeof(key), wanted_compare);
}

/* Who opened it and who answers it: with or without translation, one of the two is the qube. */
static bool flow_is_wanted(const struct search *s, const struct ct_flow *f)
{
    return wanted_find(s, &f->orig.src) != NULL || wanted_find(s, &f->reply.src) != NULL;
}

static void search_begin(void *user)
{
    struct search *s = user;

    s->count = s->keep;
}

static int search_entry(const struct nlmsghdr *nlh, void *user)
{
    struct search *s = user;
    struct attr tuple;
    struct found f = {0};
    int r;

    r = flow_parse(nlh, &f.flow, &tuple);
    if (r < 0)
        return r;
    if (!flow_is_wanted(s, &f.flow))
        return 0;
    if (tuple.len > sizeof(f.tuple))
        return -EBADMSG;
    memcpy(f.tuple, tuple.p, tuple.len);
    f.tuple_len = (uint16_t)tuple.len;

    if (s->count == s->room) {
        size_t room = s->room == 0 ? 64 : s->room * 2;
        struct found *more;

        if (room > FLOWS_MAX)
            return -E2BIG;
        more = reallocarray(s->flows, room, sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        s->flows = more;
        s->room = room;
    }
    s->flows[s->count++] = f;
    return 0;
}

struct request {
    _Alignas(struct nlmsghdr) uint8_t bytes[512];
};

static struct nlmsghdr *request_init(struct request *q, unsigned message, uint8_t family)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(q->bytes);
    struct nfgenmsg *nfg;

    nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | message);
    nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
    nfg->nfgen_family = family;
    nfg->version = NFNETLINK_V0;
    return nlh;
}

/*
 * tuple: CTA_TUPLE_ORIG or CTA_TUPLE_REPLY, whose source the kernel compares with the one address;
 * 0: everything of the family. A kernel that does not know the filter sends all, too.
 */
static int search_dump(struct search *s, struct nl_sock *sock, uint16_t tuple)
{
    static const struct nl_dump_ops ops = {.begin = search_begin, .entry = search_entry};
    struct request q;
    struct nlmsghdr *nlh = request_init(&q, IPCTNL_MSG_CT_GET, s->family);
    int r;

    if (tuple != 0) {
        const struct addr *a = s->wanted[0].addr;
        struct nlattr *outer = mnl_attr_nest_start(nlh, tuple), *inner;

        inner = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
        mnl_attr_put(nlh, CTA_IP_V4_SRC, addr_size(a->family), a->bytes);
        mnl_attr_nest_end(nlh, inner);
        mnl_attr_nest_end(nlh, outer);
        outer = mnl_attr_nest_start(nlh, CTA_FILTER);
        mnl_attr_put_u32(nlh, CTA_FILTER_ORIG_FLAGS, tuple == CTA_TUPLE_ORIG ? FILTER_IP_SRC : 0);
        mnl_attr_put_u32(nlh, CTA_FILTER_REPLY_FLAGS, tuple == CTA_TUPLE_REPLY ? FILTER_IP_SRC : 0);
        mnl_attr_nest_end(nlh, outer);
    }
    r = nl_dump(sock, nlh, &ops, s);
    if (r == 0)
        s->keep = s->count;
    return r;
}

/*
 * The kernel walks its whole table for each dump, however little it sends: seven milliseconds
 * where the table is big. One dump serves any number of addresses.
 */
static int search_run(struct search *s, struct nl_sock *sock)
{
    int r;

    /*
     * For IPv6 the kernel's filter is the wrong way round: asked for one address it sends the
     * flows of all others (5.8 to 6.18, ctnetlink_filter_match_tuple(); seen on 6.18).
     */
    if (s->n_wanted > 1 || s->family == AF_INET6)
        return search_dump(s, sock, 0);
    r = search_dump(s, sock, CTA_TUPLE_ORIG);
    if (r == 0)
        r = search_dump(s, sock, CTA_TUPLE_REPLY);
    if (r == -EINVAL || r == -EOPNOTSUPP) {
        s->keep = 0;
        r = search_dump(s, sock, 0);
    }
    return r;
}

static int found_compare(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->flow.id != y->flow.id)
        return x->flow.id < y->flow.id ? -1 : 1;
    if (x->flow.zone != y->flow.zone)
        return x->flow.zone < y->flow.zone ? -1 : 1;
    if (x->tuple_len != y->tuple_len)
        return x->tuple_len < y->tuple_len ? -1 : 1;
    return memcmp(x->tuple, y->tuple, x->tuple_len);
}

static int found_delete(const struct found *f, struct nl_sock *sock)
{
    struct request q;
    struct nlmsghdr *nlh = request_init(&q, IPCTNL_MSG_CT_DELETE, f->flow.orig.src.family);

    mnl_attr_put(nlh, CTA_TUPLE_ORIG | NLA_F_NESTED, f->tuple_len, f->tuple);
    mnl_attr_put_u32(nlh, CTA_ID, htonl(f->flow.id));
    if (f->flow.zone != 0)
        mnl_attr_put_u16(nlh, CTA_ZONE, htons(f->flow.zone));
    return nl_request(sock, nlh);
}

/* judge hears of it once for each wanted address at one of its ends. */
static bool found_condemned(const struct search *s, const struct ct_flow *f,
                            const struct ct_forget_ops *ops, void *user)
{
    const struct wanted *opener = wanted_find(s, &f->orig.src);
    const struct wanted *answerer = wanted_find(s, &f->reply.src);
    bool forget = opener != NULL && ops->judge(f, opener->which, user);

    if (answerer != NULL && answerer != opener && ops->judge(f, answerer->which, user))
        forget = true;
    return forget;
}

/* Keeps those that are to be forgotten, each once. */
static void search_judge(struct search *s, const struct ct_forget_ops *ops, void *user)
{
    size_t kept = 0;

    /* two dumps: a flow from the address to itself is in both */
    if (s->count > 1)
        qsort(s->flows, s->count, sizeof(*s->flows), found_compare);
    for (size_t i = 0; i < s->count; i++) {
        if (i > 0 && found_compare(&s->flows[i - 1], &s->flows[i]) == 0)
            continue;
        s->flows[i].condemned = found_condemned(s, &s->flows[i].flow, ops, user);
    }
    for (size_t i = 0; i < s->count; i++) {
        if (s->flows[i].condemned)
            s->flows[kept++] = s->flows[i];
    }
    s->count = kept;
}

static int search_forget(struct search *s, struct nl_sock *sock, const struct ct_forget_ops *ops,
                         void *user)
{
    int deleted = 0, error = search_run(s, sock);

    if (error < 0)
        return error;
    search_judge(s, ops, user);
    if (ops->ready != NULL)
        ops->ready(user);
    for (size_t i = 0; i < s->count; i++) {
        /* one that does not go must not save the others */
        int r = found_delete(&s->flows[i], sock);

        if (r == 0)
            deleted++;
        else if (r != -ENOENT && error == 0)
            error = r;
    }
    return error < 0 ? error : deleted;
}

static int forget_family(struct nl_sock *sock, uint8_t family, const struct addr *addrs, size_t n,
                         const struct ct_forget_ops *ops, void *user)
{
    _cleanup_(freep) struct wanted *wanted = reallocarray(NULL, n, sizeof(*wanted));
    struct search search = {.family = family, .wanted = wanted};
    int r;

    if (wanted == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (addrs[i].family == family)
            wanted[search.n_wanted++] = (struct wanted){&addrs[i], i};
    }
    if (search.n_wanted == 0)
        return 0;
    qsort(wanted, search.n_wanted, sizeof(*wanted), wanted_compare);
    r = search_forget(&search, sock, ops, user);
    free(search.flows);
    return r;
}

int ct_forget(struct nl_sock *s, const struct addr *addrs, size_t n, const struct ct_forget_ops *ops,
              void *user)
{
    int deleted, deleted6;

    for (size_t i = 0; i < n; i++) {
        if (addr_size(addrs[i].family) == 0)
            return -EINVAL;
    }
    if (n == 0)
        return 0;
    deleted = forget_family(s, AF_INET, addrs, n, ops, user);
    deleted6 = forget_family(s, AF_INET6, addrs, n, ops, user);
    return deleted < 0 ? deleted : deleted6 < 0 ? deleted6 : deleted + deleted6;
}

/* One message: the kernel walks its table by itself (ctnetlink_flush_conntrack()). */
int ct_forget_marked(struct nl_sock *s, uint32_t mark, uint32_t mask)
{
    struct request q;
    struct nlmsghdr *nlh = request_init(&q, IPCTNL_MSG_CT_DELETE, AF_UNSPEC);

    if (mask != 0) {
        mnl_attr_put_u32(nlh, CTA_MARK, htonl(mark));
        mnl_attr_put_u32(nlh, CTA_MARK_MASK, htonl(mask));
    }
    return nl_request(s, nlh);
}
