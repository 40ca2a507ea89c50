/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what is asked to what has to be written, in which order. Pure.
 *
 * A feature that a template gives is overruled with an own value, never only removed. The order is
 * such that at no moment more is open than was before or will be after: what narrows comes first
 * (the method goes, an earlier end, a tighter limit), then rules and ports, then what widens (a
 * later end, a looser limit), then the method forward, and last of all whatever does not parse now
 * and so keeps everything closed.
 */
#pragma once

#include "dom0/expose/options.h"
#include "dom0/tree/tree.h"
#include "dom0/tree/wish.h"

#define CHANGE_STEPS_MAX 12

enum step_kind {
    STEP_SET,     /* a feature */
    STEP_REMOVE,  /* a feature */
    STEP_ADDRESS, /* property ip or ip6 */
};

struct step {
    enum step_kind kind;
    enum feature_id feature; /* SET, REMOVE */
    struct addr addr;        /* ADDRESS */
    char *value;             /* SET: owned */
};

struct change {
    struct step steps[CHANGE_STEPS_MAX];
    size_t n;
};

void change_done(struct change *c);

/*
 * 0 (n is 0: it is so already), -ENOMEM, or -EINVAL: it makes no sense as it is, why says what to
 * do instead (nothing is exposed and nothing says what to open; a time that has run out).
 */
int change_plan(const struct tree *t, const struct qube *q, const struct options *o, int64_t now,
                struct change *ret, char why[static OPTIONS_WHY_MAX]);

/* Makes the step in the tree, so that its consequences can be computed. 0, -ENOMEM. */
int change_apply(struct qube *q, const struct step *step);

/* "feature network-server.allow = tcp/22", for people; cut when buf is too small. */
const char *change_format(const struct step *step, char *buf, size_t size);
