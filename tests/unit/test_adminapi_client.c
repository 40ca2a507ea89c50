/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls and the stream of events against a qubesd that behaves, hesitates, misbehaves and dies. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "adminapi/client.h"
#include "adminapi/stream.h"
#include "base/cleanup.h"
#include "base/local_socket.h"
#include "test_adminapi_fake.h"

static struct {
    sd_event *event;
    struct fake fake;
    struct admin_client *client;
    unsigned connected, events, losses, answers;
    int lost_error, error;
    enum admin_status status;
    char order[256]; /* what came, one letter each: e event, a answer */
    char last_event[128], last_value[64];
    size_t last_content, last_value_len;
    char content[128], type[64], message[64];
    unsigned call_more; /* calls that the answer callback makes */
    bool cancel_in_event;
} t;

static void note(char what)
{
    size_t len = strlen(t.order);

    if (len + 1 < sizeof(t.order))
        t.order[len] = what;
}

static void copy(char *out, size_t size, struct str s)
{
    snprintf(out, size, "%.*s", (int)s.len, s.len > 0 ? s.p : "");
}

static void on_event(const struct admin_event *e, void *user)
{
    struct str value;

    assert_ptr_equal(user, &t);
    t.events++;
    note('e');
    snprintf(t.last_event, sizeof(t.last_event), "%.*s %.*s %zu", (int)e->subject.len,
             e->subject.p, (int)e->name.len, e->name.p, e->n_pairs);
    t.last_value_len = SIZE_MAX;
    if (admin_event_value(e, "value", &value)) {
        t.last_value_len = value.len;
        copy(t.last_value, sizeof(t.last_value), value);
    }
    if (t.cancel_in_event)
        admin_cancel(t.client, &t);
}

static void on_connected(void *user)
{
    assert_ptr_equal(user, &t);
    t.connected++;
    note('c');
}

static void on_lost(int error, void *user)
{
    assert_ptr_equal(user, &t);
    assert_true(error < 0);
    t.losses++;
    t.lost_error = error;
    note('l');
}

static void on_answer(int error, const struct admin_answer *a, void *user);

static void call_to(const char *method, const char *arg, const char *dest, const char *payload)
{
    const struct admin_request request = {
        .method = method, .arg = arg, .dest = dest, .payload = str_from(payload)};

    assert_return_code(admin_call(t.client, &request, on_answer, &t), 0);
}

static void call_some(void)
{
    call_to("admin.vm.List", NULL, "dom0", "");
}

static void on_answer(int error, const struct admin_answer *a, void *user)
{
    assert_ptr_equal(user, &t);
    t.answers++;
    t.error = error;
    note('a');
    if (error == 0) {
        t.status = a->status;
        t.last_content = a->content.len;
        copy(t.content, sizeof(t.content), a->content);
        copy(t.type, sizeof(t.type), a->type);
        copy(t.message, sizeof(t.message), a->message);
    } else {
        assert_true(error < 0);
        assert_null(a);
    }
    if (t.call_more > 0) {
        t.call_more--;
        call_some();
    }
}

static void start(bool events, uint64_t timeout_usec)
{
    const struct admin_client_config config = {
        .socket = t.fake.socket,
        .timeout_usec = timeout_usec,
        .event = events ? on_event : NULL,
        .connected = on_connected,
        .lost = on_lost,
        .user = &t,
    };

    assert_return_code(admin_client_new(t.event, &config, &t.client), 0);
    assert_string_equal(t.order, ""); /* nothing from inside */
}

/* ---- scripts of the qubesd ---- */

static void script_hold(struct fake_conn *c)
{
    (void)c;
}

static void script_echo(struct fake_conn *c)
{
    FAKE_SEND(c, "0\0");
    fake_send(c, c->header, strlen(c->header));
    FAKE_SEND(c, "|");
    fake_answer(c, c->payload, c->payload_len);
}

static void script_events(struct fake_conn *c)
{
    if (fake_is(c, FAKE_EVENTS))
        FAKE_SEND(c, FAKE_ESTABLISHED);
}

static int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    assert_return_code(sd_event_new(&t.event), 0);
    fake_init(&t.fake, t.event);
    t.fake.script = script_hold;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    t.client = admin_client_free(t.client);
    fake_done(&t.fake);
    t.event = sd_event_unref(t.event);
    return 0;
}

#define RUN_UNTIL(condition) FAKE_RUN_UNTIL(t.event, condition)

static void start_with_stream(void)
{
    t.fake.script = script_events;
    fake_listen(&t.fake, 8);
    start(true, 2000000);
    RUN_UNTIL(t.connected == 1);
}

static struct fake_conn *stream(void)
{
    struct fake_conn *c = fake_find(&t.fake, FAKE_EVENTS);

    assert_non_null(c);
    return c;
}

/* ---- calls ---- */

static void test_call_goes_out_as_qubesd_reads_it(void **state)
{
    (void)state;
    t.fake.script = script_echo;
    fake_listen(&t.fake, 8);
    start(false, 0);
    call_to("admin.vm.feature.Set", "network-server.allow", "web", "tcp/22 from 10.0.0.0/8");
    assert_int_equal(t.answers, 0);
    RUN_UNTIL(t.answers == 1);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.status, ADMIN_OK);
    assert_string_equal(t.content, "admin.vm.feature.Set+network-server.allow dom0 name web|"
                                   "tcp/22 from 10.0.0.0/8");
    call_some();
    RUN_UNTIL(t.answers == 2);
    assert_string_equal(t.content, "admin.vm.List+ dom0 name dom0|");
    assert_int_equal(t.connected + t.losses, 0); /* no stream was asked for */
    assert_int_equal(t.fake.requests, 2);
}

static void test_answers_of_every_kind(void **state)
{
    struct fake_conn *c;

    (void)state;
    fake_listen(&t.fake, 8);
    start(false, 0);
    call_some();
    RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"));
    fake_close(c);
    RUN_UNTIL(t.answers == 1);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.status, ADMIN_EMPTY);

    call_some();
    RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"));
    fake_exception(c, "QubesVMNotFoundError", "No such domain: 'x'");
    RUN_UNTIL(t.answers == 2);
    assert_int_equal(t.status, ADMIN_EXCEPTION);
    assert_string_equal(t.type, "QubesVMNotFoundError");
    assert_string_equal(t.message, "No such domain: 'x'");

    /* Byte by byte. */
    call_some();
    RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"));
    for (size_t i = 0; i < 7; i++) {
        fake_send(c, &"0\0piece"[i], 1);
        fake_run_quiet(t.event, 1);
    }
    assert_int_equal(t.answers, 2); /* not before the end of the stream */
    fake_close(c);
    RUN_UNTIL(t.answers == 3);
    assert_string_equal(t.content, "piece");

    call_some();
    RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"));
    fake_answer(c, "2\0Type\0", 7);
    RUN_UNTIL(t.answers == 4);
    assert_int_equal(t.status, ADMIN_BROKEN);
}

static void test_nobody_answers_in_time(void **state)
{
    uint64_t began;

    (void)state;
    fake_listen(&t.fake, 8);
    start(false, 50000);
    call_some();
    began = fake_now_ms();
    RUN_UNTIL(t.answers == 1);
    assert_int_equal(t.error, -ETIMEDOUT);
    assert_in_range(fake_now_ms() - began, 45, 1000);
    fake_run_quiet(t.event, 20);
    assert_int_equal(t.answers, 1);
    assert_int_equal(t.fake.now_open, 0); /* given up for qubesd too */
}

static void test_no_qubesd(void **state)
{
    (void)state;
    start(false, 0);
    call_some();
    assert_int_equal(t.answers, 0);
    RUN_UNTIL(t.answers == 1);
    assert_int_equal(t.error, -ENOENT);
    fake_listen(&t.fake, 8);
    fake_stop(&t.fake, false); /* the file stays, as with Python 3.11 */
    for (unsigned i = 0; i < 2000; i++) /* deep recursion would show */
        call_some();
    RUN_UNTIL(t.answers == 2001);
    assert_int_equal(t.error, -ECONNREFUSED);
}

static void test_full_backlog_is_waited_for(void **state)
{
    int fd = -1, extra = -1;

    (void)state;
    t.fake.script = script_echo;
    fake_listen(&t.fake, 0);
    assert_return_code(local_connect(t.fake.socket, &fd), 0);
    assert_int_equal(local_connect(t.fake.socket, &extra), -EAGAIN);
    start(false, 0);
    call_some();
    call_some();
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.answers, 0);
    close_fd(fd);
    close_fd(accept(t.fake.fd, NULL, NULL));
    fake_stop(&t.fake, true);
    fake_listen(&t.fake, 8);
    RUN_UNTIL(t.answers == 2);
    assert_int_equal(t.error, 0);
}

static void test_full_backlog_ends_with_the_time_limit(void **state)
{
    int fd = -1;

    (void)state;
    fake_listen(&t.fake, 0);
    assert_return_code(local_connect(t.fake.socket, &fd), 0);
    start(false, 60000);
    call_some();
    RUN_UNTIL(t.answers == 1);
    assert_int_equal(t.error, -ETIMEDOUT);
    close_fd(fd);
}

static void test_answer_too_big(void **state)
{
    static char much[65536];
    struct fake_conn *c;
    size_t sent = 2;

    (void)state;
    fake_listen(&t.fake, 8);
    for (int over = 0; over < 2; over++) {
        start(false, 0);
        t.answers = 0;
        call_some();
        RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"));
        memset(much, 'x', sizeof(much));
        FAKE_SEND(c, "0\0");
        for (sent = 2; sent < ADMIN_ANSWER_MAX + (size_t)over;) {
            size_t n = ADMIN_ANSWER_MAX + (size_t)over - sent;

            fake_send(c, much, n < sizeof(much) ? n : sizeof(much));
            sent += n < sizeof(much) ? n : sizeof(much);
            (void)sd_event_run(t.event, 0);
            (void)sd_event_run(t.event, 0);
        }
        fake_close(c);
        RUN_UNTIL(t.answers == 1);
        assert_int_equal(t.error, over ? -E2BIG : 0);
        t.client = admin_client_free(t.client);
        t.order[0] = '\0';
        memset(t.order, 0, sizeof(t.order));
    }
    assert_int_equal(t.last_content, ADMIN_ANSWER_MAX - 2);
}

static void test_few_calls_at_once(void **state)
{
    struct fake_conn *c;

    (void)state;
    fake_listen(&t.fake, 16);
    start(false, 0);
    for (unsigned i = 0; i < 20; i++)
        call_some();
    RUN_UNTIL(t.fake.requests == ADMIN_CALLS_MAX);
    fake_run_quiet(t.event, 10);
    assert_int_equal(t.fake.requests, ADMIN_CALLS_MAX);
    while ((c = fake_find(&t.fake, "admin.vm.List+ dom0 name dom0"))) {
        fake_ok(c, "x\n");
        fake_run_quiet(t.event, 1);
    }
    RUN_UNTIL(t.answers == 20);
    assert_int_equal(t.fake.most_open, ADMIN_CALLS_MAX);
}

static void test_cancel_everywhere(void **state)
{
    (void)state;
    fake_listen(&t.fake, 16);
    start(false, 0);
    for (unsigned i = 0; i < 20; i++)
        call_some();
    RUN_UNTIL(t.fake.requests == ADMIN_CALLS_MAX);
    admin_cancel(t.client, "somebody else");
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.fake.now_open, ADMIN_CALLS_MAX);
    admin_cancel(t.client, &t);
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.answers, 0);
    assert_int_equal(t.fake.now_open, 0);
    assert_int_equal(t.fake.requests, ADMIN_CALLS_MAX);

    t.fake.script = script_echo;
    t.call_more = 3;
    call_some();
    RUN_UNTIL(t.answers == 4);
}

static void test_requests_that_are_none(void **state)
{
    static char payload[ADMIN_REQUEST_MAX];
    struct admin_request request = {.method = "admin.vm.List", .dest = "a b"};

    (void)state;
    start(false, 0);
    assert_int_equal(admin_call(t.client, &request, on_answer, &t), -EINVAL);
    request.dest = "a";
    request.payload = (struct str){payload, sizeof(payload)};
    assert_int_equal(admin_call(t.client, &request, on_answer, &t), -E2BIG);
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.answers, 0);
}

/* qubesd closes without a word before it has read all of a request. */
static void test_closed_while_sending(void **state)
{
    static char payload[60000];
    const struct admin_request request = {
        .method = "admin.vm.feature.Set", .arg = "f", .dest = "a", .payload = {payload, 60000}};
    int fd;

    (void)state;
    fake_listen(&t.fake, 0);
    start(false, 0);
    assert_return_code(admin_call(t.client, &request, on_answer, &t), 0);
    fake_run_quiet(t.event, 5);
    fd = accept(t.fake.fd, NULL, NULL);
    assert_true(fd >= 0);
    close_fd(fd);
    RUN_UNTIL(t.answers == 1);
    assert_true(t.error == -ECONNRESET || (t.error == 0 && t.status == ADMIN_EMPTY));
}

/* ---- events ---- */

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

static void test_socket_from_the_environment(void **state)
{
    const struct admin_client_config config = {.user = &t};

    (void)state;
    t.fake.script = script_echo;
    fake_listen(&t.fake, 8);
    assert_int_equal(setenv("QUBESD_SOCKET", t.fake.socket, 1), 0);
    assert_return_code(admin_client_new(t.event, &config, &t.client), 0);
    (void)unsetenv("QUBESD_SOCKET");
    call_some();
    RUN_UNTIL(t.answers == 1);
    assert_int_equal(t.error, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_call_goes_out_as_qubesd_reads_it),
        TEST(test_answers_of_every_kind),
        TEST(test_nobody_answers_in_time),
        TEST(test_no_qubesd),
        TEST(test_full_backlog_is_waited_for),
        TEST(test_full_backlog_ends_with_the_time_limit),
        TEST(test_answer_too_big),
        TEST(test_few_calls_at_once),
        TEST(test_cancel_everywhere),
        TEST(test_requests_that_are_none),
        TEST(test_closed_while_sending),
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
        TEST(test_socket_from_the_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
