/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mirror, a scripted daemon for it, and a program that keeps what the mirror tells: one of each,
 * in one event loop, in a directory of their own. Each test starts what it needs.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "qubesdb/mirror.h"
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

extern struct fixture f;

/* Keys under the mirror's prefixes: "/net", "/net-inbound", "/vm/expose."; not "*unwanted*". */
extern const struct peer_key some_keys[];

int setup(void **state);
int teardown(void **state);
uint64_t now_msec(void);

/* Runs the loop until the condition holds; five seconds at most. */
#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uint64_t until_ = now_msec() + 5000;                                                       \
        while (!(condition) && now_msec() < until_)                                                \
            assert_return_code(sd_event_run(f.event, 10000), 0);                                   \
        assert_true(condition);                                                                    \
    } while (0)

/* Runs until nothing has happened for a while; a loop without end fails the test. */
void run_until_quiet(unsigned msec);

const char *known(const char *path); /* NULL: no such key */
bool knows(const char *path, const char *value);

void start_mirror(const char *socket);
void start_peer(const struct peer_key *keys);
void stop_peer(void);
void start_both(void); /* and waits for the first reading */
void start_held(void); /* readings are left to the test */
