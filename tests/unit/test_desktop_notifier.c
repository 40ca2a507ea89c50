/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which notification is shown, and when; and how text goes to a daemon that reads markup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "desktop/notifier/popup.h"
#include "test_random.h"

#define SECOND UINT64_C(1000000)
#define UP                                                                                         \
    "{\"state\":\"up\",\"seal\":\"tunnel\",\"wanted_up\":true,\"profile\":\"home.ovpn\","          \
    "\"kind\":\"openvpn\",\"endpoint\":\"vpn.example.net\",\"gateway\":\"203.0.113.10:1194/udp\"," \
    "\"dns\":[\"10.64.0.53\"]}"
#define DOWN "{\"state\":\"sealed\",\"seal\":\"closed\",\"wanted_up\":false}"
#define CONNECTING                                                                                 \
    "{\"state\":\"connecting\",\"seal\":\"carrier\",\"wanted_up\":true,\"profile\":\"a\"}"
#define WAITING                                                                                    \
    "{\"state\":\"sealed\",\"seal\":\"closed\",\"wanted_up\":true,\"profile\":\"a\","              \
    "\"last_error\":\"TLS handshake failed\"}"
#define EMPTY "{\"state\":\"unconfigured\",\"seal\":\"closed\",\"wanted_up\":true,\"profiles\":[]}"

struct scene {
    struct plan plan;
    struct notice notice;
    uint64_t now, next;
    unsigned told;
};

static void look(struct scene *s)
{
    if (plan_due(&s->plan, s->now, &s->notice, &s->next))
        s->told++;
    assert_true(s->next > s->now);
}

static void status(struct scene *s, const char *text)
{
    json_t *status = text != NULL ? json_loads(text, 0, NULL) : NULL;

    assert_true((text == NULL) == (status == NULL));
    plan_status(&s->plan, status, s->now);
    json_decref(status);
    look(s);
}

/* As the program does: looks only when it was told to. */
static void pass(struct scene *s, uint64_t seconds)
{
    uint64_t until = s->now + seconds * SECOND;

    while (s->next <= until) {
        s->now = s->next;
        look(s);
    }
    s->now = until;
}

static int setup(void **state)
{
    static struct scene s;

    s = (struct scene){.now = 1000 * SECOND, .next = PLAN_NEVER};
    *state = &s;
    return 0;
}

static void check(const struct scene *s, unsigned told, enum plan_kind kind)
{
    assert_int_equal(s->told, told);
    assert_int_equal(s->notice.kind, kind);
}

static void test_connected_is_told_at_once(void **state)
{
    struct scene *s = *state;

    status(s, UP);
    check(s, 1, PLAN_UP);
    assert_string_equal(s->notice.title, "VPN connected");
    assert_string_equal(s->notice.body,
                        "Server: vpn.example.net (203.0.113.10:1194/udp), by OpenVPN\n"
                        "Name servers: 10.64.0.53\n"
                        "All traffic of the qubes behind goes through the tunnel.");
    assert_string_equal(s->notice.icon, "qubes-vpn-up");
    assert_false(s->notice.stays);
    assert_true(s->next == PLAN_NEVER); /* nothing runs while all is well */
    status(s, UP);
    check(s, 1, PLAN_UP);
}

static void test_disconnected_is_told(void **state)
{
    struct scene *s = *state;

    status(s, UP);
    status(s, DOWN);
    check(s, 2, PLAN_DOWN);
    assert_non_null(strstr(s->notice.body, "All traffic of the qubes behind is blocked"));
    assert_true(s->next == PLAN_NEVER);
}

static void test_short_interruption_is_not_told(void **state)
{
    struct scene *s = *state;

    status(s, UP);
    status(s, WAITING);
    pass(s, 5);
    status(s, CONNECTING);
    pass(s, 5);
    status(s, UP);
    pass(s, 1000);
    check(s, 1, PLAN_UP);
}

static void test_long_interruption_is_told_once(void **state)
{
    struct scene *s = *state;

    status(s, UP);
    for (unsigned i = 0; i < 100; i++) {
        status(s, i % 2 == 0 ? WAITING : CONNECTING);
        pass(s, 4);
        assert_int_equal(s->told, i < 3 ? 1 : 2); /* after 15 s */
    }
    check(s, 2, PLAN_ON_THE_WAY);
    assert_string_equal(s->notice.title, "VPN connection lost");
    assert_non_null(strstr(s->notice.body, "blocked"));
    status(s, UP);
    check(s, 3, PLAN_UP);
}

static void test_slow_first_connection(void **state)
{
    struct scene *s = *state;

    status(s, WAITING);
    pass(s, 14);
    check(s, 0, PLAN_NOTHING);
    pass(s, 2);
    check(s, 1, PLAN_ON_THE_WAY);
    assert_string_equal(s->notice.title, "VPN is not connected yet");
    assert_non_null(strstr(s->notice.body, "TLS handshake failed"));
}

static void test_flapping_does_not_flood(void **state)
{
    struct scene *s = *state;
    unsigned before;

    for (unsigned i = 0; i < 360; i++) { /* an hour, up and down each 5 s */
        status(s, i % 2 == 0 ? UP : WAITING);
        pass(s, 5);
        status(s, i % 2 == 0 ? WAITING : CONNECTING);
        pass(s, 5);
    }
    assert_true(s->told < 10);
    before = s->told;
    for (unsigned i = 0; i < 90; i++) { /* slow enough for each to be told: an hour */
        status(s, UP);
        pass(s, 20);
        status(s, WAITING);
        pass(s, 20);
    }
    assert_in_range(s->told - before, 10, 64);
    status(s, UP);
    pass(s, 70); /* it settles: the last word is right, and says how it was */
    assert_int_equal(s->notice.kind, PLAN_UP);
    assert_non_null(strstr(s->notice.body, "times in the last minutes"));
    assert_true(s->next == PLAN_NEVER);
}

/* Setting it up with some tries does not make the last word late. */
static void test_tries_do_not_hold_up_the_result(void **state)
{
    struct scene *s = *state;

    for (unsigned i = 0; i < 4; i++) {
        status(s, "{\"state\":\"failed\",\"seal\":\"closed\",\"profile\":\"a\"}");
        pass(s, 2);
        status(s, EMPTY);
        pass(s, 2);
    }
    assert_int_equal(s->told, 8);
    status(s, UP);
    check(s, 9, PLAN_UP);
}

/* The state that lasts is always the one that is shown, whatever was before. */
static void test_last_state_wins(void **state)
{
    static const char *const all[] = {UP,
                                      DOWN,
                                      CONNECTING,
                                      WAITING,
                                      EMPTY,
                                      NULL,
                                      "{\"state\":\"failed\",\"seal\":\"closed\"}",
                                      "{\"state\":\"up\",\"seal\":\"absent\"}"};
    static const enum plan_kind kinds[] = {PLAN_UP,         PLAN_DOWN,         PLAN_ON_THE_WAY,
                                           PLAN_ON_THE_WAY, PLAN_UNCONFIGURED, PLAN_SILENT,
                                           PLAN_FAILED,     PLAN_NO_SEAL};
    struct rnd random = random_begin("last state wins");
    struct scene *s = *state;

    for (unsigned round = 0; round < 2000; round++) {
        uint32_t last = 0;

        for (uint32_t i = 1 + random_below(&random, 8); i > 0; i--) {
            last = random_below(&random, ARRAY_SIZE(all));
            status(s, all[last]);
            pass(s, random_below(&random, 30));
        }
        pass(s, 600);
        assert_int_equal(s->notice.kind, kinds[last]);
        assert_true(s->next == PLAN_NEVER);
    }
}

static void test_not_configured_says_how_to_begin(void **state)
{
    struct scene *s = *state;

    status(s, EMPTY);
    pass(s, 2);
    check(s, 1, PLAN_UNCONFIGURED);
    assert_non_null(strstr(s->notice.body, "qubes-vpn import FILE"));
    status(
        s,
        "{\"state\":\"unconfigured\",\"seal\":\"closed\",\"profiles\":[{\"name\":\"<b>x</b>\\n\","
        "\"usable\":false,\"problem\":\"line 3: up is "
        "refused\"},{\"name\":\"y\",\"usable\":true}]}");
    pass(s, 2);
    check(s, 2, PLAN_UNCONFIGURED);
    assert_string_equal(s->notice.title, "VPN: no profile is chosen");
    assert_non_null(strstr(s->notice.body, "“<b>x</b>” cannot be used: line 3: up is refused."));
    /* What was asked for is done: the old words do not stand there for long. */
    status(s, CONNECTING);
    pass(s, 2);
    check(s, 3, PLAN_ON_THE_WAY);
}

static void test_refused_pushes_are_told(void **state)
{
    struct scene *s = *state;

    status(s, "{\"state\":\"up\",\"seal\":\"tunnel\",\"profile\":\"a\",\"kind\":\"wireguard\","
              "\"pushed_findings\":[[\"left-out\",0,\"route\",\"leads around the tunnel\"],"
              "[\"note\",0,\"x\",\"y\"],[\"refused\",0,\"a\",\"b\"],[\"refused\",0,\"a\",\"b\"],"
              "[\"refused\",0,\"a\",\"b\"],[\"refused\",0,\"a\",\"b\"]]}");
    check(s, 1, PLAN_UP);
    assert_non_null(strstr(s->notice.body, "by WireGuard"));
    assert_non_null(strstr(s->notice.body, "named no name server"));
    assert_non_null(strstr(s->notice.body, "route is not used: leads around the tunnel."));
    assert_non_null(strstr(s->notice.body, "… and 2 more."));
}

static void test_broken_file_and_secret(void **state)
{
    struct scene *s = *state;

    status(s, "{\"state\":\"failed\",\"seal\":\"closed\",\"profile\":\"a\",\"profile_findings\":"
              "[[\"refused\",7,\"up\",\"it would run a program\"]]}");
    pass(s, 2);
    check(s, 1, PLAN_BROKEN);
    assert_non_null(strstr(s->notice.body, "Line 7 (up) is refused: it would run a program."));
    assert_true(s->notice.stays);
    status(s, "{\"state\":\"connecting\",\"seal\":\"carrier\",\"profile\":\"a\","
              "\"missing_secrets\":[\"challenge\"]}");
    pass(s, 2);
    check(s, 2, PLAN_SECRET);
    assert_non_null(strstr(s->notice.body, "one-time code"));
    assert_true(s->notice.stays);
}

static void test_restart_of_the_service_is_not_told(void **state)
{
    struct scene *s = *state;

    status(s, UP);
    status(s, NULL);
    pass(s, 3);
    status(s, "{\"state\":\"connecting\",\"seal\":\"absent\",\"profile\":\"home.ovpn\"}");
    pass(s, 2);
    status(s, UP);
    pass(s, 100);
    check(s, 1, PLAN_UP);
    status(s, NULL);
    pass(s, 25);
    check(s, 2, PLAN_SILENT);
}

static void test_unknown_seal_is_critical(void **state)
{
    struct scene *s = *state;

    status(s, "{\"state\":\"up\",\"seal\":\"absent\"}");
    pass(s, 25);
    check(s, 1, PLAN_NO_SEAL);
    assert_int_equal(s->notice.urgency, PLAN_CRITICAL);
}

static void test_hostile_texts_keep_their_place(void **state)
{
    static char name[70000];
    struct scene *s = *state;
    json_t *hostile = json_loads(UP, 0, NULL), *list = json_array();

    memset(name, 'A', sizeof(name) - 1);
    memcpy(name, "\x1b[2J\n\xe2\x80\xae<img>", 13);
    assert_non_null(hostile);
    for (unsigned i = 0; i < 50; i++)
        json_array_append_new(list, json_pack("[s,i,s,s]", "refused", 0, name, name));
    json_object_set_new(hostile, "endpoint", json_string(name));
    json_object_set_new(hostile, "profile", json_string(name));
    json_object_set_new(hostile, "dns", json_pack("[s,s,s,s,s]", name, name, name, name, name));
    json_object_set_new(hostile, "pushed_findings", list);
    plan_status(&s->plan, hostile, s->now);
    look(s);
    check(s, 1, PLAN_UP);
    assert_true(strlen(s->notice.body) < sizeof(s->notice.body));
    assert_null(strchr(s->notice.body, '\x1b'));
    assert_null(strstr(s->notice.body, "\xe2\x80\xae"));
    assert_non_null(strstr(s->notice.body, "goes through the tunnel"));
    json_decref(hostile);
}

static void check_text(const char *text, bool markup, size_t size, const char *expected)
{
    char buf[64];

    assert_string_equal(popup_text(text, markup, buf, size), expected);
}

static void test_markup(void **state)
{
    (void)state;
    check_text("a <b>& c\nd", false, 64, "a <b>& c\nd");
    check_text("a <b>& c\nd", true, 64, "a &lt;b&gt;&amp; c\nd");
    check_text("a<", true, 5, "a"); /* no half of an escape */
    check_text("a<", true, 6, "a&lt;");
    check_text("aü", true, 3, "a");
    check_text("", true, 1, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_connected_is_told_at_once, setup),
        cmocka_unit_test_setup(test_disconnected_is_told, setup),
        cmocka_unit_test_setup(test_short_interruption_is_not_told, setup),
        cmocka_unit_test_setup(test_long_interruption_is_told_once, setup),
        cmocka_unit_test_setup(test_slow_first_connection, setup),
        cmocka_unit_test_setup(test_flapping_does_not_flood, setup),
        cmocka_unit_test_setup(test_tries_do_not_hold_up_the_result, setup),
        cmocka_unit_test_setup(test_last_state_wins, setup),
        cmocka_unit_test_setup(test_not_configured_says_how_to_begin, setup),
        cmocka_unit_test_setup(test_refused_pushes_are_told, setup),
        cmocka_unit_test_setup(test_broken_file_and_secret, setup),
        cmocka_unit_test_setup(test_restart_of_the_service_is_not_told, setup),
        cmocka_unit_test_setup(test_unknown_seal_is_critical, setup),
        cmocka_unit_test_setup(test_hostile_texts_keep_their_place, setup),
        cmocka_unit_test(test_markup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
