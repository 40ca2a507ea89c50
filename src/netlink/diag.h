/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which ports programs of this machine have open, by sock_diag (UAPI inet_diag.h): TCP sockets that
 * listen and UDP sockets without a peer. The kernel does not notify when one comes or goes.
 */
#pragma once

#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

struct diag_listener {
    struct addr local; /* may be the unspecified address */
    uint8_t proto;     /* IPPROTO_TCP, IPPROTO_UDP */
    uint16_t port;
};

/* 0 or -EBADMSG. proto is the caller's: the kernel does not repeat it. */
int diag_listener_parse(const struct nlmsghdr *nlh, uint8_t proto, struct diag_listener *ret);

typedef int (*diag_listener_fn)(const struct diag_listener *listener, void *user);

/*
 * Both families and protocols. s is a NETLINK_SOCK_DIAG socket. An interrupted dump begins again, so
 * fn may see a listener twice.
 */
int diag_dump_listeners(struct nl_sock *s, diag_listener_fn fn, void *user);
