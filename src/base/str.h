/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text from outside is a (pointer, length) pair, never assumed to end in NUL, and goes through
 * str_escape() before a person sees it. Nothing here allocates.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    const char *p; /* borrowed */
    size_t len;
};

#define STR_LITERAL(s) ((struct str){(s), sizeof(s) - 1})

struct str str_from(const char *s);
bool str_is(struct str s, const char *literal);

/*
 * Cuts the text before the first sep off *rest into *ret. Returns false when *rest was used up by
 * the call before. "a||b" gives "a", "", "b"; "" gives one empty piece.
 * To begin: *rest = text with p not NULL; at the end rest->p is NULL.
 */
bool str_next(struct str *rest, char sep, struct str *ret);

/* Drops ASCII blanks (space, tab) at both ends. */
struct str str_trim(struct str s);

/* Decimal digits only, no sign, no blank, no leading zero but "0" itself. -EINVAL, -ERANGE. */
int str_to_u32(struct str s, uint32_t max, uint32_t *ret);

/*
 * Copies s into buf so that it is safe on a terminal and in a log: printable ASCII as it is,
 * everything else as \xNN, cut with "..." when buf is too small. Always ends in NUL. Returns buf.
 */
const char *str_escape(struct str s, char *buf, size_t size);
