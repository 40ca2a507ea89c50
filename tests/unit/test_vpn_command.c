/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is pure in the command: destinations, names in JSON, and the leak test's frames and witness.
 */
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
#include "vpn/command/explain.h"
#include "vpn/command/line.h"
#include "vpn/command/say.h"
#include "vpn/command/selftest_watch.h"

#define RANDOM "abcdefghijkl"

static void test_bytes(void **state)
{
    char buf[16];

    (void)state;
    assert_string_equal(say_bytes(0, buf), "0 B");
    assert_string_equal(say_bytes(1023, buf), "1023 B");
    assert_string_equal(say_bytes(1536, buf), "1.5 KiB");
    assert_string_equal(say_bytes(1234567890, buf), "1.1 GiB");
    assert_string_equal(say_bytes(UINT64_MAX, buf), "16.0 EiB");
}

static void check_destination(const char *text, const char *addr, unsigned port)
{
    char buf[ADDR_STR_MAX];
    struct destination d;

    assert_int_equal(destination_parse(text, &d), 0);
    if (addr == NULL)
        assert_int_equal(d.addr.family, 0);
    else
        assert_string_equal(addr_format(&d.addr, buf), addr);
    assert_int_equal(d.port, port);
}

static void test_destinations(void **state)
{
    static const char *const wrong[] = {"",        ":80",   "192.0.2.1:",     "192.0.2.1:0",
                                        "a:65536", "a:8o",  "[2001:db8::1",   "[2001:db8::1]80",
                                        "[a]:80",  "a b",   "[192.0.2.1]:80", "\x1b[31m",
                                        "a/b",     "[]:80", "2001:db8::zz"};
    struct destination d;

    (void)state;
    check_destination("192.0.2.1", "192.0.2.1", 0);
    check_destination("192.0.2.1:443", "192.0.2.1", 443);
    check_destination("2001:db8::1", "2001:db8::1", 0);
    check_destination("[2001:db8::1]:443", "2001:db8::1", 443);
    check_destination("[2001:db8::1]", "2001:db8::1", 0);
    check_destination("www.example.org:80", NULL, 80);
    check_destination("host", NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(destination_parse(wrong[i], &d), -EINVAL);
}

static void test_dns(void **state)
{
    static const char *const yes[] = {"10.139.1.1", "10.139.1.2:53"}, *const no[] = {
                                                                          "10.139.1.3",
                                                                          "10.139.1.1:853",
                                                                          "192.0.2.1:53", "dns:53"};
    struct destination d;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        assert_int_equal(destination_parse(yes[i], &d), 0);
        assert_true(destination_is_dns(&d));
    }
    for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
        assert_int_equal(destination_parse(no[i], &d), 0);
        assert_false(destination_is_dns(&d));
    }
}

/* ---- frames ---- */

static struct addr address(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static struct test_place place(void)
{
    struct test_place p = {
        .qube4 = address("10.137.255.20"),
        .qube6 = address("fd09:24ef:4179::a89:ff14"),
        .here4 = address("10.137.0.20"),
        .here6 = address("fd09:24ef:4179::a89:14"),
        .uplink4 = address("10.137.0.20"),
        .gateway4 = address("10.137.0.5"),
        .tunnel4 = address("10.8.0.2"),
        .endpoint = address("203.0.113.10"),
        .endpoint_port = 1194,
        .endpoint_protocol = IPPROTO_UDP,
        .random = RANDOM,
    };

    return p;
}

static uint32_t sum(const uint8_t *p, size_t len)
{
    uint32_t s = 0;

    for (size_t i = 0; i < len; i++)
        s += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
    return s;
}

static uint16_t fold(uint32_t s)
{
    while (s > 0xffff)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)s;
}

/* The checksums as a receiver counts them: all ones when right. */
static void check_checksums(const struct shot *s, const struct frame *f)
{
    const uint8_t *ip = f->bytes + (s->shape == SHAPE_VLAN ? 18 : 14);
    size_t len = f->len - (size_t)(ip - f->bytes);
    bool six = s->src.family == AF_INET6, later = s->shape == SHAPE_LATER;
    size_t header = six ? 40 : (size_t)(ip[0] & 15) * 4;
    uint32_t pseudo = s->protocol == IPPROTO_ICMP
                          ? 0
                          : sum(s->src.bytes, 16) + sum(s->dst.bytes, 16) + s->protocol;

    if (six && (s->shape == SHAPE_OPTIONS || s->shape == SHAPE_FIRST || later))
        header += 8;
    if (!six) {
        assert_int_equal(fold(sum(ip, header)), 0xffff);
        assert_int_equal(ip[2] << 8 | ip[3], len);
    } else {
        assert_int_equal(ip[4] << 8 | ip[5], len - 40);
    }
    if (s->protocol != IPPROTO_ICMP)
        pseudo += (uint32_t)(len - header);
    if (s->protocol == IPPROTO_UDP || s->protocol == IPPROTO_TCP || s->protocol == IPPROTO_ICMP ||
        s->protocol == IPPROTO_ICMPV6)
        assert_int_equal(fold(pseudo + sum(ip + header, len - header)), 0xffff);
}

struct seen {
    unsigned total, of[TEST_CLASSES];
};

static int look_at_shot(enum test_class c, const struct shot *s, void *user)
{
    struct seen *seen = user;
    struct frame f;

    assert_int_equal(frame_build(s, &f), 0);
    assert_true(f.len >= 60 && f.len <= FRAME_MAX);
    assert_int_equal(tag_find(RANDOM, f.bytes, f.len < FRAME_SEEN ? f.len : FRAME_SEEN), c);
    check_checksums(s, &f);
    seen->of[c]++;
    seen->total++;
    return 0;
}

static void test_every_packet_of_the_plan(void **state)
{
    struct test_place p = place();
    struct seen seen = {0};

    (void)state;
    assert_int_equal(test_plan(&p, look_at_shot, &seen), 0);
    assert_true(seen.total > 60);
    for (unsigned c = 0; c < TEST_CLASSES; c++) {
        assert_true(test_class_name(c)[0] != '\0');
        assert_true(c == CLASS_LOCAL ? seen.of[c] == 0 : seen.of[c] > 0);
    }
}

static void test_plan_without_everything(void **state)
{
    struct test_place p = {.qube4 = address("10.137.255.20"), .random = RANDOM};
    struct seen seen = {0};

    (void)state;
    assert_int_equal(test_plan(&p, look_at_shot, &seen), 0);
    assert_int_equal(seen.of[CLASS_ENDPOINT], 0);
    assert_true(seen.of[CLASS_TCP] > 0);
}

static int stop(enum test_class c, const struct shot *s, void *user)
{
    (void)c;
    (void)s;
    (void)user;
    return -ENETDOWN;
}

static void test_plan_stops(void **state)
{
    struct test_place p = place();

    (void)state;
    assert_int_equal(test_plan(&p, stop, NULL), -ENETDOWN);
}

static void test_tags(void **state)
{
    char tag[TAG_LEN], bytes[64];

    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        memset(bytes, 'l', sizeof(bytes));
        tag_make(RANDOM, i, tag);
        memcpy(bytes + 40, tag, TAG_LEN);
        assert_int_equal(tag_find(RANDOM, (uint8_t *)bytes, sizeof(bytes)), i);
        assert_int_equal(tag_find(RANDOM, (uint8_t *)bytes, 40 + TAG_LEN - 1), -ENOENT);
        assert_int_equal(tag_find("another-run-", (uint8_t *)bytes, sizeof(bytes)), -ENOENT);
    }
}

/* ---- the witness ---- */

static struct frame frame_of(const struct test_place *p, const struct addr *src,
                             const struct addr *dst, unsigned number)
{
    struct shot s = {.src = *src, .dst = *dst, .protocol = IPPROTO_UDP, .dport = 9, .ttl = 64};
    struct frame f;

    tag_make(p->random, number, s.tag);
    assert_int_equal(frame_build(&s, &f), 0);
    return f;
}

static void test_witness(void **state)
{
    static const struct watch_device uplink = {2, WATCH_UPLINK, "eth0"},
                                     tunnel = {3, WATCH_TUNNEL, "qubes-vpn"},
                                     own = {7, WATCH_VIF, "vif32700.0"},
                                     other = {8, WATCH_VIF, "vif9.0"},
                                     lo = {1, WATCH_NOTHING, "lo"};
    struct test_place p = place();
    struct watch w = {.vif = 7, .place = &p};
    struct addr out = address("198.51.100.1");
    struct frame f = frame_of(&p, &p.uplink4, &out, CLASS_UDP), strange = f;

    (void)state;
    memset(strange.bytes + 42, 'x', TAG_LEN);
    watch_judge(&w, &uplink, strange.bytes, strange.len); /* somebody else's */
    watch_judge(&w, &lo, f.bytes, f.len);
    watch_judge(&w, &own, f.bytes, f.len);
    assert_int_equal(w.classes[CLASS_UDP].leaked, 0);
    watch_judge(&w, &uplink, f.bytes, f.len);
    assert_int_equal(w.classes[CLASS_UDP].leaked, 1);
    assert_string_equal(w.classes[CLASS_UDP].by, "eth0");
    watch_judge(&w, &other, f.bytes, f.len);
    assert_int_equal(w.classes[CLASS_UDP].leaked, 2);
    f = frame_of(&p, &p.tunnel4, &out, CLASS_TCP);
    watch_judge(&w, &tunnel, f.bytes, f.len);
    assert_int_equal(w.classes[CLASS_TCP].tunnel, 1);
    assert_int_equal(w.foreign, 0);
    f = frame_of(&p, &p.qube4, &out, CLASS_TCP);
    watch_judge(&w, &tunnel, f.bytes, f.len);
    assert_int_equal(w.foreign, 1);
    f = frame_of(&p, &p.here4, &p.qube4, CLASS_CONTROL);
    watch_judge(&w, &own, f.bytes, f.len);
    assert_int_equal(w.control, 1);
}

/* Without a tag: the stand-in's address, and questions for whom only the test names. */
static void test_witness_knows_addresses(void **state)
{
    static const struct watch_device uplink = {2, WATCH_UPLINK, "eth0"};
    static const uint8_t arp[42] = {[12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, [38] = 198, 51, 100, 1},
                         for_gateway[42] = {[12] = 8, 6, 0, 1,         8,   0, 6,
                                            4,        0, 1, [38] = 10, 137, 0, 5};
    struct test_place p = place();
    struct watch w = {.vif = 7, .place = &p};
    struct addr out = address("192.0.2.99");
    struct frame f = frame_of(&p, &p.qube4, &out, CLASS_UDP);

    (void)state;
    watch_judge(&w, &uplink, for_gateway, sizeof(for_gateway));
    watch_judge(&w, &uplink, arp, 20); /* cut short */
    for (unsigned c = 0; c < TEST_CLASSES; c++)
        assert_int_equal(w.classes[c].leaked, 0);
    watch_judge(&w, &uplink, arp, sizeof(arp));
    assert_int_equal(w.classes[CLASS_TCP].leaked, 1);
    assert_non_null(strstr(w.classes[CLASS_TCP].what, "198.51.100.1"));
    memset(f.bytes + 42, 'x', TAG_LEN);
    watch_judge(&w, &uplink, f.bytes, f.len);
    assert_int_equal(w.classes[CLASS_ERROR].leaked, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_destinations),
        cmocka_unit_test(test_dns),
        cmocka_unit_test(test_every_packet_of_the_plan),
        cmocka_unit_test(test_plan_without_everything),
        cmocka_unit_test(test_plan_stops),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_witness),
        cmocka_unit_test(test_witness_knows_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
