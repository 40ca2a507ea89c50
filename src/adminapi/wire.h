/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames of qubesd's Admin API, as bytes. Pure.
 *
 *     request   METHOD+ARG SP SOURCE SP "name" SP DEST NUL PAYLOAD, then the end of the stream
 *     answer    "0" NUL content | "2" NUL TYPE NUL TRACEBACK NUL MESSAGE NUL | nothing at all
 *     events    "1" NUL SUBJECT NUL EVENT NUL (KEY NUL VALUE NUL)* NUL, again and again
 *
 * Source: core-admin 4.2 to 4.4, qubes/api/__init__.py. The whole request is at most 65536 bytes.
 * No answer at all is qubesd's way to say that it failed inside, or (4.2, 4.3) that it does not
 * permit or know the call. Everything that comes back is foreign: any byte may stand in it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

#define ADMIN_REQUEST_MAX 65536
#define ADMIN_PAIRS_MAX   16 /* keyword arguments of an event; more refuses it */

struct admin_request {
    const char *method; /* "admin.vm.property.GetAll" */
    const char *arg;    /* NULL: none */
    const char *dest;   /* name of a qube, "dom0" */
    struct str payload;
};

/* Header without the payload, NUL included. -EINVAL: a blank or control character in a part,
 * -E2BIG with the payload, -ENOMEM. *ret is the caller's. */
int admin_pack_header(const struct admin_request *request, char **ret, size_t *ret_len);

enum admin_status {
    ADMIN_OK,        /* content */
    ADMIN_EXCEPTION, /* type, message */
    ADMIN_EMPTY,     /* no answer: failed inside, or not permitted (4.2, 4.3) */
    ADMIN_BROKEN,    /* no frame of this protocol */
};

struct admin_answer { /* borrowed from the bytes that were parsed */
    enum admin_status status;
    struct str content;
    struct str type, message;
};

void admin_parse_answer(struct str bytes, struct admin_answer *ret);

struct admin_pair {
    struct str key, value;
};

struct admin_event { /* borrowed */
    struct str subject; /* empty: the system itself */
    struct str name;
    struct admin_pair pairs[ADMIN_PAIRS_MAX];
    size_t n_pairs;
};

/*
 * The first event in the bytes. 1: *ret is set, *ret_used bytes are done; 0: not yet complete;
 * -EPROTO: no event, and nothing after it can be trusted.
 */
int admin_parse_event(struct str bytes, struct admin_event *ret, size_t *ret_used);

/* Value of a keyword argument. False: there is none. */
bool admin_event_value(const struct admin_event *e, const char *key, struct str *ret);

/* One line "NAME class=... state=..." of admin.vm.List; unknown words are passed over. */
struct admin_vm {
    struct str name, klass, state;
};
int admin_parse_vm(struct str line, struct admin_vm *ret);

/* One line "NAME default=True|False type=TYPE VALUE" of admin.vm.property.GetAll. */
struct admin_property {
    struct str name, type, value; /* value still escaped: \\ and \n; empty when unset */
    bool is_default;
};
int admin_parse_property(struct str line, struct admin_property *ret);
