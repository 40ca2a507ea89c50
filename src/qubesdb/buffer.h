/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes that wait to be sent: appended at the end, sent from the front. Grows by doubling, gives
 * its memory back when it was large and has run empty. Zero-initialise; qdb_buffer_clear() frees.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct qdb_buffer {
    uint8_t *p;
    size_t begin, end, room;
};

static inline size_t qdb_buffer_size(const struct qdb_buffer *b)
{
    return b->end - b->begin;
}

void qdb_buffer_clear(struct qdb_buffer *b);
int qdb_buffer_append(struct qdb_buffer *b, const void *p, size_t len); /* 0 or -ENOMEM */

/*
 * Sends from the front with MSG_NOSIGNAL and MSG_DONTWAIT as much as the socket takes. 0: empty
 * now; -EAGAIN: the rest has to wait; other -errno: the peer is gone.
 */
int qdb_buffer_send(struct qdb_buffer *b, int fd);
