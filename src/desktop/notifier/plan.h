/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which notification a person should see, if any: a pure function of what the supervisor says, of
 * what was shown last and of the time. Like the rest of the product it looks at what is, not at
 * what happened: whoever starts late, or misses something, shows the right one. Each kind has to
 * last a while before it is told, so a short interruption is not told at all; what comes and goes
 * without an end is told once a minute at most.
 *
 * Times are microseconds of any clock that does not go back. Text is clean (desktop/words), plain,
 * its lines parted by '\n'. No I/O, nothing allocated.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "desktop/words/words.h"

#define PLAN_BODY   2048
#define PLAN_LOSSES 16
#define PLAN_NEVER  UINT64_MAX

enum plan_kind {
    PLAN_NOTHING, /* only before the first status */
    PLAN_UP,
    PLAN_DOWN,         /* as asked */
    PLAN_ON_THE_WAY,   /* for long */
    PLAN_UNCONFIGURED, /* nothing to connect with, or nothing chosen */
    PLAN_SECRET,
    PLAN_BROKEN, /* the file */
    PLAN_FAILED,
    PLAN_NO_SEAL,
    PLAN_SILENT, /* nobody answers */
};

enum plan_urgency { PLAN_LOW, PLAN_NORMAL, PLAN_CRITICAL }; /* the numbers of the bus */

struct notice {
    enum plan_kind kind;
    enum plan_urgency urgency;
    bool stays; /* until it is replaced: somebody has to do something */
    const char *icon, *category;
    char title[WORDS_SHORT];
    char body[PLAN_BODY];
    char key[WORDS_LONG]; /* equal: it says the same */
};

struct plan {
    struct notice wanted;
    uint64_t wanted_since; /* of its kind */
    enum plan_kind told;
    char told_key[WORDS_LONG];
    uint64_t spent[2];            /* what was told counts until then */
    uint64_t losses[PLAN_LOSSES]; /* when tunnels were lost; a ring, 0: free */
    size_t next_loss;
    bool was_up; /* since the last time that it was down as asked */
};

/* status: as of vpn/object/follow.h; NULL: nobody answers. */
void plan_status(struct plan *p, const json_t *status, uint64_t now);
/* True: *ret is to be shown now, and counts as shown. *ret_next: when to ask again at the latest,
 * PLAN_NEVER: after the next status. Both are written in any case but *ret. */
bool plan_due(struct plan *p, uint64_t now, struct notice *ret, uint64_t *ret_next);
