/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "netlink/rt.h"
#include "netlink/socket.h"

#define MONITOR_SOCKET_RECV (1024 * 1024)
#define MONITOR_READ_MAX    256 /* datagrams in one go; the rest wakes the caller again */

struct rt_monitor {
    struct mnl_socket *mnl;
    struct nl_buffer buffer;
    bool policy; /* routes of every table count */
};

static int route_ignore(const struct rt_route *route, void *user)
{
    (void)route;
    (void)user;
    return 0;
}

static unsigned message_change(const struct nlmsghdr *nlh, bool policy)
{
    switch (nlh->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        return RT_CHANGE_LINK;
    case RTM_NEWADDR:
    case RTM_DELADDR:
        return RT_CHANGE_ADDR;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        if (policy)
            return RT_CHANGE_ROUTE;
        /* what cannot be read is looked at */
        return rt_route_parse(nlh, route_ignore, NULL) == 1 ? 0 : RT_CHANGE_ROUTE;
    case RTM_NEWNETCONF:
    case RTM_DELNETCONF:
        return RT_CHANGE_CONF;
    case RTM_NEWRULE:
    case RTM_DELRULE:
        return RT_CHANGE_RULE;
    case NLMSG_OVERRUN:
        return RT_CHANGE_ALL;
    default: /* an open set of numbers, not an enum */
        return 0;
    }
}

int rt_monitor_read(struct rt_monitor *m)
{
    const int fd = rt_monitor_fd(m);
    unsigned change = 0;

    for (unsigned i = 0; i < MONITOR_READ_MAX; i++) {
        struct nl_messages messages = {.p = m->buffer.p};
        const struct nlmsghdr *nlh;
        int r;

        r = nl_socket_receive(fd, &m->buffer, MSG_DONTWAIT, &messages.left);
        if (r == -EAGAIN)
            break;
        if (r == -ENOBUFS || r == -EMSGSIZE) {
            change |= RT_CHANGE_ALL;
            continue;
        }
        if (r < 0)
            return r;
        while ((nlh = nl_messages_next(&messages)) != NULL)
            change |= message_change(nlh, m->policy);
    }
    return (int)change;
}

int rt_monitor_fd(const struct rt_monitor *m)
{
    return mnl_socket_get_fd(m->mnl);
}

struct rt_monitor *rt_monitor_free(struct rt_monitor *m)
{
    if (m == NULL)
        return NULL;
    if (m->mnl != NULL)
        (void)mnl_socket_close(m->mnl); /* only ever read */
    free(m->buffer.p);
    free(m);
    return NULL;
}

static void rt_monitor_freep(struct rt_monitor **m)
{
    *m = rt_monitor_free(*m);
}

static int monitor_join(struct rt_monitor *m, const int *groups, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (setsockopt(rt_monitor_fd(m), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
                       sizeof(groups[i])) < 0)
            return -errno;
    return 0;
}

int rt_monitor_add_policy(struct rt_monitor *m)
{
    static const int groups[] = {RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE};

    m->policy = true;
    return monitor_join(m, groups, ARRAY_SIZE(groups));
}

int rt_monitor_open(struct rt_monitor **ret)
{
    static const int groups[] = {
        RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR,  RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
        RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF};
    _cleanup_(rt_monitor_freep) struct rt_monitor *m = calloc(1, sizeof(*m));
    int r;

    if (m == NULL)
        return -ENOMEM;
    r = nl_buffer_alloc(&m->buffer);
    if (r < 0)
        return r;
    r = nl_socket_open(NETLINK_ROUTE, &m->mnl);
    if (r < 0)
        return r;
    r = monitor_join(m, groups, ARRAY_SIZE(groups));
    if (r < 0)
        return r;
    nl_socket_grow(rt_monitor_fd(m), SO_RCVBUFFORCE, SO_RCVBUF, MONITOR_SOCKET_RECV);
    *ret = TAKE_PTR(m);
    return 0;
}
