/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "test_random.h"

/* Its own allocation of exactly the text, so that reading beyond it is seen. */
static int parse_exact(const char *text, size_t len, struct addr *ret)
{
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return addr_parse((struct str){copy, len}, ret);
}

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static struct prefix prefix_of(const char *text)
{
    struct prefix p;

    assert_int_equal(prefix_parse(str_from(text), &p), 0);
    return p;
}

static void test_parse_good(void **state)
{
    static const struct {
        const char *text, *shown;
        int family;
    } table[] = {
        {"10.137.0.5", "10.137.0.5", AF_INET},
        {"0.0.0.0", "0.0.0.0", AF_INET},
        {"255.255.255.255", "255.255.255.255", AF_INET},
        {"::", "::", AF_INET6},
        {"::1", "::1", AF_INET6},
        {"fd09:24ef:4179::a89:5", "fd09:24ef:4179::a89:5", AF_INET6},
        {"FD09:24EF:4179::A89:5", "fd09:24ef:4179::a89:5", AF_INET6},
        {"fd09:24ef:4179:0:0:0:0a89:0005", "fd09:24ef:4179::a89:5", AF_INET6},
        {"::ffff:10.0.0.1", "::ffff:10.0.0.1", AF_INET6},
        {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", AF_INET6},
        {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304", AF_INET6},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", AF_INET6},
    };
    char buf[ADDR_STR_MAX];
    struct addr a;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(parse_exact(table[i].text, strlen(table[i].text), &a), 0);
        assert_int_equal(a.family, table[i].family);
        assert_string_equal(addr_format(&a, buf), table[i].shown);
    }
    a = addr_of("10.137.0.5");
    for (size_t i = 4; i < sizeof(a.bytes); i++)
        assert_int_equal(a.bytes[i], 0);
}

static void test_parse_bad(void **state)
{
    static const char *const table[] = {
        "", " ", "10.137.0", "10.137.0.5 ", " 10.137.0.5", "10.137.0.5.6", "10.137.0.256",
        "010.137.0.5", "10.137.0.05", "0x0a.1.1.1", "10.137.0.-1", "10.137.0.5/32", "1", "a",
        "10,137,0,5", "localhost", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
        "12345::", "g::1", "fe80::1%eth0", "fe80::1%2", "[::1]", "::1/128", "::1\n",
        "::1.2.3.4.5", "::1.2.3", "::ffff:010.0.0.1", "1.2.3.4::",
        "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555",
        "0000:0000:0000:0000:0000:0000:0000:00000",
    };
    const struct addr untouched = {.family = 77, .bytes = {1, 2, 3}};
    struct addr a = untouched;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(parse_exact(table[i], strlen(table[i]), &a), -EINVAL);
        assert_memory_equal(&a, &untouched, sizeof(a));
    }
    assert_int_equal(parse_exact("10.137.0.5\0", 11, &a), -EINVAL);
    assert_int_equal(parse_exact("10.0.0.1\0x", 10, &a), -EINVAL);
    assert_int_equal(parse_exact("\0" "10.0.0.1", 9, &a), -EINVAL);
    assert_int_equal(addr_parse((struct str){NULL, 0}, &a), -EINVAL);
    assert_memory_equal(&a, &untouched, sizeof(a));
}

static void test_bytes(void **state)
{
    const uint8_t bytes[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    struct addr a, b;

    (void)state;
    assert_int_equal(addr_size(AF_INET), 4);
    assert_int_equal(addr_size(AF_INET6), 16);
    assert_int_equal(addr_size(0), 0);
    assert_int_equal(addr_size(AF_UNIX), 0);
    assert_int_equal(addr_bits(AF_INET), 32);
    assert_int_equal(addr_bits(AF_INET6), 128);
    assert_int_equal(addr_from_bytes(AF_INET, bytes, 16, &a), -EINVAL);
    assert_int_equal(addr_from_bytes(AF_INET6, bytes, 4, &a), -EINVAL);
    assert_int_equal(addr_from_bytes(AF_UNIX, bytes, 0, &a), -EINVAL);
    assert_int_equal(addr_from_bytes(AF_INET, bytes, 4, &a), 0);
    assert_int_equal(addr_from_bytes(AF_INET6, bytes, 16, &b), 0);
    assert_true(addr_compare(&a, &b) < 0);
    assert_true(addr_compare(&b, &a) > 0);
    assert_false(addr_equal(&a, &b));
    b = a;
    assert_true(addr_equal(&a, &b));
    b.bytes[3]++;
    assert_true(addr_compare(&a, &b) < 0);
}

static void test_format_nothing(void **state)
{
    struct addr a = {0};
    char buf[ADDR_STR_MAX], text[PREFIX_STR_MAX];
    struct prefix p = {.addr = {.family = 99}, .len = 255};

    (void)state;
    assert_string_equal(addr_format(&a, buf), "-");
    assert_string_equal(prefix_format(&p, text), "-/255");
}

static void test_prefix_parse(void **state)
{
    static const struct {
        const char *text, *shown;
    } good[] = {
        {"10.0.0.0/8", "10.0.0.0/8"},     {"10.1.2.3", "10.1.2.3"},
        {"10.1.2.3/32", "10.1.2.3"},      {"0.0.0.0/0", "0.0.0.0/0"},
        {"::/0", "::/0"},                 {"fd00::/8", "fd00::/8"},
        {"fd00::1", "fd00::1"},           {"fd00::1/128", "fd00::1"},
        {"255.255.255.254/31", "255.255.255.254/31"},
    };
    static const char *const bad[] = {
        "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/-1",
        "10.0.0.0/ 8", "10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0.0/255.0.0.0",
        "10.0.0.0/4294967304", "::/129", "fd00::1/127", "10.0.0.0/0", "10.0.0.0/a", "::1/0",
    };
    const struct prefix untouched = {.addr = {.family = 77}, .len = 3};
    struct prefix p = untouched;
    char buf[PREFIX_STR_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        p = prefix_of(good[i].text);
        assert_string_equal(prefix_format(&p, buf), good[i].shown);
    }
    p = untouched;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(prefix_parse(str_from(bad[i]), &p), -EINVAL);
        assert_memory_equal(&p, &untouched, sizeof(p));
    }
    assert_int_equal(prefix_parse((struct str){NULL, 0}, &p), -EINVAL);
}

static bool bit(const struct addr *a, unsigned i)
{
    return a->bytes[i / 8] & 0x80 >> i % 8;
}

/* At every length: the range by bits one at a time, and what lies just within and beyond. */
static void test_prefix_every_length(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct rnd rnd = random_begin("prefix lengths");

    (void)state;
    for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
        unsigned bits = addr_bits(families[f]);

        for (unsigned len = 0; len <= bits; len++) {
            struct prefix p = {.addr.family = (uint8_t)families[f], .len = (uint8_t)len};
            struct addr first, last, out;

            random_fill(&rnd, p.addr.bytes, addr_size(families[f]));
            prefix_range(&p, &first, &last);
            for (unsigned i = 0; i < bits; i++) {
                assert_int_equal(bit(&first, i), i < len ? bit(&p.addr, i) : false);
                assert_int_equal(bit(&last, i), i < len ? bit(&p.addr, i) : true);
            }
            for (size_t i = addr_size(families[f]); i < sizeof(first.bytes); i++)
                assert_int_equal(first.bytes[i] | last.bytes[i], 0);
            assert_true(prefix_contains(&p, &first));
            assert_true(prefix_contains(&p, &last));
            assert_true(prefix_contains(&p, &p.addr));
            for (unsigned i = 0; i < bits; i++) {
                out = first;
                out.bytes[i / 8] = (uint8_t)(out.bytes[i / 8] ^ 0x80 >> i % 8);
                assert_int_equal(prefix_contains(&p, &out), i >= len);
            }
            out = first;
            out.family = families[f] == AF_INET ? AF_INET6 : AF_INET;
            assert_false(prefix_contains(&p, &out));
        }
    }
}

static void test_prefix_too_long(void **state)
{
    struct prefix p = {.addr = addr_of("10.0.0.0"), .len = 33};
    struct addr a = addr_of("10.0.0.0");

    (void)state;
    assert_false(prefix_contains(&p, &a)); /* never more than was meant */
    p.len = 255;
    assert_false(prefix_contains(&p, &a));
}

static void test_unusable(void **state)
{
    static const struct {
        const char *addr;
        const char *why; /* part of the phrase; NULL: usable */
    } table[] = {
        {"0.0.0.0", "0.0.0.0/8"}, {"0.255.255.255", "0.0.0.0/8"}, {"1.0.0.0", NULL},
        {"126.255.255.255", NULL}, {"127.0.0.1", "loopback"}, {"127.255.255.255", "loopback"},
        {"128.0.0.0", NULL}, {"169.253.255.255", NULL}, {"169.254.0.0", "link-local"},
        {"169.254.255.255", "link-local"}, {"169.255.0.0", NULL}, {"223.255.255.255", NULL},
        {"224.0.0.0", "multicast"}, {"239.255.255.255", "multicast"}, {"240.0.0.0", "reserved"},
        {"255.255.255.255", "broadcast"}, {"10.139.1.0", NULL}, {"10.139.1.1", "name server"},
        {"10.139.1.2", "name server"}, {"10.139.1.3", NULL}, {"10.137.0.5", NULL},
        {"192.168.1.77", NULL}, {"::", "unspecified"}, {"::1", "loopback"},
        {"::1.2.3.4", "IPv4-compatible"}, {"::ffff:1.2.3.4", "IPv4"}, {"::1:0:0", NULL},
        {"64:ff9b::1.2.3.4", "NAT64"}, {"64:ff9b::1:0:0", NULL}, {"fe80::1", "link-local"},
        {"febf:ffff::1", "link-local"}, {"fe7f::1", NULL}, {"fec0::1", "site-local"},
        {"feff::1", "site-local"}, {"ff00::", "multicast"}, {"ff02::1", "multicast"},
        {"ffff::1", "multicast"}, {"fd09:24ef:4179::a89:5", NULL}, {"2001:db8::5", NULL},
    };
    struct addr none = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct addr a = addr_of(table[i].addr);
        const char *why = addr_why_unusable(&a);

        if ((why == NULL) != (table[i].why == NULL) ||
            (why != NULL && strstr(why, table[i].why) == NULL))
            fail_msg("%s: %s", table[i].addr, why != NULL ? why : "usable");
    }
    assert_non_null(addr_why_unusable(&none));
    none.family = AF_UNIX;
    assert_non_null(addr_why_unusable(&none));
}

/* Whatever is printed is read as the same address. */
static void test_round_trip(void **state)
{
    struct rnd rnd = random_begin("address round trip");
    char buf[ADDR_STR_MAX];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct addr a = {.family = random_below(&rnd, 2) ? AF_INET : AF_INET6}, b;

        random_fill(&rnd, a.bytes, addr_size(a.family));
        for (uint32_t k = random_below(&rnd, 12); k > 0; k--) /* runs of zeros */
            a.bytes[random_below(&rnd, (uint32_t)addr_size(a.family))] = 0;
        assert_int_equal(addr_parse(str_from(addr_format(&a, buf)), &b), 0);
        assert_memory_equal(&a, &b, sizeof(a));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_good),
        cmocka_unit_test(test_parse_bad),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_format_nothing),
        cmocka_unit_test(test_prefix_parse),
        cmocka_unit_test(test_prefix_every_length),
        cmocka_unit_test(test_prefix_too_long),
        cmocka_unit_test(test_unusable),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
