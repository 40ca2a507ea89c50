/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "desktop/notifier/popup.h"

static const char *escape(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    default:
        return NULL;
    }
}

/* Bytes of the character that begins there; the text is valid UTF-8. */
static size_t length(const char *p)
{
    size_t n = 1;

    while (((unsigned char)p[n] & 0xc0) == 0x80)
        n++;
    return n;
}

char *popup_text(const char *text, bool markup, char *buf, size_t size)
{
    size_t used = 0;

    while (*text != '\0') {
        const char *instead = markup ? escape(*text) : NULL;
        size_t step = length(text), n = instead != NULL ? strlen(instead) : step;

        if (used + n + 1 > size)
            break;
        memcpy(buf + used, instead != NULL ? instead : text, n);
        used += n;
        text += step;
    }
    buf[used] = '\0';
    return buf;
}
