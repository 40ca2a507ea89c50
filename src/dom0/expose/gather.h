/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ways_find() wants to know: QubesDB read again with the firewall blocks, and the hops asked. */
#pragma once

#include "dom0/expose/session.h"
#include "dom0/expose/ways.h"

struct gathered {
    struct ask *asks; /* owned */
    size_t n_asks;
    struct ways_input input; /* borrows from here and from the session */
};

/* For this qube, or for all that are asked for (NULL). -errno: said. gathered_done() is due. */
int gather(struct session *s, const struct qube *q, struct gathered *ret);
void gathered_done(struct gathered *g);

/* Asks only these hops, without reading QubesDB again. */
int gather_asks(struct session *s, const struct qube *q, struct gathered *ret);
