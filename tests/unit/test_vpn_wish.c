/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the seal may be asked for: what is taken, what is refused and why, and there and back. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_random.h"
#include "vpn/wish/wish.h"

#define TUNNEL "tunnel=qubes-vpn\naddress=10.8.0.2\nmtu=1500\n"

/* From an allocation of exactly this size, so that reading beyond it is seen. */
static int parse(const char *text, size_t len, enum request_kind *ret, struct wish *ret_wish,
                 const char **ret_why)
{
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return request_parse(copy, len, ret, ret_wish, ret_why);
}

static void expect_refused(const char *text, size_t len, const char *reason)
{
    struct wish w, before;
    enum request_kind kind = REQUEST_ON;
    const char *why = NULL;

    memset(&w, 0x5a, sizeof(w));
    memset(&before, 0x5a, sizeof(before));
    if (parse(text, len, &kind, &w, &why) != -EINVAL)
        fail_msg("taken: %s", text);
    assert_non_null(why);
    if (strstr(why, reason) == NULL)
        fail_msg("%s: refused as \"%s\" and not as \"%s\"", text, why, reason);
    /* outputs are written on success only */
    assert_memory_equal(&w, &before, sizeof(w));
    assert_int_equal(kind, REQUEST_ON);
}

static void refused(const char *text, const char *reason)
{
    expect_refused(text, strlen(text), reason);
}

static struct wish taken(const char *text)
{
    struct wish w = {0};
    enum request_kind kind = REQUEST_ON;
    const char *why = "";

    if (parse(text, strlen(text), &kind, &w, &why) != 0)
        fail_msg("%s: %s", text, why);
    assert_int_equal(kind, REQUEST_SET);
    return w;
}

static void test_kinds(void **state)
{
    static const struct {
        const char *text;
        enum request_kind kind;
    } good[] = {
        {"check\n", REQUEST_CHECK}, {"on\n", REQUEST_ON}, {"blackhole\n", REQUEST_BLACKHOLE}};
    char buf[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        enum request_kind kind = REQUEST_SET;
        const char *why;
        struct wish w;

        assert_int_equal(parse(good[i].text, strlen(good[i].text), &kind, &w, &why), 0);
        assert_int_equal(kind, good[i].kind);
        assert_int_equal(request_format(kind, NULL, buf, sizeof(buf)), strlen(good[i].text));
        assert_string_equal(buf, good[i].text);
    }
    refused("", "empty");
    refused("\n", "unknown");
    refused("check", "not ended");
    refused("off\n", "unknown");
    refused("open\n", "unknown");
    refused("SET\n", "unknown");
    refused(" set\n", "unknown");
    refused("set \n", "unknown");
    refused("check\n\n", "takes none");
    refused("blackhole\nproxy=1\n", "takes none");
    expect_refused("check\0\n", 7, "unknown");
}

static void test_whole_wish(void **state)
{
    static const char text[] =
        "set\ncarrier=udp 203.0.113.10 1194 uid\ncarrier=tcp 2001:db8::1 443 uid\n"
        "carrier=udp 203.0.113.11 51820 mark\nresolver=10.139.1.1\n"
        "resolver=2001:db8::53\ntunnel=qubes-vpn\naddress=10.8.0.2\n"
        "address=fd00:8::2\nmtu=1420\ndns=10.64.0.53\ndns=10.64.0.54\n"
        "lookups=1\nproxy=991\n";
    struct wish w = taken(text);
    char buf[WISH_TEXT_MAX];
    int n;

    (void)state;
    assert_int_equal(w.n_carriers, 3);
    assert_int_equal(w.carriers[1].protocol, IPPROTO_TCP);
    assert_int_equal(w.carriers[1].addr.family, AF_INET6);
    assert_true(w.carriers[2].marked && !w.carriers[0].marked);
    assert_int_equal(w.n_resolvers, 2);
    assert_string_equal(w.tunnel, SEAL_TUNNEL);
    assert_int_equal(w.tunnel_addr[1].family, AF_INET6);
    assert_int_equal(w.mtu, 1420);
    assert_int_equal(w.n_dns, 2);
    assert_true(w.lookups && w.proxy);
    assert_int_equal(w.proxy_uid, 991);
    n = request_format(REQUEST_SET, &w, buf, sizeof(buf));
    assert_int_equal(n, sizeof(text) - 1);
    assert_string_equal(buf, text);
    /* with a byte too little nothing of it counts */
    assert_int_equal(request_format(REQUEST_SET, &w, buf, sizeof(text) - 1), -ENOSPC);
    assert_int_equal(request_format(REQUEST_SET, &w, buf, sizeof(text)), n);
}

static void test_nothing_wished(void **state)
{
    struct wish w = taken("set\n"), none = {0};

    (void)state;
    assert_true(wish_equal(&w, &none));
    /* order of lines does not count */
    w = taken("set\nmtu=1500\naddress=10.8.0.2\ntunnel=qubes-vpn\n");
    none = taken("set\n" TUNNEL);
    assert_true(wish_equal(&w, &none));
}

static void test_carriers(void **state)
{
    (void)state;
    refused("set\ncarrier=udp 203.0.113.10 0 uid\n", "port 0");
    refused("set\ncarrier=udp 203.0.113.10 65536 uid\n", "port");
    refused("set\ncarrier=udp 203.0.113.10 01194 uid\n", "port");
    refused("set\ncarrier=udp 203.0.113.10 -1 uid\n", "port");
    refused("set\ncarrier=icmp 203.0.113.10 1 uid\n", "neither udp nor tcp");
    refused("set\ncarrier=udp example.net 1194 uid\n", "address");
    refused("set\ncarrier=udp 203.0.113.10/8 1194 uid\n", "address");
    refused("set\ncarrier=udp 203.0.113.10 1194 root\n", "uid nor by mark");
    refused("set\ncarrier=udp 203.0.113.10 1194\n", "PROTOCOL");
    refused("set\ncarrier=udp 203.0.113.10 1194 uid \n", "PROTOCOL");
    refused("set\ncarrier=udp  203.0.113.10 1194 uid\n", "PROTOCOL");
    refused("set\ncarrier=tcp 203.0.113.10 443 mark\n", "UDP only");
    refused("set\ncarrier\n", "without '='");
    refused("set\nCARRIER=udp 203.0.113.10 1194 uid\n", "unknown");
}

/* No loopback, no multicast, no broadcast, nothing that means another host than it says. */
static void test_addresses(void **state)
{
    static const char *const wrong[] = {
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "febf::1", "ff02::1", "ff0e::1",
        "::ffff:203.0.113.10", "::ffff:127.0.0.1",
    };
    char text[160];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        (void)snprintf(text, sizeof(text), "set\ncarrier=udp %s 1194 uid\n", wrong[i]);
        refused(text, "none that a host can have");
        (void)snprintf(text, sizeof(text), "set\nresolver=%s\n", wrong[i]);
        refused(text, "none that a host can have");
        (void)snprintf(text, sizeof(text), "set\ntunnel=qubes-vpn\nmtu=1500\naddress=%s\n",
                       wrong[i]);
        refused(text, "none that a host can have");
        (void)snprintf(text, sizeof(text), "set\n" TUNNEL "dns=%s\n", wrong[i]);
        refused(text, "no IPv4 address of a host");
    }
    refused("set\n" TUNNEL "dns=2001:db8::53\n", "no IPv4 address");
}

static void test_tunnel(void **state)
{
    static const char *const names[] = {"eth0",     "lo",   "vif1.0",     "qubes-vpn0", "Qubes-vpn",
                                        "qubes-vp", "tun0", "qubes-vpn ", "*"};
    char text[160];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)snprintf(text, sizeof(text), "set\ntunnel=%s\naddress=10.8.0.2\nmtu=1500\n",
                       names[i]);
        refused(text, "another name");
    }
    refused("set\ntunnel=\naddress=10.8.0.2\nmtu=1500\n", "name is none");
    refused("set\ntunnel=0123456789abcdef\n", "name is none");
    expect_refused("set\ntunnel=qubes-vpn\0x\naddress=10.8.0.2\nmtu=1500\n", 49, "name is none");
    refused("set\ntunnel=qubes-vpn\ntunnel=qubes-vpn\n", "repeated");
    refused("set\ntunnel=qubes-vpn\nmtu=1500\n", "without an address");
    refused("set\n" TUNNEL "address=10.8.0.3\n", "two addresses");
    refused("set\ntunnel=qubes-vpn\naddress=10.8.0.2\n", "MTU");
    refused("set\ntunnel=qubes-vpn\naddress=10.8.0.2\nmtu=575\n", "MTU");
    refused("set\ntunnel=qubes-vpn\naddress=10.8.0.2\nmtu=1501\n", "number");
    refused("set\n" TUNNEL "mtu=1500\n", "repeated");
    refused("set\nmtu=1500\n", "no tunnel");
    refused("set\naddress=10.8.0.2\n", "no tunnel");
    refused("set\ndns=10.64.0.53\n", "no tunnel");
    refused("set\ntunnel=qubes-vpn\naddress=fd00::2\nmtu=1500\ndns=10.64.0.53\n", "IPv4");
    (void)taken("set\ntunnel=qubes-vpn\naddress=10.8.0.2\nmtu=576\n");
    (void)taken("set\ntunnel=qubes-vpn\naddress=fd00::2\nmtu=1280\n");
}

static void test_lookups_and_proxy(void **state)
{
    (void)state;
    refused("set\nlookups=1\n", "no name server");
    refused("set\n" TUNNEL "lookups=1\n", "no name server");
    refused("set\n" TUNNEL "dns=10.64.0.53\nlookups=0\n", "unknown or repeated");
    refused("set\n" TUNNEL "dns=10.64.0.53\nlookups=1\nlookups=1\n", "repeated");
    /* root as "the proxy" would be every process of this qube */
    refused("set\nproxy=0\n", "user of its own");
    refused("set\nproxy=4294967295\n", "number");
    refused("set\nproxy=-1\n", "number");
    refused("set\nproxy=991\nproxy=992\n", "repeated");
    (void)taken("set\nproxy=1\n");
}

static void add_lines(char *text, size_t size, const char *before, const char *after, unsigned n)
{
    size_t len = strlen(text);

    for (unsigned i = 0; i < n && len < size; i++)
        len += (size_t)snprintf(text + len, size - len, "%s203.0.113.%u%s\n", before, i % 250 + 1,
                                after);
    assert_true(len < size);
}

static void test_too_many(void **state)
{
    static const struct {
        const char *head, *before, *after, *reason;
        unsigned max;
    } lists[] = {
        {"set\n", "carrier=udp ", " 1194 uid", "more than 64", WISH_CARRIERS_MAX},
        {"set\n", "resolver=", "", "room", WISH_RESOLVERS_MAX},
        {"set\n" TUNNEL, "dns=", "", "room", WISH_DNS_MAX},
    };
    char text[2 * WISH_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        (void)snprintf(text, sizeof(text), "%s", lists[i].head);
        add_lines(text, sizeof(text), lists[i].before, lists[i].after, lists[i].max);
        (void)taken(text);
        add_lines(text, sizeof(text), lists[i].before, lists[i].after, 1);
        refused(text, lists[i].reason);
    }
    memset(text, '\n', sizeof(text));
    memcpy(text, "set\n", 4);
    expect_refused(text, WISH_TEXT_MAX + 1, "too long");
    expect_refused(text, WISH_TEXT_MAX, "without '='");
}

/* A structure that no text made is judged by the same rules. */
static void test_check_alone(void **state)
{
    struct wish w = {.n_carriers = WISH_CARRIERS_MAX + 1};
    const char *why = NULL;

    (void)state;
    assert_int_equal(wish_check(&w, &why), -EINVAL);
    w = (struct wish){.n_carriers = 1, .carriers[0] = {.port = 1, .protocol = IPPROTO_UDP}};
    assert_int_equal(wish_check(&w, &why), -EINVAL); /* no address */
    w = (struct wish){.proxy_uid = 5};
    assert_int_equal(wish_check(&w, &why), -EINVAL);
    w = (struct wish){.proxy = true, .proxy_uid = UINT32_MAX};
    assert_int_equal(wish_check(&w, &why), -EINVAL);
    w = (struct wish){.n_resolvers = WISH_RESOLVERS_MAX + 1};
    assert_int_equal(wish_check(&w, &why), -EINVAL);
    w = (struct wish){.n_dns = WISH_DNS_MAX + 1};
    assert_int_equal(wish_check(&w, &why), -EINVAL);
    /* an IPv6 address where the IPv4 one belongs */
    w = taken("set\n" TUNNEL);
    w.tunnel_addr[0].family = AF_INET6;
    w.tunnel_addr[0].bytes[0] = 0xfd;
    assert_int_equal(wish_check(&w, &why), -EINVAL);
}

static struct addr random_addr(struct rnd *r, bool six)
{
    struct addr a = {.family = six ? AF_INET6 : AF_INET};

    random_fill(r, a.bytes, addr_size(a.family));
    a.bytes[0] = six ? 0x20 : (uint8_t)(1 + random_below(r, 120));
    return a;
}

static struct wish random_wish(struct rnd *r)
{
    struct wish w = {0};

    w.n_carriers = random_below(r, WISH_CARRIERS_MAX + 1);
    for (size_t i = 0; i < w.n_carriers; i++) {
        struct carrier *c = &w.carriers[i];

        c->addr = random_addr(r, random_below(r, 2));
        c->port = (uint16_t)(1 + random_below(r, 65535));
        c->protocol = random_below(r, 2) ? IPPROTO_TCP : IPPROTO_UDP;
        c->marked = c->protocol == IPPROTO_UDP && random_below(r, 2);
    }
    w.n_resolvers = random_below(r, WISH_RESOLVERS_MAX + 1);
    for (size_t i = 0; i < w.n_resolvers; i++)
        w.resolvers[i] = random_addr(r, random_below(r, 2));
    w.proxy = random_below(r, 2);
    w.proxy_uid = w.proxy ? 1 + random_below(r, 70000) : 0;
    if (random_below(r, 4) == 0)
        return w;
    memcpy(w.tunnel, SEAL_TUNNEL, sizeof(SEAL_TUNNEL));
    w.mtu = (uint16_t)(WISH_MTU_MIN + random_below(r, WISH_MTU_MAX - WISH_MTU_MIN + 1));
    w.tunnel_addr[0] = random_addr(r, false);
    if (random_below(r, 2))
        w.tunnel_addr[1] = random_addr(r, true);
    w.n_dns = random_below(r, WISH_DNS_MAX + 1);
    for (size_t i = 0; i < w.n_dns; i++)
        w.dns[i] = random_addr(r, false);
    w.lookups = w.n_dns > 0 && random_below(r, 2);
    return w;
}

/* What was written is read as the same; one wrong byte is refused or is another lawful wish. */
static void test_there_and_back(void **state)
{
    struct rnd r = random_begin("wish");
    char text[WISH_TEXT_MAX];

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        struct wish w = random_wish(&r), back;
        enum request_kind kind;
        const char *why = "";
        int n = request_format(REQUEST_SET, &w, text, sizeof(text));

        assert_true(n > 0);
        if (parse(text, (size_t)n, &kind, &back, &why) != 0)
            fail_msg("%s: %s", text, why);
        assert_true(wish_equal(&w, &back));
        text[random_below(&r, (uint32_t)n)] = (char)random_below(&r, 256);
        if (parse(text, (size_t)n, &kind, &back, &why) == 0 && kind == REQUEST_SET)
            assert_int_equal(wish_check(&back, &why), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_whole_wish),
        cmocka_unit_test(test_nothing_wished),
        cmocka_unit_test(test_carriers),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_lookups_and_proxy),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_check_alone),
        cmocka_unit_test(test_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
