/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Logged packets, right and wrong, and counters of set elements. Needs no kernel. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "netlink/nflog.h"
#include "nft/counter.h"
#include "nft/message.h"

struct message {
    _Alignas(struct nlmsghdr) uint8_t bytes[512];
};

static int parse(uint8_t family, const void *payload, size_t len, struct nflog_packet *ret)
{
    struct message m = {.bytes = {0}};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(m.bytes), *copy;
    struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
    int r;

    nlh->nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET;
    nfg->nfgen_family = family;
    mnl_attr_put_u32(nlh, NFULA_IFINDEX_OUTDEV, htonl(11));
    if (payload != NULL)
        mnl_attr_put(nlh, NFULA_PAYLOAD, len, payload);
    copy = malloc(nlh->nlmsg_len); /* of its exact size: a sanitizer sees what is read beyond */
    assert_non_null(copy);
    memcpy(copy, nlh, nlh->nlmsg_len);
    r = nflog_parse(copy, ret);
    free(copy);
    return r;
}

#define IP4(ihl, fragment, proto)                                                                  \
    ihl "\0\0\x28\0\0" fragment "\x40" proto "\0\0\xc0\xa8\x10\x0a\xc0\xa8\x10\x19"
#define IP6(next)                                                                                  \
    "\x60\0\0\0\0\x14" next "\x40"                                                                 \
    "\x20\x01\x0d\xb8\0\x16\0\0\0\0\0\0\0\0\0\x10\x20\x01\x0d\xb8\0\x16\0\0\0\0\0\0\0\0\0\x25"
#define PORTS "\xc0\x01\0\x50"

static void test_ip4(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        uint8_t proto;
        uint16_t port;
    } table[] = {
        {IP4("\x45", "\0\0", "\6") PORTS, 24, IPPROTO_TCP, 80},
        {IP4("\x45", "\x40\0", "\x11") PORTS, 24, IPPROTO_UDP, 80},
        {IP4("\x45", "\0\0", "\1") "\x8\0\0\0", 24, IPPROTO_ICMP, 0},
        {IP4("\x46", "\0\0", "\6") "\1\1\1\1" PORTS, 28, IPPROTO_TCP, 80},
        {IP4("\x46", "\0\0", "\6") "\1\1", 22, IPPROTO_TCP, 0}, /* cut in the options */
        {IP4("\x45", "\0\0", "\6") "\xc0", 21, IPPROTO_TCP, 0}, /* and in the ports */
        {IP4("\x45", "\0\x10", "\6") PORTS, 24, IPPROTO_TCP, 0}, /* a later fragment has none */
    };
    struct nflog_packet p;
    char buf[ADDR_STR_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(parse(AF_INET, table[i].bytes, table[i].len, &p), 1);
        assert_string_equal(addr_format(&p.src, buf), "192.168.16.10");
        assert_string_equal(addr_format(&p.dst, buf), "192.168.16.25");
        assert_int_equal(p.protocol, table[i].proto);
        assert_int_equal(p.dst_port, table[i].port);
        assert_int_equal(p.out_index, 11);
    }
}

static void test_ip6(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        uint8_t proto;
        uint16_t port;
    } table[] = {
        {IP6("\6") PORTS, 44, IPPROTO_TCP, 80},
        {IP6("\x3a") "\x80\0\0\0", 44, IPPROTO_ICMPV6, 0},
        {IP6("\0") "\x3c\0\1\4\0\0\0\0" "\x6\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0" PORTS, 68, IPPROTO_TCP,
         80},
        {IP6("\x2c") "\x11\0\0\1\0\0\0\1" PORTS, 52, IPPROTO_UDP, 80},
        {IP6("\0") "\x6\xff\1\4\0\0\0\0", 48, IPPROTO_TCP, 0}, /* longer than what came */
        {IP6("\0"), 40, 0, 0},
    };
    struct nflog_packet p;
    char buf[ADDR_STR_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(parse(AF_INET6, table[i].bytes, table[i].len, &p), 1);
        assert_string_equal(addr_format(&p.src, buf), "2001:db8:16::10");
        assert_string_equal(addr_format(&p.dst, buf), "2001:db8:16::25");
        assert_int_equal(p.protocol, table[i].proto);
        assert_int_equal(p.dst_port, table[i].port);
    }
}

static void test_bad(void **state)
{
    static const char ip4[] = IP4("\x45", "\0\0", "\6") PORTS, ip6[] = IP6("\6") PORTS;
    static const char small[] = IP4("\x44", "\0\0", "\6") PORTS;
    struct nflog_packet p;

    (void)state;
    for (size_t len = 1; len < 20; len++)
        assert_int_equal(parse(AF_INET, ip4, len, &p), -EBADMSG);
    for (size_t len = 1; len < 40; len++)
        assert_int_equal(parse(AF_INET6, ip6, len, &p), -EBADMSG);
    assert_int_equal(parse(AF_INET, small, 24, &p), -EBADMSG);
    assert_int_equal(parse(AF_INET, NULL, 0, &p), 0);
    assert_int_equal(parse(AF_INET6, ip4, 24, &p), 0);
    assert_int_equal(parse(AF_INET, ip6, 44, &p), 0);
    assert_int_equal(parse(AF_BRIDGE, ip4, 24, &p), 0);
}

static int take(const struct nft_count *count, void *user)
{
    *(struct nft_count *)user = *count;
    return 0;
}

/* An element with one expression, of that name and with a counter's attributes of that size. */
static int parse_counter(const char *name, size_t size, struct nft_count *ret)
{
    static const uint8_t key[4] = {7}, packets[16] = {0, 0, 0, 1, 0, 0, 0, 2}, bytes[16] = {0xff};
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_NEWSETELEM, NFPROTO_IPV4), *copy;
    struct nlattr *list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM), *nest, *data;
    int r;

    nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
    mnl_attr_put(nlh, NFTA_DATA_VALUE, sizeof(key), key);
    mnl_attr_nest_end(nlh, nest);
    nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_EXPR);
    mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, name);
    data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
    mnl_attr_put(nlh, NFTA_COUNTER_BYTES, size, bytes);
    mnl_attr_put(nlh, NFTA_COUNTER_PACKETS, size, packets);
    mnl_attr_nest_end(nlh, data);
    mnl_attr_nest_end(nlh, nest);
    mnl_attr_nest_end(nlh, element);
    mnl_attr_nest_end(nlh, list);
    copy = malloc(nlh->nlmsg_len);
    assert_non_null(copy);
    memcpy(copy, nlh, nlh->nlmsg_len);
    *ret = (struct nft_count){.packets = 0};
    r = nft_counts_parse(copy, take, ret);
    free(copy);
    return r;
}

static void test_counter(void **state)
{
    struct nft_count e;

    (void)state;
    assert_int_equal(parse_counter("counter", 8, &e), 0);
    assert_int_equal(e.packets, UINT64_C(0x100000002));
    assert_true(e.bytes == UINT64_C(0xff) << 56);
    assert_int_equal(parse_counter("limit", 8, &e), 0);
    assert_int_equal(e.packets, 0);
    assert_int_equal(parse_counter("counter", 4, &e), -EBADMSG);
    assert_int_equal(parse_counter("counter", 16, &e), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ip4),
        cmocka_unit_test(test_ip6),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_counter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
