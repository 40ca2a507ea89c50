/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/diag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cursor.h"

struct dump {
    uint8_t proto;
    diag_listener_fn fn;
    void *user;
};

int diag_listener_parse(const struct nlmsghdr *nlh, uint8_t proto, struct diag_listener *ret)
{
    struct diag_listener l = {.proto = proto};
    struct cursor c;
    uint8_t family;
    int r;

    if (nlh->nlmsg_len < NLMSG_HDRLEN)
        return -EBADMSG;
    /* struct inet_diag_msg: family, state, timer, retrans, then ports and addresses */
    c = cursor_from((const uint8_t *)nlh + NLMSG_HDRLEN, nlh->nlmsg_len - NLMSG_HDRLEN);
    family = cursor_u8(&c);
    (void)cursor_take(&c, 3);
    l.port = cursor_u16be(&c);
    (void)cursor_take(&c, 2);
    r = addr_from_bytes(family, c.p, addr_size(family), &l.local);
    if (!cursor_ok(&c) || c.left < 16 || r < 0)
        return -EBADMSG;
    *ret = l;
    return 0;
}

static int take_listener(const struct nlmsghdr *nlh, void *user)
{
    const struct dump *d = user;
    struct diag_listener l;
    int r = diag_listener_parse(nlh, d->proto, &l);

    return r < 0 ? r : d->fn(&l, d->user);
}

static int dump_family(struct nl_sock *s, uint8_t family, uint8_t proto, diag_listener_fn fn,
                       void *user)
{
    static const struct nl_dump_ops ops = {.entry = take_listener};
    struct dump d = {proto, fn, user};
    struct inet_diag_req_v2 request = {
        .sdiag_family = family,
        .sdiag_protocol = proto,
        /* an unconnected UDP socket is in the state TCP calls closed */
        .idiag_states = 1u << (proto == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE),
    };
    char buf[NLMSG_SPACE(sizeof(request))] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

    nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
    memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(request)), &request, sizeof(request));
    return nl_dump(s, nlh, &ops, &d);
}

int diag_dump_listeners(struct nl_sock *s, diag_listener_fn fn, void *user)
{
    static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP};
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(protos) && r == 0; i++) {
        r = dump_family(s, AF_INET, protos[i], fn, user);
        if (r == 0)
            r = dump_family(s, AF_INET6, protos[i], fn, user);
    }
    return r;
}
