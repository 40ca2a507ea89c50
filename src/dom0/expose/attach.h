/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A running qube keeps its old address until it is restarted or its network is attached anew
 * (property netvm set to nothing and back). Qubes with a stub domain (HVM) need the restart: their
 * stub domain's vif does not move with them.
 */
#pragma once

#include "dom0/expose/session.h"

/* Its address is not the one that it is going to have. */
bool attach_is_due(const struct qube *q);
/* Says so, and what to do. */
void attach_note(const struct qube *q);
/* Offers to do it, by --yes, --no or a question, and does it. 0: done, or not wanted; -errno: said. */
int attach_offer(struct session *s, struct qube *q);
