/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mirror against a scripted daemon and against our server, in one event loop. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "qubesdb/conn.h"
#include "qubesdb/mirror.h"
#include "qubesdb/server.h"
#include "test_qubesdb_peer.h"

/* What a program knows by the mirror: replaced by end(), amended by changed(). */
struct known {
    char path[QDB_PATH_SIZE];
    char value[32];
};

struct fixture {
    sd_event *event;
    char directory[32];
    char socket[64], ro_socket[64];
    struct peer peer;
    bool peer_is_open;
    struct qdb_mirror *mirror;
    struct known now[64], next[64];
    size_t now_count, next_count;
    unsigned begins, ends, changes, losses, entries;
    int error; /* of the last loss */
    bool in_reading;
    uint64_t timeout_usec;
};

static struct fixture f;

static uint64_t now_msec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Runs the loop until the condition holds; five seconds at most. */
#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uint64_t until_ = now_msec() + 5000;                                                       \
        while (!(condition) && now_msec() < until_)                                                \
            assert_return_code(sd_event_run(f.event, 10000), 0);                                   \
        assert_true(condition);                                                                    \
    } while (0)

/* Runs until nothing has happened for a while; a loop without end fails the test. */
static void run_until_quiet(unsigned msec)
{
    uint64_t until = now_msec() + 5000;

    while (sd_event_run(f.event, (uint64_t)msec * 1000) > 0)
        assert_true(now_msec() < until);
}

static bool wants(const char *path, void *user)
{
    (void)user;
    assert_int_not_equal(path[strlen(path) - 1], '/'); /* asked about keys only */
    return strstr(path, "unwanted") == NULL;
}

static void set(struct known *list, size_t *count, const char *path, const struct str *value)
{
    size_t i = 0;

    while (i < *count && strcmp(list[i].path, path) != 0)
        i++;
    if (!value) {
        if (i < *count)
            list[i] = list[--*count];
        return;
    }
    if (i == ARRAY_SIZE(f.now))
        return;
    if (i == *count)
        ++*count;
    snprintf(list[i].path, sizeof(list[i].path), "%s", path);
    snprintf(list[i].value, sizeof(list[i].value), "%.*s", (int)value->len, value->p);
}

static void begin(void *user)
{
    assert_ptr_equal(user, &f);
    f.begins++;
    f.in_reading = true;
    f.next_count = f.entries = 0;
}

static void entry(const char *path, struct str value, void *user)
{
    assert_ptr_equal(user, &f);
    assert_true(f.in_reading);
    f.entries++;
    set(f.next, &f.next_count, path, &value);
}

static void end(void *user)
{
    assert_ptr_equal(user, &f);
    assert_true(f.in_reading);
    assert_true(qdb_mirror_is_readable(f.mirror));
    f.in_reading = false;
    f.ends++;
    memcpy(f.now, f.next, sizeof(f.now));
    f.now_count = f.next_count;
}

static void changed(const char *path, const struct str *value, void *user)
{
    assert_ptr_equal(user, &f);
    assert_false(f.in_reading);
    assert_true(f.ends > 0);
    f.changes++;
    set(f.now, &f.now_count, path, value);
}

static void lost(int error, void *user)
{
    assert_ptr_equal(user, &f);
    assert_false(qdb_mirror_is_readable(f.mirror));
    f.losses++;
    f.error = error;
    f.in_reading = false;
}

static const char *known(const char *path)
{
    for (size_t i = 0; i < f.now_count; i++)
        if (strcmp(f.now[i].path, path) == 0)
            return f.now[i].value;
    return NULL;
}

static bool knows(const char *path, const char *value)
{
    const char *v = known(path);

    return v && strcmp(v, value) == 0;
}

static const char *const prefixes[] = {"/net", "/net-inbound", "/vm/expose.", NULL};

static void start_mirror(const char *socket)
{
    struct qdb_mirror_config config = {
        .socket = socket,
        .prefixes = prefixes,
        .timeout_usec = f.timeout_usec ? f.timeout_usec : 2000000,
        .wants = wants,
        .begin = begin,
        .entry = entry,
        .end = end,
        .changed = changed,
        .lost = lost,
        .user = &f,
    };

    assert_return_code(qdb_mirror_new(f.event, &config, &f.mirror), 0);
    assert_int_equal(f.begins + f.losses, 0); /* nothing from inside */
    assert_false(qdb_mirror_is_readable(f.mirror));
}

static void start_peer(const struct peer_key *keys)
{
    peer_open(&f.peer, f.event, f.socket);
    f.peer.keys = keys;
    f.peer_is_open = true;
}

static void stop_peer(void)
{
    peer_close(&f.peer);
    f.peer_is_open = false;
}

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    assert_return_code(sd_event_new(&f.event), 0);
    snprintf(f.directory, sizeof(f.directory), "/tmp/qdb-test.XXXXXX");
    assert_non_null(mkdtemp(f.directory));
    snprintf(f.socket, sizeof(f.socket), "%s/qubesdb.sock", f.directory);
    snprintf(f.ro_socket, sizeof(f.ro_socket), "%s/qubesdb.ro.sock", f.directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    f.mirror = qdb_mirror_free(f.mirror);
    if (f.peer_is_open)
        stop_peer();
    f.event = sd_event_unref(f.event);
    (void)unlink(f.socket);
    (void)rmdir(f.directory);
    return 0;
}

static const struct peer_key some_keys[] = {
    {"/net/1", "one"}, {"/net-inbound", "in"}, {"/net/unwanted", "x"}, {"/other", "y"}, {NULL, NULL},
};

static void start_both(void)
{
    start_peer(some_keys);
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
}

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

/* Leaves readings to the test. */
static bool script_hold(struct peer_conn *c, const struct qdb_message *m)
{
    (void)c;
    return m->type == QDB_CMD_MULTIREAD;
}

static void start_held(void)
{
    start_peer(some_keys);
    f.peer.script = script_hold;
    start_mirror(f.socket);
    RUN_UNTIL(f.peer.requests[QDB_CMD_MULTIREAD] == 2);
}

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

static void test_full_backlog_is_retried(void **state)
{
    struct qdb_conn_config config = {.socket = f.socket, .failed = lost, .user = &f};
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
        MIRROR_TEST(test_reread),
        MIRROR_TEST(test_read_only_socket_is_preferred),
        MIRROR_TEST(test_socket_from_environment),
        MIRROR_TEST(test_bad_prefixes),
        MIRROR_TEST(test_too_many_keys),
        MIRROR_TEST(test_full_backlog_is_retried),
        MIRROR_TEST(test_with_own_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
