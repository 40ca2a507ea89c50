/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a person reads: nothing from outside gets in front of anybody as it came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "desktop/words/words.h"
#include "test_random.h"

#define BAD "\xef\xbf\xbd"

static void check_clean(const char *outside, size_t size, const char *expected)
{
    char buf[256];

    assert_string_equal(words_clean(outside, buf, size), expected);
}

static void test_harmless_text_stays(void **state)
{
    (void)state;
    check_clean("", 16, "");
    check_clean("vpn.example.net", 64, "vpn.example.net");
    check_clean("Zürich, 東京, \xf0\x9f\x94\x92", 64, "Zürich, 東京, \xf0\x9f\x94\x92");
    check_clean("<b>bold</b> & more", 64,
                "<b>bold</b> & more"); /* plain text: whoever needs it escapes */
    check_clean("e\xcc\x81", 64, "e\xcc\x81");
}

static void test_one_line_with_single_blanks(void **state)
{
    (void)state;
    check_clean("  a \t\r\n b\n", 64, "a b");
    check_clean("a\xe2\x80\xa8"
                "b\xc2\xa0"
                "c\xe3\x80\x80",
                64, "a b c");
    check_clean("\n\n\n", 64, "");
}

static void test_what_cannot_be_seen_is_shown(void **state)
{
    (void)state;
    check_clean("a\x1b[31mb\x7f", 64, "a" BAD "[31mb" BAD);
    check_clean("evil\xe2\x80\xae"
                "gnp.exe",
                64, "evil" BAD "gnp.exe"); /* right to left override */
    check_clean("pay\xe2\x80\x8bpal\xe2\x81\xa6\xef\xbb\xbf", 64, "pay" BAD "pal" BAD BAD);
    check_clean("\xc2\x9b"
                "31m",
                64, BAD "31m");               /* CSI of C1 */
    check_clean("\xf3\xa0\x81\xa1", 64, BAD); /* a tag */
    check_clean("\xee\x80\x80\xef\xbf\xbe", 64, BAD BAD);
}

static void test_broken_utf8(void **state)
{
    (void)state;
    check_clean("a\xff"
                "b",
                64, "a" BAD "b");
    check_clean("\xc0\xaf", 64, BAD BAD);         /* overlong */
    check_clean("\xed\xa0\x80", 64, BAD BAD BAD); /* half a pair */
    check_clean("\xe2\x82", 64, BAD BAD);         /* ends in the middle */
    check_clean("\xf4\x90\x80\x80", 64, BAD BAD BAD BAD);
}

static void test_marks_do_not_pile_up(void **state)
{
    char many[1 + 2 * 50 + 1] = "e";

    (void)state;
    for (size_t i = 0; i < 50; i++)
        memcpy(many + 1 + 2 * i, "\xcc\x81", 3);
    check_clean(many, 256, "e\xcc\x81\xcc\x81");
}

static void test_long_text_is_cut(void **state)
{
    (void)state;
    check_clean("abcdefghij", 11, "abcdefghij");
    check_clean("abcdefghij", 10, "abcdef…");
    check_clean("üüüüü", 10, "üüü…"); /* between characters */
    check_clean("abcdefghij", 4, "…");
    check_clean("abcdefghij", 3, "");
    check_clean("abcdefghij", 1, "");
}

/* Whatever comes: valid UTF-8 that no second cleaning changes, ended, inside of its place. */
static void test_any_bytes(void **state)
{
    struct rnd random = random_begin("any bytes");
    char outside[200], buf[128], again[128];

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        size_t n = random_below(&random, sizeof(outside)), size;

        for (size_t i = 0; i < n; i++)
            outside[i] = (char)(random_below(&random, 4) == 0 ? (0xc0 + random_below(&random, 0x40))
                                                              : (1 + random_below(&random, 0xff)));
        outside[n] = '\0';
        size = 1 + random_below(&random, sizeof(buf));
        memset(buf, 'x', sizeof(buf));
        (void)words_clean(outside, buf, size);
        assert_true(memchr(buf, '\0', size) != NULL);
        assert_string_equal(words_clean(buf, again, sizeof(again)), buf);
    }
}

/* ---- the state ---- */

static json_t *status(const char *text)
{
    json_error_t e;
    json_t *s = json_loads(text, 0, &e);

    assert_non_null(s);
    return s;
}

static void check_status(const char *text, enum words_mood mood, const char *part)
{
    json_t *s = text != NULL ? status(text) : NULL;
    char summary[WORDS_LONG], next[WORDS_LONG];

    assert_int_equal(words_mood(s), mood);
    (void)words_summary(s, summary, sizeof(summary));
    if (strstr(summary, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, summary);
    (void)words_next(s, next, sizeof(next));
    if (mood == WORDS_ATTENTION)
        assert_true(next[0] != '\0');
    json_decref(s);
}

static void test_states(void **state)
{
    (void)state;
    check_status(NULL, WORDS_ATTENTION, "does not answer");
    check_status("{}", WORDS_ATTENTION, "does not know");
    check_status("{\"state\":\"unconfigured\",\"seal\":\"closed\"}", WORDS_ATTENTION,
                 "No VPN is set up yet. All traffic of the qubes behind is blocked");
    check_status("{\"state\":\"unconfigured\",\"seal\":\"closed\",\"profiles\":[{}]}",
                 WORDS_ATTENTION, "No profile is chosen");
    check_status("{\"state\":\"sealed\",\"wanted_up\":false,\"seal\":\"closed\"}", WORDS_BLOCKED,
                 "Disconnected, as asked. All traffic");
    check_status("{\"state\":\"sealed\",\"wanted_up\":true,\"seal\":\"closed\",\"last_error\":\"no "
                 "route\"}",
                 WORDS_CONNECTING, "no route");
    check_status("{\"state\":\"resolving\",\"seal\":\"closed\",\"profile\":\"a.ovpn\"}",
                 WORDS_CONNECTING, "a.ovpn");
    check_status("{\"state\":\"connecting\",\"seal\":\"carrier\",\"profile\":\"a.ovpn\"}",
                 WORDS_CONNECTING, "Connecting with");
    check_status("{\"state\":\"up\",\"seal\":\"tunnel\",\"endpoint\":\"vpn.example.net\","
                 "\"gateway\":\"203.0.113.10:1194/udp\",\"dns\":[\"10.0.0.1\"]}",
                 WORDS_UP, "vpn.example.net (203.0.113.10:1194/udp)");
    check_status("{\"state\":\"stalled\",\"seal\":\"tunnel\",\"profile\":\"a\"}", WORDS_CONNECTING,
                 "is silent");
    check_status("{\"state\":\"failed\",\"seal\":\"closed\",\"last_error\":\"TLS\"}",
                 WORDS_ATTENTION, "does not connect: TLS.");
    check_status("{\"state\":\"connecting\",\"seal\":\"carrier\",\"profile\":\"a.ovpn\","
                 "\"missing_secrets\":[\"user-password\"]}",
                 WORDS_ATTENTION, "user name and password is missing");
    /* Never "connected" while nobody knows whether it is sealed. */
    check_status("{\"state\":\"up\",\"seal\":\"absent\"}", WORDS_ATTENTION, "not known");
}

static void test_hostile_status(void **state)
{
    char text[WORDS_LONG], name[4000];
    json_t *s = status("{\"state\":\"failed\",\"seal\":\"closed\"}");

    (void)state;
    memset(name, 'A', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    memcpy(name, "\xe2\x80\xae\n\x1b", 5);
    json_object_set_new(s, "profile", json_string(name));
    json_object_set_new(s, "last_error", json_string(name));
    json_object_set_new(s, "endpoint", json_integer(7)); /* not the type it has */
    (void)words_summary(s, text, sizeof(text));
    assert_true(strlen(text) < sizeof(text));
    assert_null(strpbrk(text, "\n\x1b"));
    assert_null(strstr(text, "\xe2\x80\xae"));
    /* What it means for the qubes is not pushed out of sight. */
    assert_non_null(strstr(text, "All traffic of the qubes behind is blocked."));
    json_decref(s);
}

static void check_finding(const char *text, const char *expected)
{
    json_t *f = status(text);
    char buf[WORDS_LONG];

    assert_string_equal(words_finding(f, buf, sizeof(buf)), expected);
    json_decref(f);
}

static void test_findings(void **state)
{
    (void)state;
    check_finding("[\"refused\",7,\"up\",\"it would run a program\"]",
                  "Line 7 (up) is refused: it would run a program.");
    check_finding("[\"left-out\",0,\"route\",\"not asked for\"]",
                  "route is not used: not asked for.");
    check_finding("[\"refused\",0,\"\",\"it is empty\"]", "The file is refused: it is empty.");
    check_finding("[\"note\",2,\"a\\nb\",\"x\"]", "Line 2 (a b): x.");
    check_finding("[\"note\",67,\"\",\"x\"]", "Line 67 (…): x.");
    /* A key outside its block is not shown in pieces. */
    check_finding("[\"refused\",5,\"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw...\",\"x\"]",
                  "Line 5 (…) is refused: x.");
    check_finding("[]", "About the whole: .");
    check_finding("[1,\"x\",{},null]", "About the whole: .");
}

static void test_lists(void **state)
{
    json_t *list = status("[\"10.0.0.1\",\"a\\nb\",3,\"d\"]");
    char buf[WORDS_LONG], small[12];

    (void)state;
    assert_string_equal(words_list(list, 4, buf, sizeof(buf)), "10.0.0.1, a b, ?, d");
    assert_string_equal(words_list(list, 2, buf, sizeof(buf)), "10.0.0.1, a b and 2 more");
    assert_string_equal(words_list(NULL, 2, buf, sizeof(buf)), "");
    assert_true(strlen(words_list(list, 4, small, sizeof(small))) < sizeof(small));
    json_decref(list);
}

static void test_figures(void **state)
{
    char buf[64];

    (void)state;
    assert_string_equal(words_bytes(0, buf, sizeof(buf)), "0 B");
    assert_string_equal(words_bytes(1023, buf, sizeof(buf)), "1023 B");
    assert_string_equal(words_bytes(1536, buf, sizeof(buf)), "1.5 KiB");
    assert_string_equal(words_bytes(1048575, buf, sizeof(buf)), "1.0 MiB");
    assert_string_equal(words_bytes(UINT64_C(5) << 40, buf, sizeof(buf)), "5.0 TiB");
    assert_string_equal(words_time(0, buf, sizeof(buf)), "");
    assert_string_equal(words_time(UINT64_C(1577880000000000), buf, sizeof(buf)),
                        "1 January 2020, 12:00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_harmless_text_stays),
        cmocka_unit_test(test_one_line_with_single_blanks),
        cmocka_unit_test(test_what_cannot_be_seen_is_shown),
        cmocka_unit_test(test_broken_utf8),
        cmocka_unit_test(test_marks_do_not_pile_up),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_hostile_status),
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_figures),
    };

    (void)setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
