/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/openvpn_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *text_wipe(char *p, size_t len)
{
    if (p)
        explicit_bzero(p, len);
    free(p);
    return NULL;
}

/* realloc() would leave a copy behind. */
static bool text_grow(struct text *t, size_t more)
{
    size_t size = t->size == 0 ? 4096 : t->size;
    char *p;

    if (t->error < 0)
        return false;
    if (more > OPENVPN_TEXT_MAX - t->len) {
        t->error = -E2BIG;
        return false;
    }
    while (size < t->len + more + 1)
        size *= 2;
    if (size == t->size)
        return true;
    p = malloc(size);
    if (!p) {
        t->error = -ENOMEM;
        return false;
    }
    if (t->p)
        memcpy(p, t->p, t->len);
    p[t->len] = '\0';
    text_wipe(t->p, t->size);
    t->p = p;
    t->size = size;
    return true;
}

void text_add(struct text *t, struct str s)
{
    if (!text_grow(t, s.len))
        return;
    if (s.len > 0)
        memcpy(t->p + t->len, s.p, s.len);
    t->len += s.len;
    t->p[t->len] = '\0';
}

void text_format(struct text *t, const char *format, ...)
{
    char line[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(line)) {
        t->error = t->error < 0 ? t->error : -E2BIG;
        return;
    }
    text_add(t, (struct str){line, (size_t)n});
    explicit_bzero(line, sizeof(line));
}

static bool is_plain(struct str word)
{
    static const char also[] = "_./:+=,@!?*-";

    for (size_t i = 0; i < word.len; i++) {
        char c = word.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) &&
            (c == '\0' || strchr(also, c) == NULL))
            return false;
    }
    return word.len > 0;
}

void text_add_word(struct text *t, struct str word)
{
    if (is_plain(word)) {
        text_add(t, word);
        return;
    }
    text_add(t, STR_LITERAL("\""));
    for (size_t i = 0; i < word.len; i++) {
        if (word.p[i] == '"' || word.p[i] == '\\')
            text_add(t, STR_LITERAL("\\"));
        text_add(t, (struct str){word.p + i, 1});
    }
    text_add(t, STR_LITERAL("\""));
}

int text_end(struct text *t, char **ret, size_t *ret_len)
{
    int r = text_grow(t, 0) ? 0 : t->error; /* an empty text is a text, too */

    if (r < 0) {
        text_free(t);
        return r;
    }
    *ret = t->p;
    *ret_len = t->len;
    *t = (struct text){0};
    return 0;
}

void text_free(struct text *t)
{
    text_wipe(t->p, t->size);
    *t = (struct text){0};
}
