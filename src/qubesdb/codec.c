/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/codec.h"

#include <errno.h>
#include <string.h>

#define OFFSET_PATH   1
#define OFFSET_LENGTH 68

static bool path_char_is_valid(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_/.:@-", c) != NULL);
}

/* What a sound daemon sends: a value only where the protocol has one. */
static bool response_is_sound(uint8_t type, uint32_t len)
{
    if (type == QDB_RESP_READ || type == QDB_RESP_MULTIREAD)
        return len <= QDB_VALUE_MAX;
    return type >= QDB_RESP_OK && type <= QDB_RESP_WATCH && len == 0;
}

/*
 * How the daemon treats the value it is promised: a write keeps it; READ, WATCH and UNWATCH do
 * not take it off the stream at all; everything else skips it.
 */
static void server_plan_body(struct qdb_decoder *d)
{
    struct qdb_message *m = &d->message;

    d->keep = false;
    d->body_left = m->announced;
    if (m->bad)
        return;
    if (m->type == QDB_CMD_WRITE)
        d->keep = true;
    else if (m->type == QDB_CMD_READ || m->type == QDB_CMD_WATCH || m->type == QDB_CMD_UNWATCH)
        d->body_left = 0;
}

static int decode_header(struct qdb_decoder *d)
{
    struct cursor c = cursor_from(d->header, sizeof(d->header));
    struct qdb_message *m = &d->message;
    uint8_t type = cursor_u8(&c);
    const char *path = (const char *)cursor_take(&c, QDB_PATH_SIZE);
    size_t path_len = strnlen(path, QDB_PATH_SIZE);
    bool path_ends = path_len < QDB_PATH_SIZE;
    bool path_valid;

    if (!path_ends)
        path_len = QDB_PATH_SIZE - 1;
    memset(m->path, 0, sizeof(m->path));
    memcpy(m->path, path, path_len);
    path_valid = qdb_path_is_valid((struct str){m->path, path_len});
    (void)cursor_take(&c, OFFSET_LENGTH - OFFSET_PATH - QDB_PATH_SIZE);
    m->announced = cursor_u32ne(&c);
    m->value = (struct str){(const char *)d->value, 0};

    if (d->end == QDB_END_CLIENT) {
        if (!path_ends || !path_valid || !response_is_sound(type, m->announced))
            return -EPROTO;
        m->bad = false;
        m->type = (enum qdb_type)type;
        d->keep = true;
        d->body_left = m->announced;
        return 0;
    }
    /* A daemon cuts a path of 64 characters and goes on. */
    m->bad = type > QDB_CMD_UNWATCH || !path_valid || m->announced > QDB_VALUE_MAX;
    m->type = m->bad ? QDB_RESP_ERROR : (enum qdb_type)type;
    server_plan_body(d);
    return 0;
}

static void take_body(struct qdb_decoder *d, struct cursor *in)
{
    size_t n = d->body_left < in->left ? d->body_left : in->left;
    const uint8_t *bytes = cursor_take(in, n);

    if (d->keep && n > 0) {
        memcpy(d->value + d->message.value.len, bytes, n);
        d->message.value.len += n;
    }
    d->body_left -= n;
}

bool qdb_path_is_valid(struct str path)
{
    if (path.len >= QDB_PATH_SIZE || (path.len > 0 && path.p[0] == '-'))
        return false;
    for (size_t i = 0; i < path.len; i++)
        if (!path_char_is_valid(path.p[i]))
            return false;
    return true;
}

void qdb_encode_echo(enum qdb_type type, const char path[static QDB_PATH_SIZE], size_t value_len,
                     uint8_t out[static QDB_HEADER_SIZE])
{
    uint32_t len = (uint32_t)value_len;

    memset(out, 0, QDB_HEADER_SIZE);
    out[0] = (uint8_t)type;
    memcpy(out + OFFSET_PATH, path, strnlen(path, QDB_PATH_SIZE - 1));
    memcpy(out + OFFSET_LENGTH, &len, sizeof(len));
}

int qdb_encode(enum qdb_type type, const char *path, size_t value_len,
               uint8_t out[static QDB_HEADER_SIZE])
{
    struct str s = str_from(path);
    char padded[QDB_PATH_SIZE] = "";

    if (!qdb_path_is_valid(s))
        return -EINVAL;
    if (value_len > QDB_VALUE_MAX)
        return -EMSGSIZE;
    memcpy(padded, s.p, s.len);
    qdb_encode_echo(type, padded, value_len, out);
    return 0;
}

void qdb_decoder_init(struct qdb_decoder *d, enum qdb_end end)
{
    memset(d, 0, sizeof(*d));
    d->end = end;
}

int qdb_decoder_next(struct qdb_decoder *d, struct cursor *in, struct qdb_message *ret)
{
    if (d->failed)
        return -EPROTO;
    if (!d->have_header) {
        size_t want = sizeof(d->header) - d->fill;
        size_t n = want < in->left ? want : in->left;

        if (n > 0)
            memcpy(d->header + d->fill, cursor_take(in, n), n);
        d->fill += n;
        if (d->fill < sizeof(d->header))
            return 0;
        if (decode_header(d) < 0) {
            d->failed = true;
            return -EPROTO;
        }
        d->have_header = true;
    }
    take_body(d, in);
    if (d->body_left > 0)
        return 0;
    d->have_header = false;
    d->fill = 0;
    *ret = d->message;
    return 1;
}

bool qdb_decoder_is_idle(const struct qdb_decoder *d)
{
    return !d->have_header && d->fill == 0;
}
