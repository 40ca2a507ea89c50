/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading messages that are not what they should be. Needs no kernel. */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "netlink/attr.h"
#include "netlink/ct.h"
#include "netlink/rt.h"

struct message {
    _Alignas(struct nlmsghdr) uint8_t bytes[512];
};

static struct nlmsghdr *begin(struct message *m, uint16_t type, const void *header, size_t size)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(m->bytes);

    nlh->nlmsg_type = type;
    memcpy(mnl_nlmsg_put_extra_header(nlh, size), header, size);
    return nlh;
}

/*
 * The message as it is, on the heap and no longer than it says: a sanitizer sees every byte read
 * too far.
 */
static struct nlmsghdr *exact(const struct nlmsghdr *nlh)
{
    struct nlmsghdr *copy = malloc(nlh->nlmsg_len);

    assert_non_null(copy);
    memcpy(copy, nlh, nlh->nlmsg_len);
    return copy;
}

static int parse_link(const struct nlmsghdr *nlh, struct rt_link *ret)
{
    _cleanup_(freep) struct nlmsghdr *copy = exact(nlh);

    return rt_link_parse(copy, ret);
}

static void test_attr_next(void **state)
{
    static const uint8_t good[] = {6, 0, 1, 0x80, 'a', 'b', 0, 0, 5, 0, 2, 0, 'c'};
    static const uint8_t small[] = {3, 0, 1, 0}, late[] = {9, 0, 1, 0, 1, 2, 3, 4};
    static const uint8_t rest[] = {4, 0, 1, 0, 7};
    struct cursor c = cursor_from(good, sizeof(good));
    struct attr a;
    uint16_t type;

    (void)state;
    assert_int_equal(attr_next(&c, &type, &a), 1);
    assert_int_equal(type, 1); /* without NLA_F_NESTED */
    assert_int_equal(a.len, 2);
    assert_int_equal(attr_next(&c, &type, &a), 1); /* padding may be missing at the end */
    assert_int_equal(attr_u8(a), 'c');
    assert_int_equal(attr_next(&c, &type, &a), 0);
    c = cursor_from(small, sizeof(small));
    assert_int_equal(attr_next(&c, &type, &a), -EBADMSG);
    c = cursor_from(late, sizeof(late));
    assert_int_equal(attr_next(&c, &type, &a), -EBADMSG);
    c = cursor_from(rest, sizeof(rest));
    assert_int_equal(attr_next(&c, &type, &a), 1);
    assert_int_equal(attr_next(&c, &type, &a), -EBADMSG);
}

static void test_attr_policy(void **state)
{
    static const struct attr_rule policy[] = {[1] = {2, 3}, [3] = {4, 4}};
    static const uint8_t twice[] = {6, 0, 1, 0, 1, 1, 0, 0, 6, 0, 1, 0, 2, 2, 0, 0,
                                    5, 0, 2, 0, 9, 0, 0, 0, 5, 0, 9, 0, 9, 0, 0, 0};
    static const uint8_t little[] = {5, 0, 1, 0, 1, 0, 0, 0}, much[] = {8, 0, 1, 0, 1, 2, 3, 4};
    struct attr tb[ARRAY_SIZE(policy)] = {0};

    (void)state;
    assert_int_equal(attr_parse((struct attr){twice, sizeof(twice)}, policy, 4, tb), 0);
    assert_int_equal(attr_u16be(tb[1]), 0x0202); /* the last one counts */
    assert_null(tb[2].p);
    assert_null(tb[3].p);
    assert_int_equal(attr_u32(tb[3]), 0);
    assert_int_equal(attr_parse((struct attr){little, sizeof(little)}, policy, 4, tb), -EBADMSG);
    assert_int_equal(attr_parse((struct attr){much, sizeof(much)}, policy, 4, tb), -EBADMSG);
    assert_int_equal(attr_u16be(tb[1]), 0x0202); /* untouched */
}

static void test_attr_name(void **state)
{
    static const uint8_t text[] = {'e', 't', 'h', 0, 'x', 0};
    char name[4];

    (void)state;
    assert_int_equal(attr_name((struct attr){text, 4}, name, sizeof(name)), 0);
    assert_string_equal(name, "eth");
    assert_int_equal(attr_name((struct attr){text, 2}, name, sizeof(name)), 0);
    assert_string_equal(name, "et");
    assert_int_equal(attr_name((struct attr){text, 6}, name, sizeof(name)), -EBADMSG);
    assert_int_equal(attr_name((struct attr){text, 4}, name, 3), -EBADMSG);
    assert_int_equal(attr_name((struct attr){text + 3, 1}, name, sizeof(name)), -EBADMSG);
    assert_int_equal(attr_name((struct attr){text, 0}, name, sizeof(name)), -EBADMSG);
    assert_int_equal(attr_name((struct attr){0}, name, sizeof(name)), -EBADMSG);
    assert_true(attr_is_name((struct attr){text, 4}, "eth"));
    assert_false(attr_is_name((struct attr){text, 4}, "et"));
    assert_false(attr_is_name((struct attr){0}, ""));
}

static void test_link(void **state)
{
    struct ifinfomsg ifi = {.ifi_index = 7, .ifi_flags = IFF_UP};
    struct rt_link link = {.index = 99};
    struct message m;
    struct nlmsghdr *nlh = begin(&m, RTM_NEWLINK, &ifi, sizeof(ifi));

    (void)state;
    assert_int_equal(parse_link(nlh, &link), -EBADMSG); /* no name */
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "vif7.0");
    mnl_attr_put_u32(nlh, IFLA_GROUP, 1);
    mnl_attr_put(nlh, IFLA_ADDRESS, 4, "abcd");
    assert_int_equal(parse_link(nlh, &link), 0);
    assert_int_equal(link.index, 7);
    assert_int_equal(link.group, 1);
    assert_string_equal(link.name, "vif7.0");
    assert_int_equal(link.mac[0], 0);
    assert_false(link.carrier);
    nlh->nlmsg_type = RTM_DELLINK;
    assert_int_equal(parse_link(nlh, &link), 0);
    assert_true(link.gone);
    nlh->nlmsg_type = RTM_NEWADDR;
    assert_int_equal(parse_link(nlh, &link), -EBADMSG);
    nlh->nlmsg_type = RTM_NEWLINK;
    nlh->nlmsg_len = 20; /* shorter than its fixed header */
    assert_int_equal(parse_link(nlh, &link), -EBADMSG);

    /* leaving a bridge is no end of a link */
    ifi.ifi_family = AF_BRIDGE;
    nlh = begin(&m, RTM_DELLINK, &ifi, sizeof(ifi));
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "vif7.0");
    link.index = 99;
    assert_int_equal(parse_link(nlh, &link), 1);
    assert_int_equal(link.index, 99);
    ifi = (struct ifinfomsg){.ifi_index = -1};
    nlh = begin(&m, RTM_NEWLINK, &ifi, sizeof(ifi));
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "x");
    assert_int_equal(parse_link(nlh, &link), -EBADMSG);
    nlh = begin(&m, RTM_NEWLINK, &(struct ifinfomsg){.ifi_index = 1}, sizeof(ifi));
    mnl_attr_put(nlh, IFLA_IFNAME, 16, "0123456789abcdef"); /* no end */
    assert_int_equal(parse_link(nlh, &link), -EBADMSG);
    nlh = begin(&m, RTM_NEWLINK, &(struct ifinfomsg){.ifi_index = 1}, sizeof(ifi));
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "x");
    mnl_attr_put_u16(nlh, IFLA_GROUP, 1);
    assert_int_equal(parse_link(nlh, &link), -EBADMSG);
}

static void test_addr(void **state)
{
    struct ifaddrmsg ifa = {.ifa_family = AF_INET, .ifa_index = 7, .ifa_prefixlen = 24};
    struct rt_addr addr;
    struct message m;
    struct nlmsghdr *nlh = begin(&m, RTM_NEWADDR, &ifa, sizeof(ifa));

    (void)state;
    assert_int_equal(rt_addr_parse(nlh, &addr), -EBADMSG);
    mnl_attr_put(nlh, IFA_LOCAL, 16, "0123456789abcdef"); /* of the other family */
    assert_int_equal(rt_addr_parse(nlh, &addr), -EBADMSG);
    mnl_attr_put(nlh, IFA_LOCAL, 4, "\xc0\x00\x02\x01");
    assert_int_equal(rt_addr_parse(nlh, &addr), 0);
    assert_int_equal(addr.prefix.len, 24);
    mnl_attr_put(nlh, IFA_ADDRESS, 4, "\xc0\x00\x02\x02"); /* a peer */
    assert_int_equal(rt_addr_parse(nlh, &addr), 0);
    assert_int_equal(addr.prefix.addr.bytes[3], 1);
    assert_int_equal(addr.prefix.len, 32);
    ifa.ifa_prefixlen = 33;
    nlh = begin(&m, RTM_NEWADDR, &ifa, sizeof(ifa));
    mnl_attr_put(nlh, IFA_LOCAL, 4, "\xc0\x00\x02\x01");
    assert_int_equal(rt_addr_parse(nlh, &addr), -EBADMSG);
    ifa = (struct ifaddrmsg){.ifa_family = AF_PACKET};
    nlh = begin(&m, RTM_NEWADDR, &ifa, sizeof(ifa));
    assert_int_equal(rt_addr_parse(nlh, &addr), 1);
}

struct routes {
    struct rt_route last;
    int count, stop;
};

static int take_route(const struct rt_route *route, void *user)
{
    struct routes *r = user;

    r->last = *route;
    r->count++;
    return r->stop;
}

static int parse_route(const struct nlmsghdr *nlh, struct routes *ret)
{
    _cleanup_(freep) struct nlmsghdr *copy = exact(nlh);

    *ret = (struct routes){.stop = ret->stop};
    return rt_route_parse(copy, take_route, ret);
}

static void test_route(void **state)
{
    const struct rtmsg main4 = {.rtm_family = AF_INET, .rtm_dst_len = 32,
                                .rtm_table = RT_TABLE_MAIN, .rtm_type = RTN_UNICAST};
    struct rtmsg rtm = main4;
    struct routes got = {0};
    struct message m;
    struct nlmsghdr *nlh = begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm));

    (void)state;
    assert_int_equal(parse_route(nlh, &got), -EBADMSG); /* a length and no destination */
    mnl_attr_put(nlh, RTA_DST, 4, "\x0a\x89\x00\x0b");
    assert_int_equal(parse_route(nlh, &got), 1); /* no device */
    mnl_attr_put_u32(nlh, RTA_OIF, 5);
    assert_int_equal(parse_route(nlh, &got), 0);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.last.oif, 5);
    assert_int_equal(got.last.gateway.family, 0);
    got.stop = -ECANCELED;
    assert_int_equal(parse_route(nlh, &got), -ECANCELED);
    got.stop = 0;
    mnl_attr_put_u32(nlh, RTA_TABLE, 78); /* counts before rtm_table */
    assert_int_equal(parse_route(nlh, &got), 1);
    assert_int_equal(got.count, 0);
    mnl_attr_put_u32(nlh, RTA_TABLE, RT_TABLE_MAIN);
    mnl_attr_put(nlh, RTA_GATEWAY, 16, "0123456789abcdef");
    assert_int_equal(parse_route(nlh, &got), -EBADMSG);

    rtm.rtm_dst_len = 33;
    nlh = begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm));
    mnl_attr_put(nlh, RTA_DST, 4, "\x0a\x89\x00\x0b");
    mnl_attr_put_u32(nlh, RTA_OIF, 5);
    assert_int_equal(parse_route(nlh, &got), -EBADMSG);
    rtm = main4;
    rtm.rtm_type = RTN_BLACKHOLE;
    assert_int_equal(parse_route(begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm)), &got), 1);
    rtm = main4;
    rtm.rtm_src_len = 8;
    assert_int_equal(parse_route(begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm)), &got), 1);
    rtm = main4;
    rtm.rtm_family = RTNL_FAMILY_IPMR;
    assert_int_equal(parse_route(begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm)), &got), 1);
}

/* Next hops by hand: each says its own length. */
static void test_route_hops(void **state)
{
    const struct rtmsg rtm = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN,
                              .rtm_type = RTN_UNICAST};
    static const uint8_t good[] = {16, 0, 0, 0, 5, 0, 0, 0, 8, 0, RTA_GATEWAY, 0, 10, 0, 0, 1,
                                   8,  0, 0, 0, 6, 0, 0, 0};
    uint8_t bad[sizeof(good)];
    struct routes got = {0};
    struct message m;
    struct nlmsghdr *nlh = begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm));

    (void)state;
    mnl_attr_put(nlh, RTA_MULTIPATH, sizeof(good), good);
    assert_int_equal(parse_route(nlh, &got), 0);
    assert_int_equal(got.count, 2);
    assert_int_equal(got.last.oif, 6);
    assert_int_equal(got.last.dst.addr.family, AF_INET);
    assert_int_equal(got.last.gateway.family, 0);
    for (unsigned len = 0; len < 40; len++) {
        if (len == 8 || len == 24)
            continue; /* both are well-formed in their way */
        memcpy(bad, good, sizeof(bad));
        bad[16] = (uint8_t)len;
        nlh = begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm));
        mnl_attr_put(nlh, RTA_MULTIPATH, sizeof(bad), bad);
        assert_int_equal(parse_route(nlh, &got), -EBADMSG);
    }
    memcpy(bad, good, sizeof(bad));
    bad[8] = 12; /* the attribute reaches beyond its hop */
    nlh = begin(&m, RTM_NEWROUTE, &rtm, sizeof(rtm));
    mnl_attr_put(nlh, RTA_MULTIPATH, sizeof(bad), bad);
    assert_int_equal(parse_route(nlh, &got), -EBADMSG);
}

static void test_proxy(void **state)
{
    struct ndmsg ndm = {.ndm_family = AF_INET, .ndm_ifindex = 3, .ndm_flags = NTF_PROXY};
    struct rt_proxy proxy;
    struct message m;
    struct nlmsghdr *nlh = begin(&m, RTM_NEWNEIGH, &ndm, sizeof(ndm));

    (void)state;
    assert_int_equal(rt_proxy_parse(nlh, &proxy), -EBADMSG);
    mnl_attr_put(nlh, NDA_DST, 4, "\x0a\x89\x00\x0b");
    assert_int_equal(rt_proxy_parse(nlh, &proxy), 0);
    assert_int_equal(proxy.protocol, 0);
    mnl_attr_put_u32(nlh, NDA_PROTOCOL, 77);
    assert_int_equal(rt_proxy_parse(nlh, &proxy), -EBADMSG);
    ndm.ndm_flags = 0; /* an ordinary neighbour */
    assert_int_equal(rt_proxy_parse(begin(&m, RTM_NEWNEIGH, &ndm, sizeof(ndm)), &proxy), 1);
}

static void test_neighbour(void **state)
{
    static const uint16_t unknown[] = {NUD_NONE, NUD_INCOMPLETE, NUD_FAILED, NUD_NOARP};
    struct ndmsg ndm = {.ndm_family = AF_INET, .ndm_ifindex = 3, .ndm_state = NUD_STALE};
    struct nda_cacheinfo times = {.ndm_confirmed = 6000, .ndm_updated = 1250};
    struct rt_neighbour n;
    struct message m;
    struct nlmsghdr *nlh = begin(&m, RTM_NEWNEIGH, &ndm, sizeof(ndm));

    (void)state;
    mnl_attr_put(nlh, NDA_DST, 4, "\x0a\x89\x00\x0b");
    assert_int_equal(rt_neighbour_parse(nlh, &n), 1); /* where it is is not known */
    mnl_attr_put(nlh, NDA_LLADDR, 6, "\x02\0\0\0\0\x07");
    assert_int_equal(rt_neighbour_parse(nlh, &n), 0);
    assert_int_equal(n.index, 3);
    assert_memory_equal(n.mac, "\x02\0\0\0\0\x07", 6);
    assert_false(n.permanent);
    mnl_attr_put(nlh, NDA_CACHEINFO, sizeof(times), &times);
    assert_int_equal(rt_neighbour_parse(nlh, &n), 0);
    assert_int_equal(n.age, 12);
    mnl_attr_put(nlh, NDA_CACHEINFO, sizeof(times) - 4, &times);
    assert_int_equal(rt_neighbour_parse(nlh, &n), -EBADMSG);

    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        ndm.ndm_state = unknown[i];
        nlh = begin(&m, RTM_NEWNEIGH, &ndm, sizeof(ndm));
        mnl_attr_put(nlh, NDA_DST, 4, "\x0a\x89\x00\x0b");
        mnl_attr_put(nlh, NDA_LLADDR, 6, "\x02\0\0\0\0\x07");
        assert_int_equal(rt_neighbour_parse(nlh, &n), 1);
    }
    ndm = (struct ndmsg){.ndm_family = AF_INET6, .ndm_ifindex = 3, .ndm_state = NUD_PERMANENT};
    nlh = begin(&m, RTM_NEWNEIGH, &ndm, sizeof(ndm));
    mnl_attr_put(nlh, NDA_LLADDR, 6, "\x02\0\0\0\0\x07");
    assert_int_equal(rt_neighbour_parse(nlh, &n), -EBADMSG); /* whose? */
    mnl_attr_put(nlh, NDA_DST, 4, "\x0a\x89\x00\x0b");
    assert_int_equal(rt_neighbour_parse(nlh, &n), -EBADMSG); /* not of its family */
    ndm.ndm_flags = NTF_PROXY;
    assert_int_equal(rt_neighbour_parse(begin(&m, RTM_NEWNEIGH, &ndm, sizeof(ndm)), &n), 1);
}

static void put_tuple(struct nlmsghdr *nlh, uint16_t type, size_t addr_len, bool proto)
{
    struct nlattr *tuple = mnl_attr_nest_start(nlh, type);
    struct nlattr *ip = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);

    mnl_attr_put(nlh, CTA_IP_V4_SRC, addr_len, "\x0a\x00\x00\x01");
    mnl_attr_put(nlh, CTA_IP_V4_DST, 4, "\x0a\x00\x00\x02");
    mnl_attr_nest_end(nlh, ip);
    if (proto) {
        ip = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
        mnl_attr_put_u8(nlh, CTA_PROTO_NUM, 6);
        mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, htons(1234));
        mnl_attr_nest_end(nlh, ip);
    }
    mnl_attr_nest_end(nlh, tuple);
}

static void test_flow(void **state)
{
    const uint16_t type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
    struct nfgenmsg nfg = {.nfgen_family = AF_INET};
    struct ct_flow flow;
    struct message m;
    struct nlmsghdr *nlh = begin(&m, type, &nfg, sizeof(nfg));
    struct nlattr *first;

    (void)state;
    put_tuple(nlh, CTA_TUPLE_ORIG, 4, true);
    first = mnl_nlmsg_get_payload_offset(nlh, sizeof(nfg));
    put_tuple(nlh, CTA_TUPLE_REPLY, 4, true);
    assert_int_equal(ct_flow_parse(nlh, &flow), -EBADMSG); /* what cannot be named */
    mnl_attr_put_u32(nlh, CTA_ID, htonl(9));
    assert_int_equal(ct_flow_parse(nlh, &flow), 0);
    assert_int_equal(flow.id, 9);
    assert_int_equal(flow.orig.src_port, 1234);
    assert_int_equal(flow.orig.dst_port, 0);
    first->nla_len = 8; /* cuts the tuple's inside off */
    assert_int_equal(ct_flow_parse(nlh, &flow), -EBADMSG);

    nlh = begin(&m, type, &nfg, sizeof(nfg));
    put_tuple(nlh, CTA_TUPLE_ORIG, 3, true);
    put_tuple(nlh, CTA_TUPLE_REPLY, 4, true);
    mnl_attr_put_u32(nlh, CTA_ID, htonl(9));
    assert_int_equal(ct_flow_parse(nlh, &flow), -EBADMSG);
    nlh = begin(&m, type, &nfg, sizeof(nfg));
    put_tuple(nlh, CTA_TUPLE_ORIG, 4, true);
    put_tuple(nlh, CTA_TUPLE_REPLY, 4, false);
    mnl_attr_put_u32(nlh, CTA_ID, htonl(9));
    assert_int_equal(ct_flow_parse(nlh, &flow), -EBADMSG);
    nfg.nfgen_family = AF_INET6; /* IPv4 addresses in an IPv6 flow */
    nlh = begin(&m, type, &nfg, sizeof(nfg));
    put_tuple(nlh, CTA_TUPLE_ORIG, 4, true);
    put_tuple(nlh, CTA_TUPLE_REPLY, 4, true);
    mnl_attr_put_u32(nlh, CTA_ID, htonl(9));
    assert_int_equal(ct_flow_parse(nlh, &flow), -EBADMSG);
}

static void test_error(void **state)
{
    struct nlmsgerr e = {.error = -EPERM, .msg = {.nlmsg_len = 64}};
    char text[64];
    int error = 99;
    struct message m;
    struct nlmsghdr *nlh = begin(&m, NLMSG_ERROR, &e, sizeof(e));

    (void)state;
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), 0);
    assert_int_equal(error, -EPERM);
    assert_string_equal(text, "");
    /* the attributes are behind the message complained about, which is longer than what came */
    nlh->nlmsg_flags = NLM_F_ACK_TLVS;
    mnl_attr_put_strz(nlh, NLMSGERR_ATTR_MSG, "no \x1b[1m way");
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), 0);
    assert_string_equal(text, "");
    nlh->nlmsg_flags |= NLM_F_CAPPED;
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), 0);
    assert_string_equal(text, "no \\x1b[1m way");
    e.error = 1;
    nlh = begin(&m, NLMSG_ERROR, &e, sizeof(e));
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), -EBADMSG);
    e.error = INT32_MIN;
    nlh = begin(&m, NLMSG_ERROR, &e, sizeof(e));
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), -EBADMSG);
    nlh->nlmsg_len = 32;
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), -EBADMSG);
    nlh = begin(&m, NLMSG_DONE, "", 0);
    assert_int_equal(nl_error_parse(nlh, &error, text, sizeof(text)), 0);
    assert_int_equal(error, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attr_next), cmocka_unit_test(test_attr_policy),
        cmocka_unit_test(test_attr_name), cmocka_unit_test(test_link),
        cmocka_unit_test(test_addr),      cmocka_unit_test(test_route),
        cmocka_unit_test(test_route_hops), cmocka_unit_test(test_proxy), cmocka_unit_test(test_neighbour),
        cmocka_unit_test(test_flow),      cmocka_unit_test(test_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
