/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "adminapi/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

/* A word of the header: qubesd splits at blanks and reads ASCII. */
static bool is_word(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s > '~')
            return false;
    return true;
}

int admin_pack_header(const struct admin_request *request, char **ret, size_t *ret_len)
{
    const char *arg = request->arg ? request->arg : "";
    _cleanup_(freep) char *header = NULL;
    int n;

    if (!*request->method || !is_word(request->method) || strchr(request->method, '+') ||
        !is_word(arg) || !*request->dest || !is_word(request->dest))
        return -EINVAL;
    /* Qubes' own clients write the "+" without an argument too. */
    n = asprintf(&header, "%s+%s dom0 name %s", request->method, arg, request->dest);
    if (n < 0) {
        header = NULL;
        return -ENOMEM;
    }
    if (request->payload.len > ADMIN_REQUEST_MAX ||
        (size_t)n + 1 + request->payload.len > ADMIN_REQUEST_MAX)
        return -E2BIG;
    *ret = TAKE_PTR(header);
    *ret_len = (size_t)n + 1;
    return 0;
}

/* Cuts a piece that ends in NUL off the front. */
static bool take_piece(struct str *rest, struct str *ret)
{
    const char *end = rest->len > 0 ? memchr(rest->p, '\0', rest->len) : NULL;

    if (!end)
        return false;
    *ret = (struct str){rest->p, (size_t)(end - rest->p)};
    rest->len -= ret->len + 1;
    rest->p = end + 1;
    return true;
}

static bool take_tag(struct str *rest, char tag)
{
    if (rest->len < 2 || rest->p[0] != tag || rest->p[1] != '\0')
        return false;
    rest->p += 2;
    rest->len -= 2;
    return true;
}

void admin_parse_answer(struct str bytes, struct admin_answer *ret)
{
    struct str type, traceback, message;

    *ret = (struct admin_answer){.status = ADMIN_BROKEN};
    if (bytes.len == 0) {
        ret->status = ADMIN_EMPTY;
    } else if (take_tag(&bytes, '0')) {
        ret->status = ADMIN_OK;
        ret->content = bytes;
    } else if (take_tag(&bytes, '2') && take_piece(&bytes, &type) &&
               take_piece(&bytes, &traceback) && take_piece(&bytes, &message)) {
        /* The documented form goes on with fields for the message; qubesd sends none. */
        ret->status = ADMIN_EXCEPTION;
        ret->type = type;
        ret->message = message;
    }
}

/* The tag may be cut between its two bytes. */
static int take_event_tag(struct str *rest)
{
    if (rest->len == 0 || (rest->len == 1 && rest->p[0] == '1'))
        return 0;
    return take_tag(rest, '1') ? 1 : -EPROTO;
}

int admin_parse_event(struct str bytes, struct admin_event *ret, size_t *ret_used)
{
    struct admin_event e = {.n_pairs = 0};
    struct str rest = bytes;
    struct admin_pair pair;
    int r = take_event_tag(&rest);

    if (r <= 0)
        return r;
    if (!take_piece(&rest, &e.subject) || !take_piece(&rest, &e.name))
        return 0;
    if (e.name.len == 0)
        return -EPROTO;
    while (take_piece(&rest, &pair.key)) {
        if (pair.key.len == 0) {
            *ret = e;
            *ret_used = bytes.len - rest.len;
            return 1;
        }
        if (e.n_pairs == ADMIN_PAIRS_MAX)
            return -EPROTO;
        if (!take_piece(&rest, &pair.value))
            return 0;
        e.pairs[e.n_pairs++] = pair;
    }
    return 0;
}

bool admin_event_value(const struct admin_event *e, const char *key, struct str *ret)
{
    for (size_t i = 0; i < e->n_pairs; i++)
        if (str_is(e->pairs[i].key, key)) {
            *ret = e->pairs[i].value;
            return true;
        }
    return false;
}

/* Does the word begin with "key="? Then *ret is what follows. */
static bool word_value(struct str word, const char *key, struct str *ret)
{
    size_t len = strlen(key);

    if (word.len <= len || memcmp(word.p, key, len) != 0 || word.p[len] != '=')
        return false;
    *ret = (struct str){word.p + len + 1, word.len - len - 1};
    return true;
}

int admin_parse_vm(struct str line, struct admin_vm *ret)
{
    struct admin_vm vm = {.name = {NULL, 0}};
    struct str word;

    if (!line.p || !str_next(&line, ' ', &vm.name) || vm.name.len == 0)
        return -EINVAL;
    while (str_next(&line, ' ', &word))
        if (!word_value(word, "class", &vm.klass))
            (void)word_value(word, "state", &vm.state);
    if (vm.klass.len == 0 || vm.state.len == 0)
        return -EINVAL;
    *ret = vm;
    return 0;
}

int admin_parse_property(struct str line, struct admin_property *ret)
{
    struct admin_property property = {.is_default = false};
    struct str word, is_default;

    if (!line.p || !str_next(&line, ' ', &property.name) || property.name.len == 0)
        return -EINVAL;
    if (!str_next(&line, ' ', &word) || !word_value(word, "default", &is_default))
        return -EINVAL;
    property.is_default = str_is(is_default, "True");
    if (!property.is_default && !str_is(is_default, "False"))
        return -EINVAL;
    if (!str_next(&line, ' ', &word) || !word_value(word, "type", &property.type))
        return -EINVAL;
    /* What is left is the value, blanks and all; unset it may lack even its blank. */
    property.value = line.p ? line : (struct str){"", 0};
    *ret = property;
    return 0;
}
