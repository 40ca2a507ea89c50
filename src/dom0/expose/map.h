/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network tree with what is exposed, as rows from the LAN inwards; then as text or as SVG. All
 * of it is pure. Rows hold printable ASCII only, whatever the features say.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "dom0/tree/tree.h"
#include "dom0/tree/wish.h"

#define MAP_LINES_MAX 24
#define MAP_NAME_MAX  192

enum map_kind {
    MAP_ROOT,   /* the LAN, or what has no network */
    MAP_NET,    /* a qube that gives network to others */
    MAP_QUBE,
    MAP_OTHERS, /* the qubes there that nobody asked to expose */
};

enum map_mark {
    MAP_PLAIN,
    MAP_OPEN,
    MAP_WAITING, /* asked for; the qube does not run */
    MAP_BLOCKED, /* asked for; something stands in the way */
};

struct map_row {
    enum map_kind kind;
    enum map_mark mark;
    unsigned depth;
    bool last;           /* of its siblings */
    bool on_way;         /* here or further in something is open */
    char name[MAP_NAME_MAX]; /* with addresses and state */
    char *lines[MAP_LINES_MAX]; /* owned */
    size_t n_lines;
};

struct map {
    struct map_row *rows; /* owned; each parent before its children */
    size_t n, capacity;
};

void map_done(struct map *m);

/* 0 or -ENOMEM. */
int map_build(const struct tree *t, const struct wishes *w, int64_t now, struct map *ret);

/* Text with box drawing characters (utf8) or in ASCII, wrapped at width columns. */
void map_write_text(const struct map *m, bool utf8, unsigned width, FILE *f);
/* A whole SVG file: light and dark, with a title and a description for who does not see it. */
void map_write_svg(const struct map *m, FILE *f);
