/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long from a write to QubesDB until the rules have changed: listens to the kernel's own
 * notifications, in the network namespace of the net qube.
 *
 *   bench-reaction QUBESDB SET KEY VALUE COUNT PAUSE_MS
 *
 * COUNT times writes KEY, waits for an element in SET, removes KEY, waits until it is gone. Prints
 * a line each time: nanoseconds until there, nanoseconds until gone.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client.h"

#define WAIT_MS      5000
#define BUFFER_BYTES (4 * 1024 * 1024)

struct seen {
    const char *set;
    uint16_t type; /* NFT_MSG_* waited for */
    bool hit;
};

static int open_monitor(void)
{
    int group = NFNLGRP_NFTABLES, size = BUFFER_BYTES;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

    if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0 ||
        setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        bench_die("nftables notifications");
    return fd;
}

static int on_attribute(const struct nlattr *attr, void *user)
{
    struct seen *s = user;

    if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_SET &&
        mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0 &&
        strcmp(mnl_attr_get_str(attr), s->set) == 0)
        s->hit = true;
    return MNL_CB_OK;
}

static int on_message(const struct nlmsghdr *nlh, void *user)
{
    struct seen *s = user;

    if (nlh->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | s->type))
        return mnl_attr_parse(nlh, sizeof(struct nfgenmsg), on_attribute, s);
    return MNL_CB_OK;
}

/* Reads what is there. true: the wanted message was in it. */
static bool take(int fd, struct seen *s)
{
    static char buffer[256 * 1024];
    ssize_t n;

    while ((n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
        if (mnl_cb_run(buffer, (size_t)n, 0, 0, on_message, s) < 0)
            bench_die("notification");
        if (s->hit)
            return true;
    }
    return false;
}

static void drain(int fd)
{
    struct seen nothing = {.set = ""};

    while (take(fd, &nothing))
        continue;
}

static int64_t change(int monitor, int qubesdb, const char *set, const char *key, const char *value)
{
    struct seen s = {.set = set, .type = value != NULL ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM};
    struct pollfd wait = {.fd = monitor, .events = POLLIN};
    int64_t begin, end;

    drain(monitor);
    begin = bench_now();
    bench_qubesdb_send(qubesdb, key, value);
    do {
        int r = poll(&wait, 1, WAIT_MS);

        if (r <= 0) {
            errno = r == 0 ? ETIMEDOUT : errno;
            bench_die(value != NULL ? "element" : "element gone");
        }
        end = bench_now();
    } while (!take(monitor, &s));
    bench_qubesdb_answer(qubesdb);
    return end - begin;
}

int main(int argc, char **argv)
{
    long count, pause_ms;
    int monitor, qubesdb;

    if (argc != 7) {
        (void)fputs("usage: bench-reaction QUBESDB SET KEY VALUE COUNT PAUSE_MS\n", stderr);
        return 2;
    }
    count = bench_number(argv[5], 1, 1000000);
    pause_ms = bench_number(argv[6], 0, 10000);
    monitor = open_monitor();
    qubesdb = bench_qubesdb_connect(argv[1]);
    for (long i = 0; i < count; i++) {
        int64_t there, gone;

        there = change(monitor, qubesdb, argv[2], argv[3], argv[4]);
        bench_sleep(pause_ms * 1000000);
        gone = change(monitor, qubesdb, argv[2], argv[3], NULL);
        bench_sleep(pause_ms * 1000000);
        (void)printf("%lld %lld\n", (long long)there, (long long)gone);
    }
    return 0;
}
