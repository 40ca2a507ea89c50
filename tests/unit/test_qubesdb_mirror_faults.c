/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mirror against a daemon that is cut short, hangs, lies or has too much to tell. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qubesdb/conn.h"
#include "test_qubesdb_fixture.h"

static void test_split_answers(void **state)
{
    uint8_t answer[QDB_HEADER_SIZE * 2 + 3];

    (void)state;
    start_held();
    assert_return_code(qdb_encode(QDB_RESP_MULTIREAD, "/net/s", 3, answer), 0);
    memcpy(answer + QDB_HEADER_SIZE, "abc", 3);
    assert_return_code(qdb_encode(QDB_RESP_MULTIREAD, "", 0, answer + QDB_HEADER_SIZE + 3), 0);
    for (size_t i = 0; i < sizeof(answer); i++) {
        peer_send_bytes(peer_commander(&f.peer), answer + i, 1);
        assert_return_code(sd_event_run(f.event, 1000), 0);
    }
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "", "");
    RUN_UNTIL(f.ends == 1);
    assert_true(knows("/net/s", "abc"));
    assert_int_equal(f.losses, 0);
}

static void test_events_during_reading(void **state)
{
    (void)state;
    start_held();
    for (int i = 0; i < 10; i++)
        peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/1", "");
    run_until_quiet(20);
    assert_int_equal(f.peer.requests[QDB_CMD_READ], 0);
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "/net/1", "older");
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "", "");
    RUN_UNTIL(f.changes == 1);
    assert_int_equal(f.ends, 1);
    assert_int_equal(f.peer.requests[QDB_CMD_READ], 1);
    assert_true(knows("/net/1", "one"));
}

static void test_removal_during_reading(void **state)
{
    (void)state;
    start_held();
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/", "");
    run_until_quiet(20);
    f.peer.script = NULL;
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "", "");
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "", "");
    RUN_UNTIL(f.ends == 2);
    assert_true(knows("/net/1", "one"));
}

static void test_hang_in_answer(void **state)
{
    f.timeout_usec = 50000;
    (void)state;
    start_held();
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "/net/1", "one");
    peer_send_bytes(peer_commander(&f.peer), "\x0b/net/2", 7);
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -ETIMEDOUT);
    assert_int_equal(f.begins, 1);
    assert_int_equal(f.ends, 0);
    f.peer.script = NULL;
    RUN_UNTIL(f.ends == 1);
}

/* An answer that drips has one limit as a whole. */
static void test_dripping_list(void **state)
{
    uint64_t t = now_msec(), next = t;

    f.timeout_usec = 100000;
    (void)state;
    start_held();
    while (f.losses == 0) {
        assert_in_range(now_msec() - t, 0, 2000);
        if (now_msec() >= next) {
            peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "/net/1", "one");
            next = now_msec() + 5;
        }
        (void)sd_event_run(f.event, 5000);
    }
    assert_int_equal(f.error, -ETIMEDOUT);
}

static void test_hang_in_event(void **state)
{
    f.timeout_usec = 50000;
    (void)state;
    start_both();
    run_until_quiet(100);
    assert_int_equal(f.losses, 0);
    peer_send_bytes(peer_watcher(&f.peer), "\x0d/ne", 4);
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -ETIMEDOUT);
    RUN_UNTIL(f.ends == 2);
}

static bool script_deaf(struct peer_conn *c, const struct qdb_message *m)
{
    (void)c;
    (void)m;
    return true;
}

static void test_daemon_that_never_answers(void **state)
{
    f.timeout_usec = 50000;
    (void)state;
    start_peer(some_keys);
    f.peer.script = script_deaf;
    start_mirror(f.socket);
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -ETIMEDOUT);
    f.peer.script = NULL;
    RUN_UNTIL(f.ends == 1);
}

static bool script_refuse_watch(struct peer_conn *c, const struct qdb_message *m)
{
    if (m->type != QDB_CMD_WATCH)
        return false;
    peer_send(c, QDB_RESP_ERROR, m->path, "");
    return true;
}

static void test_refused_watch(void **state)
{
    (void)state;
    start_peer(some_keys);
    f.peer.script = script_refuse_watch;
    start_mirror(f.socket);
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -EPROTO);
}

static void test_surprises_end_the_connection(void **state)
{
    static const struct {
        bool on_watch;
        enum qdb_type type;
        const char *path, *value;
    } cases[] = {
        {false, QDB_RESP_READ, "/net/1", "x"}, /* nobody asked */
        {false, QDB_RESP_WATCH, "/net/1", ""}, /* no watch there */
        {true, QDB_RESP_OK, "/", ""},          {true, QDB_RESP_MULTIREAD, "", ""},
        {true, QDB_CMD_READ, "/net/1", ""},    {false, QDB_CMD_WRITE, "/net/1", "x"},
    };

    (void)state;
    start_both();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        peer_send(cases[i].on_watch ? peer_watcher(&f.peer) : peer_commander(&f.peer),
                  cases[i].type, cases[i].path, cases[i].value);
        RUN_UNTIL(f.losses == 1 + i);
        assert_int_equal(f.error, -EPROTO);
        RUN_UNTIL(f.ends == 2 + i);
    }
}

static bool script_wrong_key(struct peer_conn *c, const struct qdb_message *m)
{
    if (m->type != QDB_CMD_READ)
        return false;
    peer_send(c, QDB_RESP_READ, "/net/other", "x");
    return true;
}

static bool script_outside_prefix(struct peer_conn *c, const struct qdb_message *m)
{
    if (m->type != QDB_CMD_MULTIREAD)
        return false;
    peer_send(c, QDB_RESP_MULTIREAD, "/elsewhere", "x");
    return true;
}

static void test_answers_must_fit(void **state)
{
    (void)state;
    start_both();
    f.peer.script = script_wrong_key;
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/1", "");
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -EPROTO);
    assert_int_equal(f.changes, 0);
    RUN_UNTIL(f.ends == 2);
    f.peer.script = script_outside_prefix;
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/", "");
    RUN_UNTIL(f.losses == 2);
    assert_int_equal(f.error, -EPROTO);
    assert_int_equal(f.begins, 2); /* nothing of it was delivered */
}

static void test_end_inside_list(void **state)
{
    (void)state;
    start_held();
    peer_send(peer_commander(&f.peer), QDB_RESP_MULTIREAD, "/net/half", "x");
    RUN_UNTIL(f.entries == 1);
    peer_conn_close(peer_commander(&f.peer));
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.ends, 0);
    f.peer.script = NULL;
    RUN_UNTIL(f.ends == 1);
    assert_null(known("/net/half"));
    assert_true(knows("/net/1", "one"));
}

/* More keys than the limit, and a NULL at the end. */
static char many_paths[QDB_MIRROR_KEYS_MAX + 1][24];
static struct peer_key many_keys[QDB_MIRROR_KEYS_MAX + 2];

static void test_too_many_keys(void **state)
{
    (void)state;
    f.timeout_usec = 3000000;
    for (size_t i = 0; i < ARRAY_SIZE(many_paths); i++) {
        snprintf(many_paths[i], sizeof(many_paths[i]), "/net/%zu", i);
        many_keys[i] = (struct peer_key){many_paths[i], "v"};
    }
    start_peer(many_keys);
    start_mirror(f.socket);
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -E2BIG);
    assert_int_equal(f.ends, 0);
    assert_int_equal(f.entries, QDB_MIRROR_KEYS_MAX);
    run_until_quiet(300);
    assert_int_equal(f.peer.requests[QDB_CMD_MULTIREAD], 2); /* no loop */
    many_keys[0].path = "/elsewhere";
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/0", "");
    RUN_UNTIL(f.ends == 1);
    assert_int_equal(f.entries, QDB_MIRROR_KEYS_MAX);
    assert_int_equal(f.losses, 1);
}

static void conn_lost(int error, void *user)
{
    (void)error;
    (void)user;
    fail();
}

static void test_full_backlog_is_retried(void **state)
{
    struct qdb_conn_config config = {.socket = f.socket, .failed = conn_lost};
    struct qdb_conn *conns[16];
    size_t n = 0;
    int r = 0;

    (void)state;
    start_peer(some_keys);
    while (n < ARRAY_SIZE(conns) && (r = qdb_conn_new(f.event, &config, &conns[n])) == 0)
        n++;
    assert_int_equal(r, -EAGAIN);
    while (n > 0)
        qdb_conn_free(conns[--n]);
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
}

int main(void)
{
#define MIRROR_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        MIRROR_TEST(test_split_answers),
        MIRROR_TEST(test_events_during_reading),
        MIRROR_TEST(test_removal_during_reading),
        MIRROR_TEST(test_hang_in_answer),
        MIRROR_TEST(test_dripping_list),
        MIRROR_TEST(test_hang_in_event),
        MIRROR_TEST(test_daemon_that_never_answers),
        MIRROR_TEST(test_refused_watch),
        MIRROR_TEST(test_surprises_end_the_connection),
        MIRROR_TEST(test_answers_must_fit),
        MIRROR_TEST(test_end_inside_list),
        MIRROR_TEST(test_too_many_keys),
        MIRROR_TEST(test_full_backlog_is_retried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
