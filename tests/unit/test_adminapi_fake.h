/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A qubesd in the event loop of the test. It reads each request to its end, as the real one, and
 * hands it to `script`, which answers at once, later, in pieces or never.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct fake_conn {
    struct fake *fake; /* NULL: free slot */
    int fd;
    sd_event_source *source;
    char in[70000];
    size_t len;
    bool asked;         /* the request is complete */
    const char *header; /* up to its NUL */
    const char *payload;
    size_t payload_len;
};

struct fake {
    sd_event *event;
    char directory[32], socket[64];
    int fd;
    sd_event_source *source;
    struct fake_conn conns[16];
    unsigned accepted, requests, now_open, most_open;
    void (*script)(struct fake_conn *c);
    void *user;
};

void fake_init(struct fake *f, sd_event *event); /* makes the directory, opens nothing */
void fake_done(struct fake *f);
void fake_listen(struct fake *f, int backlog); /* accepts by itself when backlog > 0 */
void fake_stop(struct fake *f, bool unlink_socket); /* as a qubesd that dies */

void fake_send(struct fake_conn *c, const void *bytes, size_t len);
void fake_close(struct fake_conn *c);
void fake_answer(struct fake_conn *c, const void *bytes, size_t len); /* and closes */
void fake_ok(struct fake_conn *c, const char *content);
void fake_exception(struct fake_conn *c, const char *type, const char *message);
struct fake_conn *fake_find(struct fake *f, const char *header); /* asked and open, or NULL */
bool fake_is(const struct fake_conn *c, const char *header);

#define FAKE_EVENTS "admin.Events+ dom0 name dom0"
#define FAKE_SEND(c, literal) fake_send((c), (literal), sizeof(literal) - 1)
#define FAKE_ESTABLISHED "1\0\0connection-established\0\0"

uint64_t fake_now_ms(void);

/* Runs the loop until the condition holds; five seconds at most. */
#define FAKE_RUN_UNTIL(event, condition)                                                           \
    do {                                                                                           \
        uint64_t until_ = fake_now_ms() + 5000;                                                    \
        while (!(condition) && fake_now_ms() < until_)                                             \
            assert_return_code(sd_event_run(event, 10000), 0);                                     \
        assert_true(condition);                                                                    \
    } while (0)

/* Runs until nothing has happened for a while; a loop without end fails the test. */
void fake_run_quiet(sd_event *event, unsigned ms);
