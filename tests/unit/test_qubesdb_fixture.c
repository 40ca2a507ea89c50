/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_qubesdb_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct fixture f;

uint64_t now_msec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void run_until_quiet(unsigned msec)
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

const char *known(const char *path)
{
    for (size_t i = 0; i < f.now_count; i++)
        if (strcmp(f.now[i].path, path) == 0)
            return f.now[i].value;
    return NULL;
}

bool knows(const char *path, const char *value)
{
    const char *v = known(path);

    return v && strcmp(v, value) == 0;
}

static const char *const prefixes[] = {"/net", "/net-inbound", "/vm/expose.", NULL};

void start_mirror(const char *socket)
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

void start_peer(const struct peer_key *keys)
{
    peer_open(&f.peer, f.event, f.socket);
    f.peer.keys = keys;
    f.peer_is_open = true;
}

void stop_peer(void)
{
    peer_close(&f.peer);
    f.peer_is_open = false;
}

int setup(void **state)
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

int teardown(void **state)
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

const struct peer_key some_keys[] = {
    {"/net/1", "one"}, {"/net-inbound", "in"}, {"/net/unwanted", "x"}, {"/other", "y"},
    {NULL, NULL},
};

void start_both(void)
{
    start_peer(some_keys);
    start_mirror(f.socket);
    RUN_UNTIL(f.ends == 1);
}

/* Leaves readings to the test. */
static bool script_hold(struct peer_conn *c, const struct qdb_message *m)
{
    (void)c;
    return m->type == QDB_CMD_MULTIREAD;
}

void start_held(void)
{
    start_peer(some_keys);
    f.peer.script = script_hold;
    start_mirror(f.socket);
    RUN_UNTIL(f.peer.requests[QDB_CMD_MULTIREAD] == 2);
}
