/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client, the stand-in for its qubesd, and what the client told, in one event loop. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "adminapi/client.h"
#include "test_adminapi_fake.h"

struct fixture {
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
};

extern struct fixture t;

#define RUN_UNTIL(condition) FAKE_RUN_UNTIL(t.event, condition)

int setup(void **state);
int teardown(void **state);
void start(bool events, uint64_t timeout_usec);
void start_with_stream(void); /* and waits until it stands */
struct fake_conn *stream(void);
void call_to(const char *method, const char *arg, const char *dest, const char *payload);
void call_some(void);
void on_answer(int error, const struct admin_answer *a, void *user); /* notes it in t */

/* What the stand-in does with a request. */
void script_hold(struct fake_conn *c);   /* nothing */
void script_echo(struct fake_conn *c);   /* header, "|", payload */
void script_events(struct fake_conn *c); /* a stream stands, calls hang */
