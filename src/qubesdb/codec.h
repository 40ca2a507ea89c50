/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of QubesDB's local protocol: a header of 72 bytes (type u8, path 64 bytes ending in
 * NUL, 3 bytes of padding, value length u32 in host order), then the value. What stands after the
 * path's NUL and in the padding is garbage by definition and never looked at.
 *
 * The decoder puts messages together from a byte stream, however it was cut. It owns a fixed
 * buffer, allocates nothing, and knows both ends: a client refuses whatever a sound daemon does
 * not send (-EPROTO, sticky), a server must live with everything and marks such a request bad.
 * Source: QubesOS/qubes-core-qubesdb, include/qubesdb.h and daemon/db-cmds.c (4.1 to 4.3.3).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/str.h"

#define QDB_HEADER_SIZE 72
#define QDB_PATH_SIZE   64   /* with NUL */
#define QDB_VALUE_MAX   3071 /* bytes; the daemon refuses 3072, whatever its header says */

enum qdb_type {
    QDB_CMD_READ,
    QDB_CMD_WRITE,
    QDB_CMD_MULTIREAD,
    QDB_CMD_LIST,
    QDB_CMD_RM,
    QDB_CMD_WATCH,
    QDB_CMD_UNWATCH,
    QDB_RESP_OK,
    QDB_RESP_ERROR_NOENT,
    QDB_RESP_ERROR,
    QDB_RESP_READ,
    QDB_RESP_MULTIREAD,
    QDB_RESP_LIST,
    QDB_RESP_WATCH,
};

enum qdb_end {
    QDB_END_CLIENT, /* decodes responses */
    QDB_END_SERVER, /* decodes commands */
};

struct qdb_message {
    enum qdb_type type;
    char path[QDB_PATH_SIZE]; /* always ends in NUL; zeroes after it */
    struct str value;         /* borrowed from the decoder until its next call */
    /* For a server only: */
    uint32_t announced; /* value length by the header */
    bool bad;           /* unknown type, bad path or too long: type means nothing */
};

struct qdb_decoder {
    enum qdb_end end;
    bool failed;
    bool have_header;
    bool keep; /* the value is kept, not skipped */
    size_t fill;
    size_t body_left;
    struct qdb_message message;
    uint8_t header[QDB_HEADER_SIZE];
    uint8_t value[QDB_VALUE_MAX];
};

/* Characters [A-Za-z0-9_/.:@-], not '-' first, at most 63 of them. The empty path is valid. */
bool qdb_path_is_valid(struct str path);

/*
 * Writes a header for path and value_len into out. -EINVAL: path not valid. -EMSGSIZE: value too
 * long. qdb_encode_echo takes any bytes as a path, as a server has to.
 */
int qdb_encode(enum qdb_type type, const char *path, size_t value_len,
               uint8_t out[static QDB_HEADER_SIZE]);
void qdb_encode_echo(enum qdb_type type, const char path[static QDB_PATH_SIZE], size_t value_len,
                     uint8_t out[static QDB_HEADER_SIZE]);

void qdb_decoder_init(struct qdb_decoder *d, enum qdb_end end);

/*
 * Takes bytes off *in. 1: *ret is the next message; 0: *in is used up and no message is complete;
 * -EPROTO: the stream is not QubesDB, and stays so (client end only).
 */
int qdb_decoder_next(struct qdb_decoder *d, struct cursor *in, struct qdb_message *ret);

/* True between messages: an end of the stream here cuts nothing. */
bool qdb_decoder_is_idle(const struct qdb_decoder *d);
