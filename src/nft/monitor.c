/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "netlink/socket.h"
#include "nft/message.h"
#include "nft/nft.h"

#define NEWGEN_TYPE (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN)

struct nft_monitor {
    struct mnl_socket *mnl;
    struct nl_buffer buffer;
};

int nft_monitor_fd(const struct nft_monitor *m)
{
    return mnl_socket_get_fd(m->mnl);
}

struct nft_monitor *nft_monitor_free(struct nft_monitor *m)
{
    if (m == NULL)
        return NULL;
    if (m->mnl != NULL)
        (void)mnl_socket_close(m->mnl); /* only ever read */
    free(m->buffer.p);
    free(m);
    return NULL;
}

static void nft_monitor_freep(struct nft_monitor **m)
{
    *m = nft_monitor_free(*m);
}

/*
 * A new generation has a datagram for itself (other notices are gathered), so the first message's
 * type decides. It is in host order, and the filter machine loads as from the network.
 */
static int monitor_filter(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(NEWGEN_TYPE), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    const struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
        return -errno;
    return 0;
}

int nft_monitor_open(struct nft_monitor **ret)
{
    _cleanup_(nft_monitor_freep) struct nft_monitor *m = calloc(1, sizeof(*m));
    const int group = NFNLGRP_NFTABLES;
    int r;

    if (m == NULL)
        return -ENOMEM;
    r = nl_buffer_alloc(&m->buffer);
    if (r < 0)
        return r;
    r = nl_socket_open(NETLINK_NETFILTER, &m->mnl);
    if (r < 0)
        return r;
    r = monitor_filter(nft_monitor_fd(m));
    if (r < 0)
        return r;
    if (setsockopt(nft_monitor_fd(m), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
                   sizeof(group)) < 0)
        return -errno;
    *ret = TAKE_PTR(m);
    return 0;
}

int nft_monitor_read(struct nft_monitor *m, uint32_t *ret_generation)
{
    bool heard = false, lost = false;
    uint32_t generation = 0;

    for (;;) {
        struct nl_messages messages = {.p = m->buffer.p};
        const struct nlmsghdr *nlh;
        int r;

        r = nl_socket_receive(nft_monitor_fd(m), &m->buffer, MSG_DONTWAIT, &messages.left);
        if (r == -EAGAIN)
            break;
        if (r == -ENOBUFS || r == -EMSGSIZE) {
            lost = true;
            continue;
        }
        if (r < 0)
            return r;
        while ((nlh = nl_messages_next(&messages)) != NULL) {
            if (nlh->nlmsg_type != NEWGEN_TYPE)
                continue;
            if (nft_generation_parse(nlh, &generation) == 0)
                heard = true;
            else
                lost = true;
        }
    }
    if (lost)
        return -ENOBUFS;
    if (!heard)
        return 0;
    *ret_generation = generation;
    return 1;
}
