/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the mirror tells about a sound daemon that comes, goes, changes and floods. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "qubesdb/conn.h"
#include "qubesdb/server.h"
#include "test_qubesdb_fixture.h"

static void test_first_reading(void **state)
{
    (void)state;
    start_both();
    assert_int_equal(f.now_count, 2);
    assert_true(knows("/net/1", "one"));
    assert_true(knows("/net-inbound", "in"));
    assert_int_equal(f.entries, 2); /* a prefix within another brings nothing twice */
    assert_int_equal(f.peer.requests[QDB_CMD_WATCH], 1);
    assert_int_equal(f.peer.requests[QDB_CMD_MULTIREAD], 2);
    assert_int_equal(f.peer.requests[QDB_CMD_WRITE] + f.peer.requests[QDB_CMD_RM], 0);
    assert_int_equal(f.losses, 0);
}

static void test_idle_means_no_wake_up(void **state)
{
    char other[64];
    FILE *file;

    (void)state;
    start_both();
    run_until_quiet(50);
    assert_int_equal(sd_event_run(f.event, 400000), 0);
    /* Nor do other files in the directory of the socket wake it up. */
    snprintf(other, sizeof(other), "%s/other", f.directory);
    file = fopen(other, "we");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(sd_event_run(f.event, 100000), 0);
    (void)unlink(other);
}

static void test_single_changes(void **state)
{
    static struct peer_key keys[] = {{"/net/1", "one"}, {"/net/2", "two"}, {NULL, NULL}};

    (void)state;
    start_peer(keys);
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
    keys[0].value = "new";
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/1", "");
    RUN_UNTIL(knows("/net/1", "new"));
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/gone", "");
    RUN_UNTIL(f.changes == 2);
    keys[1].path = "/elsewhere";
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/2", "");
    RUN_UNTIL(f.changes == 3);
    assert_null(known("/net/2"));
    assert_int_equal(f.ends, 1);
    keys[1].path = "/net/2";
}

static void test_events_of_others_cost_nothing(void **state)
{
    (void)state;
    start_both();
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/other", "");
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/ne", "");
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/unwanted", "");
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/other/", "");
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "", "");
    run_until_quiet(50);
    assert_int_equal(f.peer.requests[QDB_CMD_READ], 0);
    assert_int_equal(f.peer.requests[QDB_CMD_MULTIREAD], 2);
}

static void test_directory_removal_means_reading(void **state)
{
    static const char *const removed[] = {"/", "/net/", "/net/x/", "/vm/"};

    (void)state;
    start_both();
    for (unsigned i = 0; i < ARRAY_SIZE(removed); i++) {
        peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, removed[i], "");
        RUN_UNTIL(f.ends == 2 + i);
    }
    assert_int_equal(f.peer.requests[QDB_CMD_READ], 0);
}

static void test_one_key_flooded(void **state)
{
    static struct peer_key keys[] = {{"/net/1", "old"}, {NULL, NULL}};
    uint8_t event[QDB_HEADER_SIZE];

    (void)state;
    start_peer(keys);
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
    assert_return_code(qdb_encode(QDB_RESP_WATCH, "/net/1", 0, event), 0);
    for (int i = 0; i < 100000; i++)
        assert_return_code(
            qdb_buffer_append(&peer_watcher(&f.peer)->out, event, sizeof(event)), 0);
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/net/2", "");
    keys[0].value = "new";
    RUN_UNTIL(qdb_buffer_size(&peer_watcher(&f.peer)->out) == 0 && knows("/net/1", "new"));
    run_until_quiet(50);
    assert_in_range(f.peer.requests[QDB_CMD_READ], 2, 2000);
    assert_int_equal(f.ends, 1);
    assert_int_equal(f.losses, 0);
}

static void test_many_keys_flooded(void **state)
{
    (void)state;
    start_both();
    for (int i = 0; i < 100000; i++) {
        uint8_t event[QDB_HEADER_SIZE];
        char path[QDB_PATH_SIZE];

        snprintf(path, sizeof(path), "/net/%d", i);
        assert_return_code(qdb_encode(QDB_RESP_WATCH, path, 0, event), 0);
        assert_return_code(
            qdb_buffer_append(&peer_watcher(&f.peer)->out, event, sizeof(event)), 0);
    }
    peer_send(peer_watcher(&f.peer), QDB_RESP_WATCH, "/other", "");
    RUN_UNTIL(qdb_buffer_size(&peer_watcher(&f.peer)->out) == 0);
    run_until_quiet(100);
    assert_in_range(f.ends, 2, 20);
    assert_in_range(f.peer.requests[QDB_CMD_READ], 0, 2000);
    assert_int_equal(f.losses, 0);
    assert_true(knows("/net/1", "one"));
}

static void test_restart(void **state)
{
    static const struct peer_key other_keys[] = {{"/net/3", "three"}, {NULL, NULL}};

    (void)state;
    start_both();
    stop_peer();
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -ECONNRESET);
    assert_true(knows("/net/1", "one")); /* what is known stays */
    run_until_quiet(150);                /* several attempts, told once */
    assert_int_equal(f.losses, 1);
    start_peer(other_keys);
    RUN_UNTIL(f.ends == 2);
    assert_int_equal(f.now_count, 1);
    assert_true(knows("/net/3", "three"));
    assert_int_equal(f.losses, 1);
    stop_peer();
    RUN_UNTIL(f.losses == 2);
}

static void test_absent_daemon_is_found_at_once(void **state)
{
    uint64_t t;

    (void)state;
    start_mirror(f.socket);
    RUN_UNTIL(f.losses == 1);
    assert_int_equal(f.error, -ENOENT);
    assert_int_equal(sd_event_run(f.event, 400000), 0); /* no polling */
    t = now_msec();
    start_peer(some_keys);
    RUN_UNTIL(f.ends == 1);
    assert_in_range(now_msec() - t, 0, 90);
}

static void test_absent_directory(void **state)
{
    (void)state;
    assert_return_code(rmdir(f.directory), errno);
    start_mirror(f.socket);
    RUN_UNTIL(f.losses == 1);
    assert_return_code(mkdir(f.directory, 0700), errno);
    start_peer(some_keys);
    RUN_UNTIL(f.ends == 1);
}

static void test_directory_replaced_while_waiting(void **state)
{
    (void)state;
    start_mirror(f.socket);
    RUN_UNTIL(f.losses == 1);
    assert_return_code(rmdir(f.directory), errno);
    run_until_quiet(20);
    assert_return_code(mkdir(f.directory, 0700), errno);
    start_peer(some_keys);
    RUN_UNTIL(f.ends == 1);
}

static void test_reread(void **state)
{
    (void)state;
    start_both();
    assert_return_code(qdb_mirror_reread(f.mirror), 0);
    assert_int_equal(f.ends, 1);
    RUN_UNTIL(f.ends == 2);
    run_until_quiet(100);
    assert_int_equal(f.ends, 2);
    stop_peer();
    RUN_UNTIL(f.losses == 1);
    assert_return_code(qdb_mirror_reread(f.mirror), 0);
    run_until_quiet(20);
    assert_int_equal(f.losses, 1);
}

static void test_read_only_socket_is_preferred(void **state)
{
    struct peer ro;

    (void)state;
    start_peer(some_keys);
    peer_open(&ro, f.event, f.ro_socket);
    ro.keys = some_keys;
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
    assert_int_equal(ro.accepted, 2);
    assert_int_equal(f.peer.accepted, 0);
    peer_close(&ro);
    RUN_UNTIL(f.ends == 2);
    assert_int_equal(f.peer.accepted, 2);
}

static void test_socket_from_environment(void **state)
{
    (void)state;
    start_peer(some_keys);
    assert_return_code(setenv("QUBESDB_SOCKET", f.socket, 1), errno);
    start_mirror(NULL);
    RUN_UNTIL(f.ends == 1);
    unsetenv("QUBESDB_SOCKET");
}

static void test_bad_prefixes(void **state)
{
    static const char *const none[] = {NULL}, *const bad[] = {"/a b", NULL};
    struct qdb_mirror_config config = {.socket = f.socket, .prefixes = none};

    (void)state;
    assert_int_equal(qdb_mirror_new(f.event, &config, &f.mirror), -EINVAL);
    config.prefixes = bad;
    assert_int_equal(qdb_mirror_new(f.event, &config, &f.mirror), -EINVAL);
    config.prefixes = NULL;
    assert_int_equal(qdb_mirror_new(f.event, &config, &f.mirror), -EINVAL);
    assert_null(f.mirror);
}

/* Our own server and our own client, together. */
static void answered(const struct qdb_message *m, void *user)
{
    unsigned *count = user;

    assert_int_equal(m->type, QDB_RESP_OK);
    (*count)++;
}

static void conn_lost(int error, void *user)
{
    (void)error;
    (void)user;
    fail();
}

static void test_with_own_server(void **state)
{
    struct qdb_server_config server_config = {.socket = f.socket};
    struct qdb_conn_config config = {.socket = f.socket, .failed = conn_lost};
    struct qdb_server *server;
    struct qdb_conn *conn;
    unsigned count = 0;

    (void)state;
    assert_return_code(qdb_server_new(f.event, &server_config, &server), 0);
    assert_return_code(qdb_conn_new(f.event, &config, &conn), 0);
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
    for (int i = 0; i < 1000; i++) {
        char path[QDB_PATH_SIZE], value[16];
        struct qdb_request request = {
            .type = QDB_CMD_WRITE, .path = path, .answer = answered, .user = &count};

        snprintf(path, sizeof(path), "/net/%d", i % 40);
        snprintf(value, sizeof(value), "%d", i);
        request.value = str_from(value);
        assert_return_code(qdb_conn_send(conn, &request), 0);
    }
    RUN_UNTIL(count == 1000);
    RUN_UNTIL(f.now_count == 40 && knows("/net/39", "999"));
    run_until_quiet(60);
    for (int i = 0; i < 40; i++) {
        char path[QDB_PATH_SIZE], value[16];

        snprintf(path, sizeof(path), "/net/%d", i);
        snprintf(value, sizeof(value), "%d", 960 + i);
        assert_true(knows(path, value));
    }
    qdb_conn_free(conn);
    qdb_server_free(server);
    RUN_UNTIL(f.losses == 1);
}

int main(void)
{
#define MIRROR_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        MIRROR_TEST(test_first_reading),
        MIRROR_TEST(test_idle_means_no_wake_up),
        MIRROR_TEST(test_single_changes),
        MIRROR_TEST(test_events_of_others_cost_nothing),
        MIRROR_TEST(test_directory_removal_means_reading),
        MIRROR_TEST(test_one_key_flooded),
        MIRROR_TEST(test_many_keys_flooded),
        MIRROR_TEST(test_restart),
        MIRROR_TEST(test_absent_daemon_is_found_at_once),
        MIRROR_TEST(test_absent_directory),
        MIRROR_TEST(test_directory_replaced_while_waiting),
        MIRROR_TEST(test_reread),
        MIRROR_TEST(test_read_only_socket_is_preferred),
        MIRROR_TEST(test_socket_from_environment),
        MIRROR_TEST(test_bad_prefixes),
        MIRROR_TEST(test_with_own_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
