/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/rt.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/attr.h"

static const struct attr_rule link_policy[] = {
    [IFLA_ADDRESS] = {0, 32}, /* MAX_ADDR_LEN */
    [IFLA_IFNAME] = {2, IFNAMSIZ},
    [IFLA_GROUP] = {4, 4},
};

static const struct attr_rule addr_policy[] = {
    [IFA_ADDRESS] = {4, 16},
    [IFA_LOCAL] = {4, 16},
};

static const struct attr_rule route_policy[] = {
    [RTA_DST] = {4, 16},
    [RTA_OIF] = {4, 4},
    [RTA_GATEWAY] = {4, 16},
    [RTA_PRIORITY] = {4, 4},
    [RTA_MULTIPATH] = {8, ATTR_LEN_ANY},
    [RTA_TABLE] = {4, 4},
    [RTA_VIA] = {6, 18},
};

static const struct attr_rule hop_policy[] = {
    [RTA_GATEWAY] = {4, 16},
    [RTA_VIA] = {6, 18},
};

static const struct attr_rule proxy_policy[] = {
    [NDA_DST] = {4, 16},
    [NDA_IFINDEX] = {4, 4},
    [NDA_PROTOCOL] = {1, 1},
};

static const struct attr_rule neighbour_policy[] = {
    [NDA_DST] = {4, 16},
    [NDA_LLADDR] = {0, 32}, /* MAX_ADDR_LEN */
    [NDA_CACHEINFO] = {sizeof(struct nda_cacheinfo), ATTR_LEN_ANY},
};

static bool family_is_ip(uint8_t family)
{
    return family == AF_INET || family == AF_INET6;
}

int rt_link_parse(const struct nlmsghdr *nlh, struct rt_link *ret)
{
    struct attr tb[ARRAY_SIZE(link_policy)];
    struct ifinfomsg ifi;
    struct rt_link link = {0};
    int r;

    if (nlh->nlmsg_type != RTM_NEWLINK && nlh->nlmsg_type != RTM_DELLINK)
        return -EBADMSG;
    r = attr_parse_message(nlh, &ifi, sizeof(ifi), link_policy, ARRAY_SIZE(link_policy), tb);
    if (r < 0)
        return r;
    /* a port leaving a bridge is an RTM_DELLINK of family AF_BRIDGE: the link is still there */
    if (ifi.ifi_family != AF_UNSPEC)
        return 1;
    if (ifi.ifi_index <= 0)
        return -EBADMSG;
    r = attr_name(tb[IFLA_IFNAME], link.name, sizeof(link.name));
    if (r < 0)
        return r;

    link.index = (uint32_t)ifi.ifi_index;
    link.group = attr_u32(tb[IFLA_GROUP]);
    link.flags = ifi.ifi_flags;
    link.arptype = ifi.ifi_type;
    link.carrier = (ifi.ifi_flags & IFF_UP) != 0 && (ifi.ifi_flags & IFF_LOWER_UP) != 0;
    link.gone = nlh->nlmsg_type == RTM_DELLINK;
    if (tb[IFLA_ADDRESS].len == sizeof(link.mac))
        memcpy(link.mac, tb[IFLA_ADDRESS].p, sizeof(link.mac));
    *ret = link;
    return 0;
}

int rt_addr_parse(const struct nlmsghdr *nlh, struct rt_addr *ret)
{
    struct attr tb[ARRAY_SIZE(addr_policy)], own;
    struct ifaddrmsg ifa;
    struct rt_addr addr = {0};
    struct addr far;
    int r;

    if (nlh->nlmsg_type != RTM_NEWADDR && nlh->nlmsg_type != RTM_DELADDR)
        return -EBADMSG;
    r = attr_parse_message(nlh, &ifa, sizeof(ifa), addr_policy, ARRAY_SIZE(addr_policy), tb);
    if (r < 0)
        return r;
    if (!family_is_ip(ifa.ifa_family))
        return 1;
    if (ifa.ifa_index == 0 || ifa.ifa_prefixlen > addr_bits(ifa.ifa_family))
        return -EBADMSG;

    /* IFA_ADDRESS is the peer where IFA_LOCAL differs from it */
    own = tb[IFA_LOCAL].p != NULL ? tb[IFA_LOCAL] : tb[IFA_ADDRESS];
    if (own.p == NULL || addr_from_bytes(ifa.ifa_family, own.p, own.len, &addr.prefix.addr) < 0)
        return -EBADMSG;
    addr.index = ifa.ifa_index;
    addr.prefix.len = ifa.ifa_prefixlen;
    addr.gone = nlh->nlmsg_type == RTM_DELADDR;
    if (tb[IFA_ADDRESS].p != NULL) {
        if (addr_from_bytes(ifa.ifa_family, tb[IFA_ADDRESS].p, tb[IFA_ADDRESS].len, &far) < 0)
            return -EBADMSG;
        if (!addr_equal(&far, &addr.prefix.addr))
            addr.prefix.len = addr_bits(ifa.ifa_family);
    }
    *ret = addr;
    return 0;
}

/* RTA_GATEWAY is of the route's family, RTA_VIA names its own (IPv4 by an IPv6 router). */
static int route_parse_gateway(uint8_t family, struct attr gateway, struct attr via,
                               struct addr *ret)
{
    uint16_t via_family;

    memset(ret, 0, sizeof(*ret));
    if (gateway.p != NULL)
        return addr_from_bytes(family, gateway.p, gateway.len, ret) < 0 ? -EBADMSG : 0;
    if (via.p == NULL)
        return 0;
    memcpy(&via_family, via.p, sizeof(via_family));
    return addr_from_bytes(via_family, via.p + sizeof(via_family), via.len - sizeof(via_family),
                           ret) < 0 ? -EBADMSG : 0;
}

/* struct rtnexthop: u16 length, u8 flags, u8 weight - 1, s32 index; then attributes; aligned. */
static int route_parse_hops(struct attr list, uint8_t family, const struct rt_route *model,
                            rt_route_fn fn, void *user)
{
    const uint16_t head = sizeof(struct rtnexthop);
    struct cursor c = cursor_from(list.p, list.len);

    while (c.left > 0) {
        struct attr tb[ARRAY_SIZE(hop_policy)];
        struct rt_route route = *model;
        struct rtnexthop hop;
        const uint8_t *rest;
        size_t len, pad;
        int r;

        cursor_copy(&c, &hop, sizeof(hop));
        if (!cursor_ok(&c) || hop.rtnh_len < head || hop.rtnh_ifindex < 0)
            return -EBADMSG;
        len = (size_t)hop.rtnh_len - head;
        rest = cursor_take(&c, len);
        if (rest == NULL)
            return -EBADMSG;
        pad = (4 - len % 4) % 4;
        (void)cursor_take(&c, pad < c.left ? pad : c.left);

        r = attr_parse((struct attr){.p = rest, .len = len}, hop_policy, ARRAY_SIZE(hop_policy),
                       tb);
        if (r < 0)
            return r;
        r = route_parse_gateway(family, tb[RTA_GATEWAY], tb[RTA_VIA], &route.gateway);
        if (r < 0)
            return r;
        route.oif = (uint32_t)hop.rtnh_ifindex;
        r = route.oif != 0 ? fn(&route, user) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

int rt_route_parse(const struct nlmsghdr *nlh, rt_route_fn fn, void *user)
{
    struct attr tb[ARRAY_SIZE(route_policy)];
    struct rt_route route = {0};
    struct rtmsg rtm;
    uint32_t table;
    int r;

    if (nlh->nlmsg_type != RTM_NEWROUTE && nlh->nlmsg_type != RTM_DELROUTE)
        return -EBADMSG;
    r = attr_parse_message(nlh, &rtm, sizeof(rtm), route_policy, ARRAY_SIZE(route_policy), tb);
    if (r < 0)
        return r;
    table = tb[RTA_TABLE].p != NULL ? attr_u32(tb[RTA_TABLE]) : rtm.rtm_table;
    if (!family_is_ip(rtm.rtm_family) || table != RT_TABLE_MAIN || rtm.rtm_type != RTN_UNICAST ||
        rtm.rtm_src_len != 0 || (rtm.rtm_flags & RTM_F_CLONED) != 0)
        return 1;

    if (rtm.rtm_dst_len > addr_bits(rtm.rtm_family))
        return -EBADMSG;
    route.dst.len = rtm.rtm_dst_len;
    if (tb[RTA_DST].p != NULL) {
        if (addr_from_bytes(rtm.rtm_family, tb[RTA_DST].p, tb[RTA_DST].len, &route.dst.addr) < 0)
            return -EBADMSG;
    } else if (rtm.rtm_dst_len == 0) {
        route.dst.addr.family = rtm.rtm_family;
    } else {
        return -EBADMSG;
    }
    route.metric = attr_u32(tb[RTA_PRIORITY]);
    route.protocol = rtm.rtm_protocol;
    route.gone = nlh->nlmsg_type == RTM_DELROUTE;
    if (tb[RTA_MULTIPATH].p != NULL)
        return route_parse_hops(tb[RTA_MULTIPATH], rtm.rtm_family, &route, fn, user);

    route.oif = attr_u32(tb[RTA_OIF]);
    if (route.oif == 0)
        return 1;
    r = route_parse_gateway(rtm.rtm_family, tb[RTA_GATEWAY], tb[RTA_VIA], &route.gateway);
    if (r < 0)
        return r;
    r = fn(&route, user);
    return r < 0 ? r : 0;
}

int rt_proxy_parse(const struct nlmsghdr *nlh, struct rt_proxy *ret)
{
    struct attr tb[ARRAY_SIZE(proxy_policy)];
    struct rt_proxy proxy = {0};
    struct ndmsg ndm;
    int r;

    if (nlh->nlmsg_type != RTM_NEWNEIGH && nlh->nlmsg_type != RTM_DELNEIGH)
        return -EBADMSG;
    r = attr_parse_message(nlh, &ndm, sizeof(ndm), proxy_policy, ARRAY_SIZE(proxy_policy), tb);
    if (r < 0)
        return r;
    if (!family_is_ip(ndm.ndm_family) || (ndm.ndm_flags & NTF_PROXY) == 0)
        return 1;
    if (ndm.ndm_ifindex < 0 || tb[NDA_DST].p == NULL ||
        addr_from_bytes(ndm.ndm_family, tb[NDA_DST].p, tb[NDA_DST].len, &proxy.addr) < 0)
        return -EBADMSG;
    proxy.index = (uint32_t)ndm.ndm_ifindex;
    proxy.protocol = attr_u8(tb[NDA_PROTOCOL]);
    *ret = proxy;
    return 0;
}

/* Ticks of 1/100 s (USER_HZ), since it answered and since its entry was written. */
static uint32_t neighbour_age(struct attr a)
{
    struct nda_cacheinfo times = {0};

    if (a.p != NULL)
        memcpy(&times, a.p, sizeof(times));
    return (times.ndm_confirmed < times.ndm_updated ? times.ndm_confirmed : times.ndm_updated) / 100;
}

int rt_neighbour_parse(const struct nlmsghdr *nlh, struct rt_neighbour *ret)
{
    struct attr tb[ARRAY_SIZE(neighbour_policy)];
    struct rt_neighbour neighbour = {0};
    struct ndmsg ndm;
    int r;

    if (nlh->nlmsg_type != RTM_NEWNEIGH && nlh->nlmsg_type != RTM_DELNEIGH)
        return -EBADMSG;
    r = attr_parse_message(nlh, &ndm, sizeof(ndm), neighbour_policy, ARRAY_SIZE(neighbour_policy),
                           tb);
    if (r < 0)
        return r;
    if (!family_is_ip(ndm.ndm_family) || (ndm.ndm_flags & NTF_PROXY) != 0 ||
        (ndm.ndm_state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT)) == 0 ||
        tb[NDA_LLADDR].len != sizeof(neighbour.mac))
        return 1;
    if (ndm.ndm_ifindex <= 0 || tb[NDA_DST].p == NULL ||
        addr_from_bytes(ndm.ndm_family, tb[NDA_DST].p, tb[NDA_DST].len, &neighbour.addr) < 0)
        return -EBADMSG;
    neighbour.index = (uint32_t)ndm.ndm_ifindex;
    memcpy(neighbour.mac, tb[NDA_LLADDR].p, sizeof(neighbour.mac));
    neighbour.permanent = (ndm.ndm_state & NUD_PERMANENT) != 0;
    neighbour.age = neighbour_age(tb[NDA_CACHEINFO]);
    *ret = neighbour;
    return 0;
}

/* One dump: the caller's function, by kind. */
struct table_dump {
    rt_begin_fn begin;
    rt_link_fn link;
    rt_addr_fn addr;
    rt_route_fn route;
    rt_proxy_fn proxy;
    rt_neighbour_fn neighbour;
    void *user;
};

static void table_begin(void *user)
{
    const struct table_dump *d = user;

    if (d->begin != NULL)
        d->begin(d->user);
}

static int table_entry(const struct nlmsghdr *nlh, void *user)
{
    const struct table_dump *d = user;
    int r;

    if (d->link != NULL) {
        struct rt_link link;

        r = rt_link_parse(nlh, &link);
        return r == 0 ? d->link(&link, d->user) : r;
    }
    if (d->addr != NULL) {
        struct rt_addr addr;

        r = rt_addr_parse(nlh, &addr);
        return r == 0 ? d->addr(&addr, d->user) : r;
    }
    if (d->proxy != NULL) {
        struct rt_proxy proxy;

        r = rt_proxy_parse(nlh, &proxy);
        return r == 0 ? d->proxy(&proxy, d->user) : r;
    }
    if (d->neighbour != NULL) {
        struct rt_neighbour neighbour;

        r = rt_neighbour_parse(nlh, &neighbour);
        return r == 0 ? d->neighbour(&neighbour, d->user) : r;
    }
    return rt_route_parse(nlh, d->route, d->user);
}

static int table_dump(struct nl_sock *s, struct nlmsghdr *request, struct table_dump *d)
{
    static const struct nl_dump_ops ops = {.begin = table_begin, .entry = table_entry};

    return nl_dump(s, request, &ops, d);
}

/* A request small enough for the stack. */
struct request {
    _Alignas(struct nlmsghdr) uint8_t bytes[128];
};

static void *request_init(struct request *q, uint16_t type, uint16_t flags, size_t header,
                          struct nlmsghdr **ret)
{
    *ret = mnl_nlmsg_put_header(q->bytes);
    (*ret)->nlmsg_type = type;
    (*ret)->nlmsg_flags = flags;
    return mnl_nlmsg_put_extra_header(*ret, header); /* zeroed */
}

int rt_dump_links(struct nl_sock *s, rt_begin_fn begin, rt_link_fn fn, void *user)
{
    struct table_dump d = {.begin = begin, .link = fn, .user = user};
    struct nlmsghdr *nlh;
    struct request q;

    (void)request_init(&q, RTM_GETLINK, 0, sizeof(struct ifinfomsg), &nlh);
    mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    return table_dump(s, nlh, &d);
}

int rt_dump_addrs(struct nl_sock *s, rt_begin_fn begin, rt_addr_fn fn, void *user)
{
    struct table_dump d = {.begin = begin, .addr = fn, .user = user};
    struct nlmsghdr *nlh;
    struct request q;

    (void)request_init(&q, RTM_GETADDR, 0, sizeof(struct ifaddrmsg), &nlh);
    return table_dump(s, nlh, &d);
}

int rt_dump_routes(struct nl_sock *s, rt_begin_fn begin, rt_route_fn fn, void *user)
{
    struct table_dump d = {.begin = begin, .route = fn, .user = user};
    struct nlmsghdr *nlh;
    struct request q;
    struct rtmsg *rtm;

    rtm = request_init(&q, RTM_GETROUTE, 0, sizeof(*rtm), &nlh);
    rtm->rtm_table = RT_TABLE_MAIN;
    rtm->rtm_type = RTN_UNICAST;
    mnl_attr_put_u32(nlh, RTA_TABLE, RT_TABLE_MAIN);
    return table_dump(s, nlh, &d);
}

static int route_request(struct nl_sock *s, uint16_t type, uint16_t flags,
                         const struct rt_route *route)
{
    uint8_t family = route->dst.addr.family;
    struct nlmsghdr *nlh;
    struct request q;
    struct rtmsg *rtm;

    if (route->oif == 0 || !family_is_ip(family) || route->dst.len != addr_bits(family) ||
        route->gateway.family != family)
        return -EINVAL;
    rtm = request_init(&q, type, flags, sizeof(*rtm), &nlh);
    rtm->rtm_family = family;
    rtm->rtm_dst_len = route->dst.len;
    rtm->rtm_table = RT_TABLE_MAIN;
    rtm->rtm_protocol = route->protocol;
    rtm->rtm_scope = RT_SCOPE_UNIVERSE;
    rtm->rtm_type = RTN_UNICAST;
    rtm->rtm_flags = type == RTM_NEWROUTE ? RTNH_F_ONLINK : 0;
    mnl_attr_put(nlh, RTA_DST, addr_size(family), route->dst.addr.bytes);
    mnl_attr_put(nlh, RTA_GATEWAY, addr_size(family), route->gateway.bytes);
    mnl_attr_put_u32(nlh, RTA_OIF, route->oif);
    mnl_attr_put_u32(nlh, RTA_PRIORITY, route->metric);
    return nl_request(s, nlh);
}

int rt_route_add(struct nl_sock *s, const struct rt_route *route)
{
    return route_request(s, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
}

int rt_route_del(struct nl_sock *s, const struct rt_route *route)
{
    int r = route_request(s, RTM_DELROUTE, 0, route);

    return r == -ESRCH || r == -ENODEV ? 0 : r; /* routes go with their link */
}

int rt_dump_proxies(struct nl_sock *s, rt_begin_fn begin, rt_proxy_fn fn, void *user)
{
    struct table_dump d = {.begin = begin, .proxy = fn, .user = user};
    struct nlmsghdr *nlh;
    struct request q;
    struct ndmsg *ndm;

    ndm = request_init(&q, RTM_GETNEIGH, 0, sizeof(*ndm), &nlh);
    ndm->ndm_flags = NTF_PROXY;
    return table_dump(s, nlh, &d);
}

int rt_dump_neighbours(struct nl_sock *s, rt_begin_fn begin, rt_neighbour_fn fn, void *user)
{
    struct table_dump d = {.begin = begin, .neighbour = fn, .user = user};
    struct nlmsghdr *nlh;
    struct request q;

    (void)request_init(&q, RTM_GETNEIGH, 0, sizeof(struct ndmsg), &nlh);
    return table_dump(s, nlh, &d);
}

static int proxy_message(struct request *q, uint16_t type, uint16_t flags, uint32_t index,
                         const struct addr *addr, uint8_t protocol, struct nlmsghdr **ret)
{
    struct nlmsghdr *nlh;
    struct ndmsg *ndm;

    if (index == 0 || index > INT32_MAX || !family_is_ip(addr->family))
        return -EINVAL;
    ndm = request_init(q, type, flags, sizeof(*ndm), &nlh);
    ndm->ndm_family = addr->family;
    ndm->ndm_ifindex = (int32_t)index;
    ndm->ndm_flags = NTF_PROXY;
    mnl_attr_put(nlh, NDA_DST, addr_size(addr->family), addr->bytes);
    if (protocol != 0)
        mnl_attr_put_u8(nlh, NDA_PROTOCOL, protocol);
    *ret = nlh;
    return 0;
}

static int proxy_request(struct nl_sock *s, uint16_t type, uint16_t flags, uint32_t index,
                         const struct addr *addr, uint8_t protocol)
{
    struct nlmsghdr *nlh;
    struct request q;
    int r = proxy_message(&q, type, flags, index, addr, protocol, &nlh);

    return r < 0 ? r : nl_request(s, nlh);
}

#define PROXIES_MAX    1000
#define PROXY_SIZE_MAX 80 /* of one request, aligned */

int rt_proxy_add_many(struct nl_sock *s, const struct rt_proxy *proxies, size_t n)
{
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct nlmsghdr *nlh = NULL;
    size_t len = 0, last = 0;
    struct request q;

    if (n == 0 || n > PROXIES_MAX)
        return n == 0 ? 0 : -E2BIG;
    bytes = calloc(n, PROXY_SIZE_MAX);
    if (bytes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        int r = proxy_message(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, proxies[i].index,
                              &proxies[i].addr, proxies[i].protocol, &nlh);

        if (r < 0)
            return r;
        nlh->nlmsg_flags |= NLM_F_REQUEST;
        memcpy(bytes + len, nlh, nlh->nlmsg_len);
        last = len;
        len += ((size_t)nlh->nlmsg_len + 3) / 4 * 4;
    }
    nlh = (struct nlmsghdr *)(void *)(bytes + last);
    nlh->nlmsg_flags |= NLM_F_ACK; /* errors of the others are told without */
    return nl_batch(s, bytes, len, NULL, NULL);
}

int rt_proxy_add(struct nl_sock *s, uint32_t index, const struct addr *addr, uint8_t protocol)
{
    return proxy_request(s, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, index, addr, protocol);
}

int rt_proxy_del(struct nl_sock *s, uint32_t index, const struct addr *addr)
{
    int r = proxy_request(s, RTM_DELNEIGH, 0, index, addr, 0);

    /* entries go with their link */
    return r == -ENOENT || r == -ENODEV ? 0 : r;
}
