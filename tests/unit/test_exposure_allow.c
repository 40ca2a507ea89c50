/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The grammar of allow and publish. What the entries then let through: test_exposure_disjoint.c. */
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
#include "exposure/allow.h"

/* Its own allocation of exactly the text, so that reading beyond it is seen. */
static char *exact(const char *text, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static int parse(const char *text, struct allow *ret, char *why)
{
    _cleanup_(freep) char *copy = exact(text, strlen(text));

    return allow_parse((struct str){copy, strlen(text)}, ret, why);
}

static int parse_publish(const char *text, struct publish *ret, char *why)
{
    _cleanup_(freep) char *copy = exact(text, strlen(text));

    return publish_parse((struct str){copy, strlen(text)}, ret, why);
}

static const char *proto_name(enum allow_proto proto)
{
    static const char *const names[] = {"any", "tcp", "udp", "icmp"};

    return names[proto];
}

/* "tcp/80-80 from 10.0.0.0/8;..." */
static void show(const struct allow *a, char *buf, size_t size)
{
    char net[PREFIX_STR_MAX];
    size_t n = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < a->n; i++) {
        const struct allow_entry *e = &a->entries[i];
        const char *from = e->from.addr.family != 0 ? prefix_format(&e->from, net) : "*";

        n += (size_t)snprintf(buf + n, size - n, "%s%s/%u-%u %s", i > 0 ? ";" : "",
                              proto_name(e->proto), e->port_lo, e->port_hi, from);
        assert_true(n < size);
    }
}

static void test_good(void **state)
{
    static const struct {
        const char *text, *entries;
    } table[] = {
        {"", ""},
        {"  \t ", ""},
        {"any", "any/0-65535 *"},
        {"tcp", "tcp/0-65535 *"},
        {"icmp", "icmp/0-65535 *"},
        {"tcp/80", "tcp/80-80 *"},
        {" tcp/80\t", "tcp/80-80 *"},
        {"udp/1-65535", "udp/1-65535 *"},
        {"tcp/22,443", "tcp/22-22 *;tcp/443-443 *"},
        {"tcp/22,8000-8100", "tcp/22-22 *;tcp/8000-8100 *"},
        {"tcp/80;udp/53", "tcp/80-80 *;udp/53-53 *"},
        {"tcp/80 ; udp/53 ", "tcp/80-80 *;udp/53-53 *"},
        {"tcp/80 from 192.168.1.0/24", "tcp/80-80 192.168.1.0/24"},
        {"tcp/80\tfrom\t192.168.1.7", "tcp/80-80 192.168.1.7"},
        {"any from fd00::/8", "any/0-65535 fd00::/8"},
        {"icmp from 0.0.0.0/0,::/0", "icmp/0-65535 0.0.0.0/0;icmp/0-65535 ::/0"},
        {"tcp/1,2 from 10.0.0.0/8,::1",
         "tcp/1-1 10.0.0.0/8;tcp/1-1 ::1;tcp/2-2 10.0.0.0/8;tcp/2-2 ::1"},
        {"tcp/80;tcp/80", "tcp/80-80 *;tcp/80-80 *"},
        {"tcp/22,443 from 192.168.16.0/24",
         "tcp/22-22 192.168.16.0/24;tcp/443-443 192.168.16.0/24"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_(allow_done) struct allow a = {0};
        char why[ALLOW_WHY_MAX], shown[400];

        assert_int_equal(parse(table[i].text, &a, why), 0);
        show(&a, shown, sizeof(shown));
        assert_string_equal(shown, table[i].entries);
    }
}

static void test_bad(void **state)
{
    static const char *const table[] = {
        ";", "tcp/80;", ";tcp/80", "tcp/80;;udp/53", "tcp/80; ;udp/53", "TCP/80", "Any", "sctp/80",
        "6", "tcp/", "tcp/0", "tcp/65536", "tcp/080", "tcp/80-", "tcp/-80", "tcp/80-79",
        "tcp/1-2-3", "tcp/0-5", "tcp/80,", "tcp/,80", "tcp/80,,81", "tcp/80, 81", "tcp /80",
        "tcp/ 80", "tcp/http", "tcp/80/81", "any/80", "icmp/8", "icmp/", "any/", "/80",
        "tcp/80 from", "tcp/80 from ", "from 10.0.0.0/8", "tcp/80 10.0.0.0/8",
        "tcp/80 to 10.0.0.0/8", "tcp/80 FROM 10.0.0.0/8", "tcp/80 from 10.0.0.1/8",
        "tcp/80 from 10.0.0.0/8,", "tcp/80 from ,10.0.0.0/8", "tcp/80 from 10.0.0.0/8, 11.0.0.0/8",
        "tcp/80 from 10.0.0.0/8 x", "tcp/80 from any", "tcp/80 from 10.0.0.0/33",
        "tcp/80 from host.example", "tcp/80 from from 10.0.0.0/8", "tcp/80\nudp/53", "tcp/80\n",
        "tcp/99999999999999999999", "tcp/+80", "tcp/0x50", "\x1b[31m", "tcp/80 from \xff",
        "tcp/80 from 10.0.0.0/8 from 11.0.0.0/8",
    };
    struct allow untouched = {(struct allow_entry *)(void *)&untouched, 77}, a = untouched;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char why[ALLOW_WHY_MAX];

        memset(why, 0x80, sizeof(why));
        if (parse(table[i], &a, why) != -EINVAL)
            fail_msg("\"%s\" was accepted", table[i]);
        assert_memory_equal(&a, &untouched, sizeof(a));
        assert_non_null(memchr(why, '\0', sizeof(why)));
        assert_true(why[0] != '\0');
        for (const char *c = why; *c != '\0'; c++) /* for a person's terminal */
            assert_true(*c >= 0x20 && *c < 0x7f);
    }
    assert_int_equal(allow_parse((struct str){"tcp/80\0", 7}, &a, (char[ALLOW_WHY_MAX]){0}),
                     -EINVAL);
}

/* n pieces of "1,2,3,..." after text */
static char *numbers(const char *text, unsigned n, const char *tail)
{
    char *buf = malloc(16 * (size_t)n + 64);
    size_t at;

    if (buf == NULL) /* gcc does not know that assert_non_null() does not return */
        abort();
    at = (size_t)sprintf(buf, "%s", text);
    for (unsigned i = 1; i <= n; i++)
        at += (size_t)sprintf(buf + at, "%s%u", i > 1 ? "," : "", 2 * i);
    (void)sprintf(buf + at, "%s", tail);
    return buf;
}

static void test_limits(void **state)
{
    _cleanup_(freep) char *most = numbers("tcp/", 64, " from 10.0.0.0/8,11.0.0.0/8,12.0.0.0/8,::1");
    _cleanup_(freep) char *ports = numbers("tcp/", 65, "");
    _cleanup_(freep) char *product =
        numbers("tcp/", 64, " from 10.0.0.0/8,11.0.0.0/8,12.0.0.0/8,::1,::2");
    char nets[65 * 9 + 20] = "tcp from ", why[ALLOW_WHY_MAX], full[600];
    struct allow a = {0};

    (void)state;
    assert_int_equal(parse(most, &a, why), 0);
    assert_int_equal(a.n, ALLOW_MAX_ENTRIES);
    allow_done(&a);
    assert_null(a.entries);
    assert_int_equal(parse(product, &a, why), -E2BIG);
    assert_true(why[0] != '\0');
    assert_int_equal(parse(ports, &a, why), -EINVAL);
    (void)snprintf(full, sizeof(full), "%s;tcp/1", most);
    assert_int_equal(parse(full, &a, why), -E2BIG);
    for (unsigned i = 0; i < 65; i++)
        (void)sprintf(nets + strlen(nets), "%s1.0.0.%u", i > 0 ? "," : "", i);
    assert_int_equal(parse(nets, &a, why), -EINVAL);
    *strrchr(nets, ',') = '\0';
    assert_int_equal(parse(nets, &a, why), 0);
    assert_int_equal(a.n, 64);
    allow_done(&a);
    allow_done(&a); /* twice is fine */
}

static void test_publish_good(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        struct publish_entry first;
    } table[] = {
        {"", 0, {0}},
        {" ", 0, {0}},
        {"tcp/8443:443", 1, {ALLOW_PROTO_TCP, 8443, 8443, 443, {{0}, 0}}},
        {"udp/53", 1, {ALLOW_PROTO_UDP, 53, 53, 53, {{0}, 0}}},
        {"tcp/8000-8010:80-90", 1, {ALLOW_PROTO_TCP, 8000, 8010, 80, {{0}, 0}}},
        {"tcp/65535:65535;udp/1:1", 2, {ALLOW_PROTO_TCP, 65535, 65535, 65535, {{0}, 0}}},
        {"tcp/1-65535", 1, {ALLOW_PROTO_TCP, 1, 65535, 1, {{0}, 0}}},
        {"tcp/80:8080 from 10.0.0.0/8,::/0", 2,
         {ALLOW_PROTO_TCP, 80, 80, 8080, {{AF_INET, {10}}, 8}}},
        {"tcp/80;udp/80:81", 2, {ALLOW_PROTO_TCP, 80, 80, 80, {{0}, 0}}},
        {"tcp/80;tcp/80", 2, {ALLOW_PROTO_TCP, 80, 80, 80, {{0}, 0}}},
        {"tcp/80-90:180-190;tcp/85:185", 2, {ALLOW_PROTO_TCP, 80, 90, 180, {{0}, 0}}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_(publish_done) struct publish p = {0};
        char why[ALLOW_WHY_MAX];

        assert_int_equal(parse_publish(table[i].text, &p, why), 0);
        assert_int_equal(p.n, table[i].n);
        if (p.n > 0) {
            assert_int_equal(p.entries[0].proto, table[i].first.proto);
            assert_int_equal(p.entries[0].outside_lo, table[i].first.outside_lo);
            assert_int_equal(p.entries[0].outside_hi, table[i].first.outside_hi);
            assert_int_equal(p.entries[0].inside_lo, table[i].first.inside_lo);
            assert_memory_equal(&p.entries[0].from, &table[i].first.from, sizeof(struct prefix));
        }
    }
}

static void test_publish_bad(void **state)
{
    static const char *const table[] = {
        ";", "tcp/80;", "tcp", "any/80", "icmp", "tcp/", "tcp/0", "tcp/80:", "tcp/:80",
        "tcp/80:0", "tcp/80:65536", "tcp/80:81:82", "tcp/80-90:80", "tcp/80:80-90",
        "tcp/80-90:80-91", "tcp/80,81", "tcp/80:81,82", "tcp/80 from", "tcp/80 to 10.0.0.0/8",
        "tcp/80 : 81", "tcp/80;tcp/80:81", "tcp/80-90;tcp/85:185",
        "tcp/80 from ::1;tcp/80:1 from ::2",
        "tcp/-1:80", "tcp//80",
    };
    struct publish untouched = {(struct publish_entry *)(void *)&untouched, 77}, p = untouched;
    char why[ALLOW_WHY_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (parse_publish(table[i], &p, why) != -EINVAL)
            fail_msg("\"%s\" was accepted", table[i]);
        assert_memory_equal(&p, &untouched, sizeof(p));
        assert_true(why[0] != '\0');
    }
}

static void test_publish_limit(void **state)
{
    char text[65 * 12 + 1] = "", why[ALLOW_WHY_MAX];
    struct publish p = {0};

    (void)state;
    for (unsigned i = 1; i <= 65; i++)
        (void)sprintf(text + strlen(text), "%stcp/%u", i > 1 ? ";" : "", i);
    assert_int_equal(parse_publish(text, &p, why), -E2BIG);
    assert_true(why[0] != '\0');
    *strrchr(text, ';') = '\0';
    assert_int_equal(parse_publish(text, &p, why), 0);
    assert_int_equal(p.n, PUBLISH_MAX_ENTRIES);
    publish_done(&p);
    assert_null(p.entries);
}

static void test_publish_leads(void **state)
{
    _cleanup_(publish_done) struct publish p = {0};
    struct addr near = {AF_INET, {10, 1, 2, 3}}, far = {AF_INET, {11, 1, 2, 3}};
    struct addr six = {AF_INET6, {0xfd}};
    char why[ALLOW_WHY_MAX];

    (void)state;
    assert_int_equal(parse_publish("tcp/8000-8010:80-90 from 10.0.0.0/8;udp/53", &p, why), 0);
    assert_true(publish_leads(&p, IPPROTO_TCP, 8000, 80, &near));
    assert_true(publish_leads(&p, IPPROTO_TCP, 8010, 90, &near));
    assert_false(publish_leads(&p, IPPROTO_TCP, 8000, 81, &near));
    assert_false(publish_leads(&p, IPPROTO_TCP, 8011, 91, &near));
    assert_false(publish_leads(&p, IPPROTO_TCP, 7999, 79, &near));
    assert_false(publish_leads(&p, IPPROTO_TCP, 8000, 80, &far));
    assert_false(publish_leads(&p, IPPROTO_UDP, 8000, 80, &near));
    assert_false(publish_leads(&p, IPPROTO_TCP, 53, 53, &near));
    assert_true(publish_leads(&p, IPPROTO_UDP, 53, 53, &far));
    assert_true(publish_leads(&p, IPPROTO_UDP, 53, 53, &six));
    assert_false(publish_leads(&p, IPPROTO_TCP, 8000, 80, &six));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),          cmocka_unit_test(test_bad),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_publish_good),
        cmocka_unit_test(test_publish_bad),   cmocka_unit_test(test_publish_limit),
        cmocka_unit_test(test_publish_leads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
