/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plot's model: what a person sees of counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "desktop/configurator/rate.h"

#define SECOND UINT64_C(1000000)

static void test_two_readings_are_a_rate(void **state)
{
    struct rate r = {0};

    (void)state;
    rate_add(&r, 10 * SECOND, 1000, 0);
    assert_null(rate_at(&r, 0));
    rate_add(&r, 12 * SECOND, 5000, 10);
    assert_int_equal(rate_at(&r, 0)->in, 2000);
    assert_int_equal(rate_at(&r, 0)->out, 5);
    assert_int_equal(rate_at(&r, 0)->at_us, 12 * SECOND);
    assert_true(rate_at(&r, 0)->begins);
    rate_add(&r, 13 * SECOND, 5000, 10);
    assert_int_equal(rate_at(&r, 1)->in, 0);
    assert_false(rate_at(&r, 1)->begins);
    assert_null(rate_at(&r, 2));
}

/* Another tunnel begins at 0: that is no traffic of 2^64 bytes. */
static void test_counter_that_went_back(void **state)
{
    struct rate r = {0};

    (void)state;
    rate_add(&r, 1 * SECOND, 5000, 5000);
    rate_add(&r, 2 * SECOND, 6000, 6000);
    rate_add(&r, 3 * SECOND, 100, 7000);
    assert_null(rate_at(&r, 1));
    rate_add(&r, 4 * SECOND, 300, 7000);
    assert_int_equal(rate_at(&r, 1)->in, 200);
    assert_true(rate_at(&r, 1)->begins);
}

static void test_pause_break_and_clock(void **state)
{
    struct rate r = {0};

    (void)state;
    rate_add(&r, 1 * SECOND, 0, 0);
    rate_add(&r, 1 * SECOND + RATE_PAUSE_US + 1, 4000, 0);
    assert_null(rate_at(&r, 0)); /* nobody knows when in between it was */
    rate_add(&r, 2 * SECOND + RATE_PAUSE_US + 1, 5000, 0);
    assert_int_equal(rate_at(&r, 0)->in, 1000);
    rate_break(&r);
    rate_add(&r, 3 * SECOND + RATE_PAUSE_US + 1, 6000, 0);
    assert_null(rate_at(&r, 1));
    rate_add(&r, 3 * SECOND + RATE_PAUSE_US + 1, 7000, 0); /* the same moment */
    assert_null(rate_at(&r, 1));
    rate_add(&r, SECOND, 8000, 0); /* an earlier one */
    assert_null(rate_at(&r, 1));
}

static void test_ring_and_top(void **state)
{
    struct rate r = {0};
    uint64_t bytes = 0;

    (void)state;
    assert_int_equal(rate_top(&r, 0), 1024);
    for (uint64_t i = 0; i < 3 * RATE_POINTS; i++) {
        bytes += i;
        rate_add(&r, i * SECOND, 0, bytes);
    }
    assert_int_equal(r.n, RATE_POINTS);
    assert_int_equal(rate_at(&r, 0)->out, 2 * RATE_POINTS);
    assert_int_equal(rate_at(&r, RATE_POINTS - 1)->out, 3 * RATE_POINTS - 1);
    assert_null(rate_at(&r, RATE_POINTS));
    rate_add(&r, 3 * RATE_POINTS * SECOND, 1025, bytes);
    assert_int_equal(rate_top(&r, 0), 2048);
    assert_int_equal(rate_top(&r, (3 * RATE_POINTS + 1) * SECOND), 1024);
    rate_add(&r, 3 * RATE_POINTS * SECOND + 1000, UINT64_MAX, UINT64_MAX);
    assert_true(rate_top(&r, 0) >= UINT64_C(1) << 62);
    rate_clear(&r);
    assert_null(rate_at(&r, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_readings_are_a_rate),
        cmocka_unit_test(test_counter_that_went_back),
        cmocka_unit_test(test_pause_break_and_clock),
        cmocka_unit_test(test_ring_and_top),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
