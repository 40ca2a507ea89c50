/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/openvpn_lines.h"

#include <errno.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r'); /* as isspace() in the C locale */
}

static bool take_line(struct openvpn_lines *l, struct str *ret)
{
    if (l->rest.len == 0 || !str_next(&l->rest, '\n', ret))
        return false;
    l->number++;
    return true;
}

struct openvpn_lines openvpn_lines_from(struct str text, unsigned first)
{
    return (struct openvpn_lines){.rest = text, .number = first - 1};
}

static struct str skip_space(struct str s)
{
    while (s.len > 0 && is_space(s.p[0])) {
        s.p++;
        s.len--;
    }
    return s;
}

enum state { BETWEEN, PLAIN, DOUBLE, SINGLE };

struct cutting {
    struct openvpn_line *line;
    size_t used;  /* of line->store */
    size_t begin; /* of the current word */
    enum state state;
    bool backslash;
};

static bool end_word(struct cutting *c)
{
    struct openvpn_line *line = c->line;

    if (line->n == OPENVPN_ARGS_MAX)
        return false;
    line->arg[line->n++] = (struct str){line->store + c->begin, c->used - c->begin};
    c->begin = c->used;
    c->state = BETWEEN;
    return true;
}

/* One character. Returns what is wrong, or NULL; *ret_end: the rest of the line is a comment. */
static const char *cut_char(struct cutting *c, char in, bool *ret_end)
{
    static const char too_many[] = "too many words in one line";
    bool escaped = c->backslash;

    if (!escaped && in == '\\' && c->state != SINGLE) {
        c->backslash = true;
        return NULL;
    }
    c->backslash = false;
    if (c->state == BETWEEN) {
        if (is_space(in))
            return NULL;
        if (in == '#' || in == ';') {
            *ret_end = true;
            return NULL;
        }
        c->state = escaped || (in != '"' && in != '\'') ? PLAIN : in == '"' ? DOUBLE : SINGLE;
        if (c->state != PLAIN)
            return NULL;
    } else if ((c->state == PLAIN && !escaped && is_space(in)) ||
               (c->state == DOUBLE && !escaped && in == '"') ||
               (c->state == SINGLE && in == '\'')) {
        return end_word(c) ? NULL : too_many;
    }
    if (escaped && in != '\\' && in != '"' && !is_space(in))
        return "a backslash before an ordinary character; write two for one";
    c->line->store[c->used++] = in; /* never more than came in */
    return NULL;
}

/* Cuts one line into words. */
static const char *cut(struct str text, struct openvpn_line *line)
{
    struct cutting c = {.line = line};
    const char *why = NULL;
    bool end = false;

    for (size_t i = 0; i < text.len && why == NULL && !end; i++)
        why = cut_char(&c, text.p[i], &end);
    if (why != NULL)
        return why;
    if (c.backslash && !end)
        return "a backslash at the end of the line";
    if (c.state == DOUBLE || c.state == SINGLE)
        return "no closing quotation mark";
    if (c.state == PLAIN && !end_word(&c))
        return "too many words in one line";
    return NULL;
}

static bool begins_with(struct str s, struct str with)
{
    return s.len >= with.len && memcmp(s.p, with.p, with.len) == 0;
}

/* "</NAME>" at the beginning of a line, whatever stands behind it. */
static bool is_closing(struct str text, struct str name)
{
    text = skip_space(text);
    if (text.len < name.len + 3 || text.p[0] != '<' || text.p[1] != '/')
        return false;
    text.p += 2;
    text.len -= 2;
    return begins_with(text, name) && text.p[name.len] == '>';
}

static int take_block(struct openvpn_lines *l, struct openvpn_line *line, const char **ret_why)
{
    struct str name = {line->arg[0].p + 1, line->arg[0].len - 2}, text;
    const char *begin = l->rest.p;

    while (take_line(l, &text)) {
        if (is_closing(text, name)) {
            line->arg[0] = name;
            line->has_block = true;
            line->block = (struct str){begin, (size_t)(text.p - begin)};
            return 1;
        }
    }
    *ret_why = "the closing tag of this block is missing";
    return -EINVAL;
}

int openvpn_lines_next(struct openvpn_lines *l, struct openvpn_line *ret, const char **ret_why)
{
    struct str text, visible;

    while (take_line(l, &text)) {
        *ret = (struct openvpn_line){.number = l->number};
        if (!l->begun && begins_with(text, STR_LITERAL("\xEF\xBB\xBF"))) {
            text.p += 3;
            text.len -= 3;
        }
        l->begun = true;
        visible = skip_space(text);
        if (visible.len == 0 || visible.p[0] == '#' || visible.p[0] == ';')
            continue;
        if (text.len > OPENVPN_LINE_MAX) {
            *ret_why = "the line is too long";
            return -EINVAL;
        }
        *ret_why = cut(text, ret);
        if (*ret_why != NULL)
            return -EINVAL;
        if (ret->n == 0)
            continue;
        if (ret->arg[0].len >= 3 && begins_with(ret->arg[0], STR_LITERAL("--"))) {
            ret->arg[0].p += 2;
            ret->arg[0].len -= 2;
        }
        if (ret->n == 1 && ret->arg[0].len > 2 && ret->arg[0].p[0] == '<' &&
            ret->arg[0].p[ret->arg[0].len - 1] == '>')
            return take_block(l, ret, ret_why);
        return 1;
    }
    return 0;
}
