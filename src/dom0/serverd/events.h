/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the events of qubesd do to the tree, at once and without asking. Pure. What an event cannot
 * tell is asked for afterwards (effects). An admin.Events client hears "pre" events before qubesd
 * acts and all others after everything was done; events that are made inside of others arrive first
 * (core-admin 4.2 to 4.4, qubes/events.py, qubes/vm/mix/net.py).
 */
#pragma once

#include "adminapi/wire.h"
#include "dom0/tree/tree.h"

enum effect {
    EFFECT_COMPUTE = 1 << 0,  /* what is wished may have changed */
    EFFECT_READ = 1 << 1,     /* read the qube again soon */
    EFFECT_READ_NOW = 1 << 2, /* ... at once */
    EFFECT_READ_ALL = 1 << 3, /* read everything again soon */
    EFFECT_LIFE_ENDS = 1 << 4, /* its QubesDB belongs to the past */
    EFFECT_LOOK = 1 << 5,     /* its QubesDB may be a new one */
    EFFECT_MOVES = 1 << 6,    /* its net qube changes: first give up what stands in the new one */
    EFFECT_CHANGE_BEGINS = 1 << 7, /* ... which may still be refused */
    EFFECT_MOVED = 1 << 8,    /* its net qube has changed, or its start is over */
};

struct effects {
    unsigned what;               /* enum effect */
    char qube[QUBE_NAME_MAX];    /* the qube that it is about; "" the system */
    char netvm[QUBE_NAME_MAX];   /* MOVES, MOVED: the new net qube; "" none or not known */
};

/* A qube that is not known, or a foreign name, has no effect but perhaps a reading. */
void events_apply(struct tree *t, const struct admin_event *e, struct effects *ret);
