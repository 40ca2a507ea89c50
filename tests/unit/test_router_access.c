/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who gets in by a record, for one family and place on the way. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "router/access.h"

#define RECORD  "v=1|vm=a|xid=1|via=direct|"
#define PUBLISH "mode=publish|publish=tcp/8080-8081:80-81 from 10.0.0.0/8"

static void settle(const char *text, int family, struct record *record, struct access *ret)
{
    char why[RECORD_WHY_MAX];

    assert_int_equal(record_parse(str_from(text), RECORD_FORM_DOM0, record, why), 0);
    assert_int_equal(access_settle(record, family, ret), 0);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        int family;
        bool everything;
        size_t permitted, outside;
    } table[] = {
        {RECORD "edge=1|mode=forward", AF_INET, true, 0, 0},
        {RECORD "edge=1|mode=forward|allow=", AF_INET, false, 0, 0},
        {RECORD "edge=1|mode=forward|allow=tcp/80", AF_INET6, false, 1, 0},
        {RECORD "edge=1|mode=forward|allow=tcp/80 from fd00::/8", AF_INET, false, 0, 0},
        {RECORD "edge=1|mode=forward|publish=tcp/80", AF_INET, true, 0, 1},
        {RECORD "edge=0|mode=forward|publish=tcp/80", AF_INET, true, 0, 0},
        {RECORD "edge=0|mode=forward|allow=tcp/80|publish=tcp/1:80", AF_INET, false, 1, 0},
        {RECORD "edge=0|mode=forward|allow=tcp/80|publish=tcp/80:82", AF_INET, false, 2, 0},
        {RECORD "edge=1|" PUBLISH, AF_INET, false, 0, 1},
        {RECORD "edge=0|" PUBLISH, AF_INET, false, 1, 0},
        {RECORD "edge=1|" PUBLISH, AF_INET6, false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_(record_done) struct record r = {0};
        _cleanup_(access_done) struct access a = {0};

        settle(table[i].text, table[i].family, &r, &a);
        if (a.everything != table[i].everything || a.permitted.n != table[i].permitted ||
            a.outside.n != table[i].outside)
            fail_msg("%s: %d %zu %zu", table[i].text, a.everything, a.permitted.n, a.outside.n);
    }
}

static bool accepts(const char *text, uint16_t outside, uint16_t port, const char *from)
{
    _cleanup_(record_done) struct record r = {0};
    _cleanup_(access_done) struct access a = {0};
    struct addr source;

    assert_int_equal(addr_parse(str_from(from), &source), 0);
    settle(text, source.family, &r, &a);
    return access_accepts(&a, &r, source.family,
                          &(struct access_flow){IPPROTO_TCP, outside, port, &source});
}

static void test_accepts(void **state)
{
    (void)state;
    assert_true(accepts(RECORD "edge=1|mode=forward", 0, 22, "10.1.1.1"));
    assert_false(accepts(RECORD "edge=1|mode=forward|allow=", 0, 22, "10.1.1.1"));
    assert_true(accepts(RECORD "edge=1|mode=forward|allow=tcp/22", 0, 22, "fd00::1"));
    assert_false(accepts(RECORD "edge=1|mode=forward|allow=tcp/22", 0, 23, "fd00::1"));
    /* at the edge by the port it came to, and by nothing else */
    assert_true(accepts(RECORD "edge=1|" PUBLISH, 8081, 81, "10.1.1.1"));
    assert_false(accepts(RECORD "edge=1|" PUBLISH, 8081, 80, "10.1.1.1"));
    assert_false(accepts(RECORD "edge=1|" PUBLISH, 8081, 81, "11.1.1.1"));
    assert_false(accepts(RECORD "edge=1|" PUBLISH, 0, 81, "10.1.1.1"));
    assert_false(accepts(RECORD "edge=1|" PUBLISH, 8081, 81, "fd00::1"));
    assert_false(accepts(RECORD "edge=1|mode=forward|allow=tcp/80", 8080, 80, "10.1.1.1"));
    /* further in by the one inside */
    assert_true(accepts(RECORD "edge=0|" PUBLISH, 0, 81, "10.1.1.1"));
    assert_false(accepts(RECORD "edge=0|" PUBLISH, 0, 8081, "10.1.1.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_accepts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
