/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scripted QubesDB daemon in the event loop of the test. It behaves by itself (a watch is
 * accepted, reads come from `keys`) unless `script` takes a request over to misbehave.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "qubesdb/buffer.h"
#include "qubesdb/codec.h"

struct peer_conn {
    struct peer *peer; /* NULL: free slot */
    int fd;
    sd_event_source *source;
    struct qdb_decoder decoder;
    struct qdb_buffer out;
    bool watches;
};

struct peer_key {
    const char *path, *value;
};

struct peer {
    sd_event *event;
    const char *path;
    int fd;
    sd_event_source *source;
    struct peer_conn conns[8];
    unsigned accepted;
    unsigned requests[QDB_CMD_UNWATCH + 1]; /* how many of each type came */
    const struct peer_key *keys;            /* ends with a NULL path */
    bool (*script)(struct peer_conn *c, const struct qdb_message *m); /* true: done */
};

void peer_open(struct peer *p, sd_event *event, const char *path);
void peer_close(struct peer *p); /* as a daemon that dies: connections, then its socket */
void peer_conn_close(struct peer_conn *c);
struct peer_conn *peer_watcher(struct peer *p); /* the connection that watches, or NULL */
struct peer_conn *peer_commander(struct peer *p); /* the other one, or NULL */
void peer_send_bytes(struct peer_conn *c, const void *bytes, size_t len);
void peer_send(struct peer_conn *c, enum qdb_type type, const char *path, const char *value);
