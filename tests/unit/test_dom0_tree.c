/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree: names, properties as qubesd says them, features by template, hops. */
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
#include "dom0/tree/tree.h"
#include "test_random.h"

static struct qube *get(struct tree *t, const char *name)
{
    int error = 0;
    struct qube *q = tree_get(t, str_from(name), &error);

    assert_non_null(q);
    return q;
}

static void set(struct qube *q, const char *name, const char *value, int expected)
{
    q->complete = true;
    assert_int_equal(qube_set_property(q, str_from(name), str_from(value)), expected);
    assert_int_equal(q->complete, expected == 0);
}

static void test_names(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    static const char *const bad[] = {"", "a b", "a/b", "a|b", "\xc3\xa4",
                                      "a23456789012345678901234567890123"};
    int error;

    (void)state;
    assert_non_null(t);
    assert_non_null(get(t, "a234567890123456789012345678901"));
    assert_non_null(get(t, "Disp12.x_y-z"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        error = 0;
        assert_null(tree_get(t, str_from(bad[i]), &error));
        assert_int_equal(error, -EINVAL);
        assert_null(tree_find(t, str_from(bad[i])));
    }
}

static void test_sorted_at_random(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    struct rnd rnd = random_begin("tree");
    bool there[200] = {false};

    (void)state;
    assert_non_null(t);
    for (int i = 0; i < 5000; i++) {
        unsigned k = random_below(&rnd, 200);
        char name[16];
        struct qube *q;

        (void)snprintf(name, sizeof(name), "q%u", k);
        q = tree_find(t, str_from(name));
        assert_int_equal(q != NULL, there[k]);
        if (there[k])
            tree_remove(t, q);
        else
            (void)get(t, name);
        there[k] = !there[k];
    }
    for (size_t i = 1; i < tree_count(t); i++)
        assert_true(strcmp(tree_at(t, i - 1)->name, tree_at(t, i)->name) < 0);
    assert_null(tree_at(t, tree_count(t)));
}

static void test_limit(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    int error = 0;

    (void)state;
    assert_non_null(t);
    for (unsigned i = 0; i < TREE_QUBES_MAX; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "q%05u", i);
        (void)get(t, name);
    }
    assert_null(tree_get(t, STR_LITERAL("one-more"), &error));
    assert_int_equal(error, -ENOSPC);
    assert_non_null(get(t, "q00007"));
}

static void test_properties(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    struct qube *q;
    char buf[ADDR_STR_MAX];

    (void)state;
    assert_non_null(t);
    q = get(t, "web");
    set(q, "ip", "10.137.0.4", 0);
    assert_string_equal(addr_format(&q->ip[0], buf), "10.137.0.4");
    set(q, "ip", "fd09::1", -EINVAL);
    set(q, "ip6", "fe80::1%eth0", -EINVAL);
    set(q, "ip6", "fd09::1", 0);
    set(q, "ip6", "", 0);
    assert_int_equal(q->ip[1].family, 0);
    set(q, "netvm", "sys-net", 0);
    set(q, "netvm", "sys net", -EINVAL);
    assert_string_equal(q->netvm, "sys-net");
    set(q, "netvm", "", 0);
    assert_string_equal(q->netvm, "");
    set(q, "provides_network", "True", 0);
    assert_true(q->provides_network);
    set(q, "provides_network", "1", -EINVAL);
    set(q, "xid", "32751", 0);
    assert_int_equal(q->xid[0], 32751);
    set(q, "xid", "32752", -EINVAL);
    set(q, "xid", "-1", 0);
    assert_int_equal(q->xid[0], 0);
    set(q, "stubdom_xid", "", 0);
    set(q, "klass", "DispVM", 0);
    set(q, "klass", "a class with quite a long name", -EINVAL);
    set(q, "maxmem", "nonsense", 0);
}

static void test_states(void **state)
{
    static const struct {
        const char *state;
        enum power power;
    } states[] = {
        {"Running", POWER_RUNNING},    {"Paused", POWER_PAUSED}, {"Suspended", POWER_PAUSED},
        {"Transient", POWER_STARTING}, {"Halted", POWER_HALTED}, {"Dying", POWER_OTHER},
        {"Halting", POWER_OTHER},      {"running", POWER_OTHER}, {"", POWER_OTHER},
    };
    struct qube q = {.power = POWER_RUNNING};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        qube_set_state(&q, str_from(states[i].state));
        assert_int_equal(q.power, states[i].power);
    }
}

static void test_features(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    struct qube *a, *b;
    struct str v = STR_LITERAL("forward"), empty = {NULL, 0};

    (void)state;
    assert_non_null(t);
    a = get(t, "a");
    b = get(t, "b");
    for (unsigned i = 0; i < FEATURES; i++)
        assert_int_equal(feature_by_name(str_from(feature_name((enum feature_id)i))), i);
    assert_int_equal(feature_by_name(STR_LITERAL("routing-methods")), FEATURES);
    set(a, "template", "b", 0);
    set(b, "template", "a", 0); /* qubesd has no such thing, and we do not hang */
    assert_null(tree_feature(t, a, FEATURE_METHOD));
    assert_int_equal(qube_set_feature(b, FEATURE_METHOD, &v), 0);
    assert_string_equal(tree_feature(t, a, FEATURE_METHOD), "forward");
    assert_int_equal(qube_set_feature(a, FEATURE_METHOD, &empty), 0);
    assert_string_equal(tree_feature(t, a, FEATURE_METHOD), "");
    assert_int_equal(qube_set_feature(a, FEATURE_METHOD, NULL), 0);
    assert_string_equal(tree_feature(t, a, FEATURE_METHOD), "forward");
}

static void test_hops(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    struct qube *hops[TREE_HOPS_MAX], *web, *net;
    const char *missing = NULL;

    (void)state;
    assert_non_null(t);
    web = get(t, "web");
    net = get(t, "net");
    assert_int_equal(tree_hops(t, web, hops, &missing), 0);
    set(web, "netvm", "net", 0);
    assert_int_equal(tree_hops(t, web, hops, &missing), 1);
    assert_ptr_equal(hops[0], net);
    /* running: where it was attached; halted: what it is set to */
    web->power = POWER_RUNNING;
    qube_attach(web);
    set(web, "netvm", "elsewhere", 0);
    assert_int_equal(tree_hops(t, web, hops, &missing), 1);
    web->power = POWER_HALTED;
    assert_int_equal(tree_hops(t, web, hops, &missing), -ENOENT);
    assert_string_equal(missing, "elsewhere");
    set(web, "netvm", "web", 0);
    assert_int_equal(tree_hops(t, web, hops, &missing), -ELOOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_sorted_at_random),
        cmocka_unit_test(test_limit),      cmocka_unit_test(test_properties),
        cmocka_unit_test(test_states),     cmocka_unit_test(test_features),
        cmocka_unit_test(test_hops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
