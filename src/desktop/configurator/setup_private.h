/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What setup.c (steps) and setup_view.c (what is shown of them) share. For these two only. */
#pragma once

#include <stdint.h>

#include "desktop/configurator/setup.h"
#include "desktop/words/words.h"
#include "vpn/object/offer.h"

#define LINES_MAX 12 /* of one list in front of a person */

/* Lines to show: cleaned, each once, cut with "and N more". */
struct lines {
    char *list[LINES_MAX + 2]; /* owned; NULL at the end */
    size_t n, more;
};

void lines_clear(struct lines *l);
/* A sentence of our own, or outside text that was cleaned. */
void lines_add(struct lines *l, const char *text);
void lines_end(struct lines *l);

struct setup {
    struct vpn_follow *follow;
    const struct setup_ops *ops;
    void *data;
    struct setup_view view;
    struct lines servers, found, left_out, refused, missing, needs;
    json_t *endpoints;
    char name[PROFILE_NAME_MAX];
    char error[WORDS_LONG * 2];
    struct offer *offer;
    bool pasted;
    char **paths; /* owned */
    size_t n_paths;
    bool first;        /* the first path is the profile: it was chosen alone, whatever its name */
    char secret[24];   /* kind of the one that is on its way */
    uint64_t asked_us; /* CLOCK_REALTIME of the last setup_connect() */
};

/* setup_view.c */
/* Fills the lists from what the supervisor answered to DescribeWithFiles. */
void setup_show_answer(struct setup *s, const json_t *facts, const json_t *findings);
void setup_show_needs(struct setup *s, const json_t *needs);
void setup_clear_view(struct setup *s);
/* The error: what happened; then the rule that nothing was opened; then what to do ("" for none).
 */
void setup_say(struct setup *s, const char *what, const char *next);
void setup_say_read_error(struct setup *s, int error);
void setup_say_refused(struct setup *s, const char *name, const char *text);
