/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Follows the supervisor's D-Bus object for programs that live as long as a session: what it is
 * now, each change, each event; calls that do not wait. It stays when the supervisor or the bus
 * goes away and comes back: connects again at once when the supervisor's name has an owner again,
 * and with a growing pause (1 s to 60 s) when there is no bus, or an owner that does not answer. No
 * timer runs while all is well.
 *
 * One thread, that of the sd_event. Callbacks come from the loop, never out of a function of this
 * header, and may call every function but vpn_follow_free(). Text in status and events is the
 * supervisor's own, or came from outside and passed through it: show it through desktop/words.
 * Errors: -errno.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

struct vpn_follow;

struct vpn_follow_ops { /* each may be NULL */
    /* All properties by the names of vpn/object/value.h, whole, after each change; NULL: nobody
     * answers. Also once when that is first known. Borrowed until the next change. */
    void (*changed)(void *data, const json_t *status);
    void (*event)(void *data, const char *kind, const char *text);
    void (*tested)(void *data, bool sealed, const char *report);
};

/* The answer to a call: results (array, borrowed) with error NULL; or the error's sentence, and its
 * name without the prefix ("Denied", "NoSeal"; "" of foreign ones). */
typedef void (*vpn_done_fn)(void *data, const json_t *results, const char *error_name,
                            const char *error);

/* socket: NULL for the system bus. ops and data are kept until vpn_follow_free(). A bus that is not
 * there is no error. -EINVAL: no path that vpn_value_address() takes. */
int vpn_follow_new(struct vpn_follow **ret, sd_event *event, const char *socket,
                   const struct vpn_follow_ops *ops, void *data);
/* Open calls end without an answer. */
struct vpn_follow *vpn_follow_free(struct vpn_follow *f);

/* The last status, borrowed until the loop runs again; NULL: nobody answers. */
const json_t *vpn_follow_status(const struct vpn_follow *f);
/* Asks for everything again, counters included; `changed` follows. -ENOTCONN. */
int vpn_follow_refresh(struct vpn_follow *f);

/* Arguments as of sd_bus_message_append(); done may be NULL. polkit may ask the person. -ENOTCONN:
 * nobody answers. Where the call was accepted, done is called once. */
int vpn_follow_call(struct vpn_follow *f, vpn_done_fn done, void *data, const char *method,
                    const char *types, ...);
/* The same in two steps. vpn_follow_send() takes m over, also when it fails. */
int vpn_follow_begin(struct vpn_follow *f, const char *method, sd_bus_message **ret);
int vpn_follow_send(struct vpn_follow *f, sd_bus_message *m, vpn_done_fn done, void *data);
/* Nobody waits any more: open calls with this data do what they do, and end without `done`. */
void vpn_follow_forget(struct vpn_follow *f, const void *data);
