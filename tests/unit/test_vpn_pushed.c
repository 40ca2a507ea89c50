/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a server pushes, as the client reports it, and what the judge lets through. */
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
#include "vpn/profile/pushed.h"
#include "vpn/profile/wireguard.h"

static struct addr addr(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

/* Its own allocation of exactly the line, so that reading beyond it is seen. */
static void add(struct pushed *p, const char *line, size_t len, struct findings *findings)
{
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, line, len);
    pushed_add_openvpn(p, (struct str){copy, len}, findings);
}

/* Lines, one for each '\n'. */
static void add_all(struct pushed *p, const char *lines, struct findings *findings)
{
    struct str rest = str_from(lines), line;

    *p = (struct pushed){0};
    *findings = (struct findings){0};
    while (str_next(&rest, '\n', &line))
        add(p, line.p, line.len, findings);
}

static void show_list(const struct addr *list, size_t n, char *buf, size_t size)
{
    char text[ADDR_STR_MAX];
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i > 0 ? " " : "",
                                 addr_format(&list[i], text));
        assert_true(used < size);
    }
}

static void test_collect(void **state)
{
    struct findings findings;
    struct pushed p;
    char text[256];

    (void)state;
    /* the order is the client's own, backwards */
    add_all(&p,
            "tun_mtu=1400\nscript_type=up\nroute_gateway_1=10.8.0.1\nroute_network_2=10.9.0.0\n"
            "route_network_1=10.7.0.0\nroute_ipv6_network_1=fd00::/8\nredirect_gateway=1\n"
            "OPENVPN_EVIL=1\nforeign_option_4=dhcp-option DOMAIN corp.example\n"
            "foreign_option_3=dhcp-option DNS6 fd00::53\n"
            "foreign_option_2=dhcp-option DNS 10.8.0.2\n"
            "foreign_option_1=dhcp-option DNS 10.8.0.1\n"
            "ifconfig_ipv6_netbits=64\nifconfig_ipv6_local=fd00::1000\n"
            "ifconfig_netmask=255.255.255.0\nifconfig_local=10.8.0.6\ntrusted_ip=192.0.2.1\nEND",
            &findings);
    assert_int_equal(findings.n, 0);
    assert_string_equal(prefix_format(&p.addr4, text), "10.8.0.6/24");
    assert_string_equal(prefix_format(&p.addr6, text), "fd00::1000/64");
    assert_int_equal(p.peer4.family, 0);
    assert_int_equal(p.mtu, 1400);
    show_list(p.dns, p.n_dns, text, sizeof(text));
    assert_string_equal(text, "10.8.0.1 10.8.0.2 fd00::53");
    assert_int_equal(p.n_routes, 4);
    assert_int_equal(p.n_unknown, 2);

    /* "dns" of 2.6 and 2.7 goes first; both forms of one server are one */
    add_all(&p,
            "foreign_option_1=dhcp-option DNS 10.8.0.2\nforeign_option_2=dhcp-option DNS 10.8.0.9\n"
            "dns_server_2_address_1=10.8.0.3\ndns_server_1_address_2=10.8.0.2\n"
            "dns_server_1_address_1=10.8.0.1\ndns_server_1_port_1=53\n"
            "dns_server_1_transport=plain\n"
            "dns_server_2_address_2=fd00::53\nifconfig_local=10.8.0.6\nifconfig_remote=10.8.0.5",
            &findings);
    assert_int_equal(findings.n, 0);
    show_list(p.dns, p.n_dns, text, sizeof(text));
    assert_string_equal(text, "10.8.0.1 10.8.0.2 10.8.0.3 fd00::53 10.8.0.9");
    assert_string_equal(addr_format(&p.peer4, text), "10.8.0.5");
}

static void test_malformed(void **state)
{
    static const struct {
        const char *line, *word; /* NULL: passed over in silence */
    } table[] = {
        {"ifconfig_local=10.8.0", "ifconfig_local"},
        {"ifconfig_local=fd00::1", "ifconfig_local"},
        {"ifconfig_local=", "ifconfig_local"},
        {"ifconfig_local=10.8.0.6\n", "ifconfig_local"},
        {"ifconfig_local=$(reboot)", "ifconfig_local"},
        {"ifconfig_ipv6_local=10.8.0.6", "ifconfig_ipv6_local"},
        {"ifconfig_ipv6_local=fe80::1%eth0", "ifconfig_ipv6_local"},
        {"ifconfig_ipv6_netbits=129", "ifconfig_ipv6_netbits"},
        {"ifconfig_ipv6_netbits=-1", "ifconfig_ipv6_netbits"},
        {"ifconfig_netmask=255.0.255.0", "ifconfig_netmask"},
        {"ifconfig_netmask=0.0.0.0", "ifconfig_netmask"},
        {"ifconfig_netmask=24", "ifconfig_netmask"},
        {"ifconfig_remote=peer", "ifconfig_remote"},
        {"tun_mtu=1e3", "tun_mtu"},
        {"tun_mtu=4294967296", "tun_mtu"},
        {"foreign_option_1=dhcp-option DNS", "foreign_option_1"},
        {"foreign_option_1=dhcp-option DNS 10.8.0.1 x", "foreign_option_1"},
        {"foreign_option_1=dhcp-option DNS `id`", "foreign_option_1"},
        {"dns_server_1_address_1=x", "dns_server_1_address_1"},
        {"dns_server_1_port_1=5353", "dns_server_1_port_1"},
        {"dns_server_1_transport=DoT", "dns_server_1_transport"},
        {"foreign_option_x=dhcp-option DNS 10.8.0.1", NULL},
        {"foreign_option_100000=dhcp-option DNS 10.8.0.1", NULL},
        {"foreign_option_1=*", NULL},
        {"foreign_option_1=", NULL},
        {"dns_server_1=10.8.0.1", NULL},
        {"dns_server_1_address_1_2=10.8.0.1", NULL},
        {"ifconfig_local", NULL},
        {"=", NULL},
        {"", NULL},
    };
    struct findings findings;
    struct pushed p;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        p = (struct pushed){0};
        findings = (struct findings){0};
        add(&p, table[i].line, strlen(table[i].line), &findings);
        assert_int_equal(findings.n, table[i].word != NULL ? 1 : 0);
        if (table[i].word != NULL)
            assert_string_equal(findings.list[0].word, table[i].word);
        assert_int_equal(findings.refused, 0);
        assert_int_equal(p.addr4.addr.family + p.addr6.addr.family + p.peer4.family, 0);
        assert_int_equal(p.addr4.len + p.addr6.len, 0);
        assert_int_equal(p.n_dns + p.mtu, 0);
    }
}

/* 10,000 of them: the first ones by number are kept, whatever comes first. */
static void test_many_dns(void **state)
{
    struct findings findings = {0};
    struct pushed p = {0};
    char line[80];
    int n;

    (void)state;
    for (unsigned i = 10000; i > 0; i--) {
        n = snprintf(line, sizeof(line), "foreign_option_%u=dhcp-option DNS 10.%u.%u.%u", i,
                     i >> 16, i >> 8 & 255, i & 255);
        add(&p, line, (size_t)n, &findings);
    }
    assert_int_equal(p.n_dns, PUSHED_DNS_MAX);
    assert_int_equal(p.more_dns, 10000 - PUSHED_DNS_MAX);
    for (unsigned i = 0; i < PUSHED_DNS_MAX; i++)
        assert_int_equal(p.dns[i].bytes[3], i + 1);
    assert_int_equal(findings.n, 0);
}

static void judge(const struct pushed *p, struct findings *findings, int expected,
                  struct tunnel_facts *t)
{
    static struct addr taken[4];
    static struct prefix uplinks[3];
    struct surroundings around = {taken, ARRAY_SIZE(taken), uplinks, ARRAY_SIZE(uplinks)};

    taken[0] = addr("10.137.0.11");  /* a qube */
    taken[1] = addr("203.0.113.5");  /* the endpoint */
    taken[2] = addr("fd09:24ef:4179::a89:b"); /* a qube */
    taken[3] = addr("10.137.0.20");  /* this qube */
    uplinks[0] = (struct prefix){addr("192.168.77.20"), 24};
    uplinks[1] = (struct prefix){addr("fd77::1"), 64};
    uplinks[2] = (struct prefix){addr("0.0.0.0"), 0}; /* must not mean everything */
    *findings = (struct findings){0};
    *t = (struct tunnel_facts){0};
    assert_int_equal(pushed_judge(p, &around, findings, t), expected);
    if (expected < 0) {
        assert_true(findings->refused > 0);
        assert_int_equal(t->mtu, 0); /* nothing was written */
    } else {
        assert_int_equal(findings->refused, 0);
    }
}

static bool says(const struct findings *findings, enum finding_kind kind, const char *word,
                 const char *text)
{
    for (size_t i = 0; i < findings->n; i++)
        if (findings->list[i].kind == kind && strcmp(findings->list[i].word, word) == 0 &&
            strstr(findings->list[i].text, text) != NULL)
            return true;
    return false;
}

static void test_addresses(void **state)
{
    static const char *const good[] = {
        "10.8.0.6", "10.137.0.12", "10.139.1.3", "100.64.0.7", "172.16.3.2", "192.168.1.5",
        "10.8.0.255", "198.18.0.1", "fd00::2", "fc00:bbbb:bbbb:bb01::3:7", "2a07:b944::2:2",
        "2001:db8::1", "198.51.100.7", "223.255.255.254",
    };
    static const struct {
        const char *address, *why;
    } bad[] = {
        {"10.137.0.11", "in use"},     {"203.0.113.5", "in use"},    {"10.137.0.20", "in use"},
        {"192.168.77.1", "uplink"},    {"192.168.77.255", "uplink"}, {"10.139.1.1", "virtual"},
        {"10.139.1.2", "virtual"},     {"127.0.0.1", "loopback"},    {"169.254.1.1", "link-local"},
        {"224.0.0.5", "multicast"},    {"255.255.255.255", "broadcast"}, {"240.0.0.1", "reserved"},
        {"0.0.0.0", "0.0.0.0/8"},      {"0.1.2.3", "0.0.0.0/8"},     {"::", "unspecified"},
        {"::1", "loopback"},           {"fe80::1", "link-local"},    {"ff02::1", "multicast"},
        {"::ffff:10.8.0.6", "IPv4"},   {"fd77::5", "uplink"},        {"64:ff9b::1", "NAT64"},
        {"fd09:24ef:4179::a89:b", "in use"},
    };
    struct findings findings;
    struct tunnel_facts t;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct addr a = addr(good[i]);
        struct pushed p = {0};

        *(a.family == AF_INET ? &p.addr4 : &p.addr6) = (struct prefix){a, (uint8_t)(i % 30)};
        judge(&p, &findings, 0, &t);
        assert_true(addr_equal(a.family == AF_INET ? &t.addr4.addr : &t.addr6.addr, &a));
        assert_int_equal(a.family == AF_INET ? t.addr4.len : t.addr6.len, addr_bits(a.family));
        assert_int_equal(t.mtu, 1500);
        assert_int_equal(says(&findings, FINDING_NOTE, "address", "is public"),
                         i == 7 || i >= ARRAY_SIZE(good) - 2);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct addr a = addr(bad[i].address);
        struct pushed p = {0};

        *(a.family == AF_INET ? &p.addr4 : &p.addr6) = (struct prefix){a, 24};
        judge(&p, &findings, -EINVAL, &t);
        assert_true(says(&findings, FINDING_LEFT_OUT,
                         a.family == AF_INET ? "address" : "IPv6 address", bad[i].why));
        /* the other family goes on without it */
        *(a.family == AF_INET ? &p.addr6 : &p.addr4) =
            (struct prefix){addr(a.family == AF_INET ? "fd00::2" : "10.8.0.6"), 24};
        judge(&p, &findings, 0, &t);
        assert_int_equal(a.family == AF_INET ? t.addr4.addr.family : t.addr6.addr.family, 0);
    }
}

static void test_mtu(void **state)
{
    static const struct {
        uint32_t pushed;
        uint16_t used;
        bool ip6;
    } table[] = {
        {0, 1500, true},     {1, 576, false},     {68, 576, false},     {576, 576, false},
        {1279, 1279, false}, {1280, 1280, true},  {1420, 1420, true},   {1500, 1500, true},
        {1501, 1500, true},  {9000, 1500, true},  {65536, 1500, true},  {UINT32_MAX, 1500, true},
    };
    struct pushed p = {.addr4 = {addr("10.8.0.6"), 24}, .addr6 = {addr("fd00::2"), 64}};
    struct findings findings;
    struct tunnel_facts t;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        p.mtu = table[i].pushed;
        judge(&p, &findings, 0, &t);
        assert_int_equal(t.mtu, table[i].used);
        assert_int_equal(t.addr6.addr.family != 0, table[i].ip6);
        assert_int_equal(says(&findings, FINDING_NOTE, "MTU", "out of bounds"),
                         p.mtu != 0 && p.mtu != t.mtu);
    }
    p.addr4.addr.family = 0;
    p.mtu = 1279;
    judge(&p, &findings, -EINVAL, &t);
}

static void test_peer(void **state)
{
    static const char *const bad[] = {"10.8.0.6", "255.255.255.0", "10.137.0.11", "192.168.77.1",
                                      "127.0.0.1", "10.139.1.1", "fd00::9"};
    struct pushed p = {.addr4 = {addr("10.8.0.6"), 32}, .peer4 = addr("10.8.0.5")};
    struct findings findings;
    struct tunnel_facts t;

    (void)state;
    judge(&p, &findings, 0, &t);
    assert_true(addr_equal(&t.peer4, &p.peer4));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        p.peer4 = addr(bad[i]);
        judge(&p, &findings, 0, &t);
        assert_int_equal(t.peer4.family, 0);
        assert_true(says(&findings, FINDING_LEFT_OUT, "peer address", ""));
    }
}

static void test_dns(void **state)
{
    static const struct {
        const char *servers, *used, *said;
    } table[] = {
        {"10.8.0.1", "10.8.0.1", ""},
        {"9.9.9.9 1.1.1.1", "9.9.9.9 1.1.1.1", ""},
        {"192.168.1.1 10.8.0.1", "192.168.1.1 10.8.0.1", ""},
        {"10.8.0.1 10.8.0.2 10.8.0.3", "10.8.0.1 10.8.0.2", "10.8.0.3 is not used"},
        {"fd00::53 10.8.0.1", "10.8.0.1", "fd00::53 is not used: qubes ask by IPv4"},
        {"10.8.0.6 10.8.0.1", "10.8.0.1", "10.8.0.6 is this end's own"},
        {"10.139.1.1 10.8.0.1", "10.8.0.1", "virtual name server"},
        {"10.137.0.11 10.8.0.1", "10.8.0.1", "in use"},
        {"203.0.113.5 10.8.0.1", "10.8.0.1", "in use"},
        {"192.168.77.1 10.8.0.1", "10.8.0.1", "uplink"},
        {"127.0.0.53 10.8.0.1", "10.8.0.1", "loopback"},
        {"169.254.169.254 10.8.0.1", "10.8.0.1", "link-local"},
        {"0.0.0.0 255.255.255.255 224.0.0.251 10.8.0.1", "10.8.0.1", "multicast"},
        {"127.0.0.1", "", "none that qubes can ask"},
        {"", "", "none that qubes can ask"},
    };
    struct findings findings;
    struct tunnel_facts t;
    char text[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct pushed p = {.addr4 = {addr("10.8.0.6"), 24}, .addr6 = {addr("fd00::2"), 64}};
        struct str rest = str_from(table[i].servers), one;

        while (table[i].servers[0] != '\0' && str_next(&rest, ' ', &one))
            assert_int_equal(addr_parse(one, &p.dns[p.n_dns++]), 0);
        judge(&p, &findings, 0, &t);
        show_list(t.dns, t.n_dns, text, sizeof(text));
        assert_string_equal(text, table[i].used);
        if (table[i].said[0] == '\0')
            assert_int_equal(findings.n, 0);
        else
            assert_true(says(&findings, FINDING_LEFT_OUT, "name server", table[i].said) ||
                        says(&findings, FINDING_NOTE, "name server", table[i].said));
        /* the same name servers are of no use in a tunnel that does not carry IPv4 */
        p.addr4.addr.family = 0;
        judge(&p, &findings, 0, &t);
        assert_int_equal(t.n_dns, 0);
    }
}

static void test_wireguard(void **state)
{
    struct wireguard_file f = {
        .addresses = {{addr("10.2.0.2"), 32}, {addr("fd00::2"), 128}, {addr("10.2.0.3"), 32}},
        .n_addresses = 3,
        .dns = {addr("10.2.0.1"), addr("fd00::1"), addr("10.2.0.1")},
        .n_dns = 3,
    };
    struct profile profile = {.kind = PROFILE_WIREGUARD, .wireguard = &f};
    struct findings findings;
    struct tunnel_facts t;
    struct pushed p;
    char text[128];

    (void)state;
    memset(&p, 0xff, sizeof(p));
    pushed_from_wireguard(&p, &profile);
    judge(&p, &findings, 0, &t);
    assert_string_equal(addr_format(&t.addr4.addr, text), "10.2.0.2");
    assert_string_equal(addr_format(&t.addr6.addr, text), "fd00::2");
    assert_int_equal(t.mtu, 1420);
    show_list(t.dns, t.n_dns, text, sizeof(text));
    assert_string_equal(text, "10.2.0.1");
    f.mtu = 1280;
    pushed_from_wireguard(&p, &profile);
    assert_int_equal(p.mtu, 1280);
}

/* Addresses that matter come up often. */
static struct addr random_addr(struct rnd *rnd, const struct addr *pool, size_t n)
{
    uint8_t bytes[16];
    struct addr a;

    if (random_below(rnd, 2) == 0)
        return pool[random_below(rnd, (uint32_t)n)];
    random_fill(rnd, bytes, sizeof(bytes));
    if (random_below(rnd, 3) == 0)
        (void)addr_from_bytes(AF_INET6, bytes, 16, &a);
    else
        (void)addr_from_bytes(AF_INET, bytes, 4, &a);
    return a;
}

/* Whatever is pushed: the seal would grant it, and it is nothing of what is around. */
static void test_random(void **state)
{
    struct rnd rnd = random_begin("vpn-pushed");
    struct addr pool[24];
    unsigned good = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct surroundings around = {0};
        struct prefix uplinks[2] = {0};
        struct findings findings = {0};
        struct tunnel_facts t = {0};
        struct pushed p = {0};
        struct addr taken[6];
        struct wish w = {0};
        const char *why = "";

        static const char *const special[] = {
            "10.8.0.6", "10.8.0.1", "10.139.1.1", "127.0.0.1", "0.0.0.0", "255.255.255.255", "::",
            "::1", "fe80::1", "ff02::1", "fd00::2", "::ffff:1.2.3.4", "10.137.0.11", "192.168.77.1",
        };

        for (size_t i = 0; i < ARRAY_SIZE(special); i++)
            pool[i] = addr(special[i]);
        for (size_t i = ARRAY_SIZE(special); i < ARRAY_SIZE(pool); i++)
            pool[i] = random_addr(&rnd, pool, ARRAY_SIZE(special));
        for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
            taken[i] = random_addr(&rnd, pool, ARRAY_SIZE(pool));
        for (size_t i = 0; i < ARRAY_SIZE(uplinks); i++) {
            uplinks[i].addr = random_addr(&rnd, pool, ARRAY_SIZE(pool));
            uplinks[i].len = (uint8_t)random_below(&rnd, addr_bits(uplinks[i].addr.family) + 1u);
        }
        around = (struct surroundings){taken, ARRAY_SIZE(taken), uplinks, ARRAY_SIZE(uplinks)};
        if (random_below(&rnd, 4) > 0)
            p.addr4 = (struct prefix){random_addr(&rnd, pool, ARRAY_SIZE(pool)), 24};
        if (random_below(&rnd, 2) > 0)
            p.addr6 = (struct prefix){random_addr(&rnd, pool, ARRAY_SIZE(pool)), 200};
        p.peer4 = random_addr(&rnd, pool, ARRAY_SIZE(pool));
        p.mtu = random_below(&rnd, 2) > 0 ? random_below(&rnd, 2000) : (uint32_t)random_next(&rnd);
        p.n_dns = random_below(&rnd, 6);
        for (size_t i = 0; i < p.n_dns; i++)
            p.dns[i] = random_addr(&rnd, pool, ARRAY_SIZE(pool));
        if (pushed_judge(&p, &around, &findings, &t) < 0)
            continue;
        good++;
        (void)snprintf(w.tunnel, sizeof(w.tunnel), "%s", SEAL_TUNNEL);
        w.tunnel_addr[0] = t.addr4.addr;
        w.tunnel_addr[1] = t.addr6.addr;
        w.mtu = t.mtu;
        memcpy(w.dns, t.dns, sizeof(w.dns));
        w.n_dns = t.n_dns;
        assert_int_equal(wish_check(&w, &why), 0);
        for (size_t k = 0; k < 5; k++) {
            const struct addr *used = k == 0   ? &t.addr4.addr
                                      : k == 1 ? &t.addr6.addr
                                      : k == 2 ? &t.peer4
                                               : &t.dns[k - 3];

            if (used->family == 0 || (k >= 3 && k - 3 >= t.n_dns))
                continue;
            for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
                assert_false(addr_equal(used, &taken[i]));
            for (size_t i = 0; i < ARRAY_SIZE(uplinks); i++)
                assert_false(uplinks[i].len > 0 && prefix_contains(&uplinks[i], used));
            assert_null(addr_why_unusable(used));
            assert_false(k >= 2 && addr_equal(used, &t.addr4.addr));
        }
        assert_true(t.addr4.addr.family == 0 || t.addr4.len == 32);
        assert_true(t.addr6.addr.family == 0 || (t.addr6.len == 128 && t.mtu >= 1280));
    }
    assert_true(good > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collect),   cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_many_dns),  cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_mtu),       cmocka_unit_test(test_peer),
        cmocka_unit_test(test_dns),       cmocka_unit_test(test_wireguard),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
