/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls to qubesd and its stream of events, driven by sd-event; nothing here blocks. A call is one
 * connection. At most ADMIN_CALLS_MAX are open at once, the others wait in their order. Events are
 * read whatever else goes on, and before any answer (qubesd buffers what is not read without
 * limit): the stream runs at priority -10 of the loop, answers are told at 20, so a program's own
 * sources belong in between. When the stream ends it is opened again after 1 s (qubesd's own pace,
 * core-admin-client qubesadmin/events), at once when the socket appears.
 *
 * Sockets: config.socket, else $QUBESD_SOCKET, else /var/run/qubesd.sock.
 * All callbacks come from the event loop, none from inside the functions below. One thread. They
 * may make calls and cancel them, not free the client.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "adminapi/wire.h"

#define ADMIN_CALLS_MAX          8
#define ADMIN_ANSWER_MAX         (4 * 1024 * 1024) /* more ends the call with -E2BIG */
#define ADMIN_CALL_TIMEOUT_USEC  60000000 /* qubesd stands still while it starts a qube */
#define ADMIN_ERROR_MAX          120      /* of a text, with its NUL */

struct admin_client;

struct admin_client_config {
    const char *socket;    /* NULL: see above; copied */
    uint64_t timeout_usec; /* of one call, from its connect; 0: ADMIN_CALL_TIMEOUT_USEC */
    /* Events; NULL: no stream is opened, calls only. Valid during the call. */
    void (*event)(const struct admin_event *e, void *user);
    /* The stream stands (qubesd said connection-established): read everything now. */
    void (*connected)(void *user);
    /* The stream ended (-errno), or could not be opened; told once until it stands again. */
    void (*lost)(int error, void *user);
    void *user;
};

int admin_client_new(sd_event *event, const struct admin_client_config *config,
                     struct admin_client **ret);
struct admin_client *admin_client_free(struct admin_client *c); /* no callback comes after it */
void admin_client_freep(struct admin_client **c);

/*
 * error 0: *a is the answer, of any status. Else -errno (a is NULL): -ETIMEDOUT, -E2BIG,
 * -ECONNREFUSED, -ENOENT ...: qubesd could not be asked. Told exactly once for each call.
 */
typedef void (*admin_answer_fn)(int error, const struct admin_answer *a, void *user);

/* Everything of the request is copied. 0, -EINVAL, -E2BIG, -ENOMEM. */
int admin_call(struct admin_client *c, const struct admin_request *request, admin_answer_fn answer,
               void *user);
/*
 * What an error is for people: -E2BIG says which limit was too small for the answer to this method,
 * or (NULL) for an event of the stream. Others are strerror(). Borrowed from buf or the C library.
 */
const char *admin_strerror(int error, const char *method, char buf[static ADMIN_ERROR_MAX]);
/* Drops all calls with this user that have not been answered: their callback never comes. */
void admin_cancel(struct admin_client *c, const void *user);
