/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the seal's sets hold for a wish: whom the kernel may look for on an uplink's link; who may have sent a packet. */
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_vpn_seal_world.h"
#include "vpn/seal/elements.h"

static struct addr addr(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static bool near(const struct seal_model *m, const struct wish *w, const char *text)
{
    _cleanup_(items_free) struct items list = {0};
    struct addr a = addr(text);
    bool found = false;

    assert_int_equal(elements_of_wish(w, 4978, m, &list), 0);
    for (size_t i = 0; i < list.n; i++) {
        const struct seal_element *e = &ITEMS(&list, struct seal_element)[i];

        found |= e->set == (a.family == AF_INET ? SET_G_NEAR4 : SET_G_NEAR6) &&
                 memcmp(e->key.data, a.bytes, addr_size(a.family)) == 0;
    }
    return found;
}

static void add_path(struct seal_model *m, const char *text, uint32_t oif, uint8_t type)
{
    struct path path = {.table = SEAL_TABLE_MAIN, .type = type, .oif = oif};

    assert_int_equal(prefix_parse(str_from(text), &path.dst), 0);
    path.family = path.dst.addr.family;
    assert_int_equal(items_add(&m->paths, &path, sizeof(path)), 0);
}

static struct wish wish(void)
{
    struct wish w = {.n_carriers = 2, .n_resolvers = 1};

    w.carriers[0] = (struct carrier){addr("203.0.113.10"), 1194, IPPROTO_UDP, false};
    w.carriers[1] = (struct carrier){addr("2001:db8:51::1"), 1194, IPPROTO_UDP, false};
    w.resolvers[0] = addr("10.139.1.1");
    return w;
}

/* A socket bound to the uplink makes the kernel take anybody for a neighbour: not even a carrier is one. */
static void test_behind_gateway(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    struct wish w = wish();

    (void)state;
    world_plain(&m);
    assert_true(near(&m, &w, "10.0.0.200")); /* the gateway */
    assert_false(near(&m, &w, "203.0.113.10"));
    assert_false(near(&m, &w, "2001:db8:51::1"));
    assert_false(near(&m, &w, "10.139.1.1"));
}

static void test_on_the_link(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    struct wish w = wish();

    (void)state;
    world_plain(&m);
    add_path(&m, "203.0.113.0/24", WORLD_ETH0, RTN_UNICAST);
    add_path(&m, "2001:db8:51::/64", WORLD_ETH0, RTN_UNICAST);
    assert_true(near(&m, &w, "203.0.113.10"));
    assert_true(near(&m, &w, "2001:db8:51::1"));
    assert_false(near(&m, &w, "10.139.1.1"));
    assert_false(near(&m, &w, "203.0.113.11")); /* its neighbours are not */
    add_path(&m, "0.0.0.0/0", WORLD_ETH0, RTN_UNICAST); /* everybody is, by this one */
    assert_true(near(&m, &w, "10.139.1.1"));
}

static void test_other_links(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    struct wish w = wish();

    (void)state;
    world_plain(&m);
    add_path(&m, "203.0.113.0/24", WORLD_VIF1, RTN_UNICAST);
    add_path(&m, "203.0.113.0/24", WORLD_ETH0, RTN_BLACKHOLE);
    add_path(&m, "203.0.113.0/24", WORLD_LO, RTN_UNICAST);
    assert_false(near(&m, &w, "203.0.113.10"));
}

/* ---- senders ---- */

static bool listed(const struct seal_model *m, enum seal_set four, uint32_t index, const char *text)
{
    _cleanup_(items_free) struct items list = {0};
    struct addr a = addr(text);
    struct seal_element e = {.set = (enum seal_set)(four + (a.family == AF_INET6))};
    const struct wish w = {0};

    if (index != 0)
        assert_int_equal(nft_key_add(&e.key, &index, sizeof(index)), 0);
    assert_int_equal(nft_key_add(&e.key, a.bytes, addr_size(a.family)), 0);
    assert_int_equal(elements_of_wish(&w, 4978, m, &list), 0);
    for (size_t i = 0; i < list.n; i++)
        if (element_equal(&ITEMS(&list, struct seal_element)[i], &e))
            return true;
    return false;
}

static void add_host(struct seal_model *m, const char *text, uint32_t oif, uint32_t metric)
{
    add_path(m, text, oif, RTN_UNICAST);
    ITEMS(&m->paths, struct path)[m->paths.n - 1].metric = metric;
}

static struct path *last_path(struct seal_model *m)
{
    return &ITEMS(&m->paths, struct path)[m->paths.n - 1];
}

/* Only what table 77 has: a host route of table main by a vif and nothing else. */
static void test_qubes(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};

    (void)state;
    world_plain(&m);
    add_host(&m, "10.137.0.77/32", WORLD_VIF1, 0);
    add_host(&m, "fd09::77/128", WORLD_VIF2, 1024);
    assert_true(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.77"));
    assert_true(listed(&m, SET_HERE4, 0, "10.137.0.77"));
    assert_true(listed(&m, SET_QUBE4, WORLD_VIF2, "fd09::77"));
    assert_true(listed(&m, SET_HERE4, 0, "fd09::77"));
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF2, "10.137.0.77"));

    add_host(&m, "10.137.0.80/31", WORLD_VIF1, 0);
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.80"));
    add_host(&m, "10.137.0.81/32", WORLD_VIF1, 0);
    last_path(&m)->gateway = addr("10.137.0.77");
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.81"));
    add_host(&m, "10.137.0.82/32", WORLD_VIF1, 0);
    last_path(&m)->other = true;
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.82"));
    add_host(&m, "10.137.0.83/32", WORLD_VIF1, 0);
    last_path(&m)->table = SEAL_TABLE_VIFS;
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.83"));
    add_path(&m, "10.137.0.84/32", WORLD_VIF1, RTN_BLACKHOLE);
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.84"));
    add_host(&m, "10.137.0.85/32", WORLD_FALSE, 0);
    add_host(&m, "10.137.0.85/32", WORLD_GROUP2, 0);
    add_host(&m, "10.137.0.85/32", WORLD_ETH0, 0);
    for (uint32_t i = WORLD_LO; i <= WORLD_FALSE_TUNNEL; i++)
        assert_false(listed(&m, SET_QUBE4, i, "10.137.0.85"));
}

static void test_address_taken_over(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};

    (void)state;
    world_plain(&m);
    add_host(&m, "10.137.0.77/32", WORLD_VIF1, 50);
    add_host(&m, "10.137.0.77/32", WORLD_VIF2, 49);
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.77"));
    assert_true(listed(&m, SET_QUBE4, WORLD_VIF2, "10.137.0.77"));
    add_host(&m, "10.137.0.77/32", WORLD_VIF1, 49); /* appended */
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "10.137.0.77"));
    assert_true(listed(&m, SET_QUBE4, WORLD_VIF2, "10.137.0.77"));
    add_host(&m, "10.137.0.77/32", WORLD_ETH0, 1); /* table 77 has no such way */
    assert_true(listed(&m, SET_QUBE4, WORLD_VIF2, "10.137.0.77"));
}

/* The kernel makes a host route to each IPv6 address of a vif: no qube is behind it. */
static void test_own_addresses(void **state)
{
    _cleanup_(model_free) struct seal_model m = {0};
    struct rt_addr own = {.index = WORLD_VIF1};

    (void)state;
    world_plain(&m);
    own.prefix = (struct prefix){addr("fd09::14"), 128};
    assert_int_equal(items_add(&m.addrs, &own, sizeof(own)), 0);
    own.prefix = (struct prefix){addr("fd09::15"), 128};
    own.index = WORLD_ETH0;
    assert_int_equal(items_add(&m.addrs, &own, sizeof(own)), 0);
    add_host(&m, "fd09::14/128", WORLD_VIF1, 256);
    add_host(&m, "fd09::15/128", WORLD_VIF1, 256);
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "fd09::14"));
    assert_false(listed(&m, SET_QUBE4, WORLD_VIF1, "fd09::15"));
    assert_true(listed(&m, SET_HERE4, 0, "fd09::14"));
    assert_true(listed(&m, SET_HERE4, 0, "fd09::15"));
    assert_false(listed(&m, SET_OWN4, 0, "fd09::14"));
    assert_true(listed(&m, SET_OWN4, 0, "fd09::15"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind_gateway),
        cmocka_unit_test(test_on_the_link),
        cmocka_unit_test(test_other_links),
        cmocka_unit_test(test_qubes),
        cmocka_unit_test(test_address_taken_over),
        cmocka_unit_test(test_own_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
