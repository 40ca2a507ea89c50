/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wishes half of the model: which keys claim what, strays, limits, readings. */
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
#include "router/access.h"
#include "router/model.h"

#define RECORD "v=1|vm=web|xid=11|via=direct|edge=1|mode=forward"

static int setup(void **state)
{
    *state = model_new();
    return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    *state = model_free(*state);
    return 0;
}

static void set(struct model *m, const char *path, const char *value)
{
    struct str s = str_from(value);

    assert_int_equal(model_claim(m, path, &s), 0);
}

static void gone(struct model *m, const char *path)
{
    assert_int_equal(model_claim(m, path, NULL), 0);
}

static struct slot *slot_of(const struct model *m, const char *addr)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(addr), &a), 0);
    return model_find(m, &a);
}

/* Clears what was touched. Returns how many there were. */
static size_t touched(struct model *m)
{
    struct slot *list = model_take_dirty(m);
    size_t n = 0;

    while (list != NULL) {
        struct slot *next = list->next_dirty;

        list->dirty = false;
        list->next_dirty = NULL;
        list = next;
        n++;
    }
    return n;
}

static void test_wants(void **state)
{
    static const struct {
        const char *path;
        bool wanted;
    } table[] = {
        {"/network-server", true}, {"/network-server/10.0.0.1", true}, {"/network-server/", true},
        {"/network-server-inbound", false}, {"/network-serverx", false},
        {"/network-server/x", true}, {"/vm-config/expose.10.0.0.1", true},
        {"/vm-config/expose", false}, {"/vm-config/expose-inbound", false},
        {"/qubes-routing-method/10.0.0.1", true}, {"/qubes-routing-method", false},
        {"/qubes-netvm-gateway6", true}, {"/qubes-netvm-gateway", false}, {"", false},
        {"network-server", false}, {"/", false},
    };
    struct model *m = *state;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(model_wants_path(table[i].path), table[i].wanted);
        if (!table[i].wanted) {
            set(m, table[i].path, "v=1"); /* not ours: nothing happens, not even a stray */
            gone(m, table[i].path);
        }
    }
    assert_int_equal(m->n_slots + m->n_strays, 0);
}

/* Who gets in by the claim; the caller has no need to free what these tests put there. */
static struct access access_of(const struct slot *s)
{
    static struct access a;

    access_done(&a);
    assert_int_equal(model_claim_access(s->claims, s->addr.family, &a), 0);
    return a;
}

static void test_forms(void **state)
{
    struct model *m = *state;
    struct slot *s;

    set(m, "/network-server/10.137.0.5", RECORD);
    s = slot_of(m, "10.137.0.5");
    assert_non_null(s);
    assert_int_equal(s->claims->source, CLAIM_RECORD);
    assert_true(s->claims->valid && access_of(s).everything && !s->claims->off);
    assert_string_equal(s->claims->record.vm, "web");
    set(m, "/vm-config/expose.fd00__5", "v=1|mode=forward|allow=tcp/80");
    s = slot_of(m, "fd00::5");
    assert_non_null(s);
    assert_int_equal(s->claims->source, CLAIM_VM_CONFIG);
    assert_true(s->claims->valid && !access_of(s).everything);
    assert_int_equal(access_of(s).permitted.n, 1);
    set(m, "/vm-config/expose.10.137.0.6", "v=1|mode=forward");
    assert_int_equal(slot_of(m, "10.137.0.6")->claims->source, CLAIM_VM_CONFIG);
    set(m, "/qubes-routing-method/10.137.0.7", "forward");
    s = slot_of(m, "10.137.0.7");
    assert_int_equal(s->claims->source, CLAIM_METHOD);
    assert_true(s->claims->valid && access_of(s).everything && s->claims->record.edge);
    set(m, "/qubes-routing-method/10.137.0.7", "masquerade");
    assert_true(s->claims->valid && s->claims->off);
    set(m, "/qubes-routing-method/10.137.0.7", "Forward");
    assert_false(s->claims->valid || s->claims->off);
    assert_non_null(s->claims->why);
    set(m, "/qubes-routing-method/fd00::7", "forward");
    assert_non_null(slot_of(m, "fd00::7"));
    assert_int_equal(m->n_strays, 0);
}

/* One address written in several ways is one address: claims meet, so that the plan sees both. */
static void test_spellings(void **state)
{
    static const char *const paths[] = {
        "/network-server/fd00::a:5", "/network-server/FD00::A:5", "/network-server/fd00:0::a:0005",
        "/vm-config/expose.fd00__a_5", "/vm-config/expose.fd00::a:5",
        "/vm-config/expose.fd00_:a_5", "/qubes-routing-method/fd00:0:0:0:0:0:a:5",
    };
    struct model *m = *state;
    struct slot *s;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        set(m, paths[i], RECORD);
    assert_int_equal(m->n_slots, 1);
    s = slot_of(m, "fd00::a:5");
    for (const struct claim *c = s->claims; c != NULL; c = c->next)
        n++;
    assert_int_equal(n, ARRAY_SIZE(paths));
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        gone(m, paths[i]);
        gone(m, paths[i]); /* twice does no harm */
    }
    assert_null(s->claims);
}

static void find_stray(struct stray *stray, void *user)
{
    struct stray *wanted = user;

    if (strcmp(stray->path, wanted->path) == 0)
        wanted->why = stray->why;
}

/* Why the key is one, or NULL. */
static const char *why_stray(const struct model *m, const char *path)
{
    struct stray wanted = {.why = NULL};

    (void)snprintf(wanted.path, sizeof(wanted.path), "%s", path);
    model_each_stray(m, find_stray, &wanted);
    return wanted.why;
}

static void test_strays(void **state)
{
    static const char *const paths[] = {
        "/network-server/", "/network-server/x", "/network-server/10.0.0.1/32",
        "/network-server/10.0.0.01", "/network-server/127.0.0.1", "/network-server/fe80::1",
        "/network-server/::ffff:10.0.0.1", "/network-server/10.0.0.1 ", "/network-server/fd00__1",
        "/vm-config/expose.", "/vm-config/expose.10_0_0_1", "/vm-config/expose.224.0.0.1",
        "/qubes-routing-method/", "/qubes-routing-method/10.139.1.1",
        "/network-server/0000:0000:0000:0000:0000:0000:255.255.255.2555",
    };
    struct model *m = *state;

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        set(m, paths[i], RECORD);
        assert_int_equal(m->n_strays, i + 1);
        assert_non_null(why_stray(m, paths[i]));
        set(m, paths[i], "other"); /* still one */
        assert_int_equal(m->n_strays, i + 1);
    }
    assert_int_equal(m->n_slots, 0);
    for (size_t i = ARRAY_SIZE(paths); i-- > 0;) {
        gone(m, paths[i]);
        assert_int_equal(m->n_strays, i);
    }
}

/* Each is there once, and gone when its key is, however many there are. */
static void test_many_strays(void **state)
{
    const size_t all = 500;
    struct model *m = *state;
    char path[CLAIM_PATH_MAX];

    for (size_t i = 0; i < all; i++) {
        (void)snprintf(path, sizeof(path), "/network-server/x%zu", i);
        set(m, path, "a");
        set(m, path, "b");
    }
    assert_int_equal(m->n_strays, all);
    for (size_t i = 0; i < all; i++) {
        (void)snprintf(path, sizeof(path), "/network-server/x%zu", i);
        gone(m, path);
        assert_int_equal(m->n_strays, all - i - 1);
        assert_null(why_stray(m, path));
    }
    model_claims_begin(m);
    model_claims_end(m);
    assert_int_equal(m->n_strays, 0);
    for (size_t i = 0; i < ROUTER_MAX_STRAYS + 20; i++) {
        (void)snprintf(path, sizeof(path), "/network-server/x%zu", i);
        set(m, path, "a");
    }
    assert_int_equal(m->n_strays, ROUTER_MAX_STRAYS);
    model_claims_begin(m);
    set(m, "/network-server/x7", "a");
    model_claims_end(m);
    assert_int_equal(m->n_strays, 1);
}

static void test_unchanged(void **state)
{
    struct model *m = *state;

    set(m, "/network-server/10.0.0.1", RECORD);
    set(m, "/network-server/10.0.0.2", RECORD);
    assert_int_equal(touched(m), 2);
    set(m, "/network-server/10.0.0.1", RECORD);
    gone(m, "/network-server/10.0.0.3");
    assert_int_equal(touched(m), 0);
    set(m, "/network-server/10.0.0.1", RECORD "|keep=1");
    assert_int_equal(touched(m), 1);
    assert_true(slot_of(m, "10.0.0.1")->claims->record.keep);
    assert_true(m->slots != NULL && slot_of(m, "10.0.0.1")->claims->next == NULL);
    gone(m, "/network-server/10.0.0.1");
    gone(m, "/network-server/10.0.0.1");
    assert_int_equal(touched(m), 1);
    set(m, "/network-server/10.0.0.2", "");
    assert_int_equal(touched(m), 1);
    assert_false(slot_of(m, "10.0.0.2")->claims->valid);
    set(m, "/network-server/10.0.0.2", "");
    assert_int_equal(touched(m), 0);
}

static void test_switches(void **state)
{
    struct model *m = *state;

    set(m, "/network-server/10.0.0.1", RECORD);
    (void)touched(m);
    set(m, "/network-server", "");
    assert_true(m->marker);
    assert_int_equal(touched(m), 1); /* what the other keys are worth depends on it */
    set(m, "/network-server", "x");
    assert_int_equal(touched(m), 0);
    gone(m, "/network-server");
    assert_false(m->marker);
    assert_int_equal(touched(m), 1);
    set(m, "/qubes-netvm-gateway6", "fd00::1");
    assert_true(m->wants_ip6);
    set(m, "/qubes-netvm-gateway6", ""); /* how Qubes says "none" */
    assert_false(m->wants_ip6);
    set(m, "/qubes-netvm-gateway6", "fd00::1");
    gone(m, "/qubes-netvm-gateway6");
    assert_false(m->wants_ip6);
}

static void test_sweep(void **state)
{
    struct model *m = *state;

    set(m, "/network-server", "");
    set(m, "/qubes-netvm-gateway6", "fd00::1");
    set(m, "/network-server/10.0.0.1", RECORD);
    set(m, "/network-server/10.0.0.2", RECORD);
    set(m, "/qubes-routing-method/10.0.0.2", "forward");
    set(m, "/network-server/x", RECORD);
    (void)touched(m);
    model_claims_begin(m);
    assert_int_equal(touched(m), 0);
    set(m, "/network-server", "");
    set(m, "/qubes-netvm-gateway6", "fd00::1");
    set(m, "/network-server/10.0.0.1", RECORD);
    set(m, "/network-server/10.0.0.2", RECORD);
    model_claims_end(m);
    assert_int_equal(touched(m), 1); /* the method of 10.0.0.2 */
    assert_int_equal(m->n_strays, 0);
    assert_true(m->marker && m->wants_ip6);
    assert_null(slot_of(m, "10.0.0.2")->claims->next);
    /* an empty QubesDB: also the two keys that are no claims are gone */
    model_claims_begin(m);
    model_claims_end(m);
    assert_int_equal(touched(m), 2);
    assert_null(slot_of(m, "10.0.0.1")->claims);
    assert_false(m->marker || m->wants_ip6);
}

static void test_limit(void **state)
{
    struct model *m = *state;
    struct object o = {.kind = OBJECT_ANY, .vif = "vif1.0"};
    char path[CLAIM_PATH_MAX];
    struct addr beyond;
    struct slot *s;

    for (unsigned i = 0; i < ROUTER_MAX_ADDRESSES + 3; i++) {
        (void)snprintf(path, sizeof(path), "/network-server/10.0.%u.%u", i / 250, i % 250);
        set(m, path, RECORD);
    }
    assert_int_equal(m->n_slots, ROUTER_MAX_ADDRESSES);
    assert_int_equal(m->n_over_limit, 3);
    set(m, "/network-server/10.0.0.1", RECORD "|keep=1"); /* known ones still change */
    assert_true(slot_of(m, "10.0.0.1")->claims->record.keep);
    /* what the kernel has is seen whatever the keys are, else it could never be withdrawn */
    assert_int_equal(addr_parse(STR_LITERAL("10.9.9.9"), &beyond), 0);
    assert_int_equal(model_add_actual(m, &beyond, &o), 0);
    s = model_find(m, &beyond);
    assert_non_null(s);
    assert_int_equal(s->n_actual, 1);
    model_claims_begin(m);
    assert_int_equal(m->n_over_limit, 0);
    model_claims_end(m);
    assert_null(slot_of(m, "10.0.0.1")->claims);
}

/* Slots go when nothing is known of them any more, and only then. */
static void read_nothing(struct model *m, unsigned kinds, int family)
{
    model_read_begin(m, kinds, family);
    model_read_end(m, kinds, family);
}

static void test_idle(void **state)
{
    struct model *m = *state;
    struct object o = {.kind = OBJECT_PROXY, .uplink_index = 2};
    struct addr a;
    struct slot *s;

    set(m, "/network-server/10.0.0.1", RECORD);
    s = slot_of(m, "10.0.0.1");
    a = s->addr;
    assert_false(model_drop_idle(m, s)); /* waits to be planned */
    (void)touched(m);
    assert_false(model_drop_idle(m, s));
    assert_int_equal(model_add_actual(m, &a, &o), 0);
    gone(m, "/network-server/10.0.0.1");
    (void)touched(m);
    assert_false(model_drop_idle(m, s));
    read_nothing(m, 1u << OBJECT_ANY, AF_INET);
    read_nothing(m, 1u << OBJECT_PROXY, AF_INET6);
    assert_int_equal(s->n_actual, 1);
    model_read_begin(m, 1u << OBJECT_PROXY, AF_INET);
    assert_int_equal(model_add_actual(m, &a, &o), 0);
    model_read_end(m, 1u << OBJECT_PROXY, AF_INET);
    assert_int_equal(s->n_actual, 1);
    assert_int_equal(touched(m), 0); /* it is as it was: nothing to plan */
    read_nothing(m, 1u << OBJECT_PROXY, AF_INET);
    assert_int_equal(touched(m), 1);
    assert_int_equal(s->n_actual, 0);
    assert_false(model_drop_idle(m, s)); /* it was open: its flows are to be ended first */
    s->lent = false;
    assert_true(model_drop_idle(m, s));
    assert_null(model_find(m, &a));
    assert_int_equal(m->n_slots, 0);
}

static void test_other_family(void **state)
{
    struct model *m = *state;
    const struct claim *c;

    set(m, "/network-server/10.0.0.1", "v=1|vm=a|xid=1|via=fd00::1|edge=1|mode=forward");
    c = slot_of(m, "10.0.0.1")->claims;
    assert_false(c->valid);
    assert_non_null(c->why);
    set(m, "/network-server/10.0.0.1", RECORD "|allow=tcp/80 from fd00::/8");
    assert_true(c->valid && !access_of(slot_of(m, "10.0.0.1")).everything);
    assert_int_equal(access_of(slot_of(m, "10.0.0.1")).permitted.n, 0);
}

/* Where published ports count: at the edge by the port outside, at inner hops by the one inside. */
static void test_publish(void **state)
{
#define PUBLISHED "v=1|vm=a|xid=1|via=direct|mode=publish|publish=tcp/8080:80 from 10.0.0.0/8"
    struct model *m = *state;
    const struct claim *c;
    struct access a;

    set(m, "/network-server/10.0.0.1", PUBLISHED "|edge=1");
    c = slot_of(m, "10.0.0.1")->claims;
    a = access_of(slot_of(m, "10.0.0.1"));
    assert_true(c->valid && !a.everything && m->publish_changed);
    assert_int_equal(a.permitted.n, 0);
    assert_int_equal(a.outside.n, 1);
    assert_int_equal(a.outside.entries[0].port_lo, 8080);
    (void)touched(m);
    assert_true(m->has_publish && !m->publish_changed);
    set(m, "/network-server/10.0.0.1", PUBLISHED "|edge=0");
    a = access_of(slot_of(m, "10.0.0.1"));
    assert_int_equal(a.outside.n, 0);
    assert_int_equal(a.permitted.n, 1);
    assert_int_equal(a.permitted.entries[0].port_lo, 80);
    (void)touched(m);
    gone(m, "/network-server/10.0.0.1");
    assert_true(m->publish_changed);
    (void)touched(m);
    assert_false(m->has_publish);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_wants),        TEST(test_forms),    TEST(test_spellings), TEST(test_strays),
        TEST(test_many_strays),  TEST(test_unchanged), TEST(test_switches), TEST(test_sweep),
        TEST(test_limit),        TEST(test_idle),     TEST(test_other_family), TEST(test_publish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
