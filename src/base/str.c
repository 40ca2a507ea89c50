/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/str.h"

#include <errno.h>
#include <string.h>

struct str str_from(const char *s)
{
    return (struct str){s, strlen(s)};
}

bool str_is(struct str s, const char *literal)
{
    return s.len == strlen(literal) && memcmp(s.p, literal, s.len) == 0;
}

bool str_next(struct str *rest, char sep, struct str *ret)
{
    const char *hit;

    if (rest->p == NULL)
        return false;
    hit = rest->len > 0 ? memchr(rest->p, sep, rest->len) : NULL;
    if (hit == NULL) {
        *ret = *rest;
        *rest = (struct str){NULL, 0};
        return true;
    }
    *ret = (struct str){rest->p, (size_t)(hit - rest->p)};
    rest->len -= ret->len + 1;
    rest->p = hit + 1;
    return true;
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.len--;
    }
    while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

int str_to_u32(struct str s, uint32_t max, uint32_t *ret)
{
    uint64_t value = 0;

    if (s.len == 0 || (s.len > 1 && s.p[0] == '0'))
        return -EINVAL;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -EINVAL;
        value = value * 10 + (uint64_t)(s.p[i] - '0');
        if (value > max)
            return -ERANGE;
    }
    *ret = (uint32_t)value;
    return 0;
}

static bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f && c != '\\';
}

/* Does all of s fit into size bytes with its NUL? Looks at no more of it than that. */
static bool escaped_fits(struct str s, size_t size)
{
    size_t need = 1;

    for (size_t i = 0; i < s.len && need <= size; i++)
        need += is_plain(s.p[i]) ? 1 : 4;
    return need <= size;
}

const char *str_escape(struct str s, char *buf, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    size_t reserve = escaped_fits(s, size) ? 1 : 4; /* NUL, and "..." before it */
    size_t used = 0;

    if (size == 0)
        return buf;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = is_plain(s.p[i]);

        if (used + (plain ? 1 : 4) + reserve > size) {
            for (int dot = 0; dot < 3 && used + 1 < size; dot++)
                buf[used++] = '.';
            break;
        }
        if (plain) {
            buf[used++] = (char)c;
        } else {
            buf[used++] = '\\';
            buf[used++] = 'x';
            buf[used++] = digits[c >> 4];
            buf[used++] = digits[c & 15];
        }
    }
    buf[used] = '\0';
    return buf;
}
