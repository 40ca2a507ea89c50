/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define KEEP_WHEN_EMPTY 16384

static int make_room(struct qdb_buffer *b, size_t len)
{
    size_t size = qdb_buffer_size(b), room = b->room ? b->room : 1024;
    uint8_t *more;

    if (b->room - b->end >= len)
        return 0;
    /* Moving down is worth it only when it frees at least half, or each byte moves many times. */
    if (b->begin >= b->room / 2 && b->room - size >= len) {
        memmove(b->p, b->p + b->begin, size);
        b->begin = 0;
        b->end = size;
        return 0;
    }
    while (room - b->end < len) {
        if (room > SIZE_MAX / 4)
            return -ENOMEM;
        room *= 2;
    }
    more = realloc(b->p, room);
    if (!more)
        return -ENOMEM;
    b->p = more;
    b->room = room;
    return 0;
}

void qdb_buffer_clear(struct qdb_buffer *b)
{
    free(b->p);
    *b = (struct qdb_buffer){0};
}

int qdb_buffer_append(struct qdb_buffer *b, const void *p, size_t len)
{
    if (len == 0)
        return 0;
    if (make_room(b, len) < 0)
        return -ENOMEM;
    memcpy(b->p + b->end, p, len);
    b->end += len;
    return 0;
}

int qdb_buffer_send(struct qdb_buffer *b, int fd)
{
    while (b->begin < b->end) {
        ssize_t n = send(fd, b->p + b->begin, qdb_buffer_size(b), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        b->begin += (size_t)n;
    }
    b->begin = b->end = 0;
    if (b->room > KEEP_WHEN_EMPTY)
        qdb_buffer_clear(b);
    return 0;
}
