/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * allow_disjoint() against what it stands for: nothing overlaps within a protocol, and exactly the
 * same gets through, asked at random and at every boundary.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "exposure/allow.h"
#include "test_random.h"

static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, 132, 0};
static const int families[] = {AF_INET, AF_INET6};

/* Few different bytes, so that networks nest and ports meet. */
static struct addr random_addr(struct rnd *rnd, int family)
{
    static const uint8_t bytes[] = {0, 0, 10, 128, 255};
    struct addr a = {.family = (uint8_t)family};

    for (size_t i = 0; i < addr_size(family); i++)
        a.bytes[i] = bytes[random_below(rnd, sizeof(bytes))];
    return a;
}

static struct prefix random_net(struct rnd *rnd)
{
    int family = families[random_below(rnd, 2)];
    struct prefix p = {.addr = random_addr(rnd, family)};
    struct addr last;

    p.len = (uint8_t)random_below(rnd, addr_bits(family) + 1u);
    prefix_range(&p, &p.addr, &last);
    return p;
}

static uint16_t random_port(struct rnd *rnd)
{
    static const uint16_t some[] = {1, 2, 79, 80, 81, 1024, 65534, 65535};

    return random_below(rnd, 3) > 0 ? some[random_below(rnd, ARRAY_SIZE(some))]
                                    : (uint16_t)(1 + random_below(rnd, 65535));
}

static struct allow_entry random_entry(struct rnd *rnd)
{
    struct allow_entry e = {.proto = (enum allow_proto)random_below(rnd, 4),
                            .port_hi = UINT16_MAX};

    if ((e.proto == ALLOW_PROTO_TCP || e.proto == ALLOW_PROTO_UDP) && random_below(rnd, 4) > 0) {
        uint16_t a = random_port(rnd), b = random_below(rnd, 2) ? a : random_port(rnd);

        e.port_lo = a < b ? a : b;
        e.port_hi = a < b ? b : a;
    }
    if (random_below(rnd, 3) > 0)
        e.from = random_net(rnd);
    return e;
}

static bool nets_meet(const struct prefix *a, const struct prefix *b)
{
    return a->addr.family == 0 || b->addr.family == 0 || prefix_contains(a, &b->addr) ||
           prefix_contains(b, &a->addr);
}

static void check_disjoint(const struct allow *d, int family)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct allow_entry *a = &d->entries[i];

        assert_true(a->port_lo <= a->port_hi);
        assert_true(a->from.addr.family == 0 || a->from.addr.family == family);
        for (size_t k = 0; k < i; k++) {
            const struct allow_entry *b = &d->entries[k];

            if (a->proto == b->proto && a->port_lo <= b->port_hi && b->port_lo <= a->port_hi)
                assert_false(nets_meet(&a->from, &b->from));
        }
    }
}

static void probe(const struct allow *allow, const struct allow *d, int family, uint16_t port,
                  const struct addr *from)
{
    for (size_t p = 0; p < ARRAY_SIZE(protos); p++) {
        bool tcp_udp = protos[p] == IPPROTO_TCP || protos[p] == IPPROTO_UDP;
        uint16_t at = tcp_udp ? port : 0;

        if (allow_accepts(allow, family, protos[p], at, from) !=
            allow_accepts(d, family, protos[p], at, from)) {
            char text[ADDR_STR_MAX];

            fail_msg("proto %u port %u from %s", protos[p], at, addr_format(from, text));
        }
    }
}

/* a plus or minus one, without a carry out of the address */
static struct addr step(struct addr a, int by)
{
    for (size_t i = addr_size(a.family); i-- > 0;) {
        a.bytes[i] = (uint8_t)(a.bytes[i] + by);
        if (a.bytes[i] != (by > 0 ? 0 : 255))
            break;
    }
    return a;
}

static void probe_sources(const struct allow *allow, const struct allow *d, int family,
                          uint16_t port, struct rnd *rnd)
{
    struct addr any = random_addr(rnd, family);

    probe(allow, d, family, port, &any);
    for (size_t i = 0; i < allow->n; i++) {
        const struct prefix *p = &allow->entries[i].from;
        struct addr at[4];

        if (p->addr.family != family)
            continue;
        prefix_range(p, &at[0], &at[1]);
        at[2] = step(at[0], -1);
        at[3] = step(at[1], 1);
        for (size_t k = 0; k < ARRAY_SIZE(at); k++)
            probe(allow, d, family, port, &at[k]);
    }
}

static void check_same(const struct allow *allow, const struct allow *d, int family,
                       struct rnd *rnd)
{
    probe_sources(allow, d, family, (uint16_t)random_below(rnd, 65536), rnd);
    probe_sources(allow, d, family, 0, rnd);
    probe_sources(allow, d, family, UINT16_MAX, rnd);
    for (size_t i = 0; i < allow->n; i++) {
        uint16_t lo = allow->entries[i].port_lo, hi = allow->entries[i].port_hi;

        probe_sources(allow, d, family, lo, rnd);
        probe_sources(allow, d, family, hi, rnd);
        probe_sources(allow, d, family, (uint16_t)(lo - 1), rnd);
        probe_sources(allow, d, family, (uint16_t)(hi + 1), rnd);
    }
}

static bool same_entry(const struct allow_entry *a, const struct allow_entry *b)
{
    return a->proto == b->proto && a->port_lo == b->port_lo && a->port_hi == b->port_hi &&
           addr_equal(&a->from.addr, &b->from.addr) && a->from.len == b->from.len;
}

static void test_random_rules(void **state)
{
    struct rnd rnd = random_begin("disjoint rules");

    (void)state;
    for (int i = 0; i < 3000; i++) {
        struct allow_entry entries[12];
        struct allow allow = {entries, random_below(&rnd, ARRAY_SIZE(entries) + 1)};

        for (size_t k = 0; k < allow.n; k++)
            entries[k] = random_entry(&rnd);
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
            _cleanup_(allow_done) struct allow d = {0}, again = {0};

            assert_int_equal(allow_disjoint(&allow, families[f], &d), 0);
            check_disjoint(&d, families[f]);
            check_same(&allow, &d, families[f], &rnd);
            /* nothing is left to be joined or dropped: the smallest list */
            assert_int_equal(allow_disjoint(&d, families[f], &again), 0);
            assert_int_equal(again.n, d.n);
            for (size_t k = 0; k < d.n; k++)
                assert_true(same_entry(&again.entries[k], &d.entries[k]));
        }
    }
}

static size_t count(const char *text, int family)
{
    _cleanup_(allow_done) struct allow a = {0}, d = {0};
    char why[ALLOW_WHY_MAX];

    assert_int_equal(allow_parse(str_from(text), &a, why), 0);
    assert_int_equal(allow_disjoint(&a, family, &d), 0);
    return d.n;
}

static void test_known(void **state)
{
    (void)state;
    assert_int_equal(count("", AF_INET), 0);
    assert_int_equal(count("tcp/80;tcp/80", AF_INET), 1);
    assert_int_equal(count("tcp/80,81,82", AF_INET), 1);
    assert_int_equal(count("tcp/80,82", AF_INET), 2);
    assert_int_equal(count("tcp;tcp/80", AF_INET), 1);
    assert_int_equal(count("tcp/80;udp/80", AF_INET), 2);
    assert_int_equal(count("tcp/80 from 10.0.0.0/8;tcp/80 from 10.1.0.0/16", AF_INET), 1);
    assert_int_equal(count("tcp/80 from 10.0.0.0/8;tcp/80 from 0.0.0.0/0", AF_INET), 1);
    assert_int_equal(count("tcp/1-1024;tcp/80 from 10.0.0.0/8", AF_INET), 1);
    assert_int_equal(count("tcp/1-1024 from 10.0.0.0/8;tcp/80", AF_INET), 3);
    assert_int_equal(count("tcp/80 from fd00::/8", AF_INET), 0);
    assert_int_equal(count("tcp/80 from fd00::/8", AF_INET6), 1);
    assert_int_equal(count("any from fd00::/8,10.0.0.0/8", AF_INET6), 1);
    assert_int_equal(count("icmp;icmp from 10.0.0.0/8", AF_INET), 1);
}

/* Ranges that cross one another with different networks grow beyond the limit: refused, not cut. */
static void test_too_many(void **state)
{
    struct allow_entry entries[ALLOW_MAX_ENTRIES] = {0};
    struct allow a = {entries, ARRAY_SIZE(entries)}, untouched = {NULL, 77}, d = untouched;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
        entries[i] = (struct allow_entry){
            .proto = ALLOW_PROTO_TCP,
            .port_lo = (uint16_t)(1 + i),
            .port_hi = (uint16_t)(60000 - i),
            .from = {.addr = {AF_INET, {10, 0, 0, (uint8_t)i}}, .len = 32},
        };
    assert_int_equal(allow_disjoint(&a, AF_INET, &d), -E2BIG);
    assert_memory_equal(&d, &untouched, sizeof(d));
    a.n = 10;
    assert_int_equal(allow_disjoint(&a, AF_INET, &d), 0);
    allow_done(&d);
}

static void test_join(void **state)
{
    struct allow_entry entries[ALLOW_MAX_ENTRIES] = {{.port_lo = 1}, {.port_lo = 2}};
    struct allow a = {entries, 1}, b = {entries + 1, 1}, none = {0}, out = {0};

    (void)state;
    assert_int_equal(allow_join(&a, &b, &out), 0);
    assert_int_equal(out.n, 2);
    assert_int_equal(out.entries[0].port_lo, 1);
    assert_int_equal(out.entries[1].port_lo, 2);
    allow_done(&out);
    assert_int_equal(allow_join(&none, &none, &out), 0);
    assert_int_equal(out.n, 0);
    allow_done(&out);
    a.n = ALLOW_MAX_ENTRIES;
    assert_int_equal(allow_join(&a, &b, &out), -E2BIG);
    assert_null(out.entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_random_rules),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_join),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
