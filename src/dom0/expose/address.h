/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * May the qube have this address? qubesd takes any, also one that another qube has. Pure: what the
 * edge reports of its LAN was asked before.
 */
#pragma once

#include "dom0/expose/ask.h"
#include "dom0/tree/tree.h"

#define ADDRESS_WHY_MAX 500

enum address_verdict {
    ADDRESS_FINE,
    ADDRESS_DOUBTFUL, /* why: what to look at; it is set all the same */
    ADDRESS_REFUSED,
};

/* edge: what the net qube that faces the LAN reported; NULL: unknown. */
enum address_verdict address_check(const struct tree *t, const struct qube *q,
                                   const struct addr *addr, const struct ask *edge,
                                   char why[static ADDRESS_WHY_MAX]);
