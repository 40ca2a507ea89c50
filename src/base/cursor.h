/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading bytes that came from a wire: every read is checked, an error sticks, and a failed read
 * gives zero. So a parser reads a whole structure and asks cursor_ok() once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const uint8_t *p; /* borrowed */
    size_t left;
    bool failed;
};

static inline struct cursor cursor_from(const void *p, size_t len)
{
    return (struct cursor){.p = p, .left = len, .failed = false};
}

static inline bool cursor_ok(const struct cursor *c)
{
    return !c->failed;
}

/* The next len bytes, borrowed, or NULL when there are fewer. */
const uint8_t *cursor_take(struct cursor *c, size_t len);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16be(struct cursor *c);
uint32_t cursor_u32be(struct cursor *c);
uint32_t cursor_u32ne(struct cursor *c); /* host order, as local protocols use it */
/* Copies len bytes into out; zeroes out when there are fewer. */
void cursor_copy(struct cursor *c, void *out, size_t len);
