/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to a QubesDB daemon, driven by sd-event; nothing here ever blocks. Requests are
 * answered in order by callback, events come in between. Each message goes out in one send, whole,
 * because Qubes' daemon serves nobody else while a message is half sent.
 *
 * Anything unexpected ends the connection for good: end of the stream (-ECONNRESET), an answer
 * that does not fit its request (-EPROTO), or no answer in time (-ETIMEDOUT). failed() tells it
 * once, from the event loop; requests without an answer then never get one. There is no
 * reconnection here: whoever owns the connection decides, and must read everything again.
 *
 * The time limit runs while a request waits for its (whole) answer or a message is half received.
 * Otherwise no timer is armed. One thread; callbacks may free the connection.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "qubesdb/codec.h"

#define QDB_CONN_OUTSTANDING_MAX 256  /* sent and not answered */
#define QDB_CONN_QUEUE_MAX       4096 /* not answered altogether */
#define QDB_CONN_TIMEOUT_USEC    5000000

struct qdb_conn;

struct qdb_conn_config {
    const char *socket;    /* path; used during qdb_conn_new() only */
    uint64_t timeout_usec; /* 0: QDB_CONN_TIMEOUT_USEC */
    void (*event)(const char *path, void *user); /* NULL: an event is a surprise */
    void (*failed)(int error, void *user);       /* error: -errno; the last call of all */
    void *user;
};

/*
 * What has to be sent, and who hears the answer: RESP_OK, RESP_ERROR_NOENT, RESP_ERROR or
 * RESP_READ with the path of the request; for LIST and MULTIREAD one call for each key and a last
 * one with an empty path. The message is valid during the call.
 */
struct qdb_request {
    enum qdb_type type; /* QDB_CMD_* */
    const char *path;
    struct str value; /* WRITE only */
    void (*answer)(const struct qdb_message *m, void *user);
    void *user;
};

/*
 * Connects. -errno: -ENOENT and -ECONNREFUSED (no daemon), -EAGAIN (its backlog is full, try
 * later), -EACCES, ... The caller owns *ret. failed() is not called for what is returned here.
 */
int qdb_conn_new(sd_event *event, const struct qdb_conn_config *config, struct qdb_conn **ret);
struct qdb_conn *qdb_conn_free(struct qdb_conn *c); /* NULL is fine; no callback comes after it */
void qdb_conn_freep(struct qdb_conn **c);

/*
 * Queues a request; path and value are copied. No callback comes from inside. -EINVAL: not a
 * command, or a path the daemon would refuse; -EMSGSIZE: value too long; -ENOBUFS: queue full;
 * -ENOTCONN: the connection has failed; -ENOMEM.
 */
int qdb_conn_send(struct qdb_conn *c, const struct qdb_request *request);
