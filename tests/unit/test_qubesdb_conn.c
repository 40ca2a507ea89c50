/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "qubesdb/conn.h"
#include "test_qubesdb_peer.h"

static struct {
    sd_event *event;
    char directory[32], socket[64];
    struct peer peer;
    bool peer_is_open;
    struct qdb_conn *conn;
    unsigned answers, failures, next;
    int error;
    char events[8][QDB_PATH_SIZE];
    unsigned event_count;
} f;

static const struct peer_key keys[] = {{"/a", "one"}, {"/b", "two"}, {NULL, NULL}};

static uint64_t now_msec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uint64_t until_ = now_msec() + 5000;                                                       \
        while (!(condition) && now_msec() < until_)                                                \
            assert_return_code(sd_event_run(f.event, 10000), 0);                                   \
        assert_true(condition);                                                                    \
    } while (0)

static void on_event(const char *path, void *user)
{
    assert_ptr_equal(user, &f);
    assert_in_range(f.event_count, 0, ARRAY_SIZE(f.events) - 1);
    snprintf(f.events[f.event_count++], QDB_PATH_SIZE, "%s", path);
}

static void on_failed(int error, void *user)
{
    assert_ptr_equal(user, &f);
    f.failures++;
    f.error = error;
}

static void connect_conn(void)
{
    struct qdb_conn_config config = {.socket = f.socket,
                                     .timeout_usec = 1000000,
                                     .event = on_event,
                                     .failed = on_failed,
                                     .user = &f};

    assert_return_code(qdb_conn_new(f.event, &config, &f.conn), 0);
}

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    assert_return_code(sd_event_new(&f.event), 0);
    snprintf(f.directory, sizeof(f.directory), "/tmp/qdb-test.XXXXXX");
    assert_non_null(mkdtemp(f.directory));
    snprintf(f.socket, sizeof(f.socket), "%s/qubesdb.sock", f.directory);
    peer_open(&f.peer, f.event, f.socket);
    f.peer.keys = keys;
    f.peer_is_open = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    f.conn = qdb_conn_free(f.conn);
    if (f.peer_is_open)
        peer_close(&f.peer);
    sd_event_unref(f.event);
    (void)rmdir(f.directory);
    return 0;
}

static void on_counted(const struct qdb_message *m, void *user)
{
    char expected[QDB_PATH_SIZE];

    (void)user;
    snprintf(expected, sizeof(expected), "/k/%u", f.answers);
    assert_string_equal(m->path, expected);
    assert_int_equal(m->type, QDB_RESP_ERROR_NOENT);
    f.answers++;
}

static void on_any(const struct qdb_message *m, void *user)
{
    (void)m;
    (void)user;
    f.answers++;
}

static int send_read(const char *path, void (*answer)(const struct qdb_message *m, void *user))
{
    struct qdb_request request = {.type = QDB_CMD_READ, .path = path, .answer = answer};

    return qdb_conn_send(f.conn, &request);
}

static void test_refused_requests(void **state)
{
    static const char value[QDB_VALUE_MAX + 1];
    struct qdb_request request = {.type = QDB_CMD_READ, .path = "/a", .answer = on_counted};

    (void)state;
    connect_conn();
    request.value = (struct str){value, 1};
    assert_int_equal(qdb_conn_send(f.conn, &request), -EINVAL);
    request.type = QDB_CMD_WRITE;
    request.value.len = sizeof(value);
    assert_int_equal(qdb_conn_send(f.conn, &request), -EMSGSIZE);
    request.value.len = 0;
    request.path = "/a b";
    assert_int_equal(qdb_conn_send(f.conn, &request), -EINVAL);
    request.path = "/a";
    request.type = QDB_RESP_OK;
    assert_int_equal(qdb_conn_send(f.conn, &request), -EINVAL);
    request.type = QDB_CMD_WRITE; /* the good one comes first */
    request.answer = on_any;
    assert_return_code(qdb_conn_send(f.conn, &request), 0);
    RUN_UNTIL(f.answers == 1);
    assert_int_equal(f.peer.requests[QDB_CMD_WRITE], 1);
    assert_int_equal(f.peer.requests[QDB_CMD_READ], 0);
}

/* As many as the queue takes, answered in order; never more at the daemon than promised. */
static bool script_hold(struct peer_conn *c, const struct qdb_message *m)
{
    (void)c;
    (void)m;
    return f.peer.requests[QDB_CMD_READ] <= QDB_CONN_OUTSTANDING_MAX;
}

static void test_order_and_bounds(void **state)
{
    char path[QDB_PATH_SIZE];

    (void)state;
    connect_conn();
    f.peer.script = script_hold;
    for (unsigned i = 0; i < QDB_CONN_QUEUE_MAX; i++) {
        snprintf(path, sizeof(path), "/k/%u", i);
        assert_return_code(send_read(path, on_counted), 0);
    }
    assert_int_equal(send_read("/k/more", on_counted), -ENOBUFS);
    RUN_UNTIL(f.peer.requests[QDB_CMD_READ] == QDB_CONN_OUTSTANDING_MAX);
    for (int i = 0; i < 20; i++)
        assert_return_code(sd_event_run(f.event, 1000), 0);
    assert_int_equal(f.peer.requests[QDB_CMD_READ], QDB_CONN_OUTSTANDING_MAX);
    for (unsigned i = 0; i < QDB_CONN_OUTSTANDING_MAX; i++) {
        snprintf(path, sizeof(path), "/k/%u", i);
        peer_send(peer_commander(&f.peer), QDB_RESP_ERROR_NOENT, path, "");
    }
    RUN_UNTIL(f.answers == QDB_CONN_QUEUE_MAX);
    assert_int_equal(f.failures, 0);
}

static void test_events_inside_a_list(void **state)
{
    struct qdb_request request = {.type = QDB_CMD_LIST, .path = "/", .answer = on_any};

    (void)state;
    connect_conn();
    f.peer.script = script_hold;
    assert_return_code(qdb_conn_send(f.conn, &request), 0);
    RUN_UNTIL(f.peer.requests[QDB_CMD_LIST] == 1);
    peer_send(peer_commander(&f.peer), QDB_RESP_LIST, "/a", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_WATCH, "/1", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_LIST, "/b", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_WATCH, "/2", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_LIST, "", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_WATCH, "/3", "");
    RUN_UNTIL(f.event_count == 3);
    assert_int_equal(f.answers, 3);
    assert_string_equal(f.events[0], "/1");
    assert_string_equal(f.events[2], "/3");
}

static void on_answer_free(const struct qdb_message *m, void *user)
{
    (void)m;
    (void)user;
    f.answers++;
    f.conn = qdb_conn_free(f.conn);
}

static void test_freed_in_callback(void **state)
{
    (void)state;
    connect_conn();
    assert_return_code(send_read("/a", on_answer_free), 0);
    assert_return_code(send_read("/b", on_answer_free), 0);
    RUN_UNTIL(f.answers == 1);
    for (int i = 0; i < 10; i++)
        assert_return_code(sd_event_run(f.event, 1000), 0);
    assert_int_equal(f.answers, 1);
    assert_int_equal(f.failures, 0);
}

static void on_answer_ask(const struct qdb_message *m, void *user)
{
    (void)m;
    (void)user;
    if (++f.answers < 5)
        assert_return_code(send_read("/a", on_answer_ask), 0);
}

static void test_request_in_callback(void **state)
{
    (void)state;
    connect_conn();
    assert_return_code(send_read("/a", on_answer_ask), 0);
    RUN_UNTIL(f.answers == 5);
}

static void test_peer_gone(void **state)
{
    (void)state;
    connect_conn();
    assert_return_code(send_read("/a", on_any), 0);
    peer_close(&f.peer);
    f.peer_is_open = false;
    RUN_UNTIL(f.failures == 1);
    assert_int_equal(send_read("/a", on_any), -ENOTCONN);
    for (int i = 0; i < 10; i++)
        assert_return_code(sd_event_run(f.event, 1000), 0);
    assert_int_equal(f.failures, 1);
    assert_int_equal(f.answers, 0);
}

static void test_no_signal_from_a_peer_that_does_not_read(void **state)
{
    (void)state;
    connect_conn();
    RUN_UNTIL(f.peer.accepted == 1);
    /* The peer itself must not notice, or it would close. */
    assert_return_code(
        sd_event_source_set_enabled(peer_commander(&f.peer)->source, SD_EVENT_OFF), 0);
    assert_return_code(shutdown(peer_commander(&f.peer)->fd, SHUT_RD), errno);
    assert_return_code(send_read("/a", on_any), 0);
    RUN_UNTIL(f.failures == 1);
    assert_int_equal(f.error, -EPIPE);
}

static void test_no_daemon(void **state)
{
    struct qdb_conn_config config = {.socket = f.socket, .failed = on_failed, .user = &f};
    char long_path[200];

    (void)state;
    peer_close(&f.peer);
    f.peer_is_open = false;
    assert_int_equal(qdb_conn_new(f.event, &config, &f.conn), -ENOENT);
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    config.socket = long_path;
    assert_int_equal(qdb_conn_new(f.event, &config, &f.conn), -ENAMETOOLONG);
    assert_null(f.conn);
    assert_int_equal(f.failures, 0);
}

static void test_idle_has_no_time_limit(void **state)
{
    struct qdb_conn_config config = {
        .socket = f.socket, .timeout_usec = 20000, .failed = on_failed, .user = &f};

    (void)state;
    assert_return_code(qdb_conn_new(f.event, &config, &f.conn), 0);
    assert_return_code(send_read("/a", on_any), 0);
    RUN_UNTIL(f.answers == 1);
    while (sd_event_run(f.event, 100000) > 0)
        ;
    assert_int_equal(f.failures, 0);
    f.peer.script = script_hold;
    assert_return_code(send_read("/a", on_any), 0);
    RUN_UNTIL(f.failures == 1);
    assert_int_equal(f.error, -ETIMEDOUT);
}

int main(void)
{
#define CONN_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        CONN_TEST(test_refused_requests),   CONN_TEST(test_order_and_bounds),
        CONN_TEST(test_events_inside_a_list), CONN_TEST(test_freed_in_callback),
        CONN_TEST(test_request_in_callback), CONN_TEST(test_peer_gone),
        CONN_TEST(test_no_signal_from_a_peer_that_does_not_read),
        CONN_TEST(test_no_daemon),          CONN_TEST(test_idle_has_no_time_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
