/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing text that may hold keys: every buffer is wiped before it is given back. An error sticks
 * (-ENOMEM, -E2BIG above OPENVPN_TEXT_MAX) and is asked for once, by text_end().
 */
#pragma once

#include "base/str.h"

#define OPENVPN_TEXT_MAX (1024 * 1024)

struct text {
    char *p; /* owned; NUL-ended when it is not NULL */
    size_t len, size;
    int error; /* 0 or -errno */
};

void text_add(struct text *t, struct str s);
__attribute__((format(printf, 2, 3))) void text_format(struct text *t, const char *format, ...);

/* A word as OpenVPN's file has it, quoted where it must be. No control characters may be in it. */
void text_add_word(struct text *t, struct str word);

/* 0 and the text, which is the caller's now; or the error, with everything wiped and freed. */
int text_end(struct text *t, char **ret, size_t *ret_len);
void text_free(struct text *t);

/* Wipes len bytes and frees them; NULL is fine. Returns NULL. */
char *text_wipe(char *p, size_t len);
