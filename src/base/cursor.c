/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cursor.h"

#include <string.h>

const uint8_t *cursor_take(struct cursor *c, size_t len)
{
    const uint8_t *at = c->p;

    if (c->failed || len > c->left) {
        c->failed = true;
        return NULL;
    }
    if (len > 0) /* nothing may be added to NULL, which an empty input can be */
        c->p += len;
    c->left -= len;
    return at;
}

void cursor_copy(struct cursor *c, void *out, size_t len)
{
    const uint8_t *at = cursor_take(c, len);

    if (len == 0)
        return;
    if (at != NULL)
        memcpy(out, at, len);
    else
        memset(out, 0, len);
}

uint8_t cursor_u8(struct cursor *c)
{
    uint8_t v;

    cursor_copy(c, &v, sizeof(v));
    return v;
}

uint16_t cursor_u16be(struct cursor *c)
{
    uint8_t b[2];

    cursor_copy(c, b, sizeof(b));
    return (uint16_t)((unsigned)b[0] << 8 | b[1]);
}

uint32_t cursor_u32be(struct cursor *c)
{
    uint8_t b[4];

    cursor_copy(c, b, sizeof(b));
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

uint32_t cursor_u32ne(struct cursor *c)
{
    uint32_t v;

    cursor_copy(c, &v, sizeof(v));
    return v;
}
