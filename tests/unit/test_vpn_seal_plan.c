/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seal's plan: by example, and by laws that hold in every world for every wish. */
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
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
#include "test_vpn_seal_world.h"
#include "vpn/seal/elements.h"

#define CLIENT 4978u
#define ROUNDS 1500

static const struct seal_config all = {.layers = LAYERS_ALL, .uid = CLIENT};

static void make(const struct seal_model *m, const struct wish *w, const struct seal_config *config,
                 struct items *ret)
{
    *ret = (struct items){0};
    assert_int_equal(plan_make(m, w, config, ret), 0);
}

static void apply_all(struct seal_model *m, const struct items *ops)
{
    for (size_t i = 0; i < ops->n; i++) {
        const struct seal_op *op = &ITEMS(ops, struct seal_op)[i];
        char text[SEAL_OP_TEXT];

        if (!world_apply(m, op))
            fail_msg("refused: %s", plan_describe(op, m, text));
    }
}

static void seal_world(struct seal_model *m, const struct wish *w)
{
    _cleanup_(items_free) struct items ops = {0};

    make(m, w, &all, &ops);
    apply_all(m, &ops);
}

static struct addr addr(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static struct world_packet to(const char *text)
{
    return (struct world_packet){.dst = addr(text), .uid = UINT32_MAX};
}

static struct wish open_wish(void)
{
    struct wish w = {.n_carriers = 1, .mtu = 1420, .n_dns = 1};

    w.carriers[0] = (struct carrier){addr("203.0.113.10"), 1194, IPPROTO_UDP, false};
    memcpy(w.tunnel, SEAL_TUNNEL, sizeof(SEAL_TUNNEL));
    w.tunnel_addr[0] = addr("10.8.0.2");
    w.dns[0] = addr("10.64.0.53");
    return w;
}

static void add_tunnel(struct seal_model *m, uint32_t flags)
{
    struct rt_link link = {.index = WORLD_TUNNEL, .name = SEAL_TUNNEL, .flags = flags,
                           .arptype = ARPHRD_NONE};

    assert_int_equal(items_add(&m->links, &link, sizeof(link)), 0);
}

static void test_closed(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    const struct wish none = {0};
    struct world_packet client = to("203.0.113.10"), marked = client, user = client;

    (void)state;
    world_plain(&m);
    client.uid = CLIENT;
    marked.mark = SEAL_MARK | 0x77;
    user.uid = 1000;
    assert_true(world_leaks(&m, &user)); /* the test can see */
    seal_world(&m, &none);
    assert_int_equal(world_lookup(&m, &user), 0);
    assert_int_equal(world_lookup(&m, &(struct world_packet){addr("203.0.113.10"), 0, UINT32_MAX}),
                     0);
    assert_int_equal(world_lookup(&m, &client), WORLD_ETH0);
    assert_int_equal(world_lookup(&m, &marked), WORLD_ETH0);
    /* the gateway, which the platform has a link route to */
    assert_int_equal(world_lookup(&m, &(struct world_packet){addr("10.0.0.200"), 0, UINT32_MAX}),
                     0);
    assert_int_equal(world_lookup(&m, &(struct world_packet){addr("10.0.0.26"), 0, UINT32_MAX}),
                     WORLD_VIF1);
    assert_int_equal(m.chains.n, 1);
    assert_string_equal(ITEMS(&m.chains, struct seal_chain)[0].chain.device, "eth0");
}

static void test_tunnel(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    struct world_packet four = to("198.51.100.1"), six = to("2001:db8::1"), user = four;
    struct wish w = open_wish();

    (void)state;
    user.uid = 1000;
    world_plain(&m);
    seal_world(&m, &w);
    assert_int_equal(world_lookup(&m, &four), 0); /* no device yet */
    add_tunnel(&m, 0);
    seal_world(&m, &w);
    assert_int_equal(world_lookup(&m, &four), 0); /* not up */
    ITEMS(&m.links, struct rt_link)[m.links.n - 1].flags = IFF_UP;
    seal_world(&m, &w);
    assert_int_equal(world_lookup(&m, &four), WORLD_TUNNEL);
    assert_int_equal(world_lookup(&m, &user), WORLD_TUNNEL);
    assert_int_equal(world_lookup(&m, &six), 0); /* it carries no IPv6 */
    w.tunnel_addr[1] = addr("fd00:8::2");
    seal_world(&m, &w);
    assert_int_equal(world_lookup(&m, &six), WORLD_TUNNEL);
    w = (struct wish){0};
    seal_world(&m, &w);
    assert_int_equal(world_lookup(&m, &four), 0);
    assert_int_equal(world_lookup(&m, &six), 0);
}

/* Service disable-default-route: only the link route to the gateway is there. */
static void test_no_default(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    struct world_packet client = to("203.0.113.10");
    const struct wish none = {0};

    (void)state;
    world_plain(&m);
    for (size_t i = m.paths.n; i-- > 0;)
        if (ITEMS(&m.paths, struct path)[i].dst.len == 0)
            ITEMS(&m.paths, struct path)[i].table = 1000; /* out of the way */
    client.uid = CLIENT;
    seal_world(&m, &none);
    assert_int_equal(world_lookup(&m, &client), WORLD_ETH0);
    client.uid = 1000;
    assert_int_equal(world_lookup(&m, &client), 0);
}

static void test_layers(void **state)
{
    static const enum seal_layer layers[] = {LAYER_ROUTES, LAYER_INET, LAYER_EGRESS};
    struct wish w = open_wish();

    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(layers); k++) {
        const struct seal_config one = {.layers = layers[k], .uid = CLIENT};
        _cleanup_(model_free) struct seal_model m = {0};
        _cleanup_(items_free) struct items ops = {0};

        world_plain(&m);
        make(&m, &w, &one, &ops);
        assert_true(ops.n > 0);
        for (size_t i = 0; i < ops.n; i++)
            assert_int_equal(ITEMS(&ops, struct seal_op)[i].layer, layers[k]);
    }
}

/* ---- laws ---- */

/* Where things meet: the addresses of the worlds' routes, and anything else. */
static struct world_packet random_packet(struct rnd *r)
{
    bool six = random_below(r, 2);
    struct world_packet p = {.dst = world_addr(r, six), .uid = UINT32_MAX};

    if (random_below(r, 2)) {
        memset(p.dst.bytes, 0, sizeof(p.dst.bytes));
        p.dst.bytes[0] = six ? 0xfd : 10;
        p.dst.bytes[addr_size(p.dst.family) - 1] =
            (uint8_t)(random_below(r, 2) ? 1 + random_below(r, 6) : 20 + random_below(r, 10));
    }
    if (random_below(r, 2))
        p.uid = random_below(r, 2) ? 0 : 1000; /* of a process here that is no client */
    return p;
}

static bool is_carrier(const struct wish *w, const struct world_packet *p)
{
    return w->proxy && p->uid == w->proxy_uid;
}

/* Our tables lead to one kind of link each. */
static void check_tables(const struct seal_model *m)
{
    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];
        const struct rt_link *link = model_link(m, p->oif);

        if (p->table == SEAL_TABLE_MAIN || p->type == RTN_BLACKHOLE || p->type == RTN_UNREACHABLE)
            continue;
        assert_true(p->type == RTN_UNICAST && !p->other && link != NULL);
        assert_int_equal(link_kind(link), p->table == SEAL_TABLE_VIFS     ? LINK_VIF
                                          : p->table == SEAL_TABLE_TUNNEL ? LINK_TUNNEL
                                                                          : LINK_UPLINK);
    }
}

/* Done once, nothing is left to do; and nothing but a carrier sees an uplink. */
static void test_law_one_plan_is_enough(void **state)
{
    struct rnd r = random_begin("seal plan: enough");

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        _cleanup_(model_free) struct seal_model m = {0};
        _cleanup_(items_free) struct items ops = {0}, again = {0};
        struct wish w = world_wish(&r);
        char text[SEAL_OP_TEXT];

        world_random(&r, &m);
        make(&m, &w, &all, &ops);
        apply_all(&m, &ops);
        make(&m, &w, &all, &again);
        if (again.n > 0)
            fail_msg("round %u, left: %s", round,
                     plan_describe(&ITEMS(&again, struct seal_op)[0], &m, text));
        check_tables(&m);
        for (unsigned i = 0; i < 30; i++) {
            struct world_packet p = random_packet(&r);

            if (!is_carrier(&w, &p) && world_leaks(&m, &p))
                fail_msg("round %u: a packet leaves by link %u", round, world_lookup(&m, &p));
        }
    }
}

/*
 * A plan that ends anywhere (the process is killed) has opened no way by an uplink that was not
 * open before it began.
 */
static void test_law_closed_first(void **state)
{
    struct rnd r = random_begin("seal plan: closed first");

    (void)state;
    for (unsigned round = 0; round < ROUNDS / 3; round++) {
        _cleanup_(model_free) struct seal_model m = {0};
        _cleanup_(items_free) struct items ops = {0};
        struct world_packet probes[24];
        bool open[ARRAY_SIZE(probes)];
        struct wish w = world_wish(&r);

        world_random(&r, &m);
        make(&m, &w, &all, &ops);
        for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
            probes[i] = random_packet(&r);
            open[i] = world_leaks(&m, &probes[i]);
        }
        for (size_t k = 0; k < ops.n; k++) {
            const struct seal_op *op = &ITEMS(&ops, struct seal_op)[k];
            char text[SEAL_OP_TEXT];

            if (op->layer != LAYER_ROUTES)
                continue;
            assert_true(world_apply(&m, op));
            for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
                if (!open[i] && !is_carrier(&w, &probes[i]) && world_leaks(&m, &probes[i]))
                    fail_msg("round %u, op %zu of %zu opened a way: %s", round, k, ops.n,
                             plan_describe(op, &m, text));
                open[i] = open[i] && world_leaks(&m, &probes[i]);
            }
        }
    }
}

/* Whatever is wished: qubes' tables never get a route by an uplink, gates stand on all of them. */
static void test_law_no_wish_opens(void **state)
{
    struct rnd r = random_begin("seal plan: no wish opens");

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        _cleanup_(model_free) struct seal_model m = {0};
        _cleanup_(items_free) struct items ops = {0};
        struct wish w = world_wish(&r);

        world_random(&r, &m);
        make(&m, &w, &all, &ops);
        for (size_t i = 0; i < ops.n; i++) {
            const struct seal_op *op = &ITEMS(&ops, struct seal_op)[i];
            const struct rt_link *link = model_link(&m, op->path.oif);

            if (op->kind == OP_RULE_ADD && op->rule.action == FR_ACT_TO_TBL &&
                op->rule.table != SEAL_TABLE_VIFS && op->rule.table != SEAL_TABLE_TUNNEL)
                assert_true(op->rule.table == SEAL_TABLE_UPLINK &&
                            (op->rule.has_uid || op->rule.mask != 0));
            if (op->kind != OP_PATH_ADD || op->path.type != RTN_UNICAST)
                continue;
            assert_non_null(link);
            assert_int_not_equal(op->path.table, SEAL_TABLE_MAIN);
            if (op->path.table == SEAL_TABLE_VIFS)
                assert_int_equal(link_kind(link), LINK_VIF);
            if (op->path.table == SEAL_TABLE_TUNNEL)
                assert_int_equal(link_kind(link), LINK_TUNNEL);
        }
        apply_all(&m, &ops);
        for (size_t i = 0; i < m.links.n; i++) {
            const struct rt_link *link = &ITEMS(&m.links, struct rt_link)[i];
            unsigned gates = 0;

            for (size_t k = 0; k < m.chains.n; k++) {
                const struct seal_chain *c = &ITEMS(&m.chains, struct seal_chain)[k];

                gates += strcmp(c->chain.device, link->name) == 0 && c->whole && c->chain.drops;
            }
            assert_int_equal(gates, link_kind(link) == LINK_UPLINK);
        }
    }
}

static bool has_carrier(const struct wish *w, const struct carrier *c)
{
    for (size_t i = 0; i < w->n_carriers; i++)
        if (addr_equal(&w->carriers[i].addr, &c->addr) && w->carriers[i].port == c->port &&
            w->carriers[i].protocol == c->protocol && w->carriers[i].marked == c->marked)
            return true;
    return false;
}

static bool has_addr(const struct addr *list, size_t n, const struct addr *a)
{
    for (size_t i = 0; i < n; i++)
        if (addr_equal(&list[i], a))
            return true;
    return false;
}

/* What a wish is in a kernel that has no such device: nothing of the tunnel. */
static void forget_tunnel(struct wish *w)
{
    memset(w->tunnel, 0, sizeof(w->tunnel));
    memset(w->tunnel_addr, 0, sizeof(w->tunnel_addr));
    w->mtu = 0;
    w->n_dns = 0;
    w->lookups = false;
}

/* A successor reads from the kernel what was wished, whatever order the sets are dumped in. */
static void test_law_wish_is_remembered(void **state)
{
    struct rnd r = random_begin("seal plan: remembered");

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        _cleanup_(model_free) struct seal_model m = {0};
        struct wish w = world_wish(&r), back;
        const char *why = "";

        assert_int_equal(wish_check(&w, &why), 0);
        world_random(&r, &m);
        seal_world(&m, &w);
        for (size_t i = m.elements.n; i-- > 1;) {
            struct seal_element *list = ITEMS(&m.elements, struct seal_element), e = list[i];
            size_t other = random_below(&r, (uint32_t)i + 1);

            list[i] = list[other];
            list[other] = e;
        }
        elements_to_wish(&m.elements, &back);
        if (model_tunnel(&m) == NULL)
            forget_tunnel(&w);
        if (wish_check(&back, &why) != 0)
            fail_msg("round %u: %s", round, why);
        for (size_t i = 0; i < w.n_carriers; i++)
            assert_true(has_carrier(&back, &w.carriers[i]));
        for (size_t i = 0; i < back.n_carriers; i++)
            assert_true(has_carrier(&w, &back.carriers[i]));
        assert_int_equal(back.n_resolvers, w.n_resolvers);
        for (size_t i = 0; i < w.n_resolvers; i++)
            assert_true(has_addr(back.resolvers, back.n_resolvers, &w.resolvers[i]));
        back.n_carriers = w.n_carriers;
        memcpy(back.carriers, w.carriers, sizeof(w.carriers));
        memcpy(back.resolvers, w.resolvers, sizeof(w.resolvers));
        assert_true(wish_equal(&w, &back));
    }
}

/* Elements that nobody of ours wrote: what is taken from them is a lawful wish or none. */
static void test_law_strange_elements(void **state)
{
    struct rnd r = random_begin("seal plan: strange elements");

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        _cleanup_(items_free) struct items list = {0};
        unsigned n = random_below(&r, 100);
        struct wish w;

        for (unsigned i = 0; i < n; i++) {
            struct seal_element e = {.set = (enum seal_set)random_below(&r, SEAL_SETS)};
            static const uint8_t lens[] = {0, 1, 2, 4, 8, 12, 16, 24, 64};

            e.key.len = lens[random_below(&r, ARRAY_SIZE(lens))];
            random_fill(&r, e.key.data, e.key.len);
            e.data_len = (uint8_t)random_below(&r, sizeof(e.data) + 1);
            random_fill(&r, e.data, e.data_len);
            assert_int_equal(items_add(&list, &e, sizeof(e)), 0);
        }
        elements_to_wish(&list, &w);
        assert_true(w.n_carriers <= WISH_CARRIERS_MAX && w.n_resolvers <= WISH_RESOLVERS_MAX &&
                    w.n_dns <= WISH_DNS_MAX);
        assert_non_null(memchr(w.tunnel, '\0', sizeof(w.tunnel)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_no_default),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_law_one_plan_is_enough),
        cmocka_unit_test(test_law_closed_first),
        cmocka_unit_test(test_law_no_wish_opens),
        cmocka_unit_test(test_law_wish_is_remembered),
        cmocka_unit_test(test_law_strange_elements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
