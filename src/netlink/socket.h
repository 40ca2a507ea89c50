/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What request sockets and monitors share: opening with the options every socket of ours has, and
 * receiving one datagram of the kernel. For this library and nft only.
 * Errors: 0 or -errno; a datagram that does not fit makes the buffer bigger for the next one, is
 * lost, and gives -EMSGSIZE; an overrun gives -ENOBUFS once.
 */
#pragma once

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

struct nl_buffer {
    uint8_t *p; /* owned, from malloc: aligned for a message */
    size_t size;
};

int nl_buffer_alloc(struct nl_buffer *b);
int nl_socket_open(int bus, struct mnl_socket **ret);
/* Socket buffer: by force (CAP_NET_ADMIN), else what the limits give. */
void nl_socket_grow(int fd, int force, int plain, int size);
int nl_socket_receive(int fd, struct nl_buffer *b, int flags, size_t *ret_len);

/* Walks the messages of a datagram; libmnl's own walk takes a length above 2^31 for a small one. */
struct nl_messages {
    const uint8_t *p; /* borrowed, aligned */
    size_t left;
};

/* The next whole message, NULL at the end. */
const struct nlmsghdr *nl_messages_next(struct nl_messages *m);
