/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What net qubes report of themselves: the service network-server.Status of each is called with a
 * program (qrexec-client, or another one), all at the same time. The answer is foreign text of at
 * most 1 MiB that has 5 s to come; it is parsed strictly, shown as reported by that qube, and never
 * changes what is wished.
 */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/addr.h"
#include "exposure/record.h"

#define ASK_WHY_MAX 200

struct ask {
    char hop[QUBE_NAME_MAX];
    json_t *answer;        /* owned: an object of the program that we know; NULL: none */
    char why[ASK_WHY_MAX]; /* why there is none */
};

/*
 * Asks all of them. command: run as COMMAND HOP; NULL: qrexec-client. 0, or -errno of the event
 * loop. begin_us: for progress.
 */
int ask_all(sd_event *event, const char *command, struct ask *asks, size_t n, uint64_t begin_us);
void ask_done(struct ask *a);

/* Pure: bytes of an answer. 0, or -EBADMSG (why). */
int ask_parse(const char *bytes, size_t len, struct ask *a);

/* How many of its addresses or neighbours the hop left out because the answer was too long. */
json_int_t ask_left_out(const struct ask *a, const char *key);
/* The object about an address; NULL. Borrowed. */
const json_t *ask_address(const struct ask *a, const struct addr *addr);
/* A member as text for people, escaped; "" when it is missing or no string. */
const char *ask_text(const json_t *object, const char *key, char *buf, size_t size);
/* "3 connections, 12.3 kB"; "" when nothing was counted. */
const char *ask_counters(const json_t *address, char *buf, size_t size);
