/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lengths of time and times as people write them, in a zone that changes its clock. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "dom0/expose/when.h"

#define NOON INT64_C(1798718400) /* 2026-12-31T12:00:00Z, 13:00 in Berlin */

static void test_spans(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {{"90s", 90},      {"30m", 1800},        {"2h", 7200},
                {"1d12h", 129600}, {"2w", 1209600}, {"1h30m", 5400}};
    static const char *const bad[] = {"", "2", "h", "2x", "-2h", "2h2h", "30m1h", "1.5h", " 2h",
                                      "2 h", "99999999999h", "0x2h"};
    int64_t got;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(when_parse_span(str_from(good[i].text), &got), 0);
        assert_int_equal(got, good[i].seconds);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(when_parse_span(str_from(bad[i]), &got), -EINVAL);
    assert_int_equal(when_parse_span(str_from("0s"), &got), -ERANGE);
    assert_int_equal(when_parse_span(str_from("4000000000w"), &got), -ERANGE);
}

static void test_times(void **state)
{
    int64_t got;

    (void)state;
    assert_int_equal(when_parse_time(str_from("2026-12-31T18:00:00Z"), NOON, &got), 0);
    assert_int_equal(got, NOON + 6 * 3600);
    assert_int_equal(when_parse_time(str_from("2026-12-31 18:00"), NOON, &got), 0);
    assert_int_equal(got, NOON + 5 * 3600);
    assert_int_equal(when_parse_time(str_from("2026-12-31T18:00:30"), NOON, &got), 0);
    assert_int_equal(got, NOON + 5 * 3600 + 30);
    assert_int_equal(when_parse_time(str_from("18:00"), NOON, &got), 0);
    assert_int_equal(got, NOON + 5 * 3600);
    assert_int_equal(when_parse_time(str_from("12:00"), NOON, &got), 0); /* tomorrow, next year */
    assert_int_equal(got, NOON + 23 * 3600);
    assert_int_equal(when_parse_time(str_from("2026-12-31 12:59"), NOON, &got), -ERANGE);
    assert_int_equal(when_parse_time(str_from("2126-12-31 12:59"), NOON, &got), -ERANGE);
}

static void test_no_times(void **state)
{
    static const char *const bad[] = {"", "18", "18:60", "24:00", "2026-12-31", "2026-02-30 10:00",
                                      "2026-12-31x10:00", "tomorrow", "2027-03-28 02:30",
                                      "2026-13-01T00:00:00Z", "18:00Z"};
    int64_t got;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(when_parse_time(str_from(bad[i]), NOON, &got), -EINVAL);
}

static void test_words(void **state)
{
    char buf[WHEN_STR_MAX];

    (void)state;
    assert_string_equal(when_format_utc(NOON, buf), "2026-12-31T12:00:00Z");
    assert_string_equal(when_format(NOON + 7500, NOON, buf), "2026-12-31 15:05 CET (in 2 h 5 min)");
    assert_string_equal(when_format(NOON - 90, NOON, buf), "2026-12-31 12:58 CET (1 min ago)");
    assert_string_equal(when_format(NOON + 26 * 3600, NOON, buf),
                        "2027-01-01 15:00 CET (in 1 d 2 h)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_no_times),
        cmocka_unit_test(test_words),
    };

    (void)setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
