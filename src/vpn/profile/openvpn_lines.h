/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines of OpenVPN's configuration file, cut as OpenVPN cuts them (options_parse.c: parse_line,
 * read_inline_file): blanks separate, quotes of both kinds, the backslash outside of single quotes,
 * comments from '#' or ';' at the beginning of a word, <name> up to </name> as one argument, "--"
 * before a name is dropped. Where OpenVPN silently drops something (a seventeenth argument, what is
 * behind a NUL), the line is refused. Pure; nothing is allocated.
 */
#pragma once

#include "base/str.h"

#define OPENVPN_ARGS_MAX 16  /* with the name */
#define OPENVPN_LINE_MAX 254 /* bytes without the newline */

struct openvpn_line {
    unsigned number; /* counted from 1; of the opening tag, for a block */
    size_t n;        /* arguments with the name, >= 1 */
    struct str arg[OPENVPN_ARGS_MAX]; /* in store: not valid in a copy of the structure */
    bool has_block;
    struct str block; /* borrowed from the text: whole lines between the tags */
    char store[OPENVPN_LINE_MAX + 1];
};

struct openvpn_lines {
    struct str rest;
    unsigned number; /* of the last line taken */
    bool begun;
};

/* text must outlive the reading. first: number of its first line. */
struct openvpn_lines openvpn_lines_from(struct str text, unsigned first);

/*
 * The next directive. 1; 0 at the end; -EINVAL: *ret_why (static) says what is wrong with line
 * ret->number, and reading may go on behind it.
 */
int openvpn_lines_next(struct openvpn_lines *l, struct openvpn_line *ret, const char **ret_why);
