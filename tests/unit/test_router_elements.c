/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects as set elements and back, for every kind and family; and elements of somebody else. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "router/elements.h"
#include "test_random.h"

static const int afs[FAMILIES] = {[FAMILY_IP4] = AF_INET, [FAMILY_IP6] = AF_INET6};

static struct addr random_addr(struct rnd *rnd, int af)
{
    struct addr a = {.family = (uint8_t)af};

    random_fill(rnd, a.bytes, addr_size(af));
    return a;
}

static bool in(enum object_kind kind, unsigned kinds)
{
    return kinds & 1u << kind;
}

/* What an object of a kind has beside its vif; a kind not named here has nothing. */
#define HAS_PROTO                                                                                  \
    (1u << OBJECT_PROTO | 1u << OBJECT_PORT | 1u << OBJECT_RULE | 1u << OBJECT_PUBLISHED |         \
     1u << OBJECT_PUBLISHED_FROM | 1u << OBJECT_DNAT | 1u << OBJECT_DNAT_FROM)
#define HAS_PORT                                                                                   \
    (1u << OBJECT_PORT | 1u << OBJECT_RULE | 1u << OBJECT_PUBLISHED |                              \
     1u << OBJECT_PUBLISHED_FROM | 1u << OBJECT_DNAT | 1u << OBJECT_DNAT_FROM)
#define HAS_RANGE                                                                                  \
    (1u << OBJECT_RULE | 1u << OBJECT_PUBLISHED_FROM | 1u << OBJECT_DNAT | 1u << OBJECT_DNAT_FROM)
#define HAS_FROM                                                                                   \
    (1u << OBJECT_FROM | 1u << OBJECT_RULE | 1u << OBJECT_PUBLISHED_FROM | 1u << OBJECT_DNAT_FROM)
#define HAS_NO_VIF                                                                                 \
    (1u << OBJECT_DNAT | 1u << OBJECT_DNAT_FROM | 1u << OBJECT_DOWNSTREAM | 1u << OBJECT_ROUTE |   \
     1u << OBJECT_PROXY)

static struct object random_object(struct rnd *rnd, enum object_kind kind, int af)
{
    struct object o = {.kind = kind};

    if (!in(kind, HAS_NO_VIF))
        (void)snprintf(o.vif, sizeof(o.vif), "vif%u.%u", random_below(rnd, 32752),
                       random_below(rnd, 65536));
    if (kind == OBJECT_OWN)
        (void)snprintf(o.uplink, sizeof(o.uplink), "enp%us%u", random_below(rnd, 99),
                       random_below(rnd, 99));
    if (kind == OBJECT_RATE)
        o.rate = 1 + random_below(rnd, 1000000);
    if (in(kind, HAS_PROTO))
        o.proto = random_below(rnd, 2) ? IPPROTO_TCP : IPPROTO_UDP;
    if (in(kind, HAS_PORT)) {
        o.port_lo = (uint16_t)(1 + random_below(rnd, 65535));
        o.port_hi = o.port_lo;
    }
    if (in(kind, HAS_RANGE))
        o.port_hi = (uint16_t)(o.port_lo + random_below(rnd, 65536u - o.port_lo));
    if (in(kind, HAS_FROM)) {
        struct prefix p = {.addr = random_addr(rnd, af),
                           .len = (uint8_t)random_below(rnd, addr_bits(af) + 1u)};

        prefix_range(&p, &o.src_lo, &o.src_hi);
    }
    return o;
}

static struct nft_element element_of(const struct addr *a, const struct object *o)
{
    struct nft_element e = {.data_len = 0};

    assert_int_equal(elements_key(a, o, &e.key), 0);
    e.data_len = (uint8_t)elements_data(a, o, e.data);
    return e;
}

static void test_round_trip(void **state)
{
    struct rnd rnd = random_begin("elements");

    (void)state;
    for (int i = 0; i < 400; i++) {
        for (unsigned kind = 0; kind < OBJECT_SETS; kind++) {
            for (unsigned f = 0; f < FAMILIES; f++) {
                struct object o = random_object(&rnd, (enum object_kind)kind, afs[f]), back;
                struct addr a = random_addr(&rnd, afs[f]), to;
                struct nft_element e = element_of(&a, &o);

                assert_true(e.key.len % 4 == 0 && e.key.len > 0);
                assert_int_equal(elements_object(o.kind, (enum family_index)f, &e, &to, &back), 0);
                assert_true(addr_equal(&to, &a));
                assert_int_equal(object_compare(&back, &o), 0);
                assert_memory_equal(&back, &o, sizeof(o));
                /* an element of the other family has another length */
                assert_int_equal(elements_object(o.kind, (enum family_index)(1 - f), &e, &to,
                                                 &back), -EBADMSG);
            }
        }
    }
}

/* Every kind has a set of its own, a name and a text. */
static void test_names(void **state)
{
    struct rnd rnd = random_begin("names");
    char one[OBJECT_STR_MAX], other[OBJECT_STR_MAX];

    (void)state;
    for (unsigned kind = 0; kind < OBJECT_SETS; kind++) {
        for (unsigned f = 0; f < FAMILIES; f++) {
            struct nft_set s = elements_set((enum object_kind)kind, (enum family_index)f);

            assert_int_equal(s.family, f == FAMILY_IP6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
            assert_true(s.table != NULL && s.name != NULL);
            for (unsigned k = 0; k < kind; k++)
                assert_string_not_equal(
                    elements_set((enum object_kind)k, (enum family_index)f).name, s.name);
        }
    }
    for (unsigned kind = 0; kind < OBJECT_KINDS; kind++) {
        struct object o = random_object(&rnd, (enum object_kind)kind, AF_INET6);

        assert_string_not_equal(object_kind_name((enum object_kind)kind), "?");
        assert_true(strlen(object_format(&o, one)) < OBJECT_STR_MAX);
        for (unsigned k = 0; k < kind; k++) {
            o.kind = (enum object_kind)k;
            assert_string_not_equal(object_format(&o, other), one);
        }
    }
}

/* By hand, as nft 1.0.6 writes "vif11.0" . 10.137.0.5 . tcp . 8000-8100 . 192.168.0.0/16. */
static void test_bytes(void **state)
{
    static const uint8_t data[] = "vif11.0\0\0\0\0\0\0\0\0\0"
                                  "\x0a\x89\x00\x05\x06\0\0\0\x1f\x40\0\0\xc0\xa8\0\0";
    static const uint8_t end[] = "vif11.0\0\0\0\0\0\0\0\0\0"
                                 "\x0a\x89\x00\x05\x06\0\0\0\x1f\xa4\0\0\xc0\xa8\xff\xff";
    const struct addr a = {AF_INET, {10, 137, 0, 5}};
    const struct object rule = {.kind = OBJECT_RULE, .vif = "vif11.0", .proto = 6, .port_lo = 8000,
                                .port_hi = 8100, .src_lo = {AF_INET, {192, 168}},
                                .src_hi = {AF_INET, {192, 168, 255, 255}}};
    const struct object port = {.kind = OBJECT_PORT, .vif = "vif11.0", .proto = 6, .port_lo = 8000,
                                .port_hi = 8000};
    const struct object rate = {.kind = OBJECT_RATE, .vif = "vif11.0", .rate = 1000000};
    const uint32_t million = 1000000;
    const struct object dnat = {.kind = OBJECT_DNAT, .proto = 6, .port_lo = 8000, .port_hi = 80};
    const struct object dnat_from = {.kind = OBJECT_DNAT_FROM, .proto = 6, .port_lo = 8000,
                                     .port_hi = 80, .src_lo = {AF_INET, {192, 168}},
                                     .src_hi = {AF_INET, {192, 168, 255, 255}}};
    struct nft_element e;

    (void)state;
    e = element_of(&a, &rule);
    assert_int_equal(e.key.len, 32);
    assert_true(e.key.has_end);
    assert_memory_equal(e.key.data, data, 32);
    assert_memory_equal(e.key.end, end, 32);
    e = element_of(&a, &port);
    assert_int_equal(e.key.len, 28);
    assert_false(e.key.has_end);
    assert_memory_equal(e.key.data, data, 28);
    e = element_of(&a, &dnat);
    assert_int_equal(e.key.len, 8);
    assert_memory_equal(e.key.data, "\6\0\0\0\x1f\x40\0\0", 8);
    assert_int_equal(e.data_len, 8);
    assert_memory_equal(e.data, "\x0a\x89\0\5\0\x50\0\0", 8);
    e = element_of(&a, &dnat_from);
    assert_int_equal(e.key.len, 12);
    assert_true(e.key.has_end);
    assert_memory_equal(e.key.data, "\6\0\0\0\x1f\x40\0\0\xc0\xa8\0\0", 12);
    assert_memory_equal(e.key.end, "\6\0\0\0\x1f\x40\0\0\xc0\xa8\xff\xff", 12);
    assert_int_equal(e.data_len, 8);
    assert_memory_equal(e.data, "\x0a\x89\0\5\0\x50\0\0", 8);
    e = element_of(&a, &rate);
    assert_int_equal(e.key.len, 20);
    assert_memory_equal(e.key.data, data, 20);
    assert_int_equal(e.data_len, 4);
    assert_memory_equal(e.data, &million, 4);
}

/*
 * What is read must be what would be written, byte for byte: an object that is taken from an
 * element but cannot be written back could never be removed, and would stop every transaction.
 */
static void test_hostile(void **state)
{
    struct rnd rnd = random_begin("hostile elements");

    (void)state;
    for (int i = 0; i < 200000; i++) {
        enum object_kind kind = (enum object_kind)random_below(&rnd, OBJECT_SETS);
        unsigned f = random_below(&rnd, FAMILIES);
        struct object o = random_object(&rnd, kind, afs[f]), back;
        struct addr a = random_addr(&rnd, afs[f]), to;
        struct nft_element e = element_of(&a, &o), again;
        uint8_t *parts[] = {e.key.data, e.key.end, e.data};
        size_t part = random_below(&rnd, 3);

        switch (random_below(&rnd, 5)) {
        case 0:
            e.key.len = (uint8_t)random_below(&rnd, NFT_KEY_MAX + 1);
            break;
        case 1:
            e.data_len = (uint8_t)random_below(&rnd, NFT_KEY_MAX + 1);
            break;
        case 2:
            e.key.has_end = !e.key.has_end;
            break;
        default:
            parts[part][random_below(&rnd, part == 2 ? 20u : e.key.len)] =
                (uint8_t)random_next(&rnd);
            break;
        }
        if (elements_object(kind, (enum family_index)f, &e, &to, &back) < 0)
            continue;
        again = element_of(&to, &back);
        assert_int_equal(again.key.len, e.key.len);
        assert_int_equal(again.key.has_end, e.key.has_end);
        assert_memory_equal(again.key.data, e.key.data, e.key.len);
        if (e.key.has_end)
            assert_memory_equal(again.key.end, e.key.end, e.key.len);
        assert_int_equal(again.data_len, e.data_len);
        assert_memory_equal(again.data, e.data, e.data_len);
    }
}

static void test_names_not_ended(void **state)
{
    const struct addr a = {AF_INET, {10, 137, 0, 5}};
    struct object o = {.kind = OBJECT_ANY, .vif = "vif11.0"}, back = {.port_lo = 77};
    struct addr to = {.family = 77};
    struct nft_element e;

    (void)state;
    e = element_of(&a, &o);
    memset(e.key.data, 'x', IFNAMSIZ);
    assert_int_equal(elements_object(OBJECT_ANY, FAMILY_IP4, &e, &to, &back), -EBADMSG);
    e = element_of(&a, &o);
    e.key.data[12] = 'x'; /* after the end of the name */
    assert_int_equal(elements_object(OBJECT_ANY, FAMILY_IP4, &e, &to, &back), -EBADMSG);
    e = element_of(&a, &o);
    memset(e.key.data, 0, IFNAMSIZ);
    assert_int_equal(elements_object(OBJECT_ANY, FAMILY_IP4, &e, &to, &back), -EBADMSG);
    assert_int_equal(to.family, 77);
    assert_int_equal(back.port_lo, 77);
}

static void test_put_back(void **state)
{
    struct rnd rnd = random_begin("put-back");

    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct sysctl_value v = {.id = (enum sysctl_id)(1 + random_below(&rnd, 5)),
                                 .value = random_below(&rnd, 65536)}, back;
        struct nft_key key;

        (void)snprintf(v.scope, sizeof(v.scope), "eth%u", random_below(&rnd, 1000000));
        assert_int_equal(elements_put_back_key(&v, &key), 0);
        assert_int_equal(elements_put_back_value(&key, &back), 0);
        assert_memory_equal(&back, &v, sizeof(v));
    }
}

/* A value too large to be stored must not come back as a small one. */
static void test_put_back_large(void **state)
{
    struct sysctl_value v = {.id = SYSCTL_IP4_PROXY_DELAY, .scope = "eth0", .value = 65537}, back;
    struct nft_key key;

    (void)state;
    assert_int_equal(elements_put_back_key(&v, &key), 0);
    assert_int_equal(elements_put_back_value(&key, &back), 0);
    assert_int_equal(back.value, 65535);
}

static void test_put_back_hostile(void **state)
{
    struct sysctl_value v = {.id = SYSCTL_IP6_FORWARDING, .scope = "all", .value = 1}, back;
    struct nft_key good, key;
    uint32_t mark;

    (void)state;
    assert_int_equal(elements_put_back_key(&v, &good), 0);
    for (uint8_t len = 0; len < NFT_KEY_MAX; len = (uint8_t)(len + 4)) {
        key = good;
        key.len = len;
        assert_int_equal(elements_put_back_value(&key, &back), len == good.len ? 0 : -EBADMSG);
    }
    for (uint32_t id = 0; id < 10; id++) {
        key = good;
        mark = id << 16;
        memcpy(key.data + IFNAMSIZ, &mark, sizeof(mark));
        assert_int_equal(elements_put_back_value(&key, &back), id >= 1 && id <= 5 ? 0 : -EBADMSG);
    }
    key = good;
    memset(key.data, 'x', IFNAMSIZ);
    assert_int_equal(elements_put_back_value(&key, &back), -EBADMSG);
    key = good;
    key.data[10] = 'x';
    assert_int_equal(elements_put_back_value(&key, &back), -EBADMSG);
}

static void test_guard(void **state)
{
    struct nft_key key;

    (void)state;
    assert_int_equal(elements_guard_key(&key), 0);
    assert_int_equal(key.len, 2); /* not padded: it is no concatenation */
    assert_memory_equal(key.data, "\x86\xdd", 2);
    assert_string_equal(elements_guard_set().table, elements_put_back_set().table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_bytes),            cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_names_not_ended),  cmocka_unit_test(test_put_back),
        cmocka_unit_test(test_put_back_large),   cmocka_unit_test(test_put_back_hostile),
        cmocka_unit_test(test_guard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
