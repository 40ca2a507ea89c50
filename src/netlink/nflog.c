/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/nflog.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "netlink/attr.h"
#include "netlink/socket.h"

#define READ_MAX       64
#define EXTENSIONS_MAX 8
#define MESSAGE(m)     (NFNL_SUBSYS_ULOG << 8 | (m))

struct nflog {
    struct nl_sock *s; /* owned */
    struct nl_buffer buffer;
};

static const struct attr_rule packet_policy[] = {
    [NFULA_IFINDEX_OUTDEV] = {4, 4},
    [NFULA_PAYLOAD] = {1, ATTR_LEN_ANY},
};

/* ---- reading ---- */

static void take_ports(struct cursor *c, struct nflog_packet *p)
{
    struct cursor ports = *c;
    uint16_t src, dst;

    if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP &&
        p->protocol != IPPROTO_UDPLITE && p->protocol != IPPROTO_SCTP &&
        p->protocol != IPPROTO_DCCP)
        return;
    src = cursor_u16be(&ports);
    dst = cursor_u16be(&ports);
    if (!cursor_ok(&ports))
        return;
    p->src_port = src;
    p->dst_port = dst;
}

/* RFC 791, 3.1 */
static void parse_ip4(struct cursor *c, struct nflog_packet *p)
{
    unsigned words = cursor_u8(c) & 0x0fu;
    uint16_t fragment;

    (void)cursor_take(c, 5);
    fragment = cursor_u16be(c) & 0x1fffu;
    (void)cursor_take(c, 1);
    p->protocol = cursor_u8(c);
    (void)cursor_take(c, 2);
    p->src.family = p->dst.family = AF_INET;
    cursor_copy(c, p->src.bytes, 4);
    cursor_copy(c, p->dst.bytes, 4);
    if (words < 5)
        c->failed = true;
    if (!cursor_ok(c) || fragment != 0)
        return;
    if (words == 5 || cursor_take(c, (words - 5) * 4u) != NULL)
        take_ports(c, p);
    c->failed = false; /* options beyond the bytes we got: the addresses count all the same */
}

static bool is_extension(uint8_t next)
{
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
           next == IPPROTO_FRAGMENT;
}

/* RFC 8200, 3 and 4. */
static void parse_ip6(struct cursor *c, struct nflog_packet *p)
{
    uint8_t next;

    (void)cursor_take(c, 6);
    next = cursor_u8(c);
    (void)cursor_take(c, 1);
    p->src.family = p->dst.family = AF_INET6;
    cursor_copy(c, p->src.bytes, 16);
    cursor_copy(c, p->dst.bytes, 16);
    if (!cursor_ok(c))
        return;
    for (unsigned i = 0; i < EXTENSIONS_MAX && is_extension(next) && cursor_ok(c); i++) {
        bool fragment = next == IPPROTO_FRAGMENT;
        uint8_t length;

        next = cursor_u8(c);
        length = cursor_u8(c);
        (void)cursor_take(c, fragment ? 6 : 6u + 8u * length);
    }
    p->protocol = next;
    if (cursor_ok(c))
        take_ports(c, p);
    c->failed = false;
}

int nflog_parse(const struct nlmsghdr *nlh, struct nflog_packet *ret)
{
    struct attr tb[ARRAY_SIZE(packet_policy)];
    struct nflog_packet p = {.out_index = 0};
    struct nfgenmsg nfg;
    struct cursor c;
    int r;

    if (nlh->nlmsg_type != MESSAGE(NFULNL_MSG_PACKET))
        return 0;
    r = attr_parse_message(nlh, &nfg, sizeof(nfg), packet_policy, ARRAY_SIZE(packet_policy), tb);
    if (r < 0)
        return r;
    if (tb[NFULA_PAYLOAD].p == NULL)
        return 0;
    c = cursor_from(tb[NFULA_PAYLOAD].p, tb[NFULA_PAYLOAD].len);
    if (nfg.nfgen_family == AF_INET && c.p[0] >> 4 == 4)
        parse_ip4(&c, &p);
    else if (nfg.nfgen_family == AF_INET6 && c.p[0] >> 4 == 6)
        parse_ip6(&c, &p);
    else
        return 0;
    if (!cursor_ok(&c))
        return -EBADMSG;
    p.out_index = attr_u32be(tb[NFULA_IFINDEX_OUTDEV]);
    *ret = p;
    return 1;
}

int nflog_read(struct nflog *l, nflog_fn fn, void *user)
{
    for (unsigned i = 0; i < READ_MAX; i++) {
        struct nl_messages messages = {.p = l->buffer.p};
        const struct nlmsghdr *nlh;
        int r = nl_socket_receive(nflog_fd(l), &l->buffer, MSG_DONTWAIT, &messages.left);

        if (r == -EAGAIN)
            return 0;
        if (r == -ENOBUFS || r == -EMSGSIZE)
            continue; /* lost: a line less */
        if (r < 0)
            return r;
        while ((nlh = nl_messages_next(&messages)) != NULL) {
            struct nflog_packet packet;

            if (nflog_parse(nlh, &packet) == 1)
                fn(&packet, user);
        }
    }
    return 0;
}

/* ---- opening ---- */

int nflog_fd(const struct nflog *l)
{
    return nl_fd(l->s);
}

struct nflog *nflog_free(struct nflog *l)
{
    if (l == NULL)
        return NULL;
    l->s = nl_free(l->s);
    free(l->buffer.p);
    free(l);
    return NULL;
}

static void nflog_freep(struct nflog **l)
{
    *l = nflog_free(*l);
}

static int configure(struct nflog *l, uint16_t group, uint16_t type, const void *value, size_t len)
{
    _Alignas(struct nlmsghdr) uint8_t bytes[128];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(bytes);
    struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

    nlh->nlmsg_type = MESSAGE(NFULNL_MSG_CONFIG);
    nfg->nfgen_family = AF_UNSPEC;
    nfg->version = NFNETLINK_V0;
    nfg->res_id = htons(group);
    mnl_attr_put(nlh, type, len, value);
    return nl_request(l->s, nlh);
}

int nflog_open(uint16_t group, uint32_t bytes, struct nflog **ret)
{
    const struct nfulnl_msg_config_cmd bind = {.command = NFULNL_CFG_CMD_BIND};
    const struct nfulnl_msg_config_mode mode = {.copy_range = htonl(bytes),
                                                .copy_mode = NFULNL_COPY_PACKET};
    const uint32_t at_once = htonl(1); /* no gathering of several packets in a message */
    _cleanup_(nflog_freep) struct nflog *l = calloc(1, sizeof(*l));
    int r;

    if (l == NULL)
        return -ENOMEM;
    r = nl_buffer_alloc(&l->buffer);
    if (r == 0)
        r = nl_open(NETLINK_NETFILTER, &l->s);
    if (r == 0)
        r = configure(l, group, NFULA_CFG_CMD, &bind, sizeof(bind));
    if (r == 0)
        r = configure(l, group, NFULA_CFG_MODE, &mode, sizeof(mode));
    if (r == 0)
        r = configure(l, group, NFULA_CFG_QTHRESH, &at_once, sizeof(at_once));
    if (r < 0)
        return r;
    *ret = TAKE_PTR(l);
    return 0;
}
