/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tray shows and offers for a status, whatever is in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "desktop/tray/look.h"

static struct look look_of(const char *text)
{
    json_t *status = json_loads(text, 0, NULL);
    struct look l;

    assert_non_null(status);
    look_at(&l, status);
    json_decref(status);
    return l;
}

static void check(const char *status, enum words_mood mood, bool connect, bool block)
{
    struct look l = look_of(status);

    assert_int_equal(l.mood, mood);
    assert_int_equal(l.can_connect, connect);
    assert_int_equal(l.can_block, block);
    assert_true(l.can_test);
    assert_true(l.summary[0] != '\0');
}

static void test_offers_what_makes_sense(void **state)
{
    (void)state;
    check("{\"state\": \"unconfigured\", \"wanted_up\": true, \"profile\": \"\"}", WORDS_ATTENTION,
          false, false);
    check("{\"state\": \"sealed\", \"wanted_up\": false, \"profile\": \"a\"}", WORDS_BLOCKED, true,
          false);
    check("{\"state\": \"sealed\", \"wanted_up\": true, \"profile\": \"a\"}", WORDS_CONNECTING, true,
          true); /* between two tries: now */
    check("{\"state\": \"connecting\", \"wanted_up\": true, \"profile\": \"a\"}", WORDS_CONNECTING,
          false, true);
    check("{\"state\": \"up\", \"wanted_up\": true, \"profile\": \"a\"}", WORDS_UP, false, true);
    check("{\"state\": \"stalled\", \"wanted_up\": true, \"profile\": \"a\"}", WORDS_CONNECTING,
          false, true);
    check("{\"state\": \"failed\", \"wanted_up\": true, \"profile\": \"a\"}", WORDS_ATTENTION, true,
          true);
}

static void test_offers_nothing_when_nobody_answers(void **state)
{
    struct look l;

    (void)state;
    look_at(&l, NULL);
    assert_int_equal(l.mood, WORDS_ATTENTION);
    assert_false(l.can_connect || l.can_block || l.can_test);
    assert_true(l.summary[0] != '\0' && l.next[0] != '\0');
    assert_int_equal(l.n, 0);
}

static void test_profiles_are_named_clean_and_called_as_they_are(void **state)
{
    struct look l = look_of("{\"state\": \"up\", \"profiles\": ["
                            "{\"name\": \"a\\u202eb\\n\", \"usable\": true, \"chosen\": false},"
                            "{\"name\": \"<b>_x\", \"usable\": false, \"chosen\": true},"
                            "{\"name\": \"\"}, {\"name\": 5}, {}, 7]}");

    (void)state;
    assert_int_equal(l.n, 2);
    assert_string_equal(l.profiles[0].id, "a\xe2\x80\xae" "b\n");
    assert_string_equal(l.profiles[0].name, "a\xef\xbf\xbd" "b");
    assert_true(l.profiles[0].usable && !l.profiles[0].chosen);
    assert_string_equal(l.profiles[1].name, "<b>_x");
    assert_true(!l.profiles[1].usable && l.profiles[1].chosen);
}

static void test_a_long_list_is_cut_and_keeps_the_chosen(void **state)
{
    char text[8192] = "{\"state\": \"up\", \"profiles\": [";
    struct look l;

    (void)state;
    for (int i = 0; i < 40; i++) {
        size_t used = strlen(text);

        (void)snprintf(text + used, sizeof(text) - used,
                       "%s{\"name\": \"p%d\", \"usable\": true, \"chosen\": %s}", i > 0 ? "," : "",
                       i, i == 33 ? "true" : "false");
    }
    (void)strcat(text, "]}");
    l = look_of(text);
    assert_int_equal(l.n, LOOK_PROFILES);
    assert_int_equal(l.more, 40 - LOOK_PROFILES);
    assert_string_equal(l.profiles[0].id, "p0");
    assert_string_equal(l.profiles[LOOK_PROFILES - 1].id, "p33");
    assert_true(l.profiles[LOOK_PROFILES - 1].chosen);
}

static void test_a_name_too_long_is_none(void **state)
{
    char text[512], name[LOOK_ID + 1];

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    (void)snprintf(text, sizeof(text), "{\"profiles\": [{\"name\": \"%s\"}, {\"name\": \"%s\"}]}",
                   name, name + 1);
    assert_int_equal(look_of(text).n, 1); /* 63 bytes fit, 64 do not */
}

static void test_tells_what_is_shown_from_what_is_not(void **state)
{
    struct look a = look_of("{\"state\": \"up\", \"profile\": \"a\", \"mtu\": 1500,"
                            "\"profiles\": [{\"name\": \"a\", \"usable\": true}]}"),
                b = look_of("{\"state\": \"up\", \"profile\": \"a\", \"mtu\": 1400,"
                            "\"profiles\": [{\"name\": \"a\", \"usable\": true}]}"),
                c = look_of("{\"state\": \"up\", \"profile\": \"a\","
                            "\"profiles\": [{\"name\": \"a\", \"usable\": false}]}"),
                d = look_of("{\"state\": \"sealed\", \"profile\": \"a\"}");

    (void)state;
    assert_true(look_same(&a, &b));
    assert_false(look_same(&a, &c));
    assert_false(look_same(&a, &d));
}

static void test_answers_in_one_clean_line(void **state)
{
    char text[WORDS_LONG], endless[4096];

    (void)state;
    memset(endless, 'e', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    assert_non_null(strstr(look_failure("Invalid", "a\nb\x1b[1m", text, sizeof(text)),
                           "a b\xef\xbf\xbd[1m"));
    assert_null(strchr(text, '\n'));
    assert_true(strlen(look_failure("", endless, text, sizeof(text))) < sizeof(text));
    assert_string_equal(look_failure("Unkept", "blocked, but", text, sizeof(text)), "blocked, but");
    assert_null(strstr(look_failure("Denied", "secret reason", text, sizeof(text)), "secret"));
    assert_non_null(strstr(look_failure("", NULL, text, sizeof(text)), "did not work"));
    assert_non_null(strstr(look_verdict(true, text, sizeof(text)), "passed"));
    assert_non_null(strstr(look_verdict(false, text, sizeof(text)), "FAILED"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offers_what_makes_sense),
        cmocka_unit_test(test_offers_nothing_when_nobody_answers),
        cmocka_unit_test(test_profiles_are_named_clean_and_called_as_they_are),
        cmocka_unit_test(test_a_long_list_is_cut_and_keeps_the_chosen),
        cmocka_unit_test(test_a_name_too_long_is_none),
        cmocka_unit_test(test_tells_what_is_shown_from_what_is_not),
        cmocka_unit_test(test_answers_in_one_clean_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
