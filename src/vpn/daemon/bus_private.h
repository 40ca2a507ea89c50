/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the D-Bus object: connections (bus.c), the object itself (bus_object.c), its calls
 * (bus_call.c), who may make them (bus_access.c).
 *
 * A call is one method call at work: who asks is found out, then its descriptors are read, then the
 * manager is asked, all in the loop. It holds its message, and so sender and descriptors.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "vpn/daemon/bus.h"
#include "vpn/daemon/bus_read.h"

#define BUS_ERROR        "org.qubes_os.Vpn1.Error."
#define BUS_CALLS_MAX    64
#define BUS_CALLS_OF_ONE 8 /* of one sender */

struct bus_method;

struct bus_call {
    LIST_ENTRY(bus_call) entry;
    struct bus *bus;
    const struct bus_method *method;
    sd_bus_message *message;
    const char *action; /* of polkit */
    bool with_polkit;   /* which may be asking a person, for minutes */
    sd_bus_slot *slot;  /* a question of ours that runs */
    struct bus_reader *reader;
    const char *names[BUS_FILES_MAX]; /* of the files; borrowed from the message */
};
LIST_HEAD(bus_calls, bus_call);

#define BUS_PEERS_MAX 16

struct bus_peer { /* a connection on our own socket */
    struct bus *bus;
    sd_bus *connection;
};

struct bus {
    sd_event *loop;
    struct manager *manager;
    struct bus_calls calls;
    sd_event_source *told; /* changes, told once after a series */

    sd_bus *system; /* NULL while there is none */
    sd_event_source *retry;
    unsigned failures;

    char *path; /* of our own socket, NULL: the system bus is used */
    int listener;
    sd_event_source *accept;
    struct bus_peer peers[BUS_PEERS_MAX];
};

/* bus_object.c */
int bus_object_add(struct bus *b, sd_bus *connection);
int bus_object_emit_changed(sd_bus *connection);
int bus_object_append_findings(sd_bus_message *m, const struct findings *f);
int bus_object_append_needs(sd_bus_message *m, unsigned needs);
int bus_object_append_strings(sd_bus_message *m, const char *const *strings, size_t n);

/* bus_call.c: the handler of every method; ends calls of a connection (NULL: all). */
int bus_call_begin(sd_bus_message *m, void *user, sd_bus_error *error);
void bus_call_end_all(struct bus *b, const sd_bus *connection);

/* bus_access.c: 1: permitted; 0: bus_call_permitted() or bus_call_refuse() is called later; -errno.
 */
int bus_access_ask(struct bus_call *c, const char *action);
void bus_call_permitted(struct bus_call *c);
void bus_call_refuse(struct bus_call *c, const char *error, const char *text);
