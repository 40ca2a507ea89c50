/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the door's record says, and the elements made of it: exactly what allow_accepts() lets in. */
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
#include "inbound/manager.h"
#include "test_random.h"

static int parse(const char *text, struct door *ret, char *why)
{
    size_t len = strlen(text);
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return door_parse((struct str){copy, len}, ret, why);
}

static void test_parse(void **state)
{
    _cleanup_(door_done) struct door d = {.n = 0};
    char why[DOOR_WHY_MAX], buf[ADDR_STR_MAX];

    (void)state;
    assert_int_equal(parse("v=1|192.168.16.25 allow=tcp/22,443 from 10.0.0.0/8; icmp|fd09::25 allow=",
                           &d, why), 0);
    assert_int_equal(d.n, 2);
    assert_string_equal(addr_format(&d.at[0].addr, buf), "192.168.16.25");
    assert_int_equal(d.at[0].allow.n, 3);
    assert_string_equal(addr_format(&d.at[1].addr, buf), "fd09::25");
    assert_int_equal(d.at[1].allow.n, 0);
    door_done(&d);
    assert_int_equal(parse("v=1", &d, why), 0);
    assert_int_equal(d.n, 0);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "", "v=1|", "v=2", "v=1 ", "1", "v=1|192.168.16.25", "v=1|192.168.16.25 allow",
        "v=1|192.168.16.25 allow=x", "v=1|192.168.16.25  allow=any", "v=1| allow=any",
        "v=1|192.168.16.025 allow=any", "v=1|192.168.16.25/32 allow=any", "v=1|127.0.0.1 allow=any",
        "v=1|fe80::1 allow=any", "v=1|::1 allow=any", "v=1|10.139.1.1 allow=any",
        "v=1|10.1.1.1 allow=any|10.1.1.1 allow=", "v=1|fd09::1 allow=any|fd09:0::1 allow=any",
        "v=1|10.1.1.1 allow=any|", "v=1|10.1.1.1 deny=any", "v=1|10.1.1.1 allow=any\t",
    };

    static const char nine[] =
        "v=1|10.1.1.1 allow=|10.1.1.2 allow=|10.1.1.3 allow=|10.1.1.4 allow=|10.1.1.5 allow="
        "|10.1.1.6 allow=|10.1.1.7 allow=|10.1.1.8 allow=|10.1.1.9 allow=";
    struct door none = {.n = 0};
    char reason[DOOR_WHY_MAX];

    (void)state;
    assert_int_equal(parse(nine, &none, reason), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct door d = {.n = 99};
        char why[DOOR_WHY_MAX];

        assert_int_equal(parse(bad[i], &d, why), -EINVAL);
        assert_true(why[0] != '\0' && d.n == 99);
    }
}

static void test_format(void **state)
{
    _cleanup_(door_done) struct door d = {.n = 0};
    _cleanup_(freep) struct door_element *e = NULL;
    char why[DOOR_WHY_MAX], buf[DOOR_ELEMENT_STR_MAX];
    size_t n;

    (void)state;
    assert_int_equal(parse("v=1|10.1.1.1 allow=tcp/80-81 from 10.0.0.0/8; any from 10.2.3.4", &d,
                           why), 0);
    assert_int_equal(door_elements(&d, &e, &n), 0);
    assert_int_equal(n, 2);
    assert_string_equal(door_format(&e[0], buf), "10.1.1.1: everything from 10.2.3.4-10.2.3.4");
    assert_string_equal(door_format(&e[1], buf),
                        "10.1.1.1: protocol 6, ports 80-81 from 10.0.0.0-10.255.255.255");
    e[0].key.len = 3;
    assert_non_null(strstr(door_format(&e[0], buf), "not ours"));
}

/* What the kernel does with a packet and the elements of one address. */
struct packet {
    struct addr to, from;
    uint8_t proto;
    uint16_t port;
};

static size_t put(uint8_t *at, size_t len, const void *bytes, size_t n)
{
    memcpy(at + len, bytes, n);
    return len + (n + 3) / 4 * 4;
}

/* Each part of the key lies between the parts of both ends. */
static bool between(const struct door_element *e, const uint8_t *key, const size_t *parts)
{
    size_t at = 0;

    for (; *parts > 0; parts++) {
        if (memcmp(key + at, e->key.data + at, *parts) < 0 ||
            memcmp(key + at, e->key.end + at, *parts) > 0)
            return false;
        at += (*parts + 3) / 4 * 4;
    }
    return at == e->key.len;
}

static bool kernel_accepts(const struct door_element *e, size_t n, const struct packet *p)
{
    size_t size = addr_size(p->to.family), hits = 0;
    uint16_t port = htons(p->port);

    for (size_t i = 0; i < n; i++) {
        const size_t from[] = {size, size, 0}, rule[] = {size, 1, 2, size, 0};
        uint8_t key[NFT_KEY_MAX] = {0};
        size_t len = put(key, 0, p->to.bytes, size);

        if (e[i].family != (p->to.family == AF_INET6))
            continue;
        if (e[i].set == DOOR_RULE) {
            len = put(key, len, &p->proto, 1);
            len = put(key, len, &port, 2);
        }
        (void)put(key, len, p->from.bytes, size);
        hits += between(&e[i], key, e[i].set == DOOR_RULE ? rule : from);
    }
    return hits > 0;
}

static struct addr random_addr(struct rnd *rnd, int family)
{
    struct addr a = {.family = (uint8_t)family};

    for (size_t i = 0; i < addr_size(family); i++)
        a.bytes[i] = (uint8_t)(i + 1 < addr_size(family) ? 10 : 1 + random_below(rnd, 3));
    return a;
}

static const char *random_rules(struct rnd *rnd)
{
    static const char *const rules[] = {
        "", "any", "any from 10.10.10.1", "tcp", "udp/1-4; tcp/2 from 10.10.10.0/31", "icmp",
        "tcp/3,1 from 10.10.10.2,0a0a:a0a:a0a:a0a:a0a:a0a:a0a:a02; tcp/1-2", "udp; any from ::/0",
        "icmp from 10.10.10.3; udp/65535", "any from 10.0.0.0/8; tcp/1; icmp",
    };

    return rules[random_below(rnd, ARRAY_SIZE(rules))];
}

static void test_random_packets(void **state)
{
    static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, 132};
    static const uint16_t ports[] = {0, 1, 2, 3, 4, 5, 65535};
    struct rnd rnd = random_begin("packets");

    (void)state;
    for (int i = 0; i < 3000; i++) {
        _cleanup_(freep) struct door_element *e = NULL;
        _cleanup_(door_done) struct door d = {.n = 0};
        char text[600], why[DOOR_WHY_MAX];
        size_t n;

        (void)snprintf(text, sizeof(text), "v=1|10.10.10.1 allow=%s|10.10.10.2 allow=%s|"
                       "a0a:a0a:a0a:a0a:a0a:a0a:a0a:a01 allow=%s", random_rules(&rnd),
                       random_rules(&rnd), random_rules(&rnd));
        assert_int_equal(parse(text, &d, why), 0);
        assert_int_equal(door_elements(&d, &e, &n), 0);
        for (size_t k = 1; k < n; k++)
            assert_true(door_compare(&e[k - 1], &e[k]) < 0);
        for (int k = 0; k < 20; k++) {
            int family = random_below(&rnd, 2) ? AF_INET : AF_INET6;
            struct packet p = {.to = random_addr(&rnd, family), .from = random_addr(&rnd, family),
                               .proto = protos[random_below(&rnd, ARRAY_SIZE(protos))],
                               .port = ports[random_below(&rnd, ARRAY_SIZE(ports))]};
            bool expected = false;

            for (size_t a = 0; a < d.n; a++)
                expected = expected || (addr_equal(&d.at[a].addr, &p.to) &&
                                        allow_accepts(&d.at[a].allow, family, p.proto, p.port,
                                                      &p.from));
            assert_int_equal(kernel_accepts(e, n, &p), expected);
        }
    }
}

static void test_keys(void **state)
{
    _cleanup_(keys_done) struct keys k = {{NULL, NULL}};
    struct str a = STR_LITERAL("a"), b = STR_LITERAL("b");
    const char *value;

    (void)state;
    assert_true(keys_want("/network-server-inbound", NULL));
    assert_false(keys_want("/network-server-inbounds", NULL));
    assert_false(keys_want("/vm-config/expose-inbound.x", NULL));
    assert_null(keys_choose(&k, &value));
    assert_int_equal(keys_set(&k, "/network-server-inbounds", &a), 0);
    assert_null(keys_choose(&k, &value));
    assert_int_equal(keys_set(&k, DOOR_VM_CONFIG_PATH, &b), 0);
    assert_string_equal(keys_choose(&k, &value), DOOR_VM_CONFIG_PATH);
    assert_int_equal(keys_set(&k, DOOR_PATH, &a), 0);
    assert_string_equal(keys_choose(&k, &value), DOOR_PATH);
    assert_string_equal(value, "a");
    assert_int_equal(keys_set(&k, DOOR_PATH, NULL), 0);
    assert_string_equal(keys_choose(&k, &value), DOOR_VM_CONFIG_PATH);
    assert_string_equal(value, "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),          cmocka_unit_test(test_refused),
        cmocka_unit_test(test_format),         cmocka_unit_test(test_random_packets),
        cmocka_unit_test(test_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
