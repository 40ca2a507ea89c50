/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command's line to the supervisor: its D-Bus object, on the system bus or on a socket. Answers
 * become JSON as vpn/object/value.h says.
 * Calls wait for their answer, with a time limit. Errors: -errno; of a call also what the
 * supervisor said, in words of our own alphabet (printable ASCII).
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

#define LINE_ERROR_MAX 512

struct line {
    sd_bus *bus;
    char error[LINE_ERROR_MAX]; /* of the last call that failed; "" before */
    char error_name[64];        /* "NotFound", "Denied" ... of our object; "" of others */
};

/* socket: NULL for the system bus. -ENOENT, -ECONNREFUSED: nobody is there. */
int line_open(struct line *l, const char *socket);
void line_close(struct line *l);

/* All properties as one object. */
int line_get_all(struct line *l, json_t **ret);
/* A method with arguments as of sd_bus_message_append(); *ret (may be NULL) is the array of
 * results. */
int line_call(struct line *l, json_t **ret, const char *method, const char *types, ...);
/* The same in two steps, where arguments are not known beforehand. line_send() takes m over. */
int line_begin(struct line *l, const char *method, sd_bus_message **ret);
int line_send(struct line *l, sd_bus_message *m, json_t **ret);
