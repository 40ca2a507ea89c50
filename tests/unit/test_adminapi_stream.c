/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stream of events: in pieces, cut, refused, gone and back; and calls beside it. */
#include <errno.h>
#include <string.h>

#include "adminapi/stream.h"
#include "test_adminapi_fixture.h"

#define SET_EVENT                                                                                  \
    "1\0testvm\0domain-feature-set:routing-method\0feature\0routing-method\0value\0forward\0"     \
    "oldvalue\0\0\0"
#define STOP_EVENT "1\0testvm\0domain-stopped\0\0"
#define APP_EVENT  "1\0\0domain-add\0vm\0new\0\0"
#define UNSET_EVENT "1\0testvm\0domain-feature-set:f\0feature\0f\0value\0\0\0"

static void test_events_come(void **state)
{
    (void)state;
    start_with_stream();
    assert_int_equal(t.events, 0); /* connection-established is not one */
    FAKE_SEND(stream(), SET_EVENT);
    RUN_UNTIL(t.events == 1);
    assert_string_equal(t.last_event, "testvm domain-feature-set:routing-method 3");
    assert_string_equal(t.last_value, "forward");
    FAKE_SEND(stream(), APP_EVENT STOP_EVENT APP_EVENT);
    RUN_UNTIL(t.events == 4);
    assert_string_equal(t.last_event, " domain-add 1");
    FAKE_SEND(stream(), UNSET_EVENT);
    RUN_UNTIL(t.events == 5);
    assert_int_equal(t.last_value_len, 0);
    assert_int_equal(t.connected, 1);
    assert_int_equal(t.losses, 0);
}

static void test_events_in_pieces(void **state)
{
    static const char bytes[] = SET_EVENT APP_EVENT UNSET_EVENT;

    (void)state;
    start_with_stream();
    for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
        fake_send(stream(), bytes + i, 1);
        fake_run_quiet(t.event, 0);
    }
    RUN_UNTIL(t.events == 3);
    assert_string_equal(t.last_event, "testvm domain-feature-set:f 2");
}

static void test_stream_ends(void **state)
{
    uint64_t began;

    (void)state;
    start_with_stream();
    FAKE_SEND(stream(), STOP_EVENT "1\0half\0domain-st");
    fake_close(stream());
    began = fake_now_ms();
    RUN_UNTIL(t.losses == 1);
    assert_int_equal(t.lost_error, -ECONNRESET);
    assert_int_equal(t.events, 1); /* the whole one counts, the half one not */
    RUN_UNTIL(t.connected == 2);
    assert_in_range(fake_now_ms() - began, 950, 3000); /* qubesd's own pace */
    FAKE_SEND(stream(), STOP_EVENT);
    RUN_UNTIL(t.events == 2);
    assert_string_equal(t.order, "celce");
}

static void test_stream_that_is_none(void **state)
{
    (void)state;
    start_with_stream();
    FAKE_SEND(stream(), STOP_EVENT "7\0what" STOP_EVENT);
    RUN_UNTIL(t.losses == 1);
    assert_int_equal(t.lost_error, -EPROTO);
    assert_int_equal(t.events, 1); /* nothing after it can be trusted */
    RUN_UNTIL(t.connected == 2);
}

static void script_refuse(struct fake_conn *c)
{
    fake_exception(c, "PermissionDenied", "");
}

static void test_stream_refused_is_told_once(void **state)
{
    (void)state;
    t.fake.script = script_refuse;
    fake_listen(&t.fake, 8);
    start(true, 0);
    RUN_UNTIL(t.fake.requests == 3);
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.losses, 1);
    assert_int_equal(t.lost_error, -EPROTO);
    t.fake.script = script_events;
    RUN_UNTIL(t.connected == 1);
    fake_close(stream());
    RUN_UNTIL(t.losses == 2);
}

static void test_stream_never_established(void **state)
{
    (void)state;
    fake_listen(&t.fake, 8);
    start(true, 50000);
    RUN_UNTIL(t.losses == 1);
    assert_int_equal(t.lost_error, -ETIMEDOUT);
    t.fake.script = script_events;
    RUN_UNTIL(t.connected == 1);
}

static void test_socket_appears(void **state)
{
    uint64_t began;

    (void)state;
    start(true, 0);
    RUN_UNTIL(t.losses == 1);
    assert_int_equal(t.lost_error, -ENOENT);
    t.fake.script = script_events;
    fake_run_quiet(t.event, 5);
    began = fake_now_ms();
    fake_listen(&t.fake, 8);
    RUN_UNTIL(t.connected == 1);
    assert_in_range(fake_now_ms() - began, 0, 300); /* far below the 1 s of the timer */

    /* It dies and leaves its file; the successor replaces the file. */
    fake_stop(&t.fake, false);
    RUN_UNTIL(t.losses == 2);
    fake_run_quiet(t.event, 5);
    began = fake_now_ms();
    fake_listen(&t.fake, 8);
    RUN_UNTIL(t.connected == 2);
    assert_in_range(fake_now_ms() - began, 0, 300);
    assert_int_equal(t.losses, 2);
}

static void test_stale_socket_file(void **state)
{
    (void)state;
    fake_listen(&t.fake, 8);
    fake_stop(&t.fake, false);
    start(true, 0);
    RUN_UNTIL(t.losses == 1);
    assert_int_equal(t.lost_error, -ECONNREFUSED);
}

static void test_long_events(void **state)
{
    static char value[ADMIN_REQUEST_MAX];
    struct fake_conn *c;

    (void)state;
    start_with_stream();
    memset(value, 'v', sizeof(value));
    c = stream();
    FAKE_SEND(c, "1\0q\0domain-feature-set:f\0value\0");
    fake_send(c, value, sizeof(value));
    fake_run_quiet(t.event, 1);
    FAKE_SEND(c, "\0oldvalue\0");
    fake_send(c, value, sizeof(value));
    fake_run_quiet(t.event, 1);
    FAKE_SEND(c, "\0\0" STOP_EVENT);
    RUN_UNTIL(t.events == 2);
    assert_int_equal(t.losses, 0);
    FAKE_SEND(c, "1\0q\0domain-feature-set:f\0value\0");
    for (size_t sent = 0; sent < ADMIN_EVENT_MAX && t.losses == 0; sent += sizeof(value)) {
        fake_send(c, value, sizeof(value));
        fake_run_quiet(t.event, 1);
    }
    RUN_UNTIL(t.losses == 1);
    assert_int_equal(t.lost_error, -E2BIG);
}

/* What was said on the stream before an answer is heard before it, however much it is. */
static void test_events_before_answers(void **state)
{
    struct fake_conn *c;

    (void)state;
    start_with_stream();
    for (unsigned i = 0; i < 3; i++)
        call_some();
    RUN_UNTIL(t.fake.requests == 4);
    memset(t.order, 0, sizeof(t.order));
    while ((c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0")))
        fake_ok(c, "x\n");
    for (unsigned i = 0; i < 5; i++)
        FAKE_SEND(stream(), STOP_EVENT);
    RUN_UNTIL(t.answers == 3);
    assert_string_equal(t.order, "eeeeeaaa");

    /* Even what comes when the answer has been read, but not been told. */
    call_some();
    RUN_UNTIL(t.fake.requests == 5);
    fake_run_quiet(t.event, 5);
    memset(t.order, 0, sizeof(t.order));
    fake_ok(fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"), "x\n");
    assert_int_equal(sd_event_run(t.event, 0), 1);
    FAKE_SEND(stream(), STOP_EVENT);
    RUN_UNTIL(t.answers == 4);
    assert_string_equal(t.order, "ea");
}

static void test_cancel_in_event(void **state)
{
    (void)state;
    start_with_stream();
    for (unsigned i = 0; i < 12; i++)
        call_some();
    RUN_UNTIL(t.fake.requests == 1 + ADMIN_CALLS_MAX);
    fake_ok(fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"), "x\n");
    t.cancel_in_event = true;
    FAKE_SEND(stream(), STOP_EVENT STOP_EVENT);
    RUN_UNTIL(t.events == 2);
    fake_run_quiet(t.event, 10);
    assert_int_equal(t.answers, 0);
}

/* The stream is drained while qubesd answers nothing: its buffer stays empty. */
static void test_drained_while_calls_hang(void **state)
{
    static char value[60000];
    struct fake_conn *c;

    (void)state;
    start_with_stream();
    for (unsigned i = 0; i < 20; i++)
        call_some();
    RUN_UNTIL(t.fake.requests == 1 + ADMIN_CALLS_MAX);
    memset(value, 'v', sizeof(value));
    c = stream();
    for (unsigned i = 0; i < 300; i++) { /* send() of the fake would fail on a full socket */
        FAKE_SEND(c, "1\0q\0domain-feature-set:f\0value\0");
        fake_send(c, value, sizeof(value));
        FAKE_SEND(c, "\0\0");
        RUN_UNTIL(t.events == i + 1);
    }
    assert_int_equal(t.answers, 0);
}

/* Connected and idle nothing wakes the program up. */
static void test_idle_sleeps(void **state)
{
    (void)state;
    start_with_stream();
    fake_run_quiet(t.event, 10);
    assert_int_equal(sd_event_run(t.event, 1500000), 0);
}

static void test_freed_with_everything_open(void **state)
{
    (void)state;
    start_with_stream();
    for (unsigned i = 0; i < 12; i++)
        call_some();
    RUN_UNTIL(t.fake.requests == 1 + ADMIN_CALLS_MAX);
    t.client = admin_client_free(t.client);
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.answers + t.losses, 0);
    assert_int_equal(t.fake.now_open, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_events_come),
        TEST(test_events_in_pieces),
        TEST(test_stream_ends),
        TEST(test_stream_that_is_none),
        TEST(test_stream_refused_is_told_once),
        TEST(test_stream_never_established),
        TEST(test_socket_appears),
        TEST(test_stale_socket_file),
        TEST(test_long_events),
        TEST(test_events_before_answers),
        TEST(test_cancel_in_event),
        TEST(test_drained_while_calls_hang),
        TEST(test_idle_sleeps),
        TEST(test_freed_with_everything_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
