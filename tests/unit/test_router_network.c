/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel half of the model: uplinks, host routes, and whom a change is about. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "router/model.h"
#include "test_random.h"

struct world {
    struct model *m;
    struct model_kernel k;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    if (w != NULL)
        w->m = model_new();
    *state = w;
    return w != NULL && w->m != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    struct world *w = *state;

    w->m = model_free(w->m);
    model_kernel_done(&w->k);
    free(w);
    return 0;
}

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static void *more(void *items, size_t n, size_t size)
{
    char *grown = reallocarray(items, n + 1, size);

    assert_non_null(grown);
    memset(grown + n * size, 0, size);
    return grown;
}

/* candidate: an interface that may be an uplink, as far as the link itself tells */
static void link_is(struct world *w, uint32_t index, const char *name, bool candidate)
{
    struct model_link *l;

    w->k.links = more(w->k.links, w->k.n_links, sizeof(*w->k.links));
    l = &w->k.links[w->k.n_links++];
    l->index = index;
    (void)snprintf(l->name, sizeof(l->name), "%s", name);
    l->carrier = true;
    l->vif = model_parse_vif(name, &l->domid);
    l->uplink = candidate;
}

static void subnet_is(struct world *w, uint32_t index, const char *addr, uint8_t len)
{
    w->k.subnets = more(w->k.subnets, w->k.n_subnets, sizeof(*w->k.subnets));
    w->k.subnets[w->k.n_subnets++] =
        (struct model_subnet){.index = index, .prefix = {addr_of(addr), len}};
}

static void route_is(struct world *w, const char *dst, uint8_t len, uint32_t oif, uint32_t metric)
{
    w->k.routes = more(w->k.routes, w->k.n_routes, sizeof(*w->k.routes));
    w->k.routes[w->k.n_routes++] = (struct model_route){
        .dst = {addr_of(dst), len}, .oif = oif, .metric = metric};
}

static void take(struct world *w)
{
    assert_int_equal(model_kernel_take(w->m, &w->k), 0);
    model_kernel_done(&w->k);
}

static void claim(struct world *w, const char *addr)
{
    struct str value = STR_LITERAL("v=1|vm=a|xid=1|via=direct|edge=1|mode=forward");
    char path[CLAIM_PATH_MAX];

    (void)snprintf(path, sizeof(path), "/network-server/%s", addr);
    assert_int_equal(model_claim(w->m, path, &value), 0);
}

static bool is_uplink(const struct world *w, uint32_t index)
{
    const struct model_link *l = model_link_by_index(w->m, index);

    assert_non_null(l);
    return l->uplink;
}

/* Touched addresses, in no order, as "a b c"; none is left touched. */
static size_t touched(struct world *w, const char *which)
{
    struct slot *list = model_take_dirty(w->m);
    size_t n = 0;

    while (list != NULL) {
        struct slot *next = list->next_dirty;
        char text[ADDR_STR_MAX];

        if (strstr(which, addr_format(&list->addr, text)) == NULL)
            fail_msg("%s was touched", text);
        list->dirty = false;
        list->next_dirty = NULL;
        list = next;
        n++;
    }
    return n;
}

static void test_vif_names(void **state)
{
    static const struct {
        const char *name;
        bool vif;
        uint32_t domid;
    } table[] = {
        {"vif0.0", true, 0},        {"vif11.0", true, 11},     {"vif11.1", true, 11},
        {"vif32751.65535", true, 32751}, {"vif32752.0", false, 0}, {"vif1.65536", false, 0},
        {"vif1", false, 0},         {"vif1.", false, 0},       {"vif.0", false, 0},
        {"vif01.0", false, 0},      {"vif1.00", false, 0},     {"vif1.0.0", false, 0},
        {"vif1.0-emu", false, 0},   {"vif-1.0", false, 0},     {"Vif1.0", false, 0},
        {"eth0", false, 0},         {"", false, 0},            {"vif1. 0", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        uint32_t domid = 4711;

        assert_int_equal(model_parse_vif(table[i].name, &domid), table[i].vif);
        if (table[i].vif)
            assert_int_equal(domid, table[i].domid);
    }
}

/* design: a default route or a configured subnet makes an uplink of a candidate */
static void test_uplinks(void **state)
{
    struct world *w = *state;

    link_is(w, 9, "vif3.0", false);
    link_is(w, 2, "eth0", true);
    link_is(w, 3, "eth1", true);
    link_is(w, 4, "eth2", true);
    link_is(w, 5, "eth3", true);
    link_is(w, 6, "eth4", true);
    link_is(w, 1, "lo", false);
    route_is(w, "0.0.0.0", 0, 2, 0);
    subnet_is(w, 3, "192.168.1.5", 24);
    subnet_is(w, 4, "192.168.2.5", 32); /* Qubes' own uplink has such, with a default route */
    subnet_is(w, 5, "fe80::5", 64);
    route_is(w, "::", 0, 6, 1024);
    route_is(w, "0.0.0.0", 0, 9, 0);
    subnet_is(w, 1, "127.0.0.1", 8);
    take(w);
    assert_true(is_uplink(w, 2));
    assert_true(is_uplink(w, 3));
    assert_false(is_uplink(w, 4));
    assert_false(is_uplink(w, 5)); /* link-local is on every interface */
    assert_true(is_uplink(w, 6));
    assert_false(is_uplink(w, 1));
    assert_false(is_uplink(w, 9)); /* never a vif, whatever routes lead there */
    assert_null(model_link_by_index(w->m, 7));
    assert_string_equal(model_link_by_name(w->m, "eth2")->name, "eth2");
    assert_null(model_link_by_name(w->m, "eth9"));
}

static void test_ever_uplink(void **state)
{
    struct world *w = *state;

    link_is(w, 2, "eth0", true);
    link_is(w, 3, "eth1", true);
    route_is(w, "0.0.0.0", 0, 2, 0);
    take(w);
    link_is(w, 2, "eth0", true); /* the lease is being renewed */
    link_is(w, 3, "eth1", true);
    take(w);
    assert_true(is_uplink(w, 2));
    assert_false(is_uplink(w, 3));
    link_is(w, 2, "eth0", false); /* moved to the vifs' group: not even once more */
    take(w);
    assert_false(is_uplink(w, 2));
    link_is(w, 2, "eth0", true);
    take(w);
    assert_false(is_uplink(w, 2));
    route_is(w, "0.0.0.0", 0, 2, 0);
    link_is(w, 2, "eth0", true);
    take(w);
    take(w); /* it is gone */
    assert_int_equal(w->m->n_links, 0);
    assert_int_equal(w->m->n_ever_uplink, 0);
    link_is(w, 2, "usb0", true); /* another one with the same number */
    take(w);
    assert_false(is_uplink(w, 2));
}

static void test_host_routes(void **state)
{
    struct world *w = *state;
    struct addr a = addr_of("10.137.0.5"), six = addr_of("fd00::5"), none = addr_of("10.137.0.6");
    const struct model_route *r;
    size_t n;

    assert_null(model_host_routes(w->m, &a, &n));
    assert_int_equal(n, 0);
    route_is(w, "10.137.0.5", 32, 12, 300);
    route_is(w, "10.137.0.0", 24, 7, 0);
    route_is(w, "fd00::5", 128, 9, 1024);
    route_is(w, "10.137.0.5", 32, 11, 200);
    route_is(w, "10.137.0.5", 31, 7, 0);
    route_is(w, "0.0.0.0", 0, 2, 0);
    route_is(w, "10.137.0.5", 32, 13, 300);
    route_is(w, "10.137.0.4", 32, 10, 0);
    take(w);
    r = model_host_routes(w->m, &a, &n);
    assert_int_equal(n, 3);
    assert_int_equal(r[0].oif, 11); /* best first */
    assert_int_equal(r[1].oif, 12);
    assert_int_equal(r[2].oif, 13);
    assert_non_null(model_host_routes(w->m, &six, &n));
    assert_int_equal(n, 1);
    assert_null(model_host_routes(w->m, &none, &n));
    assert_int_equal(n, 0);
    assert_int_equal(w->m->n_hosts, 5);
    assert_int_equal(w->m->n_wide, 3);
}

static void fill(struct world *w)
{
    link_is(w, 2, "eth0", true);
    link_is(w, 11, "vif11.0", false);
    link_is(w, 12, "vif12.0", false);
    subnet_is(w, 2, "192.168.1.5", 24);
    route_is(w, "0.0.0.0", 0, 2, 0);
    route_is(w, "10.137.0.1", 32, 11, 0);
    route_is(w, "10.137.0.2", 32, 12, 0);
    route_is(w, "10.137.0.99", 32, 12, 0); /* of an address that nobody claims */
}

static void test_touches(void **state)
{
    struct world *w = *state;

    claim(w, "10.137.0.1");
    claim(w, "10.137.0.2");
    claim(w, "10.137.0.3");
    fill(w);
    take(w);
    assert_int_equal(touched(w, "10.137.0.1 10.137.0.2 10.137.0.3"), 3);
    fill(w);
    take(w);
    assert_int_equal(touched(w, ""), 0); /* nothing changed */
    fill(w);
    route_is(w, "10.137.0.3", 32, 12, 0);
    take(w);
    assert_int_equal(touched(w, "10.137.0.3"), 1);
    fill(w);
    w->k.routes[1].metric = 7;
    take(w);
    assert_int_equal(touched(w, "10.137.0.1 10.137.0.3"), 2); /* one changed, one left */
    fill(w);
    w->k.routes[3].oif = 11; /* of no concern */
    w->k.routes[1].metric = 7;
    take(w);
    assert_int_equal(touched(w, ""), 0);
    fill(w);
    w->k.routes[1].metric = 7;
    w->k.routes[3].oif = 11;
    w->k.links[0].carrier = false;
    take(w);
    assert_int_equal(touched(w, "10.137.0.1 10.137.0.2 10.137.0.3"), 3);
}

/* The kernel lists things in whatever order: that is no change. */
static void test_order_is_no_change(void **state)
{
    struct rnd rnd = random_begin("order of dumps");
    struct world *w = *state;

    claim(w, "10.137.0.1");
    fill(w);
    take(w);
    (void)touched(w, "10.137.0.1");
    for (int i = 0; i < 200; i++) {
        fill(w);
        for (size_t k = w->k.n_routes - 1; k > 0; k--) {
            size_t with = random_below(&rnd, (uint32_t)k + 1);
            struct model_route r = w->k.routes[k];

            w->k.routes[k] = w->k.routes[with];
            w->k.routes[with] = r;
        }
        for (size_t k = w->k.n_links - 1; k > 0; k--) {
            size_t with = random_below(&rnd, (uint32_t)k + 1);
            struct model_link l = w->k.links[k];

            w->k.links[k] = w->k.links[with];
            w->k.links[with] = l;
        }
        take(w);
        assert_int_equal(touched(w, ""), 0);
        for (size_t k = 1; k < w->m->n_links; k++)
            assert_true(w->m->links[k - 1].index < w->m->links[k].index);
    }
}

/* What the kernel has of ours is kept sorted and once, whatever order it comes in. */
static void test_actual(void **state)
{
    struct rnd rnd = random_begin("actual objects");
    struct world *w = *state;
    struct addr a = addr_of("10.137.0.1");
    struct slot *s;

    for (int i = 0; i < 2000; i++) {
        struct object o = {.kind = (enum object_kind)random_below(&rnd, OBJECT_KINDS),
                           .uplink_index = random_below(&rnd, 3)};

        (void)snprintf(o.vif, sizeof(o.vif), "vif%u.0", random_below(&rnd, 4));
        o.port_lo = (uint16_t)random_below(&rnd, 4);
        assert_int_equal(model_add_actual(w->m, &a, &o), 0);
    }
    s = model_find(w->m, &a);
    assert_non_null(s);
    for (size_t i = 1; i < s->n_actual; i++)
        assert_true(object_compare(&s->actual[i - 1], &s->actual[i]) < 0);
    assert_int_equal(model_set_actual(w->m, s, NULL, 0), 0);
    assert_int_equal(s->n_actual, 0);
}

static void test_sysctl_list(void **state)
{
    struct sysctl_list list = {0};
    uint32_t v = 9;

    (void)state;
    assert_false(model_sysctl_get(&list, "all", SYSCTL_IP6_FORWARDING, &v));
    assert_int_equal(v, 9);
    for (uint32_t i = 0; i < 50; i++) {
        struct sysctl_value value = {.id = SYSCTL_IP6_FORWARDING, .value = i};

        (void)snprintf(value.scope, sizeof(value.scope), "eth%u", i % 25);
        assert_int_equal(model_sysctl_set(&list, &value), 0);
    }
    assert_int_equal(list.n, 25);
    assert_true(model_sysctl_get(&list, "eth3", SYSCTL_IP6_FORWARDING, &v));
    assert_int_equal(v, 28);
    assert_false(model_sysctl_get(&list, "eth3", SYSCTL_IP6_PROXY_NDP, &v));
    model_sysctl_list_done(&list);
    assert_int_equal(list.n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Another host has the address: asked for again soon at first, then less and less often. */
static void test_conflict_pauses(void **state)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    static const unsigned pauses[] = {1, 2, 4, 8, 16, 30, 30};
    const uint64_t second = 1000000;
    struct conflict c = {.present = false};
    uint64_t now = 5;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
        model_conflict_note(&c, 2, mac, now);
        assert_true(c.present && c.uplink_index == 2 && memcmp(c.mac, mac, 6) == 0);
        assert_int_equal(c.again_us, now + pauses[i] * second);
        now = c.again_us;
        model_conflict_ask(&c, now);
        assert_true(c.again_us > now); /* asked once, not in a loop */
        c.present = i % 2 == 0;        /* resolved, but back at once: the same conflict */
        now += second / 10;
    }
    c.present = false;
    now += 60 * second; /* and gone for good: the next is a new one */
    model_conflict_note(&c, 3, mac, now);
    assert_int_equal(c.again_us, now + second);
    model_conflict_note(&c, 3, mac, now);
    model_conflict_restart(&c);
    assert_true(c.present && c.again_us <= now);
    model_conflict_note(&c, 3, mac, now);
    assert_int_equal(c.again_us, now + second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vif_names), TEST(test_uplinks), TEST(test_ever_uplink),
        TEST(test_host_routes),           TEST(test_touches), TEST(test_order_is_no_change),
        TEST(test_actual),                cmocka_unit_test(test_sysctl_list),
        cmocka_unit_test(test_conflict_pauses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
