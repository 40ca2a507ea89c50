/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls to a qubesd that behaves, hesitates, misbehaves and dies. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/local_socket.h"
#include "test_adminapi_fixture.h"

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
        TEST(test_socket_from_the_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
