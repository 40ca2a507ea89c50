/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Outside text made fit to be seen. Ranges are those of Unicode 15. */
#include "desktop/words/words.h"

#include <string.h>

#include "base/cleanup.h"

#define BAD       0xfffdu /* what is shown for what must not be */
#define MARKS_MAX 2       /* on one letter; more pile up over other lines */

struct range {
    uint32_t first, last;
};

static bool is_in(const struct range *ranges, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    }
    return false;
}

/* Category Z, and controls that part words. */
static bool is_blank(uint32_t c)
{
    static const struct range blanks[] = {
        {0x09, 0x0d},     {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
        {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
    };

    return is_in(blanks, ARRAY_SIZE(blanks), c);
}

/* Categories Cc, Cf, Co; of Cn whole blocks; selectors and fillers, which cannot be seen. */
static bool is_hidden(uint32_t c)
{
    static const struct range hidden[] = {
        {0x00, 0x1f},        {0x7f, 0x9f},       {0xad, 0xad},       {0x34f, 0x34f},
        {0x600, 0x605},      {0x61c, 0x61c},     {0x6dd, 0x6dd},     {0x70f, 0x70f},
        {0x890, 0x891},      {0x8e2, 0x8e2},     {0x115f, 0x1160},   {0x17b4, 0x17b5},
        {0x180b, 0x180f},    {0x200b, 0x200f},   {0x202a, 0x202e},   {0x2060, 0x206f},
        {0x2800, 0x2800},    {0x3164, 0x3164},   {0xd800, 0xf8ff},   {0xfdd0, 0xfdef},
        {0xfe00, 0xfe0f},    {0xfeff, 0xfeff},   {0xffa0, 0xffa0},   {0xfff0, 0xfffb},
        {0xfffe, 0xffff},    {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1345f},
        {0x1bca0, 0x1bca3},  {0x1d173, 0x1d17a}, {0x1fffe, 0x1ffff}, {0x2fffe, 0x2ffff},
        {0x3fffe, 0x10ffff},
    };

    return is_in(hidden, ARRAY_SIZE(hidden), c);
}

/* Marks that stand over or under a letter, of the scripts where they can be heaped at will. */
static bool is_mark(uint32_t c)
{
    static const struct range marks[] = {
        {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},   {0x64b, 0x65f},
        {0x6d6, 0x6dc},   {0x6df, 0x6e4},   {0xe31, 0xe31},   {0xe34, 0xe3a},   {0xe47, 0xe4e},
        {0xeb1, 0xeb1},   {0xeb4, 0xebc},   {0xec8, 0xece},   {0xf71, 0xf84},   {0x1ab0, 0x1ace},
        {0x1dc0, 0x1dff}, {0x20d0, 0x20f0}, {0x302a, 0x302d}, {0x3099, 0x309a}, {0xa66f, 0xa67d},
        {0xfe20, 0xfe2f},
    };

    return is_in(marks, ARRAY_SIZE(marks), c);
}

/* The next character of *p, which advances: BAD for one byte that begins none. */
static uint32_t next_character(const unsigned char **p)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *s = *p;
    unsigned more = s[0] < 0x80   ? 0
                    : s[0] < 0xc2 ? 9
                    : s[0] < 0xe0 ? 1
                    : s[0] < 0xf0 ? 2
                    : s[0] < 0xf5 ? 3
                                  : 9;
    uint32_t c;

    (*p)++;
    if (more == 0)
        return s[0];
    if (more == 9)
        return BAD;
    c = s[0] & (0x3fu >> more);
    for (unsigned i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) /* also the end of the text */
            return BAD;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return BAD;
    *p = s + more + 1;
    return c;
}

static size_t put_character(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* What is written so far, and the last place where the ellipsis would still fit. */
struct output {
    char *buf;
    size_t size, n, cut;
};

static bool append(struct output *o, uint32_t c)
{
    char bytes[4];
    size_t len = put_character(c, bytes);

    if (o->n + len + 1 > o->size)
        return false;
    memcpy(o->buf + o->n, bytes, len);
    o->n += len;
    if (o->n + sizeof("…") <= o->size)
        o->cut = o->n;
    return true;
}

char *words_clean(const char *outside, char *buf, size_t size)
{
    const unsigned char *p = (const unsigned char *)outside;
    struct output o = {.buf = buf, .size = size};
    bool blank = false, whole = true;
    unsigned marks = 0;

    while (whole && *p != '\0') {
        uint32_t c = next_character(&p);

        if (is_blank(c)) {
            blank = o.n > 0;
            continue;
        }
        marks = is_mark(c) ? marks + 1 : 0;
        if (marks > MARKS_MAX)
            continue;
        whole = (!blank || append(&o, ' ')) && append(&o, is_hidden(c) ? BAD : c);
        blank = false;
    }
    if (!whole) {
        o.n = o.cut;
        if (o.n + sizeof("…") <= size) {
            memcpy(buf + o.n, "…", sizeof("…") - 1);
            o.n += sizeof("…") - 1;
        }
    }
    buf[o.n] = '\0';
    return buf;
}

char *words_said(const char *text, char *buf, size_t size)
{
    /* "" would give the head of the catalogue */
    return words_clean(text[0] != '\0' ? gettext(text) : "", buf, size);
}

static bool is_said(const char *key)
{
    static const char *const keys[] = {"last_error", "phase", "problem", "seal_error"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return false;
}

char *words_member(const json_t *object, const char *key, char *buf, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (text == NULL)
        text = "";
    return (is_said(key) ? words_said : words_clean)(text, buf, size);
}
