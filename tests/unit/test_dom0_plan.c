/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written into one QubesDB: the difference, in the right order, and what is swept. */
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
#include "dom0/serverd/plan.h"
#include "test_random.h"

#define A       "192.168.16.25"
#define RECORD  "/network-server/" A
#define BLOCK   "/qubes-firewall/" A
#define INBOUND "/network-server-inbound"

static char record_text[] = "v=1|vm=web|xid=5|via=direct|edge=1|mode=forward";
static char other_text[] = "v=1|vm=web|xid=6|via=direct|edge=1|mode=forward";
static char marker_text[] = "1";
static char inbound_text[] = "v=1|" A " allow=any";

static struct wish wish(enum wish_kind kind, const char *path, char *value)
{
    struct wish w = {.kind = kind, .value = value};

    memcpy(w.path, path, strlen(path) + 1);
    return w;
}

static void put(struct present *p, const char *path, const char *value)
{
    assert_true(present_set(p, path, str_from(value)) >= 0);
}

/* The plan as text, one operation a line; then done to *p, where it must leave nothing to do. */
static char *run(struct present *p, const struct wish *wishes, size_t n, unsigned flags)
{
    struct plan plan = {0};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    assert_int_equal(plan_make(p, wishes, n, flags, &plan), 0);
    for (size_t i = 0; i < plan.n; i++) {
        char line[PLAN_TEXT_MAX];

        (void)fprintf(f, "%s\n", plan_format(&plan.ops[i], line));
        if (plan.ops[i].kind == OP_REMOVE)
            (void)present_remove(p, plan.ops[i].path);
        else if (present_wants(plan.ops[i].path))
            assert_true(present_set(p, plan.ops[i].path, plan.ops[i].value) >= 0);
    }
    (void)fclose(f);
    plan_done(&plan);
    assert_int_equal(plan_make(p, wishes, n, flags & ~(unsigned)PLAN_FRESH, &plan), 0);
    assert_int_equal(plan.n, 0);
    plan_done(&plan);
    return text;
}

static void expect(struct present *p, const struct wish *wishes, size_t n, unsigned flags,
                   const char *expected)
{
    _cleanup_(freep) char *text = run(p, wishes, n, flags);

    assert_string_equal(text, expected);
}

static void test_order(void **state)
{
    _cleanup_(present_done) struct present p = {0};
    struct wish wishes[] = {
        wish(WISH_MARKER, "/network-server", marker_text),
        wish(WISH_INBOUND, INBOUND, inbound_text),
        wish(WISH_RECORD, RECORD, record_text),
        wish(WISH_FIREWALL, BLOCK, NULL),
    };

    (void)state;
    put(&p, "/network-server/10.1.1.1", "x");
    put(&p, "/qubes-routing-method/10.1.1.1", "forward");
    put(&p, "/qubes-firewall/10.1.1.1/policy", "accept");
    put(&p, "/qubes-ip", "10.137.0.5"); /* qubesd's */
    put(&p, "/mapped-ip/10.137.0.5/visible-ip", "10.137.0.5");
    expect(&p, wishes, ARRAY_SIZE(wishes), 0,
           "remove /qubes-routing-method/10.1.1.1\n"
           "write /qubes-firewall/10.1.1.1/policy = drop\n"
           "write /qubes-firewall/10.1.1.1 (empty)\n"
           "remove /network-server/10.1.1.1\n"
           "write /network-server = 1\n"
           "write " BLOCK "/policy = accept\n"
           "write " BLOCK " (empty)\n"
           "write " INBOUND " = v=1|" A " allow=any\n"
           "write " RECORD " = v=1|vm=web|xid=5|via=direct|edge=1|mode=forward\n");
    expect(&p, wishes, ARRAY_SIZE(wishes), 0, "");
    /* all of it goes again, the marker last */
    expect(&p, NULL, 0, 0,
           "write " BLOCK "/policy = drop\n"
           "write " BLOCK " (empty)\n"
           "remove " RECORD "\n"
           "remove " INBOUND "\n"
           "remove /network-server\n");
}

static void test_changed_record_is_replaced(void **state)
{
    _cleanup_(present_done) struct present p = {0};
    struct wish w = wish(WISH_RECORD, RECORD, record_text);

    (void)state;
    put(&p, RECORD, other_text);
    expect(&p, &w, 1, 0, "write " RECORD " = v=1|vm=web|xid=5|via=direct|edge=1|mode=forward\n");
}

static void test_remove_only(void **state)
{
    _cleanup_(present_done) struct present p = {0};
    struct wish wishes[] = {
        wish(WISH_MARKER, "/network-server", marker_text),
        wish(WISH_RECORD, RECORD, record_text),
        wish(WISH_RECORD, "/network-server/192.168.16.26", record_text),
        wish(WISH_FIREWALL, BLOCK, NULL),
    };

    (void)state;
    put(&p, "/network-server", "1");
    put(&p, RECORD, record_text);
    put(&p, BLOCK "/policy", "accept");
    put(&p, "/network-server/10.1.1.1", "x");
    expect(&p, wishes, ARRAY_SIZE(wishes), PLAN_REMOVE_ONLY, "remove /network-server/10.1.1.1\n");
    put(&p, RECORD, other_text); /* not what was wished when qubesd was last heard */
    expect(&p, wishes, ARRAY_SIZE(wishes), PLAN_REMOVE_ONLY, "remove " RECORD "\n");
}

static void test_blocks(void **state)
{
    _cleanup_(present_done) struct present p = {0};
    struct wish w = wish(WISH_FIREWALL, BLOCK, NULL);

    (void)state;
    /* qubesd's block of another time: its rules would come first */
    put(&p, BLOCK "/0000", "action=drop");
    put(&p, BLOCK "/0001", "action=accept");
    put(&p, BLOCK "/policy", "drop");
    put(&p, BLOCK "6/0000", "action=accept"); /* another address */
    put(&p, "/qubes-firewall/10.137.0.9/policy", "drop");
    expect(&p, &w, 1, 0,
           "remove " BLOCK "/0000\n"
           "remove " BLOCK "/0001\n"
           "write " BLOCK "/policy = accept\n"
           "write " BLOCK " (empty)\n");
    put(&p, BLOCK "/0003", "action=drop");
    expect(&p, &w, 1, 0, "remove " BLOCK "/0003\nwrite " BLOCK " (empty)\n");
    /* of a new connection nobody knows whether the commit arrived */
    expect(&p, &w, 1, PLAN_FRESH, "write " BLOCK " (empty)\n");
    expect(&p, NULL, 0, PLAN_FRESH, "write " BLOCK "/policy = drop\nwrite " BLOCK " (empty)\n");
    put(&p, BLOCK "/0000", "action=accept"); /* policy drop is qubesd's */
    expect(&p, NULL, 0, PLAN_FRESH, "");
}

#define CHILD "/qubes-firewall/10.137.0.6"

/* What the net qube before this one may not reach, an address behind it may not either. */
static void test_rules_of_the_child(void **state)
{
    _cleanup_(present_done) struct present p = {0};
    struct wish w = wish(WISH_FIREWALL, BLOCK, NULL);

    (void)state;
    assert_int_equal(addr_parse(str_from("10.137.0.6"), &w.child), 0);
    /* nothing is known of them */
    expect(&p, &w, 1, 0,
           "write " BLOCK "/9999 = action=drop\n"
           "write " BLOCK "/policy = accept\n"
           "write " BLOCK " (empty)\n");
    put(&p, CHILD "/policy", "drop");
    put(&p, CHILD "/0000", "action=accept");
    expect(&p, &w, 1, 0, "remove " BLOCK "/9999\nwrite " BLOCK " (empty)\n");
    put(&p, CHILD "/0000", "action=drop dst4=10.0.0.0/8");
    put(&p, CHILD "/0002", "action=accept");
    expect(&p, &w, 1, 0,
           "write " BLOCK "/0000 = action=drop dst4=10.0.0.0/8\n"
           "write " BLOCK "/0002 = action=accept\n"
           "write " BLOCK "/9999 = action=drop\n"
           "write " BLOCK " (empty)\n");
    put(&p, CHILD "/0000", "action=drop dst4=11.0.0.0/8");
    assert_true(present_remove(&p, CHILD "/0002"));
    expect(&p, &w, 1, 0,
           "remove " BLOCK "/0002\n"
           "write " BLOCK "/0000 = action=drop dst4=11.0.0.0/8\n"
           "write " BLOCK " (empty)\n");
    /* qubesd writes them anew: what is there holds meanwhile */
    assert_true(present_remove(&p, CHILD "/0000"));
    assert_true(present_remove(&p, CHILD "/policy"));
    expect(&p, &w, 1, 0, "");
    expect(&p, NULL, 0, 0,
           "write " BLOCK "/policy = drop\n"
           "remove " BLOCK "/0000\n"
           "remove " BLOCK "/9999\n"
           "write " BLOCK " (empty)\n");
}

static void test_what_is_wanted(void **state)
{
    (void)state;
    assert_true(present_wants("/network-server"));
    assert_true(present_wants("/network-server/x"));
    assert_true(present_wants("/network-server-inbound"));
    assert_true(present_wants("/qubes-routing-method/x"));
    assert_true(present_wants("/qubes-firewall/x/policy"));
    assert_true(present_wants("/qubes-firewall/x/0000"));
    assert_true(present_wants("/qubes-ip"));
    assert_true(present_wants("/mapped-ip/10.137.0.5/visible-ip"));
    assert_false(present_wants("/mapped-ip/10.137.0.5/visible-gateway"));
    assert_false(present_wants("/mapped-ip/visible-ip"));
    assert_false(present_wants("/qubes-ip/x"));
    assert_false(present_wants("/qubes-ip6"));
    assert_false(present_wants("/qubes-iptables"));
    assert_false(present_wants("/qubes-firewall/x"));
    assert_false(present_wants("/qubes-firewall/x/"));
    assert_false(present_wants("/network-server-other"));
    assert_false(present_wants("/network-serve"));
    assert_false(present_wants("/connected-ips"));
    assert_false(present_wants("/"));
    assert_false(present_wants(""));
}

static void test_present_is_bounded(void **state)
{
    _cleanup_(present_done) struct present p = {0};
    char path[WISH_PATH_MAX];

    (void)state;
    for (int i = 0; i < PRESENT_KEYS_MAX; i++) {
        (void)snprintf(path, sizeof(path), "/network-server/%06d", i);
        put(&p, path, "x");
    }
    assert_false(p.overflow);
    assert_int_equal(present_set(&p, "/network-server/zzz", STR_LITERAL("x")), -E2BIG);
    assert_true(p.overflow);
    assert_int_equal(present_set(&p, "/network-server/000000", STR_LITERAL("y")), 1);
    assert_int_equal(present_set(&p, "/network-server/000000", STR_LITERAL("y")), 0);
}

/* Whatever stands there: after one plan there is nothing left to do, nothing foreign was touched, a
 * record never stands without the marker, and no key is removed that is wished. */
static void test_random(void **state)
{
    static const char *const paths[] = {
        "/network-server", INBOUND, "/network-server/10.0.0.1", "/network-server/10.0.0.2",
        "/network-server/fd00::1", "/network-server/junk", "/qubes-routing-method/10.0.0.1",
        "/qubes-firewall/10.0.0.1/policy", "/qubes-firewall/10.0.0.1/0000",
        "/qubes-firewall/10.0.0.2/policy", "/qubes-firewall/10.0.0.2/0001"};
    static const char *const values[] = {"1", "accept", "drop", "", "v=1|x", "forward"};
    static char value[] = "v=1|x";
    struct rnd seed = random_begin("dom0-plan");

    (void)state;
    for (int round = 0; round < 20000; round++) {
        _cleanup_(present_done) struct present p = {0};
        _cleanup_(freep) char *text = NULL;
        struct wish wishes[5];
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
            if (random_below(&seed, 2))
                put(&p, paths[i], values[random_below(&seed, ARRAY_SIZE(values))]);
        if (random_below(&seed, 4))
            wishes[n++] = wish(WISH_MARKER, "/network-server", marker_text);
        if (n > 0 && random_below(&seed, 2))
            wishes[n++] = wish(WISH_RECORD, "/network-server/10.0.0.1", value);
        if (n > 0 && random_below(&seed, 2))
            wishes[n++] = wish(WISH_RECORD, "/network-server/fd00::1", value);
        if (n > 0 && random_below(&seed, 2))
            wishes[n++] = wish(WISH_FIREWALL, "/qubes-firewall/10.0.0.2", NULL);
        text = run(&p, wishes, n, random_below(&seed, 2) ? PLAN_FRESH : 0);
        for (size_t i = 0; i < n; i++) {
            char line[PLAN_TEXT_MAX];

            (void)snprintf(line, sizeof(line), "remove %s\n", wishes[i].path);
            assert_null(strstr(text, line));
            if (wishes[i].kind == WISH_RECORD)
                assert_true(present_is(&p, wishes[i].path, str_from(value)));
        }
        assert_true((present_find(&p, "/network-server") != NULL) == (n > 0));
        assert_null(present_find(&p, "/qubes-routing-method/10.0.0.1"));
        assert_null(present_find(&p, "/network-server/junk"));
        assert_false(present_is(&p, "/qubes-firewall/10.0.0.1/policy", STR_LITERAL("accept")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_changed_record_is_replaced),
        cmocka_unit_test(test_remove_only),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_rules_of_the_child),
        cmocka_unit_test(test_what_is_wanted),
        cmocka_unit_test(test_present_is_bounded),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
