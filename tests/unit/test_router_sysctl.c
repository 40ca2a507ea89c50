/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel switches: what each case of plan_sysctl.c leaves in a kernel where writing all.forwarding
 * overwrites every interface's own, and that all of it comes back. laws_check() also sees to it
 * that no route from a router advertisement is lost and that a second plan has nothing to do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "test_router_laws.h"

enum { ETH0, ETH1, VIF11, VIF12 }; /* as world_links[] */

static int setup(void **state)
{
    struct world *w = world_new(NULL, 0);

    for (size_t i = 0; i < WORLD_LINKS; i++)
        w->links[i].present = true;
    for (size_t i = ETH0; i <= ETH1; i++) {
        w->links[i].of[SYSCTL_IP6_ACCEPT_RA] = 1;
        w->links[i].of[SYSCTL_IP4_PROXY_DELAY] = w->links[i].of[SYSCTL_IP6_PROXY_DELAY] = 80;
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    *state = world_free(*state);
    return 0;
}

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

/* eth0 with a subnet of each family, eth1 with another, the address on vif11.0. without: no such. */
static void set_net(struct world *w, const char *addr, const char *without)
{
    struct model_kernel k = {.links = calloc(WORLD_LINKS, sizeof(*k.links)),
                             .subnets = calloc(3, sizeof(*k.subnets)),
                             .routes = calloc(1, sizeof(*k.routes))};
    struct addr a = addr_of(addr);

    assert_true(k.links != NULL && k.subnets != NULL && k.routes != NULL);
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        struct model_link *l = &k.links[k.n_links];

        w->links[i].present = strcmp(world_links[i].name, without) != 0;
        if (!w->links[i].present)
            continue;
        k.n_links++;
        l->index = world_links[i].index;
        (void)snprintf(l->name, sizeof(l->name), "%s", world_links[i].name);
        l->carrier = true;
        l->uplink = world_links[i].candidate;
        l->vif = model_parse_vif(l->name, &l->domid);
    }
    k.subnets[k.n_subnets++] = (struct model_subnet){2, {addr_of("fd00:1::5"), 64}};
    k.subnets[k.n_subnets++] = (struct model_subnet){2, {addr_of("192.168.1.5"), 24}};
    k.subnets[k.n_subnets++] = (struct model_subnet){3, {addr_of("fd00:2::5"), 64}};
    k.routes[k.n_routes++] = (struct model_route){{a, addr_bits(a.family)}, {0}, 11, 0};
    assert_int_equal(model_kernel_take(w->m, &k), 0);
    model_kernel_done(&k);
}

static void open_and_check(struct world *w, const char *addr)
{
    struct str value = STR_LITERAL("v=1|vm=a|xid=11|via=direct|edge=1|mode=forward");
    char path[CLAIM_PATH_MAX];

    set_net(w, addr, "");
    (void)snprintf(path, sizeof(path), "/network-server/%s", addr);
    assert_int_equal(model_claim(w->m, path, &value), 0);
    laws_check(w, true);
}

static void close_and_check(struct world *w)
{
    model_claims_begin(w->m);
    model_claims_end(w->m);
    laws_check(w, true);
}

static void expect(const struct world *w, size_t link, uint32_t forwarding, uint32_t ra,
                   uint32_t ndp, uint32_t delay4, uint32_t delay6)
{
    const uint32_t *of = w->links[link].of;

    if (of[SYSCTL_IP6_FORWARDING] != forwarding || of[SYSCTL_IP6_ACCEPT_RA] != ra ||
        of[SYSCTL_IP6_PROXY_NDP] != ndp || of[SYSCTL_IP4_PROXY_DELAY] != delay4 ||
        of[SYSCTL_IP6_PROXY_DELAY] != delay6)
        fail_msg("%s: forwarding %u accept_ra %u proxy_ndp %u delay %u %u", world_links[link].name,
                 of[SYSCTL_IP6_FORWARDING], of[SYSCTL_IP6_ACCEPT_RA], of[SYSCTL_IP6_PROXY_NDP],
                 of[SYSCTL_IP4_PROXY_DELAY], of[SYSCTL_IP6_PROXY_DELAY]);
}

static void test_ip4_only(void **state)
{
    struct world *w = *state;

    open_and_check(w, "192.168.1.77");
    expect(w, ETH0, 0, 1, 0, 0, 80);
    expect(w, ETH1, 0, 1, 0, 80, 80);
    assert_int_equal(w->all_forwarding, 0); /* nothing of IPv6 is switched for it */
    close_and_check(w);
    expect(w, ETH0, 0, 1, 0, 80, 80);
    assert_int_equal(w->m->put_back.n, 0);
}

static void test_platform_off(void **state)
{
    struct world *w = *state;

    open_and_check(w, "fd00:1::77");
    assert_int_equal(w->all_forwarding, 1);
    assert_int_equal(w->default_forwarding, 0);
    expect(w, ETH0, 1, 2, 1, 80, 0);
    expect(w, ETH1, 0, 1, 0, 80, 80); /* still a host on the other uplink */
    assert_int_equal(w->links[VIF11].of[SYSCTL_IP6_FORWARDING], 1);
    assert_int_equal(w->links[VIF12].of[SYSCTL_IP6_FORWARDING], 0);
    close_and_check(w);
    assert_int_equal(w->all_forwarding, 0);
    expect(w, ETH0, 0, 1, 0, 80, 80);
    expect(w, ETH1, 0, 1, 0, 80, 80);
    assert_int_equal(w->m->put_back.n, 0);
}

/* The transaction of a plan failed after it had noted the old values: the next one begins with them. */
static void test_saved_by_one_that_failed(void **state)
{
    struct world *w = *state;
    const struct sysctl_value noted[] = {{SYSCTL_IP6_ACCEPT_RA, "eth0", 1},
                                         {SYSCTL_IP6_ACCEPT_RA, "eth1", 1},
                                         {SYSCTL_IP6_FORWARDING, "all", 0}};

    for (size_t i = 0; i < sizeof(noted) / sizeof(noted[0]); i++)
        assert_int_equal(model_sysctl_set(&w->m->put_back, &noted[i]), 0);
    open_and_check(w, "fd00:1::77");
    expect(w, ETH0, 1, 2, 1, 80, 0);
    expect(w, ETH1, 0, 1, 0, 80, 80);
    close_and_check(w);
    expect(w, ETH0, 0, 1, 0, 80, 80);
    expect(w, ETH1, 0, 1, 0, 80, 80);
    assert_int_equal(w->all_forwarding, 0);
    assert_int_equal(w->m->put_back.n, 0);
}

static void test_platform_on(void **state)
{
    struct world *w = *state;

    w->all_forwarding = w->default_forwarding = 1;
    for (size_t i = 0; i < WORLD_LINKS; i++)
        w->links[i].of[SYSCTL_IP6_FORWARDING] = 1;
    open_and_check(w, "fd00:1::77");
    expect(w, ETH0, 1, 1, 1, 80, 0); /* accept_ra is the platform's business */
    close_and_check(w);
    assert_int_equal(w->all_forwarding, 1);
    expect(w, ETH0, 1, 1, 0, 80, 80);
}

/* all is on and the uplink's own is off: it is switched on, and its routes must not be lost. */
static void test_own_off(void **state)
{
    struct world *w = *state;

    w->all_forwarding = 1;
    open_and_check(w, "fd00:1::77");
    expect(w, ETH0, 1, 2, 1, 80, 0);
    close_and_check(w);
    expect(w, ETH0, 0, 1, 0, 80, 80);
    assert_int_equal(w->all_forwarding, 1);
}

/* The platform came to want IPv6: what we switched on for it stays on. */
static void test_wanted_meanwhile(void **state)
{
    struct world *w = *state;

    open_and_check(w, "fd00:1::77");
    w->m->wants_ip6 = true;
    w->m->ip6_reading = w->m->reading + 1;
    close_and_check(w);
    assert_int_equal(w->all_forwarding, 1);
    assert_int_equal(w->links[ETH0].of[SYSCTL_IP6_FORWARDING], 1);
}

/* A router whose accept_ra is 1 takes no advertisements: it would lose its own way out. */
static void test_wanted_keeps_ra(void **state)
{
    struct world *w = *state;

    open_and_check(w, "fd00:1::77");
    w->m->wants_ip6 = true;
    w->m->ip6_reading = w->m->reading + 1;
    close_and_check(w);
    assert_int_equal(w->links[ETH0].of[SYSCTL_IP6_ACCEPT_RA], 2);
}

static void test_somebody_else_writes(void **state)
{
    struct world *w = *state;

    open_and_check(w, "fd00:1::77");
    w->links[ETH0].of[SYSCTL_IP6_PROXY_NDP] = 0;
    w->links[ETH0].of[SYSCTL_IP6_PROXY_DELAY] = 80;
    world_write_switch(w, &(struct sysctl_value){SYSCTL_IP6_FORWARDING, "all", 0});
    laws_check(w, true);
    expect(w, ETH0, 1, 2, 1, 80, 0);
    close_and_check(w);
    expect(w, ETH0, 0, 1, 0, 80, 80);
    assert_int_equal(w->all_forwarding, 0);
}

/* What is stored for a link that is gone is forgotten: another one may get its name. */
static void test_link_gone(void **state)
{
    struct world *w = *state;

    open_and_check(w, "fd00:1::77");
    set_net(w, "fd00:1::77", "eth0");
    laws_check(w, true);
    for (size_t i = 0; i < w->m->put_back.n; i++)
        assert_string_not_equal(w->m->put_back.values[i].scope, "eth0");
    close_and_check(w);
    assert_int_equal(w->all_forwarding, 0);
    assert_int_equal(w->m->put_back.n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_wanted_keeps_ra),
        TEST(test_ip4_only),         TEST(test_platform_off),         TEST(test_platform_on),
        TEST(test_own_off),          TEST(test_wanted_meanwhile),     TEST(test_link_gone),
        TEST(test_somebody_else_writes), TEST(test_saved_by_one_that_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
