/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the seal's sets hold for a wish: whom the kernel may look for on an uplink's link. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind_gateway),
        cmocka_unit_test(test_on_the_link),
        cmocka_unit_test(test_other_links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
