/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tray shows for a status, without a toolkit. Texts are cleaned (desktop/words) and
 * translated; id is a profile's name as the supervisor spells it, for calls and never for the eye.
 * Pure but for the locale.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "desktop/words/words.h"

#define LOOK_PROFILES 12 /* a menu of more is not read; the window has them all */
#define LOOK_ID       64 /* bytes of a profile's name, NUL included */

struct look_profile {
    char id[LOOK_ID];
    char name[WORDS_SHORT];
    bool chosen, usable;
};

struct look {
    enum words_mood mood;
    char summary[WORDS_LONG]; /* what is */
    char next[WORDS_LONG];    /* what to do, or "" */
    bool can_connect, can_block, can_test;
    struct look_profile profiles[LOOK_PROFILES];
    size_t n, more; /* shown, and how many are not */
};

/* status as of vpn/object/follow.h; NULL: nobody answers. The chosen profile is always among those
 * shown. */
void look_at(struct look *l, const json_t *status);
bool look_same(const struct look *a, const struct look *b);
/* The answers to a leak test and to a call that failed, as one line. */
char *look_verdict(bool sealed, char *buf, size_t size);
char *look_failure(const char *error_name, const char *error, char *buf, size_t size);
